//! Bad input, case by case: each is answered with its own stable code and kept as a dead letter with its original bytes, or taken and
//! delivered byte for byte. In one burst on one partition with good requests, which notice nothing.

mod cases;

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use wal_tests::{Kafka, Message, Producer, Record};

use crate::support::outcome::{by_log_id, log_ids};
use crate::support::{LATER, Log, SOON};
use cases::{Case, Then};

/// What links a receipt to the request it answers, whatever else can be read of the request.
const CORRELATION: &str = "kafka_correlationId";

#[test]
fn every_bad_input_gets_its_own_answer_and_harms_no_neighbour() {
    let log = Log::on(&Kafka::shared().bootstrap(), &[("topics.partitions", "1")]);
    let world = cases::World { ingress: log.topic("ingress"), target: log.target("good"), prefix: log.prefix.clone() };
    let cases = cases::all(&world);
    let names: HashSet<&str> = cases.iter().map(|case| &*case.name).collect();
    assert_eq!(names.len(), cases.len(), "names are unique");
    let good = |number: usize| cases::good(&world, &format!("good-{number}"));
    // A good one before each and one after the last.
    let mut sent: Vec<Case> = Vec::with_capacity(2 * cases.len() + 1);
    for (number, case) in cases.into_iter().enumerate() {
        sent.extend([good(number), case]);
    }
    sent.push(good(sent.len()));
    let messages: Vec<Message> = sent.iter().map(correlated).collect();

    let allowed = format!("{}-gone", world.target);
    let writer = log.start(&[("writer.reply_topics", &allowed)]);
    // The client's own limit lies below the broker's.
    let positions = Producer::with(&log.bootstrap, &[("message.max.bytes", "4000000")]).send_all(&messages);
    log.receipts(&writer, sent.len(), LATER);
    log.wait_until_done(SOON);
    writer.terminate();
    assert!(writer.wait(SOON).success(), "{writer:?}");

    let seen = Seen::read(&log, &world.target);
    for (case, (partition, offset)) in sent.iter().zip(positions) {
        match case.then {
            Then::Delivered(_) => seen.expect_delivered(case),
            Then::Repeats(first) => seen.expect_repeat(case, first),
            Then::Refused(code) => seen.expect_refused(case, code, partition, offset),
        }
    }
    seen.expect_nothing_else(&sent, &log);
}

#[test]
fn a_request_that_the_broker_does_not_take_fails_at_its_producer() {
    let log = Log::on(&Kafka::shared().bootstrap(), &[("topics.partitions", "1")]);
    let message = Message::to(&log.topic("ingress")).value(vec![b'x'; cases::RECORD_LIMIT]);

    let producer = Producer::with(&log.bootstrap, &[("message.max.bytes", "4000000")]);
    let refused = producer.send(&message).outcome().expect_err("it is larger than the topic takes");

    assert!(refused.to_string().contains("MessageSizeTooLarge"), "{refused}");
    assert_eq!(log.read(&log.topic("ingress")), []);
}

/// What came of the burst.
struct Seen {
    receipts: HashMap<String, Vec<Value>>,
    deliveries: HashMap<String, Vec<Record>>,
    dead_letters: HashMap<(i32, i64), Vec<Record>>,
}

impl Seen {
    fn read(log: &Log, target: &str) -> Seen {
        let mut receipts: HashMap<String, Vec<Value>> = HashMap::new();
        for receipt in log.read(&log.topic("receipts")) {
            let name = receipt.header(CORRELATION).unwrap_or_default();
            receipts.entry(name).or_default().push(receipt.json());
        }
        let mut dead_letters: HashMap<(i32, i64), Vec<Record>> = HashMap::new();
        for letter in log.read(&log.dead_requests()) {
            let number = |name: &str| letter.header(name).and_then(|text| text.parse::<i64>().ok()).expect("a number");
            let partition = i32::try_from(number("__dlq.errors.partition")).unwrap();
            dead_letters.entry((partition, number("__dlq.errors.offset"))).or_default().push(letter);
        }
        Seen { receipts, deliveries: by_log_id(log.read(target).into_iter()), dead_letters }
    }

    #[track_caller]
    fn receipt(&self, name: &str) -> &Value {
        let receipts = self.receipts.get(name).map_or(&[][..], Vec::as_slice);
        let [receipt] = receipts else { panic!("{name}: not one receipt: {receipts:?}") };
        receipt
    }

    #[track_caller]
    fn expect_delivered(&self, case: &Case) {
        let Case { name, message, then, .. } = case;
        let Then::Delivered(payloads) = then else { unreachable!("only called for those") };
        let receipt = self.receipt(name);
        assert_eq!((&receipt["success"], &receipt["durable"]), (&true.into(), &true.into()), "{name}: {receipt}");
        let log_ids = log_ids(receipt);
        assert_eq!(log_ids.len(), payloads.len(), "{name}: {receipt}");
        for (log_id, payload) in log_ids.iter().zip(payloads) {
            let found = self.deliveries.get(log_id).map_or(&[][..], Vec::as_slice);
            let [delivery] = found else { panic!("{name}: {} deliveries", found.len()) };
            // Not a null either: an empty payload is a payload.
            assert!(delivery.value.as_deref() == Some(&**payload), "{name}: the payload changed on its way");
            assert_eq!(delivery.key, message.key, "{name}");
            assert_eq!(own_headers(&delivery.headers), own_headers(&message.headers), "{name}");
        }
    }

    #[track_caller]
    fn expect_repeat(&self, case: &Case, first: &str) {
        let (receipt, before) = (self.receipt(&case.name), self.receipt(first));
        assert_eq!(receipt["success"], true, "{}: {receipt}", case.name);
        assert_eq!(log_ids(receipt), log_ids(before), "{}", case.name);
    }

    #[track_caller]
    fn expect_refused(&self, Case { name, message, .. }: &Case, code: &str, partition: i32, offset: i64) {
        let receipt = self.receipt(name);
        assert_eq!((&receipt["success"], &receipt["error_code"]), (&false.into(), &code.into()), "{name}: {receipt}");
        assert!(receipt["error"].as_str().is_some_and(|error| !error.is_empty()), "{name}: {receipt}");
        assert_eq!(receipt["retryable"], code == "WAL_TARGET_UNKNOWN", "{name}: {receipt}");

        let letters = self.dead_letters.get(&(partition, offset)).map_or(&[][..], Vec::as_slice);
        let [letter] = letters else { panic!("{name}: not one dead letter: {}", letters.len()) };
        assert_eq!(letter.header("ce_walerrorcode").as_deref(), Some(code), "{name}");
        assert_eq!(letter.header("__dlq.errors.topic").as_deref(), Some(&*message.topic), "{name}");
        assert_eq!(letter.header("ce_waltruncated"), None, "{name}");
        // Kafka has no records without a value that compaction would keep, so a null travels as nothing.
        let original = message.value.as_deref().unwrap_or_default();
        assert!(letter.value.as_deref() == Some(original), "{name}: the dead letter does not hold the original bytes");
        assert_eq!(own_headers(&letter.headers), own_headers(&message.headers), "{name}");
        assert!(message.headers.iter().all(|header| letter.headers.contains(header)), "{name}: a header is missing");
    }

    #[track_caller]
    fn expect_nothing_else(&self, sent: &[Case], log: &Log) {
        let delivered: usize = sent.iter().map(|case| case.then.entries()).sum();
        let refused = sent.iter().filter(|case| matches!(case.then, Then::Refused(_))).count();
        let documents = log.documents().len();
        assert_eq!((self.deliveries.len(), documents), (delivered, delivered), "deliveries and documents");
        assert_eq!((self.dead_letters.len(), self.receipts.len()), (refused, sent.len()), "dead letters and receipts");
        assert_eq!(log.read(&log.topic("acks")), []);
    }
}

/// The message with the name of its case, by which its receipt is found; one that says so itself keeps what it says.
fn correlated(case: &Case) -> Message {
    let message = case.message.clone();
    if message.headers.iter().any(|(name, _)| name == CORRELATION) {
        message
    } else {
        message.header(CORRELATION, &*case.name)
    }
}

/// The headers that are neither ours nor Kafka's.
fn own_headers(headers: &[(String, Option<Vec<u8>>)]) -> Vec<&(String, Option<Vec<u8>>)> {
    headers.iter().filter(|(name, _)| name.starts_with("own") || name == "traceparent").collect()
}
