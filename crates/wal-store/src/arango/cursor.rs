//! Asking a statement and reading all of its answer.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::client::{Answer, Repeat};
use super::connection::Connection;
use super::fault::{Class, Fault};
use super::statements::Question;

/// Rows to an answer of the database: with the largest payloads there are, some 200 MiB.
const BATCH: usize = 100;

/// How long a cursor waits for us, in seconds. Dropped calls leave theirs behind, and each holds a snapshot.
const TTL: u32 = 30;

/// How often a question is asked anew whose cursor was lost half read.
const ASKED_ANEW: usize = 3;

/// How an answer is brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Row by row, without the rows pushing what is used often out of memory: a page of documents.
    Page,
    /// At once, complete before the first row leaves: small rows, and whatever changes something.
    Whole,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    query: &'a str,
    bind_vars: &'a Map<String, Value>,
    batch_size: usize,
    ttl: u32,
    options: Options,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Options {
    /// An option that a database does not know is a warning to it; ours protect what is written.
    fail_on_warning: bool,
    fill_block_cache: bool,
    stream: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Batch<'a> {
    #[serde(borrow)]
    result: Vec<&'a RawValue>,
    has_more: bool,
    #[serde(default)]
    id: Option<String>,
}

/// Asks a question of a collection. At most `most` rows are taken; `read` makes each of them what the caller wants.
pub(super) async fn ask<T>(
    connection: &Connection,
    collection: &str,
    question: Question,
    (manner, repeat): (Manner, Repeat),
    most: usize,
    read: impl Fn(&str) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut bound = question.bound;
    bound.insert("@entries".to_owned(), Value::from(collection));
    let request = Request {
        query: question.statement.text,
        bind_vars: &bound,
        batch_size: if manner == Manner::Page { BATCH } else { most.max(1) },
        ttl: TTL,
        options: Options {
            fail_on_warning: true,
            fill_block_cache: manner == Manner::Whole,
            stream: manner == Manner::Page,
        },
    };
    let body = serde_json::to_vec(&request).map_err(Fault::strange)?;
    for _ in 0..ASKED_ANEW {
        match ask_once(connection, body.clone(), repeat, most, &read).await {
            // What changes something is never read by a cursor: see `Manner::Whole`.
            Err(Fault { class: Class::CursorGone, .. }) if manner == Manner::Page => {}
            answered => return answered,
        }
    }
    Err(Fault::new(Class::Unavailable, "the cursor was lost each time the question was asked"))
}

async fn ask_once<T>(
    connection: &Connection,
    body: Vec<u8>,
    repeat: Repeat,
    most: usize,
    read: &impl Fn(&str) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut answer = connection.post("_api/cursor", body, repeat).await?;
    let mut rows = Vec::new();
    loop {
        let Some(cursor) = take(&answer, most, &mut rows, read)? else { return Ok(rows) };
        answer = connection.post_again(&format!("_api/cursor/{cursor}"), answer.endpoint).await.map_err(lost)?;
    }
}

/// Takes the rows of one batch; the cursor, if there are more.
fn take<T>(
    answer: &Answer,
    most: usize,
    rows: &mut Vec<T>,
    read: &impl Fn(&str) -> Result<T, Fault>,
) -> Result<Option<String>, Fault> {
    let batch: Batch<'_> = serde_json::from_slice(&answer.body).map_err(Fault::strange)?;
    if rows.len() + batch.result.len() > most {
        return Err(Fault::strange(format_args!("more than the {most} rows that were asked for")));
    }
    for row in &batch.result {
        rows.push(read(row.get())?);
    }
    if !batch.has_more {
        return Ok(None);
    }
    // It becomes part of a path. A batch without rows would let this go on for ever.
    match batch.id {
        Some(id) if !batch.result.is_empty() && !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            Ok(Some(id))
        }
        _ => Err(Fault::strange("a batch that is not the last and leads to no other")),
    }
}

/// Without its next batch a cursor is of no use, whyever it did not come. Only too large a batch would come no other time either.
fn lost(fault: Fault) -> Fault {
    if matches!(fault.class, Class::TooLarge | Class::Misconfigured | Class::Unauthorised) {
        return fault;
    }
    Fault::new(Class::CursorGone, fault.said)
}

/// How many rows a batch has, and whether it is not the last.
#[cfg(test)]
pub(super) fn shape(batch: &str) -> Result<(usize, bool), serde_json::Error> {
    let batch: Batch<'_> = serde_json::from_str(batch)?;
    Ok((batch.result.len(), batch.has_more))
}
