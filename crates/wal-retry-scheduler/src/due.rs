//! What becomes of a parked attempt whose hop is over, and of an attempt that is to be published now. Pure.
//!
//! ```text
//!   hop over ─┬─ the round is cancelled ─▶ dropped
//!             ├─ the deadline has passed ─▶ expired
//!             ├─ not due ─▶ parked again, on the largest wait that is not too long
//!             └─ due ─┬─ the target takes it ─▶ published
//!                     ├─ unknown for long enough ─▶ undeliverable
//!                     └─ else ─▶ parked again for a moment, so that nobody behind it waits
//! ```

use std::time::Duration;

use wal_model::delay::{Hop, Wait, Waits, coins};
use wal_model::delivery::Delivery;
use wal_model::parked::Parked;
use wal_model::status::Reason;
use wal_model::{Code, Refusal, Timestamp};
use wal_runtime::brokers::Target;

/// How soon a target that is unknown or did not answer is asked for again. A question takes milliseconds, and the directory asks the
/// brokers no more than twice a second.
const MOMENT: Duration = Duration::from_secs(1);
/// How soon a target is tried again that somebody has to change first: it takes no records of this size any more.
const WHILE: Duration = Duration::from_secs(50);

/// Where an attempt waits next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Park {
    /// When it is due.
    pub due: Timestamp,
    /// The wait of the topic.
    pub wait: Wait,
}

impl Park {
    /// Waits from `now` until `due`.
    pub(crate) fn until(due: Timestamp, now: Timestamp, waits: &Waits) -> Park {
        let wait = match waits.hop(now, due) {
            Hop::Park(wait) => wait,
            // Too little is left for any wait, and the shortest one ends at the due time too.
            Hop::Hold | Hop::Publish => shortest(),
        };
        Park { due, wait }
    }
}

fn shortest() -> Wait {
    coins().next().expect("there are coins")
}

/// What becomes of a parked attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is due.
    Publish,
    /// It goes on waiting.
    Park(Park),
    /// It will not be published.
    Fail(Reason, Refusal),
    /// Nothing: its round is cancelled, and whoever cancelled it has said so.
    Drop,
}

/// Decides over a parked attempt whose hop is over, or that says so.
pub(crate) fn step(parked: &Parked, is_cancelled: bool, waits: &Waits, now: Timestamp) -> Step {
    if is_cancelled {
        return Step::Drop;
    }
    let deadline = parked.delivery.deadline;
    if now > deadline {
        let why = format_args!("the deadline {deadline} passed while attempt {} waited", parked.delivery.attempt);
        return Step::Fail(Reason::Expired, Refusal::new(Code::Expired, why));
    }
    // Checked here once more, whatever was thought when the head was let pass: never early.
    if now >= parked.due { Step::Publish } else { Step::Park(Park::until(parked.due, now, waits)) }
}

/// Whether an attempt can be published to its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It can.
    Publish,
    /// Not now, and it is too early to say never.
    Postpone(Park, &'static str),
    /// It never will be.
    Fail(Reason, Refusal),
}

/// Decides over an attempt that is due and would take `size` bytes.
pub(crate) fn verdict(
    delivery: &Delivery,
    size: usize,
    target: Target,
    unknown_target_wait: Duration,
    waits: &Waits,
    now: Timestamp,
) -> Verdict {
    let postpone = |pause, why| {
        // Just past the deadline it expires; waiting any longer would only tell of it later.
        let last = delivery.deadline.saturating_add(Duration::from_millis(1));
        Verdict::Postpone(Park::until(now.saturating_add(pause).min(last), now, waits), why)
    };
    match target {
        Target::Takes(limit) if size <= limit => Verdict::Publish,
        Target::Takes(_) => postpone(WHILE, "the target does not take records of this size any more"),
        Target::Missing(for_at_least) if for_at_least >= unknown_target_wait => {
            let why = format_args!("the target {} does not exist", delivery.target);
            Verdict::Fail(Reason::Undeliverable, Refusal::new(Code::Undeliverable, why))
        }
        Target::Missing(_) => postpone(MOMENT, "the target is unknown to the brokers"),
        Target::Unanswered => postpone(MOMENT, "the brokers do not say whether the target exists"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::samples::{at, delivery};

    fn parked(due: i64, deadline: i64) -> Parked {
        Parked {
            delivery: Delivery { attempt: 2, deadline: at(deadline), ..delivery() },
            due: at(due),
            parked_at: at(0),
            wait: "60s".parse().unwrap(),
        }
    }

    fn waits() -> Waits {
        Waits::coins_and(["60s".parse().unwrap()])
    }

    fn parked_until(due: i64, wait: &str) -> Step {
        Step::Park(Park { due: at(due), wait: wait.parse().unwrap() })
    }

    #[test]
    fn it_is_published_when_it_is_due_and_not_before() {
        let step = |now| step(&parked(60_000, 1_000_000), false, &waits(), at(now));
        assert_eq!(step(60_000), Step::Publish);
        assert_eq!(step(61_000), Step::Publish);
        assert_eq!(step(59_999), parked_until(60_000, "100ms"), "a clock that went back");
        assert_eq!(step(59_000), parked_until(60_000, "1s"));
        assert_eq!(step(0), parked_until(60_000, "60s"));
    }

    #[test]
    fn what_expires_while_it_waits_is_not_published() {
        let step = |now| step(&parked(60_000, 70_000), false, &waits(), at(now));
        assert_eq!(step(70_000), Step::Publish);
        assert!(matches!(step(70_001), Step::Fail(Reason::Expired, why) if why.code == Code::Expired));
    }

    #[test]
    fn a_cancelled_round_is_dropped_whatever_else_is_true() {
        for (due, deadline, now) in [(60_000, 70_000, 0), (60_000, 70_000, 65_000), (60_000, 70_000, 80_000)] {
            assert_eq!(step(&parked(due, deadline), true, &waits(), at(now)), Step::Drop);
        }
    }

    #[test]
    fn a_target_that_cannot_take_it_holds_up_nobody() {
        let unknown_target_wait = Duration::from_secs(30);
        let verdict = |size, target| {
            let parked = parked(60_000, 100_000);
            verdict(&parked.delivery, size, target, unknown_target_wait, &waits(), at(60_000))
        };
        let postponed = |due, wait: &str| Park { due: at(due), wait: wait.parse().unwrap() };
        assert_eq!(verdict(100, Target::Takes(100)), Verdict::Publish);
        assert!(
            matches!(verdict(101, Target::Takes(100)), Verdict::Postpone(park, _) if park == postponed(100_001, "20s"))
        );
        assert!(
            matches!(verdict(1, Target::Unanswered), Verdict::Postpone(park, _) if park == postponed(61_000, "1s"))
        );
        let missing = |seconds| verdict(1, Target::Missing(Duration::from_secs(seconds)));
        assert!(matches!(missing(29), Verdict::Postpone(park, _) if park == postponed(61_000, "1s")));
        assert!(matches!(missing(30), Verdict::Fail(Reason::Undeliverable, _)));
    }

    proptest! {
        #[test]
        fn hops_end_at_the_due_time_and_never_publish_early(
            due in 1i64..10_000_000, now in 0i64..10_000_000, deadline in 0i64..10_000_000,
        ) {
            match step(&parked(due, deadline), false, &waits(), at(now)) {
                Step::Publish => prop_assert!(now >= due && now <= deadline),
                Step::Park(park) => {
                    prop_assert_eq!(park.due, at(due));
                    prop_assert!(now < due && now <= deadline);
                    // Never so long that the attempt would be late by it.
                    let end = at(now).saturating_add(park.wait.duration()).min(park.due);
                    prop_assert!(end <= at(due) && end > at(now));
                }
                Step::Fail(..) => prop_assert!(now > deadline),
                Step::Drop => prop_assert!(false, "nothing is cancelled"),
            }
        }
    }
}
