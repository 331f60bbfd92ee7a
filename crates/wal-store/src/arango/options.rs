//! Where the database is and how it is used: plain data, made by whoever reads settings.

use std::fmt;
use std::time::Duration;

use url::Url;

use crate::document::ReadableCopy;

/// Where the database is and how it is used.
#[derive(Clone, Debug)]
pub struct Options {
    /// `http://host:8529` or `https://...`: the coordinators of a cluster, or the one server. The first that answers is used.
    pub endpoints: Vec<String>,
    /// The database.
    pub database: String,
    /// Who we are there.
    pub login: Login,
    /// Certificates in PEM that are trusted besides the machine's own.
    pub trusted: Option<Vec<u8>>,
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
    /// How long one request may take, its answer included.
    pub request_timeout: Duration,
    /// The most requests under way at one time; the database's own queue lowers it.
    pub concurrency: usize,
    /// What the names of our collections begin with.
    pub prefix: String,
    /// In a cluster: how many servers hold a copy of each document.
    pub replication_factor: u32,
    /// In a cluster: how many of them must have a write before it is answered.
    pub write_concern: u32,
    /// In a cluster: over how many shards the entries are spread. Fixed when the collection is made.
    pub shards: u32,
    /// In a cluster: longer than its servers' `--rocksdb.sync-interval`. What was seen this long ago is on disk.
    pub sync_wait: Duration,
    /// How long finished entries are wanted. The database's own purge comes a week later, should ours fail.
    pub retention: Duration,
    /// Whether people can look into payloads with the database's own tools.
    pub readable_copy: ReadableCopy,
}

/// Who we are to the database.
#[derive(Clone)]
pub enum Login {
    /// The database asks nobody.
    Nobody,
    /// User and password go with every request.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// User and password are changed for a token that is renewed before it ends.
    Token {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Login::Nobody => f.write_str("Nobody"),
            Login::Basic { user, .. } => write!(f, "Basic({user:?})"),
            Login::Token { user, .. } => write!(f, "Token({user:?})"),
        }
    }
}

/// Options that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub(super) String);

impl Options {
    /// A database with everything else as it usually is.
    pub fn new(endpoints: Vec<String>, database: impl Into<String>) -> Options {
        Options {
            endpoints,
            database: database.into(),
            login: Login::Nobody,
            trusted: None,
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(30),
            concurrency: 16,
            prefix: "wal_".to_owned(),
            replication_factor: 3,
            write_concern: 2,
            shards: 3,
            sync_wait: Duration::from_millis(250),
            retention: Duration::from_secs(30 * 24 * 3600),
            readable_copy: ReadableCopy::Written,
        }
    }

    /// The collection of the entries.
    pub(super) fn entries(&self) -> String {
        format!("{}entries", self.prefix)
    }

    /// The collection that says which store this is.
    pub(super) fn store(&self) -> String {
        format!("{}store", self.prefix)
    }

    /// Checks everything that can be checked without the database, and reads the endpoints.
    pub(super) fn check(&self) -> Result<Vec<Url>, Unusable> {
        if self.endpoints.is_empty() {
            return Err(Unusable("no endpoint is given".to_owned()));
        }
        // They stand in URLs: other letters would need escaping that `arangors` does not do.
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        let begins_with_letter = |text: &str| text.starts_with(|first: char| first.is_ascii_alphabetic());
        if !(1..=64).contains(&self.database.len()) || !is_plain(&self.database) {
            return Err(Unusable(format!("database `{}`: 1 to 64 of A-Z a-z 0-9 _ -", self.database)));
        }
        if self.prefix.len() > 100 || !is_plain(&self.prefix) || !begins_with_letter(&self.prefix) {
            return Err(Unusable(format!("prefix `{}`: up to 100 of A-Z a-z 0-9 _ -, a letter first", self.prefix)));
        }
        if self.concurrency == 0 {
            return Err(Unusable("concurrency 0 lets no request through".to_owned()));
        }
        if self.shards == 0 || self.write_concern == 0 || self.write_concern > self.replication_factor {
            return Err(Unusable(
                "shards and write concern are at least 1, write concern at most the replication factor".to_owned(),
            ));
        }
        let numbered = self.endpoints.iter().zip(1..);
        numbered.map(|(text, nth)| endpoint(text).map_err(|why| Unusable(format!("endpoint {nth}: {why}")))).collect()
    }
}

/// What is wrong with it is told without it: what is no URL, or more than one, may hold a password.
fn endpoint(text: &str) -> Result<Url, &'static str> {
    let Ok(url) = Url::parse(text) else {
        return Err("it is no URL; http://host:8529 is one");
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds a user or password; they have settings of their own");
    }
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !is_bare {
        return Err("it is not http or https, a host, a port, and nothing more");
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options::new(vec!["http://localhost:8529".to_owned()], "wal")
    }

    #[test]
    fn passwords_are_in_no_debug_text() {
        for login in [
            Login::Basic { user: "root".to_owned(), password: "secret".to_owned() },
            Login::Token { user: "root".to_owned(), password: "secret".to_owned() },
        ] {
            let text = format!("{:?}", Options { login, ..options() });
            assert!(text.contains("root") && !text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_told_and_no_password_with_it() {
        assert!(options().check().is_ok());
        let with = |endpoint: &str| Options { endpoints: vec![endpoint.to_owned()], ..options() };
        let unusable = [
            Options { endpoints: Vec::new(), ..options() },
            with("localhost:8529"),
            with("http://root:secret@localhost:8529"),
            with("root:secret@localhost"),
            with("ftp://localhost"),
            with("http://localhost/_db/x"),
            Options { database: "a/b".to_owned(), ..options() },
            Options { database: String::new(), ..options() },
            Options { prefix: "_x".to_owned(), ..options() },
            Options { concurrency: 0, ..options() },
            Options { write_concern: 4, ..options() },
        ];
        for options in unusable {
            let Err(Unusable(why)) = options.check() else { panic!("{options:?}") };
            assert!(!why.contains("secret"), "{why}");
        }
    }
}
