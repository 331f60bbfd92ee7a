//! How each of our Kafka clients is configured, and what groups and transactional ids are called.
//!
//! Options of the user go between what we only recommend, which they replace, and what the log's promises rest on.

mod admin;

use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::config::Kafka;

pub(crate) use admin::{Admin, Seen, options};
pub use wal_kafka::Context;

/// The largest batch of several records that our producers make, in bytes, and so the smallest `max.message.bytes` we accept of a
/// topic: a topic that takes less would refuse the batch, and with it the whole transaction. A larger record travels alone.
pub const BATCH_SIZE: usize = 256 * 1024;
/// The largest record a producer takes, in bytes: far above what topics allow, since their own limits are checked before.
const MESSAGE_MAX_BYTES: usize = 16 * 1024 * 1024;
/// The most that waits in a producer, in KiB; librdkafka's default of 1 GiB is more than a small pod has.
const PRODUCER_QUEUE_KIB: usize = 128 * 1024;
/// The most that a reader without a group reads ahead, in KiB, of all partitions together.
const READER_QUEUE_KIB: u32 = 16 * 1024;
/// What librdkafka fetches of a partition at a time by default, in KiB.
const FETCH_KIB: u32 = 1024;
/// How long a member may hold a batch before its partitions go to others.
const POLL_INTERVAL: Duration = Duration::from_secs(60);
/// The longest time between heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long a producer waits for a topic that brokers say does not exist; 30 s by default, which stalls a whole transaction.
const PROPAGATION: Duration = Duration::from_secs(5);
/// How soon clients notice new partitions; 5 minutes by default.
const METADATA_AGE: Duration = Duration::from_secs(30);
/// How long a producer of transactions waits before it asks again, in milliseconds, growing to a second: the coordinator answers "not yet"
/// for some milliseconds after each commit, and librdkafka's default of 100 ms would be the lateness of everything that comes then.
const RETRY_BACKOFF: u32 = 1;
/// The longest wait between tries to connect; 10 s by default, which is what a restarted broker would cost.
const RECONNECT_MAX: Duration = Duration::from_secs(2);

/// The consumer group of a service.
pub fn group(kafka: &Kafka, service: &str) -> String {
    format!("{}{service}", kafka.topics.prefix())
}

/// The transactional id of an instance of a service: the same for as long as the process lives, also where the settings name no
/// instance, so that a producer made anew fences the one before.
pub fn transactional_id(kafka: &Kafka, service: &str) -> String {
    format!("{}{service}-{}", kafka.topics.prefix(), instance(kafka))
}

/// What tells this process from its siblings: the name that the settings give it, or one that was made up for as long as it lives.
pub fn instance(kafka: &Kafka) -> &str {
    static MADE_UP: LazyLock<String> = LazyLock::new(|| uuid::Uuid::new_v4().to_string());
    kafka.instance.as_deref().unwrap_or(&MADE_UP)
}

/// What every client has.
pub fn common(kafka: &Kafka) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("client.id", format!("{}client", kafka.topics.prefix()));
    config.set("reconnect.backoff.max.ms", millis(RECONNECT_MAX));
    config.set("topic.metadata.refresh.interval.ms", millis(METADATA_AGE));
    if is_v4_only(&kafka.bootstrap_servers) {
        // Else `localhost` in what brokers advertise is tried as ::1 first, where nobody listens.
        config.set("broker.address.family", "v4");
    }
    for (name, value) in kafka.options.iter() {
        config.set(name, value);
    }
    config.set("bootstrap.servers", &kafka.bootstrap_servers);
    // Brokers would ask for metrics again and again that nobody here sends.
    config.set("enable.metrics.push", "false");
    config
}

/// A member of a group, which reads what is committed and moves its place only in transactions.
pub fn consumer(kafka: &Kafka, group: &str) -> ClientConfig {
    let mut config = common(kafka);
    // More than is read ahead would be fetched only to wait.
    let fetch = FETCH_KIB.min(kafka.read_ahead_kib) * 1024;
    recommend(&mut config, kafka, &["fetch.message.max.bytes", "max.partition.fetch.bytes"], fetch);
    // After a full queue: the default of 1 s is a pause that everybody notices.
    recommend(&mut config, kafka, &["fetch.queue.backoff.ms"], 50);
    recommend(&mut config, kafka, &["fetch.wait.max.ms"], 100);
    // librdkafka refuses an interval shorter than the session.
    let poll_interval = POLL_INTERVAL.max(kafka.session_timeout);
    recommend(&mut config, kafka, &["max.poll.interval.ms"], millis(poll_interval));
    // By a heartbeat a member learns that partitions are to move; the others wait for it.
    let heartbeat = (kafka.session_timeout / 3).min(HEARTBEAT);
    recommend(&mut config, kafka, &["heartbeat.interval.ms"], millis(heartbeat));
    config
        .set("group.id", group)
        .set("group.protocol", "classic")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("session.timeout.ms", millis(kafka.session_timeout))
        .set("queued.max.messages.kbytes", kafka.read_ahead_kib.to_string())
        // Off by default: without it a record that rotted on the way would be stored as it came.
        .set("check.crcs", "true");
    config
}

/// A consumer of several topics of which one may have nearly all the load. A sticky assignor counts partitions and not whose they are:
/// it gives a new member whole topics, be they idle, and the busy one stays with the old member. This one deals each topic out, at the
/// price that all partitions move when members come or go.
pub fn consumer_of_lanes(kafka: &Kafka, group: &str) -> ClientConfig {
    let mut config = consumer(kafka, group);
    config.set("partition.assignment.strategy", "roundrobin");
    config
}

/// A client that knows a group and never joins it: it looks at the group's offsets, and sets them while the group has no members.
pub fn bystander(kafka: &Kafka, group: &str) -> ClientConfig {
    let mut config = common(kafka);
    config.set("group.id", group).set("enable.auto.commit", "false").set("isolation.level", "read_committed");
    config
}

/// A client that reads committed records where it is put, without a group. librdkafka wants a group's name even so; this one is never
/// joined, and nothing is committed for it.
pub(crate) fn reader(kafka: &Kafka) -> ClientConfig {
    let mut config = common(kafka);
    recommend(&mut config, kafka, &["fetch.queue.backoff.ms"], 50);
    recommend(&mut config, kafka, &["fetch.wait.max.ms"], 100);
    config
        .set("group.id", group(kafka, "reader"))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // What retention or compaction has removed is not there to be read.
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("queued.max.messages.kbytes", READER_QUEUE_KIB.to_string())
        .set("check.crcs", "true");
    config
}

/// The cluster's own id; empty where the brokers have none to tell, or do not tell it in time.
pub(crate) fn cluster_id(consumer: &BaseConsumer<Context>, limit: Duration) -> Arc<str> {
    Arc::from(consumer.client().fetch_cluster_id(limit).unwrap_or_default())
}

/// A producer that sends each record once per session and spreads keys as Java clients do.
pub fn producer(kafka: &Kafka) -> ClientConfig {
    let mut config = common(kafka);
    recommend(&mut config, kafka, &["compression.type", "compression.codec"], "lz4");
    recommend(&mut config, kafka, &["linger.ms", "queue.buffering.max.ms"], 5);
    recommend(&mut config, kafka, &["queue.buffering.max.kbytes"], PRODUCER_QUEUE_KIB);
    recommend(&mut config, kafka, &["topic.metadata.propagation.max.ms"], millis(PROPAGATION));
    config
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("allow.auto.create.topics", "false")
        .set("message.max.bytes", MESSAGE_MAX_BYTES.to_string())
        .set("batch.size", BATCH_SIZE.to_string());
    config
}

/// A producer of transactions.
pub fn transactional(kafka: &Kafka, transactional_id: &str) -> ClientConfig {
    let mut config = producer(kafka);
    recommend(&mut config, kafka, &["retry.backoff.ms"], RETRY_BACKOFF);
    config.set("transactional.id", transactional_id).set("transaction.timeout.ms", millis(kafka.transaction_timeout));
    config
}

/// Sets an option unless the user has, under any of its names: librdkafka takes them in any order, so the later would not win.
fn recommend(config: &mut ClientConfig, kafka: &Kafka, names: &[&str], value: impl ToString) {
    if names.iter().all(|name| kafka.options.get(name).is_none()) {
        config.set(names[0], value.to_string());
    }
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

fn is_v4_only(servers: &str) -> bool {
    servers.split(',').all(|server| {
        let address = server.trim();
        let address = address.split_once("://").map_or(address, |(_, address)| address);
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        host == "localhost" || host.parse::<Ipv4Addr>().is_ok()
    })
}

#[cfg(test)]
mod tests {
    use rdkafka::admin::AdminClient;
    use rdkafka::producer::BaseProducer;

    use super::*;
    use crate::config::Settings;

    fn kafka(given: &[(&str, &str)]) -> Kafka {
        let given: Vec<_> = given.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        Kafka::read(&Settings::load_from(None, std::iter::empty(), &given).unwrap()).unwrap()
    }

    /// librdkafka checks names, values and their relations when a client is made; no broker is needed.
    fn is_taken(kafka: &Kafka) {
        consumer(kafka, "g").create_with_context::<Context, BaseConsumer<Context>>(Context).unwrap();
        bystander(kafka, "g").create_with_context::<Context, BaseConsumer<Context>>(Context).unwrap();
        reader(kafka).create_with_context::<Context, BaseConsumer<Context>>(Context).unwrap();
        producer(kafka).create::<BaseProducer>().unwrap();
        transactional(kafka, "t").create::<BaseProducer>().unwrap();
        common(kafka).create_with_context::<Context, AdminClient<Context>>(Context).unwrap();
    }

    #[test]
    fn librdkafka_takes_every_configuration() {
        is_taken(&kafka(&[]));
        is_taken(&kafka(&[("kafka.session_timeout", "5m"), ("kafka.transaction_timeout", "15m")]));
        is_taken(&kafka(&[("kafka.session_timeout", "1s"), ("kafka.transaction_timeout", "1s")]));
        is_taken(&kafka(&[("kafka.read_ahead_kib", "1")]));
        is_taken(&kafka(&[("kafka.read_ahead_kib", "2097151")]));
    }

    #[test]
    fn the_users_options_replace_what_we_recommend_under_any_name() {
        let kafka = kafka(&[
            ("kafka.options.compression.codec", "zstd"),
            ("kafka.options.linger.ms", "20"),
            ("kafka.options.client.id", "mine"),
        ]);
        is_taken(&kafka);
        let config = producer(&kafka);
        assert_eq!((config.get("compression.codec"), config.get("compression.type")), (Some("zstd"), None));
        assert_eq!((config.get("linger.ms"), config.get("client.id")), (Some("20"), Some("mine")));
    }

    #[test]
    fn a_batch_is_never_larger_than_the_smallest_topic_we_accept() {
        assert_eq!(producer(&kafka(&[])).get("batch.size"), Some("262144"));
        assert_eq!(transactional(&kafka(&[]), "t").get("batch.size"), Some("262144"));
    }

    #[test]
    fn names_carry_the_prefix_and_the_instance() {
        let named = kafka(&[("kafka.topic_prefix", "log."), ("kafka.instance", "3")]);
        assert_eq!(group(&named, "writer"), "log.writer");
        assert_eq!(transactional_id(&named, "writer"), "log.writer-3");
        let nameless = kafka(&[]);
        assert_eq!(transactional_id(&nameless, "writer"), transactional_id(&nameless, "writer"));
    }

    #[test]
    fn only_v4_addresses_turn_v6_off() {
        assert!(is_v4_only("127.0.0.1:9092, localhost:9093"));
        assert!(is_v4_only("PLAINTEXT://10.0.0.1:9092"));
        assert!(!is_v4_only("127.0.0.1:9092,[::1]:9092"));
        assert!(!is_v4_only("kafka-0.kafka:9092"));
    }
}
