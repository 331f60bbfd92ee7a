//! One, two and four writers on twelve partitions of each ingress topic, and one database that takes a fixed time for each request.
//!
//! ```text
//!   every writer holds its share ─▶ the backlog is acknowledged ─▶ │ a tenth of the receipts .. nine tenths │ ─▶ all receipts
//!                                                                  └──────────── what is told ──────────────┘
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use rdkafka::message::{BorrowedMessage, Message as _};
use rustix::time::{ClockId, clock_gettime};
use wal_arango_fake::Server;
use wal_model::Priority;
use wal_store::arango::{Options, schema};
use wal_tests::{Kafka, Message, Producer, clients, wait_until};

use crate::lateness::{Arrivals, now};
use crate::part::{Batches, Running};
use crate::stage::{Busy, PAYLOAD, Stage, requests, spread};

const PATIENCE: Duration = Duration::from_secs(300);
const PARTITIONS: usize = 12;
/// What one request takes in the database, and how many it serves at a time: so long that the processor, which the broker, the fake and all
/// writers share, matters little until there are four.
const SERVICE_TIME: Duration = Duration::from_secs(1);
const PARALLEL: usize = 64;
/// Of each writer, at most: the fake keeps all of them in memory.
const ENTRIES: usize = 25_000;
/// Of all receipts, what comes before batches are full and after the first writer has nothing left to do.
const EDGE: f64 = 0.1;
/// The ingress topics: high, normal and low.
const LANES: usize = 3;

/// What one run measured.
struct Run {
    /// Entries a second.
    rate: f64,
    /// The share of the machine's processors that was busy.
    busy: f64,
    /// The share that this program took: the fake, above all.
    own: f64,
    /// Records in a batch of a writer, and seconds from one batch's end to the next one's, no number if each had only one.
    batch: f64,
    cycle: f64,
    /// Seconds of a batch until it is checked, then stored, then committed.
    validated: f64,
    stored: f64,
    produced: f64,
}

/// Runs each number of writers and tells how much more they do.
pub fn tell(broker: &Kafka, entries: usize, rounds: usize) -> Result<()> {
    let each = entries.min(ENTRIES);
    println!(
        "\nscale: {each} entries for each writer on {PARTITIONS} partitions, a database that takes {} ms for each request; \
         entries/s: median (least to most)",
        SERVICE_TIME.as_millis()
    );
    let mut one = None;
    for writers in [1, 2, 4] {
        let mut runs = Vec::new();
        for _ in 0..rounds {
            runs.push(once(broker, each * writers, writers)?);
        }
        let of = |pick: fn(&Run) -> f64| spread(runs.iter().map(pick).collect());
        let ((rate, least, most), (busy, ..), (own, ..)) = (of(|run| run.rate), of(|run| run.busy), of(|run| run.own));
        let one = *one.get_or_insert(rate);
        let cycle = of(|run| run.cycle).0;
        let how_often = if cycle.is_finite() { format!("one each {cycle:.2} s") } else { "only one".to_owned() };
        println!(
            "{writers} writers {:>26}   {:.2} times one   {:.0} entries in a batch, {how_often}: \
             checked in {:.2}, stored in {:.2}, published and committed in {:.2}   \
             processors {:3.0} % busy, {:.0} % the fake and the observers",
            format!("{rate:.0} ({least:.0} to {most:.0})"),
            rate / one,
            of(|run| run.batch).0,
            of(|run| run.validated).0,
            of(|run| run.stored).0,
            of(|run| run.produced).0,
            busy * 100.0,
            own * 100.0
        );
    }
    Ok(())
}

fn once(broker: &Kafka, entries: usize, writers: usize) -> Result<Run> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let server = runtime.block_on(Server::builder().service_time(SERVICE_TIME, PARALLEL).start())?;
    let options = Options { replication_factor: 1, write_concern: 1, ..Options::new(vec![server.url()], "bench") };
    runtime.block_on(schema::apply(&options))?;
    let stage = Stage::set(broker, PARTITIONS)?;
    let settings = |writer: usize| {
        [
            ("kafka.instance", writer.to_string()),
            ("store.backend", "arangodb".to_owned()),
            ("store.arangodb.endpoints", server.url()),
            ("store.arangodb.database", "bench".to_owned()),
            ("store.arangodb.auth", "none".to_owned()),
            ("store.arangodb.replication_factor", "1".to_owned()),
            ("store.arangodb.write_concern", "1".to_owned()),
        ]
    };
    let running: Vec<Running> =
        (0..writers).map(|writer| Running::start("writer", &stage, 0, &settings(writer))).collect::<Result<_>>()?;
    running.iter().for_each(Running::wait_for_assignment);
    wait_for_shares(&stage, writers);
    let receipts = stage.kafka.topics.receipts();
    let arrivals = Arrivals::of(&stage.bootstrap, receipts.as_str(), entries, nameless)?;
    load(&stage, entries);
    let (loaded, busy, own) = (now(), Busy::now()?, own_time());
    let arrived = arrivals.wait(PATIENCE);
    let (busy, own) = (busy.since()?, own_time() - own);
    let own = own / ((now() - loaded) / 1000.0) / std::thread::available_parallelism()?.get() as f64;
    anyhow::ensure!(arrived.len() == entries, "{} of {entries} arrived", arrived.len());
    let batches: Vec<Batches> = running.into_iter().map(Running::stop_writer).collect::<Result<_>>()?;
    server.stop();
    let mut at: Vec<f64> = arrived.iter().map(|arrival| arrival.at).collect();
    at.sort_by(f64::total_cmp);
    let all = |pick: fn(&Batches) -> f64| batches.iter().map(pick).sum::<f64>();
    let each = |pick: fn(&Batches) -> f64| all(pick) / all(|one| one.number);
    Ok(Run {
        rate: middle_rate(&at, loaded)?,
        busy,
        own,
        batch: each(|one| one.records),
        cycle: all(|one| one.seconds) / all(|one| one.number - 1.0),
        validated: each(|one| one.validated),
        stored: each(|one| one.stored),
        produced: each(|one| one.produced),
    })
}

/// Waits until every writer holds its share of each ingress topic: partitions that still move would be what is measured.
fn wait_for_shares(stage: &Stage, writers: usize) {
    let group = wal_runtime::kafka::group(&stage.kafka, "writer");
    wait_until("every writer holds its share of the partitions", PATIENCE, || {
        let shares = clients::shares(&stage.bootstrap, &group);
        let is_fair = |share: &BTreeMap<String, usize>| share.values().eq([PARTITIONS / writers; LANES].iter());
        shares.len() == writers && shares.iter().all(is_fair)
    });
}

/// A backlog that is the same in every partition of the normal topic.
fn load(stage: &Stage, entries: usize) {
    let topic = stage.kafka.topics.ingress(Priority::Normal);
    let partitions: Vec<i32> = (0..).take(PARTITIONS).collect();
    let numbered = requests(&stage.target, PAYLOAD, entries).enumerate();
    let messages: Vec<Message> = numbered
        .map(|(number, value)| {
            Message::to(topic.as_str())
                .partition(partitions[number % PARTITIONS])
                .key(format!("k{}", number % 100))
                .value(value)
        })
        .collect();
    Producer::new(&stage.bootstrap).send_all(&messages);
}

/// Receipts a second between the edges, from when the backlog was there.
fn middle_rate(at: &[f64], loaded: f64) -> Result<f64> {
    let edge = (at.len() as f64 * EDGE) as usize;
    let middle: Vec<f64> = at[edge..at.len() - edge].iter().copied().filter(|at| *at >= loaded).collect();
    anyhow::ensure!(middle.len() > at.len() / 4, "most of the backlog was gone when all of it was there");
    // Receipts of a batch come at one moment: the first batch begins the time and does not count.
    let first = middle.iter().filter(|at| **at - middle[0] < 20.0).count();
    if first == middle.len() {
        // So few that the middle is one batch: all of them, from the moment they were there.
        let after = at.iter().filter(|at| **at >= loaded).count();
        return Ok(after as f64 / ((at[at.len() - 1] - loaded) / 1000.0));
    }
    Ok((middle.len() - first) as f64 / ((middle[middle.len() - 1] - middle[first - 1]) / 1000.0))
}

/// Processor seconds of this program.
fn own_time() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn nameless<'a>(message: &'a BorrowedMessage<'_>) -> &'a [u8] {
    message.key().unwrap_or_default()
}
