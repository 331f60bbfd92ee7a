//! What a caller wants written. On the wire it is plain JSON (form 1), as wal-model spells it.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;
use wal_model::lifecycle::Requested;
use wal_model::request::{PlainEntry, PlainRequest};
use wal_model::{Header, Id, Namespace, Priority, Tenant, Timestamp, Topic};

/// One entry to be written.
#[derive(Clone, Debug)]
pub struct WriteRequest {
    /// The namespace.
    pub namespace: Namespace,
    /// The payload, a JSON object. It is passed on byte for byte.
    pub payload: Box<RawValue>,
    /// Where it is delivered; `None` leaves it to the policy.
    pub target: Option<Topic>,
    /// The lifecycle, as far as it is to differ from the policy. Its priority also chooses the ingress topic.
    pub lifecycle: Requested,
    /// Who it belongs to.
    pub tenant: Option<Tenant>,
    /// Who writes it.
    pub user: Option<Id>,
    /// Links related operations.
    pub correlation_id: Option<Id>,
    /// The caller's word for the operation: the same word again is the same entry.
    pub idempotency_key: Option<Id>,
    /// The caller's word for the request; one is made up if there is none, so that every request can be asked for again.
    pub request_id: Option<Id>,
    /// When the first attempt is wanted; `None` is at once.
    pub deliver_at: Option<Timestamp>,
    /// The record's key: entries with the same one keep their order.
    pub ordering_key: Option<Bytes>,
    /// The caller's own headers, such as `traceparent`; they travel with every delivery.
    pub headers: Vec<Header>,
}

impl WriteRequest {
    /// A request that leaves all the rest to the policy.
    pub fn new(namespace: Namespace, payload: Box<RawValue>) -> WriteRequest {
        WriteRequest {
            namespace,
            payload,
            target: None,
            lifecycle: Requested::default(),
            tenant: None,
            user: None,
            correlation_id: None,
            idempotency_key: None,
            request_id: None,
            deliver_at: None,
            ordering_key: None,
            headers: Vec::new(),
        }
    }

    /// As [`WriteRequest::new`], with a payload made from a value.
    pub fn of(namespace: Namespace, payload: &impl Serialize) -> Result<WriteRequest, serde_json::Error> {
        Ok(WriteRequest::new(namespace, serde_json::value::to_raw_value(payload)?))
    }

    /// The same with a request id, if it has neither that nor an idempotency key: it can then be asked for, and sent again.
    #[must_use]
    pub fn identified(mut self) -> WriteRequest {
        if !self.is_identified() {
            self.request_id = Some(new_request_id());
        }
        self
    }

    pub(crate) fn is_identified(&self) -> bool {
        self.request_id.is_some() || self.idempotency_key.is_some()
    }

    /// The lane the request takes.
    pub(crate) fn priority(&self) -> Priority {
        self.lifecycle.priority.unwrap_or(Priority::Normal)
    }

    /// The value of the record. Sending the same again needs the same `request_id`.
    pub(crate) fn to_json(&self, request_id: &Id) -> Result<Vec<u8>, serde_json::Error> {
        let request = PlainRequest {
            tenant: self.tenant.as_ref(),
            user: self.user.as_ref(),
            idempotency_key: self.idempotency_key.as_ref(),
            request_id: Some(request_id),
        };
        request.of_one(&PlainEntry {
            namespace: &self.namespace,
            payload: &self.payload,
            target: self.target.as_ref(),
            lifecycle: self.lifecycle,
            correlation_id: self.correlation_id.as_ref(),
            deliver_at: self.deliver_at,
        })
    }
}

/// One entry of a batch.
#[derive(Clone, Debug)]
pub struct BatchEntry {
    /// The namespace.
    pub namespace: Namespace,
    /// The payload, a JSON object. It is passed on byte for byte.
    pub payload: Box<RawValue>,
    /// Where it is delivered; `None` leaves it to the policy.
    pub target: Option<Topic>,
    /// The lifecycle, as far as it is to differ from the policy.
    pub lifecycle: Requested,
    /// Links related operations.
    pub correlation_id: Option<Id>,
    /// When the first attempt is wanted; `None` is at once.
    pub deliver_at: Option<Timestamp>,
}

impl BatchEntry {
    /// An entry that leaves all the rest to the policy.
    pub fn new(namespace: Namespace, payload: Box<RawValue>) -> BatchEntry {
        let (target, lifecycle, correlation_id, deliver_at) = (None, Requested::default(), None, None);
        BatchEntry { namespace, payload, target, lifecycle, correlation_id, deliver_at }
    }

    fn plain(&self) -> PlainEntry<'_> {
        PlainEntry {
            namespace: &self.namespace,
            payload: &self.payload,
            target: self.target.as_ref(),
            lifecycle: self.lifecycle,
            correlation_id: self.correlation_id.as_ref(),
            deliver_at: self.deliver_at,
        }
    }
}

/// Entries to be written all or none: 1 to 1,000.
#[derive(Clone, Debug)]
pub struct BatchRequest {
    /// The entries, in order.
    pub entries: Vec<BatchEntry>,
    /// Which ingress topic the batch takes.
    pub priority: Priority,
    /// Who they belong to.
    pub tenant: Option<Tenant>,
    /// Who writes them.
    pub user: Option<Id>,
    /// The caller's word for the operation: the same word again is the same batch.
    pub idempotency_key: Option<Id>,
    /// The caller's word for the request; one is made up if there is none.
    pub request_id: Option<Id>,
    /// The record's key: entries with the same one keep their order.
    pub ordering_key: Option<Bytes>,
    /// The caller's own headers; they travel with every delivery.
    pub headers: Vec<Header>,
}

impl BatchRequest {
    /// A batch with nothing but its entries.
    pub fn new(entries: Vec<BatchEntry>) -> BatchRequest {
        BatchRequest {
            entries,
            priority: Priority::Normal,
            tenant: None,
            user: None,
            idempotency_key: None,
            request_id: None,
            ordering_key: None,
            headers: Vec::new(),
        }
    }

    /// The same with a request id, if it has neither that nor an idempotency key: it can then be asked for, and sent again.
    #[must_use]
    pub fn identified(mut self) -> BatchRequest {
        if !self.is_identified() {
            self.request_id = Some(new_request_id());
        }
        self
    }

    pub(crate) fn is_identified(&self) -> bool {
        self.request_id.is_some() || self.idempotency_key.is_some()
    }

    /// The value of the record. Sending the same again needs the same `request_id`.
    pub(crate) fn to_json(&self, request_id: &Id) -> Result<Vec<u8>, serde_json::Error> {
        let request = PlainRequest {
            tenant: self.tenant.as_ref(),
            user: self.user.as_ref(),
            idempotency_key: self.idempotency_key.as_ref(),
            request_id: Some(request_id),
        };
        let entries: Vec<PlainEntry<'_>> = self.entries.iter().map(BatchEntry::plain).collect();
        request.of_batch(&entries)
    }
}

/// A word for a request that has none.
pub(crate) fn new_request_id() -> Id {
    Id::parse(&Uuid::new_v4().to_string()).expect("a UUID is 36 bytes of plain text")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wal_model::request::{self, Writes};
    use wal_model::{Backoff, InRecord};

    use super::*;

    fn read_back(value: Vec<u8>) -> request::Request {
        let record = InRecord {
            cluster: Arc::from("cluster"),
            topic: Topic::parse("wal.ingress").unwrap(),
            partition: 0,
            offset: 0,
            time: None,
            key: None,
            value: Some(Bytes::from(value)),
            headers: Vec::new(),
        };
        request::decode(&record, &[]).request.unwrap()
    }

    fn id(text: &str) -> Option<Id> {
        Some(Id::parse(text).unwrap())
    }

    fn raw(json: &str) -> Box<RawValue> {
        serde_json::from_str(json).unwrap()
    }

    fn full_lifecycle() -> Requested {
        Requested {
            retry_count: Some(5),
            delay: Some("0.25".parse().unwrap()),
            backoff: Some(Backoff::Linear),
            ttl: Some("3600".parse().unwrap()),
            priority: Some(Priority::High),
        }
    }

    #[test]
    fn a_full_request_is_read_as_it_was_meant() {
        let payload = r#"{"operation": "pay", "amount": 1e400, "a": [ 1 ] }"#;
        let request = WriteRequest {
            target: Some(Topic::parse("billing").unwrap()),
            lifecycle: full_lifecycle(),
            tenant: Some(Tenant::parse("acme").unwrap()),
            user: id("ada"),
            correlation_id: id("saga \" 7"),
            idempotency_key: id("k-1"),
            deliver_at: Some("2030-01-01T00:00:00Z".parse().unwrap()),
            ..WriteRequest::new(Namespace::parse("orders").unwrap(), raw(payload))
        };

        let read = read_back(request.to_json(&id("r-1").unwrap()).unwrap());

        assert_eq!((read.tenant, read.user), (request.tenant, request.user));
        assert_eq!((read.request_id, read.idempotency_key), (id("r-1"), request.idempotency_key));
        let Writes::One(write) = read.writes else { panic!("a batch") };
        assert_eq!((write.namespace, write.target), (request.namespace, request.target));
        assert_eq!((write.lifecycle, write.correlation_id), (request.lifecycle, request.correlation_id));
        assert_eq!((write.deliver_at, &write.payload[..]), (request.deliver_at, payload.as_bytes()));
    }

    #[test]
    fn a_bare_request_says_nothing_of_its_own() {
        let request = WriteRequest::of(Namespace::parse("orders").unwrap(), &serde_json::json!({"a": 1})).unwrap();
        let json = String::from_utf8(request.to_json(&id("r").unwrap()).unwrap()).unwrap();
        assert_eq!(json, r#"{"namespace":"orders","payload":{"a":1},"request_id":"r"}"#);
        assert_eq!(request.priority(), Priority::Normal);
    }

    #[test]
    fn an_identity_is_made_up_once_and_never_replaced() {
        let request =
            WriteRequest::of(Namespace::parse("orders").unwrap(), &serde_json::json!({})).unwrap().identified();
        assert!(request.request_id.is_some());
        assert_eq!(request.clone().identified().request_id, request.request_id);
        let keyed = BatchRequest { idempotency_key: id("k"), ..BatchRequest::new(Vec::new()) };
        assert_eq!(keyed.identified().request_id, None);
    }

    #[test]
    fn a_batch_is_read_as_it_was_meant() {
        let entry = |json| BatchEntry::new(Namespace::parse("orders").unwrap(), raw(json));
        let full = BatchEntry {
            target: Some(Topic::parse("billing").unwrap()),
            lifecycle: full_lifecycle(),
            correlation_id: id("c"),
            deliver_at: Some("2030-01-01T00:00:00Z".parse().unwrap()),
            ..entry(r#"{"n":1}"#)
        };
        let batch = BatchRequest {
            tenant: Some(Tenant::parse("acme").unwrap()),
            ..BatchRequest::new(vec![full.clone(), entry(r#"{"n":2}"#)])
        };

        let read = read_back(batch.to_json(&id("r-1").unwrap()).unwrap());

        assert_eq!((read.tenant, read.request_id), (batch.tenant, id("r-1")));
        let Writes::Batch(writes) = read.writes else { panic!("no batch") };
        assert_eq!(writes.len(), 2);
        assert_eq!((&writes[0].target, writes[0].lifecycle), (&full.target, full.lifecycle));
        assert_eq!((&writes[0].correlation_id, writes[0].deliver_at), (&full.correlation_id, full.deliver_at));
        assert_eq!(&writes[1].payload[..], br#"{"n":2}"#);
    }
}
