//! The store itself: every promise of [`EntryStore`], each by the few statements that keep it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use wal_model::ack::Ack;
use wal_model::{Entry, EntryKey, Timestamp};

use super::client::Repeat;
use super::connection::Connection;
use super::cursor::{self, Manner};
use super::fault::{Class, Fault};
use super::open::{self, OpenError};
use super::options::Options;
use super::statements::{self, Question};
use super::{apply, insert, wait};
use crate::document::ReadableCopy;
use crate::{After, Applied, EntryStore, Error, Finished, Inserted, Page, Query, StoreId};

/// The most keys in one statement.
pub(super) const KEYS: usize = 1000;

/// How often a removal is tried that others are in the way of.
const TRIES: u32 = 12;

/// A store in an ArangoDB database.
#[derive(Clone)]
pub struct ArangoStore {
    inner: Arc<Inner>,
}

/// What every call needs.
pub(super) struct Inner {
    pub(super) connection: Connection,
    pub(super) id: StoreId,
    /// The names of our collections.
    pub(super) entries: String,
    pub(super) store: String,
    pub(super) readable_copy: ReadableCopy,
    pub(super) is_cluster: bool,
    pub(super) sync_wait: Duration,
    /// Which of the fences is ours.
    pub(super) fence: u32,
}

impl ArangoStore {
    /// Opens the store. Its database, collections and indexes must be there: see [`schema`](super::schema).
    pub async fn open(options: &Options) -> Result<ArangoStore, OpenError> {
        Ok(ArangoStore { inner: Arc::new(open::open(options).await?) })
    }

    /// How many requests this store has made of its database: round trips, those that failed included.
    pub fn requests(&self) -> u64 {
        self.inner.connection.requests()
    }
}

impl fmt::Debug for ArangoStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArangoStore").field("id", &self.inner.id).finish_non_exhaustive()
    }
}

impl Inner {
    /// Asks a question of the entries.
    pub(super) async fn ask<T>(
        &self,
        question: Question,
        how: (Manner, Repeat),
        most: usize,
        read: impl Fn(&str) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        cursor::ask(&self.connection, &self.entries, question, how, most, read).await
    }

    async fn remove(&self, keys: &[EntryKey], before: Timestamp) -> Result<usize, Fault> {
        let mut removed = 0;
        for part in keys.chunks(KEYS) {
            removed += self.remove_part(part, before).await?;
        }
        Ok(removed)
    }

    /// A statement that met somebody else's write has removed nothing.
    async fn remove_part(&self, keys: &[EntryKey], before: Timestamp) -> Result<usize, Fault> {
        for tries in 0..TRIES {
            let question = statements::remove(keys, before);
            // Done twice unseen, the second would count nothing.
            let how = (Manner::Whole, Repeat::Telling);
            match self.ask(question, how, keys.len(), apply::read_key).await {
                Err(Fault { class: Class::Conflict, .. }) => wait::after(tries).await,
                answer => return answer.map(|removed| removed.len()),
            }
        }
        Err(Fault::new(Class::Conflict, format!("others write the same entries, {TRIES} times in a row")))
    }
}

#[async_trait]
impl EntryStore for ArangoStore {
    fn id(&self) -> StoreId {
        self.inner.id
    }

    async fn insert(&self, entries: &[Entry]) -> Result<Vec<Inserted>, Error> {
        Ok(insert::insert(&self.inner, entries).await?)
    }

    async fn get(&self, keys: &[EntryKey]) -> Result<Vec<Option<Entry>>, Error> {
        let entries = self.inner.get(keys).await?;
        Ok(keys.iter().map(|key| entries.get(key).cloned()).collect())
    }

    async fn scan(&self, query: &Query, after: Option<After>, limit: usize) -> Result<Page, Error> {
        Ok(self.inner.scan(query, after, limit).await?)
    }

    async fn apply(&self, events: &[Ack]) -> Result<Vec<Applied>, Error> {
        Ok(apply::apply(&self.inner, events).await?)
    }

    async fn expired(
        &self,
        at: Timestamp,
        after: Option<(Timestamp, EntryKey)>,
        limit: usize,
    ) -> Result<Vec<Entry>, Error> {
        Ok(self.inner.expired(at, after, limit).await?)
    }

    async fn finished(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, EntryKey)>,
        limit: usize,
    ) -> Result<Vec<Finished>, Error> {
        Ok(self.inner.finished(before, after, limit).await?)
    }

    async fn remove(&self, keys: &[EntryKey], finished_before: Timestamp) -> Result<usize, Error> {
        Ok(self.inner.remove(keys, finished_before).await?)
    }
}

#[cfg(test)]
mod tests;
