//! Promises of scan.

use std::collections::HashSet;

use wal_model::status::Status;
use wal_model::{Entry, EntryKey, Timestamp};

use super::store_all;
use crate::samples::{self, WRITTEN_AT, ack, completed, entry_in, failed, id, namespace, retrying, tenant, time};
use crate::{After, EntryStore, Query, Range};

const ALL: Range = Range { from: Timestamp::EPOCH, to: Timestamp::MAX };

fn orders(range: Range) -> Query {
    Query::Namespace { namespace: namespace("orders"), range }
}

fn in_order(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by_key(|entry| (entry.timestamp(), entry.key()));
    entries
}

async fn all(store: &dyn EntryStore, query: &Query) -> Vec<Entry> {
    let page = store.scan(query, None, 1000).await.expect("the store is available");
    assert_eq!(page.next, None);
    page.entries
}

/// Every page but the last is full and names the next.
async fn paged(store: &dyn EntryStore, query: &Query, limit: usize) -> Vec<Entry> {
    let (mut entries, mut after) = (Vec::new(), None);
    loop {
        let page = store.scan(query, after, limit).await.expect("the store is available");
        let is_full = page.entries.len() == limit;
        assert!(page.entries.len() <= limit && (page.next.is_none() || is_full), "{} of {limit}", page.entries.len());
        entries.extend(page.entries);
        if page.next.is_none() {
            return entries;
        }
        after = page.next;
    }
}

/// Entries of a namespace come by time, without those of others.
pub async fn a_namespace_is_read_in_order_and_alone(store: &dyn EntryStore) {
    let times = [30, 10, 20, 0, 40];
    let entries: Vec<Entry> = times.iter().map(|at| entry_in("orders", WRITTEN_AT + at, &format!("o {at}"))).collect();
    store_all(store, &entries).await;
    store_all(store, &[entry_in("other", WRITTEN_AT + 15, "other"), entry_in("orders2", WRITTEN_AT, "orders2")]).await;
    assert_eq!(all(store, &orders(ALL)).await, in_order(entries));
    assert_eq!(all(store, &Query::Namespace { namespace: namespace("order"), range: ALL }).await, []);
}

/// Two ranges that touch hold every entry once.
pub async fn ranges_include_from_and_exclude_to(store: &dyn EntryStore) {
    let entries: Vec<Entry> = (0..10).map(|at| entry_in("orders", WRITTEN_AT + at, &format!("o {at}"))).collect();
    store_all(store, &entries).await;
    let range = |from, to| orders(Range { from: time(WRITTEN_AT + from), to: time(WRITTEN_AT + to) });
    assert_eq!(all(store, &range(3, 7)).await, entries[3..7]);
    assert_eq!(all(store, &range(0, 5)).await, entries[..5]);
    assert_eq!(all(store, &range(5, 10)).await, entries[5..]);
}

/// Neither an empty range nor one that ends before it begins is an error.
pub async fn ranges_without_time_in_them_are_empty(store: &dyn EntryStore) {
    store_all(store, &[entry_in("orders", WRITTEN_AT, "one")]).await;
    let at = time(WRITTEN_AT);
    assert_eq!(all(store, &orders(Range { from: at, to: at })).await, []);
    assert_eq!(all(store, &orders(Range { from: time(WRITTEN_AT + 1), to: at })).await, []);
}

/// Whatever the limit, every entry comes once and in order.
pub async fn pages_put_together_are_the_whole(store: &dyn EntryStore) {
    // Several entries share each time.
    let entries: Vec<Entry> = (0..23).map(|at| entry_in("orders", WRITTEN_AT + at / 4, &format!("o {at}"))).collect();
    let entries: Vec<Entry> = entries
        .into_iter()
        .map(|entry| Entry {
            tenant: Some(tenant("a")),
            correlation_id: Some(id("c")),
            request_id: Some(id("r")),
            ..entry
        })
        .collect();
    store_all(store, &entries).await;
    let expected = in_order(entries);
    let queries = [
        orders(ALL),
        Query::Tenant { tenant: tenant("a"), namespace: namespace("orders"), range: ALL },
        Query::Correlation { correlation_id: id("c") },
        Query::Status { status: Status::Pending, range: ALL },
        Query::Request { tenant: Some(tenant("a")), request_id: id("r") },
    ];
    for query in &queries {
        for limit in [1, 2, 3, 7, 22, 23, 24, 1000] {
            assert_eq!(paged(store, query, limit).await, expected, "{query:?} by {limit}");
        }
    }
}

/// A full page without a next one says so at once.
pub async fn a_page_ends_exactly_where_there_is_no_more(store: &dyn EntryStore) {
    let entries: Vec<Entry> = (0..6).map(|at| entry_in("orders", WRITTEN_AT + at, &format!("o {at}"))).collect();
    store_all(store, &entries).await;
    let page = store.scan(&orders(ALL), None, 6).await.unwrap();
    assert_eq!((page.entries.len(), page.next), (6, None));
    let page = store.scan(&orders(ALL), None, 5).await.unwrap();
    assert_eq!(page.next, Some(After { timestamp: entries[4].timestamp(), key: entries[4].key() }));
    let last = After { timestamp: entries[5].timestamp(), key: entries[5].key() };
    let page = store.scan(&orders(ALL), Some(last), 5).await.unwrap();
    assert_eq!((page.entries, page.next), (Vec::new(), None));
}

/// A page may begin after an entry that is gone, was never there, or lies outside the range.
pub async fn places_that_were_no_answer_are_places_too(store: &dyn EntryStore) {
    let entries: Vec<Entry> = (0..6).map(|at| entry_in("orders", WRITTEN_AT + at, &format!("o {at}"))).collect();
    store_all(store, &entries).await;
    let least = EntryKey::from(uuid::Uuid::nil());
    let range = Range { from: time(WRITTEN_AT + 2), to: time(WRITTEN_AT + 5) };
    for (at, expected) in [(-1, &entries[2..5]), (2, &entries[2..5]), (3, &entries[3..5]), (5, &[]), (9, &[])] {
        let after = After { timestamp: time(WRITTEN_AT + at), key: least };
        let page = store.scan(&orders(range), Some(after), 10).await.unwrap();
        assert_eq!(page.entries, expected, "after {at}");
    }
}

/// A tie in time is broken by the key, so no page can skip or repeat within it.
pub async fn entries_of_one_time_are_paged_by_key(store: &dyn EntryStore) {
    let entries: Vec<Entry> = (0..50).map(|at| entry_in("orders", WRITTEN_AT, &format!("o {at}"))).collect();
    store_all(store, &entries).await;
    assert_eq!(paged(store, &orders(ALL), 7).await, in_order(entries));
}

/// Neither another tenant's entries nor those without one are seen.
pub async fn a_tenant_sees_its_own_entries_only(store: &dyn EntryStore) {
    let of =
        |owner: Option<&str>, name: &str| Entry { tenant: owner.map(tenant), ..entry_in("orders", WRITTEN_AT, name) };
    let a = vec![of(Some("a"), "a 1"), of(Some("a"), "a 2")];
    let elsewhere = Entry { tenant: Some(tenant("a")), ..entry_in("other", WRITTEN_AT, "a elsewhere") };
    store_all(store, &a).await;
    store_all(store, &[of(Some("b"), "b 1"), of(None, "none"), elsewhere]).await;
    let query = |owner| Query::Tenant { tenant: tenant(owner), namespace: namespace("orders"), range: ALL };
    assert_eq!(all(store, &query("a")).await, in_order(a));
    assert_eq!(all(store, &query("b")).await, [of(Some("b"), "b 1")]);
    assert_eq!(all(store, &query("c")).await, []);
}

/// Where one name ends and the next begins is never in doubt.
pub async fn names_that_begin_alike_are_not_mixed_up(store: &dyn EntryStore) {
    let pairs =
        [("a", "bc"), ("ab", "c"), ("a b", "c"), ("a", "b"), ("aa", "bc"), ("1", "1"), ("11", "1"), ("1", "11")];
    let mut entries = HashSet::new();
    for (owner, space) in pairs {
        let name = format!("{owner}/{space}");
        let correlation_id = Some(id(owner));
        let request_id = Some(id(space));
        let one =
            Entry { tenant: Some(tenant(owner)), correlation_id, request_id, ..entry_in(space, WRITTEN_AT, &name) };
        store_all(store, std::slice::from_ref(&one)).await;
        let by_tenant = Query::Tenant { tenant: tenant(owner), namespace: namespace(space), range: ALL };
        assert_eq!(all(store, &by_tenant).await, std::slice::from_ref(&one));
        let by_request = Query::Request { tenant: Some(tenant(owner)), request_id: id(space) };
        assert_eq!(all(store, &by_request).await, std::slice::from_ref(&one));
        assert!(entries.insert(one.key()));
    }
    assert_eq!(all(store, &Query::Correlation { correlation_id: id("a") }).await.len(), 2);
}

/// A correlation id links entries whatever their namespace and tenant.
pub async fn correlated_entries_are_found_across_namespaces(store: &dyn EntryStore) {
    let linked = |space: &str, at: i64, name: &str| Entry {
        correlation_id: Some(id("saga")),
        tenant: Some(tenant(name)),
        ..entry_in(space, WRITTEN_AT + at, name)
    };
    let entries = vec![linked("orders", 2, "a"), linked("payments", 1, "b"), linked("orders", 0, "c")];
    store_all(store, &entries).await;
    store_all(store, &[Entry { correlation_id: Some(id("saga 2")), ..entry_in("orders", WRITTEN_AT, "d") }]).await;
    assert_eq!(all(store, &Query::Correlation { correlation_id: id("saga") }).await, in_order(entries));
}

/// The same request id of two tenants is two requests; no tenant is a tenant of its own.
pub async fn a_request_is_found_under_its_tenant_only(store: &dyn EntryStore) {
    let of = |owner: Option<&str>, at: i64, name: &str| Entry {
        tenant: owner.map(tenant),
        request_id: Some(id("r")),
        ..entry_in("orders", WRITTEN_AT + at, name)
    };
    let a = vec![of(Some("a"), 1, "a 1"), of(Some("a"), 0, "a 0")];
    store_all(store, &a).await;
    store_all(store, &[of(Some("b"), 0, "b"), of(None, 0, "none")]).await;
    let query = |owner: Option<&str>| Query::Request { tenant: owner.map(tenant), request_id: id("r") };
    assert_eq!(all(store, &query(Some("a"))).await, in_order(a));
    assert_eq!(all(store, &query(Some("b"))).await, [of(Some("b"), 0, "b")]);
    assert_eq!(all(store, &query(None)).await, [of(None, 0, "none")]);
    assert_eq!(all(store, &query(Some("c"))).await, []);
}

/// An entry stands in one status at a time, and the answers hold the state that put it there.
pub async fn a_status_is_left_when_another_is_reached(store: &dyn EntryStore) {
    let one = entry_in("orders", WRITTEN_AT, "one");
    let still = entry_in("orders", WRITTEN_AT + 1, "still");
    store_all(store, &[one.clone(), still.clone()]).await;
    let statuses = [Status::Pending, Status::Retrying, Status::Failed, Status::Completed];
    let steps = [
        (Status::Pending, None),
        (Status::Retrying, Some(retrying(&one, 1))),
        (Status::Retrying, Some(retrying(&one, 2))),
        (Status::Failed, Some(failed(&one, 3, wal_model::status::Reason::Exhausted))),
        (Status::Pending, Some(samples::redriven(&one, 2, 4))),
        (Status::Completed, Some(completed(&one, 4))),
    ];
    let mut expected = one;
    for (standing, event) in steps {
        if let Some(event) = event {
            expected.state.join(&event);
            store.apply(&[ack(&expected, event)]).await.unwrap();
        }
        for status in statuses {
            let mut answers = if status == standing { vec![expected.clone()] } else { Vec::new() };
            answers.extend((status == Status::Pending).then(|| still.clone()));
            assert_eq!(all(store, &Query::Status { status, range: ALL }).await, answers, "{status} at {standing}");
        }
    }
    let early = Range { from: Timestamp::EPOCH, to: time(WRITTEN_AT) };
    assert_eq!(all(store, &Query::Status { status: Status::Completed, range: early }).await, []);
}
