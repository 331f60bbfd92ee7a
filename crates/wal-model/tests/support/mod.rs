//! What the golden and the property tests share.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use wal_model::seal::Keyring;
use wal_model::{Header, InRecord, OutRecord, Timestamp, Topic};

/// 2024-12-01T10:00:00.000Z.
pub const WRITTEN_AT: i64 = 1_733_047_200_000;

pub fn time(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis).unwrap()
}

pub fn keyring() -> Keyring {
    let secrets = BTreeMap::from([("k1".to_owned(), vec![7; 32]), ("k2".to_owned(), vec![8; 32])]);
    Keyring::new("k1", &secrets).unwrap()
}

pub fn header(name: &str, value: impl AsRef<[u8]>) -> Header {
    Header { name: Bytes::copy_from_slice(name.as_bytes()), value: Some(Bytes::copy_from_slice(value.as_ref())) }
}

/// A record of ingress without a key.
pub fn ingress(value: impl Into<Bytes>, headers: Vec<Header>) -> InRecord {
    InRecord {
        cluster: Arc::from("cluster"),
        topic: Topic::parse("wal.ingress").unwrap(),
        partition: 3,
        offset: 42,
        time: Some(time(WRITTEN_AT)),
        key: None,
        value: Some(value.into()),
        headers,
    }
}

/// A record as its reader finds it.
pub fn read_back(record: OutRecord) -> InRecord {
    InRecord {
        cluster: Arc::from("cluster"),
        topic: record.topic,
        partition: record.partition.unwrap_or(0),
        offset: 0,
        time: Some(time(WRITTEN_AT)),
        key: record.key,
        value: record.value,
        headers: record.headers,
    }
}
