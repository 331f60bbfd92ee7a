//! The clock of the services is stepped back by an hour, and forward again when somebody notices.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use wal_model::answer::Wish;
use wal_tests::{Kafka, Message, Record, tools, wait_until};

use crate::support::database::Database;
use crate::support::log::wait_for_partitions;
use crate::support::retrying::wait_until_at_work;
use crate::support::{LATER, Log, SOON};

/// How long an attempt is to wait that is parked when the clock is stepped: long enough for the step to come before its end.
const BEFORE: Duration = Duration::from_secs(10);
/// How long an attempt waits that fails afterwards, in a topic where nobody waits from before.
const MEANWHILE: Duration = Duration::from_secs(4);
/// So many attempts take longer than `BEFORE`.
const TRIES: u32 = 4;

#[test]
fn a_clock_that_is_stepped_back_an_hour_makes_retries_late_and_nothing_early_lost_or_twice() {
    let database = Database::new();
    let log = Log::on(&Kafka::shared().bootstrap(), &database.settings());
    let target = log.target("clock");
    let folder = tempfile::tempdir().expect("a folder can be made");
    let [clock, library] = ["clock", "step.so"].map(|name| folder.path().join(name));
    tools::shared_library(&Path::new(env!("CARGO_MANIFEST_DIR")).join("clock/step.c"), &library);
    // In place: the processes have it mapped.
    let step = |seconds: i64| {
        let mut file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.path().join("clock"))
            .expect("it opens");
        file.write_all(&seconds.to_ne_bytes()).expect("it can be written");
    };
    step(0);
    let (clock, library) = (clock.to_string_lossy(), library.to_string_lossy());
    let env = [("LD_PRELOAD", &*library), ("STEPPED_CLOCK", &*clock)];
    let writer = log.start_program("wal-writer", &[], &env);
    let scheduler = log.start_scheduler(&[], &env);
    let status = log.start_program("wal-status", &[], &env);
    wait_for_partitions(&writer);
    wait_until_at_work(&scheduler);
    wait_for_partitions(&status);

    log.send(&[request(&log, &target, "before")]);
    let first = attempt(&log.wait_for(&target, 1, LATER), "before", 1);
    log.send(&[log.failed(&first, &Wish::After(BEFORE))]);
    wait_until("it waits", LATER, || database.count("retrying") == 1);

    step(-3600);
    // What is decided by the new clock goes on, and takes longer than what was decided by the old one would have.
    log.send(&[request(&log, &target, "meanwhile")]);
    for number in 1..=TRIES {
        let delivered = usize::try_from(number).expect("a few") + 1;
        let other = attempt(&log.wait_for(&target, delivered, LATER), "meanwhile", number);
        assert!(sent(&other) < sent(&first), "the clock was stepped back: {} and {}", sent(&other), sent(&first));
        let last = number == TRIES;
        log.send(&[if last { log.completed(&other) } else { log.failed(&other, &Wish::After(MEANWHILE)) }]);
    }
    wait_until("it is completed", LATER, || database.count("completed") == 1);
    let delivered = log.read(&target);
    assert_eq!(delivered.len(), 5, "whose time has not come by the clock stays where it is: {delivered:?}");

    step(0);
    let second = attempt(&log.wait_for(&target, 6, LATER), "before", 2);
    log.send(&[log.completed(&second)]);
    wait_until("both are completed", LATER, || database.count("completed") == 2);
    assert_eq!(log.receipts(&writer, 2, SOON).len(), 2);
    assert_eq!(log.read(&target).len(), 6, "each attempt once");
    for process in [&writer, &scheduler, &status] {
        assert!(process.is_running(), "{process:?}");
        process.terminate();
        assert!(process.wait(SOON).success(), "{process:?}");
    }
}

fn request(log: &Log, target: &str, name: &str) -> Message {
    let lifecycle = r#"{"retry_count":5,"delay":1,"backoff":"fixed"}"#;
    let value = format!(
        r#"{{"namespace":"orders","target":"{target}","payload":{{"name":"{name}"}},"lifecycle":{lifecycle}}}"#
    );
    Message::to(&log.topic("ingress")).key(name).value(value)
}

fn attempt(deliveries: &[Record], name: &str, number: u32) -> Record {
    let number = number.to_string();
    let is_it =
        |record: &&Record| record.json()["name"] == name && record.header("ce_walattempt").as_deref() == Some(&*number);
    deliveries.iter().find(is_it).expect("it was delivered").clone()
}

/// When its publisher sent it, by its clock.
fn sent(delivery: &Record) -> String {
    delivery.header("ce_walsent").expect("every delivery says so")
}
