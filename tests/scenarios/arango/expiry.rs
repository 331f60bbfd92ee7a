//! Two processes of wal-status that sweep one database at the same time: each entry expires once.

use std::thread;
use std::time::Duration;

use wal_model::Entry;
use wal_model::status::{Reason, Status};
use wal_tests::{Process, seed, wait_until};

use crate::crashes::expect_died_at;
use crate::status::stage::{Stage, entries, expect_status, later, until};
use crate::support::LATER;
use crate::support::database::Database;
use crate::support::log::{stop, wait_for_partitions};

const SILENT: usize = 300;
/// Small batches, so that there are many moments at which one may be killed, and sweeps that follow close on each other.
const SMALL: [(&str, &str); 2] = [("status.batch_records", "10"), ("status.sweep_interval", "50ms")];

#[test]
fn each_entry_expires_once_though_two_sweep_and_one_dies_at_every_point() {
    let database = Database::new();
    let stage = stage_on(&database);
    let other = start(&stage, "1", &[]);
    wait_for_partitions(&other);
    let mut all = Vec::new();

    for point in ["mid-publish", "after-publish", "after-commit", "after-apply"] {
        let dying = start(&stage, "0", &[("WAL_FAILPOINT", point)]);
        wait_for_partitions(&dying);
        all.extend(silent(&stage, point, SILENT / 4, 500));
        expect_died_at(&dying, point);
    }
    finish(&stage, &database, &all, [start(&stage, "0", &[]), other]);
}

#[test]
fn each_entry_expires_once_though_two_sweep_and_either_is_killed_at_random() {
    let mut random = seed::random("two sweep one database");
    let database = Database::new();
    let stage = stage_on(&database);
    let silent = silent(&stage, "silent", SILENT, 4000);
    let mut processes = ["0", "1"].map(|instance| start(&stage, instance, &[]));

    for lap in 0..4 {
        let told = stage.told().len();
        wait_until("more has expired", LATER, || stage.told().len() > told || told == SILENT);
        // Not to wait for anything: to fall somewhere within a batch.
        thread::sleep(Duration::from_micros(random.u64(..50_000)));
        let which = lap % 2;
        processes[which].kill();
        processes[which] = start(&stage, &which.to_string(), &[]);
    }
    finish(&stage, &database, &silent, processes);
}

fn stage_on(database: &Database) -> Stage {
    Stage::new(&database.settings().into_iter().chain(SMALL).collect::<Vec<_>>())
}

/// Entries of which nothing is said, with deadlines spread over so many milliseconds, stored.
#[track_caller]
fn silent(stage: &Stage, name: &str, count: usize, millis: i64) -> Vec<Entry> {
    let deadlines = (0..count).map(|number| {
        let share = i64::try_from(number * 1000 / count).expect("a small number");
        later(300 + millis * share / 1000)
    });
    let silent: Vec<Entry> =
        entries(name, count).into_iter().zip(deadlines).map(|(entry, at)| until(entry, at)).collect();
    stage.store(&silent, &[]);
    silent
}

fn start(stage: &Stage, instance: &str, env: &[(&str, &str)]) -> Process {
    stage.log.start_program("wal-status", &[("kafka.instance", instance)], env)
}

/// Waits until all have expired, and looks whether each has once.
#[track_caller]
fn finish(stage: &Stage, database: &Database, silent: &[Entry], processes: [Process; 2]) {
    wait_until("all have expired in the database", LATER, || {
        for process in &processes {
            assert!(process.is_running(), "{process:?}");
        }
        database.count("failed") == silent.len()
    });
    stage.wait_until_folded();
    processes.iter().for_each(stop);

    let stored = stage.stored();
    assert_eq!(stored.len(), silent.len());
    expect_status(&stored, silent, Status::Failed);
    let (letters, told) = (stage.letters(), stage.told());
    assert_eq!((letters.len(), told.len()), (silent.len(), silent.len()));
    for entry in silent {
        let log_id = entry.log_id.to_string();
        let state = &stored[&log_id].state;
        assert_eq!((state.reason(), state.history.len()), (Some(Reason::Expired), 1), "{log_id}: {state:?}");
        assert_eq!((letters[&log_id].len(), &*told[&log_id]), (1, "failed"), "{log_id}");
        assert_eq!(letters[&log_id][0].header("ce_walerrorcode").as_deref(), Some("WAL_EXPIRED"), "{log_id}");
    }
    assert_eq!(stage.log.read(&stage.acks()).len(), silent.len(), "each has its one event");
}
