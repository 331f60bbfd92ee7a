use std::time::Duration;

use bytes::Bytes;
use redb::ReadableTable;
use tempfile::TempDir;
use wal_model::Code;
use wal_model::status::Reason;

use super::rows::StateRow;
use super::tables::{Index, META, META_FORMAT, STATES, WRITTEN};
use super::*;
use crate::samples::{ack, completed, entry, failed, full_entry, retrying};

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

async fn is_there(store: &Embedded, entry: Entry) -> bool {
    store.get(&[entry.key()]).await.unwrap() == [Some(entry)]
}

#[test]
fn folders_are_made_as_deep_as_they_are_asked_for() {
    let folder = folder();
    let deep = folder.path().join("a/b/c");
    let id = Embedded::open(&deep).unwrap().id();
    assert_eq!(Embedded::open(&deep).unwrap().id(), id);
    assert_ne!(Embedded::open(&folder.path().join("a/b/d")).unwrap().id(), id);
}

#[test]
fn a_second_owner_is_told_that_the_folder_is_taken() {
    let folder = folder();
    let first = Embedded::open(folder.path()).unwrap();
    let second = Embedded::open(folder.path()).err().unwrap();
    assert!(matches!(&second, OpenError::Locked { folder: named } if named == folder.path()), "{second:?}");
    drop(first);
    Embedded::open(folder.path()).unwrap();
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let folder = folder();
    let store = Embedded::open(folder.path()).unwrap();
    {
        let transaction = store.inner.database().unwrap().begin_write().unwrap();
        transaction.open_table(META).unwrap().insert(META_FORMAT, 7u32.to_be_bytes().as_slice()).unwrap();
        transaction.commit().unwrap();
    }
    drop(store);
    let error = Embedded::open(folder.path()).err().unwrap();
    assert!(matches!(error, OpenError::Newer { found: 7, known: 3, .. }), "{error:?}");
}

/// Takes a store back to format 1 or 2, as older programs wrote it.
fn downgrade(store: &Embedded, format: u32) {
    let transaction = store.inner.database().unwrap().begin_write().unwrap();
    {
        let states = transaction.open_table(STATES).unwrap();
        let mut keyed = transaction.open_table(upgrade::KEYED_STATES).unwrap();
        for row in states.iter().unwrap() {
            let (place, row) = row.unwrap();
            let (time, key) = place.value().split_first_chunk::<8>().unwrap();
            let key = EntryKey::from(uuid::Uuid::from_slice(key).unwrap());
            let state = StateRow::read(key, row.value()).ok().unwrap().state;
            let whose = &row.value()[..row.value().len() - state.len()];
            let standing = crate::document::encode_standing(&crate::document::decode_state(state).unwrap());
            let old = [&time[..], if format == 1 { b"" } else { whose }, standing.as_bytes()].concat();
            keyed.insert(key.uuid().as_u128(), old.as_slice()).unwrap();
        }
        transaction.open_table(META).unwrap().insert(META_FORMAT, format.to_be_bytes().as_slice()).unwrap();
    }
    transaction.delete_table(STATES).unwrap();
    transaction.delete_table(WRITTEN).unwrap();
    if format == 1 {
        transaction.delete_table(Index::Finished.table()).unwrap();
    }
    transaction.commit().unwrap();
}

#[tokio::test]
async fn a_store_of_an_older_format_is_upgraded_when_it_is_opened() {
    for format in [1, 2] {
        let folder = folder();
        let store = Embedded::open(folder.path()).unwrap();
        let brace = Entry { tenant: Some(crate::samples::tenant("a{b")), ..full_entry("brace") };
        let (open, done, dead) = (full_entry("open"), entry("done"), full_entry("dead"));
        store.insert(&[open.clone(), done.clone(), dead.clone(), brace.clone()]).await.unwrap();
        let events = [ack(&done, completed(&done, 1)), ack(&dead, failed(&dead, 3, Reason::Exhausted))];
        store.apply(&events).await.unwrap();
        let keys = [open.key(), done.key(), dead.key(), brace.key()];
        let (id, before) = (store.id(), store.get(&keys).await.unwrap());
        downgrade(&store, format);
        assert!(store.get(&keys).await.is_err(), "it is no store of the present format any more");
        drop(store);
        for _ in ["upgraded", "opened again"] {
            let store = Embedded::open(folder.path()).unwrap();
            assert_eq!((store.id(), store.get(&keys).await.unwrap()), (id, before.clone()), "format {format}");
            let finished = store.finished(Timestamp::MAX, None, 10).await.unwrap();
            let names: Vec<_> = finished.into_iter().map(|finished| finished.log_id).collect();
            assert_eq!(names, [done.log_id.clone(), dead.log_id.clone()]);
            let answers = store.apply(&events).await.unwrap();
            assert!(answers.iter().all(|answer| matches!(answer, Applied::State(_))), "{answers:?}");
            let again = store.insert(std::slice::from_ref(&open)).await.unwrap();
            assert_eq!(again, [Inserted::Present(Box::new(open.clone()))]);
        }
    }
}

#[test]
fn what_is_no_store_is_damage_and_is_left_as_it_is() {
    for garbage in [b"not a database".repeat(10_000), b"short".to_vec()] {
        let folder = folder();
        let path = folder.path().join("entries.redb");
        std::fs::write(&path, &garbage).unwrap();
        let error = Embedded::open(folder.path()).err().unwrap();
        assert!(matches!(error, OpenError::Corrupt { .. }), "{error:?}");
        assert_eq!(std::fs::read(&path).unwrap(), garbage);
    }
}

#[test]
fn a_database_that_is_not_a_store_is_damage() {
    let folder = folder();
    let database = Database::create(folder.path().join("entries.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(redb::TableDefinition::<u64, u64>::new("theirs")).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = Embedded::open(folder.path()).err().unwrap();
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error:?}");
}

#[test]
fn a_folder_that_cannot_be_made_is_an_io_error() {
    let folder = folder();
    std::fs::write(folder.path().join("file"), b"").unwrap();
    let error = Embedded::open(&folder.path().join("file/below")).err().unwrap();
    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
}

#[tokio::test]
async fn what_can_never_be_kept_is_refused_alone() {
    let folder = folder();
    let store = Embedded::open_with(folder.path(), 2000).unwrap();
    let large = Entry { payload: Bytes::from(vec![b'x'; 3000]), ..entry("large") };
    let answers = store.insert(&[entry("one"), large.clone(), entry("two")]).await.unwrap();
    let [Inserted::Stored, Inserted::Refused(refusal), Inserted::Stored] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(refusal.code, Code::WriteError);
    assert_eq!(store.get(&[large.key()]).await.unwrap(), [None]);
}

/// While redb is copied it is open, so the copy is what a crash at that moment would have left.
#[tokio::test]
async fn a_store_that_was_not_closed_is_repaired() {
    let (folder, crashed) = (folder(), folder());
    let store = Embedded::open(folder.path()).unwrap();
    store.insert(&[entry("one"), full_entry("two")]).await.unwrap();
    std::fs::copy(folder.path().join("entries.redb"), crashed.path().join("entries.redb")).unwrap();
    let repaired = Embedded::open(crashed.path()).unwrap();
    assert_eq!(repaired.id(), store.id());
    assert!(is_there(&repaired, entry("one")).await && is_there(&repaired, full_entry("two")).await);
}

#[tokio::test]
async fn after_an_io_error_the_next_call_opens_the_store_again() {
    let folder = folder();
    let store = Embedded::open(folder.path()).unwrap();
    store.insert(&[entry("one")]).await.unwrap();
    let broken = store.inner.database().unwrap();
    let error = store.inner.handle(redb::StorageError::PreviousIo.into(), Arc::clone(&broken));
    assert!(matches!(error, Error::Unavailable(_)));
    let error = store.get(&[entry("one").key()]).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "while another call still holds it: {error:?}");
    drop(broken);
    assert!(is_there(&store, entry("one")).await);
    assert_eq!(store.insert(&[entry("two")]).await.unwrap(), [Inserted::Stored]);
}

#[tokio::test]
async fn an_old_call_that_fails_late_does_not_break_the_new_database() {
    let folder = folder();
    let store = Embedded::open(folder.path()).unwrap();
    let current = store.inner.database().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let old = Arc::new(Database::create(elsewhere.path().join("old")).unwrap());
    store.inner.handle(redb::StorageError::PreviousIo.into(), old);
    assert!(Arc::ptr_eq(&store.inner.database().unwrap(), &current));
}

#[tokio::test]
async fn a_folder_that_holds_another_store_after_a_reopening_is_damage() {
    let (folder, other) = (folder(), folder());
    let store = Embedded::open(folder.path()).unwrap();
    drop(Embedded::open(other.path()).unwrap());
    store.inner.handle(redb::StorageError::PreviousIo.into(), store.inner.database().unwrap());
    std::fs::rename(other.path().join("entries.redb"), folder.path().join("entries.redb")).unwrap();
    assert!(matches!(store.get(&[entry("one").key()]).await, Err(Error::Corrupt(_))));
}

#[tokio::test]
async fn reads_do_not_wait_for_a_write() {
    let folder = folder();
    let store = Embedded::open(folder.path()).unwrap();
    store.insert(&[entry("one")]).await.unwrap();
    let database = store.inner.database().unwrap();
    let write = database.begin_write().unwrap();
    let read = tokio::time::timeout(Duration::from_secs(30), is_there(&store, entry("one")));
    assert!(read.await.expect("a read waited for a write"));
    drop(write);
}

/// Stored, keep stable: another spelling would not find what older programs wrote.
#[test]
fn index_keys_are_golden() {
    let mut full = full_entry("golden");
    full.tenant = Some(crate::samples::tenant("t"));
    let spell = |key: &[u8]| key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let tail = format!("0000019381a9a900{}", full.key().uuid().simple());
    let keys: Vec<String> = keys::of_content(&full).map(|(index, key)| format!("{index:?} {}", spell(&key))).collect();
    let expected = [
        format!("Namespace 00066f7264657273{tail}"),
        format!("Tenant 00017400066f7264657273{tail}"),
        format!("Correlation 000c7361676120223122205c2032{tail}"),
        format!("Request 010001740003722d31{tail}"),
    ];
    assert_eq!(keys, expected);
    let mut state = full.state.clone();
    let of_state = keys::OfState::of(&state, full.timestamp(), full.key());
    assert_eq!(spell(&of_state.by_status), format!("00{tail}"));
    let deadline = spell(&state.deadline().as_millis().to_be_bytes());
    assert_eq!(spell(&of_state.by_deadline.unwrap()), format!("{deadline}{}", full.key().uuid().simple()));
    assert_eq!(of_state.by_finished, None);
    state.join(&retrying(&full, 1));
    assert_eq!(spell(&keys::OfState::of(&state, full.timestamp(), full.key()).by_status), format!("01{tail}"));
    state.join(&completed(&full, 1));
    let of_state = keys::OfState::of(&state, full.timestamp(), full.key());
    assert_eq!(of_state.by_deadline, None);
    assert_eq!(spell(&of_state.by_finished.unwrap()), format!("0000019381a9ace8{}", full.key().uuid().simple()));
}

/// Stored, keep stable.
#[test]
fn state_rows_are_golden() {
    let full = Entry { tenant: Some(crate::samples::tenant("t")), ..full_entry("golden") };
    let state = crate::document::encode_state(&full.state);
    let row = |head: &[u8]| [head, state.as_bytes()].concat();
    assert_eq!(StateRow::write(&full), row(b"\0\x06orders\x01\0\x01t"));
    assert_eq!(StateRow::write(&Entry { tenant: None, ..full.clone() }), row(b"\0\x06orders\0"));
    for cut in 0..10 {
        assert!(StateRow::read(full.key(), &StateRow::write(&full)[..cut]).is_err(), "{cut} bytes");
    }
}
