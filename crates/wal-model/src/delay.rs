//! Delays: how a wait is paid with waits that have a topic each, so that the head of every delay topic is the next one due. Pure.
//!
//! ```text
//!   due in 73.2 s, waits there are topics for: coins 0.1 0.2 0.5 1 2 5 10 20 50 .. s, and 60 s for a policy
//!
//!   now ── 60 s ──▶ ── 10 s ──▶ ── 2 s ──▶ ─ 1 s ─▶ ─ 0.2 s ─▶ due     each hop ends at the earlier of its wait and the due time;
//!                                                                   a late hop leaves less to pay, so the next is shorter
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::lifecycle::Lifecycle;

/// Delays are rounded up to a multiple of this once, at admission: what is left to pay is then a sum of coins.
pub const GRAIN: Duration = Duration::from_millis(100);
/// A head that is due within this time is held and published; no hop could be that short.
pub const HELD: Duration = Duration::from_millis(50);
/// The largest coin in milliseconds: 500,000 s. A longer delay pays it several times. Stored in topic names, keep stable.
const LARGEST_COIN: u64 = 500_000_000;

/// A delay rounded up to what can be paid. Saturates: it can never wrap into "now".
pub fn round_up(delay: Duration) -> Duration {
    let grain = GRAIN.as_millis();
    let millis = delay.as_nanos().div_ceil(1_000_000).div_ceil(grain).saturating_mul(grain);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// When something is due that is to wait this long from now.
pub fn due_after(now: Timestamp, delay: Duration) -> Timestamp {
    now.saturating_add(round_up(delay))
}

/// The wait that every record of one delay topic has: a multiple of [`GRAIN`], not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wait(u64);

impl Wait {
    /// A wait of this length; `None` unless it is a multiple of [`GRAIN`] and not zero.
    pub fn new(length: Duration) -> Option<Wait> {
        let is_payable = !length.is_zero() && round_up(length) == length;
        is_payable.then(|| Wait(u64::try_from(length.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The length.
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

/// `100ms`, `2s`, `60s`, `2m`, `36h`, `30d`: the largest unit that says it in whole numbers of at least two. In topic names, keep
/// stable.
impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1000;
        if !self.0.is_multiple_of(1000) {
            return write!(f, "{}ms", self.0);
        }
        let unit = [(86_400, "d"), (3600, "h"), (60, "m")];
        let fits = |(length, _): &(u64, &str)| seconds.is_multiple_of(*length) && seconds >= 2 * length;
        match unit.into_iter().find(fits) {
            Some((length, name)) => write!(f, "{}{name}", seconds / length),
            None => write!(f, "{seconds}s"),
        }
    }
}

/// A text that is no wait as a topic name spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no wait, such as 500ms, 60s, 2m, 36h or 30d")]
pub struct NotAWait;

impl FromStr for Wait {
    type Err = NotAWait;

    fn from_str(text: &str) -> Result<Wait, NotAWait> {
        let at = text.find(|character: char| !character.is_ascii_digit()).ok_or(NotAWait)?;
        let (number, unit) = text.split_at(at);
        let number: u64 = number.parse().map_err(|_| NotAWait)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(NotAWait),
        };
        let length = Duration::from_millis(number.checked_mul(millis).ok_or(NotAWait)?);
        // One wait, one spelling, one topic.
        Wait::new(length).filter(|wait| wait.to_string() == text).ok_or(NotAWait)
    }
}

/// The coins: 1, 2 and 5 of each decade from 100 ms to 500,000 s.
pub fn coins() -> impl Iterator<Item = Wait> {
    let decades = std::iter::successors(Some(100u64), |decade| decade.checked_mul(10));
    let coins = decades.flat_map(|decade| [1, 2, 5].map(|step| decade * step));
    coins.take_while(|millis| *millis <= LARGEST_COIN).map(Wait)
}

/// The distinct waits before the retries of a lifecycle, with the retries that each is for: each gets a delay topic of its own, so that
/// it is paid in one hop.
///
/// `longest` is what a delay topic may hold; what is longer is paid in coins.
pub fn waits_of(lifecycle: &Lifecycle, longest: Duration) -> BTreeMap<Wait, RangeInclusive<u32>> {
    let mut waits = BTreeMap::new();
    for retry in 1..=lifecycle.retry_count {
        let delay = round_up(lifecycle.delay_before(retry));
        // None is shorter than the one before, so that nothing follows the first that is too long.
        let wait = Wait::new(delay).filter(|_| delay <= longest && delay <= lifecycle.ttl.duration());
        let Some(wait) = wait else { break };
        let retries = waits.entry(wait).or_insert(retry..=retry);
        *retries = *retries.start()..=retry;
    }
    waits
}

/// The waits that there are topics for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits(BTreeSet<Wait>);

/// What comes next for something that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// It is due: publish it.
    Publish,
    /// So little is left that it is held where it is.
    Hold,
    /// It waits in the topic of this wait.
    Park(Wait),
}

impl Waits {
    /// The coins and some more.
    pub fn coins_and(more: impl IntoIterator<Item = Wait>) -> Waits {
        Waits(coins().chain(more).collect())
    }

    /// All of them, the shortest first.
    pub fn iter(&self) -> impl Iterator<Item = Wait> {
        self.0.iter().copied()
    }

    /// What comes next at `now` for something due at `due`.
    pub fn hop(&self, now: Timestamp, due: Timestamp) -> Hop {
        let left = due.saturating_since(now);
        if left.is_zero() {
            return Hop::Publish;
        }
        if left <= HELD {
            return Hop::Hold;
        }
        let payable = Wait(u64::try_from(left.saturating_add(HELD).as_millis()).unwrap_or(u64::MAX));
        self.0.range(..=payable).next_back().map_or(Hop::Hold, |wait| Hop::Park(*wait))
    }
}

/// How long the head of a delay topic must still be left alone; `None` if its hop is over and no more than that is left to wait.
pub fn head_rests_until(now: Timestamp, parked_at: Timestamp, wait: Wait, due: Timestamp) -> Option<Timestamp> {
    let end = due.min(parked_at.saturating_add(wait.duration()));
    if now < end {
        // What would be left is told when the hop ends: it may end late.
        let is_last = due.saturating_since(end) <= HELD;
        return Some(if is_last { due } else { end });
    }
    let left = due.saturating_since(now);
    (!left.is_zero() && left <= HELD).then_some(due)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lifecycle::{Backoff, Seconds};

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(i64::try_from(millis).unwrap()).unwrap()
    }

    fn own(lifecycle: Lifecycle) -> Vec<(String, RangeInclusive<u32>)> {
        let waits = waits_of(&lifecycle, Duration::from_secs(86_400));
        waits.into_iter().map(|(wait, retries)| (wait.to_string(), retries)).collect()
    }

    fn names(waits: impl IntoIterator<Item = Wait>) -> Vec<String> {
        waits.into_iter().map(|wait| wait.to_string()).collect()
    }

    #[test]
    fn coins_are_those_of_the_design() {
        let names = names(coins());
        assert_eq!(names[..7], ["100ms", "200ms", "500ms", "1s", "2s", "5s", "10s"]);
        assert_eq!(names.last().unwrap(), "500000s");
        assert_eq!(names.len(), 21);
    }

    #[test]
    fn a_policy_pays_its_own_delays_in_one_hop() {
        let default = own(Lifecycle { retry_count: 5, ..Lifecycle::default() });
        let expected = [("60s", 1), ("2m", 2), ("4m", 3), ("8m", 4), ("16m", 5)];
        assert_eq!(default, expected.map(|(wait, retry)| (wait.to_owned(), retry..=retry)));
        let fixed = Lifecycle { backoff: Backoff::Fixed, retry_count: 100, ..Lifecycle::default() };
        assert_eq!(own(fixed), [("60s".to_owned(), 1..=100)]);
        let short = Lifecycle {
            delay: Seconds::new(Duration::from_millis(40)),
            backoff: Backoff::Linear,
            ..Lifecycle::default()
        };
        assert_eq!(own(short), [("100ms".to_owned(), 1..=2), ("200ms".to_owned(), 3..=3)], "rounded up");
        assert!(own(Lifecycle { retry_count: 0, ..Lifecycle::default() }).is_empty());
        assert!(own(Lifecycle { delay: Seconds::new(Duration::ZERO), ..Lifecycle::default() }).is_empty());
        assert!(own(Lifecycle { retry_count: 100, ..Lifecycle::default() }).len() < 12);
    }

    /// Walks something through its hops, each ending as late as `lateness` says, and tells when it was published and after how many
    /// hops.
    fn walked(waits: &Waits, start: u64, due: u64, mut lateness: impl FnMut() -> u64) -> (u64, usize) {
        let (mut now, mut hops) = (start, 0);
        loop {
            match waits.hop(at(now), at(due)) {
                Hop::Publish => return (now, hops),
                Hop::Hold => now = due,
                Hop::Park(wait) => {
                    hops += 1;
                    let parked_at = at(now);
                    while let Some(rest) = head_rests_until(at(now), parked_at, wait, at(due)) {
                        assert!(rest > at(now), "a head that rests until now would be asked for ever");
                        now = rest.as_millis().unsigned_abs() + lateness();
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn never_early_and_in_time_where_hops_are_in_time(grains in 1u64..300_000_000, own in 1u64..10_000_000) {
            let waits = Waits::coins_and(Wait::new(Duration::from_millis(own * 100)));
            let due = 1000 + grains * 100;
            let (published, hops) = walked(&waits, 1000, due, || 0);
            prop_assert_eq!(published, due);
            prop_assert!(hops <= 40 + usize::try_from(grains / 5_000_000).unwrap(), "{} hops", hops);
        }

        #[test]
        fn a_late_hop_shortens_the_next_and_only_the_last_can_be_late(
            grains in 1u64..300_000_000,
            late in prop::collection::vec(0u64..5_000, 1..200),
        ) {
            let due = 7 + grains * 100;
            let mut late = late.into_iter().cycle();
            let mut last = 0;
            let (published, _) = walked(&Waits::coins_and([]), 7, due, || { last = late.next().unwrap(); last });
            prop_assert!(published >= due, "early");
            prop_assert!(published <= due + last, "late by more than the last hop");
        }

        #[test]
        fn waits_are_spelled_in_one_way(grains in 1u64..3_000_000_000) {
            let wait = Wait::new(Duration::from_millis(grains * 100)).unwrap();
            prop_assert_eq!(wait.to_string().parse::<Wait>(), Ok(wait));
        }

        #[test]
        fn nothing_overflows_into_now(now in 0i64..253_402_300_799_999, millis: u64) {
            let now = Timestamp::from_millis(now).unwrap();
            let delay = Duration::from_millis(millis);
            let due = due_after(now, delay);
            prop_assert!(due >= now.saturating_add(delay));
            prop_assert!(round_up(delay) >= delay || millis > u64::MAX - 100);
        }
    }

    #[test]
    fn spellings_that_no_topic_of_ours_has_are_refused() {
        for text in ["", "s", "60", "1m", "120s", "0s", "50ms", "1000ms", "1e3s", "99999999999999999999s", "-1s", "2w"]
        {
            assert!(text.parse::<Wait>().is_err(), "{text}");
        }
        assert_eq!(round_up(Duration::from_nanos(1)), GRAIN);
        assert_eq!(round_up(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn what_is_left_of_a_late_hop_is_held_and_never_published_early() {
        let wait = Wait::new(GRAIN).unwrap();
        // In time: one stretch to the due time, however the hop falls.
        assert_eq!(head_rests_until(at(0), at(0), wait, at(130)), Some(at(130)));
        assert_eq!(head_rests_until(at(0), at(0), wait, at(100)), Some(at(100)));
        // More is left than can be held: the hop ends, the next one is paid.
        assert_eq!(head_rests_until(at(0), at(0), wait, at(400)), Some(at(100)));
        assert_eq!(head_rests_until(at(100), at(0), wait, at(400)), None);
        assert_eq!(head_rests_until(at(360), at(0), wait, at(400)), Some(at(400)));
        assert_eq!(head_rests_until(at(400), at(0), wait, at(400)), None);
    }
}
