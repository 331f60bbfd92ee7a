//! An entry as JSON: the specification's fields, and ours beside them. Sent, keep stable.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use wal_model::entry::{Answers, BatchPlace};
use wal_model::status::{Event, Outcome, Reason, Status};
use wal_model::{Entry, Id, Lifecycle, LogId, Namespace, Tenant, Timestamp, Topic};

use crate::answer::Answer;

/// Some entries and where the next ones begin.
#[derive(Serialize)]
pub(crate) struct PageView<'a> {
    entries: Vec<EntryView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<&'a str>,
}

impl<'a> PageView<'a> {
    pub(crate) fn of(answer: &'a Answer) -> PageView<'a> {
        PageView {
            entries: answer.entries.iter().map(EntryView::of).collect(),
            next_page_token: answer.next_page_token.as_deref(),
        }
    }
}

/// An entry. The specification's fields are always there (but for a payload that is not JSON), ours where they say something.
#[derive(Serialize)]
pub(crate) struct EntryView<'a> {
    log_id: &'a LogId,
    namespace: &'a Namespace,
    timestamp: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    target: &'a Topic,
    lifecycle: &'a Lifecycle,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    updated_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<ResultView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    retry_count: u32,
    correlation_id: Option<&'a Id>,
    metadata: Metadata<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'a Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ordering_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ordering_key_base64: Option<String>,
    answers: Answers,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliver_at: Option<Timestamp>,
    deadline: Timestamp,
    round: u32,
    round_first: u32,
    attempt: u32,
    attempts: Vec<AttemptView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<BatchPlace>,
    origin: Origin<'a>,
}

/// The specification's `metadata`.
#[derive(Serialize)]
struct Metadata<'a> {
    user_id: Option<&'a Id>,
    tenant_id: Option<&'a Tenant>,
    operation: Option<&'a Id>,
}

/// The ingress record that made the entry.
#[derive(Serialize)]
struct Origin<'a> {
    topic: &'a Topic,
    partition: i32,
    offset: i64,
}

/// What became of one attempt. Its texts are not kept; those of the last one stand at the entry.
#[derive(Serialize)]
struct AttemptView<'a> {
    round: u32,
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivered_at: Option<Timestamp>,
    answered_at: Timestamp,
    outcome: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<&'a str>,
}

/// What a consumer had to say: its JSON, verbatim.
enum ResultView<'a> {
    Json(&'a RawValue),
    /// Stored text that is no JSON; shown rather than hidden.
    Text(&'a str),
}

impl Serialize for ResultView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ResultView::Json(json) => json.serialize(serializer),
            ResultView::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'a> EntryView<'a> {
    pub(crate) fn of(entry: &'a Entry) -> EntryView<'a> {
        let payload = json_payload(entry);
        let key_text = entry.ordering_key.as_ref().map(|key| std::str::from_utf8(key));
        let state = &entry.state;
        let failure = state.standing.failure.as_ref();
        EntryView {
            log_id: &entry.log_id,
            namespace: entry.namespace(),
            timestamp: entry.timestamp(),
            payload,
            payload_base64: payload.is_none().then(|| STANDARD.encode(&entry.payload)),
            content_type: entry.content_type.as_deref(),
            target: &entry.target,
            lifecycle: &entry.lifecycle,
            status: state.status(),
            reason: state.reason(),
            updated_at: state.standing.at,
            next_attempt_at: state.next_attempt_at(),
            result: ResultView::of(&state.standing.outcome),
            error_code: failure.map(|failure| &*failure.code),
            error: failure.map(|failure| &*failure.message),
            retry_count: state.retry_count(),
            correlation_id: entry.correlation_id.as_ref(),
            metadata: Metadata {
                user_id: entry.user.as_ref(),
                tenant_id: entry.tenant.as_ref(),
                operation: entry.operation.as_ref(),
            },
            request_id: entry.request_id.as_ref(),
            idempotency_key: entry.idempotency_key.as_ref(),
            ordering_key: key_text.and_then(Result::ok),
            ordering_key_base64: match key_text {
                Some(Err(_)) => entry.ordering_key.as_ref().map(|key| STANDARD.encode(key)),
                Some(Ok(_)) | None => None,
            },
            answers: entry.answers,
            deliver_at: entry.deliver_at,
            deadline: state.deadline(),
            round: state.standing.round,
            round_first: state.standing.round_first,
            attempt: state.standing.attempt,
            attempts: state.history.values().map(AttemptView::of).collect(),
            batch: entry.batch.clone(),
            origin: Origin {
                topic: &entry.origin.topic,
                partition: entry.origin.partition,
                offset: entry.origin.offset,
            },
        }
    }
}

impl<'a> AttemptView<'a> {
    fn of(event: &'a Event) -> AttemptView<'a> {
        let (next_attempt_at, reason) = match &event.outcome {
            Outcome::Retrying { next_attempt_at } => (Some(*next_attempt_at), None),
            Outcome::Failed { reason } => (None, Some(*reason)),
            Outcome::Pending | Outcome::Completed { .. } => (None, None),
        };
        AttemptView {
            round: event.round,
            attempt: event.attempt,
            delivered_at: event.delivered_at,
            answered_at: event.at,
            outcome: event.outcome.status(),
            next_attempt_at,
            reason,
            error_code: event.failure.as_ref().map(|failure| &*failure.code),
        }
    }
}

impl<'a> ResultView<'a> {
    fn of(outcome: &'a Outcome) -> Option<ResultView<'a>> {
        match outcome {
            Outcome::Completed { result: Some(text) } => {
                Some(serde_json::from_str(text).map_or(ResultView::Text(text), ResultView::Json))
            }
            Outcome::Completed { result: None }
            | Outcome::Pending
            | Outcome::Retrying { .. }
            | Outcome::Failed { .. } => None,
        }
    }
}

/// The payload where it is JSON: by its media type, or, if it has none, by its looks.
///
/// `RawValue` keeps every byte of it: numbers beyond a double, any depth, names that come twice.
fn json_payload(entry: &Entry) -> Option<&RawValue> {
    let may_be_json = entry.content_type.as_deref().is_none_or(is_json);
    if may_be_json { serde_json::from_slice(&entry.payload).ok() } else { None }
}

fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type == "application/json" || media_type == "text/json" || media_type.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_known_by_its_media_type() {
        for json in ["application/json", "Application/JSON; charset=utf-8", "application/cloudevents+json", "text/json"]
        {
            assert!(is_json(json), "{json}");
        }
        for other in ["text/plain", "application/jsonlines", "avro/binary", ""] {
            assert!(!is_json(other), "{other}");
        }
    }
}
