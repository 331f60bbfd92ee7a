//! `wal status`: how the services are doing, on one screen, as they say themselves.
//!
//! ```text
//!   --at, or health.endpoints, or health.listen ──▶ asked side by side ──▶ Round ──▶ one page, or one line of JSON
//! ```

mod ask;
mod page;

use std::io::IsTerminal as _;

use futures_util::future::join_all;
use serde::Serialize;
use wal_model::{Clock as _, SystemClock, Timestamp};
use wal_runtime::config::{self, Settings};
use wal_runtime::overview::Overview;

use crate::args;
use crate::healthy;
use crate::problem::{Exit, Problem};
use crate::screen::{Format, Screen};
use crate::settings::invalid;
use ask::Endpoint;

/// Where a terminal begins anew: the cursor at the first place, and nothing behind it.
const FROM_THE_TOP: &str = "\x1b[H\x1b[J";
const SAY_WHERE: &str = "say where: wal status --at host:port, or health.endpoints";

/// What was asked and heard at one time. Printed, keep stable.
#[derive(Debug, Serialize)]
struct Round {
    /// When it was asked.
    at: Timestamp,
    /// Whether all have answered, live and are ready.
    #[serde(rename = "ok")]
    is_well: bool,
    /// Those asked, in the order in which they were named.
    services: Vec<Answer>,
}

/// What came of asking one service. Printed, keep stable.
#[derive(Debug, Serialize)]
struct Answer {
    /// Where it was asked.
    at: String,
    /// What came back.
    #[serde(flatten)]
    said: Said,
}

/// What comes back. Printed, keep stable.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    /// How it is doing.
    Status(Box<Overview>),
    /// Nothing that makes sense, and why.
    NoAnswer(String),
}

/// Runs `wal status`.
pub async fn run(screen: &Screen, settings: &Settings, status: &args::Status) -> Result<Exit, Problem> {
    let endpoints = endpoints(settings, &status.at)?;
    let Some(interval) = status.watch else {
        let round = round(&endpoints).await;
        show(screen, &round)?;
        return Ok(if round.is_well { Exit::Done } else { Exit::Failed });
    };
    let is_redrawn = screen.format == Format::Table && std::io::stdout().is_terminal();
    let watch = async {
        loop {
            let round = round(&endpoints).await;
            if is_redrawn {
                screen.draw(FROM_THE_TOP)?;
            }
            show(screen, &round)?;
            tokio::time::sleep(interval).await;
        }
    };
    tokio::select! {
        ended = watch => ended,
        _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
    }
}

/// Who is asked: those named, else those that the settings name, else whoever listens where the settings say.
fn endpoints(settings: &Settings, named: &[String]) -> Result<Vec<Endpoint>, Problem> {
    let health = config::Health::read(settings).map_err(|error| invalid(&error))?;
    match (named, health.endpoints.as_slice()) {
        ([], []) => Ok(vec![Endpoint::parse(&healthy::own_address(settings, SAY_WHERE)?.to_string())?]),
        ([], set) => set.iter().map(|text| Endpoint::parse(text)).collect(),
        (named, _) => named.iter().map(|text| Endpoint::parse(text)).collect(),
    }
}

async fn round(endpoints: &[Endpoint]) -> Round {
    let at = SystemClock.now();
    let answers = endpoints.iter().map(async |endpoint| {
        let said = match endpoint.ask().await {
            Ok(overview) => Said::Status(Box::new(overview)),
            Err(why) => Said::NoAnswer(why),
        };
        Answer { at: endpoint.place().to_owned(), said }
    });
    Round::of(at, join_all(answers).await)
}

impl Round {
    fn of(at: Timestamp, services: Vec<Answer>) -> Round {
        Round { at, is_well: services.iter().all(Answer::is_well), services }
    }
}

impl Answer {
    fn is_well(&self) -> bool {
        match &self.said {
            Said::Status(overview) => overview.is_ready && overview.is_live,
            Said::NoAnswer(_) => false,
        }
    }
}

fn show(screen: &Screen, round: &Round) -> Result<(), Problem> {
    match screen.format {
        Format::Json => screen.json(round),
        Format::Table => screen.line(&page::text(round, screen.out)),
    }
}
