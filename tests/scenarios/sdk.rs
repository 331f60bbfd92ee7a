//! The sdk's consumer on a real Kafka: killed, stopped, moved about and stood still. Readers of committed answers must see every
//! delivery answered once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use wal_model::answer::Wish;
use wal_model::{Clock, SystemClock};
use wal_tests::clients::{delete_records, lag, members};
use wal_tests::{Kafka, Process, seed, wait_until};

use crate::support::target::Answer;
use crate::support::{Gate, Held, LATER, SOON, Target};

const SIGABRT: i32 = 6;
/// Where a consumer can be told to die, in the order it passes them.
const POINTS: [&str; 3] = ["mid-publish", "after-publish", "after-commit"];
/// A few records in hand, so that a load makes many transactions.
const SMALL: [(&str, &str); 1] = [("CONSUMER_BOUND", "5")];
/// What a stop may take.
const STOP: Duration = Duration::from_secs(20);
/// What handlers do, and so what is to be answered.
const WORDS: [&str; 6] = ["complete", "complete", "fail", "never", "later", "panic"];

/// Deliveries of all kinds under a few keys.
fn mixed(random: &mut fastrand::Rng, count: usize) -> Vec<(Option<&'static str>, &'static str)> {
    let keys = [None, Some("a"), Some("b"), Some("c"), Some("d"), Some("e"), Some("f"), Some("g"), Some("h")];
    (0..count).map(|_| (keys[random.usize(..keys.len())], WORDS[random.usize(..WORDS.len())])).collect()
}

#[test]
fn a_consumer_killed_at_any_point_answers_each_delivery_once() {
    let mut random = seed::random("consumer points");
    let mut target = Target::new("points", 4);
    for hit in [1, 3] {
        for point in POINTS {
            target.send(mixed(&mut random, 150));
            let die = format!("{point}:{hit}");
            let consumer = target.start("0", &[SMALL[0], ("WAL_FAILPOINT", &die)]);
            let status = consumer.wait(LATER);
            assert_eq!(status.signal(), Some(SIGABRT), "{status}, not at {die}: {consumer:?}");
            target.expect_none_twice();
        }
    }
    target.expect_each_answered_once(&[target.start("0", &[])], LATER);
}

/// As when a pod is given another name: nobody ends the open transaction of the one that died, so the brokers have to.
#[test]
fn another_instance_waits_out_the_answers_of_the_one_that_died() {
    let mut random = seed::random("other consumer");
    let mut target = Target::new("other", 4);
    target.send(mixed(&mut random, 150));
    let consumer = target.start("0", &[SMALL[0], ("WAL_FAILPOINT", "after-publish:2")]);
    assert_eq!(consumer.wait(LATER).signal(), Some(SIGABRT), "{consumer:?}");
    target.expect_each_answered_once(&[target.start("1", &[])], LATER);
}

#[test]
fn members_that_come_and_go_and_are_killed_answer_each_delivery_once() {
    let mut random = seed::random("consumers come and go");
    let mut target = Target::new("storm", 4);
    let mut consumers = vec![target.start("0", &SMALL), target.start("1", &SMALL)];
    for instance in 2..8 {
        target.send(mixed(&mut random, 200));
        let sent = target.sent();
        // Somewhere in the middle of it.
        target.wait_for(random.usize(sent / 2..sent), &consumers, LATER);
        let mut leaving = consumers.swap_remove(random.usize(..consumers.len()));
        if random.bool() {
            leaving.kill();
        } else {
            leaving.terminate();
            assert_eq!(leaving.wait(STOP).code(), Some(0), "{leaving:?}");
        }
        target.expect_none_twice();
        consumers.push(target.start(&instance.to_string(), &SMALL));
    }
    target.expect_each_answered_once(&consumers, LATER);
}

#[test]
fn a_partition_that_moves_while_its_attempts_are_handled_is_answered_once() {
    let gate = Gate::new();
    let mut target = Target::new("move", 4);
    for partition in 0..4 {
        target.send_to(partition, "hold", |_| {});
    }
    let first = target.start("first", &gate.env());
    let mut held: Vec<Held> = (0..4).map(|_| gate.next()).collect();
    let second = target.start("second", &gate.env());
    // Half of them move to the second one, which handles them, too.
    held.extend((0..2).map(|_| gate.next()));
    let numbers: BTreeSet<&str> = held.iter().map(|held| held.number.as_str()).collect();
    assert_eq!(numbers.len(), 4);
    // The first one is done with what is not its own any more, before the second one is and after it.
    held.into_iter().for_each(Held::release);
    target.send([(None, "complete"); 20]);
    target.expect_each_answered_once(&[first, second], LATER);
}

#[test]
fn a_consumer_that_stood_still_does_not_answer_what_another_has_answered() {
    let gate = Gate::new();
    let mut target = Target::new("still", 1);
    target.send_to(0, "hold", |_| {});
    let zombie = target.start("zombie", &gate.env());
    let in_its_hand = gate.next();
    zombie.pause();
    let heir = target.start("heir", &gate.env());
    gate.next().release();
    target.wait_for(1, std::slice::from_ref(&heir), LATER);

    zombie.resume();
    in_its_hand.release();
    heir.terminate();
    assert_eq!(heir.wait(STOP).code(), Some(0), "{heir:?}");
    // It must be of use again; what it had to say before is behind it then.
    target.send([(None, "complete"), (None, "fail")]);
    target.expect_each_answered_once(&[zombie], LATER);
}

#[test]
fn attempts_of_one_key_are_handled_one_after_the_other_in_order() {
    let mut random = seed::random("keys");
    let mut target = Target::new("keys", 2);
    let deliveries: Vec<_> = mixed(&mut random, 600).into_iter().map(|(key, word)| (key.or(Some("z")), word)).collect();
    target.send(deliveries.clone());
    let consumer = target.start("0", &[("CONSUMER_CONCURRENCY", "8")]);
    target.expect_each_answered_once(std::slice::from_ref(&consumer), LATER);

    let mut running: HashMap<&str, usize> = HashMap::new();
    let mut last: HashMap<&str, usize> = HashMap::new();
    for (what, number) in handled(&consumer) {
        let (Some(key), word) = deliveries[number] else { unreachable!("every delivery has a key") };
        if what == "begin" {
            assert!(last.insert(key, number).is_none_or(|before| before < number), "key {key}: {number}");
            assert_eq!(running.insert(key, number), None, "key {key}: {number} began before the one before it ended");
        }
        // One that panics has no time to say that it ends.
        if what == "end" || word == "panic" {
            running.remove(key);
        }
    }
}

#[test]
fn every_word_of_a_handler_arrives_and_what_is_not_for_it_is_passed() {
    let mut target = Target::new("words", 1);
    let late = SystemClock.now();
    target.send_to(0, "complete", |_| {});
    target.send_to(0, "complete", |delivery| delivery.deadline = late);
    target.send_foreign(0);
    for word in ["fail", "never", "later", "panic"] {
        target.send_to(0, word, |_| {});
    }
    let consumer = target.start("0", &[]);
    target.wait_for(5, std::slice::from_ref(&consumer), SOON);
    wait_until("the group stands at the end", SOON, || lag(&target.bootstrap, &target.group, &target.topic) == 0);
    consumer.terminate();
    assert_eq!(consumer.wait(STOP).code(), Some(0), "{consumer:?}");

    let answers: BTreeMap<usize, Answer> = target.answers().into_iter().map(|answer| (answer.number, answer)).collect();
    let says = |number| {
        let Answer { says, wish, detail, .. } = &answers[&number];
        (says.as_str(), wish.clone(), detail.as_deref().unwrap_or_default())
    };
    assert_eq!(answers.len(), 5, "{answers:?}");
    assert_eq!(says(0), ("completed", Wish::None, "\"0\""));
    assert_eq!(says(2), ("NOT_TODAY", Wish::None, "2"));
    assert_eq!(says(3), ("NOT_EVER", Wish::Never, "3"));
    assert_eq!(says(4), ("LATER", Wish::After(Duration::from_millis(2500)), "4"));
    assert_eq!(says(5), ("handler_panicked", Wish::None, "the handler was told to panic"));
    let report = consumer.wait_for_line("Report", SOON);
    for count in ["completed: 1", "failed: 3", "panicked: 1", "expired: 1", "foreign: 1", "given_back: 0"] {
        assert!(report.contains(count), "{count}: {report}");
    }
}

#[test]
fn a_stop_finishes_what_is_in_hand_publishes_it_and_leaves_the_group() {
    let gate = Gate::new();
    let mut target = Target::new("stop", 1);
    target.send([(None, "hold"), (None, "complete"), (Some("k"), "hold"), (Some("k"), "complete")]);
    let consumer = target.start("0", &gate.env());
    let held = [gate.next(), gate.next()];
    consumer.wait_for_line("end 1", SOON);
    consumer.terminate();
    consumer.wait_for_line("shutdown", SOON);
    held.into_iter().for_each(Held::release);

    assert_eq!(consumer.wait(STOP).code(), Some(0), "{consumer:?}");
    assert_eq!(members(&target.bootstrap, &target.group), 0);
    // The last one had not begun, and so it does not.
    assert_eq!(target.expect_none_twice(), 3, "{:?}", target.answers());
    assert!(!consumer.lines().iter().any(|line| line.text == "begin 3"), "{consumer:?}");
    target.expect_each_answered_once(&[target.start("0", &[])], SOON);
}

#[test]
fn an_attempt_that_never_ends_bounds_what_is_in_hand_and_harms_no_other_partition() {
    const BOUND: usize = 20;
    const EACH: usize = 300;
    let gate = Gate::new();
    let mut target = Target::new("bound", 2);
    target.send_to(0, "hold", |_| {});
    for _ in 1..EACH {
        target.send_to(0, "complete", |_| {});
    }
    for _ in 0..EACH {
        target.send_to(1, "complete", |_| {});
    }
    let [address] = gate.env();
    let consumer = target.start("0", &[address, ("CONSUMER_BOUND", &BOUND.to_string()), ("CONSUMER_STOP_MS", "300")]);
    let held = gate.next();
    target.wait_for(EACH, std::slice::from_ref(&consumer), SOON);

    let begun: BTreeSet<usize> =
        handled(&consumer).filter(|(what, _)| what == "begin").map(|(_, number)| number).collect();
    assert_eq!(begun.range(..EACH).count(), BOUND, "{begun:?}");
    assert!(target.answers().iter().all(|answer| answer.number >= EACH), "an answer went past one that is unfinished");
    // It is not waited for, and comes again with all that waited behind it.
    consumer.terminate();
    assert_eq!(consumer.wait(STOP).code(), Some(0), "{consumer:?}");
    drop(held);
    let again = target.start("0", &gate.env());
    gate.next().release();
    target.expect_each_answered_once(&[again], LATER);
}

#[test]
fn a_broker_that_restarts_costs_no_answer_and_no_second_handling() {
    let mut random = seed::random("consumer's broker");
    let mut kafka = Kafka::start();
    let mut target = Target::on(&kafka.bootstrap(), "restart", 4);
    target.send(mixed(&mut random, 1000));
    let consumer = target.start("0", &[SMALL[0], ("CONSUMER_SESSION_MS", "60000")]);
    for answered in [100, 500] {
        target.wait_for(answered, std::slice::from_ref(&consumer), LATER);
        kafka.kill();
        kafka.restart();
    }
    target.expect_each_answered_once(std::slice::from_ref(&consumer), LATER);

    let mut times = vec![0; target.sent()];
    handled(&consumer).filter(|(what, _)| what == "begin").for_each(|(_, number)| times[number] += 1);
    let again: Vec<usize> = (0..times.len()).filter(|number| times[*number] != 1).collect();
    assert!(again.is_empty(), "handled again: {again:?}");
}

#[test]
fn what_retention_took_before_it_was_read_is_told() {
    const EACH: usize = 12;
    let gate = Gate::new();
    let mut target = Target::new("retention", 1);
    target.send([(None, "complete"); EACH]);
    target.expect_each_answered_once(&[target.start("0", &[])], SOON);
    // More than is read ahead.
    let large = |delivery: &mut wal_model::delivery::Delivery| {
        let payload = String::from_utf8_lossy(&delivery.payload).into_owned();
        delivery.payload = format!("{payload} {}", "x".repeat(1 << 19)).into();
    };
    for word in ["complete"; EACH] {
        target.send_to(0, word, large);
    }
    target.send_to(0, "hold", large);
    for word in ["complete"; 4 * EACH] {
        target.send_to(0, word, large);
    }
    // Gone while nobody reads ...
    delete_records(&target.bootstrap, &target.topic, 0, 2 * EACH as i64);
    let [address] = gate.env();
    let consumer = target.start("0", &[address, ("CONSUMER_BOUND", "1")]);
    consumer.wait_for_line("retention has removed what is before 24", SOON);
    let held = gate.next();
    assert_eq!(held.number, (2 * EACH).to_string());
    // ... and while it is read.
    let last = target.sent() as i64 - 1;
    delete_records(&target.bootstrap, &target.topic, 0, last);
    held.release();
    consumer.wait_for_line(&format!("retention has removed what is before {last}"), SOON);
    wait_until("the group stands at the end", SOON, || lag(&target.bootstrap, &target.group, &target.topic) == 0);
    target.expect_none_twice();
    let answered: BTreeSet<usize> = target.answers().into_iter().map(|answer| answer.number).collect();
    assert!(answered.contains(&(2 * EACH)) && answered.contains(&(target.sent() - 1)), "{answered:?}");
}

#[test]
fn of_two_consumers_with_one_instance_one_gives_way_and_says_why() {
    let mut target = Target::new("twins", 4);
    let twins = [target.start("same", &SMALL), target.start("same", &SMALL)];
    wait_until("one of the twins gives way", LATER, || {
        target.send([(None, "complete"); 40]);
        twins.iter().any(|twin| !twin.is_running())
    });
    let gone = twins.iter().find(|twin| !twin.is_running()).expect("it was waited for");
    assert!(!gone.wait(SOON).success());
    let says_why = |text: &str| text.contains("transactional id") && text.contains("`instance`");
    assert!(gone.lines().iter().any(|line| says_why(&line.text)), "{gone:?}");
    target.expect_each_answered_once(&[target.start("other", &[])], LATER);
}

/// What handlers said, in order: `begin` or `end`, and the number.
fn handled(consumer: &Process) -> impl Iterator<Item = (String, usize)> {
    let said = |text: &str| {
        let (what, number) = text.split_once(' ')?;
        let is_handling = matches!(what, "begin" | "end");
        Some((what.to_owned(), number.parse().ok().filter(|_| is_handling)?))
    };
    consumer.lines().into_iter().filter_map(move |line| said(&line.text))
}
