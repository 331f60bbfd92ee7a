//! Deliveries: one attempt of an entry as a record on its target, in CloudEvents binary mode.

use std::fmt;
use std::io::Write as _;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::clock::Timestamp;
use crate::entry::{Answers, Entry};
use crate::hash::{ContentHash, Fields};
use crate::id::LogId;
use crate::lifecycle::{Backoff, Priority, Seconds};
use crate::name::{Id, Namespace, Tenant, Topic};
use crate::record::{self, Header, InRecord, OutRecord};
use crate::seal::{Broken, Keyring};
use crate::status::Status;
use crate::wire;

/// One attempt of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The entry's name.
    pub log_id: LogId,
    /// The topic.
    pub target: Topic,
    /// Who the entry belongs to.
    pub tenant: Option<Tenant>,
    /// What it does.
    pub operation: Option<Id>,
    /// Links related operations.
    pub correlation_id: Option<Id>,
    /// Attempt number, from 1, counted over all rounds.
    pub attempt: u32,
    /// Round number, from 1.
    pub round: u32,
    /// The round's first attempt.
    pub round_first: u32,
    /// No attempt of the round is published after it.
    pub deadline: Timestamp,
    /// Retries allowed within the round.
    pub retry_count: u32,
    /// Delay before the first retry.
    pub delay: Seconds,
    /// How the delay grows.
    pub backoff: Backoff,
    /// Priority.
    pub priority: Priority,
    /// Whether an answer is expected.
    pub answers: Answers,
    /// The record's key.
    pub ordering_key: Option<Bytes>,
    /// Media type of the payload.
    pub content_type: Option<String>,
    /// The payload, byte for byte as it was sent.
    pub payload: Bytes,
    /// The caller's own headers.
    pub headers: Vec<Header>,
}

/// A delivery as a consumer finds it on its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The delivery.
    pub delivery: Delivery,
    /// The publisher's clock when it was published.
    pub sent: Timestamp,
}

/// Why a record is no delivery.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotADelivery {
    /// A header that every delivery has is missing.
    #[error("header {0} is missing")]
    Missing(&'static str),
    /// A header cannot be read.
    #[error("header {name} cannot be read: {why}")]
    Unreadable {
        /// Its name.
        name: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The payload is not the one that was sent.
    #[error("the payload does not match its hash")]
    OtherPayload,
}

impl Delivery {
    /// The attempt that a stored entry stands at.
    pub fn of(entry: &Entry) -> Delivery {
        let standing = &entry.state.standing;
        Delivery {
            log_id: entry.log_id.clone(),
            target: entry.target.clone(),
            tenant: entry.tenant.clone(),
            operation: entry.operation.clone(),
            correlation_id: entry.correlation_id.clone(),
            attempt: standing.attempt,
            round: standing.round,
            round_first: standing.round_first,
            deadline: standing.deadline,
            retry_count: entry.lifecycle.retry_count,
            delay: entry.lifecycle.delay,
            backoff: entry.lifecycle.backoff,
            priority: entry.lifecycle.priority,
            answers: entry.answers,
            ordering_key: entry.ordering_key.clone(),
            content_type: entry.content_type.clone(),
            payload: entry.payload.clone(),
            headers: entry.headers.clone(),
        }
    }

    /// The attempt that a stored entry owes: the one it stands at, or, where that failed and is retried, the next. `None` where none is.
    pub fn owed(entry: &Entry) -> Option<Delivery> {
        match entry.state.status() {
            Status::Pending => Some(Delivery::of(entry)),
            Status::Retrying => Some(Delivery::of(entry).next_attempt()),
            Status::Failed | Status::Completed => None,
        }
    }

    /// The record that carries this delivery, sealed.
    pub fn encode(&self, sent: Timestamp, keyring: &Keyring) -> OutRecord {
        self.encode_as(sent, keyring, Copy::First)
    }

    /// The record that carries a replayed copy of this delivery to `topic`: the seal says that it is one.
    pub fn encode_replay(&self, sent: Timestamp, keyring: &Keyring, topic: Topic) -> OutRecord {
        OutRecord { topic, ..self.encode_as(sent, keyring, Copy::Replay) }
    }

    fn encode_as(&self, sent: Timestamp, keyring: &Keyring, copy: Copy) -> OutRecord {
        let hash = ContentHash::of(&self.payload);
        let mut headers = self.headers_of(hash, Some(sent));
        if copy == Copy::Replay {
            headers.add(wire::CE_WALREPLAY, "true");
        }
        headers.add(wire::CE_WALSEAL, keyring.sign(self.sealed(hash, copy)));
        OutRecord {
            topic: self.target.clone(),
            partition: None,
            key: self.ordering_key.clone(),
            value: Some(self.payload.clone()),
            headers: headers.and(&self.headers),
        }
    }

    /// All headers of our own but the seal; what waits was not sent yet.
    pub(crate) fn headers_of(&self, hash: ContentHash, sent: Option<Timestamp>) -> Headers {
        let mut headers = Headers::new();
        headers.add(wire::CE_SPECVERSION, wire::SPEC_VERSION);
        headers.add(wire::CE_ID, &self.log_id);
        headers.add(wire::CE_SOURCE, source(self.log_id.namespace()));
        let operation = self.operation.as_ref().map_or(wire::TYPE_ENTRY, Id::as_str);
        headers.add(wire::CE_TYPE, operation);
        headers.add(wire::CE_TIME, self.log_id.timestamp());
        headers.maybe(wire::CONTENT_TYPE, self.content_type.as_ref());
        headers.maybe(wire::CE_CORRELATIONID, self.correlation_id.as_ref());
        headers.add(wire::CE_EXPIRYTIME, self.deadline);
        headers.ordering_key(self.ordering_key.as_ref());
        headers.add(wire::CE_WALNAMESPACE, self.log_id.namespace());
        headers.maybe(wire::CE_WALTENANT, self.tenant.as_ref());
        headers.add(wire::CE_WALTARGET, &self.target);
        headers.add(wire::CE_WALATTEMPT, self.attempt);
        headers.add(wire::CE_WALROUND, self.round);
        headers.add(wire::CE_WALROUNDFIRST, self.round_first);
        headers.add(wire::CE_WALRETRIES, self.retry_count);
        headers.add(wire::CE_WALANSWERS, self.answers.as_str());
        headers.maybe(wire::CE_WALSENT, sent);
        headers.add(wire::CE_WALDELAY, self.delay);
        headers.add(wire::CE_WALBACKOFF, self.backoff.as_str());
        headers.add(wire::CE_WALPRIORITY, self.priority.as_str());
        headers.add(wire::CE_WALHASH, hash);
        headers
    }

    /// Reads a record of a target. The seal is not looked at: only our services hold the keys, see [`Delivery::verify`].
    pub fn decode(record: &InRecord) -> Result<Received, NotADelivery> {
        let (delivery, hash, sent) = Delivery::read(&record.headers, record.value.clone().unwrap_or_default())?;
        if hash != ContentHash::of(&delivery.payload) {
            return Err(NotADelivery::OtherPayload);
        }
        Ok(Received { delivery, sent: sent.ok_or(NotADelivery::Missing(wire::CE_WALSENT))? })
    }

    /// Reads what headers say of a delivery; with the payload's hash and, where it was published, when.
    pub(crate) fn read(
        headers: &[Header],
        payload: Bytes,
    ) -> Result<(Delivery, ContentHash, Option<Timestamp>), NotADelivery> {
        let read = Reader(headers);
        let delivery = Delivery {
            log_id: read.required(wire::CE_ID)?,
            target: read.required(wire::CE_WALTARGET)?,
            tenant: read.optional(wire::CE_WALTENANT)?,
            operation: read.optional(wire::CE_TYPE)?.filter(|operation: &Id| operation.as_str() != wire::TYPE_ENTRY),
            correlation_id: read.optional(wire::CE_CORRELATIONID)?,
            attempt: read.required(wire::CE_WALATTEMPT)?,
            round: read.required(wire::CE_WALROUND)?,
            round_first: read.required(wire::CE_WALROUNDFIRST)?,
            deadline: read.required(wire::CE_EXPIRYTIME)?,
            retry_count: read.required(wire::CE_WALRETRIES)?,
            delay: read.required(wire::CE_WALDELAY)?,
            backoff: read.required(wire::CE_WALBACKOFF)?,
            priority: read.required(wire::CE_WALPRIORITY)?,
            answers: read.parsed(wire::CE_WALANSWERS, Answers::parse)?,
            ordering_key: read.ordering_key()?,
            content_type: read.optional(wire::CONTENT_TYPE)?,
            payload,
            headers: read.callers(),
        };
        Ok((delivery, read.parsed(wire::CE_WALHASH, ContentHash::parse)?, read.optional(wire::CE_WALSENT)?))
    }

    /// The next attempt of the same round.
    #[must_use]
    pub fn next_attempt(self) -> Delivery {
        Delivery { attempt: self.attempt.saturating_add(1), ..self }
    }

    /// The lifecycle it travels with; how long the round lives is in its deadline.
    pub fn delay_before_next(&self) -> std::time::Duration {
        let lifecycle = crate::lifecycle::Lifecycle {
            retry_count: self.retry_count,
            delay: self.delay,
            backoff: self.backoff,
            priority: self.priority,
            ..crate::lifecycle::Lifecycle::default()
        };
        lifecycle.delay_before(self.attempt_of_round())
    }

    /// Which attempt of its round it is, from 1.
    pub fn attempt_of_round(&self) -> u32 {
        self.attempt.saturating_sub(self.round_first).saturating_add(1)
    }

    /// Whether a seal was made for this delivery by one of our keys.
    pub fn verify(&self, seal: Option<&str>, keyring: &Keyring) -> Result<(), Broken> {
        self.verify_with(seal, ContentHash::of(&self.payload), false, keyring)
    }

    /// The same where the payload is known by its hash only.
    pub(crate) fn verify_with(
        &self,
        seal: Option<&str>,
        hash: ContentHash,
        is_replay: bool,
        keyring: &Keyring,
    ) -> Result<(), Broken> {
        let copy = if is_replay { Copy::Replay } else { Copy::First };
        keyring.verify(seal, self.sealed(hash, copy))
    }

    /// What the seal of a parked record covers. Sent, keep stable.
    pub(crate) fn sealed_parked(&self, hash: ContentHash, due: Timestamp) -> Fields {
        self.fields("parked-1", hash).number(due.as_millis())
    }

    /// What the seal covers. Sent, keep stable.
    fn sealed(&self, hash: ContentHash, copy: Copy) -> Fields {
        match copy {
            Copy::First => self.fields("delivery-1", hash),
            Copy::Replay => self.fields("replay-1", hash),
        }
    }

    fn fields(&self, tag: &str, hash: ContentHash) -> Fields {
        let delay = i64::try_from(self.delay.duration().as_millis()).unwrap_or(i64::MAX);
        Fields::new(tag)
            .text(&self.log_id.to_string())
            .text(self.tenant.as_ref().map_or("", Tenant::as_str))
            .text(self.target.as_str())
            .maybe(self.ordering_key.as_ref().map(|key| &key[..]))
            .number(self.round.into())
            .number(self.round_first.into())
            .number(self.attempt.into())
            .number(self.retry_count.into())
            .number(delay)
            .text(self.backoff.as_str())
            .text(self.priority.as_str())
            .text(self.answers.as_str())
            .number(self.deadline.as_millis())
            .bytes(hash.as_bytes())
    }
}

/// Whether a delivery is the attempt itself or a copy for replay.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Copy {
    First,
    Replay,
}

/// The `ce_source` of everything that concerns an entry of a namespace.
pub(crate) fn source(namespace: &Namespace) -> String {
    format!("wal/{namespace}")
}

/// Headers under construction, their values in one buffer: a record has some thirty, and an allocation for each would be most of what
/// publishing costs us.
pub(crate) struct Headers {
    buffer: Vec<u8>,
    values: Vec<(&'static str, Range<usize>)>,
}

impl Headers {
    fn new() -> Headers {
        Headers { buffer: Vec::with_capacity(1024), values: Vec::with_capacity(32) }
    }

    pub(crate) fn add(&mut self, name: &'static str, value: impl fmt::Display) {
        let start = self.buffer.len();
        write!(self.buffer, "{value}").expect("memory takes what is written");
        self.values.push((name, start..self.buffer.len()));
    }

    fn maybe(&mut self, name: &'static str, value: Option<impl fmt::Display>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    /// All of them, and others after them.
    pub(crate) fn and(self, others: &[Header]) -> Vec<Header> {
        let buffer = Bytes::from(self.buffer);
        let own = self.values.into_iter().map(|(name, range)| Header::new(name, buffer.slice(range)));
        own.chain(others.iter().cloned()).collect()
    }

    /// A key that a CloudEvents string can carry travels as `partitionkey`, any other in base64, none not at all.
    fn ordering_key(&mut self, key: Option<&Bytes>) {
        let Some(key) = key else { return };
        match std::str::from_utf8(key) {
            Ok(text) if !text.is_empty() && !text.chars().any(char::is_control) => {
                self.add(wire::CE_PARTITIONKEY, text);
            }
            _ => self.add(wire::CE_WALKEY64, STANDARD.encode(key)),
        }
    }
}

/// Headers being read.
pub(crate) struct Reader<'a>(pub(crate) &'a [Header]);

impl Reader<'_> {
    fn parsed<T>(&self, name: &'static str, parse: impl Fn(&str) -> Option<T>) -> Result<T, NotADelivery> {
        let text = record::last_str(self.0, name).ok_or(NotADelivery::Missing(name))?;
        parse(text).ok_or_else(|| NotADelivery::Unreadable { name, why: "not one of the known words".into() })
    }

    pub(crate) fn required<T: std::str::FromStr<Err: fmt::Display>>(
        &self,
        name: &'static str,
    ) -> Result<T, NotADelivery> {
        self.optional(name)?.ok_or(NotADelivery::Missing(name))
    }

    fn optional<T: std::str::FromStr<Err: fmt::Display>>(&self, name: &'static str) -> Result<Option<T>, NotADelivery> {
        let unreadable = |why: String| NotADelivery::Unreadable { name, why };
        let Some(value) = record::last(self.0, name) else { return Ok(None) };
        let text = std::str::from_utf8(value).map_err(|_| unreadable("not UTF-8".into()))?;
        text.parse().map(Some).map_err(|error: T::Err| unreadable(error.to_string()))
    }

    fn ordering_key(&self) -> Result<Option<Bytes>, NotADelivery> {
        if let Some(text) = record::last(self.0, wire::CE_WALKEY64) {
            let name = wire::CE_WALKEY64;
            let key =
                STANDARD.decode(text).map_err(|error| NotADelivery::Unreadable { name, why: error.to_string() })?;
            return Ok(Some(Bytes::from(key)));
        }
        Ok(record::last(self.0, wire::CE_PARTITIONKEY).cloned())
    }

    fn callers(&self) -> Vec<Header> {
        let is_callers = |header: &&Header| header.name_str().is_none_or(|name| !wire::is_reserved(name));
        self.0.iter().filter(is_callers).cloned().collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A delivery with everything in it.
    pub(crate) fn delivery() -> Delivery {
        Delivery {
            log_id: "wal_orders_20241201T100000000Z_6f7a8598-26c4-5310-a0c0-25bce4910e9f".parse().unwrap(),
            target: Topic::parse("orders").unwrap(),
            tenant: Some(Tenant::parse("acme").unwrap()),
            operation: Some(Id::parse("place").unwrap()),
            correlation_id: Some(Id::parse("saga_1").unwrap()),
            attempt: 1,
            round: 1,
            round_first: 1,
            deadline: Timestamp::from_millis(1_733_651_999_000).unwrap(),
            retry_count: 3,
            delay: "60".parse().unwrap(),
            backoff: Backoff::Exponential,
            priority: Priority::Normal,
            answers: Answers::Expected,
            ordering_key: Some(Bytes::from_static(b"k")),
            content_type: Some("application/json".to_owned()),
            payload: Bytes::from_static(b"{}"),
            headers: vec![Header::new("traceparent", "00-1-1-01")],
        }
    }

    #[test]
    fn delays_count_within_the_round() {
        let of = |attempt, round_first| Delivery { attempt, round_first, ..delivery() }.delay_before_next().as_secs();
        assert_eq!([of(1, 1), of(2, 1), of(3, 1)], [60, 120, 240]);
        assert_eq!([of(5, 5), of(6, 5)], [60, 120]);
        // Nothing sensible, and nothing that panics.
        assert_eq!(of(1, 5), 60);
    }
}
