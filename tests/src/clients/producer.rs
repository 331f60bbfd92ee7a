//! The producer of the scenarios: idempotent, acknowledged by all replicas, partitioned as Java clients do.

use std::time::Duration;

use futures_executor::block_on;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

use super::{REQUEST_LIMIT, config};
use crate::wait_until;

/// After this a record that the brokers did not acknowledge has failed; long enough for a broker's restart.
const DELIVERY_LIMIT: Duration = Duration::from_secs(30);

/// A producer. Dropping it forgets what was not acknowledged yet: [`Producer::flush`] first.
pub struct Producer {
    inner: FutureProducer,
}

/// A record to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// Its partition; without one the partitioner picks.
    pub partition: Option<i32>,
    /// Its key, if it has one.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A record on its way to the broker.
#[must_use = "a record that is on its way may still fail"]
pub struct Sent(Result<DeliveryFuture, KafkaError>);

impl Message {
    /// A record without key, value and headers, for the partition that the partitioner picks.
    pub fn to(topic: &str) -> Message {
        Message { topic: topic.into(), partition: None, key: None, value: None, headers: Vec::new() }
    }

    /// To this partition.
    pub fn partition(self, partition: i32) -> Message {
        Message { partition: Some(partition), ..self }
    }

    /// With this key.
    pub fn key(self, key: impl Into<Vec<u8>>) -> Message {
        Message { key: Some(key.into()), ..self }
    }

    /// With this value.
    pub fn value(self, value: impl Into<Vec<u8>>) -> Message {
        Message { value: Some(value.into()), ..self }
    }

    /// With one more header.
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Message {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// With one more header that has a null value.
    pub fn null_header(mut self, name: &str) -> Message {
        self.headers.push((name.into(), None));
        self
    }
}

impl Producer {
    /// A producer outside transactions.
    pub fn new(bootstrap: &str) -> Producer {
        Producer::with(bootstrap, &[])
    }

    /// As [`Producer::new`], with librdkafka settings that go before the harness's own.
    pub fn with(bootstrap: &str, settings: &[(&str, &str)]) -> Producer {
        let mut config = config(bootstrap);
        config.set("enable.idempotence", "true").set("acks", "all").set("partitioner", "murmur2_random");
        config.set("message.timeout.ms", DELIVERY_LIMIT.as_millis().to_string());
        config.set("queue.buffering.max.messages", "1000000").set("linger.ms", "2");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        Producer { inner: config.create().unwrap_or_else(|error| panic!("failed to create a producer: {error}")) }
    }

    /// A producer whose sends need a transaction: [`Producer::begin`], then [`Producer::commit`] or
    /// [`Producer::abort`]. Ends a transaction that an earlier producer with this `id` left open.
    #[track_caller]
    pub fn transactional(bootstrap: &str, id: &str) -> Producer {
        let producer = Producer::with(bootstrap, &[("transactional.id", id)]);
        expect_done("initialise transactions", producer.inner.init_transactions(DELIVERY_LIMIT));
        producer
    }

    /// Hands a record to the producer, which sends it soon, in a batch with its neighbours.
    pub fn send(&self, message: &Message) -> Sent {
        let headers = message.headers.iter().fold(OwnedHeaders::new(), |headers, (name, value)| {
            headers.insert(Header { key: name, value: value.as_ref() })
        });
        let record = FutureRecord {
            topic: &message.topic,
            partition: message.partition,
            payload: message.value.as_ref(),
            key: message.key.as_ref(),
            timestamp: None,
            headers: Some(headers),
        };
        Sent(self.inner.send_result(record).map_err(|(error, _)| error))
    }

    /// Sends records and waits until all are acknowledged; tells the partition and offset of each.
    #[track_caller]
    pub fn send_all<'a>(&self, messages: impl IntoIterator<Item = &'a Message>) -> Vec<(i32, i64)> {
        let sent: Vec<Sent> = messages.into_iter().map(|message| self.send(message)).collect();
        let mut positions = Vec::with_capacity(sent.len());
        for sent in sent {
            positions.push(sent.acknowledged());
        }
        positions
    }

    /// Waits until every record sent so far is acknowledged or has failed.
    ///
    /// Not through the crate's own flush, which takes at least 100 ms (rdkafka 0.38 and 0.39).
    #[track_caller]
    pub fn flush(&self) {
        let limit = DELIVERY_LIMIT + REQUEST_LIMIT;
        wait_until("a producer has nothing in flight", limit, || self.inner.in_flight_count() == 0);
    }

    /// Begins a transaction.
    #[track_caller]
    pub fn begin(&self) {
        expect_done("begin a transaction", self.inner.begin_transaction());
    }

    /// Commits it, after a flush.
    #[track_caller]
    pub fn commit(&self) {
        self.flush();
        expect_done("commit a transaction", self.inner.commit_transaction(DELIVERY_LIMIT));
    }

    /// Aborts it. What was flushed before stays in the log, visible only to those who read uncommitted records.
    #[track_caller]
    pub fn abort(&self) {
        expect_done("abort a transaction", self.inner.abort_transaction(DELIVERY_LIMIT));
    }
}

impl Sent {
    /// Waits for the outcome: the record's partition and offset, or why it failed. After a failure the record may still
    /// be in the log.
    pub fn outcome(self) -> Result<(i32, i64), KafkaError> {
        let delivery = block_on(self.0?).expect("the producer reports on every record before it goes");
        delivery.map(|delivery| (delivery.partition, delivery.offset)).map_err(|(error, _)| error)
    }

    /// As [`Sent::outcome`], where only an acknowledgement will do.
    #[track_caller]
    pub fn acknowledged(self) -> (i32, i64) {
        self.outcome().unwrap_or_else(|error| panic!("a record was not acknowledged: {error}"))
    }
}

#[track_caller]
fn expect_done(action: &str, answer: Result<(), KafkaError>) {
    if let Err(error) = answer {
        panic!("failed to {action}: {error}");
    }
}
