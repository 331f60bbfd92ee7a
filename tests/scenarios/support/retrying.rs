//! What scenarios of retries share: attempts sealed as the log's services seal them, what a consumer says of them, and what came of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use wal_model::ack::Ack;
use wal_model::answer::{Failed, Wish};
use wal_model::cancel::Cancel;
use wal_model::delivery::{Delivery, Received};
use wal_model::entry::Answers;
use wal_model::lifecycle::{Backoff, Priority, Seconds};
use wal_model::parked::Parked;
use wal_model::seal::Keyring;
use wal_model::status::Failure;
use wal_model::topics::Topics;
use wal_model::{Clock, Header, InRecord, OutRecord, SystemClock, Timestamp, Topic};
use wal_tests::{Message, Process, Producer, Record, wait_until};

use super::log::{SECRET, wait_until_read};
use super::{LATER, Log, SOON};

/// The log's keyring.
pub fn keyring() -> Keyring {
    keyring_of("k1", SECRET)
}

/// A keyring of one key.
pub fn keyring_of(id: &str, secret: &[u8]) -> Keyring {
    Keyring::new(id, &BTreeMap::from([(id.to_owned(), secret.to_vec())])).expect("a usable key")
}

/// Now, by the clock that the services on this machine read too.
pub fn now() -> Timestamp {
    SystemClock.now()
}

/// A log, a target, and a consumer that answers.
pub struct Retrying {
    /// The log.
    pub log: Log,
    /// The target.
    pub target: String,
    /// Names of the log's topics.
    pub topics: Topics,
    producer: Producer,
}

impl Retrying {
    /// On a log of its own.
    #[track_caller]
    pub fn on(bootstrap: &str, settings: &[(&str, &str)]) -> Retrying {
        let log = Log::on(bootstrap, settings);
        let target = log.target("retried");
        let topics = Topics::new(&log.prefix).expect("a usable prefix");
        let producer = Producer::new(bootstrap);
        Retrying { log, target, topics, producer }
    }

    /// Starts a scheduler and waits until it has partitions of both kinds.
    #[track_caller]
    pub fn start(&self, settings: &[(&str, &str)]) -> Process {
        let scheduler = self.log.start_scheduler(settings, &[]);
        wait_until_at_work(&scheduler);
        scheduler
    }

    /// Starts a scheduler that dies at a point.
    #[track_caller]
    pub fn start_to_die(&self, point: &str) -> Process {
        self.log.start_scheduler(&[], &[("WAL_FAILPOINT", point)])
    }

    /// The first attempt of the entry with this number: three retries, a delay of 2 s, an hour to live.
    pub fn delivery(&self, number: usize) -> Delivery {
        let log_id = format!("wal_orders_20241201T100000000Z_00000000-0000-5000-8000-{number:012x}");
        Delivery {
            log_id: log_id.parse().expect("a log id"),
            target: Topic::parse(&self.target).expect("a topic"),
            tenant: None,
            operation: None,
            correlation_id: None,
            attempt: 1,
            round: 1,
            round_first: 1,
            deadline: now().saturating_add(Duration::from_secs(3600)),
            retry_count: 3,
            delay: Seconds::new(Duration::from_secs(2)),
            backoff: Backoff::Fixed,
            priority: Priority::Normal,
            answers: Answers::Expected,
            ordering_key: Some(format!("key-{}", number % 7).into()),
            content_type: Some("text/plain".to_owned()),
            payload: format!("payload {number}").into(),
            headers: vec![Header::new("own", "stays")],
        }
    }

    /// What a consumer sends that could not do an attempt: the delivery's headers echoed, as the sdk does it.
    pub fn failure(&self, delivery: &Delivery, wish: &Wish) -> Message {
        self.failure_under(delivery, wish, &keyring())
    }

    /// The same of a delivery that was sealed with other keys.
    pub fn failure_under(&self, delivery: &Delivery, wish: &Wish, keyring: &Keyring) -> Message {
        let delivered = as_read(delivery.encode(now(), keyring));
        let failure = Failure { code: "CARD_DECLINED".to_owned(), message: "no money".to_owned() };
        message(Failed::encode(&delivered, &failure, wish, self.topics.failures()))
    }

    /// An attempt that is parked already.
    pub fn parked(&self, delivery: Delivery, due: Timestamp, wait: &str) -> Message {
        let parked = Parked { delivery, due, parked_at: now(), wait: wait.parse().expect("a wait") };
        message(parked.encode(&self.topics, &keyring()))
    }

    /// The cancel of an entry's round.
    pub fn cancel(&self, delivery: &Delivery, deadline: Timestamp) -> Message {
        let cancel = Cancel { log_id: delivery.log_id.clone(), round: delivery.round, deadline };
        message(cancel.encode(self.topics.cancels(), &keyring()))
    }

    /// Sends and waits for acknowledgements.
    #[track_caller]
    pub fn send<'a>(&self, messages: impl IntoIterator<Item = &'a Message>) {
        self.producer.send_all(messages);
    }

    /// Waits until that many attempts are on the target, and gives them.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<Attempt> {
        self.log.wait_for(&self.target, count, LATER);
        self.attempts()
    }

    /// The attempts that are visible on the target. Each is sealed, or this panics.
    #[track_caller]
    pub fn attempts(&self) -> Vec<Attempt> {
        let attempt = |record: Record| {
            let Received { delivery, sent } = Delivery::decode(&as_in(&record)).expect("a delivery");
            delivery.verify(record.header("ce_walseal").as_deref(), &keyring()).expect("sealed by the log");
            Attempt { delivery, sent, written: Timestamp::from_millis(record.timestamp).expect("a time") }
        };
        self.log.read(&self.target).into_iter().map(attempt).collect()
    }

    /// Waits until that many events were said, and gives them.
    #[track_caller]
    pub fn wait_for_events(&self, count: usize) -> Vec<Ack> {
        self.log.wait_for(&self.log.topic("acks"), count, LATER);
        self.events()
    }

    /// What was said of attempts.
    #[track_caller]
    pub fn events(&self) -> Vec<Ack> {
        let acks = self.log.read(&self.log.topic("acks")).into_iter();
        acks.map(|record| Ack::decode(&as_in(&record), &keyring()).expect("an event of ours")).collect()
    }

    /// Dead letters by error code.
    #[track_caller]
    pub fn dead_letters(&self) -> BTreeMap<String, Vec<Record>> {
        let mut by_code: BTreeMap<String, Vec<Record>> = BTreeMap::new();
        for letter in self.log.read(&self.log.dead_requests()) {
            let why = letter.header("__dlq.errors.message").unwrap_or_default();
            let code = why.split(':').next().unwrap_or_default().to_owned();
            by_code.entry(code).or_default().push(letter);
        }
        by_code
    }

    /// Waits until nothing is left to be read, neither failures nor what waits: from then on nothing more comes of it.
    #[track_caller]
    pub fn wait_until_done(&self) {
        let (failures, delays) = (self.log.topic("retry-scheduler"), self.log.topic("delays"));
        wait_until_read(&self.log.bootstrap, &failures, &self.log.topic("failures"), LATER);
        wait_until("nothing waits", LATER, || {
            let waits = ["100ms", "200ms", "500ms", "1s", "2s", "5s", "10s", "20s", "50s", "60s"];
            waits.iter().all(|wait| {
                let topic = self.log.topic(&format!("delay.{wait}"));
                wal_tests::clients::lag(&self.log.bootstrap, &delays, &topic) == 0
            })
        });
    }

    /// Every one of these entries has exactly this attempt on the target, and none came before the time that was said for it.
    #[track_caller]
    pub fn expect_once_and_never_early(&self, numbers: std::ops::Range<usize>, attempt: u32) {
        let attempts = self.attempts();
        let mut times: HashMap<(String, u32), usize> = HashMap::new();
        for found in &attempts {
            *times.entry((found.delivery.log_id.to_string(), found.delivery.attempt)).or_default() += 1;
        }
        let wanted = |number| (self.delivery(number).log_id.to_string(), attempt);
        let wrong: Vec<_> = numbers.clone().map(wanted).filter(|wanted| times.get(wanted) != Some(&1)).collect();
        assert!(wrong.is_empty(), "{} attempts did not come once, such as {:?}", wrong.len(), wrong.first());
        assert_eq!(attempts.len(), numbers.len(), "and no others");
        let events = self.events();
        assert_eq!(events.len(), numbers.len(), "each failure was decided once");
        let due: HashMap<String, Timestamp> = events.iter().filter_map(due_of).collect();
        for found in attempts {
            let due = due[&found.delivery.log_id.to_string()];
            assert!(found.written >= due && found.sent >= due, "{found:?} came before {due}");
        }
    }
}

/// An attempt as it stands on its target.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The attempt.
    pub delivery: Delivery,
    /// What it says of when it was sent.
    pub sent: Timestamp,
    /// The time of its record, which its producer gave it.
    pub written: Timestamp,
}

/// When the next attempt of an entry is due, as an event says it.
pub fn due_of(event: &Ack) -> Option<(String, Timestamp)> {
    match event.event.outcome {
        wal_model::status::Outcome::Retrying { next_attempt_at } => Some((event.log_id.to_string(), next_attempt_at)),
        _ => None,
    }
}

/// Waits until a scheduler has read the cancels and has partitions of both kinds.
#[track_caller]
pub fn wait_until_at_work(scheduler: &Process) {
    wait_until("the scheduler is at work", SOON, || {
        assert!(scheduler.is_running(), "{scheduler:?}");
        let lines = scheduler.lines();
        let count = |text: &str| lines.iter().filter(|line| line.text.contains(text)).count();
        count("partitions moved") >= 2 && count("read to its end") >= 1
    });
}

/// A record as it is read that was published so.
pub fn as_read(out: OutRecord) -> InRecord {
    InRecord {
        cluster: Arc::from("scenario"),
        topic: out.topic,
        partition: 0,
        offset: 0,
        time: None,
        key: out.key,
        value: out.value,
        headers: out.headers,
    }
}

/// What our own crates say as a plain client sends it.
pub fn message(out: OutRecord) -> Message {
    let text = |header: &Header| String::from_utf8(header.name.to_vec()).expect("our names are text");
    Message {
        topic: out.topic.to_string(),
        partition: out.partition,
        key: out.key.map(|key| key.to_vec()),
        value: out.value.map(|value| value.to_vec()),
        headers: out
            .headers
            .iter()
            .map(|header| (text(header), header.value.as_ref().map(|value| value.to_vec())))
            .collect(),
    }
}

fn as_in(record: &Record) -> InRecord {
    InRecord {
        cluster: Arc::from("scenario"),
        topic: Topic::parse(&record.topic).expect("a topic"),
        partition: record.partition,
        offset: record.offset,
        time: Timestamp::from_millis(record.timestamp),
        key: record.key.clone().map(Into::into),
        value: record.value.clone().map(Into::into),
        headers: record
            .headers
            .iter()
            .map(|(name, value)| Header { name: name.clone().into(), value: value.clone().map(Into::into) })
            .collect(),
    }
}
