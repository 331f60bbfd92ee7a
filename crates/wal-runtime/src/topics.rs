//! The log's own topics: what they must look like, what is found, and the steps between. Deciding is here, doing in `cluster`.

mod cluster;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use rdkafka::error::KafkaError;
use wal_model::dead_letter::ROOM;
use wal_model::delay::{Wait, Waits, coins};
use wal_model::topics::Topics;
use wal_model::{Priority, Topic};

use crate::config::{Kafka, TopicSettings};
use crate::directory::TopicShape;
use crate::kafka::{self, BATCH_SIZE};

pub use cluster::{adopt, apply, plan, warn_of_long_transactions};

const CLEANUP: &str = "cleanup.policy";
const RETENTION: &str = "retention.ms";
const MIN_INSYNC: &str = "min.insync.replicas";
const MAX_BYTES: &str = "max.message.bytes";
const TIMESTAMPS: &str = "message.timestamp.type";
const SEGMENT: &str = "segment.bytes";
/// What is deleted is freed by whole segments, of which a partition always keeps the last: Kafka's default of 1 GiB, times partitions
/// and waits, would be far more than ever waits.
const DELAY_SEGMENT: u32 = 64 * 1024 * 1024;
/// What stands for the value of a setting that the brokers do not tell.
const NOT_TOLD: &str = "(not told)";
/// What topics take that carry no payload of requests: Kafka's default, set so that the brokers' own default does not matter.
const PLAIN_MAX_BYTES: usize = 1_048_588;

/// A topic as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub topic: Topic,
    /// What it is for, in a few words.
    pub purpose: String,
    /// How many partitions.
    pub partitions: i32,
    /// Copies of each.
    pub replication: i32,
    /// Settings, by Kafka's names.
    pub configs: Vec<(&'static str, String)>,
    /// The group that reads it, if it is one of ours.
    pub group: Option<String>,
    /// The smallest `max.message.bytes` with which a service can work: what it publishes in one batch.
    pub needed_bytes: usize,
    /// What else a service cannot work without.
    pub needs: Needs,
    /// How services do without it; `None` is that they do not.
    pub instead: Option<&'static str>,
    /// How long everything in it waits, in a delay topic.
    pub wait: Option<Wait>,
}

impl Wanted {
    /// The bytes that a delay topic holds, all copies together, for each record of `size` bytes that comes in a second: a wait's worth.
    pub fn bytes_waiting(&self, size: u64) -> Option<u64> {
        let wait = self.wait?.duration().as_millis();
        let bytes = wait * u128::from(size) * u128::from(self.replication.unsigned_abs()) / 1000;
        Some(u64::try_from(bytes).unwrap_or(u64::MAX))
    }
}

/// What a service cannot work without, beside existence and room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// Nothing that waits may be deleted before this time.
    Retention(Duration),
    /// The last record of every key must stay.
    Compaction,
    /// The broker's clock must tell the time of records, for this reason.
    AppendTime(&'static str),
}

/// What is left to do about a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is as it must be.
    Fits,
    /// It does not exist.
    Create,
    /// It exists and is not as it must be.
    Change {
        /// Settings that differ: name, what is there, what must be.
        configs: Vec<(&'static str, String, String)>,
        /// How many partitions to grow to, if there are too few.
        partitions: Option<i32>,
        /// What no command of ours can change, in words.
        unfixable: Vec<String>,
    },
}

/// A topic and what is left to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// What it must be.
    pub wanted: Wanted,
    /// What is to be done.
    pub step: Step,
}

/// How much a broker must be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leniency {
    /// All that Kafka can.
    None,
    /// The embedded broker keeps few settings and takes the time of records from the client; existence is what counts there.
    EmbeddedBroker,
}

/// A deviation found at a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deviation {
    /// The service must not start.
    Refuse(String),
    /// The service starts and says so.
    Warn(String),
}

/// Why the topics could not be looked at or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A client could not be made.
    #[error("could not make a Kafka client")]
    Client(#[from] KafkaError),
    /// The brokers did not answer, or refused.
    #[error("{what}: {why}")]
    Brokers {
        /// What was asked for.
        what: String,
        /// What came back.
        why: String,
    },
}

/// Every topic that the services there are need.
pub fn wanted(kafka: &Kafka, settings: &TopicSettings) -> Vec<Wanted> {
    let topics = &kafka.topics;
    let largest = settings.max_message_bytes as usize;
    let dead_bytes = largest + ROOM;
    let plain = |topic, purpose: &str, retention| Spec {
        topic,
        purpose: purpose.to_owned(),
        retention,
        ..Spec::default_of(settings)
    };
    let ingress = |priority, purpose: &str| Spec {
        largest,
        needs: Needs::AppendTime("the time of a request would be whatever its client says"),
        group: Some("writer"),
        ..plain(topics.ingress(priority), purpose, settings.ingress_retention)
    };
    let mut specs = vec![
        ingress(Priority::High, "requests that go first"),
        ingress(Priority::Normal, "requests"),
        ingress(Priority::Low, "requests that can wait"),
        plain(topics.receipts(), "answers to requests", settings.receipts_retention),
        Spec {
            needs: Needs::AppendTime(
                "when an entry was completed, and so when it is purged, would rest on clients' clocks",
            ),
            group: Some("status"),
            ..plain(topics.acks(), "what happened to entries", settings.acks_retention)
        },
        Spec {
            largest,
            needed: largest,
            needs: Needs::AppendTime("which failures were decided already would rest on clients' clocks"),
            group: Some("retry-scheduler"),
            ..plain(topics.failures(), "attempts that failed", settings.failures_retention)
        },
        Spec { needs: Needs::Compaction, ..plain(topics.cancels(), "rounds that are cancelled", Duration::ZERO) },
        Spec { needs: Needs::Compaction, ..plain(topics.status(), "where each entry stands", Duration::ZERO) },
        plain(topics.audit(), "who did what", settings.audit_retention),
        Spec {
            largest: dead_bytes,
            needed: dead_bytes,
            ..plain(topics.dead_requests(), "requests refused", settings.dead_letter_retention)
        },
    ];
    specs.extend(delay_specs(topics, settings));
    specs.into_iter().map(|spec| spec.wanted(kafka, settings)).collect()
}

/// A delay topic for each coin and for each wait of the policy.
fn delay_specs<'a>(topics: &'a Topics, settings: &'a TopicSettings) -> impl Iterator<Item = Spec> + 'a {
    let is_coin = |wait| coins().any(|coin| coin == wait);
    let waits: BTreeSet<Wait> = coins().chain(settings.waits.keys().copied()).collect();
    waits.into_iter().map(move |wait| Spec {
        topic: topics.delay(wait),
        purpose: match settings.waits.get(&wait) {
            Some(retries) if is_coin(wait) => format!("{}; a coin", before(retries)),
            Some(retries) => before(retries),
            None => "a coin: other waits are paid with it".to_owned(),
        },
        wait: Some(wait),
        retention: settings.delay_retention,
        largest: settings.max_message_bytes as usize,
        needed: settings.max_message_bytes as usize,
        partitions: settings.delay_partitions,
        needs: Needs::Retention(settings.delay_retention),
        group: Some("delays"),
        // A wait that came with a change of the policy; coins always are there.
        instead: (!is_coin(wait)).then_some("until then what waits so long is paid in coins"),
    })
}

/// The retries of the policy that something waits for.
fn before(retries: &RangeInclusive<u32>) -> String {
    match (retries.start(), retries.end()) {
        (first, last) if first == last => format!("the wait before retry {first} of the policy"),
        (first, last) => format!("the wait before retries {first} to {last} of the policy"),
    }
}

/// What makes one topic differ from another.
struct Spec {
    topic: Topic,
    purpose: String,
    retention: Duration,
    largest: usize,
    needed: usize,
    partitions: i32,
    needs: Needs,
    group: Option<&'static str>,
    instead: Option<&'static str>,
    wait: Option<Wait>,
}

impl Spec {
    fn default_of(settings: &TopicSettings) -> Spec {
        Spec {
            topic: Topic::parse("unnamed").expect("a legal name"),
            purpose: String::new(),
            retention: Duration::ZERO,
            largest: PLAIN_MAX_BYTES,
            needed: BATCH_SIZE,
            partitions: settings.partitions,
            needs: Needs::Nothing,
            group: None,
            instead: None,
            wait: None,
        }
    }

    fn wanted(self, kafka: &Kafka, settings: &TopicSettings) -> Wanted {
        let Spec { topic, purpose, retention, largest, needed, partitions, needs, group, instead, wait } = self;
        let cleanup = match needs {
            Needs::Compaction => vec![(CLEANUP, "compact".to_owned())],
            Needs::Nothing | Needs::Retention(_) | Needs::AppendTime(_) => {
                vec![(CLEANUP, "delete".to_owned()), (RETENTION, retention.as_millis().to_string())]
            }
        };
        let mut configs = cleanup;
        configs.push((MIN_INSYNC, settings.min_insync_replicas.to_string()));
        configs.push((MAX_BYTES, largest.to_string()));
        if wait.is_some() {
            configs.push((SEGMENT, DELAY_SEGMENT.to_string()));
        }
        if let Needs::AppendTime(_) = needs {
            // The record's time is half of an identity, or the age of a decision: clients' clocks must decide nothing.
            configs.push((TIMESTAMPS, "LogAppendTime".to_owned()));
        }
        // What is read is not published by us, but for what waits.
        let is_requests = group == Some("writer");
        Wanted {
            topic,
            purpose,
            partitions,
            replication: settings.replication,
            configs,
            group: group.map(|group| kafka::group(kafka, group)),
            needed_bytes: if is_requests { 0 } else { needed },
            needs,
            instead,
            wait,
        }
    }
}

/// What is left to do about a topic that looks so.
pub fn compare(wanted: Wanted, found: Option<&TopicShape>) -> Planned {
    let Some(found) = found else { return Planned { wanted, step: Step::Create } };
    let mut unfixable = misfits(&wanted, found);
    let mut configs = Vec::new();
    for (key, there, value) in differences(&wanted, found) {
        // With fewer copies than must have a record, nothing could be written at all.
        if key == MIN_INSYNC && number(&value) > u64::try_from(found.replication).ok() {
            unfixable.push(format!("{key} is {there} instead of {value}, which takes more copies than there are"));
        } else {
            configs.push((key, there, value));
        }
    }
    let partitions = (found.partitions < wanted.partitions).then_some(wanted.partitions);
    let fits = configs.is_empty() && partitions.is_none() && unfixable.is_empty();
    let step = if fits { Step::Fits } else { Step::Change { configs, partitions, unfixable } };
    Planned { wanted, step }
}

/// What no command of ours can change.
fn misfits(wanted: &Wanted, found: &TopicShape) -> Vec<String> {
    let mut misfits = Vec::new();
    if found.configs.is_empty() {
        misfits.push("its settings are not told to this client, so they are neither checked nor changed".to_owned());
    }
    if found.partitions > wanted.partitions {
        let (there, count) = (found.partitions, wanted.partitions);
        misfits.push(format!("it has {there} partitions instead of {count}; partitions cannot be taken away"));
    }
    if found.replication < wanted.replication {
        let (there, count) = (found.replication, wanted.replication);
        misfits.push(format!("it has {there} of {count} copies of a partition; kafka-reassign-partitions makes more"));
    }
    misfits
}

/// The settings that differ: name, what is there, what must be. None where no setting is told.
fn differences(wanted: &Wanted, found: &TopicShape) -> Vec<(&'static str, String, String)> {
    if found.configs.is_empty() {
        return Vec::new();
    }
    let differs = |(key, value): &(&'static str, String)| {
        let there = found.configs.get(*key).map_or(NOT_TOLD, String::as_str);
        (!fits(wanted, key, there, value)).then(|| (*key, there.to_owned(), value.clone()))
    };
    wanted.configs.iter().filter_map(differs).collect()
}

/// Whether a setting is good as it is: more safety or more room than wanted was given by somebody on purpose.
fn fits(wanted: &Wanted, key: &str, there: &str, value: &str) -> bool {
    let is_input = wanted.group.is_some() && wanted.needed_bytes == 0;
    match key {
        MIN_INSYNC => number(there) >= number(value),
        // What waits may stay longer, for ever included.
        RETENTION if matches!(wanted.needs, Needs::Retention(_)) => there == "-1" || number(there) >= number(value),
        // A larger request would not fit on the dead-letter topic.
        MAX_BYTES if !is_input => number(there) >= number(value),
        _ => there == value,
    }
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

/// The waits that there were topics for when the plan was made.
pub fn waits(plan: &[Planned], topics: &Topics) -> Waits {
    let is_there = |planned: &&Planned| planned.step != Step::Create;
    Waits::coins_and(plan.iter().filter(is_there).filter_map(|planned| topics.wait_of(&planned.wanted.topic)))
}

/// What a service must know of the topics before it starts.
pub fn deviations(plan: &[Planned], leniency: Leniency) -> Vec<Deviation> {
    let mut deviations = Vec::new();
    for Planned { wanted, step } in plan {
        let topic = &wanted.topic;
        match step {
            Step::Fits => {}
            Step::Create => deviations.push(match wanted.instead {
                Some(instead) => Deviation::Warn(format!("{topic} does not exist ({}): {instead}", wanted.purpose)),
                None => Deviation::Refuse(format!("{topic} does not exist ({})", wanted.purpose)),
            }),
            Step::Change { .. } if leniency == Leniency::EmbeddedBroker => {}
            Step::Change { configs, partitions, unfixable } => {
                deviations.extend(configs.iter().map(|difference| deviation(wanted, difference)));
                if let Some(count) = partitions {
                    deviations.push(Deviation::Warn(format!("{topic} has fewer than {count} partitions")));
                }
                deviations.extend(unfixable.iter().map(|why| Deviation::Warn(format!("{topic}: {why}"))));
            }
        }
    }
    deviations
}

/// Whether a wrong setting can lose or refuse records, or only makes the topic other than it was meant.
fn deviation(wanted: &Wanted, (key, there, value): &(&'static str, String, String)) -> Deviation {
    let topic = &wanted.topic;
    let sentence = format!("{topic}: {key} is {there}, wanted is {value}");
    let fatal = match *key {
        CLEANUP if wanted.needs == Needs::Compaction => Some("retention would remove what must stay"),
        CLEANUP if there.contains("compact") => Some("compaction would remove records that nobody has read"),
        RETENTION if matches!(wanted.needs, Needs::Retention(_)) && there != NOT_TOLD => {
            Some("what waits there could be deleted before it is due")
        }
        TIMESTAMPS if there != NOT_TOLD => match wanted.needs {
            Needs::AppendTime(why) => Some(why),
            Needs::Nothing | Needs::Retention(_) | Needs::Compaction => None,
        },
        MAX_BYTES if number(there).is_some_and(|bytes| bytes < wanted.needed_bytes as u64) => {
            Some("a batch that does not fit would stop all work")
        }
        _ => None,
    };
    match fatal {
        Some(why) => Deviation::Refuse(format!("{sentence}: {why}")),
        None => Deviation::Warn(sentence),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use super::*;
    use crate::config::Settings;

    fn all() -> Vec<Wanted> {
        let settings = Settings::load_from(None, std::iter::empty(), &[]).unwrap();
        wanted(&Kafka::read(&settings).unwrap(), &TopicSettings::read(&settings).unwrap())
    }

    fn one(name: &str) -> Wanted {
        all().into_iter().find(|wanted| wanted.topic.as_str() == name).unwrap()
    }

    /// A topic that is as wanted, but for what `spoil` does to it.
    fn planned(name: &str, spoil: impl Fn(&mut TopicShape)) -> Planned {
        let wanted = one(name);
        let configs: HashMap<String, String> =
            wanted.configs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let mut shape = TopicShape {
            partitions: wanted.partitions,
            replication: 3,
            max_message_bytes: 1_048_588,
            configs: Arc::new(configs),
        };
        spoil(&mut shape);
        compare(wanted, Some(&shape))
    }

    fn set(key: &'static str, value: &'static str) -> impl Fn(&mut TopicShape) {
        move |shape| drop(Arc::make_mut(&mut shape.configs).insert(key.to_owned(), value.to_owned()))
    }

    #[test]
    fn a_topic_that_fits_is_left_alone() {
        assert_eq!(planned("wal.ingress", |_| {}).step, Step::Fits);
    }

    #[test]
    fn more_safety_or_room_than_wanted_fits() {
        assert_eq!(planned("wal.ingress", set(MIN_INSYNC, "3")).step, Step::Fits);
        assert_eq!(planned("dlq.wal.ingress", set(MAX_BYTES, "9999999")).step, Step::Fits);
        assert_eq!(planned("wal.acks", |shape| shape.replication = 5).step, Step::Fits);
    }

    #[test]
    fn what_waits_or_must_stay_is_not_left_to_the_wrong_retention() {
        let refused = |name, key, value| {
            let plan = [planned(name, set(key, value))];
            matches!(&deviations(&plan, Leniency::None)[..], [Deviation::Refuse(_)])
        };
        assert!(refused("wal.delay.60s", RETENTION, "3600000"));
        assert!(refused("wal.cancels", CLEANUP, "delete"));
        assert!(refused("wal.failures", TIMESTAMPS, "CreateTime"));
        assert!(refused("wal.failures", MAX_BYTES, "1000"));
        assert_eq!(planned("wal.delay.60s", set(RETENTION, "-1")).step, Step::Fits);
    }

    #[test]
    fn every_wait_of_the_policy_and_every_coin_has_its_topic() {
        let delays: Vec<Wanted> =
            all().into_iter().filter(|wanted| wanted.topic.as_str().contains(".delay.")).collect();
        assert_eq!(delays.len(), 21 + 3);
        assert_eq!(one("wal.delay.4m").purpose, "the wait before retry 3 of the policy");
        // A minute of records of 2,000 bytes in three copies.
        assert_eq!(one("wal.delay.60s").bytes_waiting(2000), Some(60 * 2000 * 3));
        assert_eq!(one("wal.acks").bytes_waiting(2000), None);
        assert_eq!(one("wal.delay.4m").partitions, 4);
        assert!(delays.iter().all(|wanted| wanted.group.as_deref() == Some("wal.delays")));
    }

    #[test]
    fn what_differs_and_can_be_changed_is_planned() {
        let Step::Change { configs, partitions, unfixable } = planned("wal.acks", set(RETENTION, "1")).step else {
            panic!()
        };
        assert_eq!(configs, [(RETENTION, "1".to_owned(), "604800000".to_owned())]);
        assert_eq!((partitions, unfixable), (None, vec![]));
        let Step::Change { configs, partitions, .. } = planned("wal.acks", |shape| shape.partitions = 6).step else {
            panic!()
        };
        assert_eq!((configs, partitions), (vec![], Some(12)));
    }

    #[test]
    fn what_cannot_be_changed_is_said() {
        let cases = [
            (planned("wal.ingress", |shape| shape.partitions = 24), "24 partitions instead of 12"),
            (planned("wal.ingress", |shape| shape.replication = 1), "1 of 3 copies"),
            (planned("wal.ingress", |shape| shape.configs = Arc::default()), "not told"),
        ];
        for (planned, words) in cases {
            let Step::Change { configs, partitions: None, unfixable } = planned.step else { panic!() };
            assert!(configs.is_empty() && unfixable.len() == 1 && unfixable[0].contains(words), "{unfixable:?}");
        }
    }

    #[test]
    fn a_topic_of_few_copies_stays_writable() {
        let few = |shape: &mut TopicShape| {
            set(MIN_INSYNC, "1")(shape);
            shape.replication = 1;
        };
        let Step::Change { configs, unfixable, .. } = planned("wal.ingress", few).step else { panic!() };
        assert_eq!(configs, []);
        assert!(unfixable[1].contains("min.insync.replicas is 1 instead of 2"), "{unfixable:?}");
    }

    #[test]
    fn what_can_lose_or_refuse_records_keeps_a_service_from_starting() {
        let refused = [
            planned("wal.ingress", set(TIMESTAMPS, "CreateTime")),
            planned("wal.ingress", set(CLEANUP, "compact")),
            planned("wal.acks", set(CLEANUP, "compact,delete")),
            planned("wal.receipts", set(MAX_BYTES, "200000")),
            planned("dlq.wal.ingress", set(MAX_BYTES, "1048588")),
        ];
        for planned in refused {
            let deviations = deviations(std::slice::from_ref(&planned), Leniency::None);
            assert!(matches!(&deviations[..], [Deviation::Refuse(_)]), "{deviations:?}");
            assert_eq!(super::deviations(&[planned], Leniency::EmbeddedBroker), []);
        }
    }

    #[test]
    fn what_is_only_other_than_meant_is_a_warning_that_names_both() {
        let warned = [
            (planned("wal.ingress", set(RETENTION, "1")), "wal.ingress: retention.ms is 1, wanted is 604800000"),
            (planned("wal.ingress", set(MAX_BYTES, "2000000")), "max.message.bytes is 2000000, wanted is 1048588"),
            (planned("wal.ingress", set(MIN_INSYNC, "1")), "min.insync.replicas is 1, wanted is 2"),
            (planned("wal.receipts", set(MAX_BYTES, "300000")), "max.message.bytes is 300000"),
            (planned("wal.ingress", |shape| shape.replication = 1), "wal.ingress: it has 1 of 3 copies"),
            (planned("wal.ingress", |shape| shape.partitions = 6), "wal.ingress has fewer than 12 partitions"),
        ];
        for (planned, words) in warned {
            let deviations = deviations(&[planned], Leniency::None);
            assert!(
                matches!(&deviations[..], [Deviation::Warn(sentence)] if sentence.contains(words)),
                "{deviations:?}"
            );
        }
    }

    #[test]
    fn a_missing_topic_is_refused_even_on_the_embedded_broker() {
        let plan: Vec<Planned> = all().into_iter().map(|wanted| compare(wanted, None)).collect();
        let deviations = deviations(&plan, Leniency::EmbeddedBroker);
        let (refused, warned): (Vec<_>, Vec<_>) =
            deviations.into_iter().partition(|deviation| matches!(deviation, Deviation::Refuse(_)));
        // The waits of the policy can be paid in coins.
        assert_eq!((refused.len(), warned.len()), (31, 3));
    }

    #[test]
    fn dead_letters_have_room_for_every_request_and_every_output_takes_a_batch() {
        let ingress: usize =
            one("wal.ingress").configs.iter().find(|(key, _)| *key == MAX_BYTES).unwrap().1.parse().unwrap();
        assert_eq!(one("dlq.wal.ingress").needed_bytes, ingress + 64 * 1024);
        assert!(all().iter().all(|wanted| wanted.group.is_some() || wanted.needed_bytes >= BATCH_SIZE));
    }
}
