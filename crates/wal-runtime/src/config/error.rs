//! What can be wrong with a configuration, in words that name the key and the place to change.

use std::fmt;
use std::path::PathBuf;

/// Everything that was found wrong with a configuration, so that it can be put right in one go. Trying again does not help.
#[derive(Debug, thiserror::Error)]
pub struct Error(Vec<Problem>);

/// One thing that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A file cannot be read.
    #[error("cannot read {} ({what}): {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What it was wanted for.
        what: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{origin} is not TOML: {reason}")]
    NotToml {
        /// The file.
        origin: String,
        /// Where and why, without the text itself: it may hold a secret.
        reason: String,
    },
    /// There is no such key.
    #[error("`{spelled}` in {origin} is not known{}", did_you_mean(suggestion))]
    Unknown {
        /// The key or variable as it is spelled there.
        spelled: String,
        /// Where it stands.
        origin: String,
        /// A known one that looks alike, spelled the same way.
        suggestion: Option<String>,
    },
    /// The value is of another kind than the key's.
    #[error("`{key}` in {origin} must be {expected}")]
    WrongType {
        /// The key.
        key: String,
        /// Where its value was given.
        origin: String,
        /// What it must be.
        expected: String,
    },
    /// The value is of the right kind but cannot be used.
    #[error("`{key}` in {origin}: {reason}")]
    Invalid {
        /// The key.
        key: String,
        /// Where its value was given.
        origin: String,
        /// Why.
        reason: String,
    },
    /// Two variables set the same key.
    #[error("{first} and {second} contradict each other: both set `{key}`, keep one")]
    Twice {
        /// The key.
        key: String,
        /// One variable.
        first: String,
        /// The other one.
        second: String,
    },
    /// Two keys cannot both be followed.
    #[error("`{first}` ({first_origin}) and `{second}` ({second_origin}) contradict each other: {reason}")]
    Contradiction {
        /// One key.
        first: String,
        /// Where its value was given.
        first_origin: String,
        /// The other key.
        second: String,
        /// Where its value was given.
        second_origin: String,
        /// Why not both.
        reason: String,
    },
}

impl Problem {
    /// The word for its kind. Printed, keep stable.
    pub fn kind(&self) -> &'static str {
        match self {
            Problem::Unreadable { .. } => "unreadable",
            Problem::NotToml { .. } => "not_toml",
            Problem::Unknown { .. } => "unknown",
            Problem::WrongType { .. } => "wrong_type",
            Problem::Invalid { .. } => "invalid",
            Problem::Twice { .. } => "twice",
            Problem::Contradiction { .. } => "contradiction",
        }
    }

    /// The keys it is about, as they are spelled where they stand.
    pub fn keys(&self) -> Vec<&str> {
        match self {
            Problem::Unreadable { .. } | Problem::NotToml { .. } => Vec::new(),
            Problem::Unknown { spelled: key, .. }
            | Problem::WrongType { key, .. }
            | Problem::Invalid { key, .. }
            | Problem::Twice { key, .. } => vec![key],
            Problem::Contradiction { first, second, .. } => vec![first, second],
        }
    }
}

fn did_you_mean(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|known| format!(", did you mean `{known}`?")).unwrap_or_default()
}

impl Error {
    /// What is wrong; never empty.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }

    /// The same, to keep.
    pub fn into_problems(self) -> Vec<Problem> {
        self.0
    }

    /// `Ok` without problems.
    pub(super) fn unless_empty(problems: Vec<Problem>) -> Result<(), Error> {
        if problems.is_empty() { Ok(()) } else { Err(Error(problems)) }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Error {
        Error(vec![problem])
    }
}

/// One line for one problem, a list for several.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("use the configuration: ")?;
        if let [problem] = self.0.as_slice() {
            return write!(f, "{problem}");
        }
        write!(f, "{} problems", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
    }
}
