//! Bad days of an operator: topics that are deleted or grow under running services, records that nobody can read at the head of every
//! partition, a name that leads nowhere, a folder without room, a thousand targets. Nothing is lost or doubled, and who looks into the log
//! finds why.

mod clock;
mod crowd;
mod disk;
mod full;

use std::collections::{HashMap, HashSet};

use wal_tests::clients::{add_partitions, create_topic, delete_topic};
use wal_tests::{Kafka, Message, Process, Producer, Record, seed, wait_until};

use crate::support::log::{lines_with, wait_for_partitions, wait_until_read};
use crate::support::retrying::wait_until_at_work;
use crate::support::{LATER, Load, Log, Outcome, SOON, load};

/// Small batches, so that whatever happens falls between many of them, and clients that notice soon.
const SETTINGS: [(&str, &str); 3] = [
    ("writer.batch_records", "40"),
    ("writer.unknown_target_wait", "1s"),
    ("kafka.options.topic.metadata.refresh.interval.ms", "1000"),
];

#[test]
fn a_target_that_is_deleted_under_load_harms_no_neighbour_and_is_served_again_when_it_is_back() {
    let mut random = seed::random("target deleted");
    let log = Log::on(&Kafka::shared().bootstrap(), &SETTINGS);
    let [stays, goes] = ["stays", "goes"].map(|name| log.target(name));
    let mut to_both = Load::new(&log, "both", &[stays.clone(), goes.clone()], &mut random);
    let mut to_stays = Load::new(&log, "stays", std::slice::from_ref(&stays), &mut random);
    let mut to_goes = Load::new(&log, "goes", std::slice::from_ref(&goes), &mut random);
    let producer = Producer::new(&log.bootstrap);
    let writer = log.start_ready(&[]);

    let before = to_both.make(300);
    load::send(&producer, &before);
    log.receipts(&writer, random.usize(1..before.len()), LATER);
    delete_topic(&log.bootstrap, &goes);
    let neighbours = to_stays.make(300);
    load::send(&producer, &neighbours);
    log.receipts(&writer, before.len() + neighbours.len(), LATER);

    // Asks for the target once more; the receipt is that request's own, whatever partition it came in.
    let mut asked = Vec::new();
    let mut ask = || {
        let probe = to_goes.make(1);
        load::send(&producer, &probe);
        let id = probe[0].id.clone();
        asked.extend(probe);
        let receipts = log.receipts(&writer, before.len() + neighbours.len() + asked.len(), LATER);
        let own = receipts.iter().map(Record::json).find(|receipt| receipt["request_id"] == id);
        own.expect("each request has a receipt")
    };
    // What is asked for now is refused, whatever was remembered of the target.
    wait_until("the target is known to be gone", LATER, || ask()["error_code"] == "WAL_TARGET_UNKNOWN");
    create_topic(&log.bootstrap, &goes, 4, &[]);
    wait_until("the target is served again", LATER, || ask()["success"] == true);

    let outcome = Outcome::after(writer, &log, &[stays.clone(), goes]);
    for request in before.iter().chain(&neighbours).chain(&asked) {
        let receipts = outcome.receipts.get(&request.id).map_or(0, Vec::len);
        assert_eq!(receipts, 1, "receipts of {}", request.id);
    }
    for request in before.iter().chain(&neighbours).filter(|request| is_stored(&outcome, &request.id)) {
        for (wanted, log_id) in request.entries.iter().zip(outcome.log_ids(request)) {
            let deliveries = outcome.deliveries.get(&log_id).map_or(0, Vec::len);
            let at_least = usize::from(wanted.target == stays);
            assert!((at_least..=1).contains(&deliveries), "{deliveries} deliveries of {log_id} to {}", wanted.target);
        }
    }
    let last = asked.last().expect("it was asked for");
    assert!(outcome.log_ids(last).iter().all(|log_id| outcome.deliveries[log_id].len() == 1));
}

fn is_stored(outcome: &Outcome, request_id: &str) -> bool {
    outcome.receipts[request_id][0]["success"] == true
}

#[test]
fn partitions_that_are_added_under_load_are_read_and_lose_nothing() {
    let mut random = seed::random("grown");
    let log = Log::on(&Kafka::shared().bootstrap(), &SETTINGS);
    let targets = [log.target("grows")];
    let producer = Producer::with(&log.bootstrap, &[("topic.metadata.refresh.interval.ms", "1000")]);
    let writer = log.start_ready(&[]);
    let before = Load::new(&log, "before", &targets, &mut random).make(300);
    load::send(&producer, &before);
    log.receipts(&writer, random.usize(1..before.len()), LATER);

    for lane in ["ingress.high", "ingress", "ingress.low"] {
        add_partitions(&log.bootstrap, &log.topic(lane), 7);
    }
    add_partitions(&log.bootstrap, &targets[0], 7);
    // Into those that are new, whatever the producer knows yet.
    let mut after = Load::new(&log, "after", &targets, &mut random).make(300);
    for (number, request) in after.iter_mut().enumerate() {
        request.message.partition = Some(4 + i32::try_from(number % 3).expect("one of three"));
        // In an order of their own: a key that moves to another partition has none across the move.
        request.key = request.key.take().map(|key| format!("new {key}"));
        request.message.key = request.key.as_ref().map(|key| key.as_bytes().to_vec());
    }
    // A producer learns of each topic by itself.
    let mut known = HashSet::new();
    let is_first = |request: &&load::Request| known.insert((request.message.topic.clone(), request.message.partition));
    let (first, rest): (Vec<_>, Vec<_>) = after.iter().partition(is_first);
    for request in first {
        wait_until("the producer knows the partition", SOON, || producer.send(&request.message).outcome().is_ok());
    }
    producer.send_all(rest.into_iter().map(|request| &request.message));
    log.receipts(&writer, before.len() + after.len(), LATER);

    let outcome = Outcome::after(writer, &log, &targets);
    for request in before.iter().chain(&after) {
        for log_id in outcome.log_ids(request) {
            assert_eq!(outcome.deliveries.get(&log_id).map_or(0, Vec::len), 1, "deliveries of {log_id}");
        }
    }
    assert_eq!(outcome.receipts.len(), before.len() + after.len());
    assert_eq!(outcome.dead_letters, []);
}

#[test]
fn a_record_that_nobody_can_read_at_the_head_of_every_partition_holds_up_nothing() {
    let log = Log::on(&Kafka::shared().bootstrap(), &[]);
    let target = log.target("behind");
    let poison = ["ingress.high", "ingress", "ingress.low", "failures", "cancels", "delay.1s", "delay.60s"];
    let mut sent = 0;
    for topic in poison {
        let partitions = if topic.starts_with("delay") { 1 } else { 4 };
        for partition in 0..partitions {
            let topic = log.topic(topic);
            let poisonous = Message::to(&topic).partition(partition).key([0xff]).value([0xfe, 0x00, 0x7b]);
            log.send([&poisonous.header("ce_id", [0xff, 0xfe])]);
            sent += 1;
        }
    }

    let writer = log.start_ready(&[]);
    let scheduler = log.start_scheduler(&[], &[]);
    wait_until_at_work(&scheduler);
    let request = |number: usize| {
        let value = format!(
            r#"{{"namespace":"behind","target":"{target}","request_id":"r-{number}","payload":{{"number":{number}}}}}"#
        );
        Message::to(&log.topic("ingress")).key(format!("k{number}")).value(value)
    };
    log.send(&(0..100).map(request).collect::<Vec<_>>());

    assert_eq!(log.wait_for(&target, 100, LATER).len(), 100);
    wait_until_read(&log.bootstrap, &log.topic("retry-scheduler"), &log.topic("failures"), LATER);
    // Each of them is kept where it can be looked at, once, but for those of `cancels`, which is read for what can be read in it.
    let letters = log.wait_for(&log.dead_requests(), sent - 4, LATER);
    let mut by_topic: HashMap<String, usize> = HashMap::new();
    for letter in &letters {
        *by_topic.entry(letter.header("__dlq.errors.topic").expect("where it was")).or_default() += 1;
        assert_eq!(letter.value.as_deref(), Some(&[0xfe, 0x00, 0x7b][..]), "as it was: {letter:?}");
    }
    assert_eq!(by_topic.len(), poison.len() - 1, "{by_topic:?}");
    for process in [&writer, &scheduler] {
        assert!(process.is_running(), "{process:?}");
    }
}

#[test]
fn a_broker_whose_name_leads_nowhere_is_passed_over_and_alone_ends_the_start_in_words() {
    let kafka = Kafka::shared().bootstrap();
    let log = Log::on(&kafka, &[]);
    let target = log.target("named");
    let both = format!("nowhere.invalid:9092,{kafka}");
    let writer = log.start_ready(&[("kafka.bootstrap_servers", &both)]);
    let value = format!(r#"{{"namespace":"a","target":"{target}","request_id":"r","payload":{{}}}}"#);
    log.send([&Message::to(&log.topic("ingress")).value(value)]);
    log.receipts(&writer, 1, LATER);
    writer.terminate();
    assert!(writer.wait(SOON).success());

    let alone = [("kafka.bootstrap_servers", "nowhere.invalid:9092"), ("kafka.start_timeout", "8s")];
    let writer = log.start(&alone);
    assert!(!writer.wait(SOON).success());
    let told = lines_with(&writer, "nowhere.invalid:9092");
    assert!(told.iter().any(|line| line.contains("resolve")), "{writer:?}");
}

/// An ingress topic that is deleted takes the place of the group with it, and what was not read: that is for a human.
#[test]
fn an_ingress_topic_that_is_deleted_under_the_writer_is_named_and_the_writer_goes_on_when_it_is_adopted() {
    let log = Log::on(&Kafka::shared().bootstrap(), &SETTINGS);
    let target = log.target("after");
    let writer = log.start_ready(&[]);
    let request = |number: usize| {
        let value = format!(r#"{{"namespace":"a","target":"{target}","request_id":"r-{number}","payload":{{}}}}"#);
        Message::to(&log.topic("ingress")).value(value)
    };
    log.send(&(0..20).map(request).collect::<Vec<_>>());
    log.receipts(&writer, 20, LATER);

    delete_topic(&log.bootstrap, &log.topic("ingress"));
    writer.wait_for_line_where("that the topic is gone", LATER, |line| {
        line.contains(&log.topic("ingress")) && (line.contains("WARN") || line.contains("ERROR"))
    });
    stop(&writer);

    let refused = log.start(&[]);
    assert!(!refused.wait(SOON).success());
    assert!(!lines_with(&refused, "wal topics plan").is_empty(), "{refused:?}");
    log.make_topics();
    log.adopt();
    let writer = log.start(&[]);
    wait_for_partitions(&writer);
    log.send(&(20..40).map(request).collect::<Vec<_>>());
    log.receipts(&writer, 40, LATER);
    assert_eq!(log.read(&target).len(), 40);
}

#[track_caller]
fn stop(process: &Process) {
    if process.is_running() {
        process.terminate();
    }
    process.wait(SOON);
}
