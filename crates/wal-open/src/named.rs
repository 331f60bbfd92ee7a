//! Settings of a store as the options of its backend.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use wal_runtime::config::{self, ArangoDb, Error, Problem, Settings, StoreSettings};
use wal_store::arango;
use wal_store::document::ReadableCopy;

/// The store that settings name.
#[derive(Clone, Debug)]
pub enum Named {
    /// In a folder of one process.
    Embedded(PathBuf),
    /// In a database.
    ArangoDb(Box<arango::Options>),
}

/// What of `[status]` a database heeds.
#[derive(Deserialize)]
struct Status {
    #[serde(deserialize_with = "config::duration")]
    retention: Duration,
}

impl Named {
    /// Reads what settings say of the store, and the certificates they name.
    pub fn read(settings: &Settings) -> Result<Named, Error> {
        match StoreSettings::read(settings)? {
            StoreSettings::Embedded { folder } => Ok(Named::Embedded(folder)),
            StoreSettings::ArangoDb(database) => {
                let Status { retention } = settings.section("status")?;
                let trusted = database.ca_file.as_deref().map(certificates).transpose()?;
                Ok(Named::ArangoDb(Box::new(options(*database, trusted, retention))))
            }
        }
    }
}

fn certificates(file: &Path) -> Result<Vec<u8>, Error> {
    let unreadable = |source| Problem::Unreadable {
        path: file.to_owned(),
        what: "the certificates of store.arangodb.ca_file".to_owned(),
        source,
    };
    std::fs::read(file).map_err(|source| unreadable(source).into())
}

fn options(database: ArangoDb, trusted: Option<Vec<u8>>, retention: Duration) -> arango::Options {
    arango::Options {
        endpoints: database.endpoints,
        database: database.database,
        login: login(database.login),
        trusted,
        connect_timeout: database.connect_timeout,
        request_timeout: database.request_timeout,
        concurrency: database.concurrency,
        prefix: database.prefix,
        replication_factor: database.replication_factor,
        write_concern: database.write_concern,
        shards: database.shards,
        sync_wait: database.sync_wait,
        retention,
        readable_copy: if database.is_payload_readable { ReadableCopy::Written } else { ReadableCopy::Omitted },
    }
}

fn login(login: config::Login) -> arango::Login {
    match login {
        config::Login::Nobody => arango::Login::Nobody,
        config::Login::Basic { user, password } => {
            arango::Login::Basic { user, password: password.reveal().to_owned() }
        }
        config::Login::Token { user, password } => {
            arango::Login::Token { user, password: password.reveal().to_owned() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &[(&str, &str)]) -> Result<Named, Error> {
        let given: Vec<(&str, String)> = given.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        Named::read(&Settings::load_from(None, std::iter::empty(), &given)?)
    }

    #[test]
    fn a_folder_is_what_nobody_has_chosen_otherwise() {
        let Named::Embedded(folder) = read(&[]).unwrap() else { panic!("a database") };
        assert_eq!(folder, Path::new("./.wal/store"));
    }

    #[test]
    fn every_setting_reaches_the_database() {
        let ca = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(ca.path(), "certificates").unwrap();
        let ca = ca.path().display().to_string();
        let given = [
            ("store.backend", "arangodb"),
            ("store.arangodb.endpoints", "https://a:1, https://b:2"),
            ("store.arangodb.database", "d"),
            ("store.arangodb.user", "u"),
            ("store.arangodb.password", "hunter2"),
            ("store.arangodb.auth", "token"),
            ("store.arangodb.ca_file", &ca),
            ("store.arangodb.connect_timeout", "4s"),
            ("store.arangodb.request_timeout", "5s"),
            ("store.arangodb.concurrency", "6"),
            ("store.arangodb.prefix", "p_"),
            ("store.arangodb.replication_factor", "8"),
            ("store.arangodb.write_concern", "7"),
            ("store.arangodb.shards", "9"),
            ("store.arangodb.sync_wait", "10ms"),
            ("store.arangodb.readable_payload", "false"),
            ("status.retention", "40d"),
        ];
        let Named::ArangoDb(options) = read(&given).unwrap() else { panic!("a folder") };
        assert!(!format!("{options:?}").contains("hunter2"));
        // Whole, so that an option that is added cannot be forgotten here.
        let arango::Options {
            endpoints,
            database,
            login,
            trusted,
            connect_timeout,
            request_timeout,
            concurrency,
            prefix,
            replication_factor,
            write_concern,
            shards,
            sync_wait,
            retention,
            readable_copy,
        } = *options;
        assert_eq!(
            (endpoints.join(" "), database, prefix),
            ("https://a:1 https://b:2".into(), "d".into(), "p_".into())
        );
        let arango::Login::Token { user, password } = login else { panic!("{login:?}") };
        assert_eq!((user.as_str(), password.as_str()), ("u", "hunter2"));
        assert_eq!(trusted.as_deref(), Some(&b"certificates"[..]));
        assert_eq!((connect_timeout, request_timeout), (Duration::from_secs(4), Duration::from_secs(5)));
        assert_eq!((concurrency, write_concern, replication_factor, shards), (6, 7, 8, 9));
        assert_eq!((sync_wait, retention), (Duration::from_millis(10), Duration::from_secs(40 * 86_400)));
        assert_eq!(readable_copy, ReadableCopy::Omitted);
    }

    #[test]
    fn defaults_are_those_of_the_backend() {
        let given = [("store.backend", "arangodb"), ("store.arangodb.auth", "none")];
        let Named::ArangoDb(options) = read(&given).unwrap() else { panic!("a folder") };
        let usual = arango::Options::new(vec!["http://127.0.0.1:8529".to_owned()], "wal");
        assert_eq!(format!("{options:?}"), format!("{usual:?}"));
    }

    #[test]
    fn certificates_that_cannot_be_read_are_named() {
        let given = [
            ("store.backend", "arangodb"),
            ("store.arangodb.auth", "none"),
            ("store.arangodb.endpoints", "https://a:1"),
            ("store.arangodb.ca_file", "/not/there"),
        ];
        let said = read(&given).unwrap_err().to_string();
        assert!(said.contains("/not/there (the certificates of store.arangodb.ca_file)"), "{said}");
    }
}
