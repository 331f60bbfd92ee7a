//! Transactions without offsets on a real broker: what is told of each of them is what whoever reads their topics sees.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use wal_model::{OutRecord, Topic};
use wal_runtime::config::{Kafka as KafkaSettings, Settings};
use wal_runtime::kafka;
use wal_runtime::transactions::{Error, Transactions};
use wal_tests::clients::{create_topic, read_all};
use wal_tests::{Isolation, Kafka, Proxy, seed, unique, wait_until};

use crate::support::{LATER, SOON};

/// How many are published.
const COUNT: usize = 200;

fn transactions(bootstrap: &str, id: &str) -> Transactions {
    let given = [
        ("kafka.bootstrap_servers", bootstrap.to_owned()),
        // What is left open holds back readers for no longer than this.
        ("kafka.transaction_timeout", "4s".to_owned()),
    ];
    let settings = Settings::load_from(None, std::iter::empty(), &given).unwrap();
    Transactions::start(kafka::transactional(&KafkaSettings::read(&settings).unwrap(), id)).unwrap()
}

fn record(topic: &str, number: usize) -> OutRecord {
    let value = Some(number.to_string().into());
    OutRecord { topic: Topic::parse(topic).unwrap(), partition: None, key: None, value, headers: Vec::new() }
}

/// How often each number stands on a topic, for readers of what is committed.
fn counted(bootstrap: &str, topic: &str) -> HashMap<usize, usize> {
    let mut counts = HashMap::new();
    for record in read_all(bootstrap, topic, Isolation::ReadCommitted) {
        *counts.entry(record.text().parse().unwrap()).or_default() += 1;
    }
    counts
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn what_is_told_of_a_transaction_is_what_readers_see_whatever_happens_to_the_wire() {
    let mut random = seed::random("transactions");
    let kafka = Kafka::start();
    let proxy = kafka.proxy();
    let (one, other) = (unique("one"), unique("other"));
    create_topic(&kafka.bootstrap(), &one, 3, &[]);
    create_topic(&kafka.bootstrap(), &other, 3, &[]);
    let (runtime, published) = (runtime(), AtomicUsize::new(0));
    let transactions = transactions(&proxy.address().to_string(), "told");

    let told: Vec<Result<(), Error>> = std::thread::scope(|scope| {
        let publishing = scope.spawn(|| {
            let publish = |number| {
                let told = runtime.block_on(transactions.publish(vec![record(&one, number), record(&other, number)]));
                published.fetch_add(1, Ordering::SeqCst);
                told
            };
            (0..COUNT).map(publish).collect()
        });
        let hurts: [fn(&Proxy); 2] = [Proxy::cut, Proxy::black_hole];
        for hurt in hurts {
            let at = published.load(Ordering::SeqCst) + random.usize(10..60);
            wait_until("some are published", LATER, || published.load(Ordering::SeqCst) >= at.min(COUNT));
            hurt(&proxy);
            // The first may have been through already; the second begins on a broken wire.
            let failed = published.load(Ordering::SeqCst) + 2;
            wait_until("one of them noticed", LATER, || published.load(Ordering::SeqCst) >= failed.min(COUNT));
            proxy.restore();
        }
        publishing.join().unwrap()
    });

    let is_done = |told: &Result<(), Error>| told.is_ok();
    assert!(told.iter().any(is_done) && told.last().is_some_and(is_done), "{told:?}");
    assert!(!told.iter().all(is_done), "nothing was noticed of all that");
    wait_until("nothing is left open", SOON, || {
        let (one, other) = (counted(&kafka.bootstrap(), &one), counted(&kafka.bootstrap(), &other));
        told.iter().enumerate().all(|(number, told)| {
            let counts = (one.get(&number).copied().unwrap_or(0), other.get(&number).copied().unwrap_or(0));
            match told {
                Ok(()) => counts == (1, 1),
                Err(Error::NotPublished(_)) => counts == (0, 0),
                Err(Error::Unknown(_)) => counts == (0, 0) || counts == (1, 1),
            }
        })
    });
}

#[test]
fn a_second_of_the_same_name_takes_over_and_nothing_is_half_done() {
    let kafka = Kafka::shared();
    let (one, other) = (unique("one"), unique("other"));
    create_topic(&kafka.bootstrap(), &one, 1, &[]);
    create_topic(&kafka.bootstrap(), &other, 1, &[]);
    let (runtime, id) = (runtime(), unique("twin"));
    let publish = |transactions: &Transactions, number| {
        runtime.block_on(transactions.publish(vec![record(&one, number), record(&other, number)]))
    };
    let first = transactions(&kafka.bootstrap(), &id);
    assert_eq!(publish(&first, 1), Ok(()));
    let second = transactions(&kafka.bootstrap(), &id);
    assert_eq!(publish(&second, 2), Ok(()));

    // Kafka's client sends and commits behind our back, so it may only be said that nobody knows.
    assert!(publish(&first, 3).is_err());
    assert_eq!(publish(&first, 4), Ok(()), "the one that was fenced may fence in its turn");

    let numbers = |topic: &str| {
        let mut numbers: Vec<_> = counted(&kafka.bootstrap(), topic).into_iter().collect();
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(numbers(&one), [(1, 1), (2, 1), (4, 1)]);
    assert_eq!(numbers(&other), numbers(&one));
}

#[test]
fn without_brokers_it_is_said_in_time_that_nothing_happened() {
    let transactions = transactions(&format!("127.0.0.1:{}", wal_tests::free_port()), "nobody");
    let started = std::time::Instant::now();
    let told = runtime().block_on(transactions.publish(vec![record("x", 1)]));
    assert!(matches!(told, Err(Error::NotPublished(_))), "{told:?}");
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}
