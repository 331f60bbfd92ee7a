//! Assignment epochs: what is held under an epoch that has passed must not be published.

use std::collections::HashMap;
use std::sync::Mutex;

use tokio::sync::watch;
use wal_model::Topic;

/// A partition of a topic.
pub type Partition = (Topic, i32);

/// Which partitions are ours, each under a number that no earlier or later assignment of it has.
#[derive(Default)]
pub struct Epochs {
    current: Mutex<Current>,
    moved: watch::Sender<u64>,
}

#[derive(Default)]
struct Current {
    last: u64,
    of: HashMap<Partition, u64>,
}

/// The epochs a batch was started under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(Vec<(Partition, u64)>);

impl Snapshot {
    /// The epoch a partition was held under.
    pub fn epoch(&self, partition: &Partition) -> Option<u64> {
        self.0.iter().find(|(other, _)| other == partition).map(|(_, epoch)| *epoch)
    }

    /// Only what concerns some partitions.
    pub fn restricted_to(mut self, is_wanted: impl Fn(&Partition) -> bool) -> Snapshot {
        self.0.retain(|(partition, _)| is_wanted(partition));
        self
    }
}

impl Epochs {
    /// No partition is ours yet.
    pub fn new() -> Epochs {
        Epochs::default()
    }

    /// Partitions are ours, from now on and anew.
    pub fn assign(&self, partitions: impl IntoIterator<Item = Partition>) {
        let mut current = self.lock();
        for partition in partitions {
            current.last += 1;
            let epoch = current.last;
            current.of.insert(partition, epoch);
        }
    }

    /// Partitions are not ours any more.
    pub fn revoke<'a>(&self, partitions: impl IntoIterator<Item = &'a Partition>) {
        let mut current = self.lock();
        for partition in partitions {
            current.of.remove(partition);
        }
        drop(current);
        self.moved.send_modify(|count| *count += 1);
    }

    /// The epoch of a partition; `None` if it is not ours.
    pub fn of(&self, partition: &Partition) -> Option<u64> {
        self.lock().of.get(partition).copied()
    }

    /// The epochs of some partitions; `None` if one of them is not ours.
    pub fn snapshot<'a>(&self, partitions: impl IntoIterator<Item = &'a Partition>) -> Option<Snapshot> {
        let current = self.lock();
        partitions
            .into_iter()
            .map(|partition| current.of.get(partition).map(|epoch| (partition.clone(), *epoch)))
            .collect::<Option<_>>()
            .map(Snapshot)
    }

    /// Whether every partition is still held under the epoch it had.
    pub fn holds(&self, snapshot: &Snapshot) -> bool {
        let current = self.lock();
        snapshot.0.iter().all(|(partition, epoch)| current.of.get(partition) == Some(epoch))
    }

    /// Returns when the snapshot does not hold any more.
    pub async fn passed(&self, snapshot: &Snapshot) {
        let mut moved = self.moved.subscribe();
        // Subscribed before the first look: a revoke in between wakes the wait below.
        while self.holds(snapshot) {
            if moved.changed().await.is_err() {
                return;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().expect("nothing panics while it is held")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: i32) -> Partition {
        (Topic::parse("t").unwrap(), number)
    }

    #[test]
    fn a_partition_that_left_and_came_back_is_another_one() {
        let epochs = Epochs::new();
        epochs.assign([partition(0), partition(1)]);
        let snapshot = epochs.snapshot([&partition(0)]).unwrap();
        epochs.revoke([&partition(1)]);
        assert!(epochs.holds(&snapshot));
        epochs.revoke([&partition(0)]);
        assert!(!epochs.holds(&snapshot));
        epochs.assign([partition(0)]);
        assert!(!epochs.holds(&snapshot));
        assert_eq!(epochs.snapshot([&partition(1)]), None);
    }

    #[tokio::test]
    async fn waits_end_when_a_partition_is_lost() {
        let epochs = Epochs::new();
        epochs.assign([partition(0)]);
        let snapshot = epochs.snapshot([&partition(0)]).unwrap();
        let revoke = async { epochs.revoke([&partition(0)]) };
        tokio::join!(epochs.passed(&snapshot), revoke);
        assert!(!epochs.holds(&snapshot));
    }
}
