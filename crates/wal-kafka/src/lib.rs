//! What services and clients both need of Kafka's client, once for both.
//!
//! Owns: every unsafe call into librdkafka, a producer whose transactions commit outputs together with input offsets, and the epochs
//! of partitions that come and go. Refuses: configuration, and any opinion of what a record means.
//!
//! ```text
//!   wal-runtime (batch loop)     wal-sdk (consumer that answers)
//!              └───────────┬──────────────┘
//!          publisher ── watchdog   epochs   queue   wake   records
//!              └───────── native ──────────────┴────────────────┘
//! ```

mod context;
pub mod epochs;
pub mod failpoint;
pub mod native;
pub mod publisher;
pub mod queue;
pub mod records;
pub mod wake;
pub mod watchdog;

pub use context::Context;
