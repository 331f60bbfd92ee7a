//! What the calls make of answers that no healthy server gives. What they make of healthy ones, the conformance suite shows.

use std::sync::Mutex;

use serde_json::{Value, json};
use wal_model::Code;

use super::*;
use crate::arango::scripted::{Does, Heard, Scripted, answers};
use crate::arango::{indexes, schema};
use crate::samples::{ack, after, completed, entry, entry_in, full_entry, id, retrying, tenant, time};
use crate::{Range, document};

const INSERT: &str = "POST /_db/wal/_api/document/wal_entries";
const FENCE: &str = "POST /_db/wal/_api/document/wal_store";
const CURSOR: &str = "POST /_db/wal/_api/cursor";

fn options(url: &str) -> Options {
    Options {
        // A loaded machine is slow, and nothing here waits for it to pass.
        request_timeout: Duration::from_secs(20),
        sync_wait: Duration::from_millis(1),
        ..Options::new(vec![url.to_owned()], "wal")
    }
}

/// What a server says to everything that opening asks.
fn opening(heard: &Heard) -> Option<Value> {
    let options = options("");
    let path = heard.line.strip_prefix("GET /_db/wal/_api/")?;
    Some(match path {
        "version" => json!({ "server": "arango", "license": "community", "version": "3.12.10" }),
        "database/current" => json!({ "error": false, "code": 200, "result":
            { "name": "wal", "id": "1", "path": "none", "isSystem": false } }),
        "document/wal_store/store" => json!({ "_key": "store", "format": 1, "store_id": uuid::Uuid::nil() }),
        "index?collection=wal_entries" => {
            let mut list: Vec<Value> = Vec::new();
            for wanted in indexes::wanted((options.retention.as_secs()) + 7 * 24 * 3600) {
                let mut index = wanted.definition();
                index["id"] = json!("wal_entries/1");
                list.push(index);
            }
            json!({ "indexes": list })
        }
        "collection/wal_entries/count" => json!({ "count": 0 }),
        _ if path.ends_with("/properties") => json!({ "type": 2, "keyOptions": { "allowUserKeys": true } }),
        _ => return None,
    })
}

/// A store on a server that answers the opening, and everything after it by a script.
async fn store_on(script: impl Fn(&Heard) -> Does + Send + Sync + 'static) -> (ArangoStore, Scripted) {
    let server = Scripted::start(move |heard| {
        if heard.line.ends_with("/_api/explain") {
            return answers(200, json!({ "plan": { "nodes": [] } }).to_string());
        }
        match opening(heard) {
            Some(answer) => answers(200, answer.to_string()),
            None => script(heard),
        }
    })
    .await;
    let store = ArangoStore::open(&options(&server.url)).await.unwrap();
    (store, server)
}

/// A script of the answers to inserts, the last for ever; a fence succeeds, and a question finds nothing.
fn inserts(turns: Vec<Does>) -> impl Fn(&Heard) -> Does + Send + Sync + 'static {
    let turn = Mutex::new(0);
    move |heard| {
        if !heard.line.starts_with(INSERT) {
            return answers(201, json!({ "result": [], "hasMore": false }).to_string());
        }
        let mut turn = turn.lock().unwrap();
        *turn += 1;
        turns[(*turn - 1).min(turns.len() - 1)].clone()
    }
}

fn stored(entry: &Entry) -> Value {
    json!({ "_id": format!("wal_entries/{}", entry.key()), "_key": entry.key(), "_rev": "_l6zh" })
}

fn failed(number: u32) -> Value {
    json!({ "error": true, "errorNum": number, "errorMessage": "no" })
}

fn array(elements: &[Value]) -> Does {
    answers(201, Value::from(elements).to_string())
}

/// The keys of the documents of each array that was sent.
fn sent(server: &Scripted) -> Vec<Vec<String>> {
    let keys = |heard: &Heard| {
        let documents: Vec<Value> = serde_json::from_str(&heard.body).unwrap();
        documents.iter().map(|document| document["_key"].as_str().unwrap().to_owned()).collect()
    };
    server.heard_of(INSERT).iter().map(keys).collect()
}

fn keys(entries: &[&Entry]) -> Vec<String> {
    entries.iter().map(|entry| entry.key().to_string()).collect()
}

fn is_refused(inserted: &Inserted) -> bool {
    matches!(inserted, Inserted::Refused(refusal) if refusal.code == Code::WriteError)
}

#[tokio::test]
async fn answers_that_make_no_sense_are_no_answers() {
    let (one, two) = (entry("one"), entry("two"));
    let deep = "[".repeat(100_000);
    let odd = [
        json!([]).to_string(),
        json!([stored(&one)]).to_string(),
        json!([stored(&one), stored(&two), stored(&two)]).to_string(),
        json!([stored(&two), stored(&one)]).to_string(),
        json!([stored(&one), null]).to_string(),
        json!([stored(&one), { "error": "yes" }]).to_string(),
        json!([stored(&one), { "error": true, "errorNum": "1210" }]).to_string(),
        json!([stored(&one), {}]).to_string(),
        json!({ "error": false }).to_string(),
        String::new(),
        "<html>welcome</html>".to_owned(),
        deep,
    ];
    for odd in odd {
        let (store, _server) = store_on(inserts(vec![answers(201, odd.clone())])).await;
        let answer = store.insert(&[one.clone(), two.clone()]).await;
        assert!(matches!(answer, Err(Error::Unavailable(_))), "{odd:.60}: {answer:?}");
        let (store, _server) = store_on(move |_| answers(201, odd.clone())).await;
        let answer = store.get(&[entry("one").key()]).await;
        assert!(matches!(answer, Err(Error::Unavailable(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn a_document_that_cannot_be_kept_harms_no_other() {
    let (one, bad, two) = (entry("one"), entry("bad"), entry("two"));
    let turns = vec![array(&[stored(&one), failed(1221), stored(&two)]), array(&[failed(1221)])];
    let (store, server) = store_on(inserts(turns)).await;
    let answers = store.insert(&[one, bad, two]).await.unwrap();
    assert!(answers[0] == Inserted::Stored && is_refused(&answers[1]) && answers[2] == Inserted::Stored);
    assert_eq!(server.heard_of(FENCE).len(), 0);
}

#[tokio::test]
async fn what_is_refused_for_its_readable_copy_is_stored_without_it() {
    let one = entry("one");
    let turns = vec![array(&[failed(1620)]), array(&[stored(&one)])];
    let (store, server) = store_on(inserts(turns)).await;
    assert_eq!(store.insert(std::slice::from_ref(&one)).await.unwrap(), [Inserted::Stored]);
    let copies: Vec<bool> = server.heard_of(INSERT).iter().map(|heard| heard.body.contains("\"payload\":")).collect();
    assert_eq!(copies, [true, false]);
    // Where there was no copy there is nothing to leave out.
    let full = full_entry("full");
    let (store, server) = store_on(inserts(vec![array(&[failed(1620)])])).await;
    assert!(is_refused(&store.insert(&[full]).await.unwrap()[0]));
    assert_eq!(server.heard_of(INSERT).len(), 1);
}

#[tokio::test]
async fn of_an_array_that_is_refused_whole_the_one_at_fault_is_found() {
    let (one, bad, two) = (entry("one"), entry("bad"), entry("two"));
    for whole in [(400, 600), (413, 0), (500, 32)] {
        let refuses = answers(whole.0, failed(whole.1).to_string());
        let turns = vec![
            refuses.clone(),
            array(&[stored(&one)]),
            refuses.clone(),
            refuses.clone(),
            array(&[stored(&two)]),
            refuses.clone(),
        ];
        let (store, server) = store_on(inserts(turns)).await;
        let answers = store.insert(&[one.clone(), bad.clone(), two.clone()]).await.unwrap();
        assert!(answers[0] == Inserted::Stored && is_refused(&answers[1]) && answers[2] == Inserted::Stored);
        let halves = [keys(&[&one, &bad, &two]), keys(&[&one]), keys(&[&bad, &two]), keys(&[&bad]), keys(&[&two])];
        let bare = keys(&[&bad]);
        assert_eq!(sent(&server), [halves.as_slice(), &[bare]].concat());
    }
}

#[tokio::test]
async fn what_a_resource_limit_left_out_is_sent_in_halves() {
    let entries = ["a", "b", "c", "d"].map(entry);
    let [a, b, c, d] = &entries;
    let turns = vec![
        array(&[stored(a), failed(32), failed(32), failed(32)]),
        array(&[stored(b)]),
        array(&[failed(32), failed(32)]),
        array(&[failed(32)]),
        array(&[stored(d)]),
        array(&[failed(32)]),
    ];
    let (store, server) = store_on(inserts(turns)).await;
    let answers = store.insert(&entries).await.unwrap();
    assert!(is_refused(&answers[2]));
    assert!([0, 1, 3].iter().all(|at| answers[*at] == Inserted::Stored), "{answers:?}");
    assert_eq!(sent(&server)[1..], [keys(&[b]), keys(&[c, d]), keys(&[c]), keys(&[d]), keys(&[c])]);
}

#[tokio::test]
async fn only_those_that_met_another_write_are_sent_again() {
    let (one, two) = (entry("one"), entry("two"));
    let turns = vec![
        answers(409, failed(1200).to_string()),
        array(&[stored(&one), failed(1200)]),
        array(&[failed(1200)]),
        array(&[stored(&two)]),
    ];
    let (store, server) = store_on(inserts(turns)).await;
    assert_eq!(store.insert(&[one.clone(), two.clone()]).await.unwrap(), [Inserted::Stored, Inserted::Stored]);
    assert_eq!(sent(&server), [keys(&[&one, &two]), keys(&[&one, &two]), keys(&[&two]), keys(&[&two])]);
}

#[tokio::test]
async fn others_in_the_way_for_ever_are_told() {
    let (store, server) = store_on(inserts(vec![array(&[failed(1200)])])).await;
    let Err(Error::Unavailable(why)) = store.insert(&[entry("one")]).await else { panic!("it ended otherwise") };
    assert!(why.contains("12 times"), "{why}");
    assert_eq!(server.heard_of(INSERT).len(), 12);
}

#[tokio::test]
async fn an_insert_that_may_have_happened_is_left_to_the_caller() {
    for does in [Does::HangsUp, answers(503, "")] {
        let (store, server) = store_on(inserts(vec![does])).await;
        assert!(matches!(store.insert(&[entry("one")]).await, Err(Error::Unavailable(_))));
        assert_eq!(server.heard_of(INSERT).len(), 1);
    }
}

/// A server that has one entry, finds nothing else, and takes every write.
fn with(one: Entry) -> impl Fn(&Heard) -> Does + Send + Sync + 'static {
    move |heard| {
        let document: Value = serde_json::from_str(&document::encode(&one, ReadableCopy::Omitted)).unwrap();
        if heard.line.starts_with(INSERT) {
            return array(&[failed(1210)]);
        }
        if heard.line.starts_with(FENCE) {
            return answers(201, "{}");
        }
        let row = match heard.body.as_str() {
            body if body.contains("UPDATE") => json!(one.key()),
            body if body.contains("d._rev") => {
                json!({ "key": one.key(), "rev": "_r", "log_id": one.log_id, "tenant": one.tenant, "state": one.state })
            }
            _ => document,
        };
        answers(201, json!({ "result": [row], "hasMore": false }).to_string())
    }
}

#[tokio::test]
async fn a_duplicate_is_read_and_then_fenced() {
    let one = entry("one");
    let (store, server) = store_on(with(one.clone())).await;
    let answers = store.insert(std::slice::from_ref(&one)).await.unwrap();
    assert_eq!(answers, [Inserted::Present(Box::new(one))]);
    let lines: Vec<String> = server.heard().into_iter().map(|heard| heard.line).collect();
    let last: Vec<&str> = lines[lines.len() - 3..].iter().map(|line| line.split('?').next().unwrap()).collect();
    assert_eq!(last, [INSERT, CURSOR, FENCE]);
    assert!(lines.last().unwrap().ends_with("overwriteMode=replace&waitForSync=true"));
}

#[tokio::test]
async fn no_fence_no_present() {
    let one = entry("one");
    let has_one = with(one.clone());
    let script = move |heard: &Heard| if heard.line.starts_with(FENCE) { answers(500, "") } else { has_one(heard) };
    let (store, _server) = store_on(script).await;
    assert!(matches!(store.insert(&[one]).await, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn a_duplicate_that_is_not_there_is_refused_in_the_end() {
    let script = |heard: &Heard| match heard.line.as_str() {
        line if line.starts_with(INSERT) => array(&[failed(1210)]),
        _ => answers(201, json!({ "result": [], "hasMore": false }).to_string()),
    };
    let (store, server) = store_on(script).await;
    let answers = store.insert(&[entry("one")]).await.unwrap();
    assert!(is_refused(&answers[0]));
    assert_eq!(server.heard_of(INSERT).len(), 4);
}

#[tokio::test]
async fn a_state_that_was_only_read_is_fenced_and_one_that_was_written_is_not() {
    let one = entry("one");
    let event = ack(&one, completed(&one, 1));
    let (store, server) = store_on(with(one.clone())).await;
    let done = after(one.clone(), &[completed(&one, 1)]);
    let applied = store.apply(std::slice::from_ref(&event)).await.unwrap();
    assert_eq!(applied, [Applied::State(Box::new(done.state.clone()))]);
    assert_eq!(server.heard_of(FENCE).len(), 0);
    let written: Value = serde_json::from_str(&server.heard_of(CURSOR).last().unwrap().body).unwrap();
    assert_eq!(written["bindVars"]["rows"][0]["rev"], "_r");
    assert_eq!(written["bindVars"]["rows"][0]["standing"]["deadline"], Value::Null);
    assert_eq!(written["options"], json!({ "failOnWarning": true, "fillBlockCache": true, "stream": false }));

    let (store, server) = store_on(with(done.clone())).await;
    assert_eq!(store.apply(&[event]).await.unwrap(), [Applied::State(Box::new(done.state))]);
    assert_eq!(server.heard_of(FENCE).len(), 1);
}

#[tokio::test]
async fn what_somebody_else_changed_is_read_and_joined_again() {
    let one = entry("one");
    let theirs = after(one.clone(), &[retrying(&one, 1)]);
    let (before, behind) = (with(one.clone()), with(theirs.clone()));
    let writes = Mutex::new(0);
    let script = move |heard: &Heard| {
        let mut writes = writes.lock().unwrap();
        if heard.body.contains("UPDATE") {
            *writes += 1;
            match *writes {
                1 => return answers(201, json!({ "result": [], "hasMore": false }).to_string()),
                2 => return answers(409, failed(1200).to_string()),
                _ => {}
            }
        }
        if *writes == 0 { before(heard) } else { behind(heard) }
    };
    let (store, server) = store_on(script).await;
    let expected = after(theirs, &[retrying(&one, 2)]).state;
    let applied = store.apply(&[ack(&one, retrying(&one, 2))]).await.unwrap();
    assert_eq!(applied, [Applied::State(Box::new(expected))]);
    assert_eq!(server.heard_of(CURSOR).len(), 6);
}

#[tokio::test]
async fn a_removal_that_may_have_happened_is_left_to_the_caller() {
    let (store, server) = store_on(|_| Does::HangsUp).await;
    assert!(matches!(store.remove(&[entry("one").key()], time(1)).await, Err(Error::Unavailable(_))));
    assert_eq!(server.heard_of(CURSOR).len(), 1);
}

fn batch(entries: &[&Entry], more: Option<&str>) -> Does {
    let rows: Vec<Value> = entries
        .iter()
        .map(|entry| serde_json::from_str(&document::encode(entry, ReadableCopy::Omitted)).unwrap())
        .collect();
    answers(201, json!({ "result": rows, "hasMore": more.is_some(), "id": more }).to_string())
}

#[tokio::test]
async fn a_cursor_is_followed_and_a_lost_one_is_asked_anew() {
    let (one, two) = (entry("one"), entry("two"));
    let (first, second) = (batch(&[&one], Some("77")), batch(&[&two], None));
    let gone = answers(404, json!({ "error": true, "errorNum": 1600, "errorMessage": "gone" }).to_string());
    for lost in [gone, Does::HangsUp, answers(503, ""), answers(410, "")] {
        let follows = Mutex::new(0);
        let (first, second) = (first.clone(), second.clone());
        let script = move |heard: &Heard| {
            if !heard.line.ends_with("/_api/cursor/77") {
                return first.clone();
            }
            let mut follows = follows.lock().unwrap();
            *follows += 1;
            if *follows == 1 { lost.clone() } else { second.clone() }
        };
        let (store, server) = store_on(script).await;
        let found = store.get(&[two.key(), one.key()]).await.unwrap();
        assert_eq!(found, [Some(two.clone()), Some(one.clone())]);
        assert_eq!(server.heard_of(CURSOR).len(), 4);
    }
}

#[tokio::test]
async fn cursors_that_lead_nowhere_end() {
    let (one, two) = (entry("one"), entry("two"));
    let odd = [
        batch(&[], Some("77")),
        batch(&[&one], Some("../../x")),
        batch(&[&one, &two], None),
        answers(201, json!({ "result": [], "hasMore": true }).to_string()),
        batch(&[&one], Some("77")),
    ];
    for odd in odd {
        let (store, _server) = store_on(move |_| odd.clone()).await;
        assert!(matches!(store.get(&[one.key()]).await, Err(Error::Unavailable(_))));
    }
}

#[tokio::test]
async fn a_page_that_is_too_large_is_asked_for_in_smaller_ones() {
    let mut entries = [entry("one"), entry("two")];
    entries.sort_by_key(Entry::key);
    let [one, two] = entries;
    let script = {
        let (one, two) = (one.clone(), two.clone());
        move |heard: &Heard| {
            let asked: Value = serde_json::from_str(&heard.body).unwrap();
            match (asked["bindVars"]["limit"].as_u64().unwrap(), asked["bindVars"]["after_key"].as_str().unwrap()) {
                (2.., _) => answers(500, failed(32).to_string()),
                (_, "") => batch(&[&one], None),
                (_, key) if key == one.key().to_string() => batch(&[&two], None),
                _ => batch(&[], None),
            }
        }
    };
    let (store, _server) = store_on(script).await;
    let found = store.expired(Timestamp::MAX, None, 10).await.unwrap();
    assert_eq!(found, [one, two]);
}

/// To the database's language `é` is one letter, however it is spelled.
#[tokio::test]
async fn only_what_was_meant_letter_by_letter_is_an_answer() {
    let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
    let of = |name: &str, owner: &str| Entry {
        tenant: Some(tenant(owner)),
        correlation_id: Some(id(owner)),
        request_id: Some(id(owner)),
        ..entry(name)
    };
    let mut all: Vec<Entry> =
        (0..6).map(|at| of(&format!("{at}"), if at % 3 == 0 { composed } else { decomposed })).collect();
    all.sort_by_key(Entry::key);
    let script = {
        let all = all.clone();
        move |heard: &Heard| {
            let bound = serde_json::from_str::<Value>(&heard.body).unwrap()["bindVars"].clone();
            let after = bound["after_key"].as_str().unwrap().to_owned();
            let limit = bound["limit"].as_u64().unwrap() as usize;
            let page = all.iter().filter(|entry| entry.key().to_string() > after).take(limit);
            batch(&page.collect::<Vec<_>>(), None)
        }
    };
    let (store, _server) = store_on(script).await;
    let expected: Vec<Entry> = all.iter().filter(|entry| entry.tenant == Some(tenant(composed))).cloned().collect();
    assert_eq!(expected.len(), 2);
    let range = Range { from: Timestamp::EPOCH, to: Timestamp::MAX };
    let namespace = all[0].namespace().clone();
    for query in [
        Query::Tenant { tenant: tenant(composed), namespace, range },
        Query::Correlation { correlation_id: id(composed) },
        Query::Request { tenant: Some(tenant(composed)), request_id: id(composed) },
    ] {
        let page = store.scan(&query, None, 1).await.unwrap();
        assert_eq!((page.entries.as_slice(), page.next.is_some()), (&expected[..1], true), "{query:?}");
        let page = store.scan(&query, page.next, 1).await.unwrap();
        assert_eq!((page.entries.as_slice(), page.next), (&expected[1..], None), "{query:?}");
    }
}

#[tokio::test]
async fn an_index_that_is_out_of_order_is_damage() {
    let (early, late) = (entry_in("orders", 1000, "early"), entry_in("orders", 2000, "late"));
    let answer = batch(&[&late, &early], None);
    let (store, _server) = store_on(move |_| answer.clone()).await;
    let range = Range { from: Timestamp::EPOCH, to: Timestamp::MAX };
    let query = Query::Namespace { namespace: early.namespace().clone(), range };
    let answer = store.scan(&query, None, 10).await;
    assert!(matches!(&answer, Err(Error::Corrupt(why)) if why.contains("language")), "{answer:?}");
}

/// The servers of a cluster have a log each, and nobody says whose it was: what was seen is waited for.
#[tokio::test]
async fn in_a_cluster_a_duplicate_is_waited_for() {
    let one = entry("one");
    let has_one = with(one.clone());
    let server = Scripted::start(move |heard| match opening(heard) {
        Some(mut properties) if heard.line.ends_with("/properties") => {
            properties["shardKeys"] = json!(["_key"]);
            properties["replicationFactor"] = json!(3);
            properties["writeConcern"] = json!(2);
            answers(200, properties.to_string())
        }
        Some(answer) => answers(200, answer.to_string()),
        None if heard.line.ends_with("/_api/explain") => answers(200, json!({ "plan": { "nodes": [] } }).to_string()),
        None => has_one(heard),
    })
    .await;
    let options = Options { sync_wait: Duration::from_millis(300), ..options(&server.url) };
    let store = ArangoStore::open(&options).await.unwrap();
    let begun = tokio::time::Instant::now();
    assert_eq!(store.insert(std::slice::from_ref(&one)).await.unwrap(), [Inserted::Present(Box::new(one))]);
    assert!(begun.elapsed() >= options.sync_wait);
    assert_eq!(server.heard_of(FENCE).len(), 0);
}

#[tokio::test]
async fn damage_is_told_from_silence() {
    let (store, _server) = store_on(|_| answers(201, "{\"result\": [{\"_key\": 7}], \"hasMore\": false}")).await;
    assert!(matches!(store.get(&[entry("one").key()]).await, Err(Error::Corrupt(_))));
    assert!(matches!(store.apply(&[ack(&entry("one"), completed(&entry("one"), 1))]).await, Err(Error::Corrupt(_))));
    let (store, _server) = store_on(|_| answers(404, failed(1203).to_string())).await;
    assert!(matches!(store.get(&[entry("one").key()]).await, Err(Error::Corrupt(_))));
}

#[tokio::test]
async fn what_is_missing_is_named_with_what_makes_it() {
    let nothing = |heard: &Heard| match opening(heard) {
        Some(_) if heard.line.ends_with("/properties") => answers(404, failed(1203).to_string()),
        Some(answer) => answers(200, answer.to_string()),
        None => answers(500, ""),
    };
    let server = Scripted::start(nothing).await;
    let error = ArangoStore::open(&options(&server.url)).await.unwrap_err();
    let said = error.to_string();
    assert!(said.contains("no collection `wal_entries`, there is no collection `wal_store`"), "{said}");
    assert!(said.contains("wal store apply"), "{said}");
    assert_eq!(schema::plan(&options(&server.url)).await.unwrap().len(), 2);
    assert!(server.heard().iter().all(|heard| heard.line.starts_with("GET ")));
}

#[tokio::test]
async fn what_a_newer_program_made_and_what_is_too_old_is_not_opened() {
    for (path, answer, said) in [
        ("document/wal_store/store", json!({ "_key": "store", "format": 2, "id": 7 }), "format 2"),
        ("version", json!({ "server": "arango", "license": "community", "version": "3.10.9" }), "3.10.9"),
        ("document/wal_store/store", json!({ "_key": "store" }), "damaged"),
    ] {
        let server = Scripted::start(move |heard| match opening(heard) {
            Some(_) if heard.line.ends_with(path) => answers(200, answer.to_string()),
            Some(usual) => answers(200, usual.to_string()),
            None => answers(200, json!({ "plan": { "nodes": [] } }).to_string()),
        })
        .await;
        let error = ArangoStore::open(&options(&server.url)).await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
}
