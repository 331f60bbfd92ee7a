//! The store itself: every promise of [`EntryStore`], each by the few statements that keep it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use wal_model::ack::Ack;
use wal_model::{Entry, EntryKey, LogId, Timestamp};

use super::client::Repeat;
use super::connection::Connection;
use super::cursor::{self, Manner};
use super::fault::{Class, Fault};
use super::open::{self, OpenError};
use super::options::Options;
use super::statements::{self, Question};
use super::{apply, insert, wait};
use crate::document::ReadableCopy;
use crate::{After, Applied, EntryStore, Error, Finished, Inserted, Page, Query, StoreId, document};

/// The most keys in one statement.
const KEYS: usize = 1000;

/// The most documents that one statement reads. Its rows are held by the database while it is read.
const ROWS: usize = 1000;

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

    /// Reads those of some entries that are there.
    pub(super) async fn read(&self, keys: &[EntryKey]) -> Result<HashMap<EntryKey, Entry>, Fault> {
        let mut entries = HashMap::with_capacity(keys.len());
        let mut parts: Vec<&[EntryKey]> = keys.chunks(KEYS).collect();
        while let Some(part) = parts.pop() {
            let how = (Manner::Page, Repeat::Harmless);
            match self.ask(statements::get(part), how, part.len(), read_entry).await {
                Ok(read) => entries.extend(read.into_iter().map(|entry| (entry.key(), entry))),
                Err(fault) if fault.class == Class::TooLarge && part.len() > 1 => {
                    parts.extend([&part[..part.len() / 2], &part[part.len() / 2..]]);
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(entries)
    }

    /// Reads pages until there are as many rows as wanted, or no more. `page` asks for at most so many rows after a place.
    async fn read_pages<T, P: Copy>(
        &self,
        (mut place, wanted): (Option<P>, usize),
        page: impl Fn(Option<P>, usize) -> Question,
        read: impl Fn(&str) -> Result<T, Fault>,
        place_of: impl Fn(&T) -> P,
    ) -> Result<Vec<T>, Fault> {
        let (mut rows, mut step): (Vec<T>, usize) = (Vec::new(), ROWS);
        while rows.len() < wanted {
            let asked = step.min(wanted - rows.len());
            match self.ask(page(place, asked), (Manner::Page, Repeat::Harmless), asked, &read).await {
                Ok(some) => {
                    let is_last = some.len() < asked;
                    rows.extend(some);
                    place = rows.last().map(&place_of).or(place);
                    if is_last {
                        break;
                    }
                }
                Err(fault) if fault.class == Class::TooLarge && asked > 1 => step = asked / 2,
                Err(fault) => return Err(fault),
            }
        }
        Ok(rows)
    }

    async fn scan(&self, query: &Query, after: Option<After>, limit: usize) -> Result<Page, Fault> {
        let limit = limit.max(1);
        let page = |after, limit| statements::page(query, after, limit);
        // One more than asked for, to know whether there is a next page.
        let wanted = (after, limit.saturating_add(1));
        let mut entries = self.read_pages(wanted, page, read_entry, place_of).await?;
        let is_more = entries.len() > limit;
        entries.truncate(limit);
        let next = entries.last().filter(|_| is_more).map(place_of);
        Ok(Page { entries, next })
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

fn place_of(entry: &Entry) -> After {
    After { timestamp: entry.timestamp(), key: entry.key() }
}

fn read_entry(row: &str) -> Result<Entry, Fault> {
    document::decode(row.as_bytes()).map_err(Fault::from)
}

fn read_finished(row: &str) -> Result<Finished, Fault> {
    #[derive(Deserialize)]
    struct Read {
        log_id: LogId,
        at: Timestamp,
    }
    let damaged = |error| Fault::new(Class::Damaged, format!("a finished entry's name and time: {error}"));
    let Read { log_id, at } = serde_json::from_str(row).map_err(damaged)?;
    Ok(Finished { log_id, at })
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
        let entries = self.inner.read(keys).await?;
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
        let page = |after, limit| statements::expired(at, after, limit);
        let place_of = |entry: &Entry| (entry.state.deadline(), entry.key());
        Ok(self.inner.read_pages((after, limit), page, read_entry, place_of).await?)
    }

    async fn finished(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, EntryKey)>,
        limit: usize,
    ) -> Result<Vec<Finished>, Error> {
        let page = |after, limit| statements::finished(before, after, limit);
        let place_of = |finished: &Finished| (finished.at, finished.log_id.key());
        Ok(self.inner.read_pages((after, limit), page, read_finished, place_of).await?)
    }

    async fn remove(&self, keys: &[EntryKey], finished_before: Timestamp) -> Result<usize, Error> {
        Ok(self.inner.remove(keys, finished_before).await?)
    }
}

#[cfg(test)]
mod tests;
