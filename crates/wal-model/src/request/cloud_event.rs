//! Form 2: CloudEvents binary mode. The value is the payload, byte for byte; the attributes are headers.

use super::json::{Found, find_in_payload};
use super::{Request, Write, Writes};
use crate::code::{Code, Refusal};
use crate::lifecycle::Requested;
use crate::name::Id;
use crate::record::{Header, InRecord};
use crate::wire;

pub(super) fn decode(record: &InRecord, correlation_fields: &[String]) -> (Option<Id>, Result<Request, Refusal>) {
    let request_id = request_id(&record.headers);
    let request = super::refuse_structured(&record.headers)
        .and_then(|()| request_id.clone())
        .and_then(|id| request(record, id, correlation_fields));
    (request_id.ok(), request)
}

/// `ce_source`, a space, `ce_id`: a source is a URI reference and has no space, so no two pairs read the same.
fn request_id(headers: &[Header]) -> Result<Id, Refusal> {
    let source = required(headers, wire::CE_SOURCE)?;
    let id = required(headers, wire::CE_ID)?;
    if source.contains(' ') {
        return Err(invalid(format_args!("{} holds a space, so it is no URI reference", wire::CE_SOURCE)));
    }
    Id::parse(&format!("{source} {id}"))
        .map_err(|wrong| Refusal::new(Code::IdInvalid, format_args!("ce_source and ce_id together {wrong}")))
}

fn required<'a>(headers: &'a [Header], name: &str) -> Result<&'a str, Refusal> {
    super::text(headers, name)?
        .filter(|text| !text.is_empty())
        .ok_or_else(|| invalid(format_args!("{name} is missing or empty")))
}

fn invalid(message: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::CloudEventInvalid, message)
}

fn refuse_unknown(headers: &[Header]) -> Result<(), Refusal> {
    let ours = headers.iter().filter_map(Header::name_str).filter(|name| name.starts_with(wire::CE_WAL));
    match ours.into_iter().find(|name| !wire::REQUEST_ATTRIBUTES.contains(name)) {
        Some(name) => Err(Refusal::new(Code::HeaderReserved, format_args!("{name} is not an attribute of a request"))),
        None => Ok(()),
    }
}

fn request(record: &InRecord, request_id: Id, correlation_fields: &[String]) -> Result<Request, Refusal> {
    let headers = &record.headers;
    let version = required(headers, wire::CE_SPECVERSION)?;
    if version != wire::SPEC_VERSION {
        return Err(invalid(format_args!("{} is `{version}`, only 1.0 is known", wire::CE_SPECVERSION)));
    }
    refuse_unknown(headers)?;
    let idempotency_key = super::id(wire::CE_WALIDEMPOTENCYKEY, super::text(headers, wire::CE_WALIDEMPOTENCYKEY)?)?;
    let tenant = super::tenant(super::text(headers, wire::CE_WALTENANT)?)?;
    let user = super::id(wire::CE_WALUSER, super::text(headers, wire::CE_WALUSER)?)?;
    let ordering_key = super::ordering_key(record)?;
    let writes = Writes::One(Box::new(write(record, correlation_fields)?));
    // ce_time, ce_expirytime and ce_partitionkey may come once, like every attribute that a delivery sets anew.
    for name in [wire::CE_TIME, wire::CE_EXPIRYTIME, wire::CE_PARTITIONKEY] {
        super::single(headers, name)?;
    }
    Ok(Request {
        tenant,
        user,
        identity: super::identity(idempotency_key.as_ref(), Some(&request_id), record),
        hash: super::meaning(&writes, ordering_key.as_ref()),
        request_id: Some(request_id),
        idempotency_key,
        ordering_key,
        headers: super::callers_headers(headers)?,
        writes,
    })
}

fn write(record: &InRecord, correlation_fields: &[String]) -> Result<Write, Refusal> {
    let headers = &record.headers;
    let content_type = super::text(headers, wire::CONTENT_TYPE)?.filter(|text| !text.is_empty());
    if let Some(media_type) = content_type {
        Id::parse(media_type)
            .map_err(|wrong| Refusal::new(Code::HeaderInvalid, format_args!("{} {wrong}", wire::CONTENT_TYPE)))?;
    }
    // A CloudEvent without data has no value; its payload is empty, and never sent as a null.
    let payload = record.value.clone().unwrap_or_default();
    let found = match content_type {
        Some(media_type) if is_json(media_type) => find_in_payload(&payload, correlation_fields),
        _ => Found::default(),
    };
    Ok(Write {
        namespace: super::namespace(super::text(headers, wire::CE_WALNAMESPACE)?)?,
        target: super::target(super::text(headers, wire::CE_WALTARGET)?)?,
        lifecycle: lifecycle(headers)?,
        correlation_id: super::id(wire::CE_CORRELATIONID, super::text(headers, wire::CE_CORRELATIONID)?)?,
        payload_correlation_id: found.correlation_id,
        deliver_at: super::time(wire::CE_WALDELIVERAT, super::text(headers, wire::CE_WALDELIVERAT)?)?,
        operation: super::id(wire::CE_TYPE, Some(required(headers, wire::CE_TYPE)?))?,
        content_type: content_type.map(str::to_owned),
        payload,
    })
}

fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == wire::JSON || essence.ends_with("+json")
}

fn lifecycle(headers: &[Header]) -> Result<Requested, Refusal> {
    let requested = Requested {
        retry_count: value(headers, wire::CE_WALRETRIES)?,
        delay: value(headers, wire::CE_WALDELAY)?,
        backoff: value(headers, wire::CE_WALBACKOFF)?,
        ttl: value(headers, wire::CE_WALTTL)?,
        priority: value(headers, wire::CE_WALPRIORITY)?,
    };
    requested.check().map_err(super::lifecycle_refusal)?;
    Ok(requested)
}

fn value<T: std::str::FromStr<Err: std::fmt::Display>>(headers: &[Header], name: &str) -> Result<Option<T>, Refusal> {
    super::text(headers, name)?
        .map(|text| text.parse().map_err(|error| super::lifecycle_refusal(format_args!("{name}: {error}"))))
        .transpose()
}
