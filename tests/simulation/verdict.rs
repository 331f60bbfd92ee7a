//! What must be true when everything has come to rest, whatever happened on the way.

use std::collections::{BTreeMap, BTreeSet};

use wal_model::ack::Ack;
use wal_model::answer::{self, Completed};
use wal_model::entry::Answers;
use wal_model::receipt::Receipt;
use wal_model::status::{Event, Outcome, Reason, State, Status};
use wal_model::{Code, Entry, InRecord, LogId, Topic, partition, record, state_record, wire};

use super::kafka::Committed;
use super::ledger::{Track, refused_record};
use super::people::Truth;
use super::process::{DELAYS, SCHEDULER, STATUS, WRITER};
use super::world::{PARTITIONS, World};

type Verdict = Result<(), String>;

/// Looks at everything but what is purged.
pub fn at_rest(world: &mut World) -> Verdict {
    nothing_is_left(world)?;
    every_request_is_answered(world)?;
    for entry in entries(world) {
        let log_id = entry.log_id.clone();
        every_entry_is_finished(world, &entry).map_err(|why| format!("{log_id}: {why}"))?;
        the_status_is_the_join(world, &entry).map_err(|why| format!("{log_id}: {why}"))?;
    }
    only_forgeries_are_refused(world)?;
    keys_keep_their_order(world)?;
    what_else_was_reached(world);
    Ok(())
}

/// What can only be seen in the end.
fn what_else_was_reached(world: &mut World) {
    let topics = world.with.topics.clone();
    let kafka = world.kafka();
    let is_moved = |record: &InRecord| record::last(&record.headers, wire::CE_WALMOVED).is_some();
    let has_moved = kafka.records_of(&topics.acks()).any(is_moved);
    drop(kafka);
    let mut reached = Vec::new();
    for track in world.ledger.tracks.values() {
        let failures = track.answers.iter().filter(|(_, truth, ..)| matches!(truth, Truth::Failed(_))).count();
        let scheduled = track.decisions.values().filter(|event| !is_end(event));
        let is_undelivered = |event: &Event| !track.deliveries.contains_key(&(event.round, event.attempt + 1));
        reached.extend([
            (failures > track.decisions.len()).then_some("a failure was told again and not decided again"),
            (track.is_cancelled && scheduled.into_iter().any(is_undelivered))
                .then_some("a cancelled retry was dropped"),
            (track.is_completed() && track.letters > 0).then_some("an entry was completed after it was dead"),
            has_moved.then_some("a completion was moved to its partition"),
        ]);
    }
    reached.into_iter().flatten().for_each(|situation| world.ledger.reach(situation));
}

fn entries(world: &World) -> Vec<Entry> {
    world.store.entries().values().cloned().collect()
}

/// Every group has read everything, and no transaction is open.
fn nothing_is_left(world: &World) -> Verdict {
    let kafka = world.kafka();
    if kafka.is_unfinished() {
        return Err(format!("transactions are still open: {:?}", kafka.unfinished()));
    }
    let topics = &world.with.topics;
    let delay = topics.delay_prefix();
    let reads = [
        (WRITER, kafka.partitions(|topic| topic.as_str().starts_with("wal.ingress"))),
        (SCHEDULER, kafka.partitions(|topic| *topic == topics.failures())),
        (DELAYS, kafka.partitions(|topic| topic.as_str().starts_with(&delay))),
        (STATUS, kafka.partitions(|topic| *topic == topics.acks())),
    ];
    for (group, partitions) in reads {
        for partition in partitions {
            let end = kafka.after_last(&partition);
            match kafka.committed(group, &partition) {
                Committed::At(offset) if offset >= end => {}
                at => return Err(format!("{group} stands at {at:?} of {partition:?}, which ends at {end}")),
            }
        }
    }
    Ok(())
}

/// A receipt for every sending, and never two log ids for one request; refused is only what no broker knew a target for.
fn every_request_is_answered(world: &World) -> Verdict {
    let kafka = world.kafka();
    let mut stored: BTreeMap<String, BTreeSet<LogId>> = BTreeMap::new();
    let mut receipts: BTreeMap<String, usize> = BTreeMap::new();
    for record in kafka.records_of(&world.with.topics.receipts()) {
        let value = record.value.as_deref().unwrap_or_default();
        let id = match Receipt::from_json(value).map_err(|why| why.to_string())? {
            Receipt::Stored { log_id, request_id: Some(id), .. } => {
                stored.entry(id.to_string()).or_default().insert(log_id);
                id
            }
            Receipt::Refused { error_code, request_id: Some(id), .. } if error_code == Code::TargetUnknown.as_str() => {
                id
            }
            other => return Err(format!("no receipt for what was sent: {other:?}")),
        };
        *receipts.entry(id.to_string()).or_default() += 1;
    }
    for request in &world.requests {
        let (sent, answered) = (request.times.len(), receipts.get(&request.id).copied().unwrap_or(0));
        if sent != answered {
            return Err(format!("request {} was sent {sent} times and answered {answered} times", request.id));
        }
    }
    if let Some((id, log_ids)) = stored.iter().find(|(_, log_ids)| log_ids.len() > 1) {
        return Err(format!("request {id} became {log_ids:?}"));
    }
    let entries = world.store.entries().len();
    match entries == stored.len() {
        true => Ok(()),
        false => Err(format!("there are {entries} entries of {} requests", stored.len())),
    }
}

/// Done, or failed for a reason that is true; and on the way there nothing was lost.
fn every_entry_is_finished(world: &World, entry: &Entry) -> Verdict {
    let nothing = Track::default();
    let track = world.ledger.tracks.get(&entry.log_id).unwrap_or(&nothing);
    if !entry.state.status().is_finished() {
        return Err(format!("it is {} for ever: {:?}", entry.state.status(), entry.state));
    }
    nothing_was_lost(track)?;
    let has_said = |wanted: fn(&Outcome) -> bool| track.decisions.values().any(|event| wanted(&event.outcome));
    let was_ended = |wanted: Reason| track.endings.iter().any(|(_, _, reason)| *reason == wanted);
    let is_founded = match entry.state.reason() {
        None => entry.answers == Answers::None || track.is_completed(),
        Some(Reason::Cancelled) => track.is_cancelled,
        Some(Reason::Exhausted) => has_said(|outcome| matches!(outcome, Outcome::Failed { reason: Reason::Exhausted })),
        Some(Reason::Rejected) => has_said(|outcome| matches!(outcome, Outcome::Failed { reason: Reason::Rejected })),
        Some(Reason::Expired) => {
            was_ended(Reason::Expired)
                || has_said(|outcome| matches!(outcome, Outcome::Failed { reason: Reason::Expired }))
        }
        Some(Reason::Undeliverable) => was_ended(Reason::Undeliverable),
    };
    if !is_founded {
        return Err(format!("it ended so for no reason: {:?}", entry.state.standing));
    }
    // Whoever completed it, and was heard, is never contradicted.
    if entry.answers == Answers::Expected && track.is_completed() && entry.state.status() != Status::Completed {
        return Err("a consumer completed it, and it is not completed".to_owned());
    }
    let is_dead = matches!(entry.state.reason(), Some(reason) if reason != Reason::Cancelled);
    let has_ended = track.endings.len() + track.decisions.values().filter(|event| is_end(event)).count();
    match (is_dead, track.letters) {
        (true, 0) => Err("it is dead without a dead letter".to_owned()),
        (_, letters) if letters != has_ended => Err(format!("{letters} dead letters for {has_ended} endings")),
        _ => Ok(()),
    }
}

fn is_end(event: &Event) -> bool {
    matches!(event.outcome, Outcome::Failed { .. })
}

/// Whatever was to be delivered was, or somebody said why not.
fn nothing_was_lost(track: &Track) -> Verdict {
    let scheduled = track.decisions.values().filter(|event| matches!(event.outcome, Outcome::Retrying { .. }));
    let next = scheduled.map(|event| (event.round, event.attempt + 1));
    for attempt in next.chain([(1, 1)]) {
        let was_delivered = track.deliveries.contains_key(&attempt);
        let was_ended = track.endings.iter().any(|(_, at, _)| *at == attempt);
        if !was_delivered && !was_ended && !track.is_cancelled {
            return Err(format!("attempt {attempt:?} was lost: neither delivered nor ended"));
        }
    }
    Ok(())
}

/// The state that is stored is the join of all that was said, in any order; and `wal.status` tells it.
fn the_status_is_the_join(world: &mut World, entry: &Entry) -> Verdict {
    let mut said = events(world, &entry.log_id);
    world.random.shuffle(&mut said);
    let original = world.store.original(&entry.key());
    let mut state: State = original.state;
    said.iter().for_each(|event| state.join(event));
    if state != entry.state {
        return Err(format!("stored is\n{:?}\nbut what was said comes to\n{state:?}", entry.state));
    }
    let status = world.with.topics.status();
    let expected = state_record::encode(&entry.log_id, entry.tenant.as_ref(), &entry.state, status.clone());
    let told = last_told(world, &status, &entry.log_id);
    match told.as_ref().map(|record| &record.value) {
        Some(value) if *value == expected.value => Ok(()),
        None if entry.state.is_untouched() => Ok(()),
        other => Err(format!("wal.status ends with {other:?}, stored is {:?}", expected.value)),
    }
}

fn last_told(world: &World, topic: &Topic, log_id: &LogId) -> Option<InRecord> {
    let kafka = world.kafka();
    let key = log_id.to_string();
    let own = kafka.records_of(topic).filter(|record| record.key.as_deref() == Some(key.as_bytes()));
    own.last().cloned()
}

/// Everything that was truly said of an entry where it counts: in the partition that its log id names, or moved there.
fn events(world: &World, log_id: &LogId) -> Vec<Event> {
    let kafka = world.kafka();
    let keyring = &world.with.keyring;
    let home = partition::of_key(log_id.to_string().as_bytes(), PARTITIONS);
    let said = |record: &InRecord| {
        if !answer::is_from_consumer(record) {
            return Ack::decode(record, keyring).ok().filter(|ack| ack.log_id == *log_id).map(|ack| ack.event);
        }
        let completed = Completed::decode(record, keyring).ok()?;
        let delivery = &completed.echo.delivery;
        let counts = delivery.log_id == *log_id && delivery.answers == Answers::Expected;
        counts.then(|| completed.event(record))
    };
    let is_home = |record: &&InRecord| Some(record.partition) == home;
    kafka.records_of(&world.with.topics.acks()).filter(is_home).filter_map(said).collect()
}

/// Whatever was forged has exactly one dead letter, and nothing else has.
fn only_forgeries_are_refused(world: &World) -> Verdict {
    let kafka = world.kafka();
    let topics = &world.with.topics;
    let is_dead = |topic: &Topic| topic.as_str().starts_with("dlq.");
    let letters = kafka.partitions(is_dead);
    let mut refused: Vec<_> = letters
        .iter()
        .flat_map(|partition| kafka.records(partition))
        .filter_map(|letter| refused_record(letter, topics))
        .filter(|(topic, ..)| !topic.starts_with("wal.ingress"))
        .collect();
    refused.sort();
    let forged: Vec<_> = world.ledger.forged.iter().cloned().collect();
    match refused == forged {
        true => Ok(()),
        false => Err(format!("forged were {forged:?}, refused {refused:?}")),
    }
}

/// Within one ordering key and ingress topic first attempts come in the order of the requests, where none was to wait.
fn keys_keep_their_order(world: &World) -> Verdict {
    let kafka = world.kafka();
    for target in &world.targets {
        for partition in kafka.partitions(|topic| topic == target) {
            let mut last: BTreeMap<(Vec<u8>, Topic), i64> = BTreeMap::new();
            for record in kafka.records(&partition) {
                let id: Option<LogId> = record::last_str(&record.headers, wire::CE_ID).and_then(|id| id.parse().ok());
                let is_first = record::last_str(&record.headers, wire::CE_WALATTEMPT) == Some("1");
                let entry = id.and_then(|id| world.store.entries().get(&id.key()).cloned());
                let Some(entry) = entry.filter(|entry| is_first && entry.deliver_at.is_none()) else { continue };
                let key = entry.ordering_key.as_ref().map(|key| key.to_vec()).unwrap_or_default();
                let before = last.insert((key, entry.origin.topic.clone()), entry.origin.offset);
                if before.is_some_and(|before| before > entry.origin.offset) {
                    return Err(format!("{}: delivered after what was requested later", entry.log_id));
                }
            }
        }
    }
    Ok(())
}

/// Where nothing went wrong nothing was late by more than what the steps of a batch take.
pub fn in_time(world: &World) -> Verdict {
    match world.ledger.lateness.iter().max() {
        Some(late) if *late > 100 => Err(format!("an attempt was {late} ms late")),
        _ => Ok(()),
    }
}

/// Long after, nothing is left of finished entries but tombstones.
pub fn purged(world: &World, log_ids: &[LogId]) -> Verdict {
    if !world.store.entries().is_empty() {
        return Err(format!("not purged: {:?}", world.store.entries().keys().collect::<Vec<_>>()));
    }
    for log_id in log_ids {
        let told = last_told(world, &world.with.topics.status(), log_id);
        if told.is_none_or(|record| record.value.is_some()) {
            return Err(format!("{log_id} is gone, but wal.status still tells of it"));
        }
        let cancel = last_told(world, &world.with.topics.cancels(), log_id);
        if cancel.is_some_and(|record| record.value.is_some()) {
            return Err(format!("{log_id} is gone, but wal.cancels still tells of it"));
        }
    }
    Ok(())
}
