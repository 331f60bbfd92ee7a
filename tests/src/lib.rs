//! The harness of the scenario tests: a real Kafka, our programs as real processes, and Kafka clients of its own.
//!
//! Owns everything a scenario needs from outside: brokers, processes, the wire between them, observers. Refuses to
//! depend on any crate of the workspace: what a scenario sees, it sees as another program would, so that a mistake in
//! our code cannot hide itself in the test.
//!
//! ```text
//!   scenario ── clients ──────────────► kafka (java, one or three nodes)
//!      │                                  ▲
//!      └── process (our binary) ─ proxy ──┘
//! ```
//!
//! Everything here blocks and panics: a scenario is a plain `#[test]`, and a broken expectation ends it with a message
//! that says what was waited for. Nothing started here outlives the test process (see [`children`]); logs of a run stay
//! under `target/wal-tests/` until the next run.

pub mod children;
pub mod clients;
pub mod kafka;
pub mod process;
pub mod proxy;
pub mod seed;
pub mod tools;
pub mod unique;
pub mod wait;
pub mod workspace;

pub use clients::{Isolation, Message, Producer, Record};
pub use kafka::{Cluster, Kafka};
pub use process::Process;
pub use proxy::Proxy;
pub use unique::{free_port, prefix, unique};
pub use wait::wait_until;
