//! The writer as a service: from settings to a running loop, and the checks before it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};
use wal_model::seal::Keyring;
use wal_model::{Priority, SystemClock, Topic};
use wal_runtime::batch_loop::{self, Limits, Observer, Options, Reads};
use wal_runtime::config::{self, Kafka, Policy, Seal, Settings, StoreSettings, TopicSettings};
use wal_runtime::directory::{Directory, Presence};
use wal_runtime::health::{Condition, Health, Heartbeat};
use wal_runtime::shutdown::Shutdown;
use wal_runtime::topics::{self, Deviation, Leniency};
use wal_runtime::{health, kafka, logs, offsets};
use wal_store::EntryStore;
use wal_store::embedded::Embedded;

use crate::brokers::{Brokers, Found, Shapes};
use crate::config::Config;
use crate::writer::{StoreWatch, Writer};

/// How old the poll thread's last sign of life may be: half of librdkafka's `max.poll.interval.ms`.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// What the metadata of a committed offset begin with. Stored, keep stable.
const STORE: &str = "store=";
/// How long brokers that do not answer at a start are left alone.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Why the writer did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error("failed to {0}")]
    Config(String),
    /// The store could not be opened.
    #[error("could not open the store")]
    Store(#[from] wal_store::embedded::OpenError),
    /// The logs could not be started.
    #[error("could not start the logs")]
    Logs(#[from] logs::Error),
    /// The probes cannot be answered.
    #[error("could not serve health probes")]
    Health(#[from] health::Error),
    /// Signals cannot be heard.
    #[error("could not listen for signals")]
    Signals(#[from] std::io::Error),
    /// The cluster did not answer.
    #[error("could not reach Kafka at {bootstrap}: {why}")]
    Unreachable {
        /// Where it was looked for.
        bootstrap: String,
        /// What was missing.
        why: String,
    },
    /// Topics are missing or do not fit.
    #[error("the log's topics do not fit; see `wal topics plan` and `wal topics apply`:\n{}", .0.join("\n"))]
    Topics(Vec<String>),
    /// The group's place in the ingress topics is gone.
    #[error("{0}")]
    Offsets(String),
    /// The committed offsets were written beside another store.
    #[error(
        "the committed offsets of group {group} belong to store {found}, this is store {own}: \
         give back the folder of that store, or use another kafka.topic_prefix for this one"
    )]
    OtherStore {
        /// The consumer group.
        group: String,
        /// The store they name.
        found: String,
        /// The store that was opened.
        own: String,
    },
    /// The loop ended.
    #[error("the writer stopped")]
    Loop(#[from] batch_loop::Error),
}

impl From<config::Error> for Error {
    fn from(error: config::Error) -> Error {
        // Whole, and without a source: whoever prints the chain of causes would print it twice.
        Error::Config(error.to_string())
    }
}

/// The writer, ready to run.
pub struct Service {
    config: Config,
    kafka: Kafka,
    topics: TopicSettings,
    policy: Policy,
    keyring: Keyring,
    store: Arc<dyn EntryStore>,
    store_watch: StoreWatch,
    leniency: Leniency,
}

impl Service {
    /// Reads and checks everything the writer needs from the settings.
    pub fn new(settings: &Settings, store: Arc<dyn EntryStore>) -> Result<Service, Error> {
        Ok(Service {
            config: Config::read(settings)?,
            kafka: Kafka::read(settings)?,
            topics: TopicSettings::read(settings)?,
            policy: Policy::read(settings)?,
            keyring: Seal::read(settings)?.keyring,
            store,
            store_watch: Arc::new(|_| {}),
            leniency: Leniency::None,
        })
    }

    /// For a broker that cannot do all that Kafka can, such as the embedded one.
    #[must_use]
    pub fn lenient(mut self) -> Service {
        self.leniency = Leniency::EmbeddedBroker;
        self
    }

    /// Calls `watch` whenever the store answers (true) or does not (false).
    #[must_use]
    pub fn watch_store(mut self, watch: impl Fn(bool) + Send + Sync + 'static) -> Service {
        self.store_watch = Arc::new(watch);
        self
    }

    /// Checks topics, offsets and store, then writes until `shutdown` completes or it cannot go on.
    pub async fn run(
        self,
        observer: Arc<dyn Observer>,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), Error> {
        let group = kafka::group(&self.kafka, "writer");
        let lanes = self.lanes();
        self.check_topics().await?;
        self.check_offsets(&group, &lanes).await?;
        let transactional_id = kafka::transactional_id(&self.kafka, "writer");
        info!(group, transactional_id, store = %self.store.id(), "wal-writer starting");
        let options = Options {
            consumer: kafka::consumer(&self.kafka, &group),
            producer: kafka::transactional(&self.kafka, &transactional_id),
            group: group.clone(),
            reads: Reads::Lanes(lanes),
            limits: Limits {
                records: self.config.batch_records,
                bytes: self.config.batch_bytes,
                wait: self.config.batch_wait,
            },
            offset_metadata: offset_metadata(&*self.store),
            start_timeout: self.kafka.start_timeout,
            stop_timeout: self.config.stop_timeout,
            tick: None,
        };
        let directory = Directory::new(&self.kafka).map_err(batch_loop::Error::Client)?;
        let writer = Writer {
            store: self.store,
            brokers: Cluster { directory, topics: self.topics },
            clock: Arc::new(SystemClock),
            keyring: self.keyring,
            policy: self.policy,
            topics: self.kafka.topics.clone(),
            group,
            config: self.config,
            store_watch: self.store_watch,
        };
        batch_loop::run(options, writer, observer, shutdown).await?;
        Ok(())
    }

    async fn check_topics(&self) -> Result<(), Error> {
        let unreachable = |why: String| Error::Unreachable { bootstrap: self.kafka.bootstrap_servers.clone(), why };
        let plan = tokio::time::timeout(self.kafka.start_timeout, async {
            loop {
                match topics::plan(&self.kafka, &self.topics).await {
                    Ok(plan) => return plan,
                    Err(error) => {
                        warn!(%error, "the brokers do not answer yet");
                        tokio::time::sleep(ASK_AGAIN).await;
                    }
                }
            }
        });
        let plan = plan.await.map_err(|_| unreachable(format!("no answer within {:?}", self.kafka.start_timeout)))?;
        let mut refused = Vec::new();
        for deviation in topics::deviations(&plan, self.leniency) {
            match deviation {
                Deviation::Refuse(sentence) => refused.push(sentence),
                Deviation::Warn(sentence) => warn!("{sentence}"),
            }
        }
        if self.leniency == Leniency::None {
            topics::warn_of_long_transactions(&self.kafka).await;
        }
        if refused.is_empty() { Ok(()) } else { Err(Error::Topics(refused)) }
    }

    /// Refuses a place in the log that is gone, and one that belongs to another store.
    async fn check_offsets(&self, group: &str, lanes: &[(Topic, u8)]) -> Result<(), Error> {
        let topics = lanes.iter().map(|(topic, _)| topic.clone()).collect();
        let facts = offsets::gather(&self.kafka, group, topics).await.map_err(|why| Error::Unreachable {
            bootstrap: self.kafka.bootstrap_servers.clone(),
            why: format!("could not read the committed offsets: {why}"),
        })?;
        offsets::decide(group, &facts).map_err(|lost| Error::Offsets(lost.to_string()))?;
        let own = offset_metadata(&*self.store);
        let Some(other) = facts.into_iter().map(|fact| fact.metadata).find(|found| !found.is_empty() && *found != own)
        else {
            return Ok(());
        };
        let found = other.strip_prefix(STORE).unwrap_or(&other).to_owned();
        Err(Error::OtherStore { group: group.to_owned(), found, own: self.store.id().to_string() })
    }

    fn lanes(&self) -> Vec<(Topic, u8)> {
        let priorities = [Priority::High, Priority::Normal, Priority::Low];
        let topics = priorities.into_iter().map(|priority| self.kafka.topics.ingress(priority));
        topics.zip(self.config.shares()).collect()
    }
}

/// What stands beside every committed offset: whose entries the records before it became.
fn offset_metadata(store: &dyn EntryStore) -> String {
    format!("{STORE}{}", store.id())
}

/// The brokers themselves.
struct Cluster {
    directory: Directory,
    topics: TopicSettings,
}

impl Brokers for Cluster {
    async fn shapes(&self, topics: Vec<Topic>) -> Shapes {
        let found = |presence| match presence {
            Presence::Known(shape) => {
                Found::Known { partitions: shape.partitions, max_message_bytes: shape.max_message_bytes }
            }
            Presence::Unknown { for_at_least } => Found::Missing(for_at_least),
            Presence::Denied(why) => Found::Denied(why),
            Presence::Unanswered(why) => Found::Unanswered(why),
        };
        let answers = self.directory.look_up(&topics).await;
        answers.into_iter().map(|(topic, presence)| (topic, found(presence))).collect()
    }

    async fn create(&self, topic: &Topic) -> Result<(), String> {
        self.directory.create(topic, self.topics.partitions, self.topics.replication).await
    }

    fn forget(&self) {
        self.directory.forget();
    }
}

/// Tells the probes how the loop is doing.
struct Signs {
    heartbeat: Heartbeat,
    assigned: Condition,
}

impl Observer for Signs {
    fn polled(&self) {
        self.heartbeat.beat();
    }

    fn assigned(&self) {
        self.assigned.met();
    }
}

/// The writer as a process of its own: configuration, logs, probes, signals, store, loop.
pub async fn main(file: Option<&Path>) -> Result<(), Error> {
    let settings = Settings::load(file)?;
    logs::start(&config::Log::read(&settings)?)?;
    let shutdown = Shutdown::on_signals()?;
    let health = Health::new();
    let (assigned, answers) = (health.condition("assigned"), health.condition("store"));
    assigned.unmet("the group has not given this member its partitions yet");
    answers.unmet("the store has not been opened yet");
    let probes = health::serve(config::Health::read(&settings)?.listen, health.clone(), shutdown.clone()).await?;
    if let Some(address) = probes.address() {
        info!(%address, "health probes");
    }
    let StoreSettings::Embedded { folder } = StoreSettings::read(&settings)?;
    let store: Arc<dyn EntryStore> = Arc::new(Embedded::open(&folder)?);
    answers.met();
    warn!(folder = %folder.display(), "the embedded store belongs to this process alone: one writer, and no gateway beside it");
    let service = Service::new(&settings, store)?.watch_store(move |is_answering| match is_answering {
        true => answers.met(),
        false => answers.unmet("the store does not answer"),
    });
    let heartbeat = health.heartbeat("poll", HEARTBEAT);
    let result = service.run(Arc::new(Signs { heartbeat, assigned }), shutdown.triggered()).await;
    health.stopping();
    result
}
