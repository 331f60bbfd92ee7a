//! Which keys there are and of what kind each is: what `config/default.toml` holds, no list beside it.

use config::{FileFormat, Map, Source, Value, ValueKind};

use super::DEFAULTS;

/// Tables whose keys people choose.
pub(super) const FREE_TABLES: [&str; 2] = ["kafka.options", "seal.keys"];
/// Below this likeness (0 to 1) a suggestion would only confuse.
const LIKENESS_MIN: f64 = 0.8;

/// The known keys, by dotted name, each with its default.
pub(super) struct Schema {
    keys: Vec<(String, ValueKind)>,
}

/// What a dotted name stands for.
pub(super) enum Place<'a> {
    /// A key, with its default.
    Key(&'a ValueKind),
    /// A key of a free table, with the table's name and the key's own.
    Free(&'static str, String),
    /// A section or a free table.
    Table,
    /// Nothing.
    Nowhere,
}

impl Schema {
    /// Of the defaults that are compiled in.
    pub(super) fn compiled_in() -> Schema {
        let mut keys = leaves(&defaults());
        keys.sort_by(|a, b| a.0.cmp(&b.0));
        Schema { keys }
    }

    /// What stands at a dotted name.
    pub(super) fn place(&self, name: &str) -> Place<'_> {
        if let Some((_, default)) = self.keys.iter().find(|(key, _)| key == name) {
            return Place::Key(default);
        }
        for table in FREE_TABLES {
            let own_name = name.strip_prefix(table).and_then(|rest| rest.strip_prefix('.'));
            if let Some(own_name) = own_name.filter(|own_name| !own_name.is_empty()) {
                return Place::Free(table, own_name.to_owned());
            }
        }
        let prefix = format!("{name}.");
        let is_table = FREE_TABLES.contains(&name) || self.keys.iter().any(|(key, _)| key.starts_with(&prefix));
        if is_table { Place::Table } else { Place::Nowhere }
    }

    /// The names of all keys.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|(key, _)| key.as_str())
    }

    /// The known key that looks most like `name`, if one does.
    pub(super) fn suggestion(&self, name: &str) -> Option<&str> {
        self.names()
            .map(|known| (likeness(name, known), known))
            .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, key)| key)
    }
}

/// How alike two dotted names are, from 0 to 1.
pub(super) fn likeness(name: &str, known: &str) -> f64 {
    let whole = strsim::normalized_damerau_levenshtein(name, known);
    // The right key in the wrong section is a likely mistake too.
    let ends = strsim::normalized_damerau_levenshtein(last(name), last(known)) * 0.95;
    whole.max(ends)
}

/// The last part of a dotted name.
pub(super) fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// The defaults as a table.
pub(super) fn defaults() -> Map<String, Value> {
    let file = config::File::from_str(DEFAULTS, FileFormat::Toml);
    file.collect().expect("the file is compiled in, and a test reads it")
}

/// The values of a table that are no tables, by dotted name; an empty table counts as a value unless it is a free one.
pub(super) fn leaves(table: &Map<String, Value>) -> Vec<(String, ValueKind)> {
    let mut found = Vec::new();
    collect("", table, &mut found);
    found
}

fn collect(prefix: &str, table: &Map<String, Value>, found: &mut Vec<(String, ValueKind)>) {
    for (key, value) in table {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match &value.kind {
            ValueKind::Table(inner) if !inner.is_empty() => collect(&name, inner, found),
            ValueKind::Table(_) if FREE_TABLES.contains(&name.as_str()) => {}
            kind => found.push((name, kind.clone())),
        }
    }
}

/// A value read from text (a variable, a flag), of the kind its key's default has.
pub(super) fn parse(text: &str, default: &ValueKind) -> Option<ValueKind> {
    match default {
        ValueKind::Boolean(_) => text.parse().ok().map(ValueKind::Boolean),
        ValueKind::I64(_) | ValueKind::Float(_) => {
            let whole = text.parse().ok().map(ValueKind::I64);
            whole.or_else(|| text.parse().ok().filter(|number: &f64| number.is_finite()).map(ValueKind::Float))
        }
        ValueKind::Array(_) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Some(ValueKind::Array(items.map(|item| Value::new(None, item)).collect()))
        }
        _ => Some(ValueKind::String(text.to_owned())),
    }
}

/// Whether a value from a file is of the kind its key's default has.
pub(super) fn fits(value: &ValueKind, default: &ValueKind) -> bool {
    match (value, default) {
        // Whether a fraction may stand there is for the section that reads it to say.
        (ValueKind::Float(number), ValueKind::I64(_) | ValueKind::Float(_)) => number.is_finite(),
        (ValueKind::I64(_), ValueKind::I64(_) | ValueKind::Float(_)) => true,
        (ValueKind::Boolean(_), ValueKind::Boolean(_)) | (ValueKind::String(_), ValueKind::String(_)) => true,
        (ValueKind::Array(items), ValueKind::Array(_)) => {
            items.iter().all(|item| matches!(item.kind, ValueKind::String(_)))
        }
        _ => false,
    }
}

/// What a key takes, with its default as an example.
pub(super) fn expected(default: &ValueKind) -> String {
    match default {
        ValueKind::Boolean(_) => "true or false".to_owned(),
        ValueKind::I64(_) | ValueKind::Float(_) => format!("a number, such as {default}"),
        ValueKind::Array(_) => "a list of texts".to_owned(),
        ValueKind::String(text) if text.is_empty() => "text".to_owned(),
        _ => format!("text, such as \"{default}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether every key and every free table has a comment directly above it, and which has none.
    fn without_comment(text: &str) -> Vec<&str> {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let is_free_table = |line: &str| FREE_TABLES.iter().any(|table| line == format!("[{table}]"));
        let needs_comment = |line: &str| (line.contains(" = ") && !line.starts_with('#')) || is_free_table(line);
        let is_commented = |at: usize| at > 0 && lines[at - 1].starts_with("# ");
        (0..lines.len()).filter(|at| needs_comment(lines[*at]) && !is_commented(*at)).map(|at| lines[at]).collect()
    }

    #[test]
    fn every_key_has_its_comment() {
        assert_eq!(without_comment(DEFAULTS), Vec::<&str>::new());
        assert_eq!(without_comment("[a]\n# Why.\nb = 1\nc = 2\n"), ["c = 2"]);
    }

    #[test]
    fn defaults_are_of_kinds_we_can_read() {
        for (key, default) in Schema::compiled_in().keys {
            assert!(fits(&default, &default), "{key}");
        }
    }

    #[test]
    fn suggestions_help_or_are_not_made() {
        let schema = Schema::compiled_in();
        let table = [
            ("kafka.bootstrap_server", Some("kafka.bootstrap_servers")),
            ("kafka_bootstrap_servers", Some("kafka.bootstrap_servers")),
            ("writer.partitions", Some("topics.partitions")),
            ("topics.replicaton", Some("topics.replication")),
            ("health.listen_on_some_port", None),
            ("nonsense", None),
        ];
        for (name, suggestion) in table {
            assert_eq!(schema.suggestion(name), suggestion, "{name}");
        }
    }
}
