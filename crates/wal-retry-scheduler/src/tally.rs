//! What a batch will have done once it is committed, and where it is counted then: what is given up is not counted.

use std::collections::HashMap;

use wal_model::delivery::Delivery;
use wal_model::{Code, Namespace, Timestamp, Topic};
use wal_runtime::metrics::{Counter, Ended, Metrics, Scheduled};

/// What one batch does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Next attempts that were given a due time, be it now.
    pub scheduled: u64,
    /// Records parked.
    pub hops: u64,
    /// Attempts that were due and are parked for a moment because of their target.
    pub postponed: u64,
    /// Parked attempts of cancelled rounds, dropped.
    pub cancelled: u64,
    /// Failures that were decided before.
    pub repeated: u64,
    /// Answers that change nothing.
    pub ignored: u64,
    /// Failures moved to the partition that their log id names.
    pub moved: u64,
    /// Wishes that make no sense.
    pub wishes_unreadable: u64,
    /// Records that are dead-lettered for what they are.
    pub refused: HashMap<Code, u64>,
    /// Attempts by how they ended.
    pub ended: HashMap<(Namespace, Topic, Ended), u64>,
    /// When the attempts were due that are published because they are.
    pub released: Vec<Timestamp>,
}

impl Tally {
    pub(crate) fn refused(&mut self, code: Code) {
        *self.refused.entry(code).or_default() += 1;
    }

    pub(crate) fn ended(&mut self, delivery: &Delivery, how: Ended) {
        let key = (delivery.log_id.namespace().clone(), delivery.target.clone(), how);
        *self.ended.entry(key).or_default() += 1;
    }
}

/// Counts what is committed.
pub(crate) struct Meter {
    metrics: Metrics,
    scheduled: Counter,
}

impl Meter {
    pub(crate) fn new(metrics: Metrics) -> Meter {
        let scheduled = metrics.retries().scheduled.of(&Scheduled::Retry.into());
        Meter { metrics, scheduled }
    }

    /// Counts what a batch did that is committed at `now`.
    pub(crate) fn add(&self, tally: Tally, now: Timestamp) {
        let (retries, answers) = (self.metrics.retries(), self.metrics.answers());
        self.scheduled.inc_by(tally.scheduled);
        retries.hops.inc_by(tally.hops);
        retries.postponed.inc_by(tally.postponed);
        retries.cancelled.inc_by(tally.cancelled);
        answers.repeated.inc_by(tally.repeated);
        answers.ignored.inc_by(tally.ignored);
        answers.moved.inc_by(tally.moved);
        answers.wishes_unreadable.inc_by(tally.wishes_unreadable);
        for (code, count) in tally.refused {
            answers.refused.of(&code.into()).inc_by(count);
        }
        for ((namespace, target, how), count) in tally.ended {
            self.metrics.attempts(&namespace, &target, how).inc_by(count);
        }
        for due in tally.released {
            retries.lateness.observe(now.saturating_since(due));
        }
    }
}
