//! What came of a load, and the promises it is checked against.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use wal_model::Entry;
use wal_tests::{Isolation, Process, Record};

use super::load::{Request, Wanted};
use super::{Log, SOON};

/// Everything that can be seen of a log from outside, once its writers have ended.
pub struct Outcome {
    /// By request id.
    pub receipts: HashMap<String, Vec<Value>>,
    /// By log id, each record with the topic it was found on.
    pub deliveries: HashMap<String, Vec<Record>>,
    /// By log id.
    pub documents: HashMap<String, Entry>,
    /// Audit events by log id.
    pub audit: HashMap<String, Vec<Value>>,
    /// Status events.
    pub acks: Vec<Record>,
    /// Refused requests and entries that failed.
    pub dead_letters: Vec<Record>,
}

impl Outcome {
    /// Waits until everything is read, stops the writer in order and looks.
    #[track_caller]
    pub fn after(writer: Process, log: &Log, targets: &[String]) -> Outcome {
        log.wait_until_done(SOON);
        writer.terminate();
        assert!(writer.wait(SOON).success(), "{writer:?}");
        Outcome::read(log, targets)
    }

    /// Reads what read_committed readers see, and the store. No writer may be running.
    #[track_caller]
    pub fn read(log: &Log, targets: &[String]) -> Outcome {
        let mut receipts: HashMap<String, Vec<Value>> = HashMap::new();
        for record in log.read(&log.topic("receipts")) {
            let receipt = record.json();
            let id = receipt["request_id"].as_str().unwrap_or_default().to_owned();
            receipts.entry(id).or_default().push(receipt);
        }
        let mut audit: HashMap<String, Vec<Value>> = HashMap::new();
        for record in log.read(&log.topic("audit")) {
            audit.entry(text(&record.json()["log_id"])).or_default().push(record.json());
        }
        Outcome {
            receipts,
            deliveries: by_log_id(targets.iter().flat_map(|target| log.read(target))),
            documents: log.documents().into_iter().map(|entry| (entry.log_id.to_string(), entry)).collect(),
            audit,
            acks: log.read(&log.topic("acks")),
            dead_letters: log.read(&log.dead_requests()),
        }
    }

    /// Every request has one receipt, and each of its entries one document, one delivery and one audit event, as they were sent and
    /// in order. Nothing else is there.
    #[track_caller]
    pub fn expect_exactly_once(&self, requests: &[Request]) {
        for request in requests {
            for (wanted, log_id) in request.entries.iter().zip(self.log_ids(request)) {
                self.expect_document(request, wanted, &log_id);
                self.expect_delivery(request, wanted, &log_id);
                let events = self.audit.get(&log_id).map_or(0, Vec::len);
                assert_eq!(events, 1, "audit events of {log_id}");
            }
        }
        let entries = requests.iter().map(|request| request.entries.len()).sum();
        let found = [self.receipts.len(), self.documents.len(), self.deliveries.len(), self.audit.len()];
        assert_eq!(found, [requests.len(), entries, entries, entries], "receipts, documents, deliveries, audit events");
        assert_eq!((self.acks.len(), self.dead_letters.len()), (0, 0), "{:?} {:?}", self.acks, self.dead_letters);
        self.expect_order(requests);
    }

    /// The log ids in the one receipt of a request that was stored.
    #[track_caller]
    pub fn log_ids(&self, request: &Request) -> Vec<String> {
        let receipts = self.receipts.get(&request.id).map_or(&[][..], Vec::as_slice);
        let [receipt] = receipts else { panic!("not one receipt for {}: {receipts:?}", request.id) };
        assert_eq!((&receipt["success"], &receipt["durable"]), (&true.into(), &true.into()), "{receipt}");
        let log_ids = log_ids(receipt);
        assert_eq!(log_ids.len(), request.entries.len(), "{receipt}");
        log_ids
    }

    #[track_caller]
    fn expect_document(&self, request: &Request, wanted: &Wanted, log_id: &str) {
        let document = self.documents.get(log_id).unwrap_or_else(|| panic!("a receipt but no document: {log_id}"));
        assert_eq!(document.payload, wanted.payload, "{log_id}");
        assert_eq!(document.target.as_str(), wanted.target, "{log_id}");
        assert_eq!(document.namespace().as_str(), wanted.namespace, "{log_id}");
        assert_eq!(document.ordering_key.as_deref(), request.key.as_deref().map(str::as_bytes), "{log_id}");
        assert_eq!(document.request_id.as_ref().map(|id| id.as_str()), Some(&*request.id), "{log_id}");
    }

    #[track_caller]
    fn expect_delivery(&self, request: &Request, wanted: &Wanted, log_id: &str) {
        let found = self.deliveries.get(log_id).map_or(&[][..], Vec::as_slice);
        let [delivery] = found else { panic!("{} deliveries of {log_id}: {found:?}", found.len()) };
        assert_eq!(delivery.topic, wanted.target, "{log_id}");
        assert_eq!(delivery.value.as_deref(), Some(&*wanted.payload), "{log_id}");
        assert_eq!(delivery.key.as_deref(), request.key.as_deref().map(str::as_bytes), "{log_id}");
        assert_eq!(delivery.header("ce_walattempt").as_deref(), Some("1"), "{log_id}");
        assert_eq!(delivery.header("ce_walnamespace").as_deref(), Some(wanted.namespace), "{log_id}");
    }

    /// Within one ordering key and ingress topic, the order on a target is the order of sending.
    #[track_caller]
    fn expect_order(&self, requests: &[Request]) {
        let mut last: HashMap<(&str, &str, &str), (i32, i64)> = HashMap::new();
        for request in requests {
            let Some(key) = &request.key else { continue };
            for (wanted, log_id) in request.entries.iter().zip(self.log_ids(request)) {
                let place = &self.deliveries[&log_id][0];
                let place = (place.partition, place.offset);
                if let Some(before) = last.insert((key, &request.ingress, &wanted.target), place) {
                    assert_eq!(before.0, place.0, "{key} is on two partitions of {}", wanted.target);
                    assert!(before < place, "{} of {key} overtook an earlier one", request.id);
                }
            }
        }
    }
}

/// What must hold at every moment, just after a writer died too: nothing was even sent that is not in the store, and no receipt
/// says more than is true. No writer may be running.
#[track_caller]
pub fn expect_written_ahead(log: &Log, targets: &[String]) {
    let documents: HashSet<String> = log.documents().iter().map(|entry| entry.log_id.to_string()).collect();
    for delivery in targets.iter().flat_map(|target| log.read_as(target, Isolation::ReadUncommitted)) {
        let log_id = delivery.header("ce_id").expect("every delivery has its log id");
        assert!(documents.contains(&log_id), "{log_id} was sent to {} before it was stored", delivery.topic);
    }
    for receipt in log.read_as(&log.topic("receipts"), Isolation::ReadUncommitted).iter().map(Record::json) {
        for log_id in log_ids(&receipt) {
            assert!(documents.contains(&log_id), "a receipt says that {log_id} is stored, and it is not");
        }
    }
}

/// The log ids that a receipt names; none if it is a refusal.
pub fn log_ids(receipt: &Value) -> Vec<String> {
    match (&receipt["log_id"], &receipt["log_ids"]) {
        (Value::String(log_id), _) => vec![log_id.clone()],
        (_, Value::Array(log_ids)) => log_ids.iter().map(text).collect(),
        _ => Vec::new(),
    }
}

/// Deliveries by log id.
#[track_caller]
pub fn by_log_id(deliveries: impl Iterator<Item = Record>) -> HashMap<String, Vec<Record>> {
    let mut by_log_id: HashMap<String, Vec<Record>> = HashMap::new();
    for delivery in deliveries {
        let log_id = delivery.header("ce_id").unwrap_or_else(|| panic!("a delivery without log id: {delivery:?}"));
        by_log_id.entry(log_id).or_default().push(delivery);
    }
    by_log_id
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}
