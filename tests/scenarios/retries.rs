//! Retries on exact delays: failures decided once, attempts that come back when they are due, whatever dies meanwhile.

mod bad;
mod deaths;
mod waiting;

use std::time::Duration;

use wal_model::answer::Wish;
use wal_model::delivery::Delivery;
use wal_model::status::{Outcome, Reason};
use wal_tests::Kafka;

use crate::support::Retrying;
use crate::support::retrying::due_of;

#[test]
fn a_failed_attempt_comes_back_when_it_is_due_until_its_retries_are_used_up() {
    let scene = Retrying::on(&Kafka::shared().bootstrap(), &[]);
    let _scheduler = scene.start(&[]);
    let first = scene.delivery(1);
    let wishes = [Wish::None, Wish::After(Duration::ZERO), Wish::After(Duration::from_millis(700))];
    let mut attempt = first.clone();
    for (tried, wish) in (1..).zip(wishes) {
        scene.send(&[scene.failure(&attempt, &wish)]);
        let events = scene.wait_for_events(tried);
        let attempts = scene.wait_for(tried);
        let (came, event) = (&attempts[tried - 1], events.iter().find(|event| event.event.attempt == attempt.attempt));
        let (_, due) = due_of(event.expect("it was decided")).expect("it is retried");
        assert!(came.written >= due && came.sent >= due, "{came:?} came before {due}");
        assert!(came.written.saturating_since(due) < Duration::from_secs(2), "{came:?} came long after {due}");
        attempt = attempt.next_attempt();
        let came = attempts.into_iter().find(|came| came.delivery.attempt == attempt.attempt);
        assert_eq!(came.map(|came| came.delivery), Some(attempt.clone()), "nothing else of it changed");
    }

    scene.send(&[scene.failure(&attempt, &Wish::None)]);
    let last = scene.wait_for_events(4).into_iter().find(|event| event.event.attempt == 4).unwrap();
    assert_eq!(last.event.outcome, Outcome::Failed { reason: Reason::Exhausted });
    assert_eq!(last.event.failure.map(|failure| failure.code).as_deref(), Some("CARD_DECLINED"));
    let letters = scene.dead_letters();
    let [letter] = &letters["WAL_RETRIES_EXHAUSTED"][..] else { panic!("{letters:?}") };
    assert_eq!(letter.value.as_deref(), Some(&first.payload[..]));
    assert_eq!(letter.header("ce_walerrorcode").as_deref(), Some("CARD_DECLINED"));
    assert_eq!(scene.attempts().len(), 3);
}

#[test]
fn a_failure_that_is_told_again_is_decided_once_also_after_a_crash() {
    let scene = Retrying::on(&Kafka::shared().bootstrap(), &[]);
    let mut scheduler = scene.start(&[]);
    let failures: Vec<_> = (0..40).map(|number| scene.failure(&scene.delivery(number), &Wish::None)).collect();
    // In one batch, and in a later one.
    scene.send(failures.iter().chain(&failures));
    scene.wait_for_events(40);
    scene.send(&failures);
    scheduler.kill();

    // Before anything was read back, and by one that was never there before.
    scene.send(&failures);
    let scheduler = scene.start(&[("kafka.instance", "another")]);
    scene.send(&failures);
    scene.wait_for(40);
    scene.wait_until_done();
    scene.expect_once_and_never_early(0..40, 2);
    let read_back = scheduler.wait_for_line("read back what was decided", Duration::ZERO);
    println!("{read_back}");
}

#[test]
fn what_a_consumer_rejects_or_what_would_be_too_late_is_not_tried_again() {
    let scene = Retrying::on(&Kafka::shared().bootstrap(), &[]);
    let _scheduler = scene.start(&[]);
    let soon_over = Delivery {
        deadline: crate::support::retrying::now().saturating_add(Duration::from_millis(1500)),
        ..scene.delivery(2)
    };
    scene.send(&[scene.failure(&scene.delivery(1), &Wish::Never), scene.failure(&soon_over, &Wish::None)]);
    let mut reasons: Vec<Outcome> = scene.wait_for_events(2).into_iter().map(|event| event.event.outcome).collect();
    reasons.sort_by_key(|outcome| format!("{outcome:?}"));
    let failed = |reason| Outcome::Failed { reason };
    assert_eq!(reasons, [failed(Reason::Expired), failed(Reason::Rejected)]);
    let letters = scene.dead_letters();
    assert_eq!(letters.keys().collect::<Vec<_>>(), ["WAL_EXPIRED", "WAL_REJECTED"]);
    scene.wait_until_done();
    assert!(scene.attempts().is_empty());
}

#[test]
fn a_failure_in_another_partition_than_its_own_is_moved_there_and_decided_once() {
    let scene = Retrying::on(&Kafka::shared().bootstrap(), &[]);
    let _scheduler = scene.start(&[]);
    // As a client spreads them that has another partitioner, or none: three of four stand elsewhere, and all come twice.
    let anywhere = |number: usize| {
        let failure = scene.failure(&scene.delivery(number), &Wish::After(Duration::from_millis(300)));
        failure.partition(i32::try_from(number % 4).unwrap())
    };
    let failures: Vec<_> = (0..60).map(anywhere).collect();
    scene.send(failures.iter().chain(&failures));
    scene.wait_for(60);
    scene.wait_until_done();
    scene.expect_once_and_never_early(0..60, 2);
}
