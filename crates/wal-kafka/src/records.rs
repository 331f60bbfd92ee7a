//! Records copied out of librdkafka: a borrowed one pins the whole fetch it came in.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use wal_model::{Header, InRecord, Timestamp, Topic};

use crate::native::View;

/// A copy of one record in a buffer of its own.
pub fn copied(topic: &Topic, record: View<'_>, cluster: &Arc<str>) -> InRecord {
    let mut buffer = Vec::with_capacity(record.value().map_or(0, <[u8]>::len) + 1024);
    let draft = Draft::copy(&mut buffer, topic, record);
    draft.finish(&Bytes::from(buffer), cluster)
}

/// Copies the headers of a record, in order.
pub fn headers(record: View<'_>) -> Vec<Header> {
    let mut all = Vec::new();
    record.for_each_header(|name, value| {
        all.push(Header { name: Bytes::copy_from_slice(name), value: value.map(Bytes::copy_from_slice) });
    });
    all
}

/// A record whose bytes lie in a buffer that still grows.
pub struct Draft {
    topic: Topic,
    partition: i32,
    offset: i64,
    time: Option<Timestamp>,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: Vec<(Range<usize>, Option<Range<usize>>)>,
}

impl Draft {
    /// Copies a record to the end of a buffer.
    pub fn copy(buffer: &mut Vec<u8>, topic: &Topic, record: View<'_>) -> Draft {
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

    /// The record, once the buffer that it was copied to is whole.
    pub fn finish(self, buffer: &Bytes, cluster: &Arc<str>) -> InRecord {
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
