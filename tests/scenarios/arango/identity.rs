//! The same identity at two writers at once: the database says who was first, and both writers say the same.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;
use wal_tests::{Kafka, Message, wait_until};

use super::stop;
use crate::support::database::Database;
use crate::support::log::{PARTITIONS, wait_for_partitions};
use crate::support::outcome::by_log_id;
use crate::support::{LATER, Log, SOON};

/// How many identities race.
const IDENTITIES: usize = 40;
const LANES: [&str; 3] = ["ingress.high", "ingress", "ingress.low"];

/// What the records of an identity have to say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Same,
    Other,
}

#[test]
fn the_same_content_at_two_writers_at_once_is_stored_once_and_named_by_every_receipt() {
    let race = Race::run(|id, copy| single(id, copy, Content::Same));
    for receipts in race.receipts.values() {
        assert!(receipts.iter().all(|receipt| receipt["success"] == true), "{receipts:?}");
        let log_ids: HashSet<&str> = receipts.iter().filter_map(|receipt| receipt["log_id"].as_str()).collect();
        assert_eq!(log_ids.len(), 1, "{receipts:?}");
    }
    race.expect_stored_and_delivered_once(IDENTITIES);
    assert_eq!(race.dead_letters, 0);
}

#[test]
fn other_content_at_two_writers_at_once_is_refused_with_its_code_but_for_the_first() {
    let race = Race::run(|id, copy| single(id, copy, Content::Other));
    for receipts in race.receipts.values() {
        let (stored, refused): (Vec<&Value>, Vec<&Value>) =
            receipts.iter().partition(|receipt| receipt["success"] == true);
        assert_eq!((stored.len(), refused.len()), (1, race.copies - 1), "{receipts:?}");
        assert!(refused.iter().all(|receipt| receipt["error_code"] == "WAL_IDENTITY_CONFLICT"), "{receipts:?}");
    }
    race.expect_stored_and_delivered_once(IDENTITIES);
    assert_eq!(race.dead_letters, IDENTITIES * (race.copies - 1));
}

#[test]
fn the_same_batch_at_two_writers_at_once_is_stored_once_and_named_by_every_receipt() {
    let race = Race::run(|id, copy| batch(id, copy, Content::Same));
    for receipts in race.receipts.values() {
        assert!(receipts.iter().all(|receipt| receipt["success"] == true), "{receipts:?}");
        let log_ids: HashSet<String> = receipts.iter().map(|receipt| receipt["log_ids"].to_string()).collect();
        assert_eq!(log_ids.len(), 1, "{receipts:?}");
    }
    race.expect_stored_and_delivered_once(IDENTITIES * 2);
    assert_eq!(race.dead_letters, 0);
}

#[test]
fn another_batch_at_two_writers_at_once_is_refused_as_a_whole_but_for_the_first() {
    let race = Race::run(|id, copy| batch(id, copy, Content::Other));
    for receipts in race.receipts.values() {
        let (stored, refused): (Vec<&Value>, Vec<&Value>) =
            receipts.iter().partition(|receipt| receipt["success"] == true);
        assert_eq!((stored.len(), refused.len()), (1, race.copies - 1), "{receipts:?}");
        assert!(refused.iter().all(|receipt| receipt["error_code"] == "WAL_IDENTITY_CONFLICT"), "{receipts:?}");
    }
    race.expect_stored_and_delivered_once(IDENTITIES * 2);
    assert_eq!(race.dead_letters, IDENTITIES * (race.copies - 1));
}

/// What came of identities that raced.
struct Race {
    /// By request id.
    receipts: BTreeMap<String, Vec<Value>>,
    /// Deliveries of each log id.
    deliveries: BTreeMap<String, usize>,
    /// What the database has of log ids.
    stored: HashSet<String>,
    dead_letters: usize,
    /// Records of each identity.
    copies: usize,
}

impl Race {
    /// Sends every identity to every partition of every lane, and makes both writers hold theirs when the database lets them go on.
    #[track_caller]
    fn run(value: impl Fn(&str, usize) -> (String, String)) -> Race {
        let database = Database::new();
        let log = Log::on(&Kafka::shared().bootstrap(), &database.settings());
        let target = log.target("race");
        let writers = ["0", "1"].map(|instance| log.start(&[("kafka.instance", instance)]));
        writers.iter().for_each(wait_for_partitions);
        wait_until("both are members", SOON, || log.members() == 2);

        database.server.stop();
        let places = LANES.iter().flat_map(|lane| (0..PARTITIONS).map(move |partition| (*lane, partition)));
        let places: Vec<(&str, usize)> = places.collect();
        let mut messages = Vec::new();
        for number in 0..IDENTITIES {
            for (copy, (lane, partition)) in places.iter().enumerate() {
                let (head, body) = value(&format!("r-{number}"), copy);
                let partition = i32::try_from(*partition).expect("a small number");
                let value = format!("{{{head}{}}}", body.replace("TARGET", &target));
                messages.push(Message::to(&log.topic(lane)).partition(partition).value(value));
            }
        }
        log.send(&messages);
        for writer in &writers {
            writer.wait_for_line("the store does not answer", SOON);
        }
        database.server.restart().expect("its port is still free");

        let mut receipts: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for receipt in log.receipts(&writers[0], messages.len(), LATER) {
            let receipt = receipt.json();
            let id = receipt["request_id"].as_str().expect("each has its id").to_owned();
            receipts.entry(id).or_default().push(receipt);
        }
        log.wait_until_done(SOON);
        writers.iter().for_each(stop);
        let deliveries = by_log_id(log.read(&target).into_iter());
        let log_id = |entry: &Value| entry["log_id"].as_str().expect("an entry has a log id").to_owned();
        let race = Race {
            receipts,
            deliveries: deliveries.into_iter().map(|(log_id, records)| (log_id, records.len())).collect(),
            stored: database.entries().values().map(log_id).collect(),
            dead_letters: log.read(&log.dead_requests()).len(),
            copies: places.len(),
        };
        assert_eq!(race.receipts.len(), IDENTITIES);
        assert!(race.receipts.values().all(|receipts| receipts.len() == race.copies), "one receipt for each record");
        race
    }

    #[track_caller]
    fn expect_stored_and_delivered_once(&self, entries: usize) {
        assert_eq!(self.stored.len(), entries);
        assert!(self.deliveries.values().all(|deliveries| *deliveries == 1), "{:?}", self.deliveries);
        assert_eq!(self.deliveries.keys().cloned().collect::<HashSet<_>>(), self.stored);
    }
}

/// Fields of a request; other content is other for each copy.
fn single(id: &str, copy: usize, content: Content) -> (String, String) {
    let copy = if content == Content::Same { 0 } else { copy };
    let body = format!(r#""namespace":"orders","target":"TARGET","payload":{{"of":"{id}","copy":{copy}}}"#);
    (format!(r#""request_id":"{id}","#), body)
}

fn batch(id: &str, copy: usize, content: Content) -> (String, String) {
    // The first entry is the same in all copies: it is the batch that is refused, not the entry.
    let entries = [0, if content == Content::Same { 0 } else { copy }]
        .map(|copy| format!(r#"{{"namespace":"orders","target":"TARGET","payload":{{"of":"{id}","copy":{copy}}}}}"#));
    (format!(r#""request_id":"{id}","#), format!(r#""entries":[{}]"#, entries.join(",")))
}
