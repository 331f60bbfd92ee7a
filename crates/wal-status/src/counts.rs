//! What was done, in numbers. They count what is committed, so what is done again after a crash counts once.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use wal_model::Code;

/// Numbers of records and entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events that were folded and are part of what is stored: the standing one of the entry, or that of its attempt.
    pub folded: u64,
    /// Events that were folded and changed nothing: a greater one of the same attempt was there, or the same answer.
    pub repeated: u64,
    /// Answers to replayed copies, and of consumers that nobody asked.
    pub ignored: u64,
    /// Records that stood in another partition than their log id names, and were moved.
    pub moved: u64,
    /// Events of entries that are not in the store, put back to be asked again.
    pub unknown: u64,
    /// Entries that expired.
    pub expired: u64,
    /// Entries that were purged.
    pub purged: u64,
    /// Records that were refused, by reason.
    pub refused: BTreeMap<Code, u64>,
}

impl Tally {
    pub(crate) fn refuse(&mut self, code: Code) {
        *self.refused.entry(code).or_default() += 1;
    }

    fn add(&mut self, other: &Tally) {
        let Tally { folded, repeated, ignored, moved, unknown, expired, purged, refused } = other;
        self.folded += folded;
        self.repeated += repeated;
        self.ignored += ignored;
        self.moved += moved;
        self.unknown += unknown;
        self.expired += expired;
        self.purged += purged;
        for (code, count) in refused {
            *self.refused.entry(*code).or_default() += count;
        }
    }
}

/// The numbers since the start.
#[derive(Debug, Default)]
pub struct Counts(Mutex<Tally>);

impl Counts {
    /// The numbers as they are now.
    pub fn now(&self) -> Tally {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn add(&self, tally: &Tally) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(tally);
    }
}
