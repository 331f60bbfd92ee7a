//! Settlement: what is owed to a record once it is known what the store holds. Pure.

use std::time::Duration;

use wal_model::status::Reason;
use wal_model::{Code, ContentHash, Coordinates, Entry, Refusal, Timestamp};
use wal_runtime::brokers::Target;

/// What an entry owes to the record at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owed {
    /// The record that made the entry, and nothing has happened since: its first delivery.
    Delivery,
    /// The record that made the entry, and something has happened since: receipt and audit again.
    Nothing,
    /// Another record: the caller's repeat, answered and not delivered.
    Repeat,
}

/// What a stored entry owes to a record.
pub(crate) fn owed(entry: &Entry, coordinates: &Coordinates) -> Owed {
    if entry.origin != *coordinates {
        Owed::Repeat
    } else if entry.state.is_untouched() {
        Owed::Delivery
    } else {
        Owed::Nothing
    }
}

/// Whether what is stored under an identity is what the request says.
pub(crate) fn check_same(stored: &Entry, hash: ContentHash) -> Result<(), Refusal> {
    if stored.request_hash == hash {
        return Ok(());
    }
    let message = format!("the same identity already stands for another request: {}", stored.log_id);
    Err(Refusal::new(Code::IdentityConflict, message))
}

/// What becomes of an owed delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is published.
    Publish,
    /// It cannot be published now, and it is too early to say never.
    Wait(&'static str),
    /// It will never be published.
    Fail(Reason),
}

/// Decides over the delivery of a stored entry whose record would take `size` bytes.
pub(crate) fn verdict(entry: &Entry, size: usize, target: Target, unknown_wait: Duration, now: Timestamp) -> Verdict {
    if now > entry.state.deadline() {
        return Verdict::Fail(Reason::Expired);
    }
    match target {
        Target::Takes(limit) if size <= limit => Verdict::Publish,
        Target::Takes(_) => Verdict::Wait("the target does not take records of this size any more"),
        Target::Missing(for_at_least) if for_at_least >= unknown_wait => Verdict::Fail(Reason::Undeliverable),
        Target::Missing(_) => Verdict::Wait("the target is unknown to the brokers"),
        Target::Unanswered => Verdict::Wait("the brokers do not say whether the target exists"),
    }
}
