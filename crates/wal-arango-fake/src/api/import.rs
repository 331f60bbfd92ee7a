//! Bulk import: an array of documents, or a document a line.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::http::{Reply, Request};
use crate::store::Store;
use crate::store::write::{Options, Overwrite, Writer};

pub(super) fn answer(store: &mut Store, request: &Request) -> Result<Reply> {
    let name = request.text("collection").ok_or_else(|| Error::bad("'collection' is missing, expecting it"))?;
    store.collection(&request.database, name)?;
    let overwrite = match request.text("onDuplicate") {
        None | Some("error") => Overwrite::Conflict,
        Some("ignore") => Overwrite::Ignore,
        Some("replace") => Overwrite::Replace,
        Some("update") => Overwrite::Update,
        Some(_) => return Err(Error::new(400, 10, "invalid value for onDuplicate")),
    };
    let (documents, empty) = documents(request)?;
    let options = Options { overwrite, ..Options::default() };
    if request.flag("overwrite", false) {
        store.collection_mut(&request.database, name)?.truncate();
    }

    let is_complete = request.flag("complete", false);
    let mut counts = Counts { empty, ..Counts::default() };
    let mut writer = Writer::new(store, &request.database, request.flag("waitForSync", false));
    for (position, document) in documents.iter().enumerate() {
        match writer.insert(name, document, &options) {
            Ok(outcome) => match (outcome.old, outcome.new) {
                (Some(_), Some(_)) => counts.updated += 1,
                (Some(_), None) => counts.ignored += 1,
                (None, _) => counts.created += 1,
            },
            // The one kind of import that is all or nothing.
            Err(error) if is_complete => {
                writer.abort();
                let cause = cause(&error);
                return Err(Error { message: cause.into(), ..error });
            }
            Err(error) => counts.fail(position, document, &error),
        }
    }
    writer.commit();
    Ok(counts.reply(request.flag("details", false)))
}

/// The documents, and how many lines had none.
fn documents(request: &Request) -> Result<(Vec<Value>, u32)> {
    let is_array = || request.body.trim_ascii_start().starts_with(b"[");
    match request.text("type") {
        Some("list" | "array") => array(request),
        Some("auto") if is_array() => array(request),
        Some("documents" | "auto") => lines(request),
        _ => Err(Error::not_faked("this 'type' of import")),
    }
}

fn array(request: &Request) -> Result<(Vec<Value>, u32)> {
    match request.json()? {
        Value::Array(documents) => Ok((documents, 0)),
        _ => Err(Error::bad("expecting a JSON array in the request")),
    }
}

fn lines(request: &Request) -> Result<(Vec<Value>, u32)> {
    let text = String::from_utf8_lossy(&request.body);
    let (mut documents, mut empty) = (Vec::new(), 0);
    for line in text.trim_end_matches('\n').split('\n') {
        if line.trim().is_empty() {
            empty += 1;
            continue;
        }
        documents.push(serde_json::from_str(line).map_err(|error| Error::corrupted_json(&error.to_string()))?);
    }
    Ok((documents, empty))
}

/// Without the index and the key.
fn cause(error: &Error) -> String {
    error.message.split(" - ").next().unwrap_or_default().to_owned()
}

#[derive(Default)]
struct Counts {
    created: u32,
    updated: u32,
    ignored: u32,
    empty: u32,
    errors: u32,
    details: Vec<String>,
}

impl Counts {
    fn fail(&mut self, position: usize, document: &Value, error: &Error) {
        self.errors += 1;
        let cause = cause(error);
        self.details.push(format!(
            "at position {position}: creating document failed with error '{cause}', offending document: {document}"
        ));
    }

    fn reply(self, with_details: bool) -> Reply {
        let mut body = json!({
            "error": false,
            "created": self.created,
            "errors": self.errors,
            "empty": self.empty,
            "updated": self.updated,
            "ignored": self.ignored,
        });
        if with_details {
            body["details"] = self.details.into();
        }
        Reply::json(201, &body)
    }
}
