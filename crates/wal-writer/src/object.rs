//! Objections: reasons to refuse a new request that can change with topics and settings. Pure.

use wal_model::dead_letter::ROOM;
use wal_model::request::ReplyTo;
use wal_model::topics::Topics;
use wal_model::{Code, Entry, Refusal, Topic};

use crate::admit::{Case, Wanted, Wish};
use wal_runtime::brokers::{Found, Shapes};

/// The smallest limit of a target that is taken: the producer's batches may be as large as this.
pub(crate) const TARGET_LIMIT_MIN: usize = wal_runtime::kafka::BATCH_SIZE;

/// The topics whose shape must be known before a case can be decided.
pub(crate) fn topics_of(case: &Case) -> impl Iterator<Item = &Topic> {
    let targets = match &case.wish {
        Wish::Refused(_) => &[][..],
        Wish::Write(wanted) => &wanted.entries,
    };
    targets.iter().map(|entry| &entry.target).chain(case.reply.topic.as_ref())
}

/// Adds to a case the first objection that the present shape of things gives, unless it has one already.
pub(crate) fn object(case: &mut Case, shapes: &Shapes, reply_topics: &[Topic], topics: &Topics) {
    let Case { coordinates, reply, wish, .. } = case;
    let Wish::Write(wanted) = wish else { return };
    if wanted.objection.is_some() {
        return;
    }
    wanted.objection = reply_objection(reply, shapes, reply_topics, topics)
        .or_else(|| entries_objection(wanted, shapes, &coordinates.topic));
}

/// Where a receipt can go: the address, or the log's own topic where the address is not allowed or does not exist.
pub(crate) fn usable_reply(
    reply: &ReplyTo,
    shapes: &Shapes,
    reply_topics: &[Topic],
    topics: &Topics,
) -> (Topic, ReplyTo) {
    match &reply.topic {
        Some(topic) if reply_objection(reply, shapes, reply_topics, topics).is_none() => (topic.clone(), reply.clone()),
        _ => (topics.receipts(), ReplyTo { correlation: reply.correlation.clone(), ..ReplyTo::default() }),
    }
}

fn reply_objection(reply: &ReplyTo, shapes: &Shapes, reply_topics: &[Topic], topics: &Topics) -> Option<Refusal> {
    let topic = reply.topic.as_ref()?;
    if *topic != topics.receipts() && !reply_topics.contains(topic) {
        let message = format!("receipts may not go to {topic}; writer.reply_topics does not name it");
        return Some(Refusal::new(Code::ReplyNotAllowed, message));
    }
    match (shapes.get(topic), reply.partition) {
        (Some(Found::Known { partitions, .. }), Some(partition)) if partition >= *partitions => {
            let message = format!("the reply topic {topic} has {partitions} partitions, none of number {partition}");
            Some(Refusal::new(Code::ReplyInvalid, message))
        }
        (Some(Found::Known { .. }), _) => None,
        (Some(Found::Denied(why)), _) => Some(Refusal::new(Code::AccessDenied, why)),
        _ => Some(Refusal::new(Code::ReplyInvalid, format_args!("the reply topic {topic} does not exist"))),
    }
}

fn entries_objection(wanted: &Wanted, shapes: &Shapes, ingress: &Topic) -> Option<Refusal> {
    let limit_of = |topic: &Topic| match shapes.get(topic) {
        Some(Found::Known { max_message_bytes, .. }) => Some(*max_message_bytes),
        _ => None,
    };
    // A payload must be able to come back the way it came, with what the log adds.
    let ingress_limit = limit_of(ingress).unwrap_or(usize::MAX);
    wanted
        .entries
        .iter()
        .find_map(|entry| entry_objection(entry, shapes, ingress_limit).map(|refusal| named(entry, &refusal)))
}

fn entry_objection(entry: &Entry, shapes: &Shapes, ingress_limit: usize) -> Option<Refusal> {
    let target = &entry.target;
    let target_limit = match shapes.get(target) {
        Some(Found::Known { max_message_bytes, .. }) => *max_message_bytes,
        Some(Found::Denied(why)) => return Some(Refusal::new(Code::AccessDenied, why)),
        _ => return Some(Refusal::new(Code::TargetUnknown, format_args!("the target {target} does not exist"))),
    };
    if target_limit < TARGET_LIMIT_MIN {
        let message = format!(
            "the target {target} takes {target_limit} bytes; max.message.bytes must be at least {TARGET_LIMIT_MIN}"
        );
        return Some(Refusal::new(Code::TargetInvalid, message));
    }
    let limit = ingress_limit.min(target_limit).saturating_sub(ROOM);
    let size = entry.payload.len();
    (size > limit).then(|| {
        let message =
            format!("the payload is {size} bytes; on the way to {target} and back {limit} at most can travel");
        Refusal::new(Code::PayloadTooLarge, message)
    })
}

/// Which entry of a batch is meant.
fn named(entry: &Entry, refusal: &Refusal) -> Refusal {
    match &entry.batch {
        Some(place) => Refusal::new(refusal.code, format_args!("entry {}: {}", place.index, refusal.message)),
        None => refusal.clone(),
    }
}
