//! When a handler has its tick. Pure.
//!
//! ```text
//!   tick due ──▶ handed over ────────▶ done ── every ──▶ due again
//!                     └─ nothing is taken ─┘└─ records ─┘
//! ```
//!
//! Counted from the end of one to the next: a tick that takes longer than the time between two would otherwise be due again as soon as it
//! is over, and no record would ever be taken.

use std::time::{Duration, Instant};

/// The ticks of a loop.
pub(super) struct Ticks {
    /// The time between two; `None` is never.
    every: Option<Duration>,
    /// When the last one ended, or the loop began.
    last: Instant,
    is_in_hand: bool,
}

impl Ticks {
    pub(super) fn new(every: Option<Duration>, now: Instant) -> Ticks {
        Ticks { every, last: now, is_in_hand: false }
    }

    /// How long until one is due; `None` is never, or not before the one in hand is done.
    pub(super) fn until_due(&self, now: Instant) -> Option<Duration> {
        let every = self.every.filter(|_| !self.is_in_hand)?;
        Some(every.saturating_sub(now.saturating_duration_since(self.last)))
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.until_due(now).is_some_and(|left| left.is_zero())
    }

    /// One is handed over, when nothing else is in hand.
    pub(super) fn handed_over(&mut self) {
        self.is_in_hand = true;
    }

    /// What was in hand for the longest time is done, whatever became of it.
    pub(super) fn done(&mut self, now: Instant) {
        if std::mem::take(&mut self.is_in_hand) {
            self.last = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_that_takes_longer_than_the_time_between_two_leaves_that_time_to_records() {
        let (every, start) = (Duration::from_millis(50), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        let mut ticks = Ticks::new(Some(every), start);
        assert_eq!((ticks.is_due(at(49)), ticks.is_due(at(50))), (false, true));
        ticks.handed_over();
        assert_eq!((ticks.until_due(at(300)), ticks.is_due(at(300))), (None, false), "while it is in hand");
        ticks.done(at(400));
        assert_eq!((ticks.until_due(at(400)), ticks.is_due(at(449))), (Some(every), false));
        // Other work that is done meanwhile puts nothing off.
        ticks.done(at(440));
        assert!(ticks.is_due(at(450)));
    }

    #[test]
    fn without_a_time_there_is_no_tick() {
        let start = Instant::now();
        assert_eq!(Ticks::new(None, start).until_due(start + Duration::from_secs(3600)), None);
    }
}
