//! A database that goes away under load and comes back: as after a restart, as after an outage, as after a loss of power.

use std::thread;
use std::time::Duration;

use wal_arango_fake::{Action, Fault};
use wal_tests::{Kafka, Process, Producer, seed, wait_until};

use crate::support::database::Database;
use crate::support::{LATER, Load, Log, Outcome, SOON, load};

/// Small batches, so that whatever happens falls between many of them.
const SMALL: (&str, &str) = ("writer.batch_records", "40");
/// For how long it is away: this is what happens to the services, nobody waits for anything by it.
const AWAY: Duration = Duration::from_secs(2);
const ROUND: usize = 400;

#[test]
fn a_database_that_is_away_for_seconds_under_load_costs_nothing_but_time() {
    let hurts: [fn(&Database); 2] = [
        |database| {
            database.server.stop();
            thread::sleep(AWAY);
            database.server.restart().expect("its port is still free");
        },
        |database| database.server.outage(AWAY),
    ];
    under_load("database away", 2, |database, lap| hurts[lap](database));
}

#[test]
fn the_power_that_goes_at_random_moments_takes_nothing_that_was_acknowledged() {
    under_load("power loss", 6, |database, _| {
        // So that there is something to take: what a hanging process has committed and nobody has synced.
        database.server.fail(Fault::on("POST", "/_api/document/wal_entries", Action::DropUnsynced));
        wait_until("a write hangs before its sync", SOON, || database.server.pending_faults().is_empty());
        database.server.power_loss();
        database.server.restart().expect("its port is still free");
    });
}

/// Hurts the database so often, each time while a part of a load is on its way; everything must come of the load all the same.
#[track_caller]
fn under_load(name: &'static str, laps: usize, hurt: impl Fn(&Database, usize)) {
    let mut random = seed::random(name);
    let database = Database::new();
    let settings: Vec<_> = database.settings().into_iter().chain([SMALL]).collect();
    let log = Log::on(&Kafka::shared().bootstrap(), &settings);
    let targets = ["x", "y"].map(|name| log.target(name));
    let mut load = Load::new(&log, "away", &targets, &mut random);
    let producer = Producer::new(&log.bootstrap);
    let writers = ["0", "1"].map(|instance| log.start_ready(&[("kafka.instance", instance)]));
    let mut requests = Vec::new();
    for lap in 0..laps {
        let more = load.make(ROUND);
        load::send(&producer, &more[..ROUND / 2]);
        log.receipts(&writers[0], requests.len() + random.usize(1..ROUND / 4), LATER);
        let on_their_way: Vec<_> = more[ROUND / 2..].iter().map(|request| producer.send(&request.message)).collect();
        // Not to wait for anything: to fall somewhere within a batch.
        thread::sleep(Duration::from_micros(random.u64(..20_000)));
        hurt(&database, lap);
        for sent in on_their_way {
            sent.acknowledged();
        }
        requests.extend(more);
        log.receipts(&writers[0], requests.len(), LATER);
    }
    assert!(writers.iter().all(Process::is_running), "nobody had to start them again: {writers:?}");
    log.wait_until_done(SOON);
    database.server.power_loss();
    writers.iter().for_each(super::stop);
    Outcome::read(&log, &targets).expect_exactly_once(&requests);
}
