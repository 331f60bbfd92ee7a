//! The keeper of statuses as a service: from settings to a running loop, and the checks before it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tracing::info;
use wal_model::seal::Keyring;
use wal_model::topics::Topics;
use wal_model::{Namespace, SystemClock};
use wal_runtime::batch_loop::{self, Limits, Observer, Options, Reads};
use wal_runtime::brokers::{Brokers as _, Cluster};
use wal_runtime::config::{Kafka, Seal, Settings, TopicSettings};
use wal_runtime::directory::{Directory, Presence};
use wal_runtime::ends::Ends;
use wal_runtime::kafka;
use wal_runtime::metrics::Metrics;
use wal_runtime::reload::Part;
use wal_runtime::service::{self, Process};
use wal_runtime::topics::Leniency;
use wal_runtime::traces::{Road, Traces};
use wal_store::{EntryStore, Patient};

use crate::brokers::{self, Brokers, DeadLetters, Freshness, Shape};
use crate::config::Config;
use crate::counts::Counts;
use crate::fold::Fold;
use crate::sweep::Memory;

pub use wal_runtime::service::Error;

/// The keeper of statuses, ready to run.
pub struct Service {
    config: Config,
    kafka: Kafka,
    topics: TopicSettings,
    keyring: Keyring,
    store: Patient,
    leniency: Leniency,
    traces: Traces,
    counts: Arc<Counts>,
}

impl Service {
    /// Reads and checks everything it needs from the settings.
    pub fn new(settings: &Settings, store: Arc<dyn EntryStore>) -> Result<Service, Error> {
        Ok(Service {
            config: Config::read(settings)?,
            kafka: Kafka::read(settings)?,
            topics: TopicSettings::read(settings)?,
            keyring: Seal::read(settings)?.keyring,
            store: Patient::new(store),
            leniency: Leniency::None,
            traces: Traces::off(),
            counts: Arc::default(),
        })
    }

    /// Takes nothing over while it runs, and objects to whatever would keep it from starting.
    pub fn reloads(&self) -> Part {
        Box::new(|settings| {
            Config::read(settings)?;
            Seal::read(settings)?;
            Ok(Box::new(|| {}))
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
        self.counts = Arc::new(Counts::told_by(metrics));
        self
    }

    /// Calls `watch` whenever the store answers (true) or does not (false).
    #[must_use]
    pub fn watch_store(mut self, watch: impl Fn(bool) + Send + Sync + 'static) -> Service {
        self.store = self.store.watched_by(watch);
        self
    }

    /// What it has done since it was made.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Checks topics, offsets and store, then folds until `shutdown` completes or it cannot go on.
    pub async fn run(
        self,
        observer: Arc<dyn Observer>,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), Error> {
        let group = kafka::group(&self.kafka, "status");
        let acks = self.kafka.topics.acks();
        service::check_topics(&self.kafka, &self.topics, self.leniency).await?;
        service::check_offsets(&self.kafka, &group, vec![acks.clone()], Some(&self.store.id())).await?;
        let transactional_id = kafka::transactional_id(&self.kafka, "status");
        info!(group, transactional_id, store = %self.store.id(), "wal-status starting");
        let options = Options {
            consumer: kafka::consumer(&self.kafka, &group),
            producer: kafka::transactional(&self.kafka, &transactional_id),
            group: group.clone(),
            reads: Reads::Lanes(vec![(acks, 100)]),
            limits: Limits {
                records: self.config.batch_records,
                bytes: self.config.batch_bytes,
                wait: self.config.batch_wait,
            },
            offset_metadata: service::offset_metadata(self.store.id()),
            start_timeout: self.kafka.start_timeout,
            stop_timeout: self.config.stop_timeout,
            tick: Some(self.config.sweep_interval),
            traces: self.traces,
        };
        let directory = Directory::new(&self.kafka).map_err(batch_loop::Error::Client)?;
        let brokers = OfCluster {
            cluster: Cluster { directory, partitions: self.topics.partitions, replication: self.topics.replication },
            ends: Ends::new(&self.kafka).map_err(batch_loop::Error::Client)?,
            topics: self.kafka.topics.clone(),
        };
        let fold = Fold {
            store: self.store,
            brokers,
            clock: Arc::new(SystemClock),
            keyring: self.keyring,
            topics: self.kafka.topics,
            group,
            config: self.config,
            counts: self.counts,
            memory: Mutex::new(Memory::default()),
        };
        batch_loop::run(options, fold, observer, shutdown).await?;
        Ok(())
    }
}

/// The brokers themselves.
struct OfCluster {
    cluster: Cluster,
    ends: Ends,
    topics: Topics,
}

impl Brokers for OfCluster {
    async fn shape(&self, freshness: Freshness) -> Result<Shape, String> {
        let acks = self.topics.acks();
        let presence = match freshness {
            Freshness::Remembered => self.cluster.directory.look_up(std::slice::from_ref(&acks)).await.remove(&acks),
            Freshness::Now => Some(self.cluster.directory.refresh(&acks).await),
        };
        match presence {
            Some(Presence::Known(shape)) => {
                Ok(Shape { partitions: shape.partitions, max_message_bytes: shape.max_message_bytes })
            }
            Some(Presence::Unknown { .. }) => Err(format!("{acks} does not exist")),
            Some(Presence::Denied(why) | Presence::Unanswered(why)) => Err(format!("{acks}: {why}")),
            None => Err(format!("no word about {acks}")),
        }
    }

    async fn dead_letters_of(&self, namespaces: Vec<Namespace>) -> Result<HashMap<Namespace, DeadLetters>, String> {
        let mut topics = vec![self.topics.dead_requests()];
        topics.extend(namespaces.iter().map(|namespace| self.topics.dead_entries(namespace)));
        let shapes = self.cluster.shapes(topics).await;
        let found = |namespace: Namespace| {
            let dead_letters = brokers::dead_letters(&self.topics, Some(&namespace), &shapes)?;
            Ok((namespace, dead_letters))
        };
        namespaces.into_iter().map(found).collect()
    }

    async fn dead_letters(&self) -> Result<DeadLetters, String> {
        let shapes = self.cluster.shapes(vec![self.topics.dead_requests()]).await;
        brokers::dead_letters(&self.topics, None, &shapes)
    }

    async fn ends(&self, partitions: Vec<i32>) -> HashMap<i32, i64> {
        self.ends.of(&self.topics.acks(), partitions).await
    }

    fn forget(&self) {
        self.cluster.directory.forget();
    }
}

/// The keeper of statuses as a process of its own.
pub async fn main(file: Option<&Path>) -> Result<(), Error> {
    let process = Process::start("wal-status", file).await?;
    let Some((store, watch)) = wal_open::of_process(&process).await? else { return Ok(()) };
    let traces = process.traces("wal-status", Road::Anew)?;
    let service = Service::new(&process.settings, store)?.counting(process.metrics.clone()).tracing(traces.clone());
    let service = service.watch_store(watch);
    process.reloads(service.reloads());
    let result = service.run(process.observer("wal-status"), process.shutdown.triggered()).await;
    process.stopping();
    traces.close().await;
    result
}
