//! One, two and four writers on twelve partitions and one database that takes a fixed time for each request.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use rdkafka::message::{BorrowedMessage, Message as _};
use wal_arango_fake::Server;
use wal_store::arango::{Options, schema};
use wal_tests::{Kafka, clients, wait_until};

use crate::lateness::{Arrivals, now};
use crate::part::Running;
use crate::stage::{Busy, Stage, spread};

const PATIENCE: Duration = Duration::from_secs(180);
const PARTITIONS: usize = 12;
/// The ingress topics, high, normal and low.
const LANES: usize = 3;
/// What one request takes in the database, and how many it serves at a time: so long that the processor, which the fake and all writers
/// share, matters little until there are four.
const SERVICE_TIME: Duration = Duration::from_millis(400);
const PARALLEL: usize = 64;

/// Runs each number of writers and tells how much more they do.
pub fn tell(broker: &Kafka, entries: usize, rounds: usize) -> Result<()> {
    println!(
        "\nscale: {entries} entries, {PARTITIONS} partitions, a database that takes {} ms for each request; entries/s: median (least to most)",
        SERVICE_TIME.as_millis()
    );
    let mut one = None;
    for writers in [1, 2, 4] {
        let (mut rates, mut loads) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let (rate, load) = once(broker, entries, writers)?;
            rates.push(rate);
            loads.push(load);
        }
        let ((rate, least, most), (load, ..)) = (spread(rates), spread(loads));
        let one = *one.get_or_insert(rate);
        let rates = format!("{rate:.0} ({least:.0} to {most:.0})");
        println!(
            "{writers} writers {rates:>28}   {:.2} times one   the machine's processors {:3.0} % busy",
            rate / one,
            load * 100.0
        );
    }
    Ok(())
}

fn once(broker: &Kafka, entries: usize, writers: usize) -> Result<(f64, f64)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let server = runtime.block_on(Server::builder().service_time(SERVICE_TIME, PARALLEL).start())?;
    let options = Options { replication_factor: 1, write_concern: 1, ..Options::new(vec![server.url()], "bench") };
    runtime.block_on(schema::apply(&options))?;
    let stage = Stage::set(broker, PARTITIONS)?;
    let settings = |writer: usize| {
        [
            ("kafka.instance", writer.to_string()),
            ("store.backend", "arangodb".to_owned()),
            ("store.arangodb.endpoints", server.url()),
            ("store.arangodb.database", "bench".to_owned()),
            ("store.arangodb.auth", "none".to_owned()),
            ("store.arangodb.replication_factor", "1".to_owned()),
            ("store.arangodb.write_concern", "1".to_owned()),
        ]
    };
    let running: Vec<Running> =
        (0..writers).map(|writer| Running::start("writer", &stage, 0, &settings(writer))).collect::<Result<_>>()?;
    running.iter().for_each(Running::wait_for_assignment);
    let group = wal_runtime::kafka::group(&stage.kafka, "writer");
    // Three lanes; partitions that still move would be what is measured.
    wait_until("all writers have their share", PATIENCE, || {
        let shares = clients::shares(&stage.bootstrap, &group);
        let is_fair = |share: &BTreeMap<String, usize>| share.values().eq([PARTITIONS / writers; LANES].iter());
        shares.len() == writers && shares.iter().all(is_fair)
    });
    let receipts = stage.kafka.topics.receipts();
    let arrivals = Arrivals::of(&stage.bootstrap, receipts.as_str(), entries, nameless)?;
    let (started, busy) = (now(), Busy::now()?);
    stage.load(entries);
    let arrived = arrivals.wait(PATIENCE);
    let load = busy.since()?;
    anyhow::ensure!(arrived.len() == entries, "{} of {entries} arrived", arrived.len());
    let last = arrived.iter().map(|arrival| arrival.at).fold(0.0, f64::max);
    running.into_iter().try_for_each(Running::stop)?;
    server.stop();
    Ok((entries as f64 / ((last - started) / 1000.0), load))
}

fn nameless<'a>(message: &'a BorrowedMessage<'_>) -> &'a [u8] {
    message.key().unwrap_or_default()
}
