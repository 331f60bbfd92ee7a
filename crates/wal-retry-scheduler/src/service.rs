//! The scheduler as a service: from settings to two running loops, and the checks before them.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::info;
use wal_model::delay::Waits;
use wal_model::seal::Keyring;
use wal_model::{Clock, SystemClock, Topic};
use wal_runtime::batch_loop::{self, Limits, Observer, Options, Reads};
use wal_runtime::brokers::Cluster;
use wal_runtime::config::{Kafka, Seal, Settings, TopicSettings};
use wal_runtime::directory::Directory;
use wal_runtime::kafka;
use wal_runtime::service::{self, Process};
use wal_runtime::shutdown::Shutdown;
use wal_runtime::topics::Leniency;

use crate::cancels::Cancels;
use crate::config::Config;
use crate::counts::Counts;
use crate::failures::{Failures, Log, State};
use crate::release::{DelayGate, Pending, Releases};

pub use wal_runtime::service::Error;

/// How often cancels are looked through for those that have outlived their round. Nothing waits for it.
const TICK: Duration = Duration::from_secs(10);

/// Who wants to know how the two loops are doing.
pub struct Observers {
    /// Of the failures topic.
    pub failures: Arc<dyn Observer>,
    /// Of the delay topics.
    pub delays: Arc<dyn Observer>,
}

/// The scheduler, ready to run.
pub struct Service {
    config: Config,
    kafka: Kafka,
    topics: TopicSettings,
    keyring: Keyring,
    counts: Arc<Counts>,
    leniency: Leniency,
}

impl Service {
    /// Reads and checks everything the scheduler needs from the settings.
    pub fn new(settings: &Settings) -> Result<Service, Error> {
        Ok(Service {
            config: Config::read(settings)?,
            kafka: Kafka::read(settings)?,
            topics: TopicSettings::read(settings)?,
            keyring: Seal::read(settings)?.keyring,
            counts: Arc::default(),
            leniency: Leniency::None,
        })
    }

    /// For a broker that cannot do all that Kafka can, such as the embedded one.
    #[must_use]
    pub fn lenient(mut self) -> Service {
        self.leniency = Leniency::EmbeddedBroker;
        self
    }

    /// What it counts while it runs.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Checks topics and offsets, then decides and releases until `shutdown` completes or one of the two cannot go on.
    pub async fn run(self, observers: Observers, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        let waits = service::check_topics(&self.kafka, &self.topics, self.leniency).await?;
        let (group, delays) = (kafka::group(&self.kafka, "retry-scheduler"), kafka::group(&self.kafka, "delays"));
        let names = &self.kafka.topics;
        service::check_offsets(&self.kafka, &group, vec![names.failures()], None).await?;
        let delay_topics: Vec<Topic> = waits.iter().map(|wait| names.delay(wait)).collect();
        self.tell(&group, delay_topics.len());
        service::check_offsets(&self.kafka, &delays, delay_topics, None).await?;

        let thread = batch_loop::Error::Thread;
        let cancels = Arc::new(Cancels::follow(&self.kafka, names, self.keyring.clone()).map_err(thread)?);
        let directory = Directory::new(&self.kafka).map_err(batch_loop::Error::Client)?;
        let (partitions, replication) = (self.topics.partitions, self.topics.replication);
        let brokers = Cluster { directory, partitions, replication };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let failures = self.failures(group.clone(), &brokers, &cancels, &clock, &waits);
        let releases = self.releases(delays.clone(), &brokers, &cancels, &clock, waits);

        let stop = Shutdown::new();
        let (of_failures, of_delays) = (self.options_of_failures(group), self.options_of_delays(delays, clock));
        let asked = async {
            tokio::select! {
                () = shutdown => stop.trigger(),
                () = stop.triggered() => {}
            }
        };
        let (decided, released, ()) = tokio::join!(
            and_stop(batch_loop::run(of_failures, failures, observers.failures, stop.triggered()), &stop),
            and_stop(batch_loop::run(of_delays, releases, observers.delays, stop.triggered()), &stop),
            asked,
        );
        if let Some(cancels) = Arc::into_inner(cancels) {
            cancels.stop().await;
        }
        decided?;
        released?;
        Ok(())
    }

    fn tell(&self, group: &str, delay_topics: usize) {
        let partitions = delay_topics * usize::try_from(self.topics.delay_partitions).unwrap_or(0);
        let read_ahead_kib = partitions * usize::try_from(self.kafka.read_ahead_kib).unwrap_or(0);
        info!(group, delay_topics, most_read_ahead_mib = read_ahead_kib / 1024, "wal-retry-scheduler starting");
    }

    fn failures(
        &self,
        group: String,
        brokers: &Cluster,
        cancels: &Arc<Cancels>,
        clock: &Arc<dyn Clock>,
        waits: &Waits,
    ) -> Failures<Cluster, Log> {
        Failures {
            brokers: brokers.clone(),
            past: Log(self.kafka.clone()),
            cancels: Arc::clone(cancels),
            clock: Arc::clone(clock),
            keyring: self.keyring.clone(),
            topics: self.kafka.topics.clone(),
            group,
            waits: waits.clone(),
            state: Mutex::new(State::new(&self.config)),
            config: self.config.clone(),
            counts: Arc::clone(&self.counts),
        }
    }

    fn releases(
        &self,
        group: String,
        brokers: &Cluster,
        cancels: &Arc<Cancels>,
        clock: &Arc<dyn Clock>,
        waits: Waits,
    ) -> Releases<Cluster> {
        Releases {
            brokers: brokers.clone(),
            cancels: Arc::clone(cancels),
            clock: Arc::clone(clock),
            keyring: self.keyring.clone(),
            topics: self.kafka.topics.clone(),
            group,
            waits,
            config: self.config.clone(),
            counts: Arc::clone(&self.counts),
            pending: Mutex::new(Pending::default()),
        }
    }

    fn options_of_failures(&self, group: String) -> Options {
        let reads = Reads::Lanes(vec![(self.kafka.topics.failures(), 100)]);
        let options = self.options(group, "retry-scheduler", reads, self.config.batch_wait);
        Options { tick: Some(TICK), ..options }
    }

    fn options_of_delays(&self, group: String, clock: Arc<dyn Clock>) -> Options {
        let topics = self.kafka.topics.clone();
        let prefix = topics.delay_prefix();
        let gate = Arc::new(DelayGate { clock, topics });
        let reads = Reads::Gated { prefix, gate, rate: self.config.ceiling() };
        self.options(group, "delays", reads, Duration::ZERO)
    }

    fn options(&self, group: String, name: &str, reads: Reads, wait: Duration) -> Options {
        let Config { batch_records: records, batch_bytes: bytes, stop_timeout, .. } = self.config;
        Options {
            consumer: kafka::consumer(&self.kafka, &group),
            producer: kafka::transactional(&self.kafka, &kafka::transactional_id(&self.kafka, name)),
            group,
            reads,
            limits: Limits { records, bytes, wait },
            offset_metadata: String::new(),
            start_timeout: self.kafka.start_timeout,
            stop_timeout,
            tick: None,
        }
    }
}

/// Runs one of the two, and stops the other when it ends.
async fn and_stop<T>(run: impl Future<Output = T>, stop: &Shutdown) -> T {
    let result = run.await;
    stop.trigger();
    result
}

/// The scheduler as a process of its own.
pub async fn main(file: Option<&Path>) -> Result<(), Error> {
    let process = Process::start(file).await?;
    let service = Service::new(&process.settings)?;
    let observers =
        Observers { failures: process.observer("wal-retry-scheduler"), delays: process.observer_of("delays") };
    let result = service.run(observers, process.shutdown.triggered()).await;
    process.stopping();
    result
}
