//! Reading: entries by key, and pages that are put together from the database's.
//!
//! What comes is checked twice. The database compares texts by its language, to which two spellings of one accented letter are equal; to us they
//! are two tenants. And an index whose language has changed under it is out of order, and would have pages skip entries.

use std::collections::HashMap;

use serde::Deserialize;
use wal_model::{Entry, EntryKey, LogId, Timestamp};

use super::backend::{Inner, KEYS};
use super::client::Repeat;
use super::cursor::Manner;
use super::fault::{Class, Fault};
use super::statements::{self, Question};
use crate::{After, Finished, Page, Query, document};

/// The most documents that one statement reads. Its rows are held by the database while it is read.
const ROWS: usize = 1000;

/// How a row stands in its order, and whether it was asked for.
struct Shape<T, P> {
    read: fn(&str) -> Result<T, Fault>,
    place_of: fn(&T) -> P,
}

impl Inner {
    /// Reads those of some entries that are there.
    pub(super) async fn get(&self, keys: &[EntryKey]) -> Result<HashMap<EntryKey, Entry>, Fault> {
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

    pub(super) async fn scan(&self, query: &Query, after: Option<After>, limit: usize) -> Result<Page, Fault> {
        let limit = limit.max(1);
        let page = |after, limit| statements::page(query, after, limit);
        let shape = Shape { read: read_entry, place_of };
        // One more than asked for, to know whether there is a next page.
        let wanted = limit.saturating_add(1);
        let mut entries = self.pages((after, wanted), page, shape, |entry| is_meant(query, entry)).await?;
        let is_more = entries.len() > limit;
        entries.truncate(limit);
        let next = entries.last().filter(|_| is_more).map(place_of);
        Ok(Page { entries, next })
    }

    pub(super) async fn expired(
        &self,
        at: Timestamp,
        after: Option<(Timestamp, EntryKey)>,
        limit: usize,
    ) -> Result<Vec<Entry>, Fault> {
        let page = |after, limit| statements::expired(at, after, limit);
        let shape = Shape { read: read_entry, place_of: |entry: &Entry| (entry.state.deadline(), entry.key()) };
        self.pages((after, limit), page, shape, |_| true).await
    }

    pub(super) async fn finished(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, EntryKey)>,
        limit: usize,
    ) -> Result<Vec<Finished>, Fault> {
        let page = |after, limit| statements::finished(before, after, limit);
        let shape = Shape { read: read_finished, place_of: |one: &Finished| (one.at, one.log_id.key()) };
        self.pages((after, limit), page, shape, |_| true).await
    }

    /// Reads pages until there are as many rows as wanted, or no more. `page` asks for at most so many rows after a place.
    async fn pages<T, P: Copy + PartialOrd>(
        &self,
        (mut place, wanted): (Option<P>, usize),
        page: impl Fn(Option<P>, usize) -> Question,
        Shape { read, place_of }: Shape<T, P>,
        is_meant: impl Fn(&T) -> bool,
    ) -> Result<Vec<T>, Fault> {
        let (mut rows, mut step): (Vec<T>, usize) = (Vec::new(), ROWS);
        while rows.len() < wanted {
            let asked = step.min(wanted - rows.len());
            let some = match self.ask(page(place, asked), (Manner::Page, Repeat::Harmless), asked, read).await {
                Ok(some) => some,
                Err(fault) if fault.class == Class::TooLarge && asked > 1 => {
                    step = asked / 2;
                    continue;
                }
                Err(fault) => return Err(fault),
            };
            let is_last = some.len() < asked;
            for row in some {
                let its_place = place_of(&row);
                if place.is_some_and(|place| place >= its_place) {
                    let said = "an index is out of order: has the database another language than it was made with?";
                    return Err(Fault::new(Class::Damaged, said));
                }
                place = Some(its_place);
                if is_meant(&row) {
                    rows.push(row);
                }
            }
            if is_last {
                break;
            }
        }
        Ok(rows)
    }
}

/// Whether an entry is what was asked for, letter by letter.
fn is_meant(query: &Query, entry: &Entry) -> bool {
    match query {
        Query::Namespace { namespace, .. } => entry.namespace() == namespace,
        Query::Tenant { tenant, namespace, .. } => {
            entry.tenant.as_ref() == Some(tenant) && entry.namespace() == namespace
        }
        Query::Correlation { correlation_id } => entry.correlation_id.as_ref() == Some(correlation_id),
        Query::Status { status, .. } => entry.state.status() == *status,
        Query::Request { tenant, request_id } => {
            entry.tenant == *tenant && entry.request_id.as_ref() == Some(request_id)
        }
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
