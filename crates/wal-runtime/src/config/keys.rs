//! The keys as a reference shows them: what `config/default.toml` says of each, in its order, and what holds of each in a process.

use std::collections::{BTreeMap, BTreeSet};

use config::{Value, ValueKind};

use super::schema::{self, Place, Schema};
use super::{DEFAULT, DEFAULTS, GIVEN, Settings, json, layer};

/// What the name of a key holds whose value is nobody's business, in its last part.
const SECRET_WORDS: [&str; 5] = ["password", "secret", "token", "credential", "headers"];
/// The options of librdkafka that may be shown. Any other may be a secret, or come to be one in a later version.
const HARMLESS_OPTIONS: [&str; 13] = [
    "broker.address.family",
    "client.id",
    "debug",
    "enable.ssl.certificate.verification",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.username",
    "security.protocol",
    "socket.timeout.ms",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
];
/// The keys whose change a running service takes over when it is told to read its configuration again. Each is read once per decision
/// or batch; what stands in the store keeps the policy it was stored under.
const LIVE: [&str; 16] = [
    "log.level",
    "policy.answers",
    "policy.backoff",
    "policy.correlation_fields",
    "policy.delay",
    "policy.first_delay",
    "policy.priority",
    "policy.retry_count",
    "policy.target",
    "policy.ttl",
    "retry_scheduler.keep_cancels",
    "retry_scheduler.retry_after_max",
    "retry_scheduler.unknown_target_wait",
    "writer.create_missing_targets",
    "writer.reply_topics",
    "writer.unknown_target_wait",
];
/// What is shown instead of a secret.
const HIDDEN: &str = "***";
/// How alike (0 to 1) a name must be to be worth showing to somebody who looks for a key.
const NEAR: f64 = 0.5;

/// A key, or a table whose keys people choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its dotted name.
    pub name: String,
    /// What the defaults say of it, in one paragraph.
    pub comment: String,
    /// What it takes.
    pub kind: Kind,
    /// Its default as it stands in the file; empty for a table whose keys people choose.
    pub default: String,
}

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A length of time, written as text.
    Duration,
    /// A number.
    Number,
    /// Yes or no.
    Flag,
    /// A list of texts.
    Texts,
    /// It is a table: whatever names people choose, each with a text.
    FreeTable,
}

impl Kind {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Duration => "a length of time, such as \"30s\" or \"7d\"",
            Kind::Number => "a number",
            Kind::Flag => "true or false",
            Kind::Texts => "a list of texts",
            Kind::FreeTable => "texts under names of your own",
        }
    }

    fn of(default: &ValueKind) -> Kind {
        match default {
            ValueKind::Boolean(_) => Kind::Flag,
            ValueKind::Array(_) => Kind::Texts,
            ValueKind::String(text) if humantime::parse_duration(text).is_ok() => Kind::Duration,
            ValueKind::String(_) | ValueKind::Nil | ValueKind::Table(_) => Kind::Text,
            ValueKind::I64(_) | ValueKind::U64(_) | ValueKind::I128(_) | ValueKind::U128(_) | ValueKind::Float(_) => {
                Kind::Number
            }
        }
    }
}

impl Key {
    /// Every key, in the order of the defaults.
    pub fn all() -> Vec<Key> {
        read(DEFAULTS)
    }

    /// The key that a dotted name or the name of a variable means; the names of a table's keys are people's own.
    pub fn find(name: &str) -> Option<Key> {
        let (schema, name) = (Schema::compiled_in(), dotted(name));
        let known = match schema.place(&name) {
            Place::Key(_) => name.clone(),
            Place::Free(table, _) => table.to_owned(),
            Place::Table if schema::FREE_TABLES.contains(&&*name) => name.clone(),
            Place::Table | Place::Nowhere => return None,
        };
        let key = Key::all().into_iter().find(|key| key.name == known)?;
        Some(Key { name, ..key })
    }

    /// The keys of a section.
    pub fn of_section(section: &str) -> Vec<Key> {
        let prefix = format!("{}.", dotted(section));
        Key::all().into_iter().filter(|key| key.name.starts_with(&prefix)).collect()
    }

    /// At most `count` known names that look like this one, the most alike first.
    pub fn near(name: &str, count: usize) -> Vec<String> {
        let name = dotted(name);
        let schema = Schema::compiled_in();
        let mut near: Vec<(f64, &str)> = schema.names().map(|known| (schema::likeness(&name, known), known)).collect();
        near.retain(|(likeness, _)| *likeness >= NEAR);
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        near.into_iter().take(count).map(|(_, known)| known.to_owned()).collect()
    }

    /// Whether a running service takes a change of it over, on SIGHUP; any other takes effect at the next start.
    pub fn is_live(&self) -> bool {
        Key::is_live_named(&self.name)
    }

    /// The same of a name.
    pub(crate) fn is_live_named(name: &str) -> bool {
        LIVE.contains(&name)
    }

    /// The variable that sets it; `None` for a table, whose keys have one each.
    pub fn variable(&self) -> Option<String> {
        (!schema::FREE_TABLES.contains(&&*self.name)).then(|| layer::variable_name(&self.name))
    }
}

fn dotted(name: &str) -> String {
    if layer::is_ours(name) { layer::dotted(name) } else { name.to_owned() }
}

/// Reads what the text of the defaults says of each key: the comment directly above it.
fn read(text: &str) -> Vec<Key> {
    let schema = Schema::compiled_in();
    let (mut keys, mut section, mut comment) = (Vec::new(), "", Vec::new());
    for line in text.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix('#') {
            comment.push(words.trim());
            continue;
        }
        let words = std::mem::take(&mut comment).join(" ");
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
            if schema::FREE_TABLES.contains(&name) {
                let (name, default) = (name.to_owned(), String::new());
                keys.push(Key { name, comment: words, kind: Kind::FreeTable, default });
            }
        } else if let Some((name, default)) = line.split_once(" = ") {
            let name = format!("{section}.{name}");
            let Place::Key(kind) = schema.place(&name) else { continue };
            let (kind, default) = (Kind::of(kind), default.to_owned());
            keys.push(Key { name, comment: words, kind, default });
        }
    }
    keys
}

/// Which of the layers a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Nobody has set it.
    Default,
    /// The configuration file.
    File,
    /// A variable, or the file that a variable names.
    Variable,
    /// Code, which has it from the command line.
    Given,
}

impl Layer {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Layer::Default => "default",
            Layer::File => "file",
            Layer::Variable => "variable",
            Layer::Given => "command line",
        }
    }

    fn of(origin: &str) -> Layer {
        let variable = origin.strip_prefix(layer::FILE_OF).unwrap_or(origin);
        match origin {
            DEFAULT => Layer::Default,
            GIVEN => Layer::Given,
            _ if layer::is_ours(variable) => Layer::Variable,
            _ => Layer::File,
        }
    }
}

/// What holds of one key in a process, fit to be shown: no secret is in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// The dotted name of the key.
    pub key: String,
    /// Its value; of a secret that is set, three asterisks.
    pub value: serde_json::Value,
    /// The layer that it comes from.
    pub layer: Layer,
    /// The place it comes from, by name.
    pub origin: String,
}

impl Settings {
    /// What holds of every key, in the order of the defaults; of tables whose keys people choose, each key that is there.
    pub fn held(&self) -> Vec<Held> {
        Key::all().iter().flat_map(|key| self.held_of(key)).collect()
    }

    /// The keys whose value differs from the other's, by name. Secrets are compared, too, and not shown.
    pub fn changed_from(&self, other: &Settings) -> Vec<String> {
        let (own, other) = (self.leaves(), other.leaves());
        let names: BTreeSet<&String> = own.keys().chain(other.keys()).collect();
        names.into_iter().filter(|name| own.get(*name) != other.get(*name)).cloned().collect()
    }

    fn leaves(&self) -> BTreeMap<String, serde_json::Value> {
        let ValueKind::Table(table) = &self.merged.cache.kind else { return BTreeMap::new() };
        schema::leaves(table).into_iter().map(|(name, value)| (name, json(&value))).collect()
    }

    /// What holds of one key; of a table whose keys people choose, of each that is there.
    pub fn held_of(&self, key: &Key) -> Vec<Held> {
        let Place::Table = Schema::compiled_in().place(&key.name) else {
            return self.value(&key.name).map(|value| held(&key.name, value)).into_iter().collect();
        };
        let Some(ValueKind::Table(table)) = self.value(&key.name).map(|value| &value.kind) else {
            return Vec::new();
        };
        let mut found: Vec<Held> =
            table.iter().map(|(own, value)| held(&format!("{}.{own}", key.name), value)).collect();
        found.sort_by(|a, b| a.key.cmp(&b.key));
        found
    }
}

fn held(key: &str, value: &Value) -> Held {
    let origin = value.origin().unwrap_or(DEFAULT).to_owned();
    Held { key: key.to_owned(), value: shown(key, json(&value.kind)), layer: Layer::of(&origin), origin }
}

/// The value, unless it is a secret. An empty one is shown: that nothing is set is what people look for.
fn shown(key: &str, value: serde_json::Value) -> serde_json::Value {
    let is_empty = value.as_str().is_some_and(str::is_empty);
    let holds_login = |value: &serde_json::Value| value.as_str().is_some_and(|text| text.contains('@'));
    let is_hidden = match &value {
        _ if is_secret(key) => !is_empty,
        // A user and a password in a URL, where they are refused; the value is shown all the same.
        serde_json::Value::Array(items) => items.iter().any(holds_login),
        text => text.as_str().is_some_and(|text| text.contains("://")) && holds_login(text),
    };
    if is_hidden { HIDDEN.into() } else { value }
}

fn is_secret(key: &str) -> bool {
    if let Some(option) = key.strip_prefix(layer::OPTIONS) {
        return !HARMLESS_OPTIONS.contains(&option);
    }
    let last = schema::last(key);
    key.starts_with("seal.keys.") || SECRET_WORDS.iter().any(|word| last.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(environment: &[(&str, &str)]) -> Settings {
        let owned = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::load_from(None, owned, &[]).unwrap()
    }

    #[test]
    fn every_key_of_the_schema_is_told_with_its_comment() {
        let keys = Key::all();
        let mut names: Vec<&str> = keys.iter().map(|key| &*key.name).collect();
        names.sort_unstable();
        let schema = Schema::compiled_in();
        let mut expected: Vec<&str> = schema.names().chain(schema::FREE_TABLES).collect();
        expected.sort_unstable();
        assert_eq!(names, expected);
        assert!(keys.iter().all(|key| !key.comment.is_empty()), "{keys:#?}");
    }

    #[test]
    fn a_comment_of_two_lines_is_one_text_and_the_head_of_the_file_is_no_comment_of_a_key() {
        let key = Key::find("retry_scheduler.delete_released_every").unwrap();
        assert!(key.comment.starts_with("How often") && key.comment.ends_with("does it then."), "{key:?}");
        assert!(!Key::all()[0].comment.contains("Every key there is"));
        assert_eq!((key.kind, &*key.default), (Kind::Duration, "\"1m\""));
    }

    #[test]
    fn keys_are_found_by_name_by_variable_and_within_tables_of_peoples_own() {
        let found = |name: &str| Key::find(name).map(|key| (key.name.clone(), key.variable()));
        let instance = Some(("kafka.instance".to_owned(), Some("WAL__KAFKA__INSTANCE".to_owned())));
        assert_eq!(found("kafka.instance"), instance);
        assert_eq!(found("WAL__KAFKA__INSTANCE"), instance);
        assert_eq!(found("seal.keys.k1"), Some(("seal.keys.k1".into(), Some("WAL__SEAL__KEYS__K1".into()))));
        assert_eq!(found("kafka.options"), Some(("kafka.options".into(), None)));
        assert_eq!(found("kafka"), None);
        assert_eq!(
            Key::of_section("health").iter().map(|key| &*key.name).collect::<Vec<_>>(),
            ["health.listen", "health.endpoints"]
        );
        assert_eq!(Key::near("kafka.instanse", 3)[0], "kafka.instance");
        assert_eq!(Key::near("zzzzzz", 3), Vec::<String>::new());
    }

    #[test]
    fn secrets_are_hidden_and_nothing_else() {
        let settings = settings(&[
            ("WAL__SEAL__KEYS__K1", "hunter2"),
            ("WAL__STORE__ARANGODB__PASSWORD", "hunter2"),
            ("WAL__STORE__ARANGODB__ENDPOINTS", "http://u:hunter2@a:1"),
            ("WAL__KAFKA__OPTIONS__SASL_PASSWORD", "hunter2"),
            ("WAL__KAFKA__OPTIONS__SSL_KEY_PEM", "hunter2"),
            ("WAL__KAFKA__OPTIONS__SECURITY_PROTOCOL", "sasl_ssl"),
        ]);
        let held = settings.held();
        assert!(!format!("{held:?}").contains("hunter2"), "{held:#?}");
        let value = |key: &str| held.iter().find(|held| held.key == key).unwrap().value.clone();
        assert_eq!(value("kafka.options.security.protocol"), "sasl_ssl");
        assert_eq!(value("seal.keys.k1"), HIDDEN);
        assert_eq!(value("seal.signing_key"), "");
    }

    #[test]
    fn what_can_be_taken_over_are_keys_that_there_are() {
        assert!(LIVE.iter().all(|name| Key::find(name).is_some_and(|key| key.name == *name && key.is_live())));
        assert!(!Key::find("kafka.bootstrap_servers").unwrap().is_live());
    }

    #[test]
    fn a_secret_that_changed_is_told_by_name() {
        let old = settings(&[("WAL__SEAL__KEYS__K1", "one"), ("WAL__LOG__LEVEL", "warn")]);
        let new = settings(&[("WAL__SEAL__KEYS__K1", "two"), ("WAL__KAFKA__OPTIONS__SASL_PASSWORD", "x")]);
        assert_eq!(new.changed_from(&old), ["kafka.options.sasl.password", "log.level", "seal.keys.k1"]);
        assert_eq!(new.changed_from(&new.clone()), Vec::<String>::new());
    }

    #[test]
    fn every_value_knows_its_layer() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[topics]\npartitions = 4\n").unwrap();
        let secret = tempfile::NamedTempFile::new().unwrap();
        let variables = [
            ("WAL__LOG__LEVEL".to_owned(), "warn".to_owned()),
            ("WAL__STORE__ARANGODB__PASSWORD_FILE".to_owned(), secret.path().display().to_string()),
        ];
        let given = [("kafka.instance", "dev".to_owned())];
        let settings = Settings::load_from(Some(file.path()), variables.into_iter(), &given).unwrap();
        let held = settings.held();
        let layer = |key: &str| held.iter().find(|held| held.key == key).unwrap().layer;
        assert_eq!(layer("topics.partitions"), Layer::File);
        assert_eq!(layer("log.level"), Layer::Variable);
        assert_eq!(layer("store.arangodb.password"), Layer::Variable);
        assert_eq!(layer("kafka.instance"), Layer::Given);
        assert_eq!(layer("topics.replication"), Layer::Default);
    }
}
