//! Starts that must not happen, and the words they are refused with.

use wal_tests::clients::{delete_group_offsets, delete_topic};
use wal_tests::{Kafka, Message, Process};

use crate::support::{Log, SOON};

const IN_A_FOLDER: (&str, &str) = ("store.backend", "embedded");

#[test]
fn a_group_that_lost_its_offsets_is_not_guessed_for() {
    let log = used_log("lost");
    delete_group_offsets(&log.bootstrap, &log.group());

    let said = expect_refused(&log.start(&[]));

    assert!(said.contains("wal topics apply --adopt") && said.contains(&log.group()), "{said}");
    assert!(said.contains(&log.topic("ingress.low")), "every partition concerned is named: {said}");
}

#[test]
fn another_store_than_the_one_the_offsets_belong_to_is_refused() {
    let log = used_log("store");
    let other = tempfile::tempdir().unwrap();

    let said = expect_refused(&log.start_in(other.path(), &[], &[]));

    let own = log.wait_for(&log.topic("receipts"), 1, SOON).len();
    assert_eq!(own, 1, "nothing was written by the writer that was refused");
    assert!(said.contains("belong to store") && said.contains("folder"), "{said}");
}

#[test]
fn a_store_folder_belongs_to_one_process() {
    let log = Log::on(&Kafka::shared().bootstrap(), &[IN_A_FOLDER]);
    let first = log.start_ready(&[]);

    let said = expect_refused(&log.start(&[("kafka.instance", "1")]));

    assert!(said.contains(&*log.folder().to_string_lossy()), "the folder is named: {said}");
    assert!(first.is_running());
}

#[test]
fn a_missing_topic_is_named_with_what_makes_it() {
    let log = Log::on(&Kafka::shared().bootstrap(), &[]);
    delete_topic(&log.bootstrap, &log.topic("acks"));

    let said = expect_refused(&log.start(&[]));

    assert!(said.contains(&log.topic("acks")) && said.contains("wal topics apply"), "{said}");
}

/// Kafka forgets a group's offsets on a topic that is deleted; offsets elsewhere tell that nothing else was lost.
#[test]
fn an_ingress_topic_that_was_made_anew_is_read_from_its_start() {
    let log = used_log("anew");
    let lane = log.topic("ingress");
    delete_topic(&log.bootstrap, &lane);
    log.make_topics();
    log.send(&[request(&log, "after")]);

    let writer = log.start(&[("policy.target", &log.target("anew"))]);
    let receipts = log.receipts(&writer, 2, SOON);

    assert!(receipts.iter().all(|receipt| receipt.json()["success"] == true), "{receipts:?}");
    assert_ne!(receipts[0].json()["log_id"], receipts[1].json()["log_id"]);
    assert!(writer.is_running());
}

/// A log with one entry and committed offsets, in a folder.
#[track_caller]
fn used_log(name: &str) -> Log {
    let log = Log::on(&Kafka::shared().bootstrap(), &[IN_A_FOLDER]);
    let writer = log.start(&[("policy.target", &log.target(name))]);
    log.send(&[request(&log, "before")]);
    log.receipts(&writer, 1, SOON);
    log.wait_until_done(SOON);
    writer.terminate();
    assert!(writer.wait(SOON).success(), "{writer:?}");
    log
}

fn request(log: &Log, id: &str) -> Message {
    let value = format!(r#"{{"namespace":"n","payload":{{}},"request_id":"{id}"}}"#);
    Message::to(&log.topic("ingress")).key("k").value(value)
}

/// What it said when it refused to start.
#[track_caller]
fn expect_refused(writer: &Process) -> String {
    let status = writer.wait(SOON);
    assert_eq!(status.code(), Some(1), "{writer:?}");
    let lines: Vec<String> = writer.lines().into_iter().map(|line| line.text).collect();
    assert!(!lines.iter().any(|line| line.contains("panicked")), "{writer:?}");
    lines.join("\n")
}
