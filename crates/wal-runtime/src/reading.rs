//! Reading without a group: a stretch of one topic that was read before, and a compacted topic in full.
//!
//! ```text
//!   read_back   since (a time) ├────────────────┤ until (an offset)     each partition once, then it is over
//!   Follower    the start of the log ├───────────┼─────▶ for ever       each partition, those added later too
//!                                            caught up
//! ```
//!
//! Nothing here joins a group or commits anything, and only committed records are read.

mod follower;
mod record;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message, Offset, TopicPartitionList};
use tokio::sync::mpsc;
use wal_model::{InRecord, Timestamp, Topic};

use crate::config::Kafka;
use crate::kafka::{self, Context};
use wal_kafka::native;

pub use follower::Follower;
use record::Copier;

/// One answer of a broker that is there.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long nothing may come while reading back before the brokers count as silent: a broker that restarts is back by then.
const SILENCE: Duration = Duration::from_secs(30);
/// How long one poll waits; a reader that is not wanted any more is noticed after as long.
const POLL: Duration = Duration::from_millis(100);
/// Records that are handed over together.
const CHUNK: usize = 256;
/// Chunks that wait for whoever reads.
const CHUNKS: usize = 4;

/// A stretch of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The partition.
    pub partition: i32,
    /// Records before this time, as the broker keeps it, are left out.
    pub since: Timestamp,
    /// The first offset that is not read. Everything before it must be committed or aborted.
    pub until: i64,
}

/// Why a stretch could not be read. Reading it again may help.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// A client could not be made.
    #[error("could not make a Kafka client")]
    Client(#[source] KafkaError),
    /// The brokers did not answer, or refused.
    #[error("could not read {topic}: {why}")]
    Brokers {
        /// The topic.
        topic: Topic,
        /// What came back.
        why: String,
    },
}

/// Reads stretches of a topic, and calls `each` with their records; those of one partition in order.
///
/// Ends though nothing but marks of transactions may stand before the end of a stretch. What retention has deleted is left out. May
/// be dropped at any await, and then stops reading.
pub async fn read_back(
    kafka: &Kafka,
    topic: &Topic,
    spans: &[Span],
    mut each: impl FnMut(InRecord),
) -> Result<(), Unread> {
    if spans.is_empty() {
        return Ok(());
    }
    let (sender, mut chunks) = mpsc::channel(CHUNKS);
    let (config, topic, spans) = (kafka::reader(kafka), topic.clone(), spans.to_vec());
    let reading = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer<Context> = config.create_with_context(Context).map_err(Unread::Client)?;
        let reading = Reading { consumer, topic, chunks: sender };
        let result = reading.run(spans);
        discard(reading.consumer);
        result
    });
    while let Some(chunk) = chunks.recv().await {
        let chunk: Vec<InRecord> = chunk;
        chunk.into_iter().for_each(&mut each);
    }
    match reading.await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Closing a client can take a while; nobody waits for it.
fn discard(consumer: BaseConsumer<Context>) {
    // Without a thread it is closed here.
    let _ = std::thread::Builder::new().name("reader-close".into()).spawn(move || drop(consumer));
}

/// The reading thread's own.
struct Reading {
    consumer: BaseConsumer<Context>,
    topic: Topic,
    chunks: mpsc::Sender<Vec<InRecord>>,
}

impl Reading {
    fn run(&self, spans: Vec<Span>) -> Result<(), Unread> {
        let mut unread = self.unread(spans)?;
        let mut places = TopicPartitionList::new();
        for (partition, (start, _)) in &unread {
            let added = places.add_partition_offset(self.topic.as_str(), *partition, Offset::Offset(*start));
            added.map_err(|error| self.failed(error))?;
        }
        self.consumer.assign(&places).map_err(|error| self.failed(error))?;
        let mut copier = Copier::new(kafka::cluster_id(&self.consumer, ANSWER_TIMEOUT));
        let mut chunk = Vec::with_capacity(CHUNK);
        let mut heard = Instant::now();
        while !unread.is_empty() {
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    heard = Instant::now();
                    let (partition, offset) = (message.partition(), message.offset());
                    let Some((_, until)) = unread.get(&partition) else { continue };
                    let is_wanted = offset < *until;
                    if offset + 1 >= *until {
                        unread.remove(&partition);
                    }
                    if is_wanted {
                        chunk.push(copier.copy(&self.topic, &message));
                    }
                    if chunk.len() >= CHUNK && !self.hand_over(&mut chunk) {
                        return Ok(());
                    }
                }
                // Marks of transactions may be all that is left. Right after a change of leader a partition can seem to end too soon.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    let end = native::last_end(self.consumer.client(), self.topic.as_str(), partition);
                    if unread.get(&partition).is_some_and(|(_, until)| end >= Some(*until)) {
                        heard = Instant::now();
                        unread.remove(&partition);
                    }
                }
                Some(Err(error)) if is_final(&error) => return Err(self.failed(error)),
                // librdkafka mends the others by itself.
                Some(Err(_)) | None if self.chunks.is_closed() => return Ok(()),
                Some(Err(_)) | None if heard.elapsed() < SILENCE => {}
                Some(Err(_)) | None => return Err(self.failed(format!("nothing came for {SILENCE:?}"))),
            }
        }
        self.hand_over(&mut chunk);
        Ok(())
    }

    /// The first and last offsets to read of each partition that has something to read.
    fn unread(&self, spans: Vec<Span>) -> Result<HashMap<i32, (i64, i64)>, Unread> {
        let mut times = TopicPartitionList::new();
        for span in &spans {
            let since = Offset::Offset(span.since.as_millis());
            let added = times.add_partition_offset(self.topic.as_str(), span.partition, since);
            added.map_err(|error| self.failed(error))?;
        }
        let starts = self.consumer.offsets_for_times(times, ANSWER_TIMEOUT).map_err(|error| self.failed(error))?;
        let mut unread = HashMap::new();
        for Span { partition, until, .. } in spans {
            let start = starts.find_partition(self.topic.as_str(), partition);
            let start = start.ok_or_else(|| self.failed(format!("no answer about partition {partition}")))?;
            start.error().map_err(|error| self.failed(error))?;
            match start.offset() {
                Offset::Offset(start) if start < until => drop(unread.insert(partition, (start, until))),
                // Nothing is as young, or nothing of it lies in the stretch.
                _ => {}
            }
        }
        Ok(unread)
    }

    /// False when nobody wants more.
    fn hand_over(&self, chunk: &mut Vec<InRecord>) -> bool {
        self.chunks.blocking_send(std::mem::take(chunk)).is_ok()
    }

    fn failed(&self, why: impl ToString) -> Unread {
        Unread::Brokers { topic: self.topic.clone(), why: why.to_string() }
    }
}

/// Whether a consumer's error does not mend itself.
fn is_final(error: &KafkaError) -> bool {
    match error {
        KafkaError::MessageConsumptionFatal(_) => true,
        KafkaError::MessageConsumption(code) => matches!(
            code,
            RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
        ),
        _ => false,
    }
}
