//! All scenarios in one binary: one link, one shared broker.

mod harness;
