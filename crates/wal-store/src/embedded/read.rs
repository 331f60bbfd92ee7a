//! Reading: every call is one snapshot, which no write waits for and which waits for no write.

use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase};
use wal_model::{Entry, EntryKey, Timestamp};

use super::Fault;
use super::keys::{self, PLACE_LEN, Stretch, read_tail};
use super::rows::{self, StateRow, damaged, read_entry};
use super::tables::{CONTENT, STATES, WRITTEN};
use crate::{After, Error, Finished, Page, Query};

/// The tables an entry is read from.
struct Entries {
    content: ReadOnlyTable<&'static [u8; PLACE_LEN], &'static [u8]>,
    states: ReadOnlyTable<&'static [u8; PLACE_LEN], &'static [u8]>,
    written: ReadOnlyTable<u128, i64>,
}

impl Entries {
    fn open(snapshot: &ReadTransaction) -> Result<Entries, Fault> {
        let content = snapshot.open_table(CONTENT)?;
        Ok(Entries { content, states: snapshot.open_table(STATES)?, written: snapshot.open_table(WRITTEN)? })
    }

    fn get(&self, key: EntryKey) -> Result<Option<Entry>, Fault> {
        rows::written_at(&self.written, key)?.map(|written_at| self.at(written_at, key)).transpose()
    }

    /// An entry whose place is known.
    fn at(&self, written_at: Timestamp, key: EntryKey) -> Result<Entry, Fault> {
        read_entry(&self.content, &self.states, written_at, key)
    }

    /// When an entry was written that an index names.
    fn written_at(&self, key: EntryKey) -> Result<Timestamp, Fault> {
        rows::written_at(&self.written, key)?.ok_or_else(|| damaged(key, "an index names it and it is not there"))
    }
}

pub(super) fn get(database: &Database, keys: &[EntryKey]) -> Result<Vec<Option<Entry>>, Fault> {
    let snapshot = database.begin_read()?;
    let entries = Entries::open(&snapshot)?;
    keys.iter().map(|key| entries.get(*key)).collect()
}

pub(super) fn scan(database: &Database, query: &Query, after: Option<After>, limit: usize) -> Result<Page, Fault> {
    let limit = limit.max(1);
    let snapshot = database.begin_read()?;
    // One more than asked for, to know whether there is a next page.
    let mut places = places(&snapshot, &Stretch::of(query, after), limit.saturating_add(1))?;
    let is_more = places.len() > limit;
    places.truncate(limit);
    let next = places.last().filter(|_| is_more).map(|(timestamp, key)| After { timestamp: *timestamp, key: *key });
    let entries = Entries::open(&snapshot)?;
    // These indexes end in the place itself.
    let entries = places.into_iter().map(|(written_at, key)| entries.at(written_at, key)).collect::<Result<_, _>>()?;
    Ok(Page { entries, next })
}

pub(super) fn expired(
    database: &Database,
    at: Timestamp,
    after: Option<(Timestamp, EntryKey)>,
    limit: usize,
) -> Result<Vec<Entry>, Fault> {
    let snapshot = database.begin_read()?;
    let expired = places(&snapshot, &Stretch::expired(at, after), limit)?;
    let entries = Entries::open(&snapshot)?;
    expired.into_iter().map(|(_, key)| entries.at(entries.written_at(key)?, key)).collect()
}

pub(super) fn finished(
    database: &Database,
    before: Timestamp,
    after: Option<(Timestamp, EntryKey)>,
    limit: usize,
) -> Result<Vec<Finished>, Fault> {
    let snapshot = database.begin_read()?;
    let finished = places(&snapshot, &Stretch::finished(before, after), limit)?;
    let entries = Entries::open(&snapshot)?;
    let name = |(at, key): (Timestamp, EntryKey)| {
        let written_at = entries.written_at(key)?;
        let row = entries.states.get(&keys::place(written_at, key))?.ok_or_else(|| damaged(key, "it has no state"))?;
        Ok(Finished { log_id: StateRow::read(key, row.value())?.log_id(written_at, key)?, at })
    };
    finished.into_iter().map(name).collect()
}

/// The times and keys at the ends of index keys.
fn places(snapshot: &ReadTransaction, stretch: &Stretch, limit: usize) -> Result<Vec<(Timestamp, EntryKey)>, Fault> {
    if stretch.is_empty() {
        return Ok(Vec::new());
    }
    let index = snapshot.open_table(stretch.index.table())?;
    let bounds = (stretch.from.as_ref().map(Vec::as_slice), std::ops::Bound::Excluded(stretch.to.as_slice()));
    let mut places = Vec::new();
    for row in index.range::<&[u8]>(bounds)?.take(limit) {
        let (index_key, _) = row?;
        let place = read_tail(index_key.value());
        places.push(place.ok_or_else(|| Fault::Store(Error::Corrupt("an index key has no tail".to_owned())))?);
    }
    Ok(places)
}
