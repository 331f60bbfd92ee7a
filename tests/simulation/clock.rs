//! Time that only the agenda moves, and clocks that are a little wrong about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use wal_model::{Clock, Timestamp};

/// Virtual time in milliseconds. Cloning gives another handle on the same.
#[derive(Clone, Default)]
pub struct Time(Arc<AtomicI64>);

impl Time {
    pub fn starting_at(now: i64) -> Time {
        Time(Arc::new(AtomicI64::new(now)))
    }

    pub fn now(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    pub fn set(&self, now: i64) {
        self.0.store(now, Ordering::Relaxed);
    }
}

/// The clock of one machine.
#[derive(Clone, Default)]
pub struct Skewed {
    time: Time,
    skew: Arc<AtomicI64>,
}

impl Skewed {
    pub fn of(time: &Time) -> Skewed {
        Skewed { time: time.clone(), skew: Arc::default() }
    }

    /// Sets how far it is ahead, in milliseconds.
    pub fn set(&self, skew: i64) {
        self.skew.store(skew, Ordering::Relaxed);
    }
}

impl Clock for Skewed {
    fn now(&self) -> Timestamp {
        at(self.time.now() + self.skew.load(Ordering::Relaxed))
    }
}

/// So many milliseconds after the epoch.
pub fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis).expect("a time between 1970 and 9999")
}
