//! What both hands work with.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use wal_model::delay::Waits;
use wal_model::seal::Keyring;
use wal_model::topics::Topics;
use wal_model::{Clock, Timestamp, Topic};
use wal_runtime::brokers::{Brokers, Found, Shapes};
use wal_runtime::live::Live;

use crate::cancels::Cancels;
use crate::config::Config;
use crate::outputs::Press;
use crate::tally::Meter;

/// How long brokers that do not answer are left alone.
pub(crate) const ASK_AGAIN: Duration = Duration::from_millis(250);
/// How often a dead-letter topic is asked for that nobody says anything about, before the one for all is taken.
const QUESTIONS: usize = 4;

/// What both hands work with.
pub(crate) struct Tools<B> {
    pub brokers: B,
    pub cancels: Arc<Cancels>,
    pub clock: Arc<dyn Clock>,
    pub keyring: Keyring,
    pub topics: Topics,
    pub waits: Waits,
    pub config: Live<Config>,
    pub meter: Meter,
}

impl<B: Brokers> Tools<B> {
    /// What makes records out of decisions.
    pub(crate) fn press<'a>(&'a self, group: &'a str, shapes: &'a Shapes, now: Timestamp) -> Press<'a> {
        Press {
            topics: &self.topics,
            keyring: &self.keyring,
            group,
            waits: &self.waits,
            unknown_target_wait: self.config.get().unknown_target_wait,
            shapes,
            now,
        }
    }

    /// The shapes of targets.
    pub(crate) async fn targets(&self, topics: HashSet<Topic>) -> Shapes {
        match topics.is_empty() {
            true => Shapes::new(),
            false => self.brokers.shapes(topics.into_iter().collect()).await,
        }
    }

    /// The shapes of dead-letter topics. Silence is not taken for an answer too soon, or a letter would go to another topic than its
    /// own; but it is not waited for for ever, because everybody else waits too.
    pub(crate) async fn dead_letters(&self, topics: HashSet<Topic>) -> Shapes {
        let mut open: Vec<Topic> = topics.into_iter().collect();
        let mut shapes = Shapes::new();
        for question in 0..QUESTIONS {
            if open.is_empty() {
                break;
            }
            if question > 0 {
                tokio::time::sleep(ASK_AGAIN).await;
            }
            shapes.extend(self.brokers.shapes(open.clone()).await);
            open.retain(|topic| matches!(shapes.get(topic), Some(Found::Unanswered(_)) | None));
        }
        shapes
    }
}
