//! Kafka records as the log sees them: what came in, what is to go out. No client library in sight.

use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::id::Coordinates;
use crate::name::Topic;

/// A record header. Kafka allows any bytes as a name, the same name twice, and no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Name, usually UTF-8.
    pub name: Bytes,
    /// Value; `None` is Kafka's null.
    pub value: Option<Bytes>,
}

impl Header {
    /// A header with one of our own names.
    pub fn new(name: &'static str, value: impl Into<Bytes>) -> Header {
        Header { name: Bytes::from_static(name.as_bytes()), value: Some(value.into()) }
    }

    /// The name as text, if it is text.
    pub fn name_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.name).ok()
    }

    /// Whether the header has this name.
    pub fn is(&self, name: &str) -> bool {
        self.name == name.as_bytes()
    }

    /// Bytes of name and value together.
    pub fn size(&self) -> usize {
        self.name.len() + self.value.as_ref().map_or(0, Bytes::len)
    }

    /// Bytes of the header within a record batch: name and value, each behind its length; null has the length -1.
    pub(crate) fn size_in_batch(&self) -> usize {
        self.size() + length_size(self.name.len()) + length_size(self.value.as_ref().map_or(1, Bytes::len))
    }
}

/// The value of the last header with this name; `None` if there is none or it is null.
pub fn last<'a>(headers: &'a [Header], name: &str) -> Option<&'a Bytes> {
    headers.iter().rev().find(|header| header.is(name)).and_then(|header| header.value.as_ref())
}

/// The value of the last header with this name, as text.
pub fn last_str<'a>(headers: &'a [Header], name: &str) -> Option<&'a str> {
    last(headers, name).and_then(|value| std::str::from_utf8(value).ok())
}

/// A record as it was read. Its bytes are slices of one buffer that the whole batch shares.
#[derive(Clone, Debug)]
pub struct InRecord {
    /// The cluster's own id.
    pub cluster: Arc<str>,
    /// The topic it was read from.
    pub topic: Topic,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The record's time as the broker keeps it; `None` where the broker keeps none that can be spelled.
    pub time: Option<Timestamp>,
    /// Key.
    pub key: Option<Bytes>,
    /// Value; `None` is Kafka's null.
    pub value: Option<Bytes>,
    /// Headers, in order.
    pub headers: Vec<Header>,
}

impl InRecord {
    /// Where the record stands. A record without a time stands at the epoch.
    pub fn coordinates(&self) -> Coordinates {
        Coordinates {
            cluster: Arc::clone(&self.cluster),
            topic: self.topic.clone(),
            partition: self.partition,
            offset: self.offset,
            time: self.time.unwrap_or(Timestamp::EPOCH),
        }
    }

    /// Bytes of key, value and headers together.
    pub fn size(&self) -> usize {
        size(self.key.as_ref(), self.value.as_ref(), &self.headers)
    }
}

/// A record that is to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutRecord {
    /// The topic.
    pub topic: Topic,
    /// The partition; `None` lets the partitioner choose by key.
    pub partition: Option<i32>,
    /// Key.
    pub key: Option<Bytes>,
    /// Value; `None` would be a tombstone.
    pub value: Option<Bytes>,
    /// Headers, in order.
    pub headers: Vec<Header>,
}

/// What a record batch of one record adds to the record's own bytes, with varints at their longest.
const BATCH_OVERHEAD: usize = 61 + 7 * 5 + 16;
/// What the headers of a trace may still add on the way out: `traceparent` and `ce_traceparent`, 55 bytes of value each.
const TRACE_HEADERS: usize = 2 + 11 + 55 + 2 + 14 + 55;

impl OutRecord {
    /// An upper bound of what the record takes as a batch of its own, as `max.message.bytes` counts it, uncompressed, with the headers of
    /// a trace that it may be given.
    pub fn size_as_batch(&self) -> usize {
        let headers: usize = self.headers.iter().map(Header::size_in_batch).sum();
        BATCH_OVERHEAD + TRACE_HEADERS + headers + size(self.key.as_ref(), self.value.as_ref(), &[])
    }
}

/// Bytes of a length as a zigzag varint. Exact, because a record may hold a hundred thousand tiny headers.
fn length_size(length: usize) -> usize {
    match length {
        0..0x40 => 1,
        0x40..0x2000 => 2,
        0x2000..0x10_0000 => 3,
        0x10_0000..0x800_0000 => 4,
        _ => 5,
    }
}

fn size(key: Option<&Bytes>, value: Option<&Bytes>, headers: &[Header]) -> usize {
    let headers: usize = headers.iter().map(Header::size).sum();
    key.map_or(0, Bytes::len) + value.map_or(0, Bytes::len) + headers
}
