//! How everything is spelled: every header name and every JSON field, in one place. Stored and sent, keep stable.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::request::BATCH_LEN;

/// The CloudEvents version all our records name.
pub const SPEC_VERSION: &str = "1.0";
/// The `ce_type` of an entry without an operation.
pub const TYPE_ENTRY: &str = "wal.entry";
/// The `ce_type` of a receipt.
pub const TYPE_RECEIPT: &str = "wal.receipt";
/// The `ce_type` of an audit event.
pub const TYPE_AUDIT: &str = "wal.audit";
/// What the `ce_type` of a status event starts with; the status follows.
pub const TYPE_STATUS: &str = "wal.status.";
/// The media type of JSON.
pub const JSON: &str = "application/json";
/// What the media type of a structured CloudEvent starts with.
pub const STRUCTURED: &str = "application/cloudevents";
/// The prefix of every CloudEvents attribute in Kafka's binary mode.
pub const CE: &str = "ce_";
/// The prefix of our own CloudEvents attributes.
pub const CE_WAL: &str = "ce_wal";
/// The prefix of Kafka's own dead-letter headers.
pub const DLQ_ERRORS: &str = "__dlq.errors.";

macro_rules! headers {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)+) => {
        $($(#[$doc])* pub const $name: &str = $text;)+

        /// Every header name above.
        pub const ALL: &[&str] = &[$($text),+];
    };
}

headers! {
    /// CloudEvents version.
    CE_SPECVERSION = "ce_specversion";
    /// Deliveries: the log id. Requests: half of the request id.
    CE_ID = "ce_id";
    /// Requests: the other half of the request id.
    CE_SOURCE = "ce_source";
    /// The operation.
    CE_TYPE = "ce_type";
    /// When the entry was written.
    CE_TIME = "ce_time";
    /// Links related operations.
    CE_CORRELATIONID = "ce_correlationid";
    /// The deadline of the round.
    CE_EXPIRYTIME = "ce_expirytime";
    /// The caller's ordering key, where it is text.
    CE_PARTITIONKEY = "ce_partitionkey";
    /// The namespace.
    CE_WALNAMESPACE = "ce_walnamespace";
    /// The target topic.
    CE_WALTARGET = "ce_waltarget";
    /// The tenant.
    CE_WALTENANT = "ce_waltenant";
    /// The user.
    CE_WALUSER = "ce_waluser";
    /// The caller's idempotency key.
    CE_WALIDEMPOTENCYKEY = "ce_walidempotencykey";
    /// When the first attempt is wanted.
    CE_WALDELIVERAT = "ce_waldeliverat";
    /// Retries allowed within a round.
    CE_WALRETRIES = "ce_walretries";
    /// Delay before the first retry, in seconds.
    CE_WALDELAY = "ce_waldelay";
    /// How the delay grows.
    CE_WALBACKOFF = "ce_walbackoff";
    /// Time-to-live, in seconds.
    CE_WALTTL = "ce_walttl";
    /// Priority.
    CE_WALPRIORITY = "ce_walpriority";
    /// Attempt number, from 1, counted over all rounds.
    CE_WALATTEMPT = "ce_walattempt";
    /// Round number, from 1.
    CE_WALROUND = "ce_walround";
    /// The round's first attempt.
    CE_WALROUNDFIRST = "ce_walroundfirst";
    /// Whether answers are expected.
    CE_WALANSWERS = "ce_walanswers";
    /// The publisher's clock when the delivery was published.
    CE_WALSENT = "ce_walsent";
    /// Hash of the payload.
    CE_WALHASH = "ce_walhash";
    /// The seal.
    CE_WALSEAL = "ce_walseal";
    /// An ordering key that is no text, in base64.
    CE_WALKEY64 = "ce_walkey64";
    /// The key of the record that became a dead letter, in base64, where the dead letter has another.
    CE_WALRECORDKEY64 = "ce_walrecordkey64";
    /// Failures: `false` says that retrying cannot help.
    CE_WALRETRYABLE = "ce_walretryable";
    /// Failures: the delay that the consumer wishes for, in seconds.
    CE_WALRETRYAFTER = "ce_walretryafter";
    /// Present on a delivery that is a replayed copy: answers to it change nothing.
    CE_WALREPLAY = "ce_walreplay";
    /// Parked records: when the attempt is due.
    CE_WALDUE = "ce_waldue";
    /// Parked records: the clock of the service that parked it.
    CE_WALPARKEDAT = "ce_walparkedat";
    /// Parked records: the wait of the delay topic, as its name spells it.
    CE_WALWAIT = "ce_walwait";
    /// Parked records: their own seal, which no answer can echo.
    CE_WALPARKSEAL = "ce_walparkseal";
    /// An event about an entry that was not found: since when it is tried again.
    CE_WALUNKNOWNSINCE = "ce_walunknownsince";
    /// Present on an event that was moved to the partition that its log id names.
    CE_WALMOVED = "ce_walmoved";
    /// A stable error code.
    CE_WALERRORCODE = "ce_walerrorcode";
    /// An error message for people.
    CE_WALERRORMESSAGE = "ce_walerrormessage";
    /// Present on a dead letter whose value was cut: the original length in bytes.
    CE_WALTRUNCATED = "ce_waltruncated";
    /// Media type of the value.
    CONTENT_TYPE = "content-type";
    /// Topic that a receipt is wanted on.
    REPLY_TOPIC = "kafka_replyTopic";
    /// Partition that a receipt is wanted on: 4 bytes, big-endian.
    REPLY_PARTITION = "kafka_replyPartition";
    /// Copied from a request to its receipt.
    REPLY_CORRELATION = "kafka_correlationId";
    /// Topic of the record that became a dead letter.
    DLQ_TOPIC = "__dlq.errors.topic";
    /// Its partition.
    DLQ_PARTITION = "__dlq.errors.partition";
    /// Its offset.
    DLQ_OFFSET = "__dlq.errors.offset";
    /// The group that read it.
    DLQ_GROUP = "__dlq.errors.group";
    /// How often it was delivered.
    DLQ_DELIVERY_COUNT = "__dlq.errors.delivery.count";
    /// Why it is a dead letter.
    DLQ_MESSAGE = "__dlq.errors.message";
}

/// Header names that a request may carry as attributes in form 2 (CloudEvents binary mode).
pub const REQUEST_ATTRIBUTES: &[&str] = &[
    CE_WALNAMESPACE,
    CE_WALTARGET,
    CE_WALTENANT,
    CE_WALUSER,
    CE_WALIDEMPOTENCYKEY,
    CE_WALDELIVERAT,
    CE_WALRETRIES,
    CE_WALDELAY,
    CE_WALBACKOFF,
    CE_WALTTL,
    CE_WALPRIORITY,
];

/// Whether a header name is ours: such headers of a caller are read or refused, never passed on.
pub fn is_reserved(name: &str) -> bool {
    name.starts_with(CE_WAL) || name.starts_with(DLQ_ERRORS) || ALL.contains(&name)
}

/// A JSON object. serde reads an array as a struct by position, too; a request is never meant so.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Object<T>, D::Error> {
        struct OnlyMap<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for OnlyMap<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(OnlyMap(PhantomData))
    }
}

/// The entries of a batch: all are counted, but no more are kept than a batch may have. A record of 10 MB holds three million
/// empty entries, and must not take a gigabyte to be refused.
#[derive(Debug)]
pub(crate) struct Members<'a> {
    pub kept: Vec<MemberJson<'a>>,
    pub count: usize,
}

impl Serialize for Members<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.kept.serialize(serializer)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Members<'a>, D::Error> {
        struct Counting<'a>(PhantomData<&'a ()>);

        impl<'de: 'a, 'a> serde::de::Visitor<'de> for Counting<'a> {
            type Value = Members<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of entries")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Members<'a>, A::Error> {
                let mut kept = Vec::new();
                while kept.len() < BATCH_LEN
                    && let Some(Object(member)) = list.next_element::<Object<MemberJson<'a>>>()?
                {
                    kept.push(member);
                }
                let mut count = kept.len();
                while count >= BATCH_LEN && list.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Members { kept, count })
            }
        }

        deserializer.deserialize_seq(Counting(PhantomData))
    }
}

/// A request in plain JSON: one entry, or `entries`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub payload: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Object<LifecycleJson<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_context: Option<Object<UserContextJson>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliver_at: Option<String>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub entries: Option<Members<'a>>,
}

/// An entry of a batch.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemberJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub payload: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Object<LifecycleJson<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliver_at: Option<String>,
    /// Taken in only to be refused with a clear word.
    #[serde(skip_serializing)]
    pub idempotency_key: Option<IgnoredAny>,
    /// Taken in only to be refused with a clear word.
    #[serde(skip_serializing)]
    pub request_id: Option<IgnoredAny>,
}

/// The specification's `lifecycle`. Values are kept as they are spelled, so that a text for a number and a number that no
/// machine holds (1e400) are refused by their own code, not as broken JSON.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LifecycleJson<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub retry_count: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub delay: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub priority: Option<&'a RawValue>,
}

/// The specification's `user_context`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserContextJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
}

/// A receipt.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct ReceiptJson<'a> {
    pub success: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_ids: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durable: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub namespace: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub target: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub error: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub error_code: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub request_id: Option<Cow<'a, str>>,
}

/// An audit event: the specification's fields and an id that is the same every time the event is made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AuditJson<'a> {
    #[serde(borrow)]
    pub operation: Cow<'a, str>,
    pub log_id: String,
    #[serde(borrow)]
    pub namespace: Cow<'a, str>,
    #[serde(borrow)]
    pub user_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub tenant_id: Option<Cow<'a, str>>,
    pub timestamp: String,
    pub event_id: String,
}

/// A status event of one of our services. Its seal says that one of us wrote it; a field this reader does not know is a newer one's.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StatusJson<'a> {
    #[serde(borrow)]
    pub status: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub reason: Option<Cow<'a, str>>,
    pub log_id: String,
    pub round: u32,
    pub round_first: u32,
    pub attempt: u32,
    pub deadline: String,
    pub at: String,
    pub event_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub error_code: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub error: Option<Cow<'a, str>>,
}

/// The status of an answer that has other fields than it should, so that it is refused for what it is.
#[derive(Debug, Deserialize)]
pub(crate) struct AnswerStatusJson<'a> {
    #[serde(borrow)]
    pub status: Cow<'a, str>,
}

/// A consumer's answer on `wal.acks`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnswerJson<'a> {
    #[serde(borrow)]
    pub status: Cow<'a, str>,
    #[serde(default, borrow)]
    pub result: Option<&'a RawValue>,
}

/// The state of an entry as it stands in the store, on `wal.status`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StateJson<'a> {
    pub log_id: String,
    #[serde(borrow)]
    pub namespace: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub tenant_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub status: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub reason: Option<Cow<'a, str>>,
    pub retry_count: u32,
    pub round: u32,
    pub attempt: u32,
    pub deadline: String,
    pub at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub result: Option<&'a RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub error_code: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub error: Option<Cow<'a, str>>,
}

/// A round that is not to be delivered any more, on `wal.cancels`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CancelJson {
    pub log_id: String,
    pub round: u32,
    pub deadline: String,
}

/// The field of a request that names it, for requests that are wrong in everything else.
pub(crate) const REQUEST_ID: &str = "request_id";
/// The field of a JSON payload that says what the entry does.
pub(crate) const OPERATION: &str = "operation";
