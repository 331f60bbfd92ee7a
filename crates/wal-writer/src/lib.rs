//! wal-writer: makes requests durable, then delivers them.
//!
//! Owns: admission (what is an entry, what is refused and why), the first delivery, receipts, audit of writes.
//! Refuses: to publish anything that is not stored, to forget anything that is, and to change a status.
//!
//! ```text
//!   wal.ingress.high ─┐                       ┌─▶ target          (what is stored, sealed)
//!   wal.ingress ──────┼─▶ admit ─▶ object ─▶ store ─▶ settle ─▶ outputs ─┼─▶ receipts
//!   wal.ingress.low ──┘     │         │      (synced)                    ├─▶ wal.audit
//!                           └─────────┴── refused ──▶ dlq + receipt      ├─▶ wal.acks   (expired, undeliverable)
//!                                                                        └─▶ dlq        (one transaction with the offsets)
//! ```
//!
//! Persist before publish, publish before commit. Files, in the order a record meets them: `admit` (record to entries), `object`
//! (reasons to refuse that can change), `writer` (the hand that asks and stores), `settle` (what is owed), `outputs` (what is said).

mod admit;
mod config;
mod object;
mod outputs;
mod service;
mod settle;
mod tally;
#[cfg(test)]
mod tests;
mod writer;

#[cfg(feature = "testing")]
pub mod testing;

pub use config::Config;
pub use service::{Error, Service, main};
