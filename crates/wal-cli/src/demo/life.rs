//! The life of one entry, played and told: what its consumer answers, when the next attempt is due, how late it comes, how it ends.

use std::time::Instant;

use serde_json::json;
use serde_json::value::RawValue;
use wal_model::receipt::Receipt;
use wal_model::status::Failure;
use wal_model::{LogId, Timestamp};
use wal_sdk::{Attempt, Done, Pending};

use super::scene::{Next, PATIENCE, Stands};
use super::script::{Life, Request};
use super::story::{Played, Story};
use crate::paint::Tone;
use crate::problem::Problem;

/// What the demo's service says when a card does not work.
const DECLINED: &str = "CARD_DECLINED";

/// An entry on its way.
struct Living {
    life: Life,
    played: Played,
    sent: Instant,
    /// The attempt that came last, and when the one after it is due, as far as is known.
    last: u32,
    due: Option<(u32, Timestamp)>,
    /// An attempt that nobody answers.
    held: Option<Attempt>,
    has_ended: bool,
    is_buried: bool,
}

/// What the consumer does with an attempt.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Complete,
    Fail,
    None,
}

impl Life {
    fn answer(self, attempt: u32) -> Answer {
        match self {
            Life::Completes => Answer::Complete,
            Life::FailsAtFirst(fails) if attempt > fails => Answer::Complete,
            Life::FailsAtFirst(_) | Life::Exhausts | Life::IsCancelled => Answer::Fail,
            Life::Expires => Answer::None,
        }
    }
}

impl Living {
    fn is_over(&self) -> bool {
        let is_buried = self.is_buried || !self.life.is_buried();
        self.played.durable_after.is_some() && self.played.delivered.is_ok() && self.has_ended && is_buried
    }

    /// What is still to come, in words.
    fn missing(&self) -> String {
        let operation = self.played.request.operation;
        let what = match self {
            Living { played, .. } if played.durable_after.is_none() => "a receipt for",
            Living { played, .. } if played.delivered.is_err() => "the delivery of",
            Living { has_ended: false, .. } => "the end of",
            Living { .. } => "the dead letter of",
        };
        format!("{what} {operation} within {} s", PATIENCE.as_secs())
    }

    fn is(&self, log_id: &LogId) -> bool {
        self.played.log_id.as_ref() == Some(log_id)
    }
}

impl Story<'_, '_> {
    /// Sends a request and plays the life of its entry to its end.
    pub(super) async fn live(&mut self, request: Request, life: Life) -> Result<Played, Problem> {
        let (mut pending, sent) = self.send(request).await?;
        let played = Played { life: Some(life), ..Played::of(request) };
        let mut living =
            Living { life, played, sent, last: 0, due: None, held: None, has_ended: false, is_buried: false };
        while !living.is_over() && living.played.missing.is_empty() {
            self.go_on(&mut living, &mut pending).await?;
        }
        if let Some(attempt) = living.held.take() {
            // What is held back would hold back what comes behind it.
            attempt.let_expire();
        }
        Ok(living.played)
    }

    async fn go_on(&mut self, living: &mut Living, pending: &mut Pending) -> Result<(), Problem> {
        let waits = living.played.durable_after.is_none().then_some(pending);
        match self.scene.next(waits, PATIENCE).await? {
            Next::Receipt { receipt: Receipt::Stored { log_id, .. }, at } => self.durable(living, log_id, at),
            Next::Receipt { receipt, .. } => {
                let operation = living.played.request.operation;
                living.played.missing.push(format!("{operation} is stored; the receipt says {receipt:?}"));
                Ok(())
            }
            Next::Attempt { attempt, now } => self.came(living, attempt, now),
            Next::Status { stands, at } if living.is(&stands.log_id) => self.stands(living, &stands, at).await,
            Next::DeadLetter { code, log_id: Some(log_id), at } if living.is(&log_id) => {
                living.is_buried = true;
                let detail = format!("in {}, whole, with its reason: {code}", self.scene.dead_letters());
                self.teller.happened(Tone::Good, "kept", at.duration_since(living.sent), &detail)
            }
            // Of steps before.
            Next::Status { .. } | Next::DeadLetter { .. } => Ok(()),
            Next::Nothing => {
                living.played.missing.push(living.missing());
                Ok(())
            }
        }
    }

    fn durable(&self, living: &mut Living, log_id: LogId, at: Instant) -> Result<(), Problem> {
        let after = at.duration_since(living.sent);
        self.teller.happened(Tone::Good, "durable", after, "synced in the store, says the receipt, as")?;
        self.teller.name(&log_id.to_string())?;
        if living.played.log_id.as_ref().is_some_and(|delivered| *delivered != log_id) {
            let operation = living.played.request.operation;
            living.played.missing.push(format!("the delivery of {operation} carries the log id of its receipt"));
        }
        (living.played.log_id, living.played.durable_after) = (Some(log_id), Some(after));
        Ok(())
    }

    /// An attempt is told, and answered as its life wants it.
    fn came(&self, living: &mut Living, attempt: Attempt, now: Timestamp) -> Result<(), Problem> {
        let delivery = attempt.delivery();
        let (number, allowed) = (delivery.attempt, delivery.retry_count.saturating_add(1));
        let after = attempt.arrival().read_at.duration_since(living.sent);
        let detail = match living.due.filter(|(due_attempt, _)| *due_attempt == number) {
            Some((_, due)) => {
                let late = now.as_millis() - due.as_millis();
                living.played.late.push(late);
                if late < 0 {
                    living
                        .played
                        .missing
                        .push(format!("attempt {number} comes when it is due, not {} ms early", -late));
                }
                format!("attempt {number} of {allowed}: due {}, delivered {late:+} ms", time_of_day(due))
            }
            None => format!("on {}, attempt {number} of {allowed}", delivery.target),
        };
        self.teller.happened(Tone::Good, "delivered", after, &detail)?;
        if number == 1 {
            living.played.delivered = Ok(after);
        }
        living.played.log_id.get_or_insert_with(|| delivery.log_id.clone());
        living.last = number;
        match living.life.answer(number) {
            Answer::Complete => attempt.complete(Done::silent()),
            Answer::Fail => {
                attempt.fail(Failure::new(DECLINED, "no funds"));
                let after = living.sent.elapsed();
                self.teller.happened(Tone::Odd, "failed", after, &format!("says its consumer: {DECLINED}"))?;
            }
            Answer::None => living.held = Some(attempt),
        }
        Ok(())
    }

    async fn stands(&self, living: &mut Living, stands: &Stands, at: Instant) -> Result<(), Problem> {
        let after = at.duration_since(living.sent);
        if let Some(next) = stands.next_attempt_at {
            let number = stands.attempt.saturating_add(1);
            // What is told of an attempt after the next one came is no news.
            if number > living.last {
                living.due = Some((number, next));
                let detail = format!("attempt {number} is due {}", time_of_day(next));
                self.teller.happened(Tone::Plain, &stands.status, after, &detail)?;
                if living.life == Life::IsCancelled {
                    self.cancel(living, &stands.log_id).await?;
                }
            }
            return Ok(());
        }
        living.has_ended = true;
        let end = (stands.status.as_str(), stands.reason.as_deref());
        if end != living.life.end() {
            let (status, reason) = living.life.end();
            let operation = living.played.request.operation;
            living.played.missing.push(format!("{operation} ends {status} {}; it is {end:?}", reason.unwrap_or("")));
        }
        let (tone, detail) = match end {
            ("completed", _) => (Tone::Good, "said its consumer, and so it is noted".to_owned()),
            (_, reason) => (Tone::Bad, format!("and will not be tried again: {}", reason.unwrap_or("-"))),
        };
        self.teller.happened(tone, &stands.status, after, &detail)
    }

    async fn cancel(&self, living: &Living, log_id: &LogId) -> Result<(), Problem> {
        let path = format!("/v1/entries/{log_id}/cancel");
        let _taken: Box<RawValue> = self.gateway.post(&path, &json!({})).await?;
        let after = living.sent.elapsed();
        self.teller.happened(Tone::Odd, "cancelled", after, "by somebody, as `wal cancel` does it")
    }
}

/// `09:00:01.300`
fn time_of_day(at: Timestamp) -> String {
    let text = at.to_string();
    text.get(11..23).unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consumers_answer_as_the_life_wants_it() {
        let answers = |life: Life| [1, 2, 3].map(|attempt| life.answer(attempt));
        assert_eq!(answers(Life::FailsAtFirst(2)), [Answer::Fail, Answer::Fail, Answer::Complete]);
        assert_eq!(Life::Completes.answer(1), Answer::Complete);
        assert_eq!(answers(Life::Exhausts), [Answer::Fail, Answer::Fail, Answer::Fail]);
        assert_eq!(Life::Expires.answer(1), Answer::None);
    }

    #[test]
    fn times_of_day_have_milliseconds() {
        assert_eq!(time_of_day("2026-11-24T09:00:01.300Z".parse().unwrap()), "09:00:01.300");
    }
}
