//! A store whose every call is counted and timed.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use wal_model::ack::Ack;
use wal_model::{Entry, EntryKey, Timestamp};
use wal_runtime::metrics::{Call, Metrics};
use wal_store::{After, Applied, EntryStore, Error, Finished, Inserted, Page, Query, StoreId};

/// Passes everything on, and tells how long it took and whether it failed.
pub(crate) struct Counted {
    pub(crate) store: Arc<dyn EntryStore>,
    /// Which kind of store it is.
    pub(crate) kind: &'static str,
    pub(crate) metrics: Metrics,
}

impl Counted {
    async fn call<T>(
        &self,
        op: &'static str,
        answer: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        let begun = Instant::now();
        let answer = answer.await;
        let (stores, call) = (self.metrics.stores(), Call { store: self.kind, op });
        stores.durations.of(&call).observe(begun.elapsed());
        // Told from the first call on, be it zero: an alert on what has never been there stays silent.
        stores.errors.of(&call).inc_by(u64::from(answer.is_err()));
        answer
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl EntryStore for Counted {
    fn id(&self) -> StoreId {
        self.store.id()
    }

    async fn insert(&self, entries: &[Entry]) -> Result<Vec<Inserted>, Error> {
        self.call("insert", self.store.insert(entries)).await
    }

    async fn get(&self, keys: &[EntryKey]) -> Result<Vec<Option<Entry>>, Error> {
        self.call("get", self.store.get(keys)).await
    }

    async fn scan(&self, query: &Query, after: Option<After>, limit: usize) -> Result<Page, Error> {
        self.call("scan", self.store.scan(query, after, limit)).await
    }

    async fn apply(&self, events: &[Ack]) -> Result<Vec<Applied>, Error> {
        self.call("apply", self.store.apply(events)).await
    }

    async fn expired(
        &self,
        at: Timestamp,
        after: Option<(Timestamp, EntryKey)>,
        limit: usize,
    ) -> Result<Vec<Entry>, Error> {
        self.call("expired", self.store.expired(at, after, limit)).await
    }

    async fn finished(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, EntryKey)>,
        limit: usize,
    ) -> Result<Vec<Finished>, Error> {
        self.call("finished", self.store.finished(before, after, limit)).await
    }

    async fn remove(&self, keys: &[EntryKey], finished_before: Timestamp) -> Result<usize, Error> {
        self.call("remove", self.store.remove(keys, finished_before)).await
    }
}
