//! What a benchmark asks of a store, and how long the store takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use wal_model::ack::Ack;
use wal_model::entry::Answers;
use wal_model::id::Identity;
use wal_model::status::{Event, Outcome, State};
use wal_model::{
    Clock as _, ContentHash, Coordinates, Entry, EntryKey, Id, Lifecycle, LogId, Namespace, SystemClock, Timestamp,
    Topic,
};
use wal_store::{Applied, EntryStore, Error, Inserted};

use crate::problem::{Exit, Problem};

/// What the payload of each document takes.
const PAYLOAD_BYTES: usize = 1024;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A read of a key that is not there.
    RoundTrip,
    /// Entries that are not there yet.
    Insert,
    /// One new event each for entries that are there.
    Fold,
}

impl What {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            What::RoundTrip => "round trip",
            What::Insert => "insert",
            What::Fold => "fold",
        }
    }
}

/// What came of one measurement.
#[derive(Debug)]
pub struct Measured {
    pub what: What,
    pub at_once: u32,
    pub per_batch: u32,
    pub batches: usize,
    pub took: Duration,
    pub p50: Duration,
    pub p99: Duration,
}

impl Measured {
    pub fn documents(&self) -> u64 {
        self.batches as u64 * u64::from(self.per_batch)
    }

    pub fn documents_per_second(&self) -> f64 {
        self.documents() as f64 / self.took.as_secs_f64()
    }
}

/// A load that goes on from measurement to measurement: entries have numbers, and none comes twice.
pub struct Load {
    work: Arc<Work>,
    per_batch: u32,
    time: Duration,
}

struct Work {
    store: Arc<dyn EntryStore>,
    /// What tells this run's entries from those of another.
    run: String,
    started: Timestamp,
    names: Names,
    inserted: AtomicU64,
    folded: AtomicU64,
}

struct Names {
    namespace: Namespace,
    target: Topic,
    ingress: Topic,
}

impl Load {
    /// A load of batches of this size, for so long each.
    pub fn new(store: Arc<dyn EntryStore>, per_batch: u32, time: Duration) -> Load {
        let started = SystemClock.now();
        let topic = |text| Topic::parse(text).expect("a topic's name of our own");
        let names = Names {
            namespace: Namespace::parse("bench").expect("a namespace of our own"),
            target: topic("bench"),
            ingress: topic("wal.ingress"),
        };
        let run = format!("{}-{}", started.as_millis(), std::process::id());
        let work = Work { store, run, started, names, inserted: AtomicU64::new(0), folded: AtomicU64::new(0) };
        Load { work: Arc::new(work), per_batch, time }
    }

    /// Keeps so many batches under way for as long as a measurement takes.
    pub async fn measure(&self, what: What, at_once: u32) -> Result<Measured, Problem> {
        let per_batch = if what == What::RoundTrip { 1 } else { self.per_batch };
        let started = Instant::now();
        let mut workers = JoinSet::new();
        for _ in 0..at_once {
            let (work, until) = (Arc::clone(&self.work), started + self.time);
            workers.spawn(async move { work.until(until, what, per_batch.into()).await });
        }
        let mut times = Vec::new();
        while let Some(ended) = workers.join_next().await {
            let ended = ended.map_err(|error| Problem::of(Exit::Failed, "WAL_FAILED", &error))?;
            times.extend(ended?);
        }
        let took = started.elapsed();
        times.sort_unstable();
        let (p50, p99) = (percentile(&times, 50), percentile(&times, 99));
        Ok(Measured { what, at_once, per_batch, batches: times.len(), took, p50, p99 })
    }
}

impl Work {
    /// One batch after the other; tells how long each took. Only the store's time is counted, and at least one batch is done.
    async fn until(&self, end: Instant, what: What, per_batch: u64) -> Result<Vec<Duration>, Problem> {
        let mut times = Vec::new();
        while times.is_empty() || Instant::now() < end {
            let took = match what {
                What::RoundTrip => self.round_trip().await,
                What::Insert => self.insert(per_batch).await,
                What::Fold => self.fold(per_batch).await,
            };
            times.push(took?);
        }
        Ok(times)
    }

    async fn round_trip(&self) -> Result<Duration, Problem> {
        let absent = EntryKey::of(None, &self.names.namespace, &self.identity("absent"), 0);
        let before = Instant::now();
        let found = self.store.get(&[absent]).await.map_err(unanswered)?;
        let took = before.elapsed();
        match found[..] {
            [None] => Ok(took),
            _ => Err(wrong("there is an entry that nobody has written")),
        }
    }

    async fn insert(&self, count: u64) -> Result<Duration, Problem> {
        let first = self.inserted.fetch_add(count, Ordering::Relaxed);
        let entries: Vec<Entry> = (first..first + count).map(|number| self.entry(number)).collect();
        let before = Instant::now();
        let answers = self.store.insert(&entries).await.map_err(unanswered)?;
        let took = before.elapsed();
        match answers.iter().find(|answer| **answer != Inserted::Stored) {
            None => Ok(took),
            Some(Inserted::Refused(refusal)) => Err(wrong(&format!("an entry was refused: {refusal:?}"))),
            Some(_) => Err(wrong("an entry was there already")),
        }
    }

    async fn fold(&self, count: u64) -> Result<Duration, Problem> {
        let first = self.folded.fetch_add(count, Ordering::Relaxed);
        let events: Vec<Ack> = (first..first + count).map(|number| self.event(number)).collect();
        let before = Instant::now();
        let answers = self.store.apply(&events).await.map_err(unanswered)?;
        let took = before.elapsed();
        match answers.iter().all(|answer| matches!(answer, Applied::State(_))) {
            true => Ok(took),
            false => Err(wrong("an entry that was inserted is not there")),
        }
    }

    fn identity(&self, name: &str) -> Identity {
        Identity::IdempotencyKey(Id::parse(&format!("{}-{name}", self.run)).expect("a short text"))
    }

    fn log_id(&self, number: u64) -> LogId {
        let namespace = self.names.namespace.clone();
        let key = EntryKey::of(None, &namespace, &self.identity(&number.to_string()), 0);
        // As under a load of ten in a millisecond.
        LogId::new(namespace, self.started.saturating_add(Duration::from_millis(number / 10)), key)
    }

    fn entry(&self, number: u64) -> Entry {
        let log_id = self.log_id(number);
        let (key, written_at) = (log_id.key(), log_id.timestamp());
        let payload = payload(number);
        let lifecycle = Lifecycle::default();
        Entry {
            log_id,
            target: self.names.target.clone(),
            lifecycle,
            answers: Answers::Expected,
            tenant: None,
            user: None,
            operation: None,
            correlation_id: None,
            request_id: None,
            idempotency_key: None,
            deliver_at: None,
            ordering_key: None,
            content_type: None,
            request_hash: ContentHash::of(payload.as_bytes()),
            payload: payload.into(),
            headers: Vec::new(),
            batch: None,
            origin: Coordinates {
                cluster: Arc::from("bench"),
                topic: self.names.ingress.clone(),
                partition: 0,
                offset: i64::try_from(number).unwrap_or(i64::MAX),
                time: written_at,
            },
            state: State::first(key.derive("first"), written_at, lifecycle.ttl.duration()),
        }
    }

    /// Goes around the entries that were inserted; each time around it is the next attempt that failed, so that each event changes
    /// something.
    fn event(&self, number: u64) -> Ack {
        let inserted = self.inserted.load(Ordering::Relaxed).max(1);
        let log_id = self.log_id(number % inserted);
        let attempt = u32::try_from(number / inserted).unwrap_or(u32::MAX - 1) + 1;
        let (key, written_at) = (log_id.key(), log_id.timestamp());
        let at = written_at.saturating_add(Duration::from_secs(attempt.into()));
        let event = Event {
            id: key.derive(&format!("attempt {attempt}")),
            round: 1,
            round_first: 1,
            deadline: written_at.saturating_add(Lifecycle::default().ttl.duration()),
            attempt,
            at,
            delivered_at: Some(at),
            outcome: Outcome::Retrying { next_attempt_at: at.saturating_add(Duration::from_secs(60)) },
            failure: None,
        };
        Ack { log_id, tenant: None, event }
    }
}

fn unanswered(error: Error) -> Problem {
    Problem::of(Exit::Failed, "WAL_STORE_UNAVAILABLE", &error).hint("less at once: --concurrency, --batch")
}

fn wrong(what: &str) -> Problem {
    Problem::new(Exit::Failed, "WAL_STORE_WRONG", format!("measure the store: {what}"))
}

/// JSON of exactly as many bytes as a payload is to have, which does not compress to nothing.
fn payload(number: u64) -> String {
    let mut text = format!(r#"{{"n":{number},"filler":""#);
    let mut seed = number;
    while text.len() < PAYLOAD_BYTES {
        // Splitmix64.
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        text.push_str(&format!("{:016x}", mixed ^ (mixed >> 31)));
    }
    text.truncate(PAYLOAD_BYTES - 2);
    text.push_str(r#""}"#);
    text
}

/// The time that so many of a hundred did not take longer than.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use wal_store::document::{ReadableCopy, encode};
    use wal_store::embedded::Embedded;

    use super::*;

    #[test]
    fn a_payload_is_json_of_its_size() {
        for number in [0, 7, u64::MAX] {
            let payload = payload(number);
            assert_eq!(payload.len(), PAYLOAD_BYTES);
            let json: serde_json::Value = serde_json::from_str(&payload).unwrap();
            assert_eq!(json["n"], number);
        }
    }

    #[tokio::test]
    async fn a_document_takes_what_the_readme_says() {
        let folder = tempfile::tempdir().unwrap();
        let store = Embedded::open(folder.path()).unwrap();
        let load = Load::new(Arc::new(store), 1, Duration::ZERO);
        let mut entry = load.work.entry(1234);
        entry.state.join(&load.work.event(1234).event);
        let sizes = [ReadableCopy::Written, ReadableCopy::Omitted].map(|copy| encode(&entry, copy).len());
        assert_eq!(sizes.map(|size| size.div_ceil(100) * 100), [3300, 2300], "{sizes:?}");
    }

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!((percentile(&times, 50), percentile(&times, 99)), (times[99], times[197]));
        assert_eq!(percentile(&times[..1], 99), times[0]);
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }
}
