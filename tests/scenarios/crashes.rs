//! kill -9 of the writer, at named points and at random ones: nothing is lost, nothing comes twice, nothing runs ahead of the store.

use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::Duration;

use wal_tests::{Kafka, Process, Producer, seed};

use crate::support::outcome::expect_written_ahead;
use crate::support::{LATER, Load, Log, Outcome, load};

const SIGABRT: i32 = 6;
/// Where a writer can be told to die, in the order it passes them.
const POINTS: [&str; 6] =
    ["before-persist", "mid-batch", "after-persist", "mid-publish", "after-publish", "after-commit"];
/// Small batches, so that a load has many of each point.
const SMALL: [(&str, &str); 1] = [("writer.batch_records", "40")];

#[test]
fn dying_at_any_point_loses_nothing_and_doubles_nothing() {
    let mut random = seed::random("named points");
    let log = Log::on(&Kafka::shared().bootstrap(), &SMALL);
    let targets = ["x", "y"].map(|name| log.target(name));
    let mut load = Load::new(&log, "named", &targets, &mut random);
    let producer = Producer::new(&log.bootstrap);
    let mut requests = Vec::new();

    // The first lap dies at the first batch, all but its last before anything was ever committed; the second in full flight.
    for hit in [1, 3] {
        for point in POINTS {
            let more = load.make(150);
            load::send(&producer, &more);
            requests.extend(more);
            let writer = log.start_to_die(&format!("{point}:{hit}"));
            expect_died_at(&writer, point);
            expect_written_ahead(&log, &targets);
        }
    }

    let writer = log.start(&[]);
    log.receipts(&writer, requests.len(), LATER);
    Outcome::after(writer, &log, &targets).expect_exactly_once(&requests);
}

#[test]
fn kills_at_random_moments_under_load_lose_nothing_and_double_nothing() {
    let mut random = seed::random("random kills");
    let log = Log::on(&Kafka::shared().bootstrap(), &SMALL);
    let targets = ["x", "y"].map(|name| log.target(name));
    let mut load = Load::new(&log, "random", &targets, &mut random);
    let producer = Producer::new(&log.bootstrap);
    let mut requests = Vec::new();

    for _ in 0..6 {
        let more = load.make(500);
        let sending: Vec<_> = more.iter().map(|request| producer.send(&request.message)).collect();
        let answered = log.read(&log.topic("receipts")).len();
        requests.extend(more);
        let mut writer = log.start(&[]);
        let until = random.usize(answered..requests.len());
        log.receipts(&writer, until, LATER);
        // Not to wait for anything: to fall somewhere within a batch.
        thread::sleep(Duration::from_micros(random.u64(..20_000)));
        writer.kill();
        for sent in sending {
            sent.acknowledged();
        }
        expect_written_ahead(&log, &targets);
    }

    let writer = log.start(&[]);
    log.receipts(&writer, requests.len(), LATER);
    Outcome::after(writer, &log, &targets).expect_exactly_once(&requests);
}

/// As when a pod is given another name: nobody ends the open transaction of the one that died, so it must be waited out.
#[test]
fn another_instance_waits_out_the_transaction_of_the_one_that_died() {
    let mut random = seed::random("other instance");
    let log = Log::on(&Kafka::shared().bootstrap(), &SMALL);
    let targets = [log.target("x")];
    let requests = Load::new(&log, "other", &targets, &mut random).make(300);
    load::send(&Producer::new(&log.bootstrap), &requests);
    expect_died_at(&log.start_to_die("after-publish:2"), "after-publish");

    let writer = log.start(&[("kafka.instance", "1")]);

    log.receipts(&writer, requests.len(), LATER);
    Outcome::after(writer, &log, &targets).expect_exactly_once(&requests);
}

#[track_caller]
pub fn expect_died_at(writer: &Process, point: &str) {
    let status = writer.wait(LATER);
    let said = format!("failpoint {point} reached");
    let has_said = writer.lines().iter().any(|line| line.text.contains(&said));
    assert!(status.signal() == Some(SIGABRT) && has_said, "{status}, not at {point}: {writer:?}");
}
