//! Answers and cancels that a person gives: read, decided by [`crate::owed`], and published exactly as a consumer would.
//!
//! ```text
//!   complete ─┐                    ┌─▶ wal.acks      completed, echoing the delivery rebuilt from the store
//!   fail      ├─▶ entry ─▶ owed? ──┼─▶ wal.failures  failed, the same way; a retry is a failure that wishes for one at once
//!   retry     │                    └─▶ wal.cancels and wal.acks, in one transaction
//!   cancel   ─┘
//! ```
//!
//! Nothing is changed here: what becomes of it is decided by the scheduler and noted by the status service, as ever. So all of it may
//! happen twice: an attempt is decided once, and a cancelled round is cancelled.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use wal_model::ack::Ack;
use wal_model::answer::{Completed, Failed, Wish};
use wal_model::cancel::Cancel;
use wal_model::lifecycle::{DELAY_MAX, Seconds};
use wal_model::seal::Keyring;
use wal_model::status::{Failure, Outcome, Reason};
use wal_model::topics::Topics;
use wal_model::{Clock, Code, Entry, InRecord, LogId, OutRecord};

use crate::brokers::{self, Brokers};
use crate::owed::{self, Owed};
use crate::problem::Problem;

/// What a gateway needs to write.
#[derive(Clone)]
pub struct Means {
    /// The cluster.
    pub brokers: Arc<dyn Brokers>,
    /// The keys that seal.
    pub keyring: Keyring,
    /// What the log's own topics are called.
    pub topics: Topics,
    /// What says whether something is due.
    pub clock: Arc<dyn Clock>,
    /// How long the scheduler remembers what it decided.
    pub memory: Duration,
}

/// What was taken. Sent, keep stable.
#[derive(Serialize)]
pub(crate) struct Taken<'a> {
    log_id: &'a LogId,
    round: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    answer: &'static str,
}

/// What `complete` is told.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Complete {
    attempt: Option<u32>,
    result: Option<Box<RawValue>>,
}

/// What `fail` is told.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fail {
    attempt: Option<u32>,
    error_code: String,
    error: String,
    retryable: Option<bool>,
    retry_after: Option<Seconds>,
}

/// What `retry` is told.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retry {
    attempt: Option<u32>,
}

/// What `cancel` is told.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CancelRound {
    round: Option<u32>,
}

/// The error code of an attempt that was failed to be tried again.
const RETRY_REQUESTED: &str = "retry_requested";

/// Completes the attempt that is owed.
pub(crate) async fn complete<'a>(means: &Means, entry: &'a Entry, told: Complete) -> Result<Taken<'a>, Problem> {
    let owed = owed::answerable(entry, told.attempt, means.clock.now())?;
    let delivered = delivered(&owed, &means.keyring);
    let answer = Completed::encode(&delivered, told.result.as_deref(), means.topics.acks());
    brokers::publish(&*means.brokers, vec![answer]).await?;
    Ok(taken(entry, &owed, "completed"))
}

/// Fails the attempt that is owed.
pub(crate) async fn fail<'a>(means: &Means, entry: &'a Entry, told: Fail) -> Result<Taken<'a>, Problem> {
    let wish = wish(told.retryable, told.retry_after)?;
    if told.error_code.is_empty() {
        return Err(Problem::new(Code::InvalidRequest, "error_code is empty"));
    }
    let owed = owed::answerable(entry, told.attempt, means.clock.now())?;
    let failure = Failure { code: told.error_code, message: told.error };
    publish_failure(means, &owed, &failure, &wish).await?;
    Ok(taken(entry, &owed, "failed"))
}

/// Fails the attempt that is owed, and wishes for the next one at once.
pub(crate) async fn retry<'a>(means: &Means, entry: &'a Entry, told: &Retry) -> Result<Taken<'a>, Problem> {
    let owed = owed::retryable(entry, told.attempt, means.clock.now())?;
    let message = "somebody asked for the next attempt at once".to_owned();
    let failure = Failure { code: RETRY_REQUESTED.to_owned(), message };
    publish_failure(means, &owed, &failure, &Wish::After(Duration::ZERO)).await?;
    Ok(taken(entry, &owed, "failed"))
}

/// Cancels the round that an entry stands in.
pub(crate) async fn cancel<'a>(means: &Means, entry: &'a Entry, told: &CancelRound) -> Result<Taken<'a>, Problem> {
    let owed = owed::cancellable(entry, told.round)?;
    let (round, deadline) = (owed.delivery.round, owed.delivery.deadline);
    let cancel = Cancel { log_id: entry.log_id.clone(), round, deadline };
    let (reason, code) = (Reason::Cancelled, Code::Cancelled.as_str().to_owned());
    let failure = Failure { code, message: "somebody cancelled the round".to_owned() };
    let ack = Ack::of(&owed.delivery, Outcome::Failed { reason }, Some(failure), means.clock.now());
    let Means { brokers, keyring, topics, .. } = means;
    let records = vec![cancel.encode(topics.cancels(), keyring), ack.encode(topics.acks(), keyring)];
    brokers::publish(&**brokers, records).await?;
    Ok(Taken { log_id: &entry.log_id, round, attempt: None, answer: "cancelled" })
}

async fn publish_failure(means: &Means, owed: &Owed, failure: &Failure, wish: &Wish) -> Result<(), Problem> {
    let delivered = delivered(owed, &means.keyring);
    let answer = Failed::encode(&delivered, failure, wish, means.topics.failures());
    brokers::publish(&*means.brokers, vec![answer]).await
}

fn taken<'a>(entry: &'a Entry, owed: &Owed, answer: &'static str) -> Taken<'a> {
    Taken { log_id: &entry.log_id, round: owed.delivery.round, attempt: Some(owed.delivery.attempt), answer }
}

/// The delivery as a consumer would have found it. When it was really published is not known here; it was due then.
fn delivered(owed: &Owed, keyring: &Keyring) -> InRecord {
    let OutRecord { topic, key, value, headers, .. } = owed.delivery.encode(owed.due, keyring);
    InRecord { cluster: Arc::from(""), topic, partition: 0, offset: 0, time: None, key, value, headers }
}

fn wish(is_retryable: Option<bool>, retry_after: Option<Seconds>) -> Result<Wish, Problem> {
    match (is_retryable, retry_after.map(Seconds::duration)) {
        (Some(false), Some(_)) => {
            let detail = "retryable: false and retry_after contradict each other; give one of them";
            Err(Problem::new(Code::InvalidRequest, detail))
        }
        (_, Some(after)) if after > DELAY_MAX => {
            let detail = format!("retry_after is longer than {} s, the longest delay", DELAY_MAX.as_secs());
            Err(Problem::new(Code::InvalidRequest, detail))
        }
        (Some(false), None) => Ok(Wish::Never),
        (Some(true) | None, Some(after)) => Ok(Wish::After(after)),
        (Some(true) | None, None) => Ok(Wish::None),
    }
}
