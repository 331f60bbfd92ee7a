//! Writing: one transaction and one synced commit per call.
//!
//! Duplicates need no fence of their own. redb has one writer at a time, and a writer sees what was committed before it began, and
//! its own changes. So "is it there? no: write it" cannot interleave with another call; an earlier entry of the same call is looked
//! for, too. Every commit is synced before the next writer begins, so what is found is on disk; a commit that failed leaves
//! redb refusing everything until it is reopened, and reopening writes the file through first (see [`super::folder`]), so an unsynced
//! entry is never taken for a stored one.

use std::collections::BTreeMap;

use redb::{Database, Durability, ReadableTable, WriteTransaction};
use wal_model::ack::Ack;
use wal_model::status::State;
use wal_model::{Code, Entry, EntryKey, Refusal, Timestamp};

use super::Fault;
use super::keys::{self, OfState};
use super::rows::{self, StateRow, read_entry};
use super::tables::{CONTENT, Index, STATES, WRITTEN};
use crate::document::{self, ReadableCopy, finished_at};
use crate::{Applied, Inserted};

pub(super) fn begin(database: &Database) -> Result<WriteTransaction, Fault> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    Ok(transaction)
}

/// Every entry is encoded before the transaction begins: a writer holds up all others.
pub(super) fn insert(database: &Database, entries: &[Entry], value_max: usize) -> Result<Vec<Inserted>, Fault> {
    let documents: Vec<Document> = entries.iter().map(Document::of).collect();
    let transaction = begin(database)?;
    let mut changes = IndexChanges::default();
    let mut answers = Vec::with_capacity(entries.len());
    {
        let mut content = transaction.open_table(CONTENT)?;
        let mut states = transaction.open_table(STATES)?;
        let mut written = transaction.open_table(WRITTEN)?;
        let mut new: BTreeMap<EntryKey, usize> = BTreeMap::new();
        for (at, (entry, document)) in entries.iter().zip(&documents).enumerate() {
            let earlier = match new.get(&entry.key()) {
                Some(earlier) => Some(entries[*earlier].clone()),
                None => rows::written_at(&written, entry.key())?
                    .map(|written_at| read_entry(&content, &states, written_at, entry.key()))
                    .transpose()?,
            };
            if let Some(present) = earlier {
                answers.push(Inserted::Present(Box::new(present)));
                continue;
            }
            if let Some(refusal) = document.refusal(value_max) {
                answers.push(Inserted::Refused(refusal));
                continue;
            }
            new.insert(entry.key(), at);
            changes.add_entry(entry, Change::Come);
            answers.push(Inserted::Stored);
        }
        for (key, at) in &new {
            written.insert(key.uuid().as_u128(), entries[*at].timestamp().as_millis())?;
        }
        // In order: what is put between others splits pages that are full, and leaves them half empty.
        let place = |at: usize| keys::place(entries[at].timestamp(), entries[at].key());
        let mut places: Vec<_> = new.into_values().map(|at| (place(at), at)).collect();
        places.sort_unstable();
        for (place, at) in &places {
            content.insert(place, documents[*at].content.as_bytes())?;
        }
        for (place, at) in &places {
            states.insert(place, documents[*at].state_row.as_slice())?;
        }
    }
    finish(transaction, changes)?;
    Ok(answers)
}

struct Document {
    content: String,
    state_row: Vec<u8>,
}

impl Document {
    fn of(entry: &Entry) -> Document {
        Document {
            // Nobody but us looks into this database, so the payload is in it once.
            content: document::encode_content(entry, ReadableCopy::Omitted),
            state_row: StateRow::write(entry),
        }
    }

    fn refusal(&self, value_max: usize) -> Option<Refusal> {
        let length = self.content.len().max(self.state_row.len());
        (length > value_max).then(|| {
            let message = format!("the store cannot keep it: {length} bytes as a document, {value_max} at most");
            Refusal::new(Code::WriteError, message)
        })
    }
}

/// All events of one entry are folded before its state is written, so each of them is answered with the same state.
///
/// A log id leads to its place by itself. Only for an event that finds nobody there the key is looked up.
pub(super) fn apply(database: &Database, events: &[Ack]) -> Result<Vec<Applied>, Fault> {
    let mut by_place: BTreeMap<(Timestamp, EntryKey), Vec<usize>> = BTreeMap::new();
    for (at, ack) in events.iter().enumerate() {
        by_place.entry((ack.log_id.timestamp(), ack.log_id.key())).or_default().push(at);
    }
    let transaction = begin(database)?;
    let mut changes = IndexChanges::default();
    let mut answers = vec![Applied::Unknown; events.len()];
    {
        let mut states = transaction.open_table(STATES)?;
        let written = transaction.open_table(WRITTEN)?;
        for ((written_at, key), events_at) in by_place {
            let place = keys::place(written_at, key);
            let Some(row) = states.get(&place)?.map(|row| row.value().to_vec()) else {
                if rows::written_at(&written, key)?.is_some() {
                    events_at.into_iter().for_each(|at| answers[at] = Applied::Other);
                }
                continue;
            };
            let row = StateRow::read(key, &row)?;
            let (meant, others): (Vec<usize>, Vec<usize>) =
                events_at.into_iter().partition(|at| row.is_meant_by(&events[*at]));
            others.into_iter().for_each(|at| answers[at] = Applied::Other);
            let before = row.state()?;
            let mut after = before.clone();
            meant.iter().for_each(|at| after.join(&events[*at].event));
            if before != after {
                states.insert(&place, row.write_with(&after).as_slice())?;
                changes.move_entry(key, written_at, &before, &after);
            }
            meant.into_iter().for_each(|at| answers[at] = Applied::State(Box::new(after.clone())));
        }
    }
    finish(transaction, changes)?;
    Ok(answers)
}

/// Looks at each entry within the transaction that removes it, so a redrive that came first is seen.
pub(super) fn remove(database: &Database, keys: &[EntryKey], finished_before: Timestamp) -> Result<usize, Fault> {
    let transaction = begin(database)?;
    let mut changes = IndexChanges::default();
    let mut removed = 0;
    {
        let mut content = transaction.open_table(CONTENT)?;
        let mut states = transaction.open_table(STATES)?;
        let mut written = transaction.open_table(WRITTEN)?;
        for key in keys {
            let Some(written_at) = rows::written_at(&written, *key)? else { continue };
            let entry = read_entry(&content, &states, written_at, *key)?;
            if finished_at(&entry.state).is_none_or(|at| at >= finished_before) {
                continue;
            }
            let place = keys::place(written_at, *key);
            content.remove(&place)?;
            states.remove(&place)?;
            written.remove(key.uuid().as_u128())?;
            changes.add_entry(&entry, Change::Go);
            removed += 1;
        }
    }
    finish(transaction, changes)?;
    Ok(removed)
}

/// Keys that come into indexes and go out of them, all at the end and in order: redb then touches each page once.
#[derive(Default)]
struct IndexChanges {
    is_any: bool,
    changes: BTreeMap<Index, Vec<(Vec<u8>, Change)>>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Come,
    Go,
}

impl IndexChanges {
    fn add_entry(&mut self, entry: &Entry, change: Change) {
        self.is_any = true;
        for (index, key) in keys::of_content(entry) {
            self.add(index, key, change);
        }
        self.add_state(OfState::of(&entry.state, entry.timestamp(), entry.key()), change);
    }

    fn move_entry(&mut self, key: EntryKey, written_at: Timestamp, before: &State, after: &State) {
        self.is_any = true;
        let (before, after) = (OfState::of(before, written_at, key), OfState::of(after, written_at, key));
        if before != after {
            self.add_state(before, Change::Go);
            self.add_state(after, Change::Come);
        }
    }

    fn add_state(&mut self, keys: OfState, change: Change) {
        self.add(Index::Status, keys.by_status, change);
        if let Some(key) = keys.by_deadline {
            self.add(Index::Deadline, key, change);
        }
        if let Some(key) = keys.by_finished {
            self.add(Index::Finished, key, change);
        }
    }

    fn add(&mut self, index: Index, key: Vec<u8>, change: Change) {
        self.changes.entry(index).or_default().push((key, change));
    }
}

/// Commits, unless nothing changed: then everything that was read is on disk already.
fn finish(transaction: WriteTransaction, changes: IndexChanges) -> Result<(), Fault> {
    if !changes.is_any {
        transaction.abort()?;
        return Ok(());
    }
    for (index, mut changes) in changes.changes {
        // A key that goes and comes again must stay, so what goes is taken out first.
        changes.sort_unstable_by(|a, b| (&a.0, std::cmp::Reverse(a.1)).cmp(&(&b.0, std::cmp::Reverse(b.1))));
        let mut table = transaction.open_table(index.table())?;
        for (key, change) in &changes {
            match change {
                Change::Come => table.insert(key.as_slice(), ())?.is_some(),
                Change::Go => table.remove(key.as_slice())?.is_some(),
            };
        }
    }
    transaction.commit()?;
    Ok(())
}
