//! Where reading begins: no jumps, no guesses.
//!
//! A partition without an offset is read from 0 only if the group has offsets elsewhere and its log starts at 0. Otherwise somebody
//! deleted the group's offsets, or the records they stood at, and only a person can say where to go on.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use wal_model::Topic;

use crate::config::Kafka;
use crate::kafka::{self, Context};

/// Longer than a transaction stays open by default: offsets in an open transaction are only told once it ends.
const COMMITTED_TIMEOUT: Duration = Duration::from_secs(30);
/// One answer of a broker that is there.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a group may be without a coordinator that knows it, and a partition without a leader: one that has just become it reads what
/// it is to know.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// How soon it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How long the group's coordinator may take to hear of a topic that was just made.
const NEW_TOPIC_TIMEOUT: Duration = Duration::from_secs(30);

/// What is known of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionFacts {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: i32,
    /// The group's committed offset.
    pub committed: Option<i64>,
    /// What stands beside the committed offset.
    pub metadata: String,
    /// The first offset there is.
    pub log_start: i64,
    /// The offset after the last.
    pub log_end: i64,
}

/// Where a partition is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: i32,
    /// The first offset to read.
    pub offset: i64,
}

/// The group's place is gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "group {group} has lost its place, and going on anywhere could skip requests:\n  {}\n\
     if that is understood, `wal topics apply --adopt` sets each of these to the start of its log",
    .lost.join("\n  ")
)]
pub struct OffsetsLost {
    /// The group.
    pub group: String,
    /// What is wrong with each partition concerned.
    pub lost: Vec<String>,
}

/// The rule.
pub fn decide(group: &str, facts: &[PartitionFacts]) -> Result<Vec<Start>, OffsetsLost> {
    let has_place = facts.iter().any(|fact| fact.committed.is_some());
    let mut starts = Vec::with_capacity(facts.len());
    let mut lost = Vec::new();
    for fact in facts {
        let PartitionFacts { topic, partition, .. } = fact;
        match place(fact, has_place) {
            Ok(offset) => starts.push(Start { topic: topic.clone(), partition: *partition, offset }),
            Err(why) => lost.push(format!("{topic}[{partition}]: {why}")),
        }
    }
    if lost.is_empty() { Ok(starts) } else { Err(OffsetsLost { group: group.to_owned(), lost }) }
}

fn place(fact: &PartitionFacts, has_place: bool) -> Result<i64, String> {
    let PartitionFacts { log_start, log_end, .. } = *fact;
    match fact.committed {
        Some(offset) if offset < log_start => Err(format!(
            "the committed offset is {offset}, but the log starts at {log_start}: what was between was deleted before it was read \
             (at best the mark of a transaction)"
        )),
        Some(offset) if offset > log_end => Err(format!(
            "the committed offset is {offset}, but the log ends at {log_end}: the topic was made anew, or its log was cut"
        )),
        Some(offset) => Ok(offset),
        None if !has_place => Err("no offset is committed, here or in any other partition".to_owned()),
        None if log_start > 0 => Err(format!("no offset is committed, and the log starts at {log_start}, not at 0")),
        None => Ok(0),
    }
}

/// Gathers the facts for every partition of some topics. Blocks. A topic that is not there is an error, never no partitions.
pub(crate) fn facts<C: Consumer<X>, X: ConsumerContext>(
    consumer: &C,
    topics: &[Topic],
) -> Result<Vec<PartitionFacts>, KafkaError> {
    let mut list = TopicPartitionList::new();
    for topic in topics {
        for partition in 0..partitions(consumer, topic)? {
            list.add_partition(topic.as_str(), partition);
        }
    }
    // A group at work moves on while it is asked about, and what it is done with may be deleted behind it: where a log starts is asked
    // before the place in it, and where it ends after.
    let ends = |name: &str, partition| consumer.fetch_watermarks(name, partition, ANSWER_TIMEOUT);
    let asked = list.elements();
    let before: Vec<(i64, i64)> =
        asked.iter().map(|asked| ends(asked.topic(), asked.partition())).collect::<Result<_, _>>()?;
    let committed = consumer.committed_offsets(list.clone(), COMMITTED_TIMEOUT)?;
    let mut facts = Vec::with_capacity(before.len());
    for (asked, (log_start, mut log_end)) in asked.iter().zip(before) {
        let (name, partition) = (asked.topic(), asked.partition());
        let element = committed.find_partition(name, partition);
        let element = element.ok_or(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition))?;
        element.error()?;
        let committed = match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        if committed.is_some_and(|committed| committed > log_end) {
            (_, log_end) = ends(name, partition)?;
        }
        let topic = topics.iter().find(|topic| topic.as_str() == name).expect("only these were asked about").clone();
        let metadata = element.metadata().to_owned();
        facts.push(PartitionFacts { topic, partition, committed, metadata, log_start, log_end });
    }
    Ok(facts)
}

/// The topics whose names begin so.
pub(crate) fn topics_under<C: Consumer<X>, X: ConsumerContext>(
    consumer: &C,
    prefix: &str,
) -> Result<Vec<Topic>, KafkaError> {
    let metadata = consumer.fetch_metadata(None, ANSWER_TIMEOUT)?;
    let names = metadata.topics().iter().map(rdkafka::metadata::MetadataTopic::name);
    Ok(names.filter(|name| name.starts_with(prefix)).filter_map(|name| Topic::parse(name).ok()).collect())
}

fn partitions<C: Consumer<X>, X: ConsumerContext>(consumer: &C, topic: &Topic) -> Result<i32, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic.as_str()), ANSWER_TIMEOUT)?;
    let found = metadata.topics().first().filter(|found| found.name() == topic.as_str());
    let error = match found {
        Some(found) => match found.error() {
            None if !found.partitions().is_empty() => {
                return Ok(i32::try_from(found.partitions().len()).unwrap_or(i32::MAX));
            }
            None => RDKafkaErrorCode::LeaderNotAvailable,
            Some(error) => error.into(),
        },
        None => RDKafkaErrorCode::UnknownTopic,
    };
    Err(KafkaError::MetadataFetch(error))
}

/// Gathers the facts for every partition of some topics.
pub async fn gather(kafka: &Kafka, group: &str, topics: Vec<Topic>) -> Result<Vec<PartitionFacts>, String> {
    let consumer = bystander(kafka, group)?;
    let gathered = tokio::task::spawn_blocking(move || {
        let until = Instant::now() + ELECTION_TIMEOUT;
        loop {
            match facts(&consumer, &topics) {
                Err(error) if is_electing(&error) && Instant::now() < until => std::thread::sleep(ASK_AGAIN),
                gathered => return gathered,
            }
        }
    });
    gathered.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// Whether the group has no coordinator just now that knows it, or a partition no leader, as while a cluster is young, a topic is new or a
/// broker has gone.
fn is_electing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::CoordinatorLoadInProgress
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
        )
    )
}

/// What came of committing for a group from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Committed {
    /// It is done; the brokers have said so of every partition.
    Done,
    /// Nothing was changed: the group has members, and its place is theirs.
    HasMembers,
}

/// Commits offsets for a group without members. A group with members refuses, so that nobody's progress is undone.
pub(crate) async fn commit(kafka: &Kafka, group: &str, starts: Vec<Start>) -> Result<Committed, String> {
    if starts.is_empty() {
        return Ok(Committed::Done);
    }
    let consumer = bystander(kafka, group)?;
    let committed = tokio::task::spawn_blocking(move || {
        let until = Instant::now() + NEW_TOPIC_TIMEOUT;
        loop {
            match commit_once(&consumer, &starts) {
                Err(why) if Instant::now() >= until => return Err(why),
                Err(_) => std::thread::sleep(ASK_AGAIN),
                Ok(committed) => return Ok(committed),
            }
        }
    });
    committed.await.map_err(|error| error.to_string())?
}

fn commit_once(consumer: &BaseConsumer<Context>, starts: &[Start]) -> Result<Committed, String> {
    let mut list = TopicPartitionList::new();
    for Start { topic, partition, offset } in starts {
        let added = list.add_partition_offset(topic.as_str(), *partition, Offset::Offset(*offset));
        added.map_err(|error| error.to_string())?;
    }
    match consumer.commit(&list, CommitMode::Sync) {
        Ok(()) => {}
        Err(KafkaError::ConsumerCommit(
            RDKafkaErrorCode::UnknownMemberId
            | RDKafkaErrorCode::IllegalGeneration
            | RDKafkaErrorCode::RebalanceInProgress,
        )) => return Ok(Committed::HasMembers),
        Err(error) => return Err(error.to_string()),
    }
    // The call succeeds as soon as one partition did.
    let told = consumer.committed_offsets(list, COMMITTED_TIMEOUT).map_err(|error| error.to_string())?;
    let is_missing = |start: &&Start| {
        let told = told.find_partition(start.topic.as_str(), start.partition);
        told.is_none_or(|element| element.offset() != Offset::Offset(start.offset))
    };
    match starts.iter().find(is_missing) {
        None => Ok(Committed::Done),
        Some(start) => Err(format!("the offset of {}[{}] was not taken", start.topic, start.partition)),
    }
}

/// A client of a group that never joins it.
fn bystander(kafka: &Kafka, group: &str) -> Result<BaseConsumer<Context>, String> {
    kafka::bystander(kafka, group).create_with_context(Context).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(partition: i32, committed: Option<i64>, log_start: i64, log_end: i64) -> PartitionFacts {
        let topic = Topic::parse("wal.ingress").unwrap();
        PartitionFacts { topic, partition, committed, metadata: String::new(), log_start, log_end }
    }

    fn offsets(facts: &[PartitionFacts]) -> Result<Vec<i64>, String> {
        let starts = decide("wal.writer", facts).map_err(|lost| lost.to_string())?;
        Ok(starts.into_iter().map(|start| start.offset).collect())
    }

    #[test]
    fn committed_offsets_are_followed() {
        let cases = [
            (vec![], vec![]),
            (vec![fact(0, Some(0), 0, 0)], vec![0]),
            (vec![fact(0, Some(5), 0, 9), fact(1, Some(9), 9, 9)], vec![5, 9]),
            // Retention may empty a log that was read to its end.
            (vec![fact(0, Some(9), 9, 9)], vec![9]),
        ];
        for (facts, starts) in cases {
            assert_eq!(offsets(&facts), Ok(starts), "{facts:?}");
        }
    }

    #[test]
    fn a_new_partition_beside_known_ones_is_read_from_its_start() {
        assert_eq!(offsets(&[fact(0, Some(5), 0, 9), fact(1, None, 0, 3)]), Ok(vec![5, 0]));
        assert_eq!(offsets(&[fact(0, None, 0, 3), fact(1, Some(0), 0, 0)]), Ok(vec![0, 0]));
    }

    #[test]
    fn a_lost_place_is_named_and_refused() {
        let cases = [
            (vec![fact(0, None, 0, 0)], "wal.ingress[0]: no offset is committed, here or in any other"),
            (vec![fact(0, None, 0, 3), fact(1, None, 0, 3)], "wal.ingress[1]: no offset is committed, here or"),
            (
                vec![fact(0, Some(5), 0, 9), fact(1, None, 2, 3)],
                "wal.ingress[1]: no offset is committed, and the log starts at 2",
            ),
            (vec![fact(0, Some(5), 7, 9)], "is 5, but the log starts at 7"),
            (vec![fact(0, Some(5), 7, 7)], "is 5, but the log starts at 7"),
            (vec![fact(0, Some(5), 0, 4)], "is 5, but the log ends at 4"),
        ];
        for (facts, words) in cases {
            let lost = offsets(&facts).unwrap_err();
            assert!(lost.contains(words), "{lost}");
            assert!(lost.contains("group wal.writer") && lost.contains("`wal topics apply --adopt`"), "{lost}");
        }
    }

    #[test]
    fn only_who_is_about_to_be_there_is_waited_for() {
        use RDKafkaErrorCode::{
            CoordinatorLoadInProgress, GroupAuthorizationFailed, LeaderNotAvailable, NotCoordinator,
            NotLeaderForPartition, UnknownTopic,
        };
        let is_waited_for = |code| is_electing(&KafkaError::MetadataFetch(code));
        let passing = [NotCoordinator, CoordinatorLoadInProgress, NotLeaderForPartition, LeaderNotAvailable];
        assert_eq!(passing.map(is_waited_for), [true; 4]);
        assert_eq!([GroupAuthorizationFailed, UnknownTopic].map(is_waited_for), [false; 2]);
    }

    #[test]
    fn one_lost_partition_is_enough_to_refuse_and_only_it_is_named() {
        let lost = decide("g", &[fact(0, Some(5), 0, 9), fact(1, Some(5), 0, 4)]).unwrap_err();
        assert_eq!(lost.lost.len(), 1);
    }
}
