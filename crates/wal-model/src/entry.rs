//! An entry: one operation in the log. Immutable content, changing status.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::hash::ContentHash;
use crate::id::{Coordinates, EntryKey, LogId};
use crate::lifecycle::Lifecycle;
use crate::name::{Id, Namespace, Tenant, Topic};
use crate::record::Header;
use crate::status::{Outcome, State};

/// Whether consumers of the target are expected to answer. Fixed at admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answers {
    /// Completed or failed, by a consumer.
    Expected,
    /// Nobody answers: an entry is completed when it is delivered.
    None,
}

impl Answers {
    /// The word on the wire and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Answers::Expected => "expected",
            Answers::None => "none",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Answers> {
        [Answers::Expected, Answers::None].into_iter().find(|answers| answers.as_str() == text)
    }
}

/// The place of an entry in the batch it was written with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BatchPlace {
    /// From 0.
    pub index: u32,
    /// How many entries the batch has.
    pub count: u32,
    /// The target that the policy named for members without one when the batch was first stored: whoever completes a half-stored
    /// batch uses it again. `None` where every member names its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_target: Option<Topic>,
}

/// One operation in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, which holds its namespace, its time and the store's key.
    pub log_id: LogId,
    /// The Kafka topic it is delivered to.
    pub target: Topic,
    /// How long and how often it is tried.
    pub lifecycle: Lifecycle,
    /// Whether consumers are expected to answer.
    pub answers: Answers,
    /// Who it belongs to.
    pub tenant: Option<Tenant>,
    /// Who wrote it.
    pub user: Option<Id>,
    /// What it does.
    pub operation: Option<Id>,
    /// Links related operations.
    pub correlation_id: Option<Id>,
    /// The caller's word for the request.
    pub request_id: Option<Id>,
    /// The caller's word for the operation.
    pub idempotency_key: Option<Id>,
    /// When the first attempt is wanted; `None` is at once.
    pub deliver_at: Option<Timestamp>,
    /// The record's key: entries with the same one keep their order.
    pub ordering_key: Option<Bytes>,
    /// Media type of the payload.
    pub content_type: Option<String>,
    /// The operation's data, byte for byte as it was sent.
    pub payload: Bytes,
    /// The caller's own headers, in order.
    pub headers: Vec<Header>,
    /// Hash over the meaning of the whole request: the same identity with another hash is a conflict.
    pub request_hash: ContentHash,
    /// Its place in a batch; `None` for a request of its own.
    pub batch: Option<BatchPlace>,
    /// The ingress record that made it.
    pub origin: Coordinates,
    /// What happened to it.
    pub state: State,
}

impl Entry {
    /// The store's key.
    pub fn key(&self) -> EntryKey {
        self.log_id.key()
    }

    /// The namespace.
    pub fn namespace(&self) -> &Namespace {
        self.log_id.namespace()
    }

    /// When it was written: its ingress record's time.
    pub fn timestamp(&self) -> Timestamp {
        self.log_id.timestamp()
    }

    /// When the attempt that is owed was due, or will be; `None` where none is. What was due long ago and is still owed was delivered
    /// and not answered, or lost.
    pub fn owed_since(&self) -> Option<Timestamp> {
        let standing = &self.state.standing;
        match standing.outcome {
            Outcome::Pending => Some(self.deliver_at.map_or(standing.at, |at| at.max(standing.at))),
            Outcome::Retrying { next_attempt_at } => Some(next_attempt_at),
            Outcome::Failed { .. } | Outcome::Completed { .. } => None,
        }
    }
}
