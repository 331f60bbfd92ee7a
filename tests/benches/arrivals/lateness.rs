//! Arrivals at the target, how late they are, and the lines that tell.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// Milliseconds since the epoch, by the machine's clock.
#[expect(clippy::disallowed_methods, reason = "a measurement from outside looks at the clock itself")]
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64() * 1000.0)
}

/// A record that arrived.
#[derive(Clone)]
pub struct Arrival {
    /// Its name.
    pub name: Vec<u8>,
    /// When it came, in milliseconds since the epoch.
    pub at: f64,
}

/// Says what a record is called.
pub type Named = for<'a> fn(&'a BorrowedMessage<'_>) -> &'a [u8];

/// An ordinary consumer of a target that notes what arrives.
pub struct Arrivals {
    thread: JoinHandle<Vec<Arrival>>,
    is_over: Arc<AtomicBool>,
}

impl Arrivals {
    /// Reads a topic from its start until so many have come, or it is told to stop. `name` says what a record is called.
    pub fn of(bootstrap: &str, topic: &str, wanted: usize, name: Named) -> Result<Arrivals> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("group.id", "wal-bench").set("enable.auto.commit", "false");
        config.set("isolation.level", "read_committed").set("fetch.wait.max.ms", "50");
        // Nothing here says how late a record is but the log and Kafka.
        config.set("fetch.error.backoff.ms", "5").set("queued.min.messages", "100000");
        let consumer: BaseConsumer = config.create()?;
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10))?;
        let partitions = metadata.topics().first().context("no such topic")?.partitions().len();
        let mut list = TopicPartitionList::new();
        for partition in 0..i32::try_from(partitions)? {
            list.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let mut arrivals = Vec::with_capacity(wanted);
            while arrivals.len() < wanted && !told.load(Ordering::SeqCst) {
                if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
                    arrivals.push(Arrival { name: name(&message).to_vec(), at: now() });
                }
            }
            arrivals
        });
        Ok(Arrivals { thread, is_over })
    }

    /// What has arrived once all have, or time is up.
    pub fn wait(self, limit: Duration) -> Vec<Arrival> {
        let until = Instant::now() + limit;
        while !self.thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.is_over.store(true, Ordering::SeqCst);
        self.thread.join().unwrap_or_default()
    }
}

/// When records are due, by name.
pub type Due = HashMap<Vec<u8>, f64>;

/// How late records came, against when each was due.
pub struct Lateness {
    late: Vec<f64>,
    /// Came before they were due.
    pub early: usize,
    /// Came more than once.
    pub twice: usize,
    /// Did not come.
    pub lost: usize,
}

impl Lateness {
    /// Compares arrivals with what was due.
    pub fn of(arrivals: &[Arrival], due: &Due) -> Lateness {
        let mut first: HashMap<&[u8], f64> = HashMap::with_capacity(due.len());
        let mut twice = 0;
        for Arrival { name, at } in arrivals.iter().filter(|arrival| due.contains_key(&arrival.name)) {
            match first.entry(name) {
                std::collections::hash_map::Entry::Occupied(_) => twice += 1,
                std::collections::hash_map::Entry::Vacant(place) => drop(place.insert(*at)),
            }
        }
        let mut late: Vec<f64> = first.iter().map(|(name, at)| at - due[*name]).collect();
        late.sort_by(f64::total_cmp);
        // Due times are whole milliseconds, clocks are finer.
        let early = late.iter().filter(|late| **late < 0.0).count();
        Lateness { early, twice, lost: due.len() - late.len(), late }
    }

    /// The lateness that this share of all do not exceed, in milliseconds.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a rank")]
    pub fn at(&self, share: f64) -> f64 {
        let rank = ((self.late.len() as f64 * share).ceil() as usize).clamp(1, self.late.len().max(1));
        self.late.get(rank - 1).copied().unwrap_or(f64::NAN)
    }

    /// One line: what was run and how late it was.
    pub fn tell(&self, what: &str) {
        let Lateness { early, twice, lost, .. } = self;
        println!(
            "{what:50} p50 {:7.1}  p99 {:7.1}  p99.9 {:7.1}  max {:7.1} ms   early {early}  twice {twice}  lost {lost}",
            self.at(0.5),
            self.at(0.99),
            self.at(0.999),
            self.at(1.0)
        );
    }
}
