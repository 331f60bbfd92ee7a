//! What every service does around its loop: the checks before it, the signs of life beside it, and the words it ends with.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};
use wal_model::Topic;
use wal_model::delay::Waits;

use crate::batch_loop::{self, Observer};
use crate::config::{self, Kafka, Settings, StoreSettings, TopicSettings};
use crate::health::{self, Condition, Health, Heartbeat, Server};
use crate::metrics::{Counting, Metrics};
use crate::overview::{Teller, Unanswered};
use crate::reload::{Part, Reload, Sources};
use crate::shutdown::Shutdown;
use crate::topics::{self, Deviation, Leniency};
use crate::traces::{self, Road, Traces};
use crate::{kafka, lag, logs, offsets};

/// How old the poll thread's last sign of life may be: half of librdkafka's `max.poll.interval.ms`.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// What the metadata of a committed offset begin with. Stored, keep stable.
const STORE: &str = "store=";
const NO_PARTITIONS: &str = "the group has not given this member its partitions yet";
/// How long brokers that do not answer at a start are left alone.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Why a service did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error("failed to {0}")]
    Config(String),
    /// The store could not be opened.
    #[error("could not open the store")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The logs could not be started.
    #[error("could not start the logs")]
    Logs(#[from] logs::Error),
    /// The probes cannot be answered.
    #[error("could not serve health probes")]
    Health(#[from] health::Error),
    /// Traces cannot be told.
    #[error("could not tell traces")]
    Traces(#[from] traces::Error),
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
    /// The group's place in what it reads is gone.
    #[error("{0}")]
    Offsets(String),
    /// The committed offsets were written beside another store.
    #[error(
        "the committed offsets of group {group} belong to store {found}, this is store {own}: \
         give back the folder or the database of that store, or use another kafka.topic_prefix for this one"
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
    #[error("the service stopped")]
    Loop(#[from] batch_loop::Error),
}

impl From<config::Error> for Error {
    fn from(error: config::Error) -> Error {
        // Whole, and without a source: whoever prints the chain of causes would print it twice.
        Error::Config(error.to_string())
    }
}

impl Error {
    fn unreachable(kafka: &Kafka, why: String) -> Error {
        Error::Unreachable { bootstrap: kafka.bootstrap_servers.clone(), why }
    }
}

/// Refuses to start on topics that are missing or do not fit; waits for the brokers as long as a start may. Tells the waits that there
/// are topics for.
pub async fn check_topics(kafka: &Kafka, settings: &TopicSettings, leniency: Leniency) -> Result<Waits, Error> {
    let mut said = String::new();
    let plan = tokio::time::timeout(kafka.start_timeout, async {
        loop {
            match topics::plan(kafka, settings).await {
                Ok(plan) => return plan,
                Err(error) => {
                    warn!(%error, "the brokers do not answer yet");
                    said = format!("; {error}");
                    tokio::time::sleep(ASK_AGAIN).await;
                }
            }
        }
    });
    let Ok(plan) = plan.await else {
        return Err(Error::unreachable(kafka, format!("no answer within {:?}{said}", kafka.start_timeout)));
    };
    let mut refused = Vec::new();
    for deviation in topics::deviations(&plan, leniency) {
        match deviation {
            Deviation::Refuse(sentence) => refused.push(sentence),
            Deviation::Warn(sentence) => warn!("{sentence}"),
        }
    }
    if leniency == Leniency::None {
        topics::warn_of_long_transactions(kafka).await;
    }
    if refused.is_empty() { Ok(topics::waits(&plan, &kafka.topics)) } else { Err(Error::Topics(refused)) }
}

/// What stands beside every committed offset of a service with a store: whose entries the records before it speak of.
pub fn offset_metadata(store: impl Display) -> String {
    format!("{STORE}{store}")
}

/// Refuses a place in what the group reads that is gone, and one that belongs to another store than the service's own, if it has one.
pub async fn check_offsets(
    kafka: &Kafka,
    group: &str,
    topics: Vec<Topic>,
    store: Option<&(dyn Display + Sync)>,
) -> Result<(), Error> {
    let facts = offsets::gather(kafka, group, topics).await;
    let facts =
        facts.map_err(|why| Error::unreachable(kafka, format!("could not read the committed offsets: {why}")))?;
    offsets::decide(group, &facts).map_err(|lost| Error::Offsets(lost.to_string()))?;
    let Some(store) = store else { return Ok(()) };
    let own = offset_metadata(store);
    let Some(other) = facts.into_iter().map(|fact| fact.metadata).find(|found| !found.is_empty() && *found != own)
    else {
        return Ok(());
    };
    let found = other.strip_prefix(STORE).unwrap_or(&other).to_owned();
    Err(Error::OtherStore { group: group.to_owned(), found, own: store.to_string() })
}

/// A service as a process of its own: its settings are read, its logs started, its probes answered and its signals heard.
pub struct Process {
    /// The settings.
    pub settings: Settings,
    /// Triggered by a signal.
    pub shutdown: Shutdown,
    /// What the process counts.
    pub metrics: Metrics,
    health: Health,
    teller: Teller,
    reload: Arc<Reload>,
    assigned: Option<Arc<Condition>>,
    /// Looks how far the loops are behind, where there are some.
    lag: Option<lag::Follower>,
    /// Answers until the process ends, during a stop too.
    _probes: Server,
}

impl Process {
    /// Starts all that for the service of this name; ready is only what the group has given partitions.
    pub async fn start(service: &str, file: Option<&Path>) -> Result<Process, Error> {
        let mut process = Process::without_group(service, file).await?;
        process.assigned = Some(Arc::new(process.condition("assigned", NO_PARTITIONS)));
        let followed = lag::follow(&Kafka::read(&process.settings)?, &process.metrics);
        process.lag = Some(followed.map_err(batch_loop::Error::Client)?);
        Ok(process)
    }

    /// The same for a process that reads no topics. It is ready when the conditions are met that it adds.
    pub async fn without_group(service: &str, file: Option<&Path>) -> Result<Process, Error> {
        let sources = Sources::new(file, Vec::new());
        let settings = sources.load()?;
        let level = logs::start(&config::Log::read(&settings)?)?;
        let shutdown = Shutdown::on_signals()?;
        let reload = Reload::new(sources, settings.clone());
        reload.add(level.part());
        // What every start reads, so that what would keep the process from starting again is told now.
        reload.add(Box::new(|settings| {
            Kafka::read(settings)?;
            TopicSettings::read(settings)?;
            StoreSettings::read(settings)?;
            config::Health::read(settings)?;
            config::Traces::read(settings)?;
            Ok(Box::new(|| {}))
        }));
        reload.on_hangup()?;
        let health = Health::new();
        let (metrics, listen) = (Metrics::new(), config::Health::read(&settings)?.listen);
        let instance = kafka::instance(&Kafka::read(&settings)?).to_owned();
        let teller = Teller::new(service, &instance, health.clone(), metrics.clone());
        let probes = health::serve(listen, teller.clone(), shutdown.clone()).await?;
        if let Some(address) = probes.address() {
            info!(%address, "health probes, metrics and status");
        }
        Ok(Process { settings, shutdown, metrics, health, teller, reload, assigned: None, lag: None, _probes: probes })
    }

    /// Has the status tell what waits for an answer, which is asked of the store whenever somebody asks the process.
    pub fn tells_unanswered<F>(&self, ask: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Unanswered> + Send + 'static,
    {
        self.teller.asks(ask);
    }

    /// Has a part of the service take over what changes when the configuration is read again, which a SIGHUP asks for.
    pub fn reloads(&self, part: Part) {
        self.reload.add(part);
    }

    /// One more condition of being ready, not met yet.
    pub fn condition(&self, name: &'static str, why: &str) -> Condition {
        let condition = self.health.condition(name);
        condition.unmet(why);
        condition
    }

    /// Who tells the probes and the metrics how the loop of a service is doing.
    pub fn observer(&self, service: &'static str) -> Arc<dyn Observer> {
        let heartbeat = self.health.heartbeat("poll", HEARTBEAT);
        let assigned = self.assigned.clone();
        let assigned = assigned.unwrap_or_else(|| Arc::new(self.condition("assigned", NO_PARTITIONS)));
        let signs = Signs { heartbeat, assigned: Box::new(move || assigned.met()) };
        Arc::new(Counting::new(&self.metrics, service, Arc::new(signs)))
    }

    /// The same for one more loop: the service is ready only when this one has partitions, too.
    pub fn observer_of(&self, name: &'static str) -> Arc<dyn Observer> {
        observer_of(&self.health, &self.metrics, name, || {})
    }

    /// Where the steps of this service are told, if the configuration names a collector. Whoever takes it closes it.
    pub fn traces(&self, service: &'static str, road: Road) -> Result<Traces, Error> {
        let (settings, kafka) = (config::Traces::read(&self.settings)?, Kafka::read(&self.settings)?);
        Ok(Traces::start(&settings, service, kafka::instance(&kafka), road, &self.metrics)?)
    }

    /// The loop is over: not ready any more.
    pub fn stopping(&self) {
        self.health.stopping();
    }
}

/// Who tells these probes and metrics how a loop is doing, one of several in a process: ready is only what all of them have given
/// partitions. Calls `assigned` when this one has some.
pub fn observer_of(
    health: &Health,
    metrics: &Metrics,
    name: &'static str,
    assigned: impl Fn() + Send + Sync + 'static,
) -> Arc<dyn Observer> {
    let condition = health.condition(name);
    condition.unmet(NO_PARTITIONS);
    let assigned = move || {
        condition.met();
        assigned();
    };
    let signs = Signs { heartbeat: health.heartbeat(name, HEARTBEAT), assigned: Box::new(assigned) };
    Arc::new(Counting::new(metrics, name, Arc::new(signs)))
}

struct Signs {
    heartbeat: Heartbeat,
    assigned: Box<dyn Fn() + Send + Sync>,
}

impl Observer for Signs {
    fn polled(&self) {
        self.heartbeat.beat();
    }

    fn assigned(&self) {
        (self.assigned)();
    }
}
