//! Opening the store that settings name, with patience for a database that is not there yet.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};
use wal_runtime::config::{self, Kafka, Settings};
use wal_runtime::overview::STORE;
use wal_runtime::service::{self, Process};
use wal_store::EntryStore;
use wal_store::arango::schema::Difference;
use wal_store::arango::{ArangoStore, OpenError, Options};
use wal_store::embedded::{self, Embedded};

use crate::counted::Counted;
use crate::named::Named;

/// How long a database that does not answer at a start is left alone.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Why the store that settings name does not open.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings cannot be used.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] embedded::OpenError),
    /// The database did not answer, for as long as it was waited for.
    #[error("no answer from the database at {endpoints} within {patience:?}: {why}")]
    Unavailable {
        /// Where it was looked for.
        endpoints: String,
        /// How long.
        patience: Duration,
        /// What was seen last.
        why: String,
    },
    /// The database is not as it must be.
    #[error("the database is not as it must be, see `wal store plan` and `wal store apply`:{}", lines(.0))]
    Schema(Vec<Difference>),
    /// The database has no store that this program can use.
    #[error(transparent)]
    Database(OpenError),
}

fn lines(differences: &[Difference]) -> String {
    differences.iter().map(|difference| format!("\n  {difference}")).collect()
}

impl From<Error> for service::Error {
    fn from(error: Error) -> service::Error {
        match error {
            Error::Config(error) => error.into(),
            error @ (Error::Folder(_) | Error::Unavailable { .. } | Error::Schema(_) | Error::Database(_)) => {
                service::Error::Store(Box::new(error))
            }
        }
    }
}

impl Error {
    /// An error that opening or preparing a database may end with; what the options are to blame for is the settings' to change.
    pub fn of_database(settings: &Settings, error: OpenError) -> Error {
        match error {
            OpenError::Unusable(why) => Error::Config(settings.invalid("store.arangodb", why)),
            OpenError::Schema(differences) => Error::Schema(differences),
            error @ (OpenError::Unavailable(_)
            | OpenError::Refused(_)
            | OpenError::Newer { .. }
            | OpenError::Corrupt(_)) => Error::Database(error),
        }
    }
}

/// Opens the store that settings name. A database that does not answer is asked again until `patience` is over, and `waits` told why each
/// time.
pub async fn open(
    settings: &Settings,
    patience: Duration,
    waits: impl FnMut(&str),
) -> Result<Arc<dyn EntryStore>, Error> {
    open_named(settings, &Named::read(settings)?, patience, waits).await
}

async fn open_named(
    settings: &Settings,
    named: &Named,
    patience: Duration,
    mut waits: impl FnMut(&str),
) -> Result<Arc<dyn EntryStore>, Error> {
    let options = match named {
        Named::Embedded(folder) => return Ok(Arc::new(Embedded::open(folder)?)),
        Named::ArangoDb(options) => options,
    };
    let deadline = Instant::now() + patience;
    loop {
        let why = match tokio::time::timeout_at(deadline, ArangoStore::open(options)).await {
            Ok(Ok(store)) => return Ok(Arc::new(store)),
            Ok(Err(OpenError::Unavailable(why))) => why,
            Ok(Err(error)) => return Err(Error::of_database(settings, error)),
            Err(_) => "it took too long".to_owned(),
        };
        if Instant::now() + ASK_AGAIN >= deadline {
            return Err(Error::Unavailable { endpoints: options.endpoints.join(", "), patience, why });
        }
        waits(&why);
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Opens the store of a service, with who tells the probes whether it answers. `None` if the process is to stop before that.
pub async fn of_process(
    process: &Process,
) -> Result<Option<(Arc<dyn EntryStore>, impl Fn(bool) + Send + Sync + 'static)>, service::Error> {
    let answers = process.condition(STORE, "the store has not been opened yet");
    let patience = Kafka::read(&process.settings)?.start_timeout;
    let named = Named::read(&process.settings)?;
    let opening = open_named(&process.settings, &named, patience, |why| {
        answers.unmet(format!("the database does not answer yet: {why}"));
        warn!(why, "the database does not answer yet");
    });
    let store = tokio::select! {
        store = opening => store?,
        // What is opened meanwhile is dropped with it: nothing was asked of it.
        () = process.shutdown.triggered() => return Ok(None),
    };
    answers.met();
    tell(&named);
    let kind = match named {
        Named::Embedded(_) => "embedded",
        Named::ArangoDb(_) => "arangodb",
    };
    let store: Arc<dyn EntryStore> = Arc::new(Counted { store, kind, metrics: process.metrics.clone() });
    let watch = move |is_answering| match is_answering {
        true => answers.met(),
        false => answers.unmet("the store does not answer"),
    };
    Ok(Some((store, watch)))
}

fn tell(named: &Named) {
    match named {
        Named::Embedded(folder) => tell_folder(folder),
        Named::ArangoDb(options) => tell_database(options),
    }
}

fn tell_folder(folder: &Path) {
    warn!(folder = %folder.display(), "the embedded store belongs to this process alone: no other service can use it");
}

fn tell_database(options: &Options) {
    let Options { database, prefix, .. } = options;
    info!(endpoints = options.endpoints.join(", "), database, prefix, "the store is in ArangoDB");
}
