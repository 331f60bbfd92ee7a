//! One entry for a person: a card of what it is, where it stands, and what it carries.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use wal_model::{Lifecycle, Timestamp};

use crate::json_text;
use crate::moment::age;
use crate::paint::{Paint, Tone};
use crate::problem::{Exit, Problem};

/// An entry as the gateway tells it, as far as a card shows it. What a newer gateway adds is skipped.
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
    /// Retries so far.
    pub retry_count: u32,
    /// Who and what.
    pub metadata: Metadata,
    reason: Option<String>,
    correlation_id: Option<String>,
    request_id: Option<String>,
    idempotency_key: Option<String>,
    ordering_key: Option<String>,
    ordering_key_base64: Option<String>,
    deadline: Timestamp,
    round: u32,
    attempt: u32,
    #[serde(default)]
    attempts: Vec<Attempt>,
    origin: Origin,
    content_type: Option<String>,
    payload: Option<Box<RawValue>>,
    payload_base64: Option<String>,
}

/// Who and what.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    /// What it does.
    pub operation: Option<String>,
    user_id: Option<String>,
    tenant_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Attempt {
    attempt: u32,
    status: String,
    at: Timestamp,
    next_attempt_at: Option<Timestamp>,
    reason: Option<String>,
    error_code: Option<String>,
    error: Option<String>,
    result: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Origin {
    topic: String,
    partition: i32,
    offset: i64,
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

/// How a status looks.
pub fn status_tone(status: &str) -> Tone {
    match status {
        "completed" => Tone::Good,
        "failed" => Tone::Bad,
        "retrying" => Tone::Odd,
        _ => Tone::Plain,
    }
}

/// The card of an entry.
pub fn entry(entry: &EntryJson, now: Timestamp, paint: Paint) -> String {
    let mut card = Card { text: paint.tone(Tone::Strong, &entry.log_id), paint };
    let ago = |at: Timestamp| format!("{at}  ({})", age(now.saturating_since(at)));
    let reason = entry.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
    let standing = format!(
        "{}{reason}, attempt {} of {} in round {}",
        paint.tone(status_tone(&entry.status), &entry.status),
        entry.attempt,
        entry.lifecycle.retry_count.saturating_add(1),
        entry.round
    );
    card.line("status", &standing);
    card.line("namespace", &entry.namespace);
    card.line("target", &paint.tone(Tone::Name, &entry.target));
    card.maybe("operation", entry.metadata.operation.as_deref());
    card.line("written", &ago(entry.timestamp));
    card.line("deadline", &entry.deadline.to_string());
    card.line("lifecycle", &lifecycle(&entry.lifecycle));
    card.maybe("tenant", entry.metadata.tenant_id.as_deref());
    card.maybe("user", entry.metadata.user_id.as_deref());
    card.maybe("correlation", entry.correlation_id.as_deref());
    card.maybe("request id", entry.request_id.as_deref());
    card.maybe("idempotency", entry.idempotency_key.as_deref());
    card.maybe("key", entry.ordering_key.as_deref());
    card.maybe("key (base64)", entry.ordering_key_base64.as_deref());
    card.line("came from", &format!("{}[{}]@{}", entry.origin.topic, entry.origin.partition, entry.origin.offset));
    for attempt in &entry.attempts {
        card.line(&format!("attempt {}", attempt.attempt), &told(attempt, paint));
    }
    card.maybe("content type", entry.content_type.as_deref());
    card.payload(entry);
    card.text
}

/// A lifecycle in a few words.
pub fn lifecycle(lifecycle: &Lifecycle) -> String {
    let ttl = humantime::format_duration(lifecycle.ttl.duration());
    let priority = lifecycle.priority;
    match lifecycle.retry_count {
        0 => format!("no retries, expires after {ttl}, priority {priority}"),
        1 => format!("1 retry after {} s, expires after {ttl}, priority {priority}", lifecycle.delay),
        count => {
            let (delay, backoff) = (lifecycle.delay, lifecycle.backoff);
            format!("{count} retries, first after {delay} s, {backoff}, expires after {ttl}, priority {priority}")
        }
    }
}

fn told(attempt: &Attempt, paint: Paint) -> String {
    let mut text = format!("{} at {}", paint.tone(status_tone(&attempt.status), &attempt.status), attempt.at);
    if let Some(next) = attempt.next_attempt_at {
        let _ = write!(text, ", next at {next}");
    }
    for detail in [&attempt.reason, &attempt.error_code, &attempt.error].into_iter().flatten() {
        let _ = write!(text, ", {detail}");
    }
    if let Some(result) = &attempt.result {
        let _ = write!(text, ", result {result}");
    }
    text
}

struct Card {
    text: String,
    paint: Paint,
}

impl Card {
    fn line(&mut self, name: &str, value: &str) {
        let _ = write!(self.text, "\n  {} {value}", self.paint.tone(Tone::Faint, &format!("{name:<13}")));
    }

    fn maybe(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.line(name, value);
        }
    }

    fn payload(&mut self, entry: &EntryJson) {
        match (&entry.payload, &entry.payload_base64) {
            (Some(json), _) => self.line("payload", &indent(&pretty(json.get().as_bytes()))),
            (None, Some(base64)) => self.line("payload", &format!("(base64) {base64}")),
            (None, None) => {}
        }
    }
}

/// A payload for a person: JSON with line breaks if it is JSON, else as text, else its size.
pub fn pretty(payload: &[u8]) -> String {
    if let Some(json) = json_text::pretty(payload) {
        return json;
    }
    match std::str::from_utf8(payload) {
        Ok("") => "(empty)".into(),
        Ok(text) if !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') => text.into(),
        Ok(_) | Err(_) => format!("({} bytes that are no text)", payload.len()),
    }
}

/// The text with every line but the first below the value column of a card.
pub fn indent(text: &str) -> String {
    text.replace('\n', "\n                ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = r#"{
        "log_id": "wal_orders_20261124T100000000Z_0191d1a4-0000-5000-8000-000000000000", "namespace": "orders",
        "timestamp": "2026-11-24T10:00:00.000Z", "payload": {"operation": "pay", "n": 1}, "target": "billing",
        "lifecycle": {"retry_count": 3, "delay": 60, "backoff": "exponential", "ttl": 604800, "priority": "normal"},
        "status": "retrying", "retry_count": 1, "correlation_id": null,
        "metadata": {"user_id": null, "tenant_id": "acme", "operation": "pay"}, "request_id": "r-1",
        "answers": "expected", "deadline": "2026-12-01T10:00:00.000Z", "round": 1, "attempt": 1,
        "attempts": [{"attempt": 1, "round": 1, "status": "retrying", "at": "2026-11-24T10:00:01.000Z",
            "next_attempt_at": "2026-11-24T10:01:01.000Z", "error_code": "TIMEOUT"}],
        "origin": {"topic": "wal.ingress", "partition": 2, "offset": 41}, "some_day": "more"
    }"#;

    #[test]
    fn a_card_tells_what_there_is_and_nothing_else() {
        let json: Box<RawValue> = serde_json::from_str(ENTRY).unwrap();
        let now = "2026-11-24T10:05:00Z".parse().unwrap();
        let text = entry(&EntryJson::read(&json).unwrap(), now, Paint::plain());
        for line in [
            "  status        retrying, attempt 1 of 4 in round 1",
            "  target        billing",
            "  written       2026-11-24T10:00:00.000Z  (5 min ago)",
            "  lifecycle     3 retries, first after 60 s, exponential, expires after 7days, priority normal",
            "  tenant        acme",
            "  came from     wal.ingress[2]@41",
            "  attempt 1     retrying at 2026-11-24T10:00:01.000Z, next at 2026-11-24T10:01:01.000Z, TIMEOUT",
            "  payload       {",
            "                  \"operation\": \"pay\",",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
        }
        assert!(!text.contains("correlation") && !text.contains("user"));
    }

    #[test]
    fn payloads_are_shown_as_what_they_are() {
        assert_eq!(pretty(br#"{"a":1}"#), "{\n  \"a\": 1\n}");
        assert_eq!(pretty(b"hello"), "hello");
        assert_eq!(pretty(b""), "(empty)");
        assert_eq!(pretty(&[0xff, 0]), "(2 bytes that are no text)");
    }
}
