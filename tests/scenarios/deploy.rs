//! The files under `deploy/` against the product: every variable is a key and has a value that is taken, every command exists, and what a
//! file names is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use wal_open::Named;
use wal_runtime::config::{Health, Kafka, Log, Seal, Settings, TopicSettings};
use wal_tests::{Process, free_port, wait_until};
use yaml_rust2::{Yaml, YamlLoader};

use crate::support::{Log as TestLog, SOON};

/// What the services of the compose file may say, of all that the format knows.
const SERVICE_KEYS: [&str; 15] = [
    "build",
    "image",
    "restart",
    "read_only",
    "cap_drop",
    "security_opt",
    "stop_grace_period",
    "secrets",
    "depends_on",
    "command",
    "environment",
    "healthcheck",
    "ports",
    "volumes",
    "user",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn text(file: &str) -> String {
    fs::read_to_string(folder().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The settings of a service, as its variables make them. Secrets come from a file of the scenario's.
#[track_caller]
fn settings(variables: &BTreeMap<String, String>) -> Settings {
    let secret = tempfile::NamedTempFile::new().expect("a file can be made");
    fs::write(secret.path(), "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=").expect("it can be written");
    let path = secret.path().display().to_string();
    let given = variables.iter().map(|(name, value)| {
        let value = if name.ends_with("_FILE") { path.clone() } else { value.clone() };
        (name.clone(), value)
    });
    Settings::load_from(None, given, &[]).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn expect_usable(variables: &BTreeMap<String, String>) {
    let settings = settings(variables);
    Kafka::read(&settings).expect("its Kafka settings are taken");
    TopicSettings::read(&settings).expect("its topics are taken");
    Seal::read(&settings).expect("its seal is taken");
    Log::read(&settings).expect("its log is taken");
    Health::read(&settings).expect("its probes are taken");
    Named::read(&settings).expect("its store is taken");
    wal_gateway::Options::read(&settings).expect("its gateway is taken");
}

fn compose() -> Yaml {
    let mut files = YamlLoader::load_from_str(&text("compose.yaml")).expect("it is YAML");
    assert_eq!(files.len(), 1);
    files.remove(0)
}

/// A mapping with what `<<` merges into it.
fn merged(yaml: &Yaml) -> BTreeMap<String, Yaml> {
    let mut all = BTreeMap::new();
    let own = yaml.as_hash().expect("a mapping");
    for (key, value) in own {
        if key.as_str() == Some("<<") {
            for (key, value) in merged(value) {
                all.entry(key).or_insert(value);
            }
        }
    }
    for (key, value) in own.iter().filter(|(key, _)| key.as_str() != Some("<<")) {
        all.insert(key.as_str().expect("keys are texts").to_owned(), value.clone());
    }
    all
}

fn words(yaml: &Yaml) -> Vec<&str> {
    yaml.as_vec().expect("a list").iter().map(|word| word.as_str().expect("a text")).collect()
}

fn names(yaml: &Yaml) -> BTreeSet<String> {
    yaml.as_hash().into_iter().flatten().filter_map(|(name, _)| name.as_str().map(str::to_owned)).collect()
}

/// The arguments after the program's own name, as far as they are words of the command line.
#[track_caller]
fn expect_command(words: &[&str]) {
    let (program, verbs) = words.split_first().expect("a command has a program");
    let program = program.rsplit('/').next().expect("a path has a last part");
    if program != "wal" {
        assert!(text("Containerfile").contains(&format!("-p {program} ")), "{program} is in no image");
        return;
    }
    let help: Vec<&str> = verbs.iter().copied().filter(|verb| *verb != "--help").chain(["--help"]).collect();
    let process = Process::start("wal", &help, &[]);
    assert!(process.wait(SOON).success(), "{words:?}: {process:?}");
}

#[test]
fn the_compose_file_names_only_what_is_there() {
    let compose = compose();
    let (services, secrets, volumes) = (&compose["services"], names(&compose["secrets"]), names(&compose["volumes"]));
    let all = names(services);
    for name in &all {
        let service = merged(&services[name.as_str()]);
        for key in service.keys() {
            assert!(SERVICE_KEYS.contains(&key.as_str()), "{name} says {key}");
        }
        for secret in service.get("secrets").into_iter().flat_map(words) {
            assert!(secrets.contains(secret), "{name}: {secret}");
        }
        for volume in service.get("volumes").into_iter().flat_map(words) {
            assert!(volumes.contains(volume.split(':').next().expect("it has a first part")), "{name}: {volume}");
        }
        for other in service.get("depends_on").map(names).unwrap_or_default() {
            assert!(all.contains(&other), "{name} waits for {other}");
        }
        if service.get("image").and_then(Yaml::as_str) != Some("wal") {
            continue;
        }
        assert_eq!(service["read_only"].as_bool(), Some(true), "{name}");
        let variables = merged(&service["environment"]).into_iter();
        let variables = variables.map(|(key, value)| (key, value.as_str().expect("variables are texts").to_owned()));
        expect_usable(&variables.collect());
        expect_command(&words(&service["command"]));
    }
    for service in ["wal-writer", "wal-retry-scheduler", "wal-status", "wal-gateway"] {
        assert!(all.contains(service), "{service} is not there");
    }
}

#[test]
fn the_image_holds_every_binary_and_checks_itself_with_one_of_them() {
    let containerfile = text("Containerfile");
    for binary in ["wal", "wal-writer", "wal-retry-scheduler", "wal-status", "wal-gateway"] {
        assert!(containerfile.contains(&format!("strip -o /binaries/{binary} {binary}")), "{binary}");
    }
    for line in containerfile.lines() {
        let Some((_, command)) = line.split_once("CMD [") else { continue };
        let words: Vec<&str> = command.trim_end_matches(']').split(", ").map(|word| word.trim_matches('"')).collect();
        expect_command(&words);
    }
    let toolchain = fs::read_to_string(folder().join("../rust-toolchain.toml")).expect("it is there");
    let version = toolchain.split('"').nth(1).expect("it names a version").trim_end_matches(".0");
    assert!(containerfile.contains(&format!("rust:{version}-")), "the image is built with another Rust than {version}");
}

#[test]
fn the_unit_sets_only_what_is_a_key() {
    let unit = text("systemd/wal@.service");
    let variables = unit.lines().filter_map(|line| line.strip_prefix("Environment=")?.split_once('='));
    expect_usable(&variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect());
}

#[test]
fn healthy_says_whether_a_service_is_ready() {
    let kafka = wal_tests::Kafka::shared();
    let address = format!("127.0.0.1:{}", free_port());
    let log = TestLog::on(&kafka.bootstrap(), &[("health.listen", &address)]);
    let ask = || {
        let process = Process::start("wal", &["healthy", &address], &[]);
        let is_ready = process.wait(SOON).success();
        (is_ready, process.stdout())
    };
    assert!(!ask().0, "nobody is there");

    let writer = log.start_ready(&[]);
    wait_until("the writer is ready", SOON, || ask() == (true, "ready\n".to_owned()));
    writer.pause();
    assert!(!ask().0, "it does not answer");
    writer.resume();
}
