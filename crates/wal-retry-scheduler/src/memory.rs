//! What was decided lately, so that a failure that is told twice is decided once. Pure.
//!
//! ```text
//!   a partition of wal.failures    ├──── window of append time ────┤ place of the batch at hand ├──▶
//!                                     decided: remembered             decided: remembered once committed
//! ```
//!
//! The memory is no state of its own: it can be read back from the partition at any time, and is, whenever an assignment is new or a
//! batch was given up. A repeat that comes later than the window is decided again, and so is one on the other side of a change of the
//! number of partitions, which sends a log id to another one; consumers that follow the log's protocol repeat nothing.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use wal_model::delivery::Delivery;
use wal_model::{ContentHash, Timestamp};

/// Which attempt was decided, in 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint(u128);

impl Fingerprint {
    /// Of an attempt: by log id, round and attempt.
    pub(crate) fn of(delivery: &Delivery) -> Fingerprint {
        let text = format!("{} {} {}", delivery.log_id, delivery.round, delivery.attempt);
        let hash = ContentHash::of(text.as_bytes());
        let (half, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
        Fingerprint(u128::from_be_bytes(*half))
    }
}

/// What was decided in each partition that is held.
pub(crate) struct Memory {
    window: Duration,
    most: usize,
    partitions: HashMap<i32, Partition>,
}

/// One partition's.
struct Partition {
    /// The assignment under which it was read back.
    assignment: u64,
    known: HashSet<Fingerprint>,
    /// The same, the oldest first, with the time the failure was appended.
    ages: VecDeque<(Timestamp, Fingerprint)>,
    has_overflowed: bool,
}

/// The memory of a partition has reached its limit, and from now on forgets what is not old enough to be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overflowed {
    /// The partition.
    pub partition: i32,
}

impl Memory {
    /// Remembers what was decided within `window`, at most `most` decisions of each partition.
    pub(crate) fn new(window: Duration, most: usize) -> Memory {
        Memory { window, most, partitions: HashMap::new() }
    }

    /// Whether all that must be remembered of a partition under this assignment is.
    pub(crate) fn is_complete(&self, partition: i32, assignment: u64) -> bool {
        self.partitions.get(&partition).is_some_and(|known| known.assignment == assignment)
    }

    /// From when on failures of a partition must be remembered for a record that was appended at `time`.
    pub(crate) fn since(&self, time: Timestamp) -> Timestamp {
        let window = i64::try_from(self.window.as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millis(time.as_millis().saturating_sub(window)).unwrap_or(Timestamp::EPOCH)
    }

    /// Forgets a partition, which is then to be read back: [`Memory::remember`] fills it.
    pub(crate) fn begin(&mut self, partition: i32, assignment: u64) {
        let fresh = Partition { assignment, known: HashSet::new(), ages: VecDeque::new(), has_overflowed: false };
        self.partitions.insert(partition, fresh);
    }

    /// Forgets the partitions that are not held any more.
    pub(crate) fn keep(&mut self, is_held: impl Fn(i32) -> bool) {
        self.partitions.retain(|partition, _| is_held(*partition));
    }

    /// Forgets everything: what was believed to be decided may not be.
    pub(crate) fn clear(&mut self) {
        self.partitions.clear();
    }

    /// Remembers that an attempt whose failure was appended at `time` was decided. A partition that was not begun has nothing to add to.
    pub(crate) fn remember(&mut self, partition: i32, time: Timestamp, attempt: Fingerprint) -> Option<Overflowed> {
        let held = self.partitions.get_mut(&partition)?;
        if !held.known.insert(attempt) {
            return None;
        }
        held.ages.push_back((time, attempt));
        if held.ages.len() <= self.most {
            return None;
        }
        held.forget_oldest();
        let is_first = !std::mem::replace(&mut held.has_overflowed, true);
        is_first.then_some(Overflowed { partition })
    }

    /// Forgets what lies before the window of a record of the partition that was appended at `time`.
    pub(crate) fn pass(&mut self, partition: i32, time: Timestamp) {
        let since = self.since(time);
        let Some(held) = self.partitions.get_mut(&partition) else { return };
        while held.ages.front().is_some_and(|(appended, _)| *appended < since) {
            held.forget_oldest();
        }
    }

    /// Whether an attempt was decided.
    pub(crate) fn is_decided(&self, partition: i32, attempt: Fingerprint) -> bool {
        self.partitions.get(&partition).is_some_and(|held| held.known.contains(&attempt))
    }

    /// How many decisions are remembered.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.partitions.values().map(|held| held.ages.len()).sum()
    }
}

impl Partition {
    fn forget_oldest(&mut self) {
        if let Some((_, attempt)) = self.ages.pop_front() {
            self.known.remove(&attempt);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::samples::{at, delivery};

    const WINDOW: Duration = Duration::from_secs(900);

    fn attempt(number: u32) -> Fingerprint {
        Fingerprint::of(&Delivery { attempt: number, ..delivery() })
    }

    #[test]
    fn attempts_are_told_apart_by_all_three() {
        let of = |change: fn(&mut Delivery)| {
            let mut delivery = delivery();
            change(&mut delivery);
            Fingerprint::of(&delivery)
        };
        let first = of(|_| {});
        assert_eq!(first, of(|delivery| delivery.retry_count = 7));
        assert_ne!(first, of(|delivery| delivery.attempt = 2));
        assert_ne!(first, of(|delivery| delivery.round = 2));
        assert_ne!(
            first,
            of(|delivery| {
                delivery.log_id =
                    "wal_orders_20241201T100000001Z_6f7a8598-26c4-5310-a0c0-25bce4910e9f".parse().unwrap();
            })
        );
    }

    #[test]
    fn decisions_are_known_for_the_window_of_append_time_and_no_longer() {
        let mut memory = Memory::new(WINDOW, 100);
        memory.begin(3, 1);
        memory.remember(3, at(1_000), attempt(1));
        memory.remember(3, at(2_000), attempt(2));
        memory.pass(3, at(901_000));
        assert!(memory.is_decided(3, attempt(1)) && memory.is_decided(3, attempt(2)));
        assert!(!memory.is_decided(4, attempt(1)), "another partition's");
        memory.pass(3, at(901_001));
        assert!(!memory.is_decided(3, attempt(1)) && memory.is_decided(3, attempt(2)));
        assert_eq!(memory.since(at(900_000)), at(0));
        assert_eq!(memory.since(at(5)), at(0));
    }

    #[test]
    fn another_assignment_and_a_batch_given_up_want_it_read_back() {
        let mut memory = Memory::new(WINDOW, 100);
        assert!(!memory.is_complete(0, 1));
        memory.begin(0, 1);
        memory.remember(0, at(0), attempt(1));
        assert!(memory.is_complete(0, 1) && !memory.is_complete(0, 2) && !memory.is_complete(1, 1));
        memory.begin(0, 2);
        assert!(!memory.is_decided(0, attempt(1)));
        memory.clear();
        assert!(!memory.is_complete(0, 2));
        assert_eq!(memory.remember(0, at(0), attempt(1)), None);
        assert!(!memory.is_decided(0, attempt(1)), "it must be read back first");
    }

    #[test]
    fn a_limit_is_kept_and_told_once() {
        let mut memory = Memory::new(WINDOW, 2);
        memory.begin(0, 1);
        let told: Vec<bool> = (1..=4).map(|number| memory.remember(0, at(0), attempt(number)).is_some()).collect();
        assert_eq!(told, [false, false, true, false]);
        assert_eq!(memory.len(), 2);
        assert!(!memory.is_decided(0, attempt(2)) && memory.is_decided(0, attempt(3)));
    }

    proptest! {
        /// What is remembered while it happens is what another instance reads back.
        #[test]
        fn read_back_is_the_same_as_remembered(
            told in prop::collection::vec((0i64..200_000, 0u32..30), 0..200), next in 0i64..100_000,
        ) {
            let mut now = 1_000_000;
            let mut log = Vec::new();
            let mut lived = Memory::new(WINDOW, 1000);
            lived.begin(0, 1);
            for (pause, number) in told {
                now += pause;
                lived.pass(0, at(now));
                log.push((at(now), attempt(number)));
                if !lived.is_decided(0, attempt(number)) {
                    lived.remember(0, at(now), attempt(number));
                }
            }
            let next = at(now + next);
            lived.pass(0, next);
            let mut read_back = Memory::new(WINDOW, 1000);
            read_back.begin(0, 2);
            let since = read_back.since(next);
            for (time, attempt) in log.iter().filter(|(time, _)| *time >= since) {
                read_back.remember(0, *time, *attempt);
            }
            for number in 0..30 {
                // It may know more: a repeat within the window of a decision before it.
                prop_assert!(!lived.is_decided(0, attempt(number)) || read_back.is_decided(0, attempt(number)));
            }
        }
    }
}
