//! Documents, one or an array of them. An array is one transaction; an element that fails is left out, the others are kept.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::Version;
use crate::error::{Error, Result};
use crate::faults::{self, Elements};
use crate::http::{Reply, Request, encode};
use crate::store::Store;
use crate::store::collection::{Document, is_revision};
use crate::store::write::{How, Options, Outcome, Overwrite, Writer};
use crate::value::Patch;

pub(super) fn answer(store: &mut Store, request: &Request, method: &str, path: &[&str]) -> Result<Reply> {
    match (method, path) {
        ("GET" | "HEAD", [collection, key]) => read(store, request, collection, key),
        ("PUT", [collection]) if request.flag("onlyget", false) => read_many(store, request, collection),
        ("POST", [collection]) => write(store, request, collection, &Operation::Insert),
        ("PATCH", [collection]) => write_array(store, request, collection, &Operation::Change(How::Update)),
        ("PUT", [collection]) => write_array(store, request, collection, &Operation::Change(How::Replace)),
        ("DELETE", [collection]) => write_array(store, request, collection, &Operation::Remove),
        ("PATCH", [collection, key]) => write_one(store, request, collection, key, &Operation::Change(How::Update)),
        ("PUT", [collection, key]) => write_one(store, request, collection, key, &Operation::Change(How::Replace)),
        ("DELETE", [collection, key]) => write_one(store, request, collection, key, &Operation::Remove),
        _ => Err(super::unknown(request)),
    }
}

enum Operation {
    Insert,
    Change(How),
    Remove,
}

impl Operation {
    /// Removals say 200 where writes say 201.
    fn status(&self, is_synced: bool) -> u16 {
        match self {
            _ if !is_synced => 202,
            Self::Remove => 200,
            Self::Insert | Self::Change(_) => 201,
        }
    }
}

/// What the answer is to carry.
struct Shown {
    new: bool,
    old: bool,
    silent: bool,
}

impl Shown {
    fn of(request: &Request) -> Self {
        Self {
            new: request.flag("returnNew", false),
            old: request.flag("returnOld", false),
            silent: request.flag("silent", false),
        }
    }
}

fn options(version: Version, request: &Request) -> Result<Options> {
    let overwrite = match request.text("overwriteMode") {
        Some("conflict") => Overwrite::Conflict,
        Some("ignore") => Overwrite::Ignore,
        Some("replace") => Overwrite::Replace,
        Some("update") => Overwrite::Update,
        Some(_) => return Err(Error::new(400, 10, "invalid value for overwriteMode")),
        None if request.flag("overwrite", false) => Overwrite::Replace,
        None => Overwrite::Conflict,
    };
    let version_attribute = match version {
        Version::V3_11 => None,
        Version::V3_12 => request.text("versionAttribute").filter(|name| !name.is_empty()).map(str::to_owned),
    };
    Ok(Options {
        waits_for_sync: request.flag("waitForSync", false),
        patch: Patch { keep_null: request.flag("keepNull", true), merge_objects: request.flag("mergeObjects", true) },
        ignores_revisions: request.flag("ignoreRevs", true),
        overwrite,
        version_attribute,
    })
}

fn read(store: &Store, request: &Request, collection: &str, key: &str) -> Result<Reply> {
    let collection = store.collection(&request.database, collection)?;
    let document = collection.get(key).ok_or_else(Error::document_not_found)?;
    if precondition(request, "if-match").is_some_and(|expected| !is_revision(document, &expected)) {
        return Ok(other_revision(document));
    }
    let is_known = precondition(request, "if-none-match").is_some_and(|known| is_revision(document, &known));
    let reply = if is_known { Reply::empty(304) } else { Reply::json(200, &document.value) };
    Ok(reply.with_header("etag", etag(document)))
}

/// The revision in a header, without its quotes.
fn precondition(request: &Request, name: &str) -> Option<String> {
    request.header(name).map(|value| value.trim_matches('"').to_owned())
}

fn etag(document: &Document) -> String {
    format!("\"{}\"", document.revision_text())
}

fn other_revision(document: &Document) -> Reply {
    let mut body = identity(document);
    body.insert("error".into(), true.into());
    body.insert("code".into(), 412.into());
    body.insert("errorNum".into(), 1200.into());
    body.insert("errorMessage".into(), Error::other_revision().message.into());
    Reply::json(412, &Value::Object(body)).with_header("etag", etag(document))
}

fn identity(document: &Document) -> Map<String, Value> {
    ["_id", "_key", "_rev"].map(|name| (name.to_owned(), document.value[name].clone())).into_iter().collect()
}

fn write(store: &mut Store, request: &Request, collection: &str, operation: &Operation) -> Result<Reply> {
    store.collection(&request.database, collection)?;
    let body = request.json()?;
    match &body {
        Value::Array(elements) => write_elements(store, request, collection, elements, operation),
        _ => write_body(store, request, collection, None, &body, operation),
    }
}

fn write_one(
    store: &mut Store,
    request: &Request,
    collection: &str,
    key: &str,
    operation: &Operation,
) -> Result<Reply> {
    store.collection(&request.database, collection)?;
    let body = match operation {
        Operation::Remove => Value::Null,
        Operation::Insert | Operation::Change(_) => request.json()?,
    };
    write_body(store, request, collection, Some(key), &body, operation)
}

/// One document by its key, or a new one.
fn write_body(
    store: &mut Store,
    request: &Request,
    collection: &str,
    key: Option<&str>,
    body: &Value,
    operation: &Operation,
) -> Result<Reply> {
    let options = options(store.version, request)?;
    let stated = body["_rev"].as_str().filter(|_| !options.ignores_revisions).map(str::to_owned);
    let expected = precondition(request, "if-match").or(stated);
    let mut writer = Writer::new(store, &request.database, options.waits_for_sync);
    let done = match (operation, key) {
        (Operation::Insert, _) | (_, None) => writer.insert(collection, body, &options),
        (Operation::Change(how), Some(key)) => body
            .as_object()
            .ok_or_else(Error::not_an_object)
            .and_then(|body| writer.change(collection, key, expected.as_deref(), body, *how, &options)),
        (Operation::Remove, Some(key)) => writer.remove(collection, key, expected.as_deref()),
    };
    let outcome = match done {
        Ok(outcome) => outcome,
        Err(error) => {
            writer.abort();
            let current = key.and_then(|key| store.collection(&request.database, collection).ok()?.get(key));
            return match current {
                Some(current) if error == Error::other_revision() => Ok(other_revision(current)),
                _ => Err(error),
            };
        }
    };
    let status = operation.status(writer.commit());
    Ok(reply_to_one(request, status, operation, &outcome))
}

fn reply_to_one(request: &Request, status: u16, operation: &Operation, outcome: &Outcome) -> Reply {
    let shown = Shown::of(request);
    let document = outcome.new.as_ref().or(outcome.old.as_ref()).expect("a success has a document");
    let body = if shown.silent { json!({}) } else { result(operation, outcome, &shown) };
    let reply = Reply::json(status, &body).with_header("etag", etag(document));
    match operation {
        Operation::Remove => reply,
        Operation::Insert | Operation::Change(_) => {
            let collection = document.collection();
            let key = encode(document.key());
            reply.with_header("location", format!("/_db/{}/_api/document/{collection}/{key}", request.database))
        }
    }
}

/// One success, by itself or in an array.
fn result(operation: &Operation, outcome: &Outcome, shown: &Shown) -> Value {
    let document = outcome.new.as_ref().or(outcome.old.as_ref()).expect("a success has a document");
    let mut body = identity(document);
    if let (Some(old), Some(_)) = (&outcome.old, &outcome.new) {
        body.insert("_oldRev".into(), old.revision_text().into());
    }
    let is_ignored = matches!(operation, Operation::Insert) && outcome.new.is_none();
    if let Some(new) = outcome.new.as_ref().filter(|_| shown.new) {
        body.insert("new".into(), new.value.clone());
    }
    if let Some(old) = outcome.old.as_ref().filter(|_| shown.old && !is_ignored) {
        body.insert("old".into(), old.value.clone());
    }
    Value::Object(body)
}

fn write_array(store: &mut Store, request: &Request, collection: &str, operation: &Operation) -> Result<Reply> {
    store.collection(&request.database, collection)?;
    match request.json()? {
        Value::Array(elements) => write_elements(store, request, collection, &elements, operation),
        _ => Err(Error::not_an_object()),
    }
}

fn write_elements(
    store: &mut Store,
    request: &Request,
    collection: &str,
    elements: &[Value],
    operation: &Operation,
) -> Result<Reply> {
    let options = options(store.version, request)?;
    let mut writer = Writer::new(store, &request.database, options.waits_for_sync);
    let mut results = Results::default();
    for (position, element) in elements.iter().enumerate() {
        let done = refused(request.elements.as_ref(), position)
            .and_then(|()| write_element(&mut writer, collection, element, operation, &options));
        results.add(done, operation, &Shown::of(request));
    }
    let status = operation.status(writer.commit());
    Ok(results.reply(status))
}

/// What was ordered to fail.
fn refused(elements: Option<&Elements>, position: usize) -> Result<()> {
    match elements.filter(|elements| elements.hits(position)) {
        Some(elements) => Err(Error::new(500, elements.error_num, faults::message(elements.error_num))),
        None => Ok(()),
    }
}

fn write_element(
    writer: &mut Writer<'_>,
    collection: &str,
    element: &Value,
    operation: &Operation,
    options: &Options,
) -> Result<Outcome> {
    if matches!(operation, Operation::Insert) {
        return writer.insert(collection, element, options);
    }
    let key = key_of(collection, element)?;
    let expected = element["_rev"].as_str().filter(|_| !options.ignores_revisions);
    match (operation, element.as_object()) {
        (Operation::Change(how), Some(body)) => writer.change(collection, &key, expected, body, *how, options),
        (Operation::Change(_), None) => Err(Error::not_an_object()),
        (Operation::Remove | Operation::Insert, _) => writer.remove(collection, &key, expected),
    }
}

/// A key, an id, or an object that has one of them. An id of another collection is no document of this one.
fn key_of(collection: &str, selector: &Value) -> Result<String> {
    let text = match selector {
        Value::String(text) => text,
        Value::Object(object) => match object.get("_key").or_else(|| object.get("_id")) {
            Some(Value::String(text)) => text,
            _ => return Err(Error::illegal_key()),
        },
        _ => return Err(Error::illegal_key()),
    };
    match text.split_once('/') {
        None => Ok(text.clone()),
        Some((own, key)) if own == collection => Ok(key.to_owned()),
        Some(_) => Err(Error::document_not_found()),
    }
}

#[derive(Default)]
struct Results {
    elements: Vec<Value>,
    failures: BTreeMap<u32, u32>,
}

impl Results {
    fn add(&mut self, done: Result<Outcome>, operation: &Operation, shown: &Shown) {
        match done {
            Ok(_) if shown.silent => {}
            Ok(outcome) => self.elements.push(result(operation, &outcome, shown)),
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &Error) {
        *self.failures.entry(error.num).or_default() += 1;
        self.elements.push(json!({ "error": true, "errorNum": error.num, "errorMessage": error.message }));
    }

    fn reply(self, status: u16) -> Reply {
        let reply = Reply::json(status, &Value::Array(self.elements));
        if self.failures.is_empty() {
            return reply;
        }
        let failures: Map<String, Value> =
            self.failures.into_iter().map(|(num, count)| (num.to_string(), count.into())).collect();
        reply.with_header("x-arango-error-codes", Value::Object(failures).to_string())
    }
}

fn read_many(store: &Store, request: &Request, collection: &str) -> Result<Reply> {
    let documents = store.collection(&request.database, collection)?;
    let Value::Array(selectors) = request.json()? else {
        return Err(Error::not_an_object());
    };
    let ignores_revisions = request.flag("ignoreRevs", true);
    let mut results = Results::default();
    for selector in &selectors {
        let found = key_of(&documents.name, selector)
            .and_then(|key| documents.get(&key).ok_or_else(Error::document_not_found))
            .and_then(|document| match selector["_rev"].as_str() {
                Some(expected) if !ignores_revisions && !is_revision(document, expected) => {
                    Err(Error::other_revision())
                }
                _ => Ok(document),
            });
        match found {
            Ok(document) => results.elements.push(document.value.clone()),
            Err(error) => results.fail(&error),
        }
    }
    Ok(results.reply(200))
}

/// Deprecated, and still what Python's driver reads many documents with. What is not there is left out.
pub(super) fn lookup_by_keys(store: &Store, request: &Request) -> Result<Reply> {
    let body = request.object()?;
    let name = body.get("collection").and_then(Value::as_str).unwrap_or_default();
    let collection = store.collection(&request.database, name)?;
    let keys = body.get("keys").and_then(Value::as_array).ok_or_else(|| Error::bad("expecting 'keys'"))?;
    let documents = keys.iter().filter_map(|key| collection.get(key.as_str()?));
    let documents: Vec<Value> = documents.map(|document| document.value.clone()).collect();
    Ok(Reply::object(200, Map::from_iter([("documents".to_owned(), documents.into())])))
}
