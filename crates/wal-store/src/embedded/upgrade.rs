//! What a store of an older format needs before it can be used. One transaction each: a crash in here leaves the old store.

use redb::{Database, ReadableTable};
use wal_model::EntryKey;

use super::Fault;
use super::keys::{OfState, read_tail};
use super::rows::{StateRow, damaged};
use super::tables::{CONTENT, Index, META, META_FORMAT, STATES};
use super::write;
use crate::document;

/// The bytes before the standing in a state row of format 1: when the entry was written.
const TIME_LEN: usize = 8;

/// From format 1: state rows learn whose entry they are of, and what is finished is indexed.
pub(super) fn from_1(database: &Database) -> Result<(), Fault> {
    let transaction = write::begin(database)?;
    {
        let content = transaction.open_table(CONTENT)?;
        let mut states = transaction.open_table(STATES)?;
        let mut by_finished = transaction.open_table(Index::Finished.table())?;
        for row in content.iter()? {
            let (place, document) = row?;
            let (written_at, key) = read_tail(place.value()).expect("a place is as long as a tail");
            let id = key.uuid().as_u128();
            let old = states.get(id)?.map(|row| row.value().to_vec());
            let standing = old.as_deref().and_then(|row| row.get(TIME_LEN..)).ok_or_else(|| cut(key))?;
            let entry = document::decode_parts(document.value(), standing).map_err(Fault::Store)?;
            states.insert(id, StateRow::write(&entry).as_slice())?;
            if let Some(key) = OfState::of(&entry.state, written_at, key).by_finished {
                by_finished.insert(key.as_slice(), ())?;
            }
        }
        transaction.open_table(META)?.insert(META_FORMAT, 2u32.to_be_bytes().as_slice())?;
    }
    transaction.commit()?;
    Ok(())
}

fn cut(key: EntryKey) -> Fault {
    damaged(key, "it has a content and no state")
}
