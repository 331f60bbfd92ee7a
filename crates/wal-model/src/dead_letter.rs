//! Dead letters: the original record, why it is dead, and where it came from.

use std::cmp::Reverse;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::code::Refusal;
use crate::delivery::Delivery;
use crate::hash::ContentHash;
use crate::id::Coordinates;
use crate::name::Topic;
use crate::record::{Header, InRecord, OutRecord};
use crate::wire;

/// The most that a dead letter adds to the record it carries, in bytes: dead-letter topics take that much more.
pub const ROOM: usize = 64 * 1024;

/// The dead letter of a record.
///
/// `key` is the request id or the log id; the record's own key stands in a header where it differs. `attributes` win over what
/// stands here under the same name, and both over headers that the record brought, such as those of an earlier dead letter.
/// `limit` is what the topic takes: a value that does not fit is cut, and says so; headers that still do not fit are left out,
/// the largest first.
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
    ours.retain(|header| !attributes.iter().any(|attribute| attribute.name == header.name));
    ours.extend(attributes);
    let is_ours = |header: &Header| {
        header.is(wire::CE_WALTRUNCATED)
            || header.is(wire::CE_WALRECORDKEY64)
            || ours.iter().any(|other| other.name == header.name)
    };
    let mut headers: Vec<Header> =
        record.headers.iter().filter(|header| !is_ours(header)).cloned().map(publishable).collect();
    if let Some(own_key) = record.key.as_ref().filter(|own| key.as_ref().is_some_and(|key| key != *own)) {
        headers.push(Header::new(wire::CE_WALRECORDKEY64, STANDARD.encode(own_key)));
    }
    let optional = headers.len();
    headers.extend(ours);
    let mut letter = OutRecord {
        topic,
        partition: None,
        key: key.or_else(|| record.key.clone()),
        value: Some(record.value.clone().unwrap_or_default()),
        headers,
    };
    cut(&mut letter, optional, limit);
    letter
}

/// The dead letter of an attempt that will not be made, or not again: the delivery as it would be published, without seal and sending
/// time, so that nobody can answer it. `origin` is the record it goes back to; for `topic` and `limit` see [`encode`].
pub fn of_delivery(
    delivery: &Delivery,
    origin: &Coordinates,
    refusal: &Refusal,
    group: &str,
    topic: Topic,
    limit: usize,
) -> OutRecord {
    let headers = delivery.headers_of(ContentHash::of(&delivery.payload), None).and(&delivery.headers);
    let record = InRecord {
        cluster: Arc::clone(&origin.cluster),
        topic: origin.topic.clone(),
        partition: origin.partition,
        offset: origin.offset,
        time: Some(origin.time),
        key: delivery.ordering_key.clone(),
        value: Some(delivery.payload.clone()),
        headers,
    };
    let key = Some(Bytes::from(delivery.log_id.to_string()));
    encode(&record, refusal, group, key, Vec::new(), topic, limit)
}

/// A header whose name clients can send: UTF-8 without NUL. Such a name may be the very reason why the record is dead.
fn publishable(header: Header) -> Header {
    match header.name_str() {
        Some(name) if !name.contains('\0') => header,
        _ => {
            let name = String::from_utf8_lossy(&header.name).replace('\0', "\u{fffd}");
            Header { name: Bytes::from(name), ..header }
        }
    }
}

/// Cuts value, then the first `optional` headers, then the key, until the letter fits.
fn cut(letter: &mut OutRecord, optional: usize, limit: usize) {
    if letter.size_as_batch() <= limit {
        return;
    }
    let value = letter.value.take().unwrap_or_default();
    letter.headers.push(Header::new(wire::CE_WALTRUNCATED, value.len().to_string()));
    let excess = letter.size_as_batch().saturating_sub(limit);
    leave_out_the_largest(&mut letter.headers, optional, excess);
    if letter.size_as_batch() > limit {
        letter.key = None;
    }
    let room = limit.saturating_sub(letter.size_as_batch()).min(value.len());
    letter.value = Some(value.slice(..room));
}

/// Removes `excess` bytes or more from the first `optional` headers. Sorted once: a record may hold a hundred thousand.
fn leave_out_the_largest(headers: &mut Vec<Header>, optional: usize, mut excess: usize) {
    let mut by_size: Vec<usize> = (0..optional).collect();
    by_size.sort_by_key(|at| Reverse(headers[*at].size_in_batch()));
    let mut is_left_out = vec![false; headers.len()];
    for at in by_size {
        if excess == 0 {
            break;
        }
        is_left_out[at] = true;
        excess = excess.saturating_sub(headers[at].size_in_batch());
    }
    let mut is_left_out = is_left_out.into_iter();
    headers.retain(|_| !is_left_out.next().expect("one flag for each header"));
}

#[cfg(test)]
mod tests {
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
        assert_eq!(last_str(&letter.headers, wire::CE_WALRECORDKEY64), Some("aw=="));
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

    #[test]
    fn a_huge_key_does_not_stand_in_the_way() {
        let huge = InRecord { key: Some(Bytes::from(vec![b'k'; 100_000])), ..record(10, 10) };
        let under_request_id = letter(&huge, 70_000);
        assert!(under_request_id.size_as_batch() <= 70_000);
        assert_eq!(under_request_id.key.as_deref(), Some(&b"r-1"[..]));
        assert_eq!(under_request_id.value.as_deref(), Some(&[b'v'; 10][..]));
        let refusal = Refusal::new(Code::KeyTooLong, "too long");
        let topic = Topic::parse("dlq.wal.ingress").unwrap();
        let under_no_key = encode(&huge, &refusal, "wal.writer", None, Vec::new(), topic, 70_000);
        assert!(under_no_key.size_as_batch() <= 70_000);
    }

    #[test]
    fn header_names_that_no_client_can_send_are_replaced() {
        let mut record = record(10, 10);
        record.headers = vec![
            Header { name: Bytes::from_static(b"a\xffb"), value: Some(Bytes::from_static(b"1")) },
            Header { name: Bytes::from_static(b"c\0d"), value: Some(Bytes::from_static(b"2")) },
        ];
        let letter = letter(&record, 1_000_000);
        assert_eq!(last_str(&letter.headers, "a\u{fffd}b"), Some("1"));
        assert_eq!(last_str(&letter.headers, "c\u{fffd}d"), Some("2"));
    }

    /// Quadratic work here would hold up everybody else's requests for minutes.
    #[test]
    fn a_hundred_thousand_headers_are_cut_at_once() {
        let mut record = record(10, 10);
        record.headers =
            vec![Header { name: Bytes::from_static(b"h"), value: Some(Bytes::from_static(b"1")) }; 300_000];
        let letter = letter(&record, 600_000);
        assert!(letter.size_as_batch() <= 600_000);
        assert!(letter.headers.len() > 140_000);
    }

    #[test]
    fn what_fitted_on_ingress_fits_here_with_room_to_spare() {
        let mut record = record(1_000_000, 10);
        record.headers.extend(vec![Header { name: Bytes::from_static(b"h"), value: None }; 50_000]);
        let original = OutRecord {
            topic: record.topic.clone(),
            partition: None,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
        };
        let letter = letter(&record, original.size_as_batch() + ROOM);
        assert_eq!(last_str(&letter.headers, wire::CE_WALTRUNCATED), None);
        assert_eq!(letter.value, record.value);
    }

    #[test]
    fn what_an_earlier_dead_letter_said_is_replaced_and_attributes_win() {
        let mut record = record(10, 10);
        record.headers.push(Header::new(wire::CE_WALTRUNCATED, "5000"));
        record.headers.push(Header::new(wire::CE_WALERRORCODE, "OLD"));
        // The ordering key of a delivery: the seal covers it, so it must survive.
        record.headers.push(Header::new(wire::CE_WALKEY64, "/w=="));
        let attributes = vec![Header::new(wire::CE_WALERRORCODE, "CARD_DECLINED")];
        let refusal = Refusal::new(Code::Expired, "too late");
        let topic = Topic::parse("dlq.wal.orders").unwrap();
        let key = Some(Bytes::from_static(b"wal_orders_1"));
        let letter = encode(&record, &refusal, "wal.status", key, attributes, topic, 1_000_000);
        let of = |name: &str| -> Vec<Bytes> {
            letter.headers.iter().filter(|header| header.is(name)).map(|header| header.value.clone().unwrap()).collect()
        };
        assert_eq!(of(wire::CE_WALERRORCODE), ["CARD_DECLINED"]);
        assert_eq!(of(wire::CE_WALKEY64), ["/w=="]);
        assert!(of(wire::CE_WALTRUNCATED).is_empty());
    }

    #[test]
    fn an_attempt_that_is_dead_cannot_be_answered_and_says_where_it_came_from() {
        let delivery = crate::delivery::tests::delivery();
        let refusal = Refusal::new(Code::Expired, "too late");
        let topic = Topic::parse("dlq.wal.orders").unwrap();
        let letter = of_delivery(&delivery, &record(0, 0).coordinates(), &refusal, "wal.status", topic, 1_000_000);
        assert_eq!(letter.key, Some(Bytes::from(delivery.log_id.to_string())));
        assert_eq!(letter.value, Some(delivery.payload.clone()));
        let header = |name| last_str(&letter.headers, name);
        assert_eq!((header(wire::CE_WALSEAL), header(wire::CE_WALSENT)), (None, None));
        assert_eq!((header(wire::DLQ_TOPIC), header(wire::DLQ_OFFSET)), (Some("wal.ingress"), Some("7")));
        assert_eq!((header(wire::CE_WALERRORCODE), header(wire::CE_WALATTEMPT)), (Some("WAL_EXPIRED"), Some("1")));
        assert!(delivery.headers.iter().all(|own| letter.headers.contains(own)));
    }
}
