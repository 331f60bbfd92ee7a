//! The life of an entry as a picture: what happened when, counted from when it was written, and what comes next.
//!
//! ```text
//!      +0.000 s  ○  written
//!      +0.012 s  ●  attempt 1 delivered
//!      +0.530 s  ✗  attempt 1 failed after 518 ms: CARD_DECLINED
//!                ┆  waits 1.000 s
//!      +1.532 s  ●  attempt 2 delivered, 2 ms after it was due
//!      +1.600 s  ✔  attempt 2 completed after 68 ms
//! ```

use std::time::Duration;

use wal_model::Timestamp;

use crate::entry_json::{Attempt, EntryJson};
use crate::paint::{Paint, Tone};

/// Something that happened, or will.
#[derive(Debug, PartialEq, Eq)]
struct Mark {
    /// When; `None` between two times.
    at: Option<Timestamp>,
    sign: &'static str,
    tone: Tone,
    what: String,
}

/// The lines of the picture.
pub fn draw(entry: &EntryJson, now: Timestamp, paint: Paint) -> Vec<String> {
    let line = |mark: Mark| {
        let offset = mark.at.map_or(String::new(), |at| format!("+{}", span(at.saturating_since(entry.timestamp))));
        let offset = paint.tone(Tone::Faint, &format!("{offset:>14}"));
        format!("{offset}  {}  {}", paint.tone(mark.tone, mark.sign), mark.what)
    };
    marks(entry, now).into_iter().map(line).collect()
}

fn marks(entry: &EntryJson, now: Timestamp) -> Vec<Mark> {
    let mut marks = vec![mark(entry.timestamp, "○", Tone::Plain, "written".to_owned())];
    let mut due = None;
    if let Some(wanted) = entry.deliver_at.filter(|wanted| *wanted > entry.timestamp) {
        marks.push(waits(wanted.saturating_since(entry.timestamp)));
        due = Some(wanted);
    }
    let mut round = 1;
    for attempt in &entry.attempts {
        begin_round(&mut marks, &mut round, attempt.round);
        marks.extend(delivered(attempt, due));
        marks.push(answered(attempt));
        due = attempt.next_attempt_at;
        // A wait that was cut short ends where the entry does.
        let cut_short = entry.reason.is_some().then_some(entry.updated_at);
        if let Some(next) = due {
            let end = cut_short.map_or(next, |cut| cut.min(next));
            marks.push(waits(end.saturating_since(attempt.answered_at)));
        }
    }
    begin_round(&mut marks, &mut round, entry.round);
    marks.push(match entry.status.as_str() {
        "completed" => return marks,
        "failed" if is_told(entry) => return marks,
        "failed" => {
            let reason = entry.reason.as_deref().unwrap_or("failed");
            mark(entry.updated_at, "✗", Tone::Bad, reason.to_owned())
        }
        _ => owed(entry, now),
    });
    marks
}

/// Whether the last attempt's own line tells why the entry failed.
fn is_told(entry: &EntryJson) -> bool {
    entry.attempts.last().is_some_and(|attempt| attempt.outcome == "failed" && attempt.reason == entry.reason)
}

fn begin_round(marks: &mut Vec<Mark>, round: &mut u32, next: u32) {
    if next > *round {
        *round = next;
        marks.push(Mark { at: None, sign: "═", tone: Tone::Strong, what: format!("round {next}") });
    }
}

fn delivered(attempt: &Attempt, due: Option<Timestamp>) -> Option<Mark> {
    let at = attempt.delivered_at?;
    let lateness = due.map_or(String::new(), |due| match at < due {
        true => format!(", {} before it was due", short(due.saturating_since(at))),
        false => format!(", {} after it was due", short(at.saturating_since(due))),
    });
    Some(mark(at, "●", Tone::Name, format!("attempt {} delivered{lateness}", attempt.attempt)))
}

fn answered(attempt: &Attempt) -> Mark {
    let number = attempt.attempt;
    let took = attempt.delivered_at.map_or(String::new(), |delivered| {
        format!(" after {}", short(attempt.answered_at.saturating_since(delivered)))
    });
    let code = attempt.error_code.as_ref().map_or(String::new(), |code| format!(": {code}"));
    let (sign, tone, what) = match (attempt.outcome.as_str(), attempt.reason.as_deref()) {
        ("completed", _) => ("✔", Tone::Good, format!("attempt {number} completed{took}")),
        ("failed", Some("exhausted")) => ("✗", Tone::Bad, format!("attempt {number}, the last, failed{took}{code}")),
        ("failed", Some("rejected")) => ("✗", Tone::Bad, format!("attempt {number} failed for good{took}{code}")),
        // Its consumer said so, too late or without a retry in time; or nobody did.
        ("failed", Some(reason)) if !took.is_empty() => {
            ("✗", Tone::Bad, format!("attempt {number} failed{took}{code}; {reason}"))
        }
        ("failed", Some(reason)) => ("✗", Tone::Bad, format!("attempt {number} {reason}")),
        (_, _) => ("✗", Tone::Odd, format!("attempt {number} failed{took}{code}")),
    };
    mark(attempt.answered_at, sign, tone, what)
}

/// The attempt that an unfinished entry owes.
fn owed(entry: &EntryJson, now: Timestamp) -> Mark {
    let (number, due) = match entry.next_attempt_at {
        Some(next) => (entry.attempt.saturating_add(1), next),
        None => {
            let wanted = entry.deliver_at.filter(|_| entry.round == 1);
            (entry.attempt, wanted.map_or(entry.updated_at, |wanted| wanted.max(entry.updated_at)))
        }
    };
    if now < due {
        let left = span(due.saturating_since(now));
        return mark(due, "◌", Tone::Faint, format!("attempt {number} is due in {left}"));
    }
    let since = span(now.saturating_since(due));
    mark(due, "●", Tone::Name, format!("attempt {number} was due {since} ago and is not answered"))
}

fn waits(wait: Duration) -> Mark {
    Mark { at: None, sign: "┆", tone: Tone::Faint, what: format!("waits {}", span(wait)) }
}

fn mark(at: Timestamp, sign: &'static str, tone: Tone, what: String) -> Mark {
    Mark { at: Some(at), sign, tone, what }
}

/// A length of time that may be any: `1.532 s`, `5 min 03 s`, `2 h 05 min`, `3 d 04 h`.
fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0..60 => format!("{seconds}.{:03} s", length.subsec_millis()),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..172_800 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A length of time that is usually short: `68 ms`.
fn short(length: Duration) -> String {
    if length < Duration::from_secs(1) { format!("{} ms", length.as_millis()) } else { span(length) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry_json::tests::entry_json;

    fn drawn(status: &str, more: &str, now: &str) -> Vec<String> {
        let now = format!("2026-11-24T{now}Z").parse().unwrap();
        draw(&entry_json(status, more), now, Paint::plain())
    }

    const FIRST: &str = r#"{"round": 1, "attempt": 1, "delivered_at": "2026-11-24T10:00:00.012Z",
        "answered_at": "2026-11-24T10:00:00.530Z", "outcome": "retrying", "next_attempt_at": "2026-11-24T10:00:01.530Z",
        "error_code": "CARD_DECLINED"}"#;

    #[test]
    fn every_attempt_is_drawn_with_its_wait_and_its_lateness() {
        let second = r#"{"round": 1, "attempt": 2, "delivered_at": "2026-11-24T10:00:01.532Z",
            "answered_at": "2026-11-24T10:00:01.600Z", "outcome": "completed"}"#;
        let lines = drawn("completed", &format!(r#""attempts": [{FIRST}, {second}]"#), "11:00:00");
        let expected = [
            "      +0.000 s  ○  written",
            "      +0.012 s  ●  attempt 1 delivered",
            "      +0.530 s  ✗  attempt 1 failed after 518 ms: CARD_DECLINED",
            "                ┆  waits 1.000 s",
            "      +1.532 s  ●  attempt 2 delivered, 2 ms after it was due",
            "      +1.600 s  ✔  attempt 2 completed after 68 ms",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_comes_next_is_drawn_too() {
        let next = format!(r#""attempts": [{FIRST}], "next_attempt_at": "2026-11-24T10:00:01.530Z""#);
        assert_eq!(
            drawn("retrying", &next, "10:00:01").last().unwrap(),
            "      +1.530 s  ◌  attempt 2 is due in 0.530 s"
        );
        let unanswered = "      +1.530 s  ●  attempt 2 was due 3 min 00 s ago and is not answered";
        assert_eq!(drawn("retrying", &next, "10:03:01.530").last().unwrap(), unanswered);
        let delayed = r#""deliver_at": "2026-11-24T12:00:00.000Z""#;
        let expected = ["                ┆  waits 2 h 00 min", "   +2 h 00 min  ◌  attempt 1 is due in 1 h 00 min"];
        assert_eq!(drawn("pending", delayed, "11:00:00")[1..], expected);
    }

    #[test]
    fn the_end_says_why() {
        // A minute's wait that was cut short.
        let first = FIRST.replace("10:00:01.530Z", "10:01:00.530Z");
        let second = r#"{"round": 1, "attempt": 2, "answered_at": "2026-11-24T10:00:10.000Z", "outcome": "failed",
            "reason": "cancelled", "error_code": "WAL_CANCELLED"}"#;
        let lines = drawn("failed", &format!(r#""attempts": [{first}, {second}], "reason": "cancelled""#), "11:00:00");
        assert_eq!(lines[3..], ["                ┆  waits 9.470 s", "     +10.000 s  ✗  attempt 2 cancelled"]);
        // An answer that came first is what the history keeps; the end is told all the same.
        let lines = drawn("failed", &format!(r#""attempts": [{first}], "reason": "expired""#), "11:00:00");
        assert_eq!(lines[4..], ["     +10.000 s  ✗  expired"]);
        let last = FIRST.replace(r#""retrying""#, r#""failed", "reason": "exhausted""#);
        let last = last.replace("next_attempt_at", "ignored");
        let lines = drawn("failed", &format!(r#""attempts": [{last}], "reason": "exhausted""#), "11:00:00");
        assert_eq!(lines.last().unwrap(), "      +0.530 s  ✗  attempt 1, the last, failed after 518 ms: CARD_DECLINED");
    }

    #[test]
    fn rounds_are_told_apart() {
        let second = r#"{"round": 2, "attempt": 2, "answered_at": "2026-11-24T10:00:05.000Z", "outcome": "completed"}"#;
        let lines = drawn("completed", &format!(r#""attempts": [{FIRST}, {second}]"#), "11:00:00");
        assert_eq!(lines[4..], ["                ═  round 2", "      +5.000 s  ✔  attempt 2 completed"]);
    }

    #[test]
    fn spans_are_short() {
        let spans =
            [0, 59_999, 60_000, 3_599_000, 7_500_000, 273_600_000].map(|millis| span(Duration::from_millis(millis)));
        assert_eq!(spans, ["0.000 s", "59.999 s", "1 min 00 s", "59 min 59 s", "2 h 05 min", "3 d 04 h"]);
    }
}
