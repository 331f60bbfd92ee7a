//! Form 1: plain JSON, so that any Kafka client can write.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::error::Category;

use super::{BATCH_LEN, Request, Write, Writes};
use crate::code::{Code, Refusal};
use crate::lifecycle::{Requested, Seconds};
use crate::name::Id;
use crate::record::InRecord;
use crate::wire::{self, LifecycleJson, MemberJson, Object, RequestIdJson, RequestJson, UserContextJson};

pub(super) fn decode(record: &InRecord, correlation_fields: &[String]) -> (Option<Id>, Result<Request, Refusal>) {
    let value = match &record.value {
        Some(value) if !value.is_empty() => value,
        _ => return (None, Err(Refusal::new(Code::EmptyRequest, "the record has no value"))),
    };
    let parsed = super::refuse_structured(record)
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

/// A request may be wrong in everything but the name it gave itself; the receipt should still carry that.
fn lenient_request_id(value: &[u8]) -> Option<Id> {
    let Object(json) = serde_json::from_slice::<Object<RequestIdJson>>(value).ok()?;
    Id::parse(json.request_id.as_deref()?).ok()
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
    entries: Vec<Object<MemberJson<'a>>>,
    write: impl Fn(MemberJson<'a>) -> Result<Write, Refusal>,
) -> Result<Vec<Write>, Refusal> {
    if entries.is_empty() || entries.len() > BATCH_LEN {
        let message = format!("the batch has {} entries, 1 to {BATCH_LEN} are allowed", entries.len());
        return Err(Refusal::new(Code::BatchInvalid, message));
    }
    entries
        .into_iter()
        .enumerate()
        .map(|(index, Object(member))| {
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

fn lifecycle(json: LifecycleJson) -> Result<Requested, Refusal> {
    let seconds = |field: &str, number: Option<serde_json::Number>| -> Result<Option<Seconds>, Refusal> {
        number
            .map(|number| {
                wire::seconds(&number).ok_or_else(|| {
                    super::lifecycle_refusal(format_args!(
                        "{field} is {number}; it must be seconds, 0 or more, with at most three decimals"
                    ))
                })
            })
            .transpose()
    };
    let retry_count = json
        .retry_count
        .map(|number| {
            number.as_u64().and_then(|count| u32::try_from(count).ok()).ok_or_else(|| {
                super::lifecycle_refusal(format_args!("retry_count is {number}; it must be a whole number, 0 or more"))
            })
        })
        .transpose()?;
    let requested = Requested {
        retry_count,
        delay: seconds("delay", json.delay)?,
        backoff: word("backoff", json.backoff.as_deref())?,
        ttl: seconds("ttl", json.ttl)?,
        priority: word("priority", json.priority.as_deref())?,
    };
    requested.check().map_err(super::lifecycle_refusal)?;
    Ok(requested)
}

fn word<T: std::str::FromStr<Err: fmt::Display>>(field: &str, text: Option<&str>) -> Result<Option<T>, Refusal> {
    text.map(|text| text.parse().map_err(|error| super::lifecycle_refusal(format_args!("{field} {error}")))).transpose()
}

/// What a JSON payload says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub operation: Option<Id>,
    pub correlation_id: Option<Id>,
}

/// Looks at the top level of a JSON payload only, at any depth below it without recursion. What cannot be read or used as an
/// id is as if it were not there: a payload is the caller's business.
pub(super) fn find_in_payload(payload: &[u8], correlation_fields: &[String]) -> Found {
    let mut strings: Vec<Option<Id>> = vec![None; correlation_fields.len()];
    let mut operation = None;
    let mut deserializer = serde_json::Deserializer::from_slice(payload);
    let top = Top { correlation_fields, strings: &mut strings, operation: &mut operation };
    if deserializer.deserialize_map(top).is_err() {
        return Found::default();
    }
    Found { operation, correlation_id: strings.into_iter().flatten().next() }
}

struct Top<'a> {
    correlation_fields: &'a [String],
    strings: &'a mut [Option<Id>],
    operation: &'a mut Option<Id>,
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            let wanted = self.correlation_fields.iter().position(|field| *field == name);
            if name != "operation" && wanted.is_none() {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let id = map.next_value_seed(MaybeId)?;
            if name == "operation" {
                self.operation.clone_from(&id);
            }
            if let Some(wanted) = wanted {
                self.strings[wanted] = id;
            }
        }
        Ok(())
    }
}

/// A string that can serve as an id; anything else is skipped.
struct MaybeId;

impl<'de> DeserializeSeed<'de> for MaybeId {
    type Value = Option<Id>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Id>, D::Error> {
        let raw: &serde_json::value::RawValue = serde::Deserialize::deserialize(deserializer)?;
        let text: Option<String> = serde_json::from_str(raw.get()).ok();
        Ok(text.and_then(|text| Id::parse(&text).ok()))
    }
}
