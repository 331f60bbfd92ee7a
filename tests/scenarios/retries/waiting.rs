//! What waits: beside each other, through downtime, cancelled, expired, without a target.

use std::time::Duration;

use wal_model::Priority;
use wal_model::answer::Wish;
use wal_model::delivery::Delivery;
use wal_model::status::{Outcome, Reason};
use wal_tests::{Kafka, Message, Process, seed, wait_until};

use crate::support::retrying::{Attempt, due_of, now, wait_until_at_work};
use crate::support::{LATER, Retrying, SOON};

/// What a stop may take.
const STOP: Duration = Duration::from_secs(20);

#[test]
fn short_delays_do_not_wait_behind_long_ones() {
    let mut random = seed::random("mixed delays");
    let scene = Retrying::on(&Kafka::shared().bootstrap(), &[]);
    let _scheduler = scene.start(&[]);
    let delays = [100, 2000, 5000].map(Duration::from_millis);
    let mut failures: Vec<Message> = (0..300)
        .map(|number| scene.failure(&scene.delivery(number), &Wish::After(delays[number % delays.len()])))
        .collect();
    random.shuffle(&mut failures);
    scene.send(&failures);
    scene.wait_for(300);
    scene.wait_until_done();

    scene.expect_once_and_never_early(0..300, 2);
    let due: std::collections::HashMap<_, _> = scene.events().iter().filter_map(due_of).collect();
    let late = |attempt: &Attempt| attempt.written.saturating_since(due[&attempt.delivery.log_id.to_string()]);
    let mut lateness: Vec<Duration> = scene.attempts().iter().map(late).collect();
    lateness.sort_unstable();
    println!("late by {:?} at most, {:?} in the middle", lateness[299], lateness[150]);
    // Behind one of another delay it would be late by 1.9 s at least.
    assert!(lateness[299] < Duration::from_millis(1000), "late by {:?}", lateness[299]);
}

#[test]
fn what_was_released_is_deleted_and_what_waits_is_not() {
    let scene = Retrying::on(&Kafka::shared().bootstrap(), &[("retry_scheduler.delete_released_every", "100ms")]);
    let _scheduler = scene.start(&[]);
    let long = Duration::from_secs(1000);
    let failures =
        (0..20).map(|number| scene.failure(&scene.delivery(number), &Wish::After(Duration::from_millis(100))));
    scene.send(&failures.chain([scene.failure(&scene.delivery(20), &Wish::After(long))]).collect::<Vec<_>>());
    scene.wait_for(20);
    scene.wait_until_done();
    let (short, long) = (scene.log.topic("delay.100ms"), scene.log.topic("delay.1000s"));
    wait_until("what was released is deleted", LATER, || scene.log.read(&short).is_empty());
    assert_eq!(scene.log.read(&long).len(), 1);

    // The scheduler goes on behind what is gone.
    scene.send(&[scene.failure(&scene.delivery(21), &Wish::After(Duration::from_millis(100)))]);
    scene.wait_for(21);
}

#[test]
fn a_cancelled_round_is_neither_decided_nor_released_and_its_cancel_ends() {
    let settings = [("retry_scheduler.keep_cancels", "0s")];
    let scene = Retrying::on(&Kafka::shared().bootstrap(), &settings);
    let [before, parked, over] = [1, 2, 3].map(|number| scene.delivery(number));
    // One cancelled before anybody looks, one while it waits, and one whose round is over anyway.
    scene.send(&[scene.cancel(&before, before.deadline), scene.cancel(&over, now())]);
    scene.send(&[scene.failure(&before, &Wish::None)]);
    let _scheduler = scene.start(&[]);
    scene.send(&[scene.failure(&parked, &Wish::None), scene.failure(&scene.delivery(4), &Wish::None)]);
    scene.wait_for_events(2);
    scene.send(&[scene.cancel(&parked, parked.deadline)]);

    let attempts = scene.wait_for(1);
    scene.wait_until_done();
    assert_eq!(attempts[0].delivery.log_id, scene.delivery(4).log_id);
    assert_eq!((scene.attempts().len(), scene.events().len()), (1, 2));
    assert!(scene.dead_letters().is_empty());
    // A tombstone for the one whose round is over, and for no other.
    let cancels = scene.log.wait_for(&scene.log.topic("cancels"), 4, SOON);
    let tombstones: Vec<_> = cancels.iter().filter(|record| record.value.is_none()).collect();
    assert_eq!(tombstones.len(), 1);
    assert_eq!(tombstones[0].key.as_deref(), Some(over.log_id.to_string().as_bytes()));
}

#[test]
fn what_expires_while_nobody_is_there_is_said_to_be_and_not_delivered() {
    let scene = Retrying::on(&Kafka::shared().bootstrap(), &[]);
    let mut scheduler = scene.start(&[]);
    let deadline = now().saturating_add(Duration::from_secs(4));
    let short = Delivery { deadline, ..scene.delivery(1) };
    scene.send(&[scene.failure(&short, &Wish::None), scene.failure(&scene.delivery(2), &Wish::None)]);
    let events = scene.wait_for_events(2);
    scheduler.kill();
    assert!(events.iter().all(|event| matches!(event.event.outcome, Outcome::Retrying { .. })), "{events:?}");
    wait_until("the deadline has passed", SOON, || now() > deadline);

    let _scheduler = scene.start(&[]);
    let attempts = scene.wait_for(1);
    let events = scene.wait_for_events(3);
    scene.wait_until_done();
    assert_eq!((attempts.len(), &attempts[0].delivery.log_id), (1, &scene.delivery(2).log_id));
    let expired = events.iter().find(|event| event.event.attempt == 2).unwrap();
    assert_eq!(expired.event.outcome, Outcome::Failed { reason: Reason::Expired });
    assert_eq!(scene.dead_letters()["WAL_EXPIRED"].len(), 1);
}

#[test]
fn an_attempt_without_a_target_is_given_up_and_holds_up_nobody() {
    let settings = [("retry_scheduler.unknown_target_wait", "3s")];
    let scene = Retrying::on(&Kafka::shared().bootstrap(), &settings);
    let _scheduler = scene.start(&[]);
    let lost = |number| Delivery {
        target: wal_model::Topic::parse(&format!("{}-gone", scene.target)).unwrap(),
        ..scene.delivery(number)
    };
    let at_once = Wish::After(Duration::ZERO);
    scene.send(&[
        scene.failure(&lost(100), &Wish::After(Duration::from_millis(100))),
        scene.failure(&lost(101), &at_once),
    ]);
    let started = now();
    let failures: Vec<Message> = (0..50)
        .map(|number| scene.failure(&scene.delivery(number), &Wish::After(Duration::from_millis(500))))
        .collect();
    scene.send(&failures);
    scene.wait_for(50);
    let took = now().saturating_since(started);
    println!("50 others within {took:?}");

    scene.wait_for_events(54);
    scene.wait_until_done();
    let given_up = scene.events().into_iter().filter(|event| {
        event.event.outcome == Outcome::Failed { reason: Reason::Undeliverable } && event.event.attempt == 2
    });
    assert_eq!(given_up.count(), 2);
    assert_eq!(scene.dead_letters()["WAL_UNDELIVERABLE"].len(), 2);
}

#[test]
fn after_downtime_high_priority_goes_first_and_the_ceiling_holds() {
    const EACH: usize = 150;
    const RATE: usize = 100;
    let scene = Retrying::on(&Kafka::shared().bootstrap(), &[]);
    let long_ago = now();
    // All due. On topics of their own, because nothing overtakes within one.
    let parked = |number: usize| {
        let (priority, wait) = if number < EACH { (Priority::Low, "1s") } else { (Priority::High, "2s") };
        let delivery = Delivery { attempt: 2, priority, ..scene.delivery(number) };
        scene.parked(delivery, long_ago, wait)
    };
    scene.send(&(0..2 * EACH).map(parked).collect::<Vec<_>>());
    let _scheduler = scene.start(&[("retry_scheduler.release_rate", &RATE.to_string())]);
    let mut attempts = scene.wait_for(2 * EACH);

    assert_eq!(attempts.len(), 2 * EACH);
    attempts.sort_by_key(|attempt| attempt.sent);
    // What the brokers gave before the first high one could not wait for it: it was not known yet.
    let low_among_the_high = {
        let is_high = |attempt: &Attempt| attempt.delivery.priority == Priority::High;
        let (first, last) = (attempts.iter().position(is_high), attempts.iter().rposition(is_high));
        attempts[first.unwrap()..last.unwrap()].iter().filter(|attempt| !is_high(attempt)).count()
    };
    assert!(low_among_the_high < EACH / 4, "{low_among_the_high} low ones went before the last high one");
    // In any second no more than the ceiling, a tenth of a second's worth that may be saved up, and as much that was taken before and
    // is stamped within it, because a batch is stamped when it is handled.
    let most = attempts.iter().enumerate().map(|(at, first)| {
        let end = first.sent.saturating_add(Duration::from_secs(1));
        attempts[at..].iter().take_while(|attempt| attempt.sent < end).count()
    });
    let most = most.max().unwrap();
    assert!(most <= RATE + 2 * (RATE / 10), "{most} within a second");
}

/// Two instances, partitions moving between them all the time, heads waiting in their hands, and what one of them released deleted
/// behind the other.
#[test]
fn partitions_that_move_while_heads_wait_neither_lose_nor_repeat_nor_hasten_any() {
    let mut random = seed::random("moving partitions");
    let settings = [("topics.delay_partitions", "3"), ("retry_scheduler.delete_released_every", "100ms")];
    let scene = Retrying::on(&Kafka::shared().bootstrap(), &settings);
    let mut sent = 0;
    let mut more = |count: usize| {
        let failure = |number: usize| {
            let delay = Duration::from_millis([300, 1000, 2500, 4700][number % 4]);
            scene.failure(&scene.delivery(number), &Wish::After(delay))
        };
        let failures: Vec<Message> = (sent..sent + count).map(failure).collect();
        scene.send(&failures);
        sent += count;
        sent
    };
    let mut members: Vec<Process> = vec![scene.start(&[("kafka.instance", "a")])];
    for round in 0..6 {
        let instance = format!("{round}");
        let total = more(60);
        members.push(scene.log.start_scheduler(&[("kafka.instance", &instance)], &[]));
        // Somewhere in the middle of it.
        let until = random.usize(total / 2..total);
        scene.log.wait_for(&scene.log.topic("acks"), until, LATER);
        let leaving = members.remove(random.usize(..members.len()));
        match round % 3 {
            0 => {
                // Before it listens for the signal it would only die of it.
                leaving.wait_for_line("starting", SOON);
                leaving.terminate();
                assert_eq!(leaving.wait(STOP).code(), Some(0), "{leaving:?}");
            }
            1 => drop(leaving),
            _ => {
                // It stands still for longer than its session, with heads in hand; then goes on as if nothing had happened.
                leaving.pause();
                let total = more(30);
                scene.log.wait_for(&scene.log.topic("acks"), total, LATER);
                leaving.resume();
                members.push(leaving);
            }
        }
    }
    let total = more(10);
    scene.wait_for(total);
    scene.wait_until_done();
    assert!(members.iter().all(Process::is_running), "{members:?}");
    scene.expect_once_and_never_early(0..total, 2);
}

#[test]
fn a_first_delivery_that_is_wanted_later_comes_when_it_is() {
    let scene = Retrying::on(&Kafka::shared().bootstrap(), &[]);
    let _scheduler = scene.start(&[]);
    let _writer = scene.log.start_ready(&[]);
    let wanted = now().saturating_add(Duration::from_millis(3300));
    let request =
        format!(r#"{{"namespace":"orders","target":"{}","payload":{{"n":1}},"deliver_at":"{wanted}"}}"#, scene.target);
    scene.send(&[Message::to(&scene.log.topic("ingress")).value(request)]);
    let attempts = scene.wait_for(1);
    assert_eq!((attempts[0].delivery.attempt, attempts[0].delivery.round), (1, 1));
    assert!(attempts[0].sent >= wanted && attempts[0].written >= wanted, "{attempts:?} before {wanted}");
    assert!(attempts[0].written.saturating_since(wanted) < Duration::from_secs(2), "{attempts:?} after {wanted}");
}

#[test]
fn a_stop_leaves_both_groups_and_a_new_start_goes_on() {
    let scene = Retrying::on(&Kafka::shared().bootstrap(), &[]);
    let scheduler = scene.start(&[]);
    let failures: Vec<Message> = (0..100).map(|number| scene.failure(&scene.delivery(number), &Wish::None)).collect();
    scene.send(&failures);
    scene.wait_for_events(50);
    scheduler.terminate();
    assert_eq!(scheduler.wait(STOP).code(), Some(0), "{scheduler:?}");
    let left = scheduler.lines().iter().filter(|line| line.text.contains("left the consumer group")).count();
    assert_eq!(left, 2, "{scheduler:?}");

    let scheduler = scene.log.start_scheduler(&[], &[]);
    wait_until_at_work(&scheduler);
    scene.wait_for(100);
    scene.wait_until_done();
    scene.expect_once_and_never_early(0..100, 2);
}
