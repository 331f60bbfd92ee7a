//! What is said of entries on `wal.acks`, and what becomes of them: in the store, on `wal.status`, among the dead letters.

mod dying;
pub mod stage;
mod sweeping;

use std::collections::BTreeMap;

use wal_model::delivery::Delivery;
use wal_model::seal::Keyring;
use wal_model::status::Status;
use wal_model::{Entry, Topic};
use wal_tests::{Message, Producer, seed};

use crate::support::SOON;
use crate::support::records::{completed, delivered, message};
use stage::{Stage, entries, entry, expect_status, home};

#[test]
fn whatever_the_order_and_however_often_every_entry_ends_as_it_must() {
    let mut random = seed::random("status in any order");
    let stage = Stage::new(&[("status.batch_records", "50")]);
    let (done, tried) = (entries("done", 150), entries("tried", 150));
    stage.store(&[done.clone(), tried.clone()].concat(), &[]);
    let mut said: Vec<Message> = Vec::new();
    for (first, second) in done.iter().zip(&tried) {
        // Done at the second attempt, of which everybody hears twice; and tried twice, in vain so far.
        said.extend([stage.retrying(first, 1), stage.done(first, 2), stage.done(first, 2)]);
        said.extend([stage.retrying(second, 1), stage.retrying(second, 2), stage.retrying(second, 1)]);
    }
    random.shuffle(&mut said);
    let (before, after) = said.split_at(said.len() / 2);
    stage.log.send(before);

    let process = stage.start(&[]);
    stage.log.send(after);
    let stored = stage.finish(process);

    expect_status(&stored, &done, Status::Completed);
    expect_status(&stored, &tried, Status::Retrying);
    for (entries, attempts) in [(&done, [1, 2]), (&tried, [1, 2])] {
        let history =
            |entry: &Entry| stored[&entry.log_id.to_string()].state.history.keys().copied().collect::<Vec<_>>();
        assert!(entries.iter().all(|entry| history(entry) == attempts), "every attempt is known of");
    }
    let told = |status: &'static str| move |entry: &Entry| (entry.log_id.to_string(), status.to_owned());
    let expected = done.iter().map(told("completed")).chain(tried.iter().map(told("retrying")));
    assert_eq!(stage.told(), BTreeMap::from_iter(expected));
    assert!(stage.letters().is_empty());
}

#[test]
fn what_cannot_be_believed_is_a_dead_letter_with_its_code_and_its_neighbours_are_folded() {
    let stage = Stage::new(&[("topics.partitions", "1")]);
    let one = entry("one");
    let neighbours = entries("neighbour", 20);
    stage.store(&[vec![one.clone()], neighbours.clone()].concat(), &[]);
    let cases = spoiled(&stage, &one);
    let mut said = Vec::new();
    for ((message, _), neighbour) in cases.iter().zip(&neighbours) {
        said.extend([message.clone().partition(0), stage.done(neighbour, 1).partition(0)]);
    }
    let positions = stage.log.send(&said);

    let process = stage.start(&[]);
    let stored = stage.finish(process);

    expect_status(&stored, &neighbours[..cases.len()], Status::Completed);
    assert_eq!(stored[&one.log_id.to_string()], one);
    let letters = stage.log.read(&stage.log.dead_requests());
    assert_eq!(letters.len(), cases.len());
    let code_at: BTreeMap<String, String> = letters
        .iter()
        .map(|letter| (letter.header("__dlq.errors.offset").unwrap(), letter.header("ce_walerrorcode").unwrap()))
        .collect();
    for ((message, code), (_, offset)) in cases.iter().zip(positions.iter().step_by(2)) {
        let value = String::from_utf8_lossy(message.value.as_deref().unwrap_or_default());
        assert_eq!(code_at[&offset.to_string()], *code, "offset {offset}: {value}");
    }
}

/// Messages about an entry that say nothing which may be believed, and the codes they are refused with.
fn spoiled(stage: &Stage, one: &Entry) -> Vec<(Message, &'static str)> {
    let good = || stage.done(one, 1);
    let with = |name: &str, value: &str| {
        let mut message = good();
        message.headers.retain(|(other, _)| other != name);
        message.header(name, value)
    };
    let retired = Keyring::new("old", &BTreeMap::from([("old".to_owned(), vec![9; 32])])).unwrap();
    let acks = Topic::parse(&stage.acks()).unwrap();
    let under_retired = wal_model::answer::Completed::encode(&delivered(&Delivery::of(one), &retired), None, acks);
    let beyond = Delivery { attempt: 5, ..Delivery::of(one) };
    let event = stage.retrying(one, 1);
    vec![
        (with("ce_walattempt", "2"), "WAL_SEAL_INVALID"),
        (with("ce_walretries", "100"), "WAL_SEAL_INVALID"),
        (with("ce_waltarget", "elsewhere"), "WAL_SEAL_INVALID"),
        (with("ce_id", &entry("other").log_id.to_string()), "WAL_SEAL_INVALID"),
        (with("ce_waltenant", "other"), "WAL_SEAL_INVALID"),
        (message(&under_retired), "WAL_SEAL_INVALID"),
        (event.clone().value(event_text(&event).replace("retrying", "completed")), "WAL_SEAL_INVALID"),
        (good().value(r#"{"status":"failed","error":"down"}"#), "WAL_ANSWER_MISPLACED"),
        (good().header("ce_walerrorcode", "DOWN"), "WAL_ANSWER_MISPLACED"),
        (completed(&beyond, &stage.acks()), "WAL_ATTEMPT_INVALID"),
        (good().value(""), "WAL_ANSWER_INVALID"),
        (Message { value: None, ..good() }, "WAL_ANSWER_INVALID"),
        (good().value("done!"), "WAL_ANSWER_INVALID"),
        (good().value(r#"{"status":"completed","version":2}"#), "WAL_ANSWER_INVALID"),
        (Message::to(&stage.acks()).value(r#"{"status":"completed"}"#), "WAL_ANSWER_INVALID"),
        (Message::to(&stage.acks()), "WAL_ANSWER_INVALID"),
        (Message::to(&stage.acks()).header("\u{fffd}", vec![0xff, 0]).value(vec![0xff, 0]), "WAL_ANSWER_INVALID"),
    ]
}

fn event_text(event: &Message) -> String {
    String::from_utf8(event.value.clone().unwrap()).unwrap()
}

#[test]
fn an_event_of_an_unknown_entry_waits_and_dies_while_its_neighbours_are_folded_at_once() {
    const PATIENCE: i64 = 4000;
    let stage = Stage::new(&[("topics.partitions", "1"), ("status.unknown_wait", "4s")]);
    let (known, late) = (entries("known", 2), entry("nobody"));
    stage.store(&known, &[]);
    let process = stage.start(&[]);
    stage.log.send(&[stage.done(&late, 1), stage.done(&known[0], 1)]);
    stage.wait_until_told(&known[0], "completed", &process);
    assert_eq!(stage.letters().len(), 0, "the neighbour waited for the unknown one");
    stage.log.send(&[stage.done(&known[1], 1)]);
    stage.wait_until_told(&known[1], "completed", &process);

    let letters = stage.log.wait_for(&stage.log.dead_requests(), 1, SOON);
    let first = &stage.log.read(&stage.acks())[0];
    assert!(letters[0].timestamp - first.timestamp >= PATIENCE, "it was given up too early");
    assert_eq!(letters[0].header("ce_walerrorcode").as_deref(), Some("WAL_ACK_UNKNOWN_ENTRY"));
    assert_eq!(letters[0].value, first.value);

    expect_status(&stage.finish(process), &known, Status::Completed);
    assert_eq!(stage.letters().len(), 1);
}

#[test]
fn events_of_clients_with_another_partitioner_are_moved_first() {
    let stage = Stage::new(&[("status.batch_records", "30")]);
    let all = entries("e", 120);
    stage.store(&all, &[]);
    // Every other client spreads by something else; every fourth record has no key at all.
    let said: Vec<Message> = all
        .iter()
        .enumerate()
        .map(|(at, entry)| match at % 4 {
            0 => stage.done(entry, 1).partition((home(entry) + 1) % 4),
            1 => Message { key: None, ..stage.done(entry, 1).partition((home(entry) + 2) % 4) },
            _ => stage.done(entry, 1),
        })
        .collect();
    stage.log.send(&said);

    let process = stage.start(&[]);
    let stored = stage.finish(process);

    expect_status(&stored, &all, Status::Completed);
    let moved = stage.log.read(&stage.acks());
    let moved: Vec<_> = moved.iter().filter(|record| record.header("ce_walmoved").is_some()).collect();
    assert_eq!(moved.len(), 60);
    for record in moved {
        let key = String::from_utf8(record.key.clone().unwrap()).unwrap();
        assert_eq!(record.header("ce_id"), Some(key.clone()));
        assert_eq!(record.partition, home(&stored[&key]), "{key}");
    }
    let expected = all.iter().map(|entry| (entry.log_id.to_string(), "completed".to_owned()));
    assert_eq!(stage.told(), BTreeMap::from_iter(expected));
}

/// Nobody reads what it has not written itself: a record that hurts is one of ten thousand.
#[test]
fn a_flood_is_folded_in_batches() {
    let mut random = seed::random("status flood");
    let stage = Stage::new(&[]);
    let all = entries("e", 3000);
    stage.store(&all, &[]);
    let mut said: Vec<Message> =
        all.iter().flat_map(|entry| [stage.retrying(entry, 1), stage.done(entry, 2)]).collect();
    random.shuffle(&mut said);
    let _ = Producer::new(&stage.log.bootstrap).send_all(&said);

    let process = stage.start(&[]);
    let stored = stage.finish(process);

    expect_status(&stored, &all, Status::Completed);
}
