//! Waiting for a condition, never for time.

use std::thread;
use std::time::{Duration, Instant};

/// Short against what is waited for (brokers, processes), long against what asking costs.
const PAUSE: Duration = Duration::from_millis(10);

/// Asks until `condition` holds. Panics after `timeout` with `what`, which reads on from "waiting until".
#[track_caller]
pub fn wait_until(what: &str, timeout: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + timeout;
    while !condition() {
        assert!(Instant::now() < deadline, "gave up after {timeout:?} waiting until {what}");
        thread::sleep(PAUSE);
    }
}
