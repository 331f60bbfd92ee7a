//! The hand on the failures topic: reads, remembers, asks the brokers, and says what is to be published. Deciding is done elsewhere.

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};

use tracing::{debug, info, warn};
use wal_model::answer::{Failed, Wish};
use wal_model::cancel::Cancel;
use wal_model::entry::Answers;
use wal_model::{InRecord, LogId, OutRecord, Refusal, Timestamp, Topic, partition};
use wal_runtime::batch_loop::{Batch, CannotGoOn, Handler};
use wal_runtime::brokers::{Brokers, Found, Shapes};
use wal_runtime::config::Kafka;
use wal_runtime::reading::{self, Span, Unread};

use crate::config::Config;
use crate::decide::{Decision, Facts, begins, decide};
use crate::memory::{Fingerprint, Memory, Overflowed};
use crate::outputs::cut_headers;
use crate::tally::Tally;
use crate::tools::{ASK_AGAIN, Tools};

/// The most tombstones of one tick; what is left waits for the next.
const TOMBSTONES: usize = 1000;

/// Who reads back what was decided.
pub trait Past: Send + Sync + 'static {
    /// Calls `each` with every record of the stretches; those of one partition in order.
    fn read(
        &self,
        topic: &Topic,
        spans: &[Span],
        each: &mut (dyn FnMut(InRecord) + Send),
    ) -> impl Future<Output = Result<(), Unread>> + Send;
}

/// The past as Kafka keeps it.
pub(crate) struct Log(pub Kafka);

impl Past for Log {
    async fn read(&self, topic: &Topic, spans: &[Span], each: &mut (dyn FnMut(InRecord) + Send)) -> Result<(), Unread> {
        reading::read_back(&self.0, topic, spans, each).await
    }
}

/// Everything a batch of failures needs on its way through.
pub(crate) struct Failures<B, P> {
    pub tools: Arc<Tools<B>>,
    pub past: P,
    pub group: String,
    pub state: Mutex<State>,
}

/// What changes from batch to batch.
pub(crate) struct State {
    memory: Memory,
    /// What the batch at hand decides; remembered once that is committed.
    decided: Vec<(i32, Timestamp, Fingerprint)>,
    tally: Tally,
}

impl State {
    pub(crate) fn new(config: &Config) -> State {
        let memory = Memory::new(config.memory, config.memory_decisions);
        State { memory, decided: Vec::new(), tally: Tally::default() }
    }
}

/// A record and what is to be done with it.
enum Case<'a> {
    Refuse(&'a InRecord, Refusal),
    Move(Box<Failed>, i32),
    Decide(&'a InRecord, Box<Failed>, Decision),
}

impl Case<'_> {
    /// When something is due that waits; what does not wait comes first.
    fn due(&self) -> Option<Timestamp> {
        match self {
            Case::Decide(_, _, Decision::Retry { due }) => Some(*due),
            Case::Refuse(..) | Case::Move(..) | Case::Decide(..) => None,
        }
    }
}

impl<B: Brokers, P: Past> Handler for Failures<B, P> {
    type Handled = Vec<OutRecord>;

    async fn handle(&self, batch: &Batch) -> Result<Vec<OutRecord>, CannotGoOn> {
        self.tools.cancels.caught_up().await;
        let partitions = self.partitions(batch).await;
        self.recall(batch, partitions).await;
        let mut tally = Tally::default();
        let now = self.tools.clock.now();
        let (mut cases, decided) = self.cases(batch, partitions, now, &mut tally);
        // The head of a delay topic holds up whatever is due before it.
        cases.sort_by_key(Case::due);
        let shapes = self.shapes(&cases).await;
        let press = self.tools.press(&self.group, &shapes, now);
        let mut outputs = Vec::with_capacity(2 * cases.len());
        for case in &cases {
            match case {
                Case::Refuse(record, refusal) => outputs.push(press.refused(record, refusal, &mut tally)),
                Case::Move(failed, partition) => outputs.push(press.moved(failed, *partition, &mut tally)),
                Case::Decide(record, failed, decision) => {
                    outputs.extend(press.decided(record, failed, decision, &mut tally));
                }
            }
        }
        let mut state = self.state();
        (state.decided, state.tally) = (decided, tally);
        Ok(outputs)
    }

    async fn outputs(&self, _: &Batch, outputs: Vec<OutRecord>) -> Result<Vec<OutRecord>, CannotGoOn> {
        Ok(outputs)
    }

    /// Writes the tombstones of cancels that have outlived their round, each by the instance that holds the partition of its log id.
    /// Twice is harmless: the second removes nothing.
    async fn tick(&self, batch: &Batch) -> Result<Vec<OutRecord>, CannotGoOn> {
        let failures = self.tools.topics.failures();
        let is_held = |partition: i32| batch.places.contains_key(&(failures.clone(), partition));
        self.state().memory.keep(is_held);
        let outlived = self.tools.cancels.outlived(self.tools.clock.now(), self.tools.config.get().keep_cancels);
        if outlived.is_empty() {
            return Ok(Vec::new());
        }
        let shapes = self.tools.brokers.shapes(vec![failures.clone()]).await;
        let Some(Found::Known { partitions, .. }) = shapes.get(&failures) else { return Ok(Vec::new()) };
        let is_ours = |log_id: &LogId| home(log_id, *partitions).is_some_and(is_held);
        let ours = outlived.into_iter().filter(is_ours).take(TOMBSTONES);
        Ok(ours.map(|log_id| Cancel::tombstone(&log_id, self.tools.topics.cancels())).collect())
    }

    fn committed(&self, _: &Batch) {
        let mut state = self.state();
        for (partition, time, attempt) in std::mem::take(&mut state.decided) {
            warn_of(state.memory.remember(partition, time, attempt), &self.tools.config.get());
        }
        self.tools.meter.add(std::mem::take(&mut state.tally), self.tools.clock.now());
    }

    fn given_up(&self) {
        let mut state = self.state();
        state.memory.clear();
        (state.decided, state.tally) = (Vec::new(), Tally::default());
        drop(state);
        self.tools.brokers.forget();
    }
}

impl<B: Brokers, P: Past> Failures<B, P> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it is held")
    }

    /// How many partitions the failures topic has. One that stands further than is known says that what is known is old.
    async fn partitions(&self, batch: &Batch) -> i32 {
        let failures = self.tools.topics.failures();
        let last = batch.records.iter().map(|record| record.partition).max().unwrap_or(0);
        loop {
            match self.tools.brokers.shapes(vec![failures.clone()]).await.remove(&failures) {
                Some(Found::Known { partitions, .. }) if partitions > last => return partitions,
                Some(Found::Known { .. }) => self.tools.brokers.forget(),
                other => warn!(topic = %failures, answer = ?other, "the brokers do not tell the number of partitions"),
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Makes sure that what was decided before this batch is remembered for its partitions.
    async fn recall(&self, batch: &Batch, partitions: i32) {
        let unknown = self.unknown(batch);
        if unknown.is_empty() {
            return;
        }
        let failures = self.tools.topics.failures();
        let spans: Vec<Span> = unknown.iter().map(|(span, _)| span.clone()).collect();
        let decided = loop {
            let mut decided = Vec::new();
            let mut each = |record: InRecord| {
                if let (Ok(failed), Some(time)) = (Failed::decode(&record, &self.tools.keyring), record.time)
                    && was_decided(&failed, record.partition, partitions)
                {
                    decided.push((record.partition, time, Fingerprint::of(&failed.echo.delivery)));
                }
            };
            match self.past.read(&failures, &spans, &mut each).await {
                Ok(()) => break decided,
                Err(error) => warn!(%error, "cannot read back what was decided yet"),
            }
            tokio::time::sleep(ASK_AGAIN).await;
        };
        info!(partitions = spans.len(), decisions = decided.len(), "read back what was decided");
        let mut state = self.state();
        for (span, assignment) in &unknown {
            state.memory.begin(span.partition, *assignment);
        }
        for (partition, time, attempt) in decided {
            warn_of(state.memory.remember(partition, time, attempt), &self.tools.config.get());
        }
    }

    /// What has to be read back, with the assignment of each partition. Forgets what is too old for the others.
    fn unknown(&self, batch: &Batch) -> Vec<(Span, u64)> {
        let mut state = self.state();
        let mut seen = HashSet::new();
        let mut unknown = Vec::new();
        for record in batch.records.iter().filter(|record| seen.insert(record.partition)) {
            let (partition, time) = (record.partition, record.time.unwrap_or(Timestamp::EPOCH));
            let Some(place) = batch.places.get(&(record.topic.clone(), partition)) else { continue };
            if place.next == 0 {
                // Nothing was ever decided there.
                state.memory.begin(partition, place.assignment);
            }
            if state.memory.is_complete(partition, place.assignment) {
                state.memory.pass(partition, time);
            } else {
                let span = Span { partition, since: state.memory.since(time), until: place.next };
                unknown.push((span, place.assignment));
            }
        }
        unknown
    }

    /// Reads and decides every record; with what is to be remembered of it.
    fn cases<'a>(
        &self,
        batch: &'a Batch,
        partitions: i32,
        now: Timestamp,
        tally: &mut Tally,
    ) -> (Vec<Case<'a>>, Vec<(i32, Timestamp, Fingerprint)>) {
        let (state, config) = (self.state(), self.tools.config.get());
        let mut decided = Vec::new();
        let mut in_batch = HashSet::new();
        let cases = batch.records.iter().map(|record| {
            let mut failed = match Failed::decode(record, &self.tools.keyring) {
                Ok(failed) => Box::new(failed),
                Err(error) => {
                    debug!(record = %record.coordinates(), %error, "no failure that can be taken");
                    return Case::Refuse(record, error.refusal());
                }
            };
            self.note(record, &mut failed, tally);
            let delivery = &failed.echo.delivery;
            if is_to_be_decided(&failed)
                && let Some(home) = home(&delivery.log_id, partitions).filter(|home| *home != record.partition)
            {
                return Case::Move(failed, home);
            }
            let attempt = Fingerprint::of(delivery);
            let facts = Facts {
                retry_after_max: config.retry_after_max,
                is_decided: state.memory.is_decided(record.partition, attempt) || in_batch.contains(&attempt),
                is_cancelled: self.tools.cancels.covers(&delivery.log_id, delivery.round),
            };
            let decision = decide(&failed, facts, begins(record.time, now), now);
            debug!(record = %record.coordinates(), log_id = %delivery.log_id, attempt = delivery.attempt, ?decision, "decided");
            if matches!(decision, Decision::Retry { .. } | Decision::RetryNow | Decision::Dead { .. }) {
                in_batch.insert(attempt);
                decided.push((record.partition, record.time.unwrap_or(Timestamp::EPOCH), attempt));
            }
            Case::Decide(record, failed, decision)
        });
        (cases.collect(), decided)
    }

    /// Takes note of what an answer brings that cannot be followed.
    fn note(&self, record: &InRecord, failed: &mut Failed, tally: &mut Tally) {
        if let Wish::Unreadable(wish) = &failed.wish {
            tally.wishes_unreadable += 1;
            debug!(record = %record.coordinates(), wish, "a wish that cannot be understood; the lifecycle decides");
        }
        if cut_headers(&mut failed.echo.delivery.headers) {
            let log_id = &failed.echo.delivery.log_id;
            warn!(record = %record.coordinates(), %log_id, "an answer brings more headers than an entry may have; the last are left out");
        }
    }

    /// What must be known of topics before anything is published.
    async fn shapes(&self, cases: &[Case<'_>]) -> Shapes {
        let mut targets = HashSet::new();
        let mut dead_letters = HashSet::new();
        let mut soon = HashSet::new();
        for case in cases {
            match case {
                Case::Decide(_, failed, Decision::RetryNow) => {
                    targets.insert(failed.echo.delivery.target.clone());
                }
                Case::Decide(_, failed, Decision::Dead { .. }) => {
                    dead_letters.insert(self.tools.topics.dead_entries(failed.echo.delivery.log_id.namespace()));
                    dead_letters.insert(self.tools.topics.dead_requests());
                }
                Case::Refuse(..) | Case::Decide(_, _, Decision::Refuse(_)) => {
                    dead_letters.insert(self.tools.topics.dead_requests());
                }
                // A short delay may be over before the brokers have answered.
                Case::Decide(_, failed, Decision::Retry { .. }) => {
                    soon.insert(failed.echo.delivery.target.clone());
                }
                Case::Move(..) | Case::Decide(_, _, Decision::Ignore(_)) => {}
            }
        }
        if !soon.is_empty() {
            self.tools.brokers.foresee(&soon.into_iter().collect::<Vec<_>>());
        }
        let mut shapes = self.tools.targets(targets).await;
        shapes.extend(self.tools.dead_letters(dead_letters).await);
        shapes
    }
}

/// The partition of the failures topic that a log id names.
fn home(log_id: &LogId, partitions: i32) -> Option<i32> {
    partition::of_key(log_id.to_string().as_bytes(), partitions)
}

/// Whether a failure is one that a decision follows, wherever it stands.
fn is_to_be_decided(failed: &Failed) -> bool {
    !failed.echo.is_replay && failed.echo.delivery.answers == Answers::Expected
}

/// Whether a failure that was read back led to a decision where it stands.
fn was_decided(failed: &Failed, partition: i32, partitions: i32) -> bool {
    is_to_be_decided(failed) && home(&failed.echo.delivery.log_id, partitions) == Some(partition)
}

fn warn_of(overflowed: Option<Overflowed>, config: &Config) {
    if let Some(Overflowed { partition }) = overflowed {
        warn!(
            partition,
            decisions = config.memory_decisions,
            window = ?config.memory,
            "more decisions within the window than are remembered (retry_scheduler.memory_decisions): a failure that is told again \
             much later may be decided twice"
        );
    }
}
