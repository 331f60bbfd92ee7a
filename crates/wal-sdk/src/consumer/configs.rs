//! How the two Kafka clients of a consumer are set up.

use std::time::Duration;

use rdkafka::ClientConfig;
use uuid::Uuid;

use super::ConsumerOptions;
use crate::connection::ConnectError;

/// Options that [`ConsumerOptions`] has fields for, and how groups are shared, on which the promises hang.
const NOT_OPTIONS: [&str; 5] = [
    "enable.partition.eof",
    "group.protocol",
    "partition.assignment.strategy",
    "session.timeout.ms",
    "transaction.timeout.ms",
];

/// How long the thread may be busy with brokers that do not answer before the group goes on without it. It polls between any two calls,
/// of which the longest takes 30 s; handlers have nothing to do with it.
const POLL_INTERVAL: Duration = Duration::from_secs(120);

/// Read ahead 4 MiB of each partition, check what the disk gave, and send no metrics to the broker.
const READING: [(&str, &str); 6] = [
    ("queued.max.messages.kbytes", "4096"),
    ("queued.min.messages", "1000"),
    // After a full queue: the default of 1 s is a pause that everybody notices.
    ("fetch.queue.backoff.ms", "50"),
    ("fetch.wait.max.ms", "100"),
    ("check.crcs", "true"),
    ("enable.metrics.push", "false"),
];

const ANSWERING: [(&str, &str); 6] = [
    // A commit flushes and does not wait for it.
    ("linger.ms", "5"),
    ("queue.buffering.max.kbytes", "131072"),
    // The broker's limit decides, not a copy of it; a larger record travels alone, and several in a batch that every topic takes.
    ("message.max.bytes", "16777216"),
    ("batch.size", "262144"),
    ("topic.metadata.propagation.max.ms", "5000"),
    ("enable.metrics.push", "false"),
];

pub(super) struct Configs {
    pub(super) reading: ClientConfig,
    pub(super) answering: ClientConfig,
}

impl Configs {
    pub(super) fn of(options: &ConsumerOptions) -> Result<Configs, ConnectError> {
        let connection = &options.connection;
        if let Some(option) = connection.options.keys().find(|option| NOT_OPTIONS.contains(&option.as_str())) {
            return Err(ConnectError::FixedOption(option.clone()));
        }
        let session = options.session_timeout.as_millis().to_string();
        let heartbeat = (options.session_timeout / 3).as_millis().to_string();
        let poll_interval = POLL_INTERVAL.max(options.session_timeout).as_millis().to_string();
        let reading = [
            ("group.id", options.group.as_str()),
            ("group.protocol", "classic"),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("session.timeout.ms", &session),
            ("heartbeat.interval.ms", &heartbeat),
            ("max.poll.interval.ms", &poll_interval),
            ("isolation.level", "read_committed"),
            // Where to begin is decided here: see `places`.
            ("auto.offset.reset", "error"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            // The end of a partition is told with its offset, past the marks of transactions.
            ("enable.partition.eof", "true"),
        ];
        let transaction = options.transaction_timeout.as_millis().to_string();
        let instance = options.instance.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
        let transactional_id = format!("{}-{instance}", options.group);
        let answering = [
            ("transactional.id", transactional_id.as_str()),
            ("transaction.timeout.ms", &transaction),
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("partitioner", "murmur2_random"),
        ];
        Ok(Configs {
            reading: connection.config(&READING, &reading)?,
            answering: connection.config(&ANSWERING, &answering)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::consumer::BaseConsumer;
    use rdkafka::producer::BaseProducer;
    use wal_model::Topic;
    use wal_model::topics::Topics;

    use super::*;
    use crate::connection::Connection;

    fn options() -> ConsumerOptions {
        let targets = vec![Topic::parse("orders").unwrap()];
        ConsumerOptions::new(Connection::to("127.0.0.1:1"), Topics::new("wal.").unwrap(), "shop", targets)
    }

    /// librdkafka checks names, values and their relations when a client is made; no broker is needed.
    #[test]
    fn librdkafka_takes_every_configuration() {
        let seconds = Duration::from_secs;
        for (session, transaction) in [(10, 10), (1, 1), (600, 900)] {
            let options = ConsumerOptions {
                session_timeout: seconds(session),
                transaction_timeout: seconds(transaction),
                ..options()
            };
            let configs = Configs::of(&options).unwrap();
            configs.reading.create::<BaseConsumer>().unwrap();
            configs.answering.create::<BaseProducer>().unwrap();
        }
    }

    #[test]
    fn instances_are_told_apart_and_stay_the_same() {
        let id = |options: &ConsumerOptions| {
            Configs::of(options).unwrap().answering.get("transactional.id").unwrap().to_owned()
        };
        assert_ne!(id(&options()), id(&options()));
        assert_eq!(id(&ConsumerOptions { instance: Some("3".into()), ..options() }), "shop-3");
    }

    #[test]
    fn what_has_a_field_is_no_option() {
        let mut options = options();
        options.connection.options.insert("session.timeout.ms".into(), "1".into());
        assert!(matches!(Configs::of(&options), Err(ConnectError::FixedOption(_))));
    }
}
