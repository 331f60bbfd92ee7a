//! `wal demo`: the log's story, live and in one process, checked while it is told.
//!
//! ```text
//!   script (what to do, as data) ─▶ story (does and checks it) ─▶ teller (lines, a table, or JSON)
//!                                     │ life: of one entry        scene: a producer, a consumer that answers
//!                                     ▼ stack: broker, store, services, gateway
//! ```

mod life;
mod play;
mod scene;
mod script;
mod story;
mod teller;

pub use play::run;
