//! Bad input: what nobody was delivered so, what nobody parked so, and topics that do not fit. Neighbours notice nothing.

use std::time::Duration;

use wal_model::answer::Wish;
use wal_model::delivery::Delivery;
use wal_model::entry::Answers;
use wal_tests::clients::delete_topic;
use wal_tests::{Kafka, Message};

use crate::support::retrying::{keyring_of, now};
use crate::support::{LATER, Retrying, SOON};

fn set(message: Message, name: &str, value: &str) -> Message {
    let mut message = message;
    message.headers.retain(|(key, _)| key != name);
    message.header(name, value)
}

fn without(message: Message, is_gone: impl Fn(&str) -> bool) -> Message {
    let mut message = message;
    message.headers.retain(|(key, _)| !is_gone(key));
    message
}

#[test]
fn every_bad_failure_gets_its_own_code_and_harms_no_neighbour() {
    let scene = Retrying::on(&Kafka::shared().bootstrap(), &[("topics.partitions", "1")]);
    let _scheduler = scene.start(&[]);
    let wish = Wish::After(Duration::from_millis(100));
    let failure = |number| scene.failure(&scene.delivery(number), &wish);
    let year_2099 = "2099-01-01T00:00:00.000Z";
    let other_id = scene.delivery(9999).log_id.to_string();
    let beyond = |attempt| scene.failure(&Delivery { attempt, ..scene.delivery(1000) }, &Wish::None);
    let bad: Vec<(&str, &str, Message)> = vec![
        ("without headers", "WAL_ANSWER_INVALID", without(failure(900), |_| true)),
        ("without its attempt", "WAL_ANSWER_INVALID", without(failure(901), |name| name == "ce_walattempt")),
        ("attempt that is no number", "WAL_ANSWER_INVALID", set(failure(902), "ce_walattempt", "one")),
        ("attempt that is too large", "WAL_ANSWER_INVALID", set(failure(902), "ce_walattempt", "99999999999")),
        ("forged attempt", "WAL_SEAL_INVALID", set(failure(903), "ce_walattempt", "2")),
        ("forged target", "WAL_SEAL_INVALID", set(failure(904), "ce_waltarget", "elsewhere")),
        ("forged lifecycle", "WAL_SEAL_INVALID", set(failure(905), "ce_walretries", "100")),
        ("forged deadline", "WAL_SEAL_INVALID", set(failure(906), "ce_expirytime", year_2099)),
        ("forged log id", "WAL_SEAL_INVALID", set(failure(907), "ce_id", &other_id)),
        ("forged tenant", "WAL_SEAL_INVALID", set(failure(908), "ce_waltenant", "somebody")),
        ("forged answers", "WAL_SEAL_INVALID", set(failure(909), "ce_walanswers", "none")),
        ("another payload", "WAL_ANSWER_INVALID", failure(910).value("something else")),
        ("another payload under its own hash", "WAL_SEAL_INVALID", {
            let other = Delivery { payload: "something else".into(), ..scene.delivery(911) };
            let hash = wal_model::ContentHash::of(&other.payload).to_string();
            set(failure(911).value("something else"), "ce_walhash", &hash)
        }),
        ("no payload", "WAL_ANSWER_INVALID", Message { value: None, ..failure(912) }),
        ("without a seal", "WAL_SEAL_INVALID", without(failure(913), |name| name == "ce_walseal")),
        ("a seal of a later version", "WAL_SEAL_INVALID", set(failure(914), "ce_walseal", "v9.k1.AAAA")),
        (
            "sealed with a retired key",
            "WAL_SEAL_INVALID",
            scene.failure_under(&scene.delivery(915), &wish, &keyring_of("k0", &[9; 32])),
        ),
        (
            "sealed with another secret",
            "WAL_SEAL_INVALID",
            scene.failure_under(&scene.delivery(916), &wish, &keyring_of("k1", &[9; 32])),
        ),
        ("beyond the limit", "WAL_ATTEMPT_INVALID", beyond(5)),
        ("far beyond the limit", "WAL_ATTEMPT_INVALID", beyond(u32::MAX)),
        ("before its round", "WAL_ATTEMPT_INVALID", beyond(0)),
    ];
    // A good one before each, and after the last.
    let mut sent = Vec::new();
    for (number, (_, _, message)) in bad.iter().enumerate() {
        sent.extend([failure(number), message.clone()]);
    }
    sent.push(failure(bad.len()));
    scene.send(&sent);

    scene.wait_for(bad.len() + 1);
    scene.log.wait_for(&scene.log.dead_requests(), bad.len(), LATER);
    scene.wait_until_done();
    scene.expect_once_and_never_early(0..bad.len() + 1, 2);
    let letters = scene.log.read(&scene.log.dead_requests());
    assert_eq!(letters.len(), bad.len());
    for (what, code, message) in &bad {
        let is_of = |letter: &&wal_tests::Record| {
            letter.value.clone().unwrap_or_default() == message.value.clone().unwrap_or_default()
                && message.headers.iter().all(|header| letter.headers.contains(header) || header.0.contains("error"))
        };
        let codes: Vec<_> =
            letters.iter().filter(is_of).filter_map(|letter| letter.header("ce_walerrorcode")).collect();
        assert!(codes.contains(&(*code).to_owned()), "{what}: {codes:?}");
    }
}

#[test]
fn absurd_wishes_and_strange_headers_change_nothing_but_themselves() {
    let scene = Retrying::on(&Kafka::shared().bootstrap(), &[("retry_scheduler.retry_after_max", "1s")]);
    let _scheduler = scene.start(&[]);
    let plain = |number| scene.failure(&scene.delivery(number), &Wish::None);
    let wish = |number, text: &str| plain(number).header("ce_walretryafter", text);
    let mut failures = vec![
        wish(0, "-1"),
        wish(1, "NaN"),
        wish(2, "soon"),
        wish(3, ""),
        wish(4, "0"),
        wish(5, "3153600000"),
        wish(6, "1e400"),
        plain(7).header("ce_walretryable", "perhaps"),
        plain(8).header("ce_walfuture", "unknown").header("ce_subject", "unknown").header("x", [0xff, 0x00]),
        plain(9).null_header("y").header("own", "twice"),
        // A consumer whose framework adds what it knows of the error to every answer.
        plain(10).header("stacktrace", vec![b'x'; 500_000]),
        plain(11).header("ce_walerrormessage", vec![b'e'; 900_000]),
    ];
    let first = failures.pop().unwrap();
    failures.push(first);
    scene.send(&failures);

    let attempts = scene.wait_for(failures.len());
    scene.wait_until_done();
    scene.expect_once_and_never_early(0..failures.len(), 2);
    let of = |number: usize| {
        let log_id = scene.delivery(number).log_id;
        attempts.iter().find(|attempt| attempt.delivery.log_id == log_id).unwrap()
    };
    let events = scene.events();
    let event_of = |number: usize| events.iter().find(|event| event.log_id == scene.delivery(number).log_id).unwrap();
    let delay = |number: usize| {
        let (_, due) = crate::support::retrying::due_of(event_of(number)).unwrap();
        due.saturating_since(event_of(number).event.at)
    };
    // Zero is now, a hundred years are what the settings allow, and what makes no sense is the lifecycle's two seconds.
    assert!(delay(4) < Duration::from_secs(1), "{:?}", delay(4));
    assert!((Duration::from_millis(900)..Duration::from_millis(1900)).contains(&delay(5)), "{:?}", delay(5));
    for number in [0, 1, 2, 3, 6, 7] {
        assert!(delay(number) >= Duration::from_millis(1900), "{number}: {:?}", delay(number));
    }
    assert!(of(10).delivery.headers.iter().all(|header| !header.is("stacktrace")), "what fits nowhere is left out");
    assert_eq!(of(10).delivery.headers.len(), 1);
    let failure = event_of(11).event.failure.clone().unwrap();
    assert!(failure.message.len() <= 4096, "{} bytes", failure.message.len());
}

#[test]
fn answers_that_change_nothing_change_nothing() {
    let scene = Retrying::on(&Kafka::shared().bootstrap(), &[]);
    let _scheduler = scene.start(&[]);
    let unasked = Delivery { answers: Answers::None, ..scene.delivery(1) };
    let replay = {
        let topic = wal_model::Topic::parse("copies").unwrap();
        let copy = scene.delivery(2).encode_replay(now(), &crate::support::retrying::keyring(), topic);
        let copy = crate::support::retrying::as_read(copy);
        let failure = wal_model::status::Failure { code: "X".into(), message: String::new() };
        crate::support::retrying::message(wal_model::answer::Failed::encode(
            &copy,
            &failure,
            &Wish::None,
            scene.topics.failures(),
        ))
    };
    let good = scene.failure(&scene.delivery(0), &Wish::After(Duration::from_millis(100)));
    scene.send(&[scene.failure(&unasked, &Wish::None), replay, good]);
    scene.wait_for(1);
    scene.wait_until_done();
    scene.expect_once_and_never_early(0..1, 2);
    assert!(scene.dead_letters().is_empty());
}

#[test]
fn nothing_can_be_injected_into_a_delay_topic_and_nothing_there_blocks_what_waits() {
    let scene = Retrying::on(&Kafka::shared().bootstrap(), &[]);
    let _scheduler = scene.start(&[]);
    let due = now().saturating_add(Duration::from_millis(500));
    let parked = |number: usize| {
        let delivery = scene.delivery(number).next_attempt();
        scene.parked(delivery, due, "1s").partition(0)
    };
    let in_a_century = "2124-01-01T00:00:00.000Z";
    let bad = [
        without(parked(900), |_| true),
        set(parked(901), "ce_waldue", "1970-01-01T00:00:00.000Z"),
        set(parked(902), "ce_waldue", in_a_century),
        set(parked(903), "ce_waltarget", "elsewhere"),
        set(parked(904), "ce_waldue", "soon"),
        Message::to(&scene.log.topic("delay.1s")).partition(0).value("hello"),
    ];
    // What says how long a hop takes is not under the seal: it must not hold up anybody either.
    let slow = [set(parked(1), "ce_walparkedat", in_a_century), set(parked(2), "ce_walwait", "500000s")];
    let mut sent: Vec<Message> = bad.into_iter().chain(slow).collect();
    sent.push(parked(0));
    scene.send(&sent);
    let attempts = scene.wait_for(3);
    scene.wait_until_done();

    assert_eq!(attempts.len(), 3, "{attempts:?}");
    for attempt in &attempts {
        assert!(attempt.written >= due, "{attempt:?} before {due}");
        assert!(attempt.written.saturating_since(due) < Duration::from_secs(5), "{attempt:?} long after {due}");
    }
    let letters = scene.dead_letters();
    assert_eq!(letters.keys().collect::<Vec<_>>(), ["WAL_PARKED_INVALID"]);
    assert_eq!(letters["WAL_PARKED_INVALID"].len(), 6);
}

#[test]
fn topics_that_are_missing_or_do_not_fit_are_named_at_the_start() {
    let scene = Retrying::on(&Kafka::shared().bootstrap(), &[("topics.delay_retention", "9d")]);
    let refused = |settings: &[(&str, &str)], words: &[&str]| {
        let scheduler = scene.log.start_scheduler(settings, &[]);
        assert!(!scheduler.wait(SOON).success(), "{scheduler:?}");
        let said = scheduler.lines().iter().map(|line| line.text.clone()).collect::<Vec<_>>().join("\n");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    };
    // Its topics are made for nine days.
    let short = scene.log.topic("delay.500000s");
    refused(&[("topics.delay_retention", "30d")], &[&short, "could be deleted before it is due"]);
    let missing = scene.log.topic("delay.200ms");
    delete_topic(&scene.log.bootstrap, &missing);
    refused(&[], &[&format!("{missing} does not exist")]);
}
