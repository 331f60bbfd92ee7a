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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    namespace: Arc<str>,
    target: Arc<str>,
}

/// The first pairs of namespace and target, which are told apart; all later ones are told as one.
#[derive(Debug, Default)]
pub struct Places {
    known: RwLock<HashSet<Place>>,
}

impl Places {
    /// How many pairs are told apart: with seven outcomes each, some 1,400 series, which no scrape notices.
    pub const LIMIT: usize = 200;
    /// What stands for all others, in both labels.
    pub const OTHER: &str = "other";

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
}
