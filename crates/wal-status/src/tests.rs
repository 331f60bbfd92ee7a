//! What becomes of a batch and of a tick, sentence by sentence of the design, on a real store and brokers that say what a test wants.

mod folds;
mod sweeps;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use wal_model::ack::Ack;
use wal_model::answer::Completed;
use wal_model::clock::ManualClock;
use wal_model::delivery::Delivery;
use wal_model::record::{InRecord, OutRecord, last_str};
use wal_model::seal::Keyring;
use wal_model::topics::Topics;
use wal_model::{Entry, Namespace, Timestamp, Topic, partition, wire};
use wal_runtime::batch_loop::{Batch, Handler, Place};
use wal_runtime::config::Settings;
use wal_store::embedded::Embedded;
use wal_store::faults::Faulty;
use wal_store::samples::{WRITTEN_AT, time};
use wal_store::{EntryStore, Patient};

use crate::brokers::{Brokers, DeadLetters, Freshness, Shape};
use crate::config::Config;
use crate::counts::Counts;
use crate::fold::Fold;
use crate::sweep::Memory;

const PARTITIONS: i32 = 4;
const LIMIT: usize = 1_048_588;

/// What the brokers say.
#[derive(Default)]
struct Answering {
    /// What is remembered, then what is true; by default both are [`PARTITIONS`].
    partitions: Mutex<Option<(i32, i32)>>,
    ends: Mutex<HashMap<i32, i64>>,
    /// Namespaces with dead letters of their own.
    own: Mutex<Vec<String>>,
    is_silent: Mutex<bool>,
}

impl Answering {
    fn check(&self) -> Result<(), String> {
        if *self.is_silent.lock().unwrap() { Err("nobody is there".to_owned()) } else { Ok(()) }
    }

    fn to(&self, name: &str) -> DeadLetters {
        DeadLetters { topic: Topic::parse(&format!("dlq.wal.{name}")).unwrap(), limit: LIMIT + 65_536 }
    }
}

impl Brokers for Arc<Answering> {
    async fn shape(&self, freshness: Freshness) -> Result<Shape, String> {
        let (remembered, now) = self.partitions.lock().unwrap().unwrap_or((PARTITIONS, PARTITIONS));
        let partitions = if freshness == Freshness::Now { now } else { remembered };
        self.check().map(|()| Shape { partitions, max_message_bytes: LIMIT })
    }

    async fn dead_letters_of(&self, namespaces: Vec<Namespace>) -> Result<HashMap<Namespace, DeadLetters>, String> {
        self.check()?;
        let own = self.own.lock().unwrap();
        let to = |namespace: &Namespace| {
            self.to(if own.contains(&namespace.to_string()) { namespace.as_str() } else { "ingress" })
        };
        Ok(namespaces.into_iter().map(|namespace| (namespace.clone(), to(&namespace))).collect())
    }

    async fn dead_letters(&self) -> Result<DeadLetters, String> {
        self.check().map(|()| self.to("ingress"))
    }

    async fn ends(&self, partitions: Vec<i32>) -> HashMap<i32, i64> {
        let ends = self.ends.lock().unwrap();
        partitions.into_iter().map(|partition| (partition, ends.get(&partition).copied().unwrap_or(0))).collect()
    }

    fn forget(&self) {}
}

struct Bench {
    fold: Fold<Arc<Answering>>,
    brokers: Arc<Answering>,
    clock: Arc<ManualClock>,
    store: Faulty,
    /// What one sweep sees of each partition.
    places: HashMap<(Topic, i32), Place>,
    _folder: Arc<tempfile::TempDir>,
}

fn keyring() -> Keyring {
    let secrets = BTreeMap::from([("k1".to_owned(), vec![7; 32])]);
    Keyring::new("k1", &secrets).unwrap()
}

fn acks() -> Topic {
    Topic::parse("wal.acks").unwrap()
}

fn bench() -> Bench {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let store = Faulty::new(Arc::new(Embedded::open(folder.path()).unwrap()));
    let clock = Arc::new(ManualClock::at(time(WRITTEN_AT + 60_000)));
    Bench::over(store, clock, folder, 0..PARTITIONS)
}

impl Bench {
    fn over(
        store: Faulty,
        clock: Arc<ManualClock>,
        folder: Arc<tempfile::TempDir>,
        held: impl Iterator<Item = i32>,
    ) -> Bench {
        let brokers = Arc::new(Answering::default());
        let settings = Settings::load_from(None, std::iter::empty(), &[]).unwrap();
        let fold = Fold {
            store: Patient::new(Arc::new(store.clone())),
            brokers: Arc::clone(&brokers),
            clock: Arc::<ManualClock>::clone(&clock),
            keyring: keyring(),
            topics: Topics::new("wal.").unwrap(),
            group: "wal.status".to_owned(),
            config: Config::read(&settings).unwrap(),
            counts: Arc::new(Counts::default()),
            memory: Mutex::new(Memory::default()),
        };
        let places =
            held.map(|partition| ((acks(), partition), Place { assignment: 7, next: 0, committed: 0 })).collect();
        Bench { fold, brokers, clock, store, places, _folder: folder }
    }

    /// Another instance on the same store, holding these partitions.
    fn sibling(&self, held: impl Iterator<Item = i32>) -> Bench {
        Bench::over(self.store.clone(), Arc::clone(&self.clock), Arc::clone(&self._folder), held)
    }

    async fn insert(&self, entries: &[Entry]) {
        self.store.insert(entries).await.unwrap();
    }

    /// Handles records and commits.
    async fn handle(&self, records: Vec<InRecord>) -> Vec<OutRecord> {
        let outputs = self.fold.handle(&Batch { records, ..Batch::default() }).await.unwrap();
        self.fold.committed(&Batch::default());
        outputs
    }

    /// Ticks and commits.
    async fn tick(&self) -> Vec<OutRecord> {
        let outputs = self.tick_only().await;
        self.fold.committed(&Batch::default());
        outputs
    }

    async fn tick_only(&self) -> Vec<OutRecord> {
        self.fold.tick(&Batch { records: Vec::new(), places: self.places.clone() }).await.unwrap()
    }

    async fn stored(&self, entry: &Entry) -> Option<Entry> {
        self.store.get(&[entry.key()]).await.unwrap().remove(0)
    }

    fn now(&self) -> Timestamp {
        use wal_model::Clock;
        self.clock.now()
    }

    /// Moves the clock to so long after the deadline of an entry.
    fn pass(&self, entry: &Entry, by: Duration) {
        self.clock.advance(entry.state.deadline().saturating_add(by).saturating_since(self.now()));
    }
}

/// The partition that an entry's events go to.
fn home(entry: &Entry) -> i32 {
    partition::of_key(entry.log_id.to_string().as_bytes(), PARTITIONS).unwrap()
}

/// A record as it is read, from where its key sends it or its partition says.
fn read(out: OutRecord, offset: i64) -> InRecord {
    let by_key = || partition::of_key(out.key.as_deref().unwrap_or_default(), PARTITIONS).unwrap();
    InRecord {
        cluster: Arc::from("c"),
        topic: out.topic.clone(),
        partition: out.partition.unwrap_or_else(by_key),
        offset,
        time: Some(time(WRITTEN_AT + 60_000 + offset)),
        key: out.key.clone(),
        value: out.value,
        headers: out.headers,
    }
}

/// A consumer's word that an attempt is done.
fn completed(delivery: &Delivery, offset: i64) -> InRecord {
    let delivered = read(delivery.encode(time(WRITTEN_AT), &keyring()), 0);
    read(Completed::encode(&delivered, None, acks()), offset)
}

/// The same of the attempt that an entry was stored with.
fn done(entry: &Entry, offset: i64) -> InRecord {
    completed(&Delivery::of(entry), offset)
}

/// An event of one of our services.
fn event(ack: &Ack, offset: i64) -> InRecord {
    read(ack.encode(acks(), &keyring()), offset)
}

fn to<'a>(outputs: &'a [OutRecord], topic: &str) -> Vec<&'a OutRecord> {
    outputs.iter().filter(|record| record.topic.as_str() == topic).collect()
}

fn codes(outputs: &[OutRecord]) -> Vec<&str> {
    to(outputs, "dlq.wal.ingress").into_iter().filter_map(|r| last_str(&r.headers, wire::CE_WALERRORCODE)).collect()
}

/// Log id and status of what goes to `wal.status`; `gone` is a tombstone.
fn statuses(outputs: &[OutRecord]) -> BTreeMap<String, String> {
    let status = |record: &&OutRecord| {
        let json = record.value.as_ref().map(|value| serde_json::from_slice::<serde_json::Value>(value).unwrap());
        let key = String::from_utf8(record.key.as_deref().unwrap().to_vec()).unwrap();
        (key, json.map_or("gone".to_owned(), |json| json["status"].as_str().unwrap().to_owned()))
    };
    to(outputs, "wal.status").iter().map(status).collect()
}
