//! `wal dev --kafka`: the log in one process beside a cluster of one's own, as whoever tries it there meets it.

use serde_json::Value;
use tempfile::TempDir;
use wal_tests::clients::create_topic;
use wal_tests::{Kafka, Process, prefix, unique, wait_until};

use crate::support::{LATER, SOON, turns};

#[test]
fn dev_beside_a_cluster_makes_what_it_is_told_to_make_and_keeps_what_was_written() {
    let _turn = turns::take();
    let own = Own::new();
    let (target, missing) = (unique("dev"), unique("dev"));
    create_topic(&own.bootstrap, &target, 1, &[]);

    // Without being told it makes nothing.
    let refused = own.dev(&[]);
    assert_eq!(refused.wait(SOON).code(), Some(1), "{refused:?}");
    refused.wait_for_line("WAL_TOPICS_UNFIT", SOON);
    refused.wait_for_line("--create-topics", SOON);

    // The log's topics, and no target.
    let mut dev = own.dev(&["--create-topics"]);
    own.ready(&dev);
    let (code, kept) = own.write(&target, "r-1");
    assert_eq!((code, &kept["durable"]), (0, &Value::Bool(true)), "{kept}");
    let (code, answer) = own.write(&missing, "r-2");
    assert_ne!(code, 0, "{answer}");
    assert_eq!(answer["error_code"], "WAL_TARGET_UNKNOWN", "{answer}");

    // A kill, and targets too: what was written is there, and what was refused can come again.
    dev.kill();
    let dev = own.dev(&["--create-topics", "--create-targets"]);
    let gateway = own.ready(&dev);
    assert_eq!(own.write(&missing, "r-3").0, 0);
    let log_id = kept["log_id"].as_str().expect("a receipt names its entry");
    wait_until("the entry of before is told", LATER, || {
        let shown = own.wal(&["entry", "show", log_id, "--gateway", &gateway, "-o", "json"]);
        shown.wait(SOON).success() && shown.stdout().contains("r-1")
    });
    for (topic, request) in [(&target, "r-1"), (&missing, "r-3")] {
        let tail = own.wal(&["tail", topic, "--from", "beginning", "--max", "1", "--bootstrap", &own.bootstrap]);
        assert!(tail.wait(LATER).success(), "{tail:?}");
        assert!(tail.stdout().contains(request), "{tail:?}");
    }
    dev.interrupt();
    assert!(dev.wait(SOON).success(), "{dev:?}");
}

/// Topics of its own on the shared broker, and a folder.
struct Own {
    bootstrap: String,
    settings: Vec<(&'static str, String)>,
    folder: TempDir,
}

impl Own {
    fn new() -> Own {
        let settings = vec![
            ("WAL__KAFKA__TOPIC_PREFIX", prefix()),
            // A killed member's partitions are given away after this.
            ("WAL__KAFKA__SESSION_TIMEOUT", "2s".to_owned()),
            ("WAL__KAFKA__TRANSACTION_TIMEOUT", "4s".to_owned()),
            ("WAL__TOPICS__REPLICATION", "1".to_owned()),
            ("WAL__TOPICS__MIN_INSYNC_REPLICAS", "1".to_owned()),
            ("WAL__TOPICS__DELAY_PARTITIONS", "1".to_owned()),
            ("WAL__WRITER__UNKNOWN_TARGET_WAIT", "1s".to_owned()),
        ];
        let folder = tempfile::tempdir().expect("a folder can be made");
        Own { bootstrap: Kafka::shared().bootstrap(), settings, folder }
    }

    #[track_caller]
    fn wal(&self, args: &[&str]) -> Process {
        let settings: Vec<(&str, &str)> = self.settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Process::start("wal", args, &settings)
    }

    #[track_caller]
    fn dev(&self, more: &[&str]) -> Process {
        let folder = self.folder.path().to_string_lossy();
        let dev = ["dev", "--kafka", &self.bootstrap, "--gateway-port", "0", "--data", &folder, "-o", "json"];
        self.wal(&[&dev, more].concat())
    }

    /// Waits until it says so; where its gateway is.
    #[track_caller]
    fn ready(&self, dev: &Process) -> String {
        let line = dev.wait_for_line(r#""event":"ready""#, LATER);
        let ready: Value = serde_json::from_str(&line).expect("it is JSON");
        assert_eq!(ready["bootstrap"], *self.bootstrap, "{ready}");
        ready["gateway"].as_str().expect("it has a gateway").to_owned()
    }

    /// How `wal write` ended, and the receipt.
    #[track_caller]
    fn write(&self, target: &str, request: &str) -> (i32, Value) {
        let payload = format!(r#"{{"request":"{request}"}}"#);
        let args = ["write", "orders", "--target", target, "--payload", &payload, "--request-id", request];
        let process = self.wal(&[&args[..], &["--bootstrap", &self.bootstrap, "-o", "json"]].concat());
        let code = process.wait(LATER).code().expect("it ends by itself");
        let receipt = serde_json::from_str(&process.stdout()).unwrap_or_else(|error| panic!("{error}: {process:?}"));
        (code, receipt)
    }
}
