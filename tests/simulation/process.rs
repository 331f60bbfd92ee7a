//! Processes: a service's real hands in simulated loops, with a clock and a life of their own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use wal_model::cancel::Cancel;
use wal_model::delay::Waits;
use wal_model::seal::Keyring;
use wal_model::topics::Topics;
use wal_model::{InRecord, LogId};
use wal_retry_scheduler::testing::{Cancels, Hands};
use wal_runtime::config::{Policy, Settings};
use wal_store::Patient;

use super::batch_loop::{BatchLoop, Hand, Reads};
use super::brokers::Answering;
use super::clock::Skewed;
use super::groups::MemberId;
use super::kafka::{Kafka, Next, Partition};
use super::store::Slow;

/// Which service a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    Writer,
    Scheduler,
    Status,
}

/// The groups, by what they read.
pub const WRITER: &str = "wal.writer";
pub const SCHEDULER: &str = "wal.retry-scheduler";
pub const DELAYS: &str = "wal.delays";
pub const STATUS: &str = "wal.status";

/// How often the scheduler looks for cancels that have outlived their round; nothing waits for it.
const SCHEDULER_TICK: i64 = 120_000;

/// What all processes are made with.
#[derive(Clone)]
pub struct Installation {
    pub settings: Settings,
    pub keyring: Keyring,
    pub topics: Topics,
    pub waits: Waits,
    pub brokers: Answering,
    pub store: Slow,
    /// The most records in a batch.
    pub limit: usize,
    /// How often wal-status looks for what has expired.
    pub sweep: i64,
}

impl Installation {
    fn store(&self) -> Patient {
        Patient::new(Arc::new(self.store.clone()))
    }
}

/// What a loop reads, what it is called, and who works there.
type Works = (Reads, &'static str, Arc<dyn Hand>);

/// The settings are the defaults, but for what the world changed.
const VALID: &str = "the settings are valid";

/// A process.
pub struct Process {
    pub service: Service,
    /// Which instance of its service it is: a new pod may be another one.
    pub instance: usize,
    pub clock: Skewed,
    /// Counts its lives; `None` while it is dead.
    pub life: Option<u32>,
    lives: u32,
    pub frozen_until: i64,
    pub loops: Vec<BatchLoop>,
    /// What of cancels was known when the batch in hand of each loop was begun.
    pub known: Vec<BTreeMap<LogId, u32>>,
    pub follower: Option<Follower>,
}

impl Process {
    pub fn new(service: Service, instance: usize, clock: Skewed) -> Process {
        let (loops, known) = (Vec::new(), Vec::new());
        Process { service, instance, clock, life: None, lives: 0, frozen_until: 0, loops, known, follower: None }
    }

    /// What it is a member of, and as whom.
    pub fn members(&self) -> Vec<(&'static str, MemberId)> {
        self.loops.iter().filter_map(|own| Some((own.reads.group, own.member?))).collect()
    }

    /// Begins a new life; nothing of the last one is left but the transactional id, if it is the same instance.
    pub fn start(&mut self, with: &Installation, now: i64) {
        self.lives += 1;
        (self.life, self.frozen_until) = (Some(self.lives), 0);
        self.follower = (self.service == Service::Scheduler).then(|| Follower::start(with));
        let hands = match self.service {
            Service::Writer => vec![self.writer(with)],
            Service::Scheduler => self.scheduler(with),
            Service::Status => vec![self.status(with)],
        };
        let id = |name: &str| format!("wal.{name}-{}", self.instance);
        self.loops = hands.into_iter().map(|(reads, name, hand)| BatchLoop::new(reads, hand, id(name), now)).collect();
        self.known = vec![BTreeMap::new(); self.loops.len()];
    }

    fn writer(&self, with: &Installation) -> Works {
        let hand = wal_writer::testing::Hand {
            store: with.store(),
            brokers: with.brokers.clone(),
            clock: Arc::new(self.clock.clone()),
            keyring: with.keyring.clone(),
            policy: Policy::read(&with.settings).expect(VALID),
            topics: with.topics.clone(),
            waits: with.waits.clone(),
            config: wal_writer::Config::read(&with.settings).expect(VALID),
        };
        let reads = Reads { group: WRITER, gate: None, limit: with.limit, tick: None };
        (reads, "writer", Arc::new(hand.writer(WRITER)))
    }

    fn scheduler(&self, with: &Installation) -> Vec<Works> {
        let follower = self.follower.as_ref().expect("every scheduler follows the cancels");
        let hands = Hands {
            brokers: with.brokers.clone(),
            past: with.brokers.clone(),
            cancels: follower.cancels.clone(),
            clock: Arc::new(self.clock.clone()),
            keyring: with.keyring.clone(),
            topics: with.topics.clone(),
            waits: with.waits.clone(),
            config: wal_retry_scheduler::Config::read(&with.settings).expect(VALID),
        };
        let failures = Reads { group: SCHEDULER, gate: None, limit: with.limit, tick: Some(SCHEDULER_TICK) };
        let delays = Reads { group: DELAYS, gate: Some(hands.gate()), limit: with.limit, tick: None };
        vec![
            (failures, "retry-scheduler", Arc::new(hands.failures(SCHEDULER))),
            (delays, "delays", Arc::new(hands.releases(DELAYS))),
        ]
    }

    fn status(&self, with: &Installation) -> Works {
        let hand = wal_status::testing::Hand {
            store: with.store(),
            brokers: with.brokers.clone(),
            clock: Arc::new(self.clock.clone()),
            keyring: with.keyring.clone(),
            topics: with.topics.clone(),
            config: wal_status::Config::read(&with.settings).expect(VALID),
        };
        let reads = Reads { group: STATUS, gate: None, limit: with.limit, tick: Some(with.sweep) };
        (reads, "status", Arc::new(hand.folds(STATUS)))
    }

    /// Ends this life, wherever it is.
    pub fn die(&mut self) {
        self.life = None;
        self.loops.clear();
        self.follower = None;
    }

    /// Whether everything is known that must be known before anything is decided.
    pub fn is_informed(&self) -> bool {
        self.follower.as_ref().is_none_or(Follower::is_caught_up)
    }
}

/// Follows the topic of cancels for one scheduler.
pub struct Follower {
    pub cancels: Cancels,
    /// The latest round of each entry that it has read of: what no handle may deliver that began after it.
    pub known: BTreeMap<LogId, u32>,
    places: BTreeMap<Partition, i64>,
    /// Where the topic ended at the start.
    ends: BTreeMap<Partition, i64>,
    keyring: Keyring,
    kafka: Arc<Mutex<Kafka>>,
}

impl Follower {
    fn start(with: &Installation) -> Follower {
        let kafka = Arc::clone(&with.brokers.kafka);
        let cancels = with.topics.cancels();
        let (places, ends) = {
            let kafka = kafka.lock().expect("nothing panics while it is held");
            let partitions = kafka.partitions(|topic| *topic == cancels);
            let ends = partitions.iter().map(|partition| (partition.clone(), kafka.end(partition))).collect();
            (partitions.into_iter().map(|partition| (partition, 0)).collect(), ends)
        };
        let keyring = with.keyring.clone();
        Follower { cancels: Cancels::by_hand(), known: BTreeMap::new(), places, ends, keyring, kafka }
    }

    fn is_caught_up(&self) -> bool {
        self.ends.iter().all(|(partition, end)| self.places[partition] >= *end)
    }

    /// Reads what comes next in one partition; whether there is more.
    pub fn follow(&mut self, random: &mut fastrand::Rng) -> bool {
        let index = random.usize(..self.places.len());
        let kafka = self.kafka.lock().expect("nothing panics while it is held");
        let (partition, place) = self.places.iter_mut().nth(index).expect("chosen among them");
        match kafka.next(partition, *place) {
            Next::End(end) => *place = end,
            Next::Record(record) => {
                *place = record.offset + 1;
                self.cancels.take(&record, &self.keyring);
                note(&record, &self.keyring, &mut self.known);
            }
        }
        self.places.iter().any(|(partition, place)| match kafka.next(partition, *place) {
            Next::Record(_) => true,
            Next::End(end) => end > *place,
        })
    }
}

fn note(record: &InRecord, keyring: &Keyring, known: &mut BTreeMap<LogId, u32>) {
    if record.value.is_none() {
        let key = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()).expect("tombstones have keys");
        known.remove(&key.parse::<LogId>().expect("of a log id"));
        return;
    }
    let Cancel { log_id, round, .. } = Cancel::decode(record, keyring).expect("only the gateway writes here");
    let known = known.entry(log_id).or_default();
    *known = (*known).max(round);
}
