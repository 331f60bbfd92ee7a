//! From the moment a request was to be sent to its receipt at an ordinary consumer, beside the mirror's copy of the same requests, and
//! beside their insert into the same store without Kafka.

use std::time::Duration;

use anyhow::Result;
use rdkafka::message::{BorrowedMessage, Message as _};
use wal_model::Entry;
use wal_store::embedded::Embedded;
use wal_store::{EntryStore as _, Inserted};
use wal_tests::Kafka;

use crate::lateness::{Arrival, Arrivals, Lateness, now};
use crate::part::{self, Running};
use crate::rates;
use crate::stage::{Busy, PARTITIONS, PAYLOAD, Pace, Stage, request_id, requests, spread};

const PATIENCE: Duration = Duration::from_secs(180);
/// Requests that come so rarely are transactions of one record each.
const ONE_AT_A_TIME: f64 = 20.0;
/// One in so many of the requests.
const RARE: usize = 10;
/// How many of these at most.
const RARE_AT_MOST: usize = 200;
/// For how long requests come before those that are measured: connections are made by them, and the broker's java compiles what is hot.
const WARM_UP: f64 = 3.0;

/// At half of what the writer can do, which is measured first, and one at a time.
pub fn compare(broker: &Kafka, entries: usize, rounds: usize) -> Result<()> {
    let rates = rates::compare(broker, entries, rounds.min(3))?;
    let (half, half_of_mirror) = (rates.writer / 2.0, rates.mirror / 2.0);
    println!(
        "\nreceipts: half of what the writer can do is {half:.0} requests/s, of what the mirror can do {half_of_mirror:.0}"
    );
    let [mut receipts, mut copies, mut inserts, mut own_half] = [const { Vec::new() }; 4];
    let cold = rates::cold_of(rounds);
    for round in 1..=cold + rounds {
        let all = [
            (once(broker, "writer", entries, half)?, "receipt at half of the writer", &mut receipts),
            (once(broker, "mirror", entries, half)?, "copy at the same rate", &mut copies),
            (insert_evenly(entries, half)?, "insert at the same rate", &mut inserts),
            (once(broker, "mirror", entries, half_of_mirror)?, "copy at half of the mirror", &mut own_half),
        ];
        for ((lateness, busy), what, p99s) in all {
            if round > cold {
                lateness.tell(&format!("{}: {what}, machine {:.0} % busy", round - cold, busy * 100.0));
                p99s.push(lateness.at(0.99));
            }
        }
    }
    let [(receipt, ..), (copy, ..), (insert, ..), (own_half, ..)] = [receipts, copies, inserts, own_half].map(spread);
    println!("p99 of the receipt {receipt:.1} ms, of the copy {copy:.1} ms, of the insert {insert:.1} ms");
    println!(
        "the receipt's is {:.2} times the copy's, {:.2} times both added up (a rough bound), {:.2} times the copy's at half of the mirror",
        receipt / copy,
        receipt / (copy + insert),
        receipt / own_half
    );
    one_at_a_time(broker, (entries / RARE).clamp(1, RARE_AT_MOST))
}

/// A transaction for each record.
fn one_at_a_time(broker: &Kafka, entries: usize) -> Result<()> {
    println!("\nreceipts: one at a time, {ONE_AT_A_TIME:.0} requests/s");
    let (receipt, _) = once(broker, "writer", entries, ONE_AT_A_TIME)?;
    receipt.tell("receipt, in a transaction of its own");
    let (copy, _) = once(broker, "mirror", entries, ONE_AT_A_TIME)?;
    copy.tell("copy, in a transaction of its own");
    let (insert, _) = insert_evenly(entries, ONE_AT_A_TIME)?;
    insert.tell("insert, in a synced commit of its own");
    Ok(())
}

fn once(broker: &Kafka, part: &str, entries: usize, rate: f64) -> Result<(Lateness, f64)> {
    let stage = Stage::set(broker, PARTITIONS)?;
    // What parts before this one left to be written would come in the middle of it, all at once.
    rustix::fs::sync();
    let running = Running::start(part, &stage, 0, &[])?;
    running.wait_for_assignment();
    let warm_up = (WARM_UP * rate) as usize;
    let all = warm_up + entries;
    let arrivals = match part {
        "writer" => Arrivals::of(&stage.bootstrap, stage.kafka.topics.receipts().as_str(), all, by_key)?,
        _ => Arrivals::of(&stage.bootstrap, &stage.target, all, by_payload)?,
    };
    let busy = Busy::now()?;
    let mut due = stage.load_evenly(all, rate);
    let arrived = arrivals.wait(PATIENCE);
    let busy = busy.since()?;
    running.stop()?;
    for number in 0..warm_up {
        due.remove(&request_id(number));
    }
    let lateness = Lateness::of(&arrived, &due);
    anyhow::ensure!(lateness.lost == 0, "{} of {entries} did not arrive", lateness.lost);
    Ok((lateness, busy))
}

/// The same entries into the same store and nothing else: a call takes all that is due when it begins.
fn insert_evenly(entries: usize, rate: f64) -> Result<(Lateness, f64)> {
    rustix::fs::sync();
    let folder = tempfile::tempdir()?;
    let store = Embedded::open(folder.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let warm_up = (WARM_UP * rate) as usize;
    let all: Vec<Entry> =
        requests("target", PAYLOAD, warm_up + entries).zip(0..).map(part::entry).collect::<Result<_>>()?;
    let mut arrived = Vec::with_capacity(all.len());
    let busy = Busy::now()?;
    let pace = Pace::begin(rate);
    while arrived.len() < all.len() {
        let first = arrived.len();
        pace.wait_for(first);
        let next = pace.due_by_now().clamp(first + 1, all.len()).min(first + part::BATCH);
        let inserted = runtime.block_on(store.insert(&all[first..next]))?;
        anyhow::ensure!(inserted.iter().all(|one| matches!(one, Inserted::Stored)), "an entry was already there");
        let at = now();
        arrived.extend((first..next).map(|number| Arrival { name: request_id(number), at }));
    }
    let busy = busy.since()?;
    Ok((Lateness::of(&arrived, &pace.due(warm_up..all.len())), busy))
}

/// Receipts stand under the request id.
fn by_key<'a>(message: &'a BorrowedMessage<'_>) -> &'a [u8] {
    message.key().unwrap_or_default()
}

/// A copy begins with the request id: `{"request_id":"r-0", ..`.
fn by_payload<'a>(message: &'a BorrowedMessage<'_>) -> &'a [u8] {
    let rest = message.payload().unwrap_or_default().strip_prefix(br#"{"request_id":""#).unwrap_or_default();
    rest.split(|byte| *byte == b'"').next().unwrap_or_default()
}
