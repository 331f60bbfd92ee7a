//! Heads that are due and not published yet, as far as they are known: nothing behind a head is looked at.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use wal_model::{InRecord, Timestamp, Topic};

/// The last head of each partition that was let pass.
#[derive(Default)]
pub(crate) struct Overdue(Mutex<HashMap<(Topic, i32), Passed>>);

struct Passed {
    offset: i64,
    due: Timestamp,
}

impl Overdue {
    fn lock(&self) -> MutexGuard<'_, HashMap<(Topic, i32), Passed>> {
        self.0.lock().expect("nothing panics while it is held")
    }

    /// A head may be taken.
    pub(crate) fn passed(&self, head: &InRecord, due: Timestamp) {
        let passed = Passed { offset: head.offset, due };
        self.lock().insert((head.topic.clone(), head.partition), passed);
    }

    /// Records are committed, whatever became of them.
    pub(crate) fn committed(&self, records: &[InRecord]) {
        let mut passed = self.lock();
        for record in records {
            let key = (record.topic.clone(), record.partition);
            if passed.get(&key).is_some_and(|head| head.offset <= record.offset) {
                passed.remove(&key);
            }
        }
    }

    /// Forgets the partitions that are not held any more.
    pub(crate) fn keep(&self, is_held: impl Fn(&(Topic, i32)) -> bool) {
        self.lock().retain(|partition, _| is_held(partition));
    }

    /// How many there are, and for how long the first of them has been due.
    pub(crate) fn now(&self, now: Timestamp) -> (usize, Duration) {
        let passed = self.lock();
        let due = passed.values().map(|head| now.saturating_since(head.due));
        (passed.len(), due.max().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{at, delivery, keyring, read};

    fn head(offset: i64) -> InRecord {
        read(delivery().encode(at(0), &keyring()), 2, offset, at(0))
    }

    #[test]
    fn a_head_is_overdue_from_when_it_passes_until_it_is_committed() {
        let overdue = Overdue::default();
        assert_eq!(overdue.now(at(5000)), (0, Duration::ZERO));
        overdue.passed(&head(7), at(1000));
        assert_eq!(overdue.now(at(5000)), (1, Duration::from_secs(4)));
        // The next one passes before the first is committed.
        overdue.passed(&head(8), at(2000));
        overdue.committed(&[head(7)]);
        assert_eq!(overdue.now(at(5000)), (1, Duration::from_secs(3)));
        overdue.committed(&[head(8)]);
        assert_eq!(overdue.now(at(5000)), (0, Duration::ZERO));
    }

    #[test]
    fn what_moved_away_is_somebody_elses() {
        let overdue = Overdue::default();
        overdue.passed(&head(7), at(1000));
        overdue.keep(|(_, partition)| *partition == 2);
        assert_eq!(overdue.now(at(5000)).0, 1);
        overdue.keep(|_| false);
        assert_eq!(overdue.now(at(5000)).0, 0);
    }
}
