//! The settings of wal-status.

use std::time::Duration;

use serde::Deserialize;
use wal_runtime::config::{self, Error, Settings, TopicSettings};

/// Guarantee 3: no sooner than so long after its request has left the ingress topic is an entry purged. Until then a record that is
/// read again must find what it made.
const AFTER_INGRESS: Duration = Duration::from_secs(86_400);

/// The section `status`.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    /// The most records in a batch.
    pub batch_records: usize,
    /// The most bytes in a batch, and in what one sweep publishes.
    pub batch_bytes: usize,
    /// How long a batch that is not full waits for more.
    #[serde(deserialize_with = "config::duration")]
    pub batch_wait: Duration,
    /// For how long an event of an entry that is not in the store is tried again.
    #[serde(deserialize_with = "config::duration")]
    pub unknown_wait: Duration,
    /// How often what is past its deadline or its retention is looked for.
    #[serde(deserialize_with = "config::duration")]
    pub sweep_interval: Duration,
    /// How long after its deadline an entry that may be parked is left to the scheduler.
    #[serde(deserialize_with = "config::duration")]
    pub parked_wait: Duration,
    /// How long finished entries are kept.
    #[serde(deserialize_with = "config::duration")]
    pub retention: Duration,
    /// How long a stop waits for the batch in hand.
    #[serde(deserialize_with = "config::duration")]
    pub stop_timeout: Duration,
}

impl Config {
    /// Reads and checks the section.
    pub fn read(settings: &Settings) -> Result<Config, Error> {
        let config: Config = settings.section("status")?;
        if config.batch_records == 0 {
            return Err(settings.invalid("status.batch_records", "must be at least 1"));
        }
        if config.batch_bytes == 0 {
            return Err(settings.invalid("status.batch_bytes", "must be at least 1"));
        }
        if config.sweep_interval.is_zero() {
            return Err(settings.invalid("status.sweep_interval", "must be longer than nothing"));
        }
        let ingress = TopicSettings::read(settings)?.ingress_retention;
        if config.retention < ingress + AFTER_INGRESS {
            let why =
                "an entry must be kept a day longer than its request, else the request, read again, would make it anew";
            return Err(settings.contradiction("status.retention", "topics.ingress_retention", why));
        }
        Ok(config)
    }
}
