//! An entry as two rows: its content, written once, and its state. Stored, keep stable.

use redb::ReadableTable;
use wal_model::ack::Ack;
use wal_model::status::State;
use wal_model::{Entry, EntryKey, LogId, Namespace, Tenant, Timestamp};

use super::{Fault, keys};
use crate::{Error, document};

/// A row of `states`.
///
/// ```text
///   ┌────────────┬────┬───────────┬──────────┬───────────────────────┐
///   │ written at │ len│ namespace │ tenant   │ standing              │
///   │ 8          │ 2  │           │          │ to the end            │   all numbers big-endian
///   └────────────┴────┴───────────┴──────────┴───────────────────────┘
///                            tenant: 0, or 1, len 2, text
/// ```
///
/// With the key these are whose entry it is, so an apply can tell that without the content, and reads and writes no payload. The
/// time leads to the content and to the status index.
pub(super) struct StateRow<'a> {
    pub(super) written_at: Timestamp,
    namespace: &'a str,
    tenant: Option<&'a str>,
    standing: &'a [u8],
}

impl<'a> StateRow<'a> {
    pub(super) fn read(key: EntryKey, row: &'a [u8]) -> Result<StateRow<'a>, Fault> {
        let cut = || damaged(key, "its state is cut off");
        let (time, rest) = row.split_first_chunk::<8>().ok_or_else(cut)?;
        let written_at = keys::read_time(*time).ok_or_else(|| damaged(key, "its time is none"))?;
        let (namespace, rest) = read_text(rest).ok_or_else(cut)?;
        let (has_tenant, rest) = rest.split_first().ok_or_else(cut)?;
        let (tenant, standing) = match has_tenant {
            0 => (None, rest),
            _ => read_text(rest).map(|(tenant, rest)| (Some(tenant), rest)).ok_or_else(cut)?,
        };
        Ok(StateRow { written_at, namespace, tenant, standing })
    }

    /// The row of a new entry.
    pub(super) fn write(entry: &Entry) -> Vec<u8> {
        let (namespace, tenant) = (entry.namespace().as_str(), entry.tenant.as_ref().map(Tenant::as_str));
        encode(entry.timestamp(), namespace, tenant, &entry.state)
    }

    /// The row of the same entry in another state.
    pub(super) fn write_with(&self, state: &State) -> Vec<u8> {
        encode(self.written_at, self.namespace, self.tenant, state)
    }

    pub(super) fn state(&self) -> Result<State, Fault> {
        document::decode_standing(self.standing).map_err(Fault::Store)
    }

    /// The entry's log id. `key` is the row's.
    pub(super) fn log_id(&self, key: EntryKey) -> Result<LogId, Fault> {
        let namespace = Namespace::parse(self.namespace).map_err(|_| damaged(key, "its namespace is none"))?;
        Ok(LogId::new(namespace, self.written_at, key))
    }

    /// Whether an event names the entry whose row this is, and whose it is. The keys are equal.
    pub(super) fn is_meant_by(&self, ack: &Ack) -> bool {
        ack.log_id.timestamp() == self.written_at
            && ack.log_id.namespace().as_str() == self.namespace
            && ack.tenant.as_ref().map(Tenant::as_str) == self.tenant
    }
}

fn encode(written_at: Timestamp, namespace: &str, tenant: Option<&str>, state: &State) -> Vec<u8> {
    let standing = document::encode_standing(state);
    let texts = namespace.len() + tenant.map_or(0, str::len);
    let mut row = Vec::with_capacity(8 + 2 + 1 + 2 + texts + standing.len());
    row.extend_from_slice(&keys::time_bytes(written_at));
    write_text(&mut row, namespace);
    row.push(u8::from(tenant.is_some()));
    if let Some(tenant) = tenant {
        write_text(&mut row, tenant);
    }
    row.extend_from_slice(standing.as_bytes());
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
