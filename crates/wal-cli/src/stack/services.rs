//! The services of a stack, each a task of this process.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use wal_gateway::{Gateway, Means};
use wal_model::{Clock as _, SystemClock};
use wal_runtime::batch_loop::Observer;
use wal_runtime::config::Settings;
use wal_runtime::health::Health;
use wal_runtime::metrics::Metrics;
use wal_runtime::overview::STORE;
use wal_runtime::reload::Reload;
use wal_runtime::service::{self, Error};
use wal_runtime::shutdown::Shutdown;
use wal_runtime::topics::Leniency;
use wal_store::EntryStore;

use super::probes::Probes;
use super::ready::Ready;
use super::{Missing, Options};
use crate::problem::{Exit, Problem};
use crate::stack::Choice;
use crate::topics;

/// How long a service may take to finish its batch and leave its group.
const LOOP_LIMIT: Duration = Duration::from_secs(5);
/// Whoever asks the gateway may be cut off: who has no answer does not count on anything.
const GATEWAY_LIMIT: Duration = Duration::from_secs(1);

/// All of them.
pub struct Services {
    /// Where the gateway listens.
    pub gateway_address: SocketAddr,
    /// Where probes, metrics and the status are, if they are served.
    pub probes_address: Option<SocketAddr>,
    probes: Probes,
    store: Arc<dyn EntryStore>,
    writer: Service,
    scheduler: Service,
    status: Service,
    gateway: Service,
    loops: [(&'static str, Ready); 4],
}

/// A service in this process.
struct Service {
    name: &'static str,
    shutdown: Shutdown,
    task: JoinHandle<Result<(), Problem>>,
}

impl Services {
    /// Starts them. When this returns, the gateway listens; the others make the topics first, if that is theirs to do.
    pub async fn start(options: &Options, settings: &Settings, reload: &Reload) -> Result<Services, Problem> {
        let (health, metrics) = (Health::new(), Metrics::new());
        let (answers, cancels) = (Arc::new(health.condition(STORE)), health.condition("cancels"));
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, options.gateway_port));
        let store = crate::store::open(settings).await?;
        answers.met();
        let gateway = Gateway::bind(listen, Arc::clone(&store)).map_err(|error| no_gateway(&error))?;
        let gateway_address = gateway.address();
        let probes = Probes::start(options.probes, settings, &health, &metrics).await?;
        let asked = Arc::clone(&store);
        probes.asks(move || {
            let asked = Arc::clone(&asked);
            async move { wal_gateway::oldest_unanswered(&*asked, SystemClock.now()).await }
        });
        let watch = || {
            let answers = Arc::clone(&answers);
            move |is_answering| match is_answering {
                true => answers.met(),
                false => answers.unmet("the store does not answer"),
            }
        };
        let writer = wal_writer::Service::new(settings, Arc::clone(&store)).map_err(ended("writer"))?;
        let scheduler = wal_retry_scheduler::Service::new(settings).map_err(ended("retry scheduler"))?;
        let status = wal_status::Service::new(settings, Arc::clone(&store)).map_err(ended("status service"))?;
        reload.add(writer.reloads());
        reload.add(scheduler.reloads());
        reload.add(status.reloads());
        let (writer, scheduler, status) = match options.broker {
            Choice::Embedded { .. } => (writer.lenient(), scheduler.lenient(), status.lenient()),
            Choice::Given(_) => (writer, scheduler, status),
        };
        let writer = writer.counting(metrics.clone()).watch_store(watch());
        let scheduler = scheduler.counting(metrics.clone()).when_caught_up(move || cancels.met());
        let status = status.counting(metrics.clone()).watch_store(watch());
        let means = Means::read(settings).map_err(|error| no_means(&error))?;
        let gateway = gateway.writing(means).counting(metrics.clone());
        let [writes, failures, delays, folds] = std::array::from_fn(|_| Ready::default());
        let observer = |name: &'static str, ready: &Ready| -> Arc<dyn Observer> {
            let ready = ready.clone();
            service::observer_of(&health, &metrics, name, move || ready.set())
        };
        let observers = wal_retry_scheduler::Observers {
            failures: observer("wal-retry-scheduler", &failures),
            delays: observer("wal-retry-scheduler-delays", &delays),
        };
        let (of_writer, of_status) = (observer("wal-writer", &writes), observer("wal-status", &folds));
        let topics = Topics::of(options, settings);
        Ok(Services {
            gateway_address,
            probes_address: probes.address(),
            probes,
            store,
            writer: Service::after(&topics, "writer", |stop| writer.run(of_writer, stop)),
            scheduler: Service::after(&topics, "retry scheduler", |stop| scheduler.run(observers, stop)),
            status: Service::after(&topics, "status service", |stop| status.run(of_status, stop)),
            gateway: Service::spawn("gateway", |stop| async move {
                gateway.run(async move { stop.triggered().await }).await.map_err(|error| no_gateway(&error))
            }),
            loops: [("the writer", writes), ("failures", failures), ("delays", delays), ("the status service", folds)],
        })
    }

    /// Ends when all loops have their partitions.
    pub fn is_ready(&self) -> impl Future<Output = ()> + use<> {
        let loops = self.loops.clone();
        async move {
            for (_, ready) in loops {
                ready.wait().await;
            }
        }
    }

    /// The loops that have no partitions yet, as the beginning of a sentence.
    pub fn waited_for(&self) -> String {
        let waited_for: Vec<_> =
            self.loops.iter().filter(|(_, ready)| !ready.is_set()).map(|(name, _)| *name).collect();
        let verb = if waited_for.len() == 1 { "has" } else { "have" };
        format!("{} {verb}", waited_for.join(", "))
    }

    /// Waits until one ends though nobody asked it to. Safe to cancel.
    pub async fn failed(&mut self) -> Problem {
        tokio::select! {
            problem = self.writer.failed() => problem,
            problem = self.scheduler.failed() => problem,
            problem = self.status.failed() => problem,
            problem = self.gateway.failed() => problem,
        }
    }

    /// Stops them.
    pub async fn stop(self) {
        self.probes.stopping();
        tokio::join!(self.writer.stop(LOOP_LIMIT), self.scheduler.stop(LOOP_LIMIT), self.status.stop(LOOP_LIMIT));
        self.gateway.stop(GATEWAY_LIMIT).await;
        // Asked to the last, and it holds the store, too.
        drop(self.probes);
        drop(self.store);
    }
}

/// The log's topics, which are made once, by whichever service comes first.
#[derive(Clone)]
struct Topics {
    made: Arc<tokio::sync::OnceCell<()>>,
    missing: Missing,
    leniency: Leniency,
    settings: Settings,
}

impl Topics {
    fn of(options: &Options, settings: &Settings) -> Topics {
        let leniency = options.broker.leniency();
        Topics { made: Arc::default(), missing: options.topics, leniency, settings: settings.clone() }
    }

    async fn make(&self) -> Result<(), Problem> {
        let make = || async {
            match self.missing {
                Missing::Made => topics::make(&self.settings, self.leniency).await,
                Missing::Told => Ok(()),
            }
        };
        self.made.get_or_try_init(make).await.copied()
    }
}

impl Service {
    /// One that runs when the topics are made.
    fn after<F>(topics: &Topics, name: &'static str, run: impl FnOnce(Stop) -> F + Send + 'static) -> Service
    where
        F: Future<Output = Result<(), Error>> + Send,
    {
        let topics = topics.clone();
        Service::spawn(name, move |shutdown| async move {
            tokio::select! {
                made = topics.make() => made?,
                () = shutdown.triggered() => return Ok(()),
            }
            run(Box::pin(async move { shutdown.triggered().await })).await.map_err(ended(name))
        })
    }

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

/// What tells a service to stop.
type Stop = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

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

fn no_means(error: &wal_gateway::ConnectError) -> Problem {
    match error {
        wal_gateway::ConnectError::Config(error) => crate::settings::invalid(error),
        wal_gateway::ConnectError::Client(_) | wal_gateway::ConnectError::Thread(_) => {
            Problem::of(Exit::Failed, "WAL_GATEWAY", error).hint("-v shows the log")
        }
    }
}

/// Why a service did not start, or ended.
fn ended(name: &'static str) -> impl Fn(Error) -> Problem {
    move |error| {
        let of = |exit, code| Problem::new(exit, code, format!("run the {name}")).because(&error);
        match &error {
            Error::Config(_) => {
                of(Exit::Usage, "WAL_CONFIG_INVALID").hint("config/default.toml has every key with a comment")
            }
            Error::OtherStore { .. } => of(Exit::Failed, "WAL_STORE_OTHER").hint(
                "--data with the folder that has that store; or, to begin anew, a `kafka.topic_prefix` of its own",
            ),
            Error::Topics(_) => of(Exit::Failed, "WAL_TOPICS_UNFIT")
                .hint("`wal topics plan` shows what is missing; `wal dev --kafka HOST:PORT --create-topics` makes it"),
            Error::Offsets(_) => of(Exit::Failed, "WAL_OFFSETS_MISSING").hint("`wal topics apply --adopt`"),
            Error::Unreachable { .. } => {
                of(Exit::Failed, "WAL_BROKER_UNREACHABLE").hint("is Kafka running there? See --kafka")
            }
            Error::Store(_)
            | Error::Logs(_)
            | Error::Health(_)
            | Error::Traces(_)
            | Error::Signals(_)
            | Error::Loop(_) => of(Exit::Failed, "WAL_SERVICE_ENDED")
                .hint("the same again; nothing that was acknowledged is lost. -v shows the log"),
        }
    }
}
