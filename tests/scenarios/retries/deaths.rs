//! kill -9 at named points of both loops, and at random: nothing is lost, nothing comes twice, nothing comes early.

use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::Duration;

use wal_model::answer::Wish;
use wal_tests::{Kafka, Message, Process, seed};

use crate::support::{LATER, Retrying};

const SIGABRT: i32 = 6;
/// Where a transaction can be cut, in order.
const POINTS: [&str; 3] = ["mid-publish", "after-publish", "after-commit"];

#[test]
fn dying_at_any_point_of_a_decision_loses_nothing_and_doubles_nothing() {
    let scene = Retrying::on(&Kafka::shared().bootstrap(), &[("retry_scheduler.batch_records", "8")]);
    let mut sent = 0;
    for hit in [1, 3] {
        for point in POINTS {
            // Due long after the scheduler is dead: what dies is the loop that decides.
            let failures: Vec<Message> = (sent..sent + 40)
                .map(|number| scene.failure(&scene.delivery(number), &Wish::After(Duration::from_secs(30))))
                .collect();
            sent += failures.len();
            scene.send(&failures);
            expect_died_at(&scene.start_to_die(&format!("{point}:{hit}")), point);
        }
    }
    let _scheduler = scene.start(&[]);
    scene.wait_for(sent);
    scene.wait_until_done();
    scene.expect_once_and_never_early(0..sent, 2);
}

#[test]
fn dying_at_any_point_of_a_release_loses_nothing_and_doubles_nothing() {
    let scene = Retrying::on(&Kafka::shared().bootstrap(), &[("retry_scheduler.batch_records", "8")]);
    let mut sent = 0;
    for hit in [1, 3] {
        for point in POINTS {
            let due = crate::support::retrying::now();
            // Nothing failed: what dies is the loop that releases.
            let parked: Vec<Message> = (sent..sent + 40)
                .map(|number| scene.parked(scene.delivery(number).next_attempt(), due, "100ms"))
                .collect();
            sent += parked.len();
            scene.send(&parked);
            expect_died_at(&scene.start_to_die(&format!("{point}:{hit}")), point);
        }
    }
    let _scheduler = scene.start(&[]);
    let mut numbers: Vec<String> =
        scene.wait_for(sent).into_iter().map(|attempt| attempt.delivery.log_id.to_string()).collect();
    scene.wait_until_done();
    assert_eq!(scene.attempts().len(), sent);
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), sent);
    assert!(scene.events().is_empty() && scene.dead_letters().is_empty());
}

#[test]
fn kills_at_random_moments_under_load_lose_nothing_and_double_nothing() {
    let mut random = seed::random("random deaths of the scheduler");
    let scene = Retrying::on(&Kafka::shared().bootstrap(), &[("retry_scheduler.batch_records", "20")]);
    let mut sent = 0;
    for _ in 0..6 {
        let failure = |number: usize| {
            let delay = Duration::from_millis([0, 100, 800, 2100][number % 4]);
            scene.failure(&scene.delivery(number), &Wish::After(delay))
        };
        let failures: Vec<Message> = (sent..sent + 150).map(failure).collect();
        let decided = scene.events().len();
        sent += failures.len();
        scene.send(&failures);
        let mut scheduler = scene.start(&[]);
        scene.log.wait_for(&scene.log.topic("acks"), random.usize(decided..sent), LATER);
        // Not to wait for anything: to fall somewhere within a batch.
        thread::sleep(Duration::from_micros(random.u64(..20_000)));
        scheduler.kill();
    }
    let _scheduler = scene.start(&[]);
    scene.wait_for(sent);
    scene.wait_until_done();
    scene.expect_once_and_never_early(0..sent, 2);
}

#[track_caller]
fn expect_died_at(scheduler: &Process, point: &str) {
    let status = scheduler.wait(LATER);
    let said = format!("failpoint {point} reached");
    let has_said = scheduler.lines().iter().any(|line| line.text.contains(&said));
    assert!(status.signal() == Some(SIGABRT) && has_said, "{status}, not at {point}: {scheduler:?}");
}
