//! Settings: compiled-in defaults, under a file, under the environment, under what code gives.
//!
//! `config/default.toml` is the reference: a key that is not there does not exist, and using it fails the start. Whoever reads a
//! section checks it: [`Kafka::read`], [`TopicSettings::read`] and so on here, and each service its own with [`Settings::section`].

mod error;
mod kafka;
mod keys;
mod layer;
mod schema;
mod sections;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use config::{Config, Value, ValueKind};
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _};

pub use error::{Error, Problem};
pub use kafka::{Kafka, Options, TopicSettings};
pub use keys::{Held, Key, Kind, Layer};
pub use sections::{Format, Health, Log, Policy, Seal, Traces};
pub use store::{ArangoDb, Login, StoreSettings};

use layer::Layers;
use schema::{Place, Schema};

/// Every key with its default, as it is compiled in.
pub const DEFAULTS: &str = include_str!("../../../config/default.toml");

/// Where a value comes from that nobody has set.
const DEFAULT: &str = "the defaults";
/// Where a value comes from that code has set.
const GIVEN: &str = "the command line";

/// All settings of a process, each knowing where it came from.
#[derive(Clone)]
pub struct Settings {
    merged: Config,
}

impl Settings {
    /// Reads the settings of this process: the defaults, `file` if there is one, and the environment.
    pub fn load(file: Option<&Path>) -> Result<Settings, Error> {
        Settings::load_with(file, &[])
    }

    /// Like [`Settings::load`], under what code gives: dotted keys with their values as text.
    pub fn load_with(file: Option<&Path>, given: &[(&str, String)]) -> Result<Settings, Error> {
        let mut environment = Vec::new();
        // Not `vars`, which panics at a variable that is not Unicode, whoever's it is.
        for (name, value) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            match value.into_string() {
                Ok(value) => environment.push((name, value)),
                Err(_) if layer::is_ours(&name) => {
                    let (origin, expected) = ("the environment".to_owned(), "text in UTF-8".to_owned());
                    return Err(Problem::WrongType { key: name, origin, expected }.into());
                }
                Err(_) => {}
            }
        }
        Settings::load_from(file, environment.into_iter(), given)
    }

    /// Like [`Settings::load_with`], with another environment than the process's own.
    pub fn load_from(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        given: &[(&str, String)],
    ) -> Result<Settings, Error> {
        let schema = Schema::compiled_in();
        let mut layers = Layers::new(&schema);
        let file = file.map(|path| layers.file(path)).unwrap_or_default();
        let environment = layers.environment(environment);
        let given = layers.given(given);
        Error::unless_empty(layers.into_problems())?;

        let defaults = config::File::from_str(DEFAULTS, config::FileFormat::Toml);
        let builder = Config::builder().add_source(defaults);
        let merged = builder.add_source(file).add_source(environment).add_source(given).build();
        Ok(Settings { merged: merged.expect("the defaults are compiled in, the other layers are in memory") })
    }

    /// Reads a section into a type of the caller's. Relations between keys are the caller's to check.
    pub fn section<T: DeserializeOwned>(&self, name: &str) -> Result<T, Error> {
        let section = self.merged.get_table(name).map(ValueKind::Table).unwrap_or_default();
        serde_path_to_error::deserialize(json(&section)).map_err(|error| {
            let path = error.path().to_string();
            let reason = error.into_inner().to_string();
            let key = path.split('[').next().filter(|key| *key != ".");
            self.invalid(&key.map_or(name.to_owned(), |key| format!("{name}.{key}")), reason)
        })
    }

    /// Where the value of a key came from; of a table, all places its values came from.
    pub fn origin(&self, key: &str) -> String {
        let Some(value) = self.value(key) else { return DEFAULT.to_owned() };
        let one = |value: &Value| value.origin().unwrap_or(DEFAULT).to_owned();
        match &value.kind {
            ValueKind::Table(table) if !table.is_empty() => {
                let mut places: BTreeSet<String> = table.values().map(one).collect();
                // What nobody has set says nothing about who has set the rest.
                if places.len() > 1 {
                    places.remove(DEFAULT);
                }
                places.into_iter().collect::<Vec<_>>().join(", ")
            }
            _ => one(value),
        }
    }

    /// The value of a key or of a table.
    fn value(&self, key: &str) -> Option<&Value> {
        let (section, own_key) = match Schema::compiled_in().place(key) {
            Place::Free(section, own_key) => (section, own_key),
            Place::Key(_) | Place::Table | Place::Nowhere => {
                let (section, own_key) = key.rsplit_once('.')?;
                (section, own_key.to_owned())
            }
        };
        section.split('.').chain([own_key.as_str()]).try_fold(&self.merged.cache, |value, name| match &value.kind {
            ValueKind::Table(table) => table.get(name),
            _ => None,
        })
    }

    /// The error of a key whose value cannot be used.
    pub fn invalid(&self, key: &str, reason: impl fmt::Display) -> Error {
        let (key, origin, reason) = (key.to_owned(), self.origin(key), reason.to_string());
        Problem::Invalid { key, origin, reason }.into()
    }

    /// The error of two keys that cannot both be followed.
    pub fn contradiction(&self, first: &str, second: &str, reason: impl fmt::Display) -> Error {
        let (first_origin, second_origin) = (self.origin(first), self.origin(second));
        let (first, second, reason) = (first.to_owned(), second.to_owned(), reason.to_string());
        Problem::Contradiction { first, first_origin, second, second_origin, reason }.into()
    }
}

/// Says nothing: settings hold secrets.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").finish_non_exhaustive()
    }
}

/// A value for serde to read. Not `config`'s own reader: that one takes 1.5 for 2 and "yes" for 1.
fn json(value: &ValueKind) -> serde_json::Value {
    match value {
        ValueKind::Nil | ValueKind::I128(_) | ValueKind::U128(_) => serde_json::Value::Null,
        ValueKind::Boolean(is_true) => (*is_true).into(),
        ValueKind::I64(number) => (*number).into(),
        ValueKind::U64(number) => (*number).into(),
        ValueKind::Float(number) => (*number).into(),
        ValueKind::String(text) => text.as_str().into(),
        ValueKind::Array(items) => items.iter().map(|item: &Value| json(&item.kind)).collect(),
        ValueKind::Table(table) => table.iter().map(|(key, value)| (key.clone(), json(&value.kind))).collect(),
    }
}

/// Reads a length of time such as `30s`, `7d` or `1h 30m`, for `#[serde(deserialize_with)]`.
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|error| D::Error::custom(format_args!("`{text}` is no length of time such as \"30s\": {error}")))
}

/// Reads an address to listen on, where an empty text is none, for `#[serde(deserialize_with)]`.
pub fn listen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<std::net::SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let example = "such as \"0.0.0.0:8080\"";
    text.parse().map(Some).map_err(|_| D::Error::custom(format_args!("`{text}` is no address and port {example}")))
}
