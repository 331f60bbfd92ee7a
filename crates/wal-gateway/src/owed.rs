//! What an entry owes: the attempt that is under way or comes next, whether it may be answered, cancelled, delivered again. Pure.
//!
//! ```text
//!   stands pending    owed: the attempt it stands at, due when the round began or its first delivery is wanted
//!   stands retrying   owed: the attempt after the one that failed, due when the scheduler said
//!   finished          nothing
//!
//!   before it is due it is parked: nobody has it, so nobody can have done it
//! ```

use std::time::Duration;

use wal_model::delivery::Delivery;
use wal_model::entry::Answers;
use wal_model::status::{Outcome, Reason};
use wal_model::{Code, Entry, Refusal, Timestamp};

/// The attempt that an unfinished entry owes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owed {
    /// The attempt.
    pub delivery: Delivery,
    /// When it was to be delivered, or will be.
    pub due: Timestamp,
}

/// What an entry owes; `None` if it is finished.
pub(crate) fn owed(entry: &Entry) -> Option<Owed> {
    Some(Owed { delivery: Delivery::owed(entry)?, due: entry.owed_since()? })
}

/// The attempt of an entry that may be answered now; `attempt` is the one that is meant, if it was said.
pub(crate) fn answerable(entry: &Entry, attempt: Option<u32>, now: Timestamp) -> Result<Owed, Refusal> {
    let owed = unfinished(entry)?;
    if entry.answers == Answers::None {
        let message = "nobody answers for this entry: it is completed when it is delivered";
        return Err(Refusal::new(Code::AnswerMisplaced, message));
    }
    let (number, due) = (owed.delivery.attempt, owed.due);
    let next =
        if now < due { format!("attempt {number} is due at {due}") } else { format!("attempt {number} is owed") };
    match attempt {
        Some(meant) if meant < number => {
            Err(Refusal::new(Code::AttemptAnswered, format_args!("attempt {meant} is answered already; {next}")))
        }
        Some(meant) if meant > number => {
            Err(Refusal::new(Code::AttemptInvalid, format_args!("there is no attempt {meant} yet; {next}")))
        }
        Some(_) | None if now >= due => Ok(owed),
        Some(_) | None => match entry.state.standing.outcome {
            Outcome::Retrying { .. } => {
                let before = entry.state.standing.attempt;
                Err(Refusal::new(Code::AttemptAnswered, format_args!("attempt {before} is answered already; {next}")))
            }
            Outcome::Pending | Outcome::Failed { .. } | Outcome::Completed { .. } => {
                Err(Refusal::new(Code::AttemptNotDue, format_args!("nothing is delivered yet; {next}")))
            }
        },
    }
}

/// The attempt of an entry that may be failed so that the next one comes at once.
pub(crate) fn retryable(entry: &Entry, attempt: Option<u32>, now: Timestamp) -> Result<Owed, Refusal> {
    let owed = answerable(entry, attempt, now)?;
    let Delivery { attempt, deadline, retry_count, .. } = owed.delivery;
    if owed.delivery.attempt_of_round() > retry_count {
        let message = format!("attempt {attempt} is the last that is allowed; failing it would end the entry");
        return Err(Refusal::new(Code::AttemptInvalid, message));
    }
    if now > deadline {
        let message = format!("the deadline {deadline} has passed, and nothing is delivered after it");
        return Err(Refusal::new(Code::Expired, message));
    }
    Ok(owed)
}

/// The attempt that ends with the round of an entry, where that may be cancelled; `round` is the one that is meant, if it was said.
pub(crate) fn cancellable(entry: &Entry, round: Option<u32>) -> Result<Owed, Refusal> {
    let owed = unfinished(entry)?;
    let standing = entry.state.standing.round;
    match round {
        Some(meant) if meant < standing => {
            let message = format!("round {meant} is over; the entry stands in round {standing}");
            Err(Refusal::new(Code::EntryFinished, message))
        }
        Some(meant) if meant > standing => {
            let message = format!("there is no round {meant} yet; the entry stands in round {standing}");
            Err(Refusal::new(Code::InvalidRequest, message))
        }
        Some(_) | None => Ok(owed),
    }
}

fn unfinished(entry: &Entry) -> Result<Owed, Refusal> {
    owed(entry).ok_or_else(|| {
        let (status, at) = (entry.state.status(), entry.state.standing.at);
        let reason = entry.state.reason().map_or(String::new(), |reason: Reason| format!(" ({reason})"));
        Refusal::new(Code::EntryFinished, format_args!("the entry is finished: {status}{reason} since {at}"))
    })
}

/// What a rescue does with an unfinished entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rescue {
    /// Its attempt is delivered again.
    Deliver(Owed),
    /// It is left alone.
    Leave(Owed, Why),
}

/// Why a rescue leaves an entry alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its deadline has passed.
    Expired,
    /// It is not due yet, and nothing is delivered early.
    NotDue,
    /// It changed so recently that all of it may well be under way.
    Recent,
}

/// Whether entries that changed recently are left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recent {
    /// Those that changed within this time are.
    LeftFor(Duration),
    /// None is: whoever asks knows that what was under way is lost.
    Forced,
}

/// What a rescue does with an entry; `None` if it is finished.
pub(crate) fn rescue(entry: &Entry, recent: Recent, now: Timestamp) -> Option<Rescue> {
    let owed = owed(entry)?;
    let last_change = owed.due.max(entry.state.standing.at);
    let why = match recent {
        _ if now > owed.delivery.deadline => Why::Expired,
        _ if now < owed.due => Why::NotDue,
        Recent::LeftFor(memory) if now.saturating_since(last_change) < memory => Why::Recent,
        Recent::LeftFor(_) | Recent::Forced => return Some(Rescue::Deliver(owed)),
    };
    Some(Rescue::Leave(owed, why))
}

/// What an entry owes, if it was due so long ago and nobody has answered.
pub(crate) fn stuck(entry: &Entry, older_than: Duration, now: Timestamp) -> Option<Owed> {
    owed(entry).filter(|owed| now >= owed.due.saturating_add(older_than))
}
