//! A database for the store of a scenario's log: the fake, which lives in this process and is asked by others.

use std::collections::BTreeMap;

use serde_json::Value;
use wal_arango_fake::{Action, Fault, Server};
use wal_open::Named;
use wal_runtime::config::Settings;
use wal_store::arango::schema;

use super::log::{block_on, variable};

const USER: &str = "wal";
const PASSWORD: &str = "scenario-password";
/// Of how many requests one goes wrong, in a database that stumbles.
const STRIDE: u32 = 3;

/// A database. It has its collections when it is made.
pub struct Database {
    /// The switches: what is to go wrong, and what was asked.
    pub server: Server,
    url: String,
}

impl Database {
    /// One with what `wal store apply` makes.
    pub fn new() -> Database {
        Database::under(&[])
    }

    /// One with what `wal store apply` makes under settings.
    pub fn under(settings: &[(&str, &str)]) -> Database {
        let database = Database::bare();
        database.apply_under(settings);
        database
    }

    /// One that nobody has prepared.
    pub fn bare() -> Database {
        let server = block_on(Server::builder().user(USER, PASSWORD).require_auth().start());
        let server = server.expect("the loopback has a free port");
        Database { url: server.url(), server }
    }

    /// Makes the database and its collections.
    #[track_caller]
    pub fn apply(&self) {
        self.apply_under(&[]);
    }

    #[track_caller]
    fn apply_under(&self, settings: &[(&str, &str)]) {
        let all = self.settings().into_iter().chain(settings.iter().copied());
        let given = all.map(|(key, value)| (variable(key), value.to_owned()));
        let settings = Settings::load_from(None, given, &[]).expect("the settings are valid");
        let Named::ArangoDb(options) = Named::read(&settings).expect("the settings are valid") else {
            panic!("the settings name another store");
        };
        block_on(schema::apply(&options)).expect("the database can be prepared");
    }

    /// The settings of a log whose store this is.
    pub fn settings(&self) -> [(&'static str, &str); 4] {
        [
            ("store.backend", "arangodb"),
            ("store.arangodb.endpoints", &self.url),
            ("store.arangodb.user", USER),
            ("store.arangodb.password", PASSWORD),
        ]
    }

    /// Lets go wrong what passes, each in its own way, one request in so many.
    pub fn stumble(&self) {
        self.server.heal();
        for (skip, action) in (STRIDE..).step_by(STRIDE as usize).zip(Action::transient()) {
            self.server.fail(Fault::next(action).after(skip));
        }
    }

    /// The documents of all entries by their keys, as anybody sees them who looks into the database.
    pub fn entries(&self) -> BTreeMap<String, Value> {
        self.server.documents("wal", "wal_entries")
    }

    /// How many entries stand so.
    pub fn count(&self, status: &str) -> usize {
        self.entries().values().filter(|document| document["status"] == status).count()
    }
}

/// Whether the database's password is nowhere in what a process has said.
#[track_caller]
pub fn expect_no_secret(process: &wal_tests::Process) {
    let said = process.lines().into_iter().find(|line| line.text.contains(PASSWORD));
    assert!(said.is_none(), "{said:?}");
}
