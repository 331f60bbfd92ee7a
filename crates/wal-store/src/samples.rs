//! Entries and events to test with. Each takes a name: the same name, the same key.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;
use wal_model::ack::Ack;
use wal_model::entry::{Answers, BatchPlace};
use wal_model::id::Identity;
use wal_model::lifecycle::Seconds;
use wal_model::status::{Event, Failure, Outcome, Reason, State};
use wal_model::{
    Backoff, ContentHash, Coordinates, Entry, EntryKey, Header, Id, Lifecycle, LogId, Namespace, Priority, Tenant,
    Timestamp, Topic,
};

/// When entries are written that do not say when: 2024-12-01T10:00:00.000Z.
pub const WRITTEN_AT: i64 = 1_733_047_200_000;

/// A time in milliseconds since the epoch.
pub fn time(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis).expect("samples lie between 1970 and 9999")
}

/// A namespace.
pub fn namespace(text: &str) -> Namespace {
    Namespace::parse(text).expect("samples have valid namespaces")
}

/// A tenant.
pub fn tenant(text: &str) -> Tenant {
    Tenant::parse(text).expect("samples have valid tenants")
}

/// An id.
pub fn id(text: &str) -> Id {
    Id::parse(text).expect("samples have valid ids")
}

/// A topic.
pub fn topic(text: &str) -> Topic {
    Topic::parse(text).expect("samples have valid topics")
}

/// The key of the entry with this name.
pub fn key(name: &str) -> EntryKey {
    EntryKey::of(None, &namespace("samples"), &Identity::RequestId(id(name)), 0)
}

/// An entry with nothing optional in it, in the namespace `orders`.
pub fn entry(name: &str) -> Entry {
    entry_in("orders", WRITTEN_AT, name)
}

/// An entry with nothing optional in it.
pub fn entry_in(namespace_name: &str, written_at: i64, name: &str) -> Entry {
    let key = key(name);
    let written_at = time(written_at);
    let lifecycle = Lifecycle::default();
    let payload = Bytes::from(format!("{{\"name\":\"{name}\"}}"));
    Entry {
        log_id: LogId::new(namespace(namespace_name), written_at, key),
        target: topic("orders.events"),
        lifecycle,
        answers: Answers::Expected,
        tenant: None,
        user: None,
        operation: None,
        correlation_id: None,
        request_id: None,
        idempotency_key: None,
        deliver_at: None,
        ordering_key: None,
        content_type: None,
        request_hash: ContentHash::of(&payload),
        payload,
        headers: Vec::new(),
        batch: None,
        origin: Coordinates {
            cluster: Arc::from("cluster"),
            topic: topic("wal.ingress"),
            partition: 3,
            offset: 42,
            time: written_at,
        },
        state: State::first(key.derive("first"), written_at, lifecycle.ttl.duration()),
    }
}

/// An entry with everything in it, and bytes that are no text wherever bytes are allowed.
pub fn full_entry(name: &str) -> Entry {
    let bytes = |bytes: &'static [u8]| Bytes::from_static(bytes);
    Entry {
        lifecycle: Lifecycle {
            retry_count: 7,
            delay: Seconds::new(Duration::from_millis(250)),
            backoff: Backoff::Linear,
            ttl: Seconds::new(Duration::from_secs(3600)),
            priority: Priority::High,
        },
        answers: Answers::None,
        tenant: Some(tenant("acme / größe")),
        user: Some(id("user-1")),
        operation: Some(id("order.created")),
        correlation_id: Some(id("saga \"1\" \\ 2")),
        request_id: Some(id("r-1")),
        idempotency_key: Some(id("k-1")),
        deliver_at: Some(time(WRITTEN_AT + 60_001)),
        ordering_key: Some(bytes(b"\xff\x00key")),
        content_type: Some("application/octet-stream".to_owned()),
        payload: bytes(b"\x00\x01\xfe\xff not text"),
        headers: vec![
            Header { name: bytes(b"traceparent"), value: Some(bytes(b"00-abc-def-01")) },
            Header { name: bytes(b"traceparent"), value: Some(bytes(b"again")) },
            Header { name: bytes(b"\xff\xfe"), value: Some(bytes(b"\x80")) },
            Header { name: bytes(b"null"), value: None },
            Header { name: bytes(b""), value: Some(bytes(b"")) },
        ],
        batch: Some(BatchPlace { index: 2, count: 1000, default_target: None }),
        ..entry(name)
    }
}

/// An event of an entry in round 1. Equal causes, equal ids.
pub fn event(entry: &Entry, attempt: u32, outcome: Outcome) -> Event {
    event_in_round(entry, 1, attempt, outcome)
}

/// An event of an entry in a round that began with attempt 1 (the first) or this one (the others).
pub fn event_in_round(entry: &Entry, round: u32, attempt: u32, outcome: Outcome) -> Event {
    let cause = format!("{round} {attempt} {outcome:?}");
    let at = entry.timestamp().saturating_add(Duration::from_secs(u64::from(attempt)));
    let is_success = matches!(outcome, Outcome::Pending | Outcome::Completed { .. });
    let failure = Failure { code: "CONSUMER_DOWN".to_owned(), message: format!("attempt {attempt}") };
    Event {
        id: Uuid::new_v5(&entry.key().uuid(), cause.as_bytes()),
        round,
        round_first: if round == 1 { 1 } else { attempt },
        deadline: entry.state.deadline().saturating_add(Duration::from_secs(u64::from(round - 1) * 3600)),
        attempt,
        at,
        outcome,
        delivered_at: None,
        failure: (!is_success).then_some(failure),
    }
}

/// The attempt failed, another follows.
pub fn retrying(entry: &Entry, attempt: u32) -> Event {
    let next_attempt_at = entry.timestamp().saturating_add(Duration::from_secs(60));
    event(entry, attempt, Outcome::Retrying { next_attempt_at })
}

/// The attempt failed for good.
pub fn failed(entry: &Entry, attempt: u32, reason: Reason) -> Event {
    event(entry, attempt, Outcome::Failed { reason })
}

/// The attempt did it.
pub fn completed(entry: &Entry, attempt: u32) -> Event {
    event(entry, attempt, Outcome::Completed { result: Some("{\"ok\": true}".to_owned()) })
}

/// A new round begins.
pub fn redriven(entry: &Entry, round: u32, attempt: u32) -> Event {
    event_in_round(entry, round, attempt, Outcome::Pending)
}

/// An event as an apply takes it.
pub fn ack(entry: &Entry, event: Event) -> Ack {
    Ack { log_id: entry.log_id.clone(), tenant: entry.tenant.clone(), event }
}

/// An entry after some events.
pub fn after(mut entry: Entry, events: &[Event]) -> Entry {
    events.iter().for_each(|event| entry.state.join(event));
    entry
}
