//! What a service asks of the brokers before it publishes: which topics exist, and what they take.
//!
//! One unknown topic, or one record that is too large, would stall and abort a whole transaction; so every output is checked before.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use wal_model::Topic;

use crate::directory::{Directory, Presence};

/// What a topic takes where its own limit is not known: Kafka's default.
const DEFAULT_LIMIT: usize = 1_048_588;

/// The shape of a topic, as far as it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It exists.
    Known {
        /// How many partitions it has.
        partitions: i32,
        /// The largest record batch it takes, in bytes.
        max_message_bytes: usize,
    },
    /// The brokers say that it does not exist, and have said so for at least this long.
    Missing(Duration),
    /// This service may not see it.
    Denied(String),
    /// Nobody answered.
    Unanswered(String),
}

/// Answers about several topics.
pub type Shapes = HashMap<Topic, Found>;

/// Who answers.
pub trait Brokers: Send + Sync + 'static {
    /// One answer per topic.
    fn shapes(&self, topics: Vec<Topic>) -> impl Future<Output = Shapes> + Send;
    /// These topics will be asked about soon. Waits for nothing. Called within a runtime.
    fn foresee(&self, topics: &[Topic]);
    /// Creates a topic; what came of it is for [`Brokers::shapes`] to say.
    fn create(&self, topic: &Topic) -> impl Future<Output = Result<(), String>> + Send;
    /// What was answered before may not be true any more.
    fn forget(&self);
}

impl<B: Brokers> Brokers for Arc<B> {
    fn shapes(&self, topics: Vec<Topic>) -> impl Future<Output = Shapes> + Send {
        (**self).shapes(topics)
    }

    fn foresee(&self, topics: &[Topic]) {
        (**self).foresee(topics);
    }

    fn create(&self, topic: &Topic) -> impl Future<Output = Result<(), String>> + Send {
        (**self).create(topic)
    }

    fn forget(&self) {
        (**self).forget();
    }
}

/// What is known of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// It exists and takes records of up to so many bytes.
    Takes(usize),
    /// The brokers say that there is none, and have said so for at least this long.
    Missing(Duration),
    /// Nobody answered.
    Unanswered,
}

/// What is known of a target, for a decision.
pub fn target(shapes: &Shapes, topic: &Topic) -> Target {
    match shapes.get(topic) {
        Some(Found::Known { max_message_bytes, .. }) => Target::Takes(*max_message_bytes),
        Some(Found::Missing(for_at_least)) => Target::Missing(*for_at_least),
        Some(Found::Denied(_) | Found::Unanswered(_)) | None => Target::Unanswered,
    }
}

/// Whether a topic is known to exist.
pub fn is_known(shapes: &Shapes, topic: &Topic) -> bool {
    matches!(shapes.get(topic), Some(Found::Known { .. }))
}

/// The largest record batch that a topic takes, in bytes, as far as that is known.
pub fn limit(shapes: &Shapes, topic: &Topic) -> usize {
    match shapes.get(topic) {
        Some(Found::Known { max_message_bytes, .. }) => *max_message_bytes,
        Some(Found::Missing(_) | Found::Denied(_) | Found::Unanswered(_)) | None => DEFAULT_LIMIT,
    }
}

/// The brokers themselves.
#[derive(Clone)]
pub struct Cluster {
    /// Who asks them and remembers what they said.
    pub directory: Directory,
    /// Partitions of a topic that is created.
    pub partitions: i32,
    /// Copies of each partition of it.
    pub replication: i32,
}

impl Brokers for Cluster {
    async fn shapes(&self, topics: Vec<Topic>) -> Shapes {
        let found = |presence| match presence {
            Presence::Known(shape) => {
                Found::Known { partitions: shape.partitions, max_message_bytes: shape.max_message_bytes }
            }
            Presence::Unknown { for_at_least } => Found::Missing(for_at_least),
            Presence::Denied(why) => Found::Denied(why),
            Presence::Unanswered(why) => Found::Unanswered(why),
        };
        let answers = self.directory.look_up(&topics).await;
        answers.into_iter().map(|(topic, presence)| (topic, found(presence))).collect()
    }

    fn foresee(&self, topics: &[Topic]) {
        self.directory.foresee(topics);
    }

    async fn create(&self, topic: &Topic) -> Result<(), String> {
        self.directory.create(topic, self.partitions, self.replication).await
    }

    fn forget(&self) {
        self.directory.forget();
    }
}
