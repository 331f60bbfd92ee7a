//! A writer whose database fails at every request of a batch, once in each way that it may: nothing is lost, nothing is stored twice,
//! and no receipt says more than is true.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use wal_arango_fake::{Action, Elements, Fault};
use wal_tests::{Kafka, Message, Process, wait_until};

use super::stop;
use crate::support::database::Database;
use crate::support::outcome::{by_log_id, log_ids};
use crate::support::{Log, SOON};

/// One partition and a wait, so that what is sent at once is one batch.
const ONE_BATCH: [(&str, &str); 2] = [("topics.partitions", "1"), ("writer.batch_wait", "40ms")];
const DOCUMENTS: &str = "/_api/document/wal_entries";
/// New requests of a round; as many are repeated from the round before it.
const NEW: usize = 3;

#[test]
fn a_fault_at_the_insert_of_a_batch_loses_nothing_doubles_nothing_and_makes_no_receipt_untrue() {
    go_wrong_at(DOCUMENTS, "");
}

#[test]
fn a_fault_at_the_reading_of_what_is_there_loses_nothing_doubles_nothing_and_makes_no_receipt_untrue() {
    go_wrong_at("/_api/cursor", "FOR");
}

#[test]
fn a_fault_at_the_fence_loses_nothing_doubles_nothing_and_makes_no_receipt_untrue() {
    go_wrong_at("overwriteMode=replace", "fence-");
}

/// Each fault once at a request with this in its path and body, in a batch in which some entries are there already.
#[track_caller]
fn go_wrong_at(path: &str, body: &str) {
    let database = Database::new();
    let mut scene = Scene::new(&database);
    for fault in Action::transient().into_iter().chain([Action::unauthorized()]) {
        database.server.fail(Fault::on("POST", path, fault.clone()).with_body(body));
        scene.send_and_expect_true_receipts(&format!("{fault:?} at {path}"));
    }
    // Not only an answer of 401: from now on the token is good for nothing.
    database.server.expire_tokens();
    scene.send_and_expect_true_receipts("no token is good any more");
    scene.finish();
}

/// The unsynced writes of a batch are found as duplicates, the process that wrote them is told so, and then the power goes.
#[test]
fn what_a_receipt_says_is_stored_outlives_a_loss_of_power_right_after_it() {
    let database = Database::new();
    let mut scene = Scene::new(&database);
    for lap in 0..10 {
        database.server.fail(Fault::on("POST", DOCUMENTS, Action::DropUnsynced));
        scene.send_and_expect_true_receipts(&format!("lap {lap}"));
    }
    scene.finish();
}

#[test]
fn a_payload_that_the_database_refuses_has_its_code_and_its_neighbours_are_stored() {
    const ILLEGAL_DOCUMENT: u32 = 1216;
    let database = Database::new();
    let settings: Vec<_> = database.settings().into_iter().chain(ONE_BATCH).collect();
    let log = Log::on(&Kafka::shared().bootstrap(), &settings);
    let target = log.target("refused");
    let refuses = |position| Action::Elements(Elements { error_num: ILLEGAL_DOCUMENT, positions: vec![position] });
    // In its array, and then alone without its readable copy.
    database.server.fail(Fault::on("POST", DOCUMENTS, refuses(4)).with_body("r-4"));
    database.server.fail(Fault::on("POST", DOCUMENTS, refuses(0)).with_body("r-4").after(1));

    let ids: Vec<String> = (0..10).map(|number| format!("r-{number}")).collect();
    log.send(&ids.iter().map(|id| request(&log, &target, id)).collect::<Vec<_>>());
    let writer = log.start(&[]);
    let receipts = log.receipts(&writer, ids.len(), SOON);
    log.wait_until_done(SOON);
    stop(&writer);

    assert!(database.server.pending_faults().is_empty(), "{:?}", database.server.pending_faults());
    for receipt in receipts.iter().map(|receipt| receipt.json()) {
        let is_refused = receipt["request_id"] == "r-4";
        assert_eq!(receipt["success"], !is_refused, "{receipt}");
        assert_eq!(receipt["error_code"] == "WAL_WRITE_ERROR", is_refused, "{receipt}");
    }
    assert_eq!((receipts.len(), database.entries().len(), log.read(&target).len()), (10, 9, 9));
    let letters = log.read(&log.dead_requests());
    assert_eq!(
        letters.iter().map(|letter| letter.value.clone()).collect::<Vec<_>>(),
        [request(&log, &target, "r-4").value]
    );
}

/// A writer, and what it has been sent.
struct Scene<'a> {
    database: &'a Database,
    log: Log,
    target: String,
    writer: Process,
    sent: Vec<String>,
    receipts: usize,
}

impl Scene<'_> {
    #[track_caller]
    fn new(database: &Database) -> Scene<'_> {
        let given = ONE_BATCH.into_iter().chain([("store.arangodb.auth", "token")]);
        let settings: Vec<_> = database.settings().into_iter().chain(given).collect();
        let log = Log::on(&Kafka::shared().bootstrap(), &settings);
        let target = log.target("faults");
        let writer = log.start_ready(&[]);
        let mut scene = Scene { database, log, target, writer, sent: Vec::new(), receipts: 0 };
        scene.send_and_expect_true_receipts("nothing goes wrong");
        scene
    }

    /// Sends new requests and old ones as one batch, waits for their receipts, lets the power go, and looks whether they are true.
    #[track_caller]
    fn send_and_expect_true_receipts(&mut self, what: &str) {
        let first = self.sent.len();
        let new: Vec<String> = (first..first + NEW).map(|number| format!("r-{number}")).collect();
        let old = self.sent[first.saturating_sub(NEW)..].to_vec();
        let messages: Vec<Message> = new.iter().chain(&old).map(|id| request(&self.log, &self.target, id)).collect();
        self.log.send(&messages);
        self.sent.extend(new);
        self.receipts += messages.len();

        wait_until(&format!("it has gone wrong: {what}"), SOON, || self.database.server.pending_faults().is_empty());
        let receipts = self.log.receipts(&self.writer, self.receipts, SOON);
        self.database.server.power_loss();

        assert_eq!(receipts.len(), self.receipts, "one receipt for each record that was sent: {what}");
        let stored: HashSet<String> = self.stored();
        for receipt in receipts.iter().map(|receipt| receipt.json()) {
            assert_eq!((&receipt["success"], &receipt["durable"]), (&true.into(), &true.into()), "{what}: {receipt}");
            let log_id = log_ids(&receipt).pop().expect("a receipt of success names its entry");
            assert!(stored.contains(&log_id), "{what}: the receipt says that {log_id} is stored, and it is not");
        }
        assert_eq!(stored.len(), self.sent.len(), "{what}");
    }

    fn stored(&self) -> HashSet<String> {
        let entries = self.database.entries();
        let log_id = |entry: &Value| entry["log_id"].as_str().expect("an entry has a log id").to_owned();
        entries.values().map(log_id).collect()
    }

    /// Stops the writer; each entry must have been delivered once, and every receipt of a request have named the same one.
    #[track_caller]
    fn finish(self) {
        self.log.wait_until_done(SOON);
        stop(&self.writer);
        let mut named: HashMap<String, HashSet<String>> = HashMap::new();
        for receipt in self.log.read(&self.log.topic("receipts")).iter().map(|receipt| receipt.json()) {
            let id = receipt["request_id"].as_str().expect("each has its id").to_owned();
            named.entry(id).or_default().extend(log_ids(&receipt));
        }
        assert!(named.values().all(|log_ids| log_ids.len() == 1), "{named:?}");
        let deliveries = by_log_id(self.log.read(&self.target).into_iter());
        assert!(deliveries.values().all(|deliveries| deliveries.len() == 1), "{deliveries:?}");
        assert_eq!((named.len(), deliveries.len()), (self.sent.len(), self.sent.len()));
        assert_eq!(deliveries.into_keys().collect::<HashSet<_>>(), self.stored());
        assert_eq!(
            (self.log.read(&self.log.dead_requests()), self.log.read(&self.log.topic("acks"))),
            (vec![], vec![])
        );
    }
}

fn request(log: &Log, target: &str, id: &str) -> Message {
    let value =
        format!(r#"{{"namespace":"orders","target":"{target}","payload":{{"of":"{id}"}},"request_id":"{id}"}}"#);
    Message::to(&log.topic("ingress")).partition(0).value(value)
}
