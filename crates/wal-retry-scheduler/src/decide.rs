//! What becomes of a failed attempt. Pure.
//!
//! ```text
//!   failed ─┬─ is not to be decided (replayed copy, no answers, decided before, cancelled) ─▶ ignored, counted
//!           ├─ beyond what its round allows ─▶ refused
//!           ├─ the consumer says never ─▶ rejected
//!           ├─ the deadline has passed, or would before the next attempt ─▶ expired
//!           ├─ no retry is left ─▶ exhausted
//!           └─ else the next attempt: at once, or when it is due
//! ```

use std::time::Duration;

use wal_model::answer::{Failed, Wish};
use wal_model::delay::{self, HELD};
use wal_model::delivery::Delivery;
use wal_model::entry::Answers;
use wal_model::status::{Failure, Reason};
use wal_model::{Code, Refusal, Timestamp};

/// What is known besides the failure itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// The longest delay that a consumer's wish is granted.
    pub retry_after_max: Duration,
    /// Whether this attempt's failure was decided before.
    pub is_decided: bool,
    /// Whether the attempt's round is cancelled.
    pub is_cancelled: bool,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The next attempt waits until it is due.
    Retry {
        /// When that is.
        due: Timestamp,
    },
    /// The next attempt is published with the decision.
    RetryNow,
    /// The round is over.
    Dead {
        /// Why, for machines.
        reason: Reason,
        /// Why, for people.
        why: Refusal,
    },
    /// It is no failure that may be decided.
    Refuse(Refusal),
    /// Nothing becomes of it.
    Ignore(Ignored),
}

/// Why nothing becomes of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ignored {
    /// It answers a replayed copy.
    Replay,
    /// Nobody asked for answers.
    NoAnswers,
    /// It was decided before.
    Repeat,
    /// The round is cancelled, and whoever cancelled it has said so.
    Cancelled,
}

/// From when the delay of a failure counts that the broker wrote down at `written`: from then, so that its way to the decision does not
/// come on top of the delay. Only a way of ordinary length is counted: after an outage, and where clocks differ, the scheduler's clock
/// decides, and all that differing clocks can do is to hasten a retry by that little.
pub(crate) fn begins(written: Option<Timestamp>, now: Timestamp) -> Timestamp {
    let earliest = Timestamp::from_millis(now.as_millis() - i64::try_from(HELD.as_millis()).unwrap_or(0));
    written.filter(|written| *written <= now).unwrap_or(now).max(earliest.unwrap_or(now))
}

/// Decides over a failure whose delay counts from `begin`.
pub(crate) fn decide(failed: &Failed, facts: Facts, begin: Timestamp, now: Timestamp) -> Decision {
    let delivery = &failed.echo.delivery;
    if failed.echo.is_replay {
        return Decision::Ignore(Ignored::Replay);
    }
    if delivery.answers == Answers::None {
        return Decision::Ignore(Ignored::NoAnswers);
    }
    if let Some(refusal) = beyond_the_round(delivery) {
        return Decision::Refuse(refusal);
    }
    if facts.is_decided {
        return Decision::Ignore(Ignored::Repeat);
    }
    if facts.is_cancelled {
        return Decision::Ignore(Ignored::Cancelled);
    }
    if failed.wish == Wish::Never {
        let why = format_args!("the consumer says that retrying cannot help: {}", of(&failed.failure));
        return Decision::Dead { reason: Reason::Rejected, why: Refusal::new(Code::Rejected, why) };
    }
    if now > delivery.deadline {
        let why = format_args!("the deadline {} has passed: {}", delivery.deadline, of(&failed.failure));
        return expired(why);
    }
    if delivery.attempt_of_round() > delivery.retry_count {
        let why = format_args!("no retry of {} is left: {}", delivery.retry_count, of(&failed.failure));
        return Decision::Dead { reason: Reason::Exhausted, why: Refusal::new(Code::Exhausted, why) };
    }
    let delay = match failed.wish {
        Wish::After(wished) => wished.min(facts.retry_after_max),
        // What cannot be understood leaves it to the lifecycle.
        Wish::None | Wish::Never | Wish::Unreadable(_) => delivery.delay_before_next(),
    };
    let due = delay::due_after(begin, delay);
    if due >= delivery.deadline {
        let (deadline, failure) = (delivery.deadline, of(&failed.failure));
        return expired(format_args!(
            "the next attempt would be due at {due}, not before the deadline {deadline}: {failure}"
        ));
    }
    if due <= now { Decision::RetryNow } else { Decision::Retry { due } }
}

/// The refusal of an attempt that its own round does not have. Nothing of ours makes one, so nothing may come of it.
fn beyond_the_round(delivery: &Delivery) -> Option<Refusal> {
    let Delivery { attempt, round_first, retry_count, .. } = *delivery;
    let last = round_first.saturating_add(retry_count);
    let is_of_round = round_first > 0 && (round_first..=last).contains(&attempt);
    let refusal = || {
        let message = format_args!("attempt {attempt} is none of its round, which has {round_first} to {last}");
        Refusal::new(Code::AttemptInvalid, message)
    };
    (!is_of_round).then(refusal)
}

fn expired(why: std::fmt::Arguments<'_>) -> Decision {
    Decision::Dead { reason: Reason::Expired, why: Refusal::new(Code::Expired, why) }
}

fn of(failure: &Failure) -> String {
    match &*failure.message {
        "" => failure.code.clone(),
        message => format!("{}: {message}", failure.code),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wal_model::lifecycle::{Backoff, Seconds};

    use super::*;
    use crate::samples::{at, failed};

    const FACTS: Facts = Facts { retry_after_max: Duration::from_secs(3600), is_decided: false, is_cancelled: false };

    fn decided(change: impl FnOnce(&mut Failed), now: Timestamp) -> Decision {
        let mut failed = failed();
        change(&mut failed);
        decide(&failed, FACTS, now, now)
    }

    fn reason(decision: &Decision) -> Option<Reason> {
        match decision {
            Decision::Dead { reason, .. } => Some(*reason),
            Decision::Retry { .. } | Decision::RetryNow | Decision::Refuse(_) | Decision::Ignore(_) => None,
        }
    }

    #[test]
    fn delays_are_those_of_the_specification() {
        let cases = [
            (Backoff::Exponential, [60, 120, 240, 480, 960]),
            (Backoff::Linear, [60, 120, 180, 240, 300]),
            (Backoff::Fixed, [60, 60, 60, 60, 60]),
        ];
        for (backoff, delays) in cases {
            for (attempt, delay) in (1..).zip(delays) {
                let decision = decided(
                    |failed| {
                        let delivery = &mut failed.echo.delivery;
                        (delivery.backoff, delivery.attempt, delivery.retry_count) = (backoff, attempt, 5);
                    },
                    at(0),
                );
                assert_eq!(decision, Decision::Retry { due: at(delay * 1000) }, "{backoff} {attempt}");
            }
        }
    }

    #[test]
    fn a_redriven_round_counts_its_own_attempts() {
        let redriven = |attempt| {
            let round = move |failed: &mut Failed| {
                let delivery = &mut failed.echo.delivery;
                (delivery.round, delivery.round_first, delivery.attempt) = (2, 5, attempt);
            };
            decided(round, at(0))
        };
        assert_eq!(redriven(5), Decision::Retry { due: at(60_000) });
        assert_eq!(redriven(7), Decision::Retry { due: at(240_000) });
        assert_eq!(reason(&redriven(8)), Some(Reason::Exhausted));
        for beyond in [0, 4, 9, u32::MAX] {
            assert!(
                matches!(redriven(beyond), Decision::Refuse(refusal) if refusal.code == Code::AttemptInvalid),
                "{beyond}"
            );
        }
    }

    #[test]
    fn the_way_to_the_decision_is_part_of_the_delay_and_no_clock_but_ours_counts_for_more() {
        let due = |written| {
            let begin = begins(written, at(10_000));
            match decide(&failed(), FACTS, begin, at(10_000)) {
                Decision::Retry { due } => due.as_millis() - 60_000,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(due(Some(at(9_980))), 9_980, "20 ms on its way");
        assert_eq!(due(Some(at(9_000))), 9_950, "an outage, or a clock that is off");
        assert_eq!(due(Some(at(11_000))), 10_000, "a broker's clock ahead of ours");
        assert_eq!(due(None), 10_000);
        assert_eq!(begins(Some(at(0)), at(20)), at(20), "at the beginning of time");
        assert_eq!(decided(|failed| failed.wish = Wish::After(Duration::ZERO), at(0)), Decision::RetryNow);
        let at_once = Failed { wish: Wish::After(Duration::ZERO), ..failed() };
        assert_eq!(decide(&at_once, FACTS, at(9_980), at(10_000)), Decision::RetryNow);
    }

    #[test]
    fn wishes_are_granted_within_bounds() {
        let wish = |wish| decided(|failed| failed.wish = wish, at(0));
        assert_eq!(wish(Wish::After(Duration::from_millis(2500))), Decision::Retry { due: at(2500) });
        assert_eq!(wish(Wish::After(Duration::from_millis(2501))), Decision::Retry { due: at(2600) });
        assert_eq!(wish(Wish::After(Duration::ZERO)), Decision::RetryNow);
        assert_eq!(wish(Wish::After(Duration::from_secs(3_153_600_000))), Decision::Retry { due: at(3_600_000) });
        assert_eq!(wish(Wish::After(Duration::MAX)), Decision::Retry { due: at(3_600_000) });
        assert_eq!(wish(Wish::Unreadable("ce_walretryafter: NaN".into())), Decision::Retry { due: at(60_000) });
        assert_eq!(reason(&wish(Wish::Never)), Some(Reason::Rejected));
    }

    #[test]
    fn a_wish_makes_no_more_retries_than_are_left() {
        let last = |failed: &mut Failed| {
            failed.wish = Wish::After(Duration::ZERO);
            failed.echo.delivery.attempt = 4;
        };
        assert_eq!(reason(&decided(last, at(0))), Some(Reason::Exhausted));
        let none_allowed = |failed: &mut Failed| failed.echo.delivery.retry_count = 0;
        assert_eq!(reason(&decided(none_allowed, at(0))), Some(Reason::Exhausted));
    }

    #[test]
    fn nothing_is_due_at_the_deadline_or_after_it() {
        let until = |deadline| decided(move |failed| failed.echo.delivery.deadline = at(deadline), at(1000));
        assert_eq!(until(61_001), Decision::Retry { due: at(61_000) });
        assert_eq!(reason(&until(61_000)), Some(Reason::Expired));
        assert_eq!(reason(&until(1000)), Some(Reason::Expired));
        assert_eq!(reason(&until(999)), Some(Reason::Expired));
        let Decision::Dead { why, .. } = until(61_000) else { panic!("it is dead") };
        assert!(why.message.contains("would be due at 1970-01-01T00:01:01.000Z"), "{why}");
        assert!(why.message.contains("CARD_DECLINED: no ünits"), "{why}");
    }

    #[test]
    fn what_is_not_to_be_decided_is_ignored() {
        let facts = |is_decided, is_cancelled| Facts { is_decided, is_cancelled, ..FACTS };
        let mut failed = failed();
        assert_eq!(decide(&failed, facts(true, true), at(0), at(0)), Decision::Ignore(Ignored::Repeat));
        assert_eq!(decide(&failed, facts(false, true), at(0), at(0)), Decision::Ignore(Ignored::Cancelled));
        failed.echo.delivery.answers = Answers::None;
        assert_eq!(decide(&failed, FACTS, at(0), at(0)), Decision::Ignore(Ignored::NoAnswers));
        failed.echo.is_replay = true;
        assert_eq!(decide(&failed, FACTS, at(0), at(0)), Decision::Ignore(Ignored::Replay));
    }

    fn wishes() -> impl Strategy<Value = Wish> {
        let after = prop_oneof![Just(Duration::MAX), any::<u64>().prop_map(Duration::from_millis)];
        prop_oneof![
            Just(Wish::None),
            Just(Wish::Never),
            Just(Wish::Unreadable(String::new())),
            after.prop_map(Wish::After),
        ]
    }

    fn backoffs() -> impl Strategy<Value = Backoff> {
        prop_oneof![Just(Backoff::Exponential), Just(Backoff::Linear), Just(Backoff::Fixed)]
    }

    prop_compose! {
        /// Anything that could ever be sealed, and more.
        fn failures()(
            attempt: u32, round_first: u32, retry_count: u32, delay: u64, deadline in 0i64..253_402_300_799_999,
            backoff in backoffs(), wish in wishes(),
        ) -> Failed {
            let mut failed = failed();
            failed.wish = wish;
            let delivery = &mut failed.echo.delivery;
            (delivery.attempt, delivery.round_first, delivery.retry_count) = (attempt, round_first, retry_count);
            delivery.delay = Seconds::new(Duration::from_millis(delay));
            (delivery.backoff, delivery.deadline) = (backoff, Timestamp::from_millis(deadline).unwrap());
            failed
        }
    }

    proptest! {
        #[test]
        fn nothing_overflows_into_now(failed in failures(), now in 0i64..253_402_300_799_999) {
            let now = Timestamp::from_millis(now).unwrap();
            let delivery = &failed.echo.delivery;
            match decide(&failed, FACTS, now, now) {
                Decision::RetryNow => {
                    let is_wished = failed.wish == Wish::After(Duration::ZERO);
                    prop_assert!(is_wished || delivery.delay.duration().is_zero(), "{:?}", failed);
                    prop_assert!(now < delivery.deadline);
                }
                Decision::Retry { due } => {
                    let wanted = match failed.wish {
                        Wish::After(wished) => wished.min(FACTS.retry_after_max),
                        _ => delivery.delay.duration(),
                    };
                    prop_assert!(due.saturating_since(now) >= wanted, "early");
                    prop_assert!(due < delivery.deadline);
                }
                Decision::Dead { .. } | Decision::Refuse(_) | Decision::Ignore(_) => {}
            }
        }

        #[test]
        fn a_round_has_its_first_attempt_and_its_retries_and_no_more(
            retry_count in 0u32..200, round_first in 1u32..1000, backoff in backoffs(), wished in prop::option::of(0u64..10_000),
        ) {
            let mut failed = failed();
            failed.wish = wished.map_or(Wish::None, |millis| Wish::After(Duration::from_millis(millis)));
            let delivery = &mut failed.echo.delivery;
            (delivery.attempt, delivery.round_first, delivery.retry_count) = (round_first, round_first, retry_count);
            (delivery.backoff, delivery.deadline) = (backoff, Timestamp::MAX);
            let (mut now, mut attempts) = (at(0), 1);
            let end = loop {
                match decide(&failed, FACTS, now, now) {
                    Decision::Retry { due } => {
                        prop_assert!(due > now);
                        now = due;
                    }
                    Decision::RetryNow => {}
                    other => break other,
                }
                failed.echo.delivery = failed.echo.delivery.clone().next_attempt();
                attempts += 1;
            };
            // A delay that doubles 200 times passes even the last deadline there can be.
            let is_expired = reason(&end) == Some(Reason::Expired);
            prop_assert!(attempts == retry_count + 1 || is_expired, "{} attempts, then {:?}", attempts, end);
            prop_assert!(attempts <= retry_count + 1);
        }
    }
}
