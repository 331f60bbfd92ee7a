//! Services as processes that share one database, which is the fake.

mod away;
mod expiry;
mod faults;
mod identity;
mod two_of_each;

use std::collections::BTreeMap;

use wal_model::answer::{Completed, Failed, Wish};
use wal_model::status::{Failure, Status};
use wal_model::{Entry, Timestamp, Topic};
use wal_tests::clients::delete_group_offsets;
use wal_tests::{Kafka, Message, Record, free_port, wait_until};

use crate::support::database::{Database, expect_no_secret};
use crate::support::http;
use crate::support::log::{block_on, stop, wait_for_partitions};
use crate::support::records::{as_read, message};
use crate::support::retrying::wait_until_at_work;
use crate::support::{LATER, Log, SOON};

/// How many requests a scenario sends. Of three, one is declined at first.
const REQUESTS: usize = 300;

#[test]
fn entries_go_through_all_services_and_a_database_from_request_to_completed() {
    let database = Database::new();
    let log = Log::on(&Kafka::shared().bootstrap(), &database.settings());
    let target = log.target("shared");
    let writer = log.start_ready(&[]);
    let scheduler = log.start_scheduler(&[], &[]);
    let status = log.start_program("wal-status", &[], &[]);
    let address = format!("127.0.0.1:{}", free_port());
    let gateway = log.start_program("wal-gateway", &[("gateway.listen", &address)], &[]);
    wait_until_at_work(&scheduler);
    wait_for_partitions(&status);

    log.send(&requests(&log, &target));
    let receipts = log.receipts(&writer, REQUESTS, LATER);
    assert_eq!(database.entries().len(), REQUESTS, "what has a receipt is in the database");
    let first = log.wait_for(&target, REQUESTS, LATER);
    let declined = answer(&log, &first, |number| number % 3 == 0);
    let all = log.wait_for(&target, REQUESTS + declined, LATER);
    let retries: Vec<Record> = all.into_iter().filter(|record| attempt(record) == "2").collect();
    answer(&log, &retries, |_| false);

    wait_until("every entry is completed in the database", LATER, || database.count("completed") == REQUESTS);
    let log_id = receipts[0].json()["log_id"].as_str().expect("a receipt names its entry").to_owned();
    let shown = http::get(&address, &format!("/v1/entries/{log_id}"));
    assert!(shown.starts_with("HTTP/1.0 200") && shown.contains(r#""status":"completed""#), "{shown}");
    for process in [writer, scheduler, status, gateway] {
        stop(&process);
        expect_no_secret(&process);
    }
    assert!(receipts.iter().all(|receipt| receipt.json()["durable"] == true));
    assert_eq!(log.read(&target).len(), REQUESTS + declined, "and nothing was delivered twice");
    assert_eq!(log.read(&log.dead_requests()), []);
    let documents = log.documents();
    assert_eq!(documents.len(), REQUESTS);
    for entry in documents {
        let was_declined = number(&entry.payload).is_multiple_of(3);
        assert_eq!(entry.state.status(), Status::Completed, "{entry:?}");
        assert_eq!(entry.state.retry_count(), u32::from(was_declined), "{entry:?}");
    }
    let in_the_folder = std::fs::read_dir(log.folder()).expect("the folder is there").count();
    assert_eq!(in_the_folder, 0, "the embedded store was not touched");
}

#[test]
fn a_writer_waits_for_its_database_and_is_not_ready_while_it_is_away() {
    let database = Database::new();
    let log = Log::on(&Kafka::shared().bootstrap(), &database.settings());
    let target = log.target("away");
    let probes = format!("127.0.0.1:{}", free_port());
    database.server.stop();

    let writer = log.start(&[("health.listen", &probes)]);
    writer.wait_for_line("the database does not answer yet", SOON);
    assert!(ready(&probes).contains("the database does not answer yet"), "{}", ready(&probes));
    database.server.restart().expect("its port is still free");
    wait_until("it is ready", SOON, || ready(&probes).starts_with("HTTP/1.0 200"));

    database.server.stop();
    log.send(&requests(&log, &target));
    wait_until("it is not ready", SOON, || ready(&probes).contains("the store does not answer"));
    assert_eq!(log.read(&log.topic("receipts")), [], "nobody is told that an entry is stored");
    database.server.restart().expect("its port is still free");
    log.receipts(&writer, REQUESTS, LATER);
    wait_until("it is ready again", SOON, || ready(&probes).starts_with("HTTP/1.0 200"));
    assert_eq!(database.count("pending"), REQUESTS);
    stop(&writer);
}

#[test]
fn a_database_without_collections_is_refused_with_what_makes_them() {
    let database = Database::bare();
    let log = Log::on(&Kafka::shared().bootstrap(), &database.settings());
    for service in ["wal-writer", "wal-status"] {
        let process = log.start_program(service, &[], &[]);
        assert!(!process.wait(SOON).success(), "{process:?}");
        process.wait_for_line("see `wal store plan` and `wal store apply`", SOON);
        expect_no_secret(&process);
    }
    assert!(database.entries().is_empty());

    database.apply();
    let writer = log.start_ready(&[]);
    stop(&writer);
}

#[test]
fn another_database_than_the_one_the_offsets_belong_to_is_refused() {
    let (database, other) = (Database::new(), Database::new());
    let log = Log::on(&Kafka::shared().bootstrap(), &database.settings());
    let target = log.target("other");
    let writer = log.start(&[]);
    log.send(&requests(&log, &target));
    log.receipts(&writer, REQUESTS, LATER);
    log.wait_until_done(LATER);
    stop(&writer);

    let writer = log.start(&other.settings());
    assert!(!writer.wait(SOON).success(), "{writer:?}");
    writer.wait_for_line("belong to store", SOON);
    assert!(other.entries().is_empty());
}

#[test]
fn what_a_restored_database_lacks_comes_back_from_kafka() {
    let database = Database::new();
    let log = Log::on(&Kafka::shared().bootstrap(), &database.settings());
    let target = log.target("restored");
    let writer = log.start(&[]);
    log.send(&requests(&log, &target));
    let deliveries = log.wait_for(&target, REQUESTS, LATER);
    answer(&log, &deliveries, |_| false);
    let status = log.start_program("wal-status", &[], &[]);
    wait_until("every entry is completed", LATER, || database.count("completed") == REQUESTS);
    log.wait_until_done(LATER);
    [writer, status].iter().for_each(stop);

    // A backup was made in the middle, and restored: it knows of one entry in two.
    let before = log.documents();
    let lost: Vec<_> = before.iter().step_by(2).map(Entry::key).collect();
    let removed = block_on(async { log.store().await.remove(&lost, Timestamp::MAX).await });
    assert_eq!(removed.expect("the database answers"), lost.len());
    // The way of the README.
    for group in ["writer", "status"] {
        delete_group_offsets(&log.bootstrap, &log.topic(group));
    }
    log.adopt();
    let writer = log.start(&[]);
    log.wait_until_done(LATER);
    let status = log.start_program("wal-status", &[], &[]);
    wait_until("every entry is completed again", LATER, || database.count("completed") == REQUESTS);
    [writer, status].iter().for_each(stop);

    let by_id = |entries: Vec<Entry>| -> BTreeMap<String, Entry> {
        entries.into_iter().map(|entry| (entry.log_id.to_string(), entry)).collect()
    };
    assert_eq!(by_id(log.documents()), by_id(before), "each is what it was, under the log id it had");
    assert_eq!(log.read(&target).len(), REQUESTS + lost.len(), "what was lost is delivered again, and nothing else");
    assert_eq!(log.read(&log.dead_requests()), []);
}

fn requests(log: &Log, target: &str) -> Vec<Message> {
    let request = |number| {
        let lifecycle = r#"{"retry_count":3,"delay":0.2,"backoff":"fixed"}"#;
        let value = format!(
            r#"{{"namespace":"orders","target":"{target}","payload":{{"n":{number}}},"lifecycle":{lifecycle},"request_id":"r-{number}"}}"#
        );
        Message::to(&log.topic("ingress")).key(format!("key-{}", number % 7).as_bytes()).value(value)
    };
    (0..REQUESTS).map(request).collect()
}

/// Answers deliveries as their consumer would, and tells how many it declined.
fn answer(log: &Log, deliveries: &[Record], is_declined: impl Fn(usize) -> bool) -> usize {
    let (acks, failures) = (topic(&log.topic("acks")), topic(&log.topic("failures")));
    let failure = Failure { code: "CARD_DECLINED".to_owned(), message: "no money".to_owned() };
    let declines = |record: &&Record| is_declined(number(record.value.as_deref().unwrap_or_default()));
    let answers = deliveries.iter().map(|record| match declines(&record) {
        true => message(&Failed::encode(&as_read(record), &failure, &Wish::None, failures.clone())),
        false => message(&Completed::encode(&as_read(record), None, acks.clone())),
    });
    log.send(&answers.collect::<Vec<_>>());
    deliveries.iter().filter(declines).count()
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).expect("a topic of the log")
}

fn attempt(delivery: &Record) -> String {
    delivery.header("ce_walattempt").expect("every delivery says which attempt it is")
}

/// Which request a payload came with.
fn number(payload: &[u8]) -> usize {
    let payload: serde_json::Value = serde_json::from_slice(payload).expect("the payload is JSON");
    payload["n"].as_u64().and_then(|number| usize::try_from(number).ok()).expect("it has a number")
}

/// What the probe for readiness says; nothing before there is one.
fn ready(address: &str) -> String {
    http::answer(address, "/readyz").unwrap_or_default()
}
