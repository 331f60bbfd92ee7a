//! How the embedded store takes it when it grows: inserts, and the folds of what becomes of the entries a moment later, while more and more
//! is in it already. A line for each tenth of the way.
//!
//! `cargo bench -p wal-store --features testing --bench embedded [-- ENTRIES [BATCH [PAYLOAD]]]`. The store is made in the temporary folder
//! (`TMPDIR`) and needs 1,200 bytes and 1.8 times the payload for each entry there. Bytes are what the kernel counts for this process
//! (`/proc/self/io`): what it asked for and what came from the disk, so memory that is full shows as the difference.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use wal_model::Entry;
use wal_store::embedded::Embedded;
use wal_store::{Applied, EntryStore, Inserted, samples};

/// The steps of the way.
const STEPS: usize = 10;
/// How many batches lie between the insert of an entry and the fold of its end.
const LATER: usize = 20;
/// The namespace and when the first entry is written, in milliseconds.
const WRITTEN: (&str, i64) = ("orders", 1_764_000_000_000);

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let number = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    let (entries, batch, payload) = (number(0, 200_000), number(1, 500), number(2, 1024));
    let folder = tempfile::tempdir().expect("a folder");
    let store = Embedded::open(folder.path()).expect("a store");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    println!("{entries} entries of {payload} bytes, {batch} at a time; times are for a call, bytes for an entry");
    println!(
        "{:>12} {:>9} {:>22} {:>22} {:>10} {:>10} {:>10}",
        "entries", "file", "insert p50 p99 ms", "fold p50 p99 ms", "read", "from disk", "written"
    );
    let payload = Bytes::from(format!(r#"{{"filler":"{}"}}"#, "x".repeat(payload.saturating_sub(13))));
    let mut run = Run { store, payload, batch, next: 0, unfinished: VecDeque::new() };
    let each = entries.div_ceil(STEPS).div_ceil(batch);
    for step in 1..=STEPS {
        let before = Counted::now();
        let (mut inserts, mut folds) = (Vec::with_capacity(each), Vec::with_capacity(each));
        for _ in 0..each {
            let (insert, fold) = runtime.block_on(run.turn());
            inserts.push(insert);
            folds.extend(fold);
        }
        tell(step * each * batch, each * batch, folder.path(), (inserts, folds), before);
    }
}

struct Run {
    store: Embedded,
    payload: Bytes,
    batch: usize,
    next: usize,
    /// The batches whose end was not folded yet.
    unfinished: VecDeque<Vec<Entry>>,
}

impl Run {
    /// Inserts a batch and folds the end of one from before; how long each took.
    async fn turn(&mut self) -> (Duration, Option<Duration>) {
        let (namespace, first) = WRITTEN;
        let entries: Vec<Entry> = (self.next..self.next + self.batch)
            .map(|number| {
                let at = first + i64::try_from(number / 10).expect("no more than a disk holds");
                let entry = samples::entry_in(namespace, at, &number.to_string());
                Entry { payload: self.payload.clone(), ..entry }
            })
            .collect();
        self.next += self.batch;
        let started = Instant::now();
        let answers = self.store.insert(&entries).await.expect("the disk takes it");
        let insert = started.elapsed();
        assert!(answers.iter().all(|answer| *answer == Inserted::Stored), "every key is new");
        self.unfinished.push_back(entries);
        if self.unfinished.len() <= LATER {
            return (insert, None);
        }
        let done = self.unfinished.pop_front().expect("it has some");
        let events: Vec<_> = done.iter().map(|entry| samples::ack(entry, samples::completed(entry, 1))).collect();
        let started = Instant::now();
        let answers = self.store.apply(&events).await.expect("the disk takes it");
        let fold = started.elapsed();
        assert!(answers.iter().all(|answer| matches!(answer, Applied::State(_))), "every entry is there");
        (insert, Some(fold))
    }
}

/// What the kernel has counted for this process.
#[derive(Clone, Copy)]
struct Counted {
    read: u64,
    from_disk: u64,
    written: u64,
}

impl Counted {
    fn now() -> Counted {
        let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
        let of = |name: &str| {
            let line = io.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|number| number.trim_start_matches(':').trim().parse().ok()).unwrap_or(0)
        };
        Counted { read: of("rchar"), from_disk: of("read_bytes"), written: of("write_bytes") }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
fn tell(
    entries: usize,
    of_step: usize,
    folder: &Path,
    (mut inserts, mut folds): (Vec<Duration>, Vec<Duration>),
    before: Counted,
) {
    let now = Counted::now();
    let size: u64 =
        fs::read_dir(folder).into_iter().flatten().filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum();
    let per_entry = |now: u64, before: u64| now.saturating_sub(before) / of_step as u64;
    let times = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        let at = |share: usize| times.get(times.len() * share / 100).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3);
        format!("{:.1} {:.1}", at(50), at(99))
    };
    println!(
        "{entries:>12} {:>5.1} GiB {:>22} {:>22} {:>10} {:>10} {:>10}",
        size as f64 / (1u64 << 30) as f64,
        times(&mut inserts),
        times(&mut folds),
        per_entry(now.read, before.read),
        per_entry(now.from_disk, before.from_disk),
        per_entry(now.written, before.written),
    );
}
