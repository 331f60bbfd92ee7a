//! `wal complete`, `fail`, `retry` and `cancel`: a person answers where no consumer does, through the gateway.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use wal_model::LogId;
use wal_model::lifecycle::Seconds;

use crate::args;
use crate::gateway::Gateway;
use crate::paint::Tone;
use crate::problem::{Exit, Problem};
use crate::screen::{Format, Screen};
use crate::write::json_argument;

/// What the gateway is told. Of all members only those are sent that say something.
#[derive(Default, Serialize)]
struct Told {
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    round: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retryable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<Seconds>,
}

/// What the gateway took.
#[derive(Deserialize)]
struct Taken {
    round: u32,
    attempt: Option<u32>,
}

/// Runs `wal complete`.
pub async fn complete(screen: &Screen, gateway: &Gateway, complete: args::Complete) -> Result<Exit, Problem> {
    let result = match &complete.result {
        Some(given) => Some(json_argument("--result", given).await?),
        None => None,
    };
    let told = Told { attempt: complete.attempt, result, ..Told::default() };
    send(screen, gateway, &complete.log_id, "complete", &told, (Tone::Good, "completed")).await
}

/// Runs `wal fail`.
pub async fn fail(screen: &Screen, gateway: &Gateway, fail: args::Fail) -> Result<Exit, Problem> {
    let told = Told {
        attempt: fail.attempt,
        error_code: Some(fail.error_code),
        error: Some(fail.error),
        retryable: fail.for_good.then_some(false),
        retry_after: fail.retry_after,
        ..Told::default()
    };
    send(screen, gateway, &fail.log_id, "fail", &told, (Tone::Bad, "failed")).await
}

/// Runs `wal retry`.
pub async fn retry(screen: &Screen, gateway: &Gateway, retry: &args::Retry) -> Result<Exit, Problem> {
    let told = Told { attempt: retry.attempt, ..Told::default() };
    send(screen, gateway, &retry.log_id, "retry", &told, (Tone::Odd, "failed, to be tried again at once:")).await
}

/// Runs `wal cancel`.
pub async fn cancel(screen: &Screen, gateway: &Gateway, cancel: &args::Cancel) -> Result<Exit, Problem> {
    let told = Told { round: cancel.round, ..Told::default() };
    send(screen, gateway, &cancel.log_id, "cancel", &told, (Tone::Odd, "cancelled")).await
}

async fn send(
    screen: &Screen,
    gateway: &Gateway,
    log_id: &LogId,
    what: &str,
    told: &Told,
    (tone, word): (Tone, &str),
) -> Result<Exit, Problem> {
    let answer: Box<RawValue> = gateway.post(&format!("/v1/entries/{log_id}/{what}"), told).await?;
    match screen.format {
        Format::Json => screen.line(answer.get())?,
        Format::Table => {
            let taken: Taken = serde_json::from_str(answer.get()).map_err(|error| {
                let what = "understand what the gateway has taken; it is done";
                Problem::new(Exit::Failed, "WAL_GATEWAY_UNREACHABLE", what).because(&error)
            })?;
            let subject = match taken.attempt {
                Some(attempt) => format!("attempt {attempt}"),
                None => format!("round {}", taken.round),
            };
            let name = screen.out.tone(Tone::Strong, &log_id.to_string());
            screen.line(&format!("{} {subject} of {name}", screen.out.tone(tone, word)))?;
            screen.note(&screen.err.tone(Tone::Faint, "`wal entry show` tells what becomes of it, in a moment"));
        }
    }
    Ok(Exit::Done)
}
