//! A gateway on a port of its own, entries to put into its store, stores that fail, and brokers that keep what they are given.
#![expect(dead_code, reason = "each test binary uses its part")]

#[path = "../../src/test_client.rs"]
mod test_client;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::http::{Method, Request};
use bytes::Bytes;
use http_body_util::Full;
use serde_json::Value;
use test_client::{Answer, Client};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use uuid::Uuid;
use wal_gateway::{Brokers, Gateway, Means};
use wal_model::ack::Ack;
use wal_model::clock::ManualClock;
use wal_model::entry::Answers;
use wal_model::id::Identity;
use wal_model::seal::Keyring;
use wal_model::status::State;
use wal_model::topics::Topics;
use wal_model::{
    ContentHash, Coordinates, Entry, EntryKey, Id, InRecord, Lifecycle, LogId, Namespace, OutRecord, Tenant, Timestamp,
    Topic,
};
use wal_runtime::brokers::{Found, Shapes};
use wal_runtime::transactions;
use wal_store::{After, Applied, EntryStore, Error, Finished, Inserted, Page, Query, Range, StoreId};

/// 2024-12-01T10:00:00Z and some seconds.
pub fn at(second: u64) -> Timestamp {
    Timestamp::from_millis(1_733_047_200_000).unwrap().saturating_add(Duration::from_secs(second))
}

/// Makes entries of one namespace. Entries have a time in common by fours, so that their keys decide the order, too.
pub struct Entries {
    namespace: Namespace,
    tenant: Option<Tenant>,
    next: AtomicI64,
}

impl Entries {
    pub fn new(namespace: &str) -> Entries {
        Entries { namespace: Namespace::parse(namespace).unwrap(), tenant: None, next: AtomicI64::new(0) }
    }

    pub fn tenant(self, tenant: &str) -> Entries {
        Entries { tenant: Some(Tenant::parse(tenant).unwrap()), ..self }
    }

    pub fn make(&self, change: impl FnOnce(&mut Entry)) -> Entry {
        let origin = self.origin();
        let tenant = self.tenant.as_ref();
        let key = EntryKey::of(tenant, &self.namespace, &Identity::Record(origin.clone()), 0);
        self.entry(key, origin, change)
    }

    pub fn identified(&self, idempotency_key: &str, index: u32, change: impl FnOnce(&mut Entry)) -> Entry {
        let identity = Identity::IdempotencyKey(Id::parse(idempotency_key).unwrap());
        let key = EntryKey::of(self.tenant.as_ref(), &self.namespace, &identity, index);
        self.entry(key, self.origin(), change)
    }

    fn origin(&self) -> Coordinates {
        let offset = self.next.fetch_add(1, Ordering::Relaxed);
        let (cluster, topic) = (Arc::from("cluster"), Topic::parse("wal.ingress").unwrap());
        Coordinates { cluster, topic, partition: 3, offset, time: at(offset.unsigned_abs() / 4) }
    }

    fn entry(&self, key: EntryKey, origin: Coordinates, change: impl FnOnce(&mut Entry)) -> Entry {
        let lifecycle = Lifecycle::default();
        let mut entry = Entry {
            log_id: LogId::new(self.namespace.clone(), origin.time, key),
            target: Topic::parse("target").unwrap(),
            lifecycle,
            answers: Answers::Expected,
            tenant: self.tenant.clone(),
            user: None,
            operation: None,
            correlation_id: None,
            request_id: None,
            idempotency_key: None,
            deliver_at: None,
            ordering_key: None,
            content_type: Some("application/json".into()),
            payload: Bytes::from_static(b"{}"),
            headers: Vec::new(),
            request_hash: ContentHash::of(b""),
            batch: None,
            state: State::first(key.derive("pending"), origin.time, lifecycle.ttl.duration()),
            origin,
        };
        change(&mut entry);
        entry
    }
}

/// Entries in memory, in order.
pub struct MemoryStore {
    entries: Vec<Entry>,
    hold: Option<Arc<Hold>>,
}

/// Holds back what a store has to say.
#[derive(Default)]
pub struct Hold {
    /// A question has come in.
    pub asked: Notify,
    /// It may be answered.
    pub go_on: Notify,
}

impl MemoryStore {
    pub fn of(entries: impl IntoIterator<Item = Entry>) -> MemoryStore {
        let mut entries: Vec<Entry> = entries.into_iter().collect();
        entries.sort_by_key(|entry| (entry.timestamp(), entry.key()));
        MemoryStore { entries, hold: None }
    }

    /// Answers each `get` only when it is told to.
    pub fn held(self, hold: &Arc<Hold>) -> MemoryStore {
        MemoryStore { hold: Some(Arc::clone(hold)), ..self }
    }
}

#[async_trait]
impl EntryStore for MemoryStore {
    fn id(&self) -> StoreId {
        StoreId(Uuid::nil())
    }

    async fn insert(&self, _: &[Entry]) -> Result<Vec<Inserted>, Error> {
        panic!("the gateway only reads")
    }

    async fn get(&self, keys: &[EntryKey]) -> Result<Vec<Option<Entry>>, Error> {
        if let Some(hold) = &self.hold {
            hold.asked.notify_one();
            hold.go_on.notified().await;
        }
        let find = |key: &EntryKey| self.entries.iter().find(|entry| entry.key() == *key).cloned();
        Ok(keys.iter().map(find).collect())
    }

    async fn scan(&self, query: &Query, after: Option<After>, limit: usize) -> Result<Page, Error> {
        let in_range = |range: &Range, entry: &Entry| (range.from..range.to).contains(&entry.timestamp());
        let matches = |entry: &&Entry| match query {
            Query::Namespace { namespace, range } => entry.namespace() == namespace && in_range(range, entry),
            Query::Tenant { tenant, namespace, range } => {
                entry.tenant.as_ref() == Some(tenant) && entry.namespace() == namespace && in_range(range, entry)
            }
            Query::Request { tenant, request_id } => {
                entry.tenant == *tenant && entry.request_id.as_ref() == Some(request_id)
            }
            Query::Status { status, range } => entry.state.status() == *status && in_range(range, entry),
            Query::Correlation { .. } => panic!("the gateway does not ask this"),
        };
        let place = |entry: &Entry| After { timestamp: entry.timestamp(), key: entry.key() };
        let rest = self.entries.iter().filter(matches).filter(|entry| after.is_none_or(|after| place(entry) > after));
        let mut entries: Vec<Entry> = rest.take(limit + 1).cloned().collect();
        let is_last = entries.len() <= limit;
        entries.truncate(limit);
        let next = if is_last { None } else { entries.last().map(place) };
        Ok(Page { entries, next })
    }

    async fn apply(&self, _: &[Ack]) -> Result<Vec<Applied>, Error> {
        panic!("the gateway only reads")
    }

    async fn expired(&self, _: Timestamp, _: Option<(Timestamp, EntryKey)>, _: usize) -> Result<Vec<Entry>, Error> {
        panic!("the gateway does not ask this")
    }

    async fn finished(&self, _: Timestamp, _: Option<(Timestamp, EntryKey)>, _: usize) -> Result<Vec<Finished>, Error> {
        panic!("the gateway does not ask this")
    }

    async fn remove(&self, _: &[EntryKey], _: Timestamp) -> Result<usize, Error> {
        panic!("the gateway only reads")
    }
}

/// A store that fails whatever it is asked.
pub struct Faulty(pub fn() -> Error);

#[async_trait]
impl EntryStore for Faulty {
    fn id(&self) -> StoreId {
        StoreId(Uuid::nil())
    }

    async fn insert(&self, _: &[Entry]) -> Result<Vec<Inserted>, Error> {
        Err(self.0())
    }

    async fn get(&self, _: &[EntryKey]) -> Result<Vec<Option<Entry>>, Error> {
        Err(self.0())
    }

    async fn scan(&self, _: &Query, _: Option<After>, _: usize) -> Result<Page, Error> {
        Err(self.0())
    }

    async fn apply(&self, _: &[Ack]) -> Result<Vec<Applied>, Error> {
        Err(self.0())
    }

    async fn expired(&self, _: Timestamp, _: Option<(Timestamp, EntryKey)>, _: usize) -> Result<Vec<Entry>, Error> {
        Err(self.0())
    }

    async fn finished(&self, _: Timestamp, _: Option<(Timestamp, EntryKey)>, _: usize) -> Result<Vec<Finished>, Error> {
        Err(self.0())
    }

    async fn remove(&self, _: &[EntryKey], _: Timestamp) -> Result<usize, Error> {
        Err(self.0())
    }
}

/// A gateway that serves, and a client of it.
pub struct Serving {
    pub address: SocketAddr,
    pub client: Client,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), wal_gateway::Error>>,
}

pub async fn serve(store: impl EntryStore + 'static) -> Serving {
    run(Gateway::bind(SocketAddr::from(([127, 0, 0, 1], 0)), Arc::new(store)).unwrap())
}

/// A gateway that also writes, at this time.
pub async fn serve_writing(
    entries: impl IntoIterator<Item = Entry>,
    brokers: &Arc<Recorder>,
    now: Timestamp,
) -> Serving {
    let means = Means {
        brokers: Arc::clone(brokers) as Arc<dyn Brokers>,
        keyring: keyring(),
        topics: Topics::new("wal.").unwrap(),
        clock: Arc::new(ManualClock::at(now)),
        memory: MEMORY,
    };
    let store = Arc::new(MemoryStore::of(entries));
    run(Gateway::bind(SocketAddr::from(([127, 0, 0, 1], 0)), store).unwrap().writing(means))
}

/// What the scheduler remembers, says the gateway's configuration.
pub const MEMORY: Duration = Duration::from_secs(900);

pub fn keyring() -> Keyring {
    Keyring::new("k", &BTreeMap::from([("k".to_owned(), vec![7; 32])])).unwrap()
}

/// Brokers that keep what is published, and say what they are told to say.
#[derive(Default)]
pub struct Recorder {
    transactions: Mutex<Vec<Vec<OutRecord>>>,
    /// What the next transactions come to; then all of them are well.
    outcomes: Mutex<VecDeque<Result<(), transactions::Error>>>,
    /// Topics that are not there.
    missing: Vec<Topic>,
}

impl Recorder {
    pub fn new() -> Arc<Recorder> {
        Arc::default()
    }

    pub fn without(topic: &str) -> Arc<Recorder> {
        Arc::new(Recorder { missing: vec![Topic::parse(topic).unwrap()], ..Recorder::default() })
    }

    pub fn saying(outcomes: impl IntoIterator<Item = Result<(), transactions::Error>>) -> Arc<Recorder> {
        Arc::new(Recorder { outcomes: Mutex::new(outcomes.into_iter().collect()), ..Recorder::default() })
    }

    /// What was published, transaction by transaction.
    pub fn transactions(&self) -> Vec<Vec<OutRecord>> {
        self.transactions.lock().unwrap().clone()
    }

    /// The records of the only transaction, as whoever reads their topics finds them.
    pub fn only(&self) -> Vec<InRecord> {
        let transactions = self.transactions();
        assert_eq!(transactions.len(), 1, "{transactions:?}");
        transactions.into_iter().flatten().map(read_back).collect()
    }
}

pub fn read_back(record: OutRecord) -> InRecord {
    let OutRecord { topic, key, value, headers, .. } = record;
    InRecord { cluster: Arc::from("c"), topic, partition: 0, offset: 7, time: Some(at(7000)), key, value, headers }
}

#[async_trait]
impl Brokers for Recorder {
    async fn shapes(&self, topics: Vec<Topic>) -> Shapes {
        let found = |topic: &Topic| match self.missing.contains(topic) {
            true => Found::Missing(Duration::ZERO),
            false => Found::Known { partitions: 1, max_message_bytes: 4096 },
        };
        topics.into_iter().map(|topic| (topic.clone(), found(&topic))).collect()
    }

    async fn publish(&self, records: Vec<OutRecord>) -> Result<(), transactions::Error> {
        self.transactions.lock().unwrap().push(records);
        self.outcomes.lock().unwrap().pop_front().unwrap_or(Ok(()))
    }
}

fn run(gateway: Gateway) -> Serving {
    let (stop, stopped) = oneshot::channel();
    let address = gateway.address();
    let running = tokio::spawn(gateway.run(async {
        let _ = stopped.await;
    }));
    let client = Client::new();
    Serving { address, client, stop, running }
}

impl Serving {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.client.ask(Method::GET, self.url(path)).await.unwrap()
    }

    pub async fn text(&self, path: &str) -> String {
        let answer = self.get(path).await;
        let (status, text) = (answer.status, answer.text());
        assert_eq!(status, 200, "{path}: {text}");
        text
    }

    pub async fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(path).await).unwrap()
    }

    pub async fn post(&self, path: &str, body: &str) -> Answer {
        let request = Request::builder().method(Method::POST).uri(self.url(path));
        let request = request.header("content-type", "application/json").body(Full::from(body.to_owned())).unwrap();
        self.client.send(request).await.unwrap()
    }

    /// What was taken.
    pub async fn taken(&self, path: &str, body: &str) -> Value {
        let answer = self.post(path, body).await;
        assert_eq!(answer.status, 202, "{path}: {}", answer.text());
        answer.json()
    }

    /// The code that a request is refused with.
    pub async fn refused(&self, path: &str, body: &str) -> String {
        let problem: Value = self.post(path, body).await.json();
        problem["code"].as_str().unwrap_or_else(|| panic!("{path} is not refused: {problem}")).to_owned()
    }

    /// The problem at this path, checked for what every problem has.
    pub async fn problem(&self, path: &str, status: u16) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        let problem: Value = answer.json();
        for member in ["type", "title", "status", "detail", "code", "retryable"] {
            assert!(!problem[member].is_null(), "{member} is missing: {problem}");
        }
        assert_eq!(problem["status"], status);
        problem
    }

    pub async fn stop(self) {
        self.stop.send(()).unwrap();
        self.running.await.unwrap().unwrap();
    }
}
