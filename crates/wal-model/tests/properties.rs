//! What holds for every input: nothing panics, nothing is lost between writing and reading, and a hash covers the meaning.
//!
//! A failing case prints its seed; proptest keeps it in `proptest-regressions` and replays it first.

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::select;
use support::{WRITTEN_AT, header, ingress, keyring, read_back, time};
use uuid::Uuid;
use wal_model::ack::Ack;
use wal_model::delivery::Delivery;
use wal_model::entry::{Answers, BatchPlace};
use wal_model::lifecycle::Seconds;
use wal_model::receipt::Receipt;
use wal_model::request::{self, Decoded, ReplyTo, Request};
use wal_model::seal::Broken;
use wal_model::status::{Event, Failure, Outcome, Reason, State};
use wal_model::{
    Backoff, ContentHash, Coordinates, Entry, EntryKey, Header, Id, InRecord, Lifecycle, LogId, Namespace, Priority,
    Refusal, Tenant, Timestamp, Topic, dead_letter, wire,
};

fn decode(record: &InRecord) -> Decoded {
    request::decode(record, &["correlation_id".to_owned(), "saga_id".to_owned()])
}

fn good(record: &InRecord) -> Request {
    decode(record).request.unwrap_or_else(|refusal| panic!("refused: {refusal}"))
}

// ---------------------------------------------------------------- anything at all

fn any_bytes(most: usize) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..most).prop_map(Bytes::from)
}

fn any_header() -> impl Strategy<Value = Header> {
    let name = prop_oneof![
        4 => select(wire::ALL).prop_map(Bytes::from_static_str),
        1 => any_bytes(20),
        1 => "ce_wal[a-z]{0,5}".prop_map(Bytes::from),
    ];
    let value = prop_oneof![
        any_bytes(40),
        ".{0,40}".prop_map(Bytes::from),
        select(vec!["1.0", "1", "0", "7", "expected", "fixed", "high", "orders", "2024-12-01T10:00:00Z", "-1"])
            .prop_map(Bytes::from_static_str),
        Just(Bytes::from_static(b"wal_orders_20241201T100000000Z_4c6e2eca-8810-581c-8592-1b908a4e49b9")),
    ];
    (name, prop::option::weighted(0.9, value)).prop_map(|(name, value)| Header { name, value })
}

trait FromStaticStr {
    fn from_static_str(text: &'static str) -> Bytes;
}

impl FromStaticStr for Bytes {
    fn from_static_str(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }
}

/// Pieces that a request is made of, in any order: far more often nearly right than random bytes are.
fn nearly_json() -> impl Strategy<Value = Bytes> {
    let pieces = vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\\u",
        "\\ud800",
        "null",
        "1e400",
        "-",
        "NaN",
        " ",
        "\u{0}",
        "ö",
        "\"namespace\":\"a\"",
        "\"payload\":{}",
        "\"payload\":",
        "\"entries\":[",
        "\"lifecycle\":{",
        "\"ttl\":",
        "\"request_id\":\"r\"",
        "\"user_context\":{",
        "\"deliver_at\":\"2024-12-01T10:00:00Z\"",
        "\"saga_id\":\"s\"",
    ];
    prop::collection::vec(select(pieces), 0..30).prop_map(|pieces| Bytes::from(pieces.concat()))
}

fn any_record() -> impl Strategy<Value = InRecord> {
    let value = prop::option::weighted(0.95, prop_oneof![any_bytes(200), nearly_json()]);
    let key = prop::option::of(any_bytes(300));
    (value, key, prop::collection::vec(any_header(), 0..30)).prop_map(|(value, key, headers)| InRecord {
        key,
        value,
        ..ingress("", headers)
    })
}

/// A good request in which some bytes have been changed.
fn damaged_request() -> impl Strategy<Value = InRecord> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (asked(), changes).prop_map(|(asked, changes)| {
        let mut value = asked.json(&Spelling::default()).into_bytes();
        for (at, byte) in changes {
            let at = at.index(value.len());
            value[at] = byte;
        }
        ingress(value, Vec::new())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn reading_anything_ends_in_an_answer(record in any_record()) {
        let decoded = decode(&record);
        if let Err(refusal) = decoded.request {
            prop_assert!(!refusal.message.contains(char::is_control));
        }
        let delivery = Delivery::decode(&record);
        if let Ok(received) = delivery {
            prop_assert!(received.delivery.verify(wal_model::record::last_str(&record.headers, "ce_walseal"), &keyring()).is_err());
        }
        prop_assert!(Ack::decode(&record, &keyring()).is_err());
        let _ = Receipt::from_json(record.value.as_deref().unwrap_or_default());
    }

    #[test]
    fn reading_a_damaged_request_ends_in_an_answer(record in damaged_request()) {
        decode(&record);
    }

    #[test]
    fn any_record_makes_a_dead_letter_that_can_be_published(record in any_record(), limit in 4000usize..10_000) {
        let refusal = Refusal::new(wal_model::Code::InvalidJson, "why");
        let topic = Topic::parse("dlq.wal.ingress").unwrap();
        let letter = dead_letter::encode(&record, &refusal, "wal.writer", None, Vec::new(), topic, limit);
        prop_assert!(letter.size_as_batch() <= limit);
        let is_sendable = |header: &Header| header.name_str().is_some_and(|name| !name.contains('\0'));
        prop_assert!(letter.headers.iter().all(is_sendable));
        prop_assert!(letter.value.is_some());
    }
}

// ---------------------------------------------------------------- requests

/// A request in plain JSON before it is spelled.
#[derive(Clone, Debug)]
struct Asked {
    namespace: String,
    target: Option<String>,
    payload: String,
    lifecycle: Vec<(&'static str, String)>,
    correlation_id: Option<String>,
    deliver_at: Option<i64>,
    idempotency_key: Option<String>,
    request_id: Option<String>,
    tenant: Option<String>,
    user: Option<String>,
    key: Option<Bytes>,
}

/// What may differ between two spellings of one request.
#[derive(Clone, Debug, Default)]
struct Spelling {
    seed: u64,
    blank: &'static str,
    user: Option<String>,
    request_id: Option<String>,
}

fn text() -> impl Strategy<Value = String> {
    "[^\\p{Cc}]{1,20}"
}

fn asked() -> impl Strategy<Value = Asked> {
    let lifecycle = (
        prop::option::of(0u32..=100),
        prop::option::of(0u64..=2_592_000_000),
        prop::option::of(select(vec!["fixed", "linear", "exponential"])),
        prop::option::of(1000u64..=31_536_000_000),
        prop::option::of(select(vec!["high", "normal", "low"])),
    )
        .prop_map(|(retries, delay, backoff, ttl, priority)| {
            let seconds = |millis: u64| Seconds::new(Duration::from_millis(millis)).to_string();
            let quoted = |word: &str| format!("\"{word}\"");
            [
                ("retry_count", retries.map(|retries| retries.to_string())),
                ("delay", delay.map(seconds)),
                ("backoff", backoff.map(quoted)),
                ("ttl", ttl.map(seconds)),
                ("priority", priority.map(quoted)),
            ]
            .into_iter()
            .filter_map(|(field, value)| Some((field, value?)))
            .collect()
        });
    let payload = prop::collection::vec((text(), text()), 0..4).prop_map(|fields| {
        let fields: Vec<_> =
            fields.iter().map(|(name, value)| format!("{} : {}", quoted(name), quoted(value))).collect();
        format!("{{ {} }}", fields.join(" ,"))
    });
    let names = ("[A-Za-z0-9_-]{1,20}", prop::option::of("[A-Za-z0-9_-]{1,20}"), payload, lifecycle);
    let ids = (
        prop::option::of(text()),
        prop::option::of(0i64..253_402_300_799_999),
        prop::option::of(text()),
        prop::option::of(text()),
        prop::option::of(text()),
        prop::option::of(text()),
        prop::option::of(any_bytes(20)),
    );
    (names, ids).prop_filter("reserved", |((namespace, ..), _)| namespace != "ingress").prop_map(
        |(
            (namespace, target, payload, lifecycle),
            (correlation_id, deliver_at, idempotency_key, request_id, tenant, user, key),
        )| {
            Asked {
                namespace,
                target,
                payload,
                lifecycle,
                correlation_id,
                deliver_at,
                idempotency_key,
                request_id,
                tenant,
                user,
                key,
            }
        },
    )
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// Puts fields in an order that depends on `seed` and blanks around everything.
fn object(mut fields: Vec<(&str, String)>, spelling: &Spelling) -> String {
    fields.sort_by_key(|(name, _)| ContentHash::of(format!("{name} {}", spelling.seed).as_bytes()));
    let blank = spelling.blank;
    let fields: Vec<_> =
        fields.iter().map(|(name, value)| format!("{blank}\"{name}\"{blank}:{blank}{value}{blank}")).collect();
    format!("{blank}{{{}}}{blank}", fields.join(","))
}

impl Asked {
    fn json(&self, spelling: &Spelling) -> String {
        let mut fields = vec![
            ("namespace", quoted(&self.namespace)),
            ("payload", self.payload.clone()),
            ("lifecycle", object(self.lifecycle.clone(), spelling)),
        ];
        let mut user_context = Vec::new();
        user_context.extend(self.tenant.as_deref().map(|tenant| ("tenant_id", quoted(tenant))));
        user_context.extend(spelling.user.as_ref().or(self.user.as_ref()).map(|user| ("user_id", quoted(user))));
        fields.push(("user_context", object(user_context, spelling)));
        fields.extend(self.target.as_deref().map(|target| ("target", quoted(target))));
        fields.extend(self.correlation_id.as_deref().map(|id| ("correlation_id", quoted(id))));
        fields.extend(self.deliver_at.map(|at| ("deliver_at", quoted(&time(at).to_string()))));
        fields.extend(self.idempotency_key.as_deref().map(|key| ("idempotency_key", quoted(key))));
        let request_id = spelling.request_id.as_ref().or(self.request_id.as_ref());
        fields.extend(request_id.map(|id| ("request_id", quoted(id))));
        object(fields, spelling)
    }

    fn record(&self, spelling: &Spelling) -> InRecord {
        InRecord { key: self.key.clone(), ..ingress(self.json(spelling), Vec::new()) }
    }
}

fn spelling() -> impl Strategy<Value = Spelling> {
    (any::<u64>(), select(vec!["", " ", "\n", "\t \r\n"])).prop_map(|(seed, blank)| Spelling {
        seed,
        blank,
        ..Spelling::default()
    })
}

proptest! {
    #[test]
    fn what_was_asked_is_what_is_read(asked in asked(), spelling in spelling()) {
        let request = good(&asked.record(&spelling));
        let write = &request.writes.as_slice()[0];
        prop_assert_eq!(write.namespace.as_str(), &asked.namespace);
        prop_assert_eq!(write.target.as_ref().map(Topic::as_str), asked.target.as_deref());
        prop_assert_eq!(&write.payload, &asked.payload);
        prop_assert_eq!(write.correlation_id.as_ref().map(Id::as_str), asked.correlation_id.as_deref());
        prop_assert_eq!(write.deliver_at.map(Timestamp::as_millis), asked.deliver_at);
        prop_assert_eq!(request.tenant.as_ref().map(Tenant::as_str), asked.tenant.as_deref());
        prop_assert_eq!(request.user.as_ref().map(Id::as_str), asked.user.as_deref());
        prop_assert_eq!(&request.ordering_key, &asked.key);
    }

    #[test]
    fn spelling_user_and_transport_do_not_change_the_hash(
        asked in asked(), spelling in spelling(), user in text(), request_id in text(),
    ) {
        let plain = good(&asked.record(&Spelling::default()));
        let mut asked = Asked { idempotency_key: Some("k".to_owned()), ..asked };
        let identified = good(&asked.record(&Spelling::default()));
        prop_assert_eq!(identified.hash, plain.hash);
        asked.tenant = None;
        let other = Spelling { user: Some(user), request_id: Some(request_id), ..spelling };
        let mut record = asked.record(&other);
        record.headers = vec![
            header("kafka_replyTopic", "replies"),
            header("kafka_correlationId", "c"),
            header("traceparent", "00-1-2-01"),
        ];
        record.offset += 1;
        let respelled = good(&record);
        prop_assert_eq!(respelled.hash, plain.hash);
        prop_assert_eq!(&respelled.identity, &identified.identity);
    }

    #[test]
    fn the_same_request_again_has_the_same_key(asked in asked(), spelling in spelling()) {
        let asked = Asked { request_id: Some("r".to_owned()), ..asked };
        let key = |record: &InRecord| {
            let request = good(record);
            EntryKey::of(request.tenant.as_ref(), &request.writes.as_slice()[0].namespace, &request.identity, 0)
        };
        let again = InRecord { offset: 99, time: None, ..asked.record(&spelling) };
        prop_assert_eq!(key(&asked.record(&Spelling::default())), key(&again));
    }
}

#[test]
fn every_part_of_the_meaning_changes_the_hash() {
    let base = Asked {
        namespace: "orders".to_owned(),
        target: Some("t".to_owned()),
        payload: "{}".to_owned(),
        lifecycle: Vec::new(),
        correlation_id: Some("c".to_owned()),
        deliver_at: Some(WRITTEN_AT),
        idempotency_key: Some("k".to_owned()),
        request_id: None,
        tenant: None,
        user: None,
        key: Some(Bytes::from_static(b"key")),
    };
    let lifecycle = |field, value: &str| Asked { lifecycle: vec![(field, value.to_owned())], ..base.clone() };
    let meanings = [
        base.clone(),
        Asked { namespace: "Orders".to_owned(), ..base.clone() },
        Asked { target: Some("u".to_owned()), ..base.clone() },
        Asked { target: None, ..base.clone() },
        Asked { payload: "{ }".to_owned(), ..base.clone() },
        Asked { correlation_id: Some("d".to_owned()), ..base.clone() },
        Asked { correlation_id: None, ..base.clone() },
        Asked { deliver_at: Some(WRITTEN_AT + 1), ..base.clone() },
        Asked { deliver_at: None, ..base.clone() },
        Asked { key: Some(Bytes::new()), ..base.clone() },
        Asked { key: None, ..base.clone() },
        lifecycle("retry_count", "60"),
        lifecycle("delay", "60"),
        lifecycle("delay", "60.001"),
        lifecycle("ttl", "60"),
        lifecycle("backoff", "\"fixed\""),
        lifecycle("backoff", "\"linear\""),
        lifecycle("priority", "\"high\""),
        lifecycle("priority", "\"normal\""),
    ];
    let mut hashes: Vec<_> = meanings.iter().map(|asked| good(&asked.record(&Spelling::default())).hash).collect();
    let entry = r#"{"namespace":"orders","payload":{}}"#;
    let other = r#"{"namespace":"orders","payload":{ }}"#;
    for entries in [vec![entry], vec![entry, entry], vec![entry, other], vec![other, entry], vec![entry, entry, entry]]
    {
        let batch = InRecord { key: None, ..ingress(format!(r#"{{"entries":[{}]}}"#, entries.join(",")), Vec::new()) };
        hashes.push(good(&batch).hash);
        hashes.push(good(&InRecord { key: Some(Bytes::from_static(b"key")), ..batch }).hash);
    }
    for media_type in [&b""[..], b"text/plain", b"application/json", b"application/octet-stream"] {
        let headers = vec![
            header("ce_specversion", "1.0"),
            header("ce_id", "1"),
            header("ce_source", "s"),
            header("ce_type", "t"),
            header("ce_walnamespace", "orders"),
            header("content-type", media_type),
        ];
        hashes.push(good(&ingress("", headers)).hash);
    }
    let different = hashes.iter().collect::<std::collections::BTreeSet<_>>().len();
    assert_eq!(different, hashes.len());
}

#[test]
fn both_forms_of_one_request_mean_the_same() {
    let headers = vec![
        header("ce_specversion", "1.0"),
        header("ce_id", "7"),
        header("ce_source", "/shop"),
        header("ce_type", "order.pay"),
        header("content-type", "application/json"),
        header("ce_walnamespace", "orders"),
        header("ce_waldelay", "0.5"),
    ];
    let event = good(&ingress("{}", headers));
    let value = r#"{"namespace":"orders","payload":{},"lifecycle":{"delay":0.5},"request_id":"/shop 7"}"#;
    let plain = good(&ingress(value, Vec::new()));
    assert_eq!((event.hash, event.identity), (plain.hash, plain.identity));
}

// ---------------------------------------------------------------- deliveries

fn any_id() -> impl Strategy<Value = Id> {
    text().prop_map(|text| Id::parse(&text).unwrap())
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    (0i64..=253_402_300_799_999).prop_map(time)
}

fn any_log_id() -> impl Strategy<Value = LogId> {
    ("[A-Za-z0-9._-]{1,100}", any_time(), any::<u128>())
        .prop_filter("reserved", |(namespace, ..)| namespace != "ingress")
        .prop_map(|(namespace, at, uuid)| {
            LogId::new(Namespace::parse(&namespace).unwrap(), at, EntryKey::from(Uuid::from_u128(uuid)))
        })
}

fn any_lifecycle() -> impl Strategy<Value = Lifecycle> {
    (
        any::<u32>(),
        0u64..=31_536_000_000,
        select(vec![Backoff::Exponential, Backoff::Linear, Backoff::Fixed]),
        1000u64..=31_536_000_000,
        select(vec![Priority::High, Priority::Normal, Priority::Low]),
    )
        .prop_map(|(retry_count, delay, backoff, ttl, priority)| {
            let seconds = |millis| Seconds::new(Duration::from_millis(millis));
            Lifecycle { retry_count, delay: seconds(delay), backoff, ttl: seconds(ttl), priority }
        })
}

fn callers_header() -> impl Strategy<Value = Header> {
    let name = "[^\\x00]{1,20}".prop_filter("reserved", |name| !wire::is_reserved(name));
    (name, prop::option::of(any_bytes(20))).prop_map(|(name, value)| Header { name: Bytes::from(name), value })
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let identity = (any_log_id(), "[A-Za-z0-9_-]{1,249}", any_lifecycle(), any::<bool>());
    let ids = (
        prop::option::of(text()),
        prop::option::of(any_id()),
        prop::option::of(any_id()),
        prop::option::of(any_id()),
        prop::option::of(any_id()),
    );
    let key = prop::option::of(prop_oneof![any_bytes(40), text().prop_map(Bytes::from)]);
    let content = (key, prop::option::of(text()), any_bytes(200), prop::collection::vec(callers_header(), 0..5));
    let standing = (any::<u32>(), any::<u32>(), any::<u32>(), any_time());
    (identity, ids, content, standing).prop_map(|(identity, ids, content, standing)| {
        let (log_id, target, lifecycle, is_answered) = identity;
        let (tenant, user, operation, correlation_id, request_id) = ids;
        let (ordering_key, content_type, payload, headers) = content;
        let (round, round_first, attempt, deadline) = standing;
        let mut state = State::first(Uuid::nil(), log_id.timestamp(), lifecycle.ttl.duration());
        state.standing = Event { round, round_first, attempt, deadline, ..state.standing };
        Entry {
            target: Topic::parse(&target).unwrap(),
            lifecycle,
            answers: if is_answered { Answers::Expected } else { Answers::None },
            tenant: tenant.map(|tenant| Tenant::parse(&tenant).unwrap()),
            user,
            operation,
            correlation_id,
            request_id,
            idempotency_key: None,
            deliver_at: None,
            ordering_key,
            content_type,
            request_hash: ContentHash::of(&payload),
            payload,
            headers,
            batch: Some(BatchPlace { index: 0, count: 1, default_target: None }),
            origin: Coordinates {
                cluster: Arc::from("cluster"),
                topic: Topic::parse("wal.ingress").unwrap(),
                partition: 0,
                offset: 0,
                time: log_id.timestamp(),
            },
            log_id,
            state,
        }
    })
}

/// Every field under the seal, changed one at a time.
fn tampered(delivery: &Delivery) -> Vec<(&'static str, Delivery)> {
    let mut other_key = delivery.ordering_key.clone().unwrap_or_default().to_vec();
    other_key.push(b'x');
    let log_id = &delivery.log_id;
    let later = time((log_id.timestamp().as_millis() + 1) % 253_402_300_799_999);
    let other_log_id = LogId::new(log_id.namespace().clone(), later, log_id.key());
    let tenant = Tenant::parse(&format!("{}x", delivery.tenant.as_ref().map_or("", Tenant::as_str))).unwrap();
    let next_day = Seconds::new(delivery.delay.duration() + Duration::from_secs(86_400));
    let backoff = if delivery.backoff == Backoff::Fixed { Backoff::Linear } else { Backoff::Fixed };
    let priority = if delivery.priority == Priority::High { Priority::Low } else { Priority::High };
    let answers = if delivery.answers == Answers::None { Answers::Expected } else { Answers::None };
    let deadline = time((delivery.deadline.as_millis() + 1) % 253_402_300_799_999);
    let target = Topic::parse(if delivery.target.as_str() == "t" { "u" } else { "t" }).unwrap();
    let payload = Bytes::from([&delivery.payload[..], b" "].concat());
    let mut changed = vec![
        ("log id", Delivery { log_id: other_log_id, ..delivery.clone() }),
        ("tenant", Delivery { tenant: Some(tenant), ..delivery.clone() }),
        ("target", Delivery { target, ..delivery.clone() }),
        ("ordering key", Delivery { ordering_key: Some(Bytes::from(other_key)), ..delivery.clone() }),
        ("round", Delivery { round: delivery.round.wrapping_add(1), ..delivery.clone() }),
        ("first attempt", Delivery { round_first: delivery.round_first.wrapping_add(1), ..delivery.clone() }),
        ("attempt", Delivery { attempt: delivery.attempt.wrapping_add(1), ..delivery.clone() }),
        ("retries", Delivery { retry_count: delivery.retry_count.wrapping_add(1), ..delivery.clone() }),
        ("delay", Delivery { delay: next_day, ..delivery.clone() }),
        ("backoff", Delivery { backoff, ..delivery.clone() }),
        ("priority", Delivery { priority, ..delivery.clone() }),
        ("answers", Delivery { answers, ..delivery.clone() }),
        ("deadline", Delivery { deadline, ..delivery.clone() }),
        ("payload", Delivery { payload, ..delivery.clone() }),
    ];
    if delivery.ordering_key.is_some() {
        changed.push(("no ordering key", Delivery { ordering_key: None, ..delivery.clone() }));
    }
    if delivery.tenant.is_some() {
        changed.push(("no tenant", Delivery { tenant: None, ..delivery.clone() }));
    }
    changed
}

proptest! {
    #[test]
    fn deliveries_are_read_as_they_were_written(entry in any_entry(), sent in any_time()) {
        let delivery = Delivery::of(&entry);
        let record = delivery.encode(sent, &keyring());
        prop_assert_eq!(&record.topic, &entry.target);
        prop_assert_eq!(&record.key, &entry.ordering_key);
        prop_assert_eq!(record.value.as_ref(), Some(&entry.payload));
        let received = Delivery::decode(&read_back(record)).unwrap();
        prop_assert_eq!(&received.delivery, &delivery);
        prop_assert_eq!(received.sent, sent);
    }

    #[test]
    fn an_answer_that_echoes_a_delivery_carries_its_seal(entry in any_entry(), message in any_bytes(50)) {
        // A consumer in any language: other topic, other key, headers in another order and some more of them.
        let mut answer = read_back(Delivery::of(&entry).encode(time(0), &keyring()));
        answer.topic = Topic::parse("wal.failures").unwrap();
        answer.key = Some(Bytes::from_static(b"something else"));
        answer.headers.reverse();
        answer.headers.push(Header::new(wire::CE_WALERRORCODE, "CARD_DECLINED"));
        answer.headers.push(Header::new(wire::CE_WALERRORMESSAGE, message));
        let seal = wal_model::record::last_str(&answer.headers, wire::CE_WALSEAL);
        let received = Delivery::decode(&answer).unwrap();
        prop_assert_eq!(received.delivery.verify(seal, &keyring()), Ok(()));
    }

    #[test]
    fn every_field_under_the_seal_breaks_it(entry in any_entry()) {
        let delivery = Delivery::of(&entry);
        let record = read_back(delivery.encode(time(0), &keyring()));
        let seal = wal_model::record::last_str(&record.headers, wire::CE_WALSEAL);
        prop_assert_eq!(delivery.verify(seal, &keyring()), Ok(()));
        for (what, other) in tampered(&delivery) {
            prop_assert_eq!(other.verify(seal, &keyring()), Err(Broken::Forged), "{}", what);
        }
    }

    #[test]
    fn another_payload_under_the_same_headers_is_no_delivery(entry in any_entry(), payload in any_bytes(200)) {
        prop_assume!(payload != entry.payload);
        let mut record = read_back(Delivery::of(&entry).encode(time(0), &keyring()));
        record.value = Some(payload);
        prop_assert_eq!(Delivery::decode(&record), Err(wal_model::delivery::NotADelivery::OtherPayload));
    }

    #[test]
    fn a_delivery_without_one_of_its_headers_is_refused_by_name(entry in any_entry()) {
        let record = read_back(Delivery::of(&entry).encode(time(0), &keyring()));
        let needed = [
            wire::CE_ID, wire::CE_EXPIRYTIME, wire::CE_WALTARGET, wire::CE_WALATTEMPT, wire::CE_WALROUND,
            wire::CE_WALROUNDFIRST, wire::CE_WALRETRIES, wire::CE_WALDELAY, wire::CE_WALBACKOFF, wire::CE_WALPRIORITY,
            wire::CE_WALANSWERS, wire::CE_WALHASH, wire::CE_WALSENT,
        ];
        for name in needed {
            let mut record = record.clone();
            record.headers.retain(|header| !header.is(name));
            prop_assert_eq!(Delivery::decode(&record), Err(wal_model::delivery::NotADelivery::Missing(name)));
        }
    }
}

// ---------------------------------------------------------------- receipts and status events

fn any_receipt() -> impl Strategy<Value = Receipt> {
    let request_id = || prop::option::of(any_id());
    prop_oneof![
        (any_log_id(), "[a-z]{1,20}", request_id()).prop_map(|(log_id, target, request_id)| {
            let target = Topic::parse(&target).unwrap();
            Receipt::Stored { log_id, target, request_id }
        }),
        (prop::collection::vec(any_log_id(), 0..5), request_id())
            .prop_map(|(log_ids, request_id)| Receipt::BatchStored { log_ids, request_id }),
        (".{0,30}", ".{0,30}", any::<bool>(), request_id()).prop_map(
            |(error_code, error, is_retryable, request_id)| {
                Receipt::Refused { error_code, error, is_retryable, request_id }
            }
        ),
    ]
}

/// Our services say `completed` without a result: results are the consumers'.
fn any_outcome() -> impl Strategy<Value = Outcome> {
    let reasons = vec![Reason::Exhausted, Reason::Rejected, Reason::Undeliverable, Reason::Cancelled, Reason::Expired];
    prop_oneof![
        Just(Outcome::Pending),
        any_time().prop_map(|next_attempt_at| Outcome::Retrying { next_attempt_at }),
        select(reasons).prop_map(|reason| Outcome::Failed { reason }),
        Just(Outcome::Completed { result: None }),
    ]
}

fn any_ack() -> impl Strategy<Value = Ack> {
    let failure = (".{0,30}", ".{0,30}").prop_map(|(code, message)| Failure { code, message });
    let numbers = (any::<u128>(), any::<u32>(), any::<u32>(), any::<u32>(), any_time(), any_time());
    (any_log_id(), prop::option::of(text()), numbers, any_outcome(), prop::option::of(failure)).prop_map(
        |(log_id, tenant, (id, round, round_first, attempt, deadline, at), outcome, failure)| Ack {
            log_id,
            tenant: tenant.map(|tenant| Tenant::parse(&tenant).unwrap()),
            event: Event {
                id: Uuid::from_u128(id),
                round,
                round_first,
                deadline,
                attempt,
                at,
                delivered_at: None,
                outcome,
                failure,
            },
        },
    )
}

proptest! {
    #[test]
    fn receipts_are_read_as_they_were_written(receipt in any_receipt(), id: u128, correlation in any_bytes(20)) {
        prop_assert_eq!(&Receipt::from_json(&receipt.to_json()).unwrap(), &receipt);
        let reply = ReplyTo { topic: None, partition: Some(3), correlation: Some(correlation.clone()) };
        let topic = Topic::parse("wal.receipts").unwrap();
        let record = receipt.encode(Uuid::from_u128(id), time(0), topic, &reply);
        prop_assert_eq!(record.partition, Some(3));
        prop_assert_eq!(wal_model::record::last(&record.headers, wire::REPLY_CORRELATION), Some(&correlation));
        prop_assert_eq!(&Receipt::from_json(record.value.as_deref().unwrap()).unwrap(), &receipt);
    }

    #[test]
    fn a_receipt_of_a_newer_writer_can_be_read(receipt in any_receipt()) {
        let mut json: serde_json::Value = serde_json::from_slice(&receipt.to_json()).unwrap();
        json["region"] = "eu-west-1".into();
        prop_assert_eq!(Receipt::from_json(json.to_string().as_bytes()).unwrap(), receipt);
    }

    #[test]
    fn status_events_are_read_as_they_were_written(ack in any_ack()) {
        let record = ack.encode(Topic::parse("wal.acks").unwrap(), &keyring());
        let key = ack.log_id.to_string();
        prop_assert_eq!(record.key.as_deref(), Some(key.as_bytes()));
        prop_assert_eq!(Ack::decode(&read_back(record), &keyring()).unwrap(), ack);
    }

    #[test]
    fn a_changed_status_event_is_not_ours(
        ack in any_ack(), at in any::<prop::sample::Index>(), other in text(),
    ) {
        let record = read_back(ack.encode(Topic::parse("wal.acks").unwrap(), &keyring()));
        let mut value = record.value.clone().unwrap().to_vec();
        let at = at.index(value.len());
        value[at] ^= 1;
        let changed = InRecord { value: Some(Bytes::from(value)), ..record.clone() };
        prop_assert!(matches!(Ack::decode(&changed, &keyring()), Err(wal_model::ack::NotAnAck::Seal(Broken::Forged))));
        prop_assume!(ack.tenant.as_ref().map(Tenant::as_str) != Some(&other));
        let mut other_tenant = record;
        other_tenant.headers.push(header(wire::CE_WALTENANT, other));
        prop_assert!(matches!(Ack::decode(&other_tenant, &keyring()), Err(wal_model::ack::NotAnAck::Seal(Broken::Forged))));
    }

    #[test]
    fn states_are_stored_and_read_back(events in prop::collection::vec(any_ack(), 0..5)) {
        let mut state = State::first(Uuid::nil(), time(0), Duration::from_secs(1));
        events.iter().for_each(|ack| state.join(&ack.event));
        let json = serde_json::to_string(&state).unwrap();
        prop_assert_eq!(serde_json::from_str::<State>(&json).unwrap(), state.clone());
        let value = serde_json::to_value(&state).unwrap();
        prop_assert_eq!(serde_json::from_value::<State>(value).unwrap(), state);
    }
}
