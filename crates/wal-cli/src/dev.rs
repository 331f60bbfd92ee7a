//! `wal dev`: the whole log on this machine, until Ctrl-C.

mod banner;
pub mod folder;

use std::io::IsTerminal as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use wal_runtime::shutdown::Shutdown;

use crate::args::{self, Global};
use crate::paint::Tone;
use crate::problem::{Exit, Problem};
use crate::screen::Screen;
use crate::settings::{self, Quiet};
use crate::stack::{Choice, Missing, Options, Place, Stack, Store};
use banner::Banner;
use folder::Folder;

/// How long it may take until the writer has its partitions: on a strange cluster a member that died before us holds them for a
/// session timeout, and brokers wait for more members to come.
const READY: Duration = Duration::from_secs(30);

/// Runs `wal dev`.
pub async fn run(screen: &Screen, global: &Global, dev: &args::Dev) -> Result<Exit, Problem> {
    let shutdown = Shutdown::on_signals()?;
    let settings = settings::load(global.config.as_deref(), &Vec::new())?;
    let level = settings::start_logs(&settings, global.verbose, Quiet::Warnings)?;
    let temporary = if dev.ephemeral { Some(tempfile::Builder::new().prefix("wal-dev-").tempdir()?) } else { None };
    let folder = Folder::open(temporary.as_ref().map_or(&*dev.data, |temporary| temporary.path()))?;
    let options = options(global, dev, &folder);

    let mut stack = tokio::select! {
        stack = Stack::start(options) => stack?,
        () = shutdown.triggered() => return Ok(Exit::Interrupted),
    };
    if let Some(level) = level {
        stack.reload().add(level.part());
    }
    // A terminal that closes says so with the same signal, and then nobody is there any more whom this serves.
    if !std::io::stderr().is_terminal() {
        stack.reload().on_hangup()?;
    }
    let outcome = tokio::select! {
        outcome = serve(screen, &mut stack, dev, &folder) => outcome,
        () = shutdown.triggered() => Ok(Exit::Done),
    };
    if outcome.is_ok() {
        screen.note(&screen.err.tone(Tone::Faint, "stopping"));
    }
    stack.stop().await;
    if outcome.is_ok() {
        screen.note(&screen.err.tone(Tone::Faint, "stopped"));
    }
    outcome
}

/// Says where everything is, then lasts until a service ends.
async fn serve(screen: &Screen, stack: &mut Stack, dev: &args::Dev, folder: &Folder) -> Result<Exit, Problem> {
    let bootstrap = stack.bootstrap()?;
    let text = format!("listening on {bootstrap} and {}, getting ready", stack.gateway_url());
    screen.note(&screen.err.tone(Tone::Faint, &text));
    let ready_after = stack.ready(READY).await?;
    let kept: Option<&Path> = if dev.ephemeral { None } else { Some(folder.path()) };
    let (gateway, probes) = (stack.gateway_url(), stack.probes_address());
    Banner { bootstrap, is_embedded: dev.kafka.is_none(), gateway, probes, folder: kept, ready_after }.show(screen)?;
    Err(stack.failed().await)
}

fn options(global: &Global, dev: &args::Dev, folder: &Folder) -> Options {
    let made_if = |is_wanted: bool| if is_wanted { Missing::Made } else { Missing::Told };
    let is_embedded = dev.kafka.is_none();
    let broker = match &dev.kafka {
        Some(bootstrap) => Choice::Given(bootstrap.clone()),
        None => Choice::Embedded {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, dev.port)),
            folder: folder.broker(),
            cluster_id: folder.cluster_id.clone(),
        },
    };
    Options {
        config: global.config.clone(),
        broker,
        topics: made_if(is_embedded || dev.create_topics),
        targets: made_if(is_embedded || dev.create_targets),
        store: Store::Named(folder.store()),
        seal_key: folder.seal_key.clone(),
        gateway_port: dev.gateway_port,
        probes: dev.health_port.map_or(Place::Usual, Place::Port),
    }
}
