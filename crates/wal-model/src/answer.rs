//! Answers: what a consumer says of a delivery. Every header of the delivery is echoed, so that an answer proves what it answers.
//!
//! ```text
//!   delivery ──▶ consumer ──┬── completed: `{"status": "completed", "result"?}` ──▶ wal.acks
//!                           └── failed: the delivery's value, an error, a wish ──▶ wal.failures
//! ```

use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::code::{Code, Refusal};
use crate::delivery::{Delivery, NotADelivery};
use crate::hash::ContentHash;
use crate::id::derive_from_record;
use crate::lifecycle::{DELAY_MAX, Seconds};
use crate::name::Topic;
use crate::record::{self, Header, InRecord, OutRecord};
use crate::seal::{Broken, Keyring};
use crate::status::{Event, Failure, Outcome};
use crate::wire::{self, AnswerJson, AnswerStatusJson};

/// The longest result that is kept, in bytes of JSON; of a longer one the beginning is kept, as a string.
pub const RESULT_LEN: usize = 16 * 1024;
/// The longest error message that is kept, in bytes.
pub const ERROR_LEN: usize = 4 * 1024;
/// The longest error code that is kept, in bytes.
pub const ERROR_CODE_LEN: usize = 256;
/// The error code of a failure that names none.
pub const UNNAMED: &str = "failed";

/// The delivery that an answer echoes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Echo {
    /// The delivery. Its payload is there only where the answer brings it.
    pub delivery: Delivery,
    /// When it was published, by the publisher's clock.
    pub sent: Timestamp,
    /// Whether it was a replayed copy: an answer to it changes nothing.
    pub is_replay: bool,
}

/// A completed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    /// The delivery.
    pub echo: Echo,
    /// What the consumer had to say, as JSON text.
    pub result: Option<String>,
}

/// A failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The delivery.
    pub echo: Echo,
    /// The error.
    pub failure: Failure,
    /// What the consumer would like to happen.
    pub wish: Wish,
}

/// What a consumer would like to happen after a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// What the lifecycle says.
    None,
    /// Retrying cannot help.
    Never,
    /// A retry after this time.
    After(Duration),
    /// It cannot be understood, so that the lifecycle decides.
    Unreadable(String),
}

/// Why a record is no answer that can be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAnswer {
    /// It echoes no delivery.
    #[error("it does not echo a delivery: {0}")]
    NoDelivery(#[from] NotADelivery),
    /// Its seal is not one of ours, or does not fit.
    #[error("the seal of the delivery it echoes is not accepted: {0}")]
    Seal(#[from] Broken),
    /// Its value cannot be read.
    #[error("its value is no answer: {0}")]
    Unreadable(String),
    /// Another topic is for this kind of answer.
    #[error("{0}")]
    Misplaced(&'static str),
}

impl NotAnAnswer {
    /// The refusal that goes with it.
    pub fn refusal(&self) -> Refusal {
        let code = match self {
            NotAnAnswer::NoDelivery(_) | NotAnAnswer::Unreadable(_) => Code::AnswerInvalid,
            NotAnAnswer::Seal(_) => Code::SealInvalid,
            NotAnAnswer::Misplaced(_) => Code::AnswerMisplaced,
        };
        Refusal::new(code, self)
    }
}

/// Whether a record of `wal.acks` comes from a consumer: our own services' events echo no delivery.
pub fn is_from_consumer(record: &InRecord) -> bool {
    record::last(&record.headers, wire::CE_WALATTEMPT).is_some()
        || record::last_str(&record.headers, wire::CE_TYPE).is_none_or(|kind| !kind.starts_with(wire::TYPE_STATUS))
}

impl Completed {
    /// Reads a consumer's record of `wal.acks`.
    pub fn decode(record: &InRecord, keyring: &Keyring) -> Result<Completed, NotAnAnswer> {
        let (echo, hash) = echo(record, Bytes::new())?;
        verify(&echo, hash, record, keyring)?;
        let value = record.value.as_deref().unwrap_or_default();
        if record::last(&record.headers, wire::CE_WALERRORCODE).is_some() {
            return Err(NotAnAnswer::Misplaced("a failure belongs on the failures topic"));
        }
        if value.is_empty() {
            return Err(NotAnAnswer::Unreadable("it is empty".to_owned()));
        }
        let why = match serde_json::from_slice::<AnswerJson<'_>>(value) {
            Ok(answer) if answer.status == "completed" => {
                return Ok(Completed { echo, result: answer.result.map(kept_result) });
            }
            Ok(_) => "its status is not `completed`".to_owned(),
            Err(error) => error.to_string(),
        };
        // A failure is known by its status, whatever stands beside it.
        match serde_json::from_slice::<AnswerStatusJson<'_>>(value) {
            Ok(AnswerStatusJson { status }) if ["failed", "retrying", "pending"].contains(&&*status) => {
                Err(NotAnAnswer::Misplaced(
                    "from a consumer only `completed` is taken here; a failure belongs on the failures topic",
                ))
            }
            Ok(_) | Err(_) => Err(NotAnAnswer::Unreadable(why)),
        }
    }

    /// The answer to a delivery, as it goes to `topic`. Of a result that is too long to be kept only what is kept is sent: the
    /// topic might not take more.
    pub fn encode(delivery: &InRecord, result: Option<&RawValue>, topic: Topic) -> OutRecord {
        let value = match result.map(kept_result) {
            None => r#"{"status":"completed"}"#.to_owned(),
            Some(result) => format!(r#"{{"status":"completed","result":{result}}}"#),
        };
        answer(delivery, Bytes::from(value), Vec::new(), topic)
    }

    /// What it says of the entry. The record it stands in gives it time and id.
    pub fn event(&self, record: &InRecord) -> Event {
        let outcome = Outcome::Completed { result: self.result.clone() };
        event(&self.echo, record, outcome, None)
    }
}

impl Failed {
    /// Reads a record of `wal.failures`.
    pub fn decode(record: &InRecord, keyring: &Keyring) -> Result<Failed, NotAnAnswer> {
        let payload = record.value.clone().unwrap_or_default();
        let (echo, hash) = echo(record, payload)?;
        if hash != ContentHash::of(&echo.delivery.payload) {
            return Err(NotADelivery::OtherPayload.into());
        }
        verify(&echo, hash, record, keyring)?;
        let text = |name| record::last(&record.headers, name).map(|value| String::from_utf8_lossy(value).into_owned());
        let code = text(wire::CE_WALERRORCODE).filter(|code| !code.is_empty()).unwrap_or_else(|| UNNAMED.to_owned());
        let message = text(wire::CE_WALERRORMESSAGE).unwrap_or_default();
        let failure = Failure { code: cut(code, ERROR_CODE_LEN), message: cut(message, ERROR_LEN) };
        Ok(Failed { echo, failure, wish: Wish::read(&record.headers) })
    }

    /// The answer to a delivery, as it goes to `topic`.
    pub fn encode(delivery: &InRecord, failure: &Failure, wish: &Wish, topic: Topic) -> OutRecord {
        let mut headers = vec![
            Header::new(wire::CE_WALERRORCODE, cut(failure.code.clone(), ERROR_CODE_LEN)),
            Header::new(wire::CE_WALERRORMESSAGE, cut(failure.message.clone(), ERROR_LEN)),
        ];
        match wish {
            Wish::None | Wish::Unreadable(_) => {}
            Wish::Never => headers.push(Header::new(wire::CE_WALRETRYABLE, "false")),
            Wish::After(delay) => {
                headers.push(Header::new(wire::CE_WALRETRYAFTER, spelled(*delay).to_string()));
            }
        }
        answer(delivery, delivery.value.clone().unwrap_or_default(), headers, topic)
    }

    /// What becomes of the entry by it. The record it stands in gives it time and id.
    pub fn event(&self, record: &InRecord, outcome: Outcome) -> Event {
        event(&self.echo, record, outcome, Some(self.failure.clone()))
    }
}

impl Wish {
    fn read(headers: &[Header]) -> Wish {
        let text = |name| record::last(headers, name).map(|value| String::from_utf8_lossy(value));
        match text(wire::CE_WALRETRYABLE).as_deref() {
            Some("false") => return Wish::Never,
            None | Some("true") => {}
            Some(other) => return Wish::Unreadable(cut(format!("{}: {other}", wire::CE_WALRETRYABLE), ERROR_CODE_LEN)),
        }
        match text(wire::CE_WALRETRYAFTER) {
            None => Wish::None,
            Some(after) => match after.parse::<Seconds>() {
                Ok(after) => Wish::After(after.duration()),
                Err(_) => Wish::Unreadable(cut(format!("{}: {after}", wire::CE_WALRETRYAFTER), ERROR_CODE_LEN)),
            },
        }
    }
}

fn echo(record: &InRecord, payload: Bytes) -> Result<(Echo, ContentHash), NotADelivery> {
    let (delivery, hash, sent) = Delivery::read(&record.headers, payload)?;
    let sent = sent.ok_or(NotADelivery::Missing(wire::CE_WALSENT))?;
    let is_replay = record::last(&record.headers, wire::CE_WALREPLAY).is_some();
    Ok((Echo { delivery, sent, is_replay }, hash))
}

fn verify(echo: &Echo, hash: ContentHash, record: &InRecord, keyring: &Keyring) -> Result<(), Broken> {
    let seal = record::last_str(&record.headers, wire::CE_WALSEAL);
    echo.delivery.verify_with(seal, hash, echo.is_replay, keyring)
}

fn answer(delivery: &InRecord, value: Bytes, more: Vec<Header>, topic: Topic) -> OutRecord {
    let mut headers = delivery.headers.clone();
    headers.extend(more);
    let key = record::last(&delivery.headers, wire::CE_ID).cloned();
    OutRecord { topic, partition: None, key, value: Some(value), headers }
}

fn event(echo: &Echo, record: &InRecord, outcome: Outcome, failure: Option<Failure>) -> Event {
    let Delivery { round, round_first, deadline, attempt, .. } = echo.delivery;
    let coordinates = record.coordinates();
    let (id, at) = (derive_from_record(&coordinates, outcome.status().as_str()), coordinates.time);
    Event { id, round, round_first, deadline, attempt, at, delivered_at: Some(echo.sent), outcome, failure }
}

/// A wish as it can be spelled: never shorter than it is meant, but no longer than any delay may be.
fn spelled(wish: Duration) -> Seconds {
    let millis = wish.min(DELAY_MAX).as_nanos().div_ceil(1_000_000);
    Seconds::new(Duration::from_millis(u64::try_from(millis).expect("the longest delay is 30 days")))
}

fn kept_result(result: &RawValue) -> String {
    let text = result.get();
    if text.len() <= RESULT_LEN {
        return text.to_owned();
    }
    // Quotes take two bytes, and escapes up to six for one.
    serde_json::Value::String(cut(text.to_owned(), RESULT_LEN / 6)).to_string()
}

/// At most `limit` bytes, cut between characters.
fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let dots = '…';
        text.truncate(text.floor_char_boundary(limit - dots.len_utf8()));
        text.push(dots);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::delivery::tests::delivery;
    use crate::seal::tests::keyring;

    fn record(out: OutRecord) -> InRecord {
        InRecord {
            cluster: Arc::from("c"),
            topic: out.topic,
            partition: 0,
            offset: 3,
            time: Timestamp::from_millis(5000),
            key: out.key,
            value: out.value,
            headers: out.headers,
        }
    }

    fn delivered() -> InRecord {
        record(delivery().encode(Timestamp::from_millis(4000).unwrap(), &keyring()))
    }

    fn acks() -> Topic {
        Topic::parse("wal.acks").unwrap()
    }

    #[test]
    fn a_completed_attempt_round_trips_with_its_result() {
        let result: &RawValue = serde_json::from_str(r#"{"a": [1, 2]}"#).unwrap();
        let record = record(Completed::encode(&delivered(), Some(result), acks()));
        assert!(is_from_consumer(&record));
        let completed = Completed::decode(&record, &keyring()).unwrap();
        assert_eq!(completed.result.as_deref(), Some(r#"{"a": [1, 2]}"#));
        assert_eq!(completed.echo.delivery, Delivery { payload: Bytes::new(), ..delivery() });
        let event = completed.event(&record);
        assert_eq!((event.at.as_millis(), event.delivered_at.map(Timestamp::as_millis)), (5000, Some(4000)));
        assert_eq!(event.id, completed.event(&record).id);
    }

    #[test]
    fn a_failed_attempt_round_trips_with_its_wish() {
        let failure = Failure { code: "CARD_DECLINED".into(), message: "no ünits".into() };
        for wish in [Wish::None, Wish::Never, Wish::After(Duration::from_millis(2500))] {
            let record = record(Failed::encode(&delivered(), &failure, &wish, acks()));
            let failed = Failed::decode(&record, &keyring()).unwrap();
            assert_eq!((&failed.failure, &failed.wish), (&failure, &wish));
            assert_eq!(failed.echo.delivery, delivery());
        }
    }

    #[test]
    fn a_wish_is_neither_shortened_nor_too_long_to_be_read() {
        let failure = Failure { code: "X".into(), message: String::new() };
        let read_back = |wish| {
            let failed = record(Failed::encode(&delivered(), &failure, &Wish::After(wish), acks()));
            Failed::decode(&failed, &keyring()).unwrap().wish
        };
        assert_eq!(read_back(Duration::from_nanos(1)), Wish::After(Duration::from_millis(1)));
        assert_eq!(read_back(Duration::MAX), Wish::After(DELAY_MAX));
    }

    #[test]
    fn what_was_not_delivered_so_is_refused() {
        let failure = Failure { code: "X".into(), message: String::new() };
        type Spoil = fn(&mut InRecord);
        let spoil: [(&str, Spoil); 6] = [
            ("attempt", |record| set(record, wire::CE_WALATTEMPT, "2")),
            ("target", |record| set(record, wire::CE_WALTARGET, "elsewhere")),
            ("lifecycle", |record| set(record, wire::CE_WALRETRIES, "100")),
            ("replay", |record| set(record, wire::CE_WALREPLAY, "1")),
            ("deadline", |record| set(record, wire::CE_EXPIRYTIME, "2099-01-01T00:00:00.000Z")),
            ("log id", |record| {
                set(record, wire::CE_ID, "wal_orders_20241201T100000000Z_4c6e2eca-8810-581c-8592-1b908a4e49b9")
            }),
        ];
        for (what, spoil) in spoil {
            let mut failed = record(Failed::encode(&delivered(), &failure, &Wish::None, acks()));
            spoil(&mut failed);
            assert!(matches!(Failed::decode(&failed, &keyring()), Err(NotAnAnswer::Seal(Broken::Forged))), "{what}");
        }
        let mut failed = record(Failed::encode(&delivered(), &failure, &Wish::None, acks()));
        failed.value = Some(Bytes::from_static(b"other"));
        assert_eq!(Failed::decode(&failed, &keyring()), Err(NotADelivery::OtherPayload.into()));
        failed.headers.clear();
        let refusal = Failed::decode(&failed, &keyring()).unwrap_err().refusal();
        assert_eq!(refusal.code, Code::AnswerInvalid);
    }

    fn set(record: &mut InRecord, name: &'static str, value: &'static str) {
        record.headers.retain(|header| !header.is(name));
        record.headers.push(Header::new(name, value));
    }

    #[test]
    fn values_that_are_no_answer_are_told_apart() {
        let with = |value: &'static str| {
            let mut record = record(Completed::encode(&delivered(), None, acks()));
            record.value = Some(Bytes::from_static(value.as_bytes()));
            Completed::decode(&record, &keyring()).map(|completed| completed.result).map_err(|why| why.refusal().code)
        };
        assert_eq!(with(r#"{"status": "completed"}"#), Ok(None));
        for failed in [r#"{"status": "failed"}"#, r#"{"status": "failed", "error": "it was down"}"#] {
            assert_eq!(with(failed), Err(Code::AnswerMisplaced), "{failed}");
        }
        for value in ["", "completed", "{}", r#"{"status": "done"}"#, r#"{"status": "completed", "version": 2}"#, "[]"]
        {
            assert_eq!(with(value), Err(Code::AnswerInvalid), "{value}");
        }
        let failure = Failure { code: "X".into(), message: String::new() };
        let misplaced = record(Failed::encode(&delivered(), &failure, &Wish::None, acks()));
        assert!(matches!(Completed::decode(&misplaced, &keyring()), Err(NotAnAnswer::Misplaced(_))));
    }

    #[test]
    fn wishes_that_make_no_sense_leave_it_to_the_lifecycle() {
        let wish = |name, value: &'static str| Wish::read(&[Header::new(name, value)]);
        assert_eq!(wish(wire::CE_WALRETRYAFTER, "0"), Wish::After(Duration::ZERO));
        assert_eq!(wish(wire::CE_WALRETRYAFTER, "3153600000"), Wish::After(Duration::from_secs(3_153_600_000)));
        for text in ["-1", "NaN", "soon", "", "1e9", "inf"] {
            assert!(matches!(wish(wire::CE_WALRETRYAFTER, text), Wish::Unreadable(_)), "{text}");
        }
        assert!(matches!(wish(wire::CE_WALRETRYABLE, "maybe"), Wish::Unreadable(_)));
    }

    #[test]
    fn long_texts_are_cut() {
        let failure = Failure { code: "c".repeat(10_000), message: "ö".repeat(10_000_000) };
        let failed = Failed::decode(&record(Failed::encode(&delivered(), &failure, &Wish::None, acks())), &keyring());
        let failure = failed.unwrap().failure;
        assert!(failure.code.len() <= ERROR_CODE_LEN && failure.message.len() <= ERROR_LEN);
        let long = serde_json::to_string(&"\"".repeat(RESULT_LEN)).unwrap();
        let long: &RawValue = serde_json::from_str(&long).unwrap();
        let kept = kept_result(long);
        assert!(kept.len() <= RESULT_LEN && serde_json::from_str::<String>(&kept).is_ok());
        let sent = Completed::encode(&delivered(), Some(long), acks());
        assert!(sent.value.as_ref().is_some_and(|value| value.len() <= RESULT_LEN + 100));
        assert_eq!(Completed::decode(&record(sent), &keyring()).unwrap().result, Some(kept));
    }
}
