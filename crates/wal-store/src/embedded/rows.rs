//! An entry as rows: its content, written once, its state, and when it was written. Stored, keep stable.

use redb::ReadableTable;
use wal_model::ack::Ack;
use wal_model::status::State;
use wal_model::{Entry, EntryKey, LogId, Namespace, Tenant, Timestamp};

use super::keys::PLACE_LEN;
use super::{Fault, keys};
use crate::{Error, document};

/// A row of `states`.
///
/// ```text
///   ┌────┬───────────┬──────────┬───────────────────────┐
///   │ len│ namespace │ tenant   │ state                 │
///   │ 2  │           │          │ to the end            │   all numbers big-endian
///   └────┴───────────┴──────────┴───────────────────────┘
///              tenant: 0, or 1, len 2, text
/// ```
///
/// With the place these are whose entry it is, so an apply can tell that without the content, and reads and writes no payload.
pub(super) struct StateRow<'a> {
    namespace: &'a str,
    tenant: Option<&'a str>,
    pub(super) state: &'a [u8],
}

impl<'a> StateRow<'a> {
    pub(super) fn read(key: EntryKey, row: &'a [u8]) -> Result<StateRow<'a>, Fault> {
        let cut = || damaged(key, "its state is cut off");
        let (namespace, rest) = read_text(row).ok_or_else(cut)?;
        let (has_tenant, rest) = rest.split_first().ok_or_else(cut)?;
        let (tenant, state) = match has_tenant {
            0 => (None, rest),
            _ => read_text(rest).map(|(tenant, rest)| (Some(tenant), rest)).ok_or_else(cut)?,
        };
        Ok(StateRow { namespace, tenant, state })
    }

    /// The row of a new entry.
    pub(super) fn write(entry: &Entry) -> Vec<u8> {
        encode(entry.namespace().as_str(), entry.tenant.as_ref().map(Tenant::as_str), &entry.state)
    }

    /// The row of the same entry in another state.
    pub(super) fn write_with(&self, state: &State) -> Vec<u8> {
        encode(self.namespace, self.tenant, state)
    }

    pub(super) fn state(&self) -> Result<State, Fault> {
        document::decode_state(self.state).map_err(Fault::Store)
    }

    /// The log id of the entry at `key` that was written at `written_at`, which are the row's.
    pub(super) fn log_id(&self, written_at: Timestamp, key: EntryKey) -> Result<LogId, Fault> {
        let namespace = Namespace::parse(self.namespace).map_err(|_| damaged(key, "its namespace is none"))?;
        Ok(LogId::new(namespace, written_at, key))
    }

    /// Whether an event names the entry whose row this is, and whose it is. The places are equal.
    pub(super) fn is_meant_by(&self, ack: &Ack) -> bool {
        ack.log_id.namespace().as_str() == self.namespace && ack.tenant.as_ref().map(Tenant::as_str) == self.tenant
    }
}

fn encode(namespace: &str, tenant: Option<&str>, state: &State) -> Vec<u8> {
    let state = document::encode_state(state);
    let texts = namespace.len() + tenant.map_or(0, str::len);
    let mut row = Vec::with_capacity(2 + 1 + 2 + texts + state.len());
    write_text(&mut row, namespace);
    row.push(u8::from(tenant.is_some()));
    if let Some(tenant) = tenant {
        write_text(&mut row, tenant);
    }
    row.extend_from_slice(state.as_bytes());
    row
}

fn write_text(row: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("names have at most 256 bytes");
    row.extend_from_slice(&length.to_be_bytes());
    row.extend_from_slice(text.as_bytes());
}

fn read_text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (text, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

/// When the entry with a key was written; `None` if there is none.
pub(super) fn written_at(written: &impl ReadableTable<u128, i64>, key: EntryKey) -> Result<Option<Timestamp>, Fault> {
    let Some(millis) = written.get(key.uuid().as_u128())?.map(|row| row.value()) else { return Ok(None) };
    Timestamp::from_millis(millis).map(Some).ok_or_else(|| damaged(key, "its time is none"))
}

/// Reads an entry that is there, whether the tables are a snapshot's or a writer's.
pub(super) fn read_entry(
    content: &impl ReadableTable<&'static [u8; PLACE_LEN], &'static [u8]>,
    states: &impl ReadableTable<&'static [u8; PLACE_LEN], &'static [u8]>,
    written_at: Timestamp,
    key: EntryKey,
) -> Result<Entry, Fault> {
    let place = keys::place(written_at, key);
    let state = states.get(&place)?.ok_or_else(|| damaged(key, "it has no state"))?;
    let content = content.get(&place)?.ok_or_else(|| damaged(key, "it has no content"))?;
    let state = StateRow::read(key, state.value())?.state()?;
    document::decode_content(content.value(), state).map_err(Fault::Store)
}

pub(super) fn damaged(key: EntryKey, what: &str) -> Fault {
    Fault::Store(Error::Corrupt(format!("entry {key}: {what}")))
}
