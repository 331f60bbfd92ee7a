//! Topics and groups: created, changed and deleted so that every client sees it when the call returns.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use futures_executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::{REQUEST_LIMIT, config, observer};
use crate::wait_until;

/// Kafka's word for "the broker's default".
const DEFAULT_REPLICATION: TopicReplication<'static> = TopicReplication::Fixed(-1);
/// A change waits for the controller's turn, which it shares with all other changes.
const CHANGE_LIMIT: Duration = Duration::from_secs(60);
/// A change is visible within milliseconds; with a node gone, after a new leader is elected.
const VISIBLE_LIMIT: Duration = Duration::from_secs(30);

/// Creates a topic and waits until each of its partitions has a leader.
#[track_caller]
pub fn create_topic(bootstrap: &str, name: &str, partitions: usize, configs: &[(&str, &str)]) {
    let mut topic = NewTopic::new(name, count(partitions), DEFAULT_REPLICATION);
    topic.config = configs.to_vec();
    expect_done("create topic", name, block_on(admin(bootstrap).create_topics(&[topic], &options())));
    wait_for_leaders(bootstrap, name, partitions);
}

/// Creates many topics at once and waits until each of their partitions has a leader.
#[track_caller]
pub fn create_topics(bootstrap: &str, names: &[String], partitions: usize) {
    // A broker takes some hundreds in one request without keeping its other clients waiting.
    for some in names.chunks(250) {
        let topics: Vec<NewTopic<'_>> =
            some.iter().map(|name| NewTopic::new(name, count(partitions), DEFAULT_REPLICATION)).collect();
        let created = block_on(admin(bootstrap).create_topics(&topics, &options())).expect("the broker answers");
        assert!(created.iter().all(Result::is_ok), "{created:?}");
    }
    for name in names {
        wait_for_leaders(bootstrap, name, partitions);
    }
}

/// Raises a topic to `total` partitions and waits until each has a leader.
#[track_caller]
pub fn add_partitions(bootstrap: &str, topic: &str, total: usize) {
    let partitions = NewPartitions::new(topic, total);
    expect_done("add partitions to", topic, block_on(admin(bootstrap).create_partitions(&[partitions], &options())));
    wait_for_leaders(bootstrap, topic, total);
}

/// Deletes a topic and waits until it is gone.
#[track_caller]
pub fn delete_topic(bootstrap: &str, name: &str) {
    expect_done("delete topic", name, block_on(admin(bootstrap).delete_topics(&[name], &options())));
    let observer = observer(bootstrap);
    wait_until(&format!("topic {name} is gone"), VISIBLE_LIMIT, || {
        // Asked for all topics, since asking for a missing one by name costs librdkafka a grace period.
        let metadata = observer.fetch_metadata(None, REQUEST_LIMIT);
        metadata.is_ok_and(|metadata| metadata.topics().iter().all(|topic| topic.name() != name))
    });
}

/// Deletes a group and with it all its committed offsets. The group must have no members.
#[track_caller]
pub fn delete_group_offsets(bootstrap: &str, group: &str) {
    expect_done("delete group", group, block_on(admin(bootstrap).delete_groups(&[group], &options())));
}

/// Deletes the records of a partition before an offset, as retention would.
#[track_caller]
pub fn delete_records(bootstrap: &str, topic: &str, partition: i32, before: i64) {
    let mut list = TopicPartitionList::new();
    let added = list.add_partition_offset(topic, partition, Offset::Offset(before));
    added.expect("an offset that can be asked for");
    let deleted = block_on(admin(bootstrap).delete_records(&list, &options()));
    deleted.unwrap_or_else(|error| panic!("failed to delete records of {topic}: {error}"));
}

/// How many members a group has.
#[track_caller]
pub fn members(bootstrap: &str, group: &str) -> usize {
    let groups = observer(bootstrap).fetch_group_list(Some(group), VISIBLE_LIMIT);
    let groups = groups.unwrap_or_else(|error| panic!("no answer about group {group}: {error}"));
    groups.groups().iter().map(|group| group.members().len()).sum()
}

/// How many partitions of each topic each member of a group holds.
#[track_caller]
pub fn shares(bootstrap: &str, group: &str) -> Vec<BTreeMap<String, usize>> {
    let groups = observer(bootstrap).fetch_group_list(Some(group), VISIBLE_LIMIT);
    let groups = groups.unwrap_or_else(|error| panic!("no answer about group {group}: {error}"));
    let members = groups.groups().iter().flat_map(|group| group.members());
    members.map(|member| member.assignment().and_then(assigned).unwrap_or_default()).collect()
}

/// An assignment as the consumer protocol writes it: a version, then topics with their partitions.
fn assigned(mut assignment: &[u8]) -> Option<BTreeMap<String, usize>> {
    let mut take = |count: usize| -> Option<&[u8]> {
        let (taken, rest) = assignment.split_at_checked(count)?;
        assignment = rest;
        Some(taken)
    };
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
    take(2)?;
    let topics = number(take(4)?);
    let mut all = BTreeMap::new();
    for _ in 0..topics {
        let name = number(take(2)?);
        let name = String::from_utf8_lossy(take(name)?).into_owned();
        let partitions = number(take(4)?);
        take(4 * partitions)?;
        all.insert(name, partitions);
    }
    Some(all)
}

/// Commits offsets by partition for a group without members.
#[track_caller]
pub fn commit(bootstrap: &str, group: &str, topic: &str, offsets: &[(i32, i64)], metadata: &str) {
    let member: BaseConsumer =
        config(bootstrap).set("group.id", group).create().expect("the settings of the harness are valid");
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        let mut element = list.add_partition(topic, *partition);
        element.set_offset(Offset::Offset(*offset)).expect("an offset that can be committed");
        element.set_metadata(metadata);
    }
    let committed = member.commit(&list, CommitMode::Sync);
    committed.unwrap_or_else(|error| panic!("failed to commit {topic} for {group}: {error}"));
}

fn admin(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    config(bootstrap).create().expect("the settings of the harness are valid")
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(CHANGE_LIMIT)).operation_timeout(Some(CHANGE_LIMIT))
}

/// Admin calls answer per name; here it is always one name.
#[track_caller]
fn expect_done(action: &str, name: &str, answer: KafkaResult<Vec<Result<String, (String, RDKafkaErrorCode)>>>) {
    let is_done = matches!(&answer, Ok(answers) if answers.iter().all(Result::is_ok));
    assert!(is_done, "failed to {action} {name}: {:?}", &answer as &dyn Debug);
}

#[track_caller]
fn wait_for_leaders(bootstrap: &str, topic: &str, partitions: usize) {
    let observer = observer(bootstrap);
    wait_until(&format!("{partitions} partitions of {topic} have a leader"), VISIBLE_LIMIT, || {
        let Ok(metadata) = observer.fetch_metadata(Some(topic), REQUEST_LIMIT) else { return false };
        let known = metadata.topics().iter().flat_map(|topic| topic.partitions());
        known.filter(|partition| partition.leader() >= 0 && partition.error().is_none()).count() == partitions
    });
}

fn count(partitions: usize) -> i32 {
    i32::try_from(partitions).expect("a topic of a scenario has few partitions")
}
