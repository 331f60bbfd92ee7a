//! The demo itself: sets the scene, plays the steps, checks each, and sums up.

use std::time::{Duration, Instant};

use serde::Deserialize;
use wal_model::receipt::Receipt;
use wal_runtime::shutdown::Shutdown;

use super::scene::{Next, PATIENCE, Scene};
use super::script::{self, TARGETS};
use super::story::{Played, Story};
use super::teller::{Row, Teller, millis};
use crate::args::{self, Global};
use crate::dev::folder::Folder;
use crate::gateway::Gateway;
use crate::paint::Tone;
use crate::problem::{Exit, Problem};
use crate::screen::Screen;
use crate::settings::{self, Quiet};
use crate::stack::{Choice, Missing, Options, Stack};

/// How long it may take until the writer has its partitions.
const READY: Duration = Duration::from_secs(20);

/// Plays the demo in a temporary folder, which is gone afterwards.
pub async fn run(screen: &Screen, global: &Global, demo: &args::Demo) -> Result<Exit, Problem> {
    let started = Instant::now();
    let shutdown = Shutdown::on_signals()?;
    settings::start_logs(&settings::load(None, &Vec::new())?, global.verbose, Quiet::Silent)?;
    let mut temporary = tempfile::Builder::new().prefix("wal-demo-").tempdir()?;
    temporary.disable_cleanup(demo.keep);
    let folder = Folder::open(temporary.path())?;
    let mut teller = Teller::new(screen);

    teller.title("wal demo: the log's story, live, in one process")?;
    let starting = Stack::start(options(&folder));
    let mut stack = tokio::select! {
        stack = starting => stack?,
        () = shutdown.triggered() => return Ok(Exit::Interrupted),
    };
    let outcome = tokio::select! {
        outcome = play(&mut teller, &mut stack, &folder, started) => outcome,
        () = shutdown.triggered() => Ok(Exit::Interrupted),
    };
    stack.stop().await;
    if demo.keep {
        screen.note(&format!("kept: {}", folder.path().display()));
    }
    outcome
}

fn options(folder: &Folder) -> Options {
    Options {
        config: None,
        broker: Choice::Embedded {
            listen: std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0)),
            folder: folder.broker(),
            cluster_id: folder.cluster_id.clone(),
        },
        topics: Missing::Made,
        targets: Missing::Made,
        store: folder.store(),
        seal_key: folder.seal_key.clone(),
        gateway_port: 0,
    }
}

async fn play(teller: &mut Teller<'_>, stack: &mut Stack, folder: &Folder, started: Instant) -> Result<Exit, Problem> {
    teller.fact("broker", &stack.bootstrap()?, "embedded, speaks Kafka's protocol")?;
    teller.fact("gateway", &stack.gateway_url(), "HTTP, read only")?;
    teller.fact("data", &folder.path().display().to_string(), "removed at the end")?;
    let ready_after = stack.ready(READY).await?;
    let mut scene = Scene::open(stack).await?;
    let warm_up = warm_up(&mut scene, stack).await?;
    teller.say(&format!(
        "\n  Ready after {:.1} s; then one request to each target, so that connections are warm\n  ({} ms, not shown). \
         Times count from the moment the producer has the request and\n  include everything: Kafka, the synced store, \
         the transaction, and Kafka again.",
        ready_after.as_secs_f64(),
        millis(warm_up)
    ))?;

    let played = Story::new(teller, &mut scene).tell(&script::steps()).await?;
    let rows = rows(&played, &Gateway::at(&stack.gateway_url())?).await?;
    scene.close().await;
    finish(teller, &played, &rows, started.elapsed())
}

/// One request to each target: makes the targets, and every connection from end to end.
async fn warm_up(scene: &mut Scene, stack: &Stack) -> Result<Duration, Problem> {
    let started = Instant::now();
    for target in TARGETS {
        let json = format!(r#"{{"namespace": "warm_up", "target": "{target}", "payload": {{}}}}"#);
        let mut pending = scene.send("warm-up", &json).await?;
        match scene.next(Some(&mut pending), PATIENCE).await? {
            Next::Receipt { receipt: Receipt::Stored { .. }, .. } => {}
            Next::Receipt { receipt, .. } => return Err(failed(&format!("warm up: the receipt says {receipt:?}"))),
            Next::Delivery { .. } | Next::DeadLetter { .. } | Next::Nothing => {
                return Err(failed(&format!("warm up: no receipt came within {} s", PATIENCE.as_secs())));
            }
        }
    }
    scene.follow(stack, &TARGETS).await?;
    for _ in TARGETS {
        match scene.next(None, PATIENCE).await? {
            Next::Delivery { .. } => {}
            Next::Receipt { .. } | Next::DeadLetter { .. } | Next::Nothing => {
                return Err(failed(&format!("warm up: no delivery came within {} s", PATIENCE.as_secs())));
            }
        }
    }
    Ok(started.elapsed())
}

fn failed(what: &str) -> Problem {
    let hint = "`wal demo -v` shows what the services log; please report it with that";
    Problem::new(Exit::Failed, "WAL_DEMO_FAILED", what).hint(hint)
}

/// What the gateway says of an entry, as far as the table shows it.
#[derive(Deserialize)]
struct Stands {
    status: String,
}

async fn rows(played: &[Played], gateway: &Gateway) -> Result<Vec<Row>, Problem> {
    let mut rows = Vec::new();
    for step in played {
        let status = match &step.log_id {
            Some(log_id) => match gateway.entry(log_id, None).await? {
                Some(json) => {
                    serde_json::from_str::<Stands>(json.get()).map_or_else(|error| error.to_string(), |e| e.status)
                }
                None => "not found".to_owned(),
            },
            None => "-".to_owned(),
        };
        rows.push(Row {
            operation: step.request.operation.to_owned(),
            target: step.request.target.to_owned(),
            log_id: step.log_id.as_ref().map(ToString::to_string),
            answer: step.answer.clone().unwrap_or((Tone::Plain, status)),
            durable_after: step.durable_after,
            delivered: step.delivered,
        });
    }
    Ok(rows)
}

fn finish(teller: &mut Teller<'_>, played: &[Played], rows: &[Row], took: Duration) -> Result<Exit, Problem> {
    let mut missing: Vec<String> = played.iter().flat_map(|step| step.missing.clone()).collect();
    let not_found = rows.iter().filter(|row| row.answer.1 == "not found");
    missing.extend(not_found.map(|row| format!("the gateway finds the entry of {}", row.operation)));
    let is_well = missing.is_empty();
    teller.summary(rows, took, is_well)?;
    if !is_well {
        return Err(failed(&format!("see what was expected: {}", missing.join("; "))));
    }
    teller.farewell(
        "Read back through the gateway: every entry is there. `pending` is all that can be\n\
         said so far: no consumer has answered, and wal-status, which would note it, is not\nbuilt yet.",
        &format!("Everything happened as expected, {:.1} s in all.", took.as_secs_f64()),
        "Next: `wal dev`, a log to work with.",
    )?;
    Ok(Exit::Done)
}
