//! What a process says when it is asked how it is doing: one document, at `/status` beside its probes.
//!
//! ```text
//!   health ── ready or not, and why ─────────────────┐
//!   metrics ─ where the loops stand, what is behind ─┼─▶ Overview ──▶ GET /status ──▶ `wal status`
//!   logs ──── the last warnings and errors ──────────┤
//!   store ─── the oldest unanswered, where asked ────┘
//! ```
//!
//! It tells names, numbers and lines of the log, and so neither payloads nor secrets.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use wal_model::{Clock as _, LogId, Namespace, SystemClock, Timestamp, Topic};

use crate::health::{self, Health, Probe};
use crate::logs::{self, Noted};
use crate::metrics::{BatchEnd, Metrics, Partition, Service, ServiceBatch};

/// What the condition of a store is called.
pub const STORE: &str = "store";
/// How long the store may take to tell what is unanswered: whoever asks wants the rest of the document, too.
const STORE_LIMIT: Duration = Duration::from_secs(2);

/// How a process is doing. Sent, keep stable: fields may come, and none may go or change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overview {
    /// What runs in it, such as `wal-writer`.
    pub service: String,
    /// What tells it from its siblings: `kafka.instance`, or a name that was made up at its start.
    pub instance: String,
    /// Its version.
    pub version: String,
    /// When this was said, by its clock.
    pub at: Timestamp,
    /// When it started, by its clock.
    pub up_since: Timestamp,
    /// How long ago that was.
    pub uptime_seconds: u64,
    /// Whether it answers `/readyz` with yes.
    #[serde(rename = "ready")]
    pub is_ready: bool,
    /// Whether it answers `/livez` with yes.
    #[serde(rename = "live")]
    pub is_live: bool,
    /// What was looked at for these two.
    pub checks: Vec<Check>,
    /// Whether its store answers; `None` if it has none, or cannot say.
    pub store: Option<Store>,
    /// Its consumer groups, by name.
    pub groups: Vec<Group>,
    /// What waits for a release, in a scheduler.
    pub retries: Option<Retries>,
    /// What waits for an answer, where the store was asked for it.
    pub unanswered: Option<Unanswered>,
    /// The last warnings and errors that it wrote, the newest first.
    pub last_errors: Vec<Noted>,
}

/// One thing that was looked at. Sent, keep stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// Whether it is well.
    #[serde(rename = "ok")]
    pub is_ok: bool,
    /// What was seen.
    pub detail: String,
}

/// What is known of a store. Sent, keep stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// Whether it answered the last time.
    #[serde(rename = "answers")]
    pub is_answering: bool,
    /// What was seen.
    pub detail: String,
}

/// A consumer group, as far as one member holds it. Totals count from the start of the process. Sent, keep stable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub group: String,
    /// The topics of which it holds partitions.
    pub topics: Vec<String>,
    /// How many partitions it holds.
    pub partitions: usize,
    /// Of how many of them is known where they end: the next two are about these.
    pub partitions_measured: usize,
    /// Offsets between what is committed and the end; `None` if nothing is known yet.
    pub lag_records: Option<i64>,
    /// For how long at least the oldest record that is not committed has been there; 0 if there is none.
    pub lag_seconds: Option<f64>,
    /// Batches that were published and committed.
    pub batches_committed: u64,
    /// Records that were read and committed.
    pub records_committed: u64,
    /// Records that were published with them.
    pub records_published: u64,
    /// Batches that were given up, to be read again from the committed offsets.
    pub rewinds: u64,
    /// Transactions that the broker refused because it knows a newer producer of the same name.
    pub fences: u64,
}

/// What a scheduler has to release. Sent, keep stable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retries {
    /// Parked attempts that are due and not published yet.
    pub due: i64,
    /// How long the most overdue of them has been due.
    pub oldest_due_seconds: f64,
}

/// What waits for an answer. Sent, keep stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unanswered {
    /// Nothing does, of what was looked at.
    Nothing,
    /// This does for longest, of what was looked at.
    Oldest(Attempt),
    /// Nobody could say, and why.
    Unknown(String),
}

/// An attempt that was due and has no answer yet. Sent, keep stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its entry.
    pub log_id: LogId,
    /// The entry's namespace.
    pub namespace: Namespace,
    /// Where it was to be delivered.
    pub target: Topic,
    /// Its number.
    pub attempt: u32,
    /// When it was to be delivered.
    pub due: Timestamp,
    /// How long ago that was.
    pub unanswered_seconds: u64,
}

/// Asks the store what waits for an answer.
type Ask = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Unanswered> + Send>> + Send + Sync>;

/// Tells how a process is doing. Cloning gives another handle on the same.
#[derive(Clone)]
pub struct Teller {
    inner: Arc<Inner>,
}

struct Inner {
    service: String,
    instance: String,
    up_since: Timestamp,
    started: Instant,
    health: Health,
    metrics: Metrics,
    ask: OnceLock<Ask>,
    /// One question at a time: many who look at the screen must not become a load.
    turn: Semaphore,
}

impl Teller {
    /// One for a process that starts now.
    pub fn new(service: &str, instance: &str, health: Health, metrics: Metrics) -> Teller {
        let inner = Inner {
            service: service.to_owned(),
            instance: instance.to_owned(),
            up_since: SystemClock.now(),
            started: Instant::now(),
            health,
            metrics,
            ask: OnceLock::new(),
            turn: Semaphore::new(1),
        };
        Teller { inner: Arc::new(inner) }
    }

    /// From now on the store is asked, with a limit, for what waits for an answer. The first such question is kept.
    pub fn asks<F>(&self, ask: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Unanswered> + Send + 'static,
    {
        self.inner.ask.get_or_init(|| Box::new(move || Box::pin(ask())));
    }

    /// How the process is doing now.
    pub async fn overview(&self) -> Overview {
        let unanswered = self.unanswered().await;
        let Inner { service, instance, up_since, started, health, metrics, .. } = &*self.inner;
        let (ready, live) = (health.report(Probe::Ready), health.report(Probe::Live));
        let is_well = |report: &health::Report| report.status == health::Status::Ok;
        let (is_ready, is_live) = (is_well(&ready), is_well(&live));
        let mut checks: Vec<Check> = Vec::new();
        for check in ready.checks.into_iter().chain(live.checks).map(Check::from) {
            // What is fatal is told by both.
            if !checks.contains(&check) {
                checks.push(check);
            }
        }
        Overview {
            service: service.clone(),
            instance: instance.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at: SystemClock.now(),
            up_since: *up_since,
            uptime_seconds: started.elapsed().as_secs(),
            is_ready,
            is_live,
            store: store(&checks, unanswered.as_ref()),
            checks,
            groups: groups(metrics),
            retries: metrics.waiting(),
            unanswered,
            last_errors: logs::recent(),
        }
    }

    pub(crate) fn health(&self) -> &Health {
        &self.inner.health
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    async fn unanswered(&self) -> Option<Unanswered> {
        let ask = self.inner.ask.get()?;
        let in_turn = async {
            let _turn = self.inner.turn.acquire().await;
            ask().await
        };
        let answer = tokio::time::timeout(STORE_LIMIT, in_turn).await;
        Some(answer.unwrap_or_else(|_| Unanswered::Unknown(format!("the store did not say within {STORE_LIMIT:?}"))))
    }
}

impl fmt::Debug for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Teller").field("service", &self.inner.service).finish_non_exhaustive()
    }
}

impl From<health::Check> for Check {
    fn from(check: health::Check) -> Check {
        Check { name: check.name.to_owned(), is_ok: check.is_ok, detail: check.detail }
    }
}

/// What the question just asked of it says of a store; else the condition that stands for it.
fn store(checks: &[Check], unanswered: Option<&Unanswered>) -> Option<Store> {
    match unanswered {
        Some(Unanswered::Unknown(why)) => return Some(Store { is_answering: false, detail: why.clone() }),
        Some(Unanswered::Nothing | Unanswered::Oldest(_)) | None => {}
    }
    let check = checks.iter().find(|check| check.name == STORE)?;
    Some(Store { is_answering: check.is_ok, detail: check.detail.clone() })
}

fn groups(metrics: &Metrics) -> Vec<Group> {
    let batches = metrics.batches();
    let loops = metrics.loops().into_iter().map(|(group, own)| {
        let mut topics: Vec<String> = own.standing.iter().map(|held| held.topic.to_string()).collect();
        topics.sort_unstable();
        topics.dedup();
        let name: Arc<str> = group.as_str().into();
        let labels = own.standing.iter().map(|held| Partition {
            group: Arc::clone(&name),
            topic: held.topic.as_str().into(),
            partition: held.partition,
        });
        let lags: Vec<(i64, f64)> = labels.filter_map(|labels| metrics.lag(&labels)).collect();
        let is_known = own.standing.is_empty() || !lags.is_empty();
        let service = Service::new(own.service);
        Group {
            group,
            topics,
            partitions: own.standing.len(),
            partitions_measured: lags.len(),
            lag_records: is_known.then(|| lags.iter().map(|(records, _)| records).sum()),
            lag_seconds: is_known.then(|| lags.iter().map(|(_, seconds)| *seconds).fold(0.0, f64::max)),
            batches_committed: batches.batches.of(&ServiceBatch::new(own.service, BatchEnd::Committed)).get(),
            records_committed: batches.records.of(&service).get(),
            records_published: batches.published.of(&service).get(),
            rewinds: batches.rewinds.of(&service).get(),
            fences: batches.fences.of(&service).get(),
        }
    });
    let mut groups: Vec<Group> = loops.collect();
    groups.sort_by(|a, b| a.group.cmp(&b.group));
    groups
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::batch_loop::{Observer as _, Standing};
    use crate::metrics::Counting;

    fn standing(partitions: i32) -> Vec<Standing> {
        let topic = Topic::parse("wal.ingress").unwrap();
        (0..partitions).map(|partition| Standing { topic: topic.clone(), partition, committed: 7 }).collect()
    }

    fn teller(health: &Health, metrics: &Metrics) -> Teller {
        Teller::new("wal-writer", "0", health.clone(), metrics.clone())
    }

    #[tokio::test]
    async fn a_process_tells_what_it_lacks() {
        let health = Health::new();
        let (assigned, store) = (health.condition("assigned"), health.condition(STORE));
        let teller = teller(&health, &Metrics::new());
        assigned.met();
        store.unmet("the store does not answer");

        let overview = teller.overview().await;

        assert_eq!((overview.service.as_str(), overview.instance.as_str()), ("wal-writer", "0"));
        assert!(!overview.is_ready && overview.is_live);
        let lacking: Vec<&str> =
            overview.checks.iter().filter(|check| !check.is_ok).map(|check| check.name.as_str()).collect();
        assert_eq!(lacking, [STORE]);
        let told = overview.store.unwrap();
        assert_eq!((told.is_answering, told.detail.as_str()), (false, "the store does not answer"));
        assert_eq!((overview.groups, overview.retries, overview.unanswered), (Vec::new(), None, None));

        store.met();
        let overview = teller.overview().await;
        assert!(overview.is_ready && overview.store.unwrap().is_answering);
        health.fail("fenced");
        let fatal = teller.overview().await;
        assert!(!fatal.is_ready && !fatal.is_live);
        assert_eq!(fatal.checks.iter().filter(|check| check.name == "fatal").count(), 1, "{:?}", fatal.checks);
    }

    #[tokio::test]
    async fn a_lag_is_told_of_the_partitions_whose_end_is_known() {
        let (health, metrics) = (Health::new(), Metrics::new());
        let counting = Counting::new(&metrics, "wal-writer", Arc::new(()));
        let teller = teller(&health, &metrics);
        counting.stands("wal.writer", &standing(3));
        counting.committed(5, 9);
        counting.rewound("why");
        let unknown = teller.overview().await.groups.remove(0);
        assert_eq!((unknown.partitions, unknown.lag_records, unknown.lag_seconds), (3, None, None));
        assert_eq!((unknown.records_committed, unknown.records_published, unknown.rewinds), (5, 9, 1));

        for (partition, records, seconds) in [(0, 2, 1.5), (2, 4, 0.5)] {
            let labels = Partition { group: "wal.writer".into(), topic: "wal.ingress".into(), partition };
            metrics.lags().records.of(&labels).set(records);
            metrics.lags().seconds.of(&labels).set(seconds);
        }
        let known = teller.overview().await.groups.remove(0);
        assert_eq!((known.partitions, known.partitions_measured), (3, 2));
        assert_eq!((known.lag_records, known.lag_seconds), (Some(6), Some(1.5)));
        assert_eq!(known.topics, ["wal.ingress"]);

        counting.stands("wal.writer", &[]);
        let idle = teller.overview().await.groups.remove(0);
        assert_eq!((idle.partitions, idle.lag_records, idle.lag_seconds), (0, Some(0), Some(0.0)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_is_told_as_one_that_does_not_answer() {
        let teller = teller(&Health::new(), &Metrics::new());
        teller.asks(std::future::pending);
        let overview = teller.overview().await;
        let why = "the store did not say within 2s".to_owned();
        assert_eq!(overview.unanswered, Some(Unanswered::Unknown(why.clone())));
        assert_eq!(overview.store, Some(Store { is_answering: false, detail: why }));
    }

    #[tokio::test]
    async fn what_is_sent_is_read_back() {
        let (health, metrics) = (Health::new(), Metrics::new());
        metrics.retries().due.set(3);
        let teller = teller(&health, &metrics);
        teller.asks(async || Unanswered::Nothing);
        let overview = teller.overview().await;
        let sent = serde_json::to_value(&overview).unwrap();
        assert_eq!(serde_json::from_value::<Overview>(sent.clone()).unwrap(), overview);
        assert_eq!(sent["retries"], json!({"due": 3, "oldest_due_seconds": 0.0}));
        assert_eq!((&sent["unanswered"], &sent["ready"]), (&json!("nothing"), &Value::Bool(false)));
    }
}
