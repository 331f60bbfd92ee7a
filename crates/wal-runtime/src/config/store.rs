//! The section `store`: which store, and how to reach it. Opening it is for those who know stores.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::sections::not_zero;
use super::{Error, Settings};
use crate::secret::Secret;

const BACKEND: &str = "store.backend";
const ENDPOINTS: &str = "store.arangodb.endpoints";
const AUTH: &str = "store.arangodb.auth";
const USER: &str = "store.arangodb.user";
const PASSWORD: &str = "store.arangodb.password";

/// Where entries are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreSettings {
    /// In a folder of this process alone.
    Embedded {
        /// The folder.
        folder: PathBuf,
    },
    /// In a database that all services share.
    ArangoDb(Box<ArangoDb>),
}

/// An ArangoDB, and how it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArangoDb {
    /// `http://host:port` or `https://host:port`; none holds a user or a password.
    pub endpoints: Vec<String>,
    /// The database.
    pub database: String,
    /// Who we are there.
    pub login: Login,
    /// Certificates that are trusted besides the machine's own.
    pub ca_file: Option<PathBuf>,
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// The most requests under way at one time.
    pub concurrency: usize,
    /// What the names of the collections begin with.
    pub prefix: String,
    /// In a cluster: how many servers hold a copy of each document.
    pub replication_factor: u32,
    /// In a cluster: how many of them must have a write before it is answered.
    pub write_concern: u32,
    /// In a cluster: over how many shards the entries are spread.
    pub shards: u32,
    /// In a cluster: what was seen so long ago is on disk.
    pub sync_wait: Duration,
    /// Whether each payload is stored as readable JSON too.
    pub is_payload_readable: bool,
}

/// Who we are to the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// The database asks nobody.
    Nobody,
    /// User and password go with every request.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// User and password are changed for a token.
    Token {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    backend: Backend,
    folder: PathBuf,
    arangodb: RawArangoDb,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Backend {
    Embedded,
    ArangoDb,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawArangoDb {
    endpoints: Vec<String>,
    database: String,
    user: String,
    password: Secret,
    auth: Auth,
    ca_file: PathBuf,
    #[serde(deserialize_with = "super::duration")]
    connect_timeout: Duration,
    #[serde(deserialize_with = "super::duration")]
    request_timeout: Duration,
    concurrency: usize,
    prefix: String,
    replication_factor: u32,
    write_concern: u32,
    shards: u32,
    #[serde(deserialize_with = "super::duration")]
    sync_wait: Duration,
    readable_payload: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Auth {
    Basic,
    Token,
    None,
}

impl StoreSettings {
    /// Reads and checks the section `store`.
    pub fn read(settings: &Settings) -> Result<StoreSettings, Error> {
        let raw: Raw = settings.section("store")?;
        match raw.backend {
            Backend::Embedded if raw.folder.as_os_str().is_empty() => {
                Err(settings.contradiction("store.folder", BACKEND, "the embedded store needs a folder"))
            }
            Backend::Embedded => {
                expect_meant(settings)?;
                Ok(StoreSettings::Embedded { folder: raw.folder })
            }
            Backend::ArangoDb => Ok(StoreSettings::ArangoDb(Box::new(arangodb(settings, raw.arangodb)?))),
        }
    }
}

/// Whoever describes a database and does not say that it is the store has forgotten to, and would find the entries elsewhere. To say
/// that it is not is no mistake.
fn expect_meant(settings: &Settings) -> Result<(), Error> {
    let is_default = |key: &str| settings.origin(key) == super::DEFAULT;
    if is_default(BACKEND) && !is_default("store.arangodb") {
        let reason =
            "a database is described and nobody says that it is the store; set store.backend to one of the two";
        return Err(settings.contradiction(BACKEND, "store.arangodb", reason));
    }
    Ok(())
}

fn arangodb(settings: &Settings, raw: RawArangoDb) -> Result<ArangoDb, Error> {
    check_endpoints(settings, &raw)?;
    check_limits(settings, &raw)?;
    let login = login(settings, &raw)?;
    Ok(ArangoDb {
        endpoints: raw.endpoints,
        database: raw.database,
        login,
        ca_file: Some(raw.ca_file).filter(|file| !file.as_os_str().is_empty()),
        connect_timeout: raw.connect_timeout,
        request_timeout: raw.request_timeout,
        concurrency: raw.concurrency,
        prefix: raw.prefix,
        replication_factor: raw.replication_factor,
        write_concern: raw.write_concern,
        shards: raw.shards,
        sync_wait: raw.sync_wait,
        is_payload_readable: raw.readable_payload,
    })
}

/// What is wrong with an endpoint is told without it: it may hold a password.
fn check_endpoints(settings: &Settings, raw: &RawArangoDb) -> Result<(), Error> {
    if raw.endpoints.is_empty() {
        return Err(settings.contradiction(ENDPOINTS, BACKEND, "a store in ArangoDB needs an endpoint"));
    }
    for (endpoint, nth) in raw.endpoints.iter().zip(1..) {
        if endpoint.contains('@') {
            let reason = format!("endpoint {nth} holds a user or a password; they have keys of their own");
            return Err(settings.invalid(ENDPOINTS, reason));
        }
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err(settings.invalid(ENDPOINTS, format!("endpoint {nth} is no URL such as \"http://host:8529\"")));
        }
    }
    let is_encrypted = raw.endpoints.iter().any(|endpoint| endpoint.starts_with("https://"));
    if !raw.ca_file.as_os_str().is_empty() && !is_encrypted {
        let reason = "certificates are for https, and no endpoint is";
        return Err(settings.contradiction("store.arangodb.ca_file", ENDPOINTS, reason));
    }
    Ok(())
}

fn check_limits(settings: &Settings, raw: &RawArangoDb) -> Result<(), Error> {
    not_zero(settings, "store.arangodb.connect_timeout", raw.connect_timeout)?;
    not_zero(settings, "store.arangodb.request_timeout", raw.request_timeout)?;
    not_zero(settings, "store.arangodb.sync_wait", raw.sync_wait)?;
    let at_least_one = [
        ("store.arangodb.concurrency", raw.concurrency == 0),
        ("store.arangodb.replication_factor", raw.replication_factor == 0),
        ("store.arangodb.write_concern", raw.write_concern == 0),
        ("store.arangodb.shards", raw.shards == 0),
    ];
    if let Some((key, _)) = at_least_one.into_iter().find(|(_, is_zero)| *is_zero) {
        return Err(settings.invalid(key, "must be at least 1"));
    }
    if raw.connect_timeout > raw.request_timeout {
        let (connect, request) = ("store.arangodb.connect_timeout", "store.arangodb.request_timeout");
        return Err(settings.contradiction(connect, request, "a request cannot end before its connection is open"));
    }
    if raw.write_concern > raw.replication_factor {
        let (concern, copies) = ("store.arangodb.write_concern", "store.arangodb.replication_factor");
        return Err(settings.contradiction(concern, copies, "no more servers can have a write than hold a copy"));
    }
    Ok(())
}

fn login(settings: &Settings, raw: &RawArangoDb) -> Result<Login, Error> {
    let (user, password) = (raw.user.clone(), raw.password.clone());
    match raw.auth {
        Auth::None if !user.is_empty() => Err(settings.contradiction(USER, AUTH, "nobody is asked who they are")),
        Auth::None if !password.is_empty() => {
            Err(settings.contradiction(PASSWORD, AUTH, "nobody is asked for a password"))
        }
        Auth::None => Ok(Login::Nobody),
        Auth::Basic | Auth::Token if user.is_empty() => {
            Err(settings.contradiction(AUTH, USER, "there is no user; a database that asks nobody is \"none\""))
        }
        Auth::Basic | Auth::Token if password.is_empty() => {
            let reason = "there is no password; WAL__STORE__ARANGODB__PASSWORD_FILE names a file that holds it";
            Err(settings.contradiction(AUTH, PASSWORD, reason))
        }
        Auth::Basic => Ok(Login::Basic { user, password }),
        Auth::Token => Ok(Login::Token { user, password }),
    }
}
