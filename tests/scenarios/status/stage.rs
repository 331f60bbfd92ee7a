//! A log with entries in its store and no writer: what is said of them is the scenario's to say.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use wal_model::ack::Ack;
use wal_model::delivery::Delivery;
use wal_model::record::OutRecord;
use wal_model::status::{Failure, Outcome, Status};
use wal_model::{Clock, Entry, SystemClock, Timestamp};
use wal_store::samples::entry_in;
use wal_store::{EntryStore, Inserted};
use wal_tests::{Kafka, Message, Process, Record, wait_until};

use crate::support::log::{self, block_on, stop, wait_until_read};
use crate::support::records::{completed, keyring, message};
use crate::support::{LATER, Log, SOON};

pub struct Stage {
    pub log: Log,
}

impl Stage {
    #[track_caller]
    pub fn new(settings: &[(&str, &str)]) -> Stage {
        Stage { log: Log::on(&Kafka::shared().bootstrap(), settings) }
    }

    pub fn acks(&self) -> String {
        self.log.topic("acks")
    }

    /// Stores entries, and what happened to them before. Nobody may have the store.
    #[track_caller]
    pub fn store(&self, entries: &[Entry], events: &[Ack]) {
        block_on(async {
            let store = self.log.store().await;
            let answers = store.insert(entries).await.expect("the store answers");
            assert!(answers.iter().all(|answer| *answer == Inserted::Stored), "{answers:?}");
            store.apply(events).await.expect("the store answers");
        });
    }

    #[track_caller]
    pub fn start(&self, settings: &[(&str, &str)]) -> Process {
        self.log.start_program("wal-status", settings, &[])
    }

    /// Starts one that dies at a point, and waits until it has.
    #[track_caller]
    pub fn die_at(&self, point: &str) {
        let process = self.log.start_program("wal-status", &[], &[("WAL_FAILPOINT", point)]);
        crate::crashes::expect_died_at(&process, point.split(':').next().expect("a point has a name"));
    }

    /// Waits until everything on `wal.acks` is folded.
    #[track_caller]
    pub fn wait_until_folded(&self) {
        wait_until_read(&self.log.bootstrap, &self.log.topic("status"), &self.acks(), LATER);
    }

    /// Waits until everything is folded, stops it, and gives the entries as they are stored then.
    #[track_caller]
    pub fn finish(&self, process: Process) -> HashMap<String, Entry> {
        self.wait_until_folded();
        stop(&process);
        self.stored()
    }

    #[track_caller]
    pub fn stored(&self) -> HashMap<String, Entry> {
        self.log.documents().into_iter().map(|entry| (entry.log_id.to_string(), entry)).collect()
    }

    /// What `wal.status` says of each entry last.
    #[track_caller]
    pub fn told(&self) -> BTreeMap<String, String> {
        self.log.read(&self.log.topic("status")).iter().map(told).collect()
    }

    /// Waits until `wal.status` has said this of an entry.
    #[track_caller]
    pub fn wait_until_told(&self, entry: &Entry, status: &str, process: &Process) {
        let wanted = (entry.log_id.to_string(), status.to_owned());
        wait_until(&format!("{} is told {status}", wanted.0), SOON, || {
            assert!(process.is_running(), "{process:?}");
            let is_told = self.log.read(&self.log.topic("status")).iter().any(|record| told(record) == wanted);
            if !is_told {
                std::thread::sleep(Duration::from_millis(50));
            }
            is_told
        });
    }

    /// Dead letters by the log id that is their key.
    #[track_caller]
    pub fn letters(&self) -> HashMap<String, Vec<Record>> {
        let mut letters: HashMap<String, Vec<Record>> = HashMap::new();
        for letter in self.log.read(&self.log.dead_requests()) {
            let key = String::from_utf8(letter.key.clone().unwrap_or_default()).expect("a key is text");
            letters.entry(key).or_default().push(letter);
        }
        letters
    }

    /// A consumer's word that an entry's attempt is done.
    pub fn done(&self, entry: &Entry, attempt: u32) -> Message {
        completed(&Delivery { attempt, ..Delivery::of(entry) }, &self.acks())
    }

    /// The scheduler's word that an attempt failed and another follows.
    pub fn retrying(&self, entry: &Entry, attempt: u32) -> Message {
        self.event(&retrying(entry, attempt))
    }

    pub fn event(&self, ack: &Ack) -> Message {
        let topic = wal_model::Topic::parse(&self.acks()).expect("a topic");
        let out: OutRecord = ack.encode(topic, &keyring());
        message(&out)
    }
}

pub fn retrying(entry: &Entry, attempt: u32) -> Ack {
    let delivery = Delivery { attempt, ..Delivery::of(entry) };
    let (now, failure) = (SystemClock.now(), Failure { code: "DOWN".to_owned(), message: "it was down".to_owned() });
    Ack::of(&delivery, Outcome::Retrying { next_attempt_at: now }, Some(failure), now)
}

/// Log id and status; `gone` is a tombstone.
fn told(record: &Record) -> (String, String) {
    let key = String::from_utf8(record.key.clone().expect("a state has a key")).expect("a key is text");
    let status = record.value.as_ref().map(|_| record.json()["status"].as_str().expect("a word").to_owned());
    (key, status.unwrap_or("gone".to_owned()))
}

/// An entry that is written now.
pub fn entry(name: &str) -> Entry {
    entry_in("orders", SystemClock.now().as_millis(), name)
}

pub fn entries(name: &str, count: usize) -> Vec<Entry> {
    (0..count).map(|number| entry(&format!("{name} {number}"))).collect()
}

/// The same entry with another deadline.
pub fn until(mut entry: Entry, deadline: Timestamp) -> Entry {
    entry.state.standing.deadline = deadline;
    entry
}

/// The partition of `wal.acks` that an entry's events go to.
pub fn home(entry: &Entry) -> i32 {
    log::home(&entry.log_id.to_string())
}

pub fn later(millis: i64) -> Timestamp {
    Timestamp::from_millis(SystemClock.now().as_millis() + millis).expect("a time of our age")
}

#[track_caller]
pub fn expect_status<'a>(
    stored: &HashMap<String, Entry>,
    entries: impl IntoIterator<Item = &'a Entry>,
    status: Status,
) {
    for entry in entries {
        let found = &stored[&entry.log_id.to_string()];
        assert_eq!(found.state.status(), status, "{}: {:?}", entry.log_id, found.state);
    }
}

/// A store that several services of this process share.
pub fn shared(stage: &Stage) -> Arc<dyn EntryStore> {
    block_on(stage.log.store())
}
