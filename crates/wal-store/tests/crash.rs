//! A process that is killed loses nothing it acknowledged; a process that runs out of room goes on when there is room again.
//!
//! The test starts this binary again as a child that writes and prints what was acknowledged. Another seed: `WAL_SEED=7`.
#![cfg(unix)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use wal_model::status::Status;
use wal_model::{Entry, Timestamp};
use wal_store::embedded::Embedded;
use wal_store::samples::{ack, completed, entry, namespace};
use wal_store::{EntryStore, Error, Inserted, Query, Range};

const FOLDER: &str = "WAL_CRASH_FOLDER";
const RUN: &str = "WAL_CRASH_RUN";

/// Small steps between numbers that look random (splitmix64).
struct Random(u64);

impl Random {
    fn seeded() -> Random {
        let seed = std::env::var("WAL_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
        println!("WAL_SEED={seed}");
        Random(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// The entry with this name. Its payload follows from the name, so the parent knows what must be there.
fn written(name: &str) -> Entry {
    let size = name.bytes().fold(7, |sum: usize, byte| sum * 31 % 9973 + usize::from(byte));
    Entry { payload: Bytes::from(name.repeat(size / name.len() + 1)), ..entry(name) }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap()
}

/// Writes for ever; prints `stored NAME` and `done NAME` once the store has answered.
async fn write_for_ever(store: Embedded, writer: String) {
    for batch in 0.. {
        let names: Vec<String> = (0..1 + batch % 17).map(|at| format!("{writer}-{batch}-{at}")).collect();
        let entries: Vec<Entry> = names.iter().map(|name| written(name)).collect();
        let answers = store.insert(&entries).await.unwrap();
        assert!(answers.iter().all(|answer| *answer == Inserted::Stored), "{answers:?}");
        names.iter().for_each(|name| println!("stored {name}"));
        store.apply(&[ack(&entries[0], completed(&entries[0], 1))]).await.unwrap();
        println!("done {}", names[0]);
    }
}

#[test]
#[ignore = "the child of a_killed_process_loses_nothing_it_acknowledged, which starts it"]
fn child_that_is_killed() {
    let (folder, run) = (std::env::var(FOLDER).unwrap(), std::env::var(RUN).unwrap());
    let store = Embedded::open(Path::new(&folder)).unwrap();
    runtime().block_on(async {
        tokio::join!(write_for_ever(store.clone(), format!("{run}a")), write_for_ever(store, format!("{run}b")))
    });
}

#[test]
#[ignore = "the child of a_full_disk_is_an_error_and_passes, which starts it"]
fn child_without_room() {
    let store = Embedded::open(Path::new(&std::env::var(FOLDER).unwrap())).unwrap();
    runtime().block_on(async {
        let mut stored = Vec::new();
        for at in 0..10_000 {
            let one = written(&format!("full-{at}"));
            match store.insert(std::slice::from_ref(&one)).await {
                Ok(answers) => {
                    assert_eq!(answers, [Inserted::Stored]);
                    println!("stored full-{at}");
                    stored.push(one);
                }
                Err(Error::Unavailable(reason) | Error::ReadOnly(reason)) => {
                    println!("refused {reason}");
                    let keys: Vec<_> = stored.iter().map(Entry::key).collect();
                    let expected: Vec<_> = stored.into_iter().map(Some).collect();
                    assert_eq!(store.get(&keys).await.unwrap(), expected);
                    println!("read all");
                    return;
                }
                Err(error @ Error::Corrupt(_)) => panic!("{error}"),
            }
        }
        panic!("there was no limit");
    });
}

fn this_binary(
    child: &str,
    folder: &TempDir,
    run: &str,
) -> (std::path::PathBuf, [String; 4], [(&'static str, String); 2]) {
    let arguments = ["--exact", child, "--ignored", "--nocapture"].map(str::to_owned);
    let folder = folder.path().to_str().unwrap().to_owned();
    (std::env::current_exe().unwrap(), arguments, [(FOLDER, folder), (RUN, run.to_owned())])
}

/// Kills the child a while after its first acknowledgement; answers with all it printed.
fn kill_after(mut child: Child, delay: Duration) -> Vec<String> {
    let output = child.stdout.take().unwrap();
    let (sender, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        // A line that the kill cut off was not read by anybody, so nothing was promised by it.
        BufReader::new(output).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
    });
    let mut read = Vec::new();
    while !read.last().is_some_and(|line: &String| line.starts_with("stored ")) {
        read.push(lines.recv_timeout(Duration::from_secs(60)).expect("the child acknowledges something"));
    }
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap();
    read.extend(lines);
    read
}

fn names<'a>(lines: &'a [String], word: &str) -> Vec<&'a str> {
    lines.iter().filter_map(|line| line.strip_prefix(word)).collect()
}

async fn scan_all(store: &Embedded, query: &Query) -> Vec<Entry> {
    let (mut entries, mut after) = (Vec::new(), None);
    loop {
        let page = store.scan(query, after, 500).await.unwrap();
        entries.extend(page.entries);
        after = page.next;
        if after.is_none() {
            return entries;
        }
    }
}

/// Everything acknowledged is there, and the indexes say what the entries say.
async fn check(store: &Embedded, stored: &[&str], done: &[&str]) {
    let keys: Vec<_> = stored.iter().map(|name| written(name).key()).collect();
    for (name, found) in stored.iter().zip(store.get(&keys).await.unwrap()) {
        let found = found.unwrap_or_else(|| panic!("{name} was acknowledged and is lost"));
        let one = written(name);
        let expected = Entry { state: found.state.clone(), ..one };
        assert_eq!(found, expected);
        assert!(!done.contains(name) || found.state.status() == Status::Completed, "{name} was completed");
    }
    let range = Range { from: Timestamp::EPOCH, to: Timestamp::MAX };
    let all = scan_all(store, &Query::Namespace { namespace: namespace("orders"), range }).await;
    assert!(all.len() >= stored.len());
    for status in [Status::Pending, Status::Completed] {
        let expected: Vec<&Entry> = all.iter().filter(|entry| entry.state.status() == status).collect();
        assert_eq!(scan_all(store, &Query::Status { status, range }).await.iter().collect::<Vec<_>>(), expected);
    }
    let open = all.iter().filter(|entry| !entry.state.status().is_finished()).count();
    assert_eq!(store.expired(Timestamp::MAX, None, all.len()).await.unwrap().len(), open);
}

#[test]
fn a_killed_process_loses_nothing_it_acknowledged() {
    let mut random = Random::seeded();
    let folder = tempfile::tempdir().unwrap();
    let mut lines = Vec::new();
    for run in 0..6 {
        let delay = Duration::from_micros(random.below(300_000));
        let (program, arguments, environment) = this_binary("child_that_is_killed", &folder, &run.to_string());
        let child = Command::new(program).args(arguments).envs(environment).stdout(Stdio::piped()).spawn().unwrap();
        lines.extend(kill_after(child, delay));
        let store = Embedded::open(folder.path()).unwrap();
        let (stored, done) = (names(&lines, "stored "), names(&lines, "done "));
        println!("run {run}: killed after {delay:?}, {} acknowledged in all", stored.len());
        runtime().block_on(check(&store, &stored, &done));
    }
}

/// A limit on the size of files stands for a disk that is full: writes fail, with another word for why.
#[test]
fn a_full_disk_is_an_error_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    let (program, arguments, environment) = this_binary("child_without_room", &folder, "");
    // 2 MiB, in blocks of 512 bytes. Without the trap the signal would end the child before the error reaches it.
    let shell = "trap '' XFSZ; ulimit -f 4096; exec \"$0\" \"$@\"";
    let output =
        Command::new("sh").args(["-c", shell]).arg(program).args(arguments).envs(environment).output().unwrap();
    let lines: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    assert!(output.status.success() && lines.contains(&"read all".to_owned()), "{output:?}");
    let stored = names(&lines, "stored ");
    println!("{} acknowledged, then {:?}", stored.len(), names(&lines, "refused "));
    let store = Embedded::open(folder.path()).unwrap();
    runtime().block_on(async {
        check(&store, &stored, &[]).await;
        assert_eq!(store.insert(&[entry("room again")]).await.unwrap(), [Inserted::Stored]);
    });
}
