//! Deletes what was released from the delay topics. A topic in which things wait a minute would else keep them for the 30 days that the
//! longest wait asks for.
//!
//! Only what lies before a committed offset goes: it was released in the very transaction that committed the offset. Deleting it twice,
//! or not at all, is harmless, so nothing waits for it and nothing is made of a failure but a line in the log.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tracing::{debug, warn};
use wal_model::Topic;
use wal_runtime::batch_loop::Place;
use wal_runtime::directory::Directory;

/// Clears the delay topics now and then, behind the work.
pub(crate) struct Clearing {
    every: Duration,
    brokers: Directory,
    done: Mutex<Done>,
    is_under_way: Arc<AtomicBool>,
}

/// Up to where was deleted, and when.
struct Done {
    at: Instant,
    before: HashMap<(Topic, i32), i64>,
}

impl Clearing {
    pub(crate) fn new(every: Duration, brokers: Directory) -> Clearing {
        let done = Mutex::new(Done { at: Instant::now(), before: HashMap::new() });
        Clearing { every, brokers, done, is_under_way: Arc::default() }
    }

    /// Begins to delete what lies before the committed offsets, if it is time.
    pub(crate) fn tick(&self, places: &HashMap<(Topic, i32), Place>) {
        let mut done = self.done.lock().expect("nothing panics while it is held");
        if done.at.elapsed() < self.every || self.is_under_way.load(Ordering::SeqCst) {
            return;
        }
        let before = done.step(places);
        drop(done);
        if before.is_empty() {
            return;
        }
        self.is_under_way.store(true, Ordering::SeqCst);
        let (brokers, is_under_way) = (self.brokers.clone(), Arc::clone(&self.is_under_way));
        tokio::spawn(async move {
            let partitions = before.len();
            match brokers.delete_before(&before).await {
                Ok(()) => debug!(partitions, "deleted what was released"),
                Err(why) => warn!(
                    why,
                    "could not delete what was released from the delay topics; topics.delay_retention will \
                     (retry_scheduler.delete_released_every = \"0s\" stops trying)"
                ),
            }
            is_under_way.store(false, Ordering::SeqCst);
        });
    }
}

impl Done {
    /// What is to be deleted now. A failure is not tried again before the place has moved on.
    fn step(&mut self, places: &HashMap<(Topic, i32), Place>) -> Vec<((Topic, i32), i64)> {
        self.at = Instant::now();
        self.before.retain(|partition, _| places.contains_key(partition));
        let mut before = Vec::new();
        for (partition, Place { committed, .. }) in places {
            let done = self.before.entry(partition.clone()).or_insert(0);
            if committed > done {
                *done = *committed;
                before.push((partition.clone(), *committed));
            }
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_committed_goes_and_only_once() {
        let mut done = Done { at: Instant::now(), before: HashMap::new() };
        let partition = (Topic::parse("wal.delay.1s").unwrap(), 3);
        let place =
            |committed| HashMap::from([(partition.clone(), Place { assignment: 1, next: committed + 7, committed })]);
        assert!(done.step(&place(0)).is_empty(), "nothing was released");
        assert_eq!(done.step(&place(5)), [(partition.clone(), 5)]);
        assert!(done.step(&place(5)).is_empty());
        assert_eq!(done.step(&place(9)), [(partition.clone(), 9)]);
        done.step(&HashMap::new());
        assert_eq!(done.step(&place(9)), [(partition.clone(), 9)], "it was somebody else's meanwhile");
    }
}
