//! One entry for a person: a card of what it is, where it stands, and what it carries.

use std::fmt::Write as _;

use wal_model::{Lifecycle, Timestamp};

use crate::entry_json::EntryJson;
use crate::json_text;
use crate::moment::age;
use crate::paint::{Paint, Tone};
use crate::timeline;

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
        entry.attempt.saturating_sub(entry.round_first).saturating_add(1),
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
    card.maybe("content type", entry.content_type.as_deref());
    card.payload(entry);
    card.outcome(entry);
    let _ = write!(card.text, "\n\n{}", timeline::draw(entry, now, paint).join("\n"));
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

    /// What its last attempt came to, in the words of whoever answered.
    fn outcome(&mut self, entry: &EntryJson) {
        if let Some(result) = &entry.result {
            self.line("result", &indent(&pretty(result.get().as_bytes())));
        }
        let words = [&entry.error_code, &entry.error].map(|word| word.as_deref().filter(|word| !word.is_empty()));
        let words: Vec<&str> = words.into_iter().flatten().collect();
        if !words.is_empty() {
            self.line("last error", &indent(&words.join(": ")));
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
    use crate::entry_json::tests::entry_json;

    #[test]
    fn a_card_tells_what_there_is_and_nothing_else() {
        let now = "2026-11-24T10:05:00Z".parse().unwrap();
        let text =
            entry(&entry_json("retrying", r#""error_code": "TIMEOUT", "error": "no answer""#), now, Paint::plain());
        for line in [
            "  status        retrying, attempt 1 of 4 in round 1",
            "  target        billing",
            "  written       2026-11-24T10:00:00.000Z  (5 min ago)",
            "  lifecycle     3 retries, first after 60 s, exponential, expires after 7days, priority normal",
            "  tenant        acme",
            "  came from     wal.ingress[2]@41",
            "  payload       {",
            "                  \"operation\": \"pay\",",
            "  last error    TIMEOUT: no answer",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
        }
        assert!(!text.contains("correlation") && !text.contains("user") && !text.contains("result"));
        let done = entry_json("completed", r#""result": {"paid": true}"#);
        assert!(entry(&done, now, Paint::plain()).contains("  result        {\n                  \"paid\": true\n"));
    }

    #[test]
    fn payloads_are_shown_as_what_they_are() {
        assert_eq!(pretty(br#"{"a":1}"#), "{\n  \"a\": 1\n}");
        assert_eq!(pretty(b"hello"), "hello");
        assert_eq!(pretty(b""), "(empty)");
        assert_eq!(pretty(&[0xff, 0]), "(2 bytes that are no text)");
    }
}
