//! What the two hands do with their batches, sentence by sentence of the design, with brokers and a past that say what a test wants.

mod failing;
mod releasing;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use wal_model::clock::ManualClock;
use wal_model::delay::Waits;
use wal_model::{Clock, InRecord, OutRecord, Timestamp, Topic};
use wal_runtime::batch_loop::{Batch, Handler, Place};
use wal_runtime::brokers::{Brokers, Found, Shapes};
use wal_runtime::config::Settings;
use wal_runtime::live::Live;
use wal_runtime::metrics::{Format, Metrics};
use wal_runtime::reading::{Span, Unread};

use crate::cancels::Cancels;
use crate::config::Config;
use crate::failures::{Failures, Past, State};
use crate::overdue::Overdue;
use crate::release::Releases;
use crate::samples::{at, keyring, topics};
use crate::tally::Meter;
use crate::tools::Tools;

/// Partitions of the failures topic.
const PARTITIONS: i32 = 4;
const KNOWN: Found = Found::Known { partitions: PARTITIONS, max_message_bytes: 1_048_588 };

/// Brokers that know every topic but the dead-letter topics of namespaces, until they are told otherwise.
#[derive(Default)]
struct Answering(Mutex<HashMap<String, Found>>);

impl Brokers for Answering {
    async fn shapes(&self, topics: Vec<Topic>) -> Shapes {
        let told = self.0.lock().unwrap();
        let is_of_a_namespace = |name: &str| name.starts_with("dlq.wal.") && name != "dlq.wal.ingress";
        let answer = |topic: &Topic| match told.get(topic.as_str()) {
            Some(found) => found.clone(),
            None if is_of_a_namespace(topic.as_str()) => Found::Missing(Duration::ZERO),
            None => KNOWN,
        };
        topics.into_iter().map(|topic| (topic.clone(), answer(&topic))).collect()
    }

    fn foresee(&self, _: &[Topic]) {}

    async fn create(&self, topic: &Topic) -> Result<(), String> {
        Err(format!("nobody creates {topic}"))
    }

    fn forget(&self) {}
}

/// A failures topic as far as it was written.
#[derive(Default)]
struct Written {
    records: Mutex<Vec<InRecord>>,
    read: Mutex<Vec<Span>>,
}

impl Past for Arc<Written> {
    async fn read(&self, _: &Topic, spans: &[Span], each: &mut (dyn FnMut(InRecord) + Send)) -> Result<(), Unread> {
        self.read.lock().unwrap().extend_from_slice(spans);
        let records = self.records.lock().unwrap().clone();
        for Span { partition, since, until } in spans {
            let is_wanted = |record: &&InRecord| {
                record.partition == *partition && record.time.unwrap() >= *since && record.offset < *until
            };
            records.iter().filter(is_wanted).cloned().for_each(&mut *each);
        }
        Ok(())
    }
}

/// Both hands with the same tools.
struct Bench {
    failures: Failures<Arc<Answering>, Arc<Written>>,
    releases: Releases<Arc<Answering>>,
    tools: Arc<Tools<Arc<Answering>>>,
    written: Arc<Written>,
    clock: Arc<ManualClock>,
    metrics: Metrics,
    overdue: Arc<Overdue>,
}

/// When tests begin: late enough for a window to lie before it.
fn start() -> Timestamp {
    at(10_000_000)
}

fn bench() -> Bench {
    let settings = Settings::load_from(None, std::iter::empty(), &[]).unwrap();
    let config = Config::read(&settings).unwrap();
    let (written, metrics, overdue) = (Arc::<Written>::default(), Metrics::new(), Arc::<Overdue>::default());
    let clock = Arc::new(ManualClock::at(start()));
    let tools = Arc::new(Tools {
        brokers: Arc::<Answering>::default(),
        cancels: Arc::new(Cancels::by_hand()),
        clock: Arc::<ManualClock>::clone(&clock),
        keyring: keyring(),
        topics: topics(),
        waits: Waits::coins_and(["60s", "2m", "4m"].map(|wait| wait.parse().unwrap())),
        config: Live::new(config.clone()),
        meter: Meter::new(metrics.clone()),
    });
    let failures = Failures {
        tools: Arc::clone(&tools),
        past: Arc::clone(&written),
        group: "wal.retry-scheduler".to_owned(),
        state: Mutex::new(State::new(&config)),
    };
    let releases = Releases {
        tools: Arc::clone(&tools),
        group: "wal.delays".to_owned(),
        overdue: Arc::clone(&overdue),
        clearing: None,
        pending: Mutex::default(),
    };
    Bench { failures, releases, tools, written, clock, metrics, overdue }
}

impl Bench {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn say(&self, topic: &str, found: Found) {
        self.tools.brokers.0.lock().unwrap().insert(topic.to_owned(), found);
    }

    /// What the metrics tell of a family, or of its members with some label.
    fn count(&self, family: &str, label: &str) -> u64 {
        let told = self.metrics.encode(Format::OpenMetrics);
        let is_meant = |line: &&str| line.starts_with(&format!("wal_{family}")) && line.contains(label);
        let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small counts")]
        let count = told.lines().filter(is_meant).map(value).sum::<f64>() as u64;
        count
    }

    /// One batch of failures through its transaction.
    async fn fail(&self, records: &[InRecord]) -> Vec<OutRecord> {
        self.fail_under(1, records).await
    }

    /// The same under another assignment of all partitions.
    async fn fail_under(&self, assignment: u64, records: &[InRecord]) -> Vec<OutRecord> {
        let outputs = self.failures.handle(&batch(records, assignment)).await.unwrap();
        self.written.records.lock().unwrap().extend_from_slice(records);
        self.failures.committed(&Batch::default());
        outputs
    }

    /// One batch of heads through its transaction.
    async fn release(&self, records: &[InRecord]) -> Vec<OutRecord> {
        let outputs = self.releases.handle(&batch(records, 1)).await.unwrap();
        self.releases.committed(&Batch::default());
        outputs
    }
}

fn batch(records: &[InRecord], assignment: u64) -> Batch {
    let mut places = HashMap::new();
    for record in records {
        let place = Place { assignment, next: record.offset, committed: record.offset };
        places.entry((record.topic.clone(), record.partition)).or_insert(place);
    }
    Batch { records: records.to_vec(), places }
}

fn to<'a>(outputs: &'a [OutRecord], topic: &str) -> Vec<&'a OutRecord> {
    outputs.iter().filter(|record| record.topic.as_str() == topic).collect()
}

/// The only status event among the outputs.
#[track_caller]
fn event(outputs: &[OutRecord]) -> Value {
    let [event] = to(outputs, "wal.acks")[..] else { panic!("not one event: {outputs:?}") };
    serde_json::from_slice(event.value.as_deref().unwrap()).unwrap()
}

#[track_caller]
fn names(outputs: &[OutRecord]) -> Vec<&str> {
    let mut names: Vec<&str> = outputs.iter().map(|record| record.topic.as_str()).collect();
    names.sort_unstable();
    names
}
