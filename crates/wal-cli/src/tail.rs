//! `wal tail`: what arrives on a target, as it comes.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;
use wal_model::delivery::Received;
use wal_model::{InRecord, Lifecycle};
use wal_runtime::config::{Kafka, Settings};
use wal_sdk::{ConnectError, Deliveries, DeliveriesOptions, Item, Start};

use crate::args;
use crate::card;
use crate::json_text;
use crate::paint::{Paint, Tone};
use crate::problem::{Exit, Problem};
use crate::screen::{Format, Screen};
use crate::settings;

/// How often a target that does not exist yet is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How long closing the consumer may take.
const CLOSE: Duration = Duration::from_secs(2);

/// Runs `wal tail`.
pub async fn run(screen: &Screen, settings: &Settings, tail: args::Tail) -> Result<Exit, Problem> {
    let kafka = Kafka::read(settings).map_err(|error| settings::invalid(&error))?;
    settings::reach(&kafka).await?;
    tokio::select! {
        exit = follow(screen, &kafka, &tail) => exit,
        _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
    }
}

async fn follow(screen: &Screen, kafka: &Kafka, tail: &args::Tail) -> Result<Exit, Problem> {
    let mut deliveries = open(screen, kafka, tail).await?;
    let mut shown = 0;
    while tail.max.is_none_or(|max| shown < max) {
        match deliveries.next().await {
            Some(Ok(item)) => {
                show(screen, &item)?;
                shown += 1;
            }
            Some(Err(error)) if error.is_retryable() => {
                let problem = Problem::of(Exit::Failed, "WAL_READ", &error).hint("nothing: reading goes on by itself");
                screen.problem(&problem);
            }
            Some(Err(error)) => return Err(Problem::of(Exit::Failed, "WAL_READ", &error)),
            None => return Err(Problem::new(Exit::Failed, "WAL_READ", "go on reading: the consumer ended")),
        }
    }
    deliveries.close(CLOSE).await;
    Ok(Exit::Done)
}

/// Opens the target; waits for one that does not exist yet, since the first write may well be what makes it.
async fn open(screen: &Screen, kafka: &Kafka, tail: &args::Tail) -> Result<Deliveries, Problem> {
    let mut start = match (&tail.group, tail.from) {
        (Some(group), _) => Start::Group(group.clone()),
        (None, args::From::Beginning) => Start::Beginning,
        (None, args::From::End) => Start::End,
    };
    let mut has_waited = false;
    loop {
        let options = DeliveriesOptions {
            connection: settings::connection(kafka),
            topics: vec![tail.target.clone()],
            start: start.clone(),
        };
        match Deliveries::open(options).await {
            Ok(deliveries) => {
                let text = format!("following {}, Ctrl-C stops", tail.target);
                screen.note(&screen.err.tone(Tone::Faint, &text));
                return Ok(deliveries);
            }
            Err(ConnectError::TopicMissing(topic)) => {
                if !has_waited {
                    let text = format!("{topic} does not exist yet; waiting for it, Ctrl-C stops");
                    screen.note(&screen.err.tone(Tone::Odd, &text));
                }
                has_waited = true;
                // All that will be in it is new.
                if start == Start::End {
                    start = Start::Beginning;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Err(error) => return Err(settings::no_connection(&error)),
        }
    }
}

fn show(screen: &Screen, item: &Item) -> Result<(), Problem> {
    match screen.format {
        Format::Json => screen.json(&ItemJson::of(item)),
        Format::Table => screen.line(&text(item, screen.out)),
    }
}

/// A record as `-o json` shows it. Printed, keep stable.
#[derive(Serialize)]
struct ItemJson<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<DeliveryJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_delivery: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

/// The attributes of a delivery. Printed, keep stable.
#[derive(Serialize)]
struct DeliveryJson<'a> {
    log_id: String,
    namespace: &'a str,
    target: &'a str,
    attempt: u32,
    round: u32,
    retry_count: u32,
    written_at: String,
    sent_at: String,
    deadline: String,
    priority: &'a str,
    answers: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
}

impl<'a> ItemJson<'a> {
    fn of(item: &'a Item) -> ItemJson<'a> {
        let record = &item.record;
        let value = record.value.as_deref().unwrap_or_default();
        let payload = json_text::compact(value).and_then(|json| RawValue::from_string(json).ok());
        ItemJson {
            topic: record.topic.as_str(),
            partition: record.partition,
            offset: record.offset,
            time: record.time.map(|time| time.to_string()),
            key: key(record),
            delivery: item.delivery.as_ref().ok().map(DeliveryJson::of),
            no_delivery: item.delivery.as_ref().err().map(ToString::to_string),
            payload_base64: (payload.is_none() && record.value.is_some()).then(|| STANDARD.encode(value)),
            payload,
        }
    }
}

impl<'a> DeliveryJson<'a> {
    fn of(received: &'a Received) -> DeliveryJson<'a> {
        let delivery = &received.delivery;
        DeliveryJson {
            log_id: delivery.log_id.to_string(),
            namespace: delivery.log_id.namespace().as_str(),
            target: delivery.target.as_str(),
            attempt: delivery.attempt,
            round: delivery.round,
            retry_count: delivery.retry_count,
            written_at: delivery.log_id.timestamp().to_string(),
            sent_at: received.sent.to_string(),
            deadline: delivery.deadline.to_string(),
            priority: delivery.priority.as_str(),
            answers: delivery.answers.as_str(),
            operation: delivery.operation.as_ref().map(|operation| operation.as_str()),
            correlation_id: delivery.correlation_id.as_ref().map(|id| id.as_str()),
            tenant_id: delivery.tenant.as_ref().map(|tenant| tenant.as_str()),
            content_type: delivery.content_type.as_deref(),
        }
    }
}

fn key(record: &InRecord) -> Option<String> {
    record.key.as_ref().map(|key| String::from_utf8_lossy(key).into_owned())
}

fn text(item: &Item, paint: Paint) -> String {
    let record = &item.record;
    let place = format!("{}[{}]@{}", record.topic, record.partition, record.offset);
    let place = paint.tone(Tone::Name, &place);
    let head = match &item.delivery {
        Ok(received) => delivery(received, &place, key(record), paint),
        Err(why) => {
            let time = record.time.map_or(String::new(), |time| time.to_string());
            let why = paint.tone(Tone::Odd, &format!("no delivery: {why}"));
            format!("{place}  {}  {why}", paint.tone(Tone::Faint, &time))
        }
    };
    let payload = match &record.value {
        Some(value) => card::pretty(value),
        None => "(null)".into(),
    };
    format!("{head}\n  {}\n", payload.replace('\n', "\n  "))
}

fn delivery(received: &Received, place: &str, key: Option<String>, paint: Paint) -> String {
    let delivery = &received.delivery;
    let lifecycle = Lifecycle {
        retry_count: delivery.retry_count,
        delay: delivery.delay,
        backoff: delivery.backoff,
        ttl: wal_model::lifecycle::Seconds::new(delivery.deadline.saturating_since(delivery.log_id.timestamp())),
        priority: delivery.priority,
    };
    let allowed = delivery.retry_count.saturating_add(1);
    let attempt = format!("attempt {} of {allowed}", delivery.attempt.saturating_sub(delivery.round_first) + 1);
    let mut facts = Vec::new();
    let mut fact = |name: &str, value: Option<&str>| {
        facts.extend(value.map(|value| format!("{} {value}", paint.tone(Tone::Faint, name))));
    };
    fact("operation", delivery.operation.as_ref().map(|operation| operation.as_str()));
    fact("correlation", delivery.correlation_id.as_ref().map(|id| id.as_str()));
    fact("tenant", delivery.tenant.as_ref().map(|tenant| tenant.as_str()));
    fact("key", key.as_deref());
    let facts = if facts.is_empty() { String::new() } else { format!("\n  {}", facts.join("  ")) };
    format!(
        "{place}  {}  {attempt}\n  {}{facts}\n  {}",
        paint.tone(Tone::Faint, &received.sent.to_string()),
        paint.tone(Tone::Strong, &delivery.log_id.to_string()),
        paint.tone(Tone::Faint, &card::lifecycle(&lifecycle)),
    )
}
