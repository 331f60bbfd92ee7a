//! How much at once: everything due within a second, one hop beside the mirror, and healthy traffic beside a storm.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use wal_model::Topic;
use wal_runtime::batch_loop::{self, Limits, Observer, Options, Reads};
use wal_runtime::kafka;
use wal_runtime::traces::Traces;
use wal_tests::{Kafka, clients, unique};

use crate::lateness::{Arrival, Arrivals, Due, Lateness, now};
use crate::mirror::Mirror;
use crate::stage::{PARTITIONS, Running, Stage, by_payload, name_of};

const PATIENCE: Duration = Duration::from_secs(180);
const BATCH: usize = 2000;
/// The delay topic that is used: long enough to put everything in before the first is due.
const WAIT: &str = "20s";

/// Everything due within one second, parked before: from the first that is due to the last that is delivered.
pub fn due_at_once(broker: &Kafka, count: usize, rounds: usize) -> Result<()> {
    let (mut product, mut mirrored) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let stage = Stage::set(broker)?;
        let scheduler = stage.scheduler()?;
        let arrivals = Arrivals::of(&stage.bootstrap, stage.target.as_str(), count, by_payload)?;
        let first = now() + 15_000.0;
        let due = put_in(&stage, count, |number| first + 1000.0 * share(number, count))?;
        anyhow::ensure!(now() < first - 500.0, "putting them in took too long");
        let arrived = arrivals.wait(PATIENCE);
        Lateness::of(&arrived, &due).tell(&format!("b: {count} due within one second, round {round}"));
        let last = arrived.iter().fold(first, |last, arrival| last.max(arrival.at));
        product.push(count as f64 / ((last - first) / 1000.0));
        scheduler.stop()?;
        mirrored.push(mirror(&stage, count)?);
    }
    let (product, mirrored) = (report("b: released", product), report("b: mirrored, the same records", mirrored));
    let (took, floor) = (count as f64 / product, count as f64 / mirrored);
    println!("b: first due to last delivered {took:.2} s, mirror {floor:.2} s, ratio {:.2}", took / floor);
    Ok(())
}

/// Records of one delay topic that are all due when the scheduler starts, beside the mirror of the same records.
pub fn hop(broker: &Kafka, count: usize, rounds: usize) -> Result<()> {
    let (mut product, mut mirrored) = (Vec::new(), Vec::new());
    for _ in 1..=rounds {
        let stage = Stage::set(broker)?;
        let past = now() - 1000.0;
        put_in(&stage, count, |_| past)?;
        mirrored.push(mirror(&stage, count)?);
        let arrivals = Arrivals::of(&stage.bootstrap, stage.target.as_str(), count, by_payload)?;
        let scheduler = stage.scheduler()?;
        product.push(rate(&arrivals.wait(PATIENCE), count)?);
        scheduler.stop()?;
    }
    let (product, mirrored) = (report("hop: released", product), report("hop: mirrored, the same records", mirrored));
    println!("hop: ratio to the mirror {:.2}", product / mirrored);
    Ok(())
}

/// Healthy traffic of one namespace (retries after a second, at a quarter of what a hop can do at most) alone, then beside another
/// namespace's storm of the same size.
pub fn storm(broker: &Kafka, count: usize, rounds: usize) -> Result<()> {
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        for is_stormy in [false, true] {
            let stage = Stage::set(broker)?;
            let scheduler = stage.scheduler()?;
            let wanted = if is_stormy { 6 * count } else { count };
            let arrivals = Arrivals::of(&stage.bootstrap, stage.target.as_str(), wanted, by_payload)?;
            let mut due = HashMap::new();
            let started = Instant::now();
            for number in 0..count {
                let delivery = stage.delivery("healthy", number, Duration::from_secs(1))?;
                let record = stage.failure(&delivery);
                let at = started + Duration::from_secs(1) * u32::try_from(number)? / 1000;
                std::thread::sleep(at.saturating_duration_since(Instant::now()));
                due.insert(name_of(&delivery.payload).to_vec(), now() + 1000.0);
                stage.send(&record)?;
                for more in 0..if is_stormy { 5 } else { 0 } {
                    let delivery = stage.delivery("storm", number * 5 + more, Duration::from_secs(2))?;
                    stage.send(&stage.failure(&delivery))?;
                }
            }
            stage.flush()?;
            let lateness = Lateness::of(&arrivals.wait(PATIENCE), &due);
            let what = if is_stormy { "beside a storm of 5,000/s" } else { "alone" };
            lateness.tell(&format!("storm: {count} healthy at 1,000/s {what}, round {round}"));
            (if is_stormy { &mut beside } else { &mut alone }).push(lateness.at(0.99));
            scheduler.stop()?;
        }
    }
    let middle = |mut all: Vec<f64>| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let (alone, beside) = (middle(alone), middle(beside));
    println!("storm: healthy p99 {alone:.1} ms alone, {beside:.1} ms beside the storm, ratio {:.2}", beside / alone);
    Ok(())
}

/// Parks records, each due at its time.
fn put_in(stage: &Stage, count: usize, due: impl Fn(usize) -> f64) -> Result<Due> {
    let mut all = HashMap::with_capacity(count);
    for number in 0..count {
        let delivery = stage.delivery("bench", number, Duration::from_secs(20))?;
        let at = due(number).floor();
        all.insert(name_of(&delivery.payload).to_vec(), at);
        stage.send(&stage.parked(delivery, at, WAIT)?)?;
    }
    stage.flush()?;
    Ok(all)
}

/// The same records through a bare batch loop to a topic of its own; records a second, from the first to the last that arrive.
fn mirror(stage: &Stage, count: usize) -> Result<f64> {
    let to = unique("mirrored");
    clients::create_topic(&stage.bootstrap, &to, PARTITIONS, &[]);
    let from = stage.topics.delay(WAIT.parse()?);
    let arrivals = Arrivals::of(&stage.bootstrap, &to, count, by_payload)?;
    let (done, is_done) = channel();
    let all = Arc::new(All { left: AtomicUsize::new(count), done });
    let running = mirroring(stage, from, &to, Duration::from_millis(5), all)?;
    is_done.recv_timeout(PATIENCE).context("the mirror did not finish")?;
    let rate = rate(&arrivals.wait(PATIENCE), count)?;
    running.stop()?;
    Ok(rate)
}

/// Runs a bare batch loop that copies every record of a topic from its start.
pub fn mirroring(stage: &Stage, from: Topic, to: &str, wait: Duration, observer: Arc<dyn Observer>) -> Result<Running> {
    let group = unique("mirror");
    let starts: Vec<(i32, i64)> = (0..i32::try_from(PARTITIONS)?).map(|partition| (partition, 0)).collect();
    clients::commit(&stage.bootstrap, &group, from.as_str(), &starts, "");
    let options = Options {
        consumer: kafka::consumer(&stage.kafka, &group),
        producer: kafka::transactional(&stage.kafka, &group),
        group,
        reads: Reads::Lanes(vec![(from, 100)]),
        tick: None,
        traces: Traces::off(),
        limits: Limits { records: BATCH, bytes: 8 << 20, wait },
        offset_metadata: String::new(),
        start_timeout: stage.kafka.start_timeout,
        stop_timeout: Duration::from_secs(10),
    };
    let mirror = Mirror { to: Topic::parse(to)?, beside: Vec::new() };
    Running::spawn(move |shutdown| async move {
        Ok(batch_loop::run(options, mirror, observer, async move { shutdown.triggered().await }).await?)
    })
}

/// Tells when so many records are committed.
struct All {
    left: AtomicUsize,
    done: Sender<()>,
}

impl Observer for All {
    fn committed(&self, records: usize, _: usize) {
        if self.left.fetch_sub(records, Ordering::SeqCst) == records {
            // Whoever started it listens.
            let _ = self.done.send(());
        }
    }
}

fn rate(arrived: &[Arrival], count: usize) -> Result<f64> {
    anyhow::ensure!(arrived.len() >= count, "{} of {count} arrived", arrived.len());
    let first = arrived.iter().map(|arrival| arrival.at).fold(f64::INFINITY, f64::min);
    let last = arrived.iter().map(|arrival| arrival.at).fold(0.0, f64::max);
    Ok(count as f64 / ((last - first) / 1000.0))
}

fn share(number: usize, count: usize) -> f64 {
    number as f64 / count as f64
}

fn report(name: &str, mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    let (least, median, most) = (rates[0], rates[rates.len() / 2], rates[rates.len() - 1]);
    println!("{name:34} {median:9.0} records/s ({least:.0} to {most:.0})");
    median
}
