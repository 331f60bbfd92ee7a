//! Everything in one process, for `wal dev` and `wal demo`: started in order, stopped in the opposite one.
//!
//! ```text
//!   start   broker ─▶ store ─▶ gateway, topics ─▶ writer, scheduler, status ─▶ ready: all loops have their partitions
//!   stop    writer, scheduler, status (each finishes, commits, leaves) ─▶ gateway ─▶ store ─▶ broker
//! ```

mod broker;
mod probes;
mod ready;
mod services;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wal_runtime::config::{Kafka, Settings};
use wal_runtime::reload::{Reload, Sources};

use crate::problem::{Exit, Problem};
use crate::settings::{self, Given};
use broker::Broker;
pub use broker::Choice;
pub use probes::Place;
use services::Services;

/// Partitions of each topic on the embedded broker: enough to see that keys have an order and the whole has none.
const PARTITIONS: &str = "3";
/// How long a service may take to finish its batch. A stop must be over within ten seconds, all in all.
const SERVICE_STOP: &str = "2s";

/// What is missing in a cluster and who makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// We do.
    Made,
    /// Nobody: it is an error, and says what to do.
    Told,
}

/// Where entries are kept.
#[derive(Clone, Debug)]
pub enum Store {
    /// In this folder, whatever the settings say.
    Own(PathBuf),
    /// Where the settings say; if that is a folder, in this one.
    Named(PathBuf),
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
    /// Which store.
    pub store: Store,
    /// The key that signs deliveries, in base64.
    pub seal_key: String,
    /// Where the gateway listens, on loopback; 0 takes any free port.
    pub gateway_port: u16,
    /// Where probes, metrics and the status are served.
    pub probes: Place,
}

/// Everything, running.
pub struct Stack {
    broker: Broker,
    settings: Settings,
    services: Services,
    reload: Arc<Reload>,
    started: Instant,
}

impl Stack {
    /// Starts everything. When this returns, broker and gateway listen; the other services are on their way.
    pub async fn start(options: Options) -> Result<Stack, Problem> {
        let started = Instant::now();
        let (broker, bootstrap) = Broker::start(&options.broker).await?;
        let given = given(&options, &bootstrap);
        let settings = settings::load(options.config.as_deref(), &given);
        let services = async {
            let settings = settings?;
            let reload = Reload::new(Sources::new(options.config.as_deref(), given), settings.clone());
            Ok((Services::start(&options, &settings, &reload).await?, settings, reload))
        };
        match services.await {
            Ok((services, settings, reload)) => Ok(Stack { broker, settings, services, reload, started }),
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

    /// What reads the settings again.
    pub fn reload(&self) -> &Arc<Reload> {
        &self.reload
    }

    /// Where the gateway is.
    pub fn gateway_url(&self) -> String {
        format!("http://{}", self.services.gateway_address)
    }

    /// Where probes, metrics and the status are, if they are served.
    pub fn probes_address(&self) -> Option<SocketAddr> {
        self.services.probes_address
    }

    /// Where the cluster is.
    pub fn bootstrap(&self) -> Result<String, Problem> {
        let kafka = Kafka::read(&self.settings).map_err(|error| settings::invalid(&error))?;
        Ok(kafka.bootstrap_servers)
    }

    /// Waits until all loops have their partitions, and says how long it took from the start.
    pub async fn ready(&mut self, limit: Duration) -> Result<Duration, Problem> {
        let is_ready = self.services.is_ready();
        tokio::select! {
            () = is_ready => Ok(self.started.elapsed()),
            problem = self.services.failed() => Err(problem),
            () = tokio::time::sleep(limit) => {
                let what = format!(
                    "get ready within {} s: {} no partitions yet", limit.as_secs(), self.services.waited_for()
                );
                let hint = "do others of the same cluster's services run elsewhere, or is it slow? -v shows the log";
                Err(Problem::new(Exit::Failed, "WAL_NOT_READY", what).hint(hint))
            }
        }
    }

    /// Waits until a service ends though nobody asked it to. Safe to cancel.
    pub async fn failed(&mut self) -> Problem {
        self.services.failed().await
    }

    /// Stops everything, in order, each with a limit. Nothing that was acknowledged is lost by running into one.
    pub async fn stop(self) {
        self.services.stop().await;
        self.broker.stop().await;
    }
}

fn given(options: &Options, bootstrap: &str) -> Given {
    let creates_targets = match options.targets {
        Missing::Made => "true",
        Missing::Told => "false",
    };
    let mut given = vec![
        ("kafka.bootstrap_servers", bootstrap.to_owned()),
        ("seal.signing_key", "dev".to_owned()),
        ("seal.keys.dev", options.seal_key.clone()),
        ("writer.create_missing_targets", creates_targets.to_owned()),
        ("writer.stop_timeout", SERVICE_STOP.to_owned()),
        ("retry_scheduler.stop_timeout", SERVICE_STOP.to_owned()),
        ("status.stop_timeout", SERVICE_STOP.to_owned()),
    ];
    match &options.store {
        Store::Named(folder) => given.push(("store.folder", folder.display().to_string())),
        Store::Own(folder) => {
            given.extend([("store.backend", "embedded".to_owned()), ("store.folder", folder.display().to_string())])
        }
    }
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
