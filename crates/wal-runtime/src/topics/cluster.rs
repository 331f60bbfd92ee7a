//! Looking at the topics there are, and making them fit. Nothing here removes anything.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AlterConfig, ConfigEntry, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tracing::{info, warn};
use wal_model::Topic;

use super::{Error, Planned, Step, Wanted, compare, wanted};
use crate::config::{Kafka, TopicSettings};
use crate::directory::{Directory, Presence};
use crate::kafka::{Admin, Seen, options};
use crate::offsets::{self, Committed, PartitionFacts, Start};

/// How long the brokers may take for one change, and again until it is seen.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a change is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The longest `transaction.max.timeout.ms` that is not worth a warning.
const LONG_TRANSACTION: Duration = Duration::from_secs(60);

/// Looks at the cluster and plans, without changing anything.
pub async fn plan(kafka: &Kafka, settings: &TopicSettings) -> Result<Vec<Planned>, Error> {
    let wanted = wanted(kafka, settings);
    let names: Vec<Topic> = wanted.iter().map(|wanted| wanted.topic.clone()).collect();
    // A directory of its own: what another one remembers may be from before the last change.
    let mut found = Directory::new(kafka)?.look_up(&names).await;
    wanted
        .into_iter()
        .map(|wanted| match found.remove(&wanted.topic) {
            Some(Presence::Known(shape)) => Ok(compare(wanted, Some(&shape))),
            Some(Presence::Unknown { .. }) => Ok(compare(wanted, None)),
            Some(Presence::Denied(why) | Presence::Unanswered(why)) => {
                Err(brokers(format!("could not look at {}", wanted.topic), why))
            }
            None => Err(brokers(format!("could not look at {}", wanted.topic), "no answer")),
        })
        .collect()
}

/// Does what a plan made now says, and gives our groups their place on every partition it makes. Returns that plan.
///
/// After an error some of it may be done; doing it again goes on from there. But a group whose place could not be written on a topic
/// that was just made has to be given it with [`adopt`].
pub async fn apply(kafka: &Kafka, settings: &TopicSettings) -> Result<Vec<Planned>, Error> {
    let plan = plan(kafka, settings).await?;
    if plan.iter().all(|planned| planned.step == Step::Fits) {
        return Ok(plan);
    }
    let admin = Admin::new(kafka)?;
    let mut made = Vec::new();
    let done = make(&admin, &plan, &mut made).await;
    // After an error, too: what was made before it has its place.
    give_places(kafka, made).await?;
    done?;
    Ok(plan)
}

/// Makes what is missing, and tells in `made` which partitions of which topic are new.
async fn make<'a>(admin: &Admin, plan: &'a [Planned], made: &mut Vec<(&'a Wanted, Range<i32>)>) -> Result<(), Error> {
    for Planned { wanted, step } in plan {
        match step {
            Step::Fits => {}
            Step::Create => made.push((wanted, create(admin, wanted).await?)),
            Step::Change { configs, partitions, .. } => {
                if !configs.is_empty() {
                    change(admin, wanted, configs).await?;
                }
                if let Some(count) = partitions {
                    made.push((wanted, grow(admin, wanted, *count).await?));
                }
            }
        }
    }
    Ok(())
}

/// Gives our groups a place on every partition where they have none or it is gone: the start of its log. Returns those places.
///
/// Refused while a group has members: they know their place better. What was read before may then be read again; what was deleted
/// unread is given up.
pub async fn adopt(kafka: &Kafka, settings: &TopicSettings) -> Result<Vec<Start>, Error> {
    let mut adopted = Vec::new();
    for (group, topics) in groups(kafka, settings) {
        let facts = offsets::gather(kafka, &group, topics).await;
        let facts = facts.map_err(|why| brokers(format!("could not read the offsets of group {group}"), why))?;
        let is_lost = |fact: &&PartitionFacts| {
            fact.committed.is_none_or(|offset| offset < fact.log_start || offset > fact.log_end)
        };
        let start = |fact: &PartitionFacts| Start {
            topic: fact.topic.clone(),
            partition: fact.partition,
            offset: fact.log_start,
        };
        let starts: Vec<Start> = facts.iter().filter(is_lost).map(start).collect();
        let what = || format!("could not commit offsets for group {group}");
        match offsets::commit(kafka, &group, starts.clone()).await.map_err(|why| brokers(what(), why))? {
            Committed::Done => adopted.extend(starts),
            Committed::HasMembers => return Err(brokers(what(), "it has members; stop the services first")),
        }
    }
    Ok(adopted)
}

/// Warns if the brokers let a client keep a transaction open for longer than a minute: for as long, all readers may stand still.
pub async fn warn_of_long_transactions(kafka: &Kafka) {
    const NAME: &str = "transaction.max.timeout.ms";
    let Ok(admin) = Admin::new(kafka) else { return };
    let told = admin.broker_setting(NAME).await.and_then(|text| text.parse().ok());
    if let Some(longest) = told.map(Duration::from_millis).filter(|longest| *longest > LONG_TRANSACTION) {
        warn!(
            ?longest,
            "{NAME} of the brokers is longer than {LONG_TRANSACTION:?}: a forgotten transaction of any client on our input topics \
             holds back every reader for as long"
        );
    }
}

/// The groups that are ours, each with the topics it reads.
fn groups(kafka: &Kafka, settings: &TopicSettings) -> Vec<(String, Vec<Topic>)> {
    let mut groups: Vec<(String, Vec<Topic>)> = Vec::new();
    for wanted in wanted(kafka, settings) {
        let Some(group) = wanted.group else { continue };
        match groups.iter_mut().find(|(known, _)| *known == group) {
            Some((_, topics)) => topics.push(wanted.topic),
            None => groups.push((group, vec![wanted.topic])),
        }
    }
    groups
}

/// Creates a topic; returns the partitions made.
async fn create(admin: &Admin, wanted: &Wanted) -> Result<Range<i32>, Error> {
    let name = wanted.topic.as_str();
    let mut new = NewTopic::new(name, wanted.partitions, TopicReplication::Fixed(wanted.replication));
    for (key, value) in &wanted.configs {
        new = new.set(key, value);
    }
    let what = || format!("could not create {name}");
    let created = admin.client().create_topics([&new], &options(CHANGE_TIMEOUT)).await;
    let created = created.map(|results| results.into_iter().map(|result| result.map_err(|(_, code)| code)));
    done(created).map_err(|why| brokers(what(), why))?;
    wait_for(admin, wanted, wanted.partitions).await.map_err(|why| brokers(what(), why))?;
    info!(topic = name, partitions = wanted.partitions, "topic created");
    Ok(0..wanted.partitions)
}

/// Sets what differs and leaves every other setting that was made on purpose.
///
/// rdkafka 0.39 has only AlterConfigs, which resets what it does not name: so all settings of the topic itself are read and written
/// back. One that somebody else makes in between, within milliseconds, is lost.
async fn change(admin: &Admin, wanted: &Wanted, configs: &[(&'static str, String, String)]) -> Result<(), Error> {
    let name = wanted.topic.as_str();
    let what = || format!("could not change the settings of {name}");
    let mut told = admin.settings(std::slice::from_ref(&wanted.topic)).await.map_err(|error| brokers(what(), error))?;
    let Some(entries) = told.remove(&wanted.topic) else {
        return Err(brokers(what(), "the brokers do not tell them"));
    };
    let mut settings = own(&entries).map_err(|why| brokers(what(), why))?;
    settings.extend(configs.iter().map(|(key, _, value)| (*key, value.as_str())));
    let alter = AlterConfig { specifier: ResourceSpecifier::Topic(name), entries: settings };
    let altered = admin.client().alter_configs([&alter], &options(CHANGE_TIMEOUT)).await;
    let altered = altered.map(|results| results.into_iter().map(|result| result.map_err(|(_, code)| code)));
    done(altered).map_err(|why| brokers(what(), why))?;
    for (key, found, value) in configs {
        info!(topic = name, key, found, set = value, "topic changed");
    }
    Ok(())
}

/// The settings that belong to the topic itself. The brokers hide values that they do not understand, and those cannot be kept.
fn own(entries: &[ConfigEntry]) -> Result<HashMap<&str, &str>, String> {
    let own = entries.iter().filter(|entry| entry.source == ConfigSource::DynamicTopic);
    own.map(|entry| match &entry.value {
        Some(value) => Ok((entry.name.as_str(), value.as_str())),
        None => Err(format!("the brokers do not tell the value of {}, which would be lost", entry.name)),
    })
    .collect()
}

/// Adds partitions; returns those made.
async fn grow(admin: &Admin, wanted: &Wanted, count: i32) -> Result<Range<i32>, Error> {
    let name = wanted.topic.as_str();
    let what = || format!("could not add partitions to {name}");
    let before = match admin.see(vec![wanted.topic.clone()]).await.pop() {
        Some((_, Seen::There { partitions, .. })) => partitions,
        other => return Err(brokers(what(), format!("it is not seen any more: {other:?}"))),
    };
    let total = usize::try_from(count).map_err(|_| brokers(what(), "a count below 0"))?;
    let grown = admin.client().create_partitions([&NewPartitions::new(name, total)], &options(CHANGE_TIMEOUT)).await;
    let grown = grown.map(|results| results.into_iter().map(|result| result.map_err(|(_, code)| code)));
    done(grown).map_err(|why| brokers(what(), why))?;
    wait_for(admin, wanted, count).await.map_err(|why| brokers(what(), why))?;
    info!(topic = name, partitions = count, before, "partitions added; keys are spread anew from here on");
    Ok(before..count)
}

/// Waits until every partition is seen and has a leader: only then does a group's coordinator take its offsets.
async fn wait_for(admin: &Admin, wanted: &Wanted, count: i32) -> Result<(), String> {
    let until = Instant::now() + CHANGE_TIMEOUT;
    loop {
        let seen = admin.see(vec![wanted.topic.clone()]).await;
        if matches!(seen[..], [(_, Seen::There { partitions, is_led: true, .. })] if partitions >= count) {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(format!("done, but not seen within {CHANGE_TIMEOUT:?}: {seen:?}"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A group that reads partitions that were just made begins at their start: there is nothing before it to be lost. One commit for each
/// group: each takes a client of its own, and a group reads dozens of delay topics.
async fn give_places(kafka: &Kafka, made: Vec<(&Wanted, Range<i32>)>) -> Result<(), Error> {
    let mut starts: BTreeMap<&str, Vec<Start>> = BTreeMap::new();
    for (wanted, partitions) in made {
        let Some(group) = &wanted.group else { continue };
        let start = |partition| Start { topic: wanted.topic.clone(), partition, offset: 0 };
        starts.entry(group).or_default().extend(partitions.map(start));
    }
    for (group, starts) in starts {
        let committed = offsets::commit(kafka, group, starts).await;
        match committed.map_err(|why| brokers(format!("could not commit offsets for group {group}"), why))? {
            Committed::Done => {}
            // Members have offsets elsewhere, so they begin a new partition at 0 by themselves.
            Committed::HasMembers => info!(group, "the group is at work and takes its place by itself"),
        }
    }
    Ok(())
}

fn done(answer: Result<impl Iterator<Item = Result<impl Sized, RDKafkaErrorCode>>, KafkaError>) -> Result<(), String> {
    match answer.map_err(|error| error.to_string())?.next() {
        Some(Ok(_)) => Ok(()),
        Some(Err(code)) => Err(code.to_string()),
        None => Err("no answer".to_owned()),
    }
}

fn brokers(what: String, why: impl ToString) -> Error {
    Error::Brokers { what, why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, value: Option<&str>, source: ConfigSource) -> ConfigEntry {
        let (name, value) = (name.to_owned(), value.map(str::to_owned));
        ConfigEntry { name, value, source, is_read_only: false, is_default: false, is_sensitive: false }
    }

    #[test]
    fn a_change_keeps_what_belongs_to_the_topic_and_nothing_else() {
        let entries = [
            entry("segment.ms", Some("1000"), ConfigSource::DynamicTopic),
            entry("flush.ms", Some("5"), ConfigSource::StaticBroker),
            entry("retention.ms", Some("7"), ConfigSource::Default),
        ];
        assert_eq!(own(&entries), Ok(HashMap::from([("segment.ms", "1000")])));
    }

    #[test]
    fn a_change_that_would_lose_a_hidden_setting_is_refused() {
        let why = own(&[entry("old.setting", None, ConfigSource::DynamicTopic)]).unwrap_err();
        assert!(why.contains("old.setting"), "{why}");
    }
}
