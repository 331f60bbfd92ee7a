//! What a store of an older format needs before it can be used. One transaction: a crash in here leaves the old store.
//!
//! ```text
//!   1  states  key ─▶ written at, 8 bytes │ standing
//!   2  states  key ─▶ written at, 8 bytes │ namespace │ tenant │ standing       and by_finished
//! ```
//!
//! A standing is a state as JSON with what follows from it beside it.

use std::path::Path;

use redb::{Database, ReadableTable, ReadableTableMetadata, TableDefinition};
use wal_model::EntryKey;

use super::Fault;
use super::keys::{OfState, read_tail};
use super::progress::Progress;
use super::rows::{StateRow, damaged};
use super::tables::{CONTENT, FORMAT, Index, META, META_FORMAT, STATES, WRITTEN};
use super::write;
use crate::document;

/// Where states were kept before format 3.
pub(super) const KEYED_STATES: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("states");

/// The bytes before everything else in a state row: when the entry was written.
const TIME_LEN: usize = 8;

/// From format 1 or 2: states go to their places, and what is finished is indexed.
pub(super) fn run(folder: &Path, database: &Database) -> Result<(), Fault> {
    let transaction = write::begin(database)?;
    {
        let content = transaction.open_table(CONTENT)?;
        let keyed = transaction.open_table(KEYED_STATES)?;
        let mut states = transaction.open_table(STATES)?;
        let mut written = transaction.open_table(WRITTEN)?;
        let mut by_finished = transaction.open_table(Index::Finished.table())?;
        let mut progress = Progress::begin(folder, "the store is upgraded", content.len()?);
        for (row, done) in content.iter()?.zip(0..) {
            let (place, document) = row?;
            progress.at(done);
            let (written_at, key) = read_tail(place.value()).expect("a place is as long as a tail");
            let id = key.uuid().as_u128();
            let old = keyed.get(id)?.ok_or_else(|| damaged(key, "it has a content and no state"))?;
            let state = document::decode_standing(standing(key, old.value())?).map_err(Fault::Store)?;
            let entry = document::decode_content(document.value(), state).map_err(Fault::Store)?;
            states.insert(place.value(), StateRow::write(&entry).as_slice())?;
            written.insert(id, written_at.as_millis())?;
            if let Some(key) = OfState::of(&entry.state, written_at, key).by_finished {
                by_finished.insert(key.as_slice(), ())?;
            }
        }
        transaction.open_table(META)?.insert(META_FORMAT, FORMAT.to_be_bytes().as_slice())?;
    }
    transaction.delete_table(KEYED_STATES)?;
    transaction.commit()?;
    Ok(())
}

/// The standing in a state row of format 1 or 2. After the time comes a brace in format 1 and a length of at most 256 in format 2, and from
/// there on it is like the rows of today, but for the end.
fn standing(key: EntryKey, row: &[u8]) -> Result<&[u8], Fault> {
    match row.get(TIME_LEN..) {
        Some(standing @ [b'{', ..]) => Ok(standing),
        Some(row) => Ok(StateRow::read(key, row)?.state),
        None => Err(damaged(key, "its state is cut off")),
    }
}
