//! The table: what is sent, and what must come of it.

use wal_tests::Message;

/// What ingress topics and targets take by default, in bytes.
pub const RECORD_LIMIT: usize = 1_048_588;
/// What a payload may take: room is kept for what the log adds.
const PAYLOAD_LIMIT: usize = RECORD_LIMIT - 64 * 1024;
const DEEP: usize = 10_000;

/// Where requests are sent, and what can be named in them.
pub struct World {
    /// The ingress topic.
    pub ingress: String,
    /// A target that exists.
    pub target: String,
    /// What the log's own topics begin with.
    pub prefix: String,
}

/// A request and what must come of it.
pub struct Case {
    /// Unique; stands in failures.
    pub name: String,
    /// What is sent.
    pub message: Message,
    /// What comes of it.
    pub then: Then,
}

/// What must come of a request.
pub enum Then {
    /// It is delivered: these payloads.
    Delivered(Vec<Vec<u8>>),
    /// It is answered like the case of this name, and not delivered again.
    Repeats(&'static str),
    /// It is refused with this code.
    Refused(&'static str),
}

impl Then {
    /// How many entries come to be.
    pub fn entries(&self) -> usize {
        match self {
            Then::Delivered(payloads) => payloads.len(),
            Then::Repeats(_) | Then::Refused(_) => 0,
        }
    }
}

/// A good request.
pub fn good(world: &World, name: &str) -> Case {
    delivered(name, world.request(r#"{"good":true}"#, "").key("key").header("own", "1"), r#"{"good":true}"#)
}

/// Every case.
pub fn all(world: &World) -> Vec<Case> {
    [
        values(world),
        names(world),
        lifecycles(world),
        payloads(world),
        headers(world),
        replies(world),
        batches(world),
        identities(world),
        keys(world),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn values(world: &World) -> Vec<Case> {
    let raw = |value: &[u8]| world.plain(value);
    let deep_object = format!("{}1{}", r#"{"a":"#.repeat(DEEP), "}".repeat(DEEP));
    vec![
        refused("no value", Message::to(&world.ingress), "WAL_EMPTY_REQUEST"),
        refused("an empty value", raw(b""), "WAL_EMPTY_REQUEST"),
        refused("not JSON", raw(b"hello"), "WAL_INVALID_JSON"),
        refused("JSON that breaks off", raw(br#"{"namespace":"n","payload":{"#), "WAL_INVALID_JSON"),
        refused("JSON in invalid UTF-8", raw(b"{\"namespace\":\"\xff\",\"payload\":{}}"), "WAL_INVALID_JSON"),
        refused("JSON with more behind it", raw(br#"{"namespace":"n","payload":{}} {}"#), "WAL_INVALID_JSON"),
        refused("a JSON number", raw(b"7"), "WAL_INVALID_REQUEST"),
        refused("a JSON list", raw(br#"["n",{}]"#), "WAL_INVALID_REQUEST"),
        refused("a number for a name", raw(br#"{"namespace":7,"payload":{}}"#), "WAL_INVALID_REQUEST"),
        refused("no payload", raw(br#"{"namespace":"n"}"#), "WAL_INVALID_REQUEST"),
        refused("a payload that is no object", world.request("[1]", ""), "WAL_INVALID_REQUEST"),
        refused("a field twice", raw(br#"{"namespace":"n","namespace":"n","payload":{}}"#), "WAL_INVALID_REQUEST"),
        refused("an unknown field", world.request("{}", r#","retries":1"#), "WAL_UNKNOWN_FIELD"),
        refused("a list nested 10,000 deep", raw(deep_list().as_bytes()), "WAL_INVALID_REQUEST"),
        refused("an object nested 10,000 deep", raw(deep_object.as_bytes()), "WAL_UNKNOWN_FIELD"),
        refused("nesting that never closes", raw("[".repeat(DEEP).as_bytes()), "WAL_INVALID_REQUEST"),
        refused(
            "a wish for a time past the deadline",
            world.request("{}", r#","deliver_at":"2124-12-01T10:00:00Z""#),
            "WAL_DELIVERY_TOO_LATE",
        ),
        refused("a time that is none", world.request("{}", r#","deliver_at":"soon""#), "WAL_TIME_INVALID"),
    ]
}

fn names(world: &World) -> Vec<Case> {
    let namespace = |text: &str| {
        world.plain(format!(r#"{{"namespace":"{text}","payload":{{}},"target":"{}"}}"#, world.target).as_bytes())
    };
    let target =
        |text: &str| world.plain(format!(r#"{{"namespace":"n","payload":{{}},"target":"{text}"}}"#).as_bytes());
    let own = |name: &str| target(&format!("{}{name}", world.prefix));
    vec![
        refused("no namespace", world.plain(br#"{"payload":{}}"#), "WAL_NAMESPACE_INVALID"),
        refused("an empty namespace", namespace(""), "WAL_NAMESPACE_INVALID"),
        refused("a namespace with a space", namespace("a b"), "WAL_NAMESPACE_INVALID"),
        refused("a namespace with a NUL", namespace("a\\u0000"), "WAL_NAMESPACE_INVALID"),
        refused("a namespace with a lone surrogate", namespace("\\ud800"), "WAL_INVALID_JSON"),
        refused("a namespace too long", namespace(&"n".repeat(101)), "WAL_NAMESPACE_INVALID"),
        refused("a namespace that is ours", namespace("ingress"), "WAL_NAMESPACE_INVALID"),
        refused(
            "no target, and no policy that has one",
            world.plain(br#"{"namespace":"n","payload":{}}"#),
            "WAL_TARGET_INVALID",
        ),
        refused("a target with a slash", target("a/b"), "WAL_TARGET_INVALID"),
        refused("a target too long", target(&"t".repeat(250)), "WAL_TARGET_INVALID"),
        refused("an ingress topic as target", own("ingress"), "WAL_TARGET_RESERVED"),
        refused("the acks as target", own("acks"), "WAL_TARGET_RESERVED"),
        refused("the receipts as target", own("receipts"), "WAL_TARGET_RESERVED"),
        refused("a topic of ours to come as target", own("delay.1s"), "WAL_TARGET_RESERVED"),
        refused("dead letters as target", target(&format!("dlq.{}n", world.prefix)), "WAL_TARGET_RESERVED"),
        refused("Kafka's own topic as target", target("__consumer_offsets"), "WAL_TARGET_RESERVED"),
        refused("a target that does not exist", target(&format!("{}-gone", world.target)), "WAL_TARGET_UNKNOWN"),
        refused(
            "an id too long",
            world.request("{}", &format!(r#","request_id":"{}""#, "i".repeat(257))),
            "WAL_ID_INVALID",
        ),
        refused("an id with a NUL", world.request("{}", r#","idempotency_key":"a\u0000""#), "WAL_ID_INVALID"),
        refused(
            "a tenant with a line break",
            world.request("{}", r#","user_context":{"tenant_id":"a\nb"}"#),
            "WAL_ID_INVALID",
        ),
        refused("a lone surrogate in an id", world.request("{}", r#","request_id":"\udfff""#), "WAL_INVALID_JSON"),
    ]
}

fn lifecycles(world: &World) -> Vec<Case> {
    let wrong = [
        ("retry_count", "-1"),
        ("retry_count", "101"),
        ("retry_count", "4294967296"),
        ("retry_count", "18446744073709551616"),
        ("retry_count", "1.5"),
        ("delay", "-1"),
        ("delay", "-0.001"),
        ("delay", "2592000.001"),
        ("delay", "1e400"),
        ("delay", "0.0001"),
        ("delay", "\"60\""),
        ("ttl", "-1"),
        ("ttl", "0"),
        ("ttl", "0.999"),
        ("ttl", "31536001"),
        ("ttl", "9223372036854775808"),
        ("ttl", "1e18"),
        ("backoff", "\"sometimes\""),
        ("priority", "\"urgent\""),
    ];
    let plain = |(field, value): (&str, &str)| {
        let message = world.request("{}", &format!(r#","lifecycle":{{"{field}":{value}}}"#));
        refused(&format!("{field} {value}"), message, "WAL_LIFECYCLE_INVALID")
    };
    let attributes = [
        ("ce_walretries", "-1"),
        ("ce_walretries", "18446744073709551616"),
        ("ce_waldelay", "NaN"),
        ("ce_waldelay", "1e400"),
        ("ce_walttl", "0"),
        ("ce_walttl", "inf"),
    ];
    let event = |(name, value): (&str, &str)| {
        refused(&format!("{name} {value}"), world.event(name, b"{}").header(name, value), "WAL_LIFECYCLE_INVALID")
    };
    wrong.into_iter().map(plain).chain(attributes.into_iter().map(event)).collect()
}

fn payloads(world: &World) -> Vec<Case> {
    let deep = format!(r#"{{"deep":{}}}"#, deep_list());
    let odd = r#"{ "nul":"\u0000", "lone":"\ud800", "\udfff":1, "huge":1e400, "long":123456789012345678901234567890.10, "zero":-0.0 }"#;
    let largest = vec![b'x'; PAYLOAD_LIMIT];
    let too_large = vec![b'x'; PAYLOAD_LIMIT + 1];
    let fill = |length: usize| format!(r#"{{"x":"{}"}}"#, "x".repeat(length - r#"{"x":""}"#.len()));
    let no_value = Message { value: None, ..world.event("no payload", b"") };
    vec![
        delivered("a payload nested 10,000 deep", world.request(&deep, ""), &deep),
        delivered(
            "an event nested 10,000 deep",
            world.event("deep", deep.as_bytes()).header("content-type", "application/json"),
            &deep,
        ),
        delivered("NUL, lone surrogates and huge numbers in a payload", world.request(odd, ""), odd),
        delivered("bytes that are no text", world.event("bytes", &[0, 0xff, 0xfe]), [0, 0xff, 0xfe]),
        delivered("a payload of 0 bytes", world.event("0 bytes", b""), b""),
        delivered("an event without a value", no_value, b""),
        delivered("the largest payload", world.event("largest", &largest), &largest),
        delivered(
            "the largest payload in JSON",
            world.request(&fill(PAYLOAD_LIMIT), ""),
            fill(PAYLOAD_LIMIT).as_bytes(),
        ),
        refused("a payload one byte too large", world.event("too large", &too_large), "WAL_PAYLOAD_TOO_LARGE"),
        refused(
            "a payload in JSON one byte too large",
            world.request(&fill(PAYLOAD_LIMIT + 1), ""),
            "WAL_PAYLOAD_TOO_LARGE",
        ),
    ]
}

fn headers(world: &World) -> Vec<Case> {
    let event = |name: &str| world.event(name, b"{}");
    let kib_20 = vec![b'h'; 20 * 1024];
    let structured = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{}}"#;
    vec![
        refused(
            "caller's headers of 20 KiB",
            world.request("{}", "").header("own", kib_20.clone()),
            "WAL_HEADERS_TOO_LARGE",
        ),
        refused("an event's headers of 20 KiB", event("20 KiB").header("own", kib_20), "WAL_HEADERS_TOO_LARGE"),
        refused(
            "a structured CloudEvent",
            world.plain(structured).header("content-type", "application/cloudevents+json; charset=utf-8"),
            "WAL_CLOUDEVENT_STRUCTURED",
        ),
        refused(
            "a CloudEvent of another version",
            Message::to(&world.ingress)
                .value("{}")
                .header("ce_specversion", "0.3")
                .header("ce_id", "1")
                .header("ce_source", "/s"),
            "WAL_CLOUDEVENT_INVALID",
        ),
        refused(
            "a CloudEvent without an id",
            Message::to(&world.ingress).value("{}").header("ce_specversion", "1.0").header("ce_source", "/s"),
            "WAL_CLOUDEVENT_INVALID",
        ),
        refused("invalid UTF-8 in an attribute", event("utf-8").header("ce_waluser", [0xff]), "WAL_HEADER_INVALID"),
        refused(
            "invalid UTF-8 in the media type",
            world.request("{}", "").header("content-type", [0xff]),
            "WAL_HEADER_INVALID",
        ),
        delivered("invalid UTF-8 in a caller's header", world.request("{}", "").header("own", [0xff, 0xfe]), b"{}"),
        refused(
            "an attribute twice",
            event("twice").header("ce_waltenant", "a").header("ce_waltenant", "a"),
            "WAL_HEADER_INVALID",
        ),
        delivered(
            "a caller's header twice and one without a value",
            event("own twice").header("own", "1").null_header("own-null").header("own", "1"),
            b"{}",
        ),
        refused("a seal that is not ours", event("seal").header("ce_walseal", "v1.k1.AAAA"), "WAL_HEADER_RESERVED"),
        refused("an attribute that does not exist", event("typo").header("ce_walretires", "1"), "WAL_HEADER_RESERVED"),
        refused(
            "an attribute beside plain JSON",
            world.request("{}", "").header("ce_waltenant", "a"),
            "WAL_HEADER_RESERVED",
        ),
        delivered(
            "headers of an earlier dead letter",
            world.request("{}", "").header("__dlq.errors.message", "m").header("own", "1"),
            b"{}",
        ),
    ]
}

fn replies(world: &World) -> Vec<Case> {
    let reply = |topic: &str| world.request("{}", "").header("kafka_replyTopic", topic);
    let receipts = format!("{}receipts", world.prefix);
    let partition = |bytes: &[u8]| reply(&receipts).header("kafka_replyPartition", bytes);
    vec![
        refused("a reply topic that is not allowed", reply(&world.target), "WAL_REPLY_NOT_ALLOWED"),
        refused(
            "a reply topic of ours that is not allowed",
            reply(&format!("{}acks", world.prefix)),
            "WAL_REPLY_NOT_ALLOWED",
        ),
        refused(
            "a reply topic that is allowed and does not exist",
            reply(&format!("{}-gone", world.target)),
            "WAL_REPLY_INVALID",
        ),
        refused("a reply topic that cannot be one", reply("a b"), "WAL_REPLY_INVALID"),
        refused("a reply partition that does not exist", partition(&99_i32.to_be_bytes()), "WAL_REPLY_INVALID"),
        refused("a negative reply partition", partition(&(-1_i32).to_be_bytes()), "WAL_REPLY_INVALID"),
        refused("a reply partition in text", partition(b"0"), "WAL_REPLY_INVALID"),
        delivered("a reply topic that is the default", partition(&0_i32.to_be_bytes()), b"{}"),
    ]
}

fn batches(world: &World) -> Vec<Case> {
    let member = format!(r#"{{"namespace":"n","payload":{{}},"target":"{}"}}"#, world.target);
    let batch = |entries: &str| world.plain(format!(r#"{{"entries":[{entries}]}}"#).as_bytes());
    let with = |more: &str| member.replace(r#""namespace""#, &format!(r#"{more},"namespace""#));
    let unknown = format!(r#"{{"namespace":"n","payload":{{}},"target":"{}-gone"}}"#, world.target);
    vec![
        refused("a batch of 0", batch(""), "WAL_BATCH_INVALID"),
        refused("a batch of 100,000", batch(&vec!["{}"; 100_000].join(",")), "WAL_BATCH_INVALID"),
        refused("a batch of 1,001", batch(&vec![&*member; 1001].join(",")), "WAL_BATCH_INVALID"),
        refused(
            "an id inside a batch entry",
            batch(&format!("{member},{}", with(r#""request_id":"r""#))),
            "WAL_BATCH_INVALID",
        ),
        refused(
            "a namespace beside entries",
            world.plain(format!(r#"{{"namespace":"n","entries":[{member}]}}"#).as_bytes()),
            "WAL_BATCH_INVALID",
        ),
        refused(
            "a batch with one bad namespace",
            batch(&format!(r#"{member},{{"namespace":"/","payload":{{}}}}"#)),
            "WAL_NAMESPACE_INVALID",
        ),
        refused(
            "a batch with one unknown target",
            batch(&format!("{member},{unknown},{member}")),
            "WAL_TARGET_UNKNOWN",
        ),
        case("a batch of 100", batch(&vec![&*member; 100].join(",")), Then::Delivered(vec![b"{}".to_vec(); 100])),
    ]
}

fn identities(world: &World) -> Vec<Case> {
    let keyed =
        |payload: &str, key: &str, more: &str| world.request(payload, &format!(r#","idempotency_key":"{key}"{more}"#));
    let member = |payload: &str| format!(r#"{{"namespace":"n","payload":{payload},"target":"{}"}}"#, world.target);
    let batch = |payloads: &[&str]| {
        let entries: Vec<String> = payloads.iter().map(|payload| member(payload)).collect();
        world.plain(format!(r#"{{"entries":[{}],"request_id":"batch-1"}}"#, entries.join(",")).as_bytes())
    };
    let tenant = r#","user_context":{"tenant_id":"other"}"#;
    let two = Then::Delivered(vec![br#"{"n":1}"#.to_vec(), br#"{"n":2}"#.to_vec()]);
    vec![
        delivered("an identity", keyed(r#"{"n":1}"#, "k", ""), r#"{"n":1}"#),
        case("the same identity and content again", keyed(r#"{"n":1}"#, "k", ""), Then::Repeats("an identity")),
        refused("the same identity with other content", keyed(r#"{"n":2}"#, "k", ""), "WAL_IDENTITY_CONFLICT"),
        delivered("the same identity of another tenant", keyed(r#"{"n":1}"#, "k", tenant), r#"{"n":1}"#),
        refused(
            "the same identity of that tenant with other content",
            keyed(r#"{"n":2}"#, "k", tenant),
            "WAL_IDENTITY_CONFLICT",
        ),
        case("a batch", batch(&[r#"{"n":1}"#, r#"{"n":2}"#]), two),
        case("the same batch again", batch(&[r#"{"n":1}"#, r#"{"n":2}"#]), Then::Repeats("a batch")),
        refused(
            "a batch of the same identity in another order",
            batch(&[r#"{"n":2}"#, r#"{"n":1}"#]),
            "WAL_IDENTITY_CONFLICT",
        ),
        refused(
            "a longer batch of the same identity",
            batch(&[r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#]),
            "WAL_IDENTITY_CONFLICT",
        ),
        refused(
            "a single request of the identity of a batch",
            world.request(r#"{"n":1}"#, r#","request_id":"batch-1""#),
            "WAL_IDENTITY_CONFLICT",
        ),
    ]
}

fn keys(world: &World) -> Vec<Case> {
    let request = || world.request("{}", "");
    vec![
        delivered("a null key", request(), b"{}"),
        delivered("an empty key", request().key(""), b"{}"),
        delivered("a key that is no text", request().key([0xff, 0x00]), b"{}"),
        delivered("the longest key", request().key([b'k'; 256]), b"{}"),
        refused("a key too long", request().key([b'k'; 257]), "WAL_KEY_TOO_LONG"),
    ]
}

impl World {
    fn plain(&self, value: &[u8]) -> Message {
        Message::to(&self.ingress).value(value)
    }

    /// A whole request in plain JSON, with more fields.
    fn request(&self, payload: &str, more: &str) -> Message {
        let value = format!(r#"{{"namespace":"n","target":"{}","payload":{payload}{more}}}"#, self.target);
        self.plain(value.as_bytes())
    }

    /// A whole CloudEvent.
    fn event(&self, id: &str, payload: &[u8]) -> Message {
        self.plain(payload)
            .header("ce_specversion", "1.0")
            .header("ce_id", id)
            .header("ce_source", "/bad-input")
            .header("ce_type", "t")
            .header("ce_walnamespace", "n")
            .header("ce_waltarget", &*self.target)
    }
}

fn deep_list() -> String {
    format!("{}1{}", "[".repeat(DEEP), "]".repeat(DEEP))
}

fn case(name: &str, message: Message, then: Then) -> Case {
    Case { name: name.to_owned(), message, then }
}

fn refused(name: &str, message: Message, code: &'static str) -> Case {
    case(name, message, Then::Refused(code))
}

fn delivered(name: &str, message: Message, payload: impl AsRef<[u8]>) -> Case {
    case(name, message, Then::Delivered(vec![payload.as_ref().to_vec()]))
}
