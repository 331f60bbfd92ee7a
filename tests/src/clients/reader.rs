//! Reading topics from the start, outside any group, and asking what a group has committed.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{Message as _, Offset, TopicPartitionList};

use super::{REQUEST_LIMIT, config};

/// A scenario's topic is read in well under a second; the rest is for brokers that come back first.
const READ_LIMIT: Duration = Duration::from_secs(60);
/// How many records a panic shows.
const SHOWN: usize = 3;
const POLL_LIMIT: Duration = Duration::from_millis(100);
/// How long a broker keeps a fetch that finds nothing, in milliseconds: an end is reported only then ...
const WAITS_FOR_THE_END: &str = "20";
/// ... and who waits for records has them as soon as they come. Many wait at a time, and each fetch is work for the broker.
const WAITS_FOR_RECORDS: &str = "500";

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its place in the partition.
    pub offset: i64,
    /// Its key, if it has one.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers, in order, names possibly repeated.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970.
    pub timestamp: i64,
}

/// Whose records are visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Only those outside transactions and in committed ones, up to the first open transaction.
    ReadCommitted,
    /// All.
    ReadUncommitted,
}

/// What a group has committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The partition.
    pub partition: i32,
    /// The next offset the group would read, if it has committed one.
    pub offset: Option<i64>,
    /// What was committed along with it.
    pub metadata: String,
}

impl Record {
    /// The value of the first header with this name, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// The value as text; empty for a tombstone.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }

    /// The value as JSON. Panics if it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        let value = self.value.as_deref().unwrap_or_default();
        serde_json::from_slice(value).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// Reads every partition from its start to its end as of the call, sorted by partition and offset.
///
/// For [`Isolation::ReadCommitted`] the end is the last stable offset: a transaction that is open now hides everything
/// behind its first record.
#[track_caller]
pub fn read_all(bootstrap: &str, topic: &str, isolation: Isolation) -> Vec<Record> {
    let consumer = reader(bootstrap, isolation, WAITS_FOR_THE_END);
    let mut unread = unread_ends(&consumer, topic);
    assign(&consumer, topic, unread.keys().copied());

    let deadline = Instant::now() + READ_LIMIT;
    let mut records = Vec::new();
    while !unread.is_empty() {
        assert!(Instant::now() < deadline, "gave up reading {topic} after {READ_LIMIT:?}; not at the end: {unread:?}");
        match consumer.poll(POLL_LIMIT) {
            Some(Ok(message)) => {
                let partition = message.partition();
                let Some(&end) = unread.get(&partition) else { continue };
                if message.offset() < end {
                    records.push(record(&message));
                }
                if message.offset() + 1 >= end {
                    unread.remove(&partition);
                }
            }
            // The last offsets may hold no record but the marks of transactions: then only this tells the end.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unread.remove(&partition);
            }
            // Brokers that are away: librdkafka goes on trying, and so does the loop until its deadline.
            Some(Err(_)) | None => {}
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

/// Reads every partition from its start until `is_enough` holds for all records read so far; they are in the order they
/// came, which within a partition is their order. Panics after `timeout`, or if the topic does not exist.
#[track_caller]
pub fn read_until(
    bootstrap: &str,
    topic: &str,
    isolation: Isolation,
    timeout: Duration,
    is_enough: impl Fn(&[Record]) -> bool,
) -> Vec<Record> {
    let consumer = reader(bootstrap, isolation, WAITS_FOR_RECORDS);
    assign(&consumer, topic, partitions(&consumer, topic).into_iter());

    let deadline = Instant::now() + timeout;
    let mut records = Vec::new();
    while !is_enough(&records) {
        let remaining = deadline.saturating_duration_since(Instant::now());
        assert!(
            !remaining.is_zero(),
            "read {topic} for {timeout:?}, not enough: {} records, the last of them {:?}",
            records.len(),
            &records[records.len().saturating_sub(SHOWN)..]
        );
        if let Some(Ok(message)) = consumer.poll(remaining.min(POLL_LIMIT)) {
            records.push(record(&message));
        }
    }
    records
}

/// How many records the group has not read of a topic that takes no transactions: what lies between its offsets and the end.
#[track_caller]
pub fn lag(bootstrap: &str, group: &str, topic: &str) -> i64 {
    let places = committed(bootstrap, group, topic);
    let observer = reader(bootstrap, Isolation::ReadUncommitted, WAITS_FOR_THE_END);
    let behind = |place: Committed| {
        let (_, end) = watermarks(&observer, topic, place.partition);
        end - place.offset.unwrap_or(0)
    };
    places.into_iter().map(behind).sum()
}

/// What `group` has committed, for every partition of `topic`.
#[track_caller]
pub fn committed(bootstrap: &str, group: &str, topic: &str) -> Vec<Committed> {
    let member: BaseConsumer =
        config(bootstrap).set("group.id", group).create().expect("the settings of the harness are valid");
    let mut asked = TopicPartitionList::new();
    for partition in partitions(&member, topic) {
        asked.add_partition(topic, partition);
    }
    let answer = member.committed_offsets(asked, READ_LIMIT);
    let answer = answer.unwrap_or_else(|error| panic!("failed to ask what {group} committed for {topic}: {error}"));
    let committed = answer.elements().into_iter().map(|element| Committed {
        partition: element.partition(),
        offset: match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        },
        metadata: element.metadata().to_owned(),
    });
    committed.collect()
}

fn reader(bootstrap: &str, isolation: Isolation, waits: &str) -> BaseConsumer {
    let level = match isolation {
        Isolation::ReadCommitted => "read_committed",
        Isolation::ReadUncommitted => "read_uncommitted",
    };
    let mut config = config(bootstrap);
    // librdkafka assigns only with a group id; nothing joins the group and nothing is committed for it.
    config.set("group.id", "wal-tests-reader").set("enable.auto.commit", "false");
    config.set("isolation.level", level).set("enable.partition.eof", "true");
    config.set("fetch.wait.max.ms", waits);
    config.create().expect("the settings of the harness are valid")
}

#[track_caller]
fn partitions(consumer: &BaseConsumer, topic: &str) -> Vec<i32> {
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST_LIMIT);
    let metadata = metadata.unwrap_or_else(|error| panic!("failed to ask for the partitions of {topic}: {error}"));
    let known = metadata.topics().iter().flat_map(|topic| topic.partitions());
    let partitions: Vec<i32> = known.map(|partition| partition.id()).collect();
    assert!(!partitions.is_empty(), "topic {topic} does not exist");
    partitions
}

/// The end offsets of the partitions that are not empty, as the consumer's isolation sees them.
#[track_caller]
fn unread_ends(consumer: &BaseConsumer, topic: &str) -> BTreeMap<i32, i64> {
    let range = |partition| (partition, watermarks(consumer, topic, partition));
    let ranges = partitions(consumer, topic).into_iter().map(range);
    ranges.filter(|(_, (start, end))| start < end).map(|(partition, (_, end))| (partition, end)).collect()
}

/// First and next offset of a partition. A broker that has just come back may not lead it yet, so this asks again for a while.
#[track_caller]
fn watermarks(consumer: &BaseConsumer, topic: &str, partition: i32) -> (i64, i64) {
    let deadline = Instant::now() + REQUEST_LIMIT;
    loop {
        match consumer.fetch_watermarks(topic, partition, REQUEST_LIMIT) {
            Ok(range) => return range,
            Err(error) if Instant::now() >= deadline => {
                panic!("failed to ask for the end of {topic}/{partition}: {error}")
            }
            Err(_) => thread::sleep(POLL_LIMIT),
        }
    }
}

#[track_caller]
fn assign(consumer: &BaseConsumer, topic: &str, partitions: impl Iterator<Item = i32>) {
    let mut assignment = TopicPartitionList::new();
    for partition in partitions {
        let added = assignment.add_partition_offset(topic, partition, Offset::Beginning);
        added.expect("the beginning is an offset that can be assigned");
    }
    consumer.assign(&assignment).unwrap_or_else(|error| panic!("failed to assign {topic}: {error}"));
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    let headers = headers.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)));
    Record {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.collect(),
        timestamp: message.timestamp().to_millis().unwrap_or_default(),
    }
}
