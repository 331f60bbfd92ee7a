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
