//! Where a benchmark writes: beside the store, never into it, and gone afterwards.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use wal_model::Timestamp;
use wal_model::status::Status;
use wal_open::{Error, Named};
use wal_runtime::config::Settings;
use wal_store::arango::schema::{self, Difference};
use wal_store::arango::{self, ArangoStore, BENCH_PREFIX, OpenError, Options};
use wal_store::embedded::Embedded;
use wal_store::{EntryStore, Query, Range};

use crate::problem::{Exit, Problem};
use crate::{settings, store};

/// A place that holds no entries.
pub enum Place {
    /// A folder, on the disk of the embedded store.
    Folder(TempDir),
    /// Collections, in the database of the store.
    Database(Box<Options>),
}

/// The store that was made there.
pub struct Opened {
    pub store: Arc<dyn EntryStore>,
    database: Option<ArangoStore>,
}

impl Opened {
    /// How many requests a database was asked so far; a folder is asked none.
    pub fn requests(&self) -> Option<u64> {
        self.database.as_ref().map(ArangoStore::requests)
    }
}

impl Place {
    /// Finds a place beside the store that the settings name, for so many requests at once. Refuses one that holds entries.
    pub async fn find(settings: &Settings, at_once: usize) -> Result<Place, Problem> {
        match Named::read(settings).map_err(|error| settings::invalid(&error))? {
            Named::Embedded(folder) => {
                let beside = folder.parent().filter(|parent| parent.is_dir()).unwrap_or(Path::new("."));
                Ok(Place::Folder(tempfile::Builder::new().prefix("wal-bench-").tempdir_in(beside)?))
            }
            Named::ArangoDb(options) if options.prefix == BENCH_PREFIX => {
                let reason = format!("`{BENCH_PREFIX}` is the benchmark's own, which removes what begins so");
                Err(settings::invalid(&settings.invalid("store.arangodb.prefix", reason)))
            }
            Named::ArangoDb(options) => {
                let concurrency = options.concurrency.max(at_once);
                let options = arango::for_bench(Options { concurrency, ..*options });
                expect_empty(settings, &options).await?;
                Ok(Place::Database(Box::new(options)))
            }
        }
    }

    /// Where that is, for people.
    pub fn told(&self) -> String {
        match self {
            Place::Folder(folder) => format!("embedded store in {}, payloads of 1 KiB", folder.path().display()),
            Place::Database(options) => {
                let Options { database, .. } = &**options;
                let endpoints = options.endpoints.join(", ");
                format!("ArangoDB at {endpoints}, database {database}, collections {BENCH_PREFIX}*, payloads of 1 KiB")
            }
        }
    }

    /// Makes a store there.
    pub async fn open(&self, settings: &Settings) -> Result<Opened, Problem> {
        match self {
            Place::Folder(folder) => {
                let store = Embedded::open(folder.path()).map_err(|error| store::problem(&Error::Folder(error)))?;
                Ok(Opened { store: Arc::new(store), database: None })
            }
            Place::Database(options) => {
                schema::apply(options).await.map_err(failed(settings))?;
                let database = ArangoStore::open(options).await.map_err(failed(settings))?;
                Ok(Opened { store: Arc::new(database.clone()), database: Some(database) })
            }
        }
    }

    /// Removes all of it.
    pub async fn remove(self, settings: &Settings) -> Result<(), Problem> {
        match self {
            Place::Folder(folder) => Ok(folder.close()?),
            Place::Database(options) => arango::remove_bench(*options).await.map_err(failed(settings)),
        }
    }
}

fn failed(settings: &Settings) -> impl Fn(OpenError) -> Problem {
    |error| store::problem(&Error::of_database(settings, error))
}

/// What a benchmark removes afterwards must be its own.
async fn expect_empty(settings: &Settings, options: &Options) -> Result<(), Problem> {
    let plan = schema::plan(options).await.map_err(failed(settings))?;
    if plan.iter().any(|step| matches!(step, Difference::NoDatabase { .. })) {
        return Err(store::problem(&Error::Schema(plan)));
    }
    let entries = format!("{BENCH_PREFIX}entries");
    if plan.iter().any(|step| matches!(step, Difference::NoCollection { name } if *name == entries)) {
        return Ok(());
    }
    // A run that was killed may have left anything, and a store opens only when all is there.
    schema::apply(options).await.map_err(failed(settings))?;
    let store = ArangoStore::open(options).await.map_err(failed(settings))?;
    if holds_entries(&store).await? {
        let what = format!("benchmark in {}: its collection {entries} holds entries", options.database);
        let hint = "if they are those of a benchmark that was killed, remove the collections wal_bench_entries and wal_bench_store";
        return Err(Problem::new(Exit::Failed, "WAL_BENCH_OCCUPIED", what).hint(hint));
    }
    Ok(())
}

async fn holds_entries(store: &ArangoStore) -> Result<bool, Problem> {
    let range = Range { from: Timestamp::EPOCH, to: Timestamp::MAX };
    for status in [Status::Pending, Status::Retrying, Status::Failed, Status::Completed] {
        let page = store.scan(&Query::Status { status, range }, None, 1).await;
        let page = page.map_err(|error| Problem::of(Exit::Failed, "WAL_STORE_UNAVAILABLE", &error))?;
        if !page.entries.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}
