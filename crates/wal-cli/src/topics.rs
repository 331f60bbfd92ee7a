//! `wal topics`: what the log's topics must be, what they are, and the steps between.

mod acls;

use std::collections::BTreeMap;

use serde::Serialize;
use wal_model::Topic;
use wal_runtime::config::{Kafka, Settings, TopicSettings};
use wal_runtime::offsets;
use wal_runtime::offsets::Start;
use wal_runtime::topics::{self, Deviation, Leniency, Planned, Step};

use crate::args;
use crate::paint::Tone;
use crate::problem::{Exit, Problem};
use crate::screen::{Format, Screen, Table};
use crate::settings;

/// Runs `wal topics`.
pub async fn run(screen: &Screen, settings: &Settings, command: args::Topics) -> Result<Exit, Problem> {
    let (kafka, wanted) = read(settings)?;
    match command {
        args::Topics::Acls(wish) => acls::show(screen, &kafka, &wish),
        args::Topics::Plan => {
            settings::reach(&kafka).await?;
            let plan = topics::plan(&kafka, &wanted).await.map_err(|error| failed(&kafka, &error))?;
            show(screen, &plan, Tense::WouldBe)?;
            let open = plan.iter().filter(|planned| planned.step != Step::Fits).count();
            let text = match open {
                0 => "nothing to do".to_owned(),
                open => format!("{open} of {} topics to make or change; `wal topics apply` does it", plan.len()),
            };
            screen.note(&screen.err.tone(Tone::Strong, &text));
            Ok(Exit::Done)
        }
        args::Topics::Apply(adopt) => {
            settings::reach(&kafka).await?;
            apply(screen, &kafka, &wanted, &adopt).await
        }
        args::Topics::Check => {
            settings::reach(&kafka).await?;
            check(screen, &kafka, &wanted).await
        }
    }
}

/// Makes the topics of an embedded broker or of a cluster that was told to have them.
pub async fn make(settings: &Settings, leniency: Leniency) -> Result<(), Problem> {
    let (kafka, wanted) = read(settings)?;
    let failed = |error| failed(&kafka, &error);
    let plan = topics::plan(&kafka, &wanted).await.map_err(failed)?;
    let is_to_do = |planned: &Planned| match (&planned.step, leniency) {
        (Step::Fits, _) => false,
        (Step::Create, _) => true,
        // It keeps few settings; what it does not keep will differ for ever.
        (Step::Change { .. }, Leniency::EmbeddedBroker) => false,
        (Step::Change { .. }, Leniency::None) => true,
    };
    if plan.iter().any(is_to_do) {
        topics::apply(&kafka, &wanted).await.map_err(failed)?;
    }
    match leniency {
        Leniency::EmbeddedBroker => finish_first_start(&kafka, &wanted).await,
        Leniency::None => Ok(()),
    }
}

/// A process that died between making topics and giving our groups their place left a group without any offset; so does a group that
/// is new in this version. On a broker that keeps topics and offsets in one file there is no other way to lose all of a group's, so
/// that beginning at the start loses nothing.
async fn finish_first_start(kafka: &Kafka, wanted: &TopicSettings) -> Result<(), Problem> {
    let mut by_group: BTreeMap<String, Vec<Topic>> = BTreeMap::new();
    for wanted in topics::wanted(kafka, wanted) {
        if let Some(group) = wanted.group {
            by_group.entry(group).or_default().push(wanted.topic);
        }
    }
    for (group, topics) in by_group {
        let facts = offsets::gather(kafka, &group, topics).await.map_err(|why| no_answer(kafka, why))?;
        if facts.iter().all(|fact| fact.committed.is_none()) {
            topics::adopt(kafka, wanted).await.map_err(|error| failed(kafka, &error))?;
            break;
        }
    }
    Ok(())
}

fn read(settings: &Settings) -> Result<(Kafka, TopicSettings), Problem> {
    let kafka = Kafka::read(settings).map_err(|error| settings::invalid(&error))?;
    let wanted = TopicSettings::read(settings).map_err(|error| settings::invalid(&error))?;
    Ok((kafka, wanted))
}

fn failed(kafka: &Kafka, error: &topics::Error) -> Problem {
    let too_few = matches!(error, topics::Error::Brokers { why, .. } if why.contains("InvalidReplicationFactor"));
    let hint = match too_few {
        true => {
            "there are fewer brokers than `topics.replication` wants copies; for one broker set \
             WAL__TOPICS__REPLICATION=1 and WAL__TOPICS__MIN_INSYNC_REPLICAS=1"
        }
        false => "is Kafka running there, and may this user do it? See --bootstrap and [kafka.options]",
    };
    Problem::new(Exit::Failed, "WAL_TOPICS", format!("look after the topics at {}", kafka.bootstrap_servers))
        .because(error)
        .hint(hint)
}

fn no_answer(kafka: &Kafka, why: String) -> Problem {
    let what = format!("read the offsets of our groups at {}: {why}", kafka.bootstrap_servers);
    Problem::new(Exit::Failed, "WAL_BROKER_UNREACHABLE", what)
}

async fn apply(screen: &Screen, kafka: &Kafka, wanted: &TopicSettings, adopt: &args::Adopt) -> Result<Exit, Problem> {
    let plan = topics::apply(kafka, wanted).await.map_err(|error| failed(kafka, &error))?;
    show(screen, &plan, Tense::Was)?;
    if adopt.adopt {
        let starts = topics::adopt(kafka, wanted).await.map_err(|error| failed(kafka, &error))?;
        show_adopted(screen, &starts)?;
    }
    Ok(exit_of(&plan))
}

/// What no command of ours can change is left over.
fn exit_of(plan: &[Planned]) -> Exit {
    let has_rest = |planned: &Planned| matches!(&planned.step, Step::Change { unfixable, .. } if !unfixable.is_empty());
    if plan.iter().any(has_rest) { Exit::Partial } else { Exit::Done }
}

async fn check(screen: &Screen, kafka: &Kafka, wanted: &TopicSettings) -> Result<Exit, Problem> {
    let plan = topics::plan(kafka, wanted).await.map_err(|error| failed(kafka, &error))?;
    show(screen, &plan, Tense::MustBe)?;
    let mut refused = 0;
    for deviation in topics::deviations(&plan, Leniency::None) {
        let (tone, word, text) = match &deviation {
            Deviation::Refuse(text) => (Tone::Bad, "must be mended", text),
            Deviation::Warn(text) => (Tone::Odd, "differs", text),
        };
        refused += usize::from(matches!(deviation, Deviation::Refuse(_)));
        screen.note(&format!("{} {text}", screen.err.tone(tone, &format!("{word}:"))));
    }
    match refused {
        0 => {
            screen.note(&screen.err.tone(Tone::Good, "services can start"));
            Ok(Exit::Done)
        }
        count => {
            let what = format!("find the topics as they must be: services would not start for {count} reasons");
            Err(Problem::new(Exit::Failed, "WAL_TOPICS_UNFIT", what).hint("`wal topics plan`, then `wal topics apply`"))
        }
    }
}

/// What a record of a delay topic takes, with a payload of 1 KiB, uncompressed.
const PARKED_BYTES: u64 = 2300;
const HOLDS: &str = "holds at 1/s: disk of all copies for each record with a payload of 1 KiB that comes in a second, while it waits; what was \
                     released is deleted";

/// How a step is told.
#[derive(Clone, Copy)]
enum Tense {
    WouldBe,
    Was,
    MustBe,
}

/// A topic as `-o json` shows it. Printed, keep stable.
#[derive(Serialize)]
struct TopicJson<'a> {
    topic: &'a str,
    purpose: &'a str,
    partitions: i32,
    replication: i32,
    step: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_waiting_per_record_per_second: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    configs: Vec<ConfigJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grow_to_partitions: Option<i32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    unfixable: &'a [String],
}

#[derive(Serialize)]
struct ConfigJson<'a> {
    name: &'a str,
    found: &'a str,
    wanted: &'a str,
}

impl<'a> TopicJson<'a> {
    fn of(planned: &'a Planned) -> TopicJson<'a> {
        let wanted = &planned.wanted;
        let (step, configs, grow_to_partitions, unfixable) = match &planned.step {
            Step::Fits => ("fits", Vec::new(), None, &[][..]),
            Step::Create => ("create", Vec::new(), None, &[][..]),
            Step::Change { configs, partitions, unfixable } => {
                let config =
                    |(name, found, wanted): &'a (&'static str, String, String)| ConfigJson { name, found, wanted };
                ("change", configs.iter().map(config).collect(), *partitions, &unfixable[..])
            }
        };
        TopicJson {
            topic: wanted.topic.as_str(),
            purpose: &wanted.purpose,
            partitions: wanted.partitions,
            replication: wanted.replication,
            step,
            bytes_waiting_per_record_per_second: wanted.bytes_waiting(PARKED_BYTES),
            configs,
            grow_to_partitions,
            unfixable,
        }
    }
}

fn show(screen: &Screen, plan: &[Planned], tense: Tense) -> Result<(), Problem> {
    if screen.format == Format::Json {
        return plan.iter().try_for_each(|planned| screen.json(&TopicJson::of(planned)));
    }
    let mut table = Table::new(&["topic", "for", "partitions", "copies", "holds at 1/s", "step"]).numbers(&[2, 3, 4]);
    for planned in plan {
        let wanted = &planned.wanted;
        table.row(vec![
            (Tone::Name, wanted.topic.to_string()),
            (Tone::Faint, wanted.purpose.clone()),
            (Tone::Plain, wanted.partitions.to_string()),
            (Tone::Plain, wanted.replication.to_string()),
            (Tone::Plain, wanted.bytes_waiting(PARKED_BYTES).map_or_else(String::new, bytes)),
            told(&planned.step, tense, screen.width.is_some()),
        ]);
    }
    screen.line(&screen.table(&table))?;
    screen.note(&screen.err.tone(Tone::Faint, HOLDS));
    Ok(())
}

/// A number of bytes, in the largest unit that leaves three digits at most.
fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let (mut count, mut unit) = (count.div_ceil(1024), 0);
    while count >= 1000 && unit + 1 < units.len() {
        (count, unit) = (count.div_ceil(1024), unit + 1);
    }
    format!("{count} {}", units[unit])
}

/// A step in words; on a terminal, each change on a line of its own.
fn told(step: &Step, tense: Tense, has_lines: bool) -> (Tone, String) {
    match (step, tense) {
        (Step::Fits, _) => (Tone::Good, "fits".into()),
        (Step::Create, Tense::WouldBe) => (Tone::Odd, "create".into()),
        (Step::Create, Tense::Was) => (Tone::Good, "created".into()),
        (Step::Create, Tense::MustBe) => (Tone::Bad, "missing".into()),
        (Step::Change { configs, partitions, unfixable }, tense) => {
            let mut changes: Vec<String> =
                configs.iter().map(|(name, found, wanted)| format!("{name}: {found} → {wanted}")).collect();
            changes.extend(partitions.map(|count| format!("grow to {count} partitions")));
            changes.extend(unfixable.iter().cloned());
            let word = match tense {
                Tense::WouldBe => "change",
                Tense::Was => "changed",
                Tense::MustBe => "differs",
            };
            let separator = if has_lines { "\n" } else { "; " };
            (Tone::Odd, format!("{word}{separator}{}", changes.join(separator)))
        }
    }
}

/// A partition that our group was given a place on. Printed, keep stable.
#[derive(Serialize)]
struct AdoptedJson<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    step: &'static str,
}

fn show_adopted(screen: &Screen, starts: &[Start]) -> Result<(), Problem> {
    for Start { topic, partition, offset } in starts {
        match screen.format {
            Format::Json => screen.json(&AdoptedJson {
                topic: topic.as_str(),
                partition: *partition,
                offset: *offset,
                step: "adopted",
            })?,
            Format::Table => screen.line(&format!("adopted {topic}[{partition}] at {offset}"))?,
        }
    }
    if starts.is_empty() {
        screen.note("every partition has its place already, nothing was adopted");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_for_people() {
        assert_eq!(told(&Step::Create, Tense::Was, true), (Tone::Good, "created".into()));
        let step = Step::Change {
            configs: vec![("retention.ms", "1".into(), "2".into())],
            partitions: Some(12),
            unfixable: Vec::new(),
        };
        let told = told(&step, Tense::WouldBe, false);
        assert_eq!(told, (Tone::Odd, "change; retention.ms: 1 → 2; grow to 12 partitions".into()));
    }
}
