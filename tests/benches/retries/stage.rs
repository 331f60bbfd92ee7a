//! A log of a workload's own: its topics, its scheduler, its keys, and the records that the workload puts in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use wal_model::answer::{Failed, Wish};
use wal_model::delivery::Delivery;
use wal_model::entry::Answers;
use wal_model::id::Identity;
use wal_model::parked::Parked;
use wal_model::seal::Keyring;
use wal_model::status::Failure;
use wal_model::topics::Topics;
use wal_model::{Backoff, EntryKey, Id, InRecord, LogId, Namespace, OutRecord, Priority, Timestamp, Topic};
use wal_retry_scheduler::{Observers, Service};
use wal_runtime::config::{Kafka as KafkaSettings, Settings, TopicSettings};
use wal_runtime::shutdown::Shutdown;
use wal_runtime::topics;
use wal_tests::{Kafka, clients, prefix, unique};

use crate::lateness::now;

/// As in what was measured elsewhere.
pub const PAYLOAD: usize = 1024;
pub const PARTITIONS: usize = 4;
const SECRET: &[u8; 32] = b"bench-bench-bench-bench-bench-12";
const SECRET_BASE64: &str = "YmVuY2gtYmVuY2gtYmVuY2gtYmVuY2gtYmVuY2gtMTI=";

/// A log of a workload's own.
pub struct Stage {
    pub bootstrap: String,
    pub target: Topic,
    pub topics: Topics,
    pub keyring: Keyring,
    pub kafka: KafkaSettings,
    given: Vec<(&'static str, String)>,
    producer: ThreadedProducer<rdkafka::producer::DefaultProducerContext>,
}

impl Stage {
    /// Makes the topics.
    pub fn set(broker: &Kafka) -> Result<Stage> {
        let bootstrap = broker.bootstrap();
        let given = vec![
            ("kafka.bootstrap_servers", bootstrap.clone()),
            ("kafka.topic_prefix", prefix()),
            ("kafka.instance", "0".to_owned()),
            ("topics.partitions", PARTITIONS.to_string()),
            ("topics.delay_partitions", PARTITIONS.to_string()),
            ("topics.replication", "1".to_owned()),
            ("topics.min_insync_replicas", "1".to_owned()),
            ("health.listen", String::new()),
            ("seal.signing_key", "k1".to_owned()),
            ("seal.keys.k1", SECRET_BASE64.to_owned()),
        ];
        let settings = Settings::load_from(None, std::iter::empty(), &given)?;
        let kafka = KafkaSettings::read(&settings)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(topics::apply(&kafka, &TopicSettings::read(&settings)?))?;
        let target = unique("target");
        clients::create_topic(&bootstrap, &target, PARTITIONS, &[]);
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &bootstrap).set("partitioner", "murmur2_random").set("linger.ms", "1");
        config.set("queue.buffering.max.messages", "1000000").set("compression.type", "lz4");
        Ok(Stage {
            target: Topic::parse(&target)?,
            topics: kafka.topics.clone(),
            keyring: Keyring::new("k1", &BTreeMap::from([("k1".to_owned(), SECRET.to_vec())]))?,
            kafka,
            given,
            producer: config.create()?,
            bootstrap,
        })
    }

    /// The settings, for a service in this process.
    pub fn settings(&self, more: &[(&'static str, String)]) -> Result<Settings> {
        let given: Vec<(&'static str, String)> = self.given.iter().chain(more).cloned().collect();
        Ok(Settings::load_from(None, std::iter::empty(), &given)?)
    }

    /// The settings as variables, for a process of its own.
    pub fn variables(&self) -> Vec<(String, String)> {
        let name = |key: &str| format!("WAL__{}", key.to_uppercase().replace('.', "__"));
        self.given.iter().map(|(key, value)| (name(key), value.clone())).collect()
    }

    /// Runs a scheduler in this process until the guard is dropped; returns when it has all its partitions.
    pub fn scheduler(&self) -> Result<Running> {
        Running::start(Service::new(&self.settings(&[])?)?)
    }

    /// The first delivery of the entry with this number, in some namespace.
    pub fn delivery(&self, namespace: &str, number: usize, delay: Duration) -> Result<Delivery> {
        let written_at = Timestamp::from_millis(now() as i64).context("a clock before 1970")?;
        let namespace = Namespace::parse(namespace)?;
        let identity = Identity::RequestId(Id::parse(&format!("r-{number}"))?);
        let key = EntryKey::of(None, &namespace, &identity, 0);
        // It begins with a name by which it is known where it arrives; see `name_of`.
        let name = format!("{namespace}-{number:08}");
        let filler = "x".repeat(PAYLOAD.saturating_sub(name.len() + 24));
        let payload = format!(r#"{{"name":"{name}","filler":"{filler}"}}"#);
        Ok(Delivery {
            log_id: LogId::new(namespace, written_at, key),
            target: self.target.clone(),
            tenant: None,
            operation: None,
            correlation_id: None,
            attempt: 1,
            round: 1,
            round_first: 1,
            deadline: written_at.saturating_add(Duration::from_secs(86_400)),
            retry_count: 3,
            delay: wal_model::lifecycle::Seconds::new(delay),
            backoff: Backoff::Fixed,
            priority: Priority::Normal,
            answers: Answers::Expected,
            ordering_key: Some(Bytes::from(format!("k{}", number % 100))),
            content_type: Some("application/json".to_owned()),
            payload: Bytes::from(payload),
            headers: Vec::new(),
        })
    }

    /// The answer that a delivery failed.
    pub fn failure(&self, delivery: &Delivery) -> OutRecord {
        let sent = delivery.encode(delivery.log_id.timestamp(), &self.keyring);
        let failure = Failure { code: "DOWN".to_owned(), message: "try later".to_owned() };
        Failed::encode(&received(sent), &failure, &Wish::None, self.topics.failures())
    }

    /// The next attempt of a delivery, parked until `due` as if the scheduler had done it one wait before.
    pub fn parked(&self, delivery: Delivery, due: f64, wait: &str) -> Result<OutRecord> {
        let wait: wal_model::delay::Wait = wait.parse()?;
        let due = Timestamp::from_millis(due as i64).context("a due time before 1970")?;
        let before = i64::try_from(wait.duration().as_millis())?;
        let parked_at = Timestamp::from_millis(due.as_millis() - before).context("a time before 1970")?;
        Ok(Parked { delivery: delivery.next_attempt(), due, parked_at, wait }.encode(&self.topics, &self.keyring))
    }

    /// Sends a record; it leaves within a millisecond or two.
    pub fn send(&self, record: &OutRecord) -> Result<()> {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for header in &record.headers {
            let key = header.name_str().context("our own names are text")?;
            headers = headers.insert(Header { key, value: header.value.as_deref() });
        }
        let mut message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(record.topic.as_str()).headers(headers);
        (message.key, message.payload) = (record.key.as_deref(), record.value.as_deref());
        loop {
            match self.producer.send(message) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    message = back;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }

    /// Waits until everything that was sent is acknowledged.
    pub fn flush(&self) -> Result<()> {
        Ok(self.producer.flush(Duration::from_secs(120))?)
    }
}

/// A record as somebody reads it.
fn received(record: OutRecord) -> InRecord {
    let OutRecord { topic, key, value, headers, .. } = record;
    InRecord { cluster: Arc::from("bench"), topic, partition: 0, offset: 0, time: None, key, value, headers }
}

/// What a payload of ours is called: `{"name":"...`. Read by hand, for whoever reads headers pays for all thirty of them, and would be
/// slower than what is measured.
pub fn name_of(payload: &[u8]) -> &[u8] {
    let rest = payload.strip_prefix(br#"{"name":""#).unwrap_or_default();
    rest.split(|byte| *byte == b'"').next().unwrap_or_default()
}

/// What a record of a workload is called: its payload says it.
pub fn by_payload<'a>(message: &'a BorrowedMessage<'_>) -> &'a [u8] {
    name_of(message.payload().unwrap_or_default())
}

/// A service on a thread of this process.
pub struct Running {
    shutdown: Shutdown,
    thread: Option<std::thread::JoinHandle<Result<()>>>,
}

impl Running {
    fn start(service: Service) -> Result<Running> {
        let (ready, is_ready) = std::sync::mpsc::channel();
        let observers = Observers { failures: Arc::new(Ready(ready.clone())), delays: Arc::new(Ready(ready)) };
        let running = Running::spawn(move |shutdown| async move {
            Ok(service.run(observers, async move { shutdown.triggered().await }).await?)
        })?;
        for _ in 0..2 {
            is_ready.recv_timeout(Duration::from_secs(60)).context("the scheduler got no partitions")?;
        }
        Ok(running)
    }

    /// Runs something that ends when it is told to.
    pub fn spawn<F>(run: impl FnOnce(Shutdown) -> F + Send + 'static) -> Result<Running>
    where
        F: Future<Output = Result<()>>,
    {
        let shutdown = Shutdown::new();
        let told = shutdown.clone();
        let thread = std::thread::Builder::new().spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(run(told))
        })?;
        Ok(Running { shutdown, thread: Some(thread) })
    }

    /// Stops it and tells how it ended.
    pub fn stop(mut self) -> Result<()> {
        self.shutdown.trigger();
        let thread = self.thread.take().expect("only a stop takes it");
        thread.join().map_err(|_| anyhow::anyhow!("a service panicked"))?
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

/// Says once that the group has given partitions.
pub struct Ready(pub std::sync::mpsc::Sender<()>);

impl wal_runtime::batch_loop::Observer for Ready {
    fn assigned(&self) {
        // Whoever started it listens until it is ready.
        let _ = self.0.send(());
    }
}
