//! How busy the ArangoDB backend keeps its database: beside a database that takes a fixed time for each request and so many at a time,
//! which is the floor: nobody can send it more than `parallel / service time` requests a second.
//!
//! `cargo bench -p wal-store --features testing --bench arango [-- BATCHES [ROUNDS]]`. The database is the fake, in this process on threads
//! of its own; the processor time is that of the one thread that the backend runs on. On a real server `wal bench store` measures.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinSet;
use wal_arango_fake::Server;
use wal_model::Entry;
use wal_model::ack::Ack;
use wal_store::arango::{ArangoStore, Options, schema};
use wal_store::samples;
use wal_store::{Applied, EntryStore, Inserted};

/// What one request takes in the database, and how many it serves at a time.
/// Long, so that what the fake itself takes for a batch matters little beside it.
const SERVICE_TIME: Duration = Duration::from_millis(200);
const PARALLEL: usize = 4;
/// What wal-writer and wal-status hand over at a time, at most.
const DOCUMENTS: usize = 500;
const PAYLOAD: usize = 1024;

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let (batches, rounds) = (numbers.first().copied().unwrap_or(24), numbers.get(1).copied().unwrap_or(3));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for concurrency in [1, 2, PARALLEL, 2 * PARALLEL] {
            let (mut inserts, mut folds) = (Vec::new(), Vec::new());
            for _ in 0..rounds {
                let (insert, fold) = round(batches, concurrency).await;
                inserts.push(insert);
                folds.push(fold);
            }
            tell(&format!("insert, {concurrency} at a time"), concurrency, &inserts);
            tell(&format!("fold, {concurrency} at a time"), concurrency, &folds);
        }
    });
}

/// What was measured of some batches.
struct Measured {
    took: Duration,
    processor: Duration,
    batches: usize,
    requests: u64,
}

async fn round(batches: usize, concurrency: usize) -> (Measured, Measured) {
    let server = Server::builder().service_time(SERVICE_TIME, PARALLEL).start().await.expect("a port");
    let one_server = Options { replication_factor: 1, write_concern: 1, ..Options::new(vec![server.url()], "bench") };
    schema::apply(&one_server).await.expect("a database");
    let store = ArangoStore::open(&one_server).await.expect("a store");
    let entries: Vec<Vec<Entry>> = (0..batches).map(batch).collect();
    let events: Vec<Vec<Ack>> = entries.iter().map(|batch| batch.iter().map(done).collect()).collect();
    let insert = |store: ArangoStore, batch: Vec<Entry>| async move {
        let answers = store.insert(&batch).await.expect("the database is there");
        assert!(answers.iter().all(|answer| *answer == Inserted::Stored));
    };
    let fold = |store: ArangoStore, batch: Vec<Ack>| async move {
        let answers = store.apply(&batch).await.expect("the database is there");
        assert!(answers.iter().all(|answer| matches!(answer, Applied::State(_))));
    };
    let inserted = measured(&server, &store, concurrency, entries, insert).await;
    let folded = measured(&server, &store, concurrency, events, fold).await;
    (inserted, folded)
}

/// Runs batches, so many at a time.
async fn measured<T: Send + 'static, F: Future<Output = ()> + Send + 'static>(
    server: &Server,
    store: &ArangoStore,
    concurrency: usize,
    batches: Vec<T>,
    run: impl Fn(ArangoStore, T) -> F + Copy + Send + 'static,
) -> Measured {
    server.forget_requests();
    let count = batches.len();
    let waiting = Arc::new(Mutex::new(batches));
    let (started, processor) = (Instant::now(), processor_time());
    let mut lanes = JoinSet::new();
    for _ in 0..concurrency {
        let (waiting, store) = (Arc::clone(&waiting), store.clone());
        lanes.spawn(async move {
            loop {
                let next = waiting.lock().expect("nobody panics").pop();
                let Some(batch) = next else { break };
                run(store.clone(), batch).await;
            }
        });
    }
    lanes.join_all().await;
    let (took, processor) = (started.elapsed(), processor_time().saturating_sub(processor));
    let requests = server.requests().iter().map(|request| request.count).sum();
    Measured { took, processor, batches: count, requests }
}

fn batch(batch: usize) -> Vec<Entry> {
    let payload = Bytes::from(format!(r#"{{"filler":"{}"}}"#, "x".repeat(PAYLOAD - 13)));
    let entry = |number| Entry { payload: payload.clone(), ..samples::entry(&format!("{batch}-{number}")) };
    (0..DOCUMENTS).map(entry).collect()
}

fn done(entry: &Entry) -> Ack {
    samples::ack(entry, samples::completed(entry, 1))
}

/// What this thread has taken of the processor.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// One line: medians, with the spread of the rate.
#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
fn tell(what: &str, concurrency: usize, all: &[Measured]) {
    let median = |of: &dyn Fn(&Measured) -> f64| {
        let mut values: Vec<f64> = all.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        (values[values.len() / 2], values[0], values[values.len() - 1])
    };
    let (rate, least, most) = median(&|one| one.requests as f64 / one.took.as_secs_f64());
    let best = concurrency.min(PARALLEL) as f64 / SERVICE_TIME.as_secs_f64();
    let (documents, ..) = median(&|one| (one.batches * DOCUMENTS) as f64 / one.took.as_secs_f64());
    let (per_batch, ..) = median(&|one| one.requests as f64 / one.batches as f64);
    let (processor, ..) = median(&|one| one.processor.as_secs_f64() * 1e6 / (one.batches * DOCUMENTS) as f64);
    println!(
        "{what:22} {rate:6.0} requests/s ({least:.0} to {most:.0}), {:.2} of the best possible {best:.0}; {per_batch:.2} requests a batch of \
         {DOCUMENTS}; {documents:7.0} documents/s; {processor:5.1} µs of processor a document",
        rate / best
    );
}
