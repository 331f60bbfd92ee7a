//! The acting part: asks the store until a page is full, without ever holding more than a page's worth of entries.

use wal_model::{Entry, LogId, Tenant};
use wal_store::{After, EntryStore};

use crate::problem::Problem;
use crate::query::{Question, Scan};
use crate::token;

/// Entries asked from the store at a time. With the largest record of 1 MiB and [`crate::routes::CONCURRENCY`] requests this
/// bounds what is in memory; a page of small entries costs a few questions more, which an embedded store does not feel.
pub(crate) const CHUNK: usize = 32;
/// A page ends early when its payloads reach this, in bytes: the rest is on the next one.
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// Chunks that one answer looks through at most: a filter that drops nearly everything still answers, with a token to go on.
pub(crate) const CHUNKS_MAX: usize = 64;

/// Entries, and the token of the next page if there may be one.
pub(crate) struct Answer {
    pub(crate) entries: Vec<Entry>,
    pub(crate) next_page_token: Option<String>,
}

/// The entry of this name; one of another tenant than the asking one is as if it were not there.
pub(crate) async fn one(
    store: &dyn EntryStore,
    log_id: &LogId,
    tenant: Option<&Tenant>,
) -> Result<Option<Entry>, Problem> {
    let found = store.get(&[log_id.key()]).await?.into_iter().next().flatten();
    // The key alone finds it; a log id with another time or namespace is another name, and not this entry's.
    Ok(found.filter(|entry| entry.log_id == *log_id && (tenant.is_none() || entry.tenant.as_ref() == tenant)))
}

pub(crate) async fn many(store: &dyn EntryStore, question: &Question) -> Result<Answer, Problem> {
    match question {
        Question::Scan(scan) => page(store, scan).await,
        // All of them came in one record, so that together they are no larger than a request may be.
        Question::Keys(keys) => {
            let entries = store.get(keys).await?.into_iter().flatten().collect();
            Ok(Answer { entries, next_page_token: None })
        }
    }
}

async fn page(store: &dyn EntryStore, scan: &Scan) -> Result<Answer, Problem> {
    let mut entries = Vec::new();
    let mut bytes = 0;
    let mut after = scan.after;
    for _ in 0..CHUNKS_MAX {
        let chunk = store.scan(&scan.query, after, CHUNK.min(scan.limit - entries.len())).await?;
        for entry in chunk.entries {
            if bytes > 0 && bytes + entry.payload.len() > PAGE_BYTES {
                return Ok(unfinished(entries, scan, after));
            }
            after = Some(After { timestamp: entry.timestamp(), key: entry.key() });
            if *entry.namespace() == scan.namespace {
                bytes += entry.payload.len();
                entries.push(entry);
            }
        }
        if chunk.next.is_none() {
            return Ok(Answer { entries, next_page_token: None });
        }
        after = chunk.next;
        if entries.len() == scan.limit {
            break;
        }
    }
    Ok(unfinished(entries, scan, after))
}

fn unfinished(entries: Vec<Entry>, scan: &Scan, after: Option<After>) -> Answer {
    Answer { entries, next_page_token: after.map(|after| token::encode(scan.fingerprint, after)) }
}
