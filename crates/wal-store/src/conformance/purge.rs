//! Promises of finished and remove.

use wal_model::status::{Outcome, Reason, Status};
use wal_model::{Entry, EntryKey, Timestamp};

use super::store_all;
use crate::samples::{self, WRITTEN_AT, ack, completed, entry, entry_in, event, failed, full_entry, id, redriven};
use crate::{EntryStore, Finished, Inserted, Query, Range};

const ALL: Range = Range { from: Timestamp::EPOCH, to: Timestamp::MAX };

fn later(millis: i64) -> Timestamp {
    samples::time(WRITTEN_AT + millis)
}

/// Stores an entry that is completed this long after [`WRITTEN_AT`].
async fn finish(store: &dyn EntryStore, entry: &Entry, millis: i64) -> Finished {
    store_all(store, std::slice::from_ref(entry)).await;
    let done = wal_model::status::Event { at: later(millis), ..completed(entry, 1) };
    store.apply(&[ack(entry, done)]).await.unwrap();
    Finished { log_id: entry.log_id.clone(), at: later(millis) }
}

async fn all_finished(store: &dyn EntryStore) -> Vec<Finished> {
    store.finished(Timestamp::MAX, None, 100).await.unwrap()
}

/// The first finished first, up to and without the time asked for.
pub async fn finished_entries_come_by_the_time_they_finished(store: &dyn EntryStore) {
    let mut finished = Vec::new();
    for (name, millis) in [("a", 30), ("b", 10), ("c", 20), ("d", 21)] {
        finished.push(finish(store, &full_entry(name), millis).await);
    }
    let [a, b, c, d] = &finished[..] else { unreachable!("four were stored") };
    assert_eq!(store.finished(later(10), None, 10).await.unwrap(), []);
    assert_eq!(store.finished(later(21), None, 10).await.unwrap(), [b.clone(), c.clone()]);
    assert_eq!(store.finished(later(31), None, 2).await.unwrap(), [b.clone(), c.clone()]);
    let after_c = Some((c.at, c.log_id.key()));
    assert_eq!(store.finished(later(31), after_c, 10).await.unwrap(), [d.clone(), a.clone()]);
}

/// Whatever the limit, and also where times are equal.
pub async fn finished_pages_put_together_are_the_whole(store: &dyn EntryStore) {
    let mut expected = Vec::new();
    for at in 0..17 {
        expected.push(finish(store, &entry(&format!("e {at}")), at / 5).await);
    }
    expected.sort_by_key(|finished| (finished.at, finished.log_id.key()));
    for limit in [1, 2, 5, 16, 17, 100] {
        let (mut found, mut place) = (Vec::<Finished>::new(), None);
        loop {
            let page = store.finished(Timestamp::MAX, place, limit).await.unwrap();
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            place = Some((last.at, last.log_id.key()));
            found.extend(page);
        }
        assert_eq!(found, expected, "by {limit}");
    }
}

/// Pending and retrying are not; failed is, until a redrive begins a new round. An entry can be stored finished.
pub async fn what_is_unfinished_is_never_among_the_finished(store: &dyn EntryStore) {
    let entries = ["pending", "retrying", "failed"].map(entry);
    store_all(store, &entries).await;
    let [_, trying, dead] = &entries;
    let (rejected, again) = (failed(dead, 1, Reason::Rejected), redriven(dead, 2, 2));
    store.apply(&[ack(trying, samples::retrying(trying, 1)), ack(dead, rejected.clone())]).await.unwrap();
    assert_eq!(all_finished(store).await, [Finished { log_id: dead.log_id.clone(), at: rejected.at }]);
    store.apply(&[ack(dead, again)]).await.unwrap();
    assert_eq!(all_finished(store).await, []);
    let one = entry("born finished");
    let done = completed(&one, 1);
    store_all(store, &[samples::after(one.clone(), std::slice::from_ref(&done))]).await;
    assert_eq!(all_finished(store).await, [Finished { log_id: one.log_id, at: done.at }]);
}

/// A late completion makes a failed entry a completed one: what counts is when that happened.
pub async fn a_finish_that_a_greater_event_moves_is_found_at_its_new_time(store: &dyn EntryStore) {
    let one = entry("one");
    store_all(store, std::slice::from_ref(&one)).await;
    let at = |millis, outcome| wal_model::status::Event { at: later(millis), ..event(&one, 1, outcome) };
    store.apply(&[ack(&one, at(10, Outcome::Failed { reason: Reason::Expired }))]).await.unwrap();
    store.apply(&[ack(&one, at(20, Outcome::Completed { result: None }))]).await.unwrap();
    assert_eq!(all_finished(store).await, [Finished { log_id: one.log_id.clone(), at: later(20) }]);
    assert_eq!(store.remove(&[one.key()], later(20)).await.unwrap(), 0);
    assert_eq!(store.remove(&[one.key()], later(21)).await.unwrap(), 1);
}

/// Nothing of it is left, whichever way one asks, and its neighbours are untouched.
pub async fn a_removed_entry_is_in_no_answer_and_its_key_is_free(store: &dyn EntryStore) {
    let (gone, stays) = (full_entry("gone"), full_entry("stays"));
    finish(store, &gone, 10).await;
    let kept = finish(store, &stays, 10).await;
    assert_eq!(store.remove(&[gone.key(), samples::key("nobody")], later(11)).await.unwrap(), 1);
    assert_eq!(store.get(&[gone.key()]).await.unwrap(), [None]);
    assert_eq!(all_finished(store).await, [kept]);
    let queries = [
        Query::Namespace { namespace: gone.namespace().clone(), range: ALL },
        Query::Tenant { tenant: gone.tenant.clone().unwrap(), namespace: gone.namespace().clone(), range: ALL },
        Query::Correlation { correlation_id: gone.correlation_id.clone().unwrap() },
        Query::Status { status: Status::Completed, range: ALL },
        Query::Request { tenant: gone.tenant.clone(), request_id: id("r-1") },
    ];
    for query in queries {
        let found: Vec<EntryKey> = store.scan(&query, None, 10).await.unwrap().entries.iter().map(Entry::key).collect();
        assert_eq!(found, [stays.key()], "{query:?}");
    }
    let answers = store.apply(&[ack(&gone, completed(&gone, 1))]).await.unwrap();
    assert_eq!(answers, [crate::Applied::Unknown]);
    assert_eq!(store.insert(std::slice::from_ref(&gone)).await.unwrap(), [Inserted::Stored]);
    assert_eq!(store.get(&[gone.key()]).await.unwrap(), [Some(gone.clone())]);
    assert_eq!(store.expired(Timestamp::MAX, None, 10).await.unwrap(), [gone]);
}

/// Whatever the caller believed: what counts is how the entry stands when it would be removed.
pub async fn what_is_unfinished_or_finished_later_is_not_removed(store: &dyn EntryStore) {
    let (back, late, open) = (entry("redriven"), entry("late"), entry_in("orders", WRITTEN_AT, "open"));
    finish(store, &late, 20).await;
    store_all(store, &[back.clone(), open.clone()]).await;
    store.apply(&[ack(&back, failed(&back, 1, Reason::Exhausted)), ack(&back, redriven(&back, 2, 2))]).await.unwrap();
    let keys = [back.key(), late.key(), open.key()];
    let before = store.get(&keys).await.unwrap();
    assert_eq!(store.remove(&keys, later(20)).await.unwrap(), 0);
    assert_eq!(store.get(&keys).await.unwrap(), before);
    assert_eq!(store.remove(&keys, Timestamp::MAX).await.unwrap(), 1);
    assert_eq!(store.get(&keys).await.unwrap(), [before[0].clone(), None, before[2].clone()]);
}

/// Also of a key that stands twice in one call.
pub async fn removing_again_removes_nothing(store: &dyn EntryStore) {
    let one = entry("one");
    finish(store, &one, 10).await;
    assert_eq!(store.remove(&[], Timestamp::MAX).await.unwrap(), 0);
    assert_eq!(store.remove(&[one.key(), one.key()], later(11)).await.unwrap(), 1);
    assert_eq!(store.remove(&[one.key()], later(11)).await.unwrap(), 0);
}
