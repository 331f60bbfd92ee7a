//! Scenarios take turns: most of their time they wait, but more than a few at a time would starve each other into timeouts on few cores.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How many scenarios hold a turn at the same time, whatever `--test-threads` says.
const AT_ONCE: usize = 4;

static TAKEN: Mutex<usize> = Mutex::new(0);
static GIVEN_BACK: Condvar = Condvar::new();

/// A scenario's turn; given back on drop, also by a scenario that fails.
pub struct Turn(());

/// Waits for a turn.
pub fn take() -> Turn {
    let taken = GIVEN_BACK.wait_while(taken(), |taken| *taken >= AT_ONCE);
    *taken.unwrap_or_else(PoisonError::into_inner) += 1;
    Turn(())
}

impl Drop for Turn {
    fn drop(&mut self) {
        *taken() -= 1;
        GIVEN_BACK.notify_one();
    }
}

/// A number stays whole, whoever panics.
fn taken() -> MutexGuard<'static, usize> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}
