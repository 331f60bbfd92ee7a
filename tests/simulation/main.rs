//! The simulation: the real hands of writer, scheduler and status over a Kafka in memory, in virtual time, from a seed.
//!
//! ```text
//!   people: clients, consumers, forgers, operators        processes: clocks that are wrong, crashes, zombies, rebalances
//!        │ requests, answers, cancels                          │ a step at a time
//!        ▼                                                     ▼
//!   kafka: partitions, transactions, groups ◀──▶ batch loops ──▶ the real handlers ──▶ a store in memory
//!        │
//!        └─▶ ledger: what must be true of every transaction        verdict: what must be true in the end
//! ```
//!
//! Everything is a step of one agenda, so anything can happen between any two of them, and the same seed makes the same happen again.
//! Hours pass in milliseconds. What is not simulated is what no decision rests on: bytes on wires and disks.

mod agenda;
mod batch_loop;
mod brokers;
mod clock;
mod groups;
mod kafka;
mod ledger;
mod people;
mod process;
mod store;
mod verdict;
mod world;

use std::num::NonZero;
use std::{env, panic, thread};

use wal_model::LogId;
use wal_tests::seed;

use batch_loop::Reached;
use world::{Weather, World};

/// How many runs are made in any weather, unless `WAL_SIMULATION_RUNS` says otherwise; a tenth of them in calm weather.
const RUNS: u64 = 300;

/// Longer than finished entries and cancels are kept.
const LONG_AFTER: i64 = 31 * 86_400_000;

fn runs() -> u64 {
    env::var("WAL_SIMULATION_RUNS").map_or(RUNS, |text| text.parse().expect("WAL_SIMULATION_RUNS is a number"))
}

/// Plays every run, and tells what came about; one that fails is played again with a trace, to see what happened and that it happens
/// again.
fn play(scenario: &str, runs: u64, weather: fn(&mut fastrand::Rng) -> Weather) -> Reached {
    let runs: Vec<_> = seed::runs(scenario, runs).collect();
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let shares = runs.chunks(runs.len().div_ceil(threads));
    let results = thread::scope(|scope| {
        let playing: Vec<_> = shares.map(|share| scope.spawn(move || play_share(share, weather))).collect();
        playing.into_iter().map(|playing| playing.join().expect("a run does not panic")).collect::<Vec<_>>()
    });
    let mut reached = Reached::new();
    for result in results {
        match result {
            Ok(share) => share.into_iter().for_each(|(what, count)| *reached.entry(what).or_default() += count),
            Err((seed, random, why)) => {
                println!("{scenario}: replay with {}={seed}\n{why}", seed::VARIABLE);
                let (again, world) = live(random, weather, Some(Vec::new()));
                println!("{}", world.trace.expect("it was wanted").join("\n"));
                assert_eq!(again, Err(why.clone()), "the same seed must make the same happen");
                panic!("{scenario}: replay with {}={seed}\n{why}", seed::VARIABLE);
            }
        }
    }
    reached
}

/// The run that failed, and why.
type Failed = (u64, fastrand::Rng, String);

fn play_share(share: &[(u64, fastrand::Rng)], weather: fn(&mut fastrand::Rng) -> Weather) -> Result<Reached, Failed> {
    let mut reached = Reached::new();
    for (seed, random) in share {
        let failed = |why: String| (*seed, random.clone(), why);
        let played = panic::catch_unwind(|| live(random.clone(), weather, None));
        let (result, world) = played.map_err(|_| failed("it panicked".to_owned()))?;
        result.map_err(failed)?;
        world.ledger.reached.iter().for_each(|(what, count)| *reached.entry(*what).or_default() += count);
    }
    Ok(reached)
}

/// One life of a world.
fn live(
    mut random: fastrand::Rng,
    weather: fn(&mut fastrand::Rng) -> Weather,
    trace: Option<Vec<String>>,
) -> (Result<(), String>, World) {
    let weather = weather(&mut random);
    let mut world = World::new(random, weather);
    world.trace = trace;
    (live_in(&mut world), world)
}

fn live_in(world: &mut World) -> Result<(), String> {
    world.run()?;
    verdict::at_rest(world)?;
    if world.weather.is_calm() {
        verdict::in_time(world)?;
    }
    let log_ids: Vec<LogId> = world.store.entries().values().map(|entry| entry.log_id.clone()).collect();
    world.sleep(LONG_AFTER, 600_000)?;
    verdict::purged(world, &log_ids)
}

/// What a simulation must have brought about to be worth its name.
const SITUATIONS: [&str; 24] = [
    "a process died with a batch in hand",
    "a partition moved away while its batch was handled",
    "a place was asked for while a transaction decided over it",
    "a member found itself expelled",
    "a zombie's offsets were refused",
    "a commit was done, and nobody knew",
    "a commit was not done, and nobody knew",
    "a first attempt was delivered",
    "a first attempt was delivered later",
    "a retry was scheduled",
    "a retry was delivered when due",
    "a retry was delivered at once",
    "retries were exhausted",
    "an attempt was rejected",
    "an entry was undeliverable",
    "an entry was completed by its delivery",
    "an entry was completed after it was dead",
    "an entry expired before its first delivery",
    "an entry expired with its failure",
    "an entry expired while it was parked",
    "an entry expired unanswered",
    "a failure was told again and not decided again",
    "a cancelled retry was dropped",
    "a completion was moved to its partition",
];

#[test]
fn whatever_happens_the_promises_hold() {
    let reached = play("simulation", runs(), Weather::any);
    println!("{reached:#?}");
    let missing: Vec<_> = SITUATIONS.iter().filter(|situation| !reached.contains_key(**situation)).collect();
    // A few runs prove nothing of this.
    let is_enough = runs() >= RUNS && env::var_os(seed::VARIABLE).is_none();
    assert!(missing.is_empty() || !is_enough, "never came about: {missing:?}");
}

#[test]
fn in_calm_weather_everything_is_in_time() {
    play("calm", runs().div_ceil(10), |_| Weather::CALM);
}

#[test]
fn the_same_seed_makes_the_same_happen() {
    for (seed, random) in seed::runs("again", runs().div_ceil(30)) {
        let trace = || live(random.clone(), Weather::any, Some(Vec::new())).1.trace.expect("it was wanted");
        let (once, again) = (trace(), trace());
        let differs = once.iter().zip(&again).find(|(one, other)| one != other);
        assert!(differs.is_none() && once.len() == again.len(), "{}={seed}: {differs:#?}", seed::VARIABLE);
    }
}
