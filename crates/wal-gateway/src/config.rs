//! The gateway's section of the configuration.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use wal_model::SystemClock;
use wal_runtime::config::{self, Error, Kafka, Seal, Settings};

use crate::act::Means;
use crate::brokers::{Cluster, ConnectError};

/// Who may reach the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Programs on this machine.
    Loopback,
    /// Whoever can reach the address. Until tokens exist, everyone who does sees every tenant's entries.
    Anywhere,
}

/// How a gateway is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Who may reach it.
    pub reach: Reach,
}

/// `[gateway]` as it stands in the configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    listen: SocketAddr,
    allow_remote: bool,
}

impl Options {
    /// Reads `[gateway]`.
    pub fn read(settings: &Settings) -> Result<Options, Error> {
        let Section { listen, allow_remote } = settings.section("gateway")?;
        Ok(Options { listen, reach: if allow_remote { Reach::Anywhere } else { Reach::Loopback } })
    }
}

/// What of `[retry_scheduler]` a gateway heeds.
#[derive(Deserialize)]
struct Scheduler {
    #[serde(deserialize_with = "config::duration")]
    memory: Duration,
}

impl Means {
    /// Reads what writing needs, and makes the clients. Does not wait for brokers.
    pub fn read(settings: &Settings) -> Result<Means, ConnectError> {
        Ok(Means {
            brokers: Arc::new(Cluster::new(settings)?),
            keyring: Seal::read(settings)?.keyring,
            topics: Kafka::read(settings)?.topics,
            clock: Arc::new(SystemClock),
            memory: settings.section::<Scheduler>("retry_scheduler")?.memory,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &[(&str, String)]) -> Options {
        Options::read(&Settings::load_from(None, std::iter::empty(), given).unwrap()).unwrap()
    }

    #[test]
    fn nobody_from_elsewhere_gets_in_unless_it_is_said() {
        let options = read(&[]);
        assert!(options.listen.ip().is_loopback());
        assert_eq!(options.reach, Reach::Loopback);
        assert_eq!(read(&[("gateway.allow_remote", "true".to_owned())]).reach, Reach::Anywhere);
    }
}
