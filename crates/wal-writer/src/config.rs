//! The writer's own settings.

use std::time::Duration;

use serde::Deserialize;
use wal_model::Topic;
use wal_runtime::config::{self, Error, Settings};

/// The section `writer`.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    /// The most records in a batch.
    pub batch_records: usize,
    /// The most bytes in a batch.
    pub batch_bytes: usize,
    /// How long a batch that is not full waits for more.
    #[serde(deserialize_with = "config::duration")]
    pub batch_wait: Duration,
    /// The share of a full batch that high requests may take while others wait, in percent.
    pub high_share: u8,
    /// The share of a full batch that normal requests may take while low ones wait, in percent.
    pub normal_share: u8,
    /// How long the brokers must go on answering "unknown topic" before a stored entry counts as undeliverable.
    #[serde(deserialize_with = "config::duration")]
    pub unknown_target_wait: Duration,
    /// Whether a missing target topic is created instead of refused.
    pub create_missing_targets: bool,
    /// Topics that requests may name for their receipts, beside the log's own receipts topic.
    pub reply_topics: Vec<Topic>,
    /// How long a stop waits for the batch in hand.
    #[serde(deserialize_with = "config::duration")]
    pub stop_timeout: Duration,
}

impl Config {
    /// Reads and checks the section.
    pub fn read(settings: &Settings) -> Result<Config, Error> {
        let config: Config = settings.section("writer")?;
        if config.batch_records == 0 {
            return Err(settings.invalid("writer.batch_records", "must be at least 1"));
        }
        if config.batch_bytes == 0 {
            return Err(settings.invalid("writer.batch_bytes", "must be at least 1"));
        }
        if config.high_share == 0 || config.normal_share == 0 {
            return Err(settings.invalid("writer.high_share", "no share may be 0: every lane moves"));
        }
        if u16::from(config.high_share) + u16::from(config.normal_share) >= 100 {
            let why = "together they must leave something for low requests";
            return Err(settings.contradiction("writer.high_share", "writer.normal_share", why));
        }
        Ok(config)
    }

    /// The shares of high, normal and low requests in percent.
    pub(crate) fn shares(&self) -> [u8; 3] {
        [self.high_share, self.normal_share, 100 - self.high_share - self.normal_share]
    }
}
