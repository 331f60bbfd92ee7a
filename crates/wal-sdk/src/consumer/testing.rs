//! A consumer without Kafka: what it hands out is put in by a test, and what is said of it comes out there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc as words;
use std::time::{Duration, Instant};

use wal_kafka::epochs::Epochs;
use wal_kafka::wake::Wake;
use wal_model::delivery::Delivery;
use wal_model::entry::Answers;
use wal_model::lifecycle::Lifecycle;
use wal_model::seal::Keyring;
use wal_model::topics::Topics;
use wal_model::{InRecord, OutRecord, Timestamp, Topic};

use super::attempt::{AnswerTopics, Desk, Handed, Hold, Word};
use super::ledger::Place;
use super::room::Room;
use super::work::Outlet;
use super::{ConsumeError, Consumer, channels};
use crate::worker::Worker;

const IN_TOTAL: usize = 1000;

/// The other end of a consumer.
pub(crate) struct Bench {
    desk: Desk,
    outlet: Outlet,
    room: Room,
    words: words::Receiver<Word>,
    sent: i64,
}

/// What was said of a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Finished, with an answer on this topic or without.
    Finished(i64, Option<OutRecord>),
    Dropped(i64),
}

pub(crate) fn keyring() -> Keyring {
    Keyring::new("k1", &BTreeMap::from([("k1".to_owned(), vec![7; 32])])).unwrap()
}

pub(crate) fn delivery(key: Option<&str>, payload: &str) -> Delivery {
    let Lifecycle { retry_count, delay, backoff, priority, .. } = Lifecycle::default();
    Delivery {
        log_id: "wal_orders_20241201T100000000Z_6f7a8598-26c4-5310-a0c0-25bce4910e9f".parse().unwrap(),
        target: Topic::parse("orders").unwrap(),
        tenant: None,
        operation: None,
        correlation_id: None,
        attempt: 1,
        round: 1,
        round_first: 1,
        deadline: Timestamp::from_millis(10_000).unwrap(),
        retry_count,
        delay,
        backoff,
        priority,
        answers: Answers::Expected,
        ordering_key: key.map(|key| key.to_owned().into()),
        content_type: None,
        payload: payload.to_owned().into(),
        headers: Vec::new(),
    }
}

pub(crate) fn in_record(out: OutRecord, offset: i64) -> InRecord {
    let OutRecord { topic, key, value, headers, .. } = out;
    InRecord { cluster: Arc::from("c"), topic, partition: 0, offset, time: None, key, value, headers }
}

impl Bench {
    /// Hands out a delivery; tells its offset.
    pub(crate) fn send(&mut self, delivery: &Delivery) -> i64 {
        self.send_record(delivery.encode(Timestamp::EPOCH, &keyring()))
    }

    pub(crate) fn send_record(&mut self, out: OutRecord) -> i64 {
        let offset = self.sent;
        self.sent += 1;
        let record = in_record(out, offset);
        let partition = (record.topic.clone(), record.partition);
        if self.desk.epochs.of(&partition).is_none() {
            self.desk.epochs.assign([partition.clone()]);
        }
        let place = Place::of(&record, self.desk.epochs.of(&partition).unwrap());
        let hold = Hold::new(place, self.room.take(record.size()), self.desk.clone());
        self.outlet.items.try_send(Handed::read(record, Instant::now(), hold)).unwrap();
        offset
    }

    /// All partitions move away.
    pub(crate) fn revoke(&self) {
        self.desk.epochs.revoke([&(Topic::parse("orders").unwrap(), 0)]);
    }

    pub(crate) fn trouble(&self, trouble: ConsumeError) {
        self.outlet.troubles.try_send(trouble).unwrap();
    }

    pub(crate) fn end(&self, why: &str) {
        self.outlet.end.send_replace(Some(why.to_owned()));
    }

    /// What was said since the last look.
    pub(crate) fn said(&self) -> Vec<Said> {
        let said = |word| match word {
            Word::Finished { place, answer, .. } => Said::Finished(place.offset, answer),
            Word::Dropped { place, .. } => Said::Dropped(place.offset),
        };
        self.words.try_iter().map(said).collect()
    }

    /// Waits until so much was said.
    pub(crate) async fn hear(&self, count: usize) -> Vec<Said> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.said());
            tokio::task::yield_now().await;
        }
        all
    }
}

pub(crate) async fn consumer() -> (Consumer, Bench) {
    let wake = Arc::new(Wake::default());
    let (say, words) = words::channel();
    let topics = Arc::new(AnswerTopics::of(&Topics::new("wal.").unwrap()));
    let desk = Desk { words: say, wake: Arc::clone(&wake), epochs: Arc::new(Epochs::new()), topics };
    let (outlet, inlet) = channels(IN_TOTAL);
    let worker = Worker::start("test", Duration::from_secs(10), |ready, stop| {
        ready.send(Ok(())).unwrap();
        while !stop.is_asked() {
            std::thread::yield_now();
        }
    });
    let consumer = Consumer::of(inlet, wake, worker.await.unwrap());
    (consumer, Bench { desk, outlet, room: Room::new(IN_TOTAL, usize::MAX), words, sent: 0 })
}
