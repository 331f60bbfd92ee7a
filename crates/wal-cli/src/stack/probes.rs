//! Where a stack answers probes, scrapes and whoever asks how it is doing.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};

use wal_runtime::config::{Kafka, Settings};
use wal_runtime::health::{self, Health, Server};
use wal_runtime::kafka;
use wal_runtime::lag::{self, Follower};
use wal_runtime::metrics::Metrics;
use wal_runtime::overview::{Teller, Unanswered};
use wal_runtime::shutdown::Shutdown;

use crate::problem::{Exit, Problem};
use crate::settings;

/// What all of a stack is called: it is one process.
const NAME: &str = "wal dev";
/// Where a service of its own answers if nothing is said, and so where `wal status` asks.
const DEFAULT_PORT: u16 = 9464;

/// Where to answer, on loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere.
    Nowhere,
    /// At this port; 0 takes any free one.
    Port(u16),
    /// Where services do, or at any free port if that is taken.
    Usual,
}

/// What answers, and follows how far the loops are behind.
pub struct Probes {
    health: Health,
    serving: Option<(Server, Teller, Follower)>,
}

impl Probes {
    /// Begins to answer. When this returns, the port is open.
    pub async fn start(
        place: Place,
        settings: &Settings,
        health: &Health,
        metrics: &Metrics,
    ) -> Result<Probes, Problem> {
        let port = match place {
            Place::Nowhere => return Ok(Probes { health: health.clone(), serving: None }),
            Place::Port(port) => port,
            Place::Usual => DEFAULT_PORT,
        };
        let kafka = Kafka::read(settings).map_err(|error| settings::invalid(&error))?;
        let teller = Teller::new(NAME, kafka::instance(&kafka), health.clone(), metrics.clone());
        let serve = |port| {
            let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            health::serve(Some(listen), teller.clone(), Shutdown::new())
        };
        let server = match (serve(port).await, place) {
            (Err(_), Place::Usual) => serve(0).await,
            (served, Place::Usual | Place::Port(_) | Place::Nowhere) => served,
        };
        let server = server.map_err(|error| not_served(port, &error))?;
        let follower = lag::follow(&kafka, metrics).map_err(|error| {
            Problem::new(Exit::Failed, "WAL_FAILED", "follow how far the services are behind").because(&error)
        })?;
        Ok(Probes { health: health.clone(), serving: Some((server, teller, follower)) })
    }

    /// Where it answers.
    pub fn address(&self) -> Option<SocketAddr> {
        self.serving.as_ref().and_then(|(server, ..)| server.address())
    }

    /// Has the status tell what waits for an answer.
    pub fn asks<F>(&self, ask: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Unanswered> + Send + 'static,
    {
        if let Some((_, teller, _)) = &self.serving {
            teller.asks(ask);
        }
    }

    /// From now on the answer to readiness is no.
    pub fn stopping(&self) {
        self.health.stopping();
    }
}

fn not_served(port: u16, error: &health::Error) -> Problem {
    let what = format!("answer probes on 127.0.0.1:{port}");
    Problem::new(Exit::Failed, "WAL_PORT_TAKEN", what)
        .because(std::error::Error::source(error).unwrap_or(error))
        .hint("another port for probes, metrics and status: --health-port 0 takes a free one")
}
