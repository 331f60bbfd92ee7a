//! What the operating system knows of the process, under the names that every Prometheus client uses. Linux only: elsewhere nothing of it
//! is told.

use std::fs;
use std::sync::atomic::Ordering;

use super::book::{Book, Gauge, Measure, PROCESS, Seconds, SecondsSpent};
use super::declarations::Group;

/// How many ticks a second has in what the kernel tells programs, on every architecture that we build for.
const TICKS: f64 = 100.0;

/// The process's own numbers.
#[derive(Debug)]
pub(super) struct Process {
    cpu: SecondsSpent,
    resident: Gauge,
    virtual_size: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    threads: Gauge,
    start: Seconds,
}

/// What is read at once.
#[derive(Debug, PartialEq)]
struct Facts {
    cpu: f64,
    start: f64,
    threads: i64,
    resident: i64,
    virtual_size: i64,
    open_fds: i64,
    max_fds: i64,
}

impl Group for Process {
    fn declare(book: &mut Book<'_>) -> Process {
        let book = book.under(PROCESS);
        Process {
            cpu: book.seconds_spent("cpu", "CPU time that the process has used, in user and system mode"),
            resident: book.gauge_in(Measure::Bytes, "resident_memory", "Memory of the process that is in RAM"),
            virtual_size: book.gauge_in(Measure::Bytes, "virtual_memory", "Memory that the process has reserved"),
            open_fds: book.gauge("open_fds", "File descriptors that are open"),
            max_fds: book.gauge("max_fds", "File descriptors that may be open"),
            threads: book.gauge("threads", "Threads of the process"),
            start: book.seconds("start_time", "When the process started, since the epoch"),
        }
    }
}

impl Process {
    /// Whether there is anything to tell.
    pub(super) fn is_known() -> bool {
        facts().is_some()
    }

    /// Sets what is so now. What cannot be read keeps its last value: a process out of file descriptors cannot count them.
    pub(super) fn set(&self) {
        let Some(facts) = facts() else { return };
        self.cpu.inner().store(facts.cpu.to_bits(), Ordering::Relaxed);
        self.resident.set(facts.resident);
        self.virtual_size.set(facts.virtual_size);
        self.open_fds.set(facts.open_fds);
        self.max_fds.set(facts.max_fds);
        self.threads.set(facts.threads);
        self.start.set(facts.start);
    }
}

fn facts() -> Option<Facts> {
    let [stat, status, limits, boot] =
        ["/proc/self/stat", "/proc/self/status", "/proc/self/limits", "/proc/stat"].map(fs::read_to_string);
    // The folder of descriptors is itself open while it is read.
    let open_fds = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    parse(&stat.ok()?, &status.ok()?, &limits.ok()?, &boot.ok()?, i64::try_from(open_fds).ok()?)
}

/// Layouts: <https://man7.org/linux/man-pages/man5/proc.5.html>.
fn parse(stat: &str, status: &str, limits: &str, boot: &str, open_fds: i64) -> Option<Facts> {
    // The name stands in brackets and may hold anything, brackets too. What follows it is field 3.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<i64>().ok()?.checked_mul(1024)
    };
    let booted: f64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let allowed = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?;
    Some(Facts {
        cpu: (ticks(14)? + ticks(15)?) / TICKS,
        start: booted + ticks(22)? / TICKS,
        threads: fields.get(20 - 3)?.parse().ok()?,
        resident: kib("VmRSS:")?,
        virtual_size: kib("VmSize:")?,
        open_fds,
        max_fds: allowed.parse().unwrap_or(i64::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_is_read() {
        let stat = "7 (a ) name) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 1200 1000 10 18446744073709551615\n";
        let status = "Name:\ta\nVmSize:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024   4096   files\n";
        let boot = "cpu 1 2 3\nbtime 1700000000\n";
        let expected = Facts {
            cpu: 3.0,
            start: 1_700_000_012.0,
            threads: 9,
            resident: 1_048_576,
            virtual_size: 2_097_152,
            open_fds: 5,
            max_fds: 1024,
        };
        assert_eq!(parse(stat, status, limits, boot, 5), Some(expected));
        assert_eq!(parse("nonsense", status, limits, boot, 5), None);
    }
}
