//! What time costs: the workloads that were measured with what users would pick instead, and the scheduler beside a bare mirror.
//!
//! `cargo bench -p wal-tests --bench retries [-- WORKLOAD.. [ROUNDS]]`, workloads `a`, `million`, `b`, `c`, `d`, `hop`, `storm`, `status`; all but
//! `million` without arguments. Lateness is the arrival at an ordinary consumer of the target less the time at which the record was due. Broker,
//! scheduler, load and consumer share the machine, so only the ratios mean something elsewhere.
//!
//! ```text
//!   a        failures at 1,000/s, each comes back after 5 s          load ─▶ wal.failures ─▶ scheduler ─▶ target ─▶ consumer
//!   million  the same beside 1,000,000 others that are parked
//!   b        100,000 due within one second, already parked           wal.delay.20s ─▶ scheduler ─▶ target ─▶ consumer
//!   c        0.1 s, 5 s and 60 s, chosen for each record
//!   d        as a, the scheduler killed in the middle and started again
//!   hop      records through one delay topic, all due                beside the mirror of the same records
//!   storm    healthy traffic alone, and beside another namespace's retries
//!   status   events folded, beside the bare update of the same states
//! ```

#[path = "retries/delayed.rs"]
mod delayed;
#[path = "retries/folding.rs"]
mod folding;
#[path = "arrivals/lateness.rs"]
mod lateness;
#[path = "../mirror/mod.rs"]
mod mirror;
#[path = "retries/rates.rs"]
mod rates;
#[path = "retries/stage.rs"]
mod stage;

use anyhow::{Result, bail};
use wal_tests::Kafka;

/// What is run where nothing is said.
const USUAL: [&str; 7] = ["a", "b", "c", "d", "hop", "storm", "status"];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let (numbers, named): (Vec<String>, Vec<String>) =
        arguments.into_iter().partition(|argument| argument.parse::<usize>().is_ok());
    let numbers: Vec<usize> = numbers.iter().filter_map(|number| number.parse().ok()).collect();
    let rounds = numbers.first().copied().unwrap_or(3);
    // Of what was measured elsewhere, this many percent: CI looks whether it runs at all.
    let percent = numbers.get(1).copied().unwrap_or(100);
    let workloads = if named.is_empty() { USUAL.map(str::to_owned).to_vec() } else { named };
    let broker = Kafka::start_to_be_measured();
    let scale = |count: usize| (count * percent / 100).max(100);
    for workload in &workloads {
        match workload.as_str() {
            "a" => delayed::failures(&broker, scale(10_000), rounds, 0)?,
            "million" => delayed::failures(&broker, scale(10_000), 1, scale(1_000_000))?,
            "b" => rates::due_at_once(&broker, scale(100_000), rounds)?,
            "c" => delayed::mixed(&broker, scale(3_000), rounds)?,
            "d" => delayed::killed(&broker, scale(10_000), rounds)?,
            "hop" => rates::hop(&broker, scale(50_000), rounds)?,
            "storm" => rates::storm(&broker, scale(10_000), rounds)?,
            "status" => folding::folding(&broker, scale(30_000), rounds)?,
            other => bail!("no workload is called {other}; there are a, million, b, c, d, hop, storm and status"),
        }
    }
    Ok(())
}
