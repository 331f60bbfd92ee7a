use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::Value;
use uuid::Uuid;
use wal_model::lifecycle::Seconds;
use wal_model::status::{Event, Failure, Outcome};
use wal_model::{Backoff, Header, Priority};

use super::*;
use crate::samples::{self, completed, entry, failed, full_entry, redriven, retrying, time};

const GOLDEN: &str = include_str!("../../golden/entry-v1.json");

/// The entry of the golden document: everything in it, and a history.
fn golden_entry() -> Entry {
    let full =
        Entry { payload: Bytes::from_static(b"{\"saga_id\": \"s-1\", \"amount\": 12.50}"), ..full_entry("golden") };
    let events = [retrying(&full, 1), failed(&full, 2, Reason::Exhausted), redriven(&full, 2, 3), retrying(&full, 3)];
    samples::after(full, &events)
}

#[test]
fn golden_documents_are_read_for_ever() {
    assert_eq!(decode(GOLDEN.as_bytes()).unwrap(), golden_entry());
}

#[test]
fn documents_are_written_as_the_golden_one() {
    let written = encode(&golden_entry(), ReadableCopy::Written);
    let (written, golden): (Value, Value) =
        (serde_json::from_str(&written).unwrap(), serde_json::from_str(GOLDEN).unwrap());
    assert_eq!(written, golden, "{written:#}");
}

#[test]
fn a_document_has_the_fields_of_the_specification_and_none_called_error() {
    let document = |entry: &Entry| -> Value { serde_json::from_str(&encode(entry, ReadableCopy::Written)).unwrap() };
    let plain = document(&entry("one"));
    assert_eq!(plain["_key"], entry("one").key().to_string());
    assert_eq!(plain["log_id"], entry("one").log_id.to_string());
    assert_eq!(plain["namespace"], "orders");
    assert_eq!(plain["timestamp"], "2024-12-01T10:00:00.000Z");
    assert_eq!(plain["payload"], serde_json::json!({"name": "one"}));
    assert_eq!(plain["status"], "pending");
    assert_eq!(plain["deadline"], "2024-12-08T10:00:00.000Z");
    assert!(["error", "reason", "finished_at"].iter().all(|field| plain.get(field).is_none()));

    let one = entry("one");
    let events = [retrying(&one, 1), failed(&one, 2, Reason::Exhausted)];
    let ended = document(&samples::after(one, &events));
    assert_eq!((&ended["status"], &ended["reason"]), (&Value::from("failed"), &Value::from("exhausted")));
    assert_eq!(
        (&ended["retry_count"], &ended["finished_at"]),
        (&Value::from(1), &Value::from("2024-12-01T10:00:02.000Z"))
    );
    assert!(ended.get("error").is_none() && ended.get("deadline").is_none());
}

#[test]
fn the_readable_copy_is_never_read() {
    let with_copy = encode(&entry("one"), ReadableCopy::Written);
    let changed = with_copy.replace("\"payload\":{\"name\":\"one\"}", "\"payload\":[1e999]");
    assert_ne!(with_copy, changed);
    assert_eq!(decode(changed.as_bytes()).unwrap(), entry("one"));
    assert_eq!(decode(encode(&entry("one"), ReadableCopy::Omitted).as_bytes()).unwrap(), entry("one"));
}

#[test]
fn a_newer_document_is_named_as_such_whatever_its_shape() {
    for newer in ["{\"version\": 2}".to_owned(), GOLDEN.replace("\"version\": 1", "\"version\": 2")] {
        let Err(Error::Corrupt(reason)) = decode(newer.as_bytes()) else { panic!("{newer}") };
        assert!(reason.contains("version 2") && reason.contains("newer"), "{reason}");
    }
}

#[test]
fn what_is_no_document_of_ours_is_damage() {
    let document = encode(&full_entry("one"), ReadableCopy::Omitted);
    let other_key = document
        .replace(&format!("\"_key\":\"{}\"", full_entry("one").key()), &format!("\"_key\":\"{}\"", Uuid::nil()));
    let twice = document.replace("\"payload_base64\"", "\"payload_raw\":\"\",\"payload_base64\"");
    let no_payload = document.replace("\"payload_base64\"", "\"payload_base65\"");
    let no_value = document.replace("{\"name\":\"null\",\"value\":null}", "{\"name\":\"null\"}");
    for damaged in ["", "{}", "null", &document[..document.len() - 1], &other_key, &twice, &no_payload, &no_value] {
        assert_ne!(damaged, document);
        assert!(matches!(decode(damaged.as_bytes()), Err(Error::Corrupt(_))), "{damaged}");
    }
}

fn bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![vec(any::<u8>(), 0..40).prop_map(Bytes::from), any::<String>().prop_map(Bytes::from)]
}

fn any_id() -> impl Strategy<Value = Id> {
    "\\PC{1,20}".prop_filter_map("an id", |text| Id::parse(&text).ok())
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    (0..=Timestamp::MAX.as_millis()).prop_map(time)
}

fn header() -> impl Strategy<Value = Header> {
    (bytes(), option::of(bytes())).prop_map(|(name, value)| Header { name, value })
}

fn any_event() -> impl Strategy<Value = Event> {
    let outcome = prop_oneof![
        Just(Outcome::Pending),
        any_time().prop_map(|next_attempt_at| Outcome::Retrying { next_attempt_at }),
        Just(Outcome::Failed { reason: Reason::Undeliverable }),
        option::of(any::<String>()).prop_map(|result| Outcome::Completed { result }),
    ];
    let failure = option::of((any::<String>(), any::<String>()).prop_map(|(code, message)| Failure { code, message }));
    let numbers = (any::<u128>(), any::<u32>(), any::<u32>(), any::<u32>());
    (numbers, any_time(), any_time(), outcome, failure).prop_map(|(numbers, deadline, at, outcome, failure)| {
        let (id, round, round_first, attempt) = numbers;
        Event {
            id: Uuid::from_u128(id),
            round,
            round_first,
            deadline,
            attempt,
            at,
            delivered_at: None,
            outcome,
            failure,
        }
    })
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let ids =
        (option::of(any_id()), option::of(any_id()), option::of(any_id()), option::of(any_id()), option::of(any_id()));
    let data = (bytes(), option::of(bytes()), option::of(any::<String>()), vec(header(), 0..5));
    let names = ("[A-Za-z0-9._-]{1,20}-", option::of("\\PC{1,20}"), any::<u128>(), any_time());
    let lifecycle = (any::<u32>(), 0..=2_592_000_000u64, 0..=31_536_000_000u64, 0..3usize, 0..3usize);
    let batch = option::of((any::<u32>(), any::<u32>()));
    let origin = (any::<String>(), any::<i32>(), any::<i64>());
    let rest = (option::of(any_time()), any::<bool>(), batch, origin, vec(any_event(), 0..5));
    (ids, data, names, lifecycle, rest).prop_map(|(ids, data, names, lifecycle, rest)| {
        let (user, operation, correlation_id, request_id, idempotency_key) = ids;
        let (payload, ordering_key, content_type, headers) = data;
        let (namespace, tenant, key, written_at) = names;
        let (retry_count, delay, ttl, backoff, priority) = lifecycle;
        let (deliver_at, is_answered, batch, (cluster, partition, offset), events) = rest;
        let plain = entry("one");
        let origin = Coordinates {
            cluster: Arc::from(cluster),
            topic: plain.target.clone(),
            partition,
            offset,
            time: written_at,
        };
        let entry = Entry {
            log_id: LogId::new(samples::namespace(&namespace), written_at, EntryKey::from(Uuid::from_u128(key))),
            lifecycle: Lifecycle {
                retry_count,
                delay: Seconds::new(Duration::from_millis(delay)),
                backoff: [Backoff::Exponential, Backoff::Linear, Backoff::Fixed][backoff],
                ttl: Seconds::new(Duration::from_millis(ttl)),
                priority: [Priority::High, Priority::Normal, Priority::Low][priority],
            },
            answers: if is_answered { Answers::Expected } else { Answers::None },
            tenant: tenant.and_then(|tenant| Tenant::parse(&tenant).ok()),
            request_hash: ContentHash::of(&payload),
            batch: batch.map(|(index, count)| BatchPlace { index, count, default_target: None }),
            user,
            operation,
            correlation_id,
            request_id,
            idempotency_key,
            deliver_at,
            ordering_key,
            content_type,
            payload,
            headers,
            origin,
            ..plain
        };
        samples::after(entry, &events)
    })
}

proptest! {
    #[test]
    fn entries_are_read_back_as_they_were_written(entry in any_entry()) {
        for copy in [ReadableCopy::Written, ReadableCopy::Omitted] {
            prop_assert_eq!(&decode(encode(&entry, copy).as_bytes()).unwrap(), &entry);
        }
    }

    /// A copy that a reader could not parse would make the whole document unreadable.
    #[test]
    fn any_payload_makes_a_document_that_is_json(payload in prop_oneof![bytes(), "[\\[\\]{}\",:0-9.eE+-]{0,30}".prop_map(Bytes::from)]) {
        let entry = Entry { payload, ..entry("one") };
        let document: Value = serde_json::from_str(&encode(&entry, ReadableCopy::Written)).unwrap();
        if let Some(copy) = document.get("payload") {
            prop_assert_eq!(copy, &serde_json::from_slice::<Value>(&entry.payload).unwrap());
        }
    }

    #[test]
    fn what_an_apply_rewrites_is_all_of_the_state(events in vec(any_event(), 0..6)) {
        let one = samples::after(entry("one"), &events);
        prop_assert_eq!(decode_standing(encode_standing(&one.state).as_bytes()).unwrap(), one.state);
    }
}

#[test]
fn an_update_names_every_field_of_the_standing() {
    let one = entry("one");
    let done = samples::after(one.clone(), &[failed(&one, 1, Reason::Rejected)]);
    let fields =
        |state: &State| -> Vec<String> { standing_update(state).as_object().unwrap().keys().cloned().collect() };
    assert_eq!(fields(&one.state), fields(&done.state));
    assert_eq!(standing_update(&one.state)["reason"], Value::Null);
    assert_eq!(standing_update(&one.state)["finished_at"], Value::Null);
    assert_eq!(standing_update(&done.state)["deadline"], Value::Null);
}

#[test]
fn a_completed_entry_keeps_what_its_consumer_said() {
    let one = entry("one");
    let done = samples::after(one.clone(), &[completed(&one, 1)]);
    assert_eq!(decode(encode(&done, ReadableCopy::Written).as_bytes()).unwrap(), done);
}
