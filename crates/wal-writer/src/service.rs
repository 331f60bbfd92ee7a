//! The writer as a service: from settings to a running loop, and the checks before it.

use std::path::Path;
use std::sync::Arc;

use tracing::info;
use wal_model::seal::Keyring;
use wal_model::{Priority, SystemClock, Topic};
use wal_runtime::batch_loop::{self, Limits, Observer, Options, Reads};
use wal_runtime::brokers::Cluster;
use wal_runtime::config::{Kafka, Policy, Seal, Settings, TopicSettings};
use wal_runtime::directory::Directory;
use wal_runtime::kafka;
use wal_runtime::live::Live;
use wal_runtime::metrics::Metrics;
use wal_runtime::reload::Part;
use wal_runtime::service::{self, Process};
use wal_runtime::topics::Leniency;
use wal_runtime::traces::{Road, Traces};
use wal_store::{EntryStore, Patient};

use crate::config::Config;
use crate::tally::Meter;
use crate::writer::Writer;

pub use wal_runtime::service::Error;

/// The writer, ready to run.
pub struct Service {
    config: Live<Config>,
    kafka: Kafka,
    topics: TopicSettings,
    policy: Live<Policy>,
    keyring: Keyring,
    store: Patient,
    leniency: Leniency,
    traces: Traces,
    metrics: Metrics,
}

impl Service {
    /// Reads and checks everything the writer needs from the settings.
    pub fn new(settings: &Settings, store: Arc<dyn EntryStore>) -> Result<Service, Error> {
        Ok(Service {
            config: Live::new(Config::read(settings)?),
            kafka: Kafka::read(settings)?,
            topics: TopicSettings::read(settings)?,
            policy: Live::new(Policy::read(settings)?),
            keyring: Seal::read(settings)?.keyring,
            store: Patient::new(store),
            leniency: Leniency::None,
            traces: Traces::off(),
            metrics: Metrics::new(),
        })
    }

    /// What takes over a changed policy and changed limits while it runs, from the next batch on. It objects to whatever would keep the
    /// writer from starting.
    pub fn reloads(&self) -> Part {
        let (config, policy) = (self.config.clone(), self.policy.clone());
        Box::new(move |settings| {
            let (config, policy) = (config.clone(), policy.clone());
            let (new_config, new_policy) = (Config::read(settings)?, Policy::read(settings)?);
            TopicSettings::read(settings)?;
            Seal::read(settings)?;
            Ok(Box::new(move || {
                let Config { reply_topics, unknown_target_wait, create_missing_targets, .. } = new_config;
                // What the loop was started with stays.
                let held = Config::clone(&config.get());
                config.set(Config { reply_topics, unknown_target_wait, create_missing_targets, ..held });
                policy.set(new_policy);
            }))
        })
    }

    /// For a broker that cannot do all that Kafka can, such as the embedded one.
    #[must_use]
    pub fn lenient(mut self) -> Service {
        self.leniency = Leniency::EmbeddedBroker;
        self
    }

    /// Has it tell which steps entries take.
    #[must_use]
    pub fn tracing(mut self, traces: Traces) -> Service {
        self.traces = traces;
        self
    }

    /// Has it count where a process tells it.
    #[must_use]
    pub fn counting(mut self, metrics: Metrics) -> Service {
        self.metrics = metrics;
        self
    }

    /// Calls `watch` whenever the store answers (true) or does not (false).
    #[must_use]
    pub fn watch_store(mut self, watch: impl Fn(bool) + Send + Sync + 'static) -> Service {
        self.store = self.store.watched_by(watch);
        self
    }

    /// Checks topics, offsets and store, then writes until `shutdown` completes or it cannot go on.
    pub async fn run(
        self,
        observer: Arc<dyn Observer>,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), Error> {
        let group = kafka::group(&self.kafka, "writer");
        let config = self.config.get();
        let lanes = self.lanes(&config);
        let waits = service::check_topics(&self.kafka, &self.topics, self.leniency).await?;
        let read = lanes.iter().map(|(topic, _)| topic.clone()).collect();
        service::check_offsets(&self.kafka, &group, read, Some(&self.store.id())).await?;
        let transactional_id = kafka::transactional_id(&self.kafka, "writer");
        info!(group, transactional_id, store = %self.store.id(), "wal-writer starting");
        let options = Options {
            consumer: kafka::consumer_of_lanes(&self.kafka, &group),
            producer: kafka::transactional(&self.kafka, &transactional_id),
            group: group.clone(),
            reads: Reads::Lanes(lanes),
            limits: Limits { records: config.batch_records, bytes: config.batch_bytes, wait: config.batch_wait },
            offset_metadata: service::offset_metadata(self.store.id()),
            start_timeout: self.kafka.start_timeout,
            stop_timeout: config.stop_timeout,
            tick: None,
            traces: self.traces,
        };
        let directory = Directory::new(&self.kafka).map_err(batch_loop::Error::Client)?;
        let writer = Writer {
            store: self.store,
            brokers: Cluster { directory, partitions: self.topics.partitions, replication: self.topics.replication },
            clock: Arc::new(SystemClock),
            keyring: self.keyring,
            policy: self.policy,
            topics: self.kafka.topics.clone(),
            waits,
            group,
            config: self.config,
            meter: Meter::new(self.metrics),
        };
        batch_loop::run(options, writer, observer, shutdown).await?;
        Ok(())
    }

    fn lanes(&self, config: &Config) -> Vec<(Topic, u8)> {
        let priorities = [Priority::High, Priority::Normal, Priority::Low];
        let topics = priorities.into_iter().map(|priority| self.kafka.topics.ingress(priority));
        topics.zip(config.shares()).collect()
    }
}

/// The writer as a process of its own.
pub async fn main(file: Option<&Path>) -> Result<(), Error> {
    let process = Process::start("wal-writer", file).await?;
    let Some((store, watch)) = wal_open::of_process(&process).await? else { return Ok(()) };
    let traces = process.traces("wal-writer", Road::Onward)?;
    let service = Service::new(&process.settings, store)?.counting(process.metrics.clone()).tracing(traces.clone());
    let service = service.watch_store(watch);
    process.reloads(service.reloads());
    let result = service.run(process.observer("wal-writer"), process.shutdown.triggered()).await;
    process.stopping();
    traces.close().await;
    result
}
