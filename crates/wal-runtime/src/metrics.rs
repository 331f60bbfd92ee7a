//! Metrics: what a process counts, and the text in which it tells.
//!
//! ```text
//!   declarations (name, help, unit, labels: once) ─▶ handles, taken at the start ─▶ counted while working: an atomic each
//!             │                                                                              │
//!             └─▶ descriptions(), for a reference                     GET /metrics ◀─ encode ┘
//! ```
//!
//! A group of families appears once somebody in the process asks for it, so a writer tells nothing of retries. No label takes
//! values without end: they are words of our own, or namespaces and targets up to [`Places::LIMIT`] pairs.

mod book;
mod declarations;
mod labels;
mod observer;
mod process;
mod reference;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;
use wal_model::record::last_str;
use wal_model::{Code, LogId, Namespace, OutRecord, Topic, wire};

pub use book::{Counter, Counters, Description, Durations, DurationsOf, Gauge, Gauges, Kind, Labels, Seconds};
pub use declarations::{
    Answers, Attempts, Batches, Https, Lags, Requests, Retries, Spans, Statuses, Stores, descriptions,
};
pub use labels::{
    Append, Asked, Attempt, BatchEnd, BatchStage, Build, Call, DeadLetter, Ended, Export, Named, Partition, Place,
    Places, Refused, Route, Scheduled, Scheduling, Service, ServiceBatch, ServiceStage, SpansExported, Stage, Waited,
    WaitedFor, Write, Written,
};
pub use observer::Counting;
pub use reference::reference;

use book::Book;
use declarations::{About, Group};
use process::Process;

use crate::batch_loop::Standing;
use crate::overview;

/// The namespace of what was refused before it was an entry.
const NO_NAMESPACE: &str = "none";

/// Everything that a process counts. Cloning gives another handle on the same.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Mutex<Registry>,
    before_scrape: Mutex<Vec<Box<dyn Fn() + Send + Sync>>>,
    places: Places,
    /// The loops of this process, by their groups.
    loops: Mutex<HashMap<String, Loop>>,
    lags: OnceLock<Lags>,
    requests: OnceLock<Requests>,
    stores: OnceLock<Stores>,
    https: OnceLock<Https>,
    batches: OnceLock<Batches>,
    retries: OnceLock<Retries>,
    attempts: OnceLock<Attempts>,
    answers: OnceLock<Answers>,
    statuses: OnceLock<Statuses>,
    spans: OnceLock<Spans>,
}

/// A batch loop of this process.
#[derive(Clone, Debug)]
pub(crate) struct Loop {
    /// Under which name it counts.
    pub(crate) service: &'static str,
    /// Where it stands, in what it holds.
    pub(crate) standing: Vec<Standing>,
}

/// How the numbers are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4, for tools that know no other.
    Prometheus,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Metrics {
        let mut registry = Registry::default();
        About::declare(&mut Book::new(&mut registry));
        let process = Process::is_known().then(|| Process::declare(&mut Book::new(&mut registry)));
        let metrics = Metrics {
            inner: Arc::new(Inner {
                registry: Mutex::new(registry),
                before_scrape: Mutex::default(),
                places: Places::default(),
                batches: OnceLock::new(),
                retries: OnceLock::new(),
                attempts: OnceLock::new(),
                answers: OnceLock::new(),
                statuses: OnceLock::new(),
                spans: OnceLock::new(),
                loops: Mutex::default(),
                lags: OnceLock::new(),
                requests: OnceLock::new(),
                stores: OnceLock::new(),
                https: OnceLock::new(),
            }),
        };
        if let Some(process) = process {
            metrics.before_each_scrape(move || process.set());
        }
        metrics
    }

    /// How far behind the loops are.
    pub fn lags(&self) -> &Lags {
        self.group(&self.inner.lags)
    }

    /// What becomes of requests.
    pub fn requests(&self) -> &Requests {
        self.group(&self.inner.requests)
    }

    /// What the store is asked.
    pub fn stores(&self) -> &Stores {
        self.group(&self.inner.stores)
    }

    /// What is asked over HTTP.
    pub fn https(&self) -> &Https {
        self.group(&self.inner.https)
    }

    /// What batch loops count. [`Counting`] does it for any of them.
    pub fn batches(&self) -> &Batches {
        self.group(&self.inner.batches)
    }

    /// What is told to a collector of traces.
    pub fn spans(&self) -> &Spans {
        self.group(&self.inner.spans)
    }

    /// What becomes of attempts that wait.
    pub fn retries(&self) -> &Retries {
        self.group(&self.inner.retries)
    }

    /// What comes in from consumers.
    pub fn answers(&self) -> &Answers {
        self.group(&self.inner.answers)
    }

    /// What happens to statuses, and to entries whose time is over.
    pub fn statuses(&self) -> &Statuses {
        self.group(&self.inner.statuses)
    }

    /// The attempts at this target, for entries of this namespace, that ended so. It is looked up among many, so where much is
    /// counted at once, sum it up first.
    pub fn attempts(&self, namespace: &Namespace, target: &Topic, ended: Ended) -> Counter {
        let place = self.inner.places.of(namespace, target);
        self.group(&self.inner.attempts).attempts.of(&Attempt::new(place, ended))
    }

    /// The entries of this namespace for which requests came to this.
    pub fn written(&self, namespace: &Namespace, write: Write) -> Counter {
        let namespace = self.inner.places.namespace(namespace.as_str());
        self.requests().entries.of(&Written { service: "wal-writer", namespace, result: write.as_str() })
    }

    /// The bytes of payloads of entries of this namespace.
    pub fn bytes(&self, namespace: &Namespace) -> Counter {
        self.requests().bytes.of(&Named { namespace: self.inner.places.namespace(namespace.as_str()) })
    }

    /// From request to delivery, for entries of this namespace with this target.
    pub fn end_to_end(&self, namespace: &Namespace, target: &Topic) -> Durations {
        self.requests().end_to_end.of(&self.inner.places.of(namespace, target))
    }

    /// Dead letters like this one. Only an entry's namespace is taken for true: what a refused request says of itself may be anything.
    fn dead_letter(&self, letter: &OutRecord) -> Counter {
        let log_id = last_str(&letter.headers, wire::CE_ID).and_then(|id| id.parse::<LogId>().ok());
        let code = last_str(&letter.headers, wire::CE_WALERRORCODE).and_then(Code::parse);
        let labels = DeadLetter {
            namespace: match log_id {
                Some(log_id) => self.inner.places.namespace(log_id.namespace().as_str()),
                None => NO_NAMESPACE.into(),
            },
            error_code: code.map_or(Places::OTHER, Code::as_str),
        };
        self.batches().dead_letters.of(&labels)
    }

    fn stands(&self, service: &'static str, group: &str, standing: &[Standing]) {
        let own = Loop { service, standing: standing.to_vec() };
        locked(&self.inner.loops).insert(group.to_owned(), own);
    }

    /// The loops of this process, by their groups.
    pub(crate) fn loops(&self) -> HashMap<String, Loop> {
        locked(&self.inner.loops).clone()
    }

    /// How far a partition is behind, in records and in seconds, if that is known.
    pub(crate) fn lag(&self, partition: &Partition) -> Option<(i64, f64)> {
        let lags = self.inner.lags.get()?;
        Some((lags.records.known(partition)?.get(), lags.seconds.known(partition)?.get()))
    }

    /// What waits for a release now, if this process releases.
    pub(crate) fn waiting(&self) -> Option<overview::Retries> {
        let retries = self.inner.retries.get()?;
        self.set_ages();
        Some(overview::Retries { due: retries.due.get(), oldest_due_seconds: retries.oldest_due.get() })
    }

    fn set_ages(&self) {
        locked(&self.inner.before_scrape).iter().for_each(|set| set());
    }

    /// Calls `set` before every scrape: for gauges that would be out of date if they were set only when something happens, such as
    /// ages. It must be quick, and must not ask for another such call.
    pub fn before_each_scrape(&self, set: impl Fn() + Send + Sync + 'static) {
        locked(&self.inner.before_scrape).push(Box::new(set));
    }

    /// The numbers as they are now.
    pub fn encode(&self, format: Format) -> String {
        self.set_ages();
        let registry = locked(&self.inner.registry);
        let mut text = String::new();
        let result = match format {
            Format::OpenMetrics => text::encode(&mut text, &registry),
            Format::Prometheus => prometheus_text::encode(&mut text, &registry),
        };
        result.expect("a String takes everything, and every value of ours can be written");
        text
    }

    fn group<'a, G: Group>(&self, group: &'a OnceLock<G>) -> &'a G {
        group.get_or_init(|| G::declare(&mut Book::new(&mut locked(&self.inner.registry))))
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Format {
    /// The one that suits whoever sends this `Accept` header: OpenMetrics, unless only other text is wanted.
    pub fn accepted(accept: Option<&str>) -> Format {
        let accept = accept.unwrap_or("*/*");
        let takes = |name: &str| accept.split(',').any(|part| part.trim_start().starts_with(name));
        match takes("text/") && !takes("application/openmetrics-text") {
            true => Format::Prometheus,
            false => Format::OpenMetrics,
        }
    }

    /// The `Content-Type` that says so.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => prometheus_text::CONTENT_TYPE,
        }
    }
}

/// A panic elsewhere leaves nothing half done that matters here: a registry and a list only grow.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
