//! `wal config`: what holds of every key and where it comes from, whether services could start with it, and what a key is for.

mod check;
mod explain;

use serde::Serialize;
use wal_runtime::config::{Held, Layer, Settings};

use crate::args::{self, Global};
use crate::paint::Tone;
use crate::problem::{Exit, Problem};
use crate::screen::{Format, Screen, Table};
use crate::settings;

/// Runs `wal config`.
pub fn run(screen: &Screen, global: &Global, command: args::Config) -> Result<Exit, Problem> {
    let load = || settings::load(global.config.as_deref(), &settings::given(global));
    match command {
        args::Config::Print(print) => show(screen, &load()?, &print),
        args::Config::Check(check) => {
            let file = check.file.as_deref().or(global.config.as_deref());
            check::run(screen, file, &settings::given(global))
        }
        args::Config::Explain(key) => explain::run(screen, &load()?, &key.key),
    }
}

/// What holds of a key, as `-o json` shows it. Printed, keep stable.
#[derive(Serialize)]
struct HeldJson<'a> {
    key: &'a str,
    value: &'a serde_json::Value,
    from: &'static str,
    origin: &'a str,
}

impl<'a> HeldJson<'a> {
    fn of(held: &'a Held) -> HeldJson<'a> {
        HeldJson { key: &held.key, value: &held.value, from: held.layer.as_str(), origin: &held.origin }
    }
}

fn show(screen: &Screen, settings: &Settings, print: &args::Print) -> Result<Exit, Problem> {
    let mut held = settings.held();
    held.retain(|held| !print.changed || held.layer != Layer::Default);
    if screen.format == Format::Json {
        held.iter().try_for_each(|held| screen.json(&HeldJson::of(held)))?;
        return Ok(Exit::Done);
    }
    if held.is_empty() {
        screen.note("nobody has set anything: all defaults hold");
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["key", "value", "from"]);
    for held in &held {
        let tone = if held.layer == Layer::Default { Tone::Plain } else { Tone::Strong };
        let from = (Tone::Faint, from(held));
        table.row(vec![(Tone::Name, held.key.clone()), (tone, toml(&held.value)), from]);
    }
    screen.line(&screen.table(&table))?;
    Ok(Exit::Done)
}

/// The layer, and the place by name where that says more.
fn from(held: &Held) -> String {
    match held.layer {
        Layer::Default | Layer::Given => held.layer.as_str().to_owned(),
        Layer::File => format!("file {}", held.origin),
        Layer::Variable => held.origin.clone(),
    }
}

/// A value as one writes it in a file.
fn toml(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Array(items) => {
            format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_look_as_they_do_in_a_file() {
        for text in [r#"["a", "b"]"#, "[]", "12", "true", r#""1h 30m""#, "0.5"] {
            assert_eq!(toml(&serde_json::from_str(text).unwrap()), text);
        }
    }
}
