//! What changes documents, for the document API and for AQL alike: insert, update, replace, remove.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::collection::{self, Collection, Document, KeyGenerator, Kind};
use super::{Batch, Change, Store};
use crate::error::{Error, Result};
use crate::value::Patch;

/// What an insert does if the key is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overwrite {
    Conflict,
    Ignore,
    Replace,
    Update,
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) waits_for_sync: bool,
    pub(crate) patch: Patch,
    pub(crate) ignores_revisions: bool,
    pub(crate) overwrite: Overwrite,
    /// 3.12: a number in both documents; what is not newer changes nothing.
    pub(crate) version_attribute: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            waits_for_sync: false,
            patch: Patch { keep_null: true, merge_objects: true },
            ignores_revisions: true,
            overwrite: Overwrite::Conflict,
            version_attribute: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Update,
    Replace,
}

/// The document before and after; for an ignored insert only before.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) old: Option<Arc<Document>>,
    pub(crate) new: Option<Arc<Document>>,
}

/// One request's writes. Whoever starts it commits it or aborts it.
pub(crate) struct Writer<'a> {
    pub(crate) store: &'a mut Store,
    database: &'a str,
    batch: Batch,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(store: &'a mut Store, database: &'a str, waits_for_sync: bool) -> Self {
        Self { store, database, batch: Batch { waits_for_sync, ..Batch::default() } }
    }

    /// Whether the answer may say "synced".
    pub(crate) fn commit(self) -> bool {
        self.store.commit(self.batch)
    }

    pub(crate) fn abort(self) {
        self.store.abort(self.batch);
    }

    pub(crate) fn insert(&mut self, collection: &str, body: &Value, options: &Options) -> Result<Outcome> {
        let body = body.as_object().ok_or_else(Error::not_an_object)?;
        let key = self.key_for(collection, body)?;
        let target = self.collection(collection)?;
        check_edge(target, body)?;
        let Some(old) = target.get(&key).cloned() else {
            return self.put(collection, &key, body.clone(), None);
        };
        match options.overwrite {
            Overwrite::Conflict => Err(Error::not_unique("primary", "primary", "_key", &key)),
            Overwrite::Ignore => Ok(Outcome { old: Some(old), new: None }),
            Overwrite::Replace => self.change(collection, &key, None, body, How::Replace, options),
            Overwrite::Update => self.change(collection, &key, None, body, How::Update, options),
        }
    }

    pub(crate) fn change(
        &mut self,
        collection: &str,
        key: &str,
        expected: Option<&str>,
        body: &Map<String, Value>,
        how: How,
        options: &Options,
    ) -> Result<Outcome> {
        let target = self.collection(collection)?;
        let old = find(target, key, expected)?;
        if options.version_attribute.as_ref().is_some_and(|name| is_outdated(&old.value, body, name)) {
            return Ok(Outcome { old: Some(old.clone()), new: Some(old) });
        }
        let attributes = match how {
            How::Replace => {
                check_edge(target, body)?;
                body.clone()
            }
            // Nothing to change: nothing is written, and the revision stays.
            How::Update if body.keys().all(|name| is_system(name)) => {
                return Ok(Outcome { old: Some(old.clone()), new: Some(old) });
            }
            How::Update => {
                let mut attributes = old.value.as_object().cloned().unwrap_or_default();
                options.patch.apply(&mut attributes, body);
                attributes
            }
        };
        self.put(collection, key, attributes, Some(old))
    }

    pub(crate) fn remove(&mut self, collection: &str, key: &str, expected: Option<&str>) -> Result<Outcome> {
        let old = find(self.collection(collection)?, key, expected)?;
        let target = self.store.collection_mut(self.database, collection)?;
        target.remove(key);
        let (id, waits) = (target.id, target.waits_for_sync);
        self.note(Change::new(id, key, Some(old.clone())), waits);
        Ok(Outcome { old: Some(old), new: None })
    }

    fn put(
        &mut self,
        collection: &str,
        key: &str,
        attributes: Map<String, Value>,
        old: Option<Arc<Document>>,
    ) -> Result<Outcome> {
        let revision = self.store.next_revision();
        let target = self.store.collection_mut(self.database, collection)?;
        let document = target.document(key, revision, attributes);
        target.put(document)?;
        let new = target.get(key).cloned();
        let (id, waits) = (target.id, target.waits_for_sync);
        self.note(Change::new(id, key, old.clone()), waits);
        Ok(Outcome { old, new })
    }

    fn note(&mut self, change: Change, waits_for_sync: bool) {
        self.batch.changes.push(change);
        self.batch.waits_for_sync |= waits_for_sync;
    }

    fn collection(&self, name: &str) -> Result<&Collection> {
        self.store.collection(self.database, name)
    }

    fn key_for(&mut self, collection: &str, body: &Map<String, Value>) -> Result<String> {
        let target = self.collection(collection)?;
        match body.get("_key") {
            Some(Value::String(_)) if !target.allows_user_keys => Err(Error::new(400, 1222, "unexpected document key")),
            Some(Value::String(key)) => collection::check_key(key).map(|()| key.clone()),
            Some(_) => Err(Error::illegal_key()),
            None => self.generated_key(collection),
        }
    }

    fn generated_key(&mut self, collection: &str) -> Result<String> {
        let tick = self.store.next_tick();
        let target = self.collection(collection)?;
        let key = match target.generator {
            KeyGenerator::Traditional => tick,
            KeyGenerator::Autoincrement { offset, increment } => {
                let steps = target.last_value.saturating_sub(offset) / increment;
                if target.last_value < offset { offset } else { offset + (steps + 1) * increment }
            }
        };
        Ok(key.to_string())
    }
}

fn find(target: &Collection, key: &str, expected: Option<&str>) -> Result<Arc<Document>> {
    let found = target.get(key).ok_or_else(Error::document_not_found)?;
    match expected {
        Some(expected) if !collection::is_revision(found, expected) => Err(Error::other_revision()),
        _ => Ok(found.clone()),
    }
}

/// Both are read as whole numbers; where either is none, the guard does not apply.
fn is_outdated(old: &Value, body: &Map<String, Value>, name: &str) -> bool {
    let version = |value: &Value| value.as_u64();
    let (stored, incoming) = (version(&old[name]), body.get(name).and_then(version));
    stored.zip(incoming).is_some_and(|(stored, incoming)| incoming <= stored)
}

fn is_system(name: &str) -> bool {
    matches!(name, "_key" | "_id" | "_rev")
}

fn check_edge(target: &Collection, body: &Map<String, Value>) -> Result<()> {
    let is_id = |name: &str| body.get(name).and_then(Value::as_str).is_some_and(|id| id.contains('/'));
    match target.kind {
        Kind::Edge if !is_id("_from") || !is_id("_to") => {
            Err(Error::new(400, 1233, "edge attribute missing or invalid"))
        }
        Kind::Document | Kind::Edge => Ok(()),
    }
}
