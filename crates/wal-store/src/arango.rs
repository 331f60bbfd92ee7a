//! Entries in ArangoDB, 3.11 or 3.12, one server or a cluster.
//!
//! ```text
//!   backend ── insert, apply, cursor ──▶ connection ──▶ client ──▶ HTTP
//!      ▲        statements, fence         (arangors)     limit, credentials, fault
//!      └─ open ◀── schema ◀── indexes, explain
//! ```
//!
//! `arangors` holds the connection and the database; everything that must be fast, guarded or exact is a request of our own through its
//! session, over a transport of our own.

mod adapter;
mod apply;
mod backend;
mod client;
mod connection;
mod credentials;
mod cursor;
mod explain;
mod fault;
mod fence;
mod indexes;
mod insert;
mod limit;
mod open;
mod options;
mod read;
#[cfg(test)]
mod recorded;
pub mod schema;
#[cfg(test)]
mod scripted;
mod statements;
mod wait;

pub use self::backend::ArangoStore;
pub use self::open::OpenError;
pub use self::options::{Login, Options, Unusable};

use bytes::Bytes;
use http::Method;

use self::client::Repeat;
use self::connection::Server;

/// What the names of a benchmark's collections begin with.
pub const BENCH_PREFIX: &str = "wal_bench_";

/// The same database and way of using it, for the collections of a benchmark.
pub fn for_bench(options: Options) -> Options {
    Options { prefix: BENCH_PREFIX.to_owned(), ..options }
}

/// Removes the collections of a benchmark with everything in them. Those of a store cannot be named: entries are never lost by this.
pub async fn remove_bench(options: Options) -> Result<(), OpenError> {
    let options = for_bench(options);
    let server = Server::connect(&options).await?;
    let connection = server.database(&options.database).await?;
    for collection in [options.entries(), options.store()] {
        let path = format!("_api/collection/{collection}");
        match connection.call(Method::DELETE, &path, Bytes::new(), Repeat::Harmless).await {
            Ok(_) => {}
            Err(fault) if fault.is_absence() => {}
            Err(fault) => return Err(fault.into()),
        }
    }
    Ok(())
}
