//! How to reach the cluster, and what of it the sdk decides itself.

use std::collections::BTreeMap;
use std::time::Duration;
use std::{fmt, io};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use wal_model::Topic;

/// Options that the sdk's promises hang on: they cannot be given.
const FIXED: [&str; 12] = [
    "acks",
    "allow.auto.create.topics",
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "group.id",
    "isolation.level",
    "metadata.broker.list",
    "partitioner",
    "transactional.id",
];

/// How to reach the cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct Connection {
    /// `host:port`, several separated by commas.
    pub bootstrap_servers: String,
    /// Options handed to librdkafka as they are, such as `security.protocol` and `sasl.username`.
    pub options: BTreeMap<String, String>,
    /// How long connecting may take.
    pub timeout: Duration,
}

impl Connection {
    /// A connection without options, to be made within 10 s.
    pub fn to(bootstrap_servers: impl Into<String>) -> Connection {
        Connection {
            bootstrap_servers: bootstrap_servers.into(),
            options: BTreeMap::new(),
            timeout: Duration::from_secs(10),
        }
    }

    /// The client's configuration: `defaults` under the caller's options, under what the sdk decides.
    pub(crate) fn config(
        &self,
        defaults: &[(&str, &str)],
        fixed: &[(&str, &str)],
    ) -> Result<ClientConfig, ConnectError> {
        if let Some(option) = self.options.keys().find(|option| FIXED.contains(&option.as_str())) {
            return Err(ConnectError::FixedOption(option.clone()));
        }
        let mut config = ClientConfig::new();
        config.set("client.id", "wal-sdk");
        for (option, value) in defaults {
            config.set(*option, *value);
        }
        for (option, value) in &self.options {
            config.set(option, value);
        }
        for (option, value) in fixed {
            config.set(*option, *value);
        }
        config.set("bootstrap.servers", &self.bootstrap_servers).set("allow.auto.create.topics", "false");
        Ok(config)
    }
}

/// Options may hold secrets: their names only.
impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("options", &self.options.keys())
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The option is not the caller's to set.
    #[error("set the Kafka option {0}: the sdk's promises hang on its own value")]
    FixedOption(String),
    /// librdkafka does not know an option, or not with this value.
    #[error("set up a Kafka client")]
    Options(#[source] KafkaError),
    /// No broker answers, or none that lets us in. Trying again may help.
    #[error("reach Kafka at {servers}")]
    Unreachable {
        /// Where it was tried.
        servers: String,
        /// What librdkafka said.
        #[source]
        source: KafkaError,
    },
    /// The connection did not come about in time. Trying again may help.
    #[error("connect to Kafka within {0:?}")]
    TimedOut(Duration),
    /// There is no such topic.
    #[error("find topic {0}; `wal topics apply` makes the log's own topics")]
    TopicMissing(Topic),
    /// The topic has no such partition.
    #[error("find partition {partition} of {topic}, which has {count}")]
    PartitionMissing {
        /// The topic.
        topic: Topic,
        /// The partition.
        partition: i32,
        /// How many it has.
        count: i32,
    },
    /// No transaction can be made: the brokers do not answer, or do not let this client. Trying again may help.
    #[error("start transactions: {0}")]
    NoTransactions(String),
    /// The system gives no thread.
    #[error("start a thread")]
    Thread(#[source] io::Error),
    /// The thread that connects ended without a word: a defect.
    #[error("connect: the thread that does it ended")]
    Ended,
}

impl ConnectError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            ConnectError::Unreachable { .. }
            | ConnectError::TimedOut(_)
            | ConnectError::TopicMissing(_)
            | ConnectError::PartitionMissing { .. }
            | ConnectError::NoTransactions(_)
            | ConnectError::Thread(_) => true,
            ConnectError::FixedOption(_) | ConnectError::Options(_) | ConnectError::Ended => false,
        }
    }
}

/// What librdkafka has to say goes to the log, and no louder than it is: it reconnects by itself, so nothing of it is an error.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Context;

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: "librdkafka", facility, "{message}")
            }
            RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{message}"),
        }
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(target: "librdkafka", %error, "{reason}");
    }
}

impl ConsumerContext for Context {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_pass_through_but_for_those_that_promises_hang_on() {
        let mut connection = Connection::to("127.0.0.1:9092");
        connection.options.insert("linger.ms".into(), "50".into());
        let config = connection.config(&[("linger.ms", "1")], &[("acks", "all")]).unwrap();
        assert_eq!((config.get("linger.ms"), config.get("acks")), (Some("50"), Some("all")));

        connection.options.insert("acks".into(), "0".into());
        let refused = connection.config(&[], &[]).unwrap_err();
        assert!(matches!(refused, ConnectError::FixedOption(option) if option == "acks"));
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut connection = Connection::to("127.0.0.1:9092");
        connection.options.insert("sasl.password".into(), "hunter2".into());
        assert!(!format!("{connection:?}").contains("hunter2"));
    }
}
