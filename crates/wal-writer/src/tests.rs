//! What the writer does with a batch, sentence by sentence of the design, on a real store and brokers that say what a test wants.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use wal_model::clock::ManualClock;
use wal_model::delay::Waits;
use wal_model::entry::Answers;
use wal_model::lifecycle::Seconds;
use wal_model::parked::Parked;
use wal_model::record::{Header, InRecord, OutRecord, last_str};
use wal_model::seal::Keyring;
use wal_model::status::{Event, Outcome, Status};
use wal_model::topics::Topics;
use wal_model::{Entry, Lifecycle, LogId, Timestamp, Topic, wire};
use wal_runtime::batch_loop::{Batch, Handler};
use wal_runtime::brokers::{Brokers, Found, Shapes};
use wal_runtime::config::{Policy, Settings};
use wal_runtime::live::Live;
use wal_runtime::metrics::{Format, Metrics};
use wal_store::embedded::Embedded;
use wal_store::samples::ack;
use wal_store::{EntryStore, Patient};

use crate::config::Config;
use crate::tally::Meter;
use crate::writer::Writer;

const KNOWN: Found = Found::Known { partitions: 4, max_message_bytes: 1_048_588 };

#[derive(Default)]
struct Answering(Mutex<HashMap<String, Found>>);

impl Brokers for Answering {
    async fn shapes(&self, topics: Vec<Topic>) -> Shapes {
        let told = self.0.lock().unwrap();
        let dead_letters_of_namespaces = |name: &str| name.starts_with("dlq.wal.") && name != "dlq.wal.ingress";
        let answer = |topic: &Topic| match told.get(topic.as_str()) {
            Some(found) => found.clone(),
            None if dead_letters_of_namespaces(topic.as_str()) => Found::Missing(Duration::ZERO),
            None => KNOWN,
        };
        topics.into_iter().map(|topic| (topic.clone(), answer(&topic))).collect()
    }

    fn foresee(&self, _: &[Topic]) {}

    async fn create(&self, topic: &Topic) -> Result<(), String> {
        self.0.lock().unwrap().insert(topic.to_string(), KNOWN);
        Ok(())
    }

    fn forget(&self) {}
}

struct Bench {
    writer: Writer<Arc<Answering>>,
    brokers: Arc<Answering>,
    clock: Arc<ManualClock>,
    metrics: Metrics,
    _folder: tempfile::TempDir,
}

fn now() -> Timestamp {
    Timestamp::from_millis(1_733_047_200_000).unwrap()
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn EntryStore> = Arc::new(Embedded::open(folder.path()).unwrap());
    let brokers = Arc::new(Answering::default());
    let clock = Arc::new(ManualClock::at(now()));
    let settings = Settings::load_from(None, std::iter::empty(), &[]).unwrap();
    let metrics = Metrics::new();
    let writer = Writer {
        store: Patient::new(store),
        brokers: Arc::clone(&brokers),
        clock: Arc::<ManualClock>::clone(&clock),
        keyring: Keyring::new("k1", &BTreeMap::from([("k1".to_owned(), vec![7; 32])])).unwrap(),
        policy: Live::new(Policy {
            target: None,
            lifecycle: Lifecycle::default(),
            first_delay: Seconds::new(Duration::ZERO),
            answers: Answers::Expected,
            correlation_fields: vec!["saga_id".to_owned()],
        }),
        topics: Topics::new("wal.").unwrap(),
        waits: Waits::coins_and([]),
        group: "wal.writer".to_owned(),
        config: Live::new(Config::read(&settings).unwrap()),
        meter: Meter::new(metrics.clone()),
    };
    Bench { writer, brokers, clock, metrics, _folder: folder }
}

fn record(offset: i64, value: impl Into<Bytes>) -> InRecord {
    InRecord {
        cluster: Arc::from("c"),
        topic: Topic::parse("wal.ingress").unwrap(),
        partition: 0,
        offset,
        time: Some(now()),
        key: Some(Bytes::from_static(b"key")),
        value: Some(value.into()),
        headers: Vec::new(),
    }
}

fn request(id: &str, number: u32) -> Value {
    json!({"namespace": "orders", "target": "shop", "request_id": id, "payload": {"operation": "buy", "number": number}})
}

fn write(offset: i64, id: &str) -> InRecord {
    record(offset, request(id, 1).to_string())
}

impl Bench {
    async fn handle(&self, records: Vec<InRecord>) -> Vec<OutRecord> {
        self.handle_batch(&Batch { records, ..Batch::default() }).await
    }

    async fn handle_batch(&self, batch: &Batch) -> Vec<OutRecord> {
        let handled = self.writer.handle(batch).await.unwrap();
        self.writer.outputs(batch, handled).await.unwrap()
    }

    async fn stored(&self, log_id: &str) -> Entry {
        let key = log_id.parse::<LogId>().unwrap().key();
        self.writer.store.get(&[key]).await.unwrap().remove(0).unwrap()
    }

    fn policy(&self, change: impl FnOnce(&mut Policy)) {
        let mut policy = Policy::clone(&self.writer.policy.get());
        change(&mut policy);
        self.writer.policy.set(policy);
    }

    fn config(&self, change: impl FnOnce(&mut Config)) {
        let mut config = Config::clone(&self.writer.config.get());
        change(&mut config);
        self.writer.config.set(config);
    }

    fn say(&self, topic: &str, found: Found) {
        self.brokers.0.lock().unwrap().insert(topic.to_owned(), found);
    }
}

fn to<'a>(outputs: &'a [OutRecord], topic: &str) -> Vec<&'a OutRecord> {
    outputs.iter().filter(|record| record.topic.as_str() == topic).collect()
}

fn receipts(outputs: &[OutRecord]) -> Vec<Value> {
    to(outputs, "wal.receipts").iter().map(|record| value(record)).collect()
}

fn value(record: &OutRecord) -> Value {
    serde_json::from_slice(record.value.as_deref().unwrap()).unwrap()
}

fn codes(outputs: &[OutRecord]) -> Vec<String> {
    receipts(outputs).iter().filter_map(|receipt| Some(receipt["error_code"].as_str()?.to_owned())).collect()
}

fn counts(outputs: &[OutRecord]) -> [usize; 4] {
    ["shop", "wal.receipts", "wal.audit", "dlq.wal.ingress"].map(|topic| to(outputs, topic).len())
}

#[tokio::test]
async fn a_new_request_is_stored_pending_delivered_and_receipted() {
    let bench = bench();
    let outputs = bench.handle(vec![write(0, "r")]).await;
    assert_eq!(counts(&outputs), [1, 1, 1, 0]);
    let receipt = &receipts(&outputs)[0];
    assert_eq!((&receipt["success"], &receipt["durable"]), (&json!(true), &json!(true)));
    let entry = bench.stored(receipt["log_id"].as_str().unwrap()).await;
    assert_eq!((entry.state.status(), entry.origin.offset), (Status::Pending, 0));
    let delivery = to(&outputs, "shop")[0];
    assert_eq!(delivery.value.as_deref(), Some(&br#"{"number":1,"operation":"buy"}"#[..]));
    assert_eq!(last_str(&delivery.headers, wire::CE_ID), receipt["log_id"].as_str());
}

#[tokio::test]
async fn the_record_that_made_an_entry_is_published_again_as_long_as_nothing_happened_to_the_entry() {
    let bench = bench();
    let first = bench.handle(vec![write(0, "r")]).await;
    let again = bench.handle(vec![write(0, "r")]).await;
    assert_eq!(first, again);
    let entry = bench.stored(receipts(&first)[0]["log_id"].as_str().unwrap()).await;
    let standing = entry.state.standing.clone();
    let done = Event { id: entry.key().derive("done"), outcome: Outcome::Completed { result: None }, ..standing };
    bench.writer.store.apply(&[ack(&entry, done)]).await.unwrap();
    let after = bench.handle(vec![write(0, "r")]).await;
    assert_eq!(counts(&after), [0, 1, 1, 0]);
    assert_eq!(receipts(&after), receipts(&first));
}

#[tokio::test]
async fn a_repeat_is_answered_with_the_same_log_id_and_not_delivered() {
    let bench = bench();
    let outputs = bench.handle(vec![write(0, "r"), write(1, "r")]).await;
    assert_eq!(counts(&outputs), [1, 2, 2, 0]);
    assert_eq!(receipts(&outputs)[0], receipts(&outputs)[1]);
    let later = bench.handle(vec![write(2, "r")]).await;
    assert_eq!(counts(&later), [0, 1, 1, 0]);
    assert_eq!(receipts(&later)[0]["log_id"], receipts(&outputs)[0]["log_id"]);
}

#[tokio::test]
async fn the_same_identity_with_other_content_is_refused_and_its_neighbours_are_not() {
    let bench = bench();
    let records = vec![write(0, "r"), record(1, request("r", 2).to_string()), write(2, "other"), record(3, "no json")];
    let outputs = bench.handle(records).await;
    assert_eq!(counts(&outputs), [2, 4, 2, 2]);
    assert_eq!(codes(&outputs), ["WAL_IDENTITY_CONFLICT", "WAL_INVALID_JSON"]);
    let letters = to(&outputs, "dlq.wal.ingress");
    assert_eq!(letters[1].value.as_deref(), Some(&b"no json"[..]));
}

#[tokio::test]
async fn a_new_request_for_an_unknown_target_is_refused_and_a_stored_one_is_not() {
    let bench = bench();
    let stored = bench.handle(vec![write(0, "r")]).await;
    bench.say("shop", Found::Missing(Duration::from_secs(31)));
    let outputs = bench.handle(vec![write(0, "r"), write(1, "new")]).await;
    assert_eq!(codes(&outputs), ["WAL_TARGET_UNKNOWN"]);
    assert_eq!(counts(&outputs), [0, 2, 1, 2]);
    assert_eq!(receipts(&outputs)[0], receipts(&stored)[0]);
    let ack = value(to(&outputs, "wal.acks")[0]);
    assert_eq!((&ack["status"], &ack["reason"]), (&json!("failed"), &json!("undeliverable")));
    let letter = to(&outputs, "dlq.wal.ingress")[0];
    assert_eq!(last_str(&letter.headers, wire::CE_WALERRORCODE), Some("WAL_UNDELIVERABLE"));
    assert_eq!(last_str(&letter.headers, wire::CE_ID), receipts(&stored)[0]["log_id"].as_str());
}

#[tokio::test(start_paused = true)]
async fn a_stored_entry_waits_while_it_is_too_early_to_call_its_target_gone() {
    let bench = Arc::new(bench());
    bench.handle(vec![write(0, "r")]).await;
    bench.say("shop", Found::Missing(Duration::from_secs(1)));
    let waiting = tokio::spawn({
        let bench = Arc::clone(&bench);
        async move { bench.handle(vec![write(0, "r")]).await }
    });
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!waiting.is_finished());
    bench.say("shop", KNOWN);
    assert_eq!(counts(&waiting.await.unwrap()), [1, 1, 1, 0]);
}

#[tokio::test]
async fn past_its_deadline_an_entry_is_stored_and_ends_as_expired() {
    let bench = bench();
    bench.clock.advance(Duration::from_secs(8 * 86_400));
    let outputs = bench.handle(vec![write(0, "r")]).await;
    assert_eq!(counts(&outputs), [0, 1, 1, 1]);
    assert_eq!(receipts(&outputs)[0]["success"], json!(true));
    assert_eq!(value(to(&outputs, "wal.acks")[0])["reason"], json!("expired"));
    bench.stored(receipts(&outputs)[0]["log_id"].as_str().unwrap()).await;
}

#[tokio::test]
async fn a_stored_entry_is_delivered_as_it_was_stored_whatever_the_policy_says_now() {
    let bench = bench();
    let text = json!({"namespace": "orders", "request_id": "r", "payload": {}}).to_string();
    bench.policy(|policy| policy.target = Some(Topic::parse("shop").unwrap()));
    let before = bench.handle(vec![record(0, text.clone())]).await;
    bench.policy(|policy| policy.target = Some(Topic::parse("elsewhere").unwrap()));
    bench.policy(|policy| policy.lifecycle.retry_count = 99);
    assert_eq!(bench.handle(vec![record(0, text.clone())]).await, before);
    bench.policy(|policy| policy.target = None);
    assert_eq!(bench.handle(vec![record(0, text)]).await, before);
}

#[tokio::test]
async fn a_bad_reply_address_refuses_a_new_request_and_sends_a_stored_ones_receipt_to_the_log() {
    let bench = bench();
    let mut addressed = write(0, "r");
    addressed.headers.push(Header::new(wire::REPLY_TOPIC, "answers"));
    addressed.headers.push(Header::new(wire::REPLY_CORRELATION, "c-1"));
    let refused = bench.handle(vec![addressed.clone()]).await;
    assert_eq!(codes(&refused), ["WAL_REPLY_NOT_ALLOWED"]);
    bench.handle(vec![write(0, "r")]).await;
    let outputs = bench.handle(vec![addressed]).await;
    assert_eq!(counts(&outputs), [1, 1, 1, 0]);
    assert_eq!(last_str(&to(&outputs, "wal.receipts")[0].headers, wire::REPLY_CORRELATION), Some("c-1"));
}

#[tokio::test]
async fn receipts_go_where_an_allowed_reply_address_says() {
    let bench = bench();
    bench.config(|config| config.reply_topics = vec![Topic::parse("answers").unwrap()]);
    let addressed = |partition: i32| {
        let mut record = write(0, "r");
        record.headers.push(Header::new(wire::REPLY_TOPIC, "answers"));
        record.headers.push(Header::new(wire::REPLY_PARTITION, partition.to_be_bytes().to_vec()));
        record
    };
    assert_eq!(codes(&bench.handle(vec![addressed(4)]).await), ["WAL_REPLY_INVALID"]);
    let outputs = bench.handle(vec![addressed(3)]).await;
    assert_eq!(to(&outputs, "answers")[0].partition, Some(3));
}

fn batch(members: &[u32]) -> String {
    let entry = |number: &u32| json!({"namespace": "orders", "target": "shop", "payload": {"number": number}});
    json!({"request_id": "b", "entries": members.iter().map(entry).collect::<Vec<_>>()}).to_string()
}

#[tokio::test]
async fn a_batch_is_stored_whole_or_refused_whole() {
    let bench = bench();
    let mut bad: Value = serde_json::from_str(&batch(&[1, 2, 3])).unwrap();
    bad["entries"][2]["target"] = json!("wal.ingress");
    let refused = bench.handle(vec![record(0, bad.to_string())]).await;
    assert_eq!(codes(&refused), ["WAL_TARGET_RESERVED"]);
    assert_eq!(counts(&refused), [0, 1, 0, 1]);
    let outputs = bench.handle(vec![record(1, batch(&[1, 2, 3]))]).await;
    assert_eq!(counts(&outputs), [3, 1, 3, 0]);
    assert_eq!(receipts(&outputs)[0]["log_ids"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_repeat_completes_a_half_stored_batch_and_delivers_what_it_stored() {
    let bench = bench();
    let whole = bench.handle(vec![record(0, batch(&[1, 2, 3]))]).await;
    let other = self::bench();
    let log_ids = receipts(&whole)[0]["log_ids"].clone();
    let head = bench.stored(log_ids[0].as_str().unwrap()).await;
    other.writer.store.insert(&[head]).await.unwrap();
    let outputs = other.handle(vec![record(7, batch(&[1, 2, 3]))]).await;
    // The first is the first record's to deliver, which is still to be read again.
    assert_eq!(counts(&outputs), [2, 1, 3, 0]);
    assert_eq!(receipts(&outputs)[0]["log_ids"], log_ids);
    assert_eq!(counts(&other.handle(vec![record(0, batch(&[1, 2, 3]))]).await), [1, 1, 3, 0]);
}

#[tokio::test]
async fn a_half_stored_batch_is_completed_under_the_target_that_its_policy_named_then() {
    let text = json!({"request_id": "b", "entries": [
        {"namespace": "orders", "payload": {"number": 1}},
        {"namespace": "orders", "payload": {"number": 2}},
    ]});
    let written = || record(0, text.to_string());
    let before = bench();
    before.policy(|policy| policy.target = Some(Topic::parse("shop").unwrap()));
    let whole = before.handle(vec![written()]).await;
    let head = before.stored(receipts(&whole)[0]["log_ids"][0].as_str().unwrap()).await;
    for target_now in [None, Some(Topic::parse("elsewhere").unwrap())] {
        let after = bench();
        after.policy(|policy| policy.target = target_now);
        after.writer.store.insert(std::slice::from_ref(&head)).await.unwrap();
        assert_eq!(after.handle(vec![written()]).await, whole);
    }
}

#[tokio::test]
async fn of_two_batches_with_one_identity_only_one_is_stored() {
    let bench = bench();
    let outputs = bench.handle(vec![record(0, batch(&[1, 2, 3])), record(1, batch(&[1, 2, 4]))]).await;
    assert_eq!(codes(&outputs), ["WAL_IDENTITY_CONFLICT"]);
    assert_eq!(counts(&outputs), [3, 2, 3, 1]);
}

#[tokio::test]
async fn tenants_do_not_share_identities() {
    let bench = bench();
    let of = |tenant: &str, number| {
        let mut request = request("r", number);
        request["user_context"] = json!({"tenant_id": tenant});
        request.to_string()
    };
    let outputs = bench.handle(vec![record(0, of("a", 1)), record(1, of("b", 2))]).await;
    assert_eq!(counts(&outputs), [2, 2, 2, 0]);
}

#[tokio::test]
async fn without_answers_an_entry_is_completed_with_its_delivery() {
    let bench = bench();
    bench.policy(|policy| policy.answers = Answers::None);
    let outputs = bench.handle(vec![write(0, "r")]).await;
    assert_eq!(value(to(&outputs, "wal.acks")[0])["status"], json!("completed"));
    assert_eq!(bench.stored(receipts(&outputs)[0]["log_id"].as_str().unwrap()).await.state.status(), Status::Pending);
}

#[tokio::test]
async fn what_cannot_travel_back_or_goes_to_a_small_target_is_refused() {
    let bench = bench();
    let large = json!({"namespace": "orders", "target": "shop", "payload": {"x": "y".repeat(1_000_000)}}).to_string();
    assert_eq!(codes(&bench.handle(vec![record(0, large)]).await), ["WAL_PAYLOAD_TOO_LARGE"]);
    bench.say("shop", Found::Known { partitions: 1, max_message_bytes: 100_000 });
    assert_eq!(codes(&bench.handle(vec![write(1, "r")]).await), ["WAL_TARGET_INVALID"]);
    bench.say("shop", Found::Denied("no".to_owned()));
    assert_eq!(codes(&bench.handle(vec![write(2, "r")]).await), ["WAL_ACCESS_DENIED"]);
}

#[tokio::test]
async fn missing_targets_are_created_where_that_is_wanted() {
    let bench = bench();
    bench.config(|config| config.create_missing_targets = true);
    bench.say("shop", Found::Missing(Duration::ZERO));
    assert_eq!(counts(&bench.handle(vec![write(0, "r")]).await), [1, 1, 1, 0]);
}

fn delayed(id: &str, deliver_at: Timestamp) -> InRecord {
    let mut request = request(id, 1);
    request["deliver_at"] = json!(deliver_at.to_string());
    record(0, request.to_string())
}

#[tokio::test]
async fn a_first_delivery_that_is_wanted_later_is_parked_for_its_time() {
    let bench = bench();
    let wanted = now().saturating_add(Duration::from_millis(70_050));
    let outputs = bench.handle(vec![delayed("r", wanted)]).await;
    assert_eq!(counts(&outputs), [0, 1, 1, 0]);
    let parked = to(&outputs, "wal.delay.50s")[0];
    let record = InRecord {
        key: parked.key.clone(),
        value: parked.value.clone(),
        headers: parked.headers.clone(),
        ..record(0, Bytes::new())
    };
    let parked = Parked::decode(&record, &bench.writer.keyring).unwrap();
    assert_eq!((parked.delivery.attempt, parked.parked_at), (1, now()));
    // Rounded up once to what can be paid; never earlier than wanted.
    assert_eq!(parked.due, now().saturating_add(Duration::from_millis(70_100)));
}

#[tokio::test]
async fn the_policy_can_delay_every_first_delivery() {
    let bench = bench();
    bench.policy(|policy| policy.first_delay = "2".parse().unwrap());
    assert_eq!(to(&bench.handle(vec![write(0, "r")]).await, "wal.delay.2s").len(), 1);
    // A wish of its own comes first, and a time that has passed is now.
    assert_eq!(counts(&bench.handle(vec![delayed("s", now())]).await), [1, 1, 1, 0]);
}

#[tokio::test]
async fn a_first_delivery_wanted_at_the_deadline_is_refused_but_not_where_it_is_stored() {
    let bench = bench();
    bench.policy(|policy| policy.lifecycle.ttl = "60".parse().unwrap());
    let at = |seconds| now().saturating_add(Duration::from_secs(seconds));
    assert_eq!(codes(&bench.handle(vec![delayed("r", at(60))]).await), ["WAL_DELIVERY_TOO_LATE"]);
    assert_eq!(counts(&bench.handle(vec![delayed("r", at(59))]).await), [0, 1, 1, 0]);
    bench.policy(|policy| policy.lifecycle.ttl = "10".parse().unwrap());
    assert!(codes(&bench.handle(vec![delayed("r", at(59))]).await).is_empty());
}

#[tokio::test]
async fn what_a_batch_did_is_counted_when_it_is_committed_and_only_then() {
    let bench = bench();
    let told = || bench.metrics.encode(Format::Prometheus);
    let stored = r#"wal_entries_total{service="wal-writer",namespace="n",result="stored"}"#;
    let batch = |records: Vec<InRecord>| Batch { records, ..Batch::default() };
    let request = |offset, id: &str| {
        record(offset, json!({"namespace": "n", "target": "t", "payload": {}, "request_id": id}).to_string())
    };

    // Handled and given up, with the one behind it, of which nothing is made; then the same record begins another batch.
    bench.handle_batch(&batch(vec![request(0, "a")])).await;
    drop(bench.writer.handle(&batch(vec![request(1, "b")])).await.unwrap());
    bench.writer.given_up();
    assert!(!told().contains(stored), "{}", told());
    let (first, second) = (batch(vec![request(0, "a"), record(1, "{")]), batch(vec![request(2, "a"), request(3, "c")]));
    bench.handle_batch(&first).await;
    assert!(!told().contains(stored), "{}", told());
    let overlapping = bench.writer.handle(&second).await.unwrap();
    bench.writer.committed(&first);
    assert!(told().contains(&format!("{stored} 1\n")), "{}", told());
    bench.writer.outputs(&second, overlapping).await.unwrap();
    bench.writer.committed(&second);

    let told = told();
    for line in [
        format!("{stored} 2"),
        r#"wal_entries_total{service="wal-writer",namespace="n",result="repeated"} 1"#.to_owned(),
        r#"wal_entry_bytes_total{namespace="n"} 4"#.to_owned(),
        r#"wal_requests_refused_total{code="WAL_INVALID_JSON"} 1"#.to_owned(),
        r#"wal_end_to_end_duration_seconds_count{namespace="n",target="t"} 2"#.to_owned(),
        r#"wal_append_duration_seconds_count{stage="produce"} 2"#.to_owned(),
        r#"wal_append_duration_seconds_count{stage="store"} 4"#.to_owned(),
    ] {
        assert!(told.contains(&format!("{line}\n")), "{line} is not in {told}");
    }
}
