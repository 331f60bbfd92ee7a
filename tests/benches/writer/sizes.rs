//! What one entry takes on Kafka and in the store, and what one partition takes in memory.

use std::fs;
use std::path::Path;

use anyhow::Result;
use wal_tests::Kafka;

use crate::part::{Measured, Running};
use crate::stage::{PARTITIONS, Stage};

/// Many, beside the usual.
const MANY: usize = 64;

/// Runs the writer on few and on many partitions and looks at what it left.
pub fn tell(broker: &Kafka, entries: usize) -> Result<()> {
    println!("\nsizes: {entries} entries");
    let (stage, few) = once(broker, entries, PARTITIONS)?;
    let each = |bytes: u64| bytes as f64 / entries as f64;
    let topics = &stage.kafka.topics;
    for (what, topic) in [
        ("request, on ingress", topics.ingress(wal_model::Priority::Normal).to_string()),
        ("delivery, on the target", stage.target.clone()),
        ("receipt", topics.receipts().to_string()),
        ("audit event", topics.audit().to_string()),
    ] {
        println!("{what:34} {:9.0} bytes of an entry, one copy, on Kafka's disk", each(broker.bytes_of(&topic)));
    }
    println!("{:34} {:9.0} bytes of an entry, embedded", "entry, in the store", each(size_of(stage.folder())?));
    let (_, many) = once(broker, entries, MANY)?;
    println!(
        "{:34} {:9.0} MiB with {PARTITIONS} partitions, {:.0} with {MANY}: {:.2} MiB a partition",
        "memory, at most",
        few.memory,
        many.memory,
        (many.memory - few.memory) / (MANY - PARTITIONS) as f64
    );
    Ok(())
}

fn once(broker: &Kafka, entries: usize, partitions: usize) -> Result<(Stage, Measured)> {
    let stage = Stage::set(broker, partitions)?;
    stage.load(entries);
    let measured = Running::start("writer", &stage, entries, &[])?.finish(broker, entries)?;
    Ok((stage, measured))
}

/// What is really taken on the disk.
fn size_of(folder: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    for file in fs::read_dir(folder)? {
        bytes += file?.metadata()?.blocks() * 512;
    }
    Ok(bytes)
}
