//! How the services are doing, as an operator sees it: `wal status`, run as the real binary.

use serde_json::Value;
use wal_arango_fake::{Action, Fault};
use wal_tests::{Kafka, Message, Process, free_port, wait_until};

use crate::support::database::Database;
use crate::support::{LATER, Log, SOON};

const REQUESTS: usize = 20;

#[test]
fn how_the_services_are_doing_is_told_on_one_screen_also_when_one_of_them_is_gone() {
    let database = Database::new();
    let log = Log::on(&Kafka::shared().bootstrap(), &database.settings());
    let target = log.target("operated");
    let [of_writer, of_gateway, gateway_address]: [String; 3] =
        std::array::from_fn(|_| format!("127.0.0.1:{}", free_port()));
    let mut writer = log.start_ready(&[("health.listen", &of_writer)]);
    let settings = [("health.listen", &*of_gateway), ("gateway.listen", &gateway_address)];
    let gateway = log.start_program("wal-gateway", &settings, &[]);
    let ask = || Asked::ask(&["--at", &of_writer, "--at", &of_gateway]);
    wait_until("both are ready", SOON, || ask().code == 0);

    // Nothing can be stored: the writer says what it lacks, how far it is behind, and what it last complained of.
    let inserts = Fault::on("POST", "/_api/document/wal_entries", Action::unavailable());
    database.server.fail(inserts.times(u32::MAX));
    log.send(&requests(&log, &target));
    let is_held_up = |asked: &Asked| {
        let writer = &asked.json["services"][0]["status"];
        let group = &writer["groups"][0];
        asked.code == 1
            && asked.json["ok"] == false
            && writer["ready"] == false
            && writer["store"]["answers"] == false
            && group["lag_records"].as_u64() == Some(REQUESTS as u64)
            && group["lag_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0)
            && writer["last_errors"].as_array().is_some_and(|errors| !errors.is_empty())
    };
    wait_until("the lag is told, and its cause", LATER, || is_held_up(&ask()));

    database.server.heal();
    log.receipts(&writer, REQUESTS, LATER);
    wait_until("nothing is left to read", LATER, || {
        let asked = ask();
        asked.code == 0 && asked.json["services"][0]["status"]["groups"][0]["lag_records"] == 0
    });
    let asked = ask();
    let [writer_said, gateway_said] = [0, 1].map(|nth| asked.json["services"][nth]["status"].clone());
    assert_eq!((&writer_said["service"], &writer_said["instance"]), (&"wal-writer".into(), &"0".into()), "{asked:?}");
    let group = &writer_said["groups"][0];
    assert_eq!(group["group"], log.group(), "{group}");
    let lanes = ["ingress", "ingress.high", "ingress.low"].map(|lane| log.topic(lane));
    assert_eq!(group["topics"], Value::from(lanes.to_vec()), "{group}");
    assert_eq!(group["partitions"], group["partitions_measured"], "{group}");
    assert_eq!(group["records_committed"], REQUESTS, "{group}");
    assert_eq!(writer_said["unanswered"], Value::Null, "only a gateway asks for it");

    // Nobody has answered the deliveries.
    let receipts = log.receipts(&writer, REQUESTS, LATER);
    let oldest = &gateway_said["unanswered"]["oldest"];
    let is_one_of_ours = receipts.iter().any(|receipt| receipt.json()["log_id"] == oldest["log_id"]);
    assert!(is_one_of_ours && oldest["target"] == target && oldest["attempt"] == 1, "{gateway_said}");

    // For people: one line for each of the two, the group, and the oldest unanswered.
    let page = run(&["status", "--at", &of_writer, "--at", &of_gateway]);
    let text = page.stdout();
    let log_id = oldest["log_id"].as_str().expect("a log id");
    for part in ["wal-writer", "wal-gateway", &log.group(), &format!("oldest unanswered: {log_id}, attempt 1")] {
        assert!(text.contains(part), "{part} in:\n{text}");
    }

    // One stands still with its port open, and then is gone: its row says so, and the other is told of all the same.
    writer.pause();
    let still = ask();
    assert_eq!((still.code, &still.json["ok"]), (1, &Value::Bool(false)), "{still:?}");
    assert!(still.no_answer(&of_writer).contains("no answer within"), "{still:?}");
    assert_eq!(still.json["services"][1]["status"]["ready"], true, "{still:?}");
    writer.resume();
    wait_until("it answers again", SOON, || ask().code == 0);
    writer.kill();
    let gone = ask();
    assert_eq!(gone.code, 1, "{gone:?}");
    assert!(gone.no_answer(&of_writer).contains("refused"), "{gone:?}");
    gateway.terminate();
    assert!(gateway.wait(SOON).success(), "{gateway:?}");
}

#[test]
fn a_watch_tells_one_round_after_another_until_it_is_stopped() {
    let nowhere = format!("127.0.0.1:{}", free_port());
    let watch = Process::start("wal", &["status", "--at", &nowhere, "--watch", "1", "-o", "json"], &[]);
    wait_until("there are three rounds", SOON, || watch.stdout().lines().count() >= 3);
    for line in watch.stdout().lines() {
        let round: Value = serde_json::from_str(line).expect("a line is a round");
        assert_eq!((&round["ok"], &round["services"][0]["at"]), (&Value::Bool(false), &Value::from(nowhere.as_str())));
    }
    watch.interrupt();
    assert_eq!(watch.wait(SOON).code(), Some(130), "{watch:?}");
}

/// What `wal status` said and how it ended.
#[derive(Debug)]
struct Asked {
    code: i32,
    json: Value,
}

impl Asked {
    #[track_caller]
    fn ask(args: &[&str]) -> Asked {
        let process = run(&[&["status", "-o", "json"], args].concat());
        let code = process.wait(SOON).code().expect("it ends by itself");
        let json = serde_json::from_str(&process.stdout()).unwrap_or_else(|error| panic!("{error}: {process:?}"));
        Asked { code, json }
    }

    /// Why the service asked first did not answer.
    #[track_caller]
    fn no_answer(&self, at: &str) -> &str {
        let service = &self.json["services"][0];
        assert_eq!(service["at"], at, "{self:?}");
        service["no_answer"].as_str().unwrap_or_else(|| panic!("it answered: {self:?}"))
    }
}

/// Runs `wal` to its end.
#[track_caller]
fn run(args: &[&str]) -> Process {
    let process = Process::start("wal", args, &[]);
    process.wait(SOON);
    process
}

fn requests(log: &Log, target: &str) -> Vec<Message> {
    let request = |number| {
        let value = format!(
            r#"{{"namespace":"orders","target":"{target}","payload":{{"n":{number}}},"request_id":"r-{number}"}}"#
        );
        Message::to(&log.topic("ingress")).key(format!("key-{number}").as_bytes()).value(value)
    };
    (0..REQUESTS).map(request).collect()
}
