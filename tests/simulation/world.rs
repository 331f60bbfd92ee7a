//! The world: who lives in it, and what happens to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use wal_model::ack::Ack;
use wal_model::cancel::Cancel;
use wal_model::delay::{Waits, waits_of};
use wal_model::seal::Keyring;
use wal_model::status::{Event as StatusEvent, Outcome, Reason};
use wal_model::topics::Topics;
use wal_model::{Clock, Entry, Lifecycle, LogId, Namespace, OutRecord, Priority, Topic, partition, record, wire};
use wal_runtime::config::Settings;

use super::agenda::{Agenda, Event};
use super::batch_loop::{BatchLoop, Faults, Stepped, Surroundings};
use super::brokers::{self, Answering};
use super::clock::{Skewed, Time, at};
use super::groups::Group;
use super::kafka::{Kafka, Next, Partition, Stamps};
use super::ledger::{Circumstances, Ledger};
use super::people::{self, Answer, Consumer, Request, Truth, pick};
use super::process::{DELAYS, Installation, Process, SCHEDULER, STATUS, Service, WRITER};
use super::store::{self, InMemory, Slow};

/// When every run begins: late enough for the scheduler's memory to lie before it.
const START: i64 = 1_733_000_000_000;
/// How long a member may be silent: the default of `kafka.session_timeout`.
const SESSION: i64 = 10_000;
/// How long a transaction may stay open, and a little more.
const TRANSACTION: i64 = 10_050;
/// Partitions of the log's topics: about as many as there are instances.
pub const PARTITIONS: i32 = 3;
/// The longest that a process is away.
const AWAY: i64 = 1_900_000;
/// How long a run goes on after the last deadline and the last answer until everything has come to rest: what may be parked is left to
/// the scheduler for five minutes, and sweeps and rebalances take their time.
const REST: i64 = 1_200_000;

/// How bad the weather is.
#[derive(Clone, Copy)]
pub struct Weather {
    /// How often a process dies or stands still before a step, of ten thousand times.
    pub lightning: u16,
    pub faults: Faults,
    /// How often the store does not answer, of a hundred times.
    pub store: u8,
    /// How much people misbehave, of a hundred times.
    pub mischief: u8,
    /// How far clocks are apart at most, in milliseconds.
    pub skew: i64,
}

impl Weather {
    /// Nothing goes wrong.
    pub const CALM: Weather = Weather {
        lightning: 0,
        faults: Faults { undelivered: 0, unclear: 0, slow: 0 },
        store: 0,
        mischief: 0,
        skew: 0,
    };

    pub fn any(random: &mut fastrand::Rng) -> Weather {
        Weather {
            lightning: *pick(&[0, 5, 20, 80], random),
            faults: Faults {
                undelivered: *pick(&[0, 3, 20], random),
                unclear: *pick(&[0, 10, 60], random),
                slow: *pick(&[0, 10, 50], random),
            },
            store: *pick(&[0, 0, 5], random),
            mischief: *pick(&[5, 20, 50], random),
            skew: *pick(&[0, 20, 400], random),
        }
    }

    pub fn is_calm(&self) -> bool {
        self.mischief == 0
    }
}

/// The world.
pub struct World {
    pub random: fastrand::Rng,
    pub time: Time,
    agenda: Agenda,
    pub kafka: Arc<Mutex<Kafka>>,
    groups: BTreeMap<&'static str, Group>,
    pub store: InMemory,
    pub with: Installation,
    processes: Vec<Process>,
    /// When each loop's poll thread has its next turn.
    polls: BTreeMap<(usize, usize), i64>,
    brokers_clock: Skewed,
    pub requests: Vec<Request>,
    consumer: Consumer,
    answers: Vec<Option<Answer>>,
    /// When the last of them will be sent.
    last_answer: i64,
    /// When the last process that is away will be back.
    last_start: i64,
    /// How far consumers have read their targets.
    read: BTreeMap<Partition, i64>,
    pub targets: Vec<Topic>,
    /// Transactions whose next mark is entered.
    marking: BTreeSet<usize>,
    pub ledger: Ledger,
    pub weather: Weather,
    /// When the weather clears up.
    clears_at: i64,
    runtime: tokio::runtime::Runtime,
    /// Until when the runtime was told that time passed.
    told_until: i64,
    /// What happened, if somebody wants to know.
    pub trace: Option<Vec<String>>,
}

impl World {
    pub fn new(mut random: fastrand::Rng, weather: Weather) -> World {
        let time = Time::starting_at(START);
        let topics = Topics::new("wal.").expect("a legal prefix");
        let targets = ["shop", "post"].map(|name| Topic::parse(name).expect("a legal name")).to_vec();
        let own_waits = match random.bool() {
            true => waits_of(&Lifecycle::default(), Duration::from_secs(86_400)).into_keys().collect(),
            false => Vec::new(),
        };
        let waits = Waits::coins_and(own_waits);
        let kafka = cluster(&topics, &waits, &targets);
        let groups = groups(&kafka, &topics);
        let kafka = Arc::new(Mutex::new(kafka));
        let secrets = BTreeMap::from([("k1".to_owned(), vec![7; 32])]);
        let keyring = Keyring::new("k1", &secrets).expect("a legal key");
        let mood = Arc::new(Mutex::new(brokers::Mood::default()));
        let brokers = Answering { kafka: Arc::clone(&kafka), mood, time: time.clone(), topics: topics.clone() };
        let store = InMemory::default();
        let store_mood = store::Mood { fails: weather.store, random: random.fork() };
        let slow = Slow { store: store.clone(), mood: Arc::new(Mutex::new(store_mood)) };
        let answers = if random.u8(..10) == 0 { "none" } else { "expected" };
        // A failure that is moved to its partition counts as told when it is moved. After an outage that is longer than the memory its
        // twin would be forgotten by then, so where answers are misrouted the memory must be longer than any outage.
        let misroutes = random.bool();
        let memory = if misroutes { "6h" } else { "15m" };
        let given = [("policy.answers", answers.to_owned()), ("retry_scheduler.memory", memory.to_owned())];
        let with = Installation {
            settings: Settings::load_from(None, std::iter::empty(), &given).expect("the defaults are valid"),
            keyring: keyring.clone(),
            topics: topics.clone(),
            waits,
            brokers,
            store: slow,
            limit: random.usize(1..8),
            sweep: random.i64(15_000..120_000),
        };
        let requests = people::requests(&topics, &targets, START + SESSION, &mut random);
        let plans = people::plans(requests.len(), &mut random);
        let mischief = weather.mischief;
        let consumer = Consumer { plans, topics: topics.clone(), partitions: PARTITIONS, mischief, misroutes };
        let ledger = Ledger::new(keyring, topics, targets.iter().cloned().collect(), weather.skew);
        let brokers_clock = Skewed::of(&time);
        let clears_at = START + *pick(&[600_000, 3_600_000, 9_000_000], &mut random);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let mut world = World {
            random,
            time,
            agenda: Agenda::default(),
            kafka,
            groups,
            store,
            with,
            processes: Vec::new(),
            polls: BTreeMap::new(),
            brokers_clock,
            requests,
            consumer,
            answers: Vec::new(),
            last_answer: START,
            last_start: START,
            read: BTreeMap::new(),
            targets,
            marking: BTreeSet::new(),
            ledger,
            weather,
            clears_at,
            runtime: runtime.expect("a runtime can be made"),
            told_until: START,
            trace: None,
        };
        world.populate();
        world
    }

    /// Enters what is known from the start.
    fn populate(&mut self) {
        for service in [Service::Writer, Service::Scheduler, Service::Status] {
            for instance in 0..self.random.usize(1..=3) {
                let clock = Skewed::of(&self.time);
                clock.set(self.any_skew());
                let process = self.processes.len();
                self.processes.push(Process::new(service, instance, clock));
                let start = self.any_time(2_000);
                self.agenda.enter(start, Event::Start { process });
            }
        }
        for (request, Request { times, .. }) in self.requests.iter().enumerate() {
            times.iter().for_each(|time| self.agenda.enter(*time, Event::Send { request }));
        }
        if !self.weather.is_calm() {
            self.foresee(self.clears_at - START);
        }
    }

    /// Enters what people and fate will do within `span`.
    fn foresee(&mut self, span: i64) {
        for request in 0..self.requests.len() {
            if self.random.u8(..100) < 15 {
                let within = *pick(&[3_000, 200_000, span], &mut self.random);
                let after = self.random.i64(0..within);
                self.agenda.enter(self.requests[request].times[0] + after, Event::Cancel { request });
            }
        }
        for _ in 0..self.random.usize(0..5) {
            self.foresee_storm(span);
        }
        for _ in 0..self.random.usize(0..4) {
            let (when, millis) = (self.any_time(span), self.random.i64(100..40_000));
            self.agenda.enter(when, Event::Silence { is_silent: true });
            self.agenda.enter(when + millis, Event::Silence { is_silent: false });
        }
        if self.random.bool() {
            let (when, millis) = (self.any_busy_time(span), self.random.i64(1_000..150_000));
            let target = self.random.usize(..self.targets.len());
            self.agenda.enter(when, Event::Missing { target, is_missing: true });
            self.agenda.enter(when + millis, Event::Missing { target, is_missing: false });
        }
        for _ in 0..self.random.usize(0..8) {
            let process = self.random.usize(..=self.processes.len());
            let process = (process < self.processes.len()).then_some(process);
            let (when, skew) = (self.any_time(span), self.any_skew());
            self.agenda.enter(when, Event::Adjust { process, skew });
        }
        for _ in 0..self.random.usize(0..3) {
            let (when, process) = (self.any_time(span), self.random.usize(..self.processes.len()));
            self.agenda.enter(when, Event::Stop { process });
        }
    }

    /// A group deals its partitions again and again.
    fn foresee_storm(&mut self, span: i64) {
        let group = *pick(&[WRITER, SCHEDULER, DELAYS, STATUS], &mut self.random);
        let mut when = self.any_busy_time(span);
        for _ in 0..self.random.usize(1..12) {
            self.agenda.enter(when, Event::Shuffle { group });
            let longest = *pick(&[60, 3_000], &mut self.random);
            when += self.random.i64(0..longest);
        }
    }

    /// Half of the time something is being requested just then.
    fn any_busy_time(&mut self, span: i64) -> i64 {
        match self.random.bool() {
            true => self.any_time(span),
            false => pick(&self.requests, &mut self.random).times[0] + self.random.i64(-500..500),
        }
    }

    fn any_time(&mut self, span: i64) -> i64 {
        START + self.random.i64(0..span)
    }

    fn any_skew(&mut self) -> i64 {
        // Half of it to either side: two clocks are never further apart than all of it.
        self.random.i64(-self.weather.skew / 2..=self.weather.skew / 2)
    }

    fn now(&self) -> i64 {
        self.time.now()
    }

    pub fn kafka(&self) -> MutexGuard<'_, Kafka> {
        self.kafka.lock().expect("nothing panics while it is held")
    }

    fn group(&mut self, name: &str) -> &mut Group {
        self.groups.get_mut(name).expect("all groups are there")
    }

    fn tell(&mut self, what: impl FnOnce(&World) -> String) {
        let Some(mut trace) = self.trace.take() else { return };
        trace.push(format!("{:>10} {}", self.now() - START, what(self)));
        self.trace = Some(trace);
    }

    /// Lets everything happen until nothing is left to happen.
    pub fn run(&mut self) -> Result<(), String> {
        while self.now() < self.quiet_at() {
            // Looked at now and again: it only ever moves on.
            self.let_happen(100)?;
        }
        // Somebody may just have something to publish.
        let until = self.now() + TRANSACTION;
        while self.kafka().is_unfinished() && self.now() < until {
            self.let_happen(1)?;
        }
        Ok(())
    }

    fn let_happen(&mut self, events: usize) -> Result<(), String> {
        for _ in 0..events {
            let (when, event) = self.agenda.next().ok_or("nothing will ever happen again")?;
            self.advance(when);
            self.happen(event)?;
        }
        Ok(())
    }

    /// Lets time pass at once, as when everybody sleeps, and then everything happen that is due within `span`.
    pub fn sleep(&mut self, millis: i64, span: i64) -> Result<(), String> {
        self.advance(self.now() + millis);
        let until = self.now() + span;
        while self.agenda.next_at().is_some_and(|at| at <= until) {
            self.let_happen(1)?;
        }
        Ok(())
    }

    fn quiet_at(&self) -> i64 {
        let deadlines = self.store.entries().values().map(|entry| entry.state.deadline().as_millis()).max();
        let last_sent = self.requests.iter().flat_map(|request| &request.times).max().copied().unwrap_or(START);
        deadlines.unwrap_or(START).max(self.clears_at).max(last_sent).max(self.last_answer).max(self.last_start) + REST
    }

    fn advance(&mut self, when: i64) {
        self.time.set(when.max(self.now()));
    }

    /// Whoever waits for time waits for that of the simulation; it is told before it has its turn.
    fn tell_time(&mut self) {
        let passed = u64::try_from(self.now() - self.told_until).expect("time goes on");
        if passed > 0 {
            self.told_until = self.now();
            self.runtime.block_on(tokio::time::advance(Duration::from_millis(passed)));
        }
    }

    fn is_stormy(&self) -> bool {
        self.now() < self.clears_at
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        if !matches!(event, Event::Poll { .. } | Event::Step { .. } | Event::Mark { .. }) {
            self.tell(|_| format!("{event:?}"));
        }
        match event {
            Event::Poll { process, life, at } => self.poll(process, life, at),
            Event::Step { process, life, at } => self.step(process, life, at)?,
            Event::Follow { process, life } => self.follow(process, life),
            Event::Start { process } => self.start(process),
            Event::Stop { process } => self.stop(process),
            Event::Adjust { process: Some(process), skew } => self.processes[process].clock.set(skew),
            Event::Adjust { process: None, skew } => self.brokers_clock.set(skew),
            Event::SessionOver { group, member } => {
                self.group(group).remove(member);
                self.wake_members();
            }
            Event::Shuffle { group } => {
                self.group(group).shuffle();
                self.wake_members();
            }
            Event::Mark { transaction } => self.mark(transaction),
            Event::TimeOut => {
                let now = self.now();
                self.kafka().time_out(now);
                self.see_to_marks();
            }
            Event::Send { request } => {
                let out = self.requests[request].out.clone();
                self.append(out);
            }
            Event::Answer { answer } => self.answer(answer),
            Event::Cancel { request } => self.cancel(request),
            Event::Silence { is_silent } => self.with.brokers.mood().is_silent = is_silent,
            Event::Missing { target, is_missing } => self.missing(target, is_missing),
        }
        Ok(())
    }

    // Loops.

    /// Wakes the poll thread of a loop after a while, if it would not be awake by then.
    fn wake(&mut self, process: usize, at: usize, after: i64) {
        let Some(life) = self.processes[process].life else { return };
        let when = self.now() + after;
        let next = self.polls.entry((process, at)).or_insert(i64::MAX);
        if when < *next {
            *next = when;
            self.agenda.enter(when, Event::Poll { process, life, at });
        }
    }

    /// Whether a process can have its turn; a frozen one has it later.
    fn has_turn(&mut self, process: usize, life: u32, event: &Event) -> bool {
        let Process { life: own, frozen_until, .. } = self.processes[process];
        if own != Some(life) {
            return false;
        }
        if frozen_until <= self.now() {
            return true;
        }
        let thawed = frozen_until + self.random.i64(0..5);
        if let Event::Poll { at, .. } = event {
            self.polls.insert((process, *at), thawed);
        }
        self.agenda.enter(thawed, event.clone());
        false
    }

    /// Now and again a process dies or stands still just before its next step. One that stands still does it later.
    fn is_struck(&mut self, process: usize, event: &Event) -> bool {
        if !self.is_stormy() || self.random.u16(..10_000) >= self.weather.lightning {
            return false;
        }
        if self.random.u8(..3) > 0 {
            self.tell(|world| format!("{:?} {process} dies", world.processes[process].service));
            self.crash(process);
        } else {
            let millis = *pick(&[300, 4_000, 9_990, 15_000, 45_000], &mut self.random);
            self.tell(|world| format!("{:?} {process} stands still for {millis}", world.processes[process].service));
            self.freeze(process, millis);
            let life = self.processes[process].life.expect("it only stands still");
            self.has_turn(process, life, event);
        }
        true
    }

    fn poll(&mut self, process: usize, life: u32, at: usize) {
        let event = Event::Poll { process, life, at };
        // A turn that was brought forward has been had already.
        let is_current = self.polls.get(&(process, at)).is_some_and(|next| *next <= self.now());
        if !is_current || !self.has_turn(process, life, &event) || self.is_struck(process, &event) {
            return;
        }
        self.polls.remove(&(process, at));
        let was_busy = self.processes[process].loops[at].is_busy();
        let rest = self.with_loop(process, at, |own, around| own.poll(around));
        if !was_busy && self.processes[process].loops[at].is_busy() {
            let after = self.random.i64(0..3);
            self.agenda.enter(self.now() + after, Event::Step { process, life, at });
        }
        if let Some(rest) = rest {
            self.wake(process, at, rest);
        }
        self.wake_members();
    }

    fn step(&mut self, process: usize, life: u32, at: usize) -> Result<(), String> {
        let event = Event::Step { process, life, at };
        if !self.has_turn(process, life, &event) || self.is_struck(process, &event) {
            return Ok(());
        }
        let Process { loops, known, follower, .. } = &mut self.processes[process];
        if loops[at].is_about_to_begin() {
            known[at] = follower.as_ref().map(|follower| follower.known.clone()).unwrap_or_default();
        }
        if self.processes[process].loops[at].is_handling() {
            self.tell_time();
        }
        let stepped = self.with_loop(process, at, |own, around| own.step(around));
        self.look_at_published(process, at)?;
        self.see_to_marks();
        match stepped {
            Stepped::Again(after) => self.agenda.enter(self.now() + after, event),
            Stepped::Over => {
                let after = self.random.i64(0..2);
                self.wake(process, at, after);
            }
            Stepped::Broken(why) => return Err(format!("{:?} cannot go on: {why}", self.processes[process].service)),
        }
        Ok(())
    }

    fn with_loop<T>(
        &mut self,
        process: usize,
        at: usize,
        turn: impl FnOnce(&mut BatchLoop, &mut Surroundings<'_>) -> T,
    ) -> T {
        // Whoever begins to wait needs a runtime for it.
        let _guard = self.runtime.enter();
        let faults = if self.is_stormy() { self.weather.faults } else { Faults::default() };
        let is_informed = self.processes[process].is_informed();
        let Process { loops, clock, .. } = &mut self.processes[process];
        let own = &mut loops[at];
        let mut around = Surroundings {
            now: self.time.now(),
            clock,
            broker: self.brokers_clock.now(),
            kafka: &self.kafka,
            group: self.groups.get_mut(own.reads.group).expect("all groups are there"),
            random: &mut self.random,
            faults,
            reached: &mut self.ledger.reached,
            is_informed,
        };
        turn(own, &mut around)
    }

    fn look_at_published(&mut self, process: usize, at: usize) -> Result<(), String> {
        let Process { loops, known, .. } = &mut self.processes[process];
        let Some(published) = loops[at].published() else { return Ok(()) };
        let group = loops[at].reads.group;
        let entry = |log_id: &LogId| self.store.entries().get(&log_id.key()).cloned();
        let around = Circumstances { group, known: &known[at], entry: &entry, now: self.time.now() };
        let result = self.ledger.published(&published, &around);
        if !published.outputs.is_empty() {
            self.tell(|_| format!("{group} {process} publishes{}", summary(&published.outputs)));
        }
        result
    }

    // Lives.

    fn start(&mut self, process: usize) {
        if self.processes[process].life.is_some() {
            return;
        }
        let now = self.now();
        self.processes[process].start(&self.with, now);
        let life = self.processes[process].life.expect("just started");
        self.polls.retain(|(other, _), _| *other != process);
        for at in 0..self.processes[process].loops.len() {
            let after = self.random.i64(0..50);
            self.wake(process, at, after);
        }
        if self.processes[process].follower.is_some() {
            self.agenda.enter(now, Event::Follow { process, life });
        }
    }

    /// A process that is told to stop leaves its groups; what it has in hand is abandoned.
    fn stop(&mut self, process: usize) {
        let members = self.processes[process].members();
        members.into_iter().for_each(|(group, member)| self.group(group).remove(member));
        self.end(process);
        self.wake_members();
    }

    fn crash(&mut self, process: usize) {
        if self.processes[process].loops.iter().any(BatchLoop::is_busy) {
            self.ledger.reach("a process died with a batch in hand");
        }
        let over = self.now() + SESSION;
        for (group, member) in self.processes[process].members() {
            self.agenda.enter(over, Event::SessionOver { group, member });
        }
        self.end(process);
    }

    fn end(&mut self, process: usize) {
        if self.processes[process].life.is_none() {
            return;
        }
        self.processes[process].die();
        self.agenda.enter(self.now() + TRANSACTION, Event::TimeOut);
        // Most are back soon; some take half an hour, which is longer than the scheduler remembers.
        let after = *pick(&[200, 2_000, 30_000, 30_000, AWAY], &mut self.random);
        if self.random.u8(..4) == 0 {
            // Another pod: nobody ends what the old one left open.
            self.processes[process].instance += 10;
        }
        self.last_start = self.last_start.max(self.now() + after);
        self.agenda.enter(self.now() + after, Event::Start { process });
    }

    fn freeze(&mut self, process: usize, millis: i64) {
        let now = self.now();
        self.processes[process].frozen_until = now + millis;
        if millis > SESSION {
            for (group, member) in self.processes[process].members() {
                self.agenda.enter(now + SESSION, Event::SessionOver { group, member });
            }
        }
        self.agenda.enter(now + TRANSACTION, Event::TimeOut);
    }

    fn follow(&mut self, process: usize, life: u32) {
        if !self.has_turn(process, life, &Event::Follow { process, life }) {
            return;
        }
        let follower = self.processes[process].follower.as_mut().expect("only schedulers follow");
        if follower.follow(&mut self.random) {
            let after = self.random.i64(1..40);
            self.agenda.enter(self.now() + after, Event::Follow { process, life });
        }
    }

    /// Wakes every member that its group waits for, or that it has something to tell.
    fn wake_members(&mut self) {
        for process in 0..self.processes.len() {
            for at in 0..self.processes[process].loops.len() {
                let own = &self.processes[process].loops[at];
                let is_awaited = own.member.is_some_and(|member| self.groups[own.reads.group].is_awaited(member));
                if is_awaited {
                    let after = self.random.i64(1..60);
                    self.wake(process, at, after);
                }
            }
        }
    }

    // Kafka.

    fn see_to_marks(&mut self) {
        let ending = self.kafka().ending();
        for transaction in ending {
            if self.marking.insert(transaction) {
                self.enter_mark(transaction);
            }
        }
    }

    fn enter_mark(&mut self, transaction: usize) {
        let is_slow = self.is_stormy() && !self.weather.is_calm() && self.random.u8(..50) == 0;
        let after = self.random.i64(0..if is_slow { 1_500 } else { 4 });
        self.agenda.enter(self.now() + after, Event::Mark { transaction });
    }

    fn mark(&mut self, transaction: usize) {
        let kafka = Arc::clone(&self.kafka);
        let mut kafka = kafka.lock().expect("nothing panics while it is held");
        let marked = kafka.mark(transaction, |count| self.random.usize(..count));
        let is_over = !kafka.ending().contains(&transaction);
        drop(kafka);
        match is_over {
            true => drop(self.marking.remove(&transaction)),
            false => self.enter_mark(transaction),
        }
        if let Some(partition) = marked {
            self.readable(&partition);
        }
    }

    fn append(&mut self, out: OutRecord) -> Partition {
        let times = (at(self.now()), self.brokers_clock.now());
        let partition = self.kafka().append(out, times);
        self.readable(&partition);
        partition
    }

    /// A partition may have something new to read.
    fn readable(&mut self, partition: &Partition) {
        for process in 0..self.processes.len() {
            for at in 0..self.processes[process].loops.len() {
                if self.processes[process].loops[at].holds(partition) {
                    let after = self.random.i64(0..4);
                    self.wake(process, at, after);
                }
            }
            if partition.0 == self.with.topics.cancels() {
                self.tell_of_cancels(process);
            }
        }
        if self.targets.contains(&partition.0) {
            self.consume(partition);
        }
    }

    fn tell_of_cancels(&mut self, process: usize) {
        let Process { life, follower, .. } = &self.processes[process];
        if let (Some(life), Some(_)) = (*life, follower) {
            let after = *pick(&[1, 10, 2_000], &mut self.random);
            self.agenda.enter(self.now() + after, Event::Follow { process, life });
        }
    }

    // People.

    fn consume(&mut self, partition: &Partition) {
        let mut from = self.read.get(partition).copied().unwrap_or(0);
        loop {
            let next = self.kafka().next(partition, from);
            let record = match next {
                Next::Record(record) => record,
                Next::End(end) => {
                    self.read.insert(partition.clone(), end);
                    return;
                }
            };
            from = record.offset + 1;
            for answer in self.consumer.answers(&record, &mut self.random) {
                let when = self.now() + answer.after;
                self.last_answer = self.last_answer.max(when);
                self.agenda.enter(when, Event::Answer { answer: self.answers.len() });
                self.answers.push(Some(answer));
            }
        }
    }

    fn answer(&mut self, answer: usize) {
        let Answer { out, truth, log_id, round, attempt, .. } = self.answers[answer].take().expect("sent once");
        let home = partition::of_key(log_id.to_string().as_bytes(), PARTITIONS);
        let is_home = out.partition.is_none_or(|number| home == Some(number));
        if truth != Truth::Forged {
            let said = (truth.clone(), self.now(), is_home);
            self.ledger.said(&log_id, (round, attempt), said);
        }
        let (topic, number) = self.append(out);
        let offset = self.kafka().end(&(topic.clone(), number)) - 1;
        self.tell(|_| format!("somebody says of {log_id} {attempt}: {truth:?}, at {topic}[{number}]@{offset}"));
        if truth == Truth::Forged {
            self.ledger.forged.insert((topic.to_string(), number, offset));
        }
    }

    /// As the gateway does: the cancel for schedulers and the event for the status, in one transaction.
    fn cancel(&mut self, request: usize) {
        let id = &self.requests[request].id;
        let is_wanted = |entry: &&Entry| entry.request_id.as_ref().is_some_and(|own| own.as_str() == id);
        let entry = self.store.entries().values().find(is_wanted).cloned();
        let Some(entry) = entry.filter(|entry| !entry.state.status().is_finished()) else { return };
        let now = at(self.now());
        let standing = entry.state.standing.clone();
        let cancel = Cancel { log_id: entry.log_id.clone(), round: standing.round, deadline: standing.deadline };
        let event = StatusEvent {
            id: entry.key().derive(&format!("cancelled {now}")),
            at: now,
            outcome: Outcome::Failed { reason: Reason::Cancelled },
            ..standing
        };
        let ack = Ack { log_id: entry.log_id.clone(), tenant: entry.tenant.clone(), event };
        let Installation { topics, keyring, .. } = &self.with;
        let outputs = [cancel.encode(topics.cancels(), keyring), ack.encode(topics.acks(), keyring)];
        if self.publish_as_gateway(outputs.into()) {
            self.ledger.cancelled(&entry.log_id);
        }
    }

    /// Whether it could: while its last transaction still leaves marks the operator is told to try again.
    fn publish_as_gateway(&mut self, outputs: Vec<OutRecord>) -> bool {
        const ID: &str = "wal.gateway-0";
        let (now, broker) = (self.now(), self.brokers_clock.now());
        let mut kafka = self.kafka();
        let Ok(epoch) = kafka.init(ID) else { return false };
        let open = "nobody else has its id";
        let transaction = kafka.begin(ID, epoch, now).expect(open);
        outputs.into_iter().for_each(|out| kafka.produce(transaction, epoch, out, (at(now), broker)).expect(open));
        kafka.commit(transaction, epoch).expect(open);
        drop(kafka);
        self.see_to_marks();
        true
    }

    fn missing(&mut self, target: usize, is_missing: bool) {
        let topic = self.targets[target].clone();
        let now = self.now();
        let mut mood = self.with.brokers.mood();
        if is_missing {
            mood.missing.insert(topic.clone(), now);
            self.ledger.missing.insert(topic, now);
        } else {
            mood.missing.remove(&topic);
        }
    }
}

fn cluster(topics: &Topics, waits: &Waits, targets: &[Topic]) -> Kafka {
    let mut kafka = Kafka::new();
    for priority in [Priority::High, Priority::Normal, Priority::Low] {
        kafka.create(topics.ingress(priority), PARTITIONS, Stamps::Broker);
    }
    kafka.create(topics.failures(), PARTITIONS, Stamps::Broker);
    for topic in [topics.receipts(), topics.acks(), topics.status(), topics.audit(), topics.dead_requests()] {
        kafka.create(topic, PARTITIONS, Stamps::Producer);
    }
    kafka.create(topics.cancels(), 2, Stamps::Producer);
    // Of two namespaces one has dead letters of its own.
    let orders = Namespace::parse("orders").expect("a legal name");
    kafka.create(topics.dead_entries(&orders), 1, Stamps::Producer);
    waits.iter().for_each(|wait| kafka.create(topics.delay(wait), 2, Stamps::Producer));
    targets.iter().for_each(|target| kafka.create(target.clone(), 2, Stamps::Producer));
    kafka
}

fn groups(kafka: &Kafka, topics: &Topics) -> BTreeMap<&'static str, Group> {
    let ingress = [Priority::High, Priority::Normal, Priority::Low].map(|priority| topics.ingress(priority));
    let delay = topics.delay_prefix();
    BTreeMap::from([
        (WRITER, Group::new(kafka.partitions(|topic| ingress.contains(topic)))),
        (SCHEDULER, Group::new(kafka.partitions(|topic| *topic == topics.failures()))),
        (DELAYS, Group::new(kafka.partitions(|topic| topic.as_str().starts_with(&delay)))),
        (STATUS, Group::new(kafka.partitions(|topic| *topic == topics.acks()))),
    ])
}

fn summary(outputs: &[OutRecord]) -> String {
    let one = |out: &OutRecord| {
        let header = |name| record::last_str(&out.headers, name).unwrap_or("");
        let value = out.value.as_deref().filter(|_| out.topic.as_str() == "wal.acks").unwrap_or_default();
        let value = String::from_utf8_lossy(value);
        let (id, attempt, due) = (header(wire::CE_ID), header(wire::CE_WALATTEMPT), header(wire::CE_WALDUE));
        let why = header(wire::DLQ_MESSAGE);
        format!("\n             {} {id} {attempt} {due} {value} {why}", out.topic)
    };
    outputs.iter().map(one).collect()
}
