//! Settings of a command: the services' own, with what the command line gives above them.

use std::path::Path;
use std::time::Duration;

use tokio::net::TcpStream;
use wal_runtime::config::{self, Format, Kafka, Log, Settings};
use wal_runtime::logs::{self, Level};
use wal_sdk::{ConnectError, Connection};

use crate::args::Global;
use crate::problem::{Exit, Problem};

/// A person waits: a cluster that is there answers in far less.
const CONNECT: Duration = Duration::from_secs(10);

/// What the command line gives, by key.
pub type Given = Vec<(&'static str, String)>;

/// What the command line gives of the settings.
pub fn given(global: &Global) -> Given {
    global.bootstrap.iter().map(|bootstrap| ("kafka.bootstrap_servers", bootstrap.clone())).collect()
}

/// The settings of a command that is a client.
pub fn of_command(global: &Global) -> Result<Settings, Problem> {
    let settings = load(global.config.as_deref(), &given(global))?;
    start_logs(&settings, global.verbose, Quiet::Silent)?;
    Ok(settings)
}

/// Reads the defaults, the file, the environment, and what is given.
pub fn load(file: Option<&Path>, given: &Given) -> Result<Settings, Problem> {
    let mut environment = Vec::new();
    for (name, value) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        match value.into_string() {
            Ok(value) => environment.push((name, value)),
            Err(_) if name.to_ascii_uppercase().starts_with("WAL__") => {
                return Err(Problem::new(
                    Exit::Usage,
                    "WAL_CONFIG_INVALID",
                    format!("read the variable {name} as UTF-8"),
                ));
            }
            // Whoever it belongs to, it is not for us.
            Err(_) => {}
        }
    }
    Settings::load_from(file, environment.into_iter(), given).map_err(|error| invalid(&error))
}

/// A configuration that cannot be used.
pub fn invalid(error: &config::Error) -> Problem {
    Problem::new(Exit::Usage, "WAL_CONFIG_INVALID", "use the configuration")
        .because(error)
        .hint("config/default.toml has every key with a comment; see --config and WAL__SECTION__KEY variables")
}

/// What is logged where nobody asked for logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiet {
    /// Nothing: a command says itself what matters.
    Silent,
    /// Warnings, for a process that runs for long.
    Warnings,
}

/// Starts the log of this process on standard error. Tells its level where the settings say it, and so may change it.
pub fn start_logs(settings: &Settings, verbose: u8, quiet: Quiet) -> Result<Option<Level>, Problem> {
    let mut log = Log::read(settings).map_err(|error| invalid(&error))?;
    match (verbose, quiet) {
        (0, Quiet::Silent) => return Ok(None),
        // The embedded broker's insides warn of what is normal for us.
        (0, Quiet::Warnings) => log = Log { format: Format::Human, level: "warn,librdkafka=error,tansu=error".into() },
        (1, _) => {}
        (_, _) => log.level = "debug".into(),
    }
    let level = logs::start(&log).map_err(|error| Problem::of(Exit::Failed, "WAL_LOGS", &error))?;
    Ok((verbose == 1).then_some(level))
}

/// The sdk's way to the cluster that the settings name.
pub fn connection(kafka: &Kafka) -> Connection {
    let options = kafka.options.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Connection { options, timeout: kafka.start_timeout.min(CONNECT), ..Connection::to(&kafka.bootstrap_servers) }
}

/// Fails at once where nobody listens; Kafka's client would go on trying until its time is up.
pub async fn reach(kafka: &Kafka) -> Result<(), Problem> {
    let mut refused = None;
    for server in kafka.bootstrap_servers.split(',').map(str::trim) {
        let address = server.split_once("://").map_or(server, |(_, address)| address);
        match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => refused = Some(error),
            // Slow is not gone.
            Err(_) => return Ok(()),
        }
    }
    match refused {
        Some(error) => {
            let what = format!("reach Kafka at {}", kafka.bootstrap_servers);
            let problem = Problem::new(Exit::Failed, "WAL_BROKER_UNREACHABLE", what).because(&error);
            Err(problem.hint(START_OR_SAY))
        }
        None => Ok(()),
    }
}

const START_OR_SAY: &str = "start `wal dev`, or say where Kafka is: --bootstrap host:port";

/// Where the settings have the gateway.
pub fn gateway_url(settings: &Settings) -> Result<String, Problem> {
    let options = wal_gateway::Options::read(settings).map_err(|error| invalid(&error))?;
    Ok(format!("http://{}", options.listen))
}

/// Why there is no connection, and what to do about it.
pub fn no_connection(error: &ConnectError) -> Problem {
    let (exit, code, hint) = match error {
        ConnectError::TopicMissing(_) | ConnectError::PartitionMissing { .. } => (
            Exit::Failed,
            "WAL_TOPIC_MISSING",
            "`wal topics apply` makes the log's topics; see --bootstrap for the cluster",
        ),
        ConnectError::FixedOption(_) | ConnectError::Options(_) => {
            (Exit::Usage, "WAL_CONFIG_INVALID", "see [kafka.options] in config/default.toml")
        }
        ConnectError::Unreachable { .. } | ConnectError::TimedOut(_) | ConnectError::NoTransactions(_) => {
            (Exit::Failed, "WAL_BROKER_UNREACHABLE", START_OR_SAY)
        }
        ConnectError::Thread(_) | ConnectError::Ended => (Exit::Failed, "WAL_FAILED", "the same again; -v shows more"),
    };
    Problem::of(exit, code, error).hint(hint)
}
