//! What was done, in numbers. They count what is committed, so what is done again after a crash counts once.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use wal_model::Code;
use wal_runtime::metrics::Metrics;

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

/// The numbers since the start, and the metrics that tell them.
pub struct Counts {
    tally: Mutex<Tally>,
    metrics: Metrics,
}

impl Counts {
    /// Nothing counted yet.
    pub(crate) fn told_by(metrics: Metrics) -> Counts {
        Counts { tally: Mutex::default(), metrics }
    }

    /// The numbers as they are now.
    pub fn now(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn add(&self, tally: &Tally) {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).add(tally);
        let (statuses, answers) = (self.metrics.statuses(), self.metrics.answers());
        statuses.folded.inc_by(tally.folded);
        statuses.expired.inc_by(tally.expired);
        statuses.purged.inc_by(tally.purged);
        answers.repeated.inc_by(tally.repeated);
        answers.ignored.inc_by(tally.ignored);
        answers.moved.inc_by(tally.moved);
        for (code, count) in &tally.refused {
            answers.refused.of(&(*code).into()).inc_by(*count);
        }
    }
}

impl Default for Counts {
    fn default() -> Counts {
        Counts::told_by(Metrics::new())
    }
}

#[cfg(test)]
mod tests {
    use wal_runtime::metrics::Format;

    use super::*;

    #[test]
    fn what_is_counted_is_told_by_the_process() {
        let metrics = Metrics::new();
        let counts = Counts::told_by(metrics.clone());
        let mut tally = Tally { folded: 3, expired: 2, purged: 1, repeated: 4, ..Tally::default() };
        tally.refuse(Code::SealInvalid);
        counts.add(&tally);
        counts.add(&tally);

        assert_eq!(counts.now().folded, 6);
        let text = metrics.encode(Format::OpenMetrics);
        for line in [
            "wal_status_folded_total 6",
            "wal_status_expired_total 4",
            "wal_status_purged_total 2",
            "wal_answers_repeated_total 8",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        assert!(text.contains("WAL_SEAL_INVALID"), "{text}");
    }
}
