//! What a TTL index removes, and when: on demand, never early.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use serde_json::Value;

use super::collection::Collection;
use super::index::Kind;
use super::{Batch, Change, Store};
use crate::value;

impl Store {
    /// All databases. Returns how many documents went.
    pub(crate) fn remove_expired(&mut self, now: SystemTime) -> usize {
        let now = now.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let mut batch = Batch::default();
        for database in self.databases.values_mut() {
            for collection in database.collections.values_mut() {
                for key in expired(collection, now) {
                    let before = collection.remove(&key);
                    batch.changes.push(Change::new(collection.id, &key, before));
                }
            }
        }
        let removed = batch.changes.len();
        self.commit(batch);
        removed
    }
}

fn expired(collection: &Collection, now: f64) -> Vec<String> {
    let ttl = collection.indexes.iter().find_map(|index| match index.definition.kind {
        Kind::Ttl { expire_after } => Some((expire_after, &index.definition.fields[0])),
        Kind::Persistent => None,
    });
    let Some((expire_after, path)) = ttl else {
        return Vec::new();
    };
    let is_expired = |value: &Value| seconds(value::at(value, path)).is_some_and(|time| time + expire_after <= now);
    let expired = collection.scan().filter(|document| is_expired(&document.value));
    expired.map(|document| document.key().to_owned()).collect()
}

/// Numbers are seconds, texts are dates in UTC unless they say otherwise. Anything else never expires.
pub(crate) fn seconds(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => date(text),
        _ => None,
    }
}

fn date(text: &str) -> Option<f64> {
    let zoned = || DateTime::parse_from_rfc3339(text).ok().map(|date| date.to_utc());
    let local = || NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok().map(|date| date.and_utc());
    let day = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0).map(|date| date.and_utc());
    let date = zoned().or_else(local).or_else(day)?;
    #[expect(clippy::cast_precision_loss, reason = "microseconds of this age fit")]
    let micros = date.timestamp_micros() as f64;
    Some(micros / 1e6)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn dates_and_seconds_are_times_and_nothing_else_is() {
        assert_eq!(seconds(&json!(12.5)), Some(12.5));
        assert_eq!(seconds(&json!("1970-01-02")), Some(86_400.0));
        assert_eq!(seconds(&json!("1970-01-01T00:00:01.5Z")), Some(1.5));
        assert_eq!(seconds(&json!("1970-01-01T01:00:00+01:00")), Some(0.0));
        assert_eq!(seconds(&json!("1970-01-01T00:00:01")), Some(1.0));
        for none in [json!("soon"), json!(null), json!(true), json!([1])] {
            assert_eq!(seconds(&none), None, "{none}");
        }
    }
}
