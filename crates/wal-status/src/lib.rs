//! wal-status: the only one that changes a status after an entry was stored.
//!
//! Owns: folding what was said of entries into the store, expiry, purge, and `wal.status` for everyone who follows.
//! Refuses: to decide about retries, to believe what is not sealed, and to change anything but the state of an entry.
//!
//! ```text
//!                      ┌─ event ───▶ store (one synced apply) ──▶ wal.status   (the state that is stored now)
//!                      │               └─ no such entry ────────▶ wal.acks     (again, for 30 s; then dlq)
//!   wal.acks ─▶ read ──┼─ misrouted ────────────────────────────▶ wal.acks     (the partition its log id names)
//!                      ├─ refused ──────────────────────────────▶ dlq
//!                      └─ answers nobody asked for: counted
//!
//!   tick ──┬─▶ expire: past its deadline, and folded up to there ▶ wal.acks + dlq   (then folded like any other)
//!          └─▶ purge: finished long ago ────────────────────────▶ wal.status (tombstone), then the store
//! ```
//!
//! Persist before publish, publish before commit. Files, in the order a record meets them: `read` (record to event), `fold` (the
//! hand that asks the store, and says what is to be published), `expire` and `purge` (what a tick decides), `sweep` (the hand that
//! does it), `counts`.

mod brokers;
mod config;
mod counts;
mod expire;
mod fold;
mod purge;
mod read;
mod service;
mod sweep;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(test)]
mod tests;

pub use config::Config;
pub use counts::{Counts, Tally};
pub use service::{Error, Service, main};
