//! ArangoDB's HTTP API in memory: what a client meets, with the failures it must survive, on demand. For tests only.
//!
//! Owns: the shapes, numbers and rules of the API of 3.11 and 3.12 for databases, collections, indexes, documents, cursors, a small part
//! of AQL and its plans; what is synced and what a loss of power takes; what goes wrong when a test asks for it. Refuses: to know what
//! the documents mean, to keep anything beyond the process, clusters, transactions over several requests, and to answer anything it does
//! not model: that is a loud 501, or a 1501 for AQL.
//!
//! ```text
//!   HTTP ─▶ listener ─▶ front: log ─▶ faults ─▶ auth ─▶ queue ─▶ api ─▶ store (commit ─▶ sync)
//!              │          │                                       └─▶ aql: parse ─▶ plan ─▶ run
//!              │          └─ /fake/...: the same switches for tests that run in another process
//!              └─ stop, restart: the data stays
//! ```
//!
//! What holds it to the truth: `tests/recorded.rs` replays exchanges of real servers (`recorded/`), `tests/drivers.rs` runs the official
//! drivers against it. Where it is not the truth: there is one request at a time, so nothing conflicts unless a fault says so; nothing is
//! synced in the background; JSON nests at most 127 levels; beyond ASCII, strings sort by code point.

mod api;
mod aql;
mod auth;
mod control;
mod error;
mod faults;
mod front;
mod http;
mod listener;
mod server;
mod store;
mod value;

pub use faults::{Action, Elements, Fault, Refusal};
pub use server::{Builder, Logged, Server};

/// Which server this pretends to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// The last line under the Apache licence.
    V3_11,
    /// The current line.
    #[default]
    V3_12,
}

impl Version {
    fn number(self) -> &'static str {
        match self {
            Self::V3_11 => "3.11.14",
            Self::V3_12 => "3.12.10",
        }
    }
}
