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
//! A service consumes a target and answers for each delivery, with [`Consumer::run`]:
//!
//! ```no_run
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use tokio::signal::unix::{SignalKind, signal};
//! use wal_model::Topic;
//! use wal_model::topics::Topics;
//! use wal_sdk::{Arrival, Connection, Consumer, ConsumerOptions, Done, HandlerError, RunOptions};
//!
//! /// Shares 100 units among as many as the payload says. May be called again with the same attempt, so it should do nothing the
//! /// second time; the log id tells.
//! async fn share(attempt: Arc<Arrival>) -> Result<Done, HandlerError> {
//!     let payload = std::str::from_utf8(&attempt.delivery.payload)?;
//!     let Ok(members) = payload.parse::<u32>() else {
//!         // Trying again cannot help.
//!         return Err(HandlerError::new("UNREADABLE", payload).permanently());
//!     };
//!     match 100_u32.checked_div(members) {
//!         // The log tries again as the entry's lifecycle says ...
//!         None => Err(HandlerError::new("NOBODY", "there is nobody to share with")),
//!         // ... or when the handler wishes.
//!         Some(0) => Err(HandlerError::new("NOT_ENOUGH", payload).retry_after(Duration::from_secs(30))),
//!         Some(each) => Ok(Done::with(&each)?),
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let connection = Connection::to("kafka-1:9092,kafka-2:9092");
//!     let targets = vec![Topic::parse("shares")?];
//!     let mut options = ConsumerOptions::new(connection, Topics::new("wal.")?, "share-service", targets);
//!     // Stays the same over restarts: the ordinal of a pod, for example.
//!     options.instance = std::env::var("INSTANCE").ok();
//!
//!     let consumer = Consumer::join(options).await?;
//!     let mut stop = signal(SignalKind::terminate())?;
//!     // On the signal, what is in hand is finished, its answers are published, and the group is left. An error ends the process: what
//!     // was in hand comes again, here or at another member.
//!     let report = consumer.run(share, RunOptions::default(), async { drop(stop.recv().await) }).await?;
//!     println!("{report:?}");
//!     Ok(())
//! }
//! ```
//!
//! In other languages Kafka's client is enough: `deploy/examples` has a consumer in Python and one in Java.
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
