//! The indexes of the entries: what they should be, and in what an index that is there differs.
//!
//! None is sparse. The optimiser takes a sparse index only where conditions cover every one of its attributes, and a range ends the
//! covering, so a sparse index that ends in `_key` would serve nothing (`SortedIndexAttributeMatcher` in the server's source). None is
//! unique: a duplicate must be found at its key, where it costs least. None estimates its selectivity: with one index for each
//! statement there is nothing to choose.

use serde::Deserialize;
use serde_json::{Value, json};

/// An index as it should be.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) name: &'static str,
    pub(super) fields: &'static [&'static str],
}

pub(super) static BY_NAMESPACE: Index =
    Index { name: "by_namespace_time", fields: &["namespace", "timestamp", "_key"] };
pub(super) static BY_TENANT: Index =
    Index { name: "by_tenant_time", fields: &["metadata.tenant_id", "namespace", "timestamp", "_key"] };
pub(super) static BY_CORRELATION: Index =
    Index { name: "by_correlation", fields: &["correlation_id", "timestamp", "_key"] };
pub(super) static BY_STATUS: Index = Index { name: "by_status_time", fields: &["status", "timestamp", "_key"] };
pub(super) static BY_REQUEST: Index =
    Index { name: "by_request", fields: &["request_id", "metadata.tenant_id", "timestamp", "_key"] };
pub(super) static BY_DEADLINE: Index = Index { name: "by_deadline", fields: &["deadline", "_key"] };
pub(super) static BY_FINISH: Index = Index { name: "by_finish", fields: &["finished_at", "_key"] };

/// Every persistent index.
pub(super) static PERSISTENT: [&Index; 7] =
    [&BY_NAMESPACE, &BY_TENANT, &BY_CORRELATION, &BY_STATUS, &BY_REQUEST, &BY_DEADLINE, &BY_FINISH];

/// The index by which the database removes what our own purge should have removed long before.
pub(super) static SAFETY_NET: Index = Index { name: "ttl_finished", fields: &["finished_at"] };

/// An index as the database is to make it.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) index: &'static Index,
    /// For the index that removes: after how many seconds.
    expire_after: Option<u64>,
}

/// An index as the database has it. What an older release does not say is as that release has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Found {
    pub(super) id: String,
    #[serde(default)]
    pub(super) name: String,
    #[serde(rename = "type")]
    kind: String,
    /// Not text where an index is of a kind we never make.
    #[serde(default)]
    fields: Vec<Value>,
    #[serde(default)]
    sparse: bool,
    #[serde(default)]
    unique: bool,
    #[serde(default)]
    estimates: Option<bool>,
    #[serde(default)]
    cache_enabled: bool,
    #[serde(default)]
    stored_values: Vec<Value>,
    #[serde(default)]
    expire_after: Option<f64>,
}

/// Every index that the entries should have.
pub(super) fn wanted(expire_after: u64) -> impl Iterator<Item = Wanted> {
    let persistent = PERSISTENT.iter().map(|index| Wanted { index, expire_after: None });
    persistent.chain([Wanted { index: &SAFETY_NET, expire_after: Some(expire_after) }])
}

impl Wanted {
    fn kind(&self) -> &'static str {
        if self.expire_after.is_some() { "ttl" } else { "persistent" }
    }

    /// The body that makes it, beside running writes.
    pub(super) fn definition(&self) -> Value {
        let mut definition = json!({
            "type": self.kind(),
            "name": self.index.name,
            "fields": self.index.fields,
            "inBackground": true,
        });
        match self.expire_after {
            Some(seconds) => definition["expireAfter"] = json!(seconds),
            None => {
                for option in ["unique", "sparse", "estimates", "cacheEnabled"] {
                    definition[option] = json!(false);
                }
            }
        }
        definition
    }

    /// Whether an index stands in this one's place: under its name, or such that the database would answer a creation with it.
    pub(super) fn is_place_of(&self, found: &Found) -> bool {
        found.name == self.index.name || (found.kind == self.kind() && has_fields(&found.fields, self.index.fields))
    }

    /// In what an index in its place differs. The database calls two indexes the same that differ in `storedValues` or
    /// `cacheEnabled` only, so nothing but this comparison finds that.
    pub(super) fn differences(&self, found: &Found) -> Vec<String> {
        let is_persistent = self.expire_after.is_none();
        let mut differences = Vec::new();
        let mut expect = |is_right: bool, what: String| {
            if !is_right {
                differences.push(what);
            }
        };
        expect(found.kind == self.kind(), format!("type {}", found.kind));
        let fields = Value::from(found.fields.clone());
        expect(has_fields(&found.fields, self.index.fields), format!("fields {fields}"));
        expect(!found.unique, "unique true".to_owned());
        expect(!is_persistent || !found.sparse, "sparse true".to_owned());
        expect(!is_persistent || found.estimates == Some(false), "estimates true".to_owned());
        expect(!found.cache_enabled, "cacheEnabled true".to_owned());
        expect(found.stored_values.is_empty(), "storedValues".to_owned());
        if let Some(seconds) = self.expire_after {
            let is_right = found.expire_after.is_some_and(|found| found == seconds as f64);
            expect(is_right, format!("expireAfter {:?}", found.expire_after));
        }
        differences
    }
}

fn has_fields(found: &[Value], wanted: &[&str]) -> bool {
    found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| found == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(definition: Value) -> Found {
        let mut definition = definition;
        definition["id"] = json!("wal_entries/1");
        serde_json::from_value(definition).unwrap()
    }

    #[test]
    fn an_index_made_from_its_definition_does_not_differ() {
        for wanted in wanted(77) {
            let found = found(wanted.definition());
            assert!(wanted.is_place_of(&found));
            assert_eq!(wanted.differences(&found), [""; 0], "{}", wanted.index.name);
        }
    }

    #[test]
    fn every_option_that_matters_makes_a_difference() {
        for wanted in wanted(77) {
            let is_ttl = wanted.expire_after.is_some();
            let mut others = vec![
                ("fields", json!(["x"])),
                ("unique", json!(true)),
                ("cacheEnabled", json!(true)),
                ("storedValues", json!(["payload"])),
                ("type", json!("mdi")),
            ];
            if is_ttl {
                others.push(("expireAfter", json!(78)));
            } else {
                others.extend([("sparse", json!(true)), ("estimates", json!(true))]);
            }
            for (option, value) in others {
                let mut definition = wanted.definition();
                definition[option] = value;
                assert_eq!(wanted.differences(&found(definition)).len(), 1, "{} {option}", wanted.index.name);
            }
        }
    }

    #[test]
    fn an_index_over_the_same_fields_stands_in_the_place_whatever_its_name() {
        let wanted = wanted(77).next().unwrap();
        let mut definition = wanted.definition();
        definition["name"] = json!("idx_1");
        assert!(wanted.is_place_of(&found(definition.clone())));
        assert_eq!(wanted.differences(&found(definition.clone())), [""; 0]);
        definition["fields"] = json!(["namespace", "timestamp"]);
        assert!(!wanted.is_place_of(&found(definition)));
    }

    /// As a 3.12 server lists them, with kinds we do not make.
    #[test]
    fn whatever_a_server_lists_can_be_read() {
        let listed = json!([
            {"fields": ["_key"], "id": "p/0", "name": "primary", "selectivityEstimate": 1, "sparse": false,
             "type": "primary", "unique": true},
            {"cacheEnabled": false, "deduplicate": true, "estimates": true, "fields": ["name"], "id": "p/1",
             "name": "idx_1", "selectivityEstimate": 1, "sparse": false, "type": "persistent", "unique": false},
            {"estimates": false, "expireAfter": 3600, "fields": ["createdAt"], "id": "s/2", "name": "idx_2",
             "sparse": true, "type": "ttl", "unique": false},
            {"analyzer": "identity", "fields": [{"name": "value"}], "id": "p/3", "name": "inv", "sparse": true,
             "storedValues": [], "type": "inverted", "unique": false},
        ]);
        let found: Vec<Found> = serde_json::from_value(listed).unwrap();
        assert!(wanted(77).all(|wanted| !found.iter().any(|found| wanted.is_place_of(found))));
    }
}
