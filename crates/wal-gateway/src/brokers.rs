//! What the writing side needs of Kafka, and how it is made from the settings.

use async_trait::async_trait;
use wal_model::{Code, OutRecord, Topic};
use wal_runtime::brokers::{self, Brokers as _, Found, Shapes};
use wal_runtime::config::{Settings, TopicSettings};
use wal_runtime::directory::Directory;
use wal_runtime::transactions::{self, Transactions};
use wal_runtime::{config, kafka};

use crate::problem::Problem;

/// The brokers, as far as a gateway speaks with them.
#[async_trait]
pub trait Brokers: Send + Sync {
    /// What is known of each topic.
    async fn shapes(&self, topics: Vec<Topic>) -> Shapes;

    /// Publishes all records or none. Every topic of theirs is known, and takes them.
    async fn publish(&self, records: Vec<OutRecord>) -> Result<(), transactions::Error>;
}

/// Why the brokers that the settings name cannot be spoken with.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// A client could not be made.
    #[error("make a Kafka client: {0}")]
    Client(String),
    /// A thread could not be started.
    #[error("start a thread")]
    Thread(#[from] std::io::Error),
}

/// The cluster that the settings name.
pub(crate) struct Cluster {
    asked: brokers::Cluster,
    transactions: Transactions,
}

impl Cluster {
    /// Does not wait for it.
    pub(crate) fn new(settings: &Settings) -> Result<Cluster, ConnectError> {
        let kafka = config::Kafka::read(settings)?;
        let TopicSettings { partitions, replication, .. } = TopicSettings::read(settings)?;
        let directory = Directory::new(&kafka).map_err(|error| ConnectError::Client(error.to_string()))?;
        let transactional_id = kafka::transactional_id(&kafka, "gateway");
        let transactions = Transactions::start(kafka::transactional(&kafka, &transactional_id))?;
        Ok(Cluster { asked: brokers::Cluster { directory, partitions, replication }, transactions })
    }
}

#[async_trait]
impl Brokers for Cluster {
    async fn shapes(&self, topics: Vec<Topic>) -> Shapes {
        self.asked.shapes(topics).await
    }

    async fn publish(&self, records: Vec<OutRecord>) -> Result<(), transactions::Error> {
        self.transactions.publish(records).await
    }
}

/// Publishes all records or none, once it is known that their topics take them: one that does not would hold up everybody.
pub(crate) async fn publish(brokers: &dyn Brokers, records: Vec<OutRecord>) -> Result<(), Problem> {
    let shapes = brokers.shapes(topics_of(&records)).await;
    for record in &records {
        let limit = limit_of(shapes.get(&record.topic), &record.topic)?;
        let size = record.size_as_batch();
        if size > limit {
            let topic = &record.topic;
            let detail = format!("a record of {size} bytes would go to {topic}, which takes {limit}");
            return Err(Problem::new(Code::PayloadTooLarge, detail));
        }
    }
    Ok(brokers.publish(records).await?)
}

fn topics_of(records: &[OutRecord]) -> Vec<Topic> {
    let mut topics: Vec<Topic> = records.iter().map(|record| record.topic.clone()).collect();
    topics.sort();
    topics.dedup();
    topics
}

/// What a topic takes that must be there.
fn limit_of(found: Option<&Found>, topic: &Topic) -> Result<usize, Problem> {
    let why = match found {
        Some(Found::Known { max_message_bytes, .. }) => return Ok(*max_message_bytes),
        Some(Found::Missing(_)) => "does not exist; `wal topics apply` makes it".to_owned(),
        Some(Found::Denied(why)) => why.clone(),
        Some(Found::Unanswered(why)) => format!("may or may not exist: {why}"),
        None => "may or may not exist: nobody said".to_owned(),
    };
    Err(Problem::new(Code::BrokerUnavailable, format!("nothing was published: the topic {topic} {why}")))
}

impl From<transactions::Error> for Problem {
    fn from(error: transactions::Error) -> Problem {
        let code = match error {
            transactions::Error::NotPublished(_) => Code::BrokerUnavailable,
            transactions::Error::Unknown(_) => Code::OutcomeUnknown,
        };
        Problem::new(code, error.to_string())
    }
}
