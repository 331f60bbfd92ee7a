//! Where an entry stands, as a record of the compacted `wal.status`: for anyone who wants to follow without asking.

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::id::LogId;
use crate::name::{Tenant, Topic};
use crate::record::{Header, OutRecord};
use crate::status::{Outcome, State};
use crate::wire::{self, StateJson};

/// The record that tells the stored state of an entry.
pub fn encode(log_id: &LogId, tenant: Option<&Tenant>, state: &State, topic: Topic) -> OutRecord {
    let standing = &state.standing;
    let result = match &standing.outcome {
        Outcome::Completed { result: Some(result) } => serde_json::from_str::<&RawValue>(result).ok(),
        Outcome::Completed { result: None } | Outcome::Pending | Outcome::Retrying { .. } | Outcome::Failed { .. } => {
            None
        }
    };
    let json = StateJson {
        log_id: log_id.to_string(),
        namespace: log_id.namespace().as_str().into(),
        tenant_id: tenant.map(|tenant| tenant.as_str().into()),
        status: state.status().as_str().into(),
        reason: state.reason().map(|reason| reason.as_str().into()),
        retry_count: state.retry_count(),
        round: standing.round,
        attempt: standing.attempt,
        deadline: standing.deadline.to_string(),
        at: standing.at.to_string(),
        next_attempt_at: state.next_attempt_at().map(|at| at.to_string()),
        result,
        error_code: standing.failure.as_ref().map(|failure| failure.code.as_str().into()),
        error: standing.failure.as_ref().map(|failure| failure.message.as_str().into()),
    };
    let value = serde_json::to_vec(&json).expect("a state holds only text, numbers and checked JSON");
    let mut headers = vec![Header::new(wire::CONTENT_TYPE, wire::JSON)];
    headers.extend(tenant.map(|tenant| Header::new(wire::CE_WALTENANT, tenant.to_string())));
    OutRecord { topic, partition: None, key: Some(Bytes::from(json.log_id)), value: Some(value.into()), headers }
}

/// The tombstone of an entry that was purged.
pub fn tombstone(log_id: &LogId, topic: Topic) -> OutRecord {
    OutRecord { topic, partition: None, key: Some(Bytes::from(log_id.to_string())), value: None, headers: Vec::new() }
}
