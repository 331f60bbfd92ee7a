//! Receipts: a thread that reads them as they are written, and hands each to who waits for it.
//!
//! ```text
//!   register(correlation id) ─▶ Waiting ◀─ reading thread ◀─ receipts topic, all partitions, from the end
//!            Waiter ◀───────────────┘
//! ```
//!
//! Where nobody is to read them the thread only looks at the topics, and ends.
//!
//! Receipts are read without a group: every producer sees all of them and takes its own. A second receipt of a request (the log
//! answers again after a crash) finds nobody waiting and is passed over; it says the same.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::message::Message;
use tokio::sync::oneshot;
use wal_kafka::native::View;
use wal_kafka::records;
use wal_model::receipt::Receipt;
use wal_model::{Topic, record, wire};

use crate::connection::ConnectError;
use crate::opening::{self, Opening, Place, Verdict};
use crate::worker::{Ready, Stop, Worker};

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The log's answer.
    Receipt {
        /// What it says.
        receipt: Receipt,
        /// When it was read.
        arrived: Instant,
    },
    /// There is no answer (yet). The request may be in the log or come to be: ask for it by its request id, or send the same
    /// request again, which changes nothing if it is there.
    Unknown(Why),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// It did not come in time; it may still.
    #[error("no receipt came within {0:?}")]
    Timeout(Duration),
    /// One came, but this version cannot read it.
    #[error("the receipt cannot be read: {0}")]
    Unreadable(String),
    /// Receipts are not read any more.
    #[error("receipts are no longer read; connect again")]
    NotReading,
}

/// Who waits for which receipt.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    is_closed: bool,
    last_ticket: u64,
    waiters: HashMap<Bytes, (u64, oneshot::Sender<Answer>)>,
}

/// Another request waits under the same correlation id.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InUse;

impl Waiting {
    /// Waits under a correlation id, from now until the waiter is dropped.
    pub(crate) fn register(self: &Arc<Waiting>, correlation: Bytes) -> Result<Waiter, InUse> {
        let (sender, answer) = oneshot::channel();
        let mut state = self.lock();
        state.last_ticket += 1;
        let ticket = state.last_ticket;
        // Without a reader the sender is dropped here, and the waiter knows at once.
        if !state.is_closed {
            match state.waiters.entry(correlation.clone()) {
                Entry::Occupied(_) => return Err(InUse),
                Entry::Vacant(place) => place.insert((ticket, sender)),
            };
        }
        Ok(Waiter { correlation, ticket, answer, known: None, waiting: Arc::clone(self) })
    }

    /// Hands an answer to who waits for it, if anybody does.
    fn hand_over(&self, correlation: &[u8], answer: Answer) {
        let waiter = self.lock().waiters.remove(correlation);
        if let Some((_, sender)) = waiter {
            // Who stopped waiting in this moment asks no more.
            let _ = sender.send(answer);
        }
    }

    fn is_wanted(&self, correlation: &[u8]) -> bool {
        self.lock().waiters.contains_key(correlation)
    }

    fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.waiters.clear();
    }

    /// A panic elsewhere leaves the map as it was: every change is one call.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in [`Waiting`].
#[derive(Debug)]
pub(crate) struct Waiter {
    correlation: Bytes,
    ticket: u64,
    answer: oneshot::Receiver<Answer>,
    known: Option<Answer>,
    waiting: Arc<Waiting>,
}

impl Waiter {
    /// The answer as soon as it is there, the same one every time; unknown if it is not there within the limit.
    pub(crate) async fn answer(&mut self, limit: Duration) -> Answer {
        if let Some(known) = &self.known {
            return known.clone();
        }
        let answer = match tokio::time::timeout(limit, &mut self.answer).await {
            Err(_) => return Answer::Unknown(Why::Timeout(limit)),
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Answer::Unknown(Why::NotReading),
        };
        self.known.insert(answer).clone()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut state = self.waiting.lock();
        // After an answer another request may wait under the same id.
        if state.waiters.get(&self.correlation).is_some_and(|(ticket, _)| *ticket == self.ticket) {
            state.waiters.remove(&self.correlation);
        }
    }
}

/// Which receipts are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of a topic.
    Topic(Topic),
    /// Those on one partition of it.
    Partition(Topic, i32),
    /// None.
    Nothing,
}

/// Starts reading. When this returns, every receipt written from now on will be found. The topics of `needed` must exist, too.
pub(crate) async fn start(
    config: ClientConfig,
    limit: Duration,
    wanted: Wanted,
    needed: Vec<Topic>,
    waiting: Arc<Waiting>,
) -> Result<Worker, ConnectError> {
    let body = move |ready: Ready, stop: Stop| {
        let _closing = Closing(&waiting);
        let opened = open(&config, limit, &wanted, &needed);
        match opened {
            Err(error) => drop(ready.send(Err(error))),
            // Nobody waits for a start that took too long.
            Ok(opening) => match ready.send(Ok(())) {
                Ok(()) if wanted == Wanted::Nothing => {}
                Ok(()) => read(&opening, &stop, &waiting),
                Err(_) => tracing::debug!("connected too late"),
            },
        }
    };
    // librdkafka keeps to the limit call by call; the second on top lets it say itself what was wrong.
    Worker::start("wal-receipts", limit + Duration::from_secs(1), body).await
}

fn open(config: &ClientConfig, limit: Duration, wanted: &Wanted, needed: &[Topic]) -> Result<Opening, ConnectError> {
    let opening = Opening::new(config, limit)?;
    for topic in needed {
        opening.partitions(topic)?;
    }
    match wanted {
        Wanted::Topic(topic) => opening.assign(std::slice::from_ref(topic), Place::End)?,
        Wanted::Partition(topic, partition) => opening.assign_end_of(topic, *partition)?,
        Wanted::Nothing => {}
    }
    Ok(opening)
}

/// Whatever ends the thread, nobody goes on waiting for it.
struct Closing<'a>(&'a Waiting);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn read(opening: &Opening, stop: &Stop, waiting: &Waiting) {
    while !stop.is_asked() {
        match opening.consumer.poll(opening::POLL) {
            None => {}
            Some(Ok(message)) => {
                let headers = records::headers(View::of(&message));
                if let Some(correlation) = record::last(&headers, wire::REPLY_CORRELATION)
                    && waiting.is_wanted(correlation)
                {
                    waiting.hand_over(correlation, read_receipt(message.payload().unwrap_or_default()));
                }
            }
            Some(Err(error)) => match opening::verdict(&error) {
                Verdict::Wait => tracing::debug!(%error, "receipts wait for Kafka"),
                Verdict::Tell => tracing::warn!(%error, "receipts cannot be read at the moment"),
                Verdict::End => {
                    tracing::error!(%error, "receipts can no longer be read");
                    return;
                }
            },
        }
    }
}

fn read_receipt(json: &[u8]) -> Answer {
    match Receipt::from_json(json) {
        Ok(receipt) => Answer::Receipt { receipt, arrived: Instant::now() },
        Err(error) => Answer::Unknown(Why::Unreadable(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);
    const NOW: Duration = Duration::ZERO;
    const ID: Bytes = Bytes::from_static(b"id");

    fn refused() -> Answer {
        read_receipt(br#"{"success": false, "error": "no", "error_code": "WAL_INVALID_JSON", "retryable": false}"#)
    }

    #[tokio::test]
    async fn an_answer_is_handed_to_who_waits_for_it_and_stays() {
        let waiting = Arc::new(Waiting::default());
        let (mut one, mut other) =
            (waiting.register(ID).unwrap(), waiting.register(Bytes::from_static(b"other")).unwrap());
        let answer = refused();

        waiting.hand_over(b"id", answer.clone());
        waiting.hand_over(b"nobody's", refused());

        assert_eq!(one.answer(SOON).await, answer);
        assert_eq!(one.answer(NOW).await, answer);
        assert_eq!(other.answer(NOW).await, Answer::Unknown(Why::Timeout(NOW)));
    }

    #[tokio::test]
    async fn a_late_answer_still_counts() {
        let waiting = Arc::new(Waiting::default());
        let mut waiter = waiting.register(ID).unwrap();
        assert_eq!(waiter.answer(NOW).await, Answer::Unknown(Why::Timeout(NOW)));
        waiting.hand_over(b"id", refused());
        assert!(matches!(waiter.answer(SOON).await, Answer::Receipt { .. }));
    }

    #[tokio::test]
    async fn an_id_serves_one_request_at_a_time() {
        let waiting = Arc::new(Waiting::default());
        let first = waiting.register(ID).unwrap();
        assert_eq!(waiting.register(ID).err(), Some(InUse));
        waiting.hand_over(b"id", refused());
        let mut second = waiting.register(ID).unwrap();
        // The first one's end is not the second one's.
        drop(first);
        waiting.hand_over(b"id", refused());
        assert!(matches!(second.answer(NOW).await, Answer::Receipt { .. }));
        drop(second);
        assert!(!waiting.is_wanted(b"id"));
    }

    #[tokio::test]
    async fn nobody_waits_for_a_reader_that_is_gone() {
        let waiting = Arc::new(Waiting::default());
        let mut before = waiting.register(ID).unwrap();
        drop(Closing(&waiting));
        let mut after = waiting.register(ID).unwrap();
        assert_eq!(before.answer(SOON).await, Answer::Unknown(Why::NotReading));
        assert_eq!(after.answer(SOON).await, Answer::Unknown(Why::NotReading));
    }

    #[test]
    fn what_cannot_be_read_is_unknown_with_its_reason() {
        assert!(matches!(read_receipt(b"{}"), Answer::Unknown(Why::Unreadable(_))));
    }
}
