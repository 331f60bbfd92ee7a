//! Label sets. Each can only be made of words of ours, or of names of which only so many are told apart.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::encoding::EncodeLabelSet;
use wal_model::status::{Outcome, Reason};
use wal_model::{Code, Namespace, Topic};

use super::Labels;

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Build {
    version: &'static str,
    revision: &'static str,
    rustc: &'static str,
}

impl Build {
    /// This build. Whoever builds from a commit names it in `WAL_REVISION`.
    pub(super) const OWN: Build = Build {
        version: env!("CARGO_PKG_VERSION"),
        revision: match option_env!("WAL_REVISION") {
            Some(revision) => revision,
            None => "unknown",
        },
        rustc: env!("WAL_RUSTC"),
    };
}

/// The service that counts: several may share a process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Service {
    service: &'static str,
}

impl Service {
    /// The service of this name.
    pub fn new(service: &'static str) -> Service {
        Service { service }
    }
}

/// How a batch of a service ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ServiceBatch {
    service: &'static str,
    result: &'static str,
}

/// How a batch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchEnd {
    /// Published and committed.
    Committed,
    /// Given up, to be read again.
    GivenUp,
}

impl ServiceBatch {
    /// Batches of this service that ended so.
    pub fn new(service: &'static str, end: BatchEnd) -> ServiceBatch {
        let result = match end {
            BatchEnd::Committed => "committed",
            BatchEnd::GivenUp => "given_up",
        };
        ServiceBatch { service, result }
    }
}

/// A part of the way of a service's batches.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ServiceStage {
    service: &'static str,
    stage: &'static str,
}

/// What a batch goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchStage {
    /// Decided, and stored where that is to be done.
    Handle,
    /// Published and committed.
    Publish,
}

impl ServiceStage {
    /// This part of the way of this service's batches.
    pub fn new(service: &'static str, stage: BatchStage) -> ServiceStage {
        let stage = match stage {
            BatchStage::Handle => "handle",
            BatchStage::Publish => "publish",
        };
        ServiceStage { service, stage }
    }
}

/// Spans by what became of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SpansExported {
    result: &'static str,
}

/// What becomes of spans that were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Export {
    /// The collector took them.
    Taken,
    /// It did not, or did not answer.
    Failed,
}

impl SpansExported {
    /// Spans that ended so.
    pub fn new(end: Export) -> SpansExported {
        let result = match end {
            Export::Taken => "taken",
            Export::Failed => "failed",
        };
        SpansExported { result }
    }
}

/// A part of the way of a batch of requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Stage {
    stage: &'static str,
}

/// What a batch of requests goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Append {
    /// Read, and checked against what the brokers know.
    Validate,
    /// Stored and synced.
    Store,
    /// Published and committed, the wait for its turn included.
    Produce,
}

impl From<Append> for Stage {
    fn from(append: Append) -> Stage {
        let stage = match append {
            Append::Validate => "validate",
            Append::Store => "store",
            Append::Produce => "produce",
        };
        Stage { stage }
    }
}

/// What a batch waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Waited {
    what: &'static str,
}

/// Who keeps a batch of requests waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitedFor {
    /// Brokers that do not tell of a topic.
    Brokers,
    /// The target of a stored entry, which is not there or may not be written.
    Target,
}

impl From<WaitedFor> for Waited {
    fn from(waited_for: WaitedFor) -> Waited {
        match waited_for {
            WaitedFor::Brokers => Waited { what: "brokers" },
            WaitedFor::Target => Waited { what: "target" },
        }
    }
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Named {
    pub(super) namespace: Arc<str>,
}

/// Entries of a namespace, by what came of the request for them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Written {
    pub(super) service: &'static str,
    pub(super) namespace: Arc<str>,
    pub(super) result: &'static str,
}

/// What comes of a request for an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Stored, and its first delivery is made or waits for its time.
    Stored,
    /// The caller's repeat of an earlier request.
    Repeated,
    /// The same record again, whose entry has been delivered before.
    Again,
}

impl Write {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Write::Stored => "stored",
            Write::Repeated => "repeated",
            Write::Again => "again",
        }
    }
}

/// A dead letter: of which namespace, and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DeadLetter {
    pub(super) namespace: Arc<str>,
    pub(super) error_code: &'static str,
}

/// A partition that a group reads. The topics are the log's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Partition {
    /// The group.
    pub group: Arc<str>,
    /// The topic.
    pub topic: Arc<str>,
    /// Its number.
    pub partition: i32,
}

/// A call of a store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Call {
    /// Which kind of store.
    pub store: &'static str,
    /// Which of its methods.
    pub op: &'static str,
}

/// A route over HTTP, as it is declared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Route {
    /// Such as `/v1/entries/{log_id}`.
    pub route: Arc<str>,
}

/// A route, and how it was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Asked {
    /// Such as `/v1/entries/{log_id}`.
    pub route: Arc<str>,
    /// Such as 404.
    pub status: u16,
}

/// Why an attempt waits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Scheduling {
    what: &'static str,
}

/// What waits to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduled {
    /// A first delivery that is wanted later.
    First,
    /// The attempt after a failed one.
    Retry,
}

impl From<Scheduled> for Scheduling {
    fn from(scheduled: Scheduled) -> Scheduling {
        match scheduled {
            Scheduled::First => Scheduling { what: "first" },
            Scheduled::Retry => Scheduling { what: "retry" },
        }
    }
}

/// Why something was refused: its error code.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Refused {
    code: &'static str,
}

impl From<Code> for Refused {
    fn from(code: Code) -> Refused {
        Refused { code: code.as_str() }
    }
}

/// An attempt: where, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Attempt {
    namespace: Arc<str>,
    target: Arc<str>,
    outcome: &'static str,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// The consumer completed it, or it was delivered and no answer is wanted.
    Completed,
    /// It failed, and another one follows.
    Retrying,
    /// It was the last one, for this reason.
    Failed(Reason),
}

impl Ended {
    /// How an attempt ended that has this outcome; `None` if it has not ended.
    pub fn of(outcome: &Outcome) -> Option<Ended> {
        match outcome {
            Outcome::Pending => None,
            Outcome::Retrying { .. } => Some(Ended::Retrying),
            Outcome::Failed { reason } => Some(Ended::Failed(*reason)),
            Outcome::Completed { .. } => Some(Ended::Completed),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Ended::Completed => "completed",
            Ended::Retrying => "retrying",
            Ended::Failed(reason) => reason.as_str(),
        }
    }
}

impl Attempt {
    pub(super) fn new(Place { namespace, target }: Place, ended: Ended) -> Attempt {
        Attempt { namespace, target, outcome: ended.as_str() }
    }
}

/// A namespace and a target, as labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Place {
    namespace: Arc<str>,
    target: Arc<str>,
}

/// The first pairs of namespace and target, which are told apart; all later ones are told as one.
#[derive(Debug, Default)]
pub struct Places {
    known: RwLock<HashSet<Place>>,
    namespaces: RwLock<HashSet<Arc<str>>>,
}

impl Places {
    /// How many pairs are told apart: with a histogram each, some 2,000 series, which no scrape notices.
    pub const LIMIT: usize = 100;
    /// What stands for all others, in both labels.
    pub const OTHER: &str = "other";

    /// This namespace as a label: its own name as long as there are few, and the name of all others when there are many.
    pub(super) fn namespace(&self, namespace: &str) -> Arc<str> {
        let known = self.namespaces.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = known.get(namespace) {
            return Arc::clone(name);
        }
        drop(known);
        let mut known = self.namespaces.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= Places::LIMIT && !known.contains(namespace) {
            return Places::OTHER.into();
        }
        let name: Arc<str> = namespace.into();
        known.insert(Arc::clone(&name));
        name
    }

    /// The labels of this pair.
    pub fn of(&self, namespace: &Namespace, target: &Topic) -> Place {
        let wanted = Place { namespace: namespace.as_str().into(), target: target.as_str().into() };
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = known.get(&wanted) {
            return place.clone();
        }
        let is_full = known.len() >= Places::LIMIT;
        drop(known);
        if is_full {
            return Place { namespace: Places::OTHER.into(), target: Places::OTHER.into() };
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        // Others may have come in between.
        match known.len() < Places::LIMIT || known.contains(&wanted) {
            true => {
                known.insert(wanted.clone());
                wanted
            }
            false => Place { namespace: Places::OTHER.into(), target: Places::OTHER.into() },
        }
    }
}

macro_rules! names {
    ($($labels:ty: $names:expr;)+) => {
        $(impl Labels for $labels {
            const NAMES: &'static [&'static str] = &$names;
        })+
    };
}

names! {
    Build: ["version", "revision", "rustc"];
    Service: ["service"];
    ServiceBatch: ["service", "result"];
    Scheduling: ["what"];
    Refused: ["code"];
    Attempt: ["namespace", "target", "outcome"];
    ServiceStage: ["service", "stage"];
    SpansExported: ["result"];
    Stage: ["stage"];
    Waited: ["what"];
    Named: ["namespace"];
    Written: ["service", "namespace", "result"];
    Place: ["namespace", "target"];
    DeadLetter: ["namespace", "error_code"];
    Partition: ["group", "topic", "partition"];
    Call: ["store", "op"];
    Route: ["route"];
    Asked: ["route", "status"];
}
