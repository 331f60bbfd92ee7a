//! The folder: who owns it, which format is in it, and making sure that what can be read in it is on disk.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, Durability, ReadableDatabase};
use uuid::Uuid;

use super::progress::Progress;
use super::tables::{CONTENT, FORMAT, Index, META, META_FORMAT, META_STORE_ID, STATES, WRITTEN};
use super::{Fault, is_damage, upgrade};
use crate::StoreId;

const DATABASE: &str = "entries.redb";
const LOCK: &str = "lock";

/// Pages kept in memory: redb's own default of 1 GiB is more than a small installation has to give.
const CACHE_SIZE: usize = 128 * 1024 * 1024;

/// How much is rewritten at a time after a crash.
const CHUNK: usize = 1024 * 1024;

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another part of this one, has it open.
    #[error("open the store in {}: another process is using it", .folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// A newer program made it.
    #[error("open the store in {}: it has format {found}, this program knows {known}; use the newer program", .folder.display())]
    Newer {
        /// The folder.
        folder: PathBuf,
        /// The format it has.
        found: u32,
        /// The format this program knows.
        known: u32,
    },
    /// The disk or its permissions do not let us.
    #[error("open the store in {}", .folder.display())]
    Io {
        /// The folder.
        folder: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// What is there is not a store, or no longer one.
    #[error("open the store in {}: it is damaged: {reason}", .folder.display())]
    Corrupt {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl OpenError {
    fn io(folder: &Path, source: io::Error) -> OpenError {
        OpenError::Io { folder: folder.to_owned(), source }
    }

    fn corrupt(folder: &Path, reason: impl ToString) -> OpenError {
        OpenError::Corrupt { folder: folder.to_owned(), reason: reason.to_string() }
    }

    fn redb(folder: &Path, error: redb::Error) -> OpenError {
        match error {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
                OpenError::Locked { folder: folder.to_owned() }
            }
            // What is no redb file at all comes as an I/O error of this kind.
            redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => OpenError::corrupt(folder, error),
            redb::Error::Io(error) => OpenError::io(folder, error),
            error if is_damage(&error) => OpenError::corrupt(folder, error),
            error => OpenError::io(folder, io::Error::other(error)),
        }
    }
}

/// The folder is ours for as long as this lives. redb's own lock is not enough: it is let go while the database is reopened.
pub(super) struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Makes the folder if it is missing.
    pub(super) fn take(folder: &Path) -> Result<FolderLock, OpenError> {
        let lock = || {
            make_folder(folder)?;
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(folder.join(LOCK))
        };
        let file = lock().map_err(|error| OpenError::io(folder, error))?;
        match file.try_lock() {
            Ok(()) => Ok(FolderLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked { folder: folder.to_owned() }),
            Err(TryLockError::Error(error)) => Err(OpenError::io(folder, error)),
        }
    }
}

/// Makes a folder that a power failure does not take away: each new one is synced into the one above it.
fn make_folder(folder: &Path) -> io::Result<()> {
    let missing: Vec<&Path> =
        folder.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
    std::fs::create_dir_all(folder)?;
    for made in missing {
        match made.parent() {
            Some(above) if !above.as_os_str().is_empty() => sync_folder(above)?,
            Some(_) | None => sync_folder(Path::new("."))?,
        }
    }
    Ok(())
}

/// Syncs the names in a folder. A synced file in it is lost all the same if its name is not.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Opens the database, or makes it. The caller holds the folder's lock.
pub(super) fn open_database(folder: &Path) -> Result<Database, OpenError> {
    let path = folder.join(DATABASE);
    let mut builder = redb::Builder::new();
    let name = folder.display().to_string();
    builder.set_cache_size(CACHE_SIZE).set_repair_callback(move |repair| {
        tracing::info!(folder = name, "the store is checked: {:.0} %", repair.progress() * 100.0);
    });
    let mut careful = redb::Builder::new();
    careful.set_cache_size(CACHE_SIZE).set_repair_callback(|repair| repair.abort());
    let database = match careful.create(&path) {
        Err(DatabaseError::RepairAborted) => {
            tracing::warn!(folder = %folder.display(), "the store was not closed; it is checked now");
            write_through(folder, &path).map_err(|error| OpenError::io(folder, error))?;
            builder.open(&path)
        }
        opened => opened,
    };
    let database = database.map_err(|error| OpenError::redb(folder, error.into()))?;
    sync_folder(folder).map_err(|error| OpenError::io(folder, error))?;
    Ok(database)
}

/// Writes every byte of a file again where it is, and syncs.
///
/// When a sync fails, Linux keeps the pages it could not write, but takes them for written: they can be read, the next sync
/// succeeds, and they are gone after a power failure. A repair would find such a commit whole and answer `Present` for entries that
/// are not on disk. Written again, the pages are synced or the sync fails again. A crash in here is harmless: no byte changes.
/// See <https://wiki.postgresql.org/wiki/Fsync_Errors>.
fn write_through(folder: &Path, path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut progress = Progress::begin(folder, "the store is made sure to be on the disk", file.metadata()?.len());
    let mut chunk = vec![0; CHUNK];
    let mut at = 0;
    loop {
        file.seek(SeekFrom::Start(at))?;
        let length = match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&chunk[..length])?;
        at += length as u64;
        progress.at(at);
    }
    file.sync_all()
}

/// Makes a new database ours, or checks that it is and brings it to the present format; answers with its id.
pub(super) fn prepare(folder: &Path, database: &Database) -> Result<StoreId, OpenError> {
    let Some(found) = identity(folder, database)? else {
        return initialize(database).map_err(|fault| unprepared(folder, fault));
    };
    if found.format != FORMAT {
        tracing::info!(folder = %folder.display(), from = found.format, to = FORMAT, "the store has an older format; it is upgraded now");
        upgrade::run(folder, database).map_err(|fault| unprepared(folder, fault))?;
    }
    Ok(found.id)
}

/// A database that was opened again must be the one it was.
pub(super) fn check_same(folder: &Path, database: &Database, expected: StoreId) -> Result<(), OpenError> {
    match identity(folder, database)? {
        Some(Identity { id, format: FORMAT }) if id == expected => Ok(()),
        Some(Identity { id, format }) => {
            Err(OpenError::corrupt(folder, format_args!("it was store {expected} and is now {id} in format {format}")))
        }
        None => Err(OpenError::corrupt(folder, format_args!("it was store {expected} and is now empty"))),
    }
}

/// A database that is ours.
struct Identity {
    id: StoreId,
    /// One that this program knows: 1 to [`FORMAT`].
    format: u32,
}

/// Whose the database is; `None` if nothing was ever committed to it.
fn identity(folder: &Path, database: &Database) -> Result<Option<Identity>, OpenError> {
    let meta = match read_meta(database) {
        Ok(Some(meta)) => meta,
        Ok(None) => return Ok(None),
        Err(fault) => return Err(unprepared(folder, fault)),
    };
    let format = <[u8; 4]>::try_from(meta.format).map_err(|_| OpenError::corrupt(folder, "its format is no number"))?;
    let format = match u32::from_be_bytes(format) {
        known @ 1..=FORMAT => known,
        found if found > FORMAT => return Err(OpenError::Newer { folder: folder.to_owned(), found, known: FORMAT }),
        found => return Err(OpenError::corrupt(folder, format_args!("there never was a format {found}"))),
    };
    let id = Uuid::from_slice(&meta.store_id).map_err(|_| OpenError::corrupt(folder, "its id is no uuid"))?;
    Ok(Some(Identity { id: StoreId(id), format }))
}

/// The rows of `meta` as they are stored.
struct Meta {
    format: Vec<u8>,
    store_id: Vec<u8>,
}

fn read_meta(database: &Database) -> Result<Option<Meta>, Fault> {
    let snapshot = database.begin_read()?;
    let meta = match snapshot.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) if snapshot.list_tables()?.next().is_none() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let read = |name| -> Result<Vec<u8>, Fault> {
        Ok(meta.get(name)?.map(|value| value.value().to_vec()).unwrap_or_default())
    };
    Ok(Some(Meta { format: read(META_FORMAT)?, store_id: read(META_STORE_ID)? }))
}

/// Makes every table, so that no reader ever finds one missing.
fn initialize(database: &Database) -> Result<StoreId, Fault> {
    let id = StoreId(Uuid::new_v4());
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(META_FORMAT, FORMAT.to_be_bytes().as_slice())?;
        meta.insert(META_STORE_ID, id.0.as_bytes().as_slice())?;
        transaction.open_table(CONTENT)?;
        transaction.open_table(STATES)?;
        transaction.open_table(WRITTEN)?;
        for index in Index::ALL {
            transaction.open_table(index.table())?;
        }
    }
    transaction.commit()?;
    Ok(id)
}

fn unprepared(folder: &Path, fault: Fault) -> OpenError {
    match fault {
        Fault::Redb(error) => OpenError::redb(folder, *error),
        Fault::Store(error) => OpenError::corrupt(folder, error),
    }
}
