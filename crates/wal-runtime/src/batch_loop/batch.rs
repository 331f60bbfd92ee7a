//! A batch: records that are stored, published and committed together, in one buffer.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Message, Timestamp as KafkaTimestamp};
use wal_model::record::{Header, InRecord};
use wal_model::{Timestamp, Topic};

use crate::native;

/// Records of several partitions, each partition's in order.
#[derive(Debug, Default)]
pub struct Batch {
    /// The records.
    pub records: Vec<InRecord>,
}

/// Where a partition's next record stands after a batch.
pub(crate) type NextOffsets = HashMap<(Topic, i32), i64>;

/// Copies borrowed records into one buffer: a borrowed record pins the whole fetch it came in.
pub(crate) struct Builder {
    cluster: Arc<str>,
    buffer: Vec<u8>,
    drafts: Vec<Draft>,
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
        Builder { cluster, buffer: Vec::with_capacity(capacity), drafts: Vec::new(), next: NextOffsets::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.drafts.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.buffer.len()
    }

    pub(crate) fn add(&mut self, topic: &Topic, message: &BorrowedMessage<'_>) {
        let key = message.key().map(|key| copy(&mut self.buffer, key));
        let value = message.payload().map(|value| copy(&mut self.buffer, value));
        let mut headers = Vec::new();
        native::for_each_header(message, |name, value| {
            let name = copy(&mut self.buffer, name);
            headers.push((name, value.map(|value| copy(&mut self.buffer, value))));
        });
        let time = match message.timestamp() {
            KafkaTimestamp::NotAvailable => None,
            KafkaTimestamp::CreateTime(millis) | KafkaTimestamp::LogAppendTime(millis) => {
                Timestamp::from_millis(millis)
            }
        };
        let (partition, offset) = (message.partition(), message.offset());
        self.next.insert((topic.clone(), partition), offset + 1);
        self.drafts.push(Draft { topic: topic.clone(), partition, offset, time, key, value, headers });
    }

    pub(crate) fn finish(self) -> (Batch, NextOffsets) {
        let buffer = Bytes::from(self.buffer);
        let slice = |range: Range<usize>| buffer.slice(range);
        let record = |draft: Draft| InRecord {
            cluster: Arc::clone(&self.cluster),
            topic: draft.topic,
            partition: draft.partition,
            offset: draft.offset,
            time: draft.time,
            key: draft.key.map(slice),
            value: draft.value.map(slice),
            headers: draft
                .headers
                .into_iter()
                .map(|(name, value)| Header { name: slice(name), value: value.map(slice) })
                .collect(),
        };
        (Batch { records: self.drafts.into_iter().map(record).collect() }, self.next)
    }
}

fn copy(buffer: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    let start = buffer.len();
    buffer.extend_from_slice(bytes);
    start..buffer.len()
}
