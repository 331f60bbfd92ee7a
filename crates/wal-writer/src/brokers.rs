//! What the writer asks of the brokers before it publishes: which topics exist, and what they take.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use wal_model::Topic;

use crate::settle::Target;

/// The shape of a topic, as far as it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
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
pub(crate) type Shapes = HashMap<Topic, Found>;

/// Who answers.
pub(crate) trait Brokers: Send + Sync + 'static {
    /// One answer per topic.
    fn shapes(&self, topics: Vec<Topic>) -> impl Future<Output = Shapes> + Send;
    /// Creates a topic; what came of it is for [`Brokers::shapes`] to say.
    fn create(&self, topic: &Topic) -> impl Future<Output = Result<(), String>> + Send;
    /// What was answered before may not be true any more.
    fn forget(&self);
}

/// What is known of a target, for a decision.
pub(crate) fn target(shapes: &Shapes, topic: &Topic) -> Target {
    match shapes.get(topic) {
        Some(Found::Known { max_message_bytes, .. }) => Target::Takes(*max_message_bytes),
        Some(Found::Missing(for_at_least)) => Target::Missing(*for_at_least),
        Some(Found::Denied(_) | Found::Unanswered(_)) | None => Target::Unanswered,
    }
}
