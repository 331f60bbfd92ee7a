//! Dead letters: the original record, why it is dead, and where it came from.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::code::Refusal;
use crate::name::Topic;
use crate::record::{Header, InRecord, OutRecord};
use crate::wire;

/// The most that a dead letter adds to the record it carries, in bytes: dead-letter topics take that much more.
pub const ROOM: usize = 64 * 1024;

/// The dead letter of a record.
///
/// `key` is the request id or the log id; the record's own key stands in a header where it differs. Headers that an earlier dead
/// letter left on the record give way to ours. `limit` is what the topic takes: a value that does not fit is cut, and says so;
/// headers that still do not fit are left out, the largest first.
pub fn encode(
    record: &InRecord,
    refusal: &Refusal,
    group: &str,
    key: Option<Bytes>,
    attributes: Vec<Header>,
    topic: Topic,
    limit: usize,
) -> OutRecord {
    let mut ours = vec![
        Header::new(wire::DLQ_TOPIC, record.topic.to_string()),
        Header::new(wire::DLQ_PARTITION, record.partition.to_string()),
        Header::new(wire::DLQ_OFFSET, record.offset.to_string()),
        Header::new(wire::DLQ_GROUP, group.to_owned()),
        Header::new(wire::DLQ_DELIVERY_COUNT, "1"),
        Header::new(wire::DLQ_MESSAGE, refusal.to_string()),
        Header::new(wire::CE_WALERRORCODE, refusal.code.as_str()),
        Header::new(wire::CE_WALERRORMESSAGE, refusal.message.clone()),
    ];
    ours.extend(attributes);
    let own_key = record.key.as_ref().filter(|own| key.as_ref().is_some_and(|key| key != *own));
    if let Some(own_key) = own_key {
        ours.push(Header::new(wire::CE_WALKEY64, STANDARD.encode(own_key)));
    }
    let is_kept = |header: &&Header| !ours.iter().any(|other| other.name == header.name);
    let mut headers: Vec<Header> = record.headers.iter().filter(is_kept).cloned().collect();
    let first_ours = headers.len();
    headers.extend(ours);
    let mut letter = OutRecord {
        topic,
        partition: None,
        key: key.or_else(|| record.key.clone()),
        value: Some(record.value.clone().unwrap_or_default()),
        headers,
    };
    cut(&mut letter, first_ours, limit);
    letter
}

/// Cuts value, then the caller's headers, until the letter fits.
fn cut(letter: &mut OutRecord, mut callers: usize, limit: usize) {
    if letter.size_as_batch() <= limit {
        return;
    }
    let value = letter.value.take().unwrap_or_default();
    letter.headers.push(Header::new(wire::CE_WALTRUNCATED, value.len().to_string()));
    while letter.size_as_batch() > limit && callers > 0 {
        let sizes = letter.headers[..callers].iter().map(Header::size).enumerate();
        let (largest, _) = sizes.max_by_key(|(_, size)| *size).expect("there is at least one");
        letter.headers.remove(largest);
        callers -= 1;
    }
    let room = limit.saturating_sub(letter.size_as_batch()).min(value.len());
    letter.value = Some(value.slice(..room));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Timestamp;
    use crate::code::Code;
    use crate::record::last_str;

    fn record(value: usize, header: usize) -> InRecord {
        InRecord {
            cluster: Arc::from("c"),
            topic: Topic::parse("wal.ingress").unwrap(),
            partition: 4,
            offset: 7,
            time: Some(Timestamp::EPOCH),
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from(vec![b'v'; value])),
            headers: vec![
                Header::new(wire::DLQ_TOPIC, "elsewhere"),
                Header { name: Bytes::from_static(b"big"), value: Some(Bytes::from(vec![b'h'; header])) },
                Header { name: Bytes::from_static(b"small"), value: None },
            ],
        }
    }

    fn letter(record: &InRecord, limit: usize) -> OutRecord {
        let refusal = Refusal::new(Code::InvalidJson, "no JSON");
        let key = Some(Bytes::from_static(b"r-1"));
        encode(record, &refusal, "wal.writer", key, Vec::new(), Topic::parse("dlq.wal.ingress").unwrap(), limit)
    }

    #[test]
    fn carries_the_original_and_says_where_it_came_from() {
        let letter = letter(&record(10, 10), 1_000_000);
        assert_eq!(letter.value.as_deref(), Some(&[b'v'; 10][..]));
        assert_eq!(letter.headers.iter().filter(|header| header.is(wire::DLQ_TOPIC)).count(), 1);
        assert_eq!(last_str(&letter.headers, wire::DLQ_TOPIC), Some("wal.ingress"));
        assert_eq!(last_str(&letter.headers, wire::DLQ_OFFSET), Some("7"));
        assert_eq!(last_str(&letter.headers, wire::CE_WALERRORCODE), Some("WAL_INVALID_JSON"));
        assert_eq!(last_str(&letter.headers, wire::CE_WALKEY64), Some("aw=="));
        assert!(letter.headers.iter().any(|header| header.is("small") && header.value.is_none()));
    }

    #[test]
    fn what_does_not_fit_is_cut_and_says_so() {
        let cut_value = letter(&record(5000, 10), 3000);
        assert!(cut_value.size_as_batch() <= 3000);
        assert!(cut_value.value.as_ref().is_some_and(|value| !value.is_empty()));
        assert_eq!(last_str(&cut_value.headers, wire::CE_WALTRUNCATED), Some("5000"));
        let cut_headers = letter(&record(5000, 5000), 3000);
        assert!(cut_headers.size_as_batch() <= 3000);
        assert!(!cut_headers.headers.iter().any(|header| header.is("big")));
        assert!(cut_headers.headers.iter().any(|header| header.is("small")));
    }
}
