//! kill -9 at named points: nothing is lost, nothing is told that is not stored, nothing dies twice.

use std::thread;
use std::time::Duration;

use wal_model::Entry;
use wal_model::status::{Reason, Status};
use wal_tests::{Message, seed};

use super::stage::{Stage, entries, expect_status, later, until};
use crate::support::log::{stop, wait_until_read};
use crate::support::{LATER, SOON};

/// Where it can be told to die, in the order it passes them.
const POINTS: [&str; 4] = ["after-apply", "mid-publish", "after-publish", "after-commit"];

#[test]
fn dying_at_any_point_loses_no_event_and_doubles_no_dead_letter() {
    let stage = Stage::new(&[("status.batch_records", "20")]);
    let all = entries("e", 8 * 100);
    stage.store(&all, &[]);
    let laps = [1, 3].into_iter().flat_map(|hit| POINTS.map(|point| (point, hit)));
    let mut refused = 0;
    for ((point, hit), part) in laps.zip(all.chunks(100)) {
        let good = part.iter().map(|entry| stage.done(entry, 1));
        let bad = part.iter().step_by(20).map(|entry| stage.done(entry, 1).value(r#"{"status":"failed"}"#));
        let said: Vec<Message> = good.chain(bad).collect();
        refused += said.len() - part.len();
        stage.log.send(&said);
        stage.die_at(&format!("{point}:{hit}"));
        expect_written_ahead(&stage);
    }

    let process = stage.start(&[]);
    let stored = stage.finish(process);

    expect_status(&stored, &all, Status::Completed);
    let told = stage.told();
    assert!(all.iter().all(|entry| told[&entry.log_id.to_string()] == "completed"));
    let letters = stage.log.read(&stage.log.dead_requests());
    assert_eq!(letters.len(), refused);
}

#[test]
fn kills_at_random_moments_under_load_lose_no_event() {
    let mut random = seed::random("status random kills");
    let stage = Stage::new(&[("status.batch_records", "20")]);
    let all = entries("e", 6 * 200);
    stage.store(&all, &[]);
    for part in all.chunks(200) {
        let mut said: Vec<Message> =
            part.iter().flat_map(|entry| [stage.retrying(entry, 1), stage.done(entry, 2)]).collect();
        random.shuffle(&mut said);
        stage.log.send(&said);
        let before = stage.log.read(&stage.log.topic("status")).len();
        let mut process = stage.start(&[]);
        stage.log.wait_for(&stage.log.topic("status"), before + random.usize(1..200), LATER);
        // Not to wait for anything: to fall somewhere within a batch.
        thread::sleep(Duration::from_micros(random.u64(..20_000)));
        process.kill();
        expect_written_ahead(&stage);
    }

    let process = stage.start(&[]);
    let stored = stage.finish(process);

    expect_status(&stored, &all, Status::Completed);
    let attempts = |entry: &Entry| stored[&entry.log_id.to_string()].state.history.len();
    assert!(all.iter().all(|entry| attempts(entry) == 2), "no event of any attempt is lost");
    assert!(stage.told().values().all(|status| status == "completed"));
}

/// What is told is stored, or was before something greater came.
#[track_caller]
fn expect_written_ahead(stage: &Stage) {
    let stored = stage.stored();
    for (log_id, status) in stage.told() {
        let stored = stored[&log_id].state.status();
        let told = Status::parse(&status).expect("a word for a status");
        assert!(stored >= told, "{log_id} is told {told} and stored {stored}");
    }
}

#[test]
fn dying_in_the_middle_of_an_expiry_expires_every_entry_once() {
    let stage = Stage::new(&[("status.batch_records", "20")]);
    let all: Vec<Entry> = entries("e", 50).into_iter().map(|entry| until(entry, later(0))).collect();
    stage.store(&all, &[]);

    for point in ["mid-publish", "after-publish", "after-commit", "after-apply", "mid-publish", "after-commit"] {
        stage.die_at(point);
        expect_written_ahead(&stage);
    }
    let process = stage.start(&[]);
    for entry in &all {
        stage.wait_until_told(entry, "failed", &process);
    }
    let stored = stage.finish(process);

    expect_status(&stored, &all, Status::Failed);
    let letters = stage.letters();
    for entry in &all {
        let log_id = entry.log_id.to_string();
        assert_eq!(stored[&log_id].state.reason(), Some(Reason::Expired));
        assert_eq!(letters[&log_id].len(), 1, "{log_id}");
        assert_eq!(letters[&log_id][0].header("ce_walerrorcode").as_deref(), Some("WAL_EXPIRED"));
    }
    assert_eq!(stage.log.read(&stage.acks()).len(), all.len(), "each has its one event");
}

#[test]
fn dying_between_tombstone_and_removal_purges_all_the_same() {
    let stage = Stage::new(&super::sweeping::SHORT_RETENTION);
    let (all, events) = super::sweeping::finished_long_ago("e", 30);
    stage.store(&all, &events);

    stage.die_at("mid-publish");
    assert_eq!(stage.stored().len(), all.len());
    assert!(stage.told().is_empty());
    stage.die_at("before-remove");
    assert_eq!(stage.stored().len(), all.len(), "it had told them gone and not removed them");
    assert_eq!(stage.told().len(), all.len());
    let process = stage.start(&[]);
    process.wait_for_line_where("that it has purged", SOON, |line| line.contains("purged"));
    wait_until_read(&stage.log.bootstrap, &stage.log.topic("status"), &stage.acks(), LATER);
    stop(&process);

    assert!(stage.stored().is_empty());
    assert!(stage.told().values().all(|status| status == "gone"));
}
