//! The promise: what every backend keeps, written above each method and proved by the conformance suite.

use std::fmt;

use async_trait::async_trait;
use uuid::Uuid;
use wal_model::ack::Ack;
use wal_model::status::{State, Status};
use wal_model::{Entry, EntryKey, Id, LogId, Namespace, Refusal, Tenant, Timestamp};

/// Who a store is: made with it, never changed, so that a reader's place in Kafka can name the store it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StoreId(pub Uuid);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What became of one entry of an insert.
#[derive(Clone, Debug, PartialEq)]
pub enum Inserted {
    /// It was not there and now is, on disk.
    Stored,
    /// An entry with this key was there before, and is on disk: this one. Nothing was changed.
    Present(Box<Entry>),
    /// The store can never keep this entry, whatever it is asked; the others of the insert are not touched by that.
    Refused(Refusal),
}

/// What became of one event of an apply.
#[derive(Clone, Debug, PartialEq)]
pub enum Applied {
    /// It is folded in; this is the state that is stored now, changed or not.
    State(Box<State>),
    /// There is no such entry (yet).
    Unknown,
    /// What is stored under the key has another log id or belongs to another tenant. It was not touched.
    Other,
}

/// A finished entry, as far as a purge needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The entry.
    pub log_id: LogId,
    /// When its standing event happened.
    pub at: Timestamp,
}

/// The time range of a query: `from` included, `to` excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first time included.
    pub from: Timestamp,
    /// The first time excluded.
    pub to: Timestamp,
}

/// The questions a store answers by an index. All answers come in the order of (timestamp, key).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// The entries of a namespace, written within a range.
    Namespace {
        /// The namespace.
        namespace: Namespace,
        /// When written.
        range: Range,
    },
    /// The entries of one tenant in a namespace, written within a range.
    Tenant {
        /// The tenant.
        tenant: Tenant,
        /// The namespace.
        namespace: Namespace,
        /// When written.
        range: Range,
    },
    /// The entries that were linked by a correlation id.
    Correlation {
        /// The correlation id.
        correlation_id: Id,
    },
    /// The entries that stand so now, written within a range.
    Status {
        /// Where they stand.
        status: Status,
        /// When written.
        range: Range,
    },
    /// The entries of one tenant (or of none) that one request wrote.
    Request {
        /// The tenant; `None` is the entries without one.
        tenant: Option<Tenant>,
        /// The caller's word for the request.
        request_id: Id,
    },
}

/// A place between two answers of a query: what comes after this entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct After {
    /// When the last answer was written.
    pub timestamp: Timestamp,
    /// The last answer's key.
    pub key: EntryKey,
}

/// Some answers to a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// At most as many as asked for, in order.
    pub entries: Vec<Entry>,
    /// Where the next page begins; `None` if there is nothing after these.
    pub next: Option<After>,
}

/// Why a store did not answer, by what the caller can do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not now; the same call again may succeed. What was asked for may or may not have happened.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// It reads and does not write until a person has acted: a licence limit, too few copies in sync, a full disk. What was asked for may
    /// or may not have happened; the same call succeeds some day.
    #[error("the store does not write: {0}")]
    ReadOnly(String),
    /// What is stored cannot be read; a person must look.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
}

/// What keeps entries.
#[async_trait]
pub trait EntryStore: Send + Sync {
    /// The store's id: the same for as long as the store exists.
    fn id(&self) -> StoreId;

    /// Stores entries that are not there yet.
    ///
    /// Ok: one answer per entry, in order. Every `Stored` and every `Present` entry is on disk and survives power loss.
    /// Of two entries with one key, in one call or in two at the same time, exactly one is `Stored`; the others get it as
    /// `Present`. Err: any of them may be stored; the same call again tells.
    async fn insert(&self, entries: &[Entry]) -> Result<Vec<Inserted>, Error>;

    /// Reads entries by key: one answer per key, in order. Sees every insert and apply that returned before.
    async fn get(&self, keys: &[EntryKey]) -> Result<Vec<Option<Entry>>, Error>;

    /// Answers a query: at most `limit` (at least 1) entries after a place, in the order of (timestamp, key).
    async fn scan(&self, query: &Query, after: Option<After>, limit: usize) -> Result<Page, Error>;

    /// Folds events into the state of the entries they speak of, as [`State::join`] does.
    ///
    /// An event is folded only if the log id and the tenant it names are those of the entry. Ok: one answer per event, in order; what
    /// is folded is on disk. An entry may be spoken of by several. Err: any of them may be folded; the same call again changes
    /// nothing more. No payload is read or written.
    async fn apply(&self, events: &[Ack]) -> Result<Vec<Applied>, Error>;

    /// Unfinished entries whose deadline is at or before `at`: at most `limit`, the earliest deadline first, after a place
    /// given by the deadline and key of the last answer.
    async fn expired(
        &self,
        at: Timestamp,
        after: Option<(Timestamp, EntryKey)>,
        limit: usize,
    ) -> Result<Vec<Entry>, Error>;

    /// Finished entries whose standing event happened before `before`: at most `limit`, the earliest first, after a place given by
    /// the time and key of the last answer.
    async fn finished(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, EntryKey)>,
        limit: usize,
    ) -> Result<Vec<Finished>, Error>;

    /// Removes those of some entries that are finished and whose standing event happened before `finished_before`.
    ///
    /// Ok: how many this call removed; they are in no answer any more, and their keys are free. An entry that is unfinished (again),
    /// finished later or gone already is not touched. Err: any of them may be removed; the same call again removes the rest.
    async fn remove(&self, keys: &[EntryKey], finished_before: Timestamp) -> Result<usize, Error>;
}
