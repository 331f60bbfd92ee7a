//! What the program says when it cannot start: the first thing a newcomer meets.

use std::process::{Command, Output};

const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

fn start(variables: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_wal-writer"))
        .env("WAL__STORE__FOLDER", folder.path())
        .env("WAL__HEALTH__LISTEN", "")
        .env("WAL__KAFKA__START_TIMEOUT", "1s")
        // A port that nothing listens on.
        .env("WAL__KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn refusal(variables: &[(&str, &str)]) -> String {
    let output = start(variables);
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn an_unknown_key_is_named() {
    let said = refusal(&[("WAL__WRITER__BATCH_RECORD", "5")]);
    assert!(said.contains("WAL__WRITER__BATCH_RECORD`") && said.contains("WAL__WRITER__BATCH_RECORDS"), "{said}");
}

#[test]
fn contradicting_shares_are_named() {
    let seal = [("WAL__SEAL__SIGNING_KEY", "k1"), ("WAL__SEAL__KEYS__K1", KEY)];
    let shares = [("WAL__WRITER__HIGH_SHARE", "80"), ("WAL__WRITER__NORMAL_SHARE", "20")];
    let said = refusal(&[seal, shares].concat());
    assert!(said.contains("writer.high_share") && said.contains("writer.normal_share"), "{said}");
}

#[test]
fn without_a_seal_key_it_says_how_to_make_one() {
    let said = refusal(&[]);
    assert!(said.contains("seal.keys") && said.contains("/dev/urandom"), "{said}");
}

#[test]
fn without_brokers_it_gives_up_in_bounded_time_and_says_where_it_looked() {
    let said = refusal(&[("WAL__SEAL__SIGNING_KEY", "k1"), ("WAL__SEAL__KEYS__K1", KEY)]);
    assert!(said.contains("could not reach Kafka at 127.0.0.1:1"), "{said}");
}
