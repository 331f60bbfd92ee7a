//! A thread that owns a Kafka client: it starts within a limit, stops when asked, and is left behind rather than waited for when
//! librdkafka hangs in closing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::connection::ConnectError;

/// How a stop went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The client is closed.
    InTime,
    /// It is still closing, on a thread of its own, and is left to it. (librdkafka can hang when a broker is gone.)
    LeftBehind,
}

/// Whether the thread should end.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// How the thread says that it is up, or why it is not.
pub(crate) type Ready = oneshot::Sender<Result<(), ConnectError>>;

/// The handle of a thread.
#[derive(Debug)]
pub(crate) struct Worker {
    stop: Arc<AtomicBool>,
    /// Resolves when the thread has ended, by whatever way: its sender is dropped then.
    ended: oneshot::Receiver<()>,
}

impl Worker {
    /// Starts `body` on a thread and waits until it is ready. The client must live and die inside `body`.
    pub(crate) async fn start(
        name: &str,
        limit: Duration,
        body: impl FnOnce(Ready, Stop) + Send + 'static,
    ) -> Result<Worker, ConnectError> {
        let (ready, is_ready) = oneshot::channel();
        let (alive, ended) = oneshot::channel();
        let stop = Arc::new(AtomicBool::new(false));
        // Made first: from here on, leaving this function early stops the thread.
        let worker = Worker { stop: Arc::clone(&stop), ended };
        let run = move || {
            let _alive: oneshot::Sender<()> = alive;
            body(ready, Stop(stop));
        };
        thread::Builder::new().name(name.to_owned()).spawn(run).map_err(ConnectError::Thread)?;
        match tokio::time::timeout(limit, is_ready).await {
            Ok(Ok(outcome)) => outcome.map(|()| worker),
            Ok(Err(_)) => Err(ConnectError::Ended),
            Err(_) => Err(ConnectError::TimedOut(limit)),
        }
    }

    /// Asks the thread to end.
    pub(crate) fn ask(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Asks the thread to end and waits for it.
    pub(crate) async fn stop(mut self, limit: Duration) -> Stopped {
        self.ask();
        match tokio::time::timeout(limit, &mut self.ended).await {
            Ok(_) => Stopped::InTime,
            Err(_) => Stopped::LeftBehind,
        }
    }
}

impl Drop for Worker {
    /// Asks the thread to end, and does not wait.
    fn drop(&mut self) {
        self.ask();
    }
}

/// Runs `close` on a thread of its own: what it does may block. Resolves when it is done.
pub(crate) fn aside(name: &str, close: impl FnOnce() + Send + 'static) -> oneshot::Receiver<()> {
    let (alive, ended) = oneshot::channel();
    let run = move || {
        let _alive: oneshot::Sender<()> = alive;
        close();
    };
    if let Err(error) = thread::Builder::new().name(name.to_owned()).spawn(run) {
        tracing::warn!(%error, "no thread to close a Kafka client on; it was dropped in place");
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_thread_is_stopped_and_waited_for() {
        let (seen, was_stopped) = oneshot::channel();
        let worker = Worker::start("test", SOON, move |ready, stop| {
            ready.send(Ok(())).unwrap();
            while !stop.is_asked() {
                thread::yield_now();
            }
            seen.send(()).unwrap();
        });
        assert_eq!(worker.await.unwrap().stop(SOON).await, Stopped::InTime);
        was_stopped.await.unwrap();
    }

    #[tokio::test]
    async fn a_thread_that_hangs_is_left_behind() {
        let (hang, hung) = std::sync::mpsc::channel::<()>();
        let worker = Worker::start("test", SOON, move |ready, _| {
            ready.send(Ok(())).unwrap();
            let _ = hung.recv();
        });
        assert_eq!(worker.await.unwrap().stop(Duration::from_millis(20)).await, Stopped::LeftBehind);
        drop(hang);
    }

    #[tokio::test]
    async fn a_thread_that_ends_early_or_never_gets_ready_is_an_error() {
        let ended = Worker::start("test", SOON, |_, _| {}).await;
        assert!(matches!(ended, Err(ConnectError::Ended)));
        let slow = Worker::start("test", Duration::from_millis(20), |ready, stop| {
            while !stop.is_asked() {
                thread::yield_now();
            }
            drop(ready);
        });
        assert!(matches!(slow.await, Err(ConnectError::TimedOut(_))));
    }
}
