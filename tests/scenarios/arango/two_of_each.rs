//! Two of each service on one database, under load, of which some are killed and others stand still for longer than their session.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::thread;
use std::time::Duration;

use wal_model::Topic;
use wal_model::answer::{Completed, Failed, Wish};
use wal_model::status::{Failure, Status};
use wal_tests::clients::{members, shares};
use wal_tests::{Kafka, Message, Process, Producer, Record, seed, wait_until};

use super::{attempt, stop};
use crate::support::database::{Database, expect_no_secret};
use crate::support::load::Request;
use crate::support::log::{PARTITIONS, wait_until_read};
use crate::support::outcome::log_ids;
use crate::support::records::{as_read, message};
use crate::support::{LATER, Load, Log, SOON, load};

const SERVICES: [&str; 3] = ["wal-writer", "wal-retry-scheduler", "wal-status"];
/// Small batches, so that whatever happens falls between many of them, and retries that follow soon.
const SETTINGS: [(&str, &str); 5] = [
    ("writer.batch_records", "40"),
    ("retry_scheduler.batch_records", "40"),
    ("status.batch_records", "40"),
    ("policy.delay", "0.2"),
    ("policy.backoff", "fixed"),
];
const ROUND: usize = 250;

#[test]
fn two_of_each_lose_nothing_and_double_nothing_while_some_are_killed_and_some_stand_still() {
    let mut random = seed::random("two of each");
    let database = Database::new();
    let settings: Vec<_> = database.settings().into_iter().chain(SETTINGS).collect();
    let log = Log::on(&Kafka::shared().bootstrap(), &settings);
    let targets = ["x", "y"].map(|name| log.target(name));
    let mut load = Load::new(&log, "two", &targets, &mut random);
    let producer = Producer::new(&log.bootstrap);
    let mut first = start(&log, "0");
    let mut second = start(&log, "1");
    let mut consumer = Consumer::new(&log, &targets);
    wait_until_all_are_members(&log, 2);
    let mut requests = Vec::new();

    // Killed and started again, each of them once; the others take over, and give back.
    for processes in [&mut first, &mut second] {
        let instance = if requests.is_empty() { "0" } else { "1" };
        send(&producer, &mut requests, load.make(ROUND));
        consumer.answer_until(requests.len() - ROUND / 2);
        // Not to wait for anything: to fall somewhere within a batch.
        thread::sleep(Duration::from_micros(random.u64(..20_000)));
        processes.iter_mut().for_each(Process::kill);
        *processes = start(&log, instance);
    }

    // Stopped until their sessions are over and the others have what was theirs; then they go on where they were.
    send(&producer, &mut requests, load.make(ROUND));
    consumer.answer_until(requests.len() - ROUND / 2);
    wait_until_all_are_members(&log, 2);
    send(&producer, &mut requests, load.make(ROUND));
    // Again to fall somewhere within a batch.
    thread::sleep(Duration::from_micros(random.u64(..50_000)));
    second.iter().for_each(Process::pause);
    wait_until_all_are_members(&log, 1);
    consumer.answer_until(requests.len() - ROUND / 2);
    second.iter().for_each(Process::resume);
    send(&producer, &mut requests, load.make(ROUND));

    let entries: usize = requests.iter().map(|request| request.entries.len()).sum();
    wait_until("every entry is completed in the database", LATER, || {
        consumer.answer();
        for process in first.iter().chain(&second) {
            assert!(process.is_running(), "{process:?}");
        }
        database.count("completed") == entries
    });
    log.wait_until_done(SOON);
    wait_until_read(&log.bootstrap, &log.topic("status"), &log.topic("acks"), LATER);
    for process in first.iter().chain(&second) {
        stop(process);
        expect_no_secret(process);
    }
    consumer.answer();
    expect_all_completed_once(&log, &consumer, &requests);
}

/// Most of the load may be on one of the three ingress topics: whoever adds a writer wants half of that one moved.
#[test]
fn a_writer_that_is_added_gets_its_share_of_every_lane() {
    let database = Database::new();
    let log = Log::on(&Kafka::shared().bootstrap(), &database.settings());
    let mut writers = Vec::new();
    for instance in ["0", "1"] {
        writers.push(log.start_ready(&[("kafka.instance", instance)]));
        let lanes = ["ingress", "ingress.high", "ingress.low"].map(|lane| log.topic(lane));
        let share: BTreeMap<String, usize> = lanes.map(|lane| (lane, PARTITIONS / writers.len())).into();
        let all = vec![share; writers.len()];
        wait_until("each has its share", SOON, || shares(&log.bootstrap, &log.group()) == all);
    }
}

/// Every request has one receipt; every entry is stored once as completed, and was delivered once for each of its attempts.
#[track_caller]
fn expect_all_completed_once(log: &Log, consumer: &Consumer<'_>, requests: &[Request]) {
    let receipts = log.read(&log.topic("receipts"));
    let ids: HashSet<String> = receipts.iter().map(|receipt| receipt.json()["request_id"].to_string()).collect();
    assert_eq!((receipts.len(), ids.len()), (requests.len(), requests.len()), "one receipt for each request");
    let named: HashSet<String> = receipts.iter().flat_map(|receipt| log_ids(&receipt.json())).collect();

    let documents = log.documents();
    let stored: HashSet<String> = documents.iter().map(|entry| entry.log_id.to_string()).collect();
    let entries: usize = requests.iter().map(|request| request.entries.len()).sum();
    assert_eq!(documents.len(), entries);
    assert_eq!(stored, named, "what receipts name is what is stored");

    let mut expected = HashMap::new();
    for entry in &documents {
        let log_id = entry.log_id.to_string();
        let retries = u32::from(is_declined(&log_id));
        assert_eq!((entry.state.status(), entry.state.retry_count()), (Status::Completed, retries), "{entry:?}");
        for attempt in 1..=retries + 1 {
            expected.insert((log_id.clone(), attempt.to_string()), 1);
        }
    }
    let doubled: Vec<_> = consumer.seen.iter().filter(|(_, times)| **times != 1).collect();
    assert!(doubled.is_empty(), "delivered more than once: {doubled:?}");
    assert_eq!(consumer.seen, expected);
    assert_eq!(log.read(&log.dead_requests()), []);
}

/// Whether its consumer could not do the first attempt: of three, one.
fn is_declined(log_id: &str) -> bool {
    log_id.bytes().map(u32::from).sum::<u32>().is_multiple_of(3)
}

/// Answers each delivery once, when it is read.
struct Consumer<'a> {
    log: &'a Log,
    targets: &'a [String],
    /// Log ids and attempts, and how often each was read.
    seen: HashMap<(String, String), usize>,
    answered: HashSet<(String, String)>,
    producer: Producer,
}

impl Consumer<'_> {
    fn new<'a>(log: &'a Log, targets: &'a [String]) -> Consumer<'a> {
        let producer = Producer::new(&log.bootstrap);
        Consumer { log, targets, seen: HashMap::new(), answered: HashSet::new(), producer }
    }

    /// Answers until so many first attempts at least were seen.
    #[track_caller]
    fn answer_until(&mut self, count: usize) {
        wait_until(&format!("{count} deliveries are answered"), LATER, || {
            self.answer();
            self.answered.iter().filter(|(_, attempt)| attempt == "1").count() >= count
        });
    }

    #[track_caller]
    fn answer(&mut self) {
        let deliveries: Vec<Record> = self.targets.iter().flat_map(|target| self.log.read(target)).collect();
        self.seen.clear();
        let mut answers = Vec::new();
        for delivery in &deliveries {
            let log_id = delivery.header("ce_id").expect("every delivery has its log id");
            let which = (log_id, attempt(delivery));
            *self.seen.entry(which.clone()).or_default() += 1;
            if self.answered.insert(which.clone()) {
                answers.push(self.answer_to(delivery, &which));
            }
        }
        self.producer.send_all(&answers);
    }

    fn answer_to(&self, delivery: &Record, (log_id, attempt): &(String, String)) -> Message {
        let topic = |name| Topic::parse(&self.log.topic(name)).expect("a topic of the log");
        if attempt == "1" && is_declined(log_id) {
            let failure = Failure { code: "CARD_DECLINED".to_owned(), message: "no money".to_owned() };
            return message(&Failed::encode(&as_read(delivery), &failure, &Wish::None, topic("failures")));
        }
        message(&Completed::encode(&as_read(delivery), None, topic("acks")))
    }
}

fn start(log: &Log, instance: &str) -> [Process; 3] {
    SERVICES.map(|service| log.start_program(service, &[("kafka.instance", instance)], &[]))
}

#[track_caller]
fn send(producer: &Producer, requests: &mut Vec<Request>, more: Vec<Request>) {
    load::send(producer, &more);
    requests.extend(more);
}

/// Waits until the groups of the services have so many members each.
#[track_caller]
fn wait_until_all_are_members(log: &Log, count: usize) {
    for group in ["writer", "retry-scheduler", "delays", "status"] {
        wait_until(&format!("{count} of {group}"), SOON, || members(&log.bootstrap, &log.topic(group)) == count);
    }
}
