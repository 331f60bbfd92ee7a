//! Failures.

use std::time::Duration;

use bytes::Bytes;
use wal_model::ack::Ack;
use wal_model::answer::{Failed, Wish};
use wal_model::cancel::Cancel;
use wal_model::delivery::Delivery;
use wal_model::entry::Answers;
use wal_model::parked::Parked;
use wal_model::record::last_str;
use wal_model::status::{Outcome, Reason};
use wal_model::{Header, LogId, partition, wire};

use super::*;
use crate::samples::{delivery, failure_of, read, topic};

/// The partition that the sample's log id names.
fn home() -> i32 {
    home_of(&delivery())
}

fn home_of(delivery: &Delivery) -> i32 {
    partition::of_key(delivery.log_id.to_string().as_bytes(), PARTITIONS).unwrap()
}

/// The record of a failure at its place, appended when tests begin.
fn failure(delivery: &Delivery, wish: &Wish, offset: i64) -> InRecord {
    read(failure_of(delivery, wish), home_of(delivery), offset, start())
}

fn other_entry() -> Delivery {
    let log_id = "wal_orders_20241201T100000001Z_6f7a8598-26c4-5310-a0c0-25bce4910e9f".parse::<LogId>().unwrap();
    Delivery { log_id, ..delivery() }
}

#[tokio::test]
async fn a_failure_parks_the_next_attempt_and_says_when_it_is_due() {
    let bench = bench();
    let record = failure(&delivery(), &Wish::None, 7);
    let outputs = bench.fail(std::slice::from_ref(&record)).await;

    assert_eq!(names(&outputs), ["wal.acks", "wal.delay.60s"]);
    let due = start().saturating_add(Duration::from_secs(60));
    let event = event(&outputs);
    assert_eq!((&event["status"], &event["attempt"]), (&"retrying".into(), &1.into()));
    assert_eq!(event["next_attempt_at"], due.to_string());
    assert_eq!((&event["error_code"], &event["error"]), (&"CARD_DECLINED".into(), &"no ünits".into()));
    let ack = Ack::decode(&read(to(&outputs, "wal.acks")[0].clone(), 0, 0, start()), &keyring()).unwrap();
    assert_eq!((ack.log_id, ack.tenant), (delivery().log_id, delivery().tenant));
    let parked = Parked::decode(&read(to(&outputs, "wal.delay.60s")[0].clone(), 0, 0, start()), &keyring()).unwrap();
    assert_eq!(parked.delivery, Delivery { attempt: 2, ..delivery() });
    assert_eq!((parked.due, parked.parked_at), (due, start()));
    assert_eq!(bench.count("retry_scheduled_total", "retry"), 1);
    assert_eq!(bench.count("delivery_attempts_total", "retrying"), 1);
    assert_eq!(bench.count("retry_hops_total", ""), 1);
}

#[tokio::test]
async fn a_wish_of_nothing_publishes_the_next_attempt_in_the_deciding_transaction() {
    let bench = bench();
    let now = Wish::After(Duration::ZERO);
    let outputs = bench.fail(&[failure(&delivery(), &now, 7)]).await;

    assert_eq!(names(&outputs), ["shop", "wal.acks"]);
    let delivered = read(to(&outputs, "shop")[0].clone(), 0, 0, start());
    let received = Delivery::decode(&delivered).unwrap();
    assert_eq!((received.delivery.attempt, received.sent), (2, start()));
    let seal = last_str(&delivered.headers, wire::CE_WALSEAL);
    assert_eq!(received.delivery.verify(seal, &keyring()), Ok(()));
    assert_eq!(event(&outputs)["next_attempt_at"], start().to_string());
    assert_eq!((bench.count("retry_scheduled_total", "retry"), bench.count("retry_hops_total", "")), (1, 0));
}

#[tokio::test]
async fn a_target_that_is_not_there_does_not_stall_the_decision() {
    let bench = bench();
    bench.say("shop", Found::Missing(Duration::ZERO));
    let at_once = Wish::After(Duration::ZERO);
    let outputs = bench.fail(&[failure(&delivery(), &at_once, 7)]).await;
    assert_eq!(names(&outputs), ["wal.acks", "wal.delay.1s"]);
    bench.say("shop", Found::Missing(Duration::from_secs(3600)));
    let outputs = bench.fail(&[failure(&other_entry(), &at_once, 8)]).await;
    assert_eq!(names(&outputs), ["wal.acks", "wal.delay.100ms"], "given up where it would be released");
}

#[tokio::test]
async fn the_last_failure_makes_a_dead_letter_under_the_consumers_error() {
    let bench = bench();
    let last = Delivery { attempt: 4, ..delivery() };
    let record = failure(&last, &Wish::None, 7);
    let outputs = bench.fail(std::slice::from_ref(&record)).await;

    assert_eq!(names(&outputs), ["dlq.wal.ingress", "wal.acks"]);
    let event = event(&outputs);
    assert_eq!((&event["status"], &event["reason"]), (&"failed".into(), &"exhausted".into()));
    let letter = to(&outputs, "dlq.wal.ingress")[0];
    let header = |name| last_str(&letter.headers, name).unwrap();
    assert_eq!(letter.value, record.value);
    assert_eq!(letter.key, Some(Bytes::from(delivery().log_id.to_string())));
    assert_eq!((header(wire::CE_WALERRORCODE), header(wire::DLQ_DELIVERY_COUNT)), ("CARD_DECLINED", "4"));
    assert!(header(wire::DLQ_MESSAGE).starts_with("WAL_RETRIES_EXHAUSTED: no retry of 3 is left"));
    assert_eq!((header(wire::DLQ_TOPIC), header(wire::DLQ_OFFSET)), ("wal.failures", "7"));

    bench.say("dlq.wal.orders", KNOWN);
    let outputs = bench.fail(&[failure(&other_entry(), &Wish::Never, 8)]).await;
    assert_eq!(names(&outputs), ["dlq.wal.orders", "wal.acks"], "a namespace may have its own");
    let ended = |how| bench.count("delivery_attempts_total", how);
    assert_eq!((ended("exhausted"), ended("rejected")), (1, 1));
}

#[tokio::test]
async fn what_would_be_due_after_its_deadline_expires_and_says_so() {
    let bench = bench();
    let deadline = start().saturating_add(Duration::from_secs(30));
    let short = Delivery { deadline, ..delivery() };
    let outputs = bench.fail(&[failure(&short, &Wish::None, 7)]).await;
    let event = event(&outputs);
    assert_eq!((&event["reason"], &event["error_code"]), (&"expired".into(), &"CARD_DECLINED".into()));
    assert!(event["error"].as_str().unwrap().contains("would be due at"), "{event}");
}

#[tokio::test]
async fn the_same_failure_told_again_is_decided_once() {
    let bench = bench();
    let twice = [failure(&delivery(), &Wish::None, 7), failure(&delivery(), &Wish::None, 8)];
    assert_eq!(bench.fail(&twice).await.len(), 2, "within one batch");
    assert_eq!(bench.fail(&[failure(&delivery(), &Wish::Never, 9)]).await, [], "in a later one");
    assert_eq!(bench.fail_under(2, &[failure(&delivery(), &Wish::None, 10)]).await, [], "after a rebalance");
    bench.failures.given_up();
    assert_eq!(bench.fail_under(2, &[failure(&delivery(), &Wish::None, 11)]).await, [], "after a batch given up");
    assert_eq!(bench.count("answers_repeated_total", ""), 4);
    let next = Delivery { attempt: 2, ..delivery() };
    assert_eq!(bench.fail(&[failure(&next, &Wish::None, 12)]).await.len(), 2, "another attempt");
}

#[tokio::test]
async fn what_was_not_committed_is_not_remembered() {
    let bench = bench();
    let record = failure(&delivery(), &Wish::None, 7);
    let batch = batch(std::slice::from_ref(&record), 1);
    let first = bench.failures.handle(&batch).await.unwrap();
    bench.failures.given_up();
    assert_eq!(bench.count("retry_scheduled_total", ""), 0);
    let again = bench.failures.handle(&batch).await.unwrap();
    assert_eq!((again.len(), event(&again)), (2, event(&first)));
}

/// The transaction was committed, but nobody said so: the place to go on from lies behind it.
#[tokio::test]
async fn a_decision_whose_commit_was_not_answered_is_found_when_it_is_read_back() {
    let bench = bench();
    let next = Delivery { attempt: 2, ..delivery() };
    bench.fail(&[failure(&delivery(), &Wish::None, 7)]).await;
    let lost = failure(&next, &Wish::None, 8);
    bench.failures.handle(&batch(std::slice::from_ref(&lost), 1)).await.unwrap();
    bench.written.records.lock().unwrap().push(lost);
    bench.failures.given_up();
    assert_eq!(bench.fail(&[failure(&next, &Wish::None, 9)]).await, []);
}

#[tokio::test]
async fn it_is_read_back_once_and_only_what_was_decided_there() {
    let bench = bench();
    let forged = {
        let mut record = failure(&Delivery { attempt: 2, ..delivery() }, &Wish::None, 1);
        record.headers.retain(|header| !header.is(wire::CE_WALSEAL));
        record
    };
    let elsewhere = read(failure_of(&Delivery { attempt: 3, ..delivery() }, &Wish::None), (home() + 1) % 4, 1, start());
    let too_old = failure_of(&Delivery { attempt: 3, ..delivery() }, &Wish::None);
    let too_old = read(too_old, home(), 0, at(start().as_millis() - 900_001));
    *bench.written.records.lock().unwrap() = vec![too_old, forged, elsewhere];

    for (attempt, offset) in [(2, 7), (3, 8)] {
        let record = failure(&Delivery { attempt, ..delivery() }, &Wish::None, offset);
        assert_eq!(bench.fail(&[record]).await.len(), 2, "attempt {attempt} was not decided before");
    }
    let since = at(start().as_millis() - 900_000);
    assert_eq!(*bench.written.read.lock().unwrap(), [Span { partition: home(), since, until: 7 }]);
}

#[tokio::test]
async fn a_failure_elsewhere_is_moved_to_the_partition_its_log_id_names() {
    let bench = bench();
    let elsewhere = (home() + 1) % PARTITIONS;
    let wish = Wish::After(Duration::from_secs(5));
    let mut record = read(failure_of(&delivery(), &wish), elsewhere, 3, start());
    record.key = None;
    record.headers.push(Header::new("big", vec![b'x'; 200_000]));
    let outputs = bench.fail(&[record]).await;

    let [moved] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!((moved.topic.as_str(), moved.partition), ("wal.failures", Some(home())));
    assert_eq!(moved.key, Some(Bytes::from(delivery().log_id.to_string())));
    assert!(moved.size_as_batch() < 10_000, "what does not belong to it stays behind");
    let moved = read(moved.clone(), home(), 9, start());
    let failed = Failed::decode(&moved, &keyring()).unwrap();
    assert_eq!((&failed.echo.delivery, &failed.wish), (&delivery(), &wish));
    assert_eq!(names(&bench.fail(&[moved]).await), ["wal.acks", "wal.delay.5s"]);
    assert_eq!(bench.count("answers_moved_total", ""), 1);
}

#[tokio::test]
async fn what_is_no_failure_of_ours_is_refused_and_harms_no_neighbour() {
    let bench = bench();
    type Spoil = fn(&mut InRecord);
    let spoil: [(&str, Spoil); 5] = [
        ("WAL_ANSWER_INVALID", |record| record.headers.clear()),
        ("WAL_ANSWER_INVALID", |record| record.value = None),
        ("WAL_SEAL_INVALID", |record| record.headers.push(Header::new(wire::CE_WALATTEMPT, "2"))),
        ("WAL_SEAL_INVALID", |record| record.headers.push(Header::new(wire::CE_WALTARGET, "elsewhere"))),
        ("WAL_SEAL_INVALID", |record| record.headers.push(Header::new(wire::CE_WALRETRIES, "100"))),
    ];
    let mut records: Vec<InRecord> = (0..)
        .zip(spoil)
        .map(|(offset, (_, spoil))| {
            let mut record = failure(&delivery(), &Wish::None, offset);
            spoil(&mut record);
            record
        })
        .collect();
    records.push(failure(&Delivery { attempt: 5, ..delivery() }, &Wish::None, 5));
    records.push(failure(&delivery(), &Wish::None, 6));
    let outputs = bench.fail(&records).await;

    let letters = to(&outputs, "dlq.wal.ingress");
    let codes: Vec<_> =
        letters.iter().map(|letter| last_str(&letter.headers, wire::CE_WALERRORCODE).unwrap()).collect();
    let expected: Vec<&str> = spoil.iter().map(|(code, _)| *code).chain(["WAL_ATTEMPT_INVALID"]).collect();
    assert_eq!(codes, expected);
    assert_eq!(event(&outputs)["status"], "retrying", "nothing is said of what was refused");
    assert_eq!(bench.count("answers_refused_total", ""), 6);
    assert_eq!(bench.count("answers_refused_total", "WAL_ATTEMPT_INVALID"), 1);
}

#[tokio::test]
async fn a_cancelled_round_is_not_decided() {
    let bench = bench();
    let cancel = Cancel { log_id: delivery().log_id, round: 1, deadline: delivery().deadline };
    bench.tools.cancels.take(&read(cancel.encode(topics().cancels(), &keyring()), 0, 0, start()));
    assert_eq!(bench.fail(&[failure(&delivery(), &Wish::None, 7)]).await, []);
    let redriven = Delivery { round: 2, round_first: 2, attempt: 2, ..delivery() };
    assert_eq!(bench.fail(&[failure(&redriven, &Wish::None, 8)]).await.len(), 2);
    assert_eq!((bench.count("answers_ignored_total", ""), bench.count("retry_scheduled_total", "")), (1, 1));
}

#[tokio::test]
async fn answers_that_change_nothing_are_counted_wherever_they_stand() {
    let bench = bench();
    let replayed = read(delivery().encode_replay(start(), &keyring(), topic("copies")), 0, 0, start());
    let replayed = Failed::encode(&replayed, &crate::samples::failed().failure, &Wish::None, topics().failures());
    let unasked = Delivery { answers: Answers::None, ..delivery() };
    let elsewhere = (home() + 1) % PARTITIONS;
    let records =
        [read(replayed, elsewhere, 0, start()), read(failure_of(&unasked, &Wish::None), elsewhere, 1, start())];
    assert_eq!(bench.fail(&records).await, []);
    assert_eq!(bench.count("answers_ignored_total", ""), 2);
}

#[tokio::test]
async fn a_wish_that_makes_no_sense_leaves_it_to_the_lifecycle() {
    let bench = bench();
    for (offset, wish) in (0..).zip(["-1", "NaN", "soon"]) {
        let attempt = Delivery { attempt: u32::try_from(offset + 1).unwrap(), ..delivery() };
        let mut record = failure(&attempt, &Wish::None, offset);
        record.headers.push(Header::new(wire::CE_WALRETRYAFTER, wish));
        let outputs = bench.fail(&[record]).await;
        assert_eq!(event(&outputs)["status"], "retrying", "{wish}");
    }
    assert_eq!(bench.count("answers_wishes_unreadable_total", ""), 3);
}

/// The outcome that stands in the end is the same, however often it is derived.
#[tokio::test]
async fn a_decision_that_is_made_again_has_the_same_id() {
    let bench = bench();
    let record = failure(&Delivery { attempt: 4, ..delivery() }, &Wish::None, 7);
    let batch = batch(std::slice::from_ref(&record), 1);
    let ack = async || {
        let outputs = bench.failures.handle(&batch).await.unwrap();
        Ack::decode(&read(to(&outputs, "wal.acks")[0].clone(), 0, 0, start()), &keyring()).unwrap()
    };
    let first = ack().await;
    assert_eq!(first.event.outcome, Outcome::Failed { reason: Reason::Exhausted });
    bench.failures.given_up();
    bench.clock.advance(Duration::from_secs(5));
    assert_eq!(ack().await, first);
}

#[tokio::test]
async fn cancels_that_outlived_their_round_get_a_tombstone_from_who_holds_their_partition() {
    let bench = bench();
    let deadline = at(start().as_millis() - 3_600_001);
    let cancel = Cancel { log_id: delivery().log_id, round: 1, deadline };
    bench.tools.cancels.take(&read(cancel.encode(topics().cancels(), &keyring()), 0, 0, start()));
    let holding = |partition: i32| Batch {
        records: Vec::new(),
        places: HashMap::from([((topics().failures(), partition), Place { assignment: 1, next: 0, committed: 0 })]),
    };
    assert_eq!(bench.failures.tick(&holding((home() + 1) % PARTITIONS)).await.unwrap(), []);
    let tombstones = bench.failures.tick(&holding(home())).await.unwrap();
    assert_eq!(tombstones, [Cancel::tombstone(&delivery().log_id, topics().cancels())]);
    bench.tools.cancels.take(&read(tombstones[0].clone(), 0, 1, start()));
    assert_eq!(bench.failures.tick(&holding(home())).await.unwrap(), []);
}
