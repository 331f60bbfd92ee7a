//! What the program says when it cannot start.

use std::process::Command;

const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

fn refusal(variables: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_wal-status"))
        .env("WAL__STORE__FOLDER", folder.path())
        .env("WAL__HEALTH__LISTEN", "")
        .env("WAL__KAFKA__START_TIMEOUT", "1s")
        // A port that nothing listens on.
        .env("WAL__KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
        .env("WAL__SEAL__SIGNING_KEY", "k1")
        .env("WAL__SEAL__KEYS__K1", KEY)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn an_unknown_key_is_named() {
    let said = refusal(&[("WAL__STATUS__RETENTIONS", "30d")]);
    assert!(said.contains("WAL__STATUS__RETENTIONS`") && said.contains("WAL__STATUS__RETENTION"), "{said}");
}

#[test]
fn entries_that_would_go_before_their_requests_are_refused_and_both_keys_named() {
    let said = refusal(&[("WAL__STATUS__RETENTION", "8d"), ("WAL__TOPICS__INGRESS_RETENTION", "7d 1s")]);
    assert!(said.contains("status.retention") && said.contains("topics.ingress_retention"), "{said}");
    let said = refusal(&[("WAL__STATUS__RETENTION", "8d"), ("WAL__TOPICS__INGRESS_RETENTION", "7d")]);
    assert!(said.contains("could not reach Kafka at 127.0.0.1:1"), "a day longer is enough: {said}");
}

#[test]
fn settings_with_which_nothing_would_move_are_refused() {
    for (key, name) in [
        ("WAL__STATUS__BATCH_RECORDS", "status.batch_records"),
        ("WAL__STATUS__BATCH_BYTES", "status.batch_bytes"),
        ("WAL__STATUS__SWEEP_INTERVAL", "status.sweep_interval"),
    ] {
        let zero = if key.ends_with("INTERVAL") { "0s" } else { "0" };
        let said = refusal(&[(key, zero)]);
        assert!(said.contains(name), "{said}");
    }
}
