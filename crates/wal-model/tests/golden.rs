//! Golden records: one file per form, kept and re-read for ever. Old services and other languages wrote such records, and some of
//! them still lie on a topic when a new version starts.
//!
//! `WAL_BLESS=1 cargo test -p wal-model --test golden` writes files that are missing. It never changes one that is there: if what
//! is written today differs, readers of yesterday meet it tomorrow, so it becomes a file of its own beside the old one.

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use support::{WRITTEN_AT, header, ingress, keyring, read_back, time};
use uuid::Uuid;
use wal_model::ack::Ack;
use wal_model::answer::{Completed, Failed, Wish};
use wal_model::cancel::Cancel;
use wal_model::delivery::Delivery;
use wal_model::entry::{Answers, Entry};
use wal_model::lifecycle::Seconds;
use wal_model::parked::Parked;
use wal_model::receipt::Receipt;
use wal_model::record::{last, last_str};
use wal_model::request::{self, ReplyTo};
use wal_model::status::{Event, Failure, Outcome, Reason, State};
use wal_model::topics::Topics;
use wal_model::{
    Backoff, Code, ContentHash, Coordinates, EntryKey, Header, Id, InRecord, Lifecycle, LogId, Namespace, OutRecord,
    Priority, Refusal, Tenant, Timestamp, Topic, audit, dead_letter, state_record, wire,
};

// ---------------------------------------------------------------- the tests

#[test]
fn every_golden_record_reads_as_it_always_has() {
    let files = stored();
    assert!(files.len() >= written_today().len(), "golden files are missing: WAL_BLESS=1 writes them");
    for (name, file) in files {
        let record = record_from(&file["record"]);
        assert_eq!(meaning(file["kind"].as_str().unwrap(), &record), file["meaning"], "{name} is read differently");
    }
}

#[test]
fn what_is_written_today_is_golden() {
    let stored = stored();
    for (name, kind, record) in written_today() {
        let today = json!({ "kind": kind, "record": record_to(&record), "meaning": meaning(kind, &record) });
        match stored.get(name) {
            Some(file) => assert_eq!(today["record"], file["record"], "{name} is written differently"),
            None if std::env::var_os("WAL_BLESS").is_some() => {
                let text = serde_json::to_string_pretty(&today).unwrap() + "\n";
                std::fs::write(folder().join(format!("{name}.json")), text).unwrap();
            }
            None => panic!("golden/{name}.json is missing: WAL_BLESS=1 writes it"),
        }
    }
}

// ---------------------------------------------------------------- files

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn stored() -> BTreeMap<String, Value> {
    let files = std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
        })
        .collect()
}

/// Text as text, other bytes as `{"base64"}`, null as null: a file says every byte.
fn bytes_to(bytes: Option<&Bytes>) -> Value {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => Value::Null,
        Some((Ok(text), _)) => text.into(),
        Some((Err(_), bytes)) => json!({ "base64": STANDARD.encode(bytes) }),
    }
}

fn bytes_from(value: &Value) -> Option<Bytes> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(Bytes::from(text.clone())),
        other => Some(Bytes::from(STANDARD.decode(other["base64"].as_str().unwrap()).unwrap())),
    }
}

fn record_to(record: &InRecord) -> Value {
    let headers: Vec<_> = record
        .headers
        .iter()
        .map(|header| json!([bytes_to(Some(&header.name)), bytes_to(header.value.as_ref())]))
        .collect();
    json!({
        "cluster": &*record.cluster,
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "time": record.time,
        "key": bytes_to(record.key.as_ref()),
        "value": bytes_to(record.value.as_ref()),
        "headers": headers,
    })
}

fn record_from(json: &Value) -> InRecord {
    let headers = json["headers"].as_array().unwrap().iter();
    InRecord {
        cluster: Arc::from(json["cluster"].as_str().unwrap()),
        topic: Topic::parse(json["topic"].as_str().unwrap()).unwrap(),
        partition: i32::try_from(json["partition"].as_i64().unwrap()).unwrap(),
        offset: json["offset"].as_i64().unwrap(),
        time: json["time"].as_str().map(|time| time.parse().unwrap()),
        key: bytes_from(&json["key"]),
        value: bytes_from(&json["value"]),
        headers: headers
            .map(|header| Header { name: bytes_from(&header[0]).unwrap(), value: bytes_from(&header[1]) })
            .collect(),
    }
}

// ---------------------------------------------------------------- what reading must give

fn meaning(kind: &str, record: &InRecord) -> Value {
    match kind {
        "request" => request(record),
        "delivery" => delivery(record),
        "receipt" => receipt(record),
        "ack" => ack(record),
        "audit" => json!({ "key": bytes_to(record.key.as_ref()), "event": value_of(record) }),
        "dead_letter" => dead_letter_facts(record),
        "parked" => parked(record),
        "cancel" => cancel(record),
        "answer_completed" => completed_answer(record),
        "answer_failed" => failed_answer(record),
        "state" => json!({ "key": bytes_to(record.key.as_ref()), "state": value_of(record) }),
        other => panic!("no reader for `{other}`"),
    }
}

fn value_of(record: &InRecord) -> Value {
    serde_json::from_slice(record.value.as_deref().unwrap()).unwrap()
}

fn headers_to(headers: &[Header]) -> Value {
    headers.iter().map(|header| json!([bytes_to(Some(&header.name)), bytes_to(header.value.as_ref())])).collect()
}

fn request(record: &InRecord) -> Value {
    let decoded = request::decode(record, &["correlation_id".to_owned(), "saga_id".to_owned()]);
    let request = decoded.request.unwrap();
    let writes = request.writes.as_slice().iter().zip(0..).map(|(write, index)| {
        let key = EntryKey::of(request.tenant.as_ref(), &write.namespace, &request.identity, index);
        let lifecycle = &write.lifecycle;
        json!({
            "entry_key": key,
            "log_id": LogId::new(write.namespace.clone(), record.time.unwrap(), key),
            "namespace": write.namespace,
            "target": write.target,
            "lifecycle": {
                "retry_count": lifecycle.retry_count,
                "delay": lifecycle.delay,
                "backoff": lifecycle.backoff,
                "ttl": lifecycle.ttl,
                "priority": lifecycle.priority,
            },
            "correlation_id": write.correlation_id,
            "payload_correlation_id": write.payload_correlation_id,
            "deliver_at": write.deliver_at,
            "operation": write.operation,
            "content_type": write.content_type,
            "payload": bytes_to(Some(&write.payload)),
        })
    });
    json!({
        "hash": request.hash,
        "tenant": request.tenant,
        "user": request.user,
        "request_id": request.request_id,
        "idempotency_key": request.idempotency_key,
        "ordering_key": bytes_to(request.ordering_key.as_ref()),
        "headers": headers_to(&request.headers),
        "reply": {
            "topic": decoded.reply.topic,
            "partition": decoded.reply.partition,
            "correlation": bytes_to(decoded.reply.correlation.as_ref()),
        },
        "writes": writes.collect::<Vec<_>>(),
    })
}

fn delivery(record: &InRecord) -> Value {
    let received = Delivery::decode(record).unwrap();
    let seal = last_str(&record.headers, wire::CE_WALSEAL);
    let seal = received.delivery.verify(seal, &keyring());
    let mut facts = delivery_facts(&received.delivery);
    facts["seal"] = json!(seal.map_or_else(|broken| broken.to_string(), |()| "accepted".to_owned()));
    facts["sent"] = json!(received.sent);
    facts
}

fn parked(record: &InRecord) -> Value {
    let Parked { delivery, due, parked_at, wait } = Parked::decode(record, &keyring()).unwrap();
    json!({ "delivery": delivery_facts(&delivery), "due": due, "parked_at": parked_at, "wait": wait.to_string() })
}

fn cancel(record: &InRecord) -> Value {
    let Cancel { log_id, round, deadline } = Cancel::decode(record, &keyring()).unwrap();
    json!({ "log_id": log_id, "round": round, "deadline": deadline })
}

fn completed_answer(record: &InRecord) -> Value {
    json!({ "event": Completed::decode(record, &keyring()).unwrap().event(record) })
}

fn failed_answer(record: &InRecord) -> Value {
    let failed = Failed::decode(record, &keyring()).unwrap();
    let event = failed.event(record, Outcome::Retrying { next_attempt_at: time(WRITTEN_AT) });
    json!({ "delivery": delivery_facts(&failed.echo.delivery), "wish": format!("{:?}", failed.wish), "event": event })
}

fn delivery_facts(delivery: &Delivery) -> Value {
    json!({
        "log_id": delivery.log_id,
        "target": delivery.target,
        "tenant": delivery.tenant,
        "operation": delivery.operation,
        "correlation_id": delivery.correlation_id,
        "attempt": delivery.attempt,
        "round": delivery.round,
        "round_first": delivery.round_first,
        "deadline": delivery.deadline,
        "retry_count": delivery.retry_count,
        "delay": delivery.delay,
        "backoff": delivery.backoff,
        "priority": delivery.priority,
        "answers": delivery.answers,
        "ordering_key": bytes_to(delivery.ordering_key.as_ref()),
        "content_type": delivery.content_type,
        "payload": bytes_to(Some(&delivery.payload)),
        "headers": headers_to(&delivery.headers),
    })
}

fn receipt(record: &InRecord) -> Value {
    match Receipt::from_json(record.value.as_deref().unwrap()).unwrap() {
        Receipt::Stored { log_id, target, request_id } => {
            json!({ "stored": { "log_id": log_id, "target": target, "request_id": request_id } })
        }
        Receipt::BatchStored { log_ids, request_id } => {
            json!({ "batch_stored": { "log_ids": log_ids, "request_id": request_id } })
        }
        Receipt::Refused { error_code, error, is_retryable, request_id } => json!({
            "refused": { "error_code": error_code, "error": error, "is_retryable": is_retryable, "request_id": request_id }
        }),
    }
}

fn ack(record: &InRecord) -> Value {
    let Ack { log_id, tenant, event } = Ack::decode(record, &keyring()).unwrap();
    json!({ "log_id": log_id, "tenant": tenant, "event": event })
}

fn dead_letter_facts(record: &InRecord) -> Value {
    let text = |name| last_str(&record.headers, name);
    json!({
        "topic": text(wire::DLQ_TOPIC),
        "partition": text(wire::DLQ_PARTITION),
        "offset": text(wire::DLQ_OFFSET),
        "error_code": text(wire::CE_WALERRORCODE).and_then(Code::parse).map(Code::as_str),
        "error": text(wire::CE_WALERRORMESSAGE),
        "key": bytes_to(record.key.as_ref()),
        "record_key": bytes_to(last(&record.headers, wire::CE_WALRECORDKEY64).map(|key| Bytes::from(STANDARD.decode(key).unwrap())).as_ref()),
        "value": bytes_to(record.value.as_ref()),
    })
}

// ---------------------------------------------------------------- what is written

fn written_today() -> Vec<(&'static str, &'static str, InRecord)> {
    let key = |mut record: InRecord, key: &'static [u8]| {
        record.key = Some(Bytes::from_static(key));
        record
    };
    vec![
        ("request_plain", "request", key(plain_request(), b"customer-7")),
        ("request_plain_minimal", "request", ingress(r#"{"namespace":"orders","payload":{}}"#, Vec::new())),
        ("request_batch", "request", batch_request()),
        ("request_cloud_event", "request", key(event_request(), b"\x00\xff")),
        ("delivery_text_key", "delivery", read_back(text_key_delivery())),
        ("delivery_binary_key", "delivery", read_back(binary_key_delivery())),
        ("receipt_stored", "receipt", read_back(stored_receipt())),
        ("receipt_batch_stored", "receipt", read_back(batch_receipt())),
        ("receipt_refused", "receipt", read_back(refused_receipt())),
        ("ack_failed_expired", "ack", read_back(expired_ack())),
        ("ack_retrying", "ack", read_back(retrying_ack())),
        (
            "audit_write",
            "audit",
            read_back(audit::encode(audit::Operation::Write, &entry(), "cause", topic("wal.audit"))),
        ),
        ("dead_letter_request", "dead_letter", read_back(dead_request())),
        ("parked", "parked", read_back(parked_attempt())),
        ("cancel", "cancel", read_back(a_cancel())),
        ("answer_completed", "answer_completed", read_back(completed())),
        ("answer_failed", "answer_failed", read_back(failed())),
        (
            "state_pending",
            "state",
            read_back(state_record::encode(&log_id(), None, &entry().state, topic("wal.status"))),
        ),
        ("state_retrying", "state", read_back(retrying_state())),
        ("state_completed", "state", read_back(completed_state())),
    ]
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

fn id(text: &str) -> Option<Id> {
    Some(Id::parse(text).unwrap())
}

fn log_id() -> LogId {
    let key = Uuid::parse_str("4c6e2eca-8810-581c-8592-1b908a4e49b9").unwrap();
    LogId::new(Namespace::parse("saga_execution").unwrap(), time(WRITTEN_AT), EntryKey::from(key))
}

fn plain_request() -> InRecord {
    let value = r#"{"namespace": "saga_execution", "target": "saga_execution_queue",
 "payload": {"saga_id": "saga_123",  "operation": "execute_saga", "amount": 1e400, "note": "\u00e9\ud800"},
 "lifecycle": {"retry_count": 3, "delay": 0.25, "backoff": "exponential", "ttl": 86400, "priority": "high"},
 "user_context": {"user_id": "u-1", "tenant_id": "acme"},
 "correlation_id": "c-1", "idempotency_key": "k-1", "request_id": "r-1", "deliver_at": "2024-12-01T11:00:00Z"}"#;
    let headers = vec![
        header("kafka_replyTopic", "replies"),
        header("kafka_replyPartition", 258i32.to_be_bytes()),
        header("kafka_correlationId", [0, 159, 146, 150]),
        header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        Header { name: Bytes::from_static(b"flag"), value: None },
    ];
    ingress(value, headers)
}

fn batch_request() -> InRecord {
    let value = r#"{"entries": [{"namespace": "a", "payload": {}}, {"namespace": "b", "target": "t", "payload": {"n": 1}}],
 "request_id": "r-2", "user_context": {"tenant_id": "acme"}}"#;
    ingress(value, Vec::new())
}

fn event_request() -> InRecord {
    let headers = vec![
        header("ce_specversion", "1.0"),
        header("ce_id", "7"),
        header("ce_source", "/shop"),
        header("ce_type", "order.pay"),
        header("ce_time", "2024-12-01T09:59:59Z"),
        header("ce_subject", "order 7"),
        header("content-type", "application/octet-stream"),
        header("ce_walnamespace", "orders"),
        header("ce_waltarget", "payments"),
        header("ce_waltenant", "größe"),
        header("ce_waluser", "u-1"),
        header("ce_correlationid", "c-1"),
        header("ce_waldeliverat", "2024-12-01T11:00:00Z"),
        header("ce_walretries", "5"),
        header("ce_waldelay", "0.25"),
        header("ce_walbackoff", "fixed"),
        header("ce_walttl", "86400"),
        header("ce_walpriority", "low"),
    ];
    ingress(&b"\x00\xff\x10"[..], headers)
}

fn entry() -> Entry {
    let ttl = Duration::from_secs(86_400);
    let payload = Bytes::from_static(br#"{"saga_id": "saga_123",  "operation": "execute_saga"}"#);
    Entry {
        log_id: log_id(),
        target: topic("saga_execution_queue"),
        lifecycle: Lifecycle {
            retry_count: 3,
            delay: Seconds::new(Duration::from_millis(250)),
            backoff: Backoff::Exponential,
            ttl: Seconds::new(ttl),
            priority: Priority::High,
        },
        answers: Answers::Expected,
        tenant: Some(Tenant::parse("acme").unwrap()),
        user: id("u-1"),
        operation: id("execute_saga"),
        correlation_id: id("saga_123"),
        request_id: id("r-1"),
        idempotency_key: id("k-1"),
        deliver_at: None,
        ordering_key: Some(Bytes::from_static(b"customer-7")),
        content_type: Some("application/json".to_owned()),
        request_hash: ContentHash::of(b"request"),
        payload,
        headers: vec![
            header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            Header { name: Bytes::from_static(b"flag"), value: None },
        ],
        batch: None,
        origin: Coordinates {
            cluster: Arc::from("cluster"),
            topic: topic("wal.ingress"),
            partition: 3,
            offset: 42,
            time: time(WRITTEN_AT),
        },
        state: State::first(Uuid::from_u128(1), time(WRITTEN_AT), ttl),
    }
}

const SENT_AT: i64 = WRITTEN_AT + 12;

fn text_key_delivery() -> OutRecord {
    Delivery::of(&entry()).encode(time(SENT_AT), &keyring())
}

/// The second attempt of a second round, with as little as an entry may have, and bytes that are no text.
fn binary_key_delivery() -> OutRecord {
    let mut entry = Entry {
        tenant: None,
        operation: None,
        correlation_id: None,
        content_type: None,
        answers: Answers::None,
        ordering_key: Some(Bytes::from_static(b"\x00\xff")),
        payload: Bytes::from_static(b"\xff\x00"),
        headers: Vec::new(),
        ..entry()
    };
    entry.state.standing = Event { round: 2, round_first: 5, attempt: 6, ..entry.state.standing };
    Delivery::of(&entry).encode(time(SENT_AT), &keyring())
}

fn written(receipt: &Receipt, reply: &ReplyTo) -> OutRecord {
    receipt.encode(log_id().key().derive("receipt"), time(WRITTEN_AT), topic("wal.receipts"), reply)
}

fn stored_receipt() -> OutRecord {
    let receipt = Receipt::Stored { log_id: log_id(), target: topic("saga_execution_queue"), request_id: id("r-1") };
    let correlation = Some(Bytes::from_static(&[0, 159, 146, 150]));
    written(&receipt, &ReplyTo { topic: None, partition: Some(3), correlation })
}

fn batch_receipt() -> OutRecord {
    let log_ids = vec![log_id(), LogId::new(Namespace::parse("b").unwrap(), Timestamp::EPOCH, log_id().key())];
    written(&Receipt::BatchStored { log_ids, request_id: None }, &ReplyTo::default())
}

fn refused_receipt() -> OutRecord {
    let refusal = Refusal::new(Code::TargetUnknown, "the topic `größe` does not exist");
    written(&Receipt::refused(&refusal, id("r-1")), &ReplyTo::default())
}

fn event(outcome: Outcome, failure: Option<Failure>) -> Event {
    Event {
        id: log_id().key().derive("event"),
        round: 2,
        round_first: 5,
        deadline: time(WRITTEN_AT + 86_400_000),
        attempt: 6,
        at: time(WRITTEN_AT + 86_400_001),
        outcome,
        delivered_at: None,
        failure,
    }
}

fn expired_ack() -> OutRecord {
    let failure = Failure { code: "WAL_EXPIRED".to_owned(), message: "the deadline passed".to_owned() };
    let event = event(Outcome::Failed { reason: Reason::Expired }, Some(failure));
    let ack = Ack { log_id: log_id(), tenant: Some(Tenant::parse("acme").unwrap()), event };
    ack.encode(topic("wal.acks"), &keyring())
}

fn retrying_ack() -> OutRecord {
    let event = event(Outcome::Retrying { next_attempt_at: time(WRITTEN_AT + 86_460_001) }, None);
    Ack { log_id: log_id(), tenant: None, event }.encode(topic("wal.acks"), &keyring())
}

fn parked_attempt() -> OutRecord {
    let delivery = Delivery::of(&entry()).next_attempt();
    let (due, parked_at) = (time(WRITTEN_AT + 73_200), time(WRITTEN_AT + 1));
    let topics = Topics::new("wal.").unwrap();
    Parked { delivery, due, parked_at, wait: "60s".parse().unwrap() }.encode(&topics, &keyring())
}

fn a_cancel() -> OutRecord {
    let deadline = time(WRITTEN_AT + 86_400_000);
    Cancel { log_id: log_id(), round: 2, deadline }.encode(topic("wal.cancels"), &keyring())
}

fn completed() -> OutRecord {
    let result = serde_json::value::to_raw_value(&json!({ "shipped": true })).unwrap();
    Completed::encode(&read_back(text_key_delivery()), Some(&result), topic("wal.acks"))
}

fn failed() -> OutRecord {
    let failure = Failure { code: "CARD_DECLINED".to_owned(), message: "no money".to_owned() };
    let wish = Wish::After(Duration::from_millis(2500));
    Failed::encode(&read_back(text_key_delivery()), &failure, &wish, topic("wal.failures"))
}

fn state_after(outcome: Outcome, failure: Option<Failure>) -> OutRecord {
    let mut state = entry().state;
    state.join(&event(outcome, failure));
    state_record::encode(&log_id(), Some(&Tenant::parse("acme").unwrap()), &state, topic("wal.status"))
}

fn retrying_state() -> OutRecord {
    let failure = Failure { code: "CARD_DECLINED".to_owned(), message: "no money".to_owned() };
    state_after(Outcome::Retrying { next_attempt_at: time(WRITTEN_AT + 86_460_001) }, Some(failure))
}

fn completed_state() -> OutRecord {
    state_after(Outcome::Completed { result: Some(r#"{"shipped":true}"#.to_owned()) }, None)
}

fn dead_request() -> OutRecord {
    let mut record = ingress(&b"\xffno request"[..], vec![header("own", "1")]);
    record.key = Some(Bytes::from_static(b"customer-7"));
    let refusal = Refusal::new(Code::InvalidJson, "expected value at line 1 column 1");
    let key = Some(Bytes::from_static(b"r-1"));
    let attributes = vec![header(wire::CE_WALNAMESPACE, "saga_execution")];
    dead_letter::encode(&record, &refusal, "wal.writer", key, attributes, topic("dlq.wal.ingress"), 1_000_000)
}
