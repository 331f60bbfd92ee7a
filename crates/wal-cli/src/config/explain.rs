//! `wal config explain`: all that is known of one key, or of the keys of a section.

use std::fmt::Write as _;

use serde::Serialize;
use wal_runtime::config::{Held, Key, Settings};

use super::{from, toml};
use crate::paint::{Paint, Tone};
use crate::problem::{Exit, Problem};
use crate::screen::{Format, Screen};

/// As many names as somebody reads who has mistyped one.
const NEAR: usize = 3;

/// Runs `wal config explain`.
pub fn run(screen: &Screen, settings: &Settings, name: &str) -> Result<Exit, Problem> {
    let keys = match Key::find(name) {
        Some(key) => vec![key],
        None => Key::of_section(name),
    };
    if keys.is_empty() {
        return Err(unknown(name));
    }
    for (nth, key) in keys.iter().enumerate() {
        let held = settings.held_of(key);
        match screen.format {
            Format::Json => screen.json(&KeyJson::of(key, &held))?,
            Format::Table => {
                let gap = if nth == 0 { "" } else { "\n" };
                screen.line(&format!("{gap}{}", told(key, &held, screen.out)))?;
            }
        }
    }
    Ok(Exit::Done)
}

fn unknown(name: &str) -> Problem {
    let problem = Problem::new(Exit::NotFound, "WAL_CONFIG_KEY_UNKNOWN", format!("find the key `{name}`"));
    match Key::near(name, NEAR).as_slice() {
        [] => problem.hint("`wal config print` lists all keys"),
        near => problem.hint(format!("did you mean {}?", near.join(" or "))),
    }
}

/// A key as `-o json` shows it. Printed, keep stable.
#[derive(Serialize)]
struct KeyJson<'a> {
    key: &'a str,
    comment: &'a str,
    kind: &'static str,
    default: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    variable: Option<String>,
    is_live: bool,
    held: Vec<super::HeldJson<'a>>,
}

impl<'a> KeyJson<'a> {
    fn of(key: &'a Key, held: &'a [Held]) -> KeyJson<'a> {
        KeyJson {
            key: &key.name,
            comment: &key.comment,
            kind: key.kind.as_str(),
            default: &key.default,
            variable: key.variable(),
            is_live: key.is_live(),
            held: held.iter().map(super::HeldJson::of).collect(),
        }
    }
}

fn change(key: &Key) -> &'static str {
    if key.is_live() { "taken over by a running service, on SIGHUP" } else { "takes effect at the next start" }
}

fn told(key: &Key, held: &[Held], paint: Paint) -> String {
    let mut text = format!("{}\n  {}\n", paint.tone(Tone::Name, &key.name), key.comment);
    let mut line = |label: &str, value: &str| {
        let _ = write!(text, "\n  {} {value}", paint.tone(Tone::Faint, &format!("{label:<9}")));
    };
    line("takes", key.kind.as_str());
    line("default", if key.default.is_empty() { "nothing" } else { &key.default });
    match held {
        [] => line("now", "nothing"),
        [one] if one.key == key.name => line("now", &format!("{} ({})", toml(&one.value), from(one))),
        several => {
            for one in several {
                line("now", &format!("{} = {} ({})", one.key, toml(&one.value), from(one)));
            }
        }
    }
    line("change", change(key));
    if let Some(variable) = key.variable() {
        line("variable", &format!("{variable}, or {variable}_FILE with the name of a file that holds it"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_whole() {
        let given = [("kafka.session_timeout", "20s".to_owned())];
        let settings = Settings::load_from(None, std::iter::empty(), &given).unwrap();
        let key = Key::find("kafka.session_timeout").unwrap();
        let text = told(&key, &settings.held_of(&key), Paint::plain());
        let expected = "kafka.session_timeout\n  How long a member may be silent before its partitions go to others.\n\n  \
                        takes     a length of time, such as \"30s\" or \"7d\"\n  default   \"10s\"\n  \
                        now       \"20s\" (command line)\n  \
                        change    takes effect at the next start\n  variable  WAL__KAFKA__SESSION_TIMEOUT, or \
                        WAL__KAFKA__SESSION_TIMEOUT_FILE with the name of a file that holds it";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_mistyped_key_gets_the_nearest_names() {
        let problem = unknown("kafka.bootstrap_server");
        assert!(problem.json().contains("did you mean kafka.bootstrap_servers"), "{}", problem.json());
        assert_eq!(problem.exit(), Exit::NotFound);
        assert!(unknown("zzzzzz").json().contains("wal config print"));
    }
}
