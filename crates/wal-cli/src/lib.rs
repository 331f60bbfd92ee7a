//! The operator's and the newcomer's hand.

#[cfg(feature = "embedded-broker")]
pub mod broker;
