//! Parked attempts.

use std::time::Duration;

use wal_model::ack::Ack;
use wal_model::cancel::Cancel;
use wal_model::delay::Wait;
use wal_model::delivery::Delivery;
use wal_model::entry::Answers;
use wal_model::parked::Parked;
use wal_model::record::last_str;
use wal_model::{Header, Priority, wire};
use wal_runtime::batch_loop::{Gate, Look};

use super::*;
use crate::release::{DelayGate, LOOK_AGAIN};
use crate::samples::{delivery, read};

fn wait(text: &str) -> Wait {
    text.parse().unwrap()
}

/// Attempt 2, parked when tests begin.
fn parked(due_in: i64, on: &str) -> Parked {
    let due = at(start().as_millis() + due_in);
    Parked { delivery: Delivery { attempt: 2, ..delivery() }, due, parked_at: start(), wait: wait(on) }
}

fn head(parked: &Parked) -> InRecord {
    read(parked.encode(&topics(), &keyring()), 0, 5, start())
}

impl Bench {
    fn released(&self) -> u64 {
        self.count("retry_lateness_seconds_count", "")
    }

    fn look(&self, head: &InRecord) -> Look {
        let (clock, overdue) = (Arc::<ManualClock>::clone(&self.clock), Arc::clone(&self.overdue));
        DelayGate { clock, topics: topics(), overdue, foresee: Box::new(|_| ()) }.look(head)
    }

    /// The targets that are asked for when a head is looked at.
    fn foreseen(&self, head: &InRecord) -> Vec<String> {
        let (clock, overdue) = (Arc::<ManualClock>::clone(&self.clock), Arc::clone(&self.overdue));
        let foreseen = Arc::<Mutex<Vec<String>>>::default();
        let told = Arc::clone(&foreseen);
        let foresee = Box::new(move |target: &Topic| told.lock().unwrap().push(target.to_string()));
        DelayGate { clock, topics: topics(), overdue, foresee }.look(head);
        let foreseen = foreseen.lock().unwrap();
        foreseen.clone()
    }
}

#[tokio::test]
async fn a_head_rests_until_it_is_due_and_is_published_then() {
    let bench = bench();
    let parked = parked(60_000, "60s");
    let record = head(&parked);
    assert_eq!(bench.look(&record), Look::Rest(LOOK_AGAIN), "the clock may be set while it rests");
    assert!(bench.foreseen(&record).is_empty());
    bench.clock.advance(Duration::from_secs(59));
    assert_eq!(bench.look(&record), Look::Rest(Duration::from_secs(1)));
    assert_eq!(bench.foreseen(&record), ["shop"], "what is due must not wait until somebody has asked");
    bench.clock.advance(Duration::from_millis(999));
    assert_eq!(bench.look(&record), Look::Rest(Duration::from_millis(1)));
    bench.clock.advance(Duration::from_millis(4));
    assert_eq!(bench.look(&record), Look::Pass { priority: Priority::Normal, due: parked.due });
    assert_eq!(bench.overdue.now(bench.now()), (1, Duration::from_millis(3)));

    let outputs = bench.release(&[record]).await;
    assert_eq!(names(&outputs), ["shop"]);
    let delivered = read(outputs[0].clone(), 0, 0, start());
    let received = Delivery::decode(&delivered).unwrap();
    assert_eq!((&received.delivery, received.sent), (&parked.delivery, bench.now()));
    let seal = last_str(&delivered.headers, wire::CE_WALSEAL);
    assert_eq!(received.delivery.verify(seal, &keyring()), Ok(()));
    assert_eq!((bench.released(), bench.overdue.now(bench.now()).0), (1, 0));
    assert_eq!(bench.count("retry_lateness_seconds_bucket", "le=\"0.002\""), 0);
    assert_eq!(bench.count("retry_lateness_seconds_bucket", "le=\"0.005\""), 1);
}

#[tokio::test]
async fn other_waits_are_paid_in_coins_down_to_the_due_time() {
    let bench = bench();
    let due = at(start().as_millis() + 73_200);
    let mut record = head(&parked(73_200, "60s"));
    let mut hops = Vec::new();
    let published = loop {
        while let Look::Rest(rest) = bench.look(&record) {
            bench.clock.advance(rest);
        }
        let outputs = bench.release(&[record]).await;
        let [output] = &outputs[..] else { panic!("{outputs:?}") };
        if output.topic.as_str() == "shop" {
            break bench.now();
        }
        hops.push(output.topic.as_str().to_owned());
        record = read(output.clone(), 0, 0, bench.now());
    };
    assert_eq!(published, due);
    assert_eq!(hops, ["wal.delay.10s", "wal.delay.2s", "wal.delay.1s", "wal.delay.200ms"]);
    assert_eq!((bench.count("retry_hops_total", ""), bench.released()), (4, 1));
}

#[tokio::test]
async fn a_head_that_passes_too_soon_is_parked_again_and_never_published() {
    let bench = bench();
    let outputs = bench.release(&[head(&parked(60_000, "60s")), head(&parked(40, "100ms"))]).await;
    assert_eq!(names(&outputs), ["wal.delay.100ms", "wal.delay.60s"]);
    assert_eq!(bench.released(), 0);
}

#[tokio::test]
async fn what_was_not_parked_there_passes_at_once_and_becomes_a_dead_letter() {
    let bench = bench();
    let mut stranger = head(&parked(60_000, "60s"));
    stranger.headers.clear();
    let mut hastened = head(&parked(60_000, "60s"));
    hastened.headers.push(Header::new(wire::CE_WALDUE, start().to_string()));
    for record in [&stranger, &hastened] {
        assert!(matches!(bench.look(record), Look::Pass { .. }));
    }
    let outputs = bench.release(&[stranger, hastened]).await;
    let letters = to(&outputs, "dlq.wal.ingress");
    let code = |letter: &&OutRecord| last_str(&letter.headers, wire::CE_WALERRORCODE).unwrap().to_owned();
    assert_eq!(letters.iter().map(code).collect::<Vec<_>>(), ["WAL_PARKED_INVALID", "WAL_PARKED_INVALID"]);
    assert_eq!((outputs.len(), bench.count("answers_refused_total", "WAL_PARKED_INVALID")), (2, 2));
    assert_eq!(bench.overdue.now(bench.now()), (0, Duration::ZERO), "and counts for nothing");
}

/// What says how long a hop takes is not under the seal, so whoever may write there could try to hold up a topic for ever.
#[tokio::test]
async fn nobody_holds_up_a_topic_by_what_a_head_says_of_itself() {
    let bench = bench();
    let longer = Parked { wait: wait("500000s"), ..parked(60_000_000, "100ms") };
    let mut record = head(&longer);
    record.topic = topics().delay(wait("100ms"));
    let mut from_the_future = head(&parked(60_000_000, "100ms"));
    let next_year = at(start().as_millis() + 31_536_000_000);
    from_the_future.headers.push(Header::new(wire::CE_WALPARKEDAT, next_year.to_string()));
    for record in [record, from_the_future] {
        assert!(matches!(bench.look(&record), Look::Pass { .. }));
        assert_eq!(names(&bench.release(&[record]).await), ["wal.delay.50000s"], "it waits where it belongs");
    }
    let mut skewed = head(&parked(60_000_000, "100ms"));
    let a_moment_ahead = at(start().as_millis() + 500);
    skewed.headers.push(Header::new(wire::CE_WALPARKEDAT, a_moment_ahead.to_string()));
    assert_eq!(bench.look(&skewed), Look::Rest(Duration::from_millis(600)), "clocks may differ a little");
}

#[tokio::test]
async fn what_expired_while_it_waited_is_said_to_be_and_not_delivered() {
    let bench = bench();
    let mut parked = parked(60_000, "60s");
    parked.delivery.deadline = at(start().as_millis() + 70_000);
    bench.clock.advance(Duration::from_secs(3600));
    let outputs = bench.release(&[head(&parked)]).await;

    assert_eq!(names(&outputs), ["dlq.wal.ingress", "wal.acks"]);
    let event = event(&outputs);
    assert_eq!((&event["reason"], &event["attempt"]), (&"expired".into(), &2.into()));
    assert_eq!((&event["error_code"], event.get("delivered_at")), (&"WAL_EXPIRED".into(), None));
    let letter = to(&outputs, "dlq.wal.ingress")[0];
    assert_eq!(letter.value.as_ref(), Some(&delivery().payload));
    for name in [wire::CE_WALSEAL, wire::CE_WALPARKSEAL, wire::CE_WALSENT] {
        assert_eq!(last_str(&letter.headers, name), None, "it was never sent and cannot be answered");
    }
    assert_eq!((bench.count("delivery_attempts_total", "expired"), bench.released()), (1, 0));
}

#[tokio::test]
async fn a_cancelled_round_is_dropped_and_a_redriven_one_is_not() {
    let bench = bench();
    let cancel = Cancel { log_id: delivery().log_id, round: 1, deadline: delivery().deadline };
    bench.tools.cancels.take(&read(cancel.encode(topics().cancels(), &keyring()), 0, 0, start()));
    let mut redriven = parked(0, "60s");
    redriven.delivery.round = 2;
    let outputs = bench.release(&[head(&parked(0, "60s")), head(&redriven)]).await;
    assert_eq!(names(&outputs), ["shop"]);
    assert_eq!(last_str(&outputs[0].headers, wire::CE_WALROUND), Some("2"));
    assert_eq!((bench.count("retry_cancelled_total", ""), bench.released()), (1, 1));
}

#[tokio::test]
async fn an_unknown_target_waits_a_moment_at_a_time_and_then_is_given_up() {
    let bench = bench();
    bench.say("shop", Found::Missing(Duration::from_secs(3)));
    let outputs = bench.release(&[head(&parked(0, "60s"))]).await;
    assert_eq!(names(&outputs), ["wal.delay.1s"]);
    let postponed = read(outputs[0].clone(), 0, 0, start());
    assert_eq!(bench.look(&postponed), Look::Rest(Duration::from_secs(1)), "others go on meanwhile");

    bench.clock.advance(Duration::from_secs(1));
    bench.say("shop", Found::Missing(Duration::from_secs(30)));
    let outputs = bench.release(&[postponed]).await;
    assert_eq!(names(&outputs), ["dlq.wal.ingress", "wal.acks"]);
    assert_eq!(event(&outputs)["reason"], "undeliverable");
    assert_eq!(bench.count("retry_postponed_total", ""), 1);
    assert_eq!((bench.count("delivery_attempts_total", "undeliverable"), bench.released()), (1, 0));
}

#[tokio::test]
async fn a_target_that_takes_less_than_it_did_stops_nobody_else() {
    let bench = bench();
    bench.say("shop", Found::Known { partitions: 1, max_message_bytes: 100 });
    let mut other = parked(0, "60s");
    other.delivery.target = Topic::parse("other").unwrap();
    let outputs = bench.release(&[head(&parked(0, "60s")), head(&other)]).await;
    assert_eq!(names(&outputs), ["other", "wal.delay.50s"]);
}

#[tokio::test]
async fn where_nobody_answers_it_is_completed_when_it_is_delivered() {
    let bench = bench();
    let mut unanswered = parked(0, "60s");
    unanswered.delivery.answers = Answers::None;
    let outputs = bench.release(&[head(&unanswered)]).await;
    assert_eq!(names(&outputs), ["shop", "wal.acks"]);
    let ack = Ack::decode(&read(to(&outputs, "wal.acks")[0].clone(), 0, 0, start()), &keyring()).unwrap();
    assert_eq!((ack.event.outcome.status().as_str(), ack.event.attempt), ("completed", 2));
}

#[tokio::test]
async fn priority_is_told_to_the_gate() {
    let bench = bench();
    let mut urgent = parked(0, "60s");
    urgent.delivery.priority = Priority::High;
    assert_eq!(bench.look(&head(&urgent)), Look::Pass { priority: Priority::High, due: urgent.due });
}

#[tokio::test]
async fn what_was_given_up_is_not_counted() {
    let bench = bench();
    bench.releases.handle(&batch(&[head(&parked(0, "60s"))], 1)).await.unwrap();
    bench.releases.given_up();
    bench.releases.committed(&Batch::default());
    assert_eq!(bench.released(), 0);
}
