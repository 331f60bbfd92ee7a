//! Spans as OpenTelemetry's conventions for messaging name them (1.43, in development there: the names stand here and nowhere else).

use std::borrow::Cow;
use std::time::SystemTime;

use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use wal_model::record::{InRecord, OutRecord, last_str};
use wal_model::wire;

use super::hop::{self, Sent};

/// How many steps a batch links to at most; backends cut longer lists.
const LINKS: usize = 128;

/// When what became of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub taken: SystemTime,
    pub handled: SystemTime,
    pub committed: SystemTime,
}

/// A committed batch.
pub(super) struct Told<'a> {
    pub group: &'a str,
    pub records: &'a [InRecord],
    pub outputs: &'a [OutRecord],
    pub sent: &'a [Sent],
    pub times: Times,
}

/// The spans of a batch, of its records and of what it sent; none where nothing in it is sampled.
pub(super) fn of_batch(told: &Told<'_>) -> Vec<SpanData> {
    let step = |record: &InRecord| hop::context(&record.headers).filter(SpanContext::is_sampled);
    let came: Vec<(&InRecord, SpanContext)> =
        told.records.iter().filter_map(|record| Some((record, step(record)?))).collect();
    if came.is_empty() && told.sent.is_empty() {
        return Vec::new();
    }
    let batch = hop::random_trace();
    let steps = came
        .iter()
        .map(|(_, step)| step)
        .chain(told.sent.iter().filter(|sent| sent.parent.is_none()).map(|sent| &sent.context));
    let mut spans = whole(told, &batch, steps.take(LINKS).cloned().collect());
    spans.extend(came.iter().map(|(record, step)| processed(told, record, step, &batch)));
    spans.extend(told.sent.iter().map(|sent| sent_to(told, sent, &batch)));
    spans
}

fn whole(told: &Told<'_>, batch: &SpanContext, links: Vec<SpanContext>) -> Vec<SpanData> {
    let Times { taken, handled, committed } = told.times;
    let mut attributes = vec![
        KeyValue::new("messaging.consumer.group.name", told.group.to_owned()),
        KeyValue::new("messaging.batch.message_count", count(told.records.len())),
        KeyValue::new("wal.batch.published_records", count(told.outputs.len())),
    ];
    attributes.extend(operation("process"));
    let mut topics = told.records.iter().map(|record| &record.topic);
    let topic = topics.next().filter(|first| topics.all(|topic| topic == *first));
    let name = match topic {
        Some(topic) => {
            attributes.push(KeyValue::new("messaging.destination.name", topic.to_string()));
            format!("process {topic}")
        }
        None => format!("process {}", told.group),
    };
    let whole = span(name, SpanKind::Consumer, batch.clone(), None, (taken, committed), attributes, links);
    let stage = |name: &'static str, times| {
        span(
            name,
            SpanKind::Internal,
            hop::next_step(batch, hop::random_span()),
            Some(batch),
            times,
            Vec::new(),
            Vec::new(),
        )
    };
    vec![whole, stage("handle", (taken, handled)), stage("publish", (handled, committed))]
}

fn processed(told: &Told<'_>, record: &InRecord, step: &SpanContext, batch: &SpanContext) -> SpanData {
    let topic = record.topic.to_string();
    let name = format!("process {topic}");
    let mut attributes = vec![
        KeyValue::new("messaging.destination.name", topic),
        KeyValue::new("messaging.consumer.group.name", told.group.to_owned()),
        KeyValue::new("messaging.destination.partition.id", record.partition.to_string()),
        KeyValue::new("messaging.kafka.offset", record.offset),
    ];
    attributes.extend(operation("process"));
    attributes.extend(of_message(&record.headers));
    let context = hop::next_step(step, hop::random_span());
    let times = (told.times.taken, told.times.committed);
    span(name, SpanKind::Consumer, context, Some(step), times, attributes, vec![batch.clone()])
}

fn sent_to(told: &Told<'_>, sent: &Sent, batch: &SpanContext) -> SpanData {
    let output = &told.outputs[sent.at];
    let topic = output.topic.to_string();
    let name = format!("send {topic}");
    let mut attributes = vec![KeyValue::new("messaging.destination.name", topic)];
    attributes.extend(operation("send"));
    attributes.extend(of_message(&output.headers));
    let links = sent.link.iter().chain([batch]).cloned().collect();
    let times = (told.times.taken, told.times.committed);
    span(name, SpanKind::Producer, sent.context.clone(), sent.parent.as_ref(), times, attributes, links)
}

/// What is done: as it is called here, and as the conventions sort it, which is the same.
fn operation(name: &'static str) -> [KeyValue; 2] {
    ["messaging.operation.name", "messaging.operation.type"].map(|key| KeyValue::new(key, name))
}

fn of_message(headers: &[wal_model::record::Header]) -> impl Iterator<Item = KeyValue> {
    let named = [
        ("messaging.message.id", wire::CE_ID),
        ("messaging.message.conversation_id", wire::CE_CORRELATIONID),
        ("wal.namespace", wire::CE_WALNAMESPACE),
        ("wal.attempt", wire::CE_WALATTEMPT),
    ];
    named.into_iter().filter_map(|(name, header)| Some(KeyValue::new(name, last_str(headers, header)?.to_owned())))
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn span(
    name: impl Into<Cow<'static, str>>,
    kind: SpanKind,
    context: SpanContext,
    parent: Option<&SpanContext>,
    (start_time, end_time): (SystemTime, SystemTime),
    mut attributes: Vec<KeyValue>,
    links: Vec<SpanContext>,
) -> SpanData {
    if kind != SpanKind::Internal {
        attributes.push(KeyValue::new("messaging.system", "kafka"));
    }
    let mut all = SpanLinks::default();
    all.links = links.into_iter().map(|to| Link::new(to, Vec::new(), 0)).collect();
    SpanData {
        span_context: context,
        parent_span_id: parent.map_or(SpanId::INVALID, SpanContext::span_id),
        parent_span_is_remote: parent.is_some_and(SpanContext::is_remote),
        span_kind: kind,
        name: name.into(),
        start_time,
        end_time,
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: all,
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("wal").with_version(env!("CARGO_PKG_VERSION")).build(),
    }
}
