//! Reading: every call is one snapshot, which no write waits for and which waits for no write.

use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase};
use wal_model::{Entry, EntryKey, Timestamp};

use super::Fault;
use super::keys::{PLACE_LEN, Stretch, read_tail};
use super::rows::{StateRow, damaged, read_entry};
use super::tables::{CONTENT, STATES};
use crate::{After, Error, Finished, Page, Query};

/// The two tables an entry is read from.
struct Entries {
    content: ReadOnlyTable<&'static [u8; PLACE_LEN], &'static [u8]>,
    states: ReadOnlyTable<u128, &'static [u8]>,
}

impl Entries {
    fn open(snapshot: &ReadTransaction) -> Result<Entries, Fault> {
        Ok(Entries { content: snapshot.open_table(CONTENT)?, states: snapshot.open_table(STATES)? })
    }

    fn get(&self, key: EntryKey) -> Result<Option<Entry>, Fault> {
        read_entry(&self.content, &self.states, key)
    }

    /// An entry that an index names.
    fn indexed(&self, key: EntryKey) -> Result<Entry, Fault> {
        self.get(key)?.ok_or_else(|| damaged(key, "an index names it and it is not there"))
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
    Ok(Page { entries: read_places(&snapshot, &places)?, next })
}

pub(super) fn expired(
    database: &Database,
    at: Timestamp,
    after: Option<(Timestamp, EntryKey)>,
    limit: usize,
) -> Result<Vec<Entry>, Fault> {
    let snapshot = database.begin_read()?;
    let places = places(&snapshot, &Stretch::expired(at, after), limit)?;
    read_places(&snapshot, &places)
}

pub(super) fn finished(
    database: &Database,
    before: Timestamp,
    after: Option<(Timestamp, EntryKey)>,
    limit: usize,
) -> Result<Vec<Finished>, Fault> {
    let snapshot = database.begin_read()?;
    let places = places(&snapshot, &Stretch::finished(before, after), limit)?;
    let states = snapshot.open_table(STATES)?;
    let name = |(at, key): (Timestamp, EntryKey)| {
        let row =
            states.get(key.uuid().as_u128())?.ok_or_else(|| damaged(key, "an index names it and it is not there"))?;
        Ok(Finished { log_id: StateRow::read(key, row.value())?.log_id(key)?, at })
    };
    places.into_iter().map(name).collect()
}

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

fn read_places(snapshot: &ReadTransaction, places: &[(Timestamp, EntryKey)]) -> Result<Vec<Entry>, Fault> {
    let entries = Entries::open(snapshot)?;
    places.iter().map(|(_, key)| entries.indexed(*key)).collect()
}
