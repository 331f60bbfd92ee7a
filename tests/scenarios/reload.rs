//! A configuration that changes under a running writer: what can be taken over is, from one batch to the next, and nothing else happens.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use wal_model::answer::Wish;
use wal_tests::{Kafka, Message, Record};

use crate::support::database::Database;
use crate::support::log::{lines_with, wait_for_partitions};
use crate::support::retrying::wait_until_at_work;
use crate::support::{LATER, Log, SOON};

/// So many requests go out together, while the configuration changes.
const TOGETHER: usize = 50;
/// Small batches, so that a change falls between many.
const SMALL: (&str, &str) = ("writer.batch_records", "20");
const TAKEN_OVER: &str = "the configuration was read again, taken over: log.level, policy.retry_count, policy.target";
const NOT_YET: &str = "takes effect at the next start: topics.acks_retention";
const REFUSED: &str = "the configuration cannot be used, nothing was changed";

/// The file of a configuration, and how it comes to be another one.
struct File(TempDir);

impl File {
    fn path(&self) -> PathBuf {
        self.0.path().join("wal.toml")
    }

    /// Changes it whole, as editors and Kubernetes do.
    fn write(&self, text: &str) {
        let other = self.0.path().join("next.toml");
        std::fs::write(&other, text).unwrap();
        std::fs::rename(&other, self.path()).unwrap();
    }
}

/// Ends the load, also when the scenario fails: a scope waits for its threads.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_policy_and_a_level_that_change_under_load_hold_from_one_batch_to_the_next() {
    let log = Log::on(&Kafka::shared().bootstrap(), &[SMALL]);
    let (before, after) = (log.target("before"), log.target("after"));
    let file = File(tempfile::tempdir().unwrap());
    file.write(&format!("[policy]\ntarget = \"{before}\"\nretry_count = 1\n"));
    let writer = log.start_with_file(&file.path());
    let is_over = AtomicBool::new(false);

    let sent = thread::scope(|scope| {
        let load = scope.spawn(|| send_until(&log, &is_over));
        let over = Over(&is_over);
        log.wait_for(&before, TOGETHER, SOON);

        let level = "[log]\nlevel = \"info,wal_writer=debug\"\n";
        let policy = format!("[policy]\ntarget = \"{after}\"\nretry_count = 7\n");
        file.write(&format!("{policy}{level}[topics]\nacks_retention = \"8d\"\n"));
        writer.hang_up();
        writer.wait_for_line(TAKEN_OVER, SOON);
        assert!(writer.wait_for_line(NOT_YET, SOON).contains("WARN"), "{writer:?}");
        log.wait_for(&after, TOGETHER, SOON);
        drop(over);
        load.join().unwrap()
    });
    // What was stored under the old policy keeps it, whoever asks again.
    log.send(&[bare(&log, "0"), Message::to(&log.topic("ingress")).value("no JSON")]);
    writer.wait_for_line("request refused", SOON);
    let receipts = log.receipts(&writer, sent + 2, LATER);

    let deliveries: Vec<Record> = [&before, &after].into_iter().flat_map(|target| log.read(target)).collect();
    assert_eq!(deliveries.len(), sent, "each is delivered once");
    for (target, retries) in [(&before, "1"), (&after, "7")] {
        let retries_there = log.read(target).into_iter().map(|delivery| delivery.header("ce_walretries"));
        assert!(retries_there.into_iter().all(|found| found.as_deref() == Some(retries)), "whole policies only");
    }
    let of_first: Vec<_> = receipts.iter().map(Record::json).filter(|receipt| receipt["request_id"] == "0").collect();
    assert_eq!(of_first.len(), 2, "{of_first:?}");
    assert!(of_first.iter().all(|receipt| receipt["target"] == *before), "{of_first:?}");
    expect_one_log_id_each(&receipts, sent);
    assert!(writer.is_running());
}

#[test]
fn a_configuration_that_cannot_be_used_changes_nothing_and_is_named() {
    let log = Log::on(&Kafka::shared().bootstrap(), &[]);
    let (before, after) = (log.target("before"), log.target("after"));
    let file = File(tempfile::tempdir().unwrap());
    file.write(&format!("[policy]\ntarget = \"{before}\"\n"));
    let writer = log.start_with_file(&file.path());
    log.send(&[bare(&log, "r1")]);
    log.receipts(&writer, 1, SOON);

    let cases = [
        (format!("[policy]\ntarget = \"{after}\"\nretry_cout = 7\n"), "policy.retry_cout"),
        (format!("[policy]\ntarget = \"{after}\"\nretry_count = 101\n"), "100 at most"),
        (format!("[policy]\ntarget = \"{after}\"\n[writer]\nhigh_share = 99\n"), "writer.high_share"),
        (format!("[policy]\ntarget = \"{after}\"\n[log]\nlevel = \"inof\"\n"), "log.level"),
        ("[policy\n".to_owned(), "is not TOML"),
    ];
    for (text, named) in &cases {
        file.write(text);
        writer.hang_up();
        let is_told = |line: &str| line.contains(REFUSED) && line.contains("ERROR") && line.contains(named);
        writer.wait_for_line_where(named, SOON, is_told);
    }
    assert_eq!(lines_with(&writer, REFUSED).len(), cases.len(), "one line each: {writer:?}");
    log.send(&[bare(&log, "r2")]);
    let receipts = log.receipts(&writer, 2, SOON);
    assert!(receipts.iter().all(|receipt| receipt.json()["target"] == *before), "{receipts:?}");

    file.write(&format!("[policy]\ntarget = \"{after}\"\n"));
    writer.hang_up();
    writer.wait_for_line("taken over: policy.target", SOON);
    log.send(&[bare(&log, "r3")]);
    log.receipts(&writer, 3, SOON);
    assert_eq!((log.read(&before).len(), log.read(&after).len()), (2, 1));
}

#[test]
fn a_scheduler_takes_over_its_limits_and_what_a_service_cannot_take_over_it_names() {
    let database = Database::new();
    let log = Log::on(&Kafka::shared().bootstrap(), &database.settings());
    let target = log.target("reloaded");
    let [of_scheduler, of_status] = [(); 2].map(|()| File(tempfile::tempdir().unwrap()));
    of_scheduler.write("[retry_scheduler]\nretry_after_max = \"1h\"\n");
    of_status.write("[status]\nbatch_records = 100\n");
    let writer = log.start_ready(&[]);
    let scheduler = log.start_program_with_file("wal-retry-scheduler", &of_scheduler.path());
    let status = log.start_program_with_file("wal-status", &of_status.path());
    wait_until_at_work(&scheduler);
    wait_for_partitions(&status);
    let request = format!(r#"{{"namespace":"n","target":"{target}","payload":{{}},"lifecycle":{{"retry_count":1}}}}"#);
    log.send(&[Message::to(&log.topic("ingress")).value(request)]);
    let delivery = log.wait_for(&target, 1, LATER).remove(0);

    of_scheduler.write("[retry_scheduler]\nretry_after_max = \"1s\"\nbatch_records = 7\n");
    scheduler.hang_up();
    scheduler.wait_for_line("taken over: retry_scheduler.retry_after_max", SOON);
    scheduler.wait_for_line("takes effect at the next start: retry_scheduler.batch_records", SOON);
    of_status.write("[status]\nbatch_records = 200\n");
    status.hang_up();
    status.wait_for_line("takes effect at the next start: status.batch_records", SOON);

    // A wish for an hour is granted a second now; who waited the hour would not see the end of this.
    log.send(&[log.failed(&delivery, &Wish::After(Duration::from_secs(3600)))]);
    let attempts = log.wait_for(&target, 2, LATER);
    assert!(attempts.iter().any(|record| record.header("ce_walattempt").as_deref() == Some("2")), "{attempts:?}");
    assert!(writer.is_running() && scheduler.is_running() && status.is_running());
}

/// A request that leaves everything to the policy.
fn bare(log: &Log, id: &str) -> Message {
    let value = format!(r#"{{"namespace":"n","payload":{{}},"request_id":"{id}"}}"#);
    Message::to(&log.topic("ingress")).key(id).value(value)
}

/// Sends requests, numbered from 0, until it is over; tells how many.
fn send_until(log: &Log, is_over: &AtomicBool) -> usize {
    let mut sent = 0;
    while !is_over.load(Ordering::SeqCst) {
        let requests: Vec<Message> = (sent..sent + TOGETHER).map(|id| bare(log, &id.to_string())).collect();
        log.send(&requests);
        sent += TOGETHER;
    }
    sent
}

/// Every request has one log id, whatever happened meanwhile.
#[track_caller]
fn expect_one_log_id_each(receipts: &[Record], sent: usize) {
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    for receipt in receipts.iter().map(Record::json).filter(|receipt| receipt["success"] == true) {
        let text = |name: &str| receipt[name].as_str().unwrap().to_owned();
        let log_id = text("log_id");
        assert_eq!(*ids.entry(text("request_id")).or_insert_with(|| log_id.clone()), log_id);
    }
    assert_eq!(ids.len(), sent);
}
