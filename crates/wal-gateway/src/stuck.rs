//! What is stuck: delivered, as far as the log knows, and unanswered for long.

use std::time::Duration;

use serde::Serialize;
use wal_model::entry::Answers;
use wal_model::status::Status;
use wal_model::{Code, Entry, LogId, Namespace, Tenant, Timestamp, Topic};
use wal_runtime::overview::{Attempt, Unanswered};
use wal_store::{EntryStore, Query, Range};

use crate::answer::{CHUNK, CHUNKS_MAX};
use crate::owed::{self, Owed};
use crate::problem::Problem;
use crate::query::{LIMIT, NAMESPACE, Parameters, TENANT};

const OLDER_THAN: &str = "older_than";
/// How long an answer may take if nothing is said.
const OLDER_THAN_DEFAULT: Duration = Duration::from_secs(600);

/// How many chunks of each status are looked through for the oldest that is due: what is written first is due first, but for what is
/// wanted later or waits for a retry.
const OLDEST_CHUNKS: usize = 4;

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

/// The attempt that has been due for longest and has no answer, of the unfinished entries that were written first: a page of the index
/// for each status, and a few more only where nothing on it is due yet.
pub async fn oldest_unanswered(store: &dyn EntryStore, now: Timestamp) -> Unanswered {
    let mut oldest: Option<Attempt> = None;
    for status in [Status::Pending, Status::Retrying] {
        match oldest_of(store, status, now).await {
            Ok(found) => oldest = oldest.into_iter().chain(found).min_by_key(|attempt| attempt.due),
            Err(error) => return Unanswered::Unknown(error.to_string()),
        }
    }
    oldest.map_or(Unanswered::Nothing, Unanswered::Oldest)
}

async fn oldest_of(
    store: &dyn EntryStore,
    status: Status,
    now: Timestamp,
) -> Result<Option<Attempt>, wal_store::Error> {
    let query = Query::Status { status, range: Range { from: Timestamp::EPOCH, to: Timestamp::MAX } };
    let mut after = None;
    for _ in 0..OLDEST_CHUNKS {
        let chunk = store.scan(&query, after, CHUNK).await?;
        let due = chunk.entries.iter().filter_map(|entry| unanswered(entry, now));
        let oldest = due.min_by_key(|attempt| attempt.due);
        after = chunk.next;
        if oldest.is_some() || after.is_none() {
            return Ok(oldest);
        }
    }
    Ok(None)
}

fn unanswered(entry: &Entry, now: Timestamp) -> Option<Attempt> {
    let Owed { delivery, due } = owed::stuck(entry, Duration::ZERO, now)?;
    Some(Attempt {
        log_id: delivery.log_id,
        namespace: entry.namespace().clone(),
        target: delivery.target,
        attempt: delivery.attempt,
        due,
        unanswered_seconds: now.saturating_since(due).as_secs(),
    })
}

#[cfg(test)]
mod tests {
    use wal_store::embedded::Embedded;
    use wal_store::samples::{WRITTEN_AT, ack, entry_in, retrying, time};

    use super::*;

    const SECOND: i64 = 1000;

    fn written(second: i64, name: &str) -> Entry {
        entry_in("orders", WRITTEN_AT + second * SECOND, name)
    }

    fn name_of(answer: Unanswered) -> Option<(LogId, u32, u64)> {
        match answer {
            Unanswered::Oldest(attempt) => Some((attempt.log_id, attempt.attempt, attempt.unanswered_seconds)),
            Unanswered::Nothing => None,
            Unanswered::Unknown(why) => panic!("{why}"),
        }
    }

    #[tokio::test]
    async fn the_oldest_unanswered_is_the_attempt_that_was_due_first() {
        let folder = tempfile::tempdir().unwrap();
        let store = Embedded::open(folder.path()).unwrap();
        let now = time(WRITTEN_AT + 100 * SECOND);
        assert_eq!(name_of(oldest_unanswered(&store, now).await), None);

        // More than a chunk of what is wanted later stands before it.
        let later = time(WRITTEN_AT + 1000 * SECOND);
        let parked = (0..CHUNK + 8).map(|nth| Entry { deliver_at: Some(later), ..written(0, &format!("later {nth}")) });
        store.insert(&parked.collect::<Vec<_>>()).await.unwrap();
        assert_eq!(name_of(oldest_unanswered(&store, now).await), None);
        let (one, other) = (written(10, "one"), written(20, "other"));
        store.insert(&[other.clone(), one.clone()]).await.unwrap();
        assert_eq!(name_of(oldest_unanswered(&store, now).await), Some((one.log_id.clone(), 1, 90)));

        // Its next attempt is due long after the other's first.
        store.apply(&[ack(&one, retrying(&one, 1))]).await.unwrap();
        assert_eq!(name_of(oldest_unanswered(&store, now).await), Some((other.log_id, 1, 80)));
    }
}
