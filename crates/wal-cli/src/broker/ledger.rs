//! The owner of the log and of the open transactions: one thread, one message at a time. SQLite blocks, so it gets a
//! thread of its own instead of a worker of the runtime.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tansu_sans_io::{ErrorCode, record::deflated::Batch};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::error;
use uuid::Uuid;

use super::{
    batch::{Place, Write},
    log::{Appended, Found, Head, Log},
    transactions::{Outcome, Position, Producer, Transactions},
};

/// Requests waiting for the ledger: a few per connection is all a Kafka client ever has outstanding.
const QUEUE: usize = 64;

/// A partition's share of a fetch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    pub(super) place: Place,
    pub(super) offset: i64,
    pub(super) max_bytes: usize,
}

/// Where in time an offset is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    Earliest,
    Latest,
    At(i64),
}

type Answer<T> = oneshot::Sender<Result<T, ErrorCode>>;

enum Message {
    Append {
        write: Write,
        transactional_id: Option<String>,
        answer: Answer<Appended>,
    },
    Read {
        wants: Vec<Want>,
        max_bytes: usize,
        answer: oneshot::Sender<Vec<Result<Found, ErrorCode>>>,
    },
    FindOffset {
        place: Place,
        when: When,
        answer: Answer<(i64, i64)>,
    },
    StartProducer {
        transactional_id: Option<String>,
        timeout: Duration,
        former: Option<Producer>,
        answer: Answer<Producer>,
    },
    AddPartitions {
        transactional_id: String,
        producer: Producer,
        places: Vec<Place>,
        answer: Answer<()>,
    },
    AddGroup {
        transactional_id: String,
        producer: Producer,
        group: String,
        answer: Answer<()>,
    },
    HoldPositions {
        transactional_id: String,
        producer: Producer,
        group: String,
        positions: Vec<(Place, Position)>,
        answer: Answer<()>,
    },
    End {
        transactional_id: String,
        producer: Producer,
        outcome: Outcome,
        answer: Answer<()>,
    },
    CommitPositions {
        positions: BTreeMap<(String, Place), Position>,
        answer: Answer<()>,
    },
    Positions {
        group: String,
        answer: Answer<BTreeMap<Place, Position>>,
    },
    Groups {
        answer: Answer<BTreeSet<String>>,
    },
    ForgetGroup {
        group: String,
        answer: Answer<u64>,
    },
    Maintain {
        topics: Vec<(Uuid, Option<Duration>)>,
        answer: Answer<()>,
    },
}

/// How the rest of the broker speaks to the ledger.
#[derive(Clone)]
pub(super) struct Ledger {
    messages: mpsc::Sender<Message>,
    appended: watch::Receiver<u64>,
}

/// The ledger's thread; it ends when the last handle is gone.
pub(super) struct Thread(thread::JoinHandle<()>);

struct Owner {
    log: Log,
    transactions: Transactions,
    appended: watch::Sender<u64>,
}

impl Ledger {
    pub(super) async fn open(path: &Path) -> Result<(Self, Thread), libsql::Error> {
        let log = Log::open(path).await?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (appended, watch) = watch::channel(0);
        let owner = Owner { log, transactions: Transactions::default(), appended };
        let thread = thread::Builder::new()
            .name("broker-ledger".to_owned())
            .spawn(move || owner.run(receiver))
            .map_err(|error| libsql::Error::ConnectionFailed(error.to_string()))?;
        let ledger = Self { messages: sender, appended: watch };
        Ok((ledger, Thread(thread)))
    }

    /// Changes whenever something was appended anywhere.
    pub(super) fn appended(&self) -> watch::Receiver<u64> {
        self.appended.clone()
    }

    pub(super) async fn append(&self, write: Write, transactional_id: Option<String>) -> Result<Appended, ErrorCode> {
        self.ask(|answer| Message::Append { write, transactional_id, answer }).await
    }

    pub(super) async fn read(&self, wants: Vec<Want>, max_bytes: usize) -> Vec<Result<Found, ErrorCode>> {
        let count = wants.len();
        let (answer, answered) = oneshot::channel();
        let message = Message::Read { wants, max_bytes, answer };
        let gone = || vec_of(count, || Err(ErrorCode::KafkaStorageError));
        if self.messages.send(message).await.is_err() {
            return gone();
        }
        answered.await.unwrap_or_else(|_| gone())
    }

    pub(super) async fn find_offset(&self, place: Place, when: When) -> Result<(i64, i64), ErrorCode> {
        self.ask(|answer| Message::FindOffset { place, when, answer }).await
    }

    pub(super) async fn start_producer(
        &self,
        transactional_id: Option<String>,
        timeout: Duration,
        former: Option<Producer>,
    ) -> Result<Producer, ErrorCode> {
        self.ask(|answer| Message::StartProducer { transactional_id, timeout, former, answer }).await
    }

    pub(super) async fn add_partitions(
        &self,
        transactional_id: String,
        producer: Producer,
        places: Vec<Place>,
    ) -> Result<(), ErrorCode> {
        self.ask(|answer| Message::AddPartitions { transactional_id, producer, places, answer }).await
    }

    pub(super) async fn add_group(
        &self,
        transactional_id: String,
        producer: Producer,
        group: String,
    ) -> Result<(), ErrorCode> {
        self.ask(|answer| Message::AddGroup { transactional_id, producer, group, answer }).await
    }

    pub(super) async fn hold_positions(
        &self,
        transactional_id: String,
        producer: Producer,
        group: String,
        positions: Vec<(Place, Position)>,
    ) -> Result<(), ErrorCode> {
        self.ask(|answer| Message::HoldPositions { transactional_id, producer, group, positions, answer }).await
    }

    pub(super) async fn end(
        &self,
        transactional_id: String,
        producer: Producer,
        outcome: Outcome,
    ) -> Result<(), ErrorCode> {
        self.ask(|answer| Message::End { transactional_id, producer, outcome, answer }).await
    }

    pub(super) async fn commit_positions(
        &self,
        positions: BTreeMap<(String, Place), Position>,
    ) -> Result<(), ErrorCode> {
        self.ask(|answer| Message::CommitPositions { positions, answer }).await
    }

    pub(super) async fn positions(&self, group: String) -> Result<BTreeMap<Place, Position>, ErrorCode> {
        self.ask(|answer| Message::Positions { group, answer }).await
    }

    /// Groups that committed offsets.
    pub(super) async fn groups(&self) -> Result<BTreeSet<String>, ErrorCode> {
        self.ask(|answer| Message::Groups { answer }).await
    }

    /// Answers with how many offsets there were.
    pub(super) async fn forget_group(&self, group: String) -> Result<u64, ErrorCode> {
        self.ask(|answer| Message::ForgetGroup { group, answer }).await
    }

    /// Forgets topics not named, and of those named what is older than their retention.
    pub(super) async fn maintain(&self, topics: Vec<(Uuid, Option<Duration>)>) -> Result<(), ErrorCode> {
        self.ask(|answer| Message::Maintain { topics, answer }).await
    }

    async fn ask<T>(&self, message: impl FnOnce(Answer<T>) -> Message) -> Result<T, ErrorCode> {
        let (answer, answered) = oneshot::channel();
        self.messages.send(message(answer)).await.map_err(|_| ErrorCode::KafkaStorageError)?;
        answered.await.unwrap_or(Err(ErrorCode::KafkaStorageError))
    }
}

impl Thread {
    /// Blocks until the thread has ended, which it does when the last [`Ledger`] is gone.
    pub(super) fn join(self) {
        if self.0.join().is_err() {
            error!("the embedded broker's ledger ended with a panic");
        }
    }
}

impl Owner {
    fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let runtime = match tokio::runtime::Builder::new_current_thread().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                error!(%error, "no runtime for the embedded broker's ledger");
                return;
            }
        };
        runtime.block_on(async move {
            while let Some(message) = messages.recv().await {
                self.handle(message).await;
            }
        });
    }

    /// An answer nobody waits for any more is dropped: its client is gone, and asking again is harmless.
    async fn handle(&mut self, message: Message) {
        match message {
            Message::Append { write, transactional_id, answer } => {
                let _ = answer.send(self.append(write, transactional_id).await);
            }
            Message::Read { wants, max_bytes, answer } => {
                let _ = answer.send(self.read(wants, max_bytes).await);
            }
            Message::FindOffset { place, when, answer } => {
                let _ = answer.send(self.find_offset(place, when).await);
            }
            Message::StartProducer { transactional_id, timeout, former, answer } => {
                let started = self.start_producer(transactional_id, timeout, former).await;
                let _ = answer.send(started);
            }
            Message::AddPartitions { transactional_id, producer, places, answer } => {
                let now = Instant::now();
                let added = self.transactions.add_partitions(&transactional_id, producer, now, places);
                let _ = answer.send(added);
            }
            Message::AddGroup { transactional_id, producer, group, answer } => {
                let now = Instant::now();
                let added = self.transactions.add_group(&transactional_id, producer, now, group);
                let _ = answer.send(added);
            }
            Message::HoldPositions { transactional_id, producer, group, positions, answer } => {
                let now = Instant::now();
                let held = self.transactions.hold_positions(&transactional_id, producer, now, &group, positions);
                let _ = answer.send(held);
            }
            Message::End { transactional_id, producer, outcome, answer } => {
                let _ = answer.send(self.end(&transactional_id, producer, outcome).await);
            }
            Message::CommitPositions { positions, answer } => {
                let committed = self.log.append(Vec::new(), &positions, now_millis()).await;
                let _ = answer.send(committed.map(|_| ()).map_err(storage));
            }
            Message::Positions { group, answer } => {
                let _ = answer.send(self.log.positions(&group).await.map_err(storage));
            }
            Message::Groups { answer } => {
                let _ = answer.send(self.log.groups().await.map_err(storage));
            }
            Message::ForgetGroup { group, answer } => {
                let _ = answer.send(self.log.forget_group(&group).await.map_err(storage));
            }
            Message::Maintain { topics, answer } => {
                let _ = answer.send(self.maintain(topics).await.map_err(storage));
            }
        }
    }

    async fn append(&mut self, write: Write, transactional_id: Option<String>) -> Result<Appended, ErrorCode> {
        if write.batch.is_transactional() {
            let name = transactional_id.ok_or(ErrorCode::InvalidTxnState)?;
            let Write { place, stamp, batch } = write;
            self.transactions.hold_batch(&name, Instant::now(), place, stamp, batch)?;
            // Its offset is given at the commit; Kafka's "unknown offset" is -1.
            return Ok(Appended { base_offset: -1, low: self.log.head(place).low });
        }
        if write.batch.is_idempotent() {
            let sent = self.log.find_sent(write.place, &write.batch).await;
            if let Some(before) = sent.map_err(storage)?? {
                return Ok(before);
            }
        }
        let appended = self.log.append(vec![write], &BTreeMap::new(), now_millis()).await.map_err(storage)?;
        self.tell_readers();
        appended.first().copied().ok_or(ErrorCode::KafkaStorageError)
    }

    async fn read(&self, wants: Vec<Want>, max_bytes: usize) -> Vec<Result<Found, ErrorCode>> {
        let mut left = max_bytes;
        let mut found = Vec::with_capacity(wants.len());
        for want in wants {
            let result = if left == 0 {
                let head = self.log.head(want.place);
                Ok(Found { head, ..Found::default() })
            } else {
                self.log
                    .read(want.place, want.offset, want.max_bytes.min(left))
                    .await
                    .unwrap_or_else(|error| Err(storage(error)))
            };
            if let Ok(found) = &result {
                left = left.saturating_sub(found.bytes);
            }
            found.push(result);
        }
        found
    }

    async fn find_offset(&self, place: Place, when: When) -> Result<(i64, i64), ErrorCode> {
        let Head { low, high, .. } = self.log.head(place);
        match when {
            When::Earliest => Ok((low, -1)),
            When::Latest => Ok((high, -1)),
            When::At(timestamp) => {
                let batch = self.log.find_time(place, timestamp).await.map_err(storage)?;
                Ok(batch.map_or((-1, -1), |batch| first_not_before(&batch, timestamp)))
            }
        }
    }

    async fn start_producer(
        &mut self,
        transactional_id: Option<String>,
        timeout: Duration,
        former: Option<Producer>,
    ) -> Result<Producer, ErrorCode> {
        // A producer that asks for its next epoch itself must be the present one (KIP-360).
        if let (Some(name), Some(former)) = (&transactional_id, former)
            && !self.transactions.is_current(name, former)
        {
            return Err(ErrorCode::ProducerFenced);
        }
        let producer = self.log.new_producer(transactional_id.as_deref()).await.map_err(storage)?;
        if let Some(name) = transactional_id {
            self.transactions.start(&name, producer, timeout);
        }
        Ok(producer)
    }

    async fn end(&mut self, transactional_id: &str, producer: Producer, outcome: Outcome) -> Result<(), ErrorCode> {
        let held = self.transactions.end(transactional_id, producer, Instant::now(), outcome)?;
        let Some(held) = held else {
            return Ok(());
        };
        let written = self.log.append(held.writes, &held.positions, now_millis()).await;
        if let Err(error) = written {
            // Nothing was written and what was held is gone: the producer must not believe in a commit, ever.
            self.transactions.forget(transactional_id);
            return Err(storage(error));
        }
        self.tell_readers();
        Ok(())
    }

    async fn maintain(&mut self, topics: Vec<(Uuid, Option<Duration>)>) -> Result<(), libsql::Error> {
        self.transactions.expire(Instant::now());
        let ids: Vec<Uuid> = topics.iter().map(|(id, _)| *id).collect();
        self.log.keep_only(&ids).await?;
        for (topic, retention) in topics {
            let Some(retention) = retention else {
                continue;
            };
            let retention = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
            let cutoff = now_millis().saturating_sub(retention);
            self.log.expire(topic, cutoff).await?;
        }
        Ok(())
    }

    fn tell_readers(&self) {
        self.appended.send_modify(|count| *count += 1);
    }
}

/// Offset and timestamp of the first record of the batch that is not older. A batch that cannot be opened answers
/// with its first record: earlier than asked for is harmless, later would skip records.
fn first_not_before(batch: &Batch, timestamp: i64) -> (i64, i64) {
    let is_stamped = batch.attributes & 0b1000 != 0;
    let first = (batch.base_offset, batch.base_timestamp);
    if is_stamped {
        return (batch.base_offset, batch.max_timestamp);
    }
    let Ok(inflated) = tansu_sans_io::record::inflated::Batch::try_from(batch.clone()) else {
        return first;
    };
    inflated
        .records
        .iter()
        .map(|record| {
            let offset = batch.base_offset + i64::from(record.offset_delta);
            (offset, batch.base_timestamp + record.timestamp_delta)
        })
        .find(|(_, written)| *written >= timestamp)
        .unwrap_or(first)
}

fn storage(error: libsql::Error) -> ErrorCode {
    error!(%error, "the embedded broker could not read or write its log");
    ErrorCode::KafkaStorageError
}

#[expect(
    clippy::disallowed_methods,
    reason = "the broker is a server of its own: its time is its machine's, as any Kafka's is"
)]
fn now_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn vec_of<T>(count: usize, item: impl Fn() -> T) -> Vec<T> {
    (0..count).map(|_| item()).collect()
}
