//! A hundred namespaces and a thousand targets.

use std::collections::{HashMap, HashSet};

use wal_tests::clients::create_topics;
use wal_tests::{Kafka, Message, free_port, unique};

use crate::support::http::metrics;
use crate::support::{LATER, Log};

const NAMESPACES: usize = 100;
const TARGETS: usize = 1000;
/// What one page of metrics may have in lines: a histogram for each of the first hundred targets. With one for each target it would have
/// more than 20,000.
const LINES: usize = 4_000;

#[test]
fn a_hundred_namespaces_and_a_thousand_targets_are_served_and_do_not_swell_the_metrics() {
    let kafka = Kafka::start();
    let address = format!("127.0.0.1:{}", free_port());
    // So short that slow brokers cannot commit a batch with a record for each of them in time; `outages` makes sure of it with a slow wire.
    let settings = [("health.listen", &*address), ("kafka.transaction_timeout", "5s")];
    let log = Log::on(&kafka.bootstrap(), &settings);
    let name = unique("target");
    let targets: Vec<String> = (0..TARGETS).map(|number| format!("{name}-{number}")).collect();
    create_topics(&log.bootstrap, &targets, 1);
    let writer = log.start_ready(&[]);

    let request = |(number, target): (usize, &String)| {
        let namespace = format!("namespace-{}", number % NAMESPACES);
        let value = format!(
            r#"{{"namespace":"{namespace}","target":"{target}","request_id":"r-{number}","payload":{{"number":{number}}}}}"#
        );
        Message::to(&log.topic("ingress")).key(format!("k{number}")).value(value)
    };
    // Twice, so that what is remembered of each target is used as well.
    for round in 0..2 {
        let numbered = targets.iter().enumerate().map(|(number, target)| (round * TARGETS + number, target));
        log.send(&numbered.map(request).collect::<Vec<_>>());
        let receipts = log.receipts(&writer, (round + 1) * TARGETS, 3 * LATER);
        assert!(receipts.iter().all(|receipt| receipt.json()["success"] == true), "{writer:?}");
    }

    let mut deliveries: HashMap<&String, usize> = HashMap::new();
    for target in targets.iter().step_by(50) {
        deliveries.insert(target, log.read(target).len());
    }
    assert!(deliveries.values().all(|count| *count == 2), "{deliveries:?}");
    let page = metrics(&address);
    let lines = page.lines().count();
    assert!(lines < LINES, "{lines} lines:\n{page}");
    let named: HashSet<&str> = page.split(r#"target=""#).skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(named.contains("other") && named.len() <= 101, "{} targets are told apart", named.len());
}
