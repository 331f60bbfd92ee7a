//! The keys of indexes. Stored, keep stable.
//!
//! ```text
//!   prefix: what is asked for          tail: the order of the answers
//!   ┌────┬──────┬────┬──────┐          ┌───────────┬──────────┐
//!   │ len│ text │ len│ text │   ...    │ timestamp │ key      │
//!   │  2 │      │  2 │      │          │ 8         │ 16       │   all numbers big-endian
//!   └────┴──────┴────┴──────┘          └───────────┴──────────┘
//! ```
//!
//! A length before every text: no text can run into the next, so one tenant's prefix never covers another tenant's keys.

use std::ops::Bound;

use uuid::Uuid;
use wal_model::status::{State, Status};
use wal_model::{Entry, EntryKey, Id, Namespace, Tenant, Timestamp};

use super::tables::Index;
use crate::document::{finished_at, open_deadline};
use crate::{After, Query, Range};

/// The length of a [`place`].
pub(super) const PLACE_LEN: usize = 8 + 16;

/// The beginning of an index key.
#[derive(Clone)]
struct Prefix(Vec<u8>);

impl Prefix {
    fn new() -> Prefix {
        Prefix(Vec::with_capacity(128))
    }

    fn text(mut self, text: &str) -> Prefix {
        let length = u16::try_from(text.len()).expect("names and ids have at most 256 bytes");
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn byte(mut self, byte: u8) -> Prefix {
        self.0.push(byte);
        self
    }

    fn tail(mut self, timestamp: Timestamp, key: EntryKey) -> Vec<u8> {
        self.0.extend_from_slice(&place(timestamp, key));
        self.0
    }
}

/// Timestamps are never negative, so their bytes sort as they do.
pub(super) fn time_bytes(timestamp: Timestamp) -> [u8; 8] {
    timestamp.as_millis().to_be_bytes()
}

/// A time and a key, as they end every index key: their bytes sort as they do.
pub(super) fn place(timestamp: Timestamp, key: EntryKey) -> [u8; PLACE_LEN] {
    let mut place = [0; PLACE_LEN];
    place[..8].copy_from_slice(&time_bytes(timestamp));
    place[8..].copy_from_slice(key.uuid().as_bytes());
    place
}

/// Reads what [`time_bytes`] wrote.
pub(super) fn read_time(bytes: [u8; 8]) -> Option<Timestamp> {
    Timestamp::from_millis(i64::from_be_bytes(bytes))
}

/// The (time, key) at the end of an index key; `None` if the bytes are no index key.
pub(super) fn read_tail(index_key: &[u8]) -> Option<(Timestamp, EntryKey)> {
    let tail = index_key.get(index_key.len().checked_sub(PLACE_LEN)?..)?;
    let (time, key) = tail.split_first_chunk::<8>()?;
    Some((read_time(*time)?, EntryKey::from(Uuid::from_slice(key).ok()?)))
}

fn namespace(namespace: &Namespace) -> Prefix {
    Prefix::new().text(namespace.as_str())
}

fn tenant(tenant: &Tenant, namespace: &Namespace) -> Prefix {
    Prefix::new().text(tenant.as_str()).text(namespace.as_str())
}

fn correlation(id: &Id) -> Prefix {
    Prefix::new().text(id.as_str())
}

fn request(tenant: Option<&Tenant>, id: &Id) -> Prefix {
    let prefix = match tenant {
        None => Prefix::new().byte(0),
        Some(tenant) => Prefix::new().byte(1).text(tenant.as_str()),
    };
    prefix.text(id.as_str())
}

fn status(status: Status) -> Prefix {
    Prefix::new().byte(match status {
        Status::Pending => 0,
        Status::Retrying => 1,
        Status::Failed => 2,
        Status::Completed => 3,
    })
}

/// The index keys that follow from what never changes.
pub(super) fn of_content(entry: &Entry) -> impl Iterator<Item = (Index, Vec<u8>)> {
    let by_tenant = entry.tenant.as_ref().map(|id| (Index::Tenant, tenant(id, entry.namespace())));
    let by_correlation = entry.correlation_id.as_ref().map(|id| (Index::Correlation, correlation(id)));
    let by_request = entry.request_id.as_ref().map(|id| (Index::Request, request(entry.tenant.as_ref(), id)));
    let (timestamp, key) = (entry.timestamp(), entry.key());
    [Some((Index::Namespace, namespace(entry.namespace()))), by_tenant, by_correlation, by_request]
        .into_iter()
        .flatten()
        .map(move |(index, prefix)| (index, prefix.tail(timestamp, key)))
}

/// The index keys that follow from where an entry stands.
#[derive(PartialEq)]
pub(super) struct OfState {
    pub(super) by_status: Vec<u8>,
    pub(super) by_deadline: Option<Vec<u8>>,
    pub(super) by_finished: Option<Vec<u8>>,
}

impl OfState {
    pub(super) fn of(state: &State, written_at: Timestamp, key: EntryKey) -> OfState {
        OfState {
            by_status: status(state.status()).tail(written_at, key),
            by_deadline: open_deadline(state).map(|deadline| Prefix::new().tail(deadline, key)),
            by_finished: finished_at(state).map(|at| Prefix::new().tail(at, key)),
        }
    }
}

/// A stretch of an index.
pub(super) struct Stretch {
    pub(super) index: Index,
    pub(super) from: Bound<Vec<u8>>,
    pub(super) to: Vec<u8>,
}

impl Stretch {
    /// What answers a query, after a place.
    pub(super) fn of(query: &Query, after: Option<After>) -> Stretch {
        let (index, prefix, range) = match query {
            Query::Namespace { namespace: name, range } => (Index::Namespace, namespace(name), Some(range)),
            Query::Tenant { tenant: id, namespace: name, range } => (Index::Tenant, tenant(id, name), Some(range)),
            Query::Correlation { correlation_id } => (Index::Correlation, correlation(correlation_id), None),
            Query::Status { status: word, range } => (Index::Status, status(*word), Some(range)),
            Query::Request { tenant, request_id } => (Index::Request, request(tenant.as_ref(), request_id), None),
        };
        let start = |time: [u8; 8]| {
            let mut start = prefix.0.clone();
            start.extend_from_slice(&time);
            start
        };
        let (first, end) = match range {
            Some(Range { from, to }) => (time_bytes(*from), time_bytes(*to)),
            // No time is as late as this.
            None => ([0; 8], [0xff; 8]),
        };
        Stretch {
            index,
            from: later(start(first), after.map(|at| prefix.clone().tail(at.timestamp, at.key))),
            to: start(end),
        }
    }

    /// The deadlines at or before `at`, after a place.
    pub(super) fn expired(at: Timestamp, after: Option<(Timestamp, EntryKey)>) -> Stretch {
        let after = after.map(|(deadline, key)| Prefix::new().tail(deadline, key));
        let end = at.as_millis().saturating_add(1).to_be_bytes();
        Stretch { index: Index::Deadline, from: later(vec![0; 8], after), to: end.to_vec() }
    }

    /// The finished before a time, after a place.
    pub(super) fn finished(before: Timestamp, after: Option<(Timestamp, EntryKey)>) -> Stretch {
        let after = after.map(|(at, key)| Prefix::new().tail(at, key));
        Stretch { index: Index::Finished, from: later(vec![0; 8], after), to: time_bytes(before).to_vec() }
    }

    /// Whether there can be nothing in it: redb takes no range that ends before it begins.
    pub(super) fn is_empty(&self) -> bool {
        match &self.from {
            Bound::Included(from) | Bound::Excluded(from) => *from >= self.to,
            Bound::Unbounded => false,
        }
    }
}

/// The later of two beginnings: `first` itself, or what follows `after`.
fn later(first: Vec<u8>, after: Option<Vec<u8>>) -> Bound<Vec<u8>> {
    match after {
        Some(after) if after >= first => Bound::Excluded(after),
        Some(_) | None => Bound::Included(first),
    }
}
