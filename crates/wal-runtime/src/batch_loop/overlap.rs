//! When a batch that is not full is handed over while another is in hand. Pure.
//!
//! Handed over at once, it would be handled long before the other is published, and then wait, while what came after it waits for both:
//!
//! ```text
//!   at once      publish 1 ──────────────▶ publish 2 ──────────────▶
//!                 handle 2 ─▶ (waits)       what came meanwhile is taken only here
//!
//!   in time      publish 1 ──────────────▶ publish 2 ──────────────▶
//!                             handle 2 ─▶   and has what came until it was handed over
//! ```

use std::time::{Duration, Instant};

/// What the threads behind the poll thread are at, and how long they took.
#[derive(Default)]
pub(super) struct Overlap {
    is_handling: bool,
    publishing_since: Option<Instant>,
    /// What handling a batch takes, and publishing it: the mean of the last and of what it was before that.
    handling_takes: Duration,
    publishing_takes: Duration,
}

impl Overlap {
    pub(super) fn handles(&mut self) {
        self.is_handling = true;
    }

    /// `took` is how long, unless it was no batch of records.
    pub(super) fn handled(&mut self, took: Option<Duration>) {
        self.is_handling = false;
        learn(&mut self.handling_takes, took);
    }

    pub(super) fn publishes(&mut self, now: Instant) {
        self.publishing_since = Some(now);
    }

    /// `took` is how long, unless it was no batch of records or it was not committed.
    pub(super) fn published(&mut self, took: Option<Duration>) {
        self.publishing_since = None;
        learn(&mut self.publishing_takes, took);
    }

    /// Until when a batch that was begun at `begun` waits for more, as far as is known now. It always waits for `wait`, and never longer
    /// than `patience`.
    pub(super) fn waits_until(&self, begun: Instant, wait: Duration, patience: Duration) -> Instant {
        let (least, most) = (begun + wait, begun + patience.max(wait));
        match self.publishing_since {
            // Handled when the one before it is published.
            Some(since) => (since + self.publishing_takes.saturating_sub(self.handling_takes)).clamp(least, most),
            // It would only wait to be handled.
            None if self.is_handling => most,
            None => least,
        }
    }
}

fn learn(takes: &mut Duration, took: Option<Duration>) {
    if let Some(took) = took {
        *takes = (*takes + took) / 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_millis(5);
    const PATIENCE: Duration = Duration::from_millis(100);

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Handling takes so long, and publishing.
    fn learned(handling: u64, publishing: u64) -> Overlap {
        let mut overlap = Overlap::default();
        for _ in 0..40 {
            overlap.handles();
            overlap.handled(Some(millis(handling)));
            overlap.publishes(Instant::now());
            overlap.published(Some(millis(publishing)));
        }
        overlap
    }

    fn waits(overlap: &Overlap, begun: Instant) -> u128 {
        // What was learned is a mean of halves, a little less than what was told.
        (overlap.waits_until(begun, WAIT, PATIENCE) - begun + Duration::from_micros(10)).as_millis()
    }

    #[test]
    fn with_nothing_in_hand_it_waits_as_configured() {
        let now = Instant::now();
        assert_eq!(waits(&Overlap::default(), now), 5);
        assert_eq!(waits(&learned(8, 40), now), 5);
    }

    #[test]
    fn it_is_handled_when_the_one_before_it_is_published() {
        let mut overlap = learned(8, 40);
        let since = Instant::now();
        overlap.publishes(since);
        assert_eq!(waits(&overlap, since), 32);
        assert_eq!(waits(&overlap, since + millis(20)), 12);
        assert_eq!(waits(&overlap, since + millis(30)), 5, "but no less than is configured");
    }

    #[test]
    fn where_handling_takes_longer_than_publishing_it_is_handed_over_as_soon_as_the_one_before_it_is_handled() {
        let mut overlap = learned(80, 20);
        let now = Instant::now();
        overlap.handles();
        assert_eq!(waits(&overlap, now), 100);
        overlap.handled(Some(millis(80)));
        overlap.publishes(now);
        assert_eq!(waits(&overlap, now), 5);
    }

    #[test]
    fn what_takes_unusually_long_is_not_waited_for_for_ever() {
        let mut overlap = learned(1, 30_000);
        let now = Instant::now();
        overlap.publishes(now);
        assert_eq!(waits(&overlap, now), 100);
        assert_eq!((overlap.waits_until(now, millis(300), PATIENCE) - now).as_millis(), 300);
    }

    #[test]
    fn what_is_no_batch_of_records_teaches_nothing() {
        let mut overlap = learned(8, 40);
        let now = Instant::now();
        overlap.handles();
        overlap.handled(None);
        overlap.publishes(now);
        overlap.published(None);
        overlap.publishes(now);
        assert_eq!(waits(&overlap, now), 32);
    }
}
