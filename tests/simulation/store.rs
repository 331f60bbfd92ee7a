//! A store in memory, and a slow hand on it: between any two of its calls, and before any answer, others have their turn.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

use async_trait::async_trait;
use uuid::Uuid;
use wal_model::ack::Ack;
use wal_model::{Entry, EntryKey, Timestamp};
use wal_store::{After, Applied, EntryStore, Error, Finished, Inserted, Page, Query, Range, StoreId};

/// Entries in memory. Cloning gives another handle on the same.
#[derive(Clone, Default)]
pub struct InMemory {
    entries: Arc<Mutex<BTreeMap<EntryKey, Entry>>>,
    /// As they were first stored.
    originals: Arc<Mutex<BTreeMap<EntryKey, Entry>>>,
}

impl InMemory {
    pub fn entries(&self) -> MutexGuard<'_, BTreeMap<EntryKey, Entry>> {
        self.entries.lock().expect("nothing panics while it is held")
    }

    /// An entry as it was first stored.
    pub fn original(&self, key: &EntryKey) -> Entry {
        self.originals()[key].clone()
    }

    fn originals(&self) -> MutexGuard<'_, BTreeMap<EntryKey, Entry>> {
        self.originals.lock().expect("nothing panics while it is held")
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl EntryStore for InMemory {
    fn id(&self) -> StoreId {
        StoreId(Uuid::from_u128(1))
    }

    async fn insert(&self, entries: &[Entry]) -> Result<Vec<Inserted>, Error> {
        let mut stored = self.entries();
        let insert = |entry: &Entry| match stored.get(&entry.key()) {
            Some(present) => Inserted::Present(Box::new(present.clone())),
            None => {
                stored.insert(entry.key(), entry.clone());
                self.originals().insert(entry.key(), entry.clone());
                Inserted::Stored
            }
        };
        Ok(entries.iter().map(insert).collect())
    }

    async fn get(&self, keys: &[EntryKey]) -> Result<Vec<Option<Entry>>, Error> {
        let stored = self.entries();
        Ok(keys.iter().map(|key| stored.get(key).cloned()).collect())
    }

    async fn scan(&self, query: &Query, after: Option<After>, limit: usize) -> Result<Page, Error> {
        let stored = self.entries();
        let place = |entry: &Entry| After { timestamp: entry.timestamp(), key: entry.key() };
        let is_wanted = |entry: &&Entry| answers(query, entry) && after.is_none_or(|after| place(entry) > after);
        let mut found: Vec<&Entry> = stored.values().filter(is_wanted).collect();
        found.sort_by_key(|entry| place(entry));
        let has_more = found.len() > limit;
        let entries: Vec<Entry> = found.into_iter().take(limit).cloned().collect();
        let next = entries.last().filter(|_| has_more).map(place);
        Ok(Page { entries, next })
    }

    async fn apply(&self, events: &[Ack]) -> Result<Vec<Applied>, Error> {
        let mut stored = self.entries();
        for Ack { log_id, tenant, event } in events {
            if let Some(entry) = stored.get_mut(&log_id.key())
                && entry.log_id == *log_id
                && entry.tenant == *tenant
            {
                entry.state.join(event);
            }
        }
        let answer = |Ack { log_id, tenant, .. }: &Ack| match stored.get(&log_id.key()) {
            None => Applied::Unknown,
            Some(entry) if entry.log_id == *log_id && entry.tenant == *tenant => {
                Applied::State(Box::new(entry.state.clone()))
            }
            Some(_) => Applied::Other,
        };
        Ok(events.iter().map(answer).collect())
    }

    async fn expired(
        &self,
        at: Timestamp,
        after: Option<(Timestamp, EntryKey)>,
        limit: usize,
    ) -> Result<Vec<Entry>, Error> {
        let stored = self.entries();
        let place = |entry: &Entry| (entry.state.deadline(), entry.key());
        let is_wanted = |entry: &&Entry| {
            !entry.state.status().is_finished()
                && entry.state.deadline() <= at
                && after.is_none_or(|after| place(entry) > after)
        };
        let mut found: Vec<&Entry> = stored.values().filter(is_wanted).collect();
        found.sort_by_key(|entry| place(entry));
        Ok(found.into_iter().take(limit).cloned().collect())
    }

    async fn finished(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, EntryKey)>,
        limit: usize,
    ) -> Result<Vec<Finished>, Error> {
        let stored = self.entries();
        let place = |entry: &Entry| (entry.state.standing.at, entry.key());
        let is_wanted = |entry: &&Entry| is_purgeable(entry, before) && after.is_none_or(|after| place(entry) > after);
        let mut found: Vec<&Entry> = stored.values().filter(is_wanted).collect();
        found.sort_by_key(|entry| place(entry));
        let finished = |entry: &Entry| Finished { log_id: entry.log_id.clone(), at: entry.state.standing.at };
        Ok(found.into_iter().take(limit).map(finished).collect())
    }

    async fn remove(&self, keys: &[EntryKey], finished_before: Timestamp) -> Result<usize, Error> {
        let mut stored = self.entries();
        let before = stored.len();
        stored.retain(|key, entry| !(keys.contains(key) && is_purgeable(entry, finished_before)));
        Ok(before - stored.len())
    }
}

fn is_purgeable(entry: &Entry, before: Timestamp) -> bool {
    entry.state.status().is_finished() && entry.state.standing.at < before
}

fn answers(query: &Query, entry: &Entry) -> bool {
    let is_within = |range: &Range| (range.from..range.to).contains(&entry.timestamp());
    match query {
        Query::Namespace { namespace, range } => entry.namespace() == namespace && is_within(range),
        Query::Tenant { tenant, namespace, range } => {
            entry.tenant.as_ref() == Some(tenant) && entry.namespace() == namespace && is_within(range)
        }
        Query::Correlation { correlation_id } => entry.correlation_id.as_ref() == Some(correlation_id),
        Query::Status { status, range } => entry.state.status() == *status && is_within(range),
        Query::Request { tenant, request_id } => {
            entry.tenant == *tenant && entry.request_id.as_ref() == Some(request_id)
        }
    }
}

/// How a slow store feels.
#[derive(Default)]
pub struct Mood {
    /// It fails so often, of a hundred calls; half of the time after it did what was asked.
    pub fails: u8,
    pub random: fastrand::Rng,
}

/// A store that answers later.
#[derive(Clone)]
pub struct Slow {
    pub store: InMemory,
    pub mood: Arc<Mutex<Mood>>,
}

impl Slow {
    async fn call<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        turn_of_others().await;
        let (fails, comes_through) = {
            let mut mood = self.mood.lock().expect("nothing panics while it is held");
            (mood.random.u8(..100) < mood.fails, mood.random.bool())
        };
        let away = || Err(Error::Unavailable("simulated".to_owned()));
        if fails && !comes_through {
            return away();
        }
        let answer = call.await;
        turn_of_others().await;
        if fails { away() } else { answer }
    }
}

/// Is not ready at first.
async fn turn_of_others() {
    let mut had_turn = false;
    poll_fn(|context| {
        if std::mem::replace(&mut had_turn, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl EntryStore for Slow {
    fn id(&self) -> StoreId {
        self.store.id()
    }

    async fn insert(&self, entries: &[Entry]) -> Result<Vec<Inserted>, Error> {
        self.call(self.store.insert(entries)).await
    }

    async fn get(&self, keys: &[EntryKey]) -> Result<Vec<Option<Entry>>, Error> {
        self.call(self.store.get(keys)).await
    }

    async fn scan(&self, query: &Query, after: Option<After>, limit: usize) -> Result<Page, Error> {
        self.call(self.store.scan(query, after, limit)).await
    }

    async fn apply(&self, events: &[Ack]) -> Result<Vec<Applied>, Error> {
        self.call(self.store.apply(events)).await
    }

    async fn expired(
        &self,
        at: Timestamp,
        after: Option<(Timestamp, EntryKey)>,
        limit: usize,
    ) -> Result<Vec<Entry>, Error> {
        self.call(self.store.expired(at, after, limit)).await
    }

    async fn finished(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, EntryKey)>,
        limit: usize,
    ) -> Result<Vec<Finished>, Error> {
        self.call(self.store.finished(before, after, limit)).await
    }

    async fn remove(&self, keys: &[EntryKey], finished_before: Timestamp) -> Result<usize, Error> {
        self.call(self.store.remove(keys, finished_before)).await
    }
}

mod conformance {
    use wal_store::conformance::Subject;

    use super::*;

    struct Kept(InMemory);

    #[async_trait]
    impl Subject for Kept {
        fn store(&self) -> Arc<dyn EntryStore> {
            let mood = Arc::new(Mutex::new(Mood::default()));
            Arc::new(Slow { store: self.0.clone(), mood })
        }

        async fn reopen(&mut self) {}
    }

    wal_store::conformance_tests!(Kept(InMemory::default()));
}
