//! Several writers on one database that fails at random and loses its power: what was answered is true, then and afterwards.
//!
//! A failure prints its seed; `WAL_TEST_SEED` runs that one again (the order of the tasks is not in it).

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wal_arango_fake::{Action, Elements, Fault, Refusal, Server};
use wal_model::status::{Event, Reason};
use wal_model::{Entry, EntryKey};
use wal_store::arango::{ArangoStore, Options, schema};
use wal_store::samples::{self, ack, completed, entry, failed, retrying};
use wal_store::{Applied, EntryStore, Error, Inserted};

const SEEDS: [u64; 4] = [1, 2, 3, 4];
const WRITERS: usize = 3;
const CALLS: usize = 250;
const ENTRIES: usize = 60;
/// A seed takes seconds; a machine that does other things may take much longer.
const LIMIT: Duration = Duration::from_secs(300);

/// What the answers have said so far.
#[derive(Default)]
struct Told {
    stored: HashMap<EntryKey, usize>,
    there: HashSet<EntryKey>,
    folded: HashMap<EntryKey, Vec<Event>>,
}

struct Bench {
    server: Arc<Server>,
    store: ArangoStore,
    /// The next attempt to be told of.
    attempts: AtomicU32,
    entries: Vec<Entry>,
    told: Mutex<Told>,
}

/// An event of an entry that no other writer tells: what is lost of it shows, for nobody else brings it.
fn event(one: &Entry, attempt: u32, random: &mut fastrand::Rng) -> Event {
    match random.u8(..8) {
        0 => failed(one, attempt, Reason::Exhausted),
        1 => completed(one, attempt),
        _ => retrying(one, attempt),
    }
}

fn mishap(random: &mut fastrand::Rng) -> Action {
    let number = |error_num| Elements { error_num, positions: vec![0, 2] };
    match random.u8(..12) {
        0 => Action::DropBefore,
        1 => Action::DropAfter,
        2 | 3 => Action::DropUnsynced,
        4 => Action::HalfAnswer,
        5 => Action::conflict(),
        6 => Action::RefuseAfter(Refusal::error(503, 1465)),
        7 => Action::unavailable(),
        8 => Action::leadership_changes(),
        9 => Action::Elements(number(1200)),
        10 => Action::Elements(number(32)),
        _ => Action::queue_full(),
    }
}

/// As [`wal_store::Patient`] does, sooner.
async fn until_answered<T, F: Future<Output = Result<T, Error>>>(mut ask: impl FnMut() -> F) -> T {
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(Error::Unavailable(_) | Error::ReadOnly(_)) => tokio::time::sleep(Duration::from_millis(2)).await,
            Err(Error::Corrupt(why)) => panic!("{why}"),
        }
    }
}

impl Bench {
    fn some_entries(&self, random: &mut fastrand::Rng) -> Vec<Entry> {
        (0..random.usize(1..6)).map(|_| self.entries[random.usize(..ENTRIES)].clone()).collect()
    }

    async fn insert(&self, random: &mut fastrand::Rng) {
        let entries = self.some_entries(random);
        let answers = until_answered(|| self.store.insert(&entries)).await;
        let mut told = self.told.lock().unwrap();
        for (entry, answer) in entries.iter().zip(answers) {
            match answer {
                Inserted::Stored => *told.stored.entry(entry.key()).or_default() += 1,
                Inserted::Present(present) => assert_eq!(present.log_id, entry.log_id),
                Inserted::Refused(refusal) => panic!("{refusal:?}"),
            }
            told.there.insert(entry.key());
        }
    }

    async fn apply(&self, random: &mut fastrand::Rng) {
        let told_of = self.some_entries(random);
        let attempt = self.attempts.fetch_add(1, Ordering::SeqCst);
        let acks: Vec<_> = told_of.iter().map(|one| ack(one, event(one, attempt, random))).collect();
        let before = self.told.lock().unwrap().there.clone();
        let answers = until_answered(|| self.store.apply(&acks)).await;
        for (ack, answer) in acks.into_iter().zip(answers) {
            let key = ack.log_id.key();
            match answer {
                Applied::State(state) => {
                    let mut again = (*state).clone();
                    again.join(&ack.event);
                    assert_eq!(again, *state, "an event is not in the state that was answered");
                    self.told.lock().unwrap().folded.entry(key).or_default().push(ack.event);
                }
                Applied::Unknown => assert!(!before.contains(&key), "{key} was stored and is unknown"),
                Applied::Other => panic!("{key} is another entry"),
            }
        }
    }

    async fn write(&self, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..CALLS {
            if random.bool() {
                self.insert(&mut random).await;
            } else {
                self.apply(&mut random).await;
            }
            // Before anybody else can sync what was answered.
            if random.bool() {
                self.server.power_loss();
            }
        }
    }

    /// Everything that was answered is there.
    async fn check(&self) {
        let (there, folded) = {
            let told = self.told.lock().unwrap();
            assert!(told.stored.values().all(|times| *times <= 1), "an entry was stored twice");
            (told.there.clone(), told.folded.clone())
        };
        for entry in &self.entries {
            let found = self.store.get(&[entry.key()]).await.unwrap().pop().flatten();
            let Some(found) = found else {
                assert!(!there.contains(&entry.key()), "{} is lost", entry.key());
                continue;
            };
            for event in folded.get(&entry.key()).into_iter().flatten() {
                assert_eq!(samples::after(found.clone(), std::slice::from_ref(event)), found, "an event is lost");
            }
            assert_eq!(Entry { state: entry.state.clone(), ..found }, *entry);
        }
    }
}

async fn run(seed: u64) {
    let server = Arc::new(Server::start().await);
    let one_server = Options { replication_factor: 1, write_concern: 1, ..Options::new(vec![server.url()], "wal") };
    schema::apply(&one_server).await.unwrap();
    let store = ArangoStore::open(&one_server).await.unwrap();
    let entries = (0..ENTRIES).map(|at| entry(&format!("e {at}"))).collect();
    let bench = Arc::new(Bench {
        server: Arc::clone(&server),
        store,
        attempts: AtomicU32::new(1),
        entries,
        told: Mutex::default(),
    });
    let saboteur = tokio::spawn({
        let (server, mut random) = (Arc::clone(&server), fastrand::Rng::with_seed(seed));
        async move {
            loop {
                server.fail(Fault::next(mishap(&mut random)).after(random.u32(..4)));
                tokio::time::sleep(Duration::from_millis(random.u64(1..20))).await;
                server.heal();
            }
        }
    });
    let writers: Vec<_> = (0..WRITERS as u64)
        .map(|nth| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move { bench.write(seed.wrapping_mul(1000) + nth).await })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    saboteur.abort();
    let _ = saboteur.await;
    server.heal();
    server.power_loss();
    bench.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_true_through_every_mishap() {
    let seeds = match std::env::var("WAL_TEST_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => SEEDS.to_vec(),
    };
    for seed in seeds {
        println!("seed {seed}");
        tokio::time::timeout(LIMIT, run(seed)).await.expect("no call waits for ever");
    }
}
