//! An entry as the gateway tells it, as far as anything here shows it. What a newer gateway adds is skipped.

use serde::Deserialize;
use serde_json::value::RawValue;
use wal_model::{Lifecycle, Timestamp};

use crate::problem::{Exit, Problem};

/// An entry.
#[derive(Debug, Deserialize)]
pub struct EntryJson {
    /// Its name.
    pub log_id: String,
    /// The namespace.
    pub namespace: String,
    /// When it was written.
    pub timestamp: Timestamp,
    /// Where it is delivered.
    pub target: String,
    /// How often and how long it is tried.
    pub lifecycle: Lifecycle,
    /// pending, retrying, failed or completed.
    pub status: String,
    /// Why it failed for good.
    pub reason: Option<String>,
    /// When it came to stand so.
    pub updated_at: Timestamp,
    /// When the next attempt is due, if one is scheduled.
    pub next_attempt_at: Option<Timestamp>,
    /// What the consumer had to say.
    pub result: Option<Box<RawValue>>,
    /// The code of the last error.
    pub error_code: Option<String>,
    /// The last error.
    pub error: Option<String>,
    /// Retries so far.
    pub retry_count: u32,
    /// Who and what.
    pub metadata: Metadata,
    /// Links related operations.
    pub correlation_id: Option<String>,
    /// The caller's word for the request.
    pub request_id: Option<String>,
    /// The caller's word for the operation.
    pub idempotency_key: Option<String>,
    /// The record's key, where it is text.
    pub ordering_key: Option<String>,
    /// The record's key, where it is not.
    pub ordering_key_base64: Option<String>,
    /// When the first attempt is wanted.
    pub deliver_at: Option<Timestamp>,
    /// No attempt of the round is published after it.
    pub deadline: Timestamp,
    /// The round.
    pub round: u32,
    /// The round's first attempt.
    pub round_first: u32,
    /// The attempt it stands at.
    pub attempt: u32,
    /// The attempts that were answered.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// The ingress record that made it.
    pub origin: Origin,
    /// Media type of the payload.
    pub content_type: Option<String>,
    /// The payload, where it is JSON.
    pub payload: Option<Box<RawValue>>,
    /// The payload, where it is not.
    pub payload_base64: Option<String>,
}

/// Who and what.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    /// What it does.
    pub operation: Option<String>,
    /// Who wrote it.
    pub user_id: Option<String>,
    /// Who it belongs to.
    pub tenant_id: Option<String>,
}

/// What became of one attempt.
#[derive(Debug, Deserialize)]
pub struct Attempt {
    /// The round.
    pub round: u32,
    /// Its number over all rounds.
    pub attempt: u32,
    /// When it was published.
    pub delivered_at: Option<Timestamp>,
    /// When it was answered.
    pub answered_at: Timestamp,
    /// retrying, failed or completed.
    pub outcome: String,
    /// When the next one is due.
    pub next_attempt_at: Option<Timestamp>,
    /// Why there is no next one.
    pub reason: Option<String>,
    /// The code of its error.
    pub error_code: Option<String>,
}

/// The ingress record that made an entry.
#[derive(Debug, Deserialize)]
pub struct Origin {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

impl EntryJson {
    /// Reads an entry.
    pub fn read(json: &RawValue) -> Result<EntryJson, Problem> {
        serde_json::from_str(json.get()).map_err(|error| {
            Problem::new(Exit::Failed, "WAL_GATEWAY_UNREACHABLE", "understand the gateway's answer")
                .because(&error)
                .hint("gateway and wal may be of different versions; -o json shows the answer as it came")
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An entry written at 10:00 that stands so, with these members beside the others.
    pub(crate) fn entry_json(status: &str, more: &str) -> EntryJson {
        let json = r#"{
            "log_id": "wal_orders_20261124T100000000Z_0191d1a4-0000-5000-8000-000000000000", "namespace": "orders",
            "timestamp": "2026-11-24T10:00:00.000Z", "payload": {"operation": "pay", "n": 1}, "target": "billing",
            "lifecycle": {"retry_count": 3, "delay": 60, "backoff": "exponential", "ttl": 604800, "priority": "normal"},
            "status": "STATUS", "updated_at": "2026-11-24T10:00:10.000Z", "retry_count": 1, "correlation_id": null,
            "metadata": {"user_id": null, "tenant_id": "acme", "operation": "pay"}, "request_id": "r-1",
            "answers": "expected", "deadline": "2026-12-01T10:00:00.000Z", "round": 1, "round_first": 1, "attempt": 1,
            "origin": {"topic": "wal.ingress", "partition": 2, "offset": 41}, "some_day": "more"MORE
        }"#;
        let more = if more.is_empty() { String::new() } else { format!(", {more}") };
        let json = json.replace("STATUS", status).replace("MORE", &more);
        EntryJson::read(&serde_json::from_str::<Box<RawValue>>(&json).unwrap()).unwrap()
    }
}
