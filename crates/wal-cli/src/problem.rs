//! How a command ends: an exit code that scripts can rely on, and errors that say what to try.

use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

use serde::Serialize;

use crate::paint::{Paint, Tone};

/// How a command ends. The numbers are promised in `wal --help`, keep stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Not done.
    Failed,
    /// The command line or the configuration makes no sense.
    Usage,
    /// Some of it done, some refused.
    Partial,
    /// Nobody knows: no receipt or answer came in time.
    Unknown,
    /// What was asked for is not there.
    NotFound,
    /// The entry is finished, or the attempt is answered already.
    TooLate,
    /// Ctrl-C.
    Interrupted,
    /// Whoever read our output does not any more, such as `head`. That is no failure.
    Unread,
}

impl Exit {
    /// The number a shell sees.
    pub fn number(self) -> u8 {
        match self {
            Exit::Done | Exit::Unread => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Partial => 3,
            Exit::Unknown => 4,
            Exit::NotFound => 5,
            Exit::TooLate => 6,
            Exit::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.number())
    }
}

/// Why a command could not do what it was asked to, for a person and for a script.
#[derive(Debug)]
pub struct Problem {
    exit: Exit,
    code: String,
    what: String,
    causes: Vec<String>,
    hint: Option<String>,
}

/// What `-o json` shows of a problem. Printed, keep stable.
#[derive(Serialize)]
struct ProblemJson<'a> {
    success: bool,
    error: &'a str,
    error_code: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    causes: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    exit_code: u8,
}

impl Problem {
    /// A problem; `what` fits after "failed to".
    pub fn new(exit: Exit, code: impl Into<String>, what: impl Into<String>) -> Problem {
        Problem { exit, code: code.into(), what: what.into(), causes: Vec::new(), hint: None }
    }

    /// A problem that an error tells in its own words.
    pub fn of(exit: Exit, code: impl Into<String>, error: &(dyn std::error::Error + 'static)) -> Problem {
        let problem = Problem::new(exit, code, error.to_string());
        match error.source() {
            Some(source) => problem.because(source),
            None => problem,
        }
    }

    /// A command line that makes no sense.
    pub fn usage(what: impl Into<String>) -> Problem {
        Problem::new(Exit::Usage, "WAL_USAGE", what)
    }

    /// Adds an error and all that it rests on.
    pub fn because(mut self, error: &(dyn std::error::Error + 'static)) -> Problem {
        let mut next = Some(error);
        while let Some(error) = next {
            self.causes.push(error.to_string());
            next = error.source();
        }
        // Some errors repeat their source in their own words.
        let mut at = 1;
        while at < self.causes.len() {
            if self.causes[at - 1].contains(&self.causes[at]) {
                self.causes.remove(at);
            } else {
                at += 1;
            }
        }
        self
    }

    /// Adds what to try.
    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }

    /// How the command ends.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// For a person: what happened and its code, why, and what to try.
    pub fn text(&self, paint: Paint) -> String {
        let label = |tone, text: &str| paint.tone(tone, text);
        let code = paint.tone(Tone::Faint, &format!("[{}]", self.code));
        let mut text = format!("{} failed to {} {code}", label(Tone::Bad, "error:"), self.what);
        for cause in &self.causes {
            let cause = cause.replace('\n', "\n       ");
            let _ = write!(text, "\n  {} {cause}", label(Tone::Faint, "why:"));
        }
        if let Some(hint) = &self.hint {
            let _ = write!(text, "\n  {} {hint}", label(Tone::Strong, "try:"));
        }
        text
    }

    /// For a script: one line of JSON.
    pub fn json(&self) -> String {
        let json = ProblemJson {
            success: false,
            error: &self.what,
            error_code: &self.code,
            causes: &self.causes,
            hint: self.hint.as_deref(),
            exit_code: self.exit.number(),
        };
        serde_json::to_string(&json).expect("a problem holds only text, a number and a yes or no")
    }
}

/// What happens while results are written.
impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Problem {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Problem::new(Exit::Unread, "WAL_OUTPUT_CLOSED", "write to a closed pipe"),
            _ => Problem::new(Exit::Failed, "WAL_OUTPUT", "write the results to standard output").because(&error),
        }
    }
}

/// The rare surprise that has no code of its own.
impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Problem {
        Problem::of(Exit::Failed, "WAL_FAILED", error.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_problem_says_what_why_and_what_to_try() {
        let taken = io::Error::new(io::ErrorKind::AddrInUse, "address in use");
        let problem = Problem::new(Exit::Failed, "WAL_PORT_TAKEN", "listen on 127.0.0.1:9092")
            .because(&taken)
            .hint("wal dev --port 9192");
        let expected = "error: failed to listen on 127.0.0.1:9092 [WAL_PORT_TAKEN]\n  why: address in use\n  \
                        try: wal dev --port 9192";
        assert_eq!(problem.text(Paint::plain()), expected);
        let json: serde_json::Value = serde_json::from_str(&problem.json()).unwrap();
        assert_eq!((json["error_code"].as_str(), json["exit_code"].as_u64()), (Some("WAL_PORT_TAKEN"), Some(1)));
    }

    #[test]
    fn an_unexpected_error_keeps_its_causes() {
        let error = Err::<(), _>(io::Error::other("disk on fire")).context("read the folder").unwrap_err();
        let problem = Problem::from(error);
        assert_eq!(problem.text(Paint::plain()), "error: failed to read the folder [WAL_FAILED]\n  why: disk on fire");
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let problem = Problem::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(problem.exit().number(), 0);
    }
}
