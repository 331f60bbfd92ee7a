//! The real binary, on the embedded broker: what a newcomer sees, and what a script can rely on.
#![cfg(feature = "embedded-broker")]

mod support;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Wal, wal, wal_with};
use tempfile::TempDir;

/// A log of its own for a test.
struct Dev {
    wal: Wal,
    bootstrap: String,
    gateway: String,
    health: String,
}

impl Dev {
    fn start(folder: &Path) -> Dev {
        let folder = folder.to_str().unwrap();
        let mut wal = Wal::start(&["dev", "--port", "0", "--gateway-port", "0", "--data", folder, "-o", "json"]);
        let ready = wal.wait_for_json(r#""event":"ready""#);
        let text = |name: &str| ready[name].as_str().unwrap().to_owned();
        let (bootstrap, gateway, health) = (text("bootstrap"), text("gateway"), text("health"));
        Dev { wal, bootstrap, gateway, health }
    }

    fn write(&self, request_id: &str) -> Vec<Value> {
        let payload = r#"{"operation": "create_order", "order_id": 7}"#;
        let request = ["write", "orders", "--target", "order_events", "--payload", payload, "--request-id", request_id];
        let options = ["--bootstrap", &self.bootstrap, "-o", "json"];
        let written = wal(&[&request[..], &options].concat());
        assert_eq!(written.code, Some(0), "{written:?}");
        written.json()
    }

    fn entry(&self, id: &str) -> support::Ended {
        wal(&["entry", "show", id, "--namespace", "orders", "--gateway", &self.gateway, "-o", "json"])
    }

    /// A command that goes through the gateway.
    fn act(&self, args: &[&str]) -> support::Ended {
        wal(&[args, &["--gateway", &self.gateway, "-o", "json"]].concat())
    }

    /// The entry, as soon as it is so. What was answered is noted a moment later, and nothing here would be told of it.
    #[track_caller]
    fn until(&self, log_id: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + support::SOON;
        loop {
            let entry = self.entry(log_id).json().remove(0);
            if is_so(&entry) {
                return entry;
            }
            assert!(Instant::now() < deadline, "{entry}");
        }
    }

    fn tail(&self, max: &str) -> Vec<Value> {
        let tail = ["tail", "order_events", "--from", "beginning", "--max", max];
        let tailed = wal(&[&tail[..], &["--bootstrap", &self.bootstrap, "-o", "json"]].concat());
        assert_eq!(tailed.code, Some(0), "{tailed:?}");
        tailed.json()
    }
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("wal-cli-test-").tempdir().unwrap()
}

#[test]
fn dev_tells_how_it_is_doing_and_what_waits() {
    let folder = folder();
    let dev = Dev::start(folder.path());
    let written = dev.write("r-status");
    let deadline = Instant::now() + support::SOON;
    let status = || {
        let asked = wal(&["status", "--at", &dev.health, "-o", "json"]);
        (asked.code, asked.json().remove(0)["services"][0]["status"].take())
    };
    let is_told = |code: Option<i32>, said: &Value| {
        let groups = said["groups"].as_array().map_or(0, Vec::len);
        let unread = |group: &Value| group["lag_records"] != 0;
        code == Some(0) && groups == 4 && !said["groups"].as_array().unwrap().iter().any(unread)
    };
    let (mut code, mut said) = status();
    while !is_told(code, &said) {
        assert!(Instant::now() < deadline, "{code:?} {said}");
        (code, said) = status();
    }
    assert_eq!((&said["service"], &said["store"]["answers"]), (&"wal dev".into(), &true.into()), "{said}");
    assert_eq!(said["unanswered"]["oldest"]["log_id"], written[0]["log_id"], "{said}");
    let (ended, text) = dev.wal.interrupt();
    assert_eq!(ended.code(), Some(0), "{text}");
}

#[test]
fn help_shows_where_to_begin_and_what_exit_codes_mean() {
    let help = wal(&["--help"]);
    assert_eq!(help.code, Some(0));
    let commands = ["write", "tail", "entry", "topics", "stuck", "complete", "fail", "retry", "cancel", "rescue"];
    for text in ["wal demo", "wal dev", "Exit codes:", "4  unknown", "6  too late"].iter().chain(&commands) {
        assert!(help.stdout.contains(text), "{text} is not in\n{}", help.stdout);
    }
    assert!(help.stdout.lines().all(|line| line.chars().count() <= 100), "{}", help.stdout);
    assert_eq!(wal(&["write"]).code, Some(2));
    assert_eq!(wal(&["nonsense"]).code, Some(2));
}

#[test]
fn the_demo_tells_the_whole_story() {
    let demo = wal(&["demo"]);

    assert_eq!(demo.code, Some(0), "{}\n{}", demo.stdout, demo.stderr);
    assert_eq!(demo.stderr, "", "noise");
    assert!(!demo.stdout.contains('\x1b'), "a pipe is not coloured");
    let table = demo.stdout.split(" request ").last().unwrap();
    let ends = [
        ("execute_saga → saga_execution_queue", "completed"),
        ("canonical_model_registry", "completed"),
        ("routing_evaluation_queue", "completed"),
        ("charge_card", "completed"),
        ("refund", "failed (exhausted)"),
        ("charge_late_fee", "failed (cancelled)"),
        ("reserve_seat", "failed (expired)"),
    ];
    for (request, end) in ends {
        let row = table.lines().find(|line| line.contains(request)).unwrap_or_else(|| panic!("{request}:\n{table}"));
        assert!(row.contains("wal_") && row.contains(end) && row.matches(" ms").count() == 2, "{row}");
    }
    assert!(table.contains("same again") && table.contains("WAL_UNKNOWN_FIELD"), "{table}");
    let retries: Vec<_> = demo.stdout.lines().filter(|line| line.contains(", delivered +")).collect();
    assert_eq!(retries.len(), 4, "each retry says when it was due and how late it came: {retries:?}");
    for line in ["●  attempt 3 delivered", "✔  attempt 3 completed"] {
        assert!(table.contains(line), "{line} is not drawn:\n{table}");
    }
}

#[test]
fn the_demo_can_be_read_by_a_script() {
    let demo = wal(&["demo", "-o", "json"]);
    assert_eq!(demo.code, Some(0), "{demo:?}");
    let lines = demo.json();
    let summary = lines.last().unwrap();
    assert_eq!((&summary["event"], &summary["success"]), (&"summary".into(), &true.into()));
    let steps = summary["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 9);
    assert_eq!(steps[0]["log_id"], steps[3]["log_id"], "the repeat met the same entry");
    let attempts: Vec<_> = steps[5..].iter().map(|step| step["attempts"].as_u64().unwrap()).collect();
    assert_eq!(attempts, [3, 3, 1, 1], "what is cancelled does not come back");
    for late in steps[5..7].iter().flat_map(|step| step["late_ms"].as_array().unwrap()) {
        assert!(late.as_i64().unwrap() >= 0, "early: {summary}");
    }
}

#[test]
fn ctrl_c_ends_the_demo_and_leaves_nothing() {
    let mut demo = Wal::start(&["demo", "-o", "json"]);
    let data = demo.wait_for_json(r#""event":"data""#)["detail"].as_str().unwrap().to_owned();
    assert!(Path::new(&data).exists());

    let (status, output) = demo.interrupt();

    assert_eq!(status.code(), Some(130), "{output}");
    assert!(!Path::new(&data).exists());
}

#[test]
fn what_was_written_survives_a_kill() {
    let folder = folder();
    let mut dev = Dev::start(folder.path());

    let receipts = dev.write("r-1");
    assert_eq!(receipts.len(), 1);
    let (receipt, log_id) = (&receipts[0], receipts[0]["log_id"].as_str().unwrap().to_owned());
    assert_eq!((&receipt["success"], &receipt["durable"]), (&true.into(), &true.into()));
    assert_eq!((&receipt["target"], &receipt["request_id"]), (&"order_events".into(), &"r-1".into()));

    let deliveries = dev.tail("1");
    assert_eq!(deliveries[0]["delivery"]["log_id"], log_id.as_str());
    assert_eq!((&deliveries[0]["delivery"]["attempt"], &deliveries[0]["payload"]["order_id"]), (&1.into(), &7.into()));

    let shown = dev.entry(&log_id).json();
    assert_eq!((&shown[0]["log_id"], &shown[0]["status"]), (&log_id.as_str().into(), &"pending".into()));
    assert_eq!(dev.entry("r-1").json(), shown, "by request id");
    assert_eq!(dev.entry("r-2").code, Some(5));

    dev.wal.kill();
    let dev = Dev::start(folder.path());

    assert_eq!(dev.entry(&log_id).json()[0]["log_id"], log_id.as_str());
    assert_eq!(dev.write("r-1")[0]["log_id"], log_id.as_str(), "the same request again");
    let second = dev.write("r-2")[0]["log_id"].as_str().unwrap().to_owned();
    let deliveries = dev.tail("2");
    let names: Vec<_> = deliveries.iter().map(|item| item["delivery"]["log_id"].as_str().unwrap()).collect();
    assert!(names.contains(&&*log_id) && names.contains(&&*second), "{names:?}");

    let stopping = Instant::now();
    let (status, output) = dev.wal.interrupt();
    assert_eq!(status.code(), Some(0), "{output}");
    assert!(stopping.elapsed() < Duration::from_secs(10), "took {:?}", stopping.elapsed());
}

#[test]
fn a_file_of_requests_is_answered_line_by_line() {
    let folder = folder();
    let dev = Dev::start(folder.path());
    let good = r#"{"namespace": "orders", "target": "order_events", "payload": {"n": 1}, "request_id": "f-1"}"#;
    let typo = r#"{"namespace": "orders", "target": "order_events", "payload": {}, "lifecycle": {"retry_cout": 3}}"#;

    let written = wal_with(
        &["write", "--file", "-", "--bootstrap", &dev.bootstrap, "-o", "json"],
        &format!("{good}\n\n{typo}\n"),
    );

    assert_eq!(written.code, Some(3), "{written:?}");
    let mut answers = written.json();
    answers.sort_by_key(|answer| answer["line"].as_u64());
    assert_eq!((&answers[0]["success"], &answers[0]["request_id"]), (&true.into(), &"f-1".into()));
    assert_eq!((&answers[1]["line"], &answers[1]["error_code"]), (&3.into(), &"WAL_UNKNOWN_FIELD".into()));

    let hasty = ["write", "orders", "--target", "order_events", "--timeout", "1ms", "--bootstrap", &dev.bootstrap];
    let unknown = wal(&[&hasty[..], &["--tenant", "acme", "-o", "json"]].concat());
    assert_eq!((unknown.code, &unknown.json()[0]["success"]), (Some(4), &Value::Null), "{unknown:?}");

    let listed = wal(&["entry", "list", "orders", "--from", "-1h", "--gateway", &dev.gateway, "-o", "json"]);
    assert_eq!((listed.code, &listed.json()[0]["request_id"]), (Some(0), &"f-1".into()), "{listed:?}");
    let listed = wal(&["entry", "list", "orders", "--gateway", &dev.gateway]);
    assert!(listed.stdout.contains("order_events") && listed.stdout.contains("pending"), "{listed:?}");

    let checked = wal(&["topics", "check", "--bootstrap", &dev.bootstrap]);
    assert!(checked.stdout.contains("wal.ingress"), "{checked:?}");
}

#[test]
fn a_person_can_answer_where_no_consumer_does() {
    let folder = folder();
    let dev = Dev::start(folder.path());
    let log_id = dev.write("r-1")[0]["log_id"].as_str().unwrap().to_owned();
    let failure = ["--error-code", "TIMEOUT", "--error", "no answer"];

    let failed = dev.act(&[&["fail", &log_id][..], &failure].concat());
    assert_eq!((failed.code, &failed.json()[0]["attempt"]), (Some(0), &1.into()), "{failed:?}");
    let entry = dev.until(&log_id, |entry| entry["status"] == "retrying");
    assert_eq!((&entry["error"], &entry["attempts"][0]["error_code"]), (&"no answer".into(), &"TIMEOUT".into()));
    let again = dev.act(&[&["fail", &log_id][..], &failure].concat());
    assert_eq!(again.code, Some(6), "the next one is due in a minute: {again:?}");
    assert!(again.stderr.contains("WAL_ATTEMPT_ANSWERED"), "{again:?}");

    assert_eq!(dev.act(&["cancel", &log_id]).code, Some(0));
    let entry = dev.until(&log_id, |entry| entry["status"] == "failed");
    assert_eq!(entry["reason"], "cancelled");
    let late = dev.act(&["complete", &log_id]);
    assert!(late.code == Some(6) && late.stderr.contains("WAL_ENTRY_FINISHED"), "{late:?}");
    let missing = log_id.replace("wal_orders_", "wal_other_");
    assert_eq!(dev.act(&["complete", &missing]).code, Some(5));
    let misplaced = dev.act(&["complete", &log_id, "--result", "no json"]);
    assert_eq!(misplaced.code, Some(2), "{misplaced:?}");

    let log_id = dev.write("r-2")[0]["log_id"].as_str().unwrap().to_owned();
    assert_eq!(dev.act(&["retry", &log_id, "--attempt", "1"]).code, Some(0));
    let attempts = |item: &Value| (item["delivery"]["log_id"] == *log_id).then(|| item["delivery"]["attempt"].clone());
    // An entry without a key: its attempts may lie in two partitions, which are read in any order.
    let mut delivered: Vec<_> =
        dev.tail("3").iter().filter_map(attempts).filter_map(|number| number.as_u64()).collect();
    delivered.sort_unstable();
    assert_eq!(delivered, [1, 2]);
    dev.until(&log_id, |entry| entry["status"] == "retrying");
    let completed = dev.act(&["complete", &log_id, "--attempt", "2", "--result", r#"{"paid": true}"#]);
    assert_eq!(completed.code, Some(0), "{completed:?}");
    let entry = dev.until(&log_id, |entry| entry["status"] == "completed");
    assert_eq!((&entry["result"]["paid"], &entry["retry_count"]), (&true.into(), &1.into()));

    let drawn = wal(&["entry", "show", &log_id, "--gateway", &dev.gateway]);
    for line in ["○  written", "✗  attempt 1 failed", "●  attempt 2 delivered", "✔  attempt 2 completed"] {
        assert!(drawn.stdout.contains(line), "{line} is not in\n{}", drawn.stdout);
    }
}

#[test]
fn what_nobody_answers_is_found_and_delivered_again() {
    let folder = folder();
    let dev = Dev::start(folder.path());
    let log_id = dev.write("r-1")[0]["log_id"].as_str().unwrap().to_owned();

    assert_eq!(dev.act(&["stuck"]).json(), Vec::<Value>::new(), "not for ten minutes yet");
    let stuck = dev.act(&["stuck", "--older-than", "1ms", "--namespace", "orders"]);
    assert_eq!(stuck.json()[0]["log_id"], *log_id, "{stuck:?}");

    let rescue = ["rescue", "orders", "--from", "-1h"];
    let recent = dev.act(&rescue);
    assert_eq!(recent.json()[0]["outcome"], "left", "{recent:?}");
    let dry = dev.act(&[&rescue[..], &["--force"]].concat());
    assert_eq!((dry.code, &dry.json()[0]["outcome"]), (Some(0), &"would_be_delivered".into()), "{dry:?}");
    assert!(dry.stderr.contains("--yes delivers them"), "{dry:?}");
    let done = dev.act(&[&rescue[..], &["--force", "--yes"]].concat());
    assert_eq!((done.code, &done.json()[0]["outcome"]), (Some(0), &"delivered".into()), "{done:?}");

    let deliveries = dev.tail("2");
    let names: Vec<_> =
        deliveries.iter().map(|item| (&item["delivery"]["log_id"], &item["delivery"]["attempt"])).collect();
    assert_eq!(names, [(&log_id.as_str().into(), &1.into()); 2], "the same attempt, twice");
}

#[test]
fn a_tail_may_come_before_its_target() {
    let folder = folder();
    let dev = Dev::start(folder.path());
    let mut tail = Wal::start(&["tail", "order_events", "--max", "1", "--bootstrap", &dev.bootstrap, "-o", "json"]);
    tail.wait_for("does not exist yet");

    let log_id = dev.write("r-1")[0]["log_id"].as_str().unwrap().to_owned();

    assert_eq!(tail.wait_for_json(r#""delivery""#)["delivery"]["log_id"], log_id.as_str());
}

#[test]
fn a_port_that_is_taken_is_named_with_a_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let folder = folder();
    let data = folder.path().to_str().unwrap();

    let broker = wal(&["dev", "--port", &port, "--gateway-port", "0", "--data", data]);
    assert_eq!(broker.code, Some(1));
    assert!(broker.stderr.contains("WAL_PORT_TAKEN") && broker.stderr.contains("wal dev --port"), "{}", broker.stderr);

    let gateway = wal(&["dev", "--port", "0", "--gateway-port", &port, "--data", data]);
    assert_eq!(gateway.code, Some(1));
    assert!(
        gateway.stderr.contains("WAL_PORT_TAKEN") && gateway.stderr.contains("--gateway-port"),
        "{}",
        gateway.stderr
    );

    let health = wal(&["dev", "--port", "0", "--gateway-port", "0", "--health-port", &port, "--data", data]);
    assert_eq!(health.code, Some(1));
    assert!(health.stderr.contains("WAL_PORT_TAKEN") && health.stderr.contains("--health-port"), "{}", health.stderr);
}

#[test]
fn a_folder_in_use_is_refused() {
    let folder = folder();
    let _dev = Dev::start(folder.path());
    let second = wal(&["dev", "--port", "0", "--gateway-port", "0", "--data", folder.path().to_str().unwrap()]);
    assert_eq!(second.code, Some(1));
    assert!(second.stderr.contains("WAL_FOLDER_LOCKED") && second.stderr.contains("--data"), "{}", second.stderr);
}

#[test]
fn a_newer_folder_is_refused() {
    let folder = folder();
    fs::write(folder.path().join("format"), "99\n").unwrap();
    let dev = wal(&["dev", "--port", "0", "--gateway-port", "0", "--data", folder.path().to_str().unwrap()]);
    assert_eq!(dev.code, Some(1));
    assert!(dev.stderr.contains("WAL_FOLDER_NEWER") && dev.stderr.contains("99"), "{}", dev.stderr);
}

#[test]
fn another_store_than_the_offsets_name_is_refused() {
    let folder = folder();
    let mut dev = Dev::start(folder.path());
    dev.write("r-1");
    dev.wal.kill();
    fs::remove_dir_all(folder.path().join("store")).unwrap();

    let again = wal(&["dev", "--port", "0", "--gateway-port", "0", "--data", folder.path().to_str().unwrap()]);

    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("WAL_STORE_OTHER") && again.stderr.contains("belong to store"), "{}", again.stderr);
}

#[test]
fn nothing_listening_is_said_so() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let entry = wal(&["entry", "list", "orders", "--gateway", &free, "-o", "json"]);
    assert_eq!((entry.code, entry.stdout.as_str()), (Some(1), ""));
    let problem: Value = serde_json::from_str(&entry.stderr).unwrap();
    assert_eq!(problem["error_code"], "WAL_GATEWAY_UNREACHABLE");
    assert_eq!(wal(&["entry", "show", "no-log-id"]).code, Some(2));
}
