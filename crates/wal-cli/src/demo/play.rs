//! The demo itself: sets the scene, plays the steps, checks each, and sums up.

use std::time::{Duration, Instant};

use wal_model::receipt::Receipt;
use wal_model::{Clock as _, SystemClock};
use wal_runtime::shutdown::Shutdown;
use wal_sdk::Done;

use super::scene::{Next, PATIENCE, Scene};
use super::script::{self, Life, TARGETS};
use super::story::{Played, Story};
use super::teller::{Row, Teller, millis};
use crate::args::{self, Global};
use crate::card;
use crate::dev::folder::Folder;
use crate::entry_json::EntryJson;
use crate::gateway::Gateway;
use crate::paint::Tone;
use crate::problem::{Exit, Problem};
use crate::screen::Screen;
use crate::settings::{self, Quiet};
use crate::stack::{Choice, Missing, Options, Place, Stack, Store};
use crate::timeline;

/// How long it may take until all services have their partitions.
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
        store: Store::Own(folder.store()),
        seal_key: folder.seal_key.clone(),
        gateway_port: 0,
        probes: Place::Nowhere,
    }
}

async fn play(teller: &mut Teller<'_>, stack: &mut Stack, folder: &Folder, started: Instant) -> Result<Exit, Problem> {
    teller.fact("broker", &stack.bootstrap()?, "embedded, speaks Kafka's protocol")?;
    teller.fact("gateway", &stack.gateway_url(), "HTTP: look up, answer, cancel, rescue")?;
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

    let gateway = Gateway::at(&stack.gateway_url())?;
    let mut played = Story::new(teller, &mut scene, &gateway).tell(&script::steps()).await?;
    let rows = rows(&mut played, &scene, &gateway).await?;
    scene.close().await;
    let picture = picture(teller, &played, &gateway).await?;
    finish(teller, &played, &rows, &picture, started.elapsed())
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
            Next::Attempt { .. } | Next::Status { .. } | Next::DeadLetter { .. } | Next::Nothing => {
                return Err(failed(&format!("warm up: no receipt came within {} s", PATIENCE.as_secs())));
            }
        }
    }
    scene.follow(stack, &TARGETS).await?;
    let (mut delivered, mut completed) = (0, 0);
    while delivered < TARGETS.len() || completed < TARGETS.len() {
        match scene.next(None, PATIENCE).await? {
            Next::Attempt { attempt, .. } => {
                delivered += 1;
                attempt.complete(Done::silent());
            }
            Next::Status { .. } => completed += 1,
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

/// The end state, as the gateway tells it.
async fn rows(played: &mut [Played], scene: &Scene, gateway: &Gateway) -> Result<Vec<Row>, Problem> {
    let mut rows = Vec::new();
    for step in played {
        let answer = match (&step.answer, &step.log_id) {
            (Some(answer), _) => answer.clone(),
            (None, Some(log_id)) => match gateway.entry(log_id, None).await? {
                Some(json) => ends(step, &EntryJson::read(&json)?),
                None => {
                    step.missing.push(format!("the gateway finds the entry of {}", step.request.operation));
                    (Tone::Bad, "not found".to_owned())
                }
            },
            (None, None) => (Tone::Plain, "-".to_owned()),
        };
        let attempts = step.log_id.as_ref().map_or(&[][..], |log_id| scene.attempts(log_id));
        if step.life == Some(Life::IsCancelled) && attempts.len() > 1 {
            step.missing.push(format!("{} stays away after it was cancelled", step.request.operation));
        }
        rows.push(Row {
            operation: step.request.operation.to_owned(),
            target: step.request.target.to_owned(),
            log_id: step.log_id.as_ref().map(ToString::to_string),
            answer,
            durable_after: step.durable_after,
            delivered: step.delivered,
            attempts: attempts.len(),
            late: step.late.clone(),
        });
    }
    Ok(rows)
}

/// The life of the entry that came back and was done in the end, as `wal entry show` draws it.
async fn picture(teller: &Teller<'_>, played: &[Played], gateway: &Gateway) -> Result<Vec<String>, Problem> {
    let is_drawn = |step: &&Played| matches!(step.life, Some(Life::FailsAtFirst(_)));
    let Some(log_id) = played.iter().find(is_drawn).and_then(|step| step.log_id.as_ref()) else {
        return Ok(Vec::new());
    };
    match gateway.entry(log_id, None).await? {
        Some(json) => Ok(timeline::draw(&EntryJson::read(&json)?, SystemClock.now(), teller.paint())),
        None => Ok(Vec::new()),
    }
}

/// How an entry stands, checked against how it must.
fn ends(step: &mut Played, entry: &EntryJson) -> (Tone, String) {
    let stands = (entry.status.as_str(), entry.reason.as_deref());
    if step.life.is_some_and(|life| life.end() != stands) {
        step.missing.push(format!("the gateway tells the end of {}; it says {stands:?}", step.request.operation));
    }
    let reason = entry.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
    (card::status_tone(&entry.status), format!("{}{reason}", entry.status))
}

fn finish(
    teller: &mut Teller<'_>,
    played: &[Played],
    rows: &[Row],
    picture: &[String],
    took: Duration,
) -> Result<Exit, Problem> {
    let missing: Vec<String> = played.iter().flat_map(|step| step.missing.clone()).collect();
    let is_well = missing.is_empty();
    teller.summary(rows, took, is_well)?;
    if !is_well {
        return Err(failed(&format!("see what was expected: {}", missing.join("; "))));
    }
    let late: Vec<i64> = played.iter().flat_map(|step| step.late.clone()).collect();
    let retries = late.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
    let remark = format!(
        "Read back through the gateway: every entry stands as its consumer left it, or as nobody\n\
         answered it. Retries came {retries} ms after they were due. The card that was declined\n\
         twice, as `wal entry show` draws it:\n\n{}",
        picture.join("\n")
    );
    teller.farewell(
        &remark,
        &format!("Everything happened as expected, {:.1} s in all.", took.as_secs_f64()),
        "Next: `wal dev`, a log to work with.",
    )?;
    Ok(Exit::Done)
}
