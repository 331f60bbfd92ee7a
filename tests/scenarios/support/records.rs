//! Between records as any program sees them and as our own code does.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use wal_model::answer::Completed;
use wal_model::delivery::Delivery;
use wal_model::record::{Header, InRecord, OutRecord};
use wal_model::seal::Keyring;
use wal_model::{Clock, SystemClock, Timestamp, Topic};
use wal_tests::{Message, Record};

use super::log::SECRET;

/// The keys of every scenario's log.
pub fn keyring() -> Keyring {
    let secrets = BTreeMap::from([("k1".to_owned(), SECRET.to_vec())]);
    Keyring::new("k1", &secrets).expect("the secret is long enough")
}

/// A record as our own code reads it.
pub fn as_read(record: &Record) -> InRecord {
    let bytes = |bytes: &Vec<u8>| Bytes::from(bytes.clone());
    InRecord {
        cluster: Arc::from("scenario"),
        topic: Topic::parse(&record.topic).expect("a topic"),
        partition: record.partition,
        offset: record.offset,
        time: Timestamp::from_millis(record.timestamp),
        key: record.key.as_ref().map(bytes),
        value: record.value.as_ref().map(bytes),
        headers: record
            .headers
            .iter()
            .map(|(name, value)| Header { name: Bytes::from(name.clone()), value: value.as_ref().map(bytes) })
            .collect(),
    }
}

/// What our own code would publish, for any client to send.
pub fn message(out: &OutRecord) -> Message {
    let bytes = |bytes: &Bytes| bytes.to_vec();
    Message {
        topic: out.topic.to_string(),
        partition: out.partition,
        key: out.key.as_ref().map(bytes),
        value: out.value.as_ref().map(bytes),
        headers: out
            .headers
            .iter()
            .map(|header| (String::from_utf8_lossy(&header.name).into_owned(), header.value.as_ref().map(bytes)))
            .collect(),
    }
}

/// The record of a delivery as its consumer reads it.
pub fn delivered(delivery: &Delivery, keyring: &Keyring) -> InRecord {
    let OutRecord { topic, key, value, headers, .. } = delivery.encode(SystemClock.now(), keyring);
    InRecord { cluster: Arc::from("scenario"), topic, partition: 0, offset: 0, time: None, key, value, headers }
}

/// A consumer's word that an attempt is done, for `topic`.
pub fn completed(delivery: &Delivery, topic: &str) -> Message {
    let topic = Topic::parse(topic).expect("a topic");
    message(&Completed::encode(&delivered(delivery, &keyring()), None, topic))
}
