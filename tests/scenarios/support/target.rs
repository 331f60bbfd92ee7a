//! A target of the scenario's own, deliveries on it as the log would publish them, and the answers that come of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wal_model::answer::{Completed, Failed, Wish};
use wal_model::delivery::Delivery;
use wal_model::entry::Answers;
use wal_model::id::{EntryKey, Identity};
use wal_model::lifecycle::Lifecycle;
use wal_model::seal::Keyring;
use wal_model::{Clock, Header, Id, InRecord, LogId, Namespace, OutRecord, SystemClock, Timestamp, Topic, partition};
use wal_tests::clients::{create_topic, lag, read_all};
use wal_tests::{Isolation, Kafka, Message, Process, Producer, Record, prefix, unique, wait_until};

use super::log::SECRET;
use super::turns::{self, Turn};

/// A target with deliveries on it.
pub struct Target {
    /// Where clients of the scenario connect.
    pub bootstrap: String,
    /// What the names of the log's topics begin with.
    pub prefix: String,
    /// The target.
    pub topic: String,
    /// The group that consumes it.
    pub group: String,
    producer: Producer,
    keyring: Keyring,
    sent: Vec<Sent>,
    _turn: Turn,
}

struct Sent {
    delivery: Delivery,
    word: String,
}

/// How many partitions each of the two topics for answers has.
const ANSWER_PARTITIONS: i32 = 2;

/// An answer: to which delivery, by its number, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The number of the delivery.
    pub number: usize,
    /// `completed`, or the code of the failure.
    pub says: String,
    /// What the consumer wishes for.
    pub wish: Wish,
    /// What it has to say: the result, or the error's message.
    pub detail: Option<String>,
}

impl Target {
    /// A target with so many partitions on the shared broker.
    #[track_caller]
    pub fn new(name: &str, partitions: usize) -> Target {
        Target::on(&Kafka::shared().bootstrap(), name, partitions)
    }

    /// The same on a broker of the scenario's own.
    #[track_caller]
    pub fn on(bootstrap: &str, name: &str, partitions: usize) -> Target {
        let turn = turns::take();
        let (prefix, topic, group) = (prefix(), unique(name), unique(name));
        create_topic(bootstrap, &topic, partitions, &[]);
        for name in ["acks", "failures"] {
            create_topic(bootstrap, &format!("{prefix}{name}"), ANSWER_PARTITIONS as usize, &[]);
        }
        let keyring = Keyring::new("k1", &[("k1".to_owned(), SECRET.to_vec())].into()).expect("a key of full length");
        let (bootstrap, producer) = (bootstrap.to_owned(), Producer::new(bootstrap));
        Target { bootstrap, prefix, topic, group, producer, keyring, sent: Vec::new(), _turn: turn }
    }

    /// How many deliveries were sent.
    pub fn sent(&self) -> usize {
        self.sent.len()
    }

    /// Starts a consumer, without waiting for it.
    #[track_caller]
    pub fn start(&self, instance: &str, env: &[(&str, &str)]) -> Process {
        let args: [&str; 5] = [&self.bootstrap, &self.prefix, &self.group, instance, &self.topic];
        Process::start("wal-consumer", &args, env)
    }

    /// The delivery of the next number, sealed.
    pub fn delivery(&self, key: Option<&str>, word: &str) -> Delivery {
        let number = self.sent.len();
        let namespace = Namespace::parse("shop").expect("a legal name");
        let identity = Identity::RequestId(Id::parse(&format!("{}-{number}", self.topic)).expect("a short text"));
        let now = SystemClock.now();
        let Lifecycle { retry_count, delay, backoff, priority, .. } = Lifecycle::default();
        Delivery {
            log_id: LogId::new(namespace.clone(), now, EntryKey::of(None, &namespace, &identity, 0)),
            target: Topic::parse(&self.topic).expect("a legal name"),
            tenant: None,
            operation: None,
            correlation_id: None,
            attempt: 1,
            round: 1,
            round_first: 1,
            deadline: now.saturating_add(Duration::from_secs(3600)),
            retry_count,
            delay,
            backoff,
            priority,
            answers: Answers::Expected,
            ordering_key: key.map(|key| key.to_owned().into()),
            content_type: None,
            payload: format!("{word} {number}").into(),
            headers: vec![Header::new("traceparent", "00-1-2-01"), Header { name: "empty".into(), value: None }],
        }
    }

    /// Sends the next deliveries: of each its key and its word.
    #[track_caller]
    pub fn send<'a>(&mut self, deliveries: impl IntoIterator<Item = (Option<&'a str>, &'a str)>) {
        let mut messages = Vec::new();
        for (key, word) in deliveries {
            messages.push(self.message(word, self.delivery(key, word), None));
        }
        self.producer.send_all(&messages);
    }

    /// As [`Target::send`], with payloads that are what is given and nothing else.
    #[track_caller]
    pub fn send_payloads<'a>(&mut self, deliveries: impl IntoIterator<Item = (Option<&'a str>, &'a str)>) {
        let mut messages = Vec::new();
        for (key, payload) in deliveries {
            let delivery = Delivery { payload: payload.to_owned().into(), ..self.delivery(key, payload) };
            messages.push(self.message(payload, delivery, None));
        }
        self.producer.send_all(&messages);
    }

    /// Sends the next delivery, changed, to a partition.
    #[track_caller]
    pub fn send_to(&mut self, partition: i32, word: &str, change: impl FnOnce(&mut Delivery)) {
        let mut delivery = self.delivery(None, word);
        change(&mut delivery);
        let message = self.message(word, delivery, Some(partition));
        self.producer.send_all([&message]);
    }

    /// The next delivery as it is sent.
    fn message(&mut self, word: &str, delivery: Delivery, partition: Option<i32>) -> Message {
        let message = message(delivery.encode(SystemClock.now(), &self.keyring), partition);
        self.sent.push(Sent { delivery, word: word.to_owned() });
        message
    }

    /// Sends what is no delivery.
    #[track_caller]
    pub fn send_foreign(&self, partition: i32) {
        self.producer.send_all([&Message::to(&self.topic).partition(partition).value("not from the log")]);
    }

    /// Everything that is answered, as those see it who read committed records. Every seal is looked at, and every key, and whether
    /// all of the delivery is echoed.
    #[track_caller]
    pub fn answers(&self) -> Vec<Answer> {
        let number: HashMap<&LogId, usize> =
            self.sent.iter().enumerate().map(|(number, sent)| (&sent.delivery.log_id, number)).collect();
        let read = |name| read_all(&self.bootstrap, &format!("{}{name}", self.prefix), Isolation::ReadCommitted);
        let completed = read("acks").into_iter().map(|record| {
            let record = in_record(record);
            let Completed { echo, result } = Completed::decode(&record, &self.keyring).expect("a completed attempt");
            expect_key(&record, &echo.delivery.log_id);
            let number = number[&echo.delivery.log_id];
            let payload = self.sent[number].delivery.payload.clone();
            assert_eq!(Delivery { payload, ..echo.delivery }, self.sent[number].delivery);
            Answer { number, says: "completed".into(), wish: Wish::None, detail: result }
        });
        let failed = read("failures").into_iter().map(|record| {
            let record = in_record(record);
            let Failed { echo, failure, wish } = Failed::decode(&record, &self.keyring).expect("a failed attempt");
            expect_key(&record, &echo.delivery.log_id);
            let number = number[&echo.delivery.log_id];
            assert_eq!(echo.delivery, self.sent[number].delivery);
            Answer { number, says: failure.code, wish, detail: Some(failure.message) }
        });
        completed.chain(failed).collect()
    }

    /// Waits until so many answers are there, while the consumers run.
    #[track_caller]
    pub fn wait_for(&self, count: usize, consumers: &[Process], limit: Duration) {
        let begun = Instant::now();
        loop {
            let answered = self.answers().len();
            if answered >= count {
                return;
            }
            let ended = consumers.iter().find(|consumer| !consumer.is_running());
            assert!(ended.is_none(), "{answered} of {count} answers, and it has ended: {ended:?}");
            assert!(begun.elapsed() < limit, "{answered} of {count} answers after {limit:?}: {consumers:?}");
        }
    }

    /// No delivery may have been answered twice. Tells how many were answered.
    #[track_caller]
    pub fn expect_none_twice(&self) -> usize {
        let mut times = vec![0; self.sent.len()];
        self.answers().iter().for_each(|answer| times[answer.number] += 1);
        let doubled: Vec<usize> = (0..times.len()).filter(|number| times[*number] > 1).collect();
        assert!(doubled.is_empty(), "answered more than once: {doubled:?}");
        times.into_iter().filter(|times| *times == 1).count()
    }

    /// Waits until everything is answered; each must be, once, with what its word says, and the group must stand at the end.
    #[track_caller]
    pub fn expect_each_answered_once(&self, consumers: &[Process], limit: Duration) {
        self.wait_for(self.sent.len(), consumers, limit);
        assert_eq!(self.expect_none_twice(), self.sent.len());
        for answer in self.answers() {
            let expected = match self.sent[answer.number].word.as_str() {
                "complete" | "hold" | "stick" => "completed",
                "fail" => "NOT_TODAY",
                "never" => "NOT_EVER",
                "later" => "LATER",
                "panic" => "handler_panicked",
                word => panic!("no such word: {word}"),
            };
            assert_eq!(answer.says, expected, "{answer:?}");
        }
        wait_until("the group stands at the end", limit, || lag(&self.bootstrap, &self.group, &self.topic) == 0);
    }
}

/// Answers of one entry meet in one partition.
#[track_caller]
fn expect_key(record: &InRecord, log_id: &LogId) {
    let log_id = log_id.to_string();
    assert_eq!(record.key.as_deref(), Some(log_id.as_bytes()));
    assert_eq!(partition::of_key(log_id.as_bytes(), ANSWER_PARTITIONS), Some(record.partition));
}

fn message(out: OutRecord, partition: Option<i32>) -> Message {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("names of the scenario are text");
    Message {
        topic: out.topic.to_string(),
        partition,
        key: out.key.map(|key| key.to_vec()),
        value: out.value.map(|value| value.to_vec()),
        headers: out
            .headers
            .iter()
            .map(|header| (text(&header.name), header.value.as_ref().map(|value| value.to_vec())))
            .collect(),
    }
}

/// A record as our own decoders take it.
pub fn in_record(record: Record) -> InRecord {
    InRecord {
        cluster: Arc::from("cluster"),
        topic: Topic::parse(&record.topic).expect("a topic that exists"),
        partition: record.partition,
        offset: record.offset,
        time: Timestamp::from_millis(record.timestamp),
        key: record.key.map(Into::into),
        value: record.value.map(Into::into),
        headers: record
            .headers
            .into_iter()
            .map(|(name, value)| Header { name: name.into(), value: value.map(Into::into) })
            .collect(),
    }
}
