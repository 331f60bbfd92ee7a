//! Rule by rule: what is printed is enough for all that a service ever does, and none of it is idle.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};
use wal_model::answer::Wish;
use wal_model::{Clock as _, SystemClock, Timestamp};
use wal_runtime::acls::{Names, Service};
use wal_tests::{Message, Record, free_port, wait_until};

use super::certificates::Validity;
use super::{PASSWORD, Secured, as_user, in_words, rules, start};
use crate::support::database::Database;
use crate::support::http::post;
use crate::support::log::{home, lines_with, stop, wait_for_partitions};
use crate::support::retrying::wait_until_at_work;
use crate::support::{LATER, Log};

/// What becomes of the attempt of an entry; its payload says so.
const FATES: [&str; 11] = [
    "completed",
    "completed in another partition",
    "failed",
    "failed in another partition",
    "rejected",
    "left alone",
    "wanted later",
    "completed by hand",
    "failed by hand",
    "cancelled by hand",
    "rescued",
];

#[test]
fn each_service_works_as_a_user_of_its_own_with_the_rules_that_are_printed_and_no_others() {
    let secured = Secured::start(Validity::Now);
    let database = Database::new();
    let quick = [("retry_scheduler.delete_released_every", "100ms"), ("retry_scheduler.keep_cancels", "0s")];
    let log = secured.log(&[&database.settings()[..], &quick].concat());
    let target = log.target("secured");
    let names = [Names::parse(&target)];
    secured.allow(&log, &names);
    let user = |service| as_user(service, PASSWORD, &secured.file("ca.pem"));
    let hand = format!("127.0.0.1:{}", free_port());
    let writer = start(&log, Service::Writer, &user(Service::Writer), &[]);
    let scheduler = start(&log, Service::RetryScheduler, &user(Service::RetryScheduler), &[]);
    let status = start(&log, Service::Status, &user(Service::Status), &[]);
    let gateway = start(&log, Service::Gateway, &user(Service::Gateway), &[("gateway.listen", &hand)]);
    wait_for_partitions(&writer);
    wait_until_at_work(&scheduler);
    wait_for_partitions(&status);

    let requests = FATES.iter().map(|fate| request(&log, &target, fate));
    log.send(&requests.chain([Message::to(&log.topic("ingress")).value("no request")]).collect::<Vec<_>>());
    log.receipts(&writer, FATES.len() + 1, LATER);
    for delivery in log.wait_for(&target, FATES.len(), LATER) {
        meet(&log, &hand, &delivery);
    }
    // Three are tried again, and the rescued one comes again.
    let all = log.wait_for(&target, FATES.len() + 4, LATER);
    let is_to_be_done = |record: &&Record| is_second(record) || fate(record) == "rescued";
    log.send(&all.iter().filter(is_to_be_done).map(|record| log.completed(record)).collect::<Vec<_>>());
    wait_until("eight are completed", LATER, || database.count("completed") == 8);
    wait_until("three have failed", LATER, || database.count("failed") == 3);
    let (cancels, delayed) = (log.topic("cancels"), log.topic("delay.100ms"));
    wait_until("the cancel has ended", LATER, || log.read(&cancels).iter().any(|record| record.value.is_none()));
    wait_until("what was released is deleted", LATER, || log.read(&delayed).is_empty());

    // An entry that nobody answers is completed by who delivers it.
    stop(&writer);
    let unanswered = start(&log, Service::Writer, &user(Service::Writer), &[("policy.answers", "none")]);
    log.send(&[request(&log, &target, "never answered")]);
    wait_until("it is completed", LATER, || database.count("completed") == 9);

    for process in [&unanswered, &scheduler, &status, &gateway] {
        stop(process);
    }
    for process in [&writer, &unanswered, &scheduler, &status, &gateway] {
        assert_eq!(lines_with(process, "uthorization"), Vec::<String>::new(), "nothing was denied");
        assert!(process.lines().iter().all(|line| !line.text.contains(PASSWORD)), "the password is nobody's to read");
    }
    let (printed, used) = (printed(&log, &names), used(&secured.kafka.log()));
    let idle: Vec<&String> = printed.difference(&used).collect();
    assert!(idle.is_empty(), "rules that nobody needed: {idle:#?}\nwhat was used: {used:#?}");
}

fn request(log: &Log, target: &str, fate: &str) -> Message {
    let lifecycle = match fate {
        "left alone" => json!({"ttl": 2}),
        "cancelled by hand" => json!({"ttl": 25}),
        _ => json!({"retry_count": 1, "delay": 0.1}),
    };
    let mut request = json!({"namespace": namespace(fate), "target": target, "request_id": fate, "payload": {"fate": fate},
        "lifecycle": lifecycle});
    if fate == "wanted later" {
        // Later than the slowest writer takes to store it.
        let soon = SystemClock.now().as_millis() + 8000;
        request["deliver_at"] = Timestamp::from_millis(soon).expect("a time of our age").to_string().into();
    }
    Message::to(&log.topic("ingress")).key(fate).value(request.to_string())
}

/// A rescue takes all of its namespace.
fn namespace(fate: &str) -> String {
    format!("secured.{}", fate.replace(' ', "-"))
}

fn fate(delivery: &Record) -> String {
    delivery.json()["fate"].as_str().expect("a fate").to_owned()
}

fn is_second(delivery: &Record) -> bool {
    delivery.header("ce_walattempt").as_deref() == Some("2")
}

/// Does with a delivery what its payload says.
#[track_caller]
fn meet(log: &Log, hand: &str, delivery: &Record) {
    let log_id = delivery.header("ce_id").expect("a log id");
    let by_hand = |act: &str, told: Value| expect_taken(&post(hand, &format!("/v1/entries/{log_id}/{act}"), &told));
    let elsewhere = |answer: Message| answer.partition((home(&log_id) + 1) % 4);
    match fate(delivery).as_str() {
        "completed" | "wanted later" => drop(log.send(&[log.completed(delivery)])),
        "completed in another partition" => drop(log.send(&[elsewhere(log.completed(delivery))])),
        "failed" => drop(log.send(&[log.failed(delivery, &Wish::None)])),
        "failed in another partition" => drop(log.send(&[elsewhere(log.failed(delivery, &Wish::None))])),
        "rejected" => drop(log.send(&[log.failed(delivery, &Wish::Never)])),
        "left alone" => {}
        "completed by hand" => by_hand("complete", json!({})),
        "failed by hand" => by_hand("fail", json!({"error_code": "BUSY", "error": "later"})),
        "cancelled by hand" => by_hand("cancel", json!({})),
        "rescued" => {
            let span = json!({"namespace": namespace("rescued"), "from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z",
                "dry_run": false, "force": true});
            expect_taken(&post(hand, "/v1/rescue", &span));
        }
        other => panic!("nobody knows what to do with {other}"),
    }
}

#[track_caller]
fn expect_taken(answer: &str) {
    let status = answer.split(' ').nth(1).unwrap_or_default();
    assert!(status.starts_with('2'), "{answer}");
}

/// What each service is allowed, an operation of a rule each.
fn printed(log: &Log, targets: &[Names]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for service in Service::ALL {
        for rule in rules(log, service, targets) {
            all.extend(in_words(service, &rule).iter().map(|words| words.to_lowercase()));
        }
    }
    all
}

/// The rules by which the node let somebody do something, as its audit log names them, in the same words.
fn used(log: &str) -> BTreeSet<String> {
    let by_rule = log.lines().filter(|line| line.contains(" is Allowed operation"));
    let rules = by_rule.filter_map(|line| line.split_once("StandardAcl(")?.1.split_once(')'));
    rules.map(|(rule, _)| words(rule)).collect()
}

fn words(rule: &str) -> String {
    let parts: HashMap<&str, &str> = rule.split(", ").filter_map(|part| part.split_once('=')).collect();
    let user = parts["principal"].trim_start_matches("User:");
    let names = ["resourceType", "patternType", "resourceName", "operation"].map(|name| parts[name]);
    format!("{user}|{}", names.join("|")).to_lowercase()
}
