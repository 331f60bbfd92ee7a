//! How large a batch may be just now. Pure.
//!
//! A transaction that the brokers do not finish in time is aborted, and the same records taken again would take as long again: many
//! partitions, or brokers that are slow for an hour. So each batch that is given up halves the next one, and each that is committed lets
//! it grow again by an eighth of itself. What a transaction can hold is found that way, nothing is stuck for ever, and some five
//! batches are committed for one that asked for too much.

use super::Limits;

/// Parts of what is configured.
const WHOLE: usize = 4096;
/// So much is left of it in the worst case.
const FLOOR: usize = WHOLE / 64;
/// A committed batch adds so much of itself.
const STEP: usize = 8;
/// So few records that every lane still has one, and that fewer would not help.
const LEAST: usize = 8;

pub(super) struct Size {
    configured: Limits,
    parts: usize,
}

impl Size {
    pub(super) fn new(configured: Limits) -> Size {
        Size { configured, parts: WHOLE }
    }

    /// How much the next batch may hold.
    pub(super) fn limits(&self) -> Limits {
        let Limits { records, bytes, wait } = self.configured;
        let part = |whole: usize| (whole as u128 * self.parts as u128 / WHOLE as u128) as usize;
        Limits { records: part(records).max(LEAST.min(records)), bytes: part(bytes).max(1), wait }
    }

    pub(super) fn given_up(&mut self) {
        self.parts = (self.parts / 2).max(FLOOR);
    }

    pub(super) fn committed(&mut self) {
        self.parts = (self.parts + self.parts / STEP).min(WHOLE);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn size(records: usize, bytes: usize) -> Size {
        Size::new(Limits { records, bytes, wait: Duration::from_millis(5) })
    }

    fn of(size: &Size) -> (usize, usize) {
        let Limits { records, bytes, wait } = size.limits();
        assert_eq!(wait, Duration::from_millis(5));
        (records, bytes)
    }

    #[test]
    fn what_is_given_up_comes_back_smaller_until_it_is_committed_and_then_grows_again() {
        let mut size = size(1000, 6400);
        assert_eq!(of(&size), (1000, 6400));
        size.given_up();
        assert_eq!(of(&size), (500, 3200));
        for _ in 0..20 {
            size.given_up();
        }
        assert_eq!(of(&size), (15, 100));
        size.committed();
        assert_eq!(of(&size), (17, 112));
        for _ in 0..36 {
            size.committed();
        }
        assert_eq!(of(&size), (1000, 6400));
    }

    #[test]
    fn few_batches_ask_for_more_than_a_transaction_can_hold() {
        for can_hold in [30, 70, 300, 700] {
            let mut size = size(1000, usize::MAX);
            let (mut committed, mut given_up) = (0, 0);
            for _ in 0..100 {
                if size.limits().records <= can_hold {
                    committed += 1;
                    size.committed();
                } else {
                    given_up += 1;
                    size.given_up();
                }
            }
            assert!(given_up < 25, "{committed} and {given_up} where {can_hold} can be held");
        }
    }

    #[test]
    fn the_smallest_batch_has_room_for_every_lane_and_never_more_than_is_configured() {
        for (configured, least) in [(100, 8), (8, 8), (3, 3), (1, 1)] {
            let mut size = size(configured, 1);
            for _ in 0..20 {
                size.given_up();
            }
            assert_eq!(of(&size), (least, 1));
        }
        let largest = size(usize::MAX, usize::MAX);
        assert_eq!(of(&largest), (usize::MAX, usize::MAX));
    }
}
