//! The examples for other languages, as they stand in the repository, on a real Kafka: what they answer verifies, says what it should,
//! and is there once for each delivery, whoever is killed, joins or stands still.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use wal_model::answer::Wish;
use wal_model::{Clock, SystemClock};
use wal_tests::clients::{lag, members};
use wal_tests::{Kafka, Process, seed, tools, wait_until, workspace};

use crate::support::target::Answer;
use crate::support::{Gate, LATER, SOON, Target};

/// What a stop may take: a poll, a batch, and leaving the group.
const STOP: Duration = Duration::from_secs(30);
/// Far more than an example executes while a signal is on its way.
const LOAD: usize = 3000;
/// Of each kind that the examples tell apart.
const PAYLOADS: [&str; 6] = ["4", "100", "0", "five", "", "500"];

/// Puts the gate in the place that is the reader's, and lets the group wait no longer for a slow member than for a silent one:
/// everything else is the example's.
const WITH_A_GATE: &str = r#"
import os, socket, sys
sys.path.insert(0, os.environ["EXAMPLES"])
import consumer

def execute(log_id, payload):
    host, port = os.environ["GATE"].split(":")
    with socket.create_connection((host, int(port))) as gate:
        gate.sendall(payload + b"\n")
        gate.recv(1)

client = consumer.Consumer
consumer.Consumer = lambda config: client({**config, "max.poll.interval.ms": config["session.timeout.ms"]})
consumer.execute = execute
consumer.main()
"#;

#[test]
fn the_python_example_answers_each_delivery_once_and_rightly() {
    let python = tools::python();
    let script = examples().join("consumer.py");
    let script = script.to_string_lossy();
    let start = |target: &Target, instance: &str| {
        let args = [&script, &*target.bootstrap, &target.group, &target.topic, &target.prefix];
        Process::run("consumer.py", python, &args, &[("INSTANCE", instance)])
    };
    answers_each_delivery_once("python", "ZeroDivisionError", start, 0);
}

#[test]
fn the_java_example_compiles_and_answers_each_delivery_once_and_rightly() {
    // Java ends so after a signal, also in order.
    const STOPPED: i32 = 143;
    let classes = workspace::run_dir().join("java-example");
    tools::javac(&examples().join("Consumer.java"), &Kafka::class_path(), &classes);
    let class_path = format!("{}:{}", classes.display(), Kafka::class_path());
    let start = |target: &Target, instance: &str| {
        let java = ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", &class_path, "Consumer"];
        let args = [&*target.bootstrap, &target.group, &target.topic, &target.prefix];
        Process::run("Consumer.java", Path::new("java"), &[&java[..], &args].concat(), &[("INSTANCE", instance)])
    };
    answers_each_delivery_once("java", "ArithmeticException", start, STOPPED);
}

#[test]
fn the_python_example_does_not_answer_what_moved_while_it_stood_still() {
    let resume_and_notice = |zombie: &Process| {
        zombie.resume();
        zombie.wait_for_line("SESSTMOUT", SOON);
    };
    does_not_answer_what_moved("python-still", Process::pause, resume_and_notice);
}

/// Then its client has left the group by itself.
#[test]
fn the_python_example_does_not_answer_what_moved_while_it_took_too_long() {
    let take_too_long = |zombie: &Process| drop(zombie.wait_for_line("MAXPOLL", SOON));
    does_not_answer_what_moved("python-slow", take_too_long, |_| {});
}

/// One has a delivery in hand when it loses the partition, and goes on with it when another has answered.
#[track_caller]
fn does_not_answer_what_moved(name: &str, lose: impl Fn(&Process), go_on: impl Fn(&Process)) {
    let python = tools::python();
    let examples = examples();
    let gate = Gate::new();
    let mut target = Target::new(name, 1);
    let start = |target: &Target, instance: &str| {
        let env = [
            ("INSTANCE", instance),
            ("GATE", &gate.address),
            ("EXAMPLES", &examples.to_string_lossy()),
            ("PYTHONDONTWRITEBYTECODE", "1"),
        ];
        let args = ["-c", WITH_A_GATE, &target.bootstrap, &target.group, &target.topic, &target.prefix];
        Process::run("consumer.py", python, &args, &env)
    };
    target.send_payloads([(None, "first")]);
    let zombie = start(&target, "zombie");
    let in_its_hand = gate.next();
    lose(&zombie);
    let heir = start(&target, "heir");
    gate.next().release();
    target.wait_for(1, std::slice::from_ref(&heir), LATER);

    go_on(&zombie);
    in_its_hand.release();
    heir.terminate();
    assert_eq!(heir.wait(STOP).code(), Some(0), "{heir:?}");
    // It must be of use again, without a start; what it had to say before is behind it then.
    target.send_payloads([(None, "second")]);
    let held = gate.next();
    assert_eq!(held.number, "second");
    held.release();
    target.wait_for(2, std::slice::from_ref(&zombie), LATER);
    assert_eq!(target.expect_none_twice(), 2);
}

/// Kills it in the middle of its work and starts it again, then has two at a time of which one is killed: whatever happens, each
/// delivery is answered once.
#[track_caller]
fn answers_each_delivery_once(name: &str, zero: &str, start: impl Fn(&Target, &str) -> Process, stopped: i32) {
    let mut random = seed::random(name);
    let mut target = Target::new(name, 4);
    let mut payloads = vec!["4"];
    let past = SystemClock.now();
    target.send_to(0, payloads[0], |delivery| {
        delivery.deadline = past;
        delivery.payload = "4".into();
    });
    target.send_foreign(0);
    let mut send = |target: &mut Target| {
        let more: Vec<&str> = (0..LOAD).map(|_| PAYLOADS[random.usize(..PAYLOADS.len())]).collect();
        let keys: Vec<String> = (0..LOAD).map(|_| random.char('a'..='z').to_string()).collect();
        target.send_payloads(more.iter().zip(&keys).map(|(payload, key)| (Some(key.as_str()), *payload)));
        payloads.extend(more);
        payloads.clone()
    };

    send(&mut target);
    for count in [1, 250] {
        let mut consumer = start(&target, "0");
        wait_until_executed(&consumer, count);
        consumer.kill();
        let answered = target.expect_none_twice();
        assert!(answered + 1 < target.sent(), "it was done before it was killed");
    }
    let mut consumers = vec![start(&target, "0"), start(&target, "1")];
    let half = target.sent() / 2;
    target.wait_for(half, &consumers, LATER);
    let payloads = send(&mut target);
    consumers.swap_remove(1).kill();
    // The one that is past its deadline is nobody's.
    let wanted = target.sent() - 1;
    target.wait_for(wanted, &consumers, LATER);
    assert_eq!(target.expect_none_twice(), wanted);
    for answer in target.answers() {
        expect_answer(&answer, payloads[answer.number], zero);
    }
    wait_until("the group stands at the end", SOON, || lag(&target.bootstrap, &target.group, &target.topic) == 0);

    let last = &consumers[0];
    last.terminate();
    assert_eq!(last.wait(STOP).code(), Some(stopped), "{last:?}");
    assert_eq!(members(&target.bootstrap, &target.group), 0);
}

#[track_caller]
fn expect_answer(answer: &Answer, payload: &str, zero: &str) {
    let completed = |each: u32| ("completed", Wish::None, Some(json!({"each": each})));
    let (says, wish, result) = match payload {
        "4" => completed(25),
        "100" => completed(1),
        "0" => (zero, Wish::None, None),
        "five" | "" => ("UNREADABLE", Wish::Never, None),
        "500" => ("NOT_ENOUGH", Wish::After(Duration::from_millis(2500)), None),
        _ => panic!("no such payload: {payload}"),
    };
    assert_eq!((answer.says.as_str(), &answer.wish), (says, &wish), "{payload:?}: {answer:?}");
    let detail = answer.detail.as_deref().unwrap_or_default();
    match result {
        Some(result) => assert_eq!(serde_json::from_str::<Value>(detail).ok(), Some(result), "{payload:?}: {answer:?}"),
        None => assert!(!detail.is_empty(), "{payload:?} failed without a word: {answer:?}"),
    }
}

#[track_caller]
fn wait_until_executed(consumer: &Process, count: usize) {
    wait_until(&format!("{count} deliveries are executed"), LATER, || {
        assert!(consumer.is_running(), "it has ended: {consumer:?}");
        consumer.lines().iter().filter(|line| line.text.starts_with("executed ")).count() >= count
    });
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples")
}
