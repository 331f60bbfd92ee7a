//! What makes a service: configuration, the Kafka batch loop, topics, health, metrics, logs.
//!
//! Owns: how a service starts, consumes, publishes and stops. Refuses: to know any store, or what a record means.
//!
//! ```text
//!   config ─▶ topics, offsets (start-up checks) ─▶ batch_loop ─▶ handler of the service
//!                        directory (what exists) ◀──────┘
//!   logs, health, metrics, overview, traces, reload, shutdown beside them (service)
//! ```

pub mod acls;
pub mod batch_loop;
pub mod brokers;
pub mod config;
pub mod directory;
pub mod ends;
pub mod health;
pub mod kafka;
pub mod lag;
pub mod live;
pub mod logs;
pub mod metrics;
pub mod offsets;
pub mod overview;
pub mod reading;
pub mod reload;
pub mod secret;
pub mod service;
pub mod shutdown;
pub mod topics;
pub mod traces;
pub mod transactions;

pub use wal_kafka::failpoint;

/// For the services and for librdkafka within them: records are made on one thread and freed on another, which glibc's allocator is slow at.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
