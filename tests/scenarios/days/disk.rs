//! The disk of the broker is full.

use std::collections::{HashMap, HashSet};

use wal_tests::{Kafka, Message, Producer, wait_until};

use crate::support::{LATER, Log, SOON};

/// Room for the log's own topics and a few thousand entries.
const DISK: u64 = 24 << 20;
/// What fills it before the scenario gives up.
const MOST: usize = 40_000;
/// Requests that are under way at a time.
const BATCH: usize = 200;

#[test]
fn a_broker_whose_disk_is_full_ends_and_when_it_is_back_everything_goes_on() {
    let mut kafka = Kafka::start_on_small_disk(DISK);
    let log = Log::on(&kafka.bootstrap(), &[("store.backend", "embedded"), ("writer.batch_records", "200")]);
    let target = log.target("disk");
    let writer = log.start_ready(&[]);
    // What is not acknowledged soon is not waited for: the client sends it again later, under the same request id.
    let producer = Producer::with(&log.bootstrap, &[("delivery.timeout.ms", "5000"), ("request.timeout.ms", "4000")]);

    let request = |number: usize| {
        let filler = "x".repeat(1000);
        let value = format!(
            r#"{{"namespace":"disk","request_id":"r-{number}","target":"{target}","payload":{{"filler":"{filler}"}}}}"#
        );
        Message::to(&log.topic("ingress")).key(format!("k-{number}")).value(value)
    };
    let (mut sent, mut unknown) = (0, Vec::new());
    while unknown.is_empty() && sent < MOST {
        let batch: Vec<_> = (sent..sent + BATCH).map(|number| (number, producer.send(&request(number)))).collect();
        sent += BATCH;
        unknown.extend(batch.into_iter().filter_map(|(number, sent)| sent.outcome().is_err().then_some(number)));
    }
    wait_until("the broker has ended over its full disk", LATER, || !kafka.is_running());
    writer.wait_for_line_where("that nobody answers", LATER, |line| line.contains(&log.bootstrap));
    assert!(writer.is_running(), "it waits for the broker: {writer:?}");

    kafka.restart();
    // A connection of its own: what the other one still has in its queue must not fail this.
    let again: Vec<Message> = unknown.iter().map(|&number| request(number)).collect();
    Producer::new(&log.bootstrap).send_all(&again);
    let answered = || -> HashMap<String, String> {
        let receipts = log.read(&log.topic("receipts")).into_iter().map(|receipt| receipt.json());
        let named = receipts.map(|receipt| {
            assert_eq!(receipt["durable"], true, "{receipt}");
            let text = |name: &str| receipt[name].as_str().unwrap_or_default().to_owned();
            (text("request_id"), text("log_id"))
        });
        named.collect()
    };
    wait_until("every request has its receipt", LATER, || answered().len() == sent);
    log.wait_until_done(SOON);
    assert!(writer.is_running(), "nobody started it again: {writer:?}");

    let deliveries = log.read(&target);
    let delivered: HashSet<String> = deliveries.iter().filter_map(|record| record.header("ce_id")).collect();
    assert_eq!(deliveries.len(), delivered.len(), "once each");
    assert_eq!(delivered, answered().into_values().collect(), "and all of them");
    assert_eq!(delivered.len(), sent);
    writer.terminate();
    assert!(writer.wait(SOON).success(), "{writer:?}");
}
