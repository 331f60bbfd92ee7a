//! How many requests are under way at one time: at most as many as allowed, fewer while the database says that they queue.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::fault::{Class, Fault};

/// A request that waited this long in the database's queue is one too many.
const QUEUED_TOO_LONG: Duration = Duration::from_millis(500);

/// What an answer said about the database's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// There was no answer, or it did not say.
    Unknown,
    /// It had waited this long before it was begun.
    Queued(Duration),
    /// It was sent away.
    Refused,
}

/// The bound. Each refusal halves it, each long wait takes a tenth; a full round of answers without either adds one.
pub(super) struct Limit {
    semaphore: Semaphore,
    most: usize,
    window: Mutex<Window>,
}

struct Window {
    /// How many there may be.
    wanted: f64,
    /// How many the semaphore has handed out or holds.
    granted: usize,
}

impl Limit {
    pub(super) fn new(most: usize) -> Limit {
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        let window = Mutex::new(Window { wanted: most as f64, granted: most });
        Limit { semaphore: Semaphore::new(most), most, window }
    }

    /// Waits for a turn. A permit that is only dropped leaves the bound as it is.
    pub(super) async fn enter(&self, wait: Duration) -> Result<SemaphorePermit<'_>, Fault> {
        match tokio::time::timeout(wait, self.semaphore.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Fault::new(Class::Busy, "too many requests are waiting for their turn")),
        }
    }

    /// Takes back a permit and what its answer said.
    pub(super) fn leave(&self, permit: SemaphorePermit<'_>, load: Load) {
        let mut window = self.window();
        window.wanted = next(window.wanted, self.most, load);
        // Whole and at least 1: `next` keeps it between 1 and `most`.
        let wanted = window.wanted as usize;
        if window.granted > wanted {
            permit.forget();
            window.granted -= 1;
        } else {
            self.semaphore.add_permits(wanted - window.granted);
            window.granted = wanted;
        }
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        // Two numbers that are right whenever the lock is free; nothing panics between.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn next(wanted: f64, most: usize, load: Load) -> f64 {
    let next = match load {
        Load::Unknown => wanted,
        Load::Refused => wanted / 2.0,
        Load::Queued(wait) if wait > QUEUED_TOO_LONG => wanted * 0.9,
        Load::Queued(_) => wanted + 1.0 / wanted,
    };
    next.clamp(1.0, most as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(limit: &Limit, load: Load) {
        let permit = limit.enter(Duration::from_secs(1)).await.unwrap();
        limit.leave(permit, load);
    }

    #[tokio::test]
    async fn a_queue_lowers_the_bound_and_its_end_raises_it_again() {
        let limit = Limit::new(8);
        answer(&limit, Load::Queued(Duration::ZERO)).await;
        assert_eq!(limit.semaphore.available_permits(), 8);
        for _ in 0..8 {
            answer(&limit, Load::Refused).await;
        }
        assert_eq!(limit.semaphore.available_permits(), 1);
        for _ in 0..100 {
            answer(&limit, Load::Queued(Duration::ZERO)).await;
        }
        assert_eq!(limit.semaphore.available_permits(), 8);
        for _ in 0..100 {
            answer(&limit, Load::Queued(Duration::from_secs(1))).await;
        }
        assert_eq!(limit.semaphore.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_call_that_was_dropped_gives_its_turn_back() {
        let limit = Limit::new(1);
        drop(limit.enter(Duration::from_secs(1)).await.unwrap());
        answer(&limit, Load::Unknown).await;
        assert_eq!(limit.semaphore.available_permits(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_does_not_come_is_told() {
        let limit = Limit::new(1);
        let _held = limit.enter(Duration::from_secs(1)).await.unwrap();
        assert_eq!(limit.enter(Duration::from_secs(1)).await.unwrap_err().class, Class::Busy);
    }
}
