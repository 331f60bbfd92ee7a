//! Every backend and every decorator keeps the promises of the store.

use std::sync::Arc;

use async_trait::async_trait;
use tempfile::TempDir;
use wal_store::EntryStore;
use wal_store::conformance::Subject;
use wal_store::embedded::Embedded;
use wal_store::faults::Faulty;

struct InFolder {
    store: Option<Embedded>,
    folder: TempDir,
}

impl InFolder {
    fn make() -> InFolder {
        let folder = tempfile::tempdir().unwrap();
        InFolder { store: Some(Embedded::open(folder.path()).unwrap()), folder }
    }

    fn embedded(&self) -> Embedded {
        self.store.clone().unwrap()
    }
}

#[async_trait]
impl Subject for InFolder {
    fn store(&self) -> Arc<dyn EntryStore> {
        Arc::new(self.embedded())
    }

    async fn reopen(&mut self) {
        self.store = None;
        self.store = Some(Embedded::open(self.folder.path()).unwrap());
    }
}

mod embedded {
    use super::*;

    wal_store::conformance_tests!(InFolder::make());
}

struct Decorated(InFolder);

#[async_trait]
impl Subject for Decorated {
    fn store(&self) -> Arc<dyn EntryStore> {
        Arc::new(Faulty::new(self.0.store()))
    }

    async fn reopen(&mut self) {
        self.0.reopen().await;
    }
}

mod faulty {
    use super::*;

    wal_store::conformance_tests!(Decorated(InFolder::make()));
}
