//! A broker that goes and comes back, a wire that is cut or swallows everything, a store that fails, hangs or answers late: the writer
//! mends itself, and receipts never say more than is true.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use wal_model::id::{EntryKey, Identity};
use wal_model::{Id, Namespace};
use wal_runtime::batch_loop::Observer;
use wal_runtime::shutdown::Shutdown;
use wal_store::Error;
use wal_store::faults::{Faulty, Method};
use wal_tests::{Isolation, Kafka, Message, Producer, Proxy, seed, wait_until};
use wal_writer::Service;

use crate::support::log::block_on;
use crate::support::{LATER, Load, Log, Outcome, SOON, load};

/// Small batches, so that an outage falls between many of them.
const SMALL: (&str, &str) = ("writer.batch_records", "40");

#[test]
fn the_writer_outlives_its_broker_and_the_wire_to_it() {
    let mut random = seed::random("outages");
    let mut kafka = Kafka::start();
    let proxy = kafka.proxy();
    let log = Log::behind(&kafka.bootstrap(), &proxy.address().to_string(), &[SMALL]);
    let targets = ["x", "y"].map(|name| log.target(name));
    let mut load = Load::new(&log, "outages", &targets, &mut random);
    let producer = Producer::with(&log.bootstrap, &[("message.timeout.ms", "120000")]);
    let writer = log.start_ready(&[]);
    let mut requests = Vec::new();

    let hurts: [fn(&mut Kafka, &Proxy, &Log); 4] = [
        |_, proxy, log| {
            proxy.cut();
            wait_until_thrown_out(log);
            proxy.restore();
        },
        |_, proxy, log| {
            proxy.black_hole();
            wait_until_thrown_out(log);
            proxy.restore();
        },
        |kafka, _, _| {
            kafka.kill();
            kafka.restart();
        },
        |kafka, _, _| {
            kafka.stop();
            kafka.restart();
        },
    ];
    for hurt in hurts {
        let more = load.make(600);
        load::send(&producer, &more[..400]);
        log.receipts(&writer, requests.len() + random.usize(1..300), LATER);
        let on_their_way: Vec<_> = more[400..].iter().map(|request| producer.send(&request.message)).collect();
        hurt(&mut kafka, &proxy, &log);
        for sent in on_their_way {
            sent.acknowledged();
        }
        requests.extend(more);
        log.receipts(&writer, requests.len(), LATER);
    }

    assert!(writer.is_running(), "it mended itself, nobody started it again: {writer:?}");
    Outcome::after(writer, &log, &targets).expect_exactly_once(&requests);
}

#[test]
fn a_store_that_fails_and_answers_late_makes_nothing_come_early_or_twice() {
    let mut random = seed::random("store");
    let log = Log::on(&Kafka::shared().bootstrap(), &[SMALL]);
    let targets = [log.target("x")];
    let requests = Load::new(&log, "store", &targets, &mut random).make(300);
    load::send(&Producer::new(&log.bootstrap), &requests);
    let store = open(&log);
    store.fail_before(Method::Insert);
    // The one that hurts: it is stored, and the writer is told that it may not be.
    store.fail_after(Method::Insert);
    let late = store.hang(Method::Insert);

    let writer = Running::start(&log, &store);
    writer.runtime.block_on(late.has_come());
    for topic in targets.iter().chain(&[log.topic("receipts"), log.topic("audit")]) {
        assert_eq!(
            log.read_as(topic, Isolation::ReadUncommitted),
            [],
            "nothing may be said before the store has answered"
        );
    }
    // Longer than the session: who waits for a store is no dead member.
    thread::sleep(Duration::from_secs(3));
    late.open();
    log.wait_for(&log.topic("receipts"), requests.len(), LATER);

    assert_eq!(writer.rewound(), 0, "nobody took its partitions while it waited");
    log.wait_until_done(SOON);
    writer.stop(store).expect("it stops in order");
    Outcome::read(&log, &targets).expect_exactly_once(&requests);
}

#[test]
fn a_stop_while_the_store_hangs_ends_in_time_and_loses_nothing() {
    let mut random = seed::random("hang");
    let log = Log::on(&Kafka::shared().bootstrap(), &[SMALL, ("writer.stop_timeout", "1s")]);
    let targets = [log.target("x")];
    let requests = Load::new(&log, "hang", &targets, &mut random).make(100);
    load::send(&Producer::new(&log.bootstrap), &requests);
    let store = open(&log);
    store.succeed(Method::Insert);
    let never = store.hang(Method::Insert);

    let writer = Running::start(&log, &store);
    writer.runtime.block_on(never.has_come());
    writer.stop(store).expect("it gives up what is in hand, and that is a stop in order");

    let writer = log.start(&[]);
    log.receipts(&writer, requests.len(), LATER);
    Outcome::after(writer, &log, &targets).expect_exactly_once(&requests);
}

#[test]
fn what_the_store_will_never_take_is_refused_and_its_neighbours_are_not() {
    let mut random = seed::random("refused");
    let log = Log::on(&Kafka::shared().bootstrap(), &[]);
    let targets = [log.target("x")];
    let requests = Load::new(&log, "refused", &targets, &mut random).make(100);
    let unlucky = requests.iter().find(|request| request.entries.len() == 1).expect("most are single");
    let namespace = Namespace::parse(unlucky.entries[0].namespace).unwrap();
    let identity = Identity::RequestId(Id::parse(&unlucky.id).unwrap());
    let store = open(&log);
    store.refuse(EntryKey::of(None, &namespace, &identity, 0));
    load::send(&Producer::new(&log.bootstrap), &requests);

    let writer = Running::start(&log, &store);
    log.wait_for(&log.topic("receipts"), requests.len(), LATER);
    log.wait_until_done(SOON);
    writer.stop(store).expect("it stops in order");

    let mut outcome = Outcome::read(&log, &targets);
    let receipts = outcome.receipts.remove(&unlucky.id).unwrap();
    assert_eq!((receipts.len(), &receipts[0]["error_code"]), (1, &"WAL_WRITE_ERROR".into()));
    assert_eq!(outcome.dead_letters.len(), 1);
    assert_eq!(outcome.dead_letters.remove(0).value, unlucky.message.value);
    let others: Vec<_> = requests.iter().filter(|request| request.id != unlucky.id).cloned().collect();
    outcome.expect_exactly_once(&others);
}

#[test]
fn a_damaged_store_ends_the_writer_and_nothing_is_skipped() {
    let mut random = seed::random("damaged");
    let log = Log::on(&Kafka::shared().bootstrap(), &[SMALL]);
    let targets = [log.target("x")];
    let requests = Load::new(&log, "damaged", &targets, &mut random).make(200);
    load::send(&Producer::new(&log.bootstrap), &requests);
    let store = open(&log);
    store.succeed(Method::Insert);
    store.fail_before_with(Method::Insert, Error::Corrupt("a page is gone".to_owned()));

    let failed = Running::start(&log, &store).end(store).expect_err("it must not go on");
    assert!(format!("{failed:?}").contains("a page is gone"), "{failed:?}");

    let writer = log.start(&[]);
    log.receipts(&writer, requests.len(), LATER);
    Outcome::after(writer, &log, &targets).expect_exactly_once(&requests);
}

/// Two writers, which only a store that they share allows. The first hangs in the store when its partitions are taken from it.
#[test]
fn partitions_move_away_from_a_writer_that_waits_for_its_store() {
    let mut random = seed::random("moved");
    let log = Log::on(&Kafka::shared().bootstrap(), &[SMALL]);
    let targets = [log.target("x")];
    let mut load = Load::new(&log, "moved", &targets, &mut random);
    let producer = Producer::new(&log.bootstrap);
    let mut requests = load.make(300);
    load::send(&producer, &requests);
    let shared = block_on(log.store());
    let (waiting, working) = (Faulty::new(Arc::clone(&shared)), Faulty::new(shared));
    let gate = waiting.hang(Method::Insert);

    let first = Running::start(&log, &waiting);
    first.runtime.block_on(gate.has_come());
    let second = Running::start_as(&log, "1", &working);
    wait_until("a partition of its batch has moved away", SOON, || first.rewound() > 0);
    gate.open();
    requests.extend(load.make(300));
    load::send(&producer, &requests[300..]);
    log.wait_for(&log.topic("receipts"), requests.len(), LATER);

    log.wait_until_done(SOON);
    first.stop(waiting).expect("it stops in order");
    second.stop(working).expect("it stops in order");
    Outcome::read(&log, &targets).expect_exactly_once(&requests);
}

/// Waits until the brokers have given up the group's only member.
#[track_caller]
/// A transaction with all of them would take twice as long as it may, at each try.
#[test]
fn a_batch_that_cannot_be_committed_in_time_comes_back_smaller() {
    const REQUESTS: usize = 200;
    const BYTES_PER_SECOND: NonZeroU32 = NonZeroU32::new(50_000).expect("not zero");
    let mut random = seed::random("slow wire");
    let kafka = Kafka::start();
    let proxy = kafka.proxy();
    let all = REQUESTS.to_string();
    let settings =
        [("writer.batch_records", &*all), ("writer.batch_bytes", "8000000"), ("kafka.transaction_timeout", "4s")];
    let log = Log::behind(&kafka.bootstrap(), &proxy.address().to_string(), &settings);
    let target = log.target("far");
    let writer = log.start_ready(&[]);
    let request = |number: usize| {
        let text: String = std::iter::repeat_with(|| random.alphanumeric()).take(2_000).collect();
        let value = format!(
            r#"{{"namespace":"orders","target":"{target}","request_id":"r-{number}","payload":{{"text":"{text}"}}}}"#
        );
        Message::to(&log.topic("ingress")).key("one").value(value)
    };
    let requests: Vec<Message> = (0..REQUESTS).map(request).collect();
    // All of them wait when it looks again, and are one batch.
    writer.pause();
    log.send(&requests);
    proxy.slow(BYTES_PER_SECOND);
    writer.resume();

    let receipts = log.receipts(&writer, REQUESTS, LATER);
    let answered: HashSet<String> =
        receipts.iter().map(|receipt| receipt.json()["request_id"].as_str().expect("its id").to_owned()).collect();
    assert_eq!((receipts.len(), answered.len()), (REQUESTS, REQUESTS));
    writer.wait_for_line("batch given up", LATER);
    proxy.restore();
    assert_eq!(log.read(&target).len(), REQUESTS);
    writer.terminate();
    assert!(writer.wait(LATER).success(), "{writer:?}");
}

fn wait_until_thrown_out(log: &Log) {
    wait_until("the group has lost its member", SOON, || log.members() == 0);
}

fn open(log: &Log) -> Faulty {
    Faulty::new(block_on(log.store()))
}

/// A writer within this process.
struct Running {
    runtime: Runtime,
    shutdown: Shutdown,
    task: JoinHandle<Result<(), wal_writer::Error>>,
    rewinds: Arc<Rewinds>,
}

#[derive(Default)]
struct Rewinds(AtomicUsize);

impl Observer for Rewinds {
    fn rewound(&self, why: &str) {
        println!("rewound: {why}");
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Running {
    fn start(log: &Log, store: &Faulty) -> Running {
        Running::start_as(log, "0", store)
    }

    fn start_as(log: &Log, instance: &str, store: &Faulty) -> Running {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime can be made");
        let settings = log.settings(&[("kafka.instance", instance)]);
        let service = Service::new(&settings, Arc::new(store.clone())).expect("the scenario's settings are valid");
        let (shutdown, rewinds) = (Shutdown::new(), Arc::new(Rewinds::default()));
        let (token, observer) = (shutdown.clone(), Arc::clone(&rewinds));
        let task = runtime.spawn(async move { service.run(observer, token.triggered()).await });
        Running { runtime, shutdown, task, rewinds }
    }

    fn rewound(&self) -> usize {
        self.rewinds.0.load(Ordering::Relaxed)
    }

    /// Stops it and closes its store.
    fn stop(self, store: Faulty) -> Result<(), wal_writer::Error> {
        self.shutdown.trigger();
        self.end(store)
    }

    /// Waits until it has ended, and closes its store.
    fn end(self, store: Faulty) -> Result<(), wal_writer::Error> {
        let ended = self.runtime.block_on(async { tokio::time::timeout(SOON, self.task).await });
        drop(store);
        ended.expect("it ends in time").expect("it does not panic")
    }
}
