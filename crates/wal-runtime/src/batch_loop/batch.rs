//! A batch: records that are stored, published and committed together.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use wal_kafka::native;
use wal_kafka::publisher::NextOffsets;
use wal_kafka::records::Draft;
use wal_model::{InRecord, Topic};

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
        let record = record.view();
        self.moves(topic, record.partition(), record.offset());
        self.drafts.push(Draft::copy(&mut self.buffer, topic, record));
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
