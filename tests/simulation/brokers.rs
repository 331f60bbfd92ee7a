//! What services ask about topics, answered from the simulated Kafka; sometimes with silence, sometimes that a target is not there.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use wal_model::topics::Topics;
use wal_model::{InRecord, Namespace, Topic};
use wal_retry_scheduler::testing::Past;
use wal_runtime::brokers::{Brokers, Found, Shapes};
use wal_runtime::reading::{Span, Unread};
use wal_status::testing::{self as status, DeadLetters, Freshness, Shape};

use super::clock::Time;
use super::kafka::Kafka;

/// What every simulated topic takes.
const LIMIT: usize = 1_048_588;

/// How the brokers feel.
#[derive(Default)]
pub struct Mood {
    pub is_silent: bool,
    /// Targets that they do not know, and since when.
    pub missing: BTreeMap<Topic, i64>,
}

/// Who answers, to one process.
#[derive(Clone)]
pub struct Answering {
    pub kafka: Arc<Mutex<Kafka>>,
    pub mood: Arc<Mutex<Mood>>,
    pub time: Time,
    pub topics: Topics,
}

impl Answering {
    pub fn mood(&self) -> MutexGuard<'_, Mood> {
        self.mood.lock().expect("nothing panics while it is held")
    }

    fn kafka(&self) -> MutexGuard<'_, Kafka> {
        self.kafka.lock().expect("nothing panics while it is held")
    }

    fn found(&self, topic: &Topic) -> Found {
        let mood = self.mood();
        if mood.is_silent {
            return Found::Unanswered("simulated".to_owned());
        }
        let partitions = self.kafka().partition_count(topic);
        match (mood.missing.get(topic), partitions) {
            (Some(since), _) => {
                let millis = u64::try_from(self.time.now() - since).expect("time goes on");
                Found::Missing(Duration::from_millis(millis))
            }
            (None, Some(partitions)) => Found::Known { partitions, max_message_bytes: LIMIT },
            (None, None) => Found::Missing(Duration::from_secs(3600)),
        }
    }
}

impl Brokers for Answering {
    async fn shapes(&self, topics: Vec<Topic>) -> Shapes {
        topics.into_iter().map(|topic| (topic.clone(), self.found(&topic))).collect()
    }

    fn foresee(&self, _: &[Topic]) {}

    async fn create(&self, topic: &Topic) -> Result<(), String> {
        Err(format!("nobody creates {topic} here"))
    }

    fn forget(&self) {}
}

impl status::Brokers for Answering {
    async fn shape(&self, _: Freshness) -> Result<Shape, String> {
        match self.found(&self.topics.acks()) {
            Found::Known { partitions, max_message_bytes } => Ok(Shape { partitions, max_message_bytes }),
            other => Err(format!("{other:?}")),
        }
    }

    async fn dead_letters_of(&self, namespaces: Vec<Namespace>) -> Result<HashMap<Namespace, DeadLetters>, String> {
        let topics = namespaces.iter().map(|namespace| self.topics.dead_entries(namespace));
        let shapes = self.shapes(topics.chain([self.topics.dead_requests()]).collect()).await;
        let found = |namespace: Namespace| {
            let letters = status::dead_letters(&self.topics, Some(&namespace), &shapes)?;
            Ok((namespace, letters))
        };
        namespaces.into_iter().map(found).collect()
    }

    async fn dead_letters(&self) -> Result<DeadLetters, String> {
        let shapes = self.shapes(vec![self.topics.dead_requests()]).await;
        status::dead_letters(&self.topics, None, &shapes)
    }

    async fn ends(&self, partitions: Vec<i32>) -> HashMap<i32, i64> {
        if self.mood().is_silent {
            return HashMap::new();
        }
        let (kafka, acks) = (self.kafka(), self.topics.acks());
        partitions.into_iter().map(|number| (number, kafka.end(&(acks.clone(), number)))).collect()
    }

    fn forget(&self) {}
}

impl Past for Answering {
    async fn read(&self, topic: &Topic, spans: &[Span], each: &mut (dyn FnMut(InRecord) + Send)) -> Result<(), Unread> {
        if self.mood().is_silent {
            return Err(Unread::Brokers { topic: topic.clone(), why: "simulated".to_owned() });
        }
        let kafka = self.kafka();
        for Span { partition, since, until } in spans {
            let partition = (topic.clone(), *partition);
            let records = kafka.records(&partition).take_while(|record| record.offset < *until);
            records.filter(|record| record.time.is_some_and(|time| time >= *since)).cloned().for_each(&mut *each);
        }
        Ok(())
    }
}
