//! Expiry: which entries are past their deadline for certain. Pure.
//!
//! That an entry is unfinished in the store says little: its completion may lie unread on `wal.acks`. So an entry expires only when
//! everything has been folded that stood in its partition after its deadline:
//!
//! ```text
//!   deadline ──▶ asked: where does the partition end? ──▶ folded up to there ──▶ still unfinished: expired
//! ```
//!
//! Two instances never decide about one entry: only who holds a partition can commit its sweep, and whoever holds it next must ask
//! and fold again, and so meets the event that says it has expired. For the same reason an instance asks again after its own events.

use std::collections::HashMap;
use std::time::Duration;

use wal_model::status::Status;
use wal_model::{Entry, Timestamp};

/// How far partitions have been folded, in terms of time.
#[derive(Debug, Default)]
pub(crate) struct Frontiers(HashMap<i32, Frontier>);

#[derive(Debug, Default)]
struct Frontier {
    /// Whatever stood in the partition at this time has been folded.
    folded: Option<Timestamp>,
    /// At this time the partition ended there, or further on.
    asked: Option<(Timestamp, i64)>,
}

impl Frontiers {
    /// Takes in where the partitions that are held stand: everything before these offsets has been folded. Others are forgotten.
    pub(crate) fn advance(&mut self, next: &HashMap<i32, i64>) {
        self.0.retain(|partition, _| next.contains_key(partition));
        for (partition, frontier) in &mut self.0 {
            if let Some((at, _)) = frontier.asked.take_if(|(_, end)| next[partition] >= *end) {
                frontier.folded = frontier.folded.max(Some(at));
            }
        }
    }

    /// Whether the end of a partition must be asked for: no answer is being waited for already.
    pub(crate) fn is_to_ask(&self, partition: i32) -> bool {
        self.0.get(&partition).is_none_or(|frontier| frontier.asked.is_none())
    }

    /// Takes in where partitions end. `at` was read before they were asked.
    pub(crate) fn asked(&mut self, at: Timestamp, ends: HashMap<i32, i64>) {
        for (partition, end) in ends {
            self.0.entry(partition).or_default().asked = Some((at, end));
        }
    }

    /// An event of our own goes to a partition: nothing more is certain of it before that has been folded.
    pub(crate) fn reopen(&mut self, partition: i32) {
        self.0.remove(&partition);
    }

    /// Whether everything has been folded that stood in a partition at some time after `deadline`.
    fn is_past(&self, partition: i32, deadline: Timestamp) -> bool {
        self.0.get(&partition).and_then(|frontier| frontier.folded).is_some_and(|folded| folded > deadline)
    }
}

/// What is to be done about an unfinished entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing yet: its deadline has not passed, or it may be parked, and the scheduler knows better.
    Wait,
    /// Its partition must be folded further first.
    Fold,
    /// It has expired.
    Expired,
}

/// Decides over an unfinished entry whose events go to a partition that is held.
pub(crate) fn verdict(
    entry: &Entry,
    partition: i32,
    frontiers: &Frontiers,
    parked_wait: Duration,
    now: Timestamp,
) -> Verdict {
    let deadline = entry.state.deadline();
    let wait = if may_be_parked(entry) { parked_wait } else { Duration::ZERO };
    if now <= deadline.saturating_add(wait) {
        return Verdict::Wait;
    }
    if frontiers.is_past(partition, deadline) { Verdict::Expired } else { Verdict::Fold }
}

/// Whether the attempt that is owed may lie on a delay topic: the next one, or a first one that was wanted later.
fn may_be_parked(entry: &Entry) -> bool {
    let is_delayed = entry.deliver_at.is_some_and(|at| at > entry.timestamp());
    match entry.state.status() {
        Status::Retrying => true,
        Status::Pending => is_delayed,
        Status::Failed | Status::Completed => false,
    }
}

#[cfg(test)]
mod tests {
    use wal_store::samples::{WRITTEN_AT, after, entry, redriven, retrying, time};

    use super::*;

    const PARKED: Duration = Duration::from_secs(300);

    /// Folded up to an end that was asked for at this time.
    fn folded(partition: i32, at: Timestamp) -> Frontiers {
        let mut frontiers = Frontiers::default();
        frontiers.asked(at, HashMap::from([(partition, 10)]));
        frontiers.advance(&HashMap::from([(partition, 10)]));
        frontiers
    }

    fn later(time: Timestamp, millis: u64) -> Timestamp {
        time.saturating_add(Duration::from_millis(millis))
    }

    #[test]
    fn an_entry_expires_once_its_partition_was_folded_past_its_deadline() {
        let one = entry("one");
        let deadline = one.state.deadline();
        let verdict = |frontiers: &Frontiers, now| verdict(&one, 3, frontiers, PARKED, now);
        assert_eq!(verdict(&Frontiers::default(), later(deadline, 1)), Verdict::Fold);
        assert_eq!(verdict(&folded(3, deadline), later(deadline, 1)), Verdict::Fold);
        assert_eq!(verdict(&folded(2, later(deadline, 1)), later(deadline, 1)), Verdict::Fold);
        assert_eq!(verdict(&folded(3, later(deadline, 1)), later(deadline, 1)), Verdict::Expired);
        // Whatever was folded, by a clock that ran ahead: a deadline that has not passed by this one has not passed.
        assert_eq!(verdict(&folded(3, Timestamp::MAX), deadline), Verdict::Wait);
    }

    #[test]
    fn what_may_be_parked_is_left_to_the_scheduler_for_a_while() {
        let one = entry("one");
        let deadline = one.state.deadline();
        let delayed = Entry { deliver_at: Some(time(WRITTEN_AT + 1)), ..one.clone() };
        let at_once = Entry { deliver_at: Some(time(WRITTEN_AT)), ..one.clone() };
        let failed_once = after(one.clone(), &[retrying(&one, 1)]);
        let again = after(one.clone(), &[retrying(&one, 1), redriven(&one, 2, 2)]);
        let frontiers = folded(3, Timestamp::MAX);
        let verdict = |entry: &Entry, now| verdict(entry, 3, &frontiers, PARKED, now);
        for parked in [&delayed, &failed_once] {
            assert_eq!(verdict(parked, later(deadline, 300_000)), Verdict::Wait);
            assert_eq!(verdict(parked, later(deadline, 300_001)), Verdict::Expired);
        }
        assert_eq!(verdict(&at_once, later(deadline, 1)), Verdict::Expired);
        assert_eq!(verdict(&again, later(again.state.deadline(), 1)), Verdict::Expired);
    }

    #[test]
    fn an_end_counts_when_it_is_reached_and_for_the_time_it_was_asked_at() {
        let next = |offset| HashMap::from([(3, offset)]);
        let (early, late) = (time(WRITTEN_AT), time(WRITTEN_AT + 1000));
        let mut frontiers = Frontiers::default();
        assert!(frontiers.is_to_ask(3));
        frontiers.asked(late, HashMap::from([(3, 10)]));
        assert!(!frontiers.is_to_ask(3));
        frontiers.advance(&next(9));
        assert!(!frontiers.is_past(3, early) && !frontiers.is_to_ask(3));
        frontiers.advance(&next(11));
        assert!(frontiers.is_past(3, early) && !frontiers.is_past(3, late) && frontiers.is_to_ask(3));
        // A clock that was set back does not take away what is certain.
        frontiers.asked(early, HashMap::from([(3, 11)]));
        frontiers.advance(&next(11));
        assert!(frontiers.is_past(3, early));
    }

    #[test]
    fn a_partition_that_went_away_or_had_an_event_of_ours_is_asked_about_again() {
        let mut frontiers = folded(3, Timestamp::MAX);
        frontiers.advance(&HashMap::from([(4, 10)]));
        assert!(!frontiers.is_past(3, Timestamp::EPOCH));
        let mut frontiers = folded(3, Timestamp::MAX);
        frontiers.asked(Timestamp::MAX, HashMap::from([(3, 10)]));
        frontiers.reopen(3);
        frontiers.advance(&HashMap::from([(3, 10)]));
        assert!(!frontiers.is_past(3, Timestamp::EPOCH) && frontiers.is_to_ask(3));
    }
}
