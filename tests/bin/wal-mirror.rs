//! A batch loop without a store: every record of one topic is published to another, once. The floor that the benchmark compares
//! with, and what the scenarios use to show that the loop itself neither loses nor doubles.
//!
//! `wal-mirror BOOTSTRAP GROUP INSTANCE FROM TO`, and settings in the environment like any service. For scenarios:
//! `MIRROR_BATCH=20` limits the records of a batch; `MIRROR_STOP_AT=3` stops the process (SIGSTOP) with its third batch in hand;
//! `MIRROR_FAIL_EVERY=5` lets the publishing of every fifth batch fail, which then is read again.

#[path = "../mirror/mod.rs"]
mod mirror;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mirror::Mirror;
use rustix::process::{Signal, getpid, kill_process};
use wal_model::{OutRecord, Topic};
use wal_runtime::batch_loop::{self, Batch, CannotGoOn, Handler, Limits, Observer, Options, Reads};
use wal_runtime::config::{Kafka, Settings};
use wal_runtime::shutdown::Shutdown;
use wal_runtime::traces::Traces;

/// Larger than any producer sends: its transaction is aborted.
const TOO_LARGE: usize = 64 << 20;

/// A mirror that fails, and stands still once, at the moment where a process that stands still can do most harm.
struct Hurting {
    mirror: Mirror,
    batches: AtomicUsize,
    stop_at: Option<usize>,
    fail_every: Option<usize>,
}

impl Handler for Hurting {
    const OVERLAPS: bool = true;

    type Handled = Vec<OutRecord>;

    async fn handle(&self, batch: &Batch) -> Result<Vec<OutRecord>, CannotGoOn> {
        let batches = self.batches.fetch_add(1, Ordering::Relaxed) + 1;
        if self.stop_at == Some(batches) {
            println!("stopping with {} records in hand", batch.records.len());
            kill_process(getpid(), Signal::STOP).map_err(|error| CannotGoOn(error.to_string()))?;
        }
        let mut outputs = self.mirror.handle(batch).await?;
        if self.fail_every.is_some_and(|every| batches.is_multiple_of(every)) {
            outputs.last_mut().expect("a batch has records").value = Some(vec![0; TOO_LARGE].into());
        }
        Ok(outputs)
    }

    async fn outputs(&self, _: &Batch, outputs: Vec<OutRecord>) -> Result<Vec<OutRecord>, CannotGoOn> {
        Ok(outputs)
    }
}

struct Told;

impl Observer for Told {
    fn assigned(&self) {
        println!("assigned");
    }

    fn committed(&self, records: usize, _published: usize) {
        println!("committed {records}");
    }

    fn rewound(&self, why: &str) {
        println!("rewound: {why}");
    }

    fn fenced(&self) {
        println!("fenced");
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [bootstrap, group, instance, from, to] = &args[..] else {
        anyhow::bail!("usage: wal-mirror BOOTSTRAP GROUP INSTANCE FROM TO");
    };
    let overrides = [("kafka.bootstrap_servers", bootstrap.clone()), ("kafka.instance", instance.clone())];
    let settings = Settings::load_with(None, &overrides)?;
    wal_runtime::logs::start(&wal_runtime::config::Log::read(&settings)?)?;
    let kafka = Kafka::read(&settings)?;
    let records = number("MIRROR_BATCH")?.unwrap_or(2000);
    let options = Options {
        consumer: wal_runtime::kafka::consumer(&kafka, group),
        producer: wal_runtime::kafka::transactional(&kafka, &format!("{group}-{instance}")),
        group: group.clone(),
        reads: Reads::Lanes(vec![(Topic::parse(from)?, 100)]),
        tick: None,
        traces: Traces::off(),
        limits: Limits { records, bytes: 8 << 20, wait: Duration::from_millis(5) },
        offset_metadata: String::new(),
        start_timeout: kafka.start_timeout,
        stop_timeout: Duration::from_secs(10),
    };
    let mirror = Mirror { to: Topic::parse(to)?, beside: Vec::new() };
    let (stop_at, fail_every) = (number("MIRROR_STOP_AT")?, number("MIRROR_FAIL_EVERY")?);
    let handler = Hurting { mirror, batches: AtomicUsize::new(0), stop_at, fail_every };
    let shutdown = Shutdown::on_signals()?;
    batch_loop::run(options, handler, Arc::new(Told), shutdown.triggered()).await?;
    Ok(())
}

fn number(variable: &str) -> anyhow::Result<Option<usize>> {
    Ok(std::env::var(variable).ok().map(|text| text.parse()).transpose()?)
}
