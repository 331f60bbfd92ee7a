//! Rescue: unfinished entries of a namespace delivered again from the store, the way back when a topic lost what the store still has.
//!
//! Dry run first. At least once: what was not lost after all comes a second time, with the same log id and attempt. A rescue changes no
//! status, so the entries that were delivered are found again by the same filter; the page token goes on behind them.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use wal_model::ack::Ack;
use wal_model::entry::Answers;
use wal_model::status::{Outcome, Status};
use wal_model::{Code, Entry, LogId, Namespace, OutRecord, Tenant, Timestamp, Topic};
use wal_runtime::brokers::{Found, Shapes};
use wal_store::{After, EntryStore, Page, Query, Range};

use crate::act::Means;
use crate::answer::{CHUNK, CHUNKS_MAX};
use crate::brokers;
use crate::owed::{self, Owed, Recent, Rescue, Why};
use crate::problem::Problem;
use crate::query::{LIMIT_DEFAULT, LIMIT_MAX};
use crate::routes::REQUEST_LIMIT;
use crate::token::{self, Fingerprint};

/// What a rescue is told.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wish {
    namespace: Namespace,
    from: Timestamp,
    to: Timestamp,
    status: Option<Status>,
    tenant: Option<Tenant>,
    limit: Option<usize>,
    page_token: Option<String>,
    #[serde(default = "yes")]
    dry_run: bool,
    #[serde(default)]
    force: bool,
}

fn yes() -> bool {
    true
}

/// Which entries, from where, how many.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    query: Query,
    status: Option<Status>,
    limit: usize,
    after: Option<After>,
    fingerprint: Fingerprint,
}

/// What a rescue did, or would do. Sent, keep stable.
#[derive(Debug, Serialize)]
pub(crate) struct Rescued {
    dry_run: bool,
    entries: Vec<Row>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<Stopped>,
}

/// What it did with one entry. Sent, keep stable.
#[derive(Debug, Serialize)]
struct Row {
    log_id: LogId,
    target: Topic,
    status: Status,
    round: u32,
    attempt: u32,
    due: Timestamp,
    outcome: Fate,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Fate {
    /// A dry run: it would be.
    WouldBeDelivered,
    Delivered,
    /// Nobody knows whether it was.
    Unknown,
    Left,
}

/// Why it ended before its time. Sent, keep stable.
#[derive(Debug, Serialize)]
struct Stopped {
    code: &'static str,
    detail: String,
}

/// Delivers again what is chosen, or says what would be.
pub(crate) async fn run(store: &dyn EntryStore, means: &Means, told: Wish) -> Result<Rescued, Problem> {
    let wanted = wanted(&told)?;
    let recent = if told.force { Recent::Forced } else { Recent::LeftFor(means.memory) };
    let mut rescued = Rescued { dry_run: told.dry_run, entries: Vec::new(), next_page_token: None, stopped: None };
    let mut after = wanted.after;
    let started = Instant::now();
    for _ in 0..CHUNKS_MAX {
        let room = wanted.limit - rescued.entries.len();
        let chunk = store.scan(&wanted.query, after, CHUNK.min(room)).await?;
        let next = chunk.next;
        let (mut rows, records) = plan(chunk, &wanted, means, recent).await?;
        if !told.dry_run && !records.is_empty() {
            let published = brokers::publish(&*means.brokers, records).await;
            match published {
                Ok(()) => settle(&mut rows, Fate::Delivered),
                // Nothing happened before, so that all of it can be asked for again.
                Err(problem) if rescued.entries.is_empty() => return Err(problem),
                Err(problem) => {
                    let is_unknown = problem.code() == Code::OutcomeUnknown;
                    settle(&mut rows, if is_unknown { Fate::Unknown } else { Fate::Left });
                    rescued.entries.extend(rows);
                    rescued.stopped =
                        Some(Stopped { code: problem.code().as_str(), detail: problem.detail().to_owned() });
                    break;
                }
            }
        }
        rescued.entries.extend(rows);
        after = next;
        // What is left is on the next page; whoever asks does not wait for ever.
        if after.is_none() || rescued.entries.len() == wanted.limit || started.elapsed() >= REQUEST_LIMIT {
            break;
        }
    }
    rescued.next_page_token = after.map(|after| token::encode(wanted.fingerprint, after));
    Ok(rescued)
}

fn wanted(told: &Wish) -> Result<Wanted, Problem> {
    let invalid = |detail: String| Problem::new(Code::InvalidRequest, detail);
    let Wish { namespace, from, to, .. } = told;
    if from > to {
        return Err(invalid(format!("from ({from}) is later than to ({to})")));
    }
    if told.status.is_some_and(Status::is_finished) {
        return Err(invalid("status is pending or retrying; what is finished owes nothing".to_owned()));
    }
    let limit = told.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(invalid(format!("limit is {limit}; 1 to {LIMIT_MAX} are allowed")));
    }
    let tenant = told.tenant.as_ref().map(Tenant::as_str);
    let status = told.status.map(Status::as_str);
    let (first, last) = (from.to_string(), to.to_string());
    let parts = [Some("rescue"), Some(namespace.as_str()), Some(&*first), Some(&*last), status, tenant];
    let fingerprint = Fingerprint::of(&parts);
    let place = told.page_token.as_deref().map(|token| token::decode(token, fingerprint)).transpose();
    let after = place.map_err(|unusable| invalid(unusable.to_string()))?;
    let (namespace, range) = (namespace.clone(), Range { from: *from, to: *to });
    let query = match told.tenant.clone() {
        Some(tenant) => Query::Tenant { tenant, namespace, range },
        None => Query::Namespace { namespace, range },
    };
    Ok(Wanted { query, status: told.status, limit, after, fingerprint })
}

/// What to do with each unfinished entry of a chunk, and the records that do it.
async fn plan(
    chunk: Page,
    wanted: &Wanted,
    means: &Means,
    recent: Recent,
) -> Result<(Vec<Row>, Vec<OutRecord>), Problem> {
    let now = means.clock.now();
    let is_wanted = |entry: &Entry| wanted.status.is_none_or(|status| entry.state.status() == status);
    let unfinished = chunk.entries.into_iter().filter(is_wanted);
    let decided: Vec<_> =
        unfinished.filter_map(|entry| owed::rescue(&entry, recent, now).map(|rescue| (entry, rescue))).collect();
    let mut targets: Vec<Topic> = decided.iter().map(|(entry, _)| entry.target.clone()).collect();
    targets.sort();
    targets.dedup();
    let found = if targets.is_empty() { Shapes::new() } else { means.brokers.shapes(targets).await };
    let (mut rows, mut records) = (Vec::new(), Vec::new());
    for (entry, rescue) in decided {
        let row = |owed: &Owed, outcome, why| Row {
            log_id: entry.log_id.clone(),
            target: entry.target.clone(),
            status: entry.state.status(),
            round: owed.delivery.round,
            attempt: owed.delivery.attempt,
            due: owed.due,
            outcome,
            why,
        };
        match rescue {
            Rescue::Leave(owed, why) => rows.push(row(&owed, Fate::Left, Some(told(why, &owed, recent)))),
            Rescue::Deliver(owed) => {
                let delivery = owed.delivery.encode(now, &means.keyring);
                match objection(&delivery, found.get(&entry.target))? {
                    Some(why) => rows.push(row(&owed, Fate::Left, Some(why))),
                    None => {
                        rows.push(row(&owed, Fate::WouldBeDelivered, None));
                        records.push(delivery);
                        records.extend(completion(&entry, &owed, means, now));
                    }
                }
            }
        }
    }
    Ok((rows, records))
}

/// Why a delivery cannot go to its target. Silence is no reason to leave it, and none to send it.
fn objection(delivery: &OutRecord, target: Option<&Found>) -> Result<Option<String>, Problem> {
    let topic = &delivery.topic;
    match target {
        Some(Found::Known { max_message_bytes: limit, .. }) => {
            let size = delivery.size_as_batch();
            let why = || format!("it takes {size} bytes, and its target only {limit}");
            Ok((size > *limit).then(why))
        }
        Some(Found::Missing(_)) => Ok(Some("its target does not exist".to_owned())),
        Some(Found::Denied(why)) => Ok(Some(why.clone())),
        Some(Found::Unanswered(_)) | None => {
            let detail = format!("the brokers do not say whether {topic} exists");
            Err(Problem::new(Code::BrokerUnavailable, detail))
        }
    }
}

/// Whoever publishes the delivery of an entry that nobody answers for completes it in the same transaction.
fn completion(entry: &Entry, owed: &Owed, means: &Means, now: Timestamp) -> Option<OutRecord> {
    let ack = || Ack::of(&owed.delivery, Outcome::Completed { result: None }, None, now);
    (entry.answers == Answers::None).then(|| ack().encode(means.topics.acks(), &means.keyring))
}

fn settle(rows: &mut [Row], fate: Fate) {
    for row in rows.iter_mut().filter(|row| row.outcome == Fate::WouldBeDelivered) {
        row.outcome = fate;
        row.why = (fate == Fate::Left).then(|| "it was not published".to_owned());
    }
}

fn told(why: Why, owed: &Owed, recent: Recent) -> String {
    match why {
        Why::Expired => format!("its deadline {} has passed", owed.delivery.deadline),
        Why::NotDue => format!("it is not due before {}", owed.due),
        Why::Recent => {
            let memory = match recent {
                Recent::LeftFor(memory) => humantime::format_duration(memory).to_string(),
                Recent::Forced => "no time".to_owned(),
            };
            format!("it changed within {memory} and may well be under way; force delivers it all the same")
        }
    }
}
