//! What writes: takes all rows first, then is done row by row; whoever started the writer takes it back if a row fails.

use std::sync::Arc;

use serde_json::Value;

use super::Answer;
use crate::aql::ast::{Clause, Modify, Name, Query, Verb};
use crate::aql::eval::{Context, Held, Notes, Row};
use crate::aql::options::{self, ModifyOptions};
use crate::aql::refuse;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::collection::Document;
use crate::store::write::{How, Outcome, Writer};

/// Where in the statement, what, and how.
pub(super) type Modification<'q> = (usize, &'q Modify, ModifyOptions);

pub(super) fn modifications<'q>(store: &Store, query: &'q Query, notes: &Notes) -> Result<Vec<Modification<'q>>> {
    let mut found = Vec::new();
    for (at, clause) in query.clauses.iter().enumerate() {
        let Clause::Modify(modify) = clause else {
            continue;
        };
        let options = options::modify(&modify.options, modify.verb, store.version)?;
        for name in &options.unknown {
            notes.warn(1539, format!("unknown attribute '{name}' in OPTIONS"))?;
        }
        found.push((at, modify, options));
    }
    Ok(found)
}

/// Evaluates everything before it writes anything: the rows are those of one snapshot.
pub(super) fn apply(
    writer: &mut Writer<'_>,
    database: &str,
    notes: &Notes,
    modify: &Modify,
    options: &ModifyOptions,
    rows: Vec<Row>,
    answer: &mut Answer,
) -> Result<Vec<Row>> {
    let context = Context { store: writer.store, database, notes };
    let mut writes = Vec::with_capacity(rows.len());
    for row in rows {
        let subject = context.eval(&modify.subject, &row)?.into_owned();
        let change = modify.change.as_ref().map(|change| Ok(context.eval(change, &row)?.into_owned())).transpose()?;
        writes.push((row, subject, change));
    }
    let (old, new): (Name, Name) = ("OLD".into(), "NEW".into());
    let mut written = Vec::with_capacity(writes.len());
    for (row, subject, change) in writes {
        match write(writer, modify, options, &subject, change.as_ref()) {
            Ok(outcome) => {
                answer.writes_executed += u64::from(outcome.new.is_some() || modify.verb == Verb::Remove);
                let held = |document: Option<Arc<Document>>| document.map_or(Held::of(Value::Null), Held::Document);
                written.push(row.with(&old, held(outcome.old)).with(&new, held(outcome.new)));
            }
            Err(error) if options.ignores_errors && matches!(error.num, 1202 | 1210) => answer.writes_ignored += 1,
            // Whatever stands before the collection's name, here nobody named a revision in a header.
            Err(error) if error.num == 1200 => return Err(Error { status: 409, ..error }),
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

fn write(
    writer: &mut Writer<'_>,
    modify: &Modify,
    options: &ModifyOptions,
    subject: &Value,
    change: Option<&Value>,
) -> Result<Outcome> {
    let collection = &*modify.collection;
    if modify.verb == Verb::Insert {
        return writer.insert(collection, subject, &options.write);
    }
    let key = key_of(subject)?;
    let expected = subject["_rev"].as_str().filter(|_| !options.write.ignores_revisions);
    let body = || change.unwrap_or(subject).as_object().ok_or_else(Error::not_an_object);
    match modify.verb {
        Verb::Update => writer.change(collection, key, expected, body()?, How::Update, &options.write),
        Verb::Replace => writer.change(collection, key, expected, body()?, How::Replace, &options.write),
        Verb::Remove | Verb::Insert => writer.remove(collection, key, expected),
    }
}

fn key_of(subject: &Value) -> Result<&str> {
    let key = match subject {
        Value::String(key) => Some(key.as_str()),
        _ => subject["_key"].as_str().or_else(|| subject["_id"].as_str()),
    };
    let key = key.ok_or_else(|| refuse(1221, "illegal document key"))?;
    Ok(key.split_once('/').map_or(key, |(_, key)| key))
}
