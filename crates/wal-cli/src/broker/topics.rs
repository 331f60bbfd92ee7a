//! What the broker must know of a topic to serve its records, remembered until a topic is made, changed or deleted.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use libsql::{Connection, TransactionBehavior, params};
use tansu_sans_io::{ConfigResource, ErrorCode, create_partitions_request::CreatePartitionsTopic};
use tansu_storage::{Storage as _, StorageContainer, TopicId};
use tracing::error;
use uuid::Uuid;

use super::batch::{Place, Stamp};

/// Settings of a topic that was made without them, and their values in Apache Kafka.
pub(super) const DEFAULTS: [(&str, &str); 5] = [
    ("cleanup.policy", "delete"),
    ("max.message.bytes", "1048588"),
    ("message.timestamp.type", "CreateTime"),
    ("min.insync.replicas", "1"),
    ("retention.ms", "604800000"),
];

/// `max.message.bytes` where the topic's own cannot be read: Kafka's default.
const MAX_MESSAGE_BYTES: usize = 1_048_588;

/// How long a write to the cluster's tables waits for Tansu's own: those take milliseconds.
const BUSY: Duration = Duration::from_secs(2);

/// Whether a change is made or only checked (`validate_only`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Real,
    Trial,
}

#[derive(Clone, Debug)]
pub(super) struct Topic {
    pub(super) id: Uuid,
    pub(super) partitions: i32,
    pub(super) stamp: Stamp,
    pub(super) max_message_bytes: usize,
    /// `None`: kept for ever.
    pub(super) retention: Option<Duration>,
}

impl Mode {
    pub(super) fn of(validate_only: bool) -> Self {
        if validate_only { Self::Trial } else { Self::Real }
    }
}

impl Topic {
    pub(super) fn place(&self, partition: i32) -> Result<Place, ErrorCode> {
        if !(0..self.partitions).contains(&partition) {
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        Ok(Place { topic: self.id, partition })
    }
}

#[derive(Clone, Debug)]
pub(super) struct Topics {
    storage: StorageContainer,
    database: PathBuf,
    known: Arc<Mutex<HashMap<String, Topic>>>,
}

impl Topics {
    pub(super) fn new(storage: StorageContainer, database: PathBuf) -> Self {
        Self { storage, database, known: Arc::default() }
    }

    pub(super) async fn find(&self, name: &str) -> Result<Topic, ErrorCode> {
        if let Some(topic) = self.known().get(name) {
            return Ok(topic.clone());
        }
        let asked = [TopicId::Name(name.to_owned())];
        let answer = self.storage.metadata(Some(&asked)).await.map_err(storage)?;
        let described = answer
            .topics()
            .first()
            .filter(|topic| topic.error_code == i16::from(ErrorCode::None))
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let id = described.topic_id.map(Uuid::from_bytes).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let partitions = described.partitions.as_ref().map_or(0, Vec::len);
        let settings = self.settings(name).await?;
        let topic = Topic {
            id,
            partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
            stamp: stamp(&settings),
            max_message_bytes: settings
                .get("max.message.bytes")
                .and_then(|value| value.parse().ok())
                .unwrap_or(MAX_MESSAGE_BYTES),
            retention: retention(&settings),
        };
        self.known().insert(name.to_owned(), topic.clone());
        Ok(topic)
    }

    pub(super) async fn place(&self, name: &str, partition: i32) -> Result<Place, ErrorCode> {
        self.find(name).await?.place(partition)
    }

    pub(super) async fn all(&self) -> Result<Vec<(String, Topic)>, ErrorCode> {
        let answer = self.storage.metadata(None).await.map_err(storage)?;
        let names: Vec<String> = answer.topics().iter().filter_map(|topic| topic.name.clone()).collect();
        let mut topics = Vec::with_capacity(names.len());
        for name in names {
            let topic = self.find(&name).await?;
            topics.push((name, topic));
        }
        Ok(topics)
    }

    /// After any request that may have changed a topic.
    pub(super) fn forget(&self) {
        self.known().clear();
    }

    /// Adds partitions to a topic. Tansu cannot, so this writes the rows it would write for a new topic.
    pub(super) async fn grow(&self, wanted: &CreatePartitionsTopic, mode: Mode) -> Result<(), ErrorCode> {
        let topic = self.find(&wanted.name).await?;
        if wanted.count <= topic.partitions {
            return Err(ErrorCode::InvalidPartitions);
        }
        if mode == Mode::Trial {
            return Ok(());
        }
        let mut changes = Vec::new();
        for partition in topic.partitions..wanted.count {
            changes.push((
                "insert into topition (topic, partition) select id, ?2 from topic where uuid = ?1",
                partition.to_string(),
            ));
            changes.push((
                "insert into watermark (topition) select tp.id from topition tp join topic t on tp.topic = t.id
                 where t.uuid = ?1 and tp.partition = cast(?2 as integer)",
                partition.to_string(),
            ));
        }
        changes.push(("update topic set partitions = cast(?2 as integer) where uuid = ?1", wanted.count.to_string()));
        self.change(&topic, &changes).await
    }

    /// Deletes one topic. Tansu 0.6 deletes every topic of the cluster instead (`topic_delete_by.sql`).
    pub(super) async fn delete(&self, name: &str) -> Result<Uuid, ErrorCode> {
        let topic = self.find(name).await?;
        let tables = [
            "delete from topic_configuration where topic = (select id from topic where uuid = ?1) and ?2 = ''",
            "delete from watermark where topition in (select tp.id from topition tp
             join topic t on tp.topic = t.id where t.uuid = ?1) and ?2 = ''",
            "delete from topition where topic = (select id from topic where uuid = ?1) and ?2 = ''",
            "delete from topic where uuid = ?1 and ?2 = ''",
        ];
        let changes = tables.map(|table| (table, String::new()));
        self.change(&topic, &changes).await?;
        Ok(topic.id)
    }

    /// Gives settings of a topic a value, or takes it away. Tansu 0.6 ends for good on "append" and "subtract".
    pub(super) async fn configure(
        &self,
        name: &str,
        settings: &[(String, Option<String>)],
        mode: Mode,
    ) -> Result<(), ErrorCode> {
        let topic = self.find(name).await?;
        if mode == Mode::Trial {
            return Ok(());
        }
        let mut changes = Vec::new();
        for (name, value) in settings {
            changes.push((
                "delete from topic_configuration
                 where topic = (select id from topic where uuid = ?1) and name = ?2",
                name.clone(),
            ));
            let Some(value) = value else {
                continue;
            };
            // One text for two columns: a setting's name has no '='.
            changes.push((
                "insert into topic_configuration (topic, name, value)
                 select id, substr(?2, 1, instr(?2, '=') - 1), substr(?2, instr(?2, '=') + 1)
                 from topic where uuid = ?1",
                format!("{name}={value}"),
            ));
        }
        self.change(&topic, &changes).await
    }

    /// All statements or none; each gets the topic's id and one text.
    async fn change(&self, topic: &Topic, changes: &[(&str, String)]) -> Result<(), ErrorCode> {
        let changed = self.write(topic, changes).await;
        self.forget();
        changed.map_err(|error| {
            error!(%error, topic = %topic.id, "the embedded broker could not change a topic");
            ErrorCode::KafkaStorageError
        })
    }

    async fn write(&self, topic: &Topic, changes: &[(&str, String)]) -> Result<(), libsql::Error> {
        let connection = self.connect().await?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).await?;
        for (statement, text) in changes {
            transaction.execute(statement, params![topic.id.to_string(), text.as_str()]).await?;
        }
        transaction.commit().await
    }

    async fn connect(&self) -> Result<Connection, libsql::Error> {
        let database = libsql::Builder::new_local(&self.database).build().await?;
        let connection = database.connect()?;
        connection.busy_timeout(BUSY)?;
        Ok(connection)
    }

    async fn settings(&self, name: &str) -> Result<HashMap<String, String>, ErrorCode> {
        let described = self.storage.describe_config(name, ConfigResource::Topic, None).await.map_err(storage)?;
        let given = described
            .configs
            .unwrap_or_default()
            .into_iter()
            .filter_map(|config| config.value.map(|value| (config.name, value)));
        let defaults = DEFAULTS.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(defaults.into_iter().chain(given).collect())
    }

    /// A map that was left behind by a panic is still a map of facts: each entry went in whole.
    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, Topic>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamp(settings: &HashMap<String, String>) -> Stamp {
    match settings.get("message.timestamp.type").map(String::as_str) {
        Some("LogAppendTime") => Stamp::Broker,
        Some(_) | None => Stamp::Producer,
    }
}

/// Compacted topics keep everything here: more than Kafka keeps, never less.
fn retention(settings: &HashMap<String, String>) -> Option<Duration> {
    if !settings.get("cleanup.policy")?.contains("delete") {
        return None;
    }
    let millis: i64 = settings.get("retention.ms")?.parse().ok()?;
    // Negative means for ever, as in Kafka.
    u64::try_from(millis).ok().map(Duration::from_millis)
}

fn storage(error: tansu_storage::Error) -> ErrorCode {
    error!(%error, "the embedded broker could not read its topics");
    ErrorCode::KafkaStorageError
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        let pairs = pairs.iter();
        pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn only_topics_with_the_delete_policy_lose_records() {
        let compacted = settings(&[("cleanup.policy", "compact"), ("retention.ms", "1000")]);
        let deleted = settings(&[("cleanup.policy", "delete"), ("retention.ms", "1000")]);
        let endless = settings(&[("cleanup.policy", "delete"), ("retention.ms", "-1")]);

        assert_eq!(retention(&compacted), None);
        assert_eq!(retention(&deleted), Some(Duration::from_secs(1)));
        assert_eq!(retention(&endless), None);
    }
}
