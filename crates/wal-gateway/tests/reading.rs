//! The gateway as a client sees it: over a socket, against a store.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::Method;
use bytes::Bytes;
use serde_json::{Value, json};
use support::{Entries, Faulty, Hold, MemoryStore, at, serve};
use tokio::net::TcpStream;
use wal_gateway::{Error, Gateway};
use wal_model::entry::BatchPlace;
use wal_model::status::{Event, Failure, Outcome, Reason};
use wal_model::{Entry, Header, Id};
use wal_store::EntryStore;

const HOUR: &str = "from=2024-12-01T10:00:00Z&to=2024-12-01T11:00:00Z";

#[tokio::test]
async fn an_entry_is_shown_with_the_fields_of_the_specification() {
    let entry = Entries::new("saga_execution").tenant("acme").make(|entry| {
        entry.operation = Some(Id::parse("execute_saga").unwrap());
        entry.correlation_id = Some(Id::parse("saga_123").unwrap());
        entry.user = Some(Id::parse("ada").unwrap());
        entry.payload = Bytes::from_static(br#"{"saga_id":"saga_123"}"#);
    });
    let gateway = serve(MemoryStore::of([entry.clone()])).await;

    let shown = gateway.json(&format!("/v1/entries/{}", entry.log_id)).await;

    let specified = json!({
        "log_id": entry.log_id.to_string(),
        "namespace": "saga_execution",
        "timestamp": "2024-12-01T10:00:00.000Z",
        "payload": {"saga_id": "saga_123"},
        "target": "target",
        "lifecycle": {"retry_count": 3, "delay": 60, "backoff": "exponential", "ttl": 604_800, "priority": "normal"},
        "status": "pending",
        "retry_count": 0,
        "correlation_id": "saga_123",
        "metadata": {"user_id": "ada", "tenant_id": "acme", "operation": "execute_saga"},
    });
    for (field, value) in specified.as_object().unwrap() {
        assert_eq!(&shown[field], value, "{field}");
    }
    assert_eq!(shown["origin"], json!({"topic": "wal.ingress", "partition": 3, "offset": 0}));
    assert_eq!((&shown["round"], &shown["attempt"], &shown["attempts"]), (&json!(1), &json!(1), &json!([])));
    assert_eq!(shown["deadline"], "2024-12-08T10:00:00.000Z");
    assert_eq!(shown["answers"], "expected");
}

#[tokio::test]
async fn every_attempt_is_shown_with_what_became_of_it() {
    let mut entry = Entries::new("orders").make(|_| {});
    let event = |attempt: u32, outcome, failure: Option<(&str, &str)>| Event {
        id: uuid::Uuid::from_u128(attempt.into()),
        attempt,
        at: at(u64::from(attempt)),
        delivered_at: Some(at(u64::from(attempt) - 1)),
        outcome,
        failure: failure.map(|(code, message)| Failure { code: code.into(), message: message.into() }),
        ..entry.state.standing.clone()
    };
    let retrying = event(1, Outcome::Retrying { next_attempt_at: at(9) }, Some(("TIMEOUT", "no answer")));
    let failed = event(2, Outcome::Failed { reason: Reason::Exhausted }, Some(("TIMEOUT", "again")));
    entry.state.join(&retrying);
    entry.state.join(&failed);
    let gateway = serve(MemoryStore::of([entry.clone()])).await;

    let shown = gateway.json(&format!("/v1/entries/{}", entry.log_id)).await;

    assert_eq!(
        (&shown["status"], &shown["reason"], &shown["retry_count"]),
        (&json!("failed"), &json!("exhausted"), &json!(1))
    );
    let first = json!({"round": 1, "attempt": 1, "delivered_at": at(0), "answered_at": at(1), "outcome": "retrying",
        "next_attempt_at": at(9), "error_code": "TIMEOUT"});
    assert_eq!(shown["attempts"][0], first);
    assert_eq!(shown["attempts"][1]["reason"], "exhausted");
    assert_eq!((&shown["error_code"], &shown["error"]), (&json!("TIMEOUT"), &json!("again")));
    assert_eq!((&shown["updated_at"], shown.get("next_attempt_at")), (&json!(at(2)), None));
}

#[tokio::test]
async fn what_a_consumer_said_is_shown_verbatim() {
    let mut entry = Entries::new("orders").make(|_| {});
    let result = Some(r#"{"big":1e400}"#.to_owned());
    let completed = Event { outcome: Outcome::Completed { result }, ..entry.state.standing.clone() };
    entry.state.join(&completed);
    let gateway = serve(MemoryStore::of([entry.clone()])).await;
    let text = gateway.text(&format!("/v1/entries/{}", entry.log_id)).await;
    assert!(text.contains(r#""status":"completed""#) && text.contains(r#""result":{"big":1e400}"#), "{text}");
}

#[tokio::test]
async fn a_json_payload_comes_back_byte_for_byte() {
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let payload = format!(r#"{{ "n": 1e400, "n": 0.10,"é":"\u00e9", "deep":{deep}}}"#);
    let entry = Entries::new("orders").make(|entry| entry.payload = Bytes::from(payload.clone()));
    let gateway = serve(MemoryStore::of([entry.clone()])).await;
    let text = gateway.text(&format!("/v1/entries/{}", entry.log_id)).await;
    assert!(text.contains(&format!(r#""payload":{payload},"#)));
}

#[tokio::test]
async fn what_is_not_json_is_shown_in_base64() {
    let entries = Entries::new("orders");
    let binary = entries.make(|entry| {
        entry.content_type = Some("application/octet-stream".into());
        entry.payload = Bytes::from_static(&[0xff, 0]);
        entry.ordering_key = Some(Bytes::from_static(&[0xfe]));
    });
    let number_as_text = entries.make(|entry| {
        entry.content_type = Some("text/plain".into());
        entry.payload = Bytes::from_static(b"42");
        entry.ordering_key = Some(Bytes::from_static(b"customer 7"));
    });
    let untyped = entries.make(|entry| {
        entry.content_type = None;
        entry.payload = Bytes::from_static(b"[42]");
    });
    let gateway = serve(MemoryStore::of([binary.clone(), number_as_text.clone(), untyped.clone()])).await;

    let shown = gateway.json(&format!("/v1/entries/{}", binary.log_id)).await;
    assert_eq!((&shown["payload_base64"], &shown["ordering_key_base64"]), (&json!("/wA="), &json!("/g==")));
    assert_eq!((shown.get("payload"), shown.get("ordering_key")), (None, None));
    let shown = gateway.json(&format!("/v1/entries/{}", number_as_text.log_id)).await;
    assert_eq!((&shown["payload_base64"], &shown["ordering_key"]), (&json!("NDI="), &json!("customer 7")));
    let shown = gateway.json(&format!("/v1/entries/{}", untyped.log_id)).await;
    assert_eq!((&shown["payload"], shown.get("payload_base64")), (&json!([42]), None));
}

#[tokio::test]
async fn an_entry_that_is_not_there_is_not_there_yet() {
    let there = Entries::new("orders").make(|_| {});
    let missing = Entries::new("elsewhere").make(|_| {});
    let gateway = serve(MemoryStore::of([there])).await;
    let problem = gateway.problem(&format!("/v1/entries/{}", missing.log_id), 404).await;
    assert_eq!(problem["code"], "WAL_ENTRY_NOT_FOUND");
    assert_eq!(problem["retryable"], true);
    assert_eq!(problem["title"], "Entry not found");
}

#[tokio::test]
async fn a_log_id_is_the_whole_name_and_not_just_its_key() {
    let entry = Entries::new("orders").make(|_| {});
    let other = entry.log_id.to_string().replace("wal_orders_", "wal_other_");
    let gateway = serve(MemoryStore::of([entry])).await;
    gateway.problem(&format!("/v1/entries/{other}"), 404).await;
}

#[tokio::test]
async fn a_text_that_is_no_log_id_is_refused() {
    let gateway = serve(MemoryStore::of([])).await;
    for wrong in ["wal_orders", "wal_orders_now_7", "%ff"] {
        let problem = gateway.problem(&format!("/v1/entries/{wrong}"), 400).await;
        assert_eq!((&problem["code"], &problem["retryable"]), (&json!("WAL_ID_INVALID"), &json!(false)));
    }
}

#[tokio::test]
async fn another_tenants_entry_is_as_if_it_were_not_there() {
    let entry = Entries::new("orders").tenant("acme").make(|_| {});
    let gateway = serve(MemoryStore::of([entry.clone()])).await;
    let path = format!("/v1/entries/{}", entry.log_id);
    gateway.json(&format!("{path}?tenant=acme")).await;
    gateway.problem(&format!("{path}?tenant=other"), 404).await;
}

#[tokio::test]
async fn a_request_is_found_by_its_id_with_all_members_of_its_batch() {
    let request_id = Id::parse("r 1/ö").unwrap();
    let entries = Entries::new("orders");
    let batch: Vec<Entry> = (0..3)
        .map(|index| {
            entries.make(|entry| {
                entry.request_id = Some(request_id.clone());
                entry.batch = Some(BatchPlace { index, count: 3, default_target: None });
            })
        })
        .collect();
    let elsewhere = Entries::new("other").make(|entry| entry.request_id = Some(request_id.clone()));
    let gateway = serve(MemoryStore::of(batch.into_iter().chain([elsewhere]))).await;

    let found = gateway.json("/v1/entries?namespace=orders&request_id=r%201/%C3%B6").await;

    let mut places: Vec<String> =
        found["entries"].as_array().unwrap().iter().map(|entry| entry["batch"].to_string()).collect();
    places.sort();
    assert_eq!(places, [0, 1, 2].map(|index| format!(r#"{{"count":3,"index":{index}}}"#)));
    assert_eq!(found.get("next_page_token"), None);
    let nothing = gateway.json("/v1/entries?namespace=orders&request_id=r%201/%C3%B6&tenant=acme").await;
    assert_eq!(nothing, json!({"entries": []}));
}

#[tokio::test]
async fn an_operation_is_found_by_its_idempotency_key_with_all_members_of_its_batch() {
    let entries = Entries::new("orders").tenant("acme");
    // The first member of the batch is of another namespace.
    let batch: Vec<Entry> = (1..3)
        .map(|index| {
            entries.identified("k-1", index, |entry| {
                entry.batch = Some(BatchPlace { index, count: 3, default_target: None });
            })
        })
        .collect();
    let gateway = serve(MemoryStore::of(batch)).await;

    let found = gateway.json("/v1/entries?namespace=orders&tenant=acme&idempotency_key=k-1").await;
    assert_eq!(found["entries"].as_array().unwrap().len(), 2);
    let nothing = gateway.json("/v1/entries?namespace=orders&idempotency_key=k-1").await;
    assert_eq!(nothing, json!({"entries": []}));
}

#[tokio::test]
async fn a_range_is_read_page_by_page_without_gaps_or_repeats() {
    let entries = Entries::new("orders");
    let all: Vec<Entry> = (0..90).map(|_| entries.make(|_| {})).collect();
    let elsewhere = Entries::new("other").make(|_| {});
    let gateway = serve(MemoryStore::of(all.iter().cloned().chain([elsewhere]))).await;

    let mut seen = Vec::new();
    let mut query = format!("/v1/entries?namespace=orders&{HOUR}&limit=40");
    let first = query.clone();
    loop {
        let page = gateway.json(&query).await;
        let ids = page["entries"].as_array().unwrap().iter().map(|entry| entry["log_id"].as_str().unwrap().to_owned());
        seen.push(ids.collect::<Vec<_>>());
        let Some(token) = page.get("next_page_token") else { break };
        query = format!("{first}&page_token={}", token.as_str().unwrap());
    }

    assert_eq!(seen.iter().map(Vec::len).collect::<Vec<_>>(), [40, 40, 10]);
    let mut expected: Vec<_> =
        all.iter().map(|entry| (entry.timestamp(), entry.key(), entry.log_id.to_string())).collect();
    expected.sort();
    assert_eq!(seen.concat(), expected.into_iter().map(|(_, _, id)| id).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_page_of_large_entries_ends_early() {
    let entries = Entries::new("orders");
    let large = Bytes::from(format!("\"{}\"", "x".repeat(1024 * 1024)));
    let all: Vec<Entry> = (0..7).map(|_| entries.make(|entry| entry.payload = large.clone())).collect();
    let gateway = serve(MemoryStore::of(all)).await;

    let page = gateway.json(&format!("/v1/entries?namespace=orders&{HOUR}")).await;
    assert_eq!(page["entries"].as_array().unwrap().len(), 3);
    let token = page["next_page_token"].as_str().unwrap();
    let page = gateway.json(&format!("/v1/entries?namespace=orders&{HOUR}&page_token={token}")).await;
    assert_eq!(page["entries"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_tenant_sees_only_its_own_entries_in_a_range() {
    let (acme, other) = (Entries::new("orders").tenant("acme"), Entries::new("orders").tenant("other"));
    let all = [acme.make(|_| {}), other.make(|_| {}), Entries::new("orders").make(|_| {})];
    let gateway = serve(MemoryStore::of(all)).await;
    let page = gateway.json(&format!("/v1/entries?namespace=orders&{HOUR}&tenant=acme")).await;
    let entries = page["entries"].as_array().unwrap();
    assert_eq!((entries.len(), &entries[0]["metadata"]["tenant_id"]), (1, &json!("acme")));
    let page = gateway.json(&format!("/v1/entries?namespace=orders&{HOUR}")).await;
    assert_eq!(page["entries"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn unknown_parameters_are_refused_by_name() {
    let entry = Entries::new("orders").make(|_| {});
    let gateway = serve(MemoryStore::of([entry.clone()])).await;
    let problem = gateway.problem(&format!("/v1/entries?namespace=orders&{HOUR}&tennant=acme"), 400).await;
    assert_eq!(problem["code"], "WAL_QUERY_INVALID");
    assert!(problem["detail"].as_str().unwrap().contains("\"tennant\""), "{problem}");
    gateway.problem(&format!("/v1/entries/{}?fields=all", entry.log_id), 400).await;
}

#[tokio::test]
async fn a_page_token_of_another_query_is_refused() {
    let entries = Entries::new("orders");
    let gateway = serve(MemoryStore::of([entries.make(|_| {}), entries.make(|_| {})])).await;
    let page = gateway.json(&format!("/v1/entries?namespace=orders&{HOUR}&limit=1")).await;
    let token = page["next_page_token"].as_str().unwrap();
    let problem = gateway.problem(&format!("/v1/entries?namespace=other&{HOUR}&page_token={token}"), 400).await;
    assert!(problem["detail"].as_str().unwrap().contains("another query"), "{problem}");
    gateway.problem(&format!("/v1/entries?namespace=orders&{HOUR}&page_token=AAAA"), 400).await;
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there_are_problems_too() {
    let gateway = serve(MemoryStore::of([])).await;
    for path in ["/", "/v1/entry", "/v2/entries", "/v1/entries/a/b"] {
        assert_eq!(gateway.problem(path, 404).await["code"], "WAL_ROUTE_UNKNOWN");
    }
    let answer = gateway.client.ask(Method::POST, gateway.url("/v1/entries")).await.unwrap();
    assert_eq!(answer.status, 405);
    assert!(answer.headers["allow"].to_str().unwrap().contains("GET"));
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert_eq!(answer.json::<Value>()["code"], "WAL_METHOD_NOT_ALLOWED");
}

#[tokio::test]
async fn a_store_that_is_away_is_told_with_when_to_ask_again() {
    let gateway = serve(Faulty(|| wal_store::Error::Unavailable("down for a moment".into()))).await;
    for path in [
        format!("/v1/entries/{}", Entries::new("orders").make(|_| {}).log_id),
        format!("/v1/entries?namespace=orders&{HOUR}"),
    ] {
        let answer = gateway.get(&path).await;
        assert_eq!((answer.status.as_u16(), &answer.headers["retry-after"]), (503, &"1".parse().unwrap()));
        let problem: Value = answer.json();
        assert_eq!((&problem["code"], &problem["retryable"]), (&json!("WAL_STORE_UNAVAILABLE"), &json!(true)));
        assert!(problem["detail"].as_str().unwrap().contains("down for a moment"));
    }
}

#[tokio::test]
async fn a_damaged_store_is_no_reason_to_ask_again() {
    let gateway = serve(Faulty(|| wal_store::Error::Corrupt("row 7".into()))).await;
    let problem = gateway.problem(&format!("/v1/entries?namespace=orders&{HOUR}"), 500).await;
    assert_eq!((&problem["code"], &problem["retryable"]), (&json!("WAL_STORE_CORRUPT"), &json!(false)));
}

#[tokio::test]
async fn answers_are_not_to_be_cached() {
    let entry = Entries::new("orders").make(|entry| entry.headers = vec![Header::new("a", "b")]);
    let gateway = serve(MemoryStore::of([entry.clone()])).await;
    let answer = gateway.get(&format!("/v1/entries/{}", entry.log_id)).await;
    assert_eq!(
        (&answer.headers["cache-control"], &answer.headers["content-type"]),
        (&"no-store".parse().unwrap(), &"application/json".parse().unwrap())
    );
}

#[tokio::test]
async fn a_stop_closes_the_port_even_with_a_client_that_only_sits_there() {
    let gateway = serve(MemoryStore::of([])).await;
    let address = gateway.address;
    let _idle = TcpStream::connect(address).await.unwrap();
    gateway.problem("/", 404).await;
    gateway.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_stop_lets_a_request_under_way_finish() {
    let (entry, hold) = (Entries::new("orders").make(|_| {}), Arc::new(Hold::default()));
    let gateway = serve(MemoryStore::of([entry.clone()]).held(&hold)).await;
    let asked = gateway.client.ask(Method::GET, gateway.url(&format!("/v1/entries/{}", entry.log_id)));
    let asked = tokio::spawn(asked);
    hold.asked.notified().await;

    let stopping = tokio::spawn(gateway.stop());
    hold.go_on.notify_one();

    assert_eq!(asked.await.unwrap().unwrap().status, 200);
    stopping.await.unwrap();
}

#[test]
fn a_port_that_is_taken_is_named() {
    let store: Arc<dyn EntryStore> = Arc::new(MemoryStore::of([]));
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let first = Gateway::bind(any, Arc::clone(&store)).unwrap();
    let error = Gateway::bind(first.address(), store).err().unwrap();
    assert!(matches!(&error, Error::Taken(address) if *address == first.address()), "{error}");
}

#[test]
fn other_machines_are_let_in_only_on_purpose() {
    let store: Arc<dyn EntryStore> = Arc::new(MemoryStore::of([]));
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let error = Gateway::bind(everywhere, Arc::clone(&store)).err().unwrap();
    assert!(error.to_string().contains("gateway.allow_remote"), "{error}");
    let options = wal_gateway::Options { listen: everywhere, reach: wal_gateway::Reach::Anywhere };
    assert!(Gateway::open(&options, store).is_ok());
}
