//! The service as a process of its own, and what the kernel says of it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use wal_tests::{Process, free_port};

use crate::stage::Stage;

/// The variable that makes this program the writer.
const PART: &str = "BENCH_PART";
/// A stop finishes what is in hand: 10 s, and 10 s to leave the group.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Whether this process is to be the writer.
pub fn is_wanted() -> bool {
    std::env::var_os(PART).is_some()
}

/// Is the writer, as `wal-writer` is.
pub fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    Ok(runtime.block_on(wal_writer::main(None))?)
}

/// A writer that runs.
#[derive(Debug)]
pub struct Writer(Process);

/// What a process takes.
#[derive(Clone, Copy)]
pub struct Taken {
    /// In MiB.
    pub memory: f64,
    pub descriptors: f64,
    pub threads: f64,
}

impl Writer {
    /// Starts it; it may take a while until it has its partitions.
    pub fn start(stage: &Stage) -> Result<Writer> {
        let mut variables = stage.variables(&[("health.listen", format!("127.0.0.1:{}", free_port()))]);
        variables.push((PART.to_owned(), "writer".to_owned()));
        let variables: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Ok(Writer(Process::run("wal-writer", &std::env::current_exe()?, &[], &variables)))
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.0.terminate();
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.0.kill();
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        self.0.is_running()
    }

    /// Waits for the end that [`Writer::terminate`] asked for, which must be an orderly one.
    pub fn wait(&self) -> Result<()> {
        let status = self.0.wait(STOP_LIMIT);
        anyhow::ensure!(status.success(), "the writer ended with {status}: {:?}", self.0);
        Ok(())
    }

    /// What it takes now; `None` while it is not there.
    pub fn taken(&self) -> Option<Taken> {
        let proc = Path::new("/proc").join(self.0.id().to_string());
        let status = fs::read_to_string(proc.join("status")).ok()?;
        let number = |name: &str| -> Option<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().trim_end_matches("kB").trim().parse().ok()
        };
        let descriptors = fs::read_dir(proc.join("fd")).ok()?.count() as f64;
        Some(Taken { memory: number("VmRSS:")? / 1024.0, descriptors, threads: number("Threads:")? })
    }
}

/// What is really taken on the disk.
pub fn size_of(folder: &Path) -> Result<f64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut blocks = 0;
    for file in fs::read_dir(folder).with_context(|| format!("look into {}", folder.display()))? {
        // The store may remove a file between the two.
        blocks += file?.metadata().map_or(0, |metadata| metadata.blocks());
    }
    Ok(blocks as f64 * 512.0)
}
