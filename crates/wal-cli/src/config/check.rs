//! `wal config check`: reads a configuration with the code that services read it with, and tells what is wrong at once: every
//! unknown key and every value of a wrong kind; then of each section what its reader objects to first.

use std::path::Path;

use serde::Serialize;
use wal_open::Named;
use wal_runtime::config::{Error, Health, Kafka, Log, Policy, Problem as Wrong, Seal, Settings, TopicSettings, Traces};

use crate::paint::Tone;
use crate::problem::{Exit, Problem};
use crate::screen::{Format, Screen};
use crate::settings::Given;

const READ_ON: &str = "`wal config explain KEY` tells what a key takes";

/// Runs `wal config check`.
pub fn run(screen: &Screen, file: Option<&Path>, given: &Given) -> Result<Exit, Problem> {
    let wrong = match Settings::load_with(file, given) {
        Ok(settings) => all_wrong(&settings),
        Err(error) => error.into_problems(),
    };
    if wrong.is_empty() {
        let all_well = screen.err.tone(Tone::Good, "services can start with this configuration");
        screen.note(&all_well);
        return Ok(Exit::Done);
    }
    for problem in &wrong {
        match screen.format {
            Format::Json => screen.json(&WrongJson::of(problem))?,
            Format::Table => screen.line(&format!("{} {problem}", screen.out.tone(Tone::Bad, problem.kind())))?,
        }
    }
    let count = if wrong.len() == 1 { "1 problem".to_owned() } else { format!("{} problems", wrong.len()) };
    let what = format!("use the configuration: {count}");
    Err(Problem::new(Exit::Usage, "WAL_CONFIG_INVALID", what).hint(READ_ON))
}

/// What each section's readers object to first. One that stands on another repeats its objection, which is told once.
fn all_wrong(settings: &Settings) -> Vec<Wrong> {
    let read: [Result<(), Error>; 12] = [
        Kafka::read(settings).map(drop),
        TopicSettings::read(settings).map(drop),
        Named::read(settings).map(drop),
        Policy::read(settings).map(drop),
        Seal::read(settings).map(drop),
        wal_writer::Config::read(settings).map(drop),
        wal_retry_scheduler::Config::read(settings).map(drop),
        wal_status::Config::read(settings).map(drop),
        wal_gateway::Options::read(settings).map(drop),
        Health::read(settings).map(drop),
        Log::read(settings).map(drop),
        Traces::read(settings).map(drop),
    ];
    let mut found: Vec<Wrong> = Vec::new();
    for problem in read.into_iter().filter_map(Result::err).flat_map(Error::into_problems) {
        let text = problem.to_string();
        if !found.iter().any(|known| known.to_string() == text) {
            found.push(problem);
        }
    }
    found
}

/// A problem as `-o json` shows it. Printed, keep stable.
#[derive(Serialize)]
struct WrongJson<'a> {
    problem: &'static str,
    keys: Vec<&'a str>,
    message: String,
}

impl WrongJson<'_> {
    fn of(problem: &Wrong) -> WrongJson<'_> {
        WrongJson { problem: problem.kind(), keys: problem.keys(), message: problem.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with these keys, beside a seal that can be used.
    fn wrong(given: &[(&'static str, &str)]) -> Vec<Wrong> {
        let seal = [("seal.signing_key", "k1"), ("seal.keys.k1", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")];
        let given: Given = seal.iter().chain(given).map(|(key, value)| (*key, (*value).to_owned())).collect();
        all_wrong(&Settings::load_from(None, std::iter::empty(), &given).unwrap())
    }

    #[test]
    fn what_each_service_refuses_is_found_at_once_and_told_once() {
        assert!(wrong(&[]).is_empty(), "the defaults and a seal are enough");
        let found = wrong(&[
            ("kafka.topic_prefix", "a b"),
            ("policy.target", "orders"),
            ("writer.batch_bytes", "0"),
            ("retry_scheduler.batch_records", "0"),
            ("status.sweep_interval", "0s"),
            ("gateway.listen", "8080"),
            ("store.folder", ""),
        ]);
        let keys: Vec<&str> = found.iter().map(|problem| problem.keys()[0]).collect();
        let expected = [
            "kafka.topic_prefix",
            "store.folder",
            "writer.batch_bytes",
            "retry_scheduler.batch_records",
            "status.sweep_interval",
            "gateway.listen",
        ];
        assert_eq!(keys, expected, "{found:?}");
    }
}
