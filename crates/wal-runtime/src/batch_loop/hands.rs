//! The threads behind the poll thread: one handles batches, the other makes what is to be published of them and publishes it. Each batch
//! passes both, in order, and is answered for once.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::warn;
use wal_kafka::epochs::{Epochs, Snapshot};
use wal_kafka::native::GroupMetadata;
use wal_kafka::publisher::{NextOffsets, Publisher, Unpublished};
use wal_kafka::wake::Wake;
use wal_model::record::last;
use wal_model::{OutRecord, wire};

use super::overlap::Overlap;
use super::{Batch, CannotGoOn, Handler, Observer, RETRIES};
use crate::traces::{self, Traces};

/// A batch on its way.
pub(super) struct Work {
    /// How many rewinds there were before it.
    pub(super) run: u64,
    pub(super) kind: Kind,
    pub(super) batch: Batch,
    pub(super) next: NextOffsets,
    pub(super) metadata: GroupMetadata,
    pub(super) snapshot: Snapshot,
}

/// What is to be done with a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Records,
    Tick,
    /// Only its offsets are to be committed.
    KeepPlace,
}

/// What the poll thread is told.
pub(super) enum Done {
    Ready,
    NotReady(String),
    /// What kind of work, and these offsets.
    Committed(Kind, NextOffsets),
    Again(String),
    /// A batch before it failed.
    Dropped,
    Fatal(String),
}

/// What they are at, for the poll thread to look at.
#[derive(Clone, Default)]
pub(super) struct Progress(Arc<Mutex<Overlap>>);

impl Progress {
    pub(super) fn look(&self) -> MutexGuard<'_, Overlap> {
        // Nothing in there can be half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What both threads need.
pub(super) struct Hands<H> {
    pub(super) handler: Arc<H>,
    pub(super) publisher: Publisher,
    pub(super) epochs: Arc<Epochs>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) cancelled: watch::Receiver<bool>,
    pub(super) done: SyncSender<Done>,
    pub(super) wake: Arc<Wake>,
    pub(super) progress: Progress,
    pub(super) group: String,
    pub(super) traces: Traces,
}

impl<H: Handler> Hands<H> {
    /// Starts both threads. They end when nobody hands work over any more.
    pub(super) fn start(self, work: Receiver<Work>, depth: usize) -> std::io::Result<[JoinHandle<()>; 2]> {
        let (to_publish, handled) = mpsc::sync_channel(depth);
        let (failed, is_failed) = watch::channel(0);
        let handling = Handling {
            handler: Arc::clone(&self.handler),
            epochs: Arc::clone(&self.epochs),
            cancelled: self.cancelled.clone(),
            failed: is_failed,
            observer: Arc::clone(&self.observer),
            progress: self.progress.clone(),
            runtime: Handle::current(),
        };
        let publishing = Publishing {
            handler: self.handler,
            publisher: self.publisher,
            epochs: self.epochs,
            observer: self.observer,
            cancelled: self.cancelled,
            failed,
            done: self.done,
            wake: self.wake,
            progress: self.progress,
            group: self.group,
            traces: self.traces,
            runtime: Handle::current(),
        };
        let spawn = |name: &str| thread::Builder::new().name(name.to_owned());
        Ok([
            spawn("wal-handle").spawn(move || handling.run(&work, &to_publish))?,
            spawn("wal-publish").spawn(move || publishing.run(&handled))?,
        ])
    }
}

/// A batch that was handled, or why it was not.
struct Handled<T> {
    work: Work,
    left: Result<Left<T>, Done>,
}

/// What handling leaves.
struct Left<T> {
    what: What<T>,
    /// When it began.
    taken: SystemTime,
}

enum What<T> {
    /// What the outputs of a batch of records are made of.
    Handled(T),
    /// All there is to be published.
    Outputs(Vec<OutRecord>),
}

/// The thread that handles.
struct Handling<H> {
    handler: Arc<H>,
    epochs: Arc<Epochs>,
    cancelled: watch::Receiver<bool>,
    /// The last run of which a batch failed.
    failed: watch::Receiver<u64>,
    observer: Arc<dyn Observer>,
    progress: Progress,
    runtime: Handle,
}

impl<H: Handler> Handling<H> {
    fn run(self, work: &Receiver<Work>, to_publish: &SyncSender<Handled<H::Handled>>) {
        while let Ok(work) = work.recv() {
            let begun = Instant::now();
            self.progress.look().handles();
            let left = self.runtime.block_on(self.handle(&work));
            let is_typical = work.kind == Kind::Records && left.is_ok();
            self.progress.look().handled(is_typical.then(|| begun.elapsed()));
            if to_publish.send(Handled { work, left }).is_err() {
                return;
            }
        }
    }

    async fn handle(&self, work: &Work) -> Result<Left<H::Handled>, Done> {
        let mut failed = self.failed.clone();
        tokio::select! {
            biased;
            _ = failed.wait_for(|failed| *failed >= work.run) => Err(Done::Dropped),
            left = unless_over(&self.epochs, &self.cancelled, work, self.left(work)) => left,
        }
    }

    async fn left(&self, work: &Work) -> Result<Left<H::Handled>, CannotGoOn> {
        let (begun, taken) = (Instant::now(), traces::now());
        let what = match work.kind {
            Kind::Records => What::Handled(self.handler.handle(&work.batch).await?),
            Kind::Tick => What::Outputs(self.handler.tick(&work.batch).await?),
            Kind::KeepPlace => return Ok(Left { what: What::Outputs(Vec::new()), taken }),
        };
        self.observer.handled(begun.elapsed());
        Ok(Left { what, taken })
    }
}

/// Works on a batch for as long as its partitions are held and nobody wants to stop.
async fn unless_over<T>(
    epochs: &Epochs,
    cancelled: &watch::Receiver<bool>,
    work: &Work,
    doing: impl Future<Output = Result<T, CannotGoOn>>,
) -> Result<T, Done> {
    let mut cancelled = cancelled.clone();
    tokio::select! {
        biased;
        () = epochs.passed(&work.snapshot) => Err(Done::Again("a partition of the batch moved away".to_owned())),
        _ = cancelled.wait_for(|is_cancelled| *is_cancelled) => Err(Done::Again("stopping".to_owned())),
        done = doing => done.map_err(|CannotGoOn(why)| Done::Fatal(why)),
    }
}

/// The thread that publishes.
struct Publishing<H> {
    handler: Arc<H>,
    publisher: Publisher,
    epochs: Arc<Epochs>,
    observer: Arc<dyn Observer>,
    cancelled: watch::Receiver<bool>,
    /// The last run of which a batch failed: nothing of it is published any more, or a record would be skipped.
    failed: watch::Sender<u64>,
    done: SyncSender<Done>,
    wake: Arc<Wake>,
    progress: Progress,
    group: String,
    traces: Traces,
    runtime: Handle,
}

impl<H: Handler> Publishing<H> {
    fn run(mut self, handled: &Receiver<Handled<H::Handled>>) {
        if self.get_ready() {
            self.say(Done::Ready);
            let mut failures = 0;
            while let Ok(Handled { work, left }) = handled.recv() {
                let run = work.run;
                let begun = Instant::now();
                self.progress.look().publishes(begun);
                // What is being gathered may now be told when to come.
                self.wake.wake();
                let done = if run <= *self.failed.borrow() { Done::Dropped } else { self.publish(work, left) };
                let is_typical = matches!(done, Done::Committed(Kind::Records, _));
                self.progress.look().published(is_typical.then(|| begun.elapsed()));
                match done {
                    Done::Again(_) => {
                        self.failed.send_replace(run);
                        self.handler.given_up();
                        failures += 1;
                        // Committed offsets are final only when no older transaction is open.
                        if !(self.rest(failures) && self.get_ready()) {
                            break;
                        }
                    }
                    Done::Committed(..) => failures = 0,
                    Done::Ready | Done::NotReady(_) | Done::Dropped | Done::Fatal(_) => {}
                }
                self.say(done);
            }
        }
        self.publisher.close();
    }

    fn say(&self, done: Done) {
        // A poll thread that is over does not listen, and need not.
        let _ = self.done.send(done);
        self.wake.wake();
    }

    fn publish(&mut self, work: Work, left: Result<Left<H::Handled>, Done>) -> Done {
        let made = left.and_then(|Left { what, taken }| Ok((self.outputs(&work, what)?, taken)));
        let (mut outputs, taken) = match made {
            Ok(made) => made,
            Err(done) => return done,
        };
        let hops = if work.kind == Kind::KeepPlace { None } else { self.traces.hop(taken, &mut outputs) };
        if work.kind == Kind::Tick && outputs.is_empty() {
            self.handler.committed(&work.batch);
            return Done::Committed(work.kind, NextOffsets::new());
        }
        let is_held = || self.epochs.holds(&work.snapshot);
        let (begun, fences) = (Instant::now(), self.publisher.fences());
        let published = self.publisher.publish(&outputs, &work.next, &work.metadata, is_held);
        if self.publisher.fences() > fences {
            self.observer.fenced();
        }
        match published {
            Ok(()) => {
                if work.kind != Kind::KeepPlace {
                    self.observer.published(begun.elapsed());
                    outputs.iter().filter(is_dead_letter).for_each(|letter| self.observer.dead_letter(letter));
                    self.handler.committed(&work.batch);
                    self.traces.committed(&self.group, &work.batch, &outputs, hops.as_ref());
                    self.observer.committed(work.batch.records.len(), outputs.len());
                }
                Done::Committed(work.kind, work.next)
            }
            // What is committed says which of the two it was.
            Err(Unpublished::Again(why) | Unpublished::Unclear(why)) => Done::Again(why),
            Err(Unpublished::Fatal(why)) => Done::Fatal(why),
        }
    }

    fn outputs(&self, work: &Work, what: What<H::Handled>) -> Result<Vec<OutRecord>, Done> {
        match what {
            What::Outputs(outputs) => Ok(outputs),
            What::Handled(handled) => {
                let made = self.handler.outputs(&work.batch, handled);
                self.runtime.block_on(unless_over(&self.epochs, &self.cancelled, work, made))
            }
        }
    }

    /// Tries until there is a transactional producer; false when told to stop.
    fn get_ready(&mut self) -> bool {
        let mut failures = 0;
        loop {
            match self.publisher.ready() {
                Ok(()) => return true,
                Err(error) => {
                    warn!(%error, "no transactional producer yet");
                    self.say(Done::NotReady(error.to_string()));
                    failures += 1;
                    if !self.rest(failures) {
                        return false;
                    }
                }
            }
        }
    }

    /// Waits a little longer after each failure in a row; false when told to stop.
    fn rest(&self, failures: usize) -> bool {
        let wait: Duration = RETRIES[failures.saturating_sub(1).min(RETRIES.len() - 1)];
        let mut cancelled = self.cancelled.clone();
        self.runtime.block_on(async {
            let is_cancelled = tokio::time::timeout(wait, cancelled.wait_for(|is_cancelled| *is_cancelled)).await;
            is_cancelled.is_err()
        })
    }
}

/// The name of a target may begin so, too, but no delivery says why it is dead.
fn is_dead_letter(output: &&OutRecord) -> bool {
    output.topic.as_str().starts_with("dlq.") && last(&output.headers, wire::CE_WALERRORCODE).is_some()
}
