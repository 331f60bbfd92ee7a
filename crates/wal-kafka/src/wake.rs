//! What a polling thread rests on.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// Wakes a thread that polls: a queue is not empty any more, an answer came, a stop is wanted.
#[derive(Default)]
pub struct Wake {
    is_due: Mutex<bool>,
    changed: Condvar,
}

impl Wake {
    /// Wakes the thread, or keeps it from its next rest.
    pub fn wake(&self) {
        *self.is_due.lock().expect("nothing panics while it is held") = true;
        self.changed.notify_one();
    }

    /// Returns when woken, or after `limit`.
    pub fn wait(&self, limit: Duration) {
        let is_due = self.is_due.lock().expect("nothing panics while it is held");
        let (mut is_due, _) =
            self.changed.wait_timeout_while(is_due, limit, |is_due| !*is_due).expect("nothing panics while it is held");
        *is_due = false;
    }
}
