//! What is stuck: delivered, as far as the log knows, and unanswered for long.

use std::time::Duration;

use serde::Serialize;
use wal_model::entry::Answers;
use wal_model::status::Status;
use wal_model::{Code, Entry, LogId, Namespace, Tenant, Timestamp, Topic};
use wal_store::{EntryStore, Query, Range};

use crate::answer::{CHUNK, CHUNKS_MAX};
use crate::owed::{self, Owed};
use crate::problem::Problem;
use crate::query::{LIMIT, NAMESPACE, Parameters, TENANT};

const OLDER_THAN: &str = "older_than";
/// How long an answer may take if nothing is said.
const OLDER_THAN_DEFAULT: Duration = Duration::from_secs(600);

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Question {
    older_than: Duration,
    namespace: Option<Namespace>,
    tenant: Option<Tenant>,
    limit: usize,
}

/// Entries that are stuck, those that wait longest first. Sent, keep stable.
#[derive(Debug, Serialize)]
pub(crate) struct Stuck {
    entries: Vec<Row>,
    /// Whether there may be more.
    #[serde(rename = "more")]
    has_more: bool,
}

/// An entry that is stuck. Sent, keep stable.
#[derive(Debug, Serialize)]
struct Row {
    log_id: LogId,
    namespace: Namespace,
    tenant_id: Option<Tenant>,
    target: Topic,
    status: Status,
    answers: Answers,
    round: u32,
    attempt: u32,
    due: Timestamp,
    unanswered_seconds: u64,
    deadline: Timestamp,
}

/// Reads the parameters of `GET /v1/stuck`.
pub(crate) fn parse(given: Vec<(String, String)>) -> Result<Question, Problem> {
    let parameters = Parameters::new(given, &[OLDER_THAN, NAMESPACE, TENANT, LIMIT])?;
    let older_than = match parameters.get(OLDER_THAN) {
        Some(text) => humantime::parse_duration(text).map_err(|_| {
            Problem::new(Code::QueryInvalid, format!("{OLDER_THAN} `{text}` is no length of time such as 10m or 2h"))
        })?,
        None => OLDER_THAN_DEFAULT,
    };
    let (namespace, tenant) = (parameters.optional(NAMESPACE)?, parameters.tenant()?);
    Ok(Question { older_than, namespace, tenant, limit: parameters.limit()? })
}

/// Looks for what is stuck.
pub(crate) async fn run(store: &dyn EntryStore, question: &Question, now: Timestamp) -> Result<Stuck, Problem> {
    let older = i64::try_from(question.older_than.as_millis()).unwrap_or(i64::MAX);
    let Some(last) = Timestamp::from_millis(now.as_millis().saturating_sub(older)) else {
        return Ok(Stuck { entries: Vec::new(), has_more: false });
    };
    // Nothing was delivered before it was written; a range ends before its end.
    let range = Range { from: Timestamp::EPOCH, to: last.saturating_add(Duration::from_millis(1)) };
    let (mut entries, mut has_more) = (Vec::new(), false);
    for status in [Status::Pending, Status::Retrying] {
        has_more |= !collect(store, &Query::Status { status, range }, question, now, &mut entries).await?;
    }
    entries.sort_by(|one, other| (one.due, &one.log_id).cmp(&(other.due, &other.log_id)));
    has_more |= entries.len() > question.limit;
    entries.truncate(question.limit);
    Ok(Stuck { entries, has_more })
}

/// Adds the rows of one status; false if there may be more.
async fn collect(
    store: &dyn EntryStore,
    query: &Query,
    question: &Question,
    now: Timestamp,
    rows: &mut Vec<Row>,
) -> Result<bool, Problem> {
    let (full, mut after) = (rows.len() + question.limit, None);
    for _ in 0..CHUNKS_MAX {
        let chunk = store.scan(query, after, CHUNK).await?;
        rows.extend(chunk.entries.iter().filter_map(|entry| row(entry, question, now)));
        after = chunk.next;
        if after.is_none() || rows.len() > full {
            break;
        }
    }
    Ok(after.is_none())
}

fn row(entry: &Entry, question: &Question, now: Timestamp) -> Option<Row> {
    let is_of_namespace = question.namespace.as_ref().is_none_or(|namespace| entry.namespace() == namespace);
    let is_of_tenant = question.tenant.is_none() || entry.tenant == question.tenant;
    if !(is_of_namespace && is_of_tenant) {
        return None;
    }
    let Owed { delivery, due } = owed::stuck(entry, question.older_than, now)?;
    Some(Row {
        log_id: delivery.log_id,
        namespace: entry.namespace().clone(),
        tenant_id: delivery.tenant,
        target: delivery.target,
        status: entry.state.status(),
        answers: entry.answers,
        round: delivery.round,
        attempt: delivery.attempt,
        due,
        unanswered_seconds: now.saturating_since(due).as_secs(),
        deadline: delivery.deadline,
    })
}
