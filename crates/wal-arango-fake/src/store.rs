//! What the server keeps: databases, collections, documents; and which commits a loss of power would take back.
//!
//! ```text
//!   write ─▶ commit (visible to everyone) ─▶ sync (durable) ─▶ answer
//!               │                              │
//!               └ unsynced: how to undo it     └ forgets all of `unsynced`: the log is one per server
//! ```
//!
//! A request that changed nothing ends before the sync, as in the real server: `waitForSync` on a duplicate syncs nothing.

pub(crate) mod collection;
pub(crate) mod expiry;
pub(crate) mod index;
mod revision;
pub(crate) mod write;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::Version;
use crate::api::cursor::Cursor;
use crate::error::{Error, Result};

use self::collection::{Collection, Document, Kind};
pub(crate) use self::revision::{decode as decode_revision, encode as encode_revision};

/// Exists in every database.
const SYSTEM_COLLECTIONS: [&str; 8] =
    ["_analyzers", "_appbundles", "_apps", "_aqlfunctions", "_frontend", "_graphs", "_jobs", "_queues"];

pub(crate) struct Store {
    pub(crate) version: Version,
    pub(crate) databases: BTreeMap<String, Database>,
    /// Ids of everything, keys that nobody chose.
    tick: u64,
    revision: u64,
    /// Oldest first. Undone from the end.
    unsynced: Vec<Change>,
    pub(crate) syncs: Syncs,
}

/// Whether the request that runs is to get as far as its sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syncs {
    AsAsked,
    Suppressed,
}

pub(crate) struct Database {
    pub(crate) id: u64,
    pub(crate) collections: BTreeMap<String, Collection>,
    pub(crate) cursors: HashMap<u64, Cursor>,
}

/// One document before a write.
pub(crate) struct Change {
    collection: u64,
    key: String,
    before: Option<Arc<Document>>,
}

impl Change {
    pub(crate) fn new(collection: u64, key: &str, before: Option<Arc<Document>>) -> Self {
        Self { collection, key: key.to_owned(), before }
    }
}

/// What one request changes: kept as a whole or taken back as a whole.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) changes: Vec<Change>,
    /// Asked for by the request, or a property of a collection that was really written.
    pub(crate) waits_for_sync: bool,
}

impl Store {
    pub(crate) fn new(version: Version) -> Self {
        let mut store = Self {
            version,
            databases: BTreeMap::new(),
            tick: 100,
            revision: revision::FIRST,
            unsynced: Vec::new(),
            syncs: Syncs::AsAsked,
        };
        store.create_database("_system");
        store
    }

    pub(crate) fn next_tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    pub(crate) fn next_revision(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    pub(crate) fn create_database(&mut self, name: &str) {
        let mut database = Database { id: self.next_tick(), collections: BTreeMap::new(), cursors: HashMap::new() };
        for name in SYSTEM_COLLECTIONS {
            let collection = Collection::new(self.next_tick(), name, Kind::Document);
            database.collections.insert(name.to_owned(), collection);
        }
        self.databases.insert(name.to_owned(), database);
    }

    pub(crate) fn database(&self, name: &str) -> Result<&Database> {
        self.databases.get(name).ok_or_else(database_not_found)
    }

    pub(crate) fn database_mut(&mut self, name: &str) -> Result<&mut Database> {
        self.databases.get_mut(name).ok_or_else(database_not_found)
    }

    pub(crate) fn collection(&self, database: &str, name: &str) -> Result<&Collection> {
        self.database(database)?.collection(name)
    }

    pub(crate) fn collection_mut(&mut self, database: &str, name: &str) -> Result<&mut Collection> {
        let database = self.database_mut(database)?;
        let name = database.collection(name)?.name.clone();
        Ok(database.collections.get_mut(&name).expect("just found"))
    }

    /// Whether the answer may say that it waited: also where there was nothing to wait for.
    pub(crate) fn commit(&mut self, batch: Batch) -> bool {
        let is_synced = batch.waits_for_sync && !batch.changes.is_empty();
        self.unsynced.extend(batch.changes);
        match self.syncs {
            Syncs::AsAsked if is_synced => self.sync(),
            Syncs::AsAsked | Syncs::Suppressed => {}
        }
        batch.waits_for_sync
    }

    pub(crate) fn abort(&mut self, batch: Batch) {
        self.undo(batch.changes);
    }

    /// As the server does by itself every now and then, and as every synced write does.
    pub(crate) fn sync(&mut self) {
        self.unsynced.clear();
    }

    pub(crate) fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// Takes back what was committed and not synced.
    pub(crate) fn power_loss(&mut self) -> usize {
        let lost = std::mem::take(&mut self.unsynced);
        let count = lost.len();
        self.undo(lost);
        self.forget_sessions();
        count
    }

    /// What does not outlive the process.
    pub(crate) fn forget_sessions(&mut self) {
        self.databases.values_mut().for_each(|database| database.cursors.clear());
    }

    fn undo(&mut self, changes: Vec<Change>) {
        for change in changes.into_iter().rev() {
            let mut collections = self.databases.values_mut().flat_map(|database| database.collections.values_mut());
            // A collection that is gone took its documents with it.
            if let Some(collection) = collections.find(|collection| collection.id == change.collection) {
                collection.restore(&change.key, change.before);
            }
        }
    }
}

impl Database {
    /// By name or by id.
    pub(crate) fn collection(&self, name: &str) -> Result<&Collection> {
        let by_id = || {
            let id: u64 = name.parse().ok()?;
            self.collections.values().find(|collection| collection.id == id)
        };
        self.collections.get(name).or_else(by_id).ok_or_else(|| Error::collection_not_found(name))
    }
}

fn database_not_found() -> Error {
    Error::new(404, 1228, "database not found")
}
