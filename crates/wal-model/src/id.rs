//! Identity: what makes two requests the same one, and what an entry is called for ever.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::clock::{COMPACT_LEN, Timestamp};
use crate::hash::Fields;
use crate::name::{Id, Namespace, Tenant, Topic};

/// The UUID under which every identity is made. Stored, keep stable: another one would let every repeat in again.
const IDENTITY: Uuid = Uuid::from_u128(0x6f0c_2a51_1b7e_5d43_9c8e_7761_6c2d_6964);

/// Where one record stands in Kafka, for ever: offsets come again when a topic is made anew, the record time tells them apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Coordinates {
    /// The cluster's own id.
    pub cluster: Arc<str>,
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: i32,
    /// The offset within the partition.
    pub offset: i64,
    /// The record's time as the broker keeps it.
    pub time: Timestamp,
}

impl Coordinates {
    fn fields(&self, fields: Fields) -> Fields {
        fields
            .text(&self.cluster)
            .text(self.topic.as_str())
            .number(self.partition.into())
            .number(self.offset)
            .number(self.time.as_millis())
    }
}

impl fmt::Display for Coordinates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]@{}", self.topic, self.partition, self.offset)
    }
}

/// What makes a request the same request when it comes again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The caller's own word for "this operation".
    IdempotencyKey(Id),
    /// The caller's word for "this request".
    RequestId(Id),
    /// The caller said nothing: the record itself.
    Record(Coordinates),
}

/// The key under which an entry is stored: a UUID made from its identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EntryKey(Uuid);

impl EntryKey {
    /// The key of the entry at `index` (0 for a request of its own) of the request with this identity.
    ///
    /// A request of its own and the first member of a batch share a key, so that one identity cannot be used for both.
    pub fn of(tenant: Option<&Tenant>, namespace: &Namespace, identity: &Identity, index: u32) -> EntryKey {
        let scoped = |tag| Fields::new(tag).text(tenant.map_or("", Tenant::as_str)).text(namespace.as_str());
        let fields = match identity {
            Identity::IdempotencyKey(key) => scoped("idempotency-key").text(key.as_str()),
            Identity::RequestId(id) => scoped("request-id").text(id.as_str()),
            Identity::Record(coordinates) => coordinates.fields(scoped("record")),
        };
        EntryKey(Uuid::new_v5(&IDENTITY, &fields.number(index.into()).into_bytes()))
    }

    /// The id of something derived from this entry, such as its receipt: the same every time it is derived.
    pub fn derive(&self, what: &str) -> Uuid {
        Uuid::new_v5(&self.0, what.as_bytes())
    }

    /// The UUID.
    pub fn uuid(self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for EntryKey {
    fn from(uuid: Uuid) -> EntryKey {
        EntryKey(uuid)
    }
}

impl fmt::Display for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The id of something derived from a record that became no entry, such as its dead letter.
pub fn derive_from_record(coordinates: &Coordinates, what: &str) -> Uuid {
    Uuid::new_v5(&IDENTITY, &coordinates.fields(Fields::new(what)).into_bytes())
}

/// An entry's name: `wal_{namespace}_{timestamp}_{uuid}`, fixed when the entry is first stored.
///
/// The uuid and the timestamp have a fixed width, so a log id is read from the right and a namespace may hold `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    namespace: Namespace,
    timestamp: Timestamp,
    key: EntryKey,
}

const PREFIX: &str = "wal_";
const UUID_LEN: usize = 36;

impl LogId {
    /// The log id of an entry.
    pub fn new(namespace: Namespace, timestamp: Timestamp, key: EntryKey) -> LogId {
        LogId { namespace, timestamp, key }
    }

    /// The entry's namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// When the entry was written: its ingress record's time.
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// The store's key of the entry.
    pub fn key(&self) -> EntryKey {
        self.key
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}_{}_{}", self.namespace, self.timestamp.compact(), self.key)
    }
}

/// A text that is no log id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a log id (wal_<namespace>_<20241201T100000000Z>_<uuid>)")]
pub struct NotALogId;

impl FromStr for LogId {
    type Err = NotALogId;

    fn from_str(text: &str) -> Result<LogId, NotALogId> {
        let rest = text.strip_prefix(PREFIX).ok_or(NotALogId)?;
        let (rest, uuid) = split_last(rest, UUID_LEN).ok_or(NotALogId)?;
        let (namespace, timestamp) = split_last(rest, COMPACT_LEN).ok_or(NotALogId)?;
        let key = Uuid::try_parse(uuid).map(EntryKey).map_err(|_| NotALogId)?;
        if key.to_string() != uuid {
            return Err(NotALogId);
        }
        Ok(LogId {
            namespace: Namespace::parse(namespace).map_err(|_| NotALogId)?,
            timestamp: Timestamp::parse_compact(timestamp).ok_or(NotALogId)?,
            key,
        })
    }
}

/// Splits `text` into what stands before the last `_` and the `length` bytes after it.
fn split_last(text: &str, length: usize) -> Option<(&str, &str)> {
    let at = text.len().checked_sub(length)?;
    let (rest, last) = text.split_at_checked(at)?;
    Some((rest.strip_suffix('_')?, last))
}

impl Serialize for LogId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LogId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LogId, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn namespace(text: &str) -> Namespace {
        Namespace::parse(text).unwrap()
    }

    fn request(id: &str) -> Identity {
        Identity::RequestId(Id::parse(id).unwrap())
    }

    proptest! {
        #[test]
        fn log_ids_round_trip(name in "[A-Za-z0-9._-]{1,100}", millis in 0..253_402_300_799_999i64, uuid: u128) {
            prop_assume!(name != "ingress");
            let key = EntryKey(Uuid::from_u128(uuid));
            let id = LogId::new(namespace(&name), Timestamp::from_millis(millis).unwrap(), key);
            prop_assert!(id.to_string().len() <= 254);
            prop_assert_eq!(id.to_string().parse::<LogId>().unwrap(), id);
        }

        #[test]
        fn any_text_is_refused_or_read_back_the_same(text in ".{0,120}") {
            if let Ok(id) = text.parse::<LogId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn identities_keep_tenants_namespaces_and_kinds_apart() {
        let (a, b) = (Tenant::parse("a").unwrap(), Tenant::parse("b").unwrap());
        let (one, two) = (namespace("one"), namespace("two"));
        let key = Identity::IdempotencyKey(Id::parse("x").unwrap());
        let keys = [
            EntryKey::of(None, &one, &request("x"), 0),
            EntryKey::of(Some(&a), &one, &request("x"), 0),
            EntryKey::of(Some(&b), &one, &request("x"), 0),
            EntryKey::of(Some(&a), &two, &request("x"), 0),
            EntryKey::of(Some(&a), &one, &key, 0),
            EntryKey::of(Some(&a), &one, &request("x"), 1),
        ];
        for (at, one) in keys.iter().enumerate() {
            assert!(keys[at + 1..].iter().all(|other| other != one));
        }
    }

    /// Stored, keep stable: a change here would let every stored request in a second time.
    #[test]
    fn identities_are_golden() {
        let tenant = Tenant::parse("acme").unwrap();
        let coordinates = Coordinates {
            cluster: Arc::from("cluster"),
            topic: Topic::parse("wal.ingress").unwrap(),
            partition: 3,
            offset: 42,
            time: Timestamp::from_millis(1_733_047_200_000).unwrap(),
        };
        let of = |identity: &Identity| EntryKey::of(Some(&tenant), &namespace("orders"), identity, 0).to_string();
        let golden = [
            of(&Identity::IdempotencyKey(Id::parse("k-1").unwrap())),
            of(&request("r-1")),
            of(&Identity::Record(coordinates)),
        ];
        assert_eq!(golden, GOLDEN_KEYS);
    }

    const GOLDEN_KEYS: [&str; 3] = [
        "4c6e2eca-8810-581c-8592-1b908a4e49b9",
        "6f7a8598-26c4-5310-a0c0-25bce4910e9f",
        "483c244a-149d-5317-bef9-86a5d580ebcf",
    ];
}
