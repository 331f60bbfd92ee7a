//! Secondary indexes: which documents they hold, in which order, and what they refuse.

use std::collections::BTreeSet;
use std::ops::Bound;

use serde_json::{Map, Value, json};

use super::collection::Document;
use crate::error::{Error, Result};
use crate::value::{self, Sorted};

/// The values of the fields, then the document's key.
type Entry = (Vec<Sorted>, String);

#[derive(Clone, Debug)]
pub(crate) struct Index {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) definition: Definition,
    entries: BTreeSet<Entry>,
}

#[derive(Clone, Debug)]
pub(crate) struct Definition {
    pub(crate) kind: Kind,
    pub(crate) fields: Vec<Vec<String>>,
    pub(crate) unique: bool,
    pub(crate) sparse: bool,
    pub(crate) deduplicate: bool,
    pub(crate) estimates: bool,
    pub(crate) cache_enabled: bool,
    pub(crate) stored_values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Persistent,
    /// How many seconds after the time in the one field a document may be removed.
    Ttl {
        expire_after: f64,
    },
}

impl Definition {
    pub(crate) fn parse(body: &Value) -> Result<Self> {
        let kind = match body["type"].as_str() {
            // Old names of the same index.
            Some("persistent" | "hash" | "skiplist") => Kind::Persistent,
            Some("ttl") => Kind::Ttl { expire_after: expire_after(body)? },
            Some(other) => return Err(Error::not_faked(&format!("indexes of type '{other}'"))),
            None => return Err(invalid("missing index type")),
        };
        let is_ttl = matches!(kind, Kind::Ttl { .. });
        let fields = fields(body)?;
        if is_ttl && fields.len() != 1 {
            return Err(invalid("ttl indexes must be on exactly one field"));
        }
        let flag = |name: &str, otherwise: bool| match &body[name] {
            Value::Null => Ok(otherwise),
            Value::Bool(value) => Ok(*value),
            _ => Err(invalid(format!("'{name}' must be a boolean"))),
        };
        Ok(Self {
            kind,
            unique: !is_ttl && flag("unique", false)?,
            sparse: is_ttl || flag("sparse", false)?,
            deduplicate: flag("deduplicate", true)?,
            estimates: !is_ttl && flag("estimates", true)?,
            cache_enabled: !is_ttl && flag("cacheEnabled", false)?,
            stored_values: stored_values(body, &fields)?,
            fields,
        })
    }

    /// What makes two definitions one index: not `storedValues`, not `cacheEnabled`.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let kinds = match (self.kind, other.kind) {
            (Kind::Persistent, Kind::Persistent) => true,
            (Kind::Ttl { expire_after: left }, Kind::Ttl { expire_after: right }) => left == right,
            _ => false,
        };
        kinds && self.fields == other.fields && self.unique == other.unique && self.sparse == other.sparse
    }

    pub(crate) fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Persistent => "persistent",
            Kind::Ttl { .. } => "ttl",
        }
    }
}

fn expire_after(body: &Value) -> Result<f64> {
    let seconds = body["expireAfter"].as_f64().ok_or_else(|| invalid("expireAfter attribute must be a number"))?;
    if seconds < 0.0 {
        return Err(invalid("expireAfter attribute must be greater equal to zero"));
    }
    Ok(seconds)
}

fn fields(body: &Value) -> Result<Vec<Vec<String>>> {
    let names = body["fields"].as_array().filter(|names| !names.is_empty());
    let names = names.ok_or_else(|| invalid("missing 'fields' attribute"))?;
    let mut fields = Vec::new();
    for name in names {
        let name = name.as_str().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| invalid("index field names must be non-empty strings"))?;
        if name == "_id" {
            return Err(invalid("_id attribute cannot be indexed"));
        }
        if name.contains("[*]") {
            return Err(Error::not_faked("indexes of array elements ([*])"));
        }
        let path: Vec<String> = name.split('.').map(str::to_owned).collect();
        if fields.contains(&path) {
            return Err(invalid("duplicate attribute name in index fields list"));
        }
        fields.push(path);
    }
    Ok(fields)
}

fn stored_values(body: &Value, fields: &[Vec<String>]) -> Result<Vec<String>> {
    let names = match &body["storedValues"] {
        Value::Null => return Ok(Vec::new()),
        Value::Array(names) if names.len() <= 32 => names,
        _ => return Err(invalid("'storedValues' must be an array of at most 32 attributes")),
    };
    let text = |name: &Value| name.as_str().map(str::to_owned).ok_or_else(|| invalid("invalid stored value"));
    let names: Vec<String> = names.iter().map(text).collect::<Result<_>>()?;
    let overlaps = names.iter().any(|name| fields.iter().any(|field| field.join(".") == *name));
    if overlaps {
        return Err(invalid("index fields and storedValues must not overlap"));
    }
    Ok(names)
}

pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::new(400, 10, message.into())
}

/// From where to where in an index: values for its first fields, then at most one range of the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Span {
    pub(crate) equal: Vec<Value>,
    pub(crate) above: Option<(Value, bool)>,
    pub(crate) below: Option<(Value, bool)>,
}

impl Span {
    /// `Max` stands above all that begins with the value before it.
    fn ends(&self) -> (Vec<Sorted>, Vec<Sorted>) {
        let prefix: Vec<Sorted> = self.equal.iter().cloned().map(Sorted::Value).collect();
        let (mut start, mut end) = (prefix.clone(), prefix);
        if let Some((value, is_included)) = &self.above {
            start.push(Sorted::Value(value.clone()));
            start.extend((!is_included).then_some(Sorted::Max));
        }
        match &self.below {
            Some((value, is_included)) => {
                end.push(Sorted::Value(value.clone()));
                end.extend(is_included.then_some(Sorted::Max));
            }
            None => end.push(Sorted::Max),
        }
        (start, end)
    }
}

impl Index {
    pub(crate) fn new(id: u64, name: String, definition: Definition) -> Self {
        Self { id, name, definition, entries: BTreeSet::new() }
    }

    /// The keys in the span, in the order of the index.
    pub(crate) fn keys(&self, span: &Span) -> impl DoubleEndedIterator<Item = &String> + use<'_> {
        let (start, end) = span.ends();
        let is_empty = start > end;
        let end = if is_empty { start.clone() } else { end };
        let range = (Bound::Included((start, String::new())), Bound::Excluded((end, String::new())));
        self.entries.range(range).map(|(_, key)| key)
    }

    /// What the index holds of a document: nothing if it is sparse and a field is null or missing.
    fn values(&self, document: &Value) -> Option<Vec<Sorted>> {
        let values = || self.definition.fields.iter().map(|path| value::at(document, path));
        if self.definition.sparse && values().any(Value::is_null) {
            return None;
        }
        Some(values().cloned().map(Sorted::Value).collect())
    }

    /// The key of another document that has the same values, if that is forbidden.
    fn rival(&self, key: &str, document: &Value) -> Option<&String> {
        let values = self.definition.unique.then(|| self.values(document)).flatten()?;
        let start = (values.clone(), String::new());
        let mut held = self.entries.range(start..).take_while(|(held, _)| *held == values);
        held.find(|(_, holder)| holder != key).map(|(_, holder)| holder)
    }

    pub(super) fn check(&self, key: &str, document: &Value) -> Result<()> {
        let Some(rival) = self.rival(key, document) else {
            return Ok(());
        };
        let fields: Vec<String> = self.definition.fields.iter().map(|path| path.join(".")).collect();
        Err(Error::not_unique(&self.name, self.definition.kind_name(), &fields.join(", "), rival))
    }

    pub(super) fn insert(&mut self, document: &Document) {
        if let Some(values) = self.values(&document.value) {
            self.entries.insert((values, document.key().to_owned()));
        }
    }

    pub(super) fn remove(&mut self, document: &Document) {
        if let Some(values) = self.values(&document.value) {
            self.entries.remove(&(values, document.key().to_owned()));
        }
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    fn selectivity(&self) -> f64 {
        let mut distinct = 0_u32;
        let mut last = None;
        for (values, _) in &self.entries {
            distinct += u32::from(last != Some(values));
            last = Some(values);
        }
        let total = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        if total == 0 { 1.0 } else { f64::from(distinct) / f64::from(total) }
    }

    /// As the server shows it; `collection` is part of the id.
    pub(crate) fn show(&self, collection: &str) -> Map<String, Value> {
        let definition = &self.definition;
        let fields: Vec<String> = definition.fields.iter().map(|path| path.join(".")).collect();
        let mut shown = Map::new();
        shown.insert("fields".into(), fields.into());
        shown.insert("id".into(), format!("{collection}/{}", self.id).into());
        shown.insert("name".into(), self.name.clone().into());
        shown.insert("sparse".into(), definition.sparse.into());
        shown.insert("type".into(), definition.kind_name().into());
        shown.insert("unique".into(), definition.unique.into());
        shown.insert("estimates".into(), definition.estimates.into());
        match definition.kind {
            Kind::Persistent => {
                shown.insert("cacheEnabled".into(), definition.cache_enabled.into());
                shown.insert("deduplicate".into(), definition.deduplicate.into());
                if definition.estimates {
                    shown.insert("selectivityEstimate".into(), whole_or_float(self.selectivity()));
                }
                if !definition.stored_values.is_empty() {
                    shown.insert("storedValues".into(), definition.stored_values.clone().into());
                }
            }
            Kind::Ttl { expire_after } => drop(shown.insert("expireAfter".into(), whole_or_float(expire_after))),
        }
        shown
    }
}

/// The server writes 3600 and 1, not 3600.0 and 1.0.
fn whole_or_float(number: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "only taken if nothing was cut off")]
    let whole = number as i64;
    #[expect(clippy::cast_precision_loss, reason = "compared with what it came from")]
    let is_whole = whole as f64 == number;
    if is_whole { json!(whole) } else { json!(number) }
}

/// The index every collection has.
pub(crate) fn show_primary(collection: &str) -> Map<String, Value> {
    let shown = json!({
        "fields": ["_key"],
        "id": format!("{collection}/0"),
        "name": "primary",
        "selectivityEstimate": 1,
        "sparse": false,
        "type": "primary",
        "unique": true,
    });
    match shown {
        Value::Object(shown) => shown,
        _ => unreachable!("an object literal"),
    }
}
