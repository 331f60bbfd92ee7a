//! Promises of apply and expired.

use std::time::Duration;

use wal_model::ack::Ack;
use wal_model::status::{Event, Outcome, Reason, Status};
use wal_model::{Entry, EntryKey, Timestamp};

use super::store_all;
use crate::samples::{
    self, WRITTEN_AT, ack, after, completed, entry, entry_in, failed, full_entry, redriven, retrying, tenant,
};
use crate::{Applied, EntryStore};

async fn stored(store: &dyn EntryStore, key: EntryKey) -> Entry {
    let mut answers = store.get(&[key]).await.expect("the store is available");
    answers.pop().flatten().expect("the entry was stored")
}

fn state_of(entry: &Entry) -> Applied {
    Applied::State(Box::new(entry.state.clone()))
}

/// Only the state changes.
pub async fn an_apply_leaves_the_content_alone(store: &dyn EntryStore) {
    let (one, other) = (full_entry("one"), full_entry("other"));
    store_all(store, &[one.clone(), other.clone()]).await;
    let event = retrying(&one, 1);
    let expected = after(one.clone(), std::slice::from_ref(&event));
    assert_eq!(store.apply(&[ack(&one, event)]).await.unwrap(), [state_of(&expected)]);
    assert_eq!(stored(store, one.key()).await, expected);
    assert_eq!(stored(store, other.key()).await, other);
}

/// The result does not depend on the order of the events, and a late one still enters the history.
pub async fn events_join_late_and_in_any_order(store: &dyn EntryStore) {
    let of = |one: &Entry| {
        [retrying(one, 1), retrying(one, 2), failed(one, 3, Reason::Exhausted), redriven(one, 2, 4), completed(one, 4)]
    };
    for (nth, order) in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 4, 0, 3, 1]].into_iter().enumerate() {
        let one = entry(&format!("one {nth}"));
        store_all(store, std::slice::from_ref(&one)).await;
        let mut expected = one.clone();
        for at in order {
            let event = of(&one)[at].clone();
            expected.state.join(&event);
            assert_eq!(store.apply(&[ack(&one, event)]).await.unwrap(), [state_of(&expected)]);
        }
        assert_eq!(expected.state, after(one.clone(), &of(&one)).state);
        assert_eq!(stored(store, one.key()).await, expected);
    }
}

/// A repeat is answered as the first was.
pub async fn an_event_twice_changes_nothing(store: &dyn EntryStore) {
    let one = entry("one");
    store_all(store, std::slice::from_ref(&one)).await;
    let event = ack(&one, failed(&one, 1, Reason::Rejected));
    let first = store.apply(std::slice::from_ref(&event)).await.unwrap();
    let before = stored(store, one.key()).await;
    assert_eq!(store.apply(&[event.clone(), event]).await.unwrap(), [first[0].clone(), first[0].clone()]);
    assert_eq!(stored(store, one.key()).await, before);
}

/// Unknown is an answer for that item; the others are folded.
pub async fn an_unknown_key_is_unknown_and_harms_nobody(store: &dyn EntryStore) {
    let (one, nobody, two) = (entry("one"), entry("nobody"), entry("two"));
    store_all(store, &[one.clone(), two.clone()]).await;
    let items = [&one, &nobody, &two].map(|entry| ack(entry, completed(entry, 1)));
    let (one, two) = (after(one.clone(), &[completed(&one, 1)]), after(two.clone(), &[completed(&two, 1)]));
    assert_eq!(store.apply(&items).await.unwrap(), [state_of(&one), Applied::Unknown, state_of(&two)]);
    assert_eq!(store.get(&[one.key(), nobody.key(), two.key()]).await.unwrap(), [Some(one), None, Some(two)]);
}

/// The key alone proves nothing: whoever speaks of an entry must name it and its tenant. Others of the same call are folded.
pub async fn an_event_of_another_log_id_or_tenant_is_not_folded(store: &dyn EntryStore) {
    let (of_a, of_nobody) = (Entry { tenant: Some(tenant("a")), ..entry("one") }, entry("two"));
    store_all(store, &[of_a.clone(), of_nobody.clone()]).await;
    let meant = ack(&of_a, retrying(&of_a, 1));
    let of_b = Ack { tenant: Some(tenant("b")), ..ack(&of_a, completed(&of_a, 1)) };
    let without_tenant = Ack { tenant: None, ..of_b.clone() };
    let elsewhere = Ack { log_id: entry_in("other", WRITTEN_AT, "one").log_id, ..ack(&of_a, completed(&of_a, 1)) };
    let later = Ack { log_id: entry_in("orders", WRITTEN_AT + 1, "one").log_id, ..elsewhere.clone() };
    let with_tenant = Ack { tenant: Some(tenant("a")), ..ack(&of_nobody, completed(&of_nobody, 1)) };
    let after = after(of_a.clone(), std::slice::from_ref(&meant.event));
    let answers = store.apply(&[of_b, without_tenant, elsewhere, meant, later, with_tenant]).await.unwrap();
    let other = Applied::Other;
    assert_eq!(answers, [other.clone(), other.clone(), other.clone(), state_of(&after), other.clone(), other]);
    assert_eq!(store.get(&[of_a.key(), of_nobody.key()]).await.unwrap(), [Some(after), Some(of_nobody)]);
}

/// Each of several items about one entry is answered with the state after all of them: that is what is stored now.
pub async fn several_events_of_one_key_are_all_folded(store: &dyn EntryStore) {
    let (one, two) = (entry("one"), entry("two"));
    store_all(store, &[one.clone(), two.clone()]).await;
    let items = [
        ack(&one, completed(&one, 2)),
        ack(&two, retrying(&two, 1)),
        ack(&one, retrying(&one, 1)),
        ack(&one, retrying(&one, 1)),
    ];
    let one = after(one.clone(), &[retrying(&one, 1), completed(&one, 2)]);
    let two = after(two.clone(), &[retrying(&two, 1)]);
    let answers = store.apply(&items).await.unwrap();
    assert_eq!(answers, [state_of(&one), state_of(&two), state_of(&one), state_of(&one)]);
    assert_eq!(store.get(&[one.key(), two.key()]).await.unwrap(), [Some(one), Some(two)]);
}

/// Reading and writing a state is one step.
pub async fn concurrent_applies_lose_no_event(store: &dyn EntryStore) {
    let one = entry("one");
    store_all(store, std::slice::from_ref(&one)).await;
    let apply = async |attempt: u32| {
        store.apply(&[ack(&one, retrying(&one, attempt))]).await.unwrap();
    };
    tokio::join!(apply(1), apply(2), apply(3), apply(4), apply(5), apply(6), apply(7), apply(8));
    let events: Vec<Event> = (1..=8).map(|attempt| retrying(&one, attempt)).collect();
    assert_eq!(stored(store, one.key()).await, after(one, &events));
}

/// An entry whose deadline is this long after [`WRITTEN_AT`].
fn expiring(millis: u64, name: &str) -> Entry {
    let mut entry = entry(name);
    entry.state.standing.deadline = samples::time(WRITTEN_AT).saturating_add(Duration::from_millis(millis));
    entry
}

fn later(millis: i64) -> Timestamp {
    samples::time(WRITTEN_AT + millis)
}

/// The earliest deadline first, up to and including the time asked for.
pub async fn expired_entries_come_by_deadline(store: &dyn EntryStore) {
    let entries = [expiring(30, "a"), expiring(10, "b"), expiring(20, "c"), expiring(21, "d")];
    store_all(store, &entries).await;
    let [_, b, c, d] = &entries;
    assert_eq!(store.expired(later(9), None, 10).await.unwrap(), []);
    assert_eq!(store.expired(later(20), None, 10).await.unwrap(), [b.clone(), c.clone()]);
    assert_eq!(store.expired(later(29), None, 2).await.unwrap(), [b.clone(), c.clone()]);
    assert_eq!(store.expired(later(29), Some((later(20), c.key())), 2).await.unwrap(), std::slice::from_ref(d));
    assert_eq!(store.expired(Timestamp::MAX, None, 10).await.unwrap().len(), 4);
}

/// Whatever the limit, and also where deadlines are equal.
pub async fn expired_pages_put_together_are_the_whole(store: &dyn EntryStore) {
    let mut entries: Vec<Entry> = (0..17).map(|at| expiring(at / 5, &format!("e {at}"))).collect();
    store_all(store, &entries).await;
    entries.sort_by_key(|entry| (entry.state.deadline(), entry.key()));
    for limit in [1, 2, 5, 16, 17, 100] {
        let (mut found, mut place) = (Vec::<Entry>::new(), None);
        loop {
            let page = store.expired(later(100), place, limit).await.unwrap();
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            place = Some((last.state.deadline(), last.key()));
            found.extend(page);
        }
        assert_eq!(found, entries, "by {limit}");
    }
}

/// Failed or completed: nothing is left to expire. Retrying is not finished.
pub async fn finished_entries_do_not_expire(store: &dyn EntryStore) {
    let entries = ["failed", "completed", "retrying", "pending"].map(entry);
    store_all(store, &entries).await;
    let [rejected, done, trying, pending] = &entries;
    let items = [
        ack(rejected, failed(rejected, 1, Reason::Expired)),
        ack(done, completed(done, 1)),
        ack(trying, retrying(trying, 1)),
    ];
    store.apply(&items).await.unwrap();
    let found = store.expired(Timestamp::MAX, None, 10).await.unwrap();
    let mut keys: Vec<EntryKey> = found.iter().map(Entry::key).collect();
    let mut expected = [trying.key(), pending.key()];
    keys.sort();
    expected.sort();
    assert_eq!(keys, expected);
    let born_finished = entry_in("orders", WRITTEN_AT, "born finished");
    let born_finished = after(born_finished.clone(), &[completed(&born_finished, 1)]);
    store_all(store, std::slice::from_ref(&born_finished)).await;
    assert_eq!(stored(store, born_finished.key()).await.state.status(), Status::Completed);
    assert_eq!(store.expired(Timestamp::MAX, None, 10).await.unwrap().len(), 2);
}

/// A new round has a deadline of its own; the old one is forgotten.
pub async fn a_redriven_entry_expires_by_its_new_deadline(store: &dyn EntryStore) {
    let one = entry("one");
    let first = one.state.deadline();
    store_all(store, std::slice::from_ref(&one)).await;
    assert_eq!(store.expired(first, None, 10).await.unwrap(), std::slice::from_ref(&one));
    store.apply(&[ack(&one, failed(&one, 1, Reason::Exhausted)), ack(&one, redriven(&one, 2, 2))]).await.unwrap();
    let second = stored(store, one.key()).await.state.deadline();
    assert!(second > first);
    assert_eq!(store.expired(first, None, 10).await.unwrap(), []);
    let found = store.expired(second, None, 10).await.unwrap();
    assert_eq!(found.iter().map(Entry::key).collect::<Vec<_>>(), [one.key()]);
    assert_eq!(found[0].state.standing.outcome, Outcome::Pending);
}
