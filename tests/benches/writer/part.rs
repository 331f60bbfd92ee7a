//! What is measured, as a process of its own: so its memory and its processor time are nobody else's.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use tokio::sync::Notify;
use wal_model::{Entry, InRecord, Topic};
use wal_runtime::batch_loop::{self, Limits, Observer, Options, Reads};
use wal_runtime::config::{self, Kafka as KafkaSettings, Settings};
use wal_runtime::kafka;
use wal_runtime::metrics::{Format, Metrics};
use wal_runtime::shutdown::Shutdown;
use wal_runtime::traces::{Road, Traces};
use wal_store::Inserted;
use wal_tests::{Kafka, Process};
use wal_writer::Service;

use crate::mirror::Mirror;
use crate::stage::{Busy, PAYLOAD, Stage, requests};

/// The variable that makes this program one part, and how many entries that is; 0 means until it is told to stop.
const PART: &str = "BENCH_PART";
const TARGET: &str = "BENCH_TARGET";
const ENTRIES: &str = "BENCH_ENTRIES";
/// What a part says when the group has given it its partitions.
const ASSIGNED: &str = "assigned";
/// What it says when all its entries are committed.
const DONE: &str = "done";
/// A minute for every 20,000 entries or so, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// Records of a batch, at most.
pub const BATCH: usize = 2000;
/// The stages of a batch of the writer, as its metrics name them.
const STAGES: [&str; 3] = ["validate", "store", "produce"];

/// What was measured of a part, from when it had its partitions until all was committed.
pub struct Measured {
    /// Entries a second.
    pub rate: f64,
    /// Its own processor seconds for a million entries.
    pub processor: f64,
    /// The broker's, for the same.
    pub broker: f64,
    /// The share of the machine's processors that was busy.
    pub busy: f64,
    /// The most memory it had, in MiB.
    pub memory: f64,
}

/// The batches of a writer that ran until it was told to stop.
pub struct Batches {
    pub number: f64,
    pub records: f64,
    /// From the end of the first to the end of the last.
    pub seconds: f64,
    /// What all of them together took to be read and checked, to be stored, and from then until they were committed.
    pub validated: f64,
    pub stored: f64,
    pub produced: f64,
}

/// A part that runs.
pub struct Running(Process);

impl Running {
    /// Starts a part; `entries` of 0 is until it is stopped.
    pub fn start(part: &str, stage: &Stage, entries: usize, more: &[(&str, String)]) -> Result<Running> {
        let mut variables = stage.variables(more);
        variables.push((PART.to_owned(), part.to_owned()));
        variables.push((TARGET.to_owned(), stage.target.clone()));
        variables.push((ENTRIES.to_owned(), entries.to_string()));
        let variables: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let program = std::env::current_exe()?;
        Ok(Running(Process::run(part, &program, &[], &variables)))
    }

    /// Waits until the group has given it its partitions.
    pub fn wait_for_assignment(&self) {
        self.0.wait_for_line(ASSIGNED, PATIENCE);
    }

    /// Waits until it has done all its entries.
    pub fn finish(self, broker: &Kafka, entries: usize) -> Result<Measured> {
        self.wait_for_assignment();
        let (busy, before) = (Busy::now()?, broker.processor_time());
        self.0.wait_for_line(DONE, PATIENCE);
        let (busy, took) = (busy.since()?, broker.processor_time() - before);
        let [rate, processor, memory] = self.told(["rate", "processor", "memory"])?;
        Ok(Measured { rate, processor, broker: took.as_secs_f64() / entries as f64 * 1e6, busy, memory })
    }

    /// Ends one that runs until it is told to stop.
    pub fn stop(self) -> Result<()> {
        self.0.terminate();
        self.told([]).map(|[]| ())
    }

    /// Ends a writer that runs until it is told to stop.
    pub fn stop_writer(self) -> Result<Batches> {
        self.0.terminate();
        let [number, records, seconds] = self.told(["batches", "records", "seconds"])?;
        let [validated, stored, produced] = self.told(STAGES)?;
        Ok(Batches { number, records, seconds, validated, stored, produced })
    }

    /// Waits for its end; the numbers that it then said of itself.
    fn told<const N: usize>(&self, names: [&str; N]) -> Result<[f64; N]> {
        let status = self.0.wait(PATIENCE);
        anyhow::ensure!(status.success(), "a part ended with {status}: {:?}", self.0);
        let out = self.0.stdout();
        let line = out.lines().rfind(|line| line.starts_with('{')).context("a part said nothing of itself")?;
        let told: Value = serde_json::from_str(line)?;
        let mut numbers = [0.0; N];
        for (number, name) in numbers.iter_mut().zip(names) {
            *number = told[name].as_f64().with_context(|| format!("a part left out its {name}"))?;
        }
        Ok(numbers)
    }
}

/// The part that this process is to be, if it is one.
pub fn wanted() -> Option<String> {
    std::env::var(PART).ok()
}

/// Is the part.
pub fn run(part: &str) -> Result<()> {
    let target = std::env::var(TARGET)?;
    let entries: usize = std::env::var(ENTRIES)?.parse()?;
    let settings = Settings::load_with(None, &[])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let told = runtime.block_on(async {
        match part {
            "writer" => writer(&settings, entries).await,
            "mirror" => mirror(&settings, &target, entries, false).await,
            "mirror of three" => mirror(&settings, &target, entries, true).await,
            "insert" => insert(&settings, entries).await,
            other => bail!("there is no part {other}"),
        }
    })?;
    println!("{told}");
    Ok(())
}

/// The writer, on whatever store the settings name.
async fn writer(settings: &Settings, entries: usize) -> Result<Value> {
    let store = wal_open::open(settings, Duration::from_secs(30), |_| ()).await?;
    let count = Count::of(entries)?;
    let (collector, metrics) = (config::Traces::read(settings)?, Metrics::new());
    let traces = Traces::start(&collector, "wal-writer", "0", Road::Onward, &metrics)?;
    let service = Service::new(settings, store)?.tracing(traces).counting(metrics.clone());
    service.run(Arc::<Count>::clone(&count), count.over()).await?;
    let published = count.published.load(Ordering::SeqCst);
    // A delivery, a receipt and an audit event each: nothing was refused, which would be quicker.
    anyhow::ensure!(
        entries == 0 || published == 3 * entries,
        "{published} records were published for {entries} requests"
    );
    let mut told = count.told()?;
    let counted = metrics.encode(Format::Prometheus);
    for stage in STAGES {
        let sum = format!("wal_append_duration_seconds_sum{{stage=\"{stage}\"}} ");
        let seconds =
            counted.lines().find_map(|line| line.strip_prefix(&sum)).context("the writer tells its stages")?;
        told[stage] = json!(seconds.parse::<f64>()?);
    }
    Ok(told)
}

/// The same loop without a store: one record out for each one in, or three, as the writer has a delivery, a receipt and an audit event.
async fn mirror(settings: &Settings, target: &str, entries: usize, is_of_three: bool) -> Result<Value> {
    let kafka = KafkaSettings::read(settings)?;
    let from = kafka.topics.ingress(wal_model::Priority::Normal);
    let group = kafka::group(&kafka, "writer");
    let count = Count::of(entries)?;
    let options = Options {
        consumer: kafka::consumer(&kafka, &group),
        producer: kafka::transactional(&kafka, &kafka::transactional_id(&kafka, "writer")),
        group: group.clone(),
        reads: Reads::Lanes(vec![(from, 100)]),
        tick: None,
        traces: Traces::off(),
        limits: Limits { records: BATCH, bytes: 8 << 20, wait: Duration::from_millis(5) },
        offset_metadata: String::new(),
        start_timeout: kafka.start_timeout,
        stop_timeout: Duration::from_secs(10),
    };
    let beside = if is_of_three { vec![kafka.topics.receipts(), kafka.topics.audit()] } else { Vec::new() };
    let mirror = Mirror { to: Topic::parse(target)?, beside };
    batch_loop::run(options, mirror, Arc::<Count>::clone(&count), count.over()).await?;
    count.told()
}

/// The same documents, batch by batch, into a store of its own.
async fn insert(settings: &Settings, entries: usize) -> Result<Value> {
    let store = wal_open::open(settings, Duration::from_secs(30), |_| ()).await?;
    let count = Count::of(entries)?;
    // As many at a time as would be in hand, so that its memory is that of inserting.
    let mut requests = requests("target", PAYLOAD, entries).zip(0..);
    count.assigned();
    let mut took = Duration::ZERO;
    loop {
        let batch: Vec<Entry> = requests.by_ref().take(BATCH).map(entry).collect::<Result<_>>()?;
        if batch.is_empty() {
            break;
        }
        let started = Instant::now();
        let inserted = store.insert(&batch).await?;
        took += started.elapsed();
        anyhow::ensure!(inserted.iter().all(|one| matches!(one, Inserted::Stored)), "an entry was already there");
        count.committed(batch.len(), 0);
    }
    // Making the requests is not inserting them.
    let mut told = count.told()?;
    told["rate"] = json!(share(entries, took));
    Ok(told)
}

/// So many requests have the same time. The store keeps entries by their time, so one time for all would make it slower than it is.
const A_MILLISECOND: i64 = 10;

/// What the writer makes of the request at an offset.
pub fn entry((value, offset): (Vec<u8>, i64)) -> Result<Entry> {
    let record = InRecord {
        cluster: Arc::from("bench"),
        topic: Topic::parse("wal.ingress").expect("a legal name"),
        partition: 0,
        offset,
        time: wal_model::Timestamp::from_millis(1_733_047_200_000 + offset / A_MILLISECOND),
        key: Some(bytes::Bytes::from(format!("k{}", offset % 100))),
        value: Some(bytes::Bytes::from(value)),
        headers: Vec::new(),
    };
    wal_writer::testing::entry(&record).context("refused")
}

/// A moment, by the wall and by the processor.
#[derive(Clone, Copy)]
struct Moment {
    wall: Instant,
    processor: Duration,
}

fn moment() -> Moment {
    let processor = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = Duration::from_secs(u64::try_from(processor.tv_sec).expect("time that was used is not negative"));
    let nanos = Duration::from_nanos(u64::try_from(processor.tv_nsec).expect("a part of a second is not negative"));
    Moment { wall: Instant::now(), processor: seconds + nanos }
}

/// Counts what is committed, and tells when it is all.
struct Count {
    wanted: usize,
    committed: AtomicUsize,
    published: AtomicUsize,
    /// When each batch ended.
    ends: Mutex<Vec<Instant>>,
    started: OnceLock<Moment>,
    finished: OnceLock<Moment>,
    done: Notify,
    shutdown: Shutdown,
}

impl Count {
    fn of(wanted: usize) -> Result<Arc<Count>> {
        Ok(Arc::new(Count {
            wanted,
            committed: AtomicUsize::new(0),
            published: AtomicUsize::new(0),
            ends: Mutex::default(),
            started: OnceLock::new(),
            finished: OnceLock::new(),
            done: Notify::new(),
            shutdown: Shutdown::on_signals()?,
        }))
    }

    /// Completes when all is committed, or this process is told to stop.
    async fn over(&self) {
        tokio::select! {
            () = self.done.notified() => {}
            () = self.shutdown.triggered() => {}
        }
    }

    /// What a part says of itself at its end.
    fn told(&self) -> Result<Value> {
        if self.wanted > 0 {
            return self.measured();
        }
        let ends = self.ends();
        let seconds = ends.first().zip(ends.last()).map_or(0.0, |(first, last)| (*last - *first).as_secs_f64());
        Ok(json!({"batches": ends.len(), "records": self.committed.load(Ordering::SeqCst), "seconds": seconds}))
    }

    fn measured(&self) -> Result<Value> {
        let started = self.started.get().context("the loop was never assigned partitions")?;
        let finished = self.finished.get().context("the loop ended before everything was committed")?;
        let processor = (finished.processor - started.processor).as_secs_f64();
        Ok(json!({
            "rate": share(self.wanted, finished.wall - started.wall),
            "processor": processor / self.wanted as f64 * 1e6,
            "memory": peak_memory()?,
        }))
    }

    fn ends(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn share(entries: usize, took: Duration) -> f64 {
    entries as f64 / took.as_secs_f64()
}

/// The most memory that this process ever had, in MiB.
fn peak_memory() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the kernel does not tell")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}

impl Observer for Count {
    fn assigned(&self) {
        // Only the first assignment starts the clock.
        let _ = self.started.set(moment());
        println!("{ASSIGNED}");
    }

    fn committed(&self, records: usize, published: usize) {
        self.ends().push(Instant::now());
        self.published.fetch_add(published, Ordering::SeqCst);
        let committed = self.committed.fetch_add(records, Ordering::SeqCst) + records;
        if self.wanted > 0 && committed >= self.wanted {
            let _ = self.finished.set(moment());
            println!("{DONE}");
            self.done.notify_one();
        }
    }
}
