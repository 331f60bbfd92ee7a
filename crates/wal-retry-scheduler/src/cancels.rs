//! Cancelled rounds: a compacted topic that is read in full before anything is decided or released.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tracing::warn;
use wal_model::cancel::Cancel;
use wal_model::seal::Keyring;
use wal_model::topics::Topics;
use wal_model::{InRecord, LogId, Timestamp};
use wal_runtime::config::Kafka;
use wal_runtime::reading::Follower;

/// The cancels there are.
pub(crate) struct Cancels {
    book: Arc<Mutex<Book>>,
    /// Who keeps the book up to date; tests do it by hand.
    follower: Option<Follower>,
}

impl Cancels {
    /// Begins to follow the topic of cancels.
    pub(crate) fn follow(kafka: &Kafka, topics: &Topics, keyring: Keyring) -> std::io::Result<Cancels> {
        let book = Arc::new(Mutex::new(Book::default()));
        let writing = Arc::clone(&book);
        let follower = Follower::start(kafka, topics.cancels(), move |record| lock(&writing).take(&record, &keyring))?;
        Ok(Cancels { book, follower: Some(follower) })
    }

    /// Waits until every cancel that was there at the start is known.
    pub(crate) async fn caught_up(&self) {
        if let Some(follower) = &self.follower {
            follower.caught_up().await;
        }
    }

    /// Whether a round is cancelled.
    pub(crate) fn covers(&self, log_id: &LogId, round: u32) -> bool {
        lock(&self.book).covers(log_id, round)
    }

    /// The entries whose cancelled round ended longer ago than `kept`.
    pub(crate) fn outlived(&self, now: Timestamp, kept: Duration) -> Vec<LogId> {
        lock(&self.book).outlived(now, kept)
    }

    /// Stops following.
    pub(crate) async fn stop(self) {
        if let Some(follower) = self.follower {
            follower.stop().await;
        }
    }
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().expect("nothing panics while it is held")
}

/// What the topic says, as far as it was read. Pure.
#[derive(Debug, Default)]
struct Book {
    cancelled: HashMap<LogId, Cancelled>,
}

#[derive(Clone, Copy, Debug)]
struct Cancelled {
    /// This round and every earlier one.
    round: u32,
    deadline: Timestamp,
}

impl Book {
    /// Takes in a record of the topic. Twice is once.
    fn take(&mut self, record: &InRecord, keyring: &Keyring) {
        if record.value.is_none() {
            let log_id = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
            if let Some(log_id) = log_id.and_then(|text| text.parse::<LogId>().ok()) {
                self.cancelled.remove(&log_id);
            }
            return;
        }
        match Cancel::decode(record, keyring) {
            Ok(Cancel { log_id, round, deadline }) => {
                let known = self.cancelled.entry(log_id).or_insert(Cancelled { round, deadline });
                if round > known.round {
                    *known = Cancelled { round, deadline };
                }
            }
            // It stays where it is: nothing reads this topic but to follow it, and it harms nobody there.
            Err(error) => warn!(record = %record.coordinates(), %error, "no cancel, passed over"),
        }
    }

    fn covers(&self, log_id: &LogId, round: u32) -> bool {
        self.cancelled.get(log_id).is_some_and(|cancelled| round <= cancelled.round)
    }

    fn outlived(&self, now: Timestamp, kept: Duration) -> Vec<LogId> {
        let is_outlived = |cancelled: &Cancelled| now > cancelled.deadline.saturating_add(kept);
        self.cancelled
            .iter()
            .filter(|(_, cancelled)| is_outlived(cancelled))
            .map(|(log_id, _)| log_id.clone())
            .collect()
    }
}

#[cfg(any(test, feature = "testing"))]
impl Cancels {
    /// Cancels that nobody follows.
    pub(crate) fn by_hand() -> Cancels {
        Cancels { book: Arc::default(), follower: None }
    }

    /// Takes in a record.
    pub(crate) fn take_with(&self, record: &InRecord, keyring: &Keyring) {
        lock(&self.book).take(record, keyring);
    }
}

#[cfg(test)]
impl Cancels {
    /// Takes in a record.
    pub(crate) fn take(&self, record: &InRecord) {
        self.take_with(record, &crate::samples::keyring());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{at, delivery, keyring, read, topics};

    fn cancel(round: u32, deadline: i64) -> InRecord {
        let cancel = Cancel { log_id: delivery().log_id, round, deadline: at(deadline) };
        read(cancel.encode(topics().cancels(), &keyring()), 0, 0, at(0))
    }

    fn tombstone() -> InRecord {
        read(Cancel::tombstone(&delivery().log_id, topics().cancels()), 0, 1, at(0))
    }

    #[test]
    fn a_cancel_covers_its_round_and_every_earlier_one() {
        let (cancels, log_id) = (Cancels::by_hand(), delivery().log_id);
        assert!(!cancels.covers(&log_id, 1));
        cancels.take(&cancel(2, 1000));
        assert!(cancels.covers(&log_id, 1) && cancels.covers(&log_id, 2));
        assert!(!cancels.covers(&log_id, 3), "a redrive makes a new round");
        cancels.take(&cancel(1, 500));
        assert!(cancels.covers(&log_id, 2), "one that comes late takes nothing back");
    }

    #[test]
    fn a_cancel_ends_with_its_tombstone_which_follows_its_deadline() {
        let (cancels, log_id) = (Cancels::by_hand(), delivery().log_id);
        cancels.take(&cancel(1, 1000));
        let kept = Duration::from_millis(500);
        assert!(cancels.outlived(at(1500), kept).is_empty());
        assert_eq!(cancels.outlived(at(1501), kept), std::slice::from_ref(&log_id));
        assert!(cancels.covers(&log_id, 1), "until the tombstone is written");
        cancels.take(&tombstone());
        assert!(!cancels.covers(&log_id, 1));
        assert!(cancels.outlived(at(1501), kept).is_empty());
    }

    #[test]
    fn nobody_else_can_cancel() {
        let cancels = Cancels::by_hand();
        let mut forged = cancel(1, 1000);
        forged.headers.clear();
        cancels.take(&forged);
        assert!(!cancels.covers(&delivery().log_id, 1));
    }
}
