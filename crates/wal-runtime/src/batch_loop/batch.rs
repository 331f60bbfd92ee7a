//! A batch: records that are stored, published and committed together.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use wal_kafka::native;
use wal_kafka::publisher::NextOffsets;
use wal_model::record::{Header, InRecord};
use wal_model::{Timestamp, Topic};

/// Records of several partitions, each partition's in order.
#[derive(Debug, Default)]
pub struct Batch {
    /// The records; none in a tick.
    pub records: Vec<InRecord>,
    /// The partitions of these records; in a tick every partition that is held.
    pub places: HashMap<(Topic, i32), Place>,
}

/// How a partition is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which assignment of the partition it is: no earlier or later one has this number.
    pub assignment: u64,
    /// The first offset that is not handled and committed: in a batch that of the partition's first record in it. In a tick it is past
    /// the marks that transactions leave behind the last record.
    pub next: i64,
    /// The offset that the brokers have committed; at most `next`.
    pub committed: i64,
}

/// Copies borrowed records into one buffer: a borrowed record pins the whole fetch it came in.
pub(crate) struct Builder {
    cluster: Arc<str>,
    buffer: Vec<u8>,
    drafts: Vec<Draft>,
    taken: Vec<InRecord>,
    taken_bytes: usize,
    first: NextOffsets,
    next: NextOffsets,
}

struct Draft {
    topic: Topic,
    partition: i32,
    offset: i64,
    time: Option<Timestamp>,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: Vec<(Range<usize>, Option<Range<usize>>)>,
}

impl Builder {
    pub(crate) fn new(cluster: Arc<str>, capacity: usize) -> Builder {
        Builder {
            cluster,
            buffer: Vec::with_capacity(capacity),
            drafts: Vec::new(),
            taken: Vec::new(),
            taken_bytes: 0,
            first: NextOffsets::new(),
            next: NextOffsets::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.drafts.len() + self.taken.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.buffer.len() + self.taken_bytes
    }

    pub(crate) fn add(&mut self, topic: &Topic, record: &native::Record<'_>) {
        let (partition, offset) = (record.partition(), record.offset());
        self.moves(topic, partition, offset);
        let draft = draft(&mut self.buffer, topic, record);
        self.drafts.push(draft);
    }

    /// Adds a record that was copied before.
    pub(crate) fn take(&mut self, record: InRecord) {
        self.moves(&record.topic, record.partition, record.offset);
        self.taken_bytes += record.size();
        self.taken.push(record);
    }

    fn moves(&mut self, topic: &Topic, partition: i32, offset: i64) {
        self.first.entry((topic.clone(), partition)).or_insert(offset);
        self.next.insert((topic.clone(), partition), offset + 1);
    }

    /// The records, the first offset of each partition among them, and the offset after the last.
    pub(crate) fn finish(self) -> (Vec<InRecord>, NextOffsets, NextOffsets) {
        let buffer = Bytes::from(self.buffer);
        let mut records = self.taken;
        records.extend(self.drafts.into_iter().map(|draft| draft.finish(&buffer, &self.cluster)));
        (records, self.first, self.next)
    }
}

/// A copy of one record in a buffer of its own.
pub(crate) fn copied(topic: &Topic, record: &native::Record<'_>, cluster: &Arc<str>) -> InRecord {
    let mut buffer = Vec::with_capacity(record.value().map_or(0, <[u8]>::len) + 1024);
    let draft = draft(&mut buffer, topic, record);
    draft.finish(&Bytes::from(buffer), cluster)
}

fn draft(buffer: &mut Vec<u8>, topic: &Topic, record: &native::Record<'_>) -> Draft {
    let key = record.key().map(|key| copy(buffer, key));
    let value = record.value().map(|value| copy(buffer, value));
    let mut headers = Vec::new();
    record.for_each_header(|name, value| {
        let name = copy(buffer, name);
        headers.push((name, value.map(|value| copy(buffer, value))));
    });
    let time = record.timestamp().and_then(Timestamp::from_millis);
    let (partition, offset) = (record.partition(), record.offset());
    Draft { topic: topic.clone(), partition, offset, time, key, value, headers }
}

impl Draft {
    fn finish(self, buffer: &Bytes, cluster: &Arc<str>) -> InRecord {
        let slice = |range: Range<usize>| buffer.slice(range);
        let header =
            |(name, value): (Range<usize>, Option<Range<usize>>)| Header { name: slice(name), value: value.map(slice) };
        InRecord {
            cluster: Arc::clone(cluster),
            topic: self.topic,
            partition: self.partition,
            offset: self.offset,
            time: self.time,
            key: self.key.map(slice),
            value: self.value.map(slice),
            headers: self.headers.into_iter().map(header).collect(),
        }
    }
}

fn copy(buffer: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    let start = buffer.len();
    buffer.extend_from_slice(bytes);
    start..buffer.len()
}
