//! Ends the process when a call that must return does not: restart is the way back that is tested every day.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tracing::error;

/// The exit code of a process that its watchdog ended (EX_SOFTWARE).
pub const EXIT_CODE: i32 = 70;

/// Watches one thread's calls.
#[derive(Clone)]
pub struct Watchdog(Arc<Shared>);

struct Shared {
    armed: Mutex<Armed>,
    changed: Condvar,
}

#[derive(Default)]
struct Armed {
    call: Option<(&'static str, Instant)>,
    is_over: bool,
}

/// While it lives, the call is watched.
pub struct Guard<'a>(&'a Watchdog);

impl Watchdog {
    /// Starts the thread that watches. `expired` is called with the name of a call that did not return in time.
    pub fn start(expired: impl Fn(&'static str) + Send + 'static) -> std::io::Result<Watchdog> {
        let shared = Arc::new(Shared { armed: Mutex::default(), changed: Condvar::new() });
        let watching = Arc::clone(&shared);
        std::thread::Builder::new().name("watchdog".into()).spawn(move || watch(&watching, expired))?;
        Ok(Watchdog(shared))
    }

    /// A watchdog that ends the process.
    pub fn deadly() -> std::io::Result<Watchdog> {
        Watchdog::start(|call| {
            error!(call, "a call to the Kafka client does not return; ending the process to be started again");
            std::process::exit(EXIT_CODE);
        })
    }

    /// Watches a call until the guard is dropped.
    pub fn arm(&self, call: &'static str, limit: Duration) -> Guard<'_> {
        self.set(Some((call, Instant::now() + limit)));
        Guard(self)
    }

    fn set(&self, call: Option<(&'static str, Instant)>) {
        self.0.armed.lock().expect("nothing panics while it is held").call = call;
        self.0.changed.notify_one();
    }

    /// Ends the thread that watches.
    pub fn stop(&self) {
        self.0.armed.lock().expect("nothing panics while it is held").is_over = true;
        self.0.changed.notify_one();
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.set(None);
    }
}

fn watch(shared: &Shared, expired: impl Fn(&'static str)) {
    let mut armed = shared.armed.lock().expect("nothing panics while it is held");
    while !armed.is_over {
        armed = match armed.call {
            None => shared.changed.wait(armed).expect("nothing panics while it is held"),
            Some((call, deadline)) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    armed.call = None;
                    expired(call);
                    continue;
                }
                shared.changed.wait_timeout(armed, left).expect("nothing panics while it is held").0
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_call_that_does_not_return_is_noticed_and_one_that_does_is_not() {
        let (expired, seen) = mpsc::channel();
        let watchdog = Watchdog::start(move |call| expired.send(call).unwrap()).unwrap();
        drop(watchdog.arm("returns", Duration::from_secs(3600)));
        let _guard = watchdog.arm("hangs", Duration::from_millis(1));
        assert_eq!(seen.recv_timeout(Duration::from_secs(30)), Ok("hangs"));
        watchdog.stop();
    }
}
