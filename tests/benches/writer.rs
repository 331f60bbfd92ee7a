//! What the writer costs beside its floors, in one run: a bare mirror (the same loop, no store) and a bare store insert.
//!
//! `cargo bench -p wal-tests --bench writer [-- ENTRIES ROUNDS]`. Prints entries/s of each with its spread, and the ratios. The
//! broker, the writer and the observers share the machine, so only the ratios mean something elsewhere.

#[path = "../mirror/mod.rs"]
mod mirror;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mirror::Mirror;
use tokio::sync::Notify;
use wal_model::{InRecord, Topic};
use wal_runtime::batch_loop::{self, Limits, Observer, Options, Reads};
use wal_runtime::config::{Kafka as KafkaSettings, Settings, TopicSettings};
use wal_runtime::{kafka, topics};
use wal_store::embedded::Embedded;
use wal_store::{EntryStore, Inserted};
use wal_tests::{Kafka, Message, Producer, clients, prefix};
use wal_writer::Service;

const PAYLOAD: usize = 1024;
const BATCH: usize = 2000;
const PARTITIONS: usize = 4;

fn main() -> Result<()> {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let entries = numbers.first().copied().unwrap_or(50_000);
    let rounds = numbers.get(1).copied().unwrap_or(5);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let broker = Kafka::start_to_be_measured();
    let (mut product, mut mirrored, mut stored) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        product.push(runtime.block_on(writer(&broker, entries))?);
        mirrored.push(runtime.block_on(mirror(&broker, entries))?);
        stored.push(runtime.block_on(insert(entries))?);
    }
    println!(
        "{entries} entries of {PAYLOAD} bytes, {PARTITIONS} partitions, {rounds} rounds; entries/s: median (least to most)"
    );
    let product = report("wal-writer, embedded store", product);
    let mirrored = report("bare mirror", mirrored);
    let stored = report("bare store insert", stored);
    let combined = 1.0 / (1.0 / mirrored + 1.0 / stored);
    println!("ratio to the mirror {:.2}, to the insert {:.2}", product / mirrored, product / stored);
    println!("ratio to one after the other, 1/(1/mirror + 1/insert): {:.2}", product / combined);
    Ok(())
}

fn report(name: &str, mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    let (least, median, most) = (rates[0], rates[rates.len() / 2], rates[rates.len() - 1]);
    println!("{name:28} {median:9.0} ({least:.0} to {most:.0})");
    median
}

/// Counts what is committed, and tells when it is all.
struct Count {
    wanted: usize,
    committed: AtomicUsize,
    published: AtomicUsize,
    started: OnceLock<Instant>,
    finished: OnceLock<Instant>,
    done: Notify,
}

impl Count {
    fn of(wanted: usize) -> Arc<Count> {
        let (started, finished) = (OnceLock::new(), OnceLock::new());
        let (committed, published) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Count { wanted, committed, published, started, finished, done: Notify::new() })
    }

    fn rate(&self) -> Result<f64> {
        let started = self.started.get().context("the loop was never assigned partitions")?;
        let finished = self.finished.get().context("the loop ended before everything was committed")?;
        #[expect(clippy::cast_precision_loss, reason = "a count of entries")]
        Ok(self.wanted as f64 / finished.duration_since(*started).as_secs_f64())
    }
}

impl Observer for Count {
    fn assigned(&self) {
        // Only the first assignment starts the clock.
        let _ = self.started.set(Instant::now());
    }

    fn committed(&self, records: usize, published: usize) {
        self.published.fetch_add(published, Ordering::SeqCst);
        if self.committed.fetch_add(records, Ordering::SeqCst) + records >= self.wanted {
            let _ = self.finished.set(Instant::now());
            self.done.notify_one();
        }
    }
}

fn settings(broker: &Kafka, folder: &str) -> Result<Settings> {
    let given = [
        ("kafka.bootstrap_servers", broker.bootstrap()),
        ("kafka.topic_prefix", prefix()),
        ("kafka.instance", "0".to_owned()),
        ("topics.partitions", PARTITIONS.to_string()),
        ("topics.delay_partitions", "1".to_owned()),
        ("topics.replication", "1".to_owned()),
        ("topics.min_insync_replicas", "1".to_owned()),
        ("store.folder", folder.to_owned()),
        ("seal.signing_key", "k1".to_owned()),
        ("seal.keys.k1", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=".to_owned()),
        ("writer.batch_records", BATCH.to_string()),
    ];
    Ok(Settings::load_from(None, std::iter::empty(), &given)?)
}

async fn prepare(settings: &Settings) -> Result<KafkaSettings> {
    let kafka = KafkaSettings::read(settings)?;
    topics::apply(&kafka, &TopicSettings::read(settings)?).await?;
    Ok(kafka)
}

fn requests(target: &str, entries: usize) -> impl Iterator<Item = Vec<u8>> {
    let filler = "x".repeat(PAYLOAD - 60);
    let target = target.to_owned();
    (0..entries).map(move |number| {
        let payload = format!(r#"{{"operation":"bench","number":"{number:08}","filler":"{filler}"}}"#);
        format!(r#"{{"namespace":"bench","target":"{target}","request_id":"r-{number}","payload":{payload}}}"#)
            .into_bytes()
    })
}

fn load(broker: &Kafka, topic: &str, target: &str, entries: usize) {
    let producer = Producer::new(&broker.bootstrap());
    let messages: Vec<Message> = requests(target, entries)
        .enumerate()
        .map(|(number, value)| Message::to(topic).key(format!("k{}", number % 100)).value(value))
        .collect();
    producer.send_all(&messages);
}

async fn writer(broker: &Kafka, entries: usize) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let settings = settings(broker, &folder.path().display().to_string())?;
    let kafka = prepare(&settings).await?;
    let target = wal_tests::unique("target");
    clients::create_topic(&broker.bootstrap(), &target, PARTITIONS, &[]);
    load(broker, kafka.topics.ingress(wal_model::Priority::Normal).as_str(), &target, entries);
    let store: Arc<dyn EntryStore> = Arc::new(Embedded::open(folder.path())?);
    let count = Count::of(entries);
    Service::new(&settings, store)?.run(Arc::<Count>::clone(&count), count.done.notified()).await?;
    // A delivery, a receipt and an audit event each: nothing was refused, which would be quicker.
    let published = count.published.load(Ordering::SeqCst);
    anyhow::ensure!(published == 3 * entries, "{published} records were published for {entries} requests");
    count.rate()
}

async fn mirror(broker: &Kafka, entries: usize) -> Result<f64> {
    let settings = settings(broker, "unused")?;
    let kafka = prepare(&settings).await?;
    let from = kafka.topics.ingress(wal_model::Priority::Normal);
    let target = wal_tests::unique("target");
    clients::create_topic(&broker.bootstrap(), &target, PARTITIONS, &[]);
    load(broker, from.as_str(), &target, entries);
    let count = Count::of(entries);
    let group = kafka::group(&kafka, "writer");
    let to = Topic::parse(&target)?;
    batch_loop::run(options(&kafka, &group, from), Mirror { to }, Arc::<Count>::clone(&count), count.done.notified())
        .await?;
    count.rate()
}

fn options(kafka: &KafkaSettings, group: &str, from: Topic) -> Options {
    Options {
        consumer: kafka::consumer(kafka, group),
        producer: kafka::transactional(kafka, &kafka::transactional_id(kafka, "writer")),
        group: group.to_owned(),
        reads: Reads::Lanes(vec![(from, 100)]),
        tick: None,
        limits: Limits { records: BATCH, bytes: 8 << 20, wait: Duration::from_millis(5) },
        offset_metadata: String::new(),
        start_timeout: kafka.start_timeout,
        stop_timeout: Duration::from_secs(10),
    }
}

/// The same documents, batch by batch, into a store of its own.
async fn insert(entries: usize) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let store = Embedded::open(folder.path())?;
    let records: Vec<InRecord> =
        requests("target", entries).zip(0..).map(|(value, offset)| record(value, offset)).collect();
    let all: Vec<_> =
        records.iter().map(wal_writer::testing::entry).collect::<Result<_, _>>().context("a request was refused")?;
    let started = Instant::now();
    for batch in all.chunks(BATCH) {
        let inserted = store.insert(batch).await?;
        anyhow::ensure!(inserted.iter().all(|one| matches!(one, Inserted::Stored)), "an entry was already there");
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of entries")]
    Ok(entries as f64 / started.elapsed().as_secs_f64())
}

fn record(value: Vec<u8>, offset: i64) -> InRecord {
    InRecord {
        cluster: Arc::from("bench"),
        topic: Topic::parse("wal.ingress").expect("a legal name"),
        partition: 0,
        offset,
        time: wal_model::Timestamp::from_millis(1_733_047_200_000),
        key: Some(bytes::Bytes::from(format!("k{}", offset % 100))),
        value: Some(bytes::Bytes::from(value)),
        headers: Vec::new(),
    }
}
