//! What the writer costs beside its floors, in one run: a bare mirror (the same loop, no store) and a bare store insert.
//!
//! `cargo bench -p wal-tests --bench writer [-- WORKLOAD.. [ENTRIES [ROUNDS]]]`, workloads `rates`, `receipts`, `sizes`, `scale` and
//! `traces`, all without arguments. What is measured is a process of its own each time. The broker, the load and the observers share the
//! machine with it, so only the ratios mean something elsewhere.
//!
//! ```text
//!   rates     a backlog, as fast as it goes; processor and memory          ingress ─▶ wal-writer, embedded store ─▶ target, receipts, audit
//!   receipts  from the request to its receipt, at half of that rate        ingress ─▶ mirror ─▶ target
//!             and one at a time                                            entries ─▶ embedded store
//!   sizes     bytes of an entry on Kafka and in the store; memory by partitions
//!   scale     1, 2 and 4 writers on 12 partitions and one database (the fake of ArangoDB with a fixed service time)
//!   traces    as rates, with a collector of traces that is told of none, one in a hundred, and all
//! ```

#[path = "arrivals/lateness.rs"]
mod lateness;
#[path = "../mirror/mod.rs"]
mod mirror;
#[path = "writer/part.rs"]
mod part;
#[path = "writer/rates.rs"]
mod rates;
#[path = "writer/receipts.rs"]
mod receipts;
#[path = "writer/scale.rs"]
mod scale;
#[path = "writer/sizes.rs"]
mod sizes;
#[path = "writer/stage.rs"]
mod stage;
#[path = "writer/traced.rs"]
mod traced;

use anyhow::{Result, bail};
use wal_tests::Kafka;

/// What is run where nothing is said.
const ALL: [&str; 5] = ["rates", "receipts", "sizes", "scale", "traces"];

fn main() -> Result<()> {
    if let Some(part) = part::wanted() {
        return part::run(&part);
    }
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let (numbers, named): (Vec<String>, Vec<String>) =
        arguments.into_iter().partition(|argument| argument.parse::<usize>().is_ok());
    let numbers: Vec<usize> = numbers.iter().filter_map(|number| number.parse().ok()).collect();
    let broker = Kafka::start_to_be_measured();
    let entries = numbers.first().copied().unwrap_or(50_000);
    let rounds = numbers.get(1).copied().unwrap_or(5).max(1);
    let workloads = if named.is_empty() { ALL.map(str::to_owned).to_vec() } else { named };
    println!("payloads of {} bytes, {} partitions, {rounds} rounds", stage::PAYLOAD, stage::PARTITIONS);
    for workload in &workloads {
        match workload.as_str() {
            "rates" => _ = rates::compare(&broker, entries, rounds)?,
            "receipts" => receipts::compare(&broker, entries, rounds)?,
            "sizes" => sizes::tell(&broker, entries)?,
            "scale" => scale::tell(&broker, entries, rounds)?,
            "traces" => traced::tell(&broker, entries, rounds)?,
            other => bail!("no workload is called {other}; there are rates, receipts, sizes, scale and traces"),
        }
    }
    Ok(())
}
