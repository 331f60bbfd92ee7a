//! The log over HTTP: "what happened to this entry?" has an answer without a Kafka client, and a person can answer where no consumer
//! does.
//!
//! Owns: how an entry is shown, how a question is asked, how an error is told, and which attempt a person's answer answers. Refuses: to
//! change anything in the store (what it takes it publishes, as a consumer would), and, until tokens say who is asking, to be reached
//! from another machine unless the operator insists.
//!
//! ```text
//!   GET /v1/entries/{log_id}   ─┐
//!   GET /v1/entries?namespace= ─┤  query ──▶ Question ──▶ EntryStore ──▶ view ──▶ JSON
//!   GET /v1/stuck?older_than=  ─┘                             │
//!                                                             ▼
//!   POST /v1/entries/{log_id}/complete, fail, retry, cancel ─ owed ──▶ act ─────▶ wal.acks, wal.failures, wal.cancels
//!   POST /v1/rescue ───────────────────────────────────────── owed ──▶ rescue ──▶ targets
//!
//!   whatever goes wrong ──▶ problem (RFC 9457)
//! ```
//!
//! An entry that is not found is not found *yet*: the write may still be on its way. The answer says so (`retryable`).

mod act;
mod answer;
mod brokers;
mod config;
mod order;
mod owed;
mod problem;
mod process;
mod query;
mod rescue;
mod routes;
mod stuck;
#[cfg(test)]
mod test_client;
mod token;
mod view;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use wal_runtime::metrics::Metrics;
use wal_store::EntryStore;

pub use act::Means;
pub use brokers::{Brokers, ConnectError};
pub use config::{Options, Reach};
pub use process::{Failed, main};
pub use stuck::oldest_unanswered;

use routes::Shared;

/// How long requests under way may take to finish after a stop: a little more than any of them may take at all.
const STOP_LIMIT: Duration = routes::WRITE_LIMIT.saturating_add(Duration::from_secs(1));

/// Why a gateway cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address can be reached from elsewhere, and nobody has said that this is meant.
    #[error(
        "listen on {0}: other machines could read and answer every tenant's entries there, since nothing says who is asking \
         yet; use a loopback address such as 127.0.0.1, or set gateway.allow_remote = true"
    )]
    Remote(SocketAddr),
    /// Somebody else listens there.
    #[error("listen on {0}: another process has this port; set gateway.listen to a free one")]
    Taken(SocketAddr),
    /// The address cannot be used for another reason.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A gateway that has its port and does not serve yet.
pub struct Gateway {
    listener: TcpListener,
    address: SocketAddr,
    shared: Shared,
}

impl Gateway {
    /// Takes a loopback address; port 0 takes any free port. Connections wait until [`Gateway::run`].
    pub fn bind(listen: SocketAddr, store: Arc<dyn EntryStore>) -> Result<Gateway, Error> {
        Gateway::open(&Options { listen, reach: Reach::Loopback }, store)
    }

    /// As [`Gateway::bind`], with the options of the configuration.
    pub fn open(options: &Options, store: Arc<dyn EntryStore>) -> Result<Gateway, Error> {
        let listen = options.listen;
        match options.reach {
            Reach::Loopback if !listen.ip().is_loopback() => return Err(Error::Remote(listen)),
            Reach::Loopback | Reach::Anywhere => {}
        }
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => Error::Taken(listen),
            _ => Error::Listen { address: listen, source },
        };
        let listener = TcpListener::bind(listen).map_err(failed)?;
        // Tokio takes over only sockets that do not block.
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Gateway {
            listener,
            address,
            shared: Shared { store, means: None, reach: options.reach, metrics: Metrics::new() },
        })
    }

    /// One that also writes: until this is said, it only reads.
    #[must_use]
    pub fn writing(mut self, means: Means) -> Gateway {
        self.shared.means = Some(means);
        self
    }

    /// One that counts where a process tells it.
    #[must_use]
    pub fn counting(mut self, metrics: Metrics) -> Gateway {
        self.shared.metrics = metrics;
        self
    }

    /// Where it listens, with the port it really has.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then takes no more connections and finishes what is under way, within a limit.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        let address = self.address;
        let failed = |source| Error::Listen { address, source };
        let listener = tokio::net::TcpListener::from_std(self.listener).map_err(failed)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let router = routes::router(self.shared, routes::Limits::default());
        let server = axum::serve(listener, router).with_graceful_shutdown(async {
            // A sender that is gone means the same as one that has sent.
            let _ = stopped.await;
        });
        let mut server = pin!(server.into_future());
        tokio::select! {
            served = &mut server => return served.map_err(failed),
            () = shutdown => drop(stop),
        }
        match tokio::time::timeout(STOP_LIMIT, server).await {
            Ok(served) => served.map_err(failed),
            // A client that does not finish asking. Nothing is lost by leaving it: it has no answer yet.
            Err(_) => Ok(()),
        }
    }
}
