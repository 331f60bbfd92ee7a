//! Writing: one transaction and one synced commit per call.
//!
//! Duplicates need no fence of their own. redb has one writer at a time, and a writer sees what was committed before it began, and
//! its own changes. So "is it there? no: write it" cannot interleave with another call, and finds an earlier entry of the same
//! call too. Every commit is synced before the next writer begins, so what is found is on disk; a commit that failed leaves
//! redb refusing everything until it is reopened, and reopening writes the file through first (see [`super::folder`]), so an unsynced
//! entry is never taken for a stored one.

use std::collections::BTreeMap;

use redb::{Database, Durability, ReadableTable, WriteTransaction};
use wal_model::status::{Event, State};
use wal_model::{Code, Entry, EntryKey, Refusal, Timestamp};

use super::Fault;
use super::keys::{self, OfState};
use super::rows::{StateRow, read_entry};
use super::tables::{CONTENT, Index, STATES};
use crate::document::{self, ReadableCopy};
use crate::{Applied, Inserted};

fn begin(database: &Database) -> Result<WriteTransaction, Fault> {
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
        for (entry, document) in entries.iter().zip(&documents) {
            if let Some(present) = read_entry(&content, &states, entry.key())? {
                answers.push(Inserted::Present(Box::new(present)));
                continue;
            }
            if let Some(refusal) = document.refusal(value_max) {
                answers.push(Inserted::Refused(refusal));
                continue;
            }
            let key = entry.key().uuid().as_u128();
            content.insert(&keys::place(entry.timestamp(), entry.key()), document.content.as_bytes())?;
            states.insert(key, document.state_row.as_slice())?;
            changes.add_entry(entry);
            answers.push(Inserted::Stored);
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
            state_row: StateRow::write(entry.timestamp(), &entry.state),
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
pub(super) fn apply(database: &Database, events: &[(EntryKey, Event)]) -> Result<Vec<Applied>, Fault> {
    let mut by_key: BTreeMap<EntryKey, Vec<&Event>> = BTreeMap::new();
    for (key, event) in events {
        by_key.entry(*key).or_default().push(event);
    }
    let transaction = begin(database)?;
    let mut changes = IndexChanges::default();
    let mut folded = BTreeMap::new();
    {
        let mut states = transaction.open_table(STATES)?;
        for (key, events) in by_key {
            let applied = match fold(&states, key, &events)? {
                None => Applied::Unknown,
                Some(Folded { before, after, written_at }) => {
                    if before != after {
                        states.insert(key.uuid().as_u128(), StateRow::write(written_at, &after).as_slice())?;
                        changes.move_entry(key, written_at, &before, &after);
                    }
                    Applied::State(Box::new(after))
                }
            };
            folded.insert(key, applied);
        }
    }
    finish(transaction, changes)?;
    Ok(events.iter().map(|(key, _)| folded[key].clone()).collect())
}

struct Folded {
    written_at: Timestamp,
    before: State,
    after: State,
}

fn fold(
    states: &impl ReadableTable<u128, &'static [u8]>,
    key: EntryKey,
    events: &[&Event],
) -> Result<Option<Folded>, Fault> {
    let Some(row) = states.get(key.uuid().as_u128())? else {
        return Ok(None);
    };
    let row = StateRow::read(key, row.value())?;
    let before = row.state()?;
    let mut after = before.clone();
    events.iter().for_each(|event| after.join(event));
    Ok(Some(Folded { written_at: row.written_at, before, after }))
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
    fn add_entry(&mut self, entry: &Entry) {
        self.is_any = true;
        for (index, key) in keys::of_content(entry) {
            self.add(index, key, Change::Come);
        }
        self.add_state(OfState::of(&entry.state, entry.timestamp(), entry.key()), Change::Come);
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
