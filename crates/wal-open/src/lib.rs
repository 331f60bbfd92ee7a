//! From settings to the store they name: settings are plain data, stores know no settings, and this is the one place that knows both.
//!
//! Owns: which setting is which option, how long a start waits for a database, what a service says while it does, and that each of its
//! calls is counted. Refuses: to make or change anything in a database (`wal store apply` does), and to know what is kept there.
//!
//! ```text
//!   [store], [status] retention ──▶ Named ──▶ open ──▶ EntryStore       of a command
//!                                              └─ of_process ──▶ EntryStore, and who tells the probes whether it answers
//! ```

mod counted;
mod named;
mod opening;

pub use named::Named;
pub use opening::{Error, of_process, open};
