//! What the program says when it cannot start.

use std::process::Command;

const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// Starts it with a usable configuration under these variables, and gives what it says when it has failed.
fn refusal(variables: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_wal-gateway"))
        .env("WAL__STORE__FOLDER", folder.path())
        .env("WAL__HEALTH__LISTEN", "")
        .env("WAL__KAFKA__START_TIMEOUT", "1s")
        .env("WAL__SEAL__SIGNING_KEY", "k1")
        .env("WAL__SEAL__KEYS__K1", KEY)
        .env("WAL__GATEWAY__LISTEN", "127.0.0.1:0")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn an_address_that_others_can_reach_is_refused() {
    let said = refusal(&[("WAL__GATEWAY__LISTEN", "0.0.0.0:0")]);
    assert!(said.contains("nothing says who is asking") && said.contains("gateway.allow_remote"), "{said}");
}

#[test]
fn a_database_that_does_not_answer_is_waited_for_and_then_named() {
    let database = [
        ("WAL__STORE__BACKEND", "arangodb"),
        // A port that nothing listens on.
        ("WAL__STORE__ARANGODB__ENDPOINTS", "http://127.0.0.1:1"),
        ("WAL__STORE__ARANGODB__USER", "u"),
        ("WAL__STORE__ARANGODB__PASSWORD", "hunter2"),
    ];
    let said = refusal(&database);
    assert!(said.contains("the database does not answer yet"), "{said}");
    assert!(said.contains("no answer from the database at http://127.0.0.1:1 within 1s"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn a_database_that_is_described_but_not_chosen_is_told() {
    let said = refusal(&[("WAL__STORE__ARANGODB__DATABASE", "d")]);
    assert!(said.contains("store.backend") && said.contains("WAL__STORE__ARANGODB__DATABASE"), "{said}");
}
