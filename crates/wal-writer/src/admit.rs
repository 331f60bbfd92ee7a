//! Admission: from a record to the entries it asks for, or the reason why not. Pure.

use std::time::Duration;

use wal_model::entry::{BatchPlace, Entry};
use wal_model::id::{EntryKey, LogId};
use wal_model::record::InRecord;
use wal_model::request::{Decoded, ReplyTo, Request, Write, Writes};
use wal_model::status::State;
use wal_model::topics::Topics;
use wal_model::{Code, Coordinates, Id, Refusal, Timestamp, Topic};
use wal_runtime::config::Policy;

/// A record of an ingress topic on its way through the writer.
#[derive(Debug)]
pub(crate) struct Case {
    pub coordinates: Coordinates,
    pub reply: ReplyTo,
    pub request_id: Option<Id>,
    pub wish: Wish,
}

/// What a record asks for.
#[derive(Debug)]
pub(crate) enum Wish {
    /// Nothing that could ever be granted.
    Refused(Refusal),
    /// Entries.
    Write(Box<Wanted>),
}

/// Entries that a request asks for.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// The entries as they would be stored now; empty if a target is missing.
    pub entries: Vec<Entry>,
    /// The key of each, also where the entries are left out.
    pub keys: Vec<EntryKey>,
    /// The meaning of the request.
    pub hash: wal_model::ContentHash,
    /// A reason to refuse that can change: what is stored already is not refused for it.
    pub objection: Option<Refusal>,
}

impl Wanted {
    /// Whether the entries can be made under the present policy.
    pub fn has_entries(&self) -> bool {
        !self.entries.is_empty()
    }
}

/// Reads a record and fills from the policy what it leaves open.
pub(crate) fn case(record: &InRecord, decoded: Decoded, policy: &Policy, topics: &Topics) -> Case {
    let Decoded { reply, request_id, request } = decoded;
    let written_at = record.time.ok_or_else(|| Refusal::new(Code::TimeInvalid, "the record has no time"));
    let wish = match written_at.and_then(|at| request.map(|request| (at, request))) {
        Err(refusal) => Wish::Refused(refusal),
        Ok((written_at, request)) => Wish::Write(Box::new(wanted(record, request, written_at, policy, topics))),
    };
    Case { coordinates: record.coordinates(), reply, request_id, wish }
}

fn wanted(record: &InRecord, request: Request, written_at: Timestamp, policy: &Policy, topics: &Topics) -> Wanted {
    let writes = request.writes.as_slice();
    // One identity, one scope: the members of a batch are keyed under the namespace of its first.
    let scope = &writes[0].namespace;
    let key = |index: u32| EntryKey::of(request.tenant.as_ref(), scope, &request.identity, index);
    let is_batch = matches!(request.writes, Writes::Batch(_));
    let count = u32::try_from(writes.len()).expect("a batch has at most 1000 entries");
    let needs_default = writes.iter().any(|write| write.target.is_none());
    let default_target = policy.target.clone().filter(|_| needs_default);
    let mut objection = None;
    let mut entries = Vec::with_capacity(writes.len());
    for (index, write) in (0..count).zip(writes) {
        let place = is_batch.then(|| BatchPlace { index, count, default_target: default_target.clone() });
        let prefix = place.as_ref().map_or(String::new(), |place| format!("entry {}: ", place.index));
        let made = target(write, policy, topics).map(|target| {
            let log_id = LogId::new(write.namespace.clone(), written_at, key(index));
            entry(record, &request, write, log_id, target, place, policy)
        });
        let refused = match made {
            Ok(entry) => {
                let too_late = too_late(&entry);
                entries.push(entry);
                too_late
            }
            Err(refusal) => Some(refusal),
        };
        if let Some(Refusal { code, message }) = refused {
            objection.get_or_insert_with(|| Refusal::new(code, format_args!("{prefix}{message}")));
        }
    }
    if entries.len() < writes.len() {
        entries.clear();
    }
    Wanted { entries, keys: (0..count).map(key).collect(), hash: request.hash, objection }
}

/// A first delivery at or past the deadline would never be made.
fn too_late(entry: &Entry) -> Option<Refusal> {
    let (wanted, deadline) = (entry.deliver_at?, entry.state.deadline());
    let message =
        || format!("its first delivery is wanted at {wanted}, and its deadline is {deadline}: give it a longer ttl");
    (wanted >= deadline).then(|| Refusal::new(Code::DeliveryTooLate, message()))
}

fn target(write: &Write, policy: &Policy, topics: &Topics) -> Result<Topic, Refusal> {
    let target = write
        .target
        .as_ref()
        .or(policy.target.as_ref())
        .ok_or_else(|| Refusal::new(Code::TargetInvalid, "target is missing, and the policy names none"))?;
    if topics.is_reserved(target) {
        let message = format!("the target {target} belongs to the log or to Kafka itself");
        return Err(Refusal::new(Code::TargetReserved, message));
    }
    Ok(target.clone())
}

fn entry(
    record: &InRecord,
    request: &Request,
    write: &Write,
    log_id: LogId,
    target: Topic,
    batch: Option<BatchPlace>,
    policy: &Policy,
) -> Entry {
    let lifecycle = write.lifecycle.or(&policy.lifecycle);
    let state = first_state(&log_id, lifecycle.ttl.duration());
    let first_delay = policy.first_delay.duration();
    let deliver_at = (!first_delay.is_zero()).then(|| log_id.timestamp().saturating_add(first_delay));
    Entry {
        log_id,
        target,
        lifecycle,
        answers: policy.answers,
        tenant: request.tenant.clone(),
        user: request.user.clone(),
        operation: write.operation.clone(),
        correlation_id: write.correlation_id.clone().or_else(|| write.payload_correlation_id.clone()),
        request_id: request.request_id.clone(),
        idempotency_key: request.idempotency_key.clone(),
        deliver_at: write.deliver_at.or(deliver_at),
        ordering_key: request.ordering_key.clone(),
        content_type: write.content_type.clone(),
        payload: write.payload.clone(),
        headers: request.headers.clone(),
        request_hash: request.hash,
        batch,
        origin: record.coordinates(),
        state,
    }
}

fn first_state(log_id: &LogId, ttl: Duration) -> State {
    State::first(log_id.key().derive("pending 1"), log_id.timestamp(), ttl)
}
