//! Promises of insert and get.

use bytes::Bytes;
use wal_model::status::Status;
use wal_model::{Entry, EntryKey};

use super::{Subject, are_all_stored, store_all};
use crate::samples::{self, ack, completed, entry, full_entry};
use crate::{EntryStore, Inserted, Query};

/// What is stored is read back equal.
pub async fn what_is_stored_is_there_as_it_was(store: &dyn EntryStore) {
    let one = entry("one");
    store_all(store, std::slice::from_ref(&one)).await;
    assert_eq!(store.get(&[one.key()]).await.unwrap(), [Some(one)]);
}

/// Payloads, keys and headers are bytes, whatever they hold; a null header value is not an empty one.
pub async fn bytes_that_are_no_text_come_back_identical(store: &dyn EntryStore) {
    let every_byte: Vec<u8> = (0..=255).collect();
    let payloads: [&[u8]; 6] =
        [b"", b"null", b"{\"a\": 1e999}", &every_byte, b"\"\\u0000\"", "größe \u{0}\u{7f}".as_bytes()];
    let entries: Vec<Entry> = payloads
        .iter()
        .enumerate()
        .map(|(at, payload)| Entry {
            payload: Bytes::copy_from_slice(payload),
            ordering_key: Some(Bytes::copy_from_slice(payload)),
            ..full_entry(&format!("bytes {at}"))
        })
        .collect();
    store_all(store, &entries).await;
    for entry in entries {
        assert_eq!(store.get(&[entry.key()]).await.unwrap(), [Some(entry)]);
    }
}

/// The entry that was first stored is the answer, not the one of the call.
pub async fn an_entry_that_was_there_is_present_and_unchanged(store: &dyn EntryStore) {
    let first = entry("one");
    let other = Entry { payload: Bytes::from_static(b"other"), ..full_entry("one") };
    store_all(store, std::slice::from_ref(&first)).await;
    let answers = store.insert(&[other]).await.unwrap();
    assert_eq!(answers, [Inserted::Present(Box::new(first.clone()))]);
    assert_eq!(store.get(&[first.key()]).await.unwrap(), [Some(first)]);
    let correlated = Query::Correlation { correlation_id: full_entry("one").correlation_id.unwrap() };
    assert_eq!(store.scan(&correlated, None, 10).await.unwrap().entries, []);
}

/// A repeat that comes late learns what became of the entry, and does not set it back.
pub async fn present_is_answered_with_the_state_of_now(store: &dyn EntryStore) {
    let one = entry("one");
    store_all(store, std::slice::from_ref(&one)).await;
    store.apply(&[ack(&one, completed(&one, 1))]).await.unwrap();
    let answers = store.insert(std::slice::from_ref(&one)).await.unwrap();
    let expected = samples::after(one.clone(), &[completed(&one, 1)]);
    assert_eq!(answers, [Inserted::Present(Box::new(expected.clone()))]);
    assert_eq!(store.get(&[one.key()]).await.unwrap(), [Some(expected)]);
}

/// Duplicates within one call are told as those between calls are.
pub async fn of_one_key_in_one_call_the_first_is_stored(store: &dyn EntryStore) {
    let (first, second, other) = (entry("one"), full_entry("one"), entry("other"));
    let answers = store.insert(&[first.clone(), other, second.clone(), first.clone()]).await.unwrap();
    let present = Inserted::Present(Box::new(first.clone()));
    assert_eq!(answers, [Inserted::Stored, Inserted::Stored, present.clone(), present]);
    assert_eq!(store.get(&[first.key()]).await.unwrap(), [Some(first)]);
}

/// However many writers there are, one of them is first, and all the others get its entry.
pub async fn of_concurrent_inserts_of_one_key_exactly_one_stores(store: &dyn EntryStore) {
    for round in 0..8 {
        let insert = async |writer: usize| {
            let payload = Bytes::from(format!("writer {writer}"));
            let one = Entry { payload, ..entry(&format!("round {round}")) };
            let own = entry(&format!("round {round} writer {writer}"));
            (one.clone(), store.insert(&[own, one]).await.unwrap())
        };
        let (a, b, c, d, e, f, g, h) =
            tokio::join!(insert(0), insert(1), insert(2), insert(3), insert(4), insert(5), insert(6), insert(7));
        let answers = [a, b, c, d, e, f, g, h];
        let winners: Vec<_> = answers.iter().filter(|(_, answer)| answer[1] == Inserted::Stored).collect();
        let [(winner, _)] = winners[..] else { panic!("{} writers stored the entry", winners.len()) };
        for (one, answer) in &answers {
            let expected = if one == winner { Inserted::Stored } else { Inserted::Present(Box::new(winner.clone())) };
            assert_eq!(answer[..], [Inserted::Stored, expected]);
        }
        assert_eq!(store.get(&[winner.key()]).await.unwrap(), [Some(winner.clone())]);
    }
}

/// The n-th answer is about the n-th entry.
pub async fn answers_stand_in_the_order_of_the_entries(store: &dyn EntryStore) {
    let entries: Vec<Entry> = (0..100).map(|at| entry(&format!("entry {at}"))).collect();
    let odd: Vec<Entry> = entries.iter().skip(1).step_by(2).cloned().collect();
    store_all(store, &odd).await;
    let answers = store.insert(&entries).await.unwrap();
    for (at, (entry, answer)) in entries.into_iter().zip(answers).enumerate() {
        let expected = if at % 2 == 0 { Inserted::Stored } else { Inserted::Present(Box::new(entry)) };
        assert_eq!(answer, expected);
    }
}

/// Calls about nothing are answered with nothing.
pub async fn nothing_is_inserted_for_no_entries(store: &dyn EntryStore) {
    assert_eq!(store.insert(&[]).await.unwrap(), []);
    assert_eq!(store.apply(&[]).await.unwrap(), []);
    assert_eq!(store.get(&[]).await.unwrap(), []);
}

/// Not there is an answer, not an error.
pub async fn unknown_keys_are_none(store: &dyn EntryStore) {
    assert_eq!(store.get(&[samples::key("nobody")]).await.unwrap(), [None]);
}

/// The n-th answer is about the n-th key, also where keys repeat.
pub async fn gets_answer_in_order_and_repeat_repeats(store: &dyn EntryStore) {
    let entries: Vec<Entry> = (0..20).map(|at| entry(&format!("entry {at}"))).collect();
    store_all(store, &entries).await;
    let mut expected: Vec<Option<Entry>> = entries.iter().rev().cloned().map(Some).collect();
    expected.extend([None, Some(entries[3].clone()), Some(entries[3].clone())]);
    let mut keys: Vec<EntryKey> = entries.iter().rev().map(Entry::key).collect();
    keys.extend([samples::key("nobody"), entries[3].key(), entries[3].key()]);
    assert_eq!(store.get(&keys).await.unwrap(), expected);
}

/// The id, the entries, their states and their indexes outlive the process.
pub async fn everything_is_there_after_a_reopening(subject: &mut impl Subject) {
    let store = subject.store();
    let id = store.id();
    let (one, two) = (full_entry("one"), entry("two"));
    store_all(&*store, &[one.clone(), two.clone()]).await;
    store.apply(&[ack(&two, completed(&two, 1))]).await.unwrap();
    drop(store);
    subject.reopen().await;
    let store = subject.store();
    assert_eq!(store.id(), id);
    let two = samples::after(two.clone(), &[completed(&two, 1)]);
    assert_eq!(store.get(&[one.key(), two.key()]).await.unwrap(), [Some(one.clone()), Some(two.clone())]);
    let all = crate::Range { from: samples::time(0), to: wal_model::Timestamp::MAX };
    let pending = Query::Status { status: Status::Pending, range: all };
    assert_eq!(store.scan(&pending, None, 10).await.unwrap().entries, std::slice::from_ref(&one));
    assert!(!are_all_stored(&store.insert(&[one, two]).await.unwrap()));
}
