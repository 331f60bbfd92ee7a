//! Status events folded, beside the bare update of the same states.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use wal_model::ack::Ack;
use wal_model::status::{Event, Outcome, State};
use wal_model::{Entry, InRecord, Timestamp};
use wal_runtime::batch_loop::Observer;
use wal_status::Service;
use wal_store::embedded::Embedded;
use wal_store::{Applied, EntryStore};
use wal_tests::Kafka;

use crate::lateness::now;
use crate::stage::{PAYLOAD, Running, Stage};

const PATIENCE: Duration = Duration::from_secs(180);
const BATCH: usize = 2000;

/// One event for each entry, folded by the service and by hand.
pub fn folding(broker: &Kafka, count: usize, rounds: usize) -> Result<()> {
    let (mut folded, mut applied) = (Vec::new(), Vec::new());
    for _ in 1..=rounds {
        let stage = Stage::set(broker)?;
        let entries = entries(count)?;
        folded.push(fold(&stage, &entries)?);
        applied.push(apply(&entries)?);
    }
    let (folded, applied) = (middle(folded), middle(applied));
    println!("status: folded {folded:.0} events/s, bare update {applied:.0} events/s, ratio {:.2}", folded / applied);
    Ok(())
}

fn entries(count: usize) -> Result<Vec<Entry>> {
    let filler = "x".repeat(PAYLOAD - 60);
    let entry = |number: usize| {
        let payload = format!(r#"{{"operation":"bench","number":"{number:08}","filler":"{filler}"}}"#);
        let request = format!(r#"{{"namespace":"bench","target":"t","request_id":"r-{number}","payload":{payload}}}"#);
        let record = InRecord {
            cluster: Arc::from("bench"),
            topic: wal_model::Topic::parse("wal.ingress")?,
            partition: 0,
            offset: i64::try_from(number)?,
            time: Timestamp::from_millis(now() as i64),
            key: None,
            value: Some(bytes::Bytes::from(request)),
            headers: Vec::new(),
        };
        wal_writer::testing::entry(&record).context("a request was refused")
    };
    (0..count).map(entry).collect()
}

fn completed(entry: &Entry) -> Ack {
    let State { standing, .. } = &entry.state;
    let (id, outcome) = (entry.key().derive("completed 1 1"), Outcome::Completed { result: None });
    let event = Event { id, at: entry.timestamp(), outcome, ..standing.clone() };
    Ack { log_id: entry.log_id.clone(), tenant: None, event }
}

fn store_of(entries: &[Entry]) -> Result<(tempfile::TempDir, Embedded)> {
    let folder = tempfile::tempdir()?;
    let store = Embedded::open(folder.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for batch in entries.chunks(BATCH) {
        runtime.block_on(store.insert(batch))?;
    }
    Ok((folder, store))
}

fn fold(stage: &Stage, entries: &[Entry]) -> Result<f64> {
    let (_folder, store) = store_of(entries)?;
    for entry in entries {
        stage.send(&completed(entry).encode(stage.topics.acks(), &stage.keyring))?;
    }
    stage.flush()?;
    let service = Service::new(&stage.settings(&[])?, Arc::new(store))?;
    let (done, is_done) = std::sync::mpsc::channel();
    let all = Arc::new(Folded { left: AtomicUsize::new(entries.len()), started: std::sync::OnceLock::new(), done });
    let running = Running::spawn(move |shutdown| async move {
        Ok(service.run(all, async move { shutdown.triggered().await }).await?)
    })?;
    let took = is_done.recv_timeout(PATIENCE).context("not everything was folded")?;
    running.stop()?;
    Ok(entries.len() as f64 / took.as_secs_f64())
}

fn apply(entries: &[Entry]) -> Result<f64> {
    let (_folder, store) = store_of(entries)?;
    let acks: Vec<Ack> = entries.iter().map(completed).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let started = Instant::now();
    for batch in acks.chunks(BATCH) {
        let applied = runtime.block_on(store.apply(batch))?;
        anyhow::ensure!(applied.iter().all(|one| matches!(one, Applied::State(_))), "an entry is not there");
    }
    Ok(entries.len() as f64 / started.elapsed().as_secs_f64())
}

fn middle(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Tells how long it took from the first partitions to the last event.
struct Folded {
    left: AtomicUsize,
    started: std::sync::OnceLock<Instant>,
    done: std::sync::mpsc::Sender<Duration>,
}

impl Observer for Folded {
    fn assigned(&self) {
        // Only the first assignment starts the clock.
        let _ = self.started.set(Instant::now());
    }

    fn committed(&self, records: usize, _: usize) {
        if self.left.fetch_sub(records, Ordering::SeqCst) == records {
            let took = self.started.get().map_or(Duration::ZERO, Instant::elapsed);
            // Whoever started it listens.
            let _ = self.done.send(took);
        }
    }
}
