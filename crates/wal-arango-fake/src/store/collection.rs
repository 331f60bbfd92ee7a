//! One collection: its documents by key and by revision, its indexes, and the rules of keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::index::{self, Definition, Index};
use super::{decode_revision, encode_revision};
use crate::Version;
use crate::error::{Error, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Document,
    Edge,
}

impl Kind {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Document => 2,
            Self::Edge => 3,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyGenerator {
    Traditional,
    Autoincrement { offset: u64, increment: u64 },
}

#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) value: Value,
    pub(crate) revision: u64,
}

impl Document {
    pub(crate) fn key(&self) -> &str {
        self.value["_key"].as_str().expect("every document has a key")
    }

    pub(crate) fn collection(&self) -> &str {
        let id = self.value["_id"].as_str().expect("every document has an id");
        id.split_once('/').expect("an id has two parts").0
    }

    pub(crate) fn revision_text(&self) -> String {
        encode_revision(self.revision)
    }
}

#[derive(Debug)]
pub(crate) struct Collection {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) waits_for_sync: bool,
    pub(crate) cache_enabled: bool,
    pub(crate) allows_user_keys: bool,
    pub(crate) generator: KeyGenerator,
    /// Of the numbers among the keys.
    pub(crate) last_value: u64,
    pub(crate) schema: Value,
    pub(crate) indexes: Vec<Index>,
    documents: BTreeMap<String, Arc<Document>>,
    /// The order in which a full scan meets them.
    by_revision: BTreeMap<u64, String>,
}

impl Collection {
    pub(crate) fn new(id: u64, name: &str, kind: Kind) -> Self {
        Self {
            id,
            name: name.to_owned(),
            kind,
            waits_for_sync: false,
            cache_enabled: false,
            allows_user_keys: true,
            generator: KeyGenerator::Traditional,
            last_value: 0,
            schema: Value::Null,
            indexes: Vec::new(),
            documents: BTreeMap::new(),
            by_revision: BTreeMap::new(),
        }
    }

    pub(crate) fn is_system(&self) -> bool {
        self.name.starts_with('_')
    }

    pub(crate) fn len(&self) -> usize {
        self.documents.len()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Arc<Document>> {
        self.documents.get(key)
    }

    /// In no order that anyone may rely on: as they were written.
    pub(crate) fn scan(&self) -> impl Iterator<Item = &Arc<Document>> {
        self.by_revision.values().filter_map(|key| self.documents.get(key))
    }

    pub(crate) fn keys(&self) -> impl DoubleEndedIterator<Item = &String> {
        self.documents.keys()
    }

    /// Fails, and changes nothing, if an index refuses. Returns what was there before.
    pub(crate) fn put(&mut self, document: Document) -> Result<Option<Arc<Document>>> {
        let key = document.key().to_owned();
        for index in &self.indexes {
            index.check(&key, &document.value)?;
        }
        if let Ok(number) = key.parse::<u64>() {
            self.last_value = self.last_value.max(number);
        }
        let before = self.remove(&key);
        self.indexes.iter_mut().for_each(|index| index.insert(&document));
        self.by_revision.insert(document.revision, key.clone());
        self.documents.insert(key, Arc::new(document));
        Ok(before)
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<Arc<Document>> {
        let before = self.documents.remove(key)?;
        self.by_revision.remove(&before.revision);
        self.indexes.iter_mut().for_each(|index| index.remove(&before));
        Some(before)
    }

    /// Undoes a write.
    pub(super) fn restore(&mut self, key: &str, before: Option<Arc<Document>>) {
        self.remove(key);
        let Some(before) = before else {
            return;
        };
        self.indexes.iter_mut().for_each(|index| index.insert(&before));
        self.by_revision.insert(before.revision, key.to_owned());
        self.documents.insert(key.to_owned(), before);
    }

    pub(crate) fn truncate(&mut self) {
        self.documents.clear();
        self.by_revision.clear();
        self.indexes.iter_mut().for_each(Index::clear);
    }

    /// The document as it is kept: with its system attributes, which whoever sent it cannot choose.
    pub(crate) fn document(&self, key: &str, revision: u64, mut attributes: Map<String, Value>) -> Document {
        attributes.insert("_key".into(), key.into());
        attributes.insert("_id".into(), format!("{}/{key}", self.name).into());
        attributes.insert("_rev".into(), encode_revision(revision).into());
        Document { value: Value::Object(attributes), revision }
    }

    /// Finds an index that is the same, or makes one. Same fields and other `storedValues` is the same: the old one stays as it was.
    pub(crate) fn ensure_index(
        &mut self,
        id: u64,
        name: Option<&str>,
        definition: Definition,
    ) -> Result<(&Index, bool)> {
        let same = self.indexes.iter().position(|index| index.definition.is_same(&definition));
        if let Some(at) = same {
            return Ok((&self.indexes[at], false));
        }
        self.check_new_index(name, &definition)?;
        let name = name.map_or_else(|| format!("idx_{}", 1_872_607_108_000_000_000 + id), str::to_owned);
        let mut index = Index::new(id, name, definition);
        for document in self.documents.values() {
            index.check(document.key(), &document.value)?;
            index.insert(document);
        }
        self.indexes.push(index);
        Ok((self.indexes.last().expect("just pushed"), true))
    }

    fn check_new_index(&self, name: Option<&str>, definition: &Definition) -> Result<()> {
        let is_ttl = |definition: &Definition| matches!(definition.kind, index::Kind::Ttl { .. });
        if is_ttl(definition) && self.indexes.iter().any(|index| is_ttl(&index.definition)) {
            return Err(index::invalid("there can only be one ttl index per collection"));
        }
        let is_taken = |name: &str| name == "primary" || self.indexes.iter().any(|index| index.name == name);
        if name.is_some_and(is_taken) {
            return Err(Error::new(409, 1210, "duplicate value for index name"));
        }
        Ok(())
    }

    pub(crate) fn key_options(&self) -> Value {
        match self.generator {
            KeyGenerator::Traditional => json!({
                "allowUserKeys": self.allows_user_keys,
                "type": "traditional",
                "lastValue": self.last_value,
            }),
            KeyGenerator::Autoincrement { offset, increment } => json!({
                "allowUserKeys": self.allows_user_keys,
                "type": "autoincrement",
                "offset": offset,
                "increment": increment,
                "lastValue": self.last_value,
            }),
        }
    }

    /// The few facts that most answers about a collection carry.
    pub(crate) fn brief(&self) -> Map<String, Value> {
        let mut shown = Map::new();
        shown.insert("globallyUniqueId".into(), self.unique_id().into());
        shown.insert("id".into(), self.id.to_string().into());
        shown.insert("isSystem".into(), self.is_system().into());
        shown.insert("name".into(), self.name.clone().into());
        shown.insert("status".into(), 3.into());
        shown.insert("type".into(), self.kind.number().into());
        shown
    }

    pub(crate) fn properties(&self, version: Version) -> Map<String, Value> {
        let mut shown = self.brief();
        shown.insert("cacheEnabled".into(), self.cache_enabled.into());
        shown.insert("computedValues".into(), Value::Null);
        shown.insert("internalValidatorType".into(), 0.into());
        shown.insert("isSmartChild".into(), false.into());
        shown.insert("keyOptions".into(), self.key_options());
        shown.insert("objectId".into(), (self.id + 1).to_string().into());
        shown.insert("schema".into(), self.schema.clone());
        shown.insert("statusString".into(), "loaded".into());
        shown.insert("syncByRevision".into(), true.into());
        shown.insert("usesRevisionsAsDocumentIds".into(), true.into());
        shown.insert("waitForSync".into(), self.waits_for_sync.into());
        shown.insert("writeConcern".into(), 1.into());
        match version {
            Version::V3_11 => {}
            Version::V3_12 => drop(shown.insert("supportsRBAC".into(), true.into())),
        }
        shown
    }

    fn unique_id(&self) -> String {
        if self.is_system() { self.name.clone() } else { format!("hFA4E00000001/{}", self.id) }
    }

    /// What rises with every write.
    pub(crate) fn revision(&self) -> u64 {
        self.by_revision.last_key_value().map_or(0, |(revision, _)| *revision)
    }
}

/// 1 to 254 bytes of the alphabet.
pub(crate) fn check_key(key: &str) -> Result<()> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.@()+,=;$!*'%:".contains(&byte);
    if key.is_empty() || key.len() > 254 || !key.bytes().all(is_legal) {
        return Err(Error::illegal_key());
    }
    Ok(())
}

/// The revision a caller expects, as text: what is no revision matches none.
pub(crate) fn is_revision(document: &Document, expected: &str) -> bool {
    decode_revision(expected) == Some(document.revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_an_alphabet_and_a_length() {
        for key in ["a", "wal_ns_2026-01-01T00:00:00.000000+00:00_x", "_-.@()+,=;$!*'%:", &"k".repeat(254)] {
            assert_eq!(check_key(key), Ok(()), "{key}");
        }
        for key in ["", "a/b", "a b", "a#", "ä", "{", "~", "|", "\"", "&", &"k".repeat(255)] {
            assert_eq!(check_key(key), Err(Error::illegal_key()), "{key}");
        }
    }
}
