//! Form 1: plain JSON, so that any Kafka client can write.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::{BATCH_LEN, Request, Write, Writes};
use crate::code::{Code, Refusal};
use crate::lifecycle::{Requested, Seconds};
use crate::name::Id;
use crate::record::InRecord;
use crate::wire::{self, LifecycleJson, MemberJson, Members, Object, RequestJson, UserContextJson};

pub(super) fn decode(record: &InRecord, correlation_fields: &[String]) -> (Option<Id>, Result<Request, Refusal>) {
    let value = match &record.value {
        Some(value) if !value.is_empty() => value,
        _ => return (None, Err(Refusal::new(Code::EmptyRequest, "the record has no value"))),
    };
    let parsed = super::refuse_structured(&record.headers)
        .and_then(|()| refuse_reserved(record))
        .and_then(|()| serde_json::from_slice::<Object<RequestJson<'_>>>(value).map_err(|error| wrong_json(&error)));
    match parsed {
        Ok(Object(json)) => {
            let request_id = json.request_id.as_deref().and_then(|text| Id::parse(text).ok());
            (request_id, request(json, record, value, correlation_fields))
        }
        Err(refusal) => (lenient_request_id(value), Err(refusal)),
    }
}

/// A request may be wrong in everything but the name it gave itself; the receipt should still carry that. What stands before
/// the place where the JSON breaks is readable.
fn lenient_request_id(value: &[u8]) -> Option<Id> {
    let (ids, _) = ids_at_the_top(value, &[wire::REQUEST_ID]);
    ids.into_iter().flatten().next()
}

fn refuse_reserved(record: &InRecord) -> Result<(), Refusal> {
    let reserved =
        record.headers.iter().filter_map(|header| header.name_str()).find(|name| name.starts_with(wire::CE_WAL));
    match reserved {
        Some(name) => {
            let message = format!("header {name} belongs to the log; a plain JSON request says it in its value");
            Err(Refusal::new(Code::HeaderReserved, message))
        }
        None => Ok(()),
    }
}

fn wrong_json(error: &serde_json::Error) -> Refusal {
    let message = error.to_string();
    let code = match error.classify() {
        Category::Syntax | Category::Eof | Category::Io => Code::InvalidJson,
        // serde has no kind for it; the words are pinned by a test.
        Category::Data if message.starts_with("unknown field") => Code::UnknownField,
        Category::Data => Code::InvalidRequest,
    };
    Refusal::new(code, message)
}

fn request(
    json: RequestJson<'_>,
    record: &InRecord,
    value: &Bytes,
    correlation_fields: &[String],
) -> Result<Request, Refusal> {
    let request_id = super::id("request_id", json.request_id.as_deref())?;
    let idempotency_key = super::id("idempotency_key", json.idempotency_key.as_deref())?;
    let UserContextJson { user_id, tenant_id } = json.user_context.unwrap_or_default().0;
    let tenant = super::tenant(tenant_id.as_deref())?;
    let user = super::id("user_id", user_id.as_deref())?;
    let ordering_key = super::ordering_key(record)?;
    let headers = super::callers_headers(&record.headers)?;
    let write = |member: MemberJson<'_>| write(member, value, correlation_fields);
    let member = MemberJson {
        namespace: json.namespace,
        payload: json.payload,
        target: json.target,
        lifecycle: json.lifecycle,
        correlation_id: json.correlation_id,
        deliver_at: json.deliver_at,
        idempotency_key: None,
        request_id: None,
    };
    let writes = match json.entries {
        None => Writes::One(Box::new(write(member)?)),
        Some(entries) => {
            refuse_single_fields(&member)?;
            Writes::Batch(batch(entries, write)?)
        }
    };
    Ok(Request {
        tenant,
        user,
        identity: super::identity(idempotency_key.as_ref(), request_id.as_ref(), record),
        hash: super::meaning(&writes, ordering_key.as_ref()),
        request_id,
        idempotency_key,
        ordering_key,
        headers,
        writes,
    })
}

fn refuse_single_fields(member: &MemberJson<'_>) -> Result<(), Refusal> {
    let given = [
        ("namespace", member.namespace.is_some()),
        ("payload", member.payload.is_some()),
        ("target", member.target.is_some()),
        ("lifecycle", member.lifecycle.is_some()),
        ("correlation_id", member.correlation_id.is_some()),
        ("deliver_at", member.deliver_at.is_some()),
    ];
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((field, _)) => {
            let message = format!("{field} beside entries; in a batch each entry says it for itself");
            Err(Refusal::new(Code::BatchInvalid, message))
        }
        None => Ok(()),
    }
}

fn batch<'a>(
    Members { kept, count }: Members<'a>,
    write: impl Fn(MemberJson<'a>) -> Result<Write, Refusal>,
) -> Result<Vec<Write>, Refusal> {
    if !(1..=BATCH_LEN).contains(&count) {
        let message = format!("the batch has {count} entries, 1 to {BATCH_LEN} are allowed");
        return Err(Refusal::new(Code::BatchInvalid, message));
    }
    kept.into_iter()
        .enumerate()
        .map(|(index, member)| {
            if member.idempotency_key.is_some() || member.request_id.is_some() {
                let message = format!("entry {index} has an id of its own; ids belong to the batch as a whole");
                return Err(Refusal::new(Code::BatchInvalid, message));
            }
            write(member)
                .map_err(|refusal| Refusal::new(refusal.code, format_args!("entry {index}: {}", refusal.message)))
        })
        .collect()
}

fn write(member: MemberJson<'_>, value: &Bytes, correlation_fields: &[String]) -> Result<Write, Refusal> {
    let payload = match member.payload {
        Some(payload) if payload.get().starts_with('{') => value.slice_ref(payload.get().as_bytes()),
        Some(_) => return Err(Refusal::new(Code::InvalidRequest, "payload must be a JSON object")),
        None => return Err(Refusal::new(Code::InvalidRequest, "payload is missing")),
    };
    let found = find_in_payload(&payload, correlation_fields);
    Ok(Write {
        namespace: super::namespace(member.namespace.as_deref())?,
        target: super::target(member.target.as_deref())?,
        lifecycle: lifecycle(member.lifecycle.unwrap_or_default().0)?,
        correlation_id: super::id("correlation_id", member.correlation_id.as_deref())?,
        payload_correlation_id: found.correlation_id,
        deliver_at: super::time("deliver_at", member.deliver_at.as_deref())?,
        operation: found.operation,
        content_type: Some(wire::JSON.to_owned()),
        payload,
    })
}

fn lifecycle(json: LifecycleJson<'_>) -> Result<Requested, Refusal> {
    let requested = Requested {
        retry_count: number("retry_count", json.retry_count, "a whole number, 0 or more", |text| text.parse().ok())?,
        delay: number("delay", json.delay, SECONDS, seconds)?,
        backoff: word("backoff", json.backoff)?,
        ttl: number("ttl", json.ttl, SECONDS, seconds)?,
        priority: word("priority", json.priority)?,
    };
    requested.check().map_err(super::lifecycle_refusal)?;
    Ok(requested)
}

const SECONDS: &str = "seconds, 0 or more, with at most three decimals";

fn seconds(text: &str) -> Option<Seconds> {
    Seconds::from_number(text.parse().ok()?).ok()
}

/// A value that must be a JSON number. serde has seen that it is JSON, of which only a number parses as one.
fn number<T>(
    field: &str,
    raw: Option<&RawValue>,
    expected: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Refusal> {
    raw.map(RawValue::get)
        .map(|text| {
            let refusal = || super::lifecycle_refusal(format_args!("{field} is {text}; it must be {expected}"));
            parse(text).ok_or_else(refusal)
        })
        .transpose()
}

fn word<T: std::str::FromStr<Err: fmt::Display>>(field: &str, raw: Option<&RawValue>) -> Result<Option<T>, Refusal> {
    raw.map(|raw| {
        // What is no text is no known word either.
        let text: String = serde_json::from_str(raw.get()).unwrap_or_default();
        text.parse().map_err(|error| super::lifecycle_refusal(format_args!("{field} {error}")))
    })
    .transpose()
}

/// What a JSON payload says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub operation: Option<Id>,
    pub correlation_id: Option<Id>,
}

/// Looks at the top level of a JSON payload only. What cannot be read or used as an id is as if it were not there: a payload is
/// the caller's business.
pub(super) fn find_in_payload(payload: &[u8], correlation_fields: &[String]) -> Found {
    let names: Vec<&str> =
        std::iter::once(wire::OPERATION).chain(correlation_fields.iter().map(String::as_str)).collect();
    let (ids, Whole::Yes) = ids_at_the_top(payload, &names) else { return Found::default() };
    let mut ids = ids.into_iter();
    Found { operation: ids.next().flatten(), correlation_id: ids.flatten().next() }
}

/// Whether a text is one whole JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whole {
    Yes,
    No,
}

/// The usable ids under some names at the top level of a JSON object, as far as it can be read. What lies deeper is skipped
/// without recursion, so no depth of nesting can end the process.
fn ids_at_the_top(json: &[u8], names: &[&str]) -> (Vec<Option<Id>>, Whole) {
    let mut ids = vec![None; names.len()];
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let read = deserializer.deserialize_map(Top { names, ids: &mut ids }).and_then(|()| deserializer.end());
    (ids, if read.is_ok() { Whole::Yes } else { Whole::No })
}

struct Top<'a> {
    names: &'a [&'a str],
    ids: &'a mut [Option<Id>],
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // A key is read raw: one that is no Unicode (a lone surrogate) must not hide its neighbours.
        while let Some(key) = map.next_key::<&RawValue>()? {
            let key = unescaped(key.get());
            let is_wanted = |name: &&str| key.as_deref() == Some(*name);
            if !self.names.iter().any(is_wanted) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let id = usable_id(map.next_value::<&RawValue>()?.get());
            let wanted = self.names.iter().zip(&mut *self.ids).filter(|(name, _)| is_wanted(name));
            wanted.for_each(|(_, slot)| slot.clone_from(&id));
        }
        Ok(())
    }
}

/// The text of a JSON string; `None` if it is no Unicode or no string.
fn unescaped(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str(raw).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

fn usable_id(raw: &str) -> Option<Id> {
    Id::parse(&unescaped(raw)?).ok()
}
