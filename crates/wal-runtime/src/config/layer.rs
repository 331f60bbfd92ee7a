//! The layers above the defaults: a file, the environment, and what code gives. Each is checked key by key before it is laid on.
//!
//! ```text
//!   default.toml ─▶ file ─▶ WAL__SECTION__KEY ─▶ given by code       later wins, key by key
//!                     │            │                  │
//!                     └────────────┴──────────────────┴─▶ every value knows where it came from
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use config::{ConfigError, FileFormat, Map, Source, Value, ValueKind};

use super::error::Problem;
use super::schema::{self, Place, Schema};

/// What the names of our variables begin with. Two underscores, because Kubernetes sets `WAL_GATEWAY_PORT` and the like by itself.
const PREFIX: &str = "wal__";
/// What the name of a variable ends with whose value is the name of a file.
const FILE_SUFFIX: &str = "_file";
/// The table whose keys have dots where a variable has underscores.
pub(super) const OPTIONS: &str = "kafka.options.";
/// What stands before the name of a variable where the value comes from the file that it names.
pub(super) const FILE_OF: &str = "the file of ";
/// Options of librdkafka with an underscore of their own.
const WITH_UNDERSCORE: [(&str, &str); 1] = [("log.level", "log_level")];
/// Options of librdkafka that are themselves names of files, so that their ending says nothing about the variable.
const FILE_OPTIONS: [&str; 3] = [
    "sasl.oauthbearer.assertion.file",
    "sasl.oauthbearer.assertion.jwt.template.file",
    "sasl.oauthbearer.assertion.private.key.file",
];

/// Reads layers and keeps what was wrong in them, so that all of it can be told at once.
pub(super) struct Layers<'a> {
    schema: &'a Schema,
    problems: Vec<Problem>,
}

/// Checked values, ready to be laid over others.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

impl Layer {
    /// Puts a value in a section, which may itself have a dotted name; the key is taken as it is.
    fn put(&mut self, section: &str, key: &str, value: ValueKind, origin: &str) {
        let mut table = &mut self.0;
        for name in section.split('.') {
            let inner = table.entry(name.to_owned()).or_insert_with(|| Value::new(None, Map::<String, Value>::new()));
            let ValueKind::Table(inner) = &mut inner.kind else {
                unreachable!("the schema knows no key that is also a section");
            };
            table = inner;
        }
        table.insert(key.to_owned(), Value::new(Some(&origin.to_owned()), value));
    }

    /// Puts a value at a place the schema knows.
    fn put_key(&mut self, name: &str, value: ValueKind, origin: &str) {
        let (section, key) = name.rsplit_once('.').expect("every key of the defaults is in a section");
        self.put(section, key, value, origin);
    }
}

/// A variable that means one key.
struct Variable {
    name: String,
    kind: VariableKind,
    value: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum VariableKind {
    /// It holds the value.
    Value,
    /// It holds the name of a file with the value.
    FileName,
}

impl<'a> Layers<'a> {
    pub(super) fn new(schema: &'a Schema) -> Layers<'a> {
        Layers { schema, problems: Vec::new() }
    }

    /// What was wrong in all layers read so far.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// The layer of a file.
    pub(super) fn file(&mut self, path: &Path) -> Layer {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(source) => {
                let what = "the configuration file".to_owned();
                self.problems.push(Problem::Unreadable { path: path.to_owned(), what, source });
                return Layer::default();
            }
        };
        let origin = path.display().to_string();
        match config::File::from_str(&text, FileFormat::Toml).collect() {
            Ok(table) => self.table(&table, &origin),
            Err(error) => {
                let reason = without_text(&error);
                self.problems.push(Problem::NotToml { origin, reason });
                Layer::default()
            }
        }
    }

    fn table(&mut self, table: &Map<String, Value>, origin: &str) -> Layer {
        let mut layer = Layer::default();
        let mut leaves = schema::leaves(table);
        leaves.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, value) in leaves {
            match self.schema.place(&name) {
                Place::Key(default) if schema::fits(&value, default) => layer.put_key(&name, value, origin),
                Place::Key(default) => self.wrong_type(&name, origin, schema::expected(default)),
                Place::Free(section, key) => match free_text(&value) {
                    Some(text) => layer.put(section, &key, ValueKind::String(text), origin),
                    None => self.wrong_type(&name, origin, "text".to_owned()),
                },
                // A section without keys, such as one whose keys are all commented out.
                Place::Table if matches!(value, ValueKind::Table(_)) => {}
                Place::Table => self.wrong_type(&name, origin, "a section".to_owned()),
                Place::Nowhere => {
                    let suggestion = self.schema.suggestion(&name).map(str::to_owned);
                    self.problems.push(Problem::Unknown { spelled: name, origin: origin.to_owned(), suggestion });
                }
            }
        }
        layer
    }

    /// The layer of the environment; variables that are not ours are passed over.
    pub(super) fn environment(&mut self, variables: impl Iterator<Item = (String, String)>) -> Layer {
        let mut layer = Layer::default();
        for (key, variable) in self.variables(variables) {
            let (text, origin) = match variable.kind {
                VariableKind::Value => (variable.value, variable.name),
                VariableKind::FileName => {
                    let path = PathBuf::from(&variable.value);
                    match std::fs::read_to_string(&path) {
                        Ok(text) => (without_newline(text), format!("{FILE_OF}{}", variable.name)),
                        Err(source) => {
                            self.problems.push(Problem::Unreadable { path, what: variable.name, source });
                            continue;
                        }
                    }
                }
            };
            self.put_text(&mut layer, &key, &text, &origin);
        }
        layer
    }

    /// Our variables by the key they set. In the order of their names, so that problems come in the same order every time.
    fn variables(&mut self, variables: impl Iterator<Item = (String, String)>) -> BTreeMap<String, Variable> {
        let mut ours: Vec<_> = variables.filter(|(name, _)| is_ours(name)).collect();
        ours.sort();
        let mut by_key = BTreeMap::<String, Variable>::new();
        for (name, value) in ours {
            let Some((key, kind)) = self.key_of(&name) else {
                let suggestion = self.schema.suggestion(&dotted(&name)).map(variable_name);
                let origin = "the environment".to_owned();
                self.problems.push(Problem::Unknown { spelled: name, origin, suggestion });
                continue;
            };
            match by_key.get(&key) {
                Some(other) => {
                    self.problems.push(Problem::Twice { key, first: other.name.clone(), second: name });
                }
                None => {
                    by_key.insert(key, Variable { name, kind, value });
                }
            }
        }
        by_key
    }

    /// The key that a variable sets.
    fn key_of(&self, variable: &str) -> Option<(String, VariableKind)> {
        let name = dotted(variable);
        if let Some(option) = name.strip_prefix(OPTIONS) {
            let whole = option.replace('_', ".");
            let file = whole.strip_suffix(".file").filter(|_| !FILE_OPTIONS.contains(&whole.as_str()));
            let kind = if file.is_some() { VariableKind::FileName } else { VariableKind::Value };
            let option = with_underscore(file.unwrap_or(&whole));
            return (!option.is_empty()).then(|| (format!("{OPTIONS}{option}"), kind));
        }
        let is_key = |name: &str| matches!(self.schema.place(name), Place::Key(_) | Place::Free(..));
        match name.strip_suffix(FILE_SUFFIX) {
            Some(stem) if is_key(stem) => Some((stem.to_owned(), VariableKind::FileName)),
            _ => is_key(&name).then_some((name, VariableKind::Value)),
        }
    }

    /// The layer of what code gives: dotted keys with their values as text.
    pub(super) fn given(&mut self, given: &[(&str, String)]) -> Layer {
        let mut layer = Layer::default();
        for (key, text) in given {
            match self.schema.place(key) {
                Place::Key(_) | Place::Free(..) => self.put_text(&mut layer, key, text, super::GIVEN),
                Place::Table | Place::Nowhere => {
                    let suggestion = self.schema.suggestion(key).map(str::to_owned);
                    let origin = super::GIVEN.to_owned();
                    self.problems.push(Problem::Unknown { spelled: (*key).to_owned(), origin, suggestion });
                }
            }
        }
        layer
    }

    fn put_text(&mut self, layer: &mut Layer, key: &str, text: &str, origin: &str) {
        match self.schema.place(key) {
            Place::Key(default) => match schema::parse(text, default) {
                Some(value) => layer.put_key(key, value, origin),
                None => self.wrong_type(key, origin, schema::expected(default)),
            },
            Place::Free(section, own) => layer.put(section, &own, ValueKind::String(text.to_owned()), origin),
            Place::Table | Place::Nowhere => unreachable!("callers have looked the key up"),
        }
    }

    fn wrong_type(&mut self, key: &str, origin: &str, expected: String) {
        self.problems.push(Problem::WrongType { key: key.to_owned(), origin: origin.to_owned(), expected });
    }
}

/// Whether a variable is meant for us, rightly spelled or not.
pub(super) fn is_ours(variable: &str) -> bool {
    variable.to_ascii_lowercase().starts_with(PREFIX)
}

/// `WAL__SEAL__SIGNING_KEY` as `seal.signing_key`.
pub(super) fn dotted(variable: &str) -> String {
    variable.to_ascii_lowercase().replacen(PREFIX, "", 1).replace("__", ".")
}

/// `seal.signing_key` as `WAL__SEAL__SIGNING_KEY`.
pub(super) fn variable_name(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__")).to_ascii_uppercase()
}

fn with_underscore(option: &str) -> &str {
    WITH_UNDERSCORE.iter().find(|(dotted, _)| *dotted == option).map_or(option, |(_, spelled)| spelled)
}

/// A value of a free table as text: librdkafka takes its numbers and booleans as text too.
fn free_text(value: &ValueKind) -> Option<String> {
    match value {
        ValueKind::String(text) => Some(text.clone()),
        ValueKind::Boolean(_) | ValueKind::I64(_) | ValueKind::Float(_) => Some(value.to_string()),
        _ => None,
    }
}

/// Without the one newline that editors and `echo` leave at the end.
fn without_newline(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

/// What the TOML reader says, without the lines it quotes: they may hold a secret.
fn without_text(error: &ConfigError) -> String {
    let message = match error {
        ConfigError::FileParse { cause, .. } => cause.to_string(),
        other => other.to_string(),
    };
    let is_quote = |line: &str| {
        line.split_once('|').is_some_and(|(margin, _)| margin.chars().all(|c| c.is_ascii_digit() || c == ' '))
    };
    message.lines().filter(|line| !is_quote(line)).collect::<Vec<_>>().join(", ")
}
