//! What happened to an entry: a join, so that events may come late, twice and in any order.
//!
//! ```text
//!   greatest of ( completed?, round, closed?, attempt, pending < retrying < failed )
//!   ties: the reason that stands first in [`Reason`], then the smaller event id, then the earlier telling of the same event
//! ```
//!
//! [`State::join`] is commutative, associative and idempotent; that is all a status needs to be right in the end.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Timestamp;

/// The specification's word for where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Stored; an attempt is owed or under way.
    Pending,
    /// An attempt failed; the next one is scheduled.
    Retrying,
    /// Will not be tried again by itself.
    Failed,
    /// Done.
    Completed,
}

impl Status {
    /// The word on the wire and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Retrying => "retrying",
            Status::Failed => "failed",
            Status::Completed => "completed",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Status> {
        [Status::Pending, Status::Retrying, Status::Failed, Status::Completed]
            .into_iter()
            .find(|status| status.as_str() == text)
    }

    /// Whether nothing more happens by itself.
    pub fn is_finished(self) -> bool {
        matches!(self, Status::Failed | Status::Completed)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an entry failed for good. The order decides ties: the first wins. Stored, keep stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// Every allowed retry failed.
    Exhausted,
    /// A consumer said that retrying cannot help.
    Rejected,
    /// The target does not exist.
    Undeliverable,
    /// Somebody cancelled it.
    Cancelled,
    /// The deadline passed.
    Expired,
}

impl Reason {
    /// The word on the wire and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Exhausted => "exhausted",
            Reason::Rejected => "rejected",
            Reason::Undeliverable => "undeliverable",
            Reason::Cancelled => "cancelled",
            Reason::Expired => "expired",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Reason> {
        [Reason::Exhausted, Reason::Rejected, Reason::Undeliverable, Reason::Cancelled, Reason::Expired]
            .into_iter()
            .find(|reason| reason.as_str() == text)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error as a consumer or a service reported it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Failure {
    /// A code for machines.
    pub code: String,
    /// A message for people.
    pub message: String,
}

impl Failure {
    /// A code and a message.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Failure {
        Failure { code: code.into(), message: message.into() }
    }
}

/// What an event says of its attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Outcome {
    /// The round begins.
    Pending,
    /// The attempt failed and the next is due at a time.
    Retrying {
        /// When.
        next_attempt_at: Timestamp,
    },
    /// The entry will not be tried again in this round.
    Failed {
        /// Why.
        reason: Reason,
    },
    /// The attempt did it.
    Completed {
        /// What the consumer had to say, as JSON text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result: Option<String>,
    },
}

impl Outcome {
    /// The specification's word for it.
    pub fn status(&self) -> Status {
        match self {
            Outcome::Pending => Status::Pending,
            Outcome::Retrying { .. } => Status::Retrying,
            Outcome::Failed { .. } => Status::Failed,
            Outcome::Completed { .. } => Status::Completed,
        }
    }

    fn reason(&self) -> Option<Reason> {
        match self {
            Outcome::Failed { reason } => Some(*reason),
            Outcome::Pending | Outcome::Retrying { .. } | Outcome::Completed { .. } => None,
        }
    }
}

/// One thing that happened to an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Event {
    /// Its id: the same every time the event is derived from the same cause.
    pub id: Uuid,
    /// The round it belongs to.
    pub round: u32,
    /// The first attempt of that round.
    pub round_first: u32,
    /// The deadline of that round.
    pub deadline: Timestamp,
    /// The attempt it speaks of.
    pub attempt: u32,
    /// When it happened, by the clock of who says so.
    pub at: Timestamp,
    /// When the attempt was published, where whoever says so knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<Timestamp>,
    /// What happened.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The error of the attempt, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// Compares events of one entry: the greater one stands.
type Rank<'a> =
    (bool, u32, bool, u32, Status, Reverse<Option<Reason>>, Reverse<(Uuid, Timestamp, Option<&'a Failure>)>);

impl Event {
    /// What the history keeps of it: no texts, so that an entry stays small however often it is tried.
    fn brief(&self) -> Event {
        let outcome = match &self.outcome {
            Outcome::Completed { .. } => Outcome::Completed { result: None },
            Outcome::Pending | Outcome::Retrying { .. } | Outcome::Failed { .. } => self.outcome.clone(),
        };
        let brief = |failure: &Failure| Failure { code: failure.code.clone(), message: String::new() };
        Event { outcome, failure: self.failure.as_ref().map(brief), ..self.clone() }
    }

    fn rank(&self) -> Rank<'_> {
        let status = self.outcome.status();
        let is_completed = status == Status::Completed;
        let is_closed = status == Status::Failed;
        let reason = Reverse(self.outcome.reason());
        // Two services may tell the same, such as that an entry has expired, each in its words and at its time.
        let telling = Reverse((self.id, self.at, self.failure.as_ref()));
        (is_completed, self.round, is_closed, self.attempt, status, reason, telling)
    }

    /// Compares events of one attempt: what was said of the attempt itself stands above what ended its round from outside.
    fn rank_in_history(&self) -> (bool, Rank<'_>) {
        let is_of_attempt = match self.outcome {
            Outcome::Failed { reason } => match reason {
                Reason::Exhausted | Reason::Rejected => true,
                Reason::Undeliverable | Reason::Cancelled | Reason::Expired => false,
            },
            Outcome::Retrying { .. } | Outcome::Completed { .. } => true,
            Outcome::Pending => false,
        };
        (is_of_attempt, self.rank())
    }
}

/// Where an entry stands, and every attempt that is known of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The greatest event so far.
    pub standing: Event,
    /// The greatest event of each attempt, by attempt number, without the texts of results and errors. A cancel or an expiry never
    /// hides how an attempt itself ended.
    pub history: BTreeMap<u32, Event>,
}

impl State {
    /// The state every entry is first stored in: round 1, attempt 1 owed.
    pub fn first(id: Uuid, written_at: Timestamp, ttl: Duration) -> State {
        let standing = Event {
            id,
            round: 1,
            round_first: 1,
            deadline: written_at.saturating_add(ttl),
            attempt: 1,
            at: written_at,
            delivered_at: None,
            outcome: Outcome::Pending,
            failure: None,
        };
        State { standing, history: BTreeMap::new() }
    }

    /// Takes in one more event. The order, and repeats, make no difference.
    pub fn join(&mut self, event: &Event) {
        if event.outcome != Outcome::Pending {
            match self.history.get_mut(&event.attempt) {
                Some(known) if known.rank_in_history() >= event.rank_in_history() => {}
                Some(known) => *known = event.brief(),
                None => {
                    self.history.insert(event.attempt, event.brief());
                }
            }
        }
        if event.rank() > self.standing.rank() {
            self.standing = event.clone();
        }
    }

    /// The specification's word for where the entry stands.
    pub fn status(&self) -> Status {
        self.standing.outcome.status()
    }

    /// Why the entry failed for good, if it did.
    pub fn reason(&self) -> Option<Reason> {
        self.standing.outcome.reason()
    }

    /// The deadline of the standing round.
    pub fn deadline(&self) -> Timestamp {
        self.standing.deadline
    }

    /// Retries so far: the greatest attempt known, less one.
    pub fn retry_count(&self) -> u32 {
        let last = self.history.last_key_value().map_or(1, |(attempt, _)| *attempt);
        last.max(self.standing.attempt).saturating_sub(1)
    }

    /// When the next attempt is due, if one is scheduled.
    pub fn next_attempt_at(&self) -> Option<Timestamp> {
        match self.standing.outcome {
            Outcome::Retrying { next_attempt_at } => Some(next_attempt_at),
            Outcome::Pending | Outcome::Failed { .. } | Outcome::Completed { .. } => None,
        }
    }

    /// Whether nothing has happened since the entry was stored.
    pub fn is_untouched(&self) -> bool {
        self.standing.outcome == Outcome::Pending && self.standing.attempt == 1 && self.history.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            Just(Outcome::Pending),
            (0..5i64).prop_map(|at| Outcome::Retrying { next_attempt_at: Timestamp::from_millis(at).unwrap() }),
            prop::sample::select(vec![
                Reason::Exhausted,
                Reason::Rejected,
                Reason::Undeliverable,
                Reason::Cancelled,
                Reason::Expired
            ])
            .prop_map(|reason| Outcome::Failed { reason }),
            Just(Outcome::Completed { result: None }),
        ]
    }

    /// Event ids name one event: equal ids, equal content, but for the time and the words of the telling.
    fn events() -> impl Strategy<Value = Vec<Event>> {
        let happened = prop::collection::vec((1..4u32, 1..5u32, outcome()), 1..8);
        let tellings = prop::collection::vec((any::<prop::sample::Index>(), 0..3i64, 0..3usize), 0..10);
        (happened, tellings).prop_map(|(happened, tellings)| {
            let tell = |(which, at, words): (prop::sample::Index, i64, usize)| {
                let id = which.index(happened.len());
                let (round, attempt, outcome) = &happened[id];
                told(id, *round, *attempt, outcome, at, words)
            };
            tellings.into_iter().map(tell).collect()
        })
    }

    fn told(id: usize, round: u32, attempt: u32, outcome: &Outcome, at: i64, words: usize) -> Event {
        let failure = || Failure { code: "X".to_owned(), message: "x".repeat(words) };
        Event {
            id: Uuid::from_u128(id as u128),
            round,
            round_first: 1,
            deadline: Timestamp::from_millis(1000 * i64::from(round)).unwrap(),
            attempt,
            at: Timestamp::from_millis(at).unwrap(),
            delivered_at: None,
            outcome: outcome.clone(),
            failure: (words > 0).then(failure),
        }
    }

    fn folded<'a>(events: impl IntoIterator<Item = &'a Event>) -> State {
        let mut state = State::first(Uuid::max(), Timestamp::EPOCH, Duration::from_secs(1));
        events.into_iter().for_each(|event| state.join(event));
        state
    }

    proptest! {
        #[test]
        fn order_and_repeats_make_no_difference(
            (events, shuffled) in events().prop_flat_map(|e| (Just(e.clone()), Just(e).prop_shuffle()))
        ) {
            let once = folded(&events);
            prop_assert_eq!(&once, &folded(&shuffled));
            prop_assert_eq!(&once, &folded(events.iter().chain(&shuffled)));
        }

        #[test]
        fn completed_is_for_ever(events in events()) {
            let is_completed = events.iter().any(|e| e.outcome.status() == Status::Completed);
            prop_assert_eq!(folded(&events).status() == Status::Completed, is_completed);
        }
    }

    fn event(id: u128, round: u32, attempt: u32, outcome: Outcome) -> Event {
        let deadline = Timestamp::from_millis(1000).unwrap();
        Event {
            id: Uuid::from_u128(id),
            round,
            round_first: 1,
            deadline,
            attempt,
            at: Timestamp::EPOCH,
            delivered_at: None,
            outcome,
            failure: None,
        }
    }

    #[test]
    fn a_closed_round_beats_a_later_attempt_of_it_and_a_new_round_beats_both() {
        let next_attempt_at = Timestamp::EPOCH;
        let expired = event(1, 1, 1, Outcome::Failed { reason: Reason::Expired });
        let retrying = event(2, 1, 2, Outcome::Retrying { next_attempt_at });
        let redriven = event(3, 2, 3, Outcome::Pending);
        assert_eq!(folded([&retrying, &expired]).reason(), Some(Reason::Expired));
        assert_eq!(folded([&redriven, &retrying, &expired]).status(), Status::Pending);
        assert_eq!(folded([&redriven, &retrying, &expired]).retry_count(), 2);
    }

    #[test]
    fn a_cancel_ends_the_round_and_leaves_the_answer_of_its_last_attempt_in_the_history() {
        let retrying = event(1, 1, 2, Outcome::Retrying { next_attempt_at: Timestamp::EPOCH });
        let cancelled = event(2, 1, 2, Outcome::Failed { reason: Reason::Cancelled });
        for state in [folded([&retrying, &cancelled]), folded([&cancelled, &retrying])] {
            assert_eq!((state.reason(), state.retry_count()), (Some(Reason::Cancelled), 1));
            assert_eq!(state.history[&2].outcome, retrying.outcome);
        }
        let exhausted = event(3, 1, 2, Outcome::Failed { reason: Reason::Exhausted });
        assert_eq!(folded([&exhausted, &cancelled]).history[&2].outcome, exhausted.outcome);
    }

    #[test]
    fn ties_go_to_the_first_reason_and_then_to_the_smaller_id() {
        let failed = |id, reason| event(id, 1, 1, Outcome::Failed { reason });
        let state = folded([&failed(1, Reason::Expired), &failed(2, Reason::Exhausted)]);
        assert_eq!(state.reason(), Some(Reason::Exhausted));
        assert_eq!(folded([&failed(7, Reason::Expired), &failed(4, Reason::Expired)]).standing.id, Uuid::from_u128(4));
    }
}
