//! What tests begin with.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use wal_model::answer::{Echo, Failed, Wish};
use wal_model::delivery::Delivery;
use wal_model::entry::Answers;
use wal_model::lifecycle::{Backoff, Priority, Seconds};
use wal_model::seal::Keyring;
use wal_model::status::Failure;
use wal_model::topics::Topics;
use wal_model::{Header, InRecord, OutRecord, Tenant, Timestamp, Topic};

/// So many milliseconds after the epoch.
pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis).unwrap()
}

pub(crate) fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

pub(crate) fn topics() -> Topics {
    Topics::new("wal.").unwrap()
}

pub(crate) fn keyring() -> Keyring {
    Keyring::new("k1", &BTreeMap::from([("k1".to_owned(), vec![7; 32])])).unwrap()
}

/// A first attempt with the specification's defaults.
pub(crate) fn delivery() -> Delivery {
    Delivery {
        log_id: "wal_orders_20241201T100000000Z_6f7a8598-26c4-5310-a0c0-25bce4910e9f".parse().unwrap(),
        target: topic("shop"),
        tenant: Some(Tenant::parse("acme").unwrap()),
        operation: None,
        correlation_id: None,
        attempt: 1,
        round: 1,
        round_first: 1,
        deadline: at(604_800_000),
        retry_count: 3,
        delay: "60".parse::<Seconds>().unwrap(),
        backoff: Backoff::Exponential,
        priority: Priority::Normal,
        answers: Answers::Expected,
        ordering_key: Some(Bytes::from_static(b"cart-7")),
        content_type: Some("application/json".to_owned()),
        payload: Bytes::from_static(b"{\"n\":1}"),
        headers: vec![Header { name: Bytes::from_static(b"own"), value: Some(Bytes::from_static(b"1")) }],
    }
}

pub(crate) fn failed() -> Failed {
    let failure = Failure { code: "CARD_DECLINED".into(), message: "no ünits".into() };
    let echo = Echo { delivery: delivery(), sent: at(0), is_replay: false };
    Failed { echo, failure, wish: Wish::None }
}

/// A record as it is read that was published so.
pub(crate) fn read(out: OutRecord, partition: i32, offset: i64, time: Timestamp) -> InRecord {
    InRecord {
        cluster: Arc::from("c"),
        topic: out.topic,
        partition,
        offset,
        time: Some(time),
        key: out.key,
        value: out.value,
        headers: out.headers,
    }
}

/// The record of a failure, as a consumer that echoes makes it.
pub(crate) fn failure_of(delivery: &Delivery, wish: &Wish) -> OutRecord {
    let delivered = read(delivery.encode(at(0), &keyring()), 0, 0, at(0));
    Failed::encode(&delivered, &failed().failure, wish, topics().failures())
}
