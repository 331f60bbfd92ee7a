//! For clients: write requests, await receipts, read deliveries.
//!
//! Owns: what a program needs to use the log from its own side of Kafka. Refuses: to know the store, and to decide for the caller
//! what "no answer" means: an answer that did not come is told as unknown, never as failed.
//!
//! ```text
//!   WriteRequest ──▶ Producer ──▶ wal.ingress ─ ─ ▶ the log ─ ─ ▶ the target ──▶ Deliveries ──▶ Item
//!                       │                              │
//!      Pending ◀── acknowledged by the broker          ▼
//!         └─────── await_receipt ◀────────────── wal.receipts
//! ```
//!
//! Every wait has a limit, every queue a size, and what is dropped stops by itself: librdkafka may hang while it closes, so that
//! happens on threads of its own.

mod connection;
mod consumer;
mod deliveries;
mod opening;
mod producer;
mod receipts;
mod request;
mod runner;
mod sender;
mod worker;

pub use connection::{ConnectError, Connection};
pub use consumer::{Arrival, Attempt, Bounds, ConsumeError, Consumer, ConsumerOptions, Done, Foreign, Handed};
pub use deliveries::{Deliveries, DeliveriesOptions, Item, ReadError, Start};
pub use producer::{Acked, LookupError, Pending, Producer, ProducerOptions, Queued, RawRequest, Replies, SendError};
pub use receipts::{Answer, Why};
pub use request::{BatchEntry, BatchRequest, WriteRequest};
pub use runner::{HANDLER_PANICKED, HANDLER_TIMED_OUT, Handler, HandlerError, Report, RunOptions};
pub use worker::Stopped;
