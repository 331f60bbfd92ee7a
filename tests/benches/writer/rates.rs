//! A backlog, as fast as it goes: the writer, the mirrors and the insert in turns.

use anyhow::Result;
use wal_tests::Kafka;

use crate::part::{Measured, Running};
use crate::stage::{PARTITIONS, PAYLOAD, Stage, spread};

/// So many rounds nobody is told of: the broker's java still compiles what is hot, on the processors that are measured.
const COLD: usize = 3;

/// Of a workload: none where one round only shows that it runs.
pub fn cold_of(rounds: usize) -> usize {
    COLD.min(rounds - 1)
}

/// Entries a second of the writer and of the mirror.
pub struct Rates {
    pub writer: f64,
    pub mirror: f64,
}

/// Runs all in turns and tells of each.
pub fn compare(broker: &Kafka, entries: usize, rounds: usize) -> Result<Rates> {
    let parts = ["writer", "mirror", "mirror of three", "insert"];
    let mut all: [Vec<Measured>; 4] = Default::default();
    let cold = cold_of(rounds);
    for round in 1..=cold + rounds {
        eprintln!("rates: round {round} of {}", cold + rounds);
        for (part, measured) in parts.iter().zip(&mut all) {
            let once = once(broker, part, entries)?;
            if round > cold {
                measured.push(once);
            }
        }
    }
    println!("\nrates: {entries} entries; median (least to most)");
    head();
    let [product, mirrored, three, stored] = all;
    let product = report("wal-writer, embedded store", &product);
    let mirrored = report("bare mirror", &mirrored);
    let three = report("mirror of three records each", &three);
    let stored = report("bare store insert", &stored);
    let combined = |mirror: f64| 1.0 / (1.0 / mirror + 1.0 / stored);
    println!("ratio to the mirror {:.2}, to the insert {:.2}", product / mirrored, product / stored);
    println!(
        "ratio to both one after the other, 1/(1/mirror + 1/insert): {:.2}, with the mirror of three {:.2}",
        product / combined(mirrored),
        product / combined(three)
    );
    Ok(Rates { writer: product, mirror: mirrored })
}

fn once(broker: &Kafka, part: &str, entries: usize) -> Result<Measured> {
    let stage = Stage::set(broker, PARTITIONS)?;
    if part != "insert" {
        stage.load(entries);
    }
    Running::start(part, &stage, entries, &[])?.finish(broker, entries)
}

/// The head of the table.
pub fn head() {
    println!(
        "{:34} {:>28} {:>6} {:>21} {:>12} {:>12} {:>10}",
        "", "entries/s", "MB/s", "CPU s/million entries", "the broker's", "machine busy", "peak MiB"
    );
}

/// A row of it; with the middle rate.
pub fn report(name: &str, all: &[Measured]) -> f64 {
    let of = |pick: fn(&Measured) -> f64| spread(all.iter().map(pick).collect());
    let (rate, least, most) = of(|measured| measured.rate);
    let (processor, ..) = of(|measured| measured.processor);
    let (broker, ..) = of(|measured| measured.broker);
    let (busy, ..) = of(|measured| measured.busy * 100.0);
    let (memory, ..) = of(|measured| measured.memory);
    let megabytes = rate * PAYLOAD as f64 / 1e6;
    let rates = format!("{rate:.0} ({least:.0} to {most:.0})");
    println!("{name:34} {rates:>28} {megabytes:6.1} {processor:21.1} {broker:12.1} {busy:10.0} % {memory:10.0}");
    rate
}
