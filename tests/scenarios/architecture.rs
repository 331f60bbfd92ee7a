//! The dependency rules: arrows point down only, and each client library is known to few.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What each package may depend on within the workspace. A new arrow needs a conversation, then a line here.
const ARROWS: [(&str, &[&str]); 13] = [
    ("wal-arango-fake", &[]),
    ("wal-model", &[]),
    ("wal-store", &["wal-model"]),
    ("wal-kafka", &["wal-model"]),
    ("wal-runtime", &["wal-kafka", "wal-model"]),
    ("wal-open", &["wal-model", "wal-runtime", "wal-store"]),
    ("wal-sdk", &["wal-kafka", "wal-model"]),
    ("wal-writer", &["wal-model", "wal-store", "wal-runtime", "wal-open"]),
    ("wal-retry-scheduler", &["wal-model", "wal-runtime"]),
    ("wal-status", &["wal-model", "wal-store", "wal-runtime", "wal-open"]),
    ("wal-gateway", &["wal-model", "wal-store", "wal-runtime", "wal-open"]),
    (
        "wal-cli",
        &[
            "wal-model",
            "wal-store",
            "wal-runtime",
            "wal-open",
            "wal-sdk",
            "wal-writer",
            "wal-retry-scheduler",
            "wal-status",
            "wal-gateway",
        ],
    ),
    (
        "wal-tests",
        &[
            "wal-model",
            "wal-store",
            "wal-runtime",
            "wal-sdk",
            "wal-writer",
            "wal-retry-scheduler",
            "wal-status",
            "wal-gateway",
        ],
    ),
];

/// Who alone may use a library, and why it is worth a rule.
const KEPT: [(&str, &[&str]); 8] = [
    ("rdkafka", &["wal-kafka", "wal-runtime", "wal-sdk", "wal-tests"]),
    ("rdkafka-sys", &["wal-kafka"]),
    ("redb", &["wal-store"]),
    ("arangors", &["wal-store"]),
    ("tansu-broker", &["wal-cli"]),
    ("tansu-storage", &["wal-cli"]),
    ("clap", &["wal-cli"]),
    // How a client's process allocates is the client's to say.
    ("tikv-jemallocator", &["wal-runtime"]),
];

/// What would make the words of the log do I/O.
const NOT_IN_MODEL: [&str; 6] = ["tokio", "rdkafka", "redb", "axum", "reqwest", "tracing"];

fn packages() -> Vec<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    metadata["packages"].as_array().expect("a list of packages").clone()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let packages = packages();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("a list of dependencies");
            // What only tests use is no arrow of the product.
            let normal = dependencies.iter().filter(|dependency| dependency["kind"].is_null());
            (text(&package["name"]), normal.map(|dependency| text(&dependency["name"])).collect())
        })
        .collect()
}

#[test]
fn arrows_point_down_only() {
    let packages = dependencies();
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    assert_eq!(packages.keys().map(String::as_str).collect::<Vec<_>>(), allowed.keys().copied().collect::<Vec<_>>());
    for (package, dependencies) in &packages {
        let own = dependencies.iter().filter(|name| packages.contains_key(*name));
        for dependency in own {
            assert!(allowed[&**package].contains(&&**dependency), "{package} must not depend on {dependency}");
        }
    }
}

#[test]
fn each_library_is_known_to_few() {
    let packages = dependencies();
    for (library, keepers) in KEPT {
        let users = packages.iter().filter(|(_, dependencies)| dependencies.contains(library));
        for (user, _) in users {
            assert!(keepers.contains(&user.as_str()), "{user} must not use {library}");
        }
    }
    for library in NOT_IN_MODEL {
        assert!(!packages["wal-model"].contains(library), "wal-model does no I/O, so no {library}");
    }
}

/// `cargo test --workspace` builds a package's program only if the package has an integration test; the scenarios run it.
#[test]
fn the_test_command_builds_every_program() {
    for package in packages() {
        let targets = package["targets"].as_array().expect("a list of targets");
        let has = |kind: &str| targets.iter().any(|target| target["kind"][0] == kind);
        assert!(!has("bin") || has("test"), "{} has a program and no test of it in `tests/`", package["name"]);
    }
}

/// Everything in code quotes in the second column of README's table of promises.
fn promised_tests(readme: &str) -> Vec<&str> {
    let rows = readme.lines().skip_while(|line| !line.starts_with("| promise | test |")).skip(2);
    let table = rows.take_while(|line| line.starts_with('|'));
    table.filter_map(|row| row.rsplit('|').nth(1)).flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn every_promise_of_the_readme_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace");
    let readme = std::fs::read_to_string(root.join("README.md")).expect("README is there");
    let promised = promised_tests(&readme);
    assert!(promised.len() > 10, "the table was not found");
    let sources = sources(&[root.join("crates"), root.join("tests")]);
    for test in promised {
        let definition = format!("fn {test}(");
        assert!(sources.iter().any(|source| source.contains(&definition)), "no test is called {test}");
    }
}

fn sources(folders: &[PathBuf]) -> Vec<String> {
    let mut found = Vec::new();
    for folder in folders {
        for entry in std::fs::read_dir(folder).expect("the folder is there").flatten() {
            let path = entry.path();
            if path.is_dir() {
                found.extend(sources(&[path]));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(std::fs::read_to_string(&path).expect("a source file is text"));
            }
        }
    }
    found
}
