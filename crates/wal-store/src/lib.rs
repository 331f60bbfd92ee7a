//! Where entries are kept: the [`EntryStore`] promise and the backends that keep it.
//!
//! Owns: what "stored" means. Refuses: to know Kafka, or to decide anything about an entry but whether it is already there.
//!
//! ```text
//!   wal-writer ── insert ──▶ ┌────────────┐ ◀── apply ── wal-status
//!                            │ EntryStore │
//!   wal-gateway ── get ────▶ └────────────┘ ◀── scan ─── wal-gateway
//!                    embedded (redb) │ ArangoDB
//! ```

pub mod arango;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
pub mod document;
pub mod embedded;
#[cfg(any(test, feature = "testing"))]
pub mod faults;
pub mod patience;
#[cfg(any(test, feature = "testing"))]
pub mod samples;
mod store;

pub use patience::Patient;
pub use store::*;
