//! What an operator asks of `wal` where nothing runs: the configuration, the codes of errors, and the references made from both.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// What a `wal` that has ended left behind.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    /// The lines of standard output as JSON.
    #[track_caller]
    fn json(&self) -> Vec<serde_json::Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{self:?}"))).collect()
    }
}

/// Runs `wal` to its end.
fn wal(args: &[&str]) -> Ended {
    wal_of(args, &[])
}

/// Runs `wal` to its end, with these of our variables and no other.
fn wal_of(args: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wal"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WAL_")) {
        command.env_remove(name);
    }
    let output = command.args(args).envs(variables.iter().copied()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

const SEAL: [(&str, &str); 2] =
    [("WAL__SEAL__SIGNING_KEY", "k1"), ("WAL__SEAL__KEYS__K1", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")];

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("wal-cli-test-").tempdir().unwrap()
}

/// A file of settings in a folder.
fn file(folder: &TempDir, text: &str) -> String {
    let path = folder.path().join("wal.toml");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn what_holds_is_printed_with_its_place_and_without_its_secrets() {
    let folder = folder();
    let config = file(&folder, "[topics]\npartitions = 4\n");
    let variables = [&SEAL[..], &[("WAL__LOG__LEVEL", "warn"), ("WAL__STORE__ARANGODB__PASSWORD", "hunter2")]].concat();
    let printed = wal_of(&["config", "print", "--config", &config, "--bootstrap", "k:1", "-o", "json"], &variables);

    assert_eq!(printed.code, Some(0), "{printed:?}");
    let lines = printed.json();
    let held = |key: &str| {
        let line = lines.iter().find(|line| line["key"] == key).unwrap_or_else(|| panic!("{key}: {printed:?}"));
        [line["value"].to_string(), line["from"].to_string(), line["origin"].to_string()]
            .map(|text| text.replace('"', ""))
    };
    assert_eq!(held("topics.partitions"), ["4", "file", &config]);
    assert_eq!(held("log.level"), ["warn", "variable", "WAL__LOG__LEVEL"]);
    assert_eq!(held("kafka.bootstrap_servers"), ["k:1", "command line", "the command line"]);
    assert_eq!(held("topics.replication"), ["3", "default", "the defaults"]);
    assert_eq!(held("store.arangodb.password")[0], "***");
    assert_eq!(held("seal.keys.k1")[0], "***");
    let table = wal_of(&["config", "print", "--changed"], &variables);
    assert_eq!((table.code, table.stdout.lines().count()), (Some(0), 5), "a header and what is set: {table:?}");
    assert!(!format!("{printed:?}{table:?}").contains("hunter2") && !table.stdout.contains("AAEC"), "{table:?}");
}

#[test]
fn a_configuration_is_checked_as_services_read_it() {
    let folder = folder();
    let good = file(&folder, "[policy]\nretry_count = 5\n");
    let well = wal_of(&["config", "check", "--file", &good], &SEAL);
    assert_eq!((well.code, &*well.stdout), (Some(0), ""), "{well:?}");

    let unknown = file(&folder, "[policy]\nretry_cout = 5\n[topics]\npartitions = \"many\"\n");
    let checked = wal_of(&["config", "check", "--file", &unknown, "-o", "json"], &SEAL);
    assert_eq!(checked.code, Some(2), "{checked:?}");
    let told: Vec<_> = checked.json().iter().map(|line| (line["problem"].clone(), line["keys"][0].clone())).collect();
    let expected = [("unknown", "policy.retry_cout"), ("wrong_type", "topics.partitions")];
    assert_eq!(told, expected.map(|(problem, key)| (problem.into(), key.into())));
    assert!(checked.stdout.contains("did you mean `policy.retry_count`?"), "{checked:?}");

    let contradicting = file(&folder, "[policy]\nttl = 60\n[writer]\nhigh_share = 90\n");
    let checked = wal_of(&["config", "check", "--config", &contradicting], &SEAL);
    assert_eq!((checked.code, checked.stdout.lines().count()), (Some(2), 2), "{checked:?}");
    for key in ["policy.ttl", "policy.delay", "writer.high_share", "writer.normal_share"] {
        assert!(checked.stdout.contains(key), "{checked:?}");
    }
    assert_eq!(wal(&["config", "check", "--file", "/not/there.toml"]).code, Some(2));
}

#[test]
fn keys_and_codes_are_explained_and_mistyped_ones_lead_to_the_right_one() {
    let key = wal(&["config", "explain", "WAL__RETRY_SCHEDULER__RELEASE_RATE"]);
    assert_eq!(key.code, Some(0), "{key:?}");
    assert!(key.stdout.contains("retry_scheduler.release_rate") && key.stdout.contains("0 is no ceiling"), "{key:?}");
    let section = wal(&["config", "explain", "health", "-o", "json"]).json();
    assert_eq!(section[0]["key"], "health.listen");
    let mistyped = wal(&["config", "explain", "policy.retrycount"]);
    assert_eq!(mistyped.code, Some(5), "{mistyped:?}");
    assert!(mistyped.stderr.contains("policy.retry_count"), "{mistyped:?}");

    let code = &wal(&["explain", "target-unknown", "-o", "json"]).json()[0];
    assert_eq!((&code["code"], &code["retryable"]), (&"WAL_TARGET_UNKNOWN".into(), &true.into()));
    let mistyped = wal(&["explain", "WAL_TARGET_UNKNOWNN"]);
    assert_eq!(mistyped.code, Some(5), "{mistyped:?}");
    assert!(mistyped.stderr.contains("did you mean WAL_TARGET_UNKNOWN"), "{mistyped:?}");
    assert!(wal(&["explain"]).stdout.lines().count() > 60);
}

#[test]
fn shells_and_man_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = wal(&["completions", shell]);
        assert_eq!(script.code, Some(0), "{script:?}");
        assert!(["rescue", "topics", "idempotency-key"].iter().all(|word| script.stdout.contains(word)), "{shell}");
    }
    let folder = folder();
    let pages = wal(&["man", "--dir", &folder.path().display().to_string()]);
    assert_eq!(pages.code, Some(0), "{pages:?}");
    let page = fs::read_to_string(folder.path().join("wal-topics-apply.1")).unwrap();
    assert!(page.contains(".TH wal-topics-apply 1") && page.contains("\\-\\-adopt"), "{page}");
}

/// Every page as the code makes it now must be the one that is committed, and no other may lie there.
#[test]
fn the_committed_references_are_what_the_code_makes() {
    let made = folder();
    let written = wal(&["reference", "--dir", &made.path().display().to_string()]);
    assert_eq!(written.code, Some(0), "{written:?}");
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("reference");
    let names = |folder: &Path| {
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let again = "make them again: cargo run -- reference --dir crates/wal-cli/reference";
    assert_eq!(names(&committed), names(made.path()), "{again}");
    for name in names(made.path()) {
        let read = |folder: &Path| fs::read_to_string(folder.join(&name)).unwrap();
        let (committed, made) = (read(&committed), read(made.path()));
        let differs = committed.lines().zip(made.lines()).find(|(committed, made)| committed != made);
        assert!(
            committed == made,
            "{} differs from what the code makes, first at {differs:?}; {again}",
            name.display()
        );
    }
}
