//! From the moment a request was to be sent to its receipt at an ordinary consumer, beside the mirror's copy of the same requests.

use std::time::Duration;

use anyhow::Result;
use rdkafka::message::{BorrowedMessage, Message as _};
use wal_tests::Kafka;

use crate::lateness::{Arrivals, Lateness};
use crate::part::Running;
use crate::rates;
use crate::stage::{PARTITIONS, Stage, spread};

const PATIENCE: Duration = Duration::from_secs(180);
/// Requests that come so rarely are transactions of one record each.
const ONE_AT_A_TIME: f64 = 20.0;
/// How many of these.
const RARE: usize = 200;
/// What goes before what is measured: connections are made by it, and caches filled.
const WARM_UP: usize = 200;

/// At half of what the writer can do, which is measured first, and one at a time.
pub fn compare(broker: &Kafka, entries: usize, rounds: usize) -> Result<()> {
    let half = rates::compare(broker, entries, rounds.min(3))? / 2.0;
    println!("\nreceipts: at half of that, {half:.0} requests/s");
    side_by_side(broker, entries, rounds, half)?;
    println!("\nreceipts: one at a time, {ONE_AT_A_TIME:.0} requests/s");
    side_by_side(broker, entries.min(RARE), 1, ONE_AT_A_TIME)
}

fn side_by_side(broker: &Kafka, entries: usize, rounds: usize, rate: f64) -> Result<()> {
    let (mut receipts, mut copies) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let writer = once(broker, "writer", entries, rate)?;
        writer.tell(&format!("wal-writer's receipt, round {round}"));
        let mirror = once(broker, "mirror", entries, rate)?;
        mirror.tell(&format!("bare mirror's copy, round {round}"));
        receipts.push(writer.at(0.99));
        copies.push(mirror.at(0.99));
    }
    let ((receipt, ..), (copy, ..)) = (spread(receipts), spread(copies));
    println!("p99 of the receipt {receipt:.1} ms, of the mirror's copy {copy:.1} ms, ratio {:.2}", receipt / copy);
    Ok(())
}

fn once(broker: &Kafka, part: &str, entries: usize, rate: f64) -> Result<Lateness> {
    let stage = Stage::set(broker, PARTITIONS)?;
    let running = Running::start(part, &stage, 0, &[])?;
    running.wait_for_assignment();
    let all = WARM_UP + entries;
    let arrivals = match part {
        "writer" => Arrivals::of(&stage.bootstrap, stage.kafka.topics.receipts().as_str(), all, by_key)?,
        _ => Arrivals::of(&stage.bootstrap, &stage.target, all, by_payload)?,
    };
    let mut due = stage.load_evenly(all, rate);
    let arrived = arrivals.wait(PATIENCE);
    running.stop()?;
    for number in 0..WARM_UP {
        due.remove(format!("r-{number}").as_bytes());
    }
    let lateness = Lateness::of(&arrived, &due);
    anyhow::ensure!(lateness.lost == 0, "{} of {entries} did not arrive", lateness.lost);
    Ok(lateness)
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
