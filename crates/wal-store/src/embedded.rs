//! Entries in a folder: one redb database, owned by one process.
//!
//! ```text
//!   folder/lock            held while the store is open, so that a second process is told instead of served
//!   folder/entries.redb    content  written at, key ─▶ document without its standing
//!                          states   written at, key ─▶ namespace, tenant, state
//!                          written  key ─▶ written at
//!                          seven indexes, all of them ending in (timestamp, key)
//! ```
//!
//! One synced commit per insert, apply and remove. Reads see the last commit and wait for no write.

mod folder;
mod keys;
mod progress;
mod read;
mod rows;
mod tables;
mod upgrade;
mod write;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use redb::Database;
use wal_model::ack::Ack;
use wal_model::{Entry, EntryKey, Timestamp};

use self::folder::FolderLock;
pub use self::folder::OpenError;
use crate::{After, Applied, EntryStore, Error, Finished, Inserted, Page, Query, StoreId};

/// The longest value redb takes. What is longer can never be kept.
const VALUE_MAX: usize = 3 * 1024 * 1024 * 1024;

/// A store in a folder.
#[derive(Clone)]
pub struct Embedded {
    inner: Arc<Inner>,
}

struct Inner {
    id: StoreId,
    folder: PathBuf,
    value_max: usize,
    slot: Mutex<Slot>,
    /// Released after the database is closed: fields are dropped in order.
    _lock: FolderLock,
}

/// The database, or what is left of it after an I/O error: redb then refuses every call until it is closed and opened again.
enum Slot {
    Open(Arc<Database>),
    /// Others may still be using it; it can be closed when they are done.
    Broken(Arc<Database>),
    Closed,
}

/// Why a piece of work on the database failed.
enum Fault {
    Redb(Box<redb::Error>),
    Store(Error),
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Fault {
        Fault::Redb(Box::new(error.into()))
    }
}

impl Embedded {
    /// Opens the store in a folder; makes folder and store where there are none.
    pub fn open(folder: &Path) -> Result<Embedded, OpenError> {
        Embedded::open_with(folder, VALUE_MAX)
    }

    fn open_with(folder: &Path, value_max: usize) -> Result<Embedded, OpenError> {
        let lock = FolderLock::take(folder)?;
        let database = folder::open_database(folder)?;
        let id = folder::prepare(folder, &database)?;
        let slot = Mutex::new(Slot::Open(Arc::new(database)));
        let inner = Inner { id, folder: folder.to_owned(), value_max, slot, _lock: lock };
        Ok(Embedded { inner: Arc::new(inner) })
    }

    /// Does blocking work on the database on a thread for it. Where the caller stops waiting, the work is done all the same.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = Arc::clone(&self.inner);
        match tokio::task::spawn_blocking(move || inner.run(work)).await {
            Ok(result) => result,
            Err(join) => Err(Error::Unavailable(format!("its work was interrupted: {join}"))),
        }
    }
}

impl Inner {
    fn run<T>(&self, work: impl FnOnce(&Database) -> Result<T, Fault>) -> Result<T, Error> {
        let database = self.database()?;
        work(&database).map_err(|fault| self.handle(fault, database))
    }

    /// The open database, opened again if it broke.
    fn database(&self) -> Result<Arc<Database>, Error> {
        let mut slot = self.slot();
        match std::mem::replace(&mut *slot, Slot::Closed) {
            Slot::Open(database) => {
                *slot = Slot::Open(Arc::clone(&database));
                return Ok(database);
            }
            Slot::Broken(database) => {
                if let Err(database) = Arc::try_unwrap(database) {
                    *slot = Slot::Broken(database);
                    return Err(Error::Unavailable("it is about to be opened again after an I/O error".to_owned()));
                }
            }
            Slot::Closed => {}
        }
        let reopened = folder::open_database(&self.folder).and_then(|database| {
            folder::check_same(&self.folder, &database, self.id)?;
            Ok(Arc::new(database))
        });
        match reopened {
            Ok(database) => {
                tracing::info!(folder = %self.folder.display(), "the store is open again");
                *slot = Slot::Open(Arc::clone(&database));
                Ok(database)
            }
            Err(error @ (OpenError::Newer { .. } | OpenError::Corrupt { .. })) => {
                Err(Error::Corrupt(error.to_string()))
            }
            Err(error @ (OpenError::Locked { .. } | OpenError::Io { .. })) => {
                Err(Error::Unavailable(error.to_string()))
            }
        }
    }

    fn handle(&self, fault: Fault, database: Arc<Database>) -> Error {
        let error = match fault {
            Fault::Store(error) => return error,
            Fault::Redb(error) => *error,
        };
        if !leaves_redb_usable(&error) {
            self.mark_broken(&database, &error);
        }
        if is_damage(&error) { Error::Corrupt(error.to_string()) } else { Error::Unavailable(error.to_string()) }
    }

    /// A call that began before a reopening must not close the new database for what happened to the old one.
    fn mark_broken(&self, database: &Arc<Database>, error: &redb::Error) {
        let mut slot = self.slot();
        if matches!(&*slot, Slot::Open(open) if Arc::ptr_eq(open, database)) {
            tracing::warn!(folder = %self.folder.display(), %error, "the store failed; the next call opens it again");
            *slot = Slot::Broken(Arc::clone(database));
        }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        // Nothing panics between taking a slot and filling it again but opening, and `Closed` is right after that.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_damage(error: &redb::Error) -> bool {
    matches!(
        error,
        redb::Error::Corrupted(_)
            | redb::Error::UpgradeRequired(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TableIsNotMultimap(_)
            | redb::Error::TypeDefinitionChanged { .. }
            | redb::Error::TableDoesNotExist(_)
    )
}

/// Damage stays damage however often the database is opened. Anything else is cured by opening it again, if by anything.
fn leaves_redb_usable(error: &redb::Error) -> bool {
    is_damage(error) || matches!(error, redb::Error::ValueTooLarge(_))
}

#[async_trait]
impl EntryStore for Embedded {
    fn id(&self) -> StoreId {
        self.inner.id
    }

    async fn insert(&self, entries: &[Entry]) -> Result<Vec<Inserted>, Error> {
        let (entries, value_max) = (entries.to_vec(), self.inner.value_max);
        self.run(move |database| write::insert(database, &entries, value_max)).await
    }

    async fn get(&self, keys: &[EntryKey]) -> Result<Vec<Option<Entry>>, Error> {
        let keys = keys.to_vec();
        self.run(move |database| read::get(database, &keys)).await
    }

    async fn scan(&self, query: &Query, after: Option<After>, limit: usize) -> Result<Page, Error> {
        let query = query.clone();
        self.run(move |database| read::scan(database, &query, after, limit)).await
    }

    async fn apply(&self, events: &[Ack]) -> Result<Vec<Applied>, Error> {
        let events = events.to_vec();
        self.run(move |database| write::apply(database, &events)).await
    }

    async fn expired(
        &self,
        at: Timestamp,
        after: Option<(Timestamp, EntryKey)>,
        limit: usize,
    ) -> Result<Vec<Entry>, Error> {
        self.run(move |database| read::expired(database, at, after, limit)).await
    }

    async fn finished(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, EntryKey)>,
        limit: usize,
    ) -> Result<Vec<Finished>, Error> {
        self.run(move |database| read::finished(database, before, after, limit)).await
    }

    async fn remove(&self, keys: &[EntryKey], finished_before: Timestamp) -> Result<usize, Error> {
        let keys = keys.to_vec();
        self.run(move |database| write::remove(database, &keys, finished_before)).await
    }
}

#[cfg(test)]
mod tests;
