//! What is stored is never refused: a writer dies between storing and publishing, and the world changes before its records are read
//! again.

use serde_json::Value;
use wal_model::ack::Ack;
use wal_model::status::{Outcome, Reason};
use wal_model::{Clock, Entry, SystemClock, Timestamp};
use wal_tests::clients::{create_topic, delete_topic};
use wal_tests::{Kafka, Message, Process, Record, wait_until};

use crate::support::records::{as_read, keyring};
use crate::support::{Log, SOON};

/// One partition, so that one batch holds all that a scenario sends.
const NARROW: (&str, &str) = ("topics.partitions", "1");
/// "Unknown" is believed soon.
const IMPATIENT: (&str, &str) = ("writer.unknown_target_wait", "1s");
/// More rounds than one are only needed where a batch did not hold everything.
const ROUNDS: usize = 5;

#[test]
fn an_entry_that_expired_meanwhile_fails_and_is_not_delivered() {
    let log = Log::on(&Kafka::shared().bootstrap(), &[NARROW]);
    let target = log.target("expired");
    let documents = store_only(&log, &[request(&log, "r", &target, r#","lifecycle":{"ttl":1}"#)], "after-persist", 1);
    wait_for(documents[0].state.deadline());

    let receipts = run(&log, &[], 1);

    expect_failed(&log, &documents[0], Reason::Expired, "WAL_EXPIRED", &log.dead_requests());
    expect_stored(&receipts[0], &documents);
    assert_eq!(log.read(&target), []);
}

#[test]
fn a_request_that_is_first_seen_past_its_deadline_is_stored_and_fails_as_expired() {
    let log = Log::on(&Kafka::shared().bootstrap(), &[NARROW]);
    let target = log.target("late");
    log.send(&[request(&log, "r", &target, r#","lifecycle":{"ttl":1}"#)]);
    let sent = log.read(&log.topic("ingress"))[0].timestamp;
    wait_for(Timestamp::from_millis(sent + 1000).unwrap());

    let receipts = run(&log, &[], 1);

    let documents = log.documents();
    expect_failed(&log, &documents[0], Reason::Expired, "WAL_EXPIRED", &log.dead_requests());
    expect_stored(&receipts[0], &documents);
    assert_eq!(log.read(&target), []);
}

#[test]
fn an_entry_whose_target_was_deleted_fails_and_its_neighbours_do_not() {
    let log = Log::on(&Kafka::shared().bootstrap(), &[NARROW, IMPATIENT]);
    let (gone, there) = (log.target("gone"), log.target("there"));
    // A namespace with dead letters of its own.
    let dead_letters = format!("dlq.{}n", log.prefix);
    create_topic(&log.bootstrap, &dead_letters, 1, &[]);
    let messages = [("r1", &there), ("r2", &gone), ("r3", &there)].map(|(id, target)| request(&log, id, target, ""));
    let documents = store_only(&log, &messages, "after-persist", 3);
    delete_topic(&log.bootstrap, &gone);

    let receipts = run(&log, &[], 3);

    let lost = documents.iter().find(|document| document.target.as_str() == gone).unwrap();
    expect_failed(&log, lost, Reason::Undeliverable, "WAL_UNDELIVERABLE", &dead_letters);
    assert!(receipts.iter().all(|receipt| receipt["success"] == true), "{receipts:?}");
    assert_eq!(log.read(&there).len(), 2);
    assert_eq!(log.read(&log.dead_requests()), []);
}

#[test]
fn an_entry_whose_target_is_missing_waits_and_is_delivered_when_it_comes_back() {
    let log = Log::on(&Kafka::shared().bootstrap(), &[NARROW, ("writer.unknown_target_wait", "1h")]);
    let target = log.target("away");
    let documents = store_only(&log, &[request(&log, "r", &target, "")], "after-persist", 1);
    delete_topic(&log.bootstrap, &target);

    let writer = log.start(&[]);
    writer.wait_for_line("waits for its target", SOON);
    assert_eq!(log.read(&log.topic("receipts")), []);
    create_topic(&log.bootstrap, &target, 1, &[]);
    let receipts = log.receipts(&writer, 1, SOON);

    expect_stored(&receipts[0].json(), &documents);
    assert_eq!(log.wait_for(&target, 1, SOON).len(), 1);
    assert_eq!((log.read(&log.topic("acks")), log.read(&log.dead_requests())), (Vec::new(), Vec::new()));
}

/// What the writer knows of a target may be half a minute old: it learns better from the transaction that fails.
#[test]
fn a_target_that_goes_while_the_writer_uses_it_holds_up_nobody_else() {
    let log = Log::on(&Kafka::shared().bootstrap(), &[NARROW, IMPATIENT]);
    let (gone, there) = (log.target("gone"), log.target("there"));
    let writer = log.start(&[]);
    log.send(&[request(&log, "r1", &gone, ""), request(&log, "r2", &there, "")]);
    log.receipts(&writer, 2, SOON);

    delete_topic(&log.bootstrap, &gone);
    log.send(&["r3", "r4", "r5"].map(|id| request(&log, id, if id == "r4" { &gone } else { &there }, "")));
    let receipts = log.receipts(&writer, 5, SOON);
    stop(&log, &writer);

    assert!(receipts.iter().all(|receipt| receipt.json()["success"] == true), "{receipts:?}");
    let documents = log.documents();
    let lost = documents.iter().find(|document| document.request_id.as_ref().is_some_and(|id| id.as_str() == "r4"));
    expect_failed(&log, lost.unwrap(), Reason::Undeliverable, "WAL_UNDELIVERABLE", &log.dead_requests());
    assert_eq!((documents.len(), log.read(&there).len()), (5, 3));
}

#[test]
fn an_entry_keeps_the_policy_it_was_stored_under() {
    let log = Log::on(&Kafka::shared().bootstrap(), &[NARROW]);
    let (before, after) = (log.target("before"), log.target("after"));
    let policy = [("policy.target", &*before), ("policy.retry_count", "7"), ("policy.ttl", "3600")];
    let bare = |id: &str| {
        Message::to(&log.topic("ingress")).value(format!(r#"{{"namespace":"n","payload":{{}},"request_id":"{id}"}}"#))
    };
    let documents = store_only_under(&log, &policy, &[bare("r")], "after-persist", 1);
    log.send(&[bare("new")]);

    let changed = [("policy.target", &*after), ("policy.retry_count", "1"), ("policy.ttl", "120")];
    let receipts = run(&log, &changed, 2);

    let stored = receipts.iter().find(|receipt| receipt["request_id"] == "r").unwrap();
    expect_stored(stored, &documents);
    let [delivery] = &log.read(&before)[..] else { panic!("not delivered where it was stored for") };
    assert_eq!(delivery.header("ce_walretries").as_deref(), Some("7"));
    assert_eq!(delivery.header("ce_expirytime"), Some(documents[0].state.deadline().to_string()));
    let [delivery] = &log.read(&after)[..] else { panic!("the new policy does not hold for new requests") };
    assert_eq!(delivery.header("ce_walretries").as_deref(), Some("1"));
}

#[test]
fn a_policy_that_names_no_target_any_more_refuses_new_requests_only() {
    let log = Log::on(&Kafka::shared().bootstrap(), &[NARROW]);
    let target = log.target("default");
    let one = |id: &str| format!(r#"{{"namespace":"n","payload":{{}},"request_id":"{id}"}}"#);
    let batch = r#"{"entries":[{"namespace":"n","payload":{}},{"namespace":"n","payload":{}}],"request_id":"batch"}"#;
    let send = |value: &str| Message::to(&log.topic("ingress")).value(value);
    let messages = [send(&one("stored")), send(batch)];
    let documents = store_only_under(&log, &[("policy.target", &*target)], &messages, "after-persist", 3);
    log.send(&[send(&one("new"))]);

    let receipts = run(&log, &[("policy.target", "")], 3);

    for receipt in &receipts {
        if receipt["request_id"] == "new" {
            assert_eq!(receipt["error_code"], "WAL_TARGET_INVALID", "{receipt}");
        } else {
            assert_eq!(receipt["success"], true, "what is stored is never refused: {receipt}");
        }
    }
    assert_eq!(log.read(&target).len(), documents.len());
}

#[test]
fn a_batch_that_was_half_stored_is_completed_although_a_target_is_gone() {
    let log = Log::on(&Kafka::shared().bootstrap(), &[NARROW, IMPATIENT]);
    let (gone, there) = (log.target("gone"), log.target("there"));
    let member = |target: &str| format!(r#"{{"namespace":"n","payload":{{}},"target":"{target}"}}"#);
    let entries = [member(&there), member(&gone), member(&there)].join(",");
    let batch = Message::to(&log.topic("ingress")).value(format!(r#"{{"entries":[{entries}],"request_id":"b"}}"#));
    let head = store_only(&log, &[batch], "mid-batch", 1);
    assert_eq!(log.read(&log.topic("receipts")), []);
    delete_topic(&log.bootstrap, &gone);

    let receipts = run(&log, &[], 1);

    let documents = log.documents();
    assert_eq!((documents.len(), receipts[0]["log_ids"][0].as_str()), (3, Some(&*head[0].log_id.to_string())));
    expect_stored(&receipts[0], &documents);
    let lost = documents.iter().find(|document| document.target.as_str() == gone).unwrap();
    expect_failed(&log, lost, Reason::Undeliverable, "WAL_UNDELIVERABLE", &log.dead_requests());
    assert_eq!(log.read(&there).len(), 2);
}

#[test]
fn a_receipt_whose_reply_topic_is_gone_or_not_allowed_any_more_goes_to_the_logs_own() {
    let log = Log::on(&Kafka::shared().bootstrap(), &[NARROW]);
    let (target, gone, there) = (log.target("target"), log.target("gone"), log.target("there"));
    let allowed = format!("{gone},{there}");
    let to = |id: &str, reply: &str| {
        request(&log, id, &target, "").header("kafka_replyTopic", reply).header("kafka_correlationId", id)
    };
    let messages = [to("r1", &gone), to("r2", &there)];
    let documents = store_only_under(&log, &[("writer.reply_topics", &allowed)], &messages, "after-persist", 2);
    delete_topic(&log.bootstrap, &gone);

    // The one still is allowed and does not exist; the other exists and is not allowed any more.
    let receipts = run(&log, &[("writer.reply_topics", &gone)], 2);

    assert!(receipts.iter().all(|receipt| receipt["success"] == true), "{receipts:?}");
    let correlations =
        log.read(&log.topic("receipts")).iter().map(|record| record.header("kafka_correlationId")).collect::<Vec<_>>();
    assert_eq!(correlations, [Some("r1".to_owned()), Some("r2".to_owned())]);
    assert_eq!((log.read(&there).len(), log.read(&target).len()), (0, documents.len()));
}

fn request(log: &Log, id: &str, target: &str, more: &str) -> Message {
    let value =
        format!(r#"{{"namespace":"n","target":"{target}","payload":{{"of":"{id}"}},"request_id":"{id}"{more}}}"#);
    Message::to(&log.topic("ingress")).value(value)
}

#[track_caller]
fn store_only(log: &Log, messages: &[Message], point: &str, entries: usize) -> Vec<Entry> {
    store_only_under(log, &[], messages, point, entries)
}

/// Sends requests and lets writers die at a point until all of them are stored; nothing of them is published.
#[track_caller]
fn store_only_under(
    log: &Log,
    settings: &[(&str, &str)],
    messages: &[Message],
    point: &str,
    entries: usize,
) -> Vec<Entry> {
    log.send(messages);
    for _ in 0..ROUNDS {
        let writer = log.start_in(log.folder(), settings, &[("WAL_FAILPOINT", point)]);
        assert!(!writer.wait(SOON).success(), "it was to die at {point}: {writer:?}");
        let documents = log.documents();
        if documents.len() == entries {
            assert_eq!(log.read(&log.topic("receipts")), []);
            return documents;
        }
    }
    panic!("{} of {entries} entries are stored after {ROUNDS} rounds", log.documents().len());
}

/// Runs a writer until there are that many receipts and everything is committed, and stops it.
#[track_caller]
fn run(log: &Log, settings: &[(&str, &str)], receipts: usize) -> Vec<Value> {
    let writer = log.start(settings);
    let receipts = log.receipts(&writer, receipts, SOON);
    stop(log, &writer);
    receipts.iter().map(Record::json).collect()
}

#[track_caller]
fn stop(log: &Log, writer: &Process) {
    log.wait_until_done(SOON);
    writer.terminate();
    assert!(writer.wait(SOON).success(), "{writer:?}");
}

fn wait_for(deadline: Timestamp) {
    wait_until("a deadline has passed", SOON, || SystemClock.now() > deadline);
}

/// A receipt says of each entry that it is stored.
#[track_caller]
fn expect_stored(receipt: &Value, documents: &[Entry]) {
    assert_eq!((&receipt["success"], &receipt["durable"]), (&true.into(), &true.into()), "{receipt}");
    let mut named = crate::support::outcome::log_ids(receipt);
    let mut stored: Vec<String> = documents.iter().map(|document| document.log_id.to_string()).collect();
    named.sort();
    stored.sort();
    assert_eq!(named, stored);
}

/// The log says once that an entry failed, under its seal, and keeps the dead letter.
#[track_caller]
fn expect_failed(log: &Log, entry: &Entry, reason: Reason, code: &str, dead_letters: &str) {
    let acks = log.read(&log.topic("acks"));
    let [ack] = &acks[..] else { panic!("not one status event: {acks:?}") };
    let ack = Ack::decode(&as_read(ack), &keyring()).expect("the event is sealed");
    assert_eq!((&ack.log_id, ack.event.attempt), (&entry.log_id, 1));
    assert_eq!(ack.event.outcome, Outcome::Failed { reason });
    assert_eq!(ack.event.failure.map(|failure| failure.code).as_deref(), Some(code));

    let letters = log.read(dead_letters);
    let [letter] = &letters[..] else { panic!("not one dead letter: {letters:?}") };
    assert_eq!(letter.value.as_deref(), Some(&entry.payload[..]));
    assert_eq!(letter.key.as_deref(), Some(entry.log_id.to_string().as_bytes()));
    assert_eq!(letter.header("ce_walerrorcode").as_deref(), Some(code));
    assert_eq!(letter.header("__dlq.errors.topic"), Some(log.topic("ingress")));
    assert_eq!(letter.header("__dlq.errors.offset"), Some(entry.origin.offset.to_string()));
    assert_eq!(letter.header("ce_waltarget").as_deref(), Some(entry.target.as_str()));
    // It was never delivered, so nobody may answer it.
    assert_eq!(letter.header("ce_walseal"), None);
}
