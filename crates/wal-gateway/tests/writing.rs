//! The writing side as a client sees it, and what it publishes as those see it who read their topics.

mod support;

use std::time::Duration;

use axum::http::Request;
use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use support::{Entries, MEMORY, MemoryStore, Recorder, at, keyring, read_back, serve, serve_writing};
use wal_model::ack::Ack;
use wal_model::answer::{Completed, Failed, Wish};
use wal_model::cancel::Cancel;
use wal_model::delivery::Delivery;
use wal_model::entry::Answers;
use wal_model::status::{Event, Failure, Outcome, Reason, Status};
use wal_model::{Entry, Id, Timestamp, record, wire};
use wal_runtime::transactions;

/// The time of the first entries of a namespace.
const WRITTEN: u64 = 0;

fn pending() -> Entry {
    Entries::new("orders").tenant("acme").make(|entry| {
        entry.operation = Some(Id::parse("place").unwrap());
        entry.payload = Bytes::from_static(br#"{"n":1}"#);
        entry.ordering_key = Some(Bytes::from_static(b"customer 7"));
    })
}

fn folded(mut entry: Entry, attempt: u32, second: u64, outcome: Outcome) -> Entry {
    let event = Event {
        id: entry.key().derive(&format!("{attempt} {second}")),
        attempt,
        at: at(second),
        delivered_at: Some(at(second - 1)),
        outcome,
        failure: Some(Failure { code: "TIMEOUT".into(), message: "no answer".into() }),
        ..entry.state.standing.clone()
    };
    entry.state.join(&event);
    entry
}

/// Attempt 1 failed after 5 s; attempt 2 is due after 65 s.
fn retrying() -> Entry {
    folded(pending(), 1, 5, Outcome::Retrying { next_attempt_at: at(65) })
}

fn path(entry: &Entry, what: &str) -> String {
    format!("/v1/entries/{}/{what}", entry.log_id)
}

#[tokio::test]
async fn a_completed_attempt_is_what_a_consumer_would_have_sent() {
    let (entry, brokers) = (pending(), Recorder::new());
    let gateway = serve_writing([entry.clone()], &brokers, at(30)).await;

    let taken = gateway.taken(&path(&entry, "complete"), r#"{"result": {"paid": true}}"#).await;

    let expected = json!({"log_id": entry.log_id.to_string(), "round": 1, "attempt": 1, "answer": "completed"});
    assert_eq!(taken, expected);
    let [ack] = &brokers.only()[..] else { panic!("one record") };
    assert_eq!((ack.topic.as_str(), ack.key.as_deref()), ("wal.acks", Some(entry.log_id.to_string().as_bytes())));
    let completed = Completed::decode(ack, &keyring()).unwrap();
    assert_eq!(completed.result.as_deref(), Some(r#"{"paid": true}"#));
    assert_eq!(completed.echo.delivery, Delivery { payload: Bytes::new(), ..Delivery::of(&entry) });
    // When it was really published is not known; it was due then.
    assert_eq!(completed.echo.sent, at(WRITTEN));
}

#[tokio::test]
async fn a_failed_attempt_is_what_a_consumer_would_have_sent() {
    let wishes = [
        (r#""retryable": true"#, Wish::None),
        (r#""retryable": false"#, Wish::Never),
        (r#""retry_after": 2.5"#, Wish::After(Duration::from_millis(2500))),
    ];
    for (told, wish) in wishes {
        let (entry, brokers) = (retrying(), Recorder::new());
        let gateway = serve_writing([entry.clone()], &brokers, at(65)).await;

        let body = format!(r#"{{"attempt": 2, "error_code": "CARD_DECLINED", "error": "no funds", {told}}}"#);
        let taken = gateway.taken(&path(&entry, "fail"), &body).await;

        assert_eq!((&taken["attempt"], &taken["answer"]), (&json!(2), &json!("failed")));
        let [failure] = &brokers.only()[..] else { panic!("one record") };
        assert_eq!(failure.topic.as_str(), "wal.failures");
        let failed = Failed::decode(failure, &keyring()).unwrap();
        assert_eq!(failed.failure, Failure { code: "CARD_DECLINED".into(), message: "no funds".into() });
        assert_eq!((failed.wish, &failed.echo.delivery.payload), (wish, &entry.payload));
        assert_eq!((failed.echo.delivery.attempt, failed.echo.sent), (2, at(65)));
    }
}

#[tokio::test]
async fn a_retry_is_a_failure_that_wishes_for_the_next_attempt_at_once() {
    let (entry, brokers) = (pending(), Recorder::new());
    let gateway = serve_writing([entry.clone()], &brokers, at(30)).await;
    gateway.taken(&path(&entry, "retry"), "").await;
    let failed = Failed::decode(&brokers.only()[0], &keyring()).unwrap();
    assert_eq!((failed.wish, failed.failure.code.as_str()), (Wish::After(Duration::ZERO), "retry_requested"));
}

#[tokio::test]
async fn a_retry_never_ends_an_entry() {
    let entry = Entries::new("orders").make(|entry| entry.lifecycle.retry_count = 0);
    let late = pending();
    let deadline = late.state.deadline();
    let brokers = Recorder::new();
    let gateway = serve_writing([entry.clone()], &brokers, at(30)).await;
    assert_eq!(gateway.refused(&path(&entry, "retry"), "").await, "WAL_ATTEMPT_INVALID");
    let gateway = serve_writing([late.clone()], &brokers, deadline.saturating_add(Duration::from_millis(1))).await;
    assert_eq!(gateway.refused(&path(&late, "retry"), "").await, "WAL_EXPIRED");
    // It may still be told that it is done.
    gateway.taken(&path(&late, "complete"), "").await;
}

#[tokio::test]
async fn a_cancel_tells_the_scheduler_and_the_status_in_one_transaction() {
    let (entry, brokers) = (retrying(), Recorder::new());
    let gateway = serve_writing([entry.clone()], &brokers, at(30)).await;

    let taken = gateway.taken(&path(&entry, "cancel"), r#"{"round": 1}"#).await;

    assert_eq!(taken, json!({"log_id": entry.log_id.to_string(), "round": 1, "answer": "cancelled"}));
    let [cancel, ack] = &brokers.only()[..] else { panic!("two records") };
    assert_eq!((cancel.topic.as_str(), ack.topic.as_str()), ("wal.cancels", "wal.acks"));
    let cancel = Cancel::decode(cancel, &keyring()).unwrap();
    let deadline = entry.state.deadline();
    assert_eq!(cancel, Cancel { log_id: entry.log_id.clone(), round: 1, deadline });
    let ack = Ack::decode(ack, &keyring()).unwrap();
    assert_eq!((&ack.log_id, &ack.tenant), (&entry.log_id, &entry.tenant));
    assert_eq!((ack.event.attempt, ack.event.failure.as_ref().unwrap().code.as_str()), (2, "WAL_CANCELLED"));
    let mut state = entry.state.clone();
    state.join(&ack.event);
    assert_eq!((state.status(), state.reason()), (Status::Failed, Some(Reason::Cancelled)));
    assert_eq!(state.standing.at, at(30));
    assert_eq!(state.history[&1], entry.state.history[&1], "how the attempt before ended is still told");
}

#[tokio::test]
async fn what_is_finished_takes_no_answer_any_more() {
    let done = folded(pending(), 1, 5, Outcome::Completed { result: None });
    let gateway = serve_writing([done.clone()], &Recorder::new(), at(30)).await;
    let failure = r#"{"error_code": "X", "error": "y"}"#;
    for (what, body) in [("complete", "{}"), ("fail", failure), ("retry", "{}"), ("cancel", "{}")] {
        let answer = gateway.post(&path(&done, what), body).await;
        assert_eq!(answer.status, 409, "{what}");
        assert_eq!(answer.json::<Value>()["code"], "WAL_ENTRY_FINISHED", "{what}");
    }
}

#[tokio::test]
async fn an_attempt_that_nobody_has_cannot_be_answered() {
    let entry = retrying();
    let before = serve_writing([entry.clone()], &Recorder::new(), at(64)).await;
    for body in ["", r#"{"attempt": 1}"#, r#"{"attempt": 2}"#] {
        let answer = before.post(&path(&entry, "complete"), body).await;
        let problem: Value = answer.json();
        assert_eq!((answer.status.as_u16(), &problem["code"]), (409, &json!("WAL_ATTEMPT_ANSWERED")), "{body}");
        let told = problem["detail"].as_str().unwrap();
        assert!(told.contains(&format!("attempt 2 is due at {}", at(65))), "{told}");
    }
    let after = serve_writing([entry.clone()], &Recorder::new(), at(65)).await;
    assert_eq!(after.refused(&path(&entry, "complete"), r#"{"attempt": 1}"#).await, "WAL_ATTEMPT_ANSWERED");
    assert_eq!(after.refused(&path(&entry, "complete"), r#"{"attempt": 3}"#).await, "WAL_ATTEMPT_INVALID");
    after.taken(&path(&entry, "complete"), r#"{"attempt": 2}"#).await;

    let delayed = Entries::new("orders").make(|entry| entry.deliver_at = Some(at(100)));
    let before = serve_writing([delayed.clone()], &Recorder::new(), at(99)).await;
    assert_eq!(before.refused(&path(&delayed, "complete"), "").await, "WAL_ATTEMPT_NOT_DUE");
    before.taken(&path(&delayed, "cancel"), "").await;
    let unanswered = Entries::new("orders").make(|entry| entry.answers = Answers::None);
    let gateway = serve_writing([unanswered.clone()], &Recorder::new(), at(99)).await;
    assert_eq!(gateway.refused(&path(&unanswered, "complete"), "").await, "WAL_ANSWER_MISPLACED");
}

#[tokio::test]
async fn rounds_that_are_over_or_not_begun_are_not_cancelled() {
    let mut entry = pending();
    let redriven =
        Event { id: entry.key().derive("2"), round: 2, round_first: 2, attempt: 2, ..entry.state.standing.clone() };
    entry.state.join(&redriven);
    let brokers = Recorder::new();
    let gateway = serve_writing([entry.clone()], &brokers, at(30)).await;
    assert_eq!(gateway.refused(&path(&entry, "cancel"), r#"{"round": 1}"#).await, "WAL_ENTRY_FINISHED");
    assert_eq!(gateway.refused(&path(&entry, "cancel"), r#"{"round": 3}"#).await, "WAL_INVALID_REQUEST");
    assert_eq!(gateway.taken(&path(&entry, "cancel"), "{}").await["round"], 2);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_and_nothing_is_published() {
    let (entry, brokers) = (pending(), Recorder::new());
    let gateway = serve_writing([entry.clone()], &brokers, at(30)).await;
    let large = format!(r#"{{"result": "{}"}}"#, "x".repeat(300_000));
    let table = [
        ("complete", "{", "WAL_INVALID_JSON"),
        ("complete", "[1]", "WAL_INVALID_REQUEST"),
        ("complete", r#"{"atempt": 1}"#, "WAL_INVALID_REQUEST"),
        ("complete", r#"{"attempt": -1}"#, "WAL_INVALID_REQUEST"),
        ("complete", &large, "WAL_PAYLOAD_TOO_LARGE"),
        ("fail", "", "WAL_INVALID_REQUEST"),
        ("fail", r#"{"error_code": "", "error": "x"}"#, "WAL_INVALID_REQUEST"),
        ("fail", r#"{"error_code": "X", "error": "x", "retry_after": -1}"#, "WAL_INVALID_REQUEST"),
        ("fail", r#"{"error_code": "X", "error": "x", "retry_after": 1e9}"#, "WAL_INVALID_REQUEST"),
        ("fail", r#"{"error_code": "X", "error": "x", "retryable": false, "retry_after": 1}"#, "WAL_INVALID_REQUEST"),
    ];
    for (what, body, code) in table {
        assert_eq!(gateway.refused(&path(&entry, what), body).await, code, "{what} {body:.80}");
    }
    let missing = Entries::new("elsewhere").make(|_| {});
    assert_eq!(gateway.post(&path(&missing, "complete"), "").await.status, 404);
    let tenant = format!("{}?tenant=other", path(&entry, "complete"));
    assert_eq!(gateway.post(&tenant, "").await.status, 404);
    assert_eq!(gateway.refused("/v1/entries/wal_x/cancel", "").await, "WAL_ID_INVALID");
    assert_eq!(brokers.transactions(), Vec::<Vec<_>>::new());
}

#[tokio::test]
async fn a_page_in_a_browser_changes_nothing() {
    let (entry, brokers) = (pending(), Recorder::new());
    let gateway = serve_writing([entry.clone()], &brokers, at(30)).await;
    let url = gateway.url(&path(&entry, "cancel"));
    let simple = Request::post(&url).header("content-type", "text/plain").body(Full::default()).unwrap();
    assert_eq!(gateway.client.send(simple).await.unwrap().status, 400);
    let rebound = Request::post(&url).header("content-type", "application/json").header("host", "wal.example:80");
    let answer = gateway.client.send(rebound.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.json::<Value>()["code"].clone()), (403, json!("WAL_ACCESS_DENIED")));
    assert_eq!(brokers.transactions(), Vec::<Vec<_>>::new());
}

#[tokio::test]
async fn what_the_brokers_did_not_take_and_what_nobody_knows_are_told_apart() {
    let entry = pending();
    let outcomes = [
        Err(transactions::Error::NotPublished("down".into())),
        Err(transactions::Error::Unknown("no answer to the commit".into())),
    ];
    let gateway = serve_writing([entry.clone()], &Recorder::saying(outcomes), at(30)).await;
    for (status, code) in [(503, "WAL_BROKER_UNAVAILABLE"), (504, "WAL_OUTCOME_UNKNOWN")] {
        let answer = gateway.post(&path(&entry, "complete"), "").await;
        let problem: Value = answer.json();
        assert_eq!(
            (answer.status.as_u16(), &problem["code"], &problem["retryable"]),
            (status, &json!(code), &json!(true))
        );
    }
    let brokers = Recorder::without("wal.cancels");
    let gateway = serve_writing([entry.clone()], &brokers, at(30)).await;
    assert_eq!(gateway.refused(&path(&entry, "cancel"), "").await, "WAL_BROKER_UNAVAILABLE");
    assert_eq!(brokers.transactions(), Vec::<Vec<_>>::new(), "a transaction would have waited for it");
    let reading = serve(MemoryStore::of([entry.clone()])).await;
    assert_eq!(reading.post(&path(&entry, "cancel"), "").await.status, 405);
}

/// One of each kind, all written within a minute, and an hour later.
fn fleet() -> (Vec<Entry>, Timestamp) {
    let entries = Entries::new("orders");
    let make = |change: fn(&mut Entry)| entries.make(change);
    let retry = |next| Outcome::Retrying { next_attempt_at: at(next) };
    let fleet = vec![
        make(|_| {}),
        folded(make(|_| {}), 1, 5, retry(65)),
        folded(make(|_| {}), 1, 5, retry(3590)),
        folded(make(|_| {}), 1, 5, retry(7200)),
        folded(make(|_| {}), 1, 5, Outcome::Completed { result: None }),
        folded(make(|_| {}), 1, 5, Outcome::Failed { reason: Reason::Exhausted }),
        make(|entry| entry.state.standing.deadline = at(3000)),
        make(|entry| entry.deliver_at = Some(at(9000))),
        make(|entry| entry.answers = Answers::None),
        make(|entry| entry.payload = Bytes::from(vec![b'1'; 5000])),
    ];
    (fleet, at(3600))
}

const RANGE: &str = r#""namespace": "orders", "from": "2024-12-01T10:00:00Z", "to": "2024-12-01T11:00:00Z""#;

async fn rescued(gateway: &support::Serving, more: &str) -> Value {
    let answer = gateway.post("/v1/rescue", &format!("{{{RANGE}{more}}}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn outcomes(answer: &Value, fleet: &[Entry]) -> Vec<(usize, u64, String)> {
    let place = |row: &Value| fleet.iter().position(|entry| row["log_id"] == *entry.log_id.to_string()).unwrap();
    let mut rows: Vec<_> = answer["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let why = row.get("why").map_or("", |why| why.as_str().unwrap());
            let first = why.split_whitespace().take(4).collect::<Vec<_>>().join(" ");
            let outcome = row["outcome"].as_str().unwrap();
            (place(row), row["attempt"].as_u64().unwrap(), format!("{outcome} {first}").trim_end().to_owned())
        })
        .collect();
    rows.sort();
    rows
}

#[tokio::test]
async fn a_rescue_is_a_dry_run_first_and_leaves_alone_what_may_be_under_way() {
    let (fleet, now) = fleet();
    let brokers = Recorder::new();
    let gateway = serve_writing(fleet.clone(), &brokers, now).await;

    let answer = rescued(&gateway, "").await;

    assert_eq!(answer["dry_run"], true);
    let would = |place, attempt| (place, attempt, "would_be_delivered".to_owned());
    let left = |place, attempt, why: &str| (place, attempt, format!("left {why}"));
    let expected = [
        would(0, 1),
        would(1, 2),
        left(2, 2, "it changed within 15m"),
        left(3, 2, "it is not due"),
        left(6, 1, "its deadline 2024-12-01T10:50:00.000Z has"),
        left(7, 1, "it is not due"),
        would(8, 1),
        left(9, 1, "it takes"),
    ];
    for ((place, attempt, outcome), (expected_place, expected_attempt, expected)) in
        outcomes(&answer, &fleet).iter().zip(&expected)
    {
        assert_eq!((place, attempt), (expected_place, expected_attempt));
        assert!(outcome.starts_with(expected.as_str()), "{outcome} is not {expected}");
    }
    assert_eq!(outcomes(&answer, &fleet).len(), expected.len());
    assert_eq!(brokers.transactions(), Vec::<Vec<_>>::new());
    assert_eq!(MEMORY, Duration::from_secs(15 * 60), "what the dry run said");
}

#[tokio::test]
async fn a_rescue_delivers_the_attempt_that_is_owed() {
    let (fleet, now) = fleet();
    let brokers = Recorder::new();
    let gateway = serve_writing(fleet.clone(), &brokers, now).await;

    let answer = rescued(&gateway, r#", "dry_run": false, "force": true"#).await;

    let delivered: Vec<_> =
        outcomes(&answer, &fleet).into_iter().filter(|row| row.2 == "delivered").map(|row| (row.0, row.1)).collect();
    assert_eq!(delivered, [(0, 1), (1, 2), (2, 2), (8, 1)], "forced, but never early and never too late");
    let (deliveries, acks): (Vec<_>, Vec<_>) =
        brokers.only().into_iter().partition(|record| record.topic.as_str() == "target");
    let mut attempts: Vec<_> = deliveries
        .iter()
        .map(|record| {
            let received = Delivery::decode(record).unwrap();
            let seal = record::last_str(&record.headers, wire::CE_WALSEAL);
            received.delivery.verify(seal, &keyring()).unwrap();
            assert_eq!(received.sent, now);
            (received.delivery.log_id.to_string(), received.delivery.attempt)
        })
        .collect();
    attempts.sort();
    let mut expected: Vec<_> = delivered
        .iter()
        .map(|(place, attempt)| (fleet[*place].log_id.to_string(), u32::try_from(*attempt).unwrap()))
        .collect();
    expected.sort();
    assert_eq!(attempts, expected);
    // Whoever publishes a delivery that nobody answers completes it.
    assert_eq!(acks.len(), 1);
    let ack = Ack::decode(&acks[0], &keyring()).unwrap();
    assert_eq!((&ack.log_id, ack.event.outcome), (&fleet[8].log_id, Outcome::Completed { result: None }));
}

#[tokio::test]
async fn a_rescue_goes_on_behind_what_it_delivered() {
    let entries = Entries::new("orders");
    let fleet: Vec<Entry> = (0..75).map(|_| entries.make(|_| {})).collect();
    let brokers = Recorder::new();
    let gateway = serve_writing(fleet.clone(), &brokers, at(3600)).await;

    let mut more = r#", "dry_run": false, "limit": 50, "status": "pending""#.to_owned();
    let first = rescued(&gateway, &more).await;
    more.push_str(&format!(r#", "page_token": {}"#, first["next_page_token"]));
    let second = rescued(&gateway, &more).await;

    assert_eq!(first["entries"].as_array().unwrap().len(), 50);
    assert_eq!((second["entries"].as_array().unwrap().len(), second.get("next_page_token")), (25, None));
    let mut keys: Vec<_> = brokers
        .transactions()
        .into_iter()
        .flatten()
        .map(|record| Delivery::decode(&read_back(record)).unwrap().delivery.log_id)
        .collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 75);
    let other = more.replace("pending", "retrying");
    assert_eq!(gateway.refused("/v1/rescue", &format!("{{{RANGE}{other}}}")).await, "WAL_INVALID_REQUEST");
}

#[tokio::test]
async fn a_rescue_that_is_stopped_says_how_far_it_came_and_where_to_go_on() {
    let entries = Entries::new("orders");
    let fleet: Vec<Entry> = (0..60).map(|_| entries.make(|_| {})).collect();
    let unknown = transactions::Error::Unknown("no answer".into());
    let brokers = Recorder::saying([Ok(()), Err(unknown)]);
    let gateway = serve_writing(fleet.clone(), &brokers, at(3600)).await;

    let stopped = rescued(&gateway, r#", "dry_run": false"#).await;

    let count = |outcome: &str| outcomes(&stopped, &fleet).iter().filter(|row| row.2 == outcome).count();
    assert_eq!((count("delivered"), count("unknown")), (32, 28));
    assert_eq!(stopped["stopped"]["code"], "WAL_OUTCOME_UNKNOWN");
    let go_on = format!(r#", "dry_run": false, "page_token": {}"#, stopped["next_page_token"]);
    assert_eq!(rescued(&gateway, &go_on).await["entries"].as_array().unwrap().len(), 28, "those again, at least once");
}

#[tokio::test]
async fn a_rescue_leaves_what_has_no_target_and_refuses_what_makes_no_sense() {
    let entry = Entries::new("orders").make(|_| {});
    let brokers = Recorder::without("target");
    let gateway = serve_writing([entry.clone()], &brokers, at(3600)).await;
    let answer = rescued(&gateway, r#", "dry_run": false"#).await;
    assert_eq!(answer["entries"][0]["why"], "its target does not exist");
    for wrong in [
        r#"{"namespace": "orders"}"#.to_owned(),
        format!(r#"{{{RANGE}, "status": "failed"}}"#),
        format!(r#"{{{RANGE}, "limit": 0}}"#),
        format!(r#"{{{RANGE}, "dry-run": false}}"#),
        format!("{{{}}}", RANGE.replace("10:00", "12:00")),
    ] {
        assert_eq!(gateway.refused("/v1/rescue", &wrong).await, "WAL_INVALID_REQUEST", "{wrong}");
    }
    assert_eq!(gateway.refused("/v1/rescue?dry_run=false", &format!("{{{RANGE}}}")).await, "WAL_QUERY_INVALID");
    assert_eq!(brokers.transactions(), Vec::<Vec<_>>::new());
}

#[tokio::test]
async fn what_is_stuck_is_what_was_delivered_long_ago_and_is_unanswered() {
    let (fleet, now) = fleet();
    let other = Entries::new("other").tenant("acme").make(|_| {});
    let all = fleet.iter().cloned().chain([other.clone()]);
    let gateway = serve_writing(all, &Recorder::new(), now).await;
    let found = |answer: &Value| -> Vec<(String, u64)> {
        let rows = answer["entries"].as_array().unwrap().iter();
        rows.map(|row| (row["log_id"].as_str().unwrap().to_owned(), row["attempt"].as_u64().unwrap())).collect()
    };
    let name = |place: usize| fleet[place].log_id.to_string();

    let answer = gateway.json("/v1/stuck?older_than=50m&namespace=orders").await;
    let mut expected = vec![(name(0), 1), (name(1), 2), (name(6), 1), (name(8), 1), (name(9), 1)];
    let mut all = found(&answer);
    expected.sort();
    all.sort();
    assert_eq!((all, &answer["more"]), (expected, &json!(false)));
    let exact = gateway.json("/v1/stuck?older_than=3535s&namespace=orders").await;
    assert_eq!(found(&exact).last().unwrap(), &(name(1), 2), "the one that waits shortest comes last");
    assert!(!found(&gateway.json("/v1/stuck?older_than=3536s").await).contains(&(name(1), 2)));
    let of_tenant = gateway.json("/v1/stuck?tenant=acme").await;
    assert_eq!(found(&of_tenant), [(other.log_id.to_string(), 1)]);
    let cut = gateway.json("/v1/stuck?limit=2").await;
    assert_eq!((found(&cut).len(), &cut["more"]), (2, &json!(true)));
    let none = gateway.json("/v1/stuck?older_than=100years").await;
    assert_eq!(none, json!({"entries": [], "more": false}));
    gateway.problem("/v1/stuck?older_than=soon", 400).await;
    gateway.problem("/v1/stuck?older=10m", 400).await;
}

#[tokio::test]
async fn stores_that_do_not_answer_are_told() {
    let faulty = support::Faulty(|| wal_store::Error::Unavailable("down".into()));
    let gateway = serve(faulty).await;
    gateway.problem("/v1/stuck", 503).await;
}
