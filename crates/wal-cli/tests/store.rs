//! `wal` and a database, which is the fake: what it must have, what it can do, and entries that are looked up and answered in it.

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use serde_json::{Value, json};
use support::{Ended, Wal, wal, wal_with};
use tempfile::TempDir;
use wal_arango_fake::Server;

const PASSWORD: &str = "hunter2";

/// A database, and a file of settings that names it.
struct Database {
    server: Server,
    folder: TempDir,
}

impl Database {
    fn start() -> Database {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let server = Server::builder().user("wal", PASSWORD).require_auth();
        let server = runtime.block_on(server.start()).unwrap();
        Database { server, folder: tempfile::tempdir().unwrap() }
    }

    /// Runs a command to its end, with settings that go after those that name the database.
    fn run(&self, more: &str, args: &[&str]) -> Ended {
        let ended = wal(&[&["--config", &self.config(more)], args].concat());
        assert!(!format!("{ended:?}").contains(PASSWORD), "{ended:?}");
        ended
    }

    fn config(&self, more: &str) -> String {
        let text = format!(
            "[store]\nbackend = \"arangodb\"\n[store.arangodb]\nendpoints = [\"{}\"]\nuser = \"wal\"\n\
             password = \"{PASSWORD}\"\n{more}\n",
            self.server.url()
        );
        let file = self.folder.path().join("wal.toml");
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    }

    /// What somebody else does in the database.
    fn post(&self, path: &str, body: &str) {
        let mut stream = TcpStream::connect(self.server.address()).unwrap();
        let (length, basic) = (body.len(), "d2FsOmh1bnRlcjI=");
        let head = format!("Host: x\r\nAuthorization: Basic {basic}\r\nContent-Length: {length}\r\nConnection: close");
        write!(stream, "POST {path} HTTP/1.1\r\n{head}\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    }

    fn entries(&self, prefix: &str) -> usize {
        self.server.documents("wal", &format!("{prefix}entries")).len()
    }

    fn expect_no_bench_left(&self) {
        let removed = ["entries", "store"]
            .map(|name| self.server.count("DELETE", &format!("/_db/wal/_api/collection/wal_bench_{name}")));
        assert!(removed.iter().all(|count| *count >= 1), "{removed:?}");
        assert_eq!(self.entries("wal_bench_"), 0);
    }
}

const PLAN: [&str; 4] = ["store", "plan", "-o", "json"];
const APPLY: [&str; 4] = ["store", "apply", "-o", "json"];
const CHECK: [&str; 4] = ["store", "check", "-o", "json"];

#[test]
fn a_database_is_planned_made_and_checked() {
    let database = Database::start();

    let plan = database.run("", &PLAN);
    assert_eq!(
        (plan.code, plan.json()),
        (Some(0), vec![json!({"thing": "database", "name": "wal", "step": "create"})])
    );
    let check = database.run("", &CHECK);
    assert_eq!(check.code, Some(1), "{check:?}");
    assert!(check.stderr.contains("WAL_STORE_UNFIT") && check.stderr.contains("wal store apply"), "{check:?}");
    let is_made = |request: &wal_arango_fake::Logged| request.method != "GET";
    assert!(!database.server.requests().iter().any(is_made), "nothing was changed: {:?}", database.server.requests());

    let applied = database.run("", &["store", "apply"]);
    assert_eq!(applied.code, Some(0), "{applied:?}");
    for thing in ["wal ", "wal_entries ", "wal_store ", "by_status_time ", "ttl_finished "] {
        let row = applied.stdout.lines().find(|line| line.contains(&format!(" {thing}")));
        assert!(row.is_some_and(|row| row.ends_with("created")), "{thing}:\n{}", applied.stdout);
    }
    for again in [APPLY, PLAN, CHECK] {
        let again = database.run("", &again);
        assert_eq!((again.code, again.stdout.as_str()), (Some(0), ""), "{again:?}");
    }
}

#[test]
fn what_differs_is_told_and_made_as_it_must_be() {
    let database = Database::start();
    assert_eq!(database.run("", &APPLY).code, Some(0));
    let longer = "[status]\nretention = \"60d\"";

    let plan = database.run(longer, &PLAN).json();
    let step = |field: &str| plan[0][field].as_str().unwrap_or_default().to_owned();
    assert_eq!((plan.len(), step("name"), step("step")), (1, "ttl_finished".into(), "recreate".into()), "{plan:?}");
    assert!(plan[0]["differs"][0].as_str().unwrap().contains("expireAfter"), "{plan:?}");
    let check = database.run(longer, &CHECK);
    assert_eq!((check.code, check.json()), (Some(1), plan.clone()));

    assert_eq!(database.run(longer, &APPLY).json(), plan);
    assert_eq!(database.run(longer, &CHECK).code, Some(0));
}

#[test]
fn what_cannot_be_changed_is_told_and_the_rest_is_done() {
    let database = Database::start();
    database.post("/_api/database", r#"{"name":"wal"}"#);
    // An edge collection.
    database.post("/_db/wal/_api/collection", r#"{"name":"wal_store","type":3}"#);

    let applied = database.run("", &APPLY);

    assert_eq!(applied.code, Some(3), "{applied:?}");
    let left = applied.json();
    let text = |field: &str| left[0][field].as_str().unwrap_or_default().to_owned();
    assert_eq!((left.len(), text("name"), text("step")), (1, "wal_store".into(), "impossible".into()), "{left:?}");
    let check = database.run("", &CHECK);
    assert_eq!((check.code, check.json()), (Some(1), left));
}

#[test]
fn what_cannot_be_looked_after_is_told_with_what_to_try() {
    let database = Database::start();
    let refused = |more: &str, code: i32, words: &[&str]| {
        let ended = database.run(more, &["store", "plan"]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{ended:?}");
        assert!(words.iter().all(|word| ended.stderr.contains(word)), "{words:?}: {}", ended.stderr);
    };
    refused("prefix = \"a b\"", 2, &["WAL_CONFIG_INVALID", "`store.arangodb`", "prefix `a b`"]);
    refused("write_concern = 9", 2, &["store.arangodb.write_concern", "store.arangodb.replication_factor"]);
    refused("databse = \"d\"", 2, &["`store.arangodb.databse`", "did you mean `store.arangodb.database`?"]);
    database.server.stop();
    refused("", 1, &["WAL_STORE_UNAVAILABLE", "store.arangodb.endpoints"]);
    let embedded = wal(&["store", "plan"]);
    assert_eq!(embedded.code, Some(2), "{embedded:?}");
    assert!(
        embedded.stderr.contains("WAL_STORE_EMBEDDED") && embedded.stderr.contains("store.backend"),
        "{embedded:?}"
    );
}

#[test]
fn a_password_that_is_wrong_is_refused_and_not_told() {
    let database = Database::start();
    let file = Path::new(&database.config("")).to_owned();
    let text = std::fs::read_to_string(&file).unwrap().replace(PASSWORD, "hunter3");
    std::fs::write(&file, text).unwrap();
    let refused = wal(&["--config", &file.display().to_string(), "store", "check"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("401") && !refused.stderr.contains("hunter"), "{refused:?}");
}

const BENCH: [&str; 10] = ["bench", "store", "--batch", "50", "--concurrency", "1,3", "--time", "200ms", "-o", "json"];

#[test]
fn a_database_is_measured_in_collections_that_are_gone_afterwards() {
    let database = Database::start();
    let without = database.run("", &BENCH);
    assert_eq!(without.code, Some(1), "{without:?}");
    assert!(without.stderr.contains("WAL_STORE_UNFIT"), "nothing is made where no database is: {without:?}");
    assert_eq!(database.run("", &APPLY).code, Some(0));

    let bench = database.run("", &BENCH);

    assert_eq!(bench.code, Some(0), "{bench:?}");
    let rows = bench.json();
    let told: Vec<(&str, u64)> =
        rows.iter().map(|row| (row["what"].as_str().unwrap(), row["concurrency"].as_u64().unwrap())).collect();
    let expected = ["round trip", "insert", "fold"].map(|what| [(what, 1), (what, 3)]).concat();
    assert_eq!(told, expected);
    for row in &rows {
        let number = |name: &str| row[name].as_f64().unwrap_or_else(|| panic!("{name}: {row}"));
        assert!(number("documents_per_second") > 0.0 && number("p50_ms") <= number("p99_ms"), "{row}");
        assert_eq!(number("documents"), number("batches") * number("documents_per_batch"), "{row}");
    }
    database.expect_no_bench_left();
    assert_eq!(database.run("", &CHECK).code, Some(0), "the store itself is as it was");
    assert_eq!(database.server.count("DELETE", "/_api/collection/wal_entries"), 0);
}

#[test]
fn a_benchmark_that_is_interrupted_cleans_up_and_what_one_that_was_killed_left_is_nobody_elses_to_remove() {
    let database = Database::start();
    assert_eq!(database.run("", &APPLY).code, Some(0));
    let config = database.config("");
    let wait_for_entries = || {
        let deadline = std::time::Instant::now() + support::SOON;
        while database.entries("wal_bench_") == 0 {
            assert!(std::time::Instant::now() < deadline, "nothing was inserted");
            std::thread::yield_now();
        }
    };
    // Of three kinds of measurement the first writes nothing.
    let inserting = ["--config", &config, "bench", "store", "--time", "300ms", "--concurrency", "1,1,1,1,1,1,1,1,1"];

    let interrupted = Wal::start(&inserting);
    wait_for_entries();
    let (status, said) = interrupted.interrupt();
    assert_eq!(status.code(), Some(130), "{said}");
    database.expect_no_bench_left();

    let mut killed = Wal::start(&inserting);
    wait_for_entries();
    killed.kill();
    let left = database.entries("wal_bench_");
    let refused = database.run("", &BENCH);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("WAL_BENCH_OCCUPIED") && refused.stderr.contains("wal_bench_entries"),
        "{refused:?}"
    );
    assert_eq!(database.entries("wal_bench_"), left, "nothing of it was touched");

    let own = wal(&["--config", &database.config("prefix = \"wal_bench_\""), "bench", "store"]);
    assert_eq!(own.code, Some(2), "a store must not be where benchmarks clean up: {own:?}");
}

#[test]
fn a_folder_is_measured_beside_the_store_and_not_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("wal.toml");
    let store = folder.path().join("store");
    std::fs::write(&config, format!("[store]\nfolder = \"{}\"\n", store.display())).unwrap();
    let bench = wal(&[&["--config", &config.display().to_string()], &BENCH[..]].concat());
    assert_eq!(bench.code, Some(0), "{bench:?}");
    assert_eq!(bench.json().len(), 6);
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left, ["wal.toml"]);
}

/// The whole log in one process, with its entries in the database.
#[cfg(feature = "embedded-broker")]
#[test]
fn entries_in_a_database_are_written_looked_up_and_answered_as_those_in_a_folder() {
    let database = Database::start();
    let data = tempfile::tempdir().unwrap();
    let data = data.path().to_str().unwrap();
    let config = database.config("");
    let dev = ["--config", &config, "dev", "--port", "0", "--gateway-port", "0", "--data", data, "-o", "json"];
    let refused = wal(&dev);
    assert!(refused.stderr.contains("WAL_STORE_UNFIT") && refused.stderr.contains("wal store apply"), "{refused:?}");
    assert_eq!(database.run("", &APPLY).code, Some(0));

    let mut running = Wal::start(&dev);
    let ready = running.wait_for_json(r#""event":"ready""#);
    let (bootstrap, gateway) = (ready["bootstrap"].as_str().unwrap(), ready["gateway"].as_str().unwrap());
    let to = ["write", "orders", "--target", "order_events", "--payload", "-", "--bootstrap", bootstrap, "-o", "json"];
    let written = wal_with(&to, r#"{"order_id": 7}"#);
    assert_eq!(written.code, Some(0), "{written:?}");
    let log_id = written.json()[0]["log_id"].as_str().unwrap().to_owned();
    assert_eq!(database.entries("wal_"), 1);
    let ask = |args: &[&str]| wal(&[args, &["--gateway", gateway, "-o", "json"]].concat());
    assert_eq!(ask(&["entry", "show", &log_id]).json()[0]["status"], "pending");
    assert_eq!(ask(&["entry", "list", "orders"]).json().len(), 1);
    let stuck = ask(&["stuck", "--older-than", "1ms"]);
    assert_eq!((stuck.code, stuck.json().len()), (Some(0), 1), "{stuck:?}");
    let completed = ask(&["complete", &log_id]);
    assert_eq!(completed.code, Some(0), "{completed:?}");

    let deadline = std::time::Instant::now() + support::SOON;
    let status = || ask(&["entry", "show", &log_id]).json().remove(0)["status"].clone();
    while status() != "completed" {
        assert!(std::time::Instant::now() < deadline, "it is not completed");
    }
    let documents: Vec<Value> = database.server.documents("wal", "wal_entries").into_values().collect();
    assert_eq!(documents[0]["status"], "completed");
    let (status, said) = running.interrupt();
    assert!(status.success() && !said.contains(PASSWORD), "{said}");
    assert!(!Path::new(data).join("store").exists(), "the embedded store was not touched");
}
