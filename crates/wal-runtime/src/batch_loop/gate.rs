//! Heads that must wait: which of them may be taken, in which order, and when to look again. Pure, but for the gate itself.
//!
//! ```text
//!   partition   head            gate.look          heap of those that may pass
//!   60s[0]      due in 4 s ───▶ rest for 4 s
//!   60s[1]      due, normal ──▶ pass ────────────▶ (high before normal before low, then the earlier due)
//!   1s[0]       due, high ────▶ pass ────────────▶
//! ```

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use wal_model::{InRecord, Priority, Timestamp};

/// Decides when the head of a partition may be taken.
pub trait Gate: Send + Sync + 'static {
    /// Looks at a head. Called again when the rest it asked for is over.
    fn look(&self, head: &InRecord) -> Look;
}

/// What a gate says of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It may be taken now: among those that may, the higher priority goes first, then what was due earlier.
    Pass {
        /// Its priority.
        priority: Priority,
        /// When it was due.
        due: Timestamp,
    },
    /// It must be left alone for this long, and everything behind it.
    Rest(Duration),
}

/// Heads that may be taken, the most urgent first; each is known by the index of its partition.
#[derive(Default)]
pub(crate) struct Order(BinaryHeap<Reverse<(Priority, Timestamp, usize)>>);

impl Order {
    pub(crate) fn add(&mut self, priority: Priority, due: Timestamp, index: usize) {
        self.0.push(Reverse((priority, due, index)));
    }

    pub(crate) fn next(&mut self) -> Option<usize> {
        self.0.pop().map(|Reverse((_, _, index))| index)
    }
}

/// A ceiling: so many records a second, saved up for a tenth of a second at most, so that downtime ends in a stream and not in a wave.
pub(crate) struct Ceiling {
    rate: Option<NonZeroU32>,
    saved: f64,
    since: Instant,
}

impl Ceiling {
    pub(crate) fn new(rate: Option<NonZeroU32>, now: Instant) -> Ceiling {
        Ceiling { rate, saved: 0.0, since: now }
    }

    /// How many records may be taken now.
    pub(crate) fn room(&mut self, now: Instant) -> usize {
        let Some(rate) = self.rate else { return usize::MAX };
        let most = (f64::from(rate.get()) / 10.0).max(1.0);
        let earned = now.saturating_duration_since(self.since).as_secs_f64() * f64::from(rate.get());
        (self.saved, self.since) = ((self.saved + earned).min(most), now);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 2^32 / 10")]
        let room = self.saved as usize;
        room
    }

    /// So many were taken.
    pub(crate) fn spend(&mut self, count: usize) {
        if self.rate.is_some() {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            self.saved = (self.saved - f64::from(count)).max(0.0);
        }
    }

    /// How long until one more may be taken.
    pub(crate) fn wait(&self) -> Duration {
        self.rate
            .map_or(Duration::ZERO, |rate| Duration::from_secs_f64((1.0 - self.saved).max(0.0) / f64::from(rate.get())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_goes_first_then_what_is_due_earlier() {
        let at = |millis| Timestamp::from_millis(millis).unwrap();
        let mut order = Order::default();
        order.add(Priority::Low, at(1), 0);
        order.add(Priority::Normal, at(5), 1);
        order.add(Priority::Normal, at(3), 2);
        order.add(Priority::High, at(9), 3);
        assert_eq!(std::iter::from_fn(|| order.next()).collect::<Vec<_>>(), [3, 2, 1, 0]);
    }

    #[test]
    fn a_ceiling_is_kept_over_any_second() {
        let start = Instant::now();
        let mut ceiling = Ceiling::new(NonZeroU32::new(1000), start);
        let mut taken = 0;
        for millis in 1..=2000 {
            let room = ceiling.room(start + Duration::from_millis(millis)).min(7);
            ceiling.spend(room);
            taken += room;
        }
        assert!((1900..=2000).contains(&taken), "{taken}");
        // After downtime: a tenth of a second's worth, then the stream.
        assert_eq!(ceiling.room(start + Duration::from_secs(3600)), 100);
        ceiling.spend(100);
        assert!(ceiling.wait() > Duration::ZERO && ceiling.wait() <= Duration::from_millis(1));
        assert_eq!(Ceiling::new(None, start).room(start), usize::MAX);
    }

    #[test]
    fn a_low_ceiling_still_lets_one_through() {
        let start = Instant::now();
        let mut ceiling = Ceiling::new(NonZeroU32::new(1), start);
        assert_eq!(ceiling.room(start), 0);
        assert_eq!(ceiling.room(start + Duration::from_secs(1)), 1);
    }
}
