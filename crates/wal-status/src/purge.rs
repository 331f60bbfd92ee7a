//! Purge: what has been finished for long enough. Pure.
//!
//! First the tombstone on `wal.status`, in a transaction; when that is committed the entry is removed from the store. A crash in
//! between leaves a finished entry that the next sweep finds again. So whoever follows `wal.status` may learn a little early that an
//! entry is gone. (One that stood still exactly between the two may remove an entry of which another has told the state again
//! meanwhile; the store is right even so, since it removes only what is still finished, and what is left is that last word.)

use std::collections::HashMap;
use std::time::Duration;

use wal_model::{EntryKey, Timestamp};
use wal_store::Finished;

/// The time before which an entry must have finished to be purged now.
pub(crate) fn limit(now: Timestamp, retention: Duration) -> Timestamp {
    let retention = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(now.as_millis().saturating_sub(retention)).unwrap_or(Timestamp::EPOCH)
}

/// Whether an entry is to be purged. What finished did so by some clock, which may be wrong; when an entry was written is the
/// broker's own word, and no entry goes before its request is gone from ingress.
pub(crate) fn is_due(finished: &Finished, limit: Timestamp) -> bool {
    finished.at.max(finished.log_id.timestamp()) < limit
}

/// Entries whose tombstones have been published, and how their partitions were held then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tombstoned {
    /// The entries, each with its partition and the number of its assignment.
    pub entries: HashMap<EntryKey, (i32, u64)>,
    /// The time before which they finished.
    pub limit: Timestamp,
}

impl Tombstoned {
    /// An event of an entry was folded after its tombstone, and its state published again: it needs another tombstone first.
    pub(crate) fn keep(&mut self, key: EntryKey) {
        self.entries.remove(&key);
    }

    /// The entries that can be removed: their partitions have been held all the time, so nobody else published a state after the
    /// tombstone.
    pub(crate) fn removable(&self, assignments: &HashMap<i32, u64>) -> Vec<EntryKey> {
        let is_held =
            |(_, (partition, assignment)): &(&EntryKey, &(i32, u64))| assignments.get(partition) == Some(assignment);
        self.entries.iter().filter(is_held).map(|(key, _)| *key).collect()
    }
}

#[cfg(test)]
mod tests {
    use wal_store::samples::{WRITTEN_AT, entry, time};

    use super::*;

    #[test]
    fn an_entry_goes_when_it_was_written_and_finished_before_the_retention() {
        let of = |at| Finished { log_id: entry("one").log_id, at: time(at) };
        let day = Duration::from_secs(86_400);
        let now = |millis| time(WRITTEN_AT + 86_400_000 + millis);
        assert!(!is_due(&of(WRITTEN_AT + 10), limit(now(10), day)));
        assert!(is_due(&of(WRITTEN_AT + 10), limit(now(11), day)));
        // Finished before it was written: a clock was wrong.
        assert!(!is_due(&of(0), limit(now(0), day)));
        assert!(is_due(&of(0), limit(now(1), day)));
        assert_eq!(limit(time(5), day), Timestamp::EPOCH);
        assert_eq!(limit(time(5), Duration::MAX), Timestamp::EPOCH);
    }

    #[test]
    fn only_what_is_still_held_and_was_not_spoken_of_is_removed() {
        let key = |name| entry(name).key();
        let entries = HashMap::from([(key("a"), (1, 7)), (key("b"), (2, 7)), (key("c"), (1, 7)), (key("d"), (3, 7))]);
        let mut tombstoned = Tombstoned { entries, limit: time(0) };
        tombstoned.keep(key("c"));
        tombstoned.keep(key("nobody"));
        assert_eq!(tombstoned.removable(&HashMap::from([(1, 7), (2, 8)])), [key("a")]);
    }
}
