//! Expiry and purge: what happens to entries of which nothing more is said.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use wal_model::ack::Ack;
use wal_model::delivery::Delivery;
use wal_model::status::{Event, Outcome, Reason, Status};
use wal_model::{Clock, Entry, SystemClock};
use wal_runtime::shutdown::Shutdown;
use wal_status::Service;
use wal_store::EntryStore;
use wal_store::samples::entry_in;
use wal_tests::{Message, Producer, wait_until};

use super::stage::{Stage, entries, entry, expect_status, home, later, retrying, shared, until};
use crate::support::log::stop;
use crate::support::{LATER, SOON};

/// The shortest retention there is: a day longer than requests stay.
pub const SHORT_RETENTION: [(&str, &str); 3] =
    [("topics.ingress_retention", "1h"), ("status.retention", "25h"), ("log.level", "info,wal_status=debug")];
const HOUR: i64 = 3_600_000;

/// Entries that were completed two days ago.
pub fn finished_long_ago(name: &str, count: usize) -> (Vec<Entry>, Vec<Ack>) {
    let two_days_ago = later(-48 * HOUR);
    let entries: Vec<Entry> =
        (0..count).map(|at| entry_in("orders", later(-49 * HOUR).as_millis(), &format!("{name} {at}"))).collect();
    let completed =
        |entry: &Entry| Ack::of(&Delivery::of(entry), Outcome::Completed { result: None }, None, two_days_ago);
    let events = entries.iter().map(completed).collect();
    (entries, events)
}

#[test]
fn an_entry_past_its_deadline_fails_with_a_dead_letter_and_a_parked_one_is_left_to_the_scheduler() {
    let stage = Stage::new(&[]);
    let (silent, parked) = (until(entry("silent"), later(1000)), until(entry("parked"), later(1000)));
    let answered = until(entry("answered"), later(1000));
    stage.store(&[silent.clone(), parked.clone(), answered.clone()], &[retrying(&parked, 1)]);
    let process = stage.start(&[]);
    stage.log.send(&[stage.done(&answered, 1)]);
    stage.wait_until_told(&silent, "failed", &process);

    let stored = stage.finish(process);
    expect_status(&stored, [&silent], Status::Failed);
    expect_status(&stored, [&parked], Status::Retrying);
    expect_status(&stored, [&answered], Status::Completed);
    let letters = stage.letters();
    assert_eq!(letters.len(), 1, "{letters:?}");
    let letter = &letters[&silent.log_id.to_string()][0];
    assert_eq!(
        (letter.header("ce_walerrorcode").as_deref(), &letter.value),
        (Some("WAL_EXPIRED"), &Some(silent.payload.to_vec()))
    );
    assert_eq!((letter.header("ce_walseal"), letter.header("ce_waltarget").as_deref()), (None, Some("orders.events")));

    let process = stage.start(&[("status.parked_wait", "0s")]);
    stage.wait_until_told(&parked, "failed", &process);
    let stored = stage.finish(process);
    let standing = &stored[&parked.log_id.to_string()].state.standing;
    assert_eq!((standing.attempt, &standing.outcome), (2, &Outcome::Failed { reason: Reason::Expired }));
}

/// The completion lies in a transaction that is open when the deadline passes: nobody can read it, and yet it counts.
#[test]
fn a_completion_that_was_written_before_the_deadline_and_is_folded_long_after_wins() {
    let stage = Stage::new(&[]);
    let all = entries("e", 20);
    let one = until(all[0].clone(), later(3000));
    let control = all.iter().find(|other| home(other) != home(&one)).expect("twenty are not all in one partition");
    let control = until(control.clone(), one.state.deadline());
    stage.store(&[one.clone(), control.clone()], &[]);
    let consumer = Producer::transactional(&stage.log.bootstrap, &stage.log.topic("consumer"));
    consumer.begin();
    consumer.send_all([&stage.done(&one, 1)]);
    assert!(SystemClock.now() < one.state.deadline(), "the machine is too slow for this scenario");

    let process = stage.start(&[]);
    stage.wait_until_told(&control, "failed", &process);
    assert!(!stage.told().contains_key(&one.log_id.to_string()), "its partition cannot be folded to its end yet");
    consumer.commit();
    stage.wait_until_told(&one, "completed", &process);

    let stored = stage.finish(process);
    expect_status(&stored, [&one], Status::Completed);
    assert!(!stage.letters().contains_key(&one.log_id.to_string()));
}

#[test]
fn what_finished_long_ago_is_purged_and_what_was_redriven_or_is_open_stays() {
    let stage = Stage::new(&SHORT_RETENTION);
    let (old, mut events) = finished_long_ago("old", 40);
    let (redriven, more) = finished_long_ago("redriven", 1);
    let (recent, open) = (entry("recent"), entry("open"));
    let back = Event { attempt: 2, round: 2, round_first: 2, outcome: Outcome::Pending, ..more[0].event.clone() };
    let dead = Outcome::Failed { reason: Reason::Exhausted };
    let again = [
        Ack::of(&Delivery::of(&redriven[0]), dead, None, more[0].event.at),
        Ack { event: Event { deadline: later(HOUR), ..back }, ..more[0].clone() },
    ];
    events.extend(again);
    stage.store(&[old.clone(), redriven.clone(), vec![recent.clone(), open.clone()]].concat(), &events);
    let process = stage.start(&[]);
    stage.log.send(&[stage.done(&recent, 1)]);
    for entry in &old {
        stage.wait_until_told(entry, "gone", &process);
    }
    process.wait_for_line_where("that it has purged", SOON, |line| line.contains("purged"));

    let stored = stage.finish(process);
    assert_eq!(stored.len(), 3, "{:?}", stored.keys());
    expect_status(&stored, [&redriven[0], &open], Status::Pending);
    expect_status(&stored, [&recent], Status::Completed);
    assert_eq!(stage.told().values().filter(|status| *status == "gone").count(), old.len());
}

/// An instance within this process.
struct Running {
    runtime: Runtime,
    shutdown: Shutdown,
    task: JoinHandle<Result<(), wal_status::Error>>,
}

impl Running {
    fn start(stage: &Stage, instance: &str, store: &Arc<dyn EntryStore>) -> Running {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime can be made");
        let settings = stage.log.settings(&[("kafka.instance", instance), ("status.batch_records", "20")]);
        let service = Service::new(&settings, Arc::clone(store)).expect("the scenario's settings are valid");
        let shutdown = Shutdown::new();
        let token = shutdown.clone();
        let task = runtime.spawn(async move { service.run(Arc::new(()), token.triggered()).await });
        Running { runtime, shutdown, task }
    }

    #[track_caller]
    fn stop(self) {
        self.shutdown.trigger();
        let ended = self.runtime.block_on(async { tokio::time::timeout(SOON, self.task).await });
        ended.expect("it ends in time").expect("it does not panic").expect("it ends well");
    }
}

#[test]
fn instances_that_come_and_go_fold_every_event_and_expire_every_entry_once() {
    let stage = Stage::new(&[]);
    let answered = entries("answered", 600);
    let silent: Vec<Entry> = entries("silent", 60)
        .into_iter()
        .enumerate()
        .map(|(at, entry)| until(entry, later(2000 + 100 * i64::try_from(at).expect("a small number"))))
        .collect();
    stage.store(&[answered.clone(), silent.clone()].concat(), &[]);
    let store = shared(&stage);
    let say = |part: &[Entry]| {
        let said: Vec<Message> = part.iter().map(|entry| stage.done(entry, 1)).collect();
        stage.log.send(&said);
    };
    let mut running = Vec::new();
    for (instance, part) in ["0", "1", "2"].into_iter().zip(answered.chunks(200)) {
        running.push(Running::start(&stage, instance, &store));
        say(part);
        let told = stage.told().len();
        wait_until("more is told", SOON, || {
            std::thread::sleep(Duration::from_millis(50));
            stage.told().len() > told
        });
    }
    running.remove(0).stop();
    let expired = || {
        std::thread::sleep(Duration::from_millis(200));
        let told = stage.told();
        silent.iter().all(|entry| told.get(&entry.log_id.to_string()).is_some_and(|status| status == "failed"))
    };
    wait_until("all silent ones have expired", LATER, expired);
    stage.wait_until_folded();
    running.into_iter().for_each(Running::stop);
    drop(store);

    let stored = stage.stored();
    expect_status(&stored, &answered, Status::Completed);
    expect_status(&stored, &silent, Status::Failed);
    let letters = stage.letters();
    assert_eq!(letters.len(), silent.len());
    assert!(letters.values().all(|letters| letters.len() == 1));
}

#[test]
fn a_stop_leaves_the_group_and_another_instance_goes_on() {
    let stage = Stage::new(&[("status.batch_records", "10")]);
    let all = entries("e", 200);
    stage.store(&all, &[]);
    let said: Vec<Message> = all.iter().map(|entry| stage.done(entry, 1)).collect();
    stage.log.send(&said);
    let first = stage.start(&[]);
    stage.wait_until_told(&all[0], "completed", &first);
    stop(&first);
    assert!(first.lines().iter().any(|line| line.text.contains("left the consumer group")), "{first:?}");

    let second = stage.start(&[("kafka.instance", "1")]);
    expect_status(&stage.finish(second), &all, Status::Completed);
}
