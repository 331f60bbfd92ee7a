//! An entry as two rows: its content, written once, and its state. Stored, keep stable.

use redb::ReadableTable;
use wal_model::status::State;
use wal_model::{Entry, EntryKey, Timestamp};

use super::{Fault, keys};
use crate::{Error, document};

/// A row of `states`: when the entry was written (8 bytes, big-endian), then its standing. The time leads to the content and to
/// the status index, so an apply reads and writes no payload.
pub(super) struct StateRow<'a> {
    pub(super) written_at: Timestamp,
    standing: &'a [u8],
}

impl<'a> StateRow<'a> {
    pub(super) fn read(key: EntryKey, row: &'a [u8]) -> Result<StateRow<'a>, Fault> {
        let (time, standing) = row.split_first_chunk::<8>().ok_or_else(|| damaged(key, "its state is cut off"))?;
        let written_at = keys::read_time(*time).ok_or_else(|| damaged(key, "its time is none"))?;
        Ok(StateRow { written_at, standing })
    }

    pub(super) fn write(written_at: Timestamp, state: &State) -> Vec<u8> {
        let standing = document::encode_standing(state);
        let mut row = Vec::with_capacity(8 + standing.len());
        row.extend_from_slice(&keys::time_bytes(written_at));
        row.extend_from_slice(standing.as_bytes());
        row
    }

    pub(super) fn state(&self) -> Result<State, Fault> {
        document::decode_standing(self.standing).map_err(Fault::Store)
    }
}

/// Reads an entry from the two tables, whether they are a snapshot's or a writer's.
pub(super) fn read_entry(
    content: &impl ReadableTable<&'static [u8; keys::PLACE_LEN], &'static [u8]>,
    states: &impl ReadableTable<u128, &'static [u8]>,
    key: EntryKey,
) -> Result<Option<Entry>, Fault> {
    let Some(state) = states.get(key.uuid().as_u128())? else {
        return Ok(None);
    };
    let row = StateRow::read(key, state.value())?;
    let Some(content) = content.get(&keys::place(row.written_at, key))? else {
        return Err(damaged(key, "it has a state and no content"));
    };
    document::decode_parts(content.value(), row.standing).map(Some).map_err(Fault::Store)
}

pub(super) fn damaged(key: EntryKey, what: &str) -> Fault {
    Fault::Store(Error::Corrupt(format!("entry {key}: {what}")))
}
