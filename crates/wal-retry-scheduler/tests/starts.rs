//! What the program says when it cannot start.

use std::process::Command;

const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

fn refusal(variables: &[(&str, &str)]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_wal-retry-scheduler"))
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
    let said = refusal(&[("WAL__RETRY_SCHEDULER__MEMORIES", "15m")]);
    assert!(
        said.contains("WAL__RETRY_SCHEDULER__MEMORIES`") && said.contains("WAL__RETRY_SCHEDULER__MEMORY"),
        "{said}"
    );
}

#[test]
fn a_memory_that_outlasts_its_topic_is_refused_and_both_keys_named() {
    let said = refusal(&[("WAL__RETRY_SCHEDULER__MEMORY", "1d"), ("WAL__TOPICS__FAILURES_RETENTION", "1d")]);
    assert!(said.contains("retry_scheduler.memory") && said.contains("topics.failures_retention"), "{said}");
    let said = refusal(&[("WAL__RETRY_SCHEDULER__MEMORY", "1d"), ("WAL__TOPICS__FAILURES_RETENTION", "25h")]);
    assert!(said.contains("could not reach Kafka at 127.0.0.1:1"), "an hour longer is enough: {said}");
}
