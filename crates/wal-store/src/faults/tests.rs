use std::sync::Arc;

use super::*;
use crate::embedded::Embedded;
use crate::samples::entry;

fn faulty() -> (Faulty, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Faulty::new(Arc::new(Embedded::open(folder.path()).unwrap())), folder)
}

#[tokio::test]
async fn a_failure_before_leaves_nothing_and_one_after_leaves_all() {
    let (store, _folder) = faulty();
    store.fail_before(Method::Insert);
    store.succeed(Method::Insert);
    store.fail_after(Method::Insert);
    assert!(store.insert(&[entry("one")]).await.is_err());
    assert_eq!(store.get(&[entry("one").key()]).await.unwrap(), [None]);
    assert_eq!(store.insert(&[entry("two")]).await.unwrap(), [Inserted::Stored]);
    assert!(store.insert(&[entry("three")]).await.is_err());
    assert_eq!(store.get(&[entry("three").key()]).await.unwrap(), [Some(entry("three"))]);
    assert_eq!(store.calls(Method::Insert), 3);
}

#[tokio::test]
async fn a_call_hangs_until_its_gate_opens() {
    let (store, _folder) = faulty();
    let gate = store.hang(Method::Insert);
    let caller = tokio::spawn({
        let store = store.clone();
        async move { store.insert(&[entry("one")]).await.unwrap() }
    });
    gate.has_come().await;
    assert_eq!(store.get(&[entry("one").key()]).await.unwrap(), [None]);
    assert!(!caller.is_finished());
    gate.open();
    assert_eq!(caller.await.unwrap(), [Inserted::Stored]);
}

#[tokio::test]
async fn a_refused_key_is_refused_and_the_others_are_not_touched() {
    let (store, _folder) = faulty();
    store.refuse(entry("two").key());
    let answers = store.insert(&["one", "two", "three"].map(entry)).await.unwrap();
    let [Inserted::Stored, Inserted::Refused(refusal), Inserted::Stored] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(refusal.code, Code::WriteError);
    assert_eq!(store.get(&[entry("two").key()]).await.unwrap(), [None]);
}
