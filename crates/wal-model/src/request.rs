//! What clients ask for: the two forms of a request, read from a record into one shape.
//!
//! ```text
//!   ce_specversion header?  yes ─▶ form 2: value is the payload, attributes are headers
//!                           no ──▶ form 1: value is JSON, one entry or `entries`
//! ```
//!
//! Decoding is pure: it knows no policy, no clock and no topic but what the record says.

mod cloud_event;
mod json;
mod plain;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::code::{Code, Refusal};
use crate::hash::{ContentHash, Fields};
use crate::id::Identity;
use crate::lifecycle::Requested;
use crate::name::{ID_LEN, Id, Invalid, Namespace, Tenant, Topic};
use crate::record::{Header, InRecord};
use crate::wire;

pub use plain::{PlainEntry, PlainRequest};

/// The most entries in a batch.
pub const BATCH_LEN: usize = 1000;
/// The most bytes of caller's headers.
pub const HEADERS_LEN: usize = 16 * 1024;

/// Where a receipt is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplyTo {
    /// The topic; `None` is the log's own receipts topic.
    pub topic: Option<Topic>,
    /// The partition; only with a topic.
    pub partition: Option<i32>,
    /// Copied to the receipt.
    pub correlation: Option<Bytes>,
}

/// One entry to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The namespace.
    pub namespace: Namespace,
    /// The target; `None` leaves it to the policy.
    pub target: Option<Topic>,
    /// The lifecycle, as far as it is given.
    pub lifecycle: Requested,
    /// The correlation id as it is given.
    pub correlation_id: Option<Id>,
    /// The correlation id found in the payload.
    pub payload_correlation_id: Option<Id>,
    /// When the first attempt is wanted.
    pub deliver_at: Option<Timestamp>,
    /// What the entry does.
    pub operation: Option<Id>,
    /// Media type of the payload.
    pub content_type: Option<String>,
    /// The payload, byte for byte.
    pub payload: Bytes,
}

/// What is to be written together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writes {
    /// One entry.
    One(Box<Write>),
    /// A batch: 1 to [`BATCH_LEN`] entries, stored all or none.
    Batch(Vec<Write>),
}

impl Writes {
    /// The entries, in order.
    pub fn as_slice(&self) -> &[Write] {
        match self {
            Writes::One(write) => std::slice::from_ref(write),
            Writes::Batch(writes) => writes,
        }
    }
}

/// A request that can be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who it belongs to.
    pub tenant: Option<Tenant>,
    /// Who sent it.
    pub user: Option<Id>,
    /// What makes it the same request when it comes again.
    pub identity: Identity,
    /// The caller's word for the request.
    pub request_id: Option<Id>,
    /// The caller's word for the operation.
    pub idempotency_key: Option<Id>,
    /// The record's key.
    pub ordering_key: Option<Bytes>,
    /// The caller's own headers.
    pub headers: Vec<Header>,
    /// What is to be written.
    pub writes: Writes,
    /// Hash over the meaning, as given.
    pub hash: ContentHash,
}

/// What a record on an ingress topic says, right or wrong.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// Where the receipt is wanted; the default address where that cannot be read.
    pub reply: ReplyTo,
    /// The caller's word for the request, where it can be read even from a wrong one.
    pub request_id: Option<Id>,
    /// The request, or why there is none.
    pub request: Result<Request, Refusal>,
}

/// Reads a record of an ingress topic.
///
/// `correlation_fields` are the names in a JSON payload of which the first that is a usable string serves as correlation id.
pub fn decode(record: &InRecord, correlation_fields: &[String]) -> Decoded {
    let (reply, reply_error) = match reply_to(&record.headers) {
        Ok(reply) => (reply, None),
        Err(refusal) => (ReplyTo { correlation: correlation(&record.headers), ..ReplyTo::default() }, Some(refusal)),
    };
    let is_cloud_event = record.headers.iter().any(|header| header.is(wire::CE_SPECVERSION));
    let (request_id, request) = if is_cloud_event {
        cloud_event::decode(record, correlation_fields)
    } else {
        json::decode(record, correlation_fields)
    };
    let request = match reply_error {
        Some(refusal) => Err(refusal),
        None => request,
    };
    Decoded { reply, request_id, request }
}

/// The correlation that a receipt carries back; one beyond its limit could make a receipt that no topic takes.
fn correlation(headers: &[Header]) -> Option<Bytes> {
    crate::record::last(headers, wire::REPLY_CORRELATION).filter(|bytes| bytes.len() <= ID_LEN).cloned()
}

fn reply_to(headers: &[Header]) -> Result<ReplyTo, Refusal> {
    let topic = match text(headers, wire::REPLY_TOPIC)? {
        Some(name) => Some(Topic::parse(name).map_err(|invalid| {
            Refusal::new(Code::ReplyInvalid, format_args!("{} `{name}` {invalid}", wire::REPLY_TOPIC))
        })?),
        None => None,
    };
    let partition = match single(headers, wire::REPLY_PARTITION)? {
        Some(bytes) => Some(partition(bytes)?),
        None => None,
    };
    if partition.is_some() && topic.is_none() {
        let message = format!("{} without {}", wire::REPLY_PARTITION, wire::REPLY_TOPIC);
        return Err(Refusal::new(Code::ReplyInvalid, message));
    }
    if let Some(bytes) = single(headers, wire::REPLY_CORRELATION)?.filter(|bytes| bytes.len() > ID_LEN) {
        let length = bytes.len();
        let message = format!("{} is {length} bytes, {ID_LEN} at most are allowed", wire::REPLY_CORRELATION);
        return Err(Refusal::new(Code::ReplyInvalid, message));
    }
    Ok(ReplyTo { topic, partition, correlation: correlation(headers) })
}

fn partition(bytes: &Bytes) -> Result<i32, Refusal> {
    <[u8; 4]>::try_from(&bytes[..]).ok().map(i32::from_be_bytes).filter(|partition| *partition >= 0).ok_or_else(|| {
        let message = format!("{} must be a partition in 4 bytes, big-endian", wire::REPLY_PARTITION);
        Refusal::new(Code::ReplyInvalid, message)
    })
}

/// The value of a header that may come once; null counts as absent.
fn single<'a>(headers: &'a [Header], name: &str) -> Result<Option<&'a Bytes>, Refusal> {
    let mut found = headers.iter().filter(|header| header.is(name));
    let first = found.next();
    if found.next().is_some() {
        return Err(Refusal::new(Code::HeaderInvalid, format_args!("header {name} comes twice")));
    }
    Ok(first.and_then(|header| header.value.as_ref()))
}

/// The value of a header that may come once, as text.
fn text<'a>(headers: &'a [Header], name: &str) -> Result<Option<&'a str>, Refusal> {
    single(headers, name)?
        .map(|value| {
            std::str::from_utf8(value)
                .map_err(|_| Refusal::new(Code::HeaderInvalid, format_args!("header {name} is not UTF-8")))
        })
        .transpose()
}

/// The caller's own headers: all but ours, within their limit.
fn callers_headers(headers: &[Header]) -> Result<Vec<Header>, Refusal> {
    let mut own = Vec::new();
    for header in headers {
        let Some(name) = header.name_str() else {
            let name = String::from_utf8_lossy(&header.name);
            return Err(Refusal::new(Code::HeaderInvalid, format_args!("the header name {name:?} is not UTF-8")));
        };
        if name.contains('\0') || name.is_empty() {
            return Err(Refusal::new(
                Code::HeaderInvalid,
                format_args!("the header name {name:?} cannot be passed on"),
            ));
        }
        if !wire::is_reserved(name) {
            own.push(header.clone());
        }
    }
    let size: usize = own.iter().map(Header::size).sum();
    if size > HEADERS_LEN {
        let message = format!("the caller's headers are {size} bytes, {HEADERS_LEN} at most are allowed");
        return Err(Refusal::new(Code::HeadersTooLarge, message));
    }
    Ok(own)
}

fn ordering_key(record: &InRecord) -> Result<Option<Bytes>, Refusal> {
    match &record.key {
        Some(key) if key.len() > ID_LEN => {
            let message = format!("the record's key is {} bytes, {ID_LEN} at most are allowed", key.len());
            Err(Refusal::new(Code::KeyTooLong, message))
        }
        key => Ok(key.clone()),
    }
}

/// Refuses a structured CloudEvent by name.
fn refuse_structured(headers: &[Header]) -> Result<(), Refusal> {
    let media_type = text(headers, wire::CONTENT_TYPE)?.unwrap_or_default();
    if media_type.trim_start().to_ascii_lowercase().starts_with(wire::STRUCTURED) {
        let message = "structured CloudEvents are not taken; send binary mode (ce_ headers) or plain JSON";
        return Err(Refusal::new(Code::CloudEventStructured, message));
    }
    Ok(())
}

/// An id field: absent, null and empty are the same.
fn id(field: &str, text: Option<&str>) -> Result<Option<Id>, Refusal> {
    text.filter(|text| !text.is_empty())
        .map(|text| Id::parse(text).map_err(|invalid| Refusal::new(Code::IdInvalid, format_args!("{field} {invalid}"))))
        .transpose()
}

fn tenant(text: Option<&str>) -> Result<Option<Tenant>, Refusal> {
    text.filter(|text| !text.is_empty())
        .map(|text| {
            Tenant::parse(text).map_err(|invalid| Refusal::new(Code::IdInvalid, format_args!("tenant {invalid}")))
        })
        .transpose()
}

fn namespace(text: Option<&str>) -> Result<Namespace, Refusal> {
    let text = text.ok_or_else(|| Refusal::new(Code::NamespaceInvalid, "namespace is missing"))?;
    Namespace::parse(text)
        .map_err(|invalid| Refusal::new(Code::NamespaceInvalid, format_args!("namespace {}", Shown(text, &invalid))))
}

fn target(text: Option<&str>) -> Result<Option<Topic>, Refusal> {
    text.map(|text| {
        Topic::parse(text)
            .map_err(|invalid| Refusal::new(Code::TargetInvalid, format_args!("target {}", Shown(text, &invalid))))
    })
    .transpose()
}

fn time(field: &str, text: Option<&str>) -> Result<Option<Timestamp>, Refusal> {
    text.map(|text| text.parse().map_err(|error| Refusal::new(Code::TimeInvalid, format_args!("{field}: {error}"))))
        .transpose()
}

fn lifecycle_refusal(message: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::LifecycleInvalid, message)
}

/// A wrong name beside what is wrong with it; a long one is not repeated.
struct Shown<'a>(&'a str, &'a Invalid);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.len() <= 100 { write!(f, "{:?} {}", self.0, self.1) } else { write!(f, "{}", self.1) }
    }
}

impl Write {
    /// The meaning of one entry: the request id, the user and everything of the transport are not part of it.
    fn meaning(&self, ordering_key: Option<&Bytes>) -> ContentHash {
        let lifecycle = &self.lifecycle;
        let millis =
            |seconds: crate::lifecycle::Seconds| i64::try_from(seconds.duration().as_millis()).unwrap_or(i64::MAX);
        Fields::new("request-1")
            .text(self.namespace.as_str())
            .maybe_text(self.target.as_ref().map(Topic::as_str))
            .maybe_number(lifecycle.retry_count.map(i64::from))
            .maybe_number(lifecycle.delay.map(millis))
            .maybe_text(lifecycle.backoff.map(crate::lifecycle::Backoff::as_str))
            .maybe_number(lifecycle.ttl.map(millis))
            .maybe_text(lifecycle.priority.map(crate::lifecycle::Priority::as_str))
            .maybe_text(self.correlation_id.as_ref().map(Id::as_str))
            .maybe_number(self.deliver_at.map(Timestamp::as_millis))
            .maybe(ordering_key.map(|key| &key[..]))
            .maybe_text(self.content_type.as_deref())
            .bytes(&self.payload)
            .hash()
    }
}

/// The meaning of everything a request writes. Stored, keep stable.
fn meaning(writes: &Writes, ordering_key: Option<&Bytes>) -> ContentHash {
    match writes {
        Writes::One(write) => write.meaning(ordering_key),
        Writes::Batch(writes) => {
            let count = i64::try_from(writes.len()).expect("a batch has at most 1000 entries");
            let start = Fields::new("batch-1").number(count);
            let members = writes.iter().map(|write| write.meaning(ordering_key));
            members.fold(start, |fields, hash| fields.bytes(hash.as_bytes())).hash()
        }
    }
}

/// The identity, in the order of what says most.
fn identity(idempotency_key: Option<&Id>, request_id: Option<&Id>, record: &InRecord) -> Identity {
    match (idempotency_key, request_id) {
        (Some(key), _) => Identity::IdempotencyKey(key.clone()),
        (None, Some(id)) => Identity::RequestId(id.clone()),
        (None, None) => Identity::Record(record.coordinates()),
    }
}

#[cfg(test)]
mod tests;
