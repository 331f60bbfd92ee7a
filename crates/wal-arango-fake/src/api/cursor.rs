//! Queries and their cursors. A result is computed at once; what differs with `stream` is what the answer tells, and when.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::Version;
use crate::aql::parse::parse;
use crate::aql::run::{self, Answer, Limits};
use crate::error::{Error, Result};
use crate::http::{Reply, Request};
use crate::store::Store;

/// How long a cursor lives without being asked, unless the query says otherwise.
const TTL: Duration = Duration::from_secs(30);
const BATCH_SIZE: usize = 1000;

pub(crate) struct Cursor {
    id: u64,
    /// What is still to be fetched.
    rows: std::vec::IntoIter<Value>,
    batch_size: usize,
    count: Option<usize>,
    extra: Value,
    is_stream: bool,
    allows_retry: bool,
    /// The number of the batch that was fetched last, and what it was.
    fetched: u64,
    last: Option<Map<String, Value>>,
    ttl: Duration,
    deadline: Instant,
}

pub(super) fn answer(store: &mut Store, request: &Request, method: &str, path: &[&str]) -> Result<Reply> {
    match (method, path) {
        ("POST", []) => create(store, request),
        ("POST" | "PUT", [id]) => next(store, request, id, None),
        ("POST", [id, batch]) => next(store, request, id, Some(batch)),
        ("DELETE", [id]) => delete(store, request, id),
        ("PUT", []) => Err(Error::bad("expecting POST /_api/cursor/<cursor-id>")),
        _ => Err(super::unknown(request)),
    }
}

struct Options {
    batch_size: usize,
    ttl: Duration,
    counts: bool,
    is_stream: bool,
    allows_retry: bool,
    limits: Limits,
}

impl Options {
    fn parse(body: &Map<String, Value>) -> Result<Self> {
        let options = body.get("options").unwrap_or(&Value::Null);
        let flag = |name: &str| options[name].as_bool().unwrap_or(false);
        let batch_size = match body.get("batchSize") {
            None | Some(Value::Null) => BATCH_SIZE,
            Some(size) => match size.as_u64().and_then(|size| usize::try_from(size).ok()) {
                Some(size @ 1..) => size,
                _ => return Err(Error::new(400, 10, "expecting non-zero value for 'batchSize'")),
            },
        };
        let ttl = body.get("ttl").and_then(Value::as_f64).filter(|ttl| *ttl > 0.0);
        Ok(Self {
            batch_size,
            ttl: ttl.map_or(TTL, Duration::from_secs_f64),
            counts: body.get("count").and_then(Value::as_bool).unwrap_or(false),
            is_stream: flag("stream"),
            allows_retry: flag("allowRetry"),
            limits: Limits {
                counts_fully: flag("fullCount"),
                fails_on_warning: flag("failOnWarning"),
                memory: body.get("memoryLimit").and_then(Value::as_u64).filter(|limit| *limit > 0),
            },
        })
    }
}

fn create(store: &mut Store, request: &Request) -> Result<Reply> {
    let body = request.object()?;
    let text = body.get("query").and_then(Value::as_str).ok_or_else(|| Error::new(400, 1502, "query is empty"))?;
    let options = Options::parse(&body)?;
    let binds = bind_values(&body)?;
    let started = Instant::now();
    let version = store.version;
    let parsed = parse(text, Some(&binds)).map_err(|error| while_parsing(version, error))?;
    run::check(store, &request.database, &parsed.query).map_err(|error| while_parsing(version, error))?;
    let answer = run::run(store, &request.database, &parsed.query, options.limits).map_err(while_executing)?;
    let extra = extra(version, &answer, started.elapsed());
    let count = (options.counts && !options.is_stream).then_some(answer.rows.len());
    let mut cursor = Cursor {
        id: store.next_tick(),
        rows: answer.rows.into_iter(),
        batch_size: options.batch_size,
        count,
        extra,
        is_stream: options.is_stream,
        allows_retry: options.allows_retry,
        fetched: 0,
        last: None,
        ttl: options.ttl,
        deadline: started + options.ttl,
    };
    let batch = cursor.fetch();
    if cursor.is_kept() {
        store.database_mut(&request.database)?.cursors.insert(cursor.id, cursor);
    }
    Ok(Reply::object(201, batch))
}

pub(super) fn bind_values(body: &Map<String, Value>) -> Result<Map<String, Value>> {
    match body.get("bindVars") {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(binds)) => Ok(binds.clone()),
        Some(_) => Err(Error::new(400, 1551, "expecting object for 'bindVars'")),
    }
}

fn while_parsing(version: Version, error: Error) -> Error {
    let is_bare = error.num == 1203 && version == Version::V3_12;
    if is_bare || error.num == 1502 {
        return error;
    }
    Error { message: format!("AQL: {} (while parsing)", error.message).into(), ..error }
}

fn while_executing(error: Error) -> Error {
    Error { message: format!("AQL: {} (while executing)", error.message).into(), ..error }
}

fn extra(version: Version, answer: &Answer, took: Duration) -> Value {
    let warnings: Vec<Value> =
        answer.warnings.iter().map(|warning| json!({ "code": warning.code, "message": warning.message })).collect();
    let mut stats = json!({
        "writesExecuted": answer.writes_executed,
        "writesIgnored": answer.writes_ignored,
        "scannedFull": answer.scanned_full,
        "scannedIndex": answer.scanned_index,
        "cursorsCreated": 0,
        "cursorsRearmed": 0,
        "cacheHits": 0,
        "cacheMisses": 0,
        "filtered": answer.filtered,
        "httpRequests": 0,
        "executionTime": took.as_secs_f64(),
        "peakMemoryUsage": 0,
        "intermediateCommits": 0,
    });
    match version {
        Version::V3_11 => {}
        Version::V3_12 => {
            for name in ["documentLookups", "seeks"] {
                stats[name] = 0.into();
            }
            stats["searchParallelism"] = 1.into();
        }
    }
    if let Some(count) = answer.full_count {
        stats["fullCount"] = count.into();
    }
    json!({ "warnings": warnings, "stats": stats })
}

impl Cursor {
    fn has_more(&self) -> bool {
        self.rows.len() > 0
    }

    /// With `allowRetry` the last batch can still be asked for again, so the cursor stays until it is deleted.
    fn is_kept(&self) -> bool {
        self.has_more() || (self.allows_retry && self.fetched > 1)
    }

    fn fetch(&mut self) -> Map<String, Value> {
        let rows: Vec<Value> = self.rows.by_ref().take(self.batch_size).collect();
        self.fetched += 1;
        self.deadline = Instant::now() + self.ttl;
        let mut batch = Map::new();
        batch.insert("result".into(), rows.into());
        batch.insert("hasMore".into(), self.has_more().into());
        batch.insert("cached".into(), false.into());
        if self.has_more() {
            batch.insert("id".into(), self.id.to_string().into());
            batch.insert("nextBatchId".into(), (self.fetched + 1).to_string().into());
        }
        if let Some(count) = self.count {
            batch.insert("count".into(), count.into());
        }
        // A stream knows its numbers and warnings at its end only.
        if !self.is_stream || !self.has_more() {
            batch.insert("extra".into(), self.extra.clone());
        }
        self.last = self.allows_retry.then(|| batch.clone());
        batch
    }
}

fn next(store: &mut Store, request: &Request, id: &str, batch: Option<&str>) -> Result<Reply> {
    let cursors = &mut store.database_mut(&request.database)?.cursors;
    cursors.retain(|_, cursor| cursor.deadline > Instant::now());
    let id: u64 = id.parse().map_err(|_| Error::cursor_not_found())?;
    let cursor = cursors.get_mut(&id).ok_or_else(Error::cursor_not_found)?;
    let wanted = match batch {
        None => cursor.fetched + 1,
        Some(batch) => batch.parse().map_err(|_| Error::cursor_not_found())?,
    };
    if wanted == cursor.fetched {
        let last = cursor.last.clone().ok_or_else(Error::cursor_not_found)?;
        return Ok(Reply::object(200, last));
    }
    if wanted != cursor.fetched + 1 || !cursor.has_more() {
        return Err(Error::cursor_not_found());
    }
    let batch = cursor.fetch();
    if !cursor.is_kept() {
        cursors.remove(&id);
    }
    Ok(Reply::object(200, batch))
}

fn delete(store: &mut Store, request: &Request, id: &str) -> Result<Reply> {
    let cursors = &mut store.database_mut(&request.database)?.cursors;
    let known = id.parse().ok().and_then(|id: u64| cursors.remove(&id));
    known.ok_or_else(Error::cursor_not_found)?;
    Ok(Reply::object(202, Map::from_iter([("id".to_owned(), id.into())])))
}
