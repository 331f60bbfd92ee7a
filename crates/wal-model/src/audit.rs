//! Audit events: who did what to an entry.

use bytes::Bytes;

use crate::entry::Entry;
use crate::name::{Id, Tenant, Topic};
use crate::record::{Header, OutRecord};
use crate::wire::{self, AuditJson};

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// An entry was written.
    Write,
    /// A request was sent again and answered with the entry it had written.
    Repeat,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Operation::Write => "wal_write",
            Operation::Repeat => "wal_repeat",
        }
    }
}

/// The audit event of an operation on an entry. `cause` names what made the operation happen, such as the coordinates of the
/// record: the same cause makes the same event, so that doing it again writes the same thing again.
pub fn encode(operation: Operation, entry: &Entry, cause: &str, topic: Topic) -> OutRecord {
    let id = entry.key().derive(&format!("audit {} {cause}", operation.as_str()));
    let json = AuditJson {
        operation: operation.as_str().into(),
        log_id: entry.log_id.to_string(),
        namespace: entry.namespace().as_str().into(),
        user_id: entry.user.as_ref().map(|user| Id::as_str(user).into()),
        tenant_id: entry.tenant.as_ref().map(|tenant| Tenant::as_str(tenant).into()),
        timestamp: entry.timestamp().to_string(),
        event_id: id.to_string(),
    };
    let value = serde_json::to_vec(&json).expect("an audit event holds only text");
    OutRecord {
        topic,
        partition: None,
        key: Some(Bytes::from(json.log_id)),
        value: Some(Bytes::from(value)),
        headers: vec![
            Header::new(wire::CE_SPECVERSION, wire::SPEC_VERSION),
            Header::new(wire::CE_ID, json.event_id),
            Header::new(wire::CE_SOURCE, crate::delivery::source(entry.namespace())),
            Header::new(wire::CE_TYPE, wire::TYPE_AUDIT),
            Header::new(wire::CE_TIME, json.timestamp),
            Header::new(wire::CONTENT_TYPE, wire::JSON),
        ],
    }
}
