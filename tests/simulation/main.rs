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

use std::env;

use wal_model::LogId;
use wal_tests::seed;

use world::{Weather, World};

/// How many runs each test makes, unless `WAL_SIMULATION_RUNS` says otherwise.
const RUNS: u64 = 150;

/// Longer than finished entries and cancels are kept.
const LONG_AFTER: i64 = 31 * 86_400_000;

fn runs() -> u64 {
    env::var("WAL_SIMULATION_RUNS").map_or(RUNS, |text| text.parse().expect("WAL_SIMULATION_RUNS is a number"))
}

/// One life of the world.
fn live(world: &mut World) -> Result<(), String> {
    world.run()?;
    verdict::at_rest(world)?;
    let log_ids: Vec<LogId> = world.store.entries().values().map(|entry| entry.log_id.clone()).collect();
    world.sleep(LONG_AFTER, 600_000)?;
    verdict::purged(world, &log_ids)
}

/// Plays every run; one that fails is played again with a trace, to see what happened and that it happens again.
fn play(scenario: &str, weather: impl Fn(&mut fastrand::Rng) -> Weather, look: impl Fn(&World) -> Result<(), String>) {
    for (seed, random) in seed::runs(scenario, runs()) {
        let played = |trace: Option<Vec<String>>| {
            let mut random = random.clone();
            let weather = weather(&mut random);
            let mut world = World::new(random, weather);
            world.trace = trace;
            let result = live(&mut world).and_then(|()| look(&world));
            (result, world.trace)
        };
        let Err(why) = played(None).0 else { continue };
        let (again, trace) = played(Some(Vec::new()));
        println!("{}", trace.expect("it was wanted").join("\n"));
        assert_eq!(again, Err(why.clone()), "the same seed must make the same happen");
        panic!("{scenario}: replay with {}={seed}\n{why}", seed::VARIABLE);
    }
}

#[test]
fn whatever_happens_the_promises_hold() {
    play("simulation", Weather::any, |_| Ok(()));
}

#[test]
fn in_calm_weather_everything_is_in_time() {
    play(
        "calm",
        |_| Weather::CALM,
        |world| match world.ledger.lateness.iter().max() {
            Some(late) if *late > 100 => Err(format!("an attempt was {late} ms late")),
            _ => Ok(()),
        },
    );
}
