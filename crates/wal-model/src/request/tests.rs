//! Both forms of a request, right and wrong. The tables name what a client sees.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::lifecycle::{Backoff, Priority, Seconds};

const DEEP: usize = 10_000;

fn record(value: impl Into<Bytes>) -> InRecord {
    InRecord {
        cluster: Arc::from("cluster"),
        topic: Topic::parse("wal.ingress").unwrap(),
        partition: 3,
        offset: 42,
        time: Timestamp::from_millis(1_733_047_200_000),
        key: None,
        value: Some(value.into()),
        headers: Vec::new(),
    }
}

fn header(name: &str, value: impl AsRef<[u8]>) -> Header {
    Header { name: Bytes::copy_from_slice(name.as_bytes()), value: Some(Bytes::copy_from_slice(value.as_ref())) }
}

fn null(name: &str) -> Header {
    Header { name: Bytes::copy_from_slice(name.as_bytes()), value: None }
}

fn with(mut record: InRecord, headers: impl IntoIterator<Item = Header>) -> InRecord {
    record.headers.extend(headers);
    record
}

/// Form 2 with what it must have.
fn event() -> InRecord {
    let headers = [
        header("ce_specversion", "1.0"),
        header("ce_id", "7"),
        header("ce_source", "/shop"),
        header("ce_type", "order.pay"),
        header("ce_walnamespace", "orders"),
    ];
    with(record(&b"{}"[..]), headers)
}

/// Form 2 with one header changed, and without it where `value` is `None`.
fn event_with(name: &str, value: Option<&[u8]>) -> InRecord {
    let mut event = event();
    event.headers.retain(|header| !header.is(name));
    with(event, value.map(|value| header(name, value)))
}

fn fields() -> Vec<String> {
    vec!["correlation_id".to_owned(), "saga_id".to_owned()]
}

fn read(record: &InRecord) -> Decoded {
    decode(record, &fields())
}

fn good(record: &InRecord) -> Request {
    read(record).request.unwrap_or_else(|refusal| panic!("refused: {refusal}"))
}

fn refusal(record: &InRecord) -> Refusal {
    match read(record).request {
        Ok(request) => panic!("accepted: {request:?}"),
        Err(refusal) => refusal,
    }
}

fn one(request: &Request) -> &Write {
    match &request.writes {
        Writes::One(write) => write,
        Writes::Batch(_) => panic!("a batch"),
    }
}

/// A minimal request with more fields.
fn json(more: &str) -> InRecord {
    record(format!(r#"{{"namespace":"orders","payload":{{}}{more}}}"#))
}

fn id(text: &str) -> Id {
    Id::parse(text).unwrap()
}

fn seconds(text: &str) -> Option<Seconds> {
    Some(text.parse().unwrap())
}

fn deep(depth: usize) -> String {
    format!("{}1{}", "[".repeat(depth), "]".repeat(depth))
}

// ---------------------------------------------------------------- good ones

#[test]
fn form_1_with_every_field() {
    let value = r#"{
        "namespace": "saga_execution", "target": "saga_queue",
        "payload": {"operation": "execute_saga", "saga_id": "s-1"},
        "lifecycle": {"retry_count": 5, "delay": 0.25, "backoff": "linear", "ttl": 86400, "priority": "high"},
        "user_context": {"user_id": "u-1", "tenant_id": "acme"},
        "correlation_id": "c-1", "idempotency_key": "k-1", "request_id": "r-1", "deliver_at": "2024-12-01T11:00:00+01:00"
    }"#;
    let mut record = with(
        record(value),
        [
            header("kafka_replyTopic", "replies"),
            header("kafka_replyPartition", 7i32.to_be_bytes()),
            header("kafka_correlationId", [0, 255]),
            header("traceparent", "00-1-2-01"),
            header("content-type", "text/plain"),
            null("own"),
        ],
    );
    record.key = Some(Bytes::from_static(b"\xff\x00"));
    let decoded = read(&record);
    let reply = ReplyTo {
        topic: Some(Topic::parse("replies").unwrap()),
        partition: Some(7),
        correlation: Some(Bytes::from_static(&[0, 255])),
    };
    assert_eq!(decoded.reply, reply);
    assert_eq!(decoded.request_id, Some(id("r-1")));
    let request = decoded.request.unwrap();
    assert_eq!(request.tenant, Some(Tenant::parse("acme").unwrap()));
    assert_eq!(request.user, Some(id("u-1")));
    assert_eq!(request.identity, Identity::IdempotencyKey(id("k-1")));
    assert_eq!((request.request_id.clone(), request.idempotency_key.clone()), (Some(id("r-1")), Some(id("k-1"))));
    assert_eq!(request.ordering_key.as_deref(), Some(&b"\xff\x00"[..]));
    assert_eq!(request.headers, [header("traceparent", "00-1-2-01"), null("own")]);
    let expected = Write {
        namespace: Namespace::parse("saga_execution").unwrap(),
        target: Some(Topic::parse("saga_queue").unwrap()),
        lifecycle: Requested {
            retry_count: Some(5),
            delay: Some(Seconds::new(Duration::from_millis(250))),
            backoff: Some(Backoff::Linear),
            ttl: seconds("86400"),
            priority: Some(Priority::High),
        },
        correlation_id: Some(id("c-1")),
        payload_correlation_id: Some(id("s-1")),
        deliver_at: Timestamp::from_millis(1_733_047_200_000),
        operation: Some(id("execute_saga")),
        content_type: Some("application/json".to_owned()),
        payload: Bytes::from_static(br#"{"operation": "execute_saga", "saga_id": "s-1"}"#),
    };
    assert_eq!(one(&request), &expected);
}

#[test]
fn form_1_at_its_smallest_is_identified_by_its_record() {
    let record = json("");
    let request = good(&record);
    assert_eq!(request.identity, Identity::Record(record.coordinates()));
    assert_eq!((&request.tenant, &request.user, &request.ordering_key), (&None, &None, &None));
    let write = one(&request);
    assert_eq!((&write.target, &write.correlation_id, &write.operation), (&None, &None, &None));
    assert_eq!(write.lifecycle, Requested::default());
}

#[test]
fn a_batch_shares_ids_and_keeps_its_order() {
    let value = r#"{"entries": [
        {"namespace": "a", "payload": {"saga_id": "s-1"}, "target": "t", "correlation_id": "c-1"},
        {"namespace": "b", "payload": { }, "lifecycle": {"retry_count": 0}, "deliver_at": "2024-12-01T10:00:00Z"},
        {"namespace": "a", "payload": {}, "request_id": null, "idempotency_key": null}
    ], "idempotency_key": "k", "request_id": "r", "user_context": {"tenant_id": "acme"}}"#;
    let request = good(&record(value));
    assert_eq!(request.identity, Identity::IdempotencyKey(id("k")));
    let Writes::Batch(writes) = &request.writes else { panic!("no batch") };
    let namespaces: Vec<_> = writes.iter().map(|write| write.namespace.as_str()).collect();
    assert_eq!(namespaces, ["a", "b", "a"]);
    assert_eq!(writes[1].payload, "{ }");
    assert_eq!(writes[1].lifecycle.retry_count, Some(0));
    assert_eq!(request.writes.as_slice().len(), 3);
}

#[test]
fn a_batch_may_have_one_entry_and_a_thousand() {
    for count in [1, BATCH_LEN] {
        let entries = vec![r#"{"namespace":"a","payload":{}}"#; count].join(",");
        let request = good(&record(format!(r#"{{"entries":[{entries}]}}"#)));
        assert_eq!(request.writes.as_slice().len(), count);
    }
}

#[test]
fn form_2_with_every_attribute() {
    let mut record = with(
        record(&b"\x00\xff not json"[..]),
        [
            header("ce_specversion", "1.0"),
            header("ce_id", "a b"),
            header("ce_source", "/shop"),
            header("ce_type", "order.pay"),
            header("ce_time", "2020-01-01T00:00:00Z"),
            header("ce_subject", "the caller's"),
            header("content-type", "application/octet-stream"),
            header("ce_walnamespace", "orders"),
            header("ce_waltarget", "payments"),
            header("ce_waltenant", "acme"),
            header("ce_waluser", "größe"),
            header("ce_correlationid", "c-1"),
            header("ce_walidempotencykey", "k-1"),
            header("ce_waldeliverat", "2024-12-01T10:00:00.001Z"),
            header("ce_walretries", "100"),
            header("ce_waldelay", "2592000"),
            header("ce_walbackoff", "fixed"),
            header("ce_walttl", "1"),
            header("ce_walpriority", "low"),
            header("own", "1"),
            header("own", "2"),
            header("traceparent", "00-1-2-01"),
            null("kafka_replyTopic"),
            header("kafka_correlationId", "x"),
        ],
    );
    record.key = Some(Bytes::new());
    let decoded = read(&record);
    assert_eq!(decoded.reply, ReplyTo { correlation: Some(Bytes::from_static(b"x")), ..ReplyTo::default() });
    assert_eq!(decoded.request_id, Some(id("/shop a b")));
    let request = decoded.request.unwrap();
    assert_eq!(request.tenant, Some(Tenant::parse("acme").unwrap()));
    assert_eq!(request.user, Some(id("größe")));
    assert_eq!(request.identity, Identity::IdempotencyKey(id("k-1")));
    assert_eq!(request.ordering_key, Some(Bytes::new()));
    let own = [
        header("ce_subject", "the caller's"),
        header("own", "1"),
        header("own", "2"),
        header("traceparent", "00-1-2-01"),
    ];
    assert_eq!(request.headers, own);
    let expected = Write {
        namespace: Namespace::parse("orders").unwrap(),
        target: Some(Topic::parse("payments").unwrap()),
        lifecycle: Requested {
            retry_count: Some(100),
            delay: seconds("2592000"),
            backoff: Some(Backoff::Fixed),
            ttl: seconds("1"),
            priority: Some(Priority::Low),
        },
        correlation_id: Some(id("c-1")),
        payload_correlation_id: None,
        deliver_at: Timestamp::from_millis(1_733_047_200_001),
        operation: Some(id("order.pay")),
        content_type: Some("application/octet-stream".to_owned()),
        payload: Bytes::from_static(b"\x00\xff not json"),
    };
    assert_eq!(one(&request), &expected);
}

#[test]
fn form_2_at_its_smallest_is_identified_by_source_and_id() {
    let request = good(&event());
    assert_eq!(request.identity, Identity::RequestId(id("/shop 7")));
    assert_eq!(one(&request).content_type, None);
}

#[test]
fn form_2_without_a_value_has_an_empty_payload() {
    for value in [None, Some(Bytes::new())] {
        let record = InRecord { value, ..event() };
        assert_eq!(one(&good(&record)).payload, Bytes::new());
    }
}

#[test]
fn payloads_are_kept_byte_for_byte() {
    let payloads = [
        "{ \t\r\n }".to_owned(),
        r#"{"a" :  "\u00e9\/é" , "a":1e400,"b":-0.0,"c":123456789012345678901234567890.10}"#.to_owned(),
        r#"{"nul":"\u0000","lone":"\ud800","\udfff":1}"#.to_owned(),
        format!(r#"{{"deep":{}}}"#, deep(DEEP)),
        format!(r#"{{"deep":{}1{}}}"#, r#"{"a":"#.repeat(DEEP), "}".repeat(DEEP)),
    ];
    for payload in payloads {
        let alone = record(format!(r#" {{"namespace":"orders" , "payload" : {payload} }} "#));
        assert_eq!(one(&good(&alone)).payload, payload);
        let entries = format!(r#"{{"namespace":"a","payload": {payload} }},{{"namespace":"a","payload":{{}}}}"#);
        let batch = good(&record(format!(r#"{{"entries":[{entries}]}}"#)));
        assert_eq!(batch.writes.as_slice()[0].payload, payload);
        let event = with(
            InRecord { value: Some(Bytes::from(payload.clone())), ..event() },
            [header("content-type", "application/json; charset=utf-8")],
        );
        assert_eq!(one(&good(&event)).payload, payload);
    }
}

#[test]
fn null_absent_and_empty_are_the_same() {
    let absent = good(&json(""));
    let same = [
        r#","target":null,"lifecycle":null,"user_context":null,"correlation_id":null,"idempotency_key":null,"#
            .to_owned()
            + r#""request_id":null,"deliver_at":null,"entries":null"#,
        r#","user_context":{},"lifecycle":{}"#.to_owned(),
        r#","user_context":{"tenant_id":null,"user_id":null}"#.to_owned(),
        r#","user_context":{"tenant_id":"","user_id":""},"request_id":"","idempotency_key":"","correlation_id":"""#
            .to_owned(),
        r#","lifecycle":{"retry_count":null,"delay":null,"backoff":null,"ttl":null,"priority":null}"#.to_owned(),
    ];
    for more in same {
        assert_eq!(good(&json(&more)), absent, "{more}");
    }
    let absent = good(&event());
    let optional = ["ce_waltenant", "ce_waluser", "ce_correlationid", "ce_walidempotencykey", "content-type"];
    for name in optional {
        assert_eq!(good(&event_with(name, Some(b""))), absent, "{name}");
        assert_eq!(good(&with(event(), [null(name)])), absent, "{name}");
    }
}

#[test]
fn the_correlation_id_may_come_from_the_payload() {
    let table = [
        (r#"{"correlation_id":"c","saga_id":"s"}"#, Some("c")),
        (r#"{"saga_id":"s","correlation_id":"c"}"#, Some("c")),
        (r#"{"saga_id":"s"}"#, Some("s")),
        (r#"{"correlation_id":7,"saga_id":"s"}"#, Some("s")),
        (r#"{"correlation_id":null,"saga_id":"s"}"#, Some("s")),
        (r#"{"correlation_id":"","saga_id":"s"}"#, Some("s")),
        (r#"{"correlation_id":"a\u0000b","saga_id":"s"}"#, Some("s")),
        (r#"{"correlation_id":"\ud800","saga_id":"s"}"#, Some("s")),
        (r#"{"\ud800":1,"saga_id":"s"}"#, Some("s")),
        (r#"{"saga\u005fid":"s\u00e9"}"#, Some("sé")),
        (r#"{"saga_id":"s","huge":1e400}"#, Some("s")),
        (r#"{"nested":{"saga_id":"s"}}"#, None),
        (r#"{"saga_id":["s"]}"#, None),
    ];
    for (payload, expected) in table {
        let expected = expected.map(id);
        let plain = record(format!(r#"{{"namespace":"orders","payload":{payload}}}"#));
        assert_eq!(one(&good(&plain)).payload_correlation_id, expected, "{payload}");
        assert_eq!(one(&good(&plain)).correlation_id, None, "{payload}");
        for (media_type, expected) in
            [("application/json", expected.clone()), ("application/x+json; a=b", expected), ("text/plain", None)]
        {
            let event = InRecord {
                value: Some(Bytes::from(payload)),
                ..event_with("content-type", Some(media_type.as_bytes()))
            };
            assert_eq!(one(&good(&event)).payload_correlation_id, expected, "{payload} {media_type}");
        }
    }
}

#[test]
fn an_event_whose_payload_only_begins_like_json_says_nothing_of_itself() {
    for payload in [r#"{"saga_id":"s"} trailing"#, r#"{"saga_id":"s""#, r#"["saga_id"]"#, ""] {
        let event =
            InRecord { value: Some(Bytes::from(payload)), ..event_with("content-type", Some(b"application/json")) };
        assert_eq!(one(&good(&event)).payload_correlation_id, None, "{payload}");
    }
}

#[test]
fn lifecycles_at_their_limits_are_taken() {
    let lifecycle = r#","lifecycle":{"retry_count":100,"delay":2592000,"ttl":31536000.000}"#;
    assert_eq!(one(&good(&json(lifecycle))).lifecycle.ttl, seconds("31536000"));
    // As Java spells large doubles.
    let exponent = r#","lifecycle":{"retry_count":0,"delay":0.001,"ttl":3.1536E7}"#;
    assert_eq!(one(&good(&json(exponent))).lifecycle.ttl, seconds("31536000"));
    assert_eq!(one(&good(&json(r#","lifecycle":{"delay":-0}"#))).lifecycle.delay, seconds("0"));
}

#[test]
fn the_callers_headers_may_take_exactly_16_kib() {
    let full = |extra: usize| [header("own", vec![b'x'; HEADERS_LEN - 3 + extra])];
    for base in [json(""), event()] {
        assert_eq!(good(&with(base.clone(), full(0))).headers.len(), 1);
        assert_eq!(refusal(&with(base, full(1))).code, Code::HeadersTooLarge);
    }
}

#[test]
fn keys_may_take_exactly_256_bytes() {
    for base in [json(""), event()] {
        let keyed = |length| InRecord { key: Some(Bytes::from(vec![0xff; length])), ..base.clone() };
        assert_eq!(good(&keyed(256)).ordering_key.unwrap().len(), 256);
        assert_eq!(refusal(&keyed(257)).code, Code::KeyTooLong);
    }
}

// ---------------------------------------------------------------- bad ones

/// What is wrong with a value of form 1, the code, and a word that the message must hold.
fn refused_values() -> Vec<(String, Code, &'static str)> {
    let deep_object = format!("{}1{}", r#"{"a":"#.repeat(DEEP), "}".repeat(DEEP));
    let table = [
        (" \n", Code::InvalidJson, ""),
        ("hello", Code::InvalidJson, ""),
        (r#"{"namespace":"a","payload":{}"#, Code::InvalidJson, "EOF"),
        (r#"{"namespace":"a","payload":{}} {}"#, Code::InvalidJson, "trailing"),
        (r#"{"namespace":"a","payload":{}},"#, Code::InvalidJson, ""),
        (r#"{'namespace':"a"}"#, Code::InvalidJson, ""),
        (r#"{"namespace":"a","payload":{"a":NaN}}"#, Code::InvalidJson, ""),
        (r#"{"namespace":"a","payload":{"a":01}}"#, Code::InvalidJson, ""),
        ("{\"namespace\":\"a\nb\",\"payload\":{}}", Code::InvalidJson, "control character"),
        ("null", Code::InvalidRequest, "an object"),
        ("7", Code::InvalidRequest, "an object"),
        (r#""text""#, Code::InvalidRequest, "an object"),
        // A struct by position, at every level.
        (r#"["a",{}]"#, Code::InvalidRequest, "an object"),
        (r#"["orders",{},null,null,null,null,null,null,null,null]"#, Code::InvalidRequest, "an object"),
        (r#"{"entries":[["a",{}]]}"#, Code::InvalidRequest, "an object"),
        (r#"{"namespace":"a","payload":{},"lifecycle":[3,60]}"#, Code::InvalidRequest, "an object"),
        (r#"{"namespace":"a","payload":{},"user_context":["u","t"]}"#, Code::InvalidRequest, "an object"),
        (r#"{"entries":[{"namespace":"a","payload":{},"lifecycle":[3]}]}"#, Code::InvalidRequest, "an object"),
        (r#"{"entries":{"namespace":"a","payload":{}}}"#, Code::InvalidRequest, "list of entries"),
        (r#"{"entries":[null]}"#, Code::InvalidRequest, "an object"),
        (r#"{"namespace":"a","payload":{},"lifecycle":"x"}"#, Code::InvalidRequest, "an object"),
        (r#"{"namespace":7,"payload":{}}"#, Code::InvalidRequest, "string"),
        (r#"{"namespace":"a","payload":{},"request_id":7}"#, Code::InvalidRequest, "string"),
        (r#"{"namespace":"a","payload":{},"deliver_at":1733047200}"#, Code::InvalidRequest, "string"),
        (r#"{"namespace":"a","payload":{},"user_context":{"tenant_id":7}}"#, Code::InvalidRequest, "string"),
        (r#"{"namespace":"a","namespace":"a","payload":{}}"#, Code::InvalidRequest, "duplicate field `namespace`"),
        (r#"{"namespace":"a","payload":{},"payload":{}}"#, Code::InvalidRequest, "duplicate field `payload`"),
        (
            r#"{"namespace":"a","payload":{},"lifecycle":{"ttl":1,"ttl":1}}"#,
            Code::InvalidRequest,
            "duplicate field `ttl`",
        ),
        (r#"{"request_id":"a","request_id":null,"namespace":"a","payload":{}}"#, Code::InvalidRequest, "duplicate"),
        // Unknown fields, at every level.
        (r#"{"namespace":"a","payload":{},"retries":1}"#, Code::UnknownField, "`retries`"),
        (r#"{"namespace":"a","payload":{},"lifecycle":{"retries":1}}"#, Code::UnknownField, "`retries`"),
        (r#"{"namespace":"a","payload":{},"user_context":{"role":1}}"#, Code::UnknownField, "`role`"),
        (r#"{"entries":[{"namespace":"a","payload":{},"user_context":{}}]}"#, Code::UnknownField, "`user_context`"),
        (r#"{"entries":[{"namespace":"a","payload":{},"lifecycle":{"tll":1}}]}"#, Code::UnknownField, "`tll`"),
        (r#"{"a\u0000\nb":1}"#, Code::UnknownField, r"a\u{0}\nb"),
        // The payload.
        (r#"{"namespace":"a"}"#, Code::InvalidRequest, "payload is missing"),
        (r#"{"namespace":"a","payload":null}"#, Code::InvalidRequest, "payload is missing"),
        (r#"{"namespace":"a","payload":[]}"#, Code::InvalidRequest, "payload must be a JSON object"),
        (r#"{"namespace":"a","payload":"{}"}"#, Code::InvalidRequest, "payload must be a JSON object"),
        (r#"{"namespace":"a","payload":7}"#, Code::InvalidRequest, "payload must be a JSON object"),
        ("{}", Code::InvalidRequest, "payload is missing"),
        // Names.
        (r#"{"payload":{}}"#, Code::NamespaceInvalid, "missing"),
        (r#"{"namespace":null,"payload":{}}"#, Code::NamespaceInvalid, "missing"),
        (r#"{"namespace":"","payload":{}}"#, Code::NamespaceInvalid, "empty"),
        (r#"{"namespace":"a b","payload":{}}"#, Code::NamespaceInvalid, "' '"),
        (r#"{"namespace":"a\u0000","payload":{}}"#, Code::NamespaceInvalid, "'\\0'"),
        (r#"{"namespace":"ingress","payload":{}}"#, Code::NamespaceInvalid, "reserved"),
        (r#"{"namespace":"a","payload":{},"target":""}"#, Code::TargetInvalid, "empty"),
        (r#"{"namespace":"a","payload":{},"target":".."}"#, Code::TargetInvalid, "reserved"),
        (r#"{"namespace":"a","payload":{},"target":"ä"}"#, Code::TargetInvalid, "'ä'"),
        // No Unicode: the text cannot be held.
        (r#"{"namespace":"\ud800","payload":{}}"#, Code::InvalidJson, ""),
        (r#"{"namespace":"a","payload":{},"request_id":"\ud800"}"#, Code::InvalidJson, ""),
        (r#"{"namespace":"a","payload":{},"user_context":{"tenant_id":"\udfff"}}"#, Code::InvalidJson, ""),
        // Times.
        (r#"{"namespace":"a","payload":{},"deliver_at":"tomorrow"}"#, Code::TimeInvalid, "tomorrow"),
        (r#"{"namespace":"a","payload":{},"deliver_at":""}"#, Code::TimeInvalid, "deliver_at"),
        (r#"{"namespace":"a","payload":{},"deliver_at":"2024-12-01T10:00:00"}"#, Code::TimeInvalid, "deliver_at"),
        (r#"{"namespace":"a","payload":{},"deliver_at":"1969-12-31T00:00:00Z"}"#, Code::TimeInvalid, "1970"),
        // Batches.
        (r#"{"entries":[]}"#, Code::BatchInvalid, "0 entries"),
        (r#"{"entries":[{"namespace":"a","payload":{},"request_id":"r"}]}"#, Code::BatchInvalid, "entry 0"),
        (r#"{"entries":[{"namespace":"a","payload":{},"idempotency_key":7}]}"#, Code::BatchInvalid, "entry 0"),
        (r#"{"entries":[{"namespace":"a","payload":{}}],"namespace":"a"}"#, Code::BatchInvalid, "namespace beside"),
        (r#"{"entries":[{"namespace":"a","payload":{}}],"payload":{}}"#, Code::BatchInvalid, "payload beside"),
        (r#"{"entries":[{"namespace":"a","payload":{}}],"target":"t"}"#, Code::BatchInvalid, "target beside"),
        (r#"{"entries":[{"namespace":"a","payload":{}}],"lifecycle":{}}"#, Code::BatchInvalid, "lifecycle beside"),
        (
            r#"{"entries":[{"namespace":"a","payload":{}}],"correlation_id":""}"#,
            Code::BatchInvalid,
            "correlation_id beside",
        ),
        (r#"{"entries":[{"namespace":"a","payload":{}}],"deliver_at":"x"}"#, Code::BatchInvalid, "deliver_at beside"),
        (
            r#"{"entries":[{"namespace":"a","payload":{}},{"namespace":"/","payload":{}}]}"#,
            Code::NamespaceInvalid,
            "entry 1",
        ),
        (r#"{"entries":[{"namespace":"a","payload":{}},{"namespace":"a"}]}"#, Code::InvalidRequest, "entry 1: payload"),
    ];
    let mut refused: Vec<_> = table.map(|(value, code, word)| (value.to_owned(), code, word)).into();
    refused.extend([
        (deep(DEEP), Code::InvalidRequest, "an object"),
        (deep_object.clone(), Code::UnknownField, "`a`"),
        ("[".repeat(DEEP), Code::InvalidRequest, "an object"),
        (r#"{"payload":"#.repeat(DEEP), Code::InvalidJson, "EOF"),
        (format!(r#"{{"namespace":{}}}"#, deep(DEEP)), Code::InvalidRequest, "string"),
        (format!(r#"{{"namespace":"a","payload":{{}},"lifecycle":{deep_object}}}"#), Code::UnknownField, "`a`"),
        (
            format!(r#"{{"namespace":"a","payload":{{}},"lifecycle":{{"ttl":{deep_object}}}}}"#),
            Code::LifecycleInvalid,
            "ttl",
        ),
        (format!(r#"{{"namespace":"a","payload":{}}}"#, deep(DEEP)), Code::InvalidRequest, "payload must be"),
        (format!(r#"{{"{}":1}}"#, "x".repeat(100_000)), Code::UnknownField, "xxx"),
        (format!(r#"{{"namespace":"{}","payload":{{}}}}"#, "n".repeat(101)), Code::NamespaceInvalid, "101 bytes"),
        (
            format!(r#"{{"namespace":"a","payload":{{}},"target":"{}"}}"#, "t".repeat(250)),
            Code::TargetInvalid,
            "250 bytes",
        ),
    ]);
    for count in [BATCH_LEN + 1, 100_000] {
        let entries = vec![r#"{"namespace":"a","payload":{}}"#; count].join(",");
        refused.push((format!(r#"{{"entries":[{entries}]}}"#), Code::BatchInvalid, "entries, 1 to 1000"));
    }
    let fields = ["request_id", "idempotency_key", "correlation_id"];
    let wrong_ids = ["i".repeat(257), r"a\u0000b".to_owned(), r"a\nb".to_owned(), r"\u0085".to_owned()];
    for (field, wrong) in fields.iter().flat_map(|field| wrong_ids.iter().map(move |wrong| (field, wrong))) {
        refused.push((format!(r#"{{"namespace":"a","payload":{{}},"{field}":"{wrong}"}}"#), Code::IdInvalid, field));
    }
    for (field, word) in [("user_id", "user_id"), ("tenant_id", "tenant")] {
        for wrong in &wrong_ids {
            let value = format!(r#"{{"namespace":"a","payload":{{}},"user_context":{{"{field}":"{wrong}"}}}}"#);
            refused.push((value, Code::IdInvalid, word));
        }
    }
    refused
}

#[test]
fn wrong_values_of_form_1_are_refused_by_code_and_name() {
    for (value, code, word) in refused_values() {
        let shown: String = value.chars().take(200).collect();
        let refusal = refusal(&record(value));
        assert_eq!(refusal.code, code, "{shown}: {refusal}");
        assert!(refusal.message.contains(word), "{shown}: {refusal}");
        assert!(refusal.message.len() <= 1024 + '…'.len_utf8(), "{shown}");
        assert!(!refusal.message.contains(char::is_control), "{shown}");
    }
}

#[test]
fn a_record_without_a_value_is_refused() {
    for value in [None, Some(Bytes::new())] {
        assert_eq!(refusal(&InRecord { value, ..json("") }).code, Code::EmptyRequest);
    }
}

#[test]
fn invalid_utf_8_is_no_json() {
    for value in [
        &b"\xff"[..],
        b"{\"namespace\":\"\xff\",\"payload\":{}}",
        b"{\"namespace\":\"a\",\"payload\":{\"a\":\"\xff\"}}",
    ] {
        assert_eq!(refusal(&record(value)).code, Code::InvalidJson);
    }
}

#[test]
fn lifecycle_values_that_are_no_number_or_beyond_their_limits_are_refused() {
    let never = [
        "-1",
        "-0.001",
        "1e400",
        "-1e400",
        "18446744073709551616",
        "1e18",
        r#""60""#,
        "true",
        "[]",
        "{}",
        r#""""#,
        r#""NaN""#,
    ];
    let no_seconds = ["0.0001", "1.0000001", "1e-4", "9007199254740993"];
    let no_count = ["1.5", "3.0", "1e1", "101", "4294967296"];
    let bad_words = [r#""EXPONENTIAL""#, r#""""#, "7", "{}", r#""\ud800""#];
    let mut table: Vec<(&str, &str)> = Vec::new();
    for field in ["retry_count", "delay", "ttl"] {
        table.extend(never.map(|value| (field, value)));
    }
    table.extend(no_seconds.map(|value| ("delay", value)));
    table.extend(no_seconds.map(|value| ("ttl", value)));
    table.extend(no_count.map(|value| ("retry_count", value)));
    table.extend([("delay", "2592000.001"), ("ttl", "0"), ("ttl", "0.999"), ("ttl", "31536000.001")]);
    table.extend(bad_words.map(|value| ("backoff", value)));
    table.extend(bad_words.map(|value| ("priority", value)));
    for (field, value) in table {
        let alone = refusal(&json(&format!(r#","lifecycle":{{"{field}":{value}}}"#)));
        assert_eq!(alone.code, Code::LifecycleInvalid, "{field} {value}: {alone}");
        assert!(alone.message.contains(field), "{field} {value}: {alone}");
        let entry = format!(r#"{{"namespace":"a","payload":{{}},"lifecycle":{{"{field}":{value}}}}}"#);
        let member = refusal(&record(format!(r#"{{"entries":[{entry}]}}"#)));
        assert_eq!(member.code, Code::LifecycleInvalid, "{field} {value}: {member}");
    }
    for value in ["NaN", "Infinity", "-", "01", "0x10", ".5"] {
        let refusal = refusal(&json(&format!(r#","lifecycle":{{"delay":{value}}}"#)));
        assert_eq!(refusal.code, Code::InvalidJson, "{value}: {refusal}");
    }
}

#[test]
fn wrong_attributes_of_form_2_are_refused_by_code_and_name() {
    let long_id = "i".repeat(257);
    let table: Vec<(&str, Option<&[u8]>, Code)> = vec![
        ("ce_specversion", Some(b""), Code::CloudEventInvalid),
        ("ce_specversion", Some(b"0.3"), Code::CloudEventInvalid),
        ("ce_specversion", Some(b"1.1"), Code::CloudEventInvalid),
        ("ce_id", None, Code::CloudEventInvalid),
        ("ce_id", Some(b""), Code::CloudEventInvalid),
        ("ce_id", Some(b"a\0"), Code::IdInvalid),
        ("ce_id", Some(long_id.as_bytes()), Code::IdInvalid),
        ("ce_source", None, Code::CloudEventInvalid),
        ("ce_source", Some(b""), Code::CloudEventInvalid),
        ("ce_source", Some(b"a b"), Code::CloudEventInvalid),
        ("ce_type", None, Code::CloudEventInvalid),
        ("ce_type", Some(b""), Code::CloudEventInvalid),
        ("ce_type", Some(b"a\nb"), Code::IdInvalid),
        ("ce_walnamespace", None, Code::NamespaceInvalid),
        ("ce_walnamespace", Some(b""), Code::NamespaceInvalid),
        ("ce_walnamespace", Some(b"ingress"), Code::NamespaceInvalid),
        ("ce_waltarget", Some(b""), Code::TargetInvalid),
        ("ce_waltarget", Some(b"a/b"), Code::TargetInvalid),
        ("ce_waltenant", Some(long_id.as_bytes()), Code::IdInvalid),
        ("ce_waluser", Some(b"\0"), Code::IdInvalid),
        ("ce_correlationid", Some(b"\x7f"), Code::IdInvalid),
        ("ce_walidempotencykey", Some(long_id.as_bytes()), Code::IdInvalid),
        ("ce_waldeliverat", Some(b"soon"), Code::TimeInvalid),
        ("ce_walretries", Some(b"-1"), Code::LifecycleInvalid),
        ("ce_walretries", Some(b"101"), Code::LifecycleInvalid),
        ("ce_walretries", Some(b"18446744073709551616"), Code::LifecycleInvalid),
        ("ce_waldelay", Some(b"-1"), Code::LifecycleInvalid),
        ("ce_waldelay", Some(b"1e400"), Code::LifecycleInvalid),
        ("ce_waldelay", Some(b"NaN"), Code::LifecycleInvalid),
        ("ce_waldelay", Some(b""), Code::LifecycleInvalid),
        ("ce_walttl", Some(b"0"), Code::LifecycleInvalid),
        ("ce_walttl", Some(b"inf"), Code::LifecycleInvalid),
        ("ce_walbackoff", Some(b"Fixed"), Code::LifecycleInvalid),
        ("ce_walpriority", Some(b"urgent"), Code::LifecycleInvalid),
        ("content-type", Some(b"a\0"), Code::HeaderInvalid),
        ("content-type", Some(b"application/cloudevents+json"), Code::CloudEventStructured),
    ];
    for (name, value, code) in table {
        let refusal = refusal(&event_with(name, value));
        assert_eq!(refusal.code, code, "{name} {value:?}: {refusal}");
        let word = name.strip_prefix("ce_wal").unwrap_or(name);
        let says_so = refusal.message.contains(word) || code == Code::LifecycleInvalid;
        assert!(says_so || code == Code::CloudEventStructured, "{name}: {refusal}");
    }
    assert_eq!(
        refusal(&with(event_with("ce_specversion", None), [null("ce_specversion")])).code,
        Code::CloudEventInvalid
    );
}

#[test]
fn structured_cloud_events_are_refused_by_name_in_either_form() {
    let media_types = [
        "application/cloudevents+json",
        "Application/CloudEvents",
        " application/cloudevents-batch+json; charset=utf-8",
    ];
    for media_type in media_types {
        let plain = with(record(&br#"{"specversion":"1.0","id":"1"}"#[..]), [header("content-type", media_type)]);
        assert_eq!(refusal(&plain).code, Code::CloudEventStructured, "{media_type}");
        assert!(refusal(&plain).message.contains("structured"), "{media_type}");
        // Form 2 without an id would be wrong for another reason, too; the form is what the client must learn of.
        let event = with(event_with("ce_id", None), [header("content-type", media_type)]);
        assert_eq!(refusal(&event).code, Code::CloudEventStructured, "{media_type}");
    }
}

const OURS_IN_BOTH: [&str; 4] = ["kafka_replyTopic", "kafka_replyPartition", "kafka_correlationId", "content-type"];
const OURS_IN_EVENTS: [&str; 18] = [
    "ce_specversion",
    "ce_id",
    "ce_source",
    "ce_type",
    "ce_time",
    "ce_expirytime",
    "ce_partitionkey",
    "ce_correlationid",
    "ce_walnamespace",
    "ce_waltarget",
    "ce_waltenant",
    "ce_waluser",
    "ce_walidempotencykey",
    "ce_waldeliverat",
    "ce_walretries",
    "ce_waldelay",
    "ce_walttl",
    "ce_walpriority",
];

#[test]
fn headers_of_ours_may_come_once() {
    for name in OURS_IN_BOTH {
        for base in [json(""), event()] {
            let refusal = refusal(&with(base, [null(name), null(name)]));
            assert_eq!(refusal.code, Code::HeaderInvalid, "{name}: {refusal}");
            assert!(refusal.message.contains(name) && refusal.message.contains("twice"), "{name}: {refusal}");
        }
    }
    for name in OURS_IN_EVENTS {
        let mut twice = event_with(name, Some(b"1"));
        twice = with(twice, [header(name, "1")]);
        let refusal = refusal(&twice);
        assert_eq!(refusal.code, Code::HeaderInvalid, "{name}: {refusal}");
        assert!(refusal.message.contains(name), "{name}: {refusal}");
    }
}

#[test]
fn headers_of_ours_are_text() {
    for base in [json(""), event()] {
        for name in ["kafka_replyTopic", "content-type"] {
            let refusal = refusal(&with(base.clone(), [header(name, b"\xff")]));
            assert_eq!(refusal.code, Code::HeaderInvalid, "{name}: {refusal}");
        }
    }
    let not_read = ["ce_time", "ce_expirytime", "ce_partitionkey"];
    for name in OURS_IN_EVENTS.into_iter().filter(|name| !not_read.contains(name)) {
        let refusal = refusal(&event_with(name, Some(b"\xff")));
        assert_eq!(refusal.code, Code::HeaderInvalid, "{name}: {refusal}");
        assert!(refusal.message.contains(name), "{name}: {refusal}");
    }
}

#[test]
fn header_names_that_cannot_be_passed_on_are_refused() {
    for base in [json(""), event()] {
        for name in [&b"\xff"[..], b"ce_wal\xff", b"a\0b", b""] {
            let odd = Header { name: Bytes::from_static(name), value: None };
            assert_eq!(refusal(&with(base.clone(), [odd])).code, Code::HeaderInvalid, "{name:?}");
        }
    }
}

#[test]
fn reserved_header_names_are_refused_by_name() {
    let request_attributes = wire::REQUEST_ATTRIBUTES;
    for name in wire::ALL.iter().filter(|name| name.starts_with(wire::CE_WAL)).chain(&["ce_walnew", "ce_wal"]) {
        let plain = refusal(&with(json(""), [header(name, "1")]));
        assert_eq!(plain.code, Code::HeaderReserved, "{name}: {plain}");
        assert!(plain.message.contains(name), "{name}: {plain}");
        if !request_attributes.contains(name) {
            let event = refusal(&with(event(), [header(name, "1")]));
            assert_eq!(event.code, Code::HeaderReserved, "{name}: {event}");
            assert!(event.message.contains(name), "{name}: {event}");
        }
    }
}

#[test]
fn headers_that_a_delivery_sets_anew_are_not_passed_on() {
    let dropped = ["__dlq.errors.topic", "__dlq.errors.new"].map(|name| header(name, "1"));
    for base in [json(""), event()] {
        assert!(good(&with(base, dropped.clone())).headers.is_empty());
    }
}

#[test]
fn wrong_reply_addresses_are_refused_and_the_receipt_goes_to_the_default() {
    let partition = |bytes: &[u8]| vec![header("kafka_replyTopic", "t"), header("kafka_replyPartition", bytes)];
    let table = [
        vec![header("kafka_replyTopic", "")],
        vec![header("kafka_replyTopic", "a b")],
        vec![header("kafka_replyTopic", "t".repeat(250))],
        vec![header("kafka_replyTopic", "t".repeat(1_000_000))],
        partition(b""),
        partition(b"1"),
        partition(&[0, 0, 0, 0, 1]),
        partition(&(-1i32).to_be_bytes()),
        partition(&i32::MIN.to_be_bytes()),
        vec![header("kafka_replyPartition", 1i32.to_be_bytes())],
        vec![null("kafka_replyTopic"), header("kafka_replyPartition", 1i32.to_be_bytes())],
    ];
    for headers in table {
        for base in [json(r#","request_id":"r-1""#), event()] {
            let decoded = read(&with(base, headers.iter().cloned().chain([header("kafka_correlationId", "c")])));
            let refusal = decoded.request.unwrap_err();
            assert_eq!(refusal.code, Code::ReplyInvalid, "{refusal}");
            assert!(refusal.message.contains("kafka_reply"), "{refusal}");
            let default = ReplyTo { correlation: Some(Bytes::from_static(b"c")), ..ReplyTo::default() };
            assert_eq!(decoded.reply, default);
            assert!(decoded.request_id.is_some());
        }
    }
}

#[test]
fn a_correlation_that_no_receipt_could_carry_is_refused() {
    for base in [json(""), event()] {
        let sized = |length| with(base.clone(), [header("kafka_correlationId", vec![0xff; length])]);
        assert_eq!(read(&sized(256)).reply.correlation.unwrap().len(), 256);
        let decoded = read(&sized(257));
        assert_eq!(decoded.request.unwrap_err().code, Code::ReplyInvalid);
        assert_eq!(decoded.reply.correlation, None);
    }
}

#[test]
fn refused_requests_still_say_who_asked() {
    let table = [
        r#"{"request_id":"r-1"}"#,
        r#"{"request_id":"r-1","unknown":1}"#,
        r#"{"unknown":{"request_id":"other"},"request_id":"r-1"}"#,
        r#"{"request_id":"r-1","namespace":"\ud800","payload":{}}"#,
        r#"{"\ud800":1,"request_id":"r-1"}"#,
        r#"{"request_id":"r\u002d1","namespace":[],"payload":{}}"#,
        r#"{"request_id":"r-1","lifecycle":{"delay":NaN}}"#,
        r#"{"request_id":"r-1","payload":{"cut"#,
        r#"{"request_id":"r-1","entries":[]}"#,
        r#"{"request_id":"r-1","namespace":"a","payload":{},"lifecycle":{"ttl":0}}"#,
    ];
    for value in table {
        let decoded = read(&with(record(value), [header("kafka_correlationId", "c"), header("kafka_replyTopic", "t")]));
        assert!(decoded.request.is_err(), "{value}");
        assert_eq!(decoded.request_id, Some(id("r-1")), "{value}");
        assert_eq!(decoded.reply.correlation.as_deref(), Some(&b"c"[..]), "{value}");
        assert_eq!(decoded.reply.topic, Some(Topic::parse("t").unwrap()), "{value}");
    }
    for value in [r#"["request_id","r-1"]"#, r#"{"request_id":7}"#, r#"{"request_id":"a\u0000"}"#, "hello"] {
        assert_eq!(read(&record(value)).request_id, None, "{value}");
    }
    for (name, value) in [("ce_walttl", "0"), ("ce_waltypo", "1"), ("ce_specversion", "9"), ("ce_type", "")] {
        assert_eq!(read(&event_with(name, Some(value.as_bytes()))).request_id, Some(id("/shop 7")), "{name}");
    }
    assert_eq!(
        read(&with(event(), [header("content-type", "application/cloudevents")])).request_id,
        Some(id("/shop 7"))
    );
}

/// A record can hold millions of empty entries; refusing them must not take a gigabyte.
#[test]
fn an_enormous_batch_is_counted_but_not_kept() {
    let value = format!(r#"{{"entries":[{}{{}}]}}"#, "{},".repeat(BATCH_LEN * 1000));
    let refusal = refusal(&record(value));
    assert_eq!(refusal.code, Code::BatchInvalid);
    assert!(refusal.message.contains("1000001 entries"), "{refusal}");
    let list = format!("[{}{{}}]", "{},".repeat(5000));
    let members: wire::Members<'_> = serde_json::from_str(&list).unwrap();
    assert_eq!((members.kept.len(), members.count), (BATCH_LEN, 5001));
}
