//! The ArangoDB backend keeps the promises of the store.
//!
//! With `WAL_TEST_ARANGO_URL` (and `WAL_TEST_ARANGO_USER`, `WAL_TEST_ARANGO_PASSWORD`) on that server, each test in a database of its
//! own; otherwise on the fake, as either line.

use std::io::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use wal_arango_fake::Version;
use wal_store::EntryStore;
use wal_store::arango::{ArangoStore, Login, Options, schema};
use wal_store::conformance::Subject;

/// A database of its own and the store in it.
struct InArango {
    store: Option<ArangoStore>,
    options: Options,
    /// `None` is a real server.
    fake: Option<wal_arango_fake::Server>,
}

impl InArango {
    async fn make(version: Version) -> InArango {
        let (url, fake) = match std::env::var("WAL_TEST_ARANGO_URL") {
            Ok(url) => (url, None),
            Err(_) => {
                let fake = wal_arango_fake::Server::builder().version(version).start().await.unwrap();
                (fake.url(), Some(fake))
            }
        };
        let options = Options {
            login: login(),
            // A server for tests has no others to copy to.
            replication_factor: 1,
            write_concern: 1,
            ..Options::new(vec![url], format!("test-{}", uuid::Uuid::new_v4()))
        };
        schema::apply(&options).await.unwrap();
        let store = ArangoStore::open(&options).await.unwrap();
        InArango { store: Some(store), options, fake }
    }
}

fn login() -> Login {
    let user = std::env::var("WAL_TEST_ARANGO_USER").unwrap_or_else(|_| "root".to_owned());
    let password = std::env::var("WAL_TEST_ARANGO_PASSWORD").unwrap_or_default();
    Login::Basic { user, password }
}

#[async_trait]
impl Subject for InArango {
    fn store(&self) -> Arc<dyn EntryStore> {
        Arc::new(self.store.clone().unwrap())
    }

    async fn reopen(&mut self) {
        self.store = None;
        self.store = Some(ArangoStore::open(&self.options).await.unwrap());
    }
}

impl Drop for InArango {
    fn drop(&mut self) {
        if self.fake.is_some() {
            return;
        }
        let options = self.options.clone();
        // A test's end is no place to wait, but a server for tests must not fill up.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(schema::drop_database(&options))
        });
        if let Ok(Err(error)) = dropped.join() {
            eprintln!("a test database is left: {error}");
        }
    }
}

/// Told past the capture of tests, so that nobody takes a green run for more than it is.
#[test]
fn it_is_said_whether_a_real_server_was_asked() {
    let said = match std::env::var("WAL_TEST_ARANGO_URL") {
        Ok(url) => format!("the conformance suite runs on the ArangoDB at {url}"),
        Err(_) => "SKIPPED: no real ArangoDB (WAL_TEST_ARANGO_URL is not set); its conformance suite runs on the fake"
            .to_owned(),
    };
    writeln!(std::io::stderr(), "{said}").unwrap();
}

mod v3_11 {
    use super::*;

    wal_store::conformance_tests!(InArango::make(Version::V3_11).await);
}

mod v3_12 {
    use super::*;

    wal_store::conformance_tests!(InArango::make(Version::V3_12).await);
}
