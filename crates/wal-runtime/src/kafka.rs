//! How each of our Kafka clients is configured, and what groups and transactional ids are called.

use rdkafka::ClientConfig;

use crate::config::Kafka;

/// The largest record batch that our producers make, in bytes: so that no batch exceeds the smallest target limit we accept.
pub const BATCH_SIZE: usize = 262_144;

/// The group of a service.
pub fn group(kafka: &Kafka, service: &str) -> String {
    format!("{}{service}", kafka.topics.prefix())
}

/// The transactional id of an instance of a service.
pub fn transactional_id(kafka: &Kafka, service: &str) -> String {
    let instance = kafka.instance.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    format!("{}{service}-{instance}", kafka.topics.prefix())
}

/// What every client has.
pub fn common(kafka: &Kafka) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &kafka.bootstrap_servers).set("enable.metrics.push", "false");
    for (name, value) in kafka.options.iter() {
        config.set(name, value);
    }
    config
}

/// A consumer in a group.
pub fn consumer(kafka: &Kafka, group: &str) -> ClientConfig {
    let mut config = common(kafka);
    config
        .set("group.id", group)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("session.timeout.ms", kafka.session_timeout.as_millis().to_string())
        .set("heartbeat.interval.ms", (kafka.session_timeout.as_millis() / 3).to_string())
        .set("max.poll.interval.ms", "300000")
        .set("queued.max.messages.kbytes", kafka.read_ahead_kib.to_string())
        .set("fetch.queue.backoff.ms", "50")
        .set("fetch.wait.max.ms", "100")
        .set("check.crcs", "true");
    config
}

/// A producer of transactions.
pub fn transactional(kafka: &Kafka, transactional_id: &str) -> ClientConfig {
    let mut config = common(kafka);
    config
        .set("transactional.id", transactional_id)
        .set("transaction.timeout.ms", kafka.transaction_timeout.as_millis().to_string())
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("allow.auto.create.topics", "false")
        .set("message.max.bytes", "16777216")
        .set("batch.size", BATCH_SIZE.to_string())
        .set("compression.type", "lz4")
        .set("linger.ms", "5");
    config
}
