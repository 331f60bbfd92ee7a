//! A long run: an even load at half of saturation, the writer ended and started again every few minutes, by SIGTERM and SIGKILL in turns.
//!
//! What it shows: nothing is lost or doubled, and memory, open files and latency stay where they are. Every ten seconds it looks; in the
//! end it tells by phase, from one start of the writer to the next, and draws the whole run.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message as _;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use wal_model::Priority;
use wal_tests::clients::Sent;
use wal_tests::{Kafka, Message, Producer, workspace};

use crate::lateness::now;
use crate::part::Running;
use crate::picture;
use crate::rates;
use crate::stage::{PARTITIONS, Stage, requests, spread};

/// How often it looks.
const LOOK: Duration = Duration::from_secs(10);
/// Entries of the short run that finds saturation.
const SATURATION: usize = 30_000;
/// What an entry takes on Kafka and in the store together; see the workload `sizes`.
const ENTRY_BYTES: u64 = 6_200;
/// The share of the free disk that it may fill.
const DISK_SHARE: f64 = 0.6;
/// Requests that are under way at a time.
const UNDER_WAY: usize = 20_000;
/// After the last request.
const PATIENCE: Duration = Duration::from_secs(180);

/// What should stay where it is.
const FIGURES: [(&str, fn(&Look) -> f64); 4] = [
    ("p50 ms", |look| look.p50),
    ("p99 ms", |look| look.p99),
    ("memory MiB", |look| look.memory_mib),
    ("open files", |look| look.files),
];

/// What was seen at one look.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Seconds since the start.
    pub at: f64,
    /// Which life of the writer it is, from 0.
    pub phase: usize,
    /// Receipts a second since the look before.
    pub rate: f64,
    /// From when a request was due to its receipt, in milliseconds.
    pub p50: f64,
    pub p99: f64,
    pub memory_mib: f64,
    pub files: f64,
}

/// How long, how often a restart, and how much a second; without that, half of what the machine can and what the disk holds.
pub struct Plan {
    pub minutes: usize,
    pub restart_every: usize,
    pub rate: Option<usize>,
}

/// Runs it and tells.
pub fn run(broker: &Kafka, plan: &Plan) -> Result<()> {
    let length = Duration::from_secs(60 * plan.minutes as u64);
    let life = Duration::from_secs(60 * plan.restart_every.max(1) as u64);
    let rate = match plan.rate {
        Some(rate) => rate as f64,
        None => saturation(broker)? / 2.0,
    };
    let stage = Stage::set(broker, PARTITIONS)?;
    let room = room(stage.folder())? as f64 * DISK_SHARE / ENTRY_BYTES as f64;
    let most = room / length.as_secs_f64();
    if rate > most {
        println!("soak: {rate:.0}/s for {} minutes would not go onto this disk; it is {most:.0}/s", plan.minutes);
    }
    let rate = rate.min(most);
    let entries = (rate * length.as_secs_f64()) as usize;
    println!(
        "\nsoak: {entries} entries in {} minutes, {rate:.0}/s; a restart every {} minutes",
        plan.minutes, plan.restart_every
    );

    // A killed member's partitions are given away after its session.
    let settings = [("kafka.session_timeout", "6s".to_owned())];
    let mut writer = Running::start("writer", &stage, 0, &settings)?;
    writer.wait_for_assignment();
    let pace = Pace { epoch: now(), rate };
    let receipts = Receipts::follow(&stage, entries, pace)?;
    let started = Instant::now();
    let load = load(&stage, entries, pace);

    let (mut looks, mut restarts) = (Vec::new(), Vec::<f64>::new());
    let mut next_restart = life;
    while !load.is_finished() || receipts.count() < entries && started.elapsed() < length + PATIENCE {
        thread::sleep(LOOK);
        let elapsed = started.elapsed();
        let look = receipts.look(elapsed.as_secs_f64(), restarts.len(), &writer)?;
        eprintln!(
            "soak: {:5.0} s  {:8} of {entries} receipts  {:6.0}/s  p50 {:6.0} ms  p99 {:6.0} ms  {:5.0} MiB  {:4.0} files",
            look.at,
            receipts.count(),
            look.rate,
            look.p50,
            look.p99,
            look.memory_mib,
            look.files
        );
        looks.push(look);
        if elapsed >= next_restart && !load.is_finished() {
            if restarts.len() % 2 == 0 {
                writer.stop()?
            } else {
                writer.kill()
            }
            restarts.push(started.elapsed().as_secs_f64());
            writer = Running::start("writer", &stage, 0, &settings)?;
            next_restart = elapsed + life;
        }
    }
    load.join().map_err(|_| anyhow::anyhow!("the load panicked"))?;
    writer.stop()?;
    tell(&looks, receipts, entries, &restarts);
    let file = workspace::target_dir().join("soak.svg");
    let title = format!("wal-writer, {rate:.0} entries/s for {} minutes, {} restarts", plan.minutes, restarts.len());
    fs::write(&file, picture::draw(&title, &looks, &restarts))?;
    println!("picture: {}", file.display());
    Ok(())
}

fn saturation(broker: &Kafka) -> Result<f64> {
    let rate = rates::once(broker, "writer", SATURATION)?.rate;
    println!("soak: {rate:.0} entries/s are saturation");
    Ok(rate)
}

/// Free bytes where the folder lies.
fn room(folder: &Path) -> Result<u64> {
    let room = rustix::fs::statvfs(folder)?;
    Ok(room.f_bavail * room.f_frsize)
}

/// When requests are due: evenly, from an epoch on.
#[derive(Clone, Copy)]
struct Pace {
    epoch: f64,
    rate: f64,
}

impl Pace {
    /// In milliseconds since the machine's epoch.
    fn due(self, number: usize) -> f64 {
        self.epoch + number as f64 / self.rate * 1000.0
    }
}

/// Requests at an even pace, as many under way as a client keeps.
fn load(stage: &Stage, entries: usize, pace: Pace) -> JoinHandle<()> {
    let producer = Producer::with(&stage.bootstrap, &[("linger.ms", "5")]);
    let (target, topic) = (stage.target.clone(), stage.kafka.topics.ingress(Priority::Normal));
    thread::spawn(move || {
        let mut under_way = VecDeque::with_capacity(UNDER_WAY);
        for (number, value) in requests(&target, entries).enumerate() {
            let wait = pace.due(number) - now();
            if wait > 0.0 {
                thread::sleep(Duration::from_secs_f64(wait / 1000.0));
            }
            let message = Message::to(topic.as_str()).key(format!("k{}", number % 100)).value(value);
            under_way.push_back(producer.send(&message));
            if under_way.len() >= UNDER_WAY {
                under_way.pop_front().map(Sent::acknowledged);
            }
        }
        under_way.into_iter().for_each(|sent| _ = sent.acknowledged());
    })
}

/// Follows the receipts as any reader of committed records sees them: a byte for each request, however long the run.
struct Receipts {
    seen: Arc<Mutex<Seen>>,
    is_over: Arc<AtomicBool>,
    reader: JoinHandle<()>,
}

struct Seen {
    /// How often, by request.
    times: Vec<u8>,
    /// Requests that have one.
    count: usize,
    /// Since the last look: how long each took, in milliseconds.
    took: Vec<f64>,
    looked: Instant,
}

impl Receipts {
    fn follow(stage: &Stage, entries: usize, pace: Pace) -> Result<Receipts> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &stage.bootstrap).set("group.id", "wal-bench");
        config.set("enable.auto.commit", "false").set("isolation.level", "read_committed");
        config.set("fetch.wait.max.ms", "50").set("queued.max.messages.kbytes", "16384");
        let consumer: BaseConsumer = config.create()?;
        let topic = stage.kafka.topics.receipts();
        let mut list = TopicPartitionList::new();
        for partition in 0..i32::try_from(PARTITIONS)? {
            list.add_partition_offset(topic.as_str(), partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        let seen = Seen { times: vec![0; entries], count: 0, took: Vec::new(), looked: Instant::now() };
        let (seen, is_over) = (Arc::new(Mutex::new(seen)), Arc::<AtomicBool>::default());
        let (noted, told) = (Arc::clone(&seen), Arc::clone(&is_over));
        let reader = thread::spawn(move || {
            while !told.load(Ordering::SeqCst) {
                let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) else { continue };
                if let Some(number) = number(message.payload().unwrap_or_default()) {
                    locked(&noted).note(number, now() - pace.due(number));
                }
            }
        });
        Ok(Receipts { seen, is_over, reader })
    }

    fn count(&self) -> usize {
        locked(&self.seen).count
    }

    /// What came since the last look, and how the writer is.
    fn look(&self, at: f64, phase: usize, writer: &Running) -> Result<Look> {
        let (took, since) = {
            let mut seen = locked(&self.seen);
            let since = std::mem::replace(&mut seen.looked, Instant::now()).elapsed();
            (std::mem::take(&mut seen.took), since)
        };
        let rate = took.len() as f64 / since.as_secs_f64();
        let (memory_mib, files) = resources(writer.id())?;
        let mut took = took;
        took.sort_by(f64::total_cmp);
        let at_share = |share: f64| took.get((took.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN);
        Ok(Look { at, phase, rate, p50: at_share(0.5), p99: at_share(0.99), memory_mib, files })
    }

    /// How many requests have no receipt, and how many have several.
    fn verdict(self) -> (usize, usize) {
        self.is_over.store(true, Ordering::SeqCst);
        // A reader that panicked has seen less, which shows.
        let _ = self.reader.join();
        let seen = locked(&self.seen);
        (seen.times.iter().filter(|times| **times == 0).count(), seen.times.iter().filter(|times| **times > 1).count())
    }
}

impl Seen {
    fn note(&mut self, number: usize, took: f64) {
        let Some(times) = self.times.get_mut(number) else { return };
        *times = times.saturating_add(1);
        self.count += usize::from(*times == 1);
        self.took.push(took);
    }
}

fn locked(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of the request that a receipt names.
fn number(receipt: &[u8]) -> Option<usize> {
    let receipt: serde_json::Value = serde_json::from_slice(receipt).ok()?;
    receipt["request_id"].as_str()?.strip_prefix("r-")?.parse().ok()
}

/// Resident memory in MiB, and open files.
fn resources(process: u32) -> Result<(f64, f64)> {
    let folder = PathBuf::from(format!("/proc/{process}"));
    let status = fs::read_to_string(folder.join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the kernel does not tell")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok((kib / 1024.0, fs::read_dir(folder.join("fd"))?.count() as f64))
}

/// The table, and what became of each figure between the first and the last third of the run.
fn tell(looks: &[Look], receipts: Receipts, entries: usize, restarts: &[f64]) {
    println!(
        "{:>6} {:>8} {:>10} {:>22} {:>22} {:>16} {:>8}",
        "life", "seconds", "entries/s", "p50 ms", "p99 ms", "memory MiB", "files"
    );
    for phase in 0..=restarts.len() {
        let of: Vec<&Look> = looks.iter().filter(|look| look.phase == phase).collect();
        let (Some(first), Some(last)) = (of.first(), of.last()) else { continue };
        let middle =
            |pick: fn(&Look) -> f64| spread(of.iter().map(|look| pick(look)).filter(|one| !one.is_nan()).collect());
        let (p50, least50, most50) = middle(|look| look.p50);
        let (p99, least99, most99) = middle(|look| look.p99);
        println!(
            "{phase:6} {:8.0} {:10.0} {:>22} {:>22} {:>16} {:>8}",
            last.at,
            middle(|look| look.rate).0,
            format!("{p50:.0} ({least50:.0} to {most50:.0})"),
            format!("{p99:.0} ({least99:.0} to {most99:.0})"),
            format!("{:.0} to {:.0}", first.memory_mib, last.memory_mib),
            format!("{:.0} to {:.0}", first.files, last.files),
        );
    }
    // A restart is seen in the look after it, and what had piled up in the one after that.
    let is_quiet =
        |look: &&Look| !restarts.iter().any(|restart| (0.0..3.0 * LOOK.as_secs_f64()).contains(&(look.at - restart)));
    let quiet: Vec<&Look> = looks.iter().filter(is_quiet).filter(|look| !look.p99.is_nan()).collect();
    let third = quiet.len() / 3;
    for (name, pick) in FIGURES {
        let of = |looks: &[&Look]| spread(looks.iter().map(|look| pick(look)).collect());
        if third > 0 {
            let ((early, ..), (late, ..)) = (of(&quiet[..third]), of(&quiet[quiet.len() - third..]));
            println!(
                "{name}: {early:.0} in the first third, {late:.0} in the last: {:+.0} %",
                (late / early - 1.0) * 100.0
            );
        }
    }
    let (lost, twice) = receipts.verdict();
    println!("{entries} requests, {} restarts: {lost} without a receipt, {twice} with more than one", restarts.len());
}
