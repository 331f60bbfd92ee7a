//! Every AQL text there is, and the index that serves it. `schema` has the database explain them and fails where an index is not used.
//!
//! Values go in as bind parameters only. A page is one index range: it begins at `@from`, the greater of the range's beginning and the place's
//! time, and what the place's own time has up to the place is skipped by comparing arrays, which the optimiser cannot turn into an OR of
//! two ranges. SORT names the index's attributes in its order, so nothing is sorted. Texts are compared by the database's collation;
//! times and keys have one width and only digits, `-`, `:`, `.`, `T`, `Z` and lower-case letters, which every collation sorts as bytes.

use serde_json::{Map, Value, json};
use wal_model::{EntryKey, Timestamp};

use super::indexes::{BY_CORRELATION, BY_DEADLINE, BY_FINISH, BY_NAMESPACE, BY_REQUEST, BY_STATUS, BY_TENANT, Index};
use crate::{After, Query, Range};

/// A text and what serves it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Statement {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
    pub(super) served_by: ServedBy,
}

/// What serves a statement.
#[derive(Clone, Copy, Debug)]
pub(super) enum ServedBy {
    /// The index over `_key` that every collection has.
    Primary,
    /// One of ours.
    Index(&'static Index),
}

/// A statement with everything it needs but the collection.
pub(super) struct Question {
    pub(super) statement: &'static Statement,
    pub(super) bound: Map<String, Value>,
}

/// One namespace. Index: equal namespace, range of times.
static NAMESPACE: Statement = Statement {
    name: "namespace",
    text: "FOR d IN @@entries \
           FILTER d.namespace == @namespace && d.timestamp >= @from && d.timestamp < @to \
           FILTER [d.timestamp, d._key] > [@after_time, @after_key] \
           SORT d.namespace, d.timestamp, d._key LIMIT @limit RETURN d",
    served_by: ServedBy::Index(&BY_NAMESPACE),
};

/// One tenant in one namespace. Index: both equal, range of times.
static TENANT: Statement = Statement {
    name: "tenant",
    text: "FOR d IN @@entries \
           FILTER d.metadata.tenant_id == @tenant && d.namespace == @namespace && d.timestamp >= @from && d.timestamp < @to \
           FILTER [d.timestamp, d._key] > [@after_time, @after_key] \
           SORT d.metadata.tenant_id, d.namespace, d.timestamp, d._key LIMIT @limit RETURN d",
    served_by: ServedBy::Index(&BY_TENANT),
};

/// What a correlation id links, in whichever namespace.
static CORRELATION: Statement = Statement {
    name: "correlation",
    text: "FOR d IN @@entries \
           FILTER d.correlation_id == @correlation && d.timestamp >= @from \
           FILTER [d.timestamp, d._key] > [@after_time, @after_key] \
           SORT d.correlation_id, d.timestamp, d._key LIMIT @limit RETURN d",
    served_by: ServedBy::Index(&BY_CORRELATION),
};

/// Where entries stand. Index: equal status, range of times.
static STATUS: Statement = Statement {
    name: "status",
    text: "FOR d IN @@entries \
           FILTER d.status == @status && d.timestamp >= @from && d.timestamp < @to \
           FILTER [d.timestamp, d._key] > [@after_time, @after_key] \
           SORT d.status, d.timestamp, d._key LIMIT @limit RETURN d",
    served_by: ServedBy::Index(&BY_STATUS),
};

/// One request of one tenant, or of none: a null finds what has no tenant, since the index keeps that too.
static REQUEST: Statement = Statement {
    name: "request",
    text: "FOR d IN @@entries \
           FILTER d.request_id == @request && d.metadata.tenant_id == @tenant && d.timestamp >= @from \
           FILTER [d.timestamp, d._key] > [@after_time, @after_key] \
           SORT d.request_id, d.metadata.tenant_id, d.timestamp, d._key LIMIT @limit RETURN d",
    served_by: ServedBy::Index(&BY_REQUEST),
};

/// Unfinished entries by deadline. `@from` is a text, and null, which finished entries have there, is below every text.
static EXPIRED: Statement = Statement {
    name: "expired",
    text: "FOR d IN @@entries \
           FILTER d.deadline >= @from && d.deadline <= @to \
           FILTER [d.deadline, d._key] > [@after_time, @after_key] \
           SORT d.deadline, d._key LIMIT @limit RETURN d",
    served_by: ServedBy::Index(&BY_DEADLINE),
};

/// Finished entries by the time they finished; only their names, for nobody purges by payload.
static FINISHED: Statement = Statement {
    name: "finished",
    text: "FOR d IN @@entries \
           FILTER d.finished_at >= @from && d.finished_at < @to \
           FILTER [d.finished_at, d._key] > [@after_time, @after_key] \
           SORT d.finished_at, d._key LIMIT @limit RETURN { log_id: d.log_id, at: d.finished_at }",
    served_by: ServedBy::Index(&BY_FINISH),
};

/// Entries by key, in no order.
static GET: Statement =
    Statement { name: "get", text: "FOR d IN @@entries FILTER d._key IN @keys RETURN d", served_by: ServedBy::Primary };

/// What an apply has to know of entries: whose they are, how they stand, and in which revision that was.
static STATES: Statement = Statement {
    name: "states",
    text: "FOR d IN @@entries FILTER d._key IN @keys \
           RETURN { key: d._key, rev: d._rev, log_id: d.log_id, tenant: d.metadata.tenant_id, state: d.state }",
    served_by: ServedBy::Primary,
};

/// Writes standings over the revisions they were made from. Who is not in the answer was changed meanwhile, or removed. What a standing
/// has not is null in its row, so that it goes; objects are replaced, not merged, or an old outcome would show through.
static APPLY: Statement = Statement {
    name: "apply",
    text: "FOR row IN @rows FOR d IN @@entries FILTER d._key == row.key && d._rev == row.rev \
           UPDATE d WITH row.standing IN @@entries OPTIONS { mergeObjects: false, keepNull: false, waitForSync: true } \
           RETURN NEW._key",
    served_by: ServedBy::Primary,
};

/// Removes those that are finished long enough, as they stand in this very statement.
static REMOVE: Statement = Statement {
    name: "remove",
    text: "FOR d IN @@entries FILTER d._key IN @keys && d.finished_at >= \"\" && d.finished_at < @before \
           REMOVE d IN @@entries OPTIONS { waitForSync: true } RETURN OLD._key",
    served_by: ServedBy::Primary,
};

/// A page of the answers to a query.
pub(super) fn page(query: &Query, after: Option<After>, limit: usize) -> Question {
    let (statement, range, mut bound) = match query {
        Query::Namespace { namespace, range } => (&NAMESPACE, Some(range), json!({ "namespace": namespace })),
        Query::Tenant { tenant, namespace, range } => {
            (&TENANT, Some(range), json!({ "tenant": tenant, "namespace": namespace }))
        }
        Query::Correlation { correlation_id } => (&CORRELATION, None, json!({ "correlation": correlation_id })),
        Query::Status { status, range } => (&STATUS, Some(range), json!({ "status": status })),
        Query::Request { tenant, request_id } => (&REQUEST, None, json!({ "tenant": tenant, "request": request_id })),
    };
    let from = range.map(|Range { from, .. }| *from).max(after.map(|after| after.timestamp));
    if let Some(Range { to, .. }) = range {
        bound["to"] = json!(to);
    }
    question(statement, bound, from, after.map(|After { timestamp, key }| (timestamp, key)), limit)
}

/// A page of the unfinished whose deadline is at or before `at`.
pub(super) fn expired(at: Timestamp, after: Option<(Timestamp, EntryKey)>, limit: usize) -> Question {
    question(&EXPIRED, json!({ "to": at }), after.map(|(deadline, _)| deadline), after, limit)
}

/// A page of those that finished before a time.
pub(super) fn finished(before: Timestamp, after: Option<(Timestamp, EntryKey)>, limit: usize) -> Question {
    question(&FINISHED, json!({ "to": before }), after.map(|(at, _)| at), after, limit)
}

/// Entries by key.
pub(super) fn get(keys: &[EntryKey]) -> Question {
    Question { statement: &GET, bound: object(json!({ "keys": keys })) }
}

/// States by key.
pub(super) fn states(keys: &[EntryKey]) -> Question {
    Question { statement: &STATES, bound: object(json!({ "keys": keys })) }
}

/// Standings to be written.
pub(super) fn apply(rows: Vec<Value>) -> Question {
    Question { statement: &APPLY, bound: object(json!({ "rows": rows })) }
}

/// Finished entries to be removed.
pub(super) fn remove(keys: &[EntryKey], before: Timestamp) -> Question {
    Question { statement: &REMOVE, bound: object(json!({ "keys": keys, "before": before })) }
}

/// One question of each statement, with values of the kind it is asked with.
pub(super) fn samples() -> Vec<Question> {
    use wal_model::status::Status;
    use wal_model::{Id, Namespace, Tenant};

    let key = EntryKey::from(uuid::Uuid::nil());
    let range = Range { from: Timestamp::EPOCH, to: Timestamp::MAX };
    let namespace = Namespace::parse("n").expect("a letter is a namespace");
    let tenant = Tenant::parse("t").expect("a letter is a tenant");
    let id = Id::parse("i").expect("a letter is an id");
    let queries = [
        Query::Namespace { namespace: namespace.clone(), range },
        Query::Tenant { tenant: tenant.clone(), namespace, range },
        Query::Correlation { correlation_id: id.clone() },
        Query::Status { status: Status::Pending, range },
        Query::Request { tenant: Some(tenant), request_id: id },
    ];
    let after = Some(After { timestamp: Timestamp::EPOCH, key });
    let row = json!({ "key": key, "rev": "", "standing": {} });
    // Two of them: one key could be looked up in ways that many are not.
    let keys = [key, EntryKey::from(uuid::Uuid::max())];
    let mut samples: Vec<Question> = queries.iter().map(|query| page(query, after, 1)).collect();
    samples.extend([
        expired(Timestamp::EPOCH, Some((Timestamp::EPOCH, key)), 1),
        finished(Timestamp::EPOCH, Some((Timestamp::EPOCH, key)), 1),
        get(&keys),
        states(&keys),
        apply(vec![row.clone(), row]),
        remove(&keys, Timestamp::EPOCH),
    ]);
    samples
}

fn question(
    statement: &'static Statement,
    bound: Value,
    from: Option<Timestamp>,
    after: Option<(Timestamp, EntryKey)>,
    limit: usize,
) -> Question {
    let text = |time: Option<Timestamp>| time.map_or_else(String::new, |time| time.to_string());
    let mut bound = object(bound);
    bound.insert("from".to_owned(), json!(text(from)));
    bound.insert("after_time".to_owned(), json!(text(after.map(|(time, _)| time))));
    bound.insert("after_key".to_owned(), json!(after.map_or_else(String::new, |(_, key)| key.to_string())));
    bound.insert("limit".to_owned(), json!(limit));
    Question { statement, bound }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => unreachable!("bind parameters are made as objects, not as {other}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::samples::{namespace, time};

    /// The names after `@` in a text.
    fn parameters(text: &str) -> BTreeSet<String> {
        text.split('@')
            .skip(1)
            .map(|rest| rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect::<String>())
            .filter(|name| !name.is_empty())
            .collect()
    }

    /// An unused bind parameter is an error to the database, and a missing one too.
    #[test]
    fn every_parameter_of_a_text_is_bound_and_no_other() {
        for question in samples() {
            let mut bound: BTreeSet<String> = question.bound.keys().cloned().collect();
            bound.insert("entries".to_owned());
            assert_eq!(bound, parameters(question.statement.text), "{}", question.statement.name);
        }
    }

    #[test]
    fn a_page_begins_where_the_later_of_range_and_place_is() {
        let query = Query::Namespace { namespace: namespace("a"), range: Range { from: time(5), to: time(9) } };
        let from = |after: Option<i64>| {
            let key = EntryKey::from(uuid::Uuid::nil());
            let after = after.map(|at| After { timestamp: time(at), key });
            page(&query, after, 1).bound["from"].as_str().unwrap().to_owned()
        };
        assert_eq!([from(None), from(Some(3)), from(Some(7))], [5, 5, 7].map(|at| time(at).to_string()));
        let correlation = Query::Correlation { correlation_id: crate::samples::id("c") };
        assert_eq!(page(&correlation, None, 1).bound["from"], "");
    }

    #[test]
    fn a_page_is_sorted_as_its_index_is() {
        for question in samples() {
            let ServedBy::Index(index) = question.statement.served_by else { continue };
            let fields: Vec<String> = index.fields.iter().map(|field| format!("d.{field}")).collect();
            let sort = format!("SORT {} LIMIT", fields.join(", "));
            assert!(question.statement.text.contains(&sort), "{}: {sort}", question.statement.name);
        }
    }
}
