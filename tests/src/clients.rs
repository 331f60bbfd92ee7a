//! Plain Kafka clients, independent of our crates on purpose: they see what any other program would see.

mod producer;
mod reader;
mod topics;

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

pub use producer::{Message, Producer, Sent};
pub use reader::{Committed, Isolation, Record, committed, lag, read_all, read_until};
pub use topics::{
    add_partitions, commit, create_topic, create_topics, delete_group_offsets, delete_records, delete_topic, members,
    shares,
};

/// The limit of one request to a broker that is up; generous, for a machine where everything runs at once.
const REQUEST_LIMIT: Duration = Duration::from_secs(20);

/// The brokers that `bootstrap` counts as alive; none if it does not answer.
pub(crate) fn brokers(bootstrap: &str) -> BTreeSet<i32> {
    let metadata = observer(bootstrap).fetch_metadata(None, Duration::from_secs(2));
    metadata.map(|metadata| metadata.brokers().iter().map(|broker| broker.id()).collect()).unwrap_or_default()
}

/// The broker that leads a partition, if there is one now.
pub(crate) fn leader(bootstrap: &str, topic: &str, partition: i32) -> Option<i32> {
    let metadata = observer(bootstrap).fetch_metadata(Some(topic), REQUEST_LIMIT).ok()?;
    let partitions = metadata.topics().first()?.partitions();
    let leader = partitions.iter().find(|candidate| candidate.id() == partition)?.leader();
    metadata.brokers().iter().any(|broker| broker.id() == leader).then_some(leader)
}

/// A client for questions that neither joins a group nor commits.
fn observer(bootstrap: &str) -> BaseConsumer {
    config(bootstrap).create().expect("the settings of the harness are valid")
}

fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    // Scenarios restart brokers: by default a client waits up to 10 s before it tries again.
    config.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "200");
    config
}
