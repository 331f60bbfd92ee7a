//! What became of a request: a line for a person, a line of JSON for a script, and the sum of it all.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;
use wal_model::receipt::Receipt;
use wal_model::{Code, Id};
use wal_sdk::{Answer, SendError};

use crate::paint::{Paint, Tone};
use crate::problem::{Exit, Problem};
use crate::screen::{Format, Screen};

/// What became of a request.
#[derive(Debug)]
pub struct Outcome {
    /// Where the request came from, in a file.
    line: Option<u64>,
    request_id: Option<Id>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Stored { log_ids: Vec<String>, target: Option<String>, receipt: Receipt, after: Duration, in_log: Duration },
    Refused { error_code: String, error: String, is_retryable: bool },
    NotSent { error: String },
    Unknown { why: String },
}

/// An outcome as `-o json` shows it: the receipt's own fields, and where it came from. Printed, keep stable.
#[derive(Default, Serialize)]
struct OutcomeJson<'a> {
    /// Null where nobody knows.
    success: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_ids: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    durable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retryable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
}

const NOT_SENT: &str = "WAL_NOT_SENT";
const UNKNOWN: &str = "WAL_OUTCOME_UNKNOWN";

impl Outcome {
    /// The request was not acknowledged by the broker.
    pub fn not_sent(line: Option<u64>, request_id: Option<Id>, error: &SendError) -> Outcome {
        let mut text = error.to_string();
        let mut next = std::error::Error::source(error);
        while let Some(source) = next {
            text = format!("{text}: {source}");
            next = source.source();
        }
        let kind = match error {
            SendError::Unknown { .. } => Kind::Unknown { why: text },
            SendError::Invalid(_) | SendError::CorrelationInUse | SendError::NotWritten { .. } => {
                Kind::NotSent { error: text }
            }
        };
        Outcome { line, request_id, kind }
    }

    /// The log answered, or did not in time.
    pub fn answered(
        line: Option<u64>,
        request_id: Option<Id>,
        answer: Answer,
        sent: Instant,
        acked: Instant,
    ) -> Outcome {
        let (receipt, arrived) = match answer {
            Answer::Receipt { receipt, arrived } => (receipt, arrived),
            Answer::Unknown(why) => return Outcome { line, request_id, kind: Kind::Unknown { why: why.to_string() } },
        };
        let request_id = receipt.request_id().cloned().or(request_id);
        let after = arrived.saturating_duration_since(sent);
        let in_log = arrived.saturating_duration_since(acked);
        let (log_ids, target) = match &receipt {
            Receipt::Stored { log_id, target, .. } => (vec![log_id.to_string()], Some(target.to_string())),
            Receipt::BatchStored { log_ids, .. } => (log_ids.iter().map(ToString::to_string).collect(), None),
            Receipt::Refused { error_code, error, is_retryable, .. } => {
                let (error_code, error) = (error_code.clone(), error.clone());
                return Outcome {
                    line,
                    request_id,
                    kind: Kind::Refused { error_code, error, is_retryable: *is_retryable },
                };
            }
        };
        Outcome { line, request_id, kind: Kind::Stored { log_ids, target, receipt, after, in_log } }
    }

    /// Shows it.
    pub fn show(&self, screen: &Screen) -> Result<(), Problem> {
        match screen.format {
            Format::Json => screen.json(&self.json()),
            Format::Table => screen.line(&self.text(screen.out)),
        }
    }

    fn json(&self) -> OutcomeJson<'_> {
        let request_id = self.request_id.as_ref().map(Id::as_str);
        let common = OutcomeJson { request_id, line: self.line, ..OutcomeJson::default() };
        match &self.kind {
            Kind::Stored { receipt: Receipt::Stored { log_id, .. }, log_ids, target, .. } => OutcomeJson {
                success: Some(true),
                log_id: log_ids.first().map(String::as_str),
                durable: Some(true),
                timestamp: Some(log_id.timestamp().to_string()),
                namespace: Some(log_id.namespace().as_str()),
                target: target.as_deref(),
                ..common
            },
            Kind::Stored { log_ids, .. } => {
                OutcomeJson { success: Some(true), log_ids: Some(log_ids), durable: Some(true), ..common }
            }
            Kind::Refused { error_code, error, is_retryable } => OutcomeJson {
                success: Some(false),
                error: Some(error),
                error_code: Some(error_code),
                retryable: Some(*is_retryable),
                ..common
            },
            Kind::NotSent { error } => OutcomeJson {
                success: Some(false),
                error: Some(error),
                error_code: Some(NOT_SENT),
                retryable: Some(true),
                ..common
            },
            Kind::Unknown { why } => {
                OutcomeJson { error: Some(why), error_code: Some(UNKNOWN), retryable: Some(true), ..common }
            }
        }
    }

    fn text(&self, paint: Paint) -> String {
        let line = self.line.map_or(String::new(), |line| paint.tone(Tone::Faint, &format!("line {line:<5} ")));
        let of = self.request_id.as_ref().map_or(String::new(), |id| format!("  (request {id})"));
        match &self.kind {
            Kind::Stored { log_ids, target, after, in_log, .. } => {
                let word = paint.tone(Tone::Good, "stored  ");
                let names: Vec<_> = log_ids.iter().map(|log_id| paint.tone(Tone::Strong, log_id)).collect();
                let target =
                    target.as_ref().map_or(String::new(), |topic| format!(" → {}", paint.tone(Tone::Name, topic)));
                let after = paint.tone(
                    Tone::Faint,
                    &format!("durable after {} ms, {} of them in the log", after.as_millis(), in_log.as_millis()),
                );
                format!("{line}{word} {}{target}  {after}", names.join("\n         "))
            }
            Kind::Refused { error_code, error, .. } => {
                format!("{line}{} {error_code}: {error}{of}", paint.tone(Tone::Bad, "refused "))
            }
            Kind::NotSent { error } => format!("{line}{} failed to {error}{of}", paint.tone(Tone::Bad, "not sent")),
            Kind::Unknown { why } => format!("{line}{} {why}{of}", paint.tone(Tone::Odd, "unknown ")),
        }
    }
}

/// How many of each.
#[derive(Debug, Default)]
pub struct Tally {
    stored: u64,
    refused: u64,
    not_sent: u64,
    unknown: u64,
    first_code: Option<String>,
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, outcome: &Outcome) {
        match &outcome.kind {
            Kind::Stored { .. } => self.stored += 1,
            Kind::Refused { error_code, .. } => {
                self.refused += 1;
                self.first_code.get_or_insert_with(|| error_code.clone());
            }
            Kind::NotSent { .. } => self.not_sent += 1,
            Kind::Unknown { .. } => self.unknown += 1,
        }
    }

    /// How the command ends. What is unknown weighs most: the others have their answer.
    pub fn exit(&self) -> Exit {
        match (self.stored, self.refused + self.not_sent, self.unknown) {
            (_, _, 1..) => Exit::Unknown,
            (_, 0, 0) => Exit::Done,
            (0, _, 0) => Exit::Failed,
            (_, _, 0) => Exit::Partial,
        }
    }

    /// What to try, if not all went well.
    pub fn hint(&self) -> Option<&'static str> {
        if self.unknown > 0 {
            return Some(
                "send the same request again, with the same request id: it is stored once; is a writer running?",
            );
        }
        if self.not_sent > 0 {
            return Some("the same again; is Kafka up, and is the request smaller than its topic takes?");
        }
        self.first_code.as_deref().map(|code| match Code::parse(code) {
            Some(Code::TargetUnknown) => "make the target topic, or correct --target; then send the same request again",
            Some(Code::TargetInvalid) => "name a target: --target TOPIC",
            Some(Code::IdentityConflict) => "another id or idempotency key for another operation",
            Some(code) if code.is_retryable() => "the same request again, a little later",
            Some(_) | None => "change the request: the same one will be refused again",
        })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} stored, {} refused, {} unknown", self.stored, self.refused, self.unknown)?;
        if self.not_sent > 0 {
            write!(f, ", {} not sent", self.not_sent)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wal_sdk::Why;

    use super::*;

    const STORED: &[u8] = br#"{"success":true,"log_id":
        "wal_orders_20261124T100000000Z_0191d1a4-0000-5000-8000-000000000000","durable":true,
        "timestamp":"2026-11-24T10:00:00.000Z","namespace":"orders","target":"billing","request_id":"r-1"}"#;
    const REFUSED: &[u8] =
        br#"{"success":false,"error":"no field retry_cout","error_code":"WAL_UNKNOWN_FIELD","retryable":false}"#;

    fn answered(json: &[u8]) -> Outcome {
        let sent = Instant::now();
        let answer =
            Answer::Receipt { receipt: Receipt::from_json(json).unwrap(), arrived: sent + Duration::from_millis(12) };
        Outcome::answered(Some(7), None, answer, sent, sent + Duration::from_millis(3))
    }

    fn unknown() -> Outcome {
        let (id, now) = (Id::parse("r-9").unwrap(), Instant::now());
        Outcome::answered(None, Some(id), Answer::Unknown(Why::Timeout(Duration::from_secs(30))), now, now)
    }

    #[test]
    fn scripts_read_the_receipts_own_fields() {
        let json = serde_json::to_value(answered(STORED).json()).unwrap();
        let sent: serde_json::Value = serde_json::from_slice(STORED).unwrap();
        for (name, value) in sent.as_object().unwrap() {
            assert_eq!(&json[name], value, "{name}");
        }
        assert_eq!(json["line"], 7);
        let refused = serde_json::to_string(&answered(REFUSED).json()).unwrap();
        assert!(
            refused.starts_with(r#"{"success":false,"error":"no field retry_cout","error_code":"WAL_UNKNOWN_FIELD""#)
        );
        let unknown = serde_json::to_string(&unknown().json()).unwrap();
        assert!(unknown.starts_with(r#"{"success":null,"error":"no receipt came within 30s""#), "{unknown}");
    }

    #[test]
    fn people_read_a_line() {
        let text = answered(STORED).text(Paint::plain());
        assert!(
            text.starts_with("line 7     stored   wal_orders_2026")
                && text.ends_with("→ billing  durable after 12 ms, 9 of them in the log")
        );
        let text = unknown().text(Paint::plain());
        assert_eq!(text, "unknown  no receipt came within 30s  (request r-9)");
    }

    #[test]
    fn the_exit_code_says_how_much_went_well() {
        let exit = |outcomes: &[Outcome]| {
            let mut tally = Tally::default();
            outcomes.iter().for_each(|outcome| tally.add(outcome));
            tally.exit()
        };
        assert_eq!(exit(&[answered(STORED)]), Exit::Done);
        assert_eq!(exit(&[answered(REFUSED)]), Exit::Failed);
        assert_eq!(exit(&[answered(STORED), answered(REFUSED)]), Exit::Partial);
        assert_eq!(exit(&[answered(STORED), answered(REFUSED), unknown()]), Exit::Unknown);
    }
}
