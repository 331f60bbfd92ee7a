//! How to reach Kafka and what the log's own topics look like there.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;
use wal_model::delay::{Wait, coins, waits_of};
use wal_model::topics::Topics;

use super::{Error, Policy, Settings};
use crate::secret::Secret;

/// The longest transaction brokers allow by default (`transaction.max.timeout.ms`).
const TRANSACTION_TIMEOUT_MAX: Duration = Duration::from_secs(15 * 60);
/// The shortest transaction timeout librdkafka takes.
const TRANSACTION_TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// A longer session than librdkafka's default for `max.poll.interval.ms` is refused when the consumer is made.
const SESSION_TIMEOUT_MAX: Duration = Duration::from_secs(5 * 60);
/// Below a second every hiccup would be a rebalance.
const SESSION_TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// The most librdkafka takes for `queued.max.messages.kbytes`.
const READ_AHEAD_KIB_MAX: u32 = 2_097_151;
/// An instance is a part of a transactional id, which is a part of a key on an internal topic: keep it short.
const INSTANCE_LEN: usize = 100;
/// Kept free of payload on ingress topics, and added on dead-letter topics, whose size Kafka counts in 32 signed bits too.
const ROOM_TO_GROW: u32 = 64 * 1024;
/// For how long no scheduler may run before something that waits is deleted: a weekend and a day.
const OUTAGE: Duration = Duration::from_secs(3 * 86_400);
/// Names librdkafka knows for how long it tries to send a record.
const MESSAGE_TIMEOUTS: [&str; 2] = ["message.timeout.ms", "delivery.timeout.ms"];

/// Options that the log sets itself because its promises rest on them, each with what to do instead.
const RESERVED: [(&str, &str); 33] = [
    ("enable.partition.eof", "the end of a partition is always told"),
    ("bootstrap.servers", "use `kafka.bootstrap_servers`"),
    ("metadata.broker.list", "use `kafka.bootstrap_servers`"),
    ("group.id", "use `kafka.topic_prefix`, with which groups begin"),
    ("group.instance.id", "use `kafka.instance`"),
    ("transactional.id", "use `kafka.instance` and `kafka.topic_prefix`"),
    ("session.timeout.ms", "use `kafka.session_timeout`"),
    ("transaction.timeout.ms", "use `kafka.transaction_timeout`"),
    ("queued.max.messages.kbytes", "use `kafka.read_ahead_kib`"),
    ("allow.auto.create.topics", "use `writer.create_missing_targets`"),
    ("enable.auto.commit", "offsets are committed in transactions"),
    ("auto.commit.enable", "offsets are committed in transactions"),
    ("auto.commit.interval.ms", "offsets are committed in transactions"),
    ("enable.auto.offset.store", "offsets are committed in transactions"),
    ("offset.store.method", "offsets are committed in transactions"),
    ("isolation.level", "only committed records are read"),
    ("enable.idempotence", "transactions need it on"),
    ("enable.gapless.guarantee", "transactions are all or nothing already"),
    ("acks", "transactions need all"),
    ("request.required.acks", "transactions need all"),
    ("auto.offset.reset", "no record may be skipped; for topics made elsewhere use `wal topics apply --adopt`"),
    ("partitioner", "records are spread as Java clients do, so that all writers agree"),
    ("group.protocol", "the log is built on the classic one"),
    ("group.remote.assignor", "it belongs to another group protocol than the log's"),
    ("partition.assignment.strategy", "the log chooses it"),
    ("enable.partition.eof", "the log chooses it"),
    ("delivery.report.only.error", "the log needs every report"),
    ("produce.offset.report", "the log needs every report"),
    ("batch.size", "no batch may exceed what the smallest target takes"),
    ("message.max.bytes", "the topics' own limits are checked before"),
    ("message.copy.max.bytes", "the log chooses it"),
    ("check.crcs", "a record that rotted on the way must not be stored"),
    ("enable.metrics.push", "nobody here sends metrics to brokers"),
];

/// How to reach Kafka.
#[derive(Clone, Debug)]
pub struct Kafka {
    /// `host:port`, several separated by commas, as librdkafka takes it.
    pub bootstrap_servers: String,
    /// The log's own topics; its groups and transactional ids begin with the same prefix.
    pub topics: Topics,
    /// What tells this instance from its siblings; `None` leaves it to the process to make one up.
    pub instance: Option<String>,
    /// How long a member may be silent.
    pub session_timeout: Duration,
    /// How long a transaction may stay open.
    pub transaction_timeout: Duration,
    /// Memory for records read ahead, per assigned partition, in KiB.
    pub read_ahead_kib: u32,
    /// How long a start may wait for the cluster.
    pub start_timeout: Duration,
    /// Options handed to librdkafka as they are.
    pub options: Options,
}

/// Options handed to librdkafka as they are; none that the log sets itself. Prints names only: there are passwords among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(BTreeMap<String, Secret>);

impl Options {
    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.reveal()))
    }

    /// The value of an option.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(Secret::reveal)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKafka {
    bootstrap_servers: String,
    topic_prefix: String,
    instance: String,
    #[serde(deserialize_with = "super::duration")]
    session_timeout: Duration,
    #[serde(deserialize_with = "super::duration")]
    transaction_timeout: Duration,
    read_ahead_kib: u32,
    #[serde(deserialize_with = "super::duration")]
    start_timeout: Duration,
    options: BTreeMap<String, Secret>,
}

impl Kafka {
    /// Reads and checks the section `kafka`.
    pub fn read(settings: &Settings) -> Result<Kafka, Error> {
        let raw: RawKafka = settings.section("kafka")?;
        check_servers(settings, &raw.bootstrap_servers)?;
        let topics =
            Topics::new(&raw.topic_prefix).map_err(|invalid| settings.invalid("kafka.topic_prefix", invalid))?;
        let instance = instance(settings, &raw.instance)?;
        let sessions = SESSION_TIMEOUT_MIN..=SESSION_TIMEOUT_MAX;
        if !sessions.contains(&raw.session_timeout) {
            return Err(settings.invalid("kafka.session_timeout", "1s to 5m are allowed"));
        }
        let transactions = TRANSACTION_TIMEOUT_MIN..=TRANSACTION_TIMEOUT_MAX;
        if !transactions.contains(&raw.transaction_timeout) {
            return Err(settings.invalid("kafka.transaction_timeout", "1s to 15m are allowed"));
        }
        if !(1..=READ_AHEAD_KIB_MAX).contains(&raw.read_ahead_kib) {
            let reason = format!("1 to {READ_AHEAD_KIB_MAX} are allowed");
            return Err(settings.invalid("kafka.read_ahead_kib", reason));
        }
        super::sections::not_zero(settings, "kafka.start_timeout", raw.start_timeout)?;
        let options = Options(raw.options);
        check_options(settings, &options, raw.transaction_timeout)?;
        Ok(Kafka {
            bootstrap_servers: raw.bootstrap_servers,
            topics,
            instance,
            session_timeout: raw.session_timeout,
            transaction_timeout: raw.transaction_timeout,
            read_ahead_kib: raw.read_ahead_kib,
            start_timeout: raw.start_timeout,
            options,
        })
    }
}

fn check_servers(settings: &Settings, servers: &str) -> Result<(), Error> {
    let is_server = |server: &str| {
        let address = server.split_once("://").map_or(server, |(_, address)| address);
        let parts = address.rsplit_once(':');
        parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
    };
    match servers.split(',').map(str::trim).find(|server| !is_server(server)) {
        Some(wrong) => Err(settings.invalid("kafka.bootstrap_servers", format_args!("`{wrong}` is not host:port"))),
        None => Ok(()),
    }
}

fn instance(settings: &Settings, text: &str) -> Result<Option<String>, Error> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if text.len() > INSTANCE_LEN || !text.bytes().all(is_allowed) {
        let reason = format!("must be at most {INSTANCE_LEN} letters, digits, dots, underscores and dashes");
        return Err(settings.invalid("kafka.instance", reason));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn check_options(settings: &Settings, options: &Options, transaction_timeout: Duration) -> Result<(), Error> {
    for (name, _) in options.iter() {
        if let Some((_, instead)) = RESERVED.iter().find(|(reserved, _)| *reserved == name) {
            let reason = format!("the log sets this option itself; {instead}");
            return Err(settings.invalid(&format!("kafka.options.{name}"), reason));
        }
    }
    // librdkafka says the same when the producer is made, but names neither key.
    let limit = transaction_timeout.as_millis();
    let millis = |name: &str| options.get(name).and_then(|text| text.parse::<u128>().ok());
    let against_limit = |name: &str, reason: &str| {
        Err(settings.contradiction(&format!("kafka.options.{name}"), "kafka.transaction_timeout", reason))
    };
    for name in MESSAGE_TIMEOUTS {
        if millis(name).is_some_and(|timeout| timeout > limit || timeout == 0) {
            return against_limit(name, "a record may not be tried for longer than its transaction is open");
        }
    }
    if millis("socket.timeout.ms").is_some_and(|timeout| timeout + 100 > limit) {
        return against_limit("socket.timeout.ms", "the first must be at least 100 ms shorter than the second");
    }
    Ok(())
}

/// What the log's own topics look like.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicSettings {
    /// Partitions of each topic; at least 1.
    pub partitions: i32,
    /// Copies of each partition; at least 1.
    pub replication: i32,
    /// Copies that must have a record before it counts as written; 1 to `replication`.
    pub min_insync_replicas: i32,
    /// How long requests stay.
    #[serde(deserialize_with = "super::duration")]
    pub ingress_retention: Duration,
    /// How long receipts stay.
    #[serde(deserialize_with = "super::duration")]
    pub receipts_retention: Duration,
    /// How long acknowledgements stay.
    #[serde(deserialize_with = "super::duration")]
    pub acks_retention: Duration,
    /// How long audit events stay.
    #[serde(deserialize_with = "super::duration")]
    pub audit_retention: Duration,
    /// How long dead letters stay.
    #[serde(deserialize_with = "super::duration")]
    pub dead_letter_retention: Duration,
    /// How long failed attempts stay.
    #[serde(deserialize_with = "super::duration")]
    pub failures_retention: Duration,
    /// How long what waits stays; longer than the longest wait of a delay topic.
    #[serde(deserialize_with = "super::duration")]
    pub delay_retention: Duration,
    /// Partitions of each delay topic; at least 1.
    pub delay_partitions: i32,
    /// The largest record that an ingress topic takes, in bytes; fits Kafka's 32 signed bits.
    pub max_message_bytes: u32,
    /// The waits of the policy that have a delay topic of their own, with the retries that each is for.
    #[serde(skip)]
    pub waits: BTreeMap<Wait, RangeInclusive<u32>>,
}

impl TopicSettings {
    /// Reads and checks the section `topics`.
    pub fn read(settings: &Settings) -> Result<TopicSettings, Error> {
        let mut topics: TopicSettings = settings.section("topics")?;
        let counts = [
            ("topics.partitions", topics.partitions),
            ("topics.replication", topics.replication),
            ("topics.min_insync_replicas", topics.min_insync_replicas),
            ("topics.delay_partitions", topics.delay_partitions),
        ];
        if let Some((key, _)) = counts.iter().find(|(_, count)| *count < 1) {
            return Err(settings.invalid(key, "must be at least 1"));
        }
        if topics.min_insync_replicas > topics.replication {
            let reason = "no record could ever be written with fewer copies than must have it";
            return Err(settings.contradiction("topics.min_insync_replicas", "topics.replication", reason));
        }
        let retentions = [
            ("topics.ingress_retention", topics.ingress_retention),
            ("topics.receipts_retention", topics.receipts_retention),
            ("topics.acks_retention", topics.acks_retention),
            ("topics.failures_retention", topics.failures_retention),
            ("topics.delay_retention", topics.delay_retention),
            ("topics.audit_retention", topics.audit_retention),
            ("topics.dead_letter_retention", topics.dead_letter_retention),
        ];
        for (key, retention) in retentions {
            super::sections::not_zero(settings, key, retention)?;
            // Kafka keeps it as a signed number of milliseconds.
            if i64::try_from(retention.as_millis()).is_err() {
                return Err(settings.invalid(key, "is longer than Kafka can count"));
            }
        }
        let (smallest, largest) = (ROOM_TO_GROW + 1, i32::MAX.unsigned_abs() - ROOM_TO_GROW);
        if !(smallest..=largest).contains(&topics.max_message_bytes) {
            let reason = format!("{smallest} to {largest} are allowed");
            return Err(settings.invalid("topics.max_message_bytes", reason));
        }
        let longest_coin = coins().last().map_or(Duration::ZERO, Wait::duration);
        if topics.delay_retention < longest_coin + OUTAGE {
            let reason = format!("must be at least the longest wait, {longest_coin:?}, and {OUTAGE:?} of outage");
            return Err(settings.invalid("topics.delay_retention", reason));
        }
        let longest = topics.delay_retention - OUTAGE;
        topics.waits = waits_of(&Policy::read(settings)?.lifecycle, longest);
        Ok(topics)
    }
}
