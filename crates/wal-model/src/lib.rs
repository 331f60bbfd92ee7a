//! The words of the log: what a request, an entry, a delivery and a receipt are, and how each is spelled on the wire.
//!
//! Owns: identity, names, lifecycle, status, the wire format, the seal, error codes, the clock.
//! Refuses: any I/O. Nothing here knows Kafka's client, a database or HTTP.
//!
//! ```text
//!   bytes on ingress ──▶ request::decode ──▶ Request ──▶ Entry ──▶ delivery::encode ──▶ bytes on the target
//!                             │                            │
//!                             ▼                            ▼
//!                     dead letter + code            status (a join)
//! ```
//!
//! Parse at the edge, then trust: whoever holds a [`Topic`], a [`Namespace`] or a [`Lifecycle`] holds a valid one.

pub mod ack;
pub mod answer;
pub mod audit;
pub mod cancel;
pub mod clock;
pub mod code;
pub mod dead_letter;
pub mod delay;
pub mod delivery;
pub mod entry;
mod hash;
pub mod id;
pub mod lifecycle;
pub mod name;
pub mod parked;
pub mod partition;
pub mod receipt;
pub mod record;
pub mod request;
pub mod seal;
pub mod state_record;
pub mod status;
pub mod topics;
pub mod wire;

pub use clock::{Clock, SystemClock, Timestamp};
pub use code::{Code, Refusal};
pub use entry::Entry;
pub use hash::ContentHash;
pub use id::{Coordinates, EntryKey, LogId};
pub use lifecycle::{Backoff, Lifecycle, Priority};
pub use name::{Id, Namespace, Tenant, Topic};
pub use record::{Header, InRecord, OutRecord};
