//! The broker of a stack: our own, inside this process, or somebody's cluster.

use std::net::SocketAddr;
use std::path::PathBuf;

use wal_runtime::topics::Leniency;

use crate::problem::{Exit, Problem};

/// Which broker to use.
#[derive(Clone, Debug)]
pub enum Choice {
    /// The one in this process.
    Embedded {
        /// Where it listens.
        listen: SocketAddr,
        /// Where it keeps its files.
        folder: PathBuf,
        /// What clients see as the cluster's id.
        cluster_id: String,
    },
    /// This cluster.
    Given(String),
}

impl Choice {
    /// What may be left out of the checks.
    pub fn leniency(&self) -> Leniency {
        match self {
            Choice::Embedded { .. } => Leniency::EmbeddedBroker,
            Choice::Given(_) => Leniency::None,
        }
    }
}

/// A broker, running.
pub enum Broker {
    /// Ours.
    #[cfg(feature = "embedded-broker")]
    Embedded(crate::broker::EmbeddedBroker),
    /// Not ours to stop.
    Given,
}

impl Broker {
    /// Starts it, if it is ours, and says where it is.
    pub async fn start(choice: &Choice) -> Result<(Broker, String), Problem> {
        match choice {
            Choice::Given(bootstrap) => Ok((Broker::Given, bootstrap.clone())),
            Choice::Embedded { listen, folder, cluster_id } => embedded(*listen, folder, cluster_id).await,
        }
    }

    /// Stops it, if it is ours; within two seconds.
    pub async fn stop(self) {
        match self {
            #[cfg(feature = "embedded-broker")]
            Broker::Embedded(broker) => broker.stop().await,
            Broker::Given => {}
        }
    }
}

#[cfg(feature = "embedded-broker")]
async fn embedded(listen: SocketAddr, folder: &std::path::Path, cluster_id: &str) -> Result<(Broker, String), Problem> {
    use crate::broker::{EmbeddedBroker, Error, Options};
    let options = Options { listen, folder: folder.to_owned(), cluster_id: cluster_id.to_owned() };
    let broker = EmbeddedBroker::start(options).await.map_err(|error| match &error {
        Error::PortTaken { address, source } => {
            let what = format!("listen on {address}: another program has the port");
            let hint = "another port: `wal dev --port 0` takes a free one; or use the cluster there: --kafka HOST:PORT";
            Problem::new(Exit::Failed, "WAL_PORT_TAKEN", what).because(source).hint(hint)
        }
        Error::Folder { .. } | Error::UnusableFolder { .. } | Error::Storage { .. } => {
            Problem::of(Exit::Failed, "WAL_FOLDER_UNUSABLE", &error).hint("another folder: --data FOLDER")
        }
    })?;
    let bootstrap = broker.bootstrap();
    Ok((Broker::Embedded(broker), bootstrap))
}

#[cfg(not(feature = "embedded-broker"))]
async fn embedded(_: SocketAddr, _: &std::path::Path, _: &str) -> Result<(Broker, String), Problem> {
    Err(without_broker())
}

/// What a build without the embedded broker says.
#[cfg(not(feature = "embedded-broker"))]
fn without_broker() -> Problem {
    Problem::new(Exit::Usage, "WAL_NO_EMBEDDED_BROKER", "start the embedded broker: this wal was built without it")
        .hint("wal dev --kafka HOST:PORT; or build with the feature `embedded-broker`, which is on by default")
}
