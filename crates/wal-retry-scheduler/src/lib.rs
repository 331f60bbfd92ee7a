//! wal-retry-scheduler: decides what becomes of failed attempts, and publishes each attempt when it is due.
//!
//! Owns: every decision about failures, the delay topics, the release of what waits there. Refuses: to know a store, to publish
//! anything early, to decide one failure twice, to let anybody's attempt wait for anybody else's.
//!
//! ```text
//!   wal.failures ──▶ decode ─▶ memory ─▶ decide ──┬─▶ wal.acks        (what was decided)
//!                       │      (repeats)          ├─▶ wal.delay.<wait> (the next attempt, parked)
//!                       │                         ├─▶ target          (the next attempt, at once)
//!                       └─ refused ───────────────┴─▶ dlq             (one transaction with the offsets)
//!
//!   wal.delay.* ───▶ gate ─▶ decode ─▶ due ───────┬─▶ target          (when it is due, sealed now)
//!                    (heads wait)                 ├─▶ wal.delay.<wait> (the next coin)
//!   wal.cancels ───▶ cancels ──▶ both             └─▶ wal.acks, dlq   (expired, undeliverable)
//! ```
//!
//! Two loops, each with its own group and its own transactions; they meet on the delay topics only, so any number of instances shares
//! both. Files: `decide` and `due` decide (pure), `memory` and `cancels` know, `outputs` says (pure), `failures` and `release` act,
//! with `tools` they share; `tally` and `overdue` count.

mod cancels;
mod clearing;
mod config;
mod decide;
mod due;
mod failures;
mod memory;
mod outputs;
mod overdue;
mod release;
#[cfg(test)]
mod samples;
mod service;
mod tally;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(test)]
mod tests;
mod tools;

pub use config::Config;
pub use service::{Error, Observers, Service, main};
