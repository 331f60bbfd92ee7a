//! The operator's and the newcomer's hand: `wal` writes and tails through Kafka; it reads, answers and rescues through the gateway.
//!
//! Owns: the command line, how results and problems are shown, and `wal dev` and `wal demo`, which run everything in one process.
//! Refuses: to read or write entries but through services (`dev` and `demo` run their own), and to decide anything a service decides.
//!
//! ```text
//!   args ─▶ write, tail ──▶ Kafka (wal-sdk)          results ─▶ standard output, a table or JSON lines
//!           entry, stuck ─▶ gateway (HTTP)           the rest ▶ standard error
//!           complete, fail, retry, cancel, rescue ─▶ gateway
//!           topics ───────▶ Kafka (wal-runtime)
//!           healthy, status ▶ the services' own probes (HTTP)
//!           store ────────▶ ArangoDB (wal-store): its collections and indexes, never an entry
//!           config ───────▶ nobody: what the files and variables of this machine say (wal-runtime)
//!           explain ──────▶ nobody: what codes mean (wal-model, and our own)
//!           completions, man, reference ─▶ files, made from this very command line, the defaults and the codes
//!           bench store ──▶ the same, in collections of its own
//!           dev, demo ────▶ stack: broker + store + writer + gateway
//! ```

mod act;
mod args;
mod bench;
#[cfg(feature = "embedded-broker")]
pub mod broker;
mod card;
mod config;
#[cfg(feature = "embedded-broker")]
mod demo;
#[cfg(not(feature = "embedded-broker"))]
#[path = "demo/without.rs"]
mod demo;
mod dev;
mod entry;
mod entry_json;
mod explain;
mod gateway;
mod healthy;
mod json_text;
mod moment;
mod paint;
mod problem;
mod reference;
mod rescue;
mod screen;
mod settings;
mod shell;
mod stack;
mod status;
mod store;
mod tail;
mod timeline;
mod topics;
mod write;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use tokio::runtime::Runtime;

use args::{Cli, Command};
use gateway::Gateway;
use problem::{Exit, Problem};
use screen::Screen;

/// Reads of standard input cannot be taken back, so the end does not wait for them.
const LEFT_BEHIND: Duration = Duration::from_millis(100);

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    let screen = Screen::new(global.output, global.color);
    let outcome = Runtime::new().map_err(Problem::from).and_then(|runtime| {
        let outcome = runtime.block_on(run(&screen, &global, command));
        runtime.shutdown_timeout(LEFT_BEHIND);
        outcome
    });
    let exit = outcome.unwrap_or_else(|problem| {
        if problem.exit() != Exit::Unread {
            screen.problem(&problem);
        }
        problem.exit()
    });
    exit.into()
}

async fn run(screen: &Screen, global: &args::Global, command: Command) -> Result<Exit, Problem> {
    match command {
        Command::Demo(demo) => demo::run(screen, global, &demo).await,
        Command::Dev(dev) => dev::run(screen, global, &dev).await,
        Command::Write(write) => write::run(screen, &settings::of_command(global)?, *write).await,
        Command::Tail(tail) => tail::run(screen, &settings::of_command(global)?, tail).await,
        Command::Topics(topics) => topics::run(screen, &settings::of_command(global)?, topics).await,
        Command::Healthy(healthy) => healthy::run(screen, &settings::of_command(global)?, &healthy).await,
        Command::Status(status) => status::run(screen, &settings::of_command(global)?, &status).await,
        Command::Bench(args::Bench::Store(bench)) => bench::run(screen, &settings::of_command(global)?, &bench).await,
        Command::Store(store) => store::run(screen, &settings::of_command(global)?, store).await,
        Command::Config(config) => config::run(screen, global, config),
        Command::Explain(code) => explain::run(screen, code.code.as_deref()),
        Command::Completions(wanted) => shell::completions(screen, wanted.shell),
        Command::Man(written) => shell::man(screen, &written.dir),
        Command::Reference(written) => reference::run(screen, &written.dir),
        Command::Entry(entry) => entry::run(screen, &gateway(global)?, entry).await,
        Command::Stuck(stuck) => rescue::stuck(screen, &gateway(global)?, &stuck).await,
        Command::Complete(complete) => act::complete(screen, &gateway(global)?, complete).await,
        Command::Fail(fail) => act::fail(screen, &gateway(global)?, fail).await,
        Command::Retry(retry) => act::retry(screen, &gateway(global)?, &retry).await,
        Command::Cancel(cancel) => act::cancel(screen, &gateway(global)?, &cancel).await,
        Command::Rescue(rescue) => rescue::rescue(screen, &gateway(global)?, &rescue).await,
    }
}

/// The gateway that the command line names, or the settings.
fn gateway(global: &args::Global) -> Result<Gateway, Problem> {
    match &global.gateway {
        Some(url) => Gateway::at(url),
        None => Gateway::at(&settings::gateway_url(&settings::of_command(global)?)?),
    }
}
