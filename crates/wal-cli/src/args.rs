//! The command line.

mod act;
mod config;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use wal_model::lifecycle::Seconds;
use wal_model::{Backoff, Id, Namespace, Priority, Tenant, Topic};

use crate::moment::Moment;
use crate::paint::When;
use crate::screen::Format;

pub use act::{Cancel, Complete, Fail, Rescue, Retry, Stuck, Unfinished};
pub use config::{Completions, Config, Explain, Print, Written};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed, or everything was refused
  2  the command line or the configuration makes no sense
  3  partial: some requests were refused
  4  unknown: no receipt or answer came in time; the same again is harmless, and makes sure
  5  not found
  6  too late: the entry is finished, or the attempt is answered already

Results go to standard output, everything else to standard error. With `-o json` every
result is one line of JSON, with field names that stay.

Start here:
  wal demo    the whole story in one process, in a few seconds
  wal dev     a log to work with, on this machine, nothing else to install";

/// The hand of the Kafka-native write-ahead log: write, follow, look up, set up.
#[derive(Debug, Parser)]
#[command(name = "wal", version, about, after_help = EXIT_CODES, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// How results are written to standard output: table or json
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        hide_possible_values = true,
        default_value_t,
        value_name = "FORMAT",
        help_heading = "Global options"
    )]
    pub output: Format,
    /// When to colour: auto, always or never; NO_COLOR is heeded
    #[arg(
        long,
        global = true,
        value_enum,
        hide_possible_values = true,
        default_value_t,
        value_name = "WHEN",
        help_heading = "Global options"
    )]
    pub color: When,
    /// A configuration file, as the services take it; WAL__SECTION__KEY variables work too
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// The Kafka cluster, instead of `kafka.bootstrap_servers`
    #[arg(long, global = true, value_name = "HOST:PORT", help_heading = "Global options")]
    pub bootstrap: Option<String>,
    /// The gateway, instead of where `gateway.listen` says
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub gateway: Option<String>,
    /// Show what the services log: once their log as configured, twice also debug
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// See the whole story in one process: requests, receipts, deliveries, retries, a cancel, an expiry
    Demo(Demo),
    /// Run the whole log on this machine: broker, store, services, gateway
    Dev(Dev),
    /// Write an entry, or a file of requests, and wait for the receipts
    Write(Box<Write>),
    /// Follow a target topic: its deliveries, decoded
    Tail(Tail),
    /// Look up entries
    #[command(subcommand)]
    Entry(Entry),
    /// List what was delivered and is unanswered for long
    Stuck(Stuck),
    /// Answer for a consumer: the attempt under way is done
    Complete(Complete),
    /// Answer for a consumer: the attempt under way has failed
    Fail(Fail),
    /// Have the next attempt made at once, instead of waiting for an answer to the one under way
    Retry(Retry),
    /// Have an entry not delivered any more
    Cancel(Cancel),
    /// Deliver again, from the store, what a topic has lost; shows first what it would do
    Rescue(Rescue),
    /// Plan, make and check the topics of the log
    #[command(subcommand)]
    Topics(Topics),
    /// Ask a service whether it is ready, as a container's health check does: exit 0 or 1
    Healthy(Healthy),
    /// Show on one screen how the services are doing: who is ready, how far the groups are behind, what went wrong last
    Status(Status),
    /// Show, check and explain the configuration
    #[command(subcommand)]
    Config(Config),
    /// Tell what the code of an error means, who must do what, and whether trying again helps
    Explain(Explain),
    /// Measure what the log runs on
    #[command(subcommand)]
    Bench(Bench),
    /// Plan, make and check what the store needs of its database
    #[command(subcommand)]
    Store(Store),
    /// Print a script with which a shell completes this command line
    Completions(Completions),
    /// Write the man pages
    Man(Written),
    /// Write the references of configuration, command line and error codes, in Markdown
    Reference(Written),
}

/// `wal demo`
#[derive(Debug, Args)]
pub struct Demo {
    /// Keep the folder that the demo made, and say where it is
    #[arg(long)]
    pub keep: bool,
}

/// `wal dev`
#[derive(Debug, Args)]
#[command(
    after_help = "Ctrl-C stops it cleanly; kill -9 loses nothing that was acknowledged. Not for production: one process, \
                        no authentication. Away from a terminal, SIGHUP has it read its configuration again."
)]
pub struct Dev {
    /// Where the embedded broker listens, on 127.0.0.1; 0 takes any free port
    #[arg(long, default_value_t = 9092, conflicts_with = "kafka")]
    pub port: u16,
    /// Where the gateway listens, on 127.0.0.1; 0 takes any free port
    #[arg(long, default_value_t = 8080)]
    pub gateway_port: u16,
    /// Where probes, metrics and the status are, on 127.0.0.1; 0 takes any free port [default: 9464, or a free one if that is taken]
    #[arg(long, value_name = "PORT")]
    pub health_port: Option<u16>,
    /// The folder that keeps everything
    #[arg(long, value_name = "FOLDER", default_value = "./.wal")]
    pub data: PathBuf,
    /// Keep nothing: a temporary folder, removed at the end
    #[arg(long, conflicts_with = "data")]
    pub ephemeral: bool,
    /// Use this cluster instead of the embedded broker
    #[arg(long, value_name = "HOST:PORT")]
    pub kafka: Option<String>,
    /// With --kafka: make the log's topics where they are missing
    #[arg(long, requires = "kafka")]
    pub create_topics: bool,
    /// With --kafka: make target topics that requests name and that are missing
    #[arg(long, requires = "kafka")]
    pub create_targets: bool,
}

/// `wal write`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wal write orders --target order_events --payload '{\"operation\":\"create_order\",\"order_id\":7}'
  wal write orders --target order_events --payload @order.json --idempotency-key order-7
  wal write --file requests.ndjson -o json")]
pub struct Write {
    /// The namespace
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    pub namespace: Option<Namespace>,
    /// Requests in plain JSON, one a line, sent as they are; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ONE_REQUEST)]
    pub file: Option<PathBuf>,
    /// The payload: JSON, @file, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-", default_value = "{}")]
    pub payload: String,
    /// The topic it is delivered to, instead of the policy's
    #[arg(long)]
    pub target: Option<Topic>,
    /// Ordering key: entries with the same one keep their order
    #[arg(long)]
    pub key: Option<String>,
    /// Retries allowed [policy: 3]
    #[arg(long, value_name = "N", help_heading = "Lifecycle")]
    pub retry_count: Option<u32>,
    /// Seconds before the first retry [policy: 60]
    #[arg(long, value_name = "SECONDS", help_heading = "Lifecycle")]
    pub delay: Option<Seconds>,
    /// How the delay grows: exponential, linear, fixed [policy: exponential]
    #[arg(long, help_heading = "Lifecycle")]
    pub backoff: Option<Backoff>,
    /// Seconds until it expires [policy: 604800]
    #[arg(long, value_name = "SECONDS", help_heading = "Lifecycle")]
    pub ttl: Option<Seconds>,
    /// high, normal or low [policy: normal]
    #[arg(long, help_heading = "Lifecycle")]
    pub priority: Option<Priority>,
    /// Links related operations
    #[arg(long, value_name = "ID", help_heading = "Identity")]
    pub correlation_id: Option<Id>,
    /// The same key again is the same operation, written once
    #[arg(long, value_name = "KEY", help_heading = "Identity")]
    pub idempotency_key: Option<Id>,
    /// The same id again is the same request [default: made up]
    #[arg(long, value_name = "ID", help_heading = "Identity")]
    pub request_id: Option<Id>,
    /// Who it belongs to
    #[arg(long, help_heading = "Identity")]
    pub tenant: Option<Tenant>,
    /// Who writes it
    #[arg(long, help_heading = "Identity")]
    pub user: Option<Id>,
    /// How long to wait for a receipt, such as 30s
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub timeout: Duration,
}

const ONE_REQUEST: [&str; 12] = [
    "payload",
    "target",
    "key",
    "retry_count",
    "delay",
    "backoff",
    "ttl",
    "correlation_id",
    "idempotency_key",
    "request_id",
    "tenant",
    "user",
];

/// `wal tail`
#[derive(Debug, Args)]
pub struct Tail {
    /// The target topic
    pub target: Topic,
    /// Where to begin: beginning or end
    #[arg(long, value_enum, hide_possible_values = true, default_value_t)]
    pub from: From,
    /// Stop after so many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max: Option<u64>,
    /// Share the target with this consumer group and go on where it got to, instead of --from
    #[arg(long, conflicts_with = "from")]
    pub group: Option<String>,
}

/// Where to begin to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum From {
    /// With all that is there.
    Beginning,
    /// With what comes now.
    #[default]
    End,
}

/// `wal entry`
#[derive(Debug, Subcommand)]
pub enum Entry {
    /// Show one entry, or the entries of one request
    Show(Show),
    /// List the entries of a namespace, oldest first
    List(List),
}

/// `wal entry show`
#[derive(Debug, Args)]
pub struct Show {
    /// A log id; or, with --namespace, a request id or idempotency key
    pub id: String,
    /// The namespace of the request
    #[arg(long, value_name = "NS")]
    pub namespace: Option<Namespace>,
    /// The tenant it belongs to
    #[arg(long)]
    pub tenant: Option<Tenant>,
}

/// `wal entry list`
#[derive(Debug, Args)]
#[command(after_help = "Times: now, -2h, -1h30m, 2026-11-23, 2026-11-23T10:00:00Z")]
pub struct List {
    /// The namespace
    pub namespace: Namespace,
    /// Written at or after this time
    #[arg(long, value_name = "TIME", default_value = "-1h", allow_hyphen_values = true)]
    pub from: Moment,
    /// Written before this time
    #[arg(long, value_name = "TIME", default_value = "now", allow_hyphen_values = true)]
    pub to: Moment,
    /// The most entries to list
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: u64,
    /// Only those of this tenant
    #[arg(long)]
    pub tenant: Option<Tenant>,
}

/// `wal healthy`
#[derive(Debug, Args)]
pub struct Healthy {
    /// Where the service answers probes, instead of where `health.listen` says
    #[arg(value_name = "URL")]
    pub url: Option<String>,
}

/// `wal status`
#[derive(Debug, Args)]
#[command(after_help = "\
Behind: offsets between what a group has committed and the end. Oldest: how long the first of them has been there, as far
as the service has seen. Of the delay topics both tell what waits, due or not. Oldest unanswered: of the unfinished entries
that were written first, the attempt that has been due for longest; a gateway tells it, or wal dev.

Exit code 1 if a service does not answer, does not live or is not ready.")]
pub struct Status {
    /// Where a service answers probes; repeat it for each, instead of `health.endpoints`
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    pub at: Vec<String>,
    /// Ask again and again, every 2 seconds or as many as given, until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = seconds)]
    pub watch: Option<Duration>,
}

/// `wal topics`
#[derive(Debug, Subcommand)]
pub enum Topics {
    /// Show what `apply` would do
    Plan,
    /// Make missing topics, and start our groups at their beginning
    Apply(Adopt),
    /// Check that all topics are there and fit; changes nothing
    Check,
    /// Show what each service must be allowed at brokers that ask, as commands of Kafka's own tool; changes nothing
    Acls(Acls),
}

/// `wal topics acls`
#[derive(Debug, Args)]
pub struct Acls {
    /// Topics that requests may name as target, or for their receipts; `orders.*` means all that begin so
    #[arg(long = "target", value_name = "TOPIC", default_value = "*")]
    pub targets: Vec<String>,
    /// What the names of the services' users begin with, as in `wal-writer`
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub user_prefix: String,
}

/// What `wal topics apply` may do beside making topics.
#[derive(Debug, Args)]
pub struct Adopt {
    /// Where a group of ours has lost its place, let it begin at the start of what is there
    #[arg(long)]
    pub adopt: bool,
}

/// `wal store`
#[derive(Debug, Subcommand)]
pub enum Store {
    /// Show what `apply` would do
    Plan,
    /// Make what is missing: the database, its collections, their indexes; change what differs
    Apply,
    /// Check that all is as it must be and that every statement is served by its index; changes nothing
    Check,
}

/// `wal bench`
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Measure the store that the settings name, in collections of its own
    Store(BenchStore),
}

/// `wal bench store`
#[derive(Debug, Args)]
#[command(after_help = "\
Inserts documents with payloads of 1 KiB into collections that begin with wal_bench_, folds events into
them, and removes the collections. It loads the database as services do: not while they need it.")]
pub struct BenchStore {
    /// Documents in a batch
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub batch: u32,
    /// How many batches are under way at once: one measurement for each number
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = [1, 4, 16], value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub concurrency: Vec<u32>,
    /// How long each measurement takes, such as 3s
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = duration)]
    pub time: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| format!("{error}; write it as 30s or 2m"))?;
    if duration.is_zero() { Err("must be longer than nothing".into()) } else { Ok(duration) }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(seconds @ 1..) => Ok(Duration::from_secs(seconds.into())),
        Ok(_) | Err(_) => Err("must be a whole number of seconds, such as 5".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    fn refusal(line: &str) -> ErrorKind {
        parse(line).unwrap_err().kind()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_stand_anywhere() {
        let cli = parse("wal topics check -o json --bootstrap k:1").unwrap();
        assert_eq!((cli.global.output, cli.global.bootstrap.as_deref()), (Format::Json, Some("k:1")));
        assert!(parse("wal --color never -o json topics plan").is_ok());
    }

    #[test]
    fn a_write_is_one_request_or_a_file() {
        let Command::Write(write) = parse("wal write ns --retry-count 5 --delay 0.5 --backoff linear").unwrap().command
        else {
            panic!("no write")
        };
        assert_eq!((write.retry_count, write.backoff), (Some(5), Some(Backoff::Linear)));
        assert_eq!(write.delay.unwrap().duration(), Duration::from_millis(500));
        assert!(parse("wal write --file -").is_ok());
        assert!(parse("wal write --file - --priority high").is_ok());
        assert_eq!(refusal("wal write"), ErrorKind::MissingRequiredArgument);
        assert_eq!(refusal("wal write ns --file f"), ErrorKind::ArgumentConflict);
        assert_eq!(refusal("wal write --file f --target t"), ErrorKind::ArgumentConflict);
        assert_eq!(refusal("wal write a/b"), ErrorKind::ValueValidation);
        assert_eq!(refusal("wal write ns --backoff sometimes"), ErrorKind::ValueValidation);
        assert_eq!(refusal("wal write ns --timeout 0s"), ErrorKind::ValueValidation);
    }

    #[test]
    fn times_may_begin_with_a_minus() {
        let Command::Entry(Entry::List(list)) = parse("wal entry list ns --from -2h --to now").unwrap().command else {
            panic!("no list")
        };
        assert_eq!(list.from, Moment::Ago(Duration::from_secs(7200)));
        assert_eq!(refusal("wal entry list ns --from yesterday"), ErrorKind::ValueValidation);
    }

    #[test]
    fn dev_refuses_what_contradicts() {
        assert_eq!(refusal("wal dev --kafka k:1 --port 1"), ErrorKind::ArgumentConflict);
        assert_eq!(refusal("wal dev --ephemeral --data d"), ErrorKind::ArgumentConflict);
        assert_eq!(refusal("wal dev --create-topics"), ErrorKind::MissingRequiredArgument);
        assert!(parse("wal dev --kafka k:1 --create-topics --create-targets").is_ok());
    }

    #[test]
    fn a_watch_looks_every_two_seconds_or_as_often_as_is_said() {
        let watch = |line: &str| {
            let Command::Status(status) = parse(line).unwrap().command else { panic!("no status") };
            (status.at, status.watch.map(|watch| watch.as_secs()))
        };
        assert_eq!(watch("wal status"), (Vec::new(), None));
        assert_eq!(watch("wal status --watch --at a:1 --at b:2"), (vec!["a:1".into(), "b:2".into()], Some(2)));
        assert_eq!(watch("wal status --at a:1,b:2 --watch 5"), (vec!["a:1".into(), "b:2".into()], Some(5)));
        assert_eq!(refusal("wal status --watch 0"), ErrorKind::ValueValidation);
        assert_eq!(refusal("wal status --watch soon"), ErrorKind::ValueValidation);
    }

    #[test]
    fn help_names_the_exit_codes() {
        let help = Cli::command().render_long_help().to_string();
        for line in ["0  done", "3  partial", "4  unknown", "5  not found", "6  too late"] {
            assert!(help.contains(line), "{help}");
        }
    }
}
