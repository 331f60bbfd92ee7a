//! The batch loop of `wal_runtime` over the simulated Kafka: the same order of the same steps, but one step at a time, so that
//! anything can happen between any two of them.
//!
//! ```text
//!   poll   group ─▶ placed ─▶ hear ─▶ take records, metadata and epochs ───┐
//!   step   ┌───────────────────────────────────────────────────────────────┘
//!          └▶ handle (an await at a time) ─▶ begin ─▶ send, some at a time ─▶ offsets ─▶ epochs hold? ─▶ commit ─▶ told
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use wal_model::{Clock, InRecord, OutRecord, Priority, Timestamp};
use wal_runtime::batch_loop::{Batch, CannotGoOn, Gate, Handler, Look, Place};

use super::clock::Skewed;
use super::groups::{Group, Heard, MemberId, Told};
use super::kafka::{Committed, Kafka, Next, Partition, Refused};

/// How long a place may stand before marks of transactions, as in the real loop.
const KEEP_PLACE: i64 = 5_000;
/// Waits after a batch that was given up, as in the real loop.
const RETRIES: [i64; 5] = [50, 200, 500, 1000, 2000];

/// What a handler is about to say.
pub type Saying = Pin<Box<dyn Future<Output = Result<Vec<OutRecord>, CannotGoOn>> + Send>>;

/// A handler, whichever it is.
pub trait Hand: Send + Sync {
    fn handle(self: Arc<Self>, batch: Arc<Batch>) -> Saying;
    fn tick(self: Arc<Self>, batch: Arc<Batch>) -> Saying;
    fn committed(&self, batch: &Batch);
    fn given_up(&self);
}

impl<H: Handler> Hand for H {
    fn handle(self: Arc<Self>, batch: Arc<Batch>) -> Saying {
        Box::pin(async move {
            let handled = Handler::handle(&*self, &batch).await?;
            Handler::outputs(&*self, &batch, handled).await
        })
    }

    fn tick(self: Arc<Self>, batch: Arc<Batch>) -> Saying {
        Box::pin(async move { Handler::tick(&*self, &batch).await })
    }

    fn committed(&self, batch: &Batch) {
        Handler::committed(self, batch);
    }

    fn given_up(&self) {
        Handler::given_up(self);
    }
}

/// What a loop reads, and how.
pub struct Reads {
    pub group: &'static str,
    /// Who lets heads pass, if they wait.
    pub gate: Option<Arc<dyn Gate>>,
    /// The most records in a batch.
    pub limit: usize,
    /// How often it has its tick.
    pub tick: Option<i64>,
}

/// What a loop needs of the world for one step.
pub struct Surroundings<'a> {
    pub now: i64,
    pub clock: &'a Skewed,
    pub broker: Timestamp,
    pub kafka: &'a Arc<Mutex<Kafka>>,
    pub group: &'a mut Group,
    pub random: &'a mut fastrand::Rng,
    pub faults: Faults,
    pub reached: &'a mut Reached,
    /// Whether what must be known before anything is decided is known.
    pub is_informed: bool,
}

/// How often a situation came about that is worth a simulation.
pub type Reached = BTreeMap<&'static str, u32>;

/// How often things go wrong, of a thousand times.
#[derive(Clone, Copy, Default)]
pub struct Faults {
    /// A record is not delivered.
    pub undelivered: u16,
    /// Nobody knows whether a commit was done.
    pub unclear: u16,
    /// A call takes seconds.
    pub slow: u16,
}

impl Surroundings<'_> {
    /// How long a call takes.
    fn pause(&mut self) -> i64 {
        let is_slow = self.random.u16(..1000) < self.faults.slow;
        self.random.i64(0..if is_slow { 4_000 } else { 3 })
    }

    fn reach(&mut self, situation: &'static str) {
        *self.reached.entry(situation).or_default() += 1;
    }
}

/// A transaction that was decided for.
pub struct Published {
    pub outputs: Vec<OutRecord>,
    /// What the process's clock showed while its handler was at work, first and last.
    pub clock: (Timestamp, Timestamp),
}

/// How the work thread goes on.
pub enum Stepped {
    /// There is more to do, so much later.
    Again(i64),
    /// The batch is over, and the poll thread may hear of it.
    Over,
    /// The handler gave up for good.
    Broken(String),
}

/// One loop of one process.
pub struct BatchLoop {
    pub reads: Reads,
    hand: Arc<dyn Hand>,
    transactional_id: String,
    producer: Option<u32>,
    pub member: Option<MemberId>,
    generation: u64,
    held: BTreeMap<Partition, Held>,
    /// Assigned, but it is not known yet where reading begins.
    unplaced: BTreeSet<Partition>,
    last_assignment: u64,
    phase: Phase,
    failures: usize,
    last_tick: i64,
    last_kept: i64,
    job: Option<Job>,
    /// What was decided for in the last step.
    published: Option<Published>,
}

struct Held {
    assignment: u64,
    next: i64,
    committed: i64,
    rests_until: i64,
}

impl Held {
    /// Lets the gate look at the record at `from`, unless it rests.
    fn look(
        &mut self,
        partition: &Partition,
        from: i64,
        kafka: &Kafka,
        gate: &dyn Gate,
        now: i64,
    ) -> Option<(Priority, Timestamp, InRecord)> {
        if self.rests_until > now {
            return None;
        }
        let Next::Record(head) = kafka.next(partition, from) else { return None };
        match gate.look(&head) {
            Look::Pass { priority, due } => Some((priority, due, *head)),
            Look::Rest(rest) => {
                self.rests_until = now + i64::try_from(rest.as_millis()).expect("a short rest").max(1);
                None
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Idle,
    Busy,
    Rewinding,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Records,
    Tick,
    KeepPlace,
}

struct Job {
    kind: Kind,
    batch: Arc<Batch>,
    next: BTreeMap<Partition, i64>,
    metadata: (MemberId, u64),
    snapshot: BTreeMap<Partition, u64>,
    clock: Option<(Timestamp, Timestamp)>,
    stage: Stage,
}

enum Stage {
    Handling(Option<Saying>),
    Beginning(Vec<OutRecord>),
    Sending { transaction: usize, outputs: Vec<OutRecord>, sent: usize },
    Checking { transaction: usize, outputs: Vec<OutRecord> },
    Committing { transaction: usize, outputs: Vec<OutRecord> },
    Recovering,
}

/// Why a batch is given up.
enum GivenUp {
    /// The producer can go on.
    Aborted(Option<usize>),
    /// The producer is thrown away.
    Forgotten,
}

impl BatchLoop {
    pub fn new(reads: Reads, hand: Arc<dyn Hand>, transactional_id: String, now: i64) -> BatchLoop {
        BatchLoop {
            reads,
            hand,
            transactional_id,
            producer: None,
            member: None,
            generation: 0,
            held: BTreeMap::new(),
            unplaced: BTreeSet::new(),
            last_assignment: 0,
            phase: Phase::Starting,
            failures: 0,
            last_tick: now,
            last_kept: now,
            job: None,
            published: None,
        }
    }

    pub fn holds(&self, partition: &Partition) -> bool {
        self.held.contains_key(partition)
    }

    pub fn is_busy(&self) -> bool {
        self.job.is_some()
    }

    /// Whether the next step is the handler's.
    pub fn is_handling(&self) -> bool {
        self.job.as_ref().is_some_and(|job| matches!(job.stage, Stage::Handling(_)))
    }

    /// Whether the next step is the first of a batch.
    pub fn is_about_to_begin(&self) -> bool {
        self.job.as_ref().is_some_and(|job| matches!(job.stage, Stage::Handling(None)))
    }

    /// The poll thread has its turn; how long it may rest then, if nothing wakes it.
    pub fn poll(&mut self, around: &mut Surroundings<'_>) -> Option<i64> {
        match self.phase {
            Phase::Starting => return self.start_producer(around),
            Phase::Idle | Phase::Busy | Phase::Rewinding => self.serve(around),
        }
        if self.phase == Phase::Rewinding && !self.rewind(around) {
            return Some(around.random.i64(5..100));
        }
        if self.phase == Phase::Idle {
            self.start(around);
        }
        match self.phase {
            Phase::Busy => None,
            _ => self.rest(around),
        }
    }

    /// The first producer: only with it does a member join.
    fn start_producer(&mut self, around: &mut Surroundings<'_>) -> Option<i64> {
        let Ok(epoch) = lock(around.kafka).init(&self.transactional_id) else {
            return Some(around.random.i64(10..300));
        };
        (self.producer, self.phase) = (Some(epoch), Phase::Idle);
        Some(0)
    }

    /// Rebalances.
    fn serve(&mut self, around: &mut Surroundings<'_>) {
        let member = *self.member.get_or_insert_with(|| around.group.join());
        let holds: BTreeSet<Partition> = self.held.keys().chain(&self.unplaced).cloned().collect();
        match around.group.heartbeat(member, &holds, around.random) {
            Heard::Well => {}
            Heard::Told(Told { generation, partitions }) => {
                self.generation = generation;
                self.held.retain(|partition, _| partitions.contains(partition));
                self.unplaced.retain(|partition| partitions.contains(partition));
                let new = partitions.into_iter().filter(|partition| !self.held.contains_key(partition));
                self.unplaced.extend(new.collect::<Vec<_>>());
            }
            Heard::Gone => {
                around.reach("a member found itself expelled");
                self.held.clear();
                self.unplaced.clear();
                self.member = Some(around.group.join());
            }
        }
        let kafka = Arc::clone(around.kafka);
        let kafka = lock(&kafka);
        for partition in self.unplaced.clone() {
            let committed = kafka.committed(self.reads.group, &partition);
            if committed == Committed::Unstable {
                around.reach("a place was asked for while a transaction decided over it");
            }
            if let Committed::At(offset) = committed {
                self.unplaced.remove(&partition);
                self.last_assignment += 1;
                let assignment = self.last_assignment;
                self.held.insert(partition, Held { assignment, next: offset, committed: offset, rests_until: 0 });
            }
        }
    }

    fn rewind(&mut self, around: &mut Surroundings<'_>) -> bool {
        let kafka = lock(around.kafka);
        for (partition, held) in &mut self.held {
            let Committed::At(offset) = kafka.committed(self.reads.group, partition) else { return false };
            (held.next, held.committed, held.rests_until) = (offset, offset, 0);
        }
        self.phase = Phase::Idle;
        true
    }

    fn start(&mut self, around: &mut Surroundings<'_>) {
        let Some(member) = self.member.filter(|_| self.generation > 0) else { return };
        let kafka = Arc::clone(around.kafka);
        let kafka = lock(&kafka);
        self.skip_marks(&kafka);
        let is_tick_due = self.reads.tick.is_some_and(|every| around.now - self.last_tick >= every);
        let is_ahead = self.held.values().any(|held| held.next > held.committed);
        let is_to_be_kept = is_ahead && around.now - self.last_kept >= KEEP_PLACE;
        if (is_tick_due || is_to_be_kept) && !self.held.is_empty() && self.unplaced.is_empty() {
            if is_tick_due {
                self.last_tick = around.now;
            }
            let kind = if is_tick_due { Kind::Tick } else { Kind::KeepPlace };
            let next = self.held.iter().map(|(partition, held)| (partition.clone(), held.next)).collect();
            self.begin(kind, member, Vec::new(), next);
            return;
        }
        let records = match self.reads.gate.clone() {
            Some(gate) => self.take_heads(&kafka, &*gate, around),
            None => self.take_any(&kafka, around),
        };
        if !records.is_empty() {
            let next = records
                .iter()
                .map(|record| ((record.topic.clone(), record.partition), record.offset + 1))
                .collect::<BTreeMap<_, _>>();
            self.begin(Kind::Records, member, records, next);
        }
    }

    /// Where nothing but marks stands next, the place is past them.
    fn skip_marks(&mut self, kafka: &Kafka) {
        for (partition, held) in &mut self.held {
            if let Next::End(end) = kafka.next(partition, held.next) {
                held.next = end;
            }
        }
    }

    fn begin(&mut self, kind: Kind, member: MemberId, records: Vec<InRecord>, next: BTreeMap<Partition, i64>) {
        let first = |partition: &Partition| {
            let mut own =
                records.iter().filter(|record| (&record.topic, record.partition) == (&partition.0, partition.1));
            own.next().map(|record| record.offset)
        };
        let place = |partition: &Partition| {
            let held = &self.held[partition];
            let next = first(partition).unwrap_or(held.next);
            let committed = if kind == Kind::Records { next } else { held.committed };
            (partition.clone(), Place { assignment: held.assignment, next, committed })
        };
        let places: HashMap<Partition, Place> = next.keys().map(place).collect();
        let snapshot = next.keys().map(|partition| (partition.clone(), self.held[partition].assignment)).collect();
        for record in &records {
            let held = self.held.get_mut(&(record.topic.clone(), record.partition)).expect("taken from what is held");
            (held.next, held.rests_until) = (record.offset + 1, 0);
        }
        self.job = Some(Job {
            kind,
            batch: Arc::new(Batch { records, places }),
            next,
            metadata: (member, self.generation),
            snapshot,
            clock: None,
            stage: Stage::Handling(None),
        });
        self.phase = Phase::Busy;
    }

    fn take_any(&self, kafka: &Kafka, around: &mut Surroundings<'_>) -> Vec<InRecord> {
        let wanted = around.random.usize(1..=self.reads.limit);
        let mut open: Vec<(&Partition, i64)> =
            self.held.iter().map(|(partition, held)| (partition, held.next)).collect();
        let mut records = Vec::new();
        while records.len() < wanted && !open.is_empty() {
            let index = around.random.usize(..open.len());
            let (partition, next) = &mut open[index];
            match kafka.next(partition, *next) {
                Next::Record(record) => {
                    *next = record.offset + 1;
                    records.push(*record);
                }
                Next::End(_) => drop(open.swap_remove(index)),
            }
        }
        records
    }

    /// Heads that the gate lets pass: the higher priority first, then what was due earlier.
    fn take_heads(&mut self, kafka: &Kafka, gate: &dyn Gate, around: &mut Surroundings<'_>) -> Vec<InRecord> {
        let wanted = around.random.usize(1..=self.reads.limit);
        // By priority, due time and partition: the head, and with it the place of what may follow it.
        let mut order = BTreeMap::new();
        for (partition, held) in &mut self.held {
            if let Some((priority, due, head)) = held.look(partition, held.next, kafka, gate, around.now) {
                order.insert((priority, due, partition.clone()), head);
            }
        }
        let mut records: Vec<InRecord> = Vec::new();
        while records.len() < wanted
            && let Some(((_, _, partition), head)) = order.pop_first()
        {
            let held = self.held.get_mut(&partition).expect("heads are of what is held");
            if let Some((priority, due, next)) = held.look(&partition, head.offset + 1, kafka, gate, around.now) {
                order.insert((priority, due, partition), next);
            }
            records.push(head);
        }
        records
    }

    /// How long nothing can happen that does not wake this loop.
    fn rest(&self, around: &Surroundings<'_>) -> Option<i64> {
        if !self.unplaced.is_empty() {
            return Some(20);
        }
        let is_ahead = self.held.values().any(|held| held.next > held.committed);
        let of_place = is_ahead.then_some(self.last_kept + KEEP_PLACE);
        let of_tick = self.reads.tick.filter(|_| !self.held.is_empty()).map(|every| self.last_tick + every);
        let of_heads = self.held.values().map(|held| held.rests_until).filter(|until| *until > around.now).min();
        let until = [of_place, of_tick, of_heads].into_iter().flatten().min()?;
        Some((until - around.now).max(1))
    }

    /// What the last step decided for: all of it will be seen, whoever dies now.
    pub fn published(&mut self) -> Option<Published> {
        self.published.take()
    }

    /// The work thread has its turn.
    pub fn step(&mut self, around: &mut Surroundings<'_>) -> Stepped {
        let Some(mut job) = self.job.take() else { return Stepped::Over };
        let stage = std::mem::replace(&mut job.stage, Stage::Recovering);
        let stepped = match stage {
            Stage::Handling(saying) => self.handle(&mut job, saying, around),
            Stage::Beginning(outputs) => self.begin_transaction(&mut job, outputs, around),
            Stage::Sending { transaction, outputs, sent } => self.send(&mut job, transaction, outputs, sent, around),
            Stage::Checking { transaction, outputs } => self.check(&mut job, transaction, outputs, around),
            Stage::Committing { transaction, outputs } => self.commit(&mut job, transaction, outputs, around),
            Stage::Recovering => Ok(self.recover(around)),
        };
        match stepped {
            Ok(Stepped::Again(later)) => {
                self.job = Some(job);
                Stepped::Again(later)
            }
            Ok(over) => over,
            Err(given_up) => {
                self.job = Some(job);
                self.give_up(given_up, around)
            }
        }
    }

    fn is_held(&self, job: &Job) -> bool {
        let is_same = |(partition, assignment): (&Partition, &u64)| {
            self.held.get(partition).is_some_and(|held| held.assignment == *assignment)
        };
        job.snapshot.iter().all(is_same)
    }

    fn handle(
        &mut self,
        job: &mut Job,
        saying: Option<Saying>,
        around: &mut Surroundings<'_>,
    ) -> Result<Stepped, GivenUp> {
        if !self.is_held(job) {
            around.reach("a partition moved away while its batch was handled");
            return Err(GivenUp::Aborted(None));
        }
        if !around.is_informed && job.kind != Kind::KeepPlace {
            job.stage = Stage::Handling(saying);
            return Ok(Stepped::Again(around.random.i64(1..20)));
        }
        let now = around.clock.now();
        let (first, last) = job.clock.unwrap_or((now, now));
        job.clock = Some((first.min(now), last.max(now)));
        let mut saying = saying.unwrap_or_else(|| {
            let (hand, batch) = (Arc::clone(&self.hand), Arc::clone(&job.batch));
            match job.kind {
                Kind::Records => hand.handle(batch),
                Kind::Tick => hand.tick(batch),
                Kind::KeepPlace => Box::pin(async { Ok(Vec::new()) }),
            }
        });
        match saying.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => {
                job.stage = Stage::Handling(Some(saying));
                Ok(Stepped::Again(around.random.i64(0..4)))
            }
            Poll::Ready(Err(CannotGoOn(why))) => Ok(Stepped::Broken(why)),
            Poll::Ready(Ok(outputs)) => {
                if job.kind == Kind::Tick && outputs.is_empty() {
                    self.hand.committed(&job.batch);
                    return Ok(self.over());
                }
                job.stage = Stage::Beginning(outputs);
                Ok(Stepped::Again(around.random.i64(0..2)))
            }
        }
    }

    fn begin_transaction(
        &mut self,
        job: &mut Job,
        outputs: Vec<OutRecord>,
        around: &mut Surroundings<'_>,
    ) -> Result<Stepped, GivenUp> {
        let epoch = self.producer.expect("nothing is begun before recovery is over");
        let begun = lock(around.kafka).begin(&self.transactional_id, epoch, around.now);
        match begun {
            Ok(transaction) => job.stage = Stage::Sending { transaction, outputs, sent: 0 },
            Err(Refused::Busy) => job.stage = Stage::Beginning(outputs),
            Err(Refused::Fenced) => return Err(GivenUp::Forgotten),
        }
        Ok(Stepped::Again(around.pause()))
    }

    fn send(
        &mut self,
        job: &mut Job,
        transaction: usize,
        outputs: Vec<OutRecord>,
        sent: usize,
        around: &mut Surroundings<'_>,
    ) -> Result<Stepped, GivenUp> {
        let epoch = self.producer.expect("a transaction is open");
        let some = around.random.usize(0..=outputs.len() - sent);
        let times = (around.clock.now(), around.broker);
        for output in &outputs[sent..sent + some] {
            let sent = lock(around.kafka).produce(transaction, epoch, output.clone(), times);
            sent.map_err(|_| GivenUp::Forgotten)?;
            if around.random.u16(..1000) < around.faults.undelivered {
                return Err(GivenUp::Aborted(Some(transaction)));
            }
        }
        let sent = sent + some;
        if sent < outputs.len() {
            job.stage = Stage::Sending { transaction, outputs, sent };
            return Ok(Stepped::Again(around.pause()));
        }
        let (member, generation) = job.metadata;
        if !around.group.admits(member, generation) {
            around.reach("a zombie's offsets were refused");
            return Err(GivenUp::Aborted(Some(transaction)));
        }
        let added = lock(around.kafka).offsets(transaction, epoch, self.reads.group, &job.next);
        added.map_err(|_| GivenUp::Forgotten)?;
        job.stage = Stage::Checking { transaction, outputs };
        Ok(Stepped::Again(around.pause()))
    }

    fn check(
        &mut self,
        job: &mut Job,
        transaction: usize,
        outputs: Vec<OutRecord>,
        around: &mut Surroundings<'_>,
    ) -> Result<Stepped, GivenUp> {
        if !self.is_held(job) {
            around.reach("a partition moved away before the commit");
            return Err(GivenUp::Aborted(Some(transaction)));
        }
        // Between this look and the commit everything can happen: that is what the generation is for.
        job.stage = Stage::Committing { transaction, outputs };
        Ok(Stepped::Again(around.pause()))
    }

    fn commit(
        &mut self,
        job: &mut Job,
        transaction: usize,
        outputs: Vec<OutRecord>,
        around: &mut Surroundings<'_>,
    ) -> Result<Stepped, GivenUp> {
        let epoch = self.producer.expect("a transaction is open");
        let is_unclear = around.random.u16(..1000) < around.faults.unclear;
        if is_unclear && around.random.bool() {
            around.reach("a commit was not done, and nobody knew");
            return Err(GivenUp::Forgotten);
        }
        if lock(around.kafka).commit(transaction, epoch).is_err() {
            around.reach("a transaction was over before its commit");
            return Err(GivenUp::Forgotten);
        }
        let now = around.clock.now();
        self.published = Some(Published { outputs, clock: job.clock.unwrap_or((now, now)) });
        if is_unclear {
            // It was done, but nobody here knows.
            around.reach("a commit was done, and nobody knew");
            return Err(GivenUp::Forgotten);
        }
        if job.kind != Kind::KeepPlace {
            self.hand.committed(&job.batch);
        }
        for (partition, next) in &job.next {
            if let Some(held) = self.held.get_mut(partition) {
                held.committed = *next;
            }
        }
        if !self.held.values().any(|held| held.next > held.committed) {
            self.last_kept = around.now;
        }
        Ok(self.over())
    }

    /// Nothing of the batch will be seen, or nobody knows; it is read again from what is committed.
    fn give_up(&mut self, given_up: GivenUp, around: &mut Surroundings<'_>) -> Stepped {
        self.failures += 1;
        self.hand.given_up();
        match given_up {
            GivenUp::Aborted(None) => {}
            GivenUp::Aborted(Some(transaction)) => {
                let epoch = self.producer.expect("a transaction is open");
                if lock(around.kafka).abort(transaction, epoch).is_err() {
                    self.producer = None;
                }
            }
            GivenUp::Forgotten => self.producer = None,
        }
        Stepped::Again(RETRIES[self.failures.min(RETRIES.len()) - 1])
    }

    /// What is committed is final only when no older transaction of ours is open.
    fn recover(&mut self, around: &mut Surroundings<'_>) -> Stepped {
        if self.producer.is_none() {
            match lock(around.kafka).init(&self.transactional_id) {
                Ok(epoch) => self.producer = Some(epoch),
                Err(_) => return Stepped::Again(around.random.i64(10..300)),
            }
        }
        self.phase = Phase::Rewinding;
        Stepped::Over
    }

    fn over(&mut self) -> Stepped {
        (self.phase, self.failures) = (Phase::Idle, 0);
        Stepped::Over
    }
}

fn lock(kafka: &Mutex<Kafka>) -> MutexGuard<'_, Kafka> {
    kafka.lock().expect("nothing panics while it is held")
}
