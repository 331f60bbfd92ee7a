//! Reading deliveries: what arrives on targets, decoded, in the order of each partition.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::mpsc;
use wal_kafka::native::View;
use wal_kafka::records;
use wal_model::delivery::{Delivery, NotADelivery, Received};
use wal_model::{InRecord, Topic};

use crate::connection::{ConnectError, Connection};
use crate::opening::{self, Opening, Place, Verdict};
use crate::worker::{Ready, Stop, Stopped, Worker};

/// Items that wait for the reader of the stream, each up to a record in size. Little is gained by more: librdkafka reads ahead.
const CHANNEL: usize = 64;

/// Where reading starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record that is still there, in all partitions.
    Beginning,
    /// At what is written from now on, in all partitions.
    End,
    /// Where this consumer group got to, at the oldest record the first time; partitions are shared with its other members.
    Group(String),
}

/// How deliveries are read.
#[derive(Clone, Debug)]
pub struct DeliveriesOptions {
    /// How to reach the cluster.
    pub connection: Connection,
    /// The topics to read. They must exist.
    pub topics: Vec<Topic>,
    /// Where reading starts.
    pub start: Start,
}

/// A record of a target.
#[derive(Clone, Debug)]
pub struct Item {
    /// The record as it stands in Kafka.
    pub record: InRecord,
    /// The delivery that it is, or why it is none.
    pub delivery: Result<Received, NotADelivery>,
    /// When it was read.
    pub read_at: Instant,
}

/// Why there is no next item.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Kafka refuses at the moment; reading goes on as soon as it does not.
    #[error("read deliveries")]
    Refused(#[source] KafkaError),
    /// Nothing more will come.
    #[error("go on reading deliveries")]
    Ended(#[source] KafkaError),
}

impl ReadError {
    /// Whether asking for the next item may bring one.
    pub fn is_retryable(&self) -> bool {
        match self {
            ReadError::Refused(_) => true,
            ReadError::Ended(_) => false,
        }
    }
}

/// A stream of what arrives on topics: committed records only. Nothing is skipped: what is no delivery comes with its reason.
///
/// In a group, asking for the next item says that the one before is handled; its offset is then committed within a second. After a
/// crash, or when partitions move to another member, items come again that were not handled or not committed.
pub struct Deliveries {
    items: mpsc::Receiver<Result<Item, ReadError>>,
    /// In a group: how far the caller got.
    handled: Option<Arc<Handled>>,
    /// The item that the caller has.
    given: Option<(Topic, i32, i64)>,
    worker: Worker,
}

impl Deliveries {
    /// Starts reading. With [`Start::End`], everything written after this returns will be read; partitions that are added to a topic
    /// later are read only in a group.
    pub async fn open(options: DeliveriesOptions) -> Result<Deliveries, ConnectError> {
        let DeliveriesOptions { connection, topics, start } = options;
        let (sender, items) = mpsc::channel(CHANNEL);
        let (config, handled) = match &start {
            Start::Beginning | Start::End => (opening::config(&connection)?, None),
            Start::Group(group) => (group_config(&connection, group)?, Some(Arc::new(Handled::default()))),
        };
        let limit = connection.timeout;
        let of_group = handled.clone();
        let body = move |ready: Ready, stop: Stop| {
            let reading = match open(&config, limit, topics, &start) {
                Err(error) => return drop(ready.send(Err(error))),
                Ok((opening, topics)) => {
                    Reading { cluster: opening.cluster(), opening, topics, handled: of_group, items: sender }
                }
            };
            if ready.send(Ok(())).is_ok() {
                reading.run(&stop);
            }
        };
        // As for receipts: the second on top lets librdkafka say itself what was wrong.
        let worker = Worker::start("wal-deliveries", limit + Duration::from_secs(1), body).await?;
        Ok(Deliveries { items, handled, given: None, worker })
    }

    /// The next item, as soon as there is one; `None` when nothing more will come. Safe to cancel: no item is lost.
    pub async fn next(&mut self) -> Option<Result<Item, ReadError>> {
        self.settle();
        let next = self.items.recv().await;
        if let Some(Ok(Item { record, .. })) = &next {
            self.given = Some((record.topic.clone(), record.partition, record.offset));
        }
        next
    }

    /// Stops reading; in a group, the last item counts as handled and offsets are committed. Waits at most `limit`.
    pub async fn close(mut self, limit: Duration) -> Stopped {
        self.settle();
        let Deliveries { items, worker, .. } = self;
        // The thread may be waiting for room in the channel.
        drop(items);
        worker.stop(limit).await
    }

    fn settle(&mut self) {
        if let (Some(handled), Some((topic, partition, offset))) = (&self.handled, self.given.take()) {
            handled.set(topic, partition, offset);
        }
    }
}

/// How far the caller got in each partition.
#[derive(Debug, Default)]
struct Handled(Mutex<HashMap<(Topic, i32), i64>>);

impl Handled {
    fn set(&self, topic: Topic, partition: i32, offset: i64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((topic, partition), offset);
    }

    fn take(&self) -> HashMap<(Topic, i32), i64> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn group_config(connection: &Connection, group: &str) -> Result<ClientConfig, ConnectError> {
    let mut config = opening::config(connection)?;
    // Offsets are stored when an item is handled, and committed by librdkafka every second and when it closes.
    config.set("group.id", group).set("enable.auto.commit", "true").set("enable.auto.offset.store", "false");
    config.set("auto.commit.interval.ms", "1000");
    Ok(config)
}

type Topics = HashMap<String, Topic>;

fn open(
    config: &ClientConfig,
    limit: Duration,
    topics: Vec<Topic>,
    start: &Start,
) -> Result<(Opening, Topics), ConnectError> {
    let opening = Opening::new(config, limit)?;
    match start {
        Start::Beginning => opening.assign(&topics, Place::Beginning)?,
        Start::End => opening.assign(&topics, Place::End)?,
        Start::Group(_) => {
            for topic in &topics {
                opening.partitions(topic)?;
            }
            let names: Vec<&str> = topics.iter().map(Topic::as_str).collect();
            opening.consumer.subscribe(&names).map_err(ConnectError::Options)?;
        }
    }
    Ok((opening, topics.into_iter().map(|topic| (topic.to_string(), topic)).collect()))
}

/// The reading thread's own.
struct Reading {
    opening: Opening,
    topics: Topics,
    cluster: Arc<str>,
    handled: Option<Arc<Handled>>,
    items: mpsc::Sender<Result<Item, ReadError>>,
}

impl Reading {
    fn run(self, stop: &Stop) {
        while !stop.is_asked() {
            let is_wanted = match self.opening.consumer.poll(opening::POLL) {
                None => !self.items.is_closed(),
                Some(Ok(message)) => self.give(&message),
                Some(Err(error)) => self.tell(error),
            };
            self.store_handled();
            if !is_wanted {
                break;
            }
        }
        self.store_handled();
        // Dropping the consumer commits what is stored and leaves the group.
    }

    /// Whether more is wanted. Blocks while the channel is full; in a group librdkafka then reads no further than it has.
    fn give(&self, message: &BorrowedMessage<'_>) -> bool {
        let read_at = Instant::now();
        let Some(topic) = self.topics.get(message.topic()) else {
            tracing::warn!(topic = message.topic(), "a record of a topic that was not asked for was passed over");
            return true;
        };
        let record = records::copied(topic, View::of(message), &self.cluster);
        let delivery = Delivery::decode(&record);
        self.items.blocking_send(Ok(Item { record, delivery, read_at })).is_ok()
    }

    fn tell(&self, error: KafkaError) -> bool {
        match opening::verdict(&error) {
            Verdict::Wait => {
                tracing::debug!(%error, "deliveries wait for Kafka");
                true
            }
            Verdict::Tell => self.items.blocking_send(Err(ReadError::Refused(error))).is_ok(),
            Verdict::End => {
                // Whether anybody hears it or not, this is the end.
                let _ = self.items.blocking_send(Err(ReadError::Ended(error)));
                false
            }
        }
    }

    fn store_handled(&self) {
        let Some(handled) = &self.handled else { return };
        let mut offsets = TopicPartitionList::new();
        for ((topic, partition), offset) in handled.take() {
            // Kafka keeps the next offset to read. A partition that has moved away is refused; its items come again elsewhere.
            if let Err(error) = offsets.add_partition_offset(topic.as_str(), partition, Offset::Offset(offset + 1)) {
                tracing::warn!(%error, %topic, partition, offset, "an offset cannot be stored");
            }
        }
        if offsets.count() > 0
            && let Err(error) = self.opening.consumer.store_offsets(&offsets)
        {
            tracing::debug!(%error, "offsets of partitions that have moved away were not stored");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cluster_that_is_not_there_is_told_in_time() {
        let mut connection = Connection::to("127.0.0.1:1");
        connection.timeout = Duration::from_millis(300);
        for start in [Start::Beginning, Start::End, Start::Group("group".into())] {
            let topics = vec![Topic::parse("orders").unwrap()];
            let error = Deliveries::open(DeliveriesOptions { connection: connection.clone(), topics, start }).await;
            assert!(matches!(error.err(), Some(ConnectError::Unreachable { .. })));
        }
    }

    #[test]
    fn handled_offsets_are_taken_once_and_the_last_counts() {
        let handled = Handled::default();
        let topic = Topic::parse("orders").unwrap();
        handled.set(topic.clone(), 0, 1);
        handled.set(topic.clone(), 0, 2);
        assert_eq!(handled.take(), HashMap::from([((topic, 0), 2)]));
        assert!(handled.take().is_empty());
    }
}
