//! The Kafka batch loop: consume, handle, publish and commit, once for all services.
//!
//! ```text
//!   poll thread                                handle thread                    publish thread
//!   ───────────                                ─────────────                    ──────────────
//!   serve rebalances (always)
//!   take metadata and epochs, then records ──▶ handler: store ────────────────▶ handler: say what is to be published
//!   or, at a tick, no records                  (abandoned when a partition      begin, offsets, send all
//!                                               moves or a batch before fails)   epochs still hold? commit
//!                                                                                    │
//!   next batch, or rewind to what is committed ◀── committed | again | dropped ──────┘
//! ```
//!
//! Batches pass the threads in order. A handler that allows it handles one batch while the one before is published, and no more than
//! that: what waits behind waits in bounded partition queues, so a slow store slows consumption and never fills memory. When a batch
//! fails, those behind it are dropped, whatever was done for them. Nothing but how large batches may be is remembered across a failure:
//! the place to go on from is what the broker says is committed.

mod batch;
mod gate;
mod hands;
mod lanes;
mod overlap;
mod size;
mod source;
mod ticks;

use std::collections::HashMap;
use std::future::Future;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use tokio::sync::{oneshot, watch};
use tracing::{debug, info, warn};
use wal_kafka::epochs::Epochs;
use wal_kafka::publisher::Publisher;
use wal_kafka::wake::Wake;
use wal_kafka::watchdog::Watchdog;
use wal_model::{OutRecord, Topic};

use ticks::Ticks;

pub use batch::{Batch, Place};
pub use gate::{Gate, Look};
pub use wal_kafka::watchdog::EXIT_CODE;

use crate::traces::Traces;
use hands::{Done, Hands, Kind, Progress, Work};
use size::Size;
use source::{Source, Stood, Taken, Unreadable};

/// How often observers are told where a loop stands.
const TELL: Duration = Duration::from_secs(1);
/// How long the poll thread rests when nothing wakes it; rebalances and errors wake it, so this is only a safety net.
const REST: Duration = Duration::from_millis(100);
/// The shortest rest: what is due sooner is looked at no more than so often.
const SHORTEST_REST: Duration = Duration::from_micros(200);
/// How long records are gathered at most while a batch is in hand: a rebalance, a stop and a tick wait for it.
const GATHER: Duration = Duration::from_millis(100);
/// Waits between tries of a batch that could not be published, the last one repeated.
const RETRIES: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
/// Answers that may wait for the poll thread: of every batch in hand, and of a producer that is not ready.
const ANSWERS: usize = 8;
/// How long leaving the group may take before the process ends without having left.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// How much one batch may hold.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Records.
    pub records: usize,
    /// Bytes; the record that reaches it is the last.
    pub bytes: usize,
    /// How long a batch that is not full waits for more.
    pub wait: Duration,
}

/// What a batch loop is made of.
pub struct Options {
    /// The consumer's configuration, group included.
    pub consumer: ClientConfig,
    /// The producer's configuration, transactional id included.
    pub producer: ClientConfig,
    /// The consumer group.
    pub group: String,
    /// What is read, and in which order.
    pub reads: Reads,
    /// How much one batch may hold.
    pub limits: Limits,
    /// Written beside every committed offset.
    pub offset_metadata: String,
    /// How long the first transactional call may take to succeed.
    pub start_timeout: Duration,
    /// How long a stop waits for the batch in hand.
    pub stop_timeout: Duration,
    /// How long after a tick the handler has the next one; `None` is never.
    pub tick: Option<Duration>,
    /// Who is told which steps records took.
    pub traces: Traces,
}

/// What is read, and in which order.
pub enum Reads {
    /// These topics, the most urgent first, each with its share of a full batch in percent.
    Lanes(Vec<(Topic, u8)>),
    /// Every topic whose name begins so, those to come included; the head of each partition when the gate lets it pass. Nothing behind
    /// a head is looked at.
    Gated {
        /// What the names of the topics begin with.
        prefix: String,
        /// Who lets heads pass.
        gate: Arc<dyn Gate>,
        /// The most records taken in a second; `None` is no ceiling.
        rate: Option<NonZeroU32>,
    },
}

/// Why a handler gives up for good. Anything that may mend itself it waits for instead.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CannotGoOn(pub String);

/// What a service does with a batch.
pub trait Handler: Send + Sync + 'static {
    /// Whether a batch may be handled while the one before it is being published, of which nobody knows yet whether it will be
    /// committed. What is handled is published only if it was.
    const OVERLAPS: bool = false;

    /// What handling a batch leaves for [`Handler::outputs`].
    type Handled: Send + 'static;

    /// Does what must be done before anything is published.
    ///
    /// May be called again with the same records, here or in another process, after any of its effects. May be dropped at any
    /// await, when a partition of the batch moved away or the process stops.
    fn handle(&self, batch: &Batch) -> impl Future<Output = Result<Self::Handled, CannotGoOn>> + Send;

    /// Says what is to be published for a batch that was handled: together with its offsets, in one transaction. Called when all before
    /// it is committed, while the next one may be handled. May be dropped at any await, as handling may.
    fn outputs(
        &self,
        batch: &Batch,
        handled: Self::Handled,
    ) -> impl Future<Output = Result<Vec<OutRecord>, CannotGoOn>> + Send;

    /// What is to be published without a record having come: called at every tick, between batches. `batch` has no records and every
    /// partition that is held. Like a batch it may be called again after any of its effects and dropped at any await, and what it
    /// returns is published in one transaction that a zombie cannot commit.
    fn tick(&self, _batch: &Batch) -> impl Future<Output = Result<Vec<OutRecord>, CannotGoOn>> + Send {
        async { Ok(Vec::new()) }
    }

    /// What [`Handler::outputs`] or [`Handler::tick`] returned for this batch is committed. Quick: the next batch waits.
    fn committed(&self, _batch: &Batch) {}

    /// A batch was given up; what was believed of the brokers may have been wrong.
    fn given_up(&self) {}
}

/// Who wants to know how the loop is doing. All calls are quick.
pub trait Observer: Send + Sync + 'static {
    /// The poll thread lives.
    fn polled(&self) {}
    /// The group has given this member its partitions, even if none.
    fn assigned(&self) {}
    /// A batch was committed.
    fn committed(&self, _records: usize, _published: usize) {}
    /// A batch was given up and is read again.
    fn rewound(&self, _why: &str) {}
    /// The broker knows a newer producer under our transactional id.
    fn fenced(&self) {}
    /// A batch with records, or a tick, was handled.
    fn handled(&self, _took: Duration) {}
    /// One was published and committed.
    fn published(&self, _took: Duration) {}
    /// A dead letter is committed.
    fn dead_letter(&self, _letter: &OutRecord) {}
    /// Where the loop stands, every second or so, in all partitions that it holds and knows the place of.
    fn stands(&self, _group: &str, _standing: &[Standing]) {}
}

/// A partition that is held, and what is committed of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: i32,
    /// The first offset that is not committed.
    pub committed: i64,
}

/// Nobody wants to know.
impl Observer for () {}

/// Why a batch loop ended other than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A client could not be made.
    #[error("could not start the Kafka client")]
    Client(#[from] rdkafka::error::KafkaError),
    /// A thread could not be started.
    #[error("could not start a thread")]
    Thread(#[from] std::io::Error),
    /// No transaction could be started in time.
    #[error("the brokers did not start transactions within {0:?}: {1}")]
    NoTransactions(Duration, String),
    /// It cannot go on; a restart may mend it, or the words say what must be done first.
    #[error("{0}")]
    Fatal(String),
}

/// Runs a batch loop until `shutdown` completes or it cannot go on.
pub async fn run<H: Handler>(
    options: Options,
    handler: H,
    observer: Arc<dyn Observer>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let wake = Arc::new(Wake::default());
    let epochs = Arc::new(Epochs::new());
    let is_stopping = Arc::new(AtomicBool::new(false));
    let (cancel, cancelled) = watch::channel(false);
    let watchdog = Watchdog::deadly()?;
    let source = Source::new(&options.consumer, &options.group, options.reads, Arc::clone(&epochs), Arc::clone(&wake))?;
    let publisher = Publisher::new(options.producer.clone(), options.offset_metadata.clone(), watchdog.clone());
    let depth = if H::OVERLAPS { 2 } else { 1 };
    let (to_handle, work) = mpsc::sync_channel(depth);
    let (to_poller, done) = mpsc::sync_channel(ANSWERS);
    let progress = Progress::default();
    let hands = Hands {
        handler: Arc::new(handler),
        publisher,
        epochs: Arc::clone(&epochs),
        observer: Arc::clone(&observer),
        cancelled,
        done: to_poller,
        wake: Arc::clone(&wake),
        progress: progress.clone(),
        group: options.group.clone(),
        traces: options.traces,
    };
    let hands = hands.start(work, depth)?;
    let poller = Poller {
        source,
        epochs,
        observer,
        size: Size::new(options.limits),
        ticks: Ticks::new(options.tick, Instant::now()),
        told: None,
        group: options.group,
        has_committed: false,
        start_timeout: options.start_timeout,
        stop_timeout: options.stop_timeout,
        is_stopping: Arc::clone(&is_stopping),
        wake: Arc::clone(&wake),
        progress,
        depth,
        in_hand: 0,
        run: 1,
        work: to_handle,
        done,
        cancel,
    };
    let (ended, mut end) = oneshot::channel();
    let poller = std::thread::Builder::new().name("wal-poll".into()).spawn(move || {
        // The receiver waits until this is sent.
        let _ = ended.send(poller.run());
    })?;
    let result = tokio::select! {
        result = &mut end => result,
        () = shutdown => {
            is_stopping.store(true, Ordering::SeqCst);
            wake.wake();
            end.await
        }
    };
    let joined = tokio::task::spawn_blocking(move || (poller.join(), hands.map(JoinHandle::join))).await;
    watchdog.stop();
    let is_sound = matches!(joined, Ok((Ok(()), [Ok(()), Ok(())])));
    match result {
        Ok(result) if is_sound => result,
        _ => Err(Error::Fatal("a thread of the batch loop panicked".to_owned())),
    }
}

/// The poll thread.
struct Poller {
    source: Source,
    epochs: Arc<Epochs>,
    observer: Arc<dyn Observer>,
    size: Size,
    ticks: Ticks,
    /// When observers were told where it stands.
    told: Option<Instant>,
    group: String,
    /// Whether a transaction was committed yet. The first of a client takes a hundred milliseconds, for coordinators must be found and
    /// connected to, so it is made as soon as there is a place to commit and not when the first record waits for it.
    has_committed: bool,
    start_timeout: Duration,
    stop_timeout: Duration,
    is_stopping: Arc<AtomicBool>,
    wake: Arc<Wake>,
    progress: Progress,
    /// How many batches may be in hand.
    depth: usize,
    /// How many are: handed over, and not answered for yet.
    in_hand: usize,
    /// Counts the rewinds: a batch of an earlier run is of no use any more.
    run: u64,
    work: SyncSender<Work>,
    done: Receiver<Done>,
    cancel: watch::Sender<bool>,
}

/// What the poll thread does.
enum Phase {
    /// Waits for the first transactional producer.
    Starting { since: Instant },
    /// Takes batches, as long as not too many are in hand.
    Taking,
    /// Waits until nothing is in hand and the brokers have said where to go on.
    Rewinding { not_before: Instant },
}

impl Poller {
    fn run(mut self) -> Result<(), Error> {
        let result = self.poll();
        // Whoever waits on a batch in hand must not wait for a loop that is over.
        let _ = self.cancel.send(true);
        drop(self.work);
        close(self.source);
        result
    }

    fn poll(&mut self) -> Result<(), Error> {
        let mut phase = Phase::Starting { since: Instant::now() };
        let mut stop_by = None;
        let mut was_assigned = false;
        loop {
            self.source.serve().map_err(fatal)?;
            self.observer.polled();
            if !was_assigned && self.source.has_assignment() {
                was_assigned = true;
                self.observer.assigned();
            }
            phase = self.hear(phase)?;
            if self.told.is_none_or(|told| told.elapsed() >= TELL) {
                self.told = Some(Instant::now());
                self.observer.stands(&self.group, &self.source.standing());
            }
            if self.is_stopping.load(Ordering::SeqCst) {
                let stop_by = *stop_by.get_or_insert_with(|| Instant::now() + self.stop_timeout);
                if self.in_hand == 0 || Instant::now() >= stop_by {
                    return Ok(());
                }
            } else {
                phase = match phase {
                    Phase::Taking if self.source.is_astray() => {
                        let why = "a partition is not read where it should be";
                        warn!(why, "looking what is committed, and going on there");
                        self.observer.rewound(why);
                        Phase::Rewinding { not_before: Instant::now() }
                    }
                    Phase::Taking => {
                        while self.in_hand < self.depth && self.take()? {}
                        Phase::Taking
                    }
                    Phase::Rewinding { not_before } if self.in_hand == 0 && Instant::now() >= not_before => {
                        self.rewind()?
                    }
                    waiting => waiting,
                };
            }
            // An idle look found nothing, a busy one must wait: either way something will wake this thread.
            self.wake.wait(self.rest(&phase));
        }
    }

    /// Takes in what the other threads said.
    fn hear(&mut self, mut phase: Phase) -> Result<Phase, Error> {
        loop {
            let done = match self.done.try_recv() {
                Err(TryRecvError::Empty) => return Ok(phase),
                Err(TryRecvError::Disconnected) => return Err(ended()),
                Ok(done) => done,
            };
            phase = match done {
                Done::Ready => {
                    self.source.identify(self.start_timeout).map_err(fatal)?;
                    self.source.subscribe()?;
                    Phase::Taking
                }
                Done::NotReady(why) => match phase {
                    Phase::Starting { since } if since.elapsed() >= self.start_timeout => {
                        return Err(Error::NoTransactions(self.start_timeout, why));
                    }
                    phase => phase,
                },
                Done::Committed(kind, next) => {
                    self.put_down();
                    if kind == Kind::Records {
                        self.size.committed();
                    }
                    self.has_committed = true;
                    self.source.committed(&next);
                    phase
                }
                Done::Again(why) => {
                    self.put_down();
                    self.size.given_up();
                    let at_most = self.size.limits().records;
                    warn!(
                        why,
                        at_most, "batch given up, reading again from the committed offsets, fewer records at a time"
                    );
                    self.observer.rewound(&why);
                    Phase::Rewinding { not_before: Instant::now() }
                }
                Done::Dropped => {
                    self.put_down();
                    phase
                }
                Done::Fatal(why) => return Err(Error::Fatal(why)),
            };
        }
    }

    /// How long nothing can happen that does not wake this thread.
    fn rest(&self, phase: &Phase) -> Duration {
        if !matches!(phase, Phase::Taking) || self.in_hand > 0 {
            return REST;
        }
        let until_tick = self.ticks.until_due(Instant::now()).unwrap_or(REST);
        let rest = self.source.rest().unwrap_or(REST).min(until_tick);
        rest.clamp(SHORTEST_REST, REST)
    }

    /// Hands over what there is to do; false if there is nothing just now.
    fn take(&mut self) -> Result<bool, Error> {
        let is_tick_due = self.ticks.is_due(Instant::now());
        if is_tick_due || !self.has_committed || self.source.is_to_be_kept() {
            // Where partitions stand is known only when nothing of them is in hand.
            if self.in_hand > 0 {
                return Ok(false);
            }
            let kind = if is_tick_due { Kind::Tick } else { Kind::KeepPlace };
            if let Some(Stood { metadata, snapshot, places }) = self.source.stand(&self.epochs) {
                if is_tick_due {
                    self.ticks.handed_over();
                }
                let next = places.iter().map(|(partition, place)| (partition.clone(), place.next)).collect();
                let batch = Batch { records: Vec::new(), places };
                return self.hand_over(Work { run: self.run, kind, batch, next, metadata, snapshot });
            }
        }
        self.take_batch()
    }

    fn take_batch(&mut self) -> Result<bool, Error> {
        let limits = self.size.limits();
        let Some(taken) = self.source.take(&limits, &self.epochs).map_err(fatal)? else { return Ok(false) };
        let Taken { mut builder, metadata, snapshot } = taken;
        let begun = Instant::now();
        while builder.len() < limits.records && builder.bytes() < limits.bytes {
            let until = self.progress.look().waits_until(begun, limits.wait, GATHER);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.wake.wait(left);
            self.source.fill(&mut builder, &limits).map_err(fatal)?;
        }
        // What woke this thread meanwhile may have been an answer, which is heard elsewhere.
        self.wake.wake();
        let (records, first, next) = builder.finish();
        debug!(records = records.len(), "batch taken");
        let snapshot = snapshot.restricted_to(|partition| next.contains_key(partition));
        let place = |(partition, next): ((Topic, i32), i64)| {
            let assignment = snapshot.epoch(&partition).expect("records are taken from what the snapshot holds");
            (partition, Place { assignment, next, committed: next })
        };
        let places: HashMap<(Topic, i32), Place> = first.into_iter().map(place).collect();
        let batch = Batch { records, places };
        self.hand_over(Work { run: self.run, kind: Kind::Records, batch, next, metadata, snapshot })
    }

    /// Nothing more is to be done for what was handed over first.
    fn put_down(&mut self) {
        self.in_hand -= 1;
        self.ticks.done(Instant::now());
    }

    fn hand_over(&mut self, work: Work) -> Result<bool, Error> {
        self.work.try_send(work).map_err(|_| ended())?;
        self.in_hand += 1;
        Ok(true)
    }

    fn rewind(&mut self) -> Result<Phase, Error> {
        match self.source.rewind().map_err(fatal)? {
            Ok(()) => {
                self.run += 1;
                Ok(Phase::Taking)
            }
            Err(why) => {
                warn!(why, "could not go back to the committed offsets yet");
                Ok(Phase::Rewinding { not_before: Instant::now() + RETRIES[2] })
            }
        }
    }
}

fn ended() -> Error {
    Error::Fatal("a thread of the batch loop ended".to_owned())
}

fn fatal(error: Unreadable) -> Error {
    Error::Fatal(error.to_string())
}

/// Leaves the group, but does not wait for ever: closing a consumer can hang when its coordinator is gone.
fn close(source: Source) {
    let (closed, is_closed) = mpsc::channel();
    let spawned = std::thread::Builder::new().name("consumer-close".into()).spawn(move || {
        source.close();
        // Nobody listens any more if the time is up.
        let _ = closed.send(());
    });
    let is_left = spawned.is_ok() && is_closed.recv_timeout(CLOSE_TIMEOUT).is_ok();
    if is_left {
        info!("left the consumer group");
    } else {
        warn!("could not leave the consumer group in time; its session will expire");
    }
}
