//! `wal explain`: what the code of an error means, who must do what, whether the same again helps, and where the code is seen.

pub mod own;

use std::fmt::Write as _;

use serde::Serialize;
use wal_model::Code;
use wal_model::code::Place;
use wal_model::status::Reason;

use crate::paint::{Paint, Tone};
use crate::problem::{Exit, Problem};
use crate::screen::{Format, Screen, Table};

const PREFIX: &str = "WAL_";
/// Where our own codes are seen.
const OWN_PLACE: &str = "standard error of `wal`, in brackets; with -o json as error_code";
/// Who ends with our own codes.
const OWN_WHO: &str = "whoever runs the command";
/// How alike (0 to 1) a code must be to be worth showing to somebody who has mistyped one.
const NEAR: f64 = 0.6;
/// As many names as somebody reads who has mistyped one.
const NEAR_COUNT: usize = 3;

/// A code with all that is known of it; as `-o json` shows it. Printed, keep stable.
#[derive(Debug, Serialize)]
pub struct Explained {
    /// The code.
    pub code: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// Whether the same again may succeed later; `None` where it depends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    /// Who must do something.
    pub who: &'static str,
    /// What.
    pub remedy: &'static str,
    /// Where it is seen.
    pub places: Vec<&'static str>,
    /// The HTTP status that goes with it, where the gateway tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
}

impl Explained {
    /// The codes of the log, in the order of their list.
    pub fn of_the_log() -> Vec<Explained> {
        Code::ALL.iter().copied().map(Explained::of).collect()
    }

    /// The codes of `wal` itself.
    pub fn of_our_own() -> Vec<Explained> {
        let explained = |own: &own::Own| Explained {
            code: own.code,
            meaning: own.meaning,
            retryable: None,
            who: OWN_WHO,
            remedy: own.remedy,
            places: vec![OWN_PLACE],
            http_status: None,
        };
        own::ALL.iter().map(explained).collect()
    }

    fn of(code: Code) -> Explained {
        let page = code.page();
        Explained {
            code: code.as_str(),
            meaning: code.meaning(),
            retryable: Some(code.is_retryable()),
            who: page.who.as_str(),
            remedy: page.remedy,
            places: page.places.iter().map(|place| place.as_str()).collect(),
            http_status: page.places.contains(&Place::Gateway).then(|| code.http_status()),
        }
    }

    /// Whether the same again helps, in words.
    pub fn retry(&self) -> &'static str {
        match self.retryable {
            Some(true) => "the same again may succeed later",
            Some(false) => "the same again will not succeed",
            None => "the same again may succeed once the cause is mended",
        }
    }
}

/// Runs `wal explain`.
pub fn run(screen: &Screen, name: Option<&str>) -> Result<Exit, Problem> {
    let mut all = Explained::of_the_log();
    all.extend(Explained::of_our_own());
    let Some(name) = name else {
        list(screen, &all)?;
        return Ok(Exit::Done);
    };
    let wanted = spelled(name);
    let Some(found) = all.iter().find(|explained| explained.code == wanted) else { return Err(unknown(name, &all)) };
    match screen.format {
        Format::Json => screen.json(found)?,
        Format::Table => screen.line(&told(found, screen.out))?,
    }
    Ok(Exit::Done)
}

fn list(screen: &Screen, all: &[Explained]) -> Result<(), Problem> {
    if screen.format == Format::Json {
        return all.iter().try_for_each(|explained| screen.json(explained));
    }
    let mut table = Table::new(&["code", "means"]);
    for explained in all {
        table.row(vec![(Tone::Name, explained.code.to_owned()), (Tone::Plain, explained.meaning.to_owned())]);
    }
    screen.line(&screen.table(&table))
}

/// The code that is meant: written small, with dashes, without its prefix, or as the reason of a failed entry.
fn spelled(name: &str) -> String {
    if let Some(reason) = Reason::parse(&name.to_ascii_lowercase()) {
        return of_reason(reason).as_str().to_owned();
    }
    let name = name.trim().to_ascii_uppercase().replace('-', "_");
    if name.starts_with(PREFIX) { name } else { format!("{PREFIX}{name}") }
}

fn of_reason(reason: Reason) -> Code {
    match reason {
        Reason::Exhausted => Code::Exhausted,
        Reason::Rejected => Code::Rejected,
        Reason::Undeliverable => Code::Undeliverable,
        Reason::Cancelled => Code::Cancelled,
        Reason::Expired => Code::Expired,
    }
}

fn unknown(name: &str, all: &[Explained]) -> Problem {
    let wanted = spelled(name);
    // All codes begin alike, which says nothing about likeness.
    let own_part = |code: &str| code.strip_prefix(PREFIX).unwrap_or(code).to_owned();
    let likeness = |code: &str| strsim::normalized_damerau_levenshtein(&own_part(code), &own_part(&wanted));
    let mut near: Vec<(f64, &str)> = all.iter().map(|explained| (likeness(explained.code), explained.code)).collect();
    near.retain(|(likeness, _)| *likeness >= NEAR);
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near: Vec<&str> = near.into_iter().take(NEAR_COUNT).map(|(_, code)| code).collect();
    let hint = match near.as_slice() {
        [] => "`wal explain` lists all codes; what your consumers answer are codes of their own".to_owned(),
        near => format!("did you mean {}? `wal explain` lists all codes", near.join(" or ")),
    };
    Problem::new(Exit::NotFound, "WAL_CODE_UNKNOWN", format!("find the code `{name}`")).hint(hint)
}

fn told(explained: &Explained, paint: Paint) -> String {
    let mut text = format!("{}\n  {}\n", paint.tone(Tone::Name, explained.code), explained.meaning);
    let mut line = |label: &str, value: &str| {
        let _ = write!(text, "\n  {} {value}", paint.tone(Tone::Faint, &format!("{label:<7}")));
    };
    line("who", explained.who);
    line("do", explained.remedy);
    line("again", explained.retry());
    for place in &explained.places {
        line("seen", place);
    }
    if let Some(status) = explained.http_status {
        line("HTTP", &status.to_string());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn a_code_is_told_whole() {
        let expected = "WAL_TARGET_UNKNOWN\n  The target topic does not exist.\n\n  who     whoever wrote the request\n  \
                        do      Correct the name, or have the topic made; then send the same request again. Whoever runs \
                        the log may allow writer.create_missing_targets.\n  again   the same again may succeed later\n  \
                        seen    the receipt (wal.receipts, or the reply topic of the request)\n  \
                        seen    the dead letter of the refused record (dlq.wal.ingress)";
        assert_eq!(told(&Explained::of(Code::TargetUnknown), Paint::plain()), expected);
    }

    #[test]
    fn codes_are_found_however_they_are_spelled() {
        let table = [
            ("WAL_TARGET_UNKNOWN", "WAL_TARGET_UNKNOWN"),
            ("target-unknown", "WAL_TARGET_UNKNOWN"),
            ("exhausted", "WAL_RETRIES_EXHAUSTED"),
            ("Expired", "WAL_EXPIRED"),
            ("usage", "WAL_USAGE"),
        ];
        for (name, code) in table {
            assert_eq!(spelled(name), code);
        }
    }

    #[test]
    fn a_mistyped_code_gets_the_nearest_ones() {
        let all = Explained::of_the_log();
        assert!(unknown("target_unkown", &all).json().contains("did you mean WAL_TARGET_UNKNOWN"));
        let problem = unknown("CARD_DECLINED", &all);
        assert!(problem.json().contains("codes of their own"), "{}", problem.json());
        assert_eq!(problem.exit(), Exit::NotFound);
    }

    /// Everything in the sources of this crate that is spelled as a code.
    fn spelled_in(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                spelled_in(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("explain/own.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let words = text.split('"').filter(|word| word.starts_with(PREFIX) && !word.starts_with("WAL__"));
                let is_code = |word: &&str| {
                    word.len() > PREFIX.len() && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
                };
                found.extend(words.filter(is_code).map(str::to_owned));
            }
        }
    }

    #[test]
    fn every_code_of_our_own_has_its_page_and_every_page_its_code() {
        let mut spelled = BTreeSet::new();
        spelled_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut spelled);
        spelled.retain(|code| Code::parse(code).is_none());
        let pages: BTreeSet<String> = own::ALL.iter().map(|own| own.code.to_owned()).collect();
        assert_eq!(spelled, pages);
    }
}
