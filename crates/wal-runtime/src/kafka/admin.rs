//! Questions to the brokers and changes of topics: a client that neither reads nor writes records.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ConfigEntry, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataTopic};
use rdkafka::{Offset, TopicPartitionList};
use tokio::task::JoinSet;
use wal_kafka::native::{self, WayBack};
use wal_model::Topic;

use super::{Context, common};
use crate::config::Kafka;

/// One answer of a broker that is there.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// From this many topics on, the list of all is asked for first: one answer instead of many.
const LIST_FROM: usize = 8;
/// Questions about single topics that are under way at a time: each takes a thread while it waits.
const QUESTIONS_AT_ONCE: usize = 8;
/// Topics whose settings are asked for at once: an answer has some 4 KiB for each.
const SETTINGS_AT_ONCE: usize = 250;

/// A client for questions and changes. Cloning gives another handle on the same.
#[derive(Clone)]
pub(crate) struct Admin {
    client: Arc<AdminClient<Context>>,
    /// What the client met last: a question that is not answered says only that it is not.
    met: Arc<Mutex<Option<String>>>,
    way_back: Arc<WayBack>,
}

/// What the brokers say of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It exists.
    There {
        /// How many partitions it has.
        partitions: i32,
        /// Copies of the partition that has the fewest.
        replication: i32,
        /// Whether each partition has a broker to write to.
        is_led: bool,
    },
    /// It does not exist.
    Unknown,
    /// This client may not see it.
    Denied(String),
    /// Nobody said.
    Unanswered(String),
}

impl Admin {
    /// A client of the cluster that the settings name. Does not wait for it.
    pub(crate) fn new(kafka: &Kafka) -> Result<Admin, KafkaError> {
        let mut config = common(kafka);
        // librdkafka asks as a producer, and a producer creates what it asks about.
        config.set("allow.auto.create.topics", "false");
        Ok(Admin {
            client: Arc::new(config.create_with_context(Context)?),
            met: Arc::default(),
            way_back: Arc::default(),
        })
    }

    pub(crate) fn client(&self) -> &AdminClient<Context> {
        &self.client
    }

    /// The cluster's own id; `None` if it is not told in time.
    pub(crate) async fn cluster_id(&self, limit: Duration) -> Option<String> {
        self.blocking(move |client| client.inner().fetch_cluster_id(limit)).await.ok().flatten()
    }

    /// What the brokers say of each topic. Never creates one. One that the list of all does not show is asked for by name: it may
    /// only be hidden from this client.
    pub(crate) async fn see(&self, mut topics: Vec<Topic>) -> Vec<(Topic, Seen)> {
        let mut seen = Vec::with_capacity(topics.len());
        if topics.len() >= LIST_FROM {
            let mut listed =
                match self.blocking(list).await.and_then(|listed| listed.map_err(|error| error.to_string())) {
                    Ok(listed) => listed,
                    Err(why) => return unanswered(topics, &self.with_cause(why)),
                };
            topics.retain(|topic| match listed.remove(topic.as_str()) {
                Some(there @ Seen::There { .. }) => {
                    seen.push((topic.clone(), there));
                    false
                }
                _ => true,
            });
        }
        let mut asking = JoinSet::new();
        for some in topics.chunks(topics.len().div_ceil(QUESTIONS_AT_ONCE).max(1)) {
            let (admin, some) = (self.clone(), some.to_vec());
            asking.spawn(async move {
                let asked = some.clone();
                let told = admin.blocking(move |client| see_each(client, asked)).await;
                told.unwrap_or_else(|why| unanswered(some, &why))
            });
        }
        while let Some(told) = asking.join_next().await {
            // A task that was cancelled, because the process ends, says nothing of its topics.
            seen.extend(told.unwrap_or_default());
        }
        for (_, seen) in &mut seen {
            if let Seen::Unanswered(why) = seen {
                *why = self.with_cause(std::mem::take(why));
            }
        }
        seen
    }

    /// The settings of topics, without those of which the brokers do not tell them.
    pub(crate) async fn settings(&self, topics: &[Topic]) -> Result<HashMap<Topic, Vec<ConfigEntry>>, KafkaError> {
        let mut told = HashMap::with_capacity(topics.len());
        for chunk in topics.chunks(SETTINGS_AT_ONCE) {
            let resources: Vec<_> = chunk.iter().map(|topic| ResourceSpecifier::Topic(topic.as_str())).collect();
            let answer = self.client.describe_configs(&resources, &options(ANSWER_TIMEOUT)).await?;
            for resource in answer.into_iter().flatten() {
                let OwnedResourceSpecifier::Topic(name) = resource.specifier else { continue };
                // rdkafka 0.39 drops the error of a single topic: one that may not be described looks as if it had no settings.
                if let (Ok(topic), false) = (Topic::parse(&name), resource.entries.is_empty()) {
                    told.insert(topic, resource.entries);
                }
            }
        }
        Ok(told)
    }

    /// Deletes the records before these offsets; where some could not be deleted, why.
    pub(crate) async fn delete_before(&self, places: &[((Topic, i32), i64)]) -> Result<(), String> {
        let mut list = TopicPartitionList::with_capacity(places.len());
        for ((topic, partition), offset) in places {
            let added = list.add_partition_offset(topic.as_str(), *partition, Offset::Offset(*offset));
            added.map_err(|error| error.to_string())?;
        }
        let answer =
            self.client.delete_records(&list, &options(ANSWER_TIMEOUT)).await.map_err(|error| error.to_string())?;
        let refused = answer.elements().iter().find_map(|element| {
            let error = element.error().err()?;
            Some(format!("{}[{}]: {error}", element.topic(), element.partition()))
        });
        refused.map_or(Ok(()), Err)
    }

    /// A setting of the brokers themselves, as one of them tells it.
    pub(crate) async fn broker_setting(&self, name: &'static str) -> Option<String> {
        let listed = self.blocking(|client| client.inner().fetch_metadata(None, ANSWER_TIMEOUT)).await.ok()?.ok()?;
        let broker = ResourceSpecifier::Broker(listed.brokers().first()?.id());
        let answer = self.client.describe_configs([&broker], &options(ANSWER_TIMEOUT)).await.ok()?;
        answer.into_iter().flatten().find_map(|resource| resource.get(name)?.value.clone())
    }

    /// Why there is no answer, and what the client met meanwhile, if anything.
    fn with_cause(&self, why: String) -> String {
        let mut met = self.met.lock().expect("nothing panics while it is held");
        if let Some(newer) = native::last_error(self.client.inner()) {
            *met = Some(newer);
        }
        met.as_ref().map_or(why.clone(), |met| format!("{why}: {met}"))
    }

    /// Runs a call that blocks where it may.
    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&AdminClient<Context>) -> T + Send + 'static,
    ) -> Result<T, String> {
        let client = Arc::clone(&self.client);
        self.way_back.look(client.inner());
        tokio::task::spawn_blocking(move || call(&client)).await.map_err(|error| error.to_string())
    }
}

/// Options of a request that is answered, or given up, within `limit`.
pub(crate) fn options(limit: Duration) -> AdminOptions {
    AdminOptions::new().request_timeout(Some(limit)).operation_timeout(Some(limit))
}

fn unanswered(topics: Vec<Topic>, why: &str) -> Vec<(Topic, Seen)> {
    topics.into_iter().map(|topic| (topic, Seen::Unanswered(why.to_owned()))).collect()
}

fn list(client: &AdminClient<Context>) -> Result<HashMap<String, Seen>, KafkaError> {
    client.inner().fetch_metadata(None, ANSWER_TIMEOUT).map(|metadata| read(&metadata))
}

/// Asks about topics one after the other. Where one question meets silence the rest are not asked: each would wait as long.
fn see_each(client: &AdminClient<Context>, topics: Vec<Topic>) -> Vec<(Topic, Seen)> {
    let mut seen = Vec::with_capacity(topics.len());
    let mut rest = topics.into_iter();
    for topic in rest.by_ref() {
        match see_one(client, &topic) {
            Ok(one) => seen.push((topic, one)),
            Err(error) => {
                let why = error.to_string();
                seen.push((topic, Seen::Unanswered(why.clone())));
                seen.extend(unanswered(rest.collect(), &why));
                break;
            }
        }
    }
    seen
}

fn see_one(client: &AdminClient<Context>, topic: &Topic) -> Result<Seen, KafkaError> {
    let metadata = client.inner().fetch_metadata(Some(topic.as_str()), ANSWER_TIMEOUT)?;
    let seen = read(&metadata).remove(topic.as_str());
    Ok(seen.unwrap_or_else(|| Seen::Unanswered("the brokers' answer leaves it out".to_owned())))
}

fn read(metadata: &Metadata) -> HashMap<String, Seen> {
    let seen = |topic: &MetadataTopic| match topic.error().map(RDKafkaErrorCode::from) {
        None => there(topic),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Seen::Unknown,
        Some(code @ RDKafkaErrorCode::TopicAuthorizationFailed) => Seen::Denied(code.to_string()),
        Some(code) => Seen::Unanswered(code.to_string()),
    };
    metadata.topics().iter().map(|topic| (topic.name().to_owned(), seen(topic))).collect()
}

fn there(topic: &MetadataTopic) -> Seen {
    let partitions = topic.partitions();
    let copies = partitions.iter().map(|partition| partition.replicas().len()).min();
    match copies {
        Some(copies) => Seen::There {
            partitions: i32::try_from(partitions.len()).unwrap_or(i32::MAX),
            replication: i32::try_from(copies).unwrap_or(i32::MAX),
            is_led: partitions.iter().all(|partition| partition.leader() >= 0),
        },
        None => Seen::Unanswered("it has no partitions yet".to_owned()),
    }
}
