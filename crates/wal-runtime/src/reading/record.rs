//! A record out of a message: copied, because a borrowed one pins the whole fetch it came in.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use rdkafka::Message;
use rdkafka::message::BorrowedMessage;
use wal_model::{Header, InRecord, Timestamp, Topic};

use wal_kafka::native;

/// Copies messages, each into one buffer of its own.
pub(super) struct Copier {
    cluster: Arc<str>,
    /// How large the last record was: the next one is often alike.
    last: usize,
}

impl Copier {
    pub(super) fn new(cluster: Arc<str>) -> Copier {
        Copier { cluster, last: 0 }
    }

    pub(super) fn copy(&mut self, topic: &Topic, message: &BorrowedMessage<'_>) -> InRecord {
        let mut buffer = Vec::with_capacity(self.last);
        let key = message.key().map(|key| append(&mut buffer, key));
        let value = message.payload().map(|value| append(&mut buffer, value));
        let mut headers = Vec::new();
        native::for_each_header(message, |name, value| {
            let name = append(&mut buffer, name);
            headers.push((name, value.map(|value| append(&mut buffer, value))));
        });
        self.last = buffer.len();
        let buffer = Bytes::from(buffer);
        let slice = |range: Range<usize>| buffer.slice(range);
        let header =
            |(name, value): (Range<usize>, Option<Range<usize>>)| Header { name: slice(name), value: value.map(slice) };
        InRecord {
            cluster: Arc::clone(&self.cluster),
            topic: topic.clone(),
            partition: message.partition(),
            offset: message.offset(),
            time: message.timestamp().to_millis().and_then(Timestamp::from_millis),
            key: key.map(slice),
            value: value.map(slice),
            headers: headers.into_iter().map(header).collect(),
        }
    }
}

fn append(buffer: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    let start = buffer.len();
    buffer.extend_from_slice(bytes);
    start..buffer.len()
}
