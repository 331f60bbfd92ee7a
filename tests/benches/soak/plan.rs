//! What is asked for, and whether the disk would hold it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::run::Begun;
use crate::stage::{PARTITIONS, PAYLOAD};

/// Segments are short and deleted soon: what an hour of load leaves on Kafka would fill a disk.
pub const BROKER: [(&str, &str); 4] = [
    ("log.segment.bytes", "67108864"),
    ("log.retention.bytes", "268435456"),
    ("log.retention.check.interval.ms", "5000"),
    ("log.segment.delete.delay.ms", "1000"),
];
/// What [`BROKER`] lets a partition take: what is kept, the segment that is written, and one that waits to be deleted.
const PARTITION_BYTES: f64 = (256 + 2 * 64) as f64 * MIB;
/// Topics that grow with every request: ingress, target, receipts, audit.
const TOPICS: usize = 4;
/// What an entry takes in the embedded store, and a tenth more: so much, and for each byte of its payload so many, as pages are not full.
const ENTRY_BYTES: f64 = 1200.0;
const PAYLOAD_BYTES: f64 = 1.8;
/// The store's file grows by up to so much at a time; what of it is not used yet takes no room until a start after a SIGKILL writes all of it.
const STEP: f64 = 4.0 * GIB;
/// Left to others.
const RESERVE: f64 = 5.0 * GIB;
const MIB: f64 = 1024.0 * 1024.0;
pub const GIB: f64 = 1024.0 * MIB;

/// What is to be run.
pub struct Plan {
    pub length: Duration,
    pub restart_every: Duration,
    /// Requests a second; half of the most that is possible where nothing is said.
    pub rate: Option<f64>,
    /// Bytes of an operation.
    pub payload: usize,
    /// What ends the writer, in turns.
    pub restart_with: &'static [Begun],
    pub svg: Option<PathBuf>,
}

impl Plan {
    /// Reads the arguments.
    pub fn read(mut arguments: impl Iterator<Item = String>) -> Result<Plan> {
        let mut plan = Plan {
            length: Duration::from_secs(3600),
            restart_every: Duration::from_secs(180),
            rate: None,
            payload: PAYLOAD,
            restart_with: &[Begun::AfterTerm, Begun::AfterKill],
            svg: None,
        };
        while let Some(name) = arguments.next() {
            // Cargo says so to every benchmark.
            if name == "--bench" {
                continue;
            }
            let value = arguments.next().with_context(|| format!("{name} wants a value"))?;
            match name.as_str() {
                "--minutes" => plan.length = Duration::from_secs_f64(60.0 * positive(&name, &value)?),
                "--restart-every" => {
                    plan.restart_every = humantime::parse_duration(&value).context("--restart-every, such as 3m")?;
                }
                "--rate" => plan.rate = Some(positive(&name, &value)?),
                "--payload" => {
                    plan.payload = value.parse().with_context(|| format!("{name} wants bytes, not {value}"))?;
                }
                "--restart-with" => {
                    plan.restart_with = match value.as_str() {
                        "term" => &[Begun::AfterTerm],
                        "kill" => &[Begun::AfterKill],
                        "both" => &[Begun::AfterTerm, Begun::AfterKill],
                        _ => bail!("{name} wants term, kill or both, not {value}"),
                    };
                }
                "--svg" => plan.svg = Some(PathBuf::from(value)),
                _ => bail!(
                    "{name} is not known; there are --minutes, --restart-every, --restart-with, --rate, --payload and --svg"
                ),
            }
        }
        anyhow::ensure!(
            plan.restart_every >= Duration::from_secs(30),
            "--restart-every: less than 30s is no steady state"
        );
        Ok(plan)
    }

    /// Refuses what the disk would not hold.
    pub fn check_space(&self, rate: f64) -> Result<()> {
        let folder = std::env::temp_dir();
        let (free, entries) = (free_space(&folder)?, rate * self.length.as_secs_f64());
        let (store, kafka) = (STEP + entries * self.entry_bytes(), (TOPICS * PARTITIONS) as f64 * PARTITION_BYTES);
        let room = free - RESERVE - kafka;
        if store <= room {
            return Ok(());
        }
        let would_fit = ((room - STEP) / self.entry_bytes()).max(0.0);
        bail!(
            "{entries:.0} entries would take {:.0} GiB in the store and up to {:.0} GiB on Kafka, and {} has {:.0} GiB free, of which {:.0} are \
             left alone: --rate {:.0} or --minutes {:.0} would fit",
            store / GIB,
            kafka / GIB,
            folder.display(),
            free / GIB,
            RESERVE / GIB,
            (would_fit / self.length.as_secs_f64()).floor(),
            (would_fit / rate / 60.0).floor()
        )
    }

    fn entry_bytes(&self) -> f64 {
        ENTRY_BYTES + PAYLOAD_BYTES * self.payload as f64
    }
}

/// Bytes that the disk below a folder has free for us.
pub fn free_space(folder: &std::path::Path) -> Result<f64> {
    let disk =
        rustix::fs::statvfs(folder).with_context(|| format!("ask for the free space of {}", folder.display()))?;
    Ok(disk.f_bavail as f64 * disk.f_frsize as f64)
}

fn positive(name: &str, value: &str) -> Result<f64> {
    let number: f64 = value.parse().with_context(|| format!("{name} wants a number, not {value}"))?;
    anyhow::ensure!(number.is_finite() && number > 0.0, "{name} wants more than 0");
    Ok(number)
}
