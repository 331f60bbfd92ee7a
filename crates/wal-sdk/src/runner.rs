//! The handler runner: so many attempts at a time, those of one key one after the other, and an answer for each.
//!
//! ```text
//!   Consumer ──▶ keys ──▶ handler, in a task ──┬── Ok ───────▶ complete
//!                 ▲                            ├── Err ──────▶ fail, with the handler's wish
//!                 └── the next of the key ◀────┴── panicked, took too long ──▶ fail
//! ```
//!
//! What is past its deadline is not handled: the log ends it by itself, and the offset moves past it.

mod handler;
mod keys;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use wal_model::status::Failure;
use wal_model::{Clock, InRecord, SystemClock};

pub use handler::{Handler, HandlerError};

use crate::consumer::{Arrival, Attempt, ConsumeError, Consumer, Done, Handed};
use keys::{Key, Keys};

/// The error code of a handler that panicked.
pub const HANDLER_PANICKED: &str = "handler_panicked";
/// The error code of a handler that took longer than its limit.
pub const HANDLER_TIMED_OUT: &str = "handler_timed_out";

/// How handlers are run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// How many attempts are handled at a time.
    pub concurrency: usize,
    /// After this a handler is dropped at its next await and its attempt fails with [`HANDLER_TIMED_OUT`]. `None` waits for ever: one
    /// handler that hangs then holds back its partition until the process ends.
    pub time_limit: Option<Duration>,
    /// How long a stop waits for handlers in the middle of their work, and again for the consumer to publish and to leave the group.
    pub stop_timeout: Duration,
}

/// 16 at a time, 5 minutes for each (after which Kafka's own consumers are given up, too), 10 s to stop.
impl Default for RunOptions {
    fn default() -> RunOptions {
        RunOptions {
            concurrency: 16,
            time_limit: Some(Duration::from_secs(300)),
            stop_timeout: Duration::from_secs(10),
        }
    }
}

/// What became of everything that was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Handled, and completed.
    pub completed: u64,
    /// Handled, and failed by the handler's own word.
    pub failed: u64,
    /// Failed because the handler panicked.
    pub panicked: u64,
    /// Failed because the handler took too long.
    pub timed_out: u64,
    /// Past their deadline, and so not handled.
    pub expired: u64,
    /// No deliveries of the log.
    pub foreign: u64,
    /// Not finished here: their partition moved away first, or the stop did not wait for them. They come again.
    pub given_back: u64,
}

impl Consumer {
    /// Handles attempts until `shutdown` completes, then finishes what is in hand, publishes the answers and leaves the group.
    ///
    /// Ends with an error when the consumer can do no more; what is in hand then comes again, to another member or to the next one
    /// that joins here. Attempts may be handled more than once: after a crash, and when a partition moves while its attempts are in hand.
    pub async fn run<H: Handler>(
        self,
        handler: H,
        options: RunOptions,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<Report, ConsumeError> {
        self.run_by(&SystemClock, handler, options, shutdown).await
    }

    pub(crate) async fn run_by<H: Handler>(
        self,
        clock: &dyn Clock,
        handler: H,
        options: RunOptions,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<Report, ConsumeError> {
        let runner = Runner {
            consumer: self,
            clock,
            handler: Arc::new(handler),
            keys: Keys::new(options.concurrency.max(1)),
            options,
            tasks: JoinSet::new(),
            in_hand: HashMap::new(),
            report: Report::default(),
        };
        runner.run(shutdown).await
    }
}

struct Runner<'a, H> {
    consumer: Consumer,
    clock: &'a dyn Clock,
    handler: Arc<H>,
    options: RunOptions,
    keys: Keys<Handed>,
    tasks: JoinSet<Outcome>,
    /// What each task is about: a task that panics takes nothing with it.
    in_hand: HashMap<Id, (Key, Handed)>,
    report: Report,
}

/// How a task ended by itself.
enum Outcome {
    Handled(Result<Done, HandlerError>),
    TimedOut,
    SeenTo,
}

impl<H: Handler> Runner<'_, H> {
    async fn run(mut self, shutdown: impl Future<Output = ()> + Send) -> Result<Report, ConsumeError> {
        let mut shutdown = pin!(shutdown);
        loop {
            self.start();
            tokio::select! {
                biased;
                () = &mut shutdown => return Ok(self.stop().await),
                Some(ended) = self.tasks.join_next_with_id() => self.end(ended),
                next = self.consumer.next() => match next {
                    Some(Ok(item)) => self.take(item),
                    Some(Err(trouble)) if trouble.is_retryable() => tracing::warn!(%trouble, "consuming is hindered"),
                    // What is in hand can be answered no more.
                    Some(Err(end)) => return Err(end),
                    None => return Err(ConsumeError::Ended("its thread ended without a word".to_owned())),
                },
            }
        }
    }

    fn take(&mut self, item: Handed) {
        let key = match &item {
            Handed::Attempt(attempt) => key_of(&attempt.arrival().record),
            Handed::Foreign(foreign) => key_of(&foreign.record),
        };
        self.keys.add(key, item);
    }

    fn start(&mut self) {
        while let Some((key, item)) = self.keys.start() {
            match item {
                item if !item.is_held() => {
                    item.give_back();
                    self.report.given_back += 1;
                    self.keys.end(key);
                }
                Handed::Attempt(attempt) if self.is_expired(attempt.arrival()) => {
                    tracing::debug!(log_id = %attempt.delivery().log_id, "past its deadline, so not handled");
                    attempt.let_expire();
                    self.report.expired += 1;
                    self.keys.end(key);
                }
                item => self.spawn(key, item),
            }
        }
    }

    /// A replayed copy is wanted whatever its entry's deadline was.
    fn is_expired(&self, arrival: &Arrival) -> bool {
        arrival.delivery.deadline < self.clock.now() && !arrival.is_replay
    }

    fn spawn(&mut self, key: Key, item: Handed) {
        let handler = Arc::clone(&self.handler);
        let task = match &item {
            Handed::Attempt(attempt) => {
                let (arrival, limit) = (Arc::clone(attempt.arrival()), self.options.time_limit);
                self.tasks.spawn(async move {
                    let handling = handler.handle(arrival);
                    match limit {
                        None => Outcome::Handled(handling.await),
                        Some(limit) => {
                            tokio::time::timeout(limit, handling).await.map_or(Outcome::TimedOut, Outcome::Handled)
                        }
                    }
                })
            }
            Handed::Foreign(foreign) => {
                let (record, why) = (foreign.record.clone(), foreign.why.clone());
                self.tasks.spawn(async move {
                    handler.foreign(record, why).await;
                    Outcome::SeenTo
                })
            }
        };
        self.in_hand.insert(task.id(), (key, item));
    }

    fn end(&mut self, ended: Result<(Id, Outcome), JoinError>) {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let (key, item) = self.in_hand.remove(&id).expect("every task was noted when it was spawned");
        self.keys.end(key);
        match (item, ended) {
            (Handed::Attempt(attempt), Ok((_, outcome))) => self.answer(attempt, outcome),
            (Handed::Attempt(attempt), Err(error)) => {
                let message = panic_message(error);
                tracing::error!(log_id = %attempt.delivery().log_id, message, "a handler panicked");
                attempt.fail(Failure::new(HANDLER_PANICKED, message));
                self.report.panicked += 1;
            }
            (Handed::Foreign(foreign), ended) => {
                if let Err(error) = ended {
                    let message = panic_message(error);
                    tracing::error!(?foreign, message, "the hook for foreign records panicked; it is passed over");
                }
                foreign.pass_over();
                self.report.foreign += 1;
            }
        }
    }

    fn answer(&mut self, attempt: Attempt, outcome: Outcome) {
        match outcome {
            Outcome::Handled(Ok(done)) => {
                attempt.complete(done);
                self.report.completed += 1;
            }
            Outcome::Handled(Err(HandlerError { failure, wish })) => {
                attempt.fail_with(&failure, &wish);
                self.report.failed += 1;
            }
            Outcome::TimedOut => {
                let limit = self.options.time_limit.unwrap_or_default();
                let message = format!("it was not done within {limit:?}");
                tracing::warn!(log_id = %attempt.delivery().log_id, message, "a handler took too long");
                attempt.fail(Failure::new(HANDLER_TIMED_OUT, message));
                self.report.timed_out += 1;
            }
            Outcome::SeenTo => unreachable!("an attempt is handled, not seen to"),
        }
    }

    /// Starts nothing more, and waits for what runs.
    async fn stop(mut self) -> Report {
        self.give_back_waiting();
        let mut too_late = pin!(tokio::time::sleep(self.options.stop_timeout));
        while !self.in_hand.is_empty() {
            tokio::select! {
                biased;
                Some(ended) = self.tasks.join_next_with_id() => self.end(ended),
                () = &mut too_late => break,
            }
        }
        let Runner { consumer, tasks, in_hand, options, mut report, .. } = self;
        // What runs is dropped at its next await.
        drop(tasks);
        for (_, item) in in_hand.into_values() {
            item.give_back();
            report.given_back += 1;
        }
        let stopped = consumer.close(options.stop_timeout).await;
        tracing::info!(?report, ?stopped, "the handlers have stopped");
        report
    }

    fn give_back_waiting(&mut self) {
        for item in self.keys.clear() {
            item.give_back();
            self.report.given_back += 1;
        }
    }
}

fn key_of(record: &InRecord) -> Key {
    record.key.clone().map(|key| (record.topic.clone(), key))
}

/// Tasks are never cancelled while they are waited for, so a task that did not end by itself panicked.
fn panic_message(error: JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else { return "its task was cancelled".to_owned() };
    let panic: &(dyn Any + Send) = &*panic;
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("with something that is no text").to_owned()
}
