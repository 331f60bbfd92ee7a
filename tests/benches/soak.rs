//! A long run: `wal-writer` under an even load, restarted every few minutes, and whether its memory, its file descriptors and its latency
//! stay what they were.
//!
//! `cargo bench -p wal-tests --bench soak -- [--minutes 60] [--restart-every 3m] [--restart-with term|kill|both] [--rate REQUESTS_A_SECOND]
//! [--payload BYTES] [--svg FILE]`. Without a rate it is half of what the writer does with a backlog, which is measured first. With `both`, which is what
//! nothing said means, every second restart is a SIGKILL, the others a SIGTERM.
//!
//! ```text
//!   requests at an even pace ─▶ ingress ─▶ wal-writer, embedded store ─▶ receipts ─▶ a read_committed reader: how late, twice, never
//!                                             │  ▲ SIGTERM, SIGKILL, SIGTERM, ..
//!                                             └─▶ each second: memory, file descriptors, threads, the store's size on the disk
//! ```
//!
//! A receipt's latency counts from when its request was due, whether or not it could be sent then. What this program keeps is bounded: a bit
//! for each request, and a histogram for each second.

#[path = "soak/chart.rs"]
mod chart;
#[path = "soak/histogram.rs"]
mod histogram;
#[path = "arrivals/lateness.rs"]
#[expect(dead_code, reason = "of arrivals only the clock is needed; the other benchmarks use the rest")]
mod lateness;
#[path = "soak/load.rs"]
mod load;
#[path = "soak/plan.rs"]
mod plan;
#[path = "soak/receipts.rs"]
mod receipts;
#[path = "soak/run.rs"]
mod run;
#[path = "writer/stage.rs"]
#[expect(dead_code, reason = "a load without an end is its own; the other benchmarks use the rest")]
mod stage;
#[path = "soak/tell.rs"]
mod tell;
#[path = "soak/writer.rs"]
mod writer;

use anyhow::{Context as _, Result};
use wal_tests::Kafka;

use plan::Plan;
use stage::PARTITIONS;

fn main() -> Result<()> {
    if writer::is_wanted() {
        return writer::run();
    }
    let mut plan = Plan::read(std::env::args().skip(1))?;
    let broker = Kafka::start_to_be_measured_with(&plan::BROKER);
    if plan.rate.is_none() {
        let most = run::saturation(&broker, plan.payload)?;
        println!("with a backlog the writer does {most:.0} entries/s");
        plan.rate = Some((most / 2.0).floor());
    }
    let rate = plan.rate.context("it was asked for or measured")?;
    plan.check_space(rate)?;
    println!(
        "{rate:.0} requests/s of {} bytes on {PARTITIONS} partitions for {:.0} min, a restart every {}",
        plan.payload,
        plan.length.as_secs_f64() / 60.0,
        humantime::format_duration(plan.restart_every)
    );
    let story = run::run(&broker, &plan, rate)?;
    tell::tell(&story, rate);
    if let Some(file) = &plan.svg {
        std::fs::write(file, chart::draw(&story, &plan, rate)).with_context(|| format!("write {}", file.display()))?;
        println!("drawn as {}", file.display());
    }
    story.whole()
}
