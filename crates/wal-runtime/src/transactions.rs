//! Transactions without offsets, for services that publish what nobody sent them through Kafka.
//!
//! ```text
//!   publish ──▶ queue ──▶ a thread: a producer that is ready, then all of it in one transaction
//!      │                     │ begun: from here on it can no longer be called off
//!      └── an answer ◀───────┴ done | not done | nobody knows
//! ```
//!
//! One transaction at a time. After an unclear answer the producer is thrown away, and whoever asked is told that nobody knows whether
//! it happened: guessing would lose something or do it twice.

use std::time::Duration;

use rdkafka::ClientConfig;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};
use wal_kafka::publisher::{Publisher, Unpublished};
use wal_kafka::watchdog::Watchdog;
use wal_model::OutRecord;

/// Transactions that wait behind the one under way. A transaction takes milliseconds, so more of them only wait for brokers that are
/// gone, and whoever asks is better told so.
const QUEUE: usize = 64;
/// How long a transaction may wait to be begun: a person waits behind it.
const BEGIN_LIMIT: Duration = Duration::from_secs(10);
/// How long a begun transaction may take until nobody waits for its answer any more: a little more than its longest call.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// The longest that [`Transactions::publish`] takes.
pub const PUBLISH_LIMIT: Duration = BEGIN_LIMIT.saturating_add(ANSWER_LIMIT);

/// Why a transaction is not known to have happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing of it happened or will; the same again may succeed.
    #[error("nothing was published: {0}")]
    NotPublished(String),
    /// All of it happened, or nothing. What is published must bear being published twice, and then the same again is the way out.
    #[error("it is unknown whether it happened: {0}")]
    Unknown(String),
}

/// Publishes transactions. Cloning gives another handle on the same producer, which is closed with the last of them.
#[derive(Clone)]
pub struct Transactions {
    jobs: mpsc::Sender<Job>,
    limits: Limits,
}

#[derive(Clone, Copy)]
struct Limits {
    begin: Duration,
    answer: Duration,
}

/// A transaction on its way to the thread.
struct Job {
    records: Vec<OutRecord>,
    /// Told right before it begins. Whoever has stopped waiting is not here any more, and then it does not begin.
    begin: oneshot::Sender<()>,
    answer: oneshot::Sender<Result<(), Error>>,
}

/// What the thread does with its jobs.
trait Publish: Send + 'static {
    fn ready(&mut self) -> Result<(), String>;
    fn publish(&mut self, records: &[OutRecord]) -> Result<(), Error>;
}

impl Transactions {
    /// Starts the thread, under a producer configuration with a transactional id; see [`crate::kafka::transactional`]. Does not wait
    /// for brokers.
    pub fn start(producer: ClientConfig) -> std::io::Result<Transactions> {
        let watchdog = Watchdog::deadly()?;
        let publisher = Publisher::new(producer, String::new(), watchdog.clone());
        let limits = Limits { begin: BEGIN_LIMIT, answer: ANSWER_LIMIT };
        Transactions::over(Guarded { publisher: Some(publisher), watchdog }, limits)
    }

    fn over(publisher: impl Publish, limits: Limits) -> std::io::Result<Transactions> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        std::thread::Builder::new().name("transactions".into()).spawn(move || work(publisher, queue))?;
        Ok(Transactions { jobs, limits })
    }

    /// Publishes all records or none, in one transaction. Takes at most [`PUBLISH_LIMIT`].
    ///
    /// Their topics must exist and take them: one that does not makes the whole transaction wait, and then fail. Whoever drops this
    /// before it has an answer knows nothing.
    pub async fn publish(&self, records: Vec<OutRecord>) -> Result<(), Error> {
        let not_begun = |why: &str| Error::NotPublished(why.to_owned());
        let (begin, mut begun) = oneshot::channel();
        let (answer, answered) = oneshot::channel();
        let is_begun = tokio::time::timeout(self.limits.begin, async {
            let is_queued = self.jobs.send(Job { records, begin, answer }).await.is_ok();
            is_queued && (&mut begun).await.is_ok()
        });
        match is_begun.await {
            Ok(true) => {}
            Ok(false) => {
                let refused = answered.await.unwrap_or_else(|_| Err(not_begun("the producer is closed")));
                return refused;
            }
            Err(_) => {
                begun.close();
                // Either it had begun in this moment, or from now on it cannot.
                if begun.try_recv().is_err() {
                    let limit = self.limits.begin;
                    return Err(not_begun(&format!("no transaction could be begun within {limit:?}")));
                }
            }
        }
        match tokio::time::timeout(self.limits.answer, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Error::Unknown("the producer's thread ended".to_owned())),
            Err(_) => Err(Error::Unknown(format!("the brokers gave no answer within {:?}", self.limits.answer))),
        }
    }
}

fn work(mut publisher: impl Publish, mut queue: mpsc::Receiver<Job>) {
    // Whatever an older producer of this name has left open is ended now, not when the first transaction waits for it.
    if let Err(why) = publisher.ready() {
        warn!(why, "no transactional producer yet");
    }
    while let Some(Job { records, begin, answer }) = queue.blocking_recv() {
        if answer.is_closed() {
            continue;
        }
        let answered = match publisher.ready().map(|()| begin.send(())) {
            Ok(Ok(())) => publisher.publish(&records),
            // Whoever asked does not wait any more, and was told that nothing happened.
            Ok(Err(())) => continue,
            Err(why) => Err(Error::NotPublished(why)),
        };
        // Whoever does not wait any more was told that nobody knows.
        let _ = answer.send(answered);
    }
}

/// The publisher, and the watchdog that ends with it.
struct Guarded {
    publisher: Option<Publisher>,
    watchdog: Watchdog,
}

impl Guarded {
    fn publisher(&mut self) -> &mut Publisher {
        self.publisher.as_mut().expect("it is taken only when this is dropped")
    }
}

impl Publish for Guarded {
    fn ready(&mut self) -> Result<(), String> {
        self.publisher().ready().map_err(|unpublished| unpublished.to_string())
    }

    fn publish(&mut self, records: &[OutRecord]) -> Result<(), Error> {
        self.publisher().publish_alone(records).map_err(|unpublished| match unpublished {
            Unpublished::Again(why) => {
                warn!(why, "a transaction was not committed");
                Error::NotPublished(why)
            }
            Unpublished::Unclear(why) => {
                warn!(why, "nobody knows whether a transaction was committed");
                Error::Unknown(why)
            }
            Unpublished::Fatal(why) => {
                error!(why, "a transaction was not committed, or nobody knows");
                Error::Unknown(why)
            }
        })
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(publisher) = self.publisher.take() {
            publisher.close();
        }
        self.watchdog.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use wal_model::Topic;

    use super::*;

    /// Says what it is told to say, and tells what it was asked.
    struct Scripted {
        is_ready: Receiver<Result<(), String>>,
        outcomes: Receiver<Result<(), Error>>,
        asked: Sender<Vec<OutRecord>>,
    }

    impl Publish for Scripted {
        fn ready(&mut self) -> Result<(), String> {
            self.is_ready.recv().unwrap_or_else(|_| Err("the test is over".to_owned()))
        }

        fn publish(&mut self, records: &[OutRecord]) -> Result<(), Error> {
            self.asked.send(records.to_vec()).unwrap();
            self.outcomes.recv().unwrap_or_else(|_| Err(Error::Unknown("the test is over".to_owned())))
        }
    }

    struct Script {
        is_ready: Sender<Result<(), String>>,
        outcomes: Sender<Result<(), Error>>,
        asked: Receiver<Vec<OutRecord>>,
    }

    const LONG: Duration = Duration::from_secs(60);

    fn transactions(begin: Duration, answer: Duration) -> (Transactions, Script) {
        let (ready, is_ready) = channel();
        let (outcome, outcomes) = channel();
        let (ask, asked) = channel();
        let scripted = Scripted { is_ready, outcomes, asked: ask };
        let transactions = Transactions::over(scripted, Limits { begin, answer }).unwrap();
        (transactions, Script { is_ready: ready, outcomes: outcome, asked })
    }

    fn record(value: &'static str) -> OutRecord {
        let topic = Topic::parse("t").unwrap();
        OutRecord { topic, partition: None, key: None, value: Some(value.into()), headers: Vec::new() }
    }

    #[tokio::test]
    async fn what_the_publisher_says_is_what_is_told() {
        let (transactions, script) = transactions(LONG, LONG);
        script.is_ready.send(Ok(())).unwrap();
        for outcome in [Ok(()), Err(Error::Unknown("x".into())), Err(Error::NotPublished("y".into()))] {
            script.is_ready.send(Ok(())).unwrap();
            script.outcomes.send(outcome.clone()).unwrap();
            assert_eq!(transactions.publish(vec![record("a")]).await, outcome);
        }
        assert_eq!(script.asked.try_iter().collect::<Vec<_>>(), vec![vec![record("a")]; 3]);
    }

    #[tokio::test]
    async fn without_a_producer_nothing_happens_and_that_is_said() {
        let (transactions, script) = transactions(LONG, LONG);
        script.is_ready.send(Err("at the start".into())).unwrap();
        script.is_ready.send(Err("no brokers".into())).unwrap();
        let answer = transactions.publish(vec![record("a")]).await;
        assert_eq!(answer, Err(Error::NotPublished("no brokers".into())));
        assert!(script.asked.try_recv().is_err());
    }

    #[tokio::test]
    async fn what_was_given_up_before_it_began_never_begins() {
        let (transactions, script) = transactions(Duration::from_millis(1), LONG);
        let answer = transactions.publish(vec![record("late")]).await;
        assert!(matches!(answer, Err(Error::NotPublished(_))), "{answer:?}");

        let patient = Transactions { limits: Limits { begin: LONG, answer: LONG }, ..transactions.clone() };
        // At the start, and for the one that waits; the other is passed over without a look at the brokers.
        (0..2).for_each(|_| script.is_ready.send(Ok(())).unwrap());
        script.outcomes.send(Ok(())).unwrap();
        assert_eq!(patient.publish(vec![record("next")]).await, Ok(()));
        assert_eq!(script.asked.try_iter().collect::<Vec<_>>(), [[record("next")]]);
    }

    #[tokio::test]
    async fn a_begun_transaction_without_an_answer_is_unknown() {
        let (transactions, script) = transactions(LONG, Duration::from_millis(1));
        (0..2).for_each(|_| script.is_ready.send(Ok(())).unwrap());
        let answer = transactions.publish(vec![record("a")]).await;
        assert!(matches!(answer, Err(Error::Unknown(_))), "{answer:?}");
        assert_eq!(script.asked.recv().unwrap(), [record("a")]);
    }
}
