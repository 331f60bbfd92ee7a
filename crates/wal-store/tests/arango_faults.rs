//! The ArangoDB backend through everything that goes wrong on the way: on the fake, which does it when asked.

use std::sync::Arc;
use std::time::Duration;

use wal_arango_fake::{Action, Elements, Fault, Refusal, Server, Version};
use wal_model::status::Status;
use wal_model::{Entry, EntryKey, Timestamp};
use wal_store::arango::{ArangoStore, Login, OpenError, Options, schema};
use wal_store::samples::{ack, after, completed, entry, entry_in, retrying};
use wal_store::{Applied, EntryStore, Error, Inserted, Patient, Query, Range};

const DOCUMENTS: &str = "/_api/document/wal_entries";
const FENCE: &str = "overwriteMode=replace";
const EVER: Range = Range { from: Timestamp::EPOCH, to: Timestamp::MAX };

fn options(server: &Server) -> Options {
    Options {
        replication_factor: 1,
        write_concern: 1,
        // Nothing here waits for it to pass.
        request_timeout: Duration::from_secs(60),
        ..Options::new(vec![server.url()], "wal")
    }
}

async fn store_on(server: &Server) -> ArangoStore {
    let options = options(server);
    schema::apply(&options).await.unwrap();
    ArangoStore::open(&options).await.unwrap()
}

fn is_unavailable<T>(answer: Result<T, Error>) -> bool {
    matches!(answer, Err(Error::Unavailable(_) | Error::ReadOnly(_)))
}

#[tokio::test]
async fn an_entry_that_was_present_survives_a_loss_of_power() {
    let server = Server::start().await;
    let store = store_on(&server).await;
    let one = entry("one");
    server.fail(Fault::on("POST", DOCUMENTS, Action::DropUnsynced));
    assert!(is_unavailable(store.insert(std::slice::from_ref(&one)).await));
    // It is there, and not on disk. Whoever says that it is there must have put it there.
    assert!(server.unsynced() > 0);
    let answers = store.insert(std::slice::from_ref(&one)).await.unwrap();
    assert_eq!(answers, [Inserted::Present(Box::new(one.clone()))]);
    server.power_loss();
    assert_eq!(store.get(&[one.key()]).await.unwrap(), [Some(one)]);
}

#[tokio::test]
async fn a_state_that_was_found_folded_survives_a_loss_of_power() {
    let server = Server::start().await;
    let store = store_on(&server).await;
    let one = entry("one");
    store.insert(std::slice::from_ref(&one)).await.unwrap();
    let event = ack(&one, completed(&one, 1));
    server.fail(Fault::on("POST", "/_api/cursor", Action::DropUnsynced).with_body("UPDATE"));
    assert!(is_unavailable(store.apply(std::slice::from_ref(&event)).await));
    assert!(server.unsynced() > 0);
    let done = after(one.clone(), &[completed(&one, 1)]);
    assert_eq!(store.apply(&[event]).await.unwrap(), [Applied::State(Box::new(done.state.clone()))]);
    server.power_loss();
    assert_eq!(store.get(&[one.key()]).await.unwrap(), [Some(done)]);
}

#[tokio::test]
async fn every_write_is_synced_by_itself_and_needs_no_fence() {
    let server = Server::start().await;
    let store = store_on(&server).await;
    let one = entry("one");
    store.insert(std::slice::from_ref(&one)).await.unwrap();
    assert_eq!(server.unsynced(), 0);
    store.apply(&[ack(&one, completed(&one, 1))]).await.unwrap();
    assert_eq!(server.unsynced(), 0);
    store.remove(&[one.key()], Timestamp::MAX).await.unwrap();
    assert_eq!((server.count("POST", FENCE), server.unsynced()), (0, 0));
}

/// A null would be in indexes, and in front of people who look.
#[tokio::test]
async fn what_a_standing_has_not_is_not_in_the_document() {
    let server = Server::start().await;
    let store = store_on(&server).await;
    let one = entry("one");
    store.insert(std::slice::from_ref(&one)).await.unwrap();
    store.apply(&[ack(&one, completed(&one, 1))]).await.unwrap();
    let documents = server.documents("wal", "wal_entries");
    let document = documents[&one.key().to_string()].as_object().unwrap();
    assert!(document.contains_key("finished_at") && document.values().all(|value| !value.is_null()), "{document:?}");
    assert!(!document.contains_key("deadline"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_passes_is_survived_and_nothing_is_lost_or_done_twice() {
    let server = Server::start().await;
    let store = store_on(&server).await;
    let patient = Patient::new(Arc::new(store.clone()));
    for (nth, action) in Action::transient().into_iter().enumerate() {
        for skip in 0..3 {
            let entries: Vec<Entry> = (0..3).map(|at| entry(&format!("{nth} {skip} {at}"))).collect();
            let keys: Vec<EntryKey> = entries.iter().map(Entry::key).collect();
            let fail = || server.fail(Fault::next(action.clone()).after(skip));

            patient.insert(&entries[..1]).await.unwrap();
            fail();
            let answers = patient.insert(&entries).await.unwrap();
            assert_eq!(answers[0], Inserted::Present(Box::new(entries[0].clone())));
            for (entry, answer) in entries.iter().zip(answers) {
                let is_there = answer == Inserted::Stored || answer == Inserted::Present(Box::new(entry.clone()));
                assert!(is_there, "{action:?} after {skip}: {answer:?}");
            }
            server.heal();

            fail();
            let events: Vec<_> = entries.iter().map(|entry| ack(entry, completed(entry, 1))).collect();
            let done: Vec<Entry> = entries.iter().map(|one| after(one.clone(), &[completed(one, 1)])).collect();
            let expected: Vec<Applied> =
                done.iter().map(|entry| Applied::State(Box::new(entry.state.clone()))).collect();
            assert_eq!(patient.apply(&events).await.unwrap(), expected, "{action:?} after {skip}");
            server.heal();

            server.power_loss();
            fail();
            let found = patient.get(&keys).await.unwrap();
            assert_eq!(found, done.into_iter().map(Some).collect::<Vec<_>>(), "{action:?} after {skip}");
            server.heal();

            fail();
            let removed = patient.remove(&keys, Timestamp::MAX).await.unwrap();
            server.heal();
            assert!(removed <= 3);
            assert_eq!(store.get(&keys).await.unwrap(), [None, None, None]);
        }
    }
}

#[tokio::test]
async fn a_removal_counts_what_it_removed_or_says_that_it_does_not_know() {
    let server = Server::start().await;
    schema::apply(&options(&server)).await.unwrap();
    // Two ways to one server: the second must not be tried, for it would count nothing.
    let options = Options { endpoints: vec![server.url(), server.url()], ..options(&server) };
    let store = ArangoStore::open(&options).await.unwrap();
    let one = entry("one");
    store.insert(&[after(one.clone(), &[completed(&one, 1)])]).await.unwrap();
    server.fail(Fault::on("POST", "/_api/cursor", Action::DropAfter));
    assert!(is_unavailable(store.remove(&[one.key()], Timestamp::MAX).await));
    assert_eq!(store.remove(&[one.key()], Timestamp::MAX).await.unwrap(), 0);
}

#[tokio::test]
async fn of_an_array_only_what_failed_is_sent_again() {
    let server = Server::start().await;
    let store = store_on(&server).await;
    let entries: Vec<Entry> = (0..10).map(|at| entry(&format!("e {at}"))).collect();
    for (error_num, positions) in [(1200, vec![3, 4]), (32, vec![7]), (1200, vec![])] {
        let entries: Vec<Entry> =
            entries.iter().map(|one| entry(&format!("{} {error_num} {positions:?}", one.key()))).collect();
        server.fail(Fault::on("POST", DOCUMENTS, Action::Elements(Elements { error_num, positions })));
        let answers = store.insert(&entries).await.unwrap();
        assert!(answers.iter().all(|answer| *answer == Inserted::Stored), "{error_num}: {answers:?}");
    }
    // Twice: the second time it comes alone, without its readable copy.
    let refused = |positions| Action::Elements(Elements { error_num: 1216, positions });
    server.fail(Fault::on("POST", DOCUMENTS, refused(vec![1])));
    server.fail(Fault::on("POST", DOCUMENTS, refused(vec![0])).after(1));
    let answers = store.insert(&entries).await.unwrap();
    assert!(matches!(answers[1], Inserted::Refused(_)), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| **answer == Inserted::Stored).count(), 9);
    server.fail(Fault::on("POST", DOCUMENTS, Action::resource_limit()));
    assert_eq!(store.insert(&[entry("x"), entry("y")]).await.unwrap(), [Inserted::Stored, Inserted::Stored]);
}

/// More rows than one answer holds and more than one statement reads.
#[tokio::test]
async fn long_pages_are_whole_through_lost_cursors() {
    let server = Server::start().await;
    let store = store_on(&server).await;
    let mut entries: Vec<Entry> = (0..2345).map(|at| entry_in("orders", 1000 + at / 7, &format!("e {at}"))).collect();
    assert!(store.insert(&entries).await.unwrap().iter().all(|answer| *answer == Inserted::Stored));
    entries.sort_by_key(|entry| (entry.timestamp(), entry.key()));
    let query = Query::Namespace { namespace: entries[0].namespace().clone(), range: EVER };
    for action in
        [Action::Refuse(Refusal::error(404, 1600)), Action::DropAfter, Action::Refuse(Refusal::error(410, 1500))]
    {
        server.fail(Fault::on("POST", "/_api/cursor/", action).after(13));
        let page = store.scan(&query, None, 2300).await.unwrap();
        assert!(page.entries == entries[..2300] && page.next.is_some());
    }
    let page = store.scan(&query, None, 2345).await.unwrap();
    assert!(page.entries == entries && page.next.is_none());
    // With so many documents a plan means something: every statement is served by its index.
    schema::check(&options(&server)).await.unwrap();
    let keys: Vec<EntryKey> = entries.iter().map(Entry::key).collect();
    assert!(store.get(&keys).await.unwrap().into_iter().eq(entries.into_iter().map(Some)));
}

#[tokio::test]
async fn whatever_the_page_size_of_the_status_sweep_nothing_finished_is_in_it() {
    let server = Server::builder().version(Version::V3_11).start().await.unwrap();
    let store = store_on(&server).await;
    let entries: Vec<Entry> = (0..250).map(|at| entry(&format!("e {at}"))).collect();
    store.insert(&entries).await.unwrap();
    let events: Vec<_> = entries.iter().step_by(2).map(|entry| ack(entry, completed(entry, 1))).collect();
    store.apply(&events).await.unwrap();
    let open = store.expired(Timestamp::MAX, None, 1000).await.unwrap();
    assert!(open.len() == 125 && open.iter().all(|entry| entry.state.status() == Status::Pending));
    assert_eq!(store.finished(Timestamp::MAX, None, 1000).await.unwrap().len(), 125);
}

#[tokio::test]
async fn a_token_that_is_refused_is_renewed() {
    let server = Server::builder().user("wal", "secret").require_auth().start().await.unwrap();
    let login = Login::Token { user: "wal".to_owned(), password: "secret".to_owned() };
    let options = Options { login, ..options(&server) };
    schema::apply(&options).await.unwrap();
    let store = ArangoStore::open(&options).await.unwrap();
    for name in ["one", "two"] {
        server.expire_tokens();
        assert_eq!(store.insert(&[entry(name)]).await.unwrap(), [Inserted::Stored]);
    }
    // One for the schema, one for the opening, one after each end.
    assert_eq!(server.count("POST", "/_open/auth"), 4);
}

#[tokio::test]
async fn who_is_not_let_in_is_told_so_without_the_password() {
    let server = Server::builder().user("wal", "secret").require_auth().start().await.unwrap();
    let (user, password) = ("wal".to_owned(), "wrong-secret".to_owned());
    let logins = [
        Login::Nobody,
        Login::Basic { user: user.clone(), password: password.clone() },
        Login::Token { user, password },
    ];
    for login in logins {
        let options = Options { login, ..options(&server) };
        let error = ArangoStore::open(&options).await.unwrap_err();
        assert!(matches!(error, OpenError::Refused(_)), "{error:?}");
        assert!(!format!("{error} {error:?} {options:?}").contains("secret"), "{error}");
    }
    let login = Login::Basic { user: "wal".to_owned(), password: "secret".to_owned() };
    schema::apply(&Options { login, ..options(&server) }).await.unwrap();
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_passed_by() {
    let (down, server) = (Server::start().await, Server::start().await);
    down.stop();
    let options = Options { endpoints: vec![down.url(), server.url()], ..options(&server) };
    schema::apply(&options).await.unwrap();
    let store = ArangoStore::open(&options).await.unwrap();
    assert_eq!(store.insert(&[entry("one")]).await.unwrap(), [Inserted::Stored]);
}

#[tokio::test]
async fn a_server_that_comes_back_is_used_again() {
    let server = Server::start().await;
    let store = store_on(&server).await;
    let one = entry("one");
    store.insert(std::slice::from_ref(&one)).await.unwrap();
    server.stop();
    assert!(is_unavailable(store.get(&[one.key()]).await));
    server.restart().unwrap();
    assert_eq!(store.get(&[one.key()]).await.unwrap(), [Some(one)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_open_a_new_store_at_once_all_find_one_id() {
    let server = Server::start().await;
    let options = options(&server);
    schema::apply(&options).await.unwrap();
    let openings: Vec<_> = (0..8)
        .map(|_| {
            let options = options.clone();
            tokio::spawn(async move { ArangoStore::open(&options).await.unwrap().id() })
        })
        .collect();
    let mut ids = Vec::new();
    for opening in openings {
        ids.push(opening.await.unwrap());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_one_entry_all_get_through() {
    let server = Server::start().await;
    let store = store_on(&server).await;
    let one = entry("one");
    store.insert(std::slice::from_ref(&one)).await.unwrap();
    server.fail(Fault::on("POST", "/_api/cursor", Action::conflict()).with_body("UPDATE").times(7));
    let writers: Vec<_> = (1..=8)
        .map(|attempt| {
            let (store, one) = (store.clone(), one.clone());
            tokio::spawn(async move { store.apply(&[ack(&one, retrying(&one, attempt))]).await.unwrap() })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let events: Vec<_> = (1..=8).map(|attempt| retrying(&one, attempt)).collect();
    assert_eq!(store.get(&[one.key()]).await.unwrap(), [Some(after(one, &events))]);
}
