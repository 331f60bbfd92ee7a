//! What scenarios of the whole log share: a log of their own, a load, and the check of what came of it.
//!
//! ```text
//!   Log ── topics, settings, store folder ──▶ wal-writer (a process, or in this one)
//!   Load ── requests from a plain client ──▶ ingress
//!   Outcome ◀── receipts, deliveries, documents, audit, acks, dead letters, as any other program sees them
//! ```

pub mod collector;
pub mod database;
pub mod gate;
pub mod http;
pub mod load;
pub mod log;
pub mod outcome;
pub mod records;
pub mod retrying;
pub mod target;
pub mod turns;

use std::time::Duration;

pub use gate::{Gate, Held};
pub use load::Load;
pub use log::Log;
pub use outcome::Outcome;
pub use retrying::Retrying;
pub use target::Target;

/// What a busy machine may take for anything that usually takes a second.
pub const SOON: Duration = Duration::from_secs(60);
/// A whole load under crashes, on a busy machine.
pub const LATER: Duration = Duration::from_secs(240);
