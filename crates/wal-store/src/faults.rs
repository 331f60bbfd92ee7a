//! A store that fails on command: before it did what was asked, after it, or not at all until it is let go.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;
use wal_model::ack::Ack;
use wal_model::{Code, Entry, EntryKey, Refusal, Timestamp};

use crate::{After, Applied, EntryStore, Error, Finished, Inserted, Page, Query, StoreId};

/// A method of [`EntryStore`] that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// [`EntryStore::insert`].
    Insert,
    /// [`EntryStore::get`].
    Get,
    /// [`EntryStore::scan`].
    Scan,
    /// [`EntryStore::apply`].
    Apply,
    /// [`EntryStore::expired`].
    Expired,
    /// [`EntryStore::finished`].
    Finished,
    /// [`EntryStore::remove`].
    Remove,
}

enum Fault {
    None,
    Before(Error),
    After(Error),
    Hang(Arc<GateState>),
}

struct GateState {
    has_come: watch::Sender<bool>,
    is_open: watch::Sender<bool>,
}

/// Holds one call up. It is let go by [`Gate::open`], or when the gate is dropped.
pub struct Gate(Arc<GateState>);

impl Gate {
    /// Waits until the call has come.
    pub async fn has_come(&self) {
        // The sender lives in the gate, so waiting ends by the value alone.
        let _ = self.0.has_come.subscribe().wait_for(|has_come| *has_come).await;
    }

    /// Lets the call go on, now or as soon as it comes.
    pub fn open(&self) {
        self.0.is_open.send_replace(true);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}

impl GateState {
    async fn pass(&self) {
        self.has_come.send_replace(true);
        let _ = self.is_open.subscribe().wait_for(|is_open| *is_open).await;
    }
}

#[derive(Default)]
struct Script {
    faults: HashMap<Method, VecDeque<Fault>>,
    refused: HashSet<EntryKey>,
    calls: HashMap<Method, usize>,
}

/// A store around a store. Without a script it is that store.
#[derive(Clone)]
pub struct Faulty {
    store: Arc<dyn EntryStore>,
    script: Arc<Mutex<Script>>,
}

impl Faulty {
    /// A store that does what `store` does until it is told otherwise.
    pub fn new(store: Arc<dyn EntryStore>) -> Faulty {
        Faulty { store, script: Arc::default() }
    }

    /// The next call not yet scripted succeeds.
    pub fn succeed(&self, method: Method) {
        self.add(method, Fault::None);
    }

    /// The next call not yet scripted fails, and nothing has happened.
    pub fn fail_before(&self, method: Method) {
        self.fail_before_with(method, Error::Unavailable("scripted, before".to_owned()));
    }

    /// As [`Faulty::fail_before`], with this error.
    pub fn fail_before_with(&self, method: Method, error: Error) {
        self.add(method, Fault::Before(error));
    }

    /// The next call not yet scripted fails, and what was asked for has happened.
    pub fn fail_after(&self, method: Method) {
        self.add(method, Fault::After(Error::Unavailable("scripted, after".to_owned())));
    }

    /// The next call not yet scripted waits at a gate before it does what was asked.
    pub fn hang(&self, method: Method) -> Gate {
        let gate = Arc::new(GateState { has_come: watch::Sender::new(false), is_open: watch::Sender::new(false) });
        self.add(method, Fault::Hang(Arc::clone(&gate)));
        Gate(gate)
    }

    /// The entry with this key is refused for ever.
    pub fn refuse(&self, key: EntryKey) {
        self.script().refused.insert(key);
    }

    /// How often a method was called, failed calls included.
    pub fn calls(&self, method: Method) -> usize {
        self.script().calls.get(&method).copied().unwrap_or(0)
    }

    fn add(&self, method: Method, fault: Fault) {
        self.script().faults.entry(method).or_default().push_back(fault);
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, method: Method) -> Fault {
        let mut script = self.script();
        *script.calls.entry(method).or_default() += 1;
        script.faults.get_mut(&method).and_then(VecDeque::pop_front).unwrap_or(Fault::None)
    }

    async fn play<T>(&self, method: Method, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match self.next(method) {
            Fault::None => call.await,
            Fault::Before(error) => Err(error),
            Fault::After(error) => {
                call.await?;
                Err(error)
            }
            Fault::Hang(gate) => {
                gate.pass().await;
                call.await
            }
        }
    }

    async fn insert_but_refused(&self, entries: &[Entry]) -> Result<Vec<Inserted>, Error> {
        let refused: Vec<bool> = {
            let script = self.script();
            entries.iter().map(|entry| script.refused.contains(&entry.key())).collect()
        };
        if !refused.contains(&true) {
            return self.store.insert(entries).await;
        }
        let others = entries.iter().zip(&refused).filter(|(_, is_refused)| !**is_refused);
        let others: Vec<Entry> = others.map(|(entry, _)| entry.clone()).collect();
        let mut answers = self.store.insert(&others).await?.into_iter();
        let answer = |is_refused: bool| {
            if is_refused {
                return Inserted::Refused(Refusal::new(Code::WriteError, "scripted"));
            }
            answers.next().expect("one answer per entry")
        };
        Ok(refused.into_iter().map(answer).collect())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl EntryStore for Faulty {
    fn id(&self) -> StoreId {
        self.store.id()
    }

    async fn insert(&self, entries: &[Entry]) -> Result<Vec<Inserted>, Error> {
        self.play(Method::Insert, self.insert_but_refused(entries)).await
    }

    async fn get(&self, keys: &[EntryKey]) -> Result<Vec<Option<Entry>>, Error> {
        self.play(Method::Get, self.store.get(keys)).await
    }

    async fn scan(&self, query: &Query, after: Option<After>, limit: usize) -> Result<Page, Error> {
        self.play(Method::Scan, self.store.scan(query, after, limit)).await
    }

    async fn apply(&self, events: &[Ack]) -> Result<Vec<Applied>, Error> {
        self.play(Method::Apply, self.store.apply(events)).await
    }

    async fn expired(
        &self,
        at: Timestamp,
        after: Option<(Timestamp, EntryKey)>,
        limit: usize,
    ) -> Result<Vec<Entry>, Error> {
        self.play(Method::Expired, self.store.expired(at, after, limit)).await
    }

    async fn finished(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, EntryKey)>,
        limit: usize,
    ) -> Result<Vec<Finished>, Error> {
        self.play(Method::Finished, self.store.finished(before, after, limit)).await
    }

    async fn remove(&self, keys: &[EntryKey], finished_before: Timestamp) -> Result<usize, Error> {
        self.play(Method::Remove, self.store.remove(keys, finished_before)).await
    }
}

#[cfg(test)]
mod tests;
