//! A small part of AQL, with its true semantics: what the tests here need, and the recorded examples. Everything else is refused as a
//! syntax error (1501) that names what is not known.
//!
//! ```text
//!   text + bind values ─▶ lex ─▶ parse ─▶ Query ─▶ plan (which index serves) ─▶ run (eval per row) ─▶ rows
//!                                                        └────────▶ explain
//! ```

pub(crate) mod ast;
mod eval;
mod functions;
mod lex;
mod options;
pub(crate) mod parse;
pub(crate) mod plan;
pub(crate) mod run;
#[cfg(test)]
mod tests;

use crate::error::Error;

/// The statement is wrong, wherever it is used.
fn refuse(num: u32, message: impl Into<String>) -> Error {
    Error::new(400, num, message.into())
}
