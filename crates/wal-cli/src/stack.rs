//! Everything in one process, for `wal dev` and `wal demo`: started in order, stopped in the opposite one.
//!
//! ```text
//!   start   broker ─▶ topics ─▶ store ─▶ gateway, writer ─▶ ready: the writer has its partitions
//!   stop    writer (finishes, commits, leaves) ─▶ gateway ─▶ store ─▶ broker
//! ```

mod broker;
mod ready;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use wal_gateway::Gateway;
use wal_runtime::config::{Kafka, Settings};
use wal_runtime::shutdown::Shutdown;
use wal_runtime::topics::Leniency;
use wal_store::EntryStore;
use wal_store::embedded::Embedded;

use crate::problem::{Exit, Problem};
use crate::settings::{self, Given};
use crate::topics;
use broker::Broker;
pub use broker::Choice;
use ready::Ready;

/// Partitions of each topic on the embedded broker: enough to see that keys have an order and the whole has none.
const PARTITIONS: &str = "3";
/// How long the writer may take to finish its batch. A stop must be over within ten seconds, all in all.
const WRITER_STOP: &str = "2s";
/// The above, and leaving the group.
const WRITER_LIMIT: Duration = Duration::from_secs(5);
/// A reader of the gateway may be cut off: it only reads.
const GATEWAY_LIMIT: Duration = Duration::from_secs(1);

/// What is missing in a cluster and who makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// We do.
    Made,
    /// Nobody: it is an error, and says what to do.
    Told,
}

/// What to start.
#[derive(Debug)]
pub struct Options {
    /// A configuration file.
    pub config: Option<PathBuf>,
    /// Which broker.
    pub broker: Choice,
    /// What to do about missing topics of the log.
    pub topics: Missing,
    /// What to do about missing targets.
    pub targets: Missing,
    /// The folder of the store.
    pub store: PathBuf,
    /// The key that signs deliveries, in base64.
    pub seal_key: String,
    /// Where the gateway listens, on loopback; 0 takes any free port.
    pub gateway_port: u16,
}

/// Everything, running.
pub struct Stack {
    broker: Broker,
    settings: Settings,
    gateway_address: SocketAddr,
    is_ready: Ready,
    started: Instant,
    store: Arc<dyn EntryStore>,
    writer: Service,
    gateway: Service,
}

/// A service in this process.
struct Service {
    name: &'static str,
    shutdown: Shutdown,
    task: JoinHandle<Result<(), Problem>>,
}

impl Stack {
    /// Starts everything. When this returns, broker and gateway listen; the writer is on its way.
    pub async fn start(options: Options) -> Result<Stack, Problem> {
        let started = Instant::now();
        let (broker, bootstrap) = Broker::start(&options.broker).await?;
        match services(&options, &bootstrap, started).await {
            Ok(services) => Ok(services.over(broker)),
            Err(problem) => {
                broker.stop().await;
                Err(problem)
            }
        }
    }

    /// The settings that everything runs with.
    #[cfg(feature = "embedded-broker")]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where the gateway is.
    pub fn gateway_url(&self) -> String {
        format!("http://{}", self.gateway_address)
    }

    /// Where the cluster is.
    pub fn bootstrap(&self) -> Result<String, Problem> {
        let kafka = Kafka::read(&self.settings).map_err(|error| settings::invalid(&error))?;
        Ok(kafka.bootstrap_servers)
    }

    /// Waits until the writer has its partitions, and says how long it took from the start.
    pub async fn ready(&mut self, limit: Duration) -> Result<Duration, Problem> {
        let mut is_ready = self.is_ready.clone();
        tokio::select! {
            () = is_ready.wait() => Ok(self.started.elapsed()),
            problem = self.failed() => Err(problem),
            () = tokio::time::sleep(limit) => {
                let what = format!("get ready within {} s: the writer has no partitions yet", limit.as_secs());
                let hint = "is another writer of the same cluster running, or the cluster slow? -v shows the log";
                Err(Problem::new(Exit::Failed, "WAL_NOT_READY", what).hint(hint))
            }
        }
    }

    /// Waits until a service ends though nobody asked it to. Safe to cancel.
    pub async fn failed(&mut self) -> Problem {
        tokio::select! {
            problem = self.writer.failed() => problem,
            problem = self.gateway.failed() => problem,
        }
    }

    /// Stops everything, in order, each with a limit. Nothing that was acknowledged is lost by running into one.
    pub async fn stop(self) {
        self.writer.stop(WRITER_LIMIT).await;
        self.gateway.stop(GATEWAY_LIMIT).await;
        drop(self.store);
        self.broker.stop().await;
    }
}

/// All but the broker.
struct Services {
    settings: Settings,
    gateway_address: SocketAddr,
    is_ready: Ready,
    started: Instant,
    store: Arc<dyn EntryStore>,
    writer: Service,
    gateway: Service,
}

impl Services {
    fn over(self, broker: Broker) -> Stack {
        let Services { settings, gateway_address, is_ready, started, store, writer, gateway } = self;
        Stack { broker, settings, gateway_address, is_ready, started, store, writer, gateway }
    }
}

async fn services(options: &Options, bootstrap: &str, started: Instant) -> Result<Services, Problem> {
    let settings = settings::load(options.config.as_deref(), &given(options, bootstrap))?;
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, options.gateway_port));
    let store: Arc<dyn EntryStore> = Arc::new(Embedded::open(&options.store).map_err(|error| no_store(&error))?);
    let gateway = Gateway::bind(listen, Arc::clone(&store)).map_err(|error| no_gateway(&error))?;
    let writer = wal_writer::Service::new(&settings, Arc::clone(&store)).map_err(|error| writer_ended(&error))?;
    let writer = match options.broker {
        Choice::Embedded { .. } => writer.lenient(),
        Choice::Given(_) => writer,
    };
    let is_ready = Ready::default();
    let observer = Arc::new(is_ready.clone());
    let gateway_address = gateway.address();
    let gateway = Service::spawn("gateway", |shutdown| async move {
        gateway.run(async move { shutdown.triggered().await }).await.map_err(|error| no_gateway(&error))
    });
    let (missing, leniency, of_topics) = (options.topics, options.broker.leniency(), settings.clone());
    let writer = Service::spawn("writer", move |shutdown| async move {
        tokio::select! {
            made = make_topics(missing, &of_topics, leniency) => made?,
            () = shutdown.triggered() => return Ok(()),
        }
        let ended = writer.run(observer, async move { shutdown.triggered().await }).await;
        ended.map_err(|error| writer_ended(&error))
    });
    Ok(Services { settings, gateway_address, is_ready, started, store, writer, gateway })
}

async fn make_topics(missing: Missing, settings: &Settings, leniency: Leniency) -> Result<(), Problem> {
    match missing {
        Missing::Made => topics::make(settings, leniency).await,
        Missing::Told => Ok(()),
    }
}

fn given(options: &Options, bootstrap: &str) -> Given {
    let creates_targets = match options.targets {
        Missing::Made => "true",
        Missing::Told => "false",
    };
    let mut given = vec![
        ("kafka.bootstrap_servers", bootstrap.to_owned()),
        ("store.backend", "embedded".to_owned()),
        ("store.folder", options.store.display().to_string()),
        ("seal.signing_key", "dev".to_owned()),
        ("seal.keys.dev", options.seal_key.clone()),
        ("writer.create_missing_targets", creates_targets.to_owned()),
        ("writer.stop_timeout", WRITER_STOP.to_owned()),
    ];
    match &options.broker {
        Choice::Embedded { .. } => given.extend([
            // The next life is the same instance, so that the broker ends this one's open transaction at once.
            ("kafka.instance", "dev".to_owned()),
            ("topics.partitions", PARTITIONS.to_owned()),
            ("topics.delay_partitions", "1".to_owned()),
            ("topics.replication", "1".to_owned()),
            ("topics.min_insync_replicas", "1".to_owned()),
        ]),
        Choice::Given(_) => {}
    }
    given
}

impl Service {
    fn spawn<F>(name: &'static str, run: impl FnOnce(Shutdown) -> F) -> Service
    where
        F: Future<Output = Result<(), Problem>> + Send + 'static,
    {
        let shutdown = Shutdown::new();
        let task = tokio::spawn(run(shutdown.clone()));
        Service { name, shutdown, task }
    }

    async fn failed(&mut self) -> Problem {
        let name = self.name;
        match (&mut self.task).await {
            Ok(Err(problem)) => problem,
            Ok(Ok(())) => Problem::new(Exit::Failed, "WAL_SERVICE_ENDED", format!("keep the {name} running: it ended")),
            Err(error) => {
                Problem::new(Exit::Failed, "WAL_SERVICE_ENDED", format!("keep the {name} running")).because(&error)
            }
        }
    }

    async fn stop(mut self, limit: Duration) {
        if self.task.is_finished() {
            return;
        }
        self.shutdown.trigger();
        if tokio::time::timeout(limit, &mut self.task).await.is_err() {
            tracing::warn!(service = self.name, ?limit, "did not stop in time and was left");
            self.task.abort();
        }
    }
}

fn no_store(error: &wal_store::embedded::OpenError) -> Problem {
    Problem::of(Exit::Failed, "WAL_STORE_UNUSABLE", error).hint("another folder: --data FOLDER")
}

fn no_gateway(error: &wal_gateway::Error) -> Problem {
    let (code, hint) = match error {
        wal_gateway::Error::Taken(_) => {
            ("WAL_PORT_TAKEN", "another port for the gateway: --gateway-port 0 takes a free one")
        }
        wal_gateway::Error::Remote(_) | wal_gateway::Error::Listen { .. } => ("WAL_GATEWAY", "another --gateway-port"),
    };
    let what = match error {
        wal_gateway::Error::Taken(address) => format!("have the gateway listen on {address}: the port is taken"),
        wal_gateway::Error::Remote(_) | wal_gateway::Error::Listen { .. } => error.to_string(),
    };
    Problem::new(Exit::Failed, code, what).hint(hint)
}

fn writer_ended(error: &wal_writer::Error) -> Problem {
    use wal_writer::Error;
    let of = |exit, code| Problem::new(exit, code, "run the writer").because(error);
    match error {
        Error::Config(_) => {
            of(Exit::Usage, "WAL_CONFIG_INVALID").hint("config/default.toml has every key with a comment")
        }
        Error::OtherStore { .. } => of(Exit::Failed, "WAL_STORE_OTHER")
            .hint("--data with the folder that has that store; or, to begin anew, a `kafka.topic_prefix` of its own"),
        Error::Topics(_) => of(Exit::Failed, "WAL_TOPICS_UNFIT")
            .hint("`wal topics plan` shows what is missing; `wal dev --kafka HOST:PORT --create-topics` makes it"),
        Error::Offsets(_) => of(Exit::Failed, "WAL_OFFSETS_MISSING").hint("`wal topics apply --adopt`"),
        Error::Unreachable { .. } => {
            of(Exit::Failed, "WAL_BROKER_UNREACHABLE").hint("is Kafka running there? See --kafka")
        }
        Error::Store(_) | Error::Logs(_) | Error::Health(_) | Error::Signals(_) | Error::Loop(_) => {
            of(Exit::Failed, "WAL_SERVICE_ENDED")
                .hint("the same again; nothing that was acknowledged is lost. -v shows the log")
        }
    }
}
