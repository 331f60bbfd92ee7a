//! Consuming: a member of a consumer group that hands out attempts and publishes what becomes of them.
//!
//! ```text
//!   targets ──▶ thread ──▶ next() ──▶ Attempt ── complete | fail | fail_permanently | retry_after ──┐
//!                 ▲                                                                                 ▼
//!                 └── answers + offsets, one transaction ◀── finished prefix of each partition ◀── ledger
//! ```
//!
//! One thread owns both Kafka clients. It serves rebalances, publishes and hands out in turn, so nothing moves while it publishes;
//! handlers run elsewhere and may take as long as they like without losing the membership.

mod attempt;
mod configs;
mod ledger;
mod member;
mod places;
mod room;
#[cfg(test)]
pub(crate) mod testing;
mod work;

use std::sync::Arc;
use std::sync::mpsc as words;
use std::time::Duration;

use rdkafka::error::KafkaError;
use tokio::sync::{Semaphore, mpsc, watch};
use wal_kafka::epochs::Epochs;
use wal_kafka::wake::Wake;
use wal_model::Topic;
use wal_model::topics::Topics;

pub use attempt::{Arrival, Attempt, Done, Foreign, Handed};

use crate::connection::{ConnectError, Connection};
use crate::worker::{Ready, Stop, Stopped, Worker};
use attempt::{AnswerTopics, Desk};
use configs::Configs;
use work::{Outlet, Work};

/// A partition of a topic.
type Partition = (Topic, i32);

/// How much may be in hand: handed out and unfinished, or finished and waiting for something before it. When a bound is reached, no
/// more is handed out until something before is finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Records of one partition.
    pub per_partition: usize,
    /// Records of all partitions together.
    pub in_total: usize,
    /// Bytes of all of them together; the record that reaches it is the last.
    pub bytes: usize,
}

/// 500 records of a partition, 2,000 and 64 MiB in all: at a thousand a second, half a second of one slow handler holds up nobody.
impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { per_partition: 500, in_total: 2000, bytes: 64 << 20 }
    }
}

/// How a consumer is set up.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// How to reach the cluster.
    pub connection: Connection,
    /// What the log's topics are called.
    pub topics: Topics,
    /// The topics to read. They must exist.
    pub targets: Vec<Topic>,
    /// The consumer group that answers for them: one for each target. A group that has no offsets yet begins at the oldest record.
    pub group: String,
    /// What tells this member from the others of its group and stays the same over restarts, such as the ordinal of a pod: a
    /// transaction that a killed process left open is then ended by the next one at once. `None` makes one up; what was left open is
    /// then ended by the brokers, after `transaction_timeout`.
    pub instance: Option<String>,
    /// How much may be in hand.
    pub bounds: Bounds,
    /// How long a finished prefix waits for more, so that a transaction is worth its few milliseconds.
    pub linger: Duration,
    /// How long the group goes on believing in a member that says nothing.
    pub session_timeout: Duration,
    /// How long a transaction may stay open. It holds back whoever reads answers.
    pub transaction_timeout: Duration,
}

impl ConsumerOptions {
    /// The default bounds, answers committed within about 10 ms, 10 s for a member or a transaction that says nothing.
    pub fn new(
        connection: Connection,
        topics: Topics,
        group: impl Into<String>,
        targets: Vec<Topic>,
    ) -> ConsumerOptions {
        ConsumerOptions {
            connection,
            topics,
            targets,
            group: group.into(),
            instance: None,
            bounds: Bounds::default(),
            linger: Duration::from_millis(5),
            session_timeout: Duration::from_secs(10),
            transaction_timeout: Duration::from_secs(10),
        }
    }
}

/// What stands between a consumer and its next item.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    /// Kafka refuses to read at the moment; reading goes on as soon as it does not.
    #[error("read deliveries")]
    Refused(#[source] KafkaError),
    /// Answers could not be published. They are kept and published again, and nothing is lost; meanwhile little is handed out.
    #[error("publish answers: {0}")]
    NotPublished(String),
    /// Retention has removed records that this group never read. Reading goes on at the oldest one that is there; the log ends the
    /// entries by itself when their deadline has passed.
    #[error("read {topic}[{partition}] from {from}: retention has removed what is before {to}")]
    Missed {
        /// The topic.
        topic: Topic,
        /// The partition.
        partition: i32,
        /// Where the group stood.
        from: i64,
        /// Where it goes on.
        to: i64,
    },
    /// Nothing more will come from this consumer, and its answers are published no more. What it had in hand comes again.
    #[error("go on consuming: {0}")]
    Ended(String),
}

impl ConsumeError {
    /// Whether asking for the next item may bring one.
    pub fn is_retryable(&self) -> bool {
        match self {
            ConsumeError::Refused(_) | ConsumeError::NotPublished(_) | ConsumeError::Missed { .. } => true,
            ConsumeError::Ended(_) => false,
        }
    }
}

/// A member of a consumer group.
pub struct Consumer {
    items: Items,
    troubles: mpsc::Receiver<ConsumeError>,
    end: watch::Receiver<Option<String>>,
    is_over: bool,
    wake: Arc<Wake>,
    worker: Worker,
}

/// What was handed out and not taken.
struct Items(mpsc::Receiver<Handed>);

impl Drop for Items {
    fn drop(&mut self) {
        self.0.close();
        while let Ok(item) = self.0.try_recv() {
            item.give_back();
        }
    }
}

impl Consumer {
    /// Joins the group. When this returns, the log's topics and the targets are there, and transactions can be made.
    pub async fn join(options: ConsumerOptions) -> Result<Consumer, ConnectError> {
        let configs = Configs::of(&options)?;
        let limit = options.connection.timeout;
        let wake = Arc::new(Wake::default());
        let (say, words) = words::channel();
        let desk = Desk {
            words: say,
            wake: Arc::clone(&wake),
            epochs: Arc::new(Epochs::new()),
            topics: Arc::new(AnswerTopics::of(&options.topics)),
        };
        let (outlet, inlet) = channels(options.bounds.in_total);
        let body = move |ready: Ready, stop: Stop| match Work::open(&options, configs, desk, words, outlet) {
            Err(error) => drop(ready.send(Err(error))),
            // Nobody waits for a start that took too long.
            Ok(work) => match ready.send(Ok(())) {
                Ok(()) => work.run(&stop),
                Err(_) => work.close(),
            },
        };
        // As for deliveries: the second on top lets librdkafka say itself what was wrong.
        let worker = Worker::start("wal-consumer", limit + Duration::from_secs(1), body).await?;
        Ok(Consumer::of(inlet, wake, worker))
    }

    fn of((items, troubles, end): Inlet, wake: Arc<Wake>, worker: Worker) -> Consumer {
        Consumer { items: Items(items), troubles, end, is_over: false, wake, worker }
    }

    /// The next item, as soon as there is one and room for it; `None` when nothing more will come. Safe to cancel: no item is lost.
    ///
    /// Items come in the order of their partition. What must be done one after the other is for the caller to keep so;
    /// [`Consumer::run`] does it by key.
    pub async fn next(&mut self) -> Option<Result<Handed, ConsumeError>> {
        if self.is_over {
            return None;
        }
        loop {
            tokio::select! {
                biased;
                why = ended(&mut self.end) => {
                    self.is_over = true;
                    return Some(Err(ConsumeError::Ended(why)));
                }
                Some(trouble) = self.troubles.recv() => return Some(Err(trouble)),
                item = self.items.0.recv() => match item? {
                    item if item.is_held() => return Some(Ok(item)),
                    // Its partition moved away while it waited here.
                    item => item.give_back(),
                },
            }
        }
    }

    /// Publishes what is finished, with its offsets, and leaves the group. What is unfinished comes again, to whoever has the
    /// partition then. Waits at most `limit`.
    pub async fn close(self, limit: Duration) -> Stopped {
        let Consumer { items, wake, worker, .. } = self;
        drop(items);
        worker.ask();
        wake.wake();
        worker.stop(limit).await
    }
}

type Inlet = (mpsc::Receiver<Handed>, mpsc::Receiver<ConsumeError>, watch::Receiver<Option<String>>);

fn channels(in_total: usize) -> (Outlet, Inlet) {
    // Nothing is handed out without a share of the room, so this one is never full.
    let (to_caller, items) = mpsc::channel(in_total.clamp(1, Semaphore::MAX_PERMITS));
    let (to_tell, troubles) = mpsc::channel(1);
    let (end, ended) = watch::channel(None);
    (Outlet { items: to_caller, troubles: to_tell, end }, (items, troubles, ended))
}

/// Why it has ended, as soon as it has for a reason.
async fn ended(end: &mut watch::Receiver<Option<String>>) -> String {
    let why = end.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
    match why {
        Some(why) => why,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
