//! The writer as a service: from settings to a running loop, and the checks before it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};
use wal_model::seal::Keyring;
use wal_model::{Priority, SystemClock, Topic};
use wal_runtime::batch_loop::{self, Limits, Observer, Options};
use wal_runtime::config::{self, Kafka, Policy, Seal, Settings, StoreSettings, TopicSettings};
use wal_runtime::directory::{Directory, Presence};
use wal_runtime::health::{Condition, Health, Heartbeat};
use wal_runtime::shutdown::Shutdown;
use wal_runtime::topics::{self, Leniency};
use wal_runtime::{health, kafka, logs, offsets};
use wal_store::EntryStore;
use wal_store::embedded::Embedded;

use crate::brokers::{Brokers, Found, Shapes};
use crate::config::Config;
use crate::writer::{StoreWatch, Writer};

/// How old the poll thread's last sign of life may be: half of librdkafka's `max.poll.interval.ms`.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Why the writer did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error("the configuration cannot be used")]
    Config(#[from] config::Error),
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
         give back the store they belong to, or start with a topic prefix of its own"
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
            lanes,
            limits: Limits {
                records: self.config.batch_records,
                bytes: self.config.batch_bytes,
                wait: self.config.batch_wait,
            },
            offset_metadata: offset_metadata(&*self.store),
            start_timeout: self.kafka.start_timeout,
            stop_timeout: self.config.stop_timeout,
        };
        let writer = Writer {
            store: self.store,
            brokers: Directory::new(&self.kafka).map_err(|error| Error::Unreachable {
                bootstrap: self.kafka.bootstrap_servers.clone(),
                why: error.to_string(),
            })?,
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

    fn lanes(&self) -> Vec<(Topic, u8)> {
        let priorities = [Priority::High, Priority::Normal, Priority::Low];
        let topics = priorities.into_iter().map(|priority| self.kafka.topics.ingress(priority));
        topics.zip(self.config.shares()).collect()
    }
}

/// What stands beside every committed offset: whose entries the records before it became.
fn offset_metadata(store: &dyn EntryStore) -> String {
    format!("store={}", store.id())
}
