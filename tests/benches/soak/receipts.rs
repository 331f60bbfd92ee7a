//! Receipts as an ordinary reader of committed records sees them: how late each is, and which came twice or never.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use crate::histogram::Histogram;

/// When requests are due: number n at n/rate after the start.
#[derive(Clone, Copy)]
pub struct Due {
    pub started: Instant,
    pub rate: f64,
}

impl Due {
    /// How long after its time a request's receipt is here now, in milliseconds.
    fn late(&self, number: u64) -> f64 {
        (self.started.elapsed().as_secs_f64() - number as f64 / self.rate) * 1000.0
    }
}

/// A reader of receipts.
pub struct Receipts {
    shared: Arc<Shared>,
    thread: JoinHandle<Vec<u64>>,
}

struct Shared {
    is_over: AtomicBool,
    /// Requests that have a receipt.
    answered: AtomicU64,
    /// Receipts beyond the first of a request.
    twice: AtomicU64,
    /// Receipts that say that nothing was stored, and records that are no receipts.
    refused: AtomicU64,
    /// Since the last look.
    latency: Mutex<Histogram>,
}

/// What became of all requests.
pub struct Outcome {
    /// Sent and acknowledged by the broker.
    pub sent: u64,
    /// Without a receipt.
    pub lost: u64,
    /// Receipts beyond the first of a request.
    pub twice: u64,
    /// Receipts that say that nothing was stored.
    pub refused: u64,
}

impl Receipts {
    /// Reads a topic from its start until it is told to stop.
    pub fn of(bootstrap: &str, topic: &str, partitions: usize, due: Due) -> Result<Receipts> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("group.id", "wal-bench").set("enable.auto.commit", "false");
        config.set("isolation.level", "read_committed").set("fetch.wait.max.ms", "50");
        config.set("fetch.error.backoff.ms", "5").set("queued.min.messages", "100000");
        // Receipts that retention took before they were read would count as lost, and are: this says why.
        config.set("auto.offset.reset", "error");
        let consumer: BaseConsumer = config.create()?;
        let mut list = TopicPartitionList::new();
        for partition in 0..i32::try_from(partitions)? {
            list.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        let shared = Arc::new(Shared {
            is_over: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            twice: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            latency: Mutex::default(),
        });
        let own = Arc::clone(&shared);
        let thread = std::thread::spawn(move || read(&consumer, &own, due));
        Ok(Receipts { shared, thread })
    }

    /// Requests that have a receipt.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::SeqCst)
    }

    /// How late those were that came since the last look.
    pub fn latency(&self) -> Histogram {
        std::mem::take(&mut *self.shared.latency.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Stops, and says what became of the first so many requests.
    pub fn finish(self, sent: u64) -> Result<Outcome> {
        self.shared.is_over.store(true, Ordering::SeqCst);
        let seen = self.thread.join().map_err(|_| anyhow!("the reader of receipts panicked"))?;
        let lost = (0..sent).filter(|number| !is_set(&seen, *number)).count() as u64;
        let of = |count: &AtomicU64| count.load(Ordering::SeqCst);
        Ok(Outcome { sent, lost, twice: of(&self.shared.twice), refused: of(&self.shared.refused) })
    }
}

/// Reads; gives back a bit for each request that has a receipt.
fn read(consumer: &BaseConsumer, shared: &Shared, due: Due) -> Vec<u64> {
    let mut seen: Vec<u64> = Vec::new();
    while !shared.is_over.load(Ordering::SeqCst) {
        let message = match consumer.poll(Duration::from_millis(50)) {
            None => continue,
            Some(Ok(message)) => message,
            Some(Err(error)) => {
                eprintln!("the reader of receipts was told: {error}");
                continue;
            }
        };
        let number = number(message.key().unwrap_or_default());
        let is_stored = message.payload().is_some_and(|payload| payload.starts_with(br#"{"success":true"#));
        let (Ok(number), true) = (number, is_stored) else {
            shared.refused.fetch_add(1, Ordering::SeqCst);
            continue;
        };
        if is_set(&seen, number) {
            shared.twice.fetch_add(1, Ordering::SeqCst);
            continue;
        }
        set(&mut seen, number);
        shared.latency.lock().unwrap_or_else(PoisonError::into_inner).add(due.late(number));
        shared.answered.fetch_add(1, Ordering::SeqCst);
    }
    seen
}

/// The number of a request id: `r-0`.
fn number(key: &[u8]) -> Result<u64> {
    let key = std::str::from_utf8(key)?;
    Ok(key.strip_prefix("r-").context("not one of our requests")?.parse()?)
}

fn is_set(bits: &[u64], number: u64) -> bool {
    let word = usize::try_from(number / 64).ok().and_then(|word| bits.get(word));
    word.is_some_and(|word| word & (1 << (number % 64)) != 0)
}

fn set(bits: &mut Vec<u64>, number: u64) {
    let word = usize::try_from(number / 64).expect("as many bits as there is memory");
    if bits.len() <= word {
        bits.resize(word + 1, 0);
    }
    bits[word] |= 1 << (number % 64);
}
