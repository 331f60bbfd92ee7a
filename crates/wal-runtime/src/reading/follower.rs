//! Follows a topic in full, from its start for as long as it is wanted.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};
use tokio::sync::{oneshot, watch};
use tracing::{debug, info, warn};
use wal_model::{InRecord, Topic};

use super::record::Copier;
use super::{ANSWER_TIMEOUT, POLL, is_final};
use crate::config::Kafka;
use crate::kafka::{self, Context};
use wal_kafka::native::{self, WayBack};

/// The setting that says how soon clients notice partitions that were added, and so does this one, ...
const LOOK_FOR_PARTITIONS: &str = "topic.metadata.refresh.interval.ms";
/// ... and what it is where it says nothing that can be read.
const METADATA_AGE: Duration = Duration::from_secs(30);
/// How long a topic that cannot be followed is left alone; each time somebody is told.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a stop waits for the client to close; librdkafka can hang there when a broker is gone.
const STOP: Duration = Duration::from_secs(5);

/// Reads a topic in full, without a group, on a thread of its own: all partitions, those added later too. Outages of brokers are
/// waited for. After some of them the topic is read again from its start, so taking a record in twice must be harmless.
///
/// Dropping it stops it.
#[derive(Debug)]
pub struct Follower {
    is_stopping: Arc<AtomicBool>,
    has_caught_up: watch::Receiver<bool>,
    /// Resolves when the thread has ended: its sender is dropped then.
    ended: oneshot::Receiver<()>,
}

impl Follower {
    /// Starts to follow `topic`, and calls `each` with every record that is committed; those of one partition in order. Does not wait
    /// for anything.
    pub fn start(
        kafka: &Kafka,
        topic: Topic,
        each: impl FnMut(InRecord) + Send + 'static,
    ) -> std::io::Result<Follower> {
        let is_stopping = Arc::new(AtomicBool::new(false));
        let (caught_up, has_caught_up) = watch::channel(false);
        let (alive, ended) = oneshot::channel::<()>();
        let following = Following {
            config: kafka::reader(kafka),
            topic,
            each: Box::new(each),
            caught_up,
            is_stopping: Arc::clone(&is_stopping),
        };
        let run = move || {
            let _alive = alive;
            following.run();
        };
        thread::Builder::new().name("wal-follow".into()).spawn(run)?;
        Ok(Follower { is_stopping, has_caught_up, ended })
    }

    /// Waits until everything has been read that was there when the reading began. May be cancelled and called again.
    pub async fn caught_up(&self) {
        if self.has_caught_up.clone().wait_for(|is_so| *is_so).await.is_err() {
            // The thread is gone, which happens only once it was asked to stop; whoever waits is stopped too.
            std::future::pending::<()>().await;
        }
    }

    /// Whether everything has been read that was there when the reading began.
    pub fn has_caught_up(&self) -> bool {
        *self.has_caught_up.borrow()
    }

    /// Stops, and waits a little for the client to close.
    pub async fn stop(mut self) {
        self.is_stopping.store(true, Ordering::Release);
        if tokio::time::timeout(STOP, &mut self.ended).await.is_err() {
            warn!("a Kafka client does not close in time and is left behind");
        }
    }
}

impl Drop for Follower {
    /// Asks the thread to end, and does not wait.
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::Release);
    }
}

/// The following thread's own.
struct Following {
    config: ClientConfig,
    topic: Topic,
    each: Box<dyn FnMut(InRecord) + Send>,
    caught_up: watch::Sender<bool>,
    is_stopping: Arc<AtomicBool>,
}

/// Why one client's following ended.
enum Ended {
    Stopped,
    Failed(String),
}

impl Following {
    fn run(mut self) {
        loop {
            match self.follow() {
                Ended::Stopped => return,
                Ended::Failed(why) => warn!(topic = %self.topic, why, "cannot follow the topic yet"),
            }
            thread::sleep(AGAIN);
            if self.is_stopping.load(Ordering::Acquire) {
                return;
            }
        }
    }

    /// Follows with one client, from the start of the topic.
    fn follow(&mut self) -> Ended {
        let consumer: BaseConsumer<Context> = match self.config.create_with_context(Context) {
            Ok(consumer) => consumer,
            Err(error) => return Ended::Failed(error.to_string()),
        };
        let mut count = match self.partitions(&consumer) {
            Ok(count) => count,
            Err(why) => return Ended::Failed(why),
        };
        if let Err(error) = self.list(0..count).and_then(|list| consumer.assign(&list)) {
            return Ended::Failed(error.to_string());
        }
        let mut behind = match self.ends(&consumer, count) {
            Ok(ends) => ends,
            Err(error) => return Ended::Failed(error.to_string()),
        };
        let mut copier = Copier::new(kafka::cluster_id(&consumer, ANSWER_TIMEOUT));
        let look_every = self.config.get(LOOK_FOR_PARTITIONS).and_then(|millis| millis.parse().ok());
        let look_every = look_every.map_or(METADATA_AGE, Duration::from_millis);
        let mut looked = Instant::now();
        let way_back = WayBack::default();
        while !self.is_stopping.load(Ordering::Acquire) {
            way_back.look(consumer.client());
            match consumer.poll(POLL) {
                Some(Ok(message)) => {
                    (self.each)(copier.copy(&self.topic, &message));
                    self.reached(&mut behind, message.partition(), message.offset() + 1);
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    let end = native::last_end(consumer.client(), self.topic.as_str(), partition);
                    self.reached(&mut behind, partition, end.unwrap_or(0));
                }
                Some(Err(error)) if is_final(&error) => return Ended::Failed(error.to_string()),
                Some(Err(error)) => debug!(topic = %self.topic, %error, "waiting for the brokers"),
                None => {}
            }
            if looked.elapsed() >= look_every {
                looked = Instant::now();
                count = match self.add_partitions(&consumer, count) {
                    Ok(count) => count,
                    Err(error) => return Ended::Failed(error.to_string()),
                };
            }
        }
        Ended::Stopped
    }

    /// Where each partition ends now.
    fn ends(&self, consumer: &BaseConsumer<Context>, count: i32) -> Result<HashMap<i32, i64>, KafkaError> {
        let end = |partition| {
            let (_, end) = consumer.fetch_watermarks(self.topic.as_str(), partition, ANSWER_TIMEOUT)?;
            Ok((partition, end))
        };
        (0..count).map(end).collect()
    }

    /// Everything before an offset of a partition has been read.
    fn reached(&self, behind: &mut HashMap<i32, i64>, partition: i32, offset: i64) {
        if behind.get(&partition).is_some_and(|end| offset >= *end) {
            behind.remove(&partition);
            if behind.is_empty() && !self.caught_up.send_replace(true) {
                info!(topic = %self.topic, "read to its end");
            }
        }
    }

    /// Follows the partitions that were added, too; returns how many there are now.
    fn add_partitions(&self, consumer: &BaseConsumer<Context>, known: i32) -> Result<i32, KafkaError> {
        match self.partitions(consumer) {
            Ok(count) if count > known => {
                info!(topic = %self.topic, from = known, to = count, "partitions were added");
                consumer.incremental_assign(&self.list(known..count)?)?;
                Ok(count)
            }
            Ok(_) => Ok(known),
            Err(why) => {
                debug!(topic = %self.topic, why, "could not look for new partitions");
                Ok(known)
            }
        }
    }

    fn partitions(&self, consumer: &BaseConsumer<Context>) -> Result<i32, String> {
        let metadata = consumer.fetch_metadata(Some(self.topic.as_str()), ANSWER_TIMEOUT);
        let metadata = metadata.map_err(|error| error.to_string())?;
        let found = metadata.topics().iter().find(|found| found.name() == self.topic.as_str());
        match found.map_or(0, |found| found.partitions().len()) {
            0 => Err("it has no partitions".to_owned()),
            count => Ok(i32::try_from(count).unwrap_or(i32::MAX)),
        }
    }

    fn list(&self, partitions: std::ops::Range<i32>) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition_offset(self.topic.as_str(), partition, Offset::Beginning)?;
        }
        Ok(list)
    }
}
