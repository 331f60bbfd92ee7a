//! Reading: a consumer that is put where it is to read from, and records out of its messages.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use wal_model::Topic;

use crate::connection::{ConnectError, Connection, Context};

/// How long a reading thread may take to notice that it should stop. Records do not wait for it.
pub(crate) const POLL: Duration = Duration::from_millis(100);

/// Every consumer of the sdk reads only what is committed, and begins at the first record that is still there where the one it
/// wanted is gone. librdkafka 2 wants a group id even of a consumer that joins no group; this one never joins nor commits.
const FIXED: [(&str, &str); 4] = [
    ("isolation.level", "read_committed"),
    ("auto.offset.reset", "earliest"),
    ("enable.auto.commit", "false"),
    ("group.id", "wal-sdk-without-group"),
];

/// Read ahead 16 MiB instead of 64, check what the disk gave, and send no metrics to the broker.
const DEFAULTS: [(&str, &str); 3] =
    [("queued.max.messages.kbytes", "16384"), ("check.crcs", "true"), ("enable.metrics.push", "false")];

/// Which records of a topic to read, without a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// All that are there.
    Beginning,
    /// Those written after the consumer was placed.
    End,
}

/// The configuration of a consumer without a group.
pub(crate) fn config(connection: &Connection) -> Result<ClientConfig, ConnectError> {
    connection.config(&DEFAULTS, &FIXED)
}

/// A consumer and the time it has to get ready.
pub(crate) struct Opening<C: ConsumerContext + 'static = Context> {
    pub(crate) consumer: BaseConsumer<C>,
    servers: String,
    deadline: Instant,
}

impl Opening {
    pub(crate) fn new(config: &ClientConfig, limit: Duration) -> Result<Opening, ConnectError> {
        Opening::with(config, Context, limit)
    }
}

impl<C: ConsumerContext + 'static> Opening<C> {
    pub(crate) fn with(config: &ClientConfig, context: C, limit: Duration) -> Result<Opening<C>, ConnectError> {
        let consumer = config.create_with_context(context).map_err(ConnectError::Options)?;
        let servers = config.get("bootstrap.servers").unwrap_or_default().to_owned();
        Ok(Opening { consumer, servers, deadline: Instant::now() + limit })
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn unreachable(&self, source: KafkaError) -> ConnectError {
        ConnectError::Unreachable { servers: self.servers.clone(), source }
    }

    /// The number of partitions of a topic that must exist.
    pub(crate) fn partitions(&self, topic: &Topic) -> Result<i32, ConnectError> {
        let metadata = self.consumer.fetch_metadata(Some(topic.as_str()), self.left());
        let metadata = metadata.map_err(|error| self.unreachable(error))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic.as_str());
        let count = found.map_or(0, |found| found.partitions().len());
        if count == 0 {
            return Err(ConnectError::TopicMissing(topic.clone()));
        }
        Ok(i32::try_from(count).unwrap_or(i32::MAX))
    }

    /// The cluster's own id; empty where a broker has none to tell.
    pub(crate) fn cluster(&self) -> Arc<str> {
        Arc::from(self.consumer.client().fetch_cluster_id(self.left()).unwrap_or_default())
    }

    /// Assigns one partition, read from the end as it is now.
    pub(crate) fn assign_end_of(&self, topic: &Topic, partition: i32) -> Result<(), ConnectError> {
        let count = self.partitions(topic)?;
        if !(0..count).contains(&partition) {
            return Err(ConnectError::PartitionMissing { topic: topic.clone(), partition, count });
        }
        let mut list = TopicPartitionList::new();
        list.add_partition(topic.as_str(), partition);
        self.assign_from(list, Place::End)
    }

    /// Assigns all partitions of the topics. With [`Place::End`], what is written after this returns will be read: the end is asked
    /// for here, since librdkafka would do so at some later moment.
    pub(crate) fn assign(&self, topics: &[Topic], place: Place) -> Result<(), ConnectError> {
        let mut all = TopicPartitionList::new();
        for topic in topics {
            for partition in 0..self.partitions(topic)? {
                all.add_partition(topic.as_str(), partition);
            }
        }
        self.assign_from(all, place)
    }

    fn assign_from(&self, mut all: TopicPartitionList, place: Place) -> Result<(), ConnectError> {
        let begin = match place {
            Place::Beginning => Offset::Beginning,
            Place::End => Offset::End,
        };
        all.set_all_offsets(begin).map_err(ConnectError::Options)?;
        if place == Place::End {
            // In Kafka's ListOffsets the times -1 and -2 mean the end and the beginning, and `Offset::End` is -1.
            all = self.consumer.offsets_for_times(all, self.left()).map_err(|error| self.unreachable(error))?;
            for element in all.elements() {
                element.error().map_err(|error| self.unreachable(error))?;
            }
        }
        self.consumer.assign(&all).map_err(ConnectError::Options)
    }
}

/// What an error of a poll means.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// librdkafka mends it by itself, such as a broker that is away.
    Wait,
    /// librdkafka goes on trying, but somebody has to do something first, such as give a right.
    Tell,
    /// Nothing more will come.
    End,
}

pub(crate) fn verdict(error: &KafkaError) -> Verdict {
    match error {
        KafkaError::MessageConsumptionFatal(_) => Verdict::End,
        KafkaError::MessageConsumption(code) | KafkaError::Global(code) => match code {
            RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition => Verdict::Tell,
            _ => Verdict::Wait,
        },
        _ => Verdict::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_needs_somebody_is_told() {
        let of = |code| verdict(&KafkaError::MessageConsumption(code));
        assert_eq!(of(RDKafkaErrorCode::AllBrokersDown), Verdict::Wait);
        assert_eq!(of(RDKafkaErrorCode::TopicAuthorizationFailed), Verdict::Tell);
        assert_eq!(verdict(&KafkaError::PartitionEOF(0)), Verdict::Wait);
        assert_eq!(verdict(&KafkaError::MessageConsumptionFatal(RDKafkaErrorCode::Fatal)), Verdict::End);
    }
}
