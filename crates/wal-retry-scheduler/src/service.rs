//! The scheduler as a service: from settings to two running loops, and the checks before them.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tracing::info;
use wal_model::delay::Waits;
use wal_model::seal::Keyring;
use wal_model::{Clock, SystemClock, Topic};
use wal_runtime::batch_loop::{self, Limits, Observer, Options, Reads};
use wal_runtime::brokers::{Brokers as _, Cluster};
use wal_runtime::config::{Kafka, Seal, Settings, TopicSettings};
use wal_runtime::directory::Directory;
use wal_runtime::kafka;
use wal_runtime::live::Live;
use wal_runtime::metrics::Metrics;
use wal_runtime::reload::Part;
use wal_runtime::service::{self, Process};
use wal_runtime::shutdown::Shutdown;
use wal_runtime::topics::Leniency;
use wal_runtime::traces::{Road, Traces};

use crate::cancels::Cancels;
use crate::clearing::Clearing;
use crate::config::Config;
use crate::failures::{Failures, Log, State};
use crate::overdue::Overdue;
use crate::release::{DelayGate, Releases};
use crate::tally::Meter;
use crate::tools::Tools;

pub use wal_runtime::service::Error;

/// How often what has outlived its use is looked for: cancels whose round is over, partitions that moved away. Nothing waits for it.
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
    config: Live<Config>,
    kafka: Kafka,
    topics: TopicSettings,
    keyring: Keyring,
    metrics: Metrics,
    when_caught_up: Arc<dyn Fn() + Send + Sync>,
    leniency: Leniency,
    traces: Traces,
}

impl Service {
    /// Reads and checks everything the scheduler needs from the settings.
    pub fn new(settings: &Settings) -> Result<Service, Error> {
        Ok(Service {
            config: Live::new(Config::read(settings)?),
            kafka: Kafka::read(settings)?,
            topics: TopicSettings::read(settings)?,
            keyring: Seal::read(settings)?.keyring,
            metrics: Metrics::new(),
            when_caught_up: Arc::new(|| {}),
            leniency: Leniency::None,
            traces: Traces::off(),
        })
    }

    /// What takes over changed limits while it runs, from the next decision on. It objects to whatever would keep it from starting.
    pub fn reloads(&self) -> Part {
        let config = self.config.clone();
        Box::new(move |settings| {
            let (config, new) = (config.clone(), Config::read(settings)?);
            Seal::read(settings)?;
            Ok(Box::new(move || {
                let Config { retry_after_max, unknown_target_wait, keep_cancels, .. } = new;
                // What the loops were started with stays.
                let held = Config::clone(&config.get());
                config.set(Config { retry_after_max, unknown_target_wait, keep_cancels, ..held });
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

    /// Calls `tell` when all cancels are known: before that nothing is decided or released.
    #[must_use]
    pub fn when_caught_up(mut self, tell: impl Fn() + Send + Sync + 'static) -> Service {
        self.when_caught_up = Arc::new(tell);
        self
    }

    /// Checks topics and offsets, then decides and releases until `shutdown` completes or one of the two cannot go on.
    pub async fn run(self, observers: Observers, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        let (group, delays) = (kafka::group(&self.kafka, "retry-scheduler"), kafka::group(&self.kafka, "delays"));
        let waits = self.check(&group, &delays).await?;
        let overdue = Arc::<Overdue>::default();
        let tools = Arc::new(self.tools(waits, &overdue)?);
        // The first question takes a connection, and would keep the first failures waiting.
        tools.brokers.foresee(&[self.kafka.topics.failures(), self.kafka.topics.dead_requests()]);
        let failures = Failures {
            past: Log(self.kafka.clone()),
            group: group.clone(),
            state: Mutex::new(State::new(&self.config.get())),
            tools: Arc::clone(&tools),
        };
        let gate = DelayGate {
            clock: Arc::clone(&tools.clock),
            topics: self.kafka.topics.clone(),
            overdue: Arc::clone(&overdue),
            foresee: foresee(&tools),
        };
        let releases = Releases {
            tools: Arc::clone(&tools),
            group: delays.clone(),
            overdue,
            clearing: self.clearing(&tools.brokers),
            pending: Mutex::default(),
        };

        let stop = Shutdown::new();
        let (of_failures, of_delays) = (self.options_of_failures(group), self.options_of_delays(delays, gate));
        let asked = async {
            tokio::select! {
                () = shutdown => stop.trigger(),
                () = stop.triggered() => {}
            }
        };
        let caught_up = async {
            tokio::select! {
                () = tools.cancels.caught_up() => (self.when_caught_up)(),
                () = stop.triggered() => {}
            }
        };
        let (decided, released, (), ()) = tokio::join!(
            and_stop(batch_loop::run(of_failures, failures, observers.failures, stop.triggered()), &stop),
            and_stop(batch_loop::run(of_delays, releases, observers.delays, stop.triggered()), &stop),
            asked,
            caught_up,
        );
        if let Some(cancels) = Arc::into_inner(tools).and_then(|tools| Arc::into_inner(tools.cancels)) {
            cancels.stop().await;
        }
        decided?;
        released?;
        Ok(())
    }

    /// Refuses to start on topics or offsets that do not fit. Tells the waits that there are topics for.
    async fn check(&self, group: &str, delays: &str) -> Result<Waits, Error> {
        let names = &self.kafka.topics;
        let waits = service::check_topics(&self.kafka, &self.topics, self.leniency).await?;
        let delay_topics: Vec<Topic> = waits.iter().map(|wait| names.delay(wait)).collect();
        let partitions = delay_topics.len() * usize::try_from(self.topics.delay_partitions).unwrap_or(0);
        let read_ahead_kib = partitions * usize::try_from(self.kafka.read_ahead_kib).unwrap_or(0);
        let (topics, most_read_ahead_mib) = (delay_topics.len(), read_ahead_kib / 1024);
        info!(group, delays, delay_topics = topics, most_read_ahead_mib, "wal-retry-scheduler starting");
        service::check_offsets(&self.kafka, group, vec![names.failures()], None).await?;
        service::check_offsets(&self.kafka, delays, delay_topics, None).await?;
        Ok(waits)
    }

    fn tools(&self, waits: Waits, overdue: &Arc<Overdue>) -> Result<Tools<Cluster>, Error> {
        let topics = self.kafka.topics.clone();
        let cancels = Cancels::follow(&self.kafka, &topics, self.keyring.clone()).map_err(batch_loop::Error::Thread)?;
        let directory = Directory::new(&self.kafka).map_err(batch_loop::Error::Client)?;
        let (partitions, replication) = (self.topics.partitions, self.topics.replication);
        tell_of(overdue, &self.metrics);
        Ok(Tools {
            brokers: Cluster { directory, partitions, replication },
            cancels: Arc::new(cancels),
            clock: Arc::new(SystemClock),
            keyring: self.keyring.clone(),
            topics,
            waits,
            config: self.config.clone(),
            meter: Meter::new(self.metrics.clone()),
        })
    }

    /// The embedded broker deletes nothing on demand.
    fn clearing(&self, brokers: &Cluster) -> Option<Clearing> {
        let every = self.config.get().delete_released_every;
        let is_wanted = !every.is_zero() && self.leniency == Leniency::None;
        is_wanted.then(|| Clearing::new(every, brokers.directory.clone()))
    }

    fn options_of_failures(&self, group: String) -> Options {
        let reads = Reads::Lanes(vec![(self.kafka.topics.failures(), 100)]);
        self.options(group, "retry-scheduler", reads, self.config.get().batch_wait)
    }

    fn options_of_delays(&self, group: String, gate: DelayGate) -> Options {
        let (prefix, rate) = (self.kafka.topics.delay_prefix(), self.config.get().ceiling());
        self.options(group, "delays", Reads::Gated { prefix, gate: Arc::new(gate), rate }, Duration::ZERO)
    }

    fn options(&self, group: String, name: &str, reads: Reads, wait: Duration) -> Options {
        let Config { batch_records: records, batch_bytes: bytes, stop_timeout, .. } = *self.config.get();
        Options {
            consumer: kafka::consumer(&self.kafka, &group),
            producer: kafka::transactional(&self.kafka, &kafka::transactional_id(&self.kafka, name)),
            group,
            reads,
            limits: Limits { records, bytes, wait },
            offset_metadata: String::new(),
            start_timeout: self.kafka.start_timeout,
            stop_timeout,
            tick: Some(TICK),
            traces: self.traces.clone(),
        }
    }
}

/// Has every scrape tell of what is overdue then.
fn tell_of(overdue: &Arc<Overdue>, metrics: &Metrics) {
    let retries = metrics.retries();
    let (count, oldest) = (retries.due.clone(), retries.oldest_due.clone());
    let overdue = Arc::downgrade(overdue);
    metrics.before_each_scrape(move || {
        // Gone with the service: nothing is overdue any more that would be ours.
        let (due, age) = overdue.upgrade().map_or_else(Default::default, |overdue| overdue.now(SystemClock.now()));
        count.set(i64::try_from(due).unwrap_or(i64::MAX));
        oldest.set(age.as_secs_f64());
    });
}

/// The gate stands on a thread that no runtime knows.
fn foresee(tools: &Arc<Tools<Cluster>>) -> Box<dyn Fn(&Topic) + Send + Sync> {
    let (runtime, brokers) = (Handle::current(), tools.brokers.clone());
    Box::new(move |target| {
        let _guard = runtime.enter();
        brokers.foresee(std::slice::from_ref(target));
    })
}

/// Runs one of the two, and stops the other when it ends.
async fn and_stop<T>(run: impl Future<Output = T>, stop: &Shutdown) -> T {
    let result = run.await;
    stop.trigger();
    result
}

/// The scheduler as a process of its own.
pub async fn main(file: Option<&Path>) -> Result<(), Error> {
    let process = Process::start("wal-retry-scheduler", file).await?;
    let cancels = process.condition("cancels", "the cancels have not been read to their end yet");
    let traces = process.traces("wal-retry-scheduler", Road::Anew)?;
    let service = Service::new(&process.settings)?.counting(process.metrics.clone()).tracing(traces.clone());
    process.reloads(service.reloads());
    let service = service.when_caught_up(move || cancels.met());
    let observers = Observers {
        failures: process.observer("wal-retry-scheduler"),
        delays: process.observer_of("wal-retry-scheduler-delays"),
    };
    let result = service.run(observers, process.shutdown.triggered()).await;
    process.stopping();
    traces.close().await;
    result
}
