//! What wal-status asks of the brokers.

use std::collections::HashMap;
use std::future::Future;

use wal_model::topics::Topics;
use wal_model::{Namespace, Topic};
use wal_runtime::brokers::{self, Found, Shapes};

/// The shape of `wal.acks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How many partitions it has.
    pub partitions: i32,
    /// The largest record batch it takes, in bytes.
    pub max_message_bytes: usize,
}

/// A topic for dead letters and what it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetters {
    /// The topic.
    pub topic: Topic,
    /// The largest record batch it takes, in bytes.
    pub limit: usize,
}

/// Who answers. An error says why nobody did; asking again may help.
pub trait Brokers: Send + Sync + 'static {
    /// The shape of `wal.acks`, as it was a short while ago or, where that cannot be right, as it is now.
    fn shape(&self, freshness: Freshness) -> impl Future<Output = Result<Shape, String>> + Send;
    /// Where dead letters of entries go, by namespace.
    fn dead_letters_of(
        &self,
        namespaces: Vec<Namespace>,
    ) -> impl Future<Output = Result<HashMap<Namespace, DeadLetters>, String>> + Send;
    /// Where dead letters of refused records go.
    fn dead_letters(&self) -> impl Future<Output = Result<DeadLetters, String>> + Send;
    /// Where partitions of `wal.acks` end, open transactions included; what is not known now is left out.
    fn ends(&self, partitions: Vec<i32>) -> impl Future<Output = HashMap<i32, i64>> + Send;
    /// What was answered before may not be true any more.
    fn forget(&self);
}

/// How old an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// A short while.
    Remembered,
    /// Given now.
    Now,
}

/// The topic for dead letters of a namespace, by what is known of it and of the one that takes what has none.
pub fn dead_letters(topics: &Topics, namespace: Option<&Namespace>, shapes: &Shapes) -> Result<DeadLetters, String> {
    let own = namespace.map(|namespace| topics.dead_entries(namespace));
    for topic in own.into_iter().chain([topics.dead_requests()]) {
        if let Some(Found::Unanswered(why)) = shapes.get(&topic) {
            return Err(format!("{topic}: {why}"));
        }
        if brokers::is_known(shapes, &topic) {
            return Ok(DeadLetters { limit: brokers::limit(shapes, &topic), topic });
        }
    }
    let topic = topics.dead_requests();
    Ok(DeadLetters { limit: brokers::limit(shapes, &topic), topic })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_namespace_has_its_own_topic_if_it_exists_and_nobody_guesses() {
        let topics = Topics::new("wal.").unwrap();
        let orders = Namespace::parse("orders").unwrap();
        let takes = |max_message_bytes| Found::Known { partitions: 1, max_message_bytes };
        let unknown = || Found::Missing(Duration::ZERO);
        let (own, common) = (topics.dead_entries(&orders), topics.dead_requests());
        let of = |found: [Found; 2]| {
            let shapes = Shapes::from_iter([own.clone(), common.clone()].into_iter().zip(found));
            dead_letters(&topics, Some(&orders), &shapes).map(|found| (found.topic.to_string(), found.limit))
        };
        assert_eq!(of([takes(5), takes(7)]), Ok(("dlq.wal.orders".to_owned(), 5)));
        assert_eq!(of([unknown(), takes(7)]), Ok(("dlq.wal.ingress".to_owned(), 7)));
        assert_eq!(of([Found::Denied(String::new()), takes(7)]), Ok(("dlq.wal.ingress".to_owned(), 7)));
        assert_eq!(of([unknown(), unknown()]), Ok(("dlq.wal.ingress".to_owned(), 1_048_588)));
        assert!(of([Found::Unanswered("away".to_owned()), takes(7)]).is_err());
        assert!(of([unknown(), Found::Unanswered("away".to_owned())]).is_err());
        let only_common = Shapes::from([(common, takes(7))]);
        assert_eq!(dead_letters(&topics, None, &only_common).unwrap().limit, 7);
    }
}
