//! What clients say of themselves, told to our own log.

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use tracing::{debug, error, info, warn};

/// The context of clients that need no other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context;

impl Context {
    /// Tells the log what librdkafka says. Its errors are warnings here: a broker that is away comes back, and nobody must act.
    pub fn tell(level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                error!(target: "librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => warn!(target: "librdkafka", facility, "{message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => info!(target: "librdkafka", facility, "{message}"),
            RDKafkaLogLevel::Debug => debug!(target: "librdkafka", facility, "{message}"),
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Context::tell(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // Whoever made the call gets the error too, and handles it.
        debug!(target: "librdkafka", %error, "{reason}");
    }
}

impl ConsumerContext for Context {}
