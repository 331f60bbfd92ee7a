//! The folder of the store is full.

use std::fs;
use std::path::{Path, PathBuf};

use wal_tests::{Kafka, Process, Producer, seed};

use crate::support::log::wait_for_partitions;
use crate::support::{LATER, Load, Log, Outcome, SOON, load};

/// Runs a writer whose store lies on a file system of its own, of this size, most of it taken by a file; when the writer has ended, what
/// it has stored is put where others find it. A mount of one's own needs no rights where user namespaces are allowed.
const SMALL: &str = r#"
mount -t tmpfs -o size=24m none "$1" && fallocate -l 16m "$1/ballast" || exit 99
"$3" & writer=$!
trap 'kill -TERM $writer' TERM
wait $writer; wait $writer; code=$?
cp -a "$1/store/." "$2/"
exit $code
"#;

#[test]
fn a_store_whose_folder_is_full_says_so_and_goes_on_when_there_is_room() {
    let mut random = seed::random("full");
    let log = Log::on(&Kafka::shared().bootstrap(), &[("store.backend", "embedded"), ("writer.batch_records", "100")]);
    let targets = [log.target("full")];
    let mut load = Load::new(&log, "full", &targets, &mut random);
    let mut requests = load.make(200);
    let producer = Producer::new(&log.bootstrap);
    let small = tempfile::tempdir().expect("a folder can be made");
    let writer = start_in_small_folder(&log, small.path());
    load::send(&producer, &requests);
    log.receipts(&writer, requests.len(), LATER);

    // More than goes in.
    let more = load.make(6_000);
    load::send(&producer, &more);
    requests.extend(more);
    writer.wait_for_line_where("that the store is full", LATER, |line| line.contains("No space left"));
    let receipts = log.read(&log.topic("receipts")).len();
    assert!(receipts < requests.len(), "{receipts} of {}: it was not full", requests.len());

    fs::remove_file(inside(&writer, small.path()).join("ballast")).expect("it can be taken away");
    log.receipts(&writer, requests.len(), LATER);
    assert!(writer.is_running(), "it mended itself, nobody started it again: {writer:?}");
    log.wait_until_done(SOON);
    writer.terminate();
    assert!(writer.wait(SOON).success(), "{writer:?}");
    Outcome::read(&log, &targets).expect_exactly_once(&requests);
}

#[track_caller]
fn start_in_small_folder(log: &Log, small: &Path) -> Process {
    let (small, kept) = (small.to_string_lossy(), log.folder().to_string_lossy());
    let store = format!("{small}/store");
    let args = ["--user", "--map-root-user", "--mount", "sh", "-c", SMALL, "sh", &small, &kept];
    let writer = log.start_within("unshare", &args, "wal-writer", &[("store.folder", &store)]);
    wait_for_partitions(&writer);
    writer
}

/// A folder as a process sees it.
fn inside(process: &Process, folder: &Path) -> PathBuf {
    let folder = folder.strip_prefix("/").expect("temporary folders have whole names");
    Path::new("/proc").join(process.id().to_string()).join("root").join(folder)
}
