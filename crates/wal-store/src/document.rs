//! An entry as a JSON document: the one shape every backend keeps. Stored, keep stable: golden documents are re-read for ever.
//!
//! ```text
//!   { _key, version, log_id, ..., payload_raw, headers, ...     the content: written once, never changed
//!     status, retry_count, reason?, deadline?, finished_at?, state }   the standing: written anew by every apply
//! ```
//!
//! `namespace`, `timestamp`, `payload`, `status`, `retry_count`, `reason`, `deadline` and `finished_at` are there for indexes and for
//! people: they follow from `log_id`, `payload_raw` and `state`, and are never read back.

mod binary;
mod readable;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use wal_model::entry::{Answers, BatchPlace};
use wal_model::status::{Reason, State, Status};
use wal_model::{ContentHash, Coordinates, Entry, EntryKey, Id, Lifecycle, LogId, Namespace, Tenant, Timestamp, Topic};

use self::binary::{Binary, HeaderField};
use crate::Error;

/// The version of the documents written here. Stored, keep stable.
pub const VERSION: u32 = 1;

/// Whether a document carries `payload`, a second copy of the payload for people and queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadableCopy {
    /// Where the payload is JSON that a database can hold.
    Written,
    /// Never: nobody looks into this database but us.
    Omitted,
}

/// What never changes. A field added here is optional and ignored by older readers, or it needs a new [`VERSION`].
#[derive(Serialize, Deserialize)]
struct Content<'a> {
    #[serde(rename = "_key")]
    key: EntryKey,
    version: u32,
    log_id: LogId,
    #[serde(skip_deserializing)]
    namespace: Option<Namespace>,
    #[serde(skip_deserializing)]
    timestamp: Option<Timestamp>,
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload_raw: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload_base64: Option<Cow<'a, str>>,
    target: Topic,
    lifecycle: Lifecycle,
    answers: Answers,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correlation_id: Option<Id>,
    metadata: Metadata,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request_id: Option<Id>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<Id>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ordering_key: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ordering_key_base64: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<HeaderField<'a>>,
    request_hash: ContentHash,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    batch: Option<BatchPlace>,
    origin: Coordinates,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deliver_at: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct Metadata {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_id: Option<Id>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant_id: Option<Tenant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    operation: Option<Id>,
}

/// What an apply writes.
#[derive(Serialize)]
struct Standing<'a> {
    status: Status,
    retry_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    /// Only while unfinished: an index over it finds what is to expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<Timestamp>,
    /// Only while finished: an index over it finds what is to be purged.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
    state: &'a State,
}

#[derive(Deserialize)]
struct StandingRead {
    state: State,
}

/// The deadline an index may hold: that of an unfinished entry.
pub(crate) fn open_deadline(state: &State) -> Option<Timestamp> {
    (!state.status().is_finished()).then(|| state.deadline())
}

/// The time an index may hold of a finished entry: when its standing event happened.
pub(crate) fn finished_at(state: &State) -> Option<Timestamp> {
    state.status().is_finished().then_some(state.standing.at)
}

/// Writes an entry as one document.
pub fn encode(entry: &Entry, copy: ReadableCopy) -> String {
    let mut document = encode_content(entry, copy);
    let standing = encode_standing(&entry.state);
    // Both are objects that are not empty: `{a}` and `{b}` make `{a,b}`.
    document.pop();
    document.push(',');
    document.push_str(&standing[1..]);
    document
}

/// Reads a document that [`encode`] wrote, now or in an earlier version.
pub fn decode(document: &[u8]) -> Result<Entry, Error> {
    decode_content(document, decode_standing(document)?)
}

/// Writes the part of a document that never changes.
pub(crate) fn encode_content(entry: &Entry, copy: ReadableCopy) -> String {
    let readable = match copy {
        ReadableCopy::Written => readable::copy_of(&entry.payload),
        ReadableCopy::Omitted => None,
    };
    let payload = Binary::of(&entry.payload);
    let ordering_key = entry.ordering_key.as_deref().map(Binary::of).unwrap_or_default();
    let metadata =
        Metadata { user_id: entry.user.clone(), tenant_id: entry.tenant.clone(), operation: entry.operation.clone() };
    to_json(&Content {
        key: entry.key(),
        version: VERSION,
        log_id: entry.log_id.clone(),
        namespace: Some(entry.namespace().clone()),
        timestamp: Some(entry.timestamp()),
        payload: readable,
        payload_raw: payload.text,
        payload_base64: payload.base64,
        target: entry.target.clone(),
        lifecycle: entry.lifecycle,
        answers: entry.answers,
        correlation_id: entry.correlation_id.clone(),
        metadata,
        content_type: entry.content_type.as_deref().map(Cow::Borrowed),
        request_id: entry.request_id.clone(),
        idempotency_key: entry.idempotency_key.clone(),
        ordering_key: ordering_key.text,
        ordering_key_base64: ordering_key.base64,
        headers: entry.headers.iter().map(HeaderField::of).collect(),
        request_hash: entry.request_hash,
        batch: entry.batch.clone(),
        origin: entry.origin.clone(),
        deliver_at: entry.deliver_at,
    })
}

/// Writes the part of a document that an apply changes, as an object of its own.
pub(crate) fn encode_standing(state: &State) -> String {
    to_json(&Standing {
        status: state.status(),
        retry_count: state.retry_count(),
        reason: state.reason(),
        deadline: open_deadline(state),
        finished_at: finished_at(state),
        state,
    })
}

/// The part of a document that an apply changes, with null for what it has not: so it goes where it was.
pub(crate) fn standing_update(state: &State) -> serde_json::Value {
    let mut update: serde_json::Value =
        serde_json::from_str(&encode_standing(state)).expect("what was just written is JSON");
    for field in ["reason", "deadline", "finished_at"] {
        if update.get(field).is_none() {
            update[field] = serde_json::Value::Null;
        }
    }
    update
}

/// Reads what [`encode_standing`] wrote, alone or within a whole document.
pub(crate) fn decode_standing(standing: &[u8]) -> Result<State, Error> {
    let read: StandingRead = parse(standing)?;
    Ok(read.state)
}

/// Writes a state alone, where nobody asks for what follows from it.
pub(crate) fn encode_state(state: &State) -> String {
    to_json(state)
}

/// Reads what [`encode_state`] wrote.
pub(crate) fn decode_state(state: &[u8]) -> Result<State, Error> {
    parse(state)
}

/// Reads an entry from what [`encode_content`] wrote of it, alone or within a whole document, and its state.
pub(crate) fn decode_content(content: &[u8], state: State) -> Result<Entry, Error> {
    let content: Content<'_> = parse(content)?;
    let key = content.key;
    let damaged = |what: &str| Error::Corrupt(format!("document {key}: {what}"));
    if content.version != VERSION {
        return Err(newer(content.version));
    }
    if content.log_id.key() != key {
        return Err(damaged("its log_id names another key"));
    }
    let payload = Binary { text: content.payload_raw, base64: content.payload_base64 };
    let payload = payload.into_bytes().map_err(damaged)?.ok_or_else(|| damaged("it has no payload"))?;
    let ordering_key = Binary { text: content.ordering_key, base64: content.ordering_key_base64 };
    let headers: Result<Vec<_>, _> = content.headers.into_iter().map(HeaderField::into_header).collect();
    Ok(Entry {
        log_id: content.log_id,
        target: content.target,
        lifecycle: content.lifecycle,
        answers: content.answers,
        tenant: content.metadata.tenant_id,
        user: content.metadata.user_id,
        operation: content.metadata.operation,
        correlation_id: content.correlation_id,
        request_id: content.request_id,
        idempotency_key: content.idempotency_key,
        deliver_at: content.deliver_at,
        ordering_key: ordering_key.into_bytes().map_err(damaged)?,
        content_type: content.content_type.map(Cow::into_owned),
        payload,
        headers: headers.map_err(damaged)?,
        request_hash: content.request_hash,
        batch: content.batch,
        origin: content.origin,
        state,
    })
}

fn to_json(part: &impl Serialize) -> String {
    // Every map here has text or numbers for keys, and no field's own Serialize can fail.
    serde_json::to_string(part).expect("documents are plain data")
}

fn parse<'a, T: Deserialize<'a>>(document: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(document).map_err(|error| unreadable(document, &error))
}

/// A newer document may have any shape, so its version is looked for once reading it has failed.
fn unreadable(document: &[u8], error: &serde_json::Error) -> Error {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    match serde_json::from_slice(document) {
        Ok(Version { version }) if version != VERSION => newer(version),
        Ok(Version { .. }) | Err(_) => Error::Corrupt(format!("a document is not one of ours: {error}")),
    }
}

fn newer(version: u32) -> Error {
    Error::Corrupt(format!(
        "a document has version {version}, this program knows {VERSION}: it was written by a newer one, use that"
    ))
}

#[cfg(test)]
mod tests;
