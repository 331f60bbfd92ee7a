//! The retry scheduler's own settings.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;
use wal_model::lifecycle::DELAY_MAX;
use wal_runtime::config::{self, Error, Settings, TopicSettings};

/// The section `retry_scheduler`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// For how long a decision is remembered, in the time of the failures topic.
    #[serde(deserialize_with = "config::duration")]
    pub memory: Duration,
    /// The most decisions that are remembered of each partition of the failures topic.
    pub memory_decisions: usize,
    /// The longest delay that a consumer's wish is granted.
    #[serde(deserialize_with = "config::duration")]
    pub retry_after_max: Duration,
    /// How long the brokers must go on answering "unknown topic" before an attempt that is due counts as undeliverable.
    #[serde(deserialize_with = "config::duration")]
    pub unknown_target_wait: Duration,
    /// How long a cancel is kept after the deadline of its round.
    #[serde(deserialize_with = "config::duration")]
    pub keep_cancels: Duration,
    /// The most records that this instance takes from delay topics in a second, due ones and those between two hops; 0 is no ceiling.
    pub release_rate: u32,
    /// The most records in a batch.
    pub batch_records: usize,
    /// The most bytes in a batch.
    pub batch_bytes: usize,
    /// How long a batch of failures that is not full waits for more. What is due never waits.
    #[serde(deserialize_with = "config::duration")]
    pub batch_wait: Duration,
    /// How often what was released is deleted from the delay topics; zero is never.
    #[serde(deserialize_with = "config::duration")]
    pub delete_released_every: Duration,
    /// How long a stop waits for the batches in hand.
    #[serde(deserialize_with = "config::duration")]
    pub stop_timeout: Duration,
}

impl Config {
    /// Reads and checks the section.
    pub fn read(settings: &Settings) -> Result<Config, Error> {
        let config: Config = settings.section("retry_scheduler")?;
        let counts = [
            ("retry_scheduler.memory_decisions", config.memory_decisions),
            ("retry_scheduler.batch_records", config.batch_records),
            ("retry_scheduler.batch_bytes", config.batch_bytes),
        ];
        if let Some((key, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(settings.invalid(key, "must be at least 1"));
        }
        if config.retry_after_max > DELAY_MAX {
            let longest = DELAY_MAX.as_secs() / 86_400;
            return Err(
                settings.invalid("retry_scheduler.retry_after_max", format_args!("{longest}d at most are allowed"))
            );
        }
        if config.memory >= TopicSettings::read(settings)?.failures_retention {
            let reason = "what is to be remembered is read back from the topic, so it must stay there for longer";
            return Err(settings.contradiction("retry_scheduler.memory", "topics.failures_retention", reason));
        }
        Ok(config)
    }

    /// The ceiling of releases, if there is one.
    pub(crate) fn ceiling(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.release_rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &[(&str, &str)]) -> Result<Config, String> {
        let given: Vec<(&str, String)> = given.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        let settings = Settings::load_from(None, std::iter::empty(), &given).unwrap();
        Config::read(&settings).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_the_design() {
        let config = read(&[]).unwrap();
        assert_eq!(config.memory, Duration::from_secs(900));
        assert_eq!(config.ceiling(), None);
        assert_eq!(read(&[("retry_scheduler.release_rate", "500")]).unwrap().ceiling(), NonZeroU32::new(500));
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let cases = [
            ("retry_scheduler.batch_records", "0", "retry_scheduler.batch_records"),
            ("retry_scheduler.memory_decisions", "0", "retry_scheduler.memory_decisions"),
            ("retry_scheduler.retry_after_max", "31d", "30d at most"),
            ("retry_scheduler.memory", "8d", "topics.failures_retention"),
        ];
        for (key, value, words) in cases {
            let error = read(&[(key, value)]).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
