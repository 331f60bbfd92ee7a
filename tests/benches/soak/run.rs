//! The run itself: one loop that samples each second and restarts the writer when it is time.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use wal_tests::{Kafka, wait_until};

use crate::histogram::Histogram;
use crate::load::Load;
use crate::plan::{GIB, Plan, free_space};
use crate::receipts::{Due, Outcome, Receipts};
use crate::stage::{Busy, PARTITIONS, Stage};
use crate::writer::{Taken, Writer, size_of};

const SECOND: Duration = Duration::from_secs(1);
const PROGRESS: Duration = Duration::from_secs(10);
/// What is behind after the load is over is done in less; a start after a SIGKILL reads the whole store, 1 GiB in a second or a few.
const PATIENCE: Duration = Duration::from_secs(900);
/// A disk that others fill too is not filled to the end.
const ALARM: f64 = GIB;
/// How long after nothing is behind any more a process counts as settled, in seconds.
const SETTLING: f64 = 20.0;
/// A backlog to learn from what is possible, and how much of it goes before that is measured.
const BACKLOG: u64 = 80_000;
const WARM_UP: u64 = 20_000;

/// One second.
pub struct Sample {
    /// Seconds since the start.
    pub at: f64,
    /// The process, by number.
    pub phase: usize,
    /// What the process takes; `None` while there is none.
    pub taken: Option<Taken>,
    /// Receipts in this second, and how late they were.
    pub latency: Histogram,
    /// Receipts a second.
    pub received: f64,
    /// Requests that were sent and have no receipt yet.
    pub behind: u64,
    /// Bytes of the store.
    pub store: f64,
    /// The share of the machine's processors that was busy.
    pub busy: f64,
    /// Whether it is neither stopping nor catching up.
    pub is_settled: bool,
}

/// How a process came to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    First,
    AfterTerm,
    AfterKill,
}

/// From one start to the next.
pub struct Phase {
    pub begun: Begun,
    /// When the signal was sent that ended the one before, in seconds since the start.
    pub from: f64,
    /// The time from then to the next receipts, in whole seconds.
    pub silent: f64,
    /// When nothing was behind any more, in seconds from the signal; `None` if that never came.
    pub caught_up: Option<f64>,
}

/// All of it.
pub struct Story {
    pub samples: Vec<Sample>,
    pub phases: Vec<Phase>,
    pub outcome: Outcome,
}

impl Story {
    /// Fails where a request was lost or answered twice.
    pub fn whole(&self) -> Result<()> {
        let Outcome { sent, lost, twice, refused } = self.outcome;
        ensure!(
            lost + twice + refused == 0,
            "of {sent} requests {lost} were lost, {twice} answered twice, {refused} refused"
        );
        Ok(())
    }
}

/// What the writer does with a backlog, in entries a second.
pub fn saturation(broker: &Kafka, payload: usize) -> Result<f64> {
    let mut stage = Stage::set(broker, PARTITIONS)?;
    stage.payload = payload;
    stage.load(usize::try_from(BACKLOG)?);
    let due = Due { started: Instant::now(), rate: BACKLOG as f64 };
    let receipts = Receipts::of(&stage.bootstrap, stage.kafka.topics.receipts().as_str(), PARTITIONS, due)?;
    let writer = Writer::start(&stage)?;
    wait_until("the writer is warm", PATIENCE, || receipts.answered() >= WARM_UP);
    let (from, begun) = (receipts.answered(), Instant::now());
    wait_until("the backlog is gone", PATIENCE, || receipts.answered() >= BACKLOG);
    let rate = (BACKLOG - from) as f64 / begun.elapsed().as_secs_f64();
    writer.terminate();
    writer.wait()?;
    receipts.finish(BACKLOG)?;
    Ok(rate)
}

/// What happens to the writer while it runs.
enum Turn {
    /// Serves until it is time.
    Serving,
    /// Was sent a SIGTERM and has not ended yet.
    Ending,
}

struct Run {
    stage: Stage,
    receipts: Receipts,
    load: Load,
    started: Instant,
    writer: Writer,
    turn: Turn,
    phases: Vec<Phase>,
    samples: Vec<Sample>,
    answered: u64,
    busy: Busy,
    told: Instant,
}

/// Runs as long as planned, and until every request has its receipt.
pub fn run(broker: &Kafka, plan: &Plan, rate: f64) -> Result<Story> {
    let mut run = Run::start(broker, plan, rate)?;
    let (mut restart_at, until) = (run.started + plan.restart_every, run.started + plan.length);
    while Instant::now() < until {
        run.second()?;
        let now = Instant::now();
        // A last process that hardly lived would tell nothing.
        let is_time = now >= restart_at && until.saturating_duration_since(now) > plan.restart_every / 2;
        if is_time && matches!(run.turn, Turn::Serving) {
            run.restart(plan.restart_with)?;
            restart_at += plan.restart_every;
        }
    }
    run.finish(rate)
}

impl Run {
    fn start(broker: &Kafka, plan: &Plan, rate: f64) -> Result<Run> {
        let mut stage = Stage::set(broker, PARTITIONS)?;
        stage.payload = plan.payload;
        let writer = Writer::start(&stage)?;
        let started = Instant::now();
        let topic = stage.kafka.topics.receipts();
        let receipts = Receipts::of(&stage.bootstrap, topic.as_str(), PARTITIONS, Due { started, rate })?;
        Ok(Run {
            load: Load::start(&stage, rate, started),
            stage,
            receipts,
            started,
            writer,
            turn: Turn::Serving,
            phases: vec![Phase { begun: Begun::First, from: 0.0, silent: 0.0, caught_up: None }],
            samples: Vec::new(),
            answered: 0,
            busy: Busy::now()?,
            told: started,
        })
    }

    /// Waits for the next second, and looks. A writer that was told to end is started again as soon as it has ended.
    fn second(&mut self) -> Result<()> {
        let next = self.started + SECOND * u32::try_from(self.samples.len() + 1)?;
        loop {
            if matches!(self.turn, Turn::Ending) && !self.writer.is_running() {
                self.writer.wait()?;
                self.writer = Writer::start(&self.stage)?;
                self.turn = Turn::Serving;
            }
            let left = next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
        ensure!(
            matches!(self.turn, Turn::Ending) || self.writer.is_running(),
            "the writer ended by itself: {:?}",
            self.writer
        );
        self.sample()
    }

    fn sample(&mut self) -> Result<()> {
        let (at, latency, answered) = (self.now(), self.receipts.latency(), self.receipts.answered());
        let before = self.samples.last().map_or(0.0, |sample| sample.at);
        let sample = Sample {
            at,
            phase: self.phases.len() - 1,
            taken: self.writer.taken(),
            received: (answered - self.answered) as f64 / (at - before),
            behind: self.load.sent().saturating_sub(answered),
            store: size_of(self.stage.folder())?,
            busy: self.busy.since()?,
            is_settled: false,
            latency,
        };
        (self.answered, self.busy) = (answered, Busy::now()?);
        self.samples.push(sample);
        let free = free_space(self.stage.folder())?;
        ensure!(free > ALARM, "the disk is nearly full: {:.1} GiB are free", free / GIB);
        if self.told.elapsed() >= PROGRESS {
            self.told = Instant::now();
            self.progress(free);
        }
        Ok(())
    }

    fn progress(&self, free: f64) {
        let Some(sample) = self.samples.last() else { return };
        let Taken { memory, descriptors, .. } =
            sample.taken.unwrap_or(Taken { memory: 0.0, descriptors: 0.0, threads: 0.0 });
        eprintln!(
            "{:5.1} min  process {}  {:.0} receipts/s, {} behind, p50 {:.0} p99 {:.0} ms  {memory:.0} MiB, {descriptors:.0} files  \
             store {:.1} GiB, {:.0} GiB free",
            sample.at / 60.0,
            sample.phase + 1,
            sample.received,
            sample.behind,
            sample.latency.at(0.5),
            sample.latency.at(0.99),
            sample.store / GIB,
            free / GIB
        );
    }

    fn restart(&mut self, with: &[Begun]) -> Result<()> {
        let begun = with[(self.phases.len() - 1) % with.len()];
        self.phases.push(Phase { begun, from: self.now(), silent: 0.0, caught_up: None });
        match begun {
            Begun::AfterKill => {
                self.writer.kill();
                self.writer = Writer::start(&self.stage)?;
            }
            Begun::First | Begun::AfterTerm => {
                self.writer.terminate();
                self.turn = Turn::Ending;
            }
        }
        Ok(())
    }

    /// Ends the load, waits for the last receipt, and puts down what was seen.
    fn finish(mut self, rate: f64) -> Result<Story> {
        let measured = self.samples.len();
        self.load.end();
        let give_up = Instant::now() + PATIENCE;
        while self.receipts.answered() < self.load.sent() && Instant::now() < give_up {
            self.second()?;
        }
        // What comes twice comes soon after.
        std::thread::sleep(3 * SECOND);
        let outcome = self.receipts.finish(self.load.stop()?)?;
        if matches!(self.turn, Turn::Serving) {
            self.writer.terminate();
        }
        self.writer.wait()?;
        let (mut samples, mut phases) = (self.samples, self.phases);
        settle(&mut samples, &mut phases, rate);
        samples.truncate(measured);
        Ok(Story { samples, phases, outcome })
    }

    fn now(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}

/// Finds out of each phase how long nothing came, when nothing was behind any more, and which samples are settled.
fn settle(samples: &mut [Sample], phases: &mut [Phase], rate: f64) {
    for (number, phase) in phases.iter_mut().enumerate() {
        let all: Vec<&mut Sample> = samples.iter_mut().filter(|sample| sample.phase == number).collect();
        let receives = |sample: &&mut Sample| sample.received > 0.0;
        // The second of the signal may still have receipts of before it.
        let after: usize = all.iter().skip(1).position(receives).map_or(all.len(), |at| at + 1);
        let Some(back) = all.get(after) else { continue };
        phase.silent = back.at - phase.from;
        let is_behind = |sample: &Sample| sample.behind as f64 > rate;
        let caught_up = all.iter().skip(after).find(|sample| !is_behind(sample)).map(|sample| sample.at);
        phase.caught_up = caught_up.map(|at| at - phase.from);
        for sample in all {
            sample.is_settled = caught_up.is_some_and(|caught_up| sample.at >= caught_up + SETTLING);
        }
    }
}
