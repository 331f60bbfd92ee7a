//! The last warnings and errors of a process, for whoever asks it how it is doing. Bounded in number and size; what is told again is
//! counted, not kept twice.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use wal_model::Timestamp;

use super::repeats::Line;

/// How many different lines are kept: what fits under the tables on one screen.
const KEPT: usize = 10;
/// The most characters of a text that are kept: a line or two of a terminal.
const TEXT: usize = 300;

/// A warning or an error that a process wrote. Sent, keep stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// When it was written the last time.
    pub at: Timestamp,
    /// How bad it is.
    pub level: Level,
    /// The part of the program that wrote it.
    pub target: String,
    /// Its fixed words.
    pub message: String,
    /// Its facts, as they were the last time.
    pub fields: String,
    /// How often it was written, as far as this is remembered.
    pub times: u64,
}

/// How bad what was written is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// Somebody must act.
    Error,
    /// Somebody should know.
    Warn,
}

impl Level {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Error => "ERROR",
            Level::Warn => "WARN",
        }
    }
}

/// The last lines of a process, the newest at the back. Cloning gives another handle on the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent(Arc<Mutex<VecDeque<Noted>>>);

impl Recent {
    /// Takes in a line. The one that was silent for longest goes when there are too many.
    pub(super) fn saw(&self, line: &Line, fields: &str, at: Timestamp) {
        let level = if line.level == tracing::Level::ERROR { Level::Error } else { Level::Warn };
        let (target, message, fields) = (clipped(&line.target), clipped(&line.message), clipped(fields));
        let mut noted = Noted { at, level, target, message, fields, times: 1 };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |known: &Noted| {
            (known.level, &known.target, &known.message) == (noted.level, &noted.target, &noted.message)
        };
        if let Some(known) = kept.iter().position(is_same).and_then(|position| kept.remove(position)) {
            noted.times += known.times;
        }
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(noted);
    }

    /// All of them, the newest first.
    pub(super) fn all(&self) -> Vec<Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }
}

/// The beginning of a text, without what would move the cursor of a terminal.
fn clipped(text: &str) -> String {
    let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
    let mut clipped: String = text.chars().take(TEXT).map(plain).collect();
    if text.chars().nth(TEXT).is_some() {
        clipped.push('…');
    }
    clipped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(message: &str) -> Line {
        Line { level: tracing::Level::WARN, target: "t".into(), message: message.into() }
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis).unwrap()
    }

    fn messages(recent: &Recent) -> Vec<(String, u64)> {
        recent.all().into_iter().map(|noted| (noted.message, noted.times)).collect()
    }

    #[test]
    fn the_newest_comes_first_and_what_is_told_again_is_counted() {
        let recent = Recent::default();
        recent.saw(&line("a"), "n=1", at(1));
        recent.saw(&line("b"), "", at(2));
        recent.saw(&line("a"), "n=2", at(3));
        assert_eq!(messages(&recent), [("a".to_owned(), 2), ("b".to_owned(), 1)]);
        let newest = &recent.all()[0];
        assert_eq!((newest.at, newest.fields.as_str()), (at(3), "n=2"));
        recent.saw(&Line { level: tracing::Level::ERROR, ..line("a") }, "", at(4));
        assert_eq!(recent.all().len(), 3, "an error is not the warning of the same words");
    }

    #[test]
    fn the_one_that_was_silent_for_longest_goes() {
        let recent = Recent::default();
        for number in 0..KEPT {
            recent.saw(&line(&number.to_string()), "", at(1));
        }
        recent.saw(&line("0"), "", at(2));
        recent.saw(&line("one more"), "", at(3));
        let kept = messages(&recent);
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept[..2], [("one more".to_owned(), 1), ("0".to_owned(), 2)]);
        assert!(kept.iter().all(|(message, _)| message != "1"), "{kept:?}");
    }

    #[test]
    fn long_texts_are_cut_and_nothing_moves_the_cursor() {
        let recent = Recent::default();
        recent.saw(&line(&format!("\x1b[2J{}", "ä".repeat(10 * TEXT))), &"x".repeat(TEXT), at(1));
        let noted = &recent.all()[0];
        assert_eq!(noted.message.chars().count(), TEXT + 1);
        assert!(noted.message.starts_with(" [2Jä") && noted.message.ends_with('…'), "{}", noted.message);
        assert_eq!(noted.fields, "x".repeat(TEXT), "what fits is whole");
    }
}
