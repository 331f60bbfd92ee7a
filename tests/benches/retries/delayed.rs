//! How late a retry is: failures as they come, delays of every length, and a scheduler that dies.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use wal_model::delivery::Delivery;
use wal_model::{OutRecord, Topic};
use wal_tests::{Kafka, Process, clients, unique};

use crate::lateness::{Arrivals, Due, Lateness, now};
use crate::rates::mirroring;
use crate::stage::{PARTITIONS, Ready, Stage, by_payload, name_of};

/// Failures a second, as in what was measured elsewhere.
const RATE: usize = 1000;
const DELAY: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(120);

/// What every record through this Kafka has at least: the same records at the same rate through a bare loop that copies each batch in a
/// transaction as it comes.
fn floor(stage: &Stage, count: usize) -> Result<Lateness> {
    let (from, to) = (unique("steady"), unique("steady-mirrored"));
    for topic in [&from, &to] {
        clients::create_topic(&stage.bootstrap, topic, PARTITIONS, &[]);
    }
    let arrivals = Arrivals::of(&stage.bootstrap, &to, count, by_payload)?;
    let (ready, is_ready) = std::sync::mpsc::channel();
    let mirror = mirroring(stage, Topic::parse(&from)?, &to, Duration::ZERO, Arc::new(Ready(ready)))?;
    is_ready.recv_timeout(PATIENCE).context("the mirror got no partitions")?;
    let record = |delivery: &Delivery| OutRecord {
        topic: Topic::parse(&from).expect("a legal name"),
        ..stage.failure(delivery)
    };
    let (sent, _) = steadily(stage, count, |_| Duration::ZERO, record, |_| ())?;
    let lateness = Lateness::of(&arrivals.wait(PATIENCE), &sent);
    mirror.stop()?;
    Ok(lateness)
}

/// Failures at a steady rate, each of which comes back after the delay; beside so many others that are parked.
pub fn failures(broker: &Kafka, count: usize, rounds: usize, parked: usize) -> Result<()> {
    let mut ratios = Vec::new();
    for round in 1..=rounds {
        let stage = Stage::set(broker)?;
        let floor = floor(&stage, count)?;
        floor.tell(&format!("a: floor, {count} at {RATE}/s copied as they come, round {round}"));
        park(&stage, parked)?;
        let scheduler = stage.scheduler()?;
        let arrivals = Arrivals::of(&stage.bootstrap, stage.target.as_str(), count, by_payload)?;
        let (due, took) = fail(&stage, count, |_| DELAY, |_| ())?;
        let lateness = Lateness::of(&arrivals.wait(PATIENCE), &due);
        let beside = if parked == 0 { String::new() } else { format!(" beside {parked} parked") };
        let rate = per_second(count, took);
        lateness.tell(&format!("a: {count} failures at {rate:.0}/s, 5 s{beside}, round {round}"));
        ratios.push(lateness.at(0.99) / floor.at(0.99));
        scheduler.stop()?;
    }
    ratios.sort_by(f64::total_cmp);
    let (least, median, most) = (ratios[0], ratios[ratios.len() / 2], ratios[ratios.len() - 1]);
    println!("a: p99 is {median:.2} times the floor's ({least:.2} to {most:.2})");
    Ok(())
}

/// Delays chosen for each record.
pub fn mixed(broker: &Kafka, count: usize, rounds: usize) -> Result<()> {
    const DELAYS: [Duration; 3] = [Duration::from_millis(100), Duration::from_secs(5), Duration::from_secs(60)];
    for round in 1..=rounds {
        let stage = Stage::set(broker)?;
        let scheduler = stage.scheduler()?;
        let arrivals = Arrivals::of(&stage.bootstrap, stage.target.as_str(), count, by_payload)?;
        // Over ten seconds, so that every class meets the others in every state.
        let delay = |number: usize| DELAYS[number * 7919 % DELAYS.len()];
        let mut classes: HashMap<Duration, Due> = HashMap::new();
        let pause = Duration::from_secs(10) / u32::try_from(count)?;
        for number in 0..count {
            let delay = delay(number);
            let delivery = stage.delivery("bench", number, delay)?;
            let record = stage.failure(&delivery);
            classes.entry(delay).or_default().insert(name_of(&delivery.payload).to_vec(), now() + millis(delay));
            stage.send(&record)?;
            std::thread::sleep(pause);
        }
        let arrived = arrivals.wait(PATIENCE);
        for delay in DELAYS {
            let lateness = Lateness::of(&arrived, &classes[&delay]);
            lateness.tell(&format!("c: {} of {count} after {delay:?}, mixed, round {round}", classes[&delay].len()));
        }
        scheduler.stop()?;
    }
    Ok(())
}

/// The scheduler is killed while failures come in and others are due, and started again at once.
pub fn killed(broker: &Kafka, count: usize, rounds: usize) -> Result<()> {
    for round in 1..=rounds {
        let stage = Stage::set(broker)?;
        let variables = stage.variables();
        let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (&**name, &**value)).collect();
        let start = || Process::start("wal-retry-scheduler", &[], &variables);
        let ready = |process: &Process| {
            process.wait_for_line_where("that it has partitions", PATIENCE, |line| line.contains("partitions moved"));
        };
        let mut process = start();
        ready(&process);
        let arrivals = Arrivals::of(&stage.bootstrap, stage.target.as_str(), count + count / 10, by_payload)?;
        let kill_at = count * 6 / 10;
        let (due, _) = fail(
            &stage,
            count,
            |_| DELAY,
            |number| {
                if number == kill_at {
                    process.kill();
                    process = start();
                }
            },
        )?;
        let until = due.values().fold(0.0, |last: f64, due| last.max(*due)) - now();
        let limit = Duration::from_millis(until.max(0.0) as u64) + Duration::from_secs(30);
        Lateness::of(&arrivals.wait(limit), &due)
            .tell(&format!("d: {count} failures, killed in between, round {round}"));
        process.kill();
    }
    Ok(())
}

/// Sends failures at the steady rate; tells when each is due, and how long sending took.
fn fail(
    stage: &Stage,
    count: usize,
    delay: impl Fn(usize) -> Duration,
    before: impl FnMut(usize),
) -> Result<(Due, Duration)> {
    steadily(stage, count, delay, |delivery| stage.failure(delivery), before)
}

/// Sends what is made of deliveries at the steady rate; tells when each is due, and how long sending took.
fn steadily(
    stage: &Stage,
    count: usize,
    delay: impl Fn(usize) -> Duration,
    record: impl Fn(&Delivery) -> OutRecord,
    mut before: impl FnMut(usize),
) -> Result<(Due, Duration)> {
    let mut due = HashMap::with_capacity(count);
    let started = Instant::now();
    for number in 0..count {
        before(number);
        let delay = delay(number);
        let delivery = stage.delivery("bench", number, delay)?;
        let record = record(&delivery);
        let at = started + Duration::from_secs(1) * u32::try_from(number)? / u32::try_from(RATE)?;
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        due.insert(name_of(&delivery.payload).to_vec(), now() + millis(delay));
        stage.send(&record)?;
    }
    let took = started.elapsed();
    stage.flush()?;
    Ok((due, took))
}

/// Parks others that are due in some hours, as the scheduler would have.
fn park(stage: &Stage, count: usize) -> Result<()> {
    let far = now() + 5_000_000.0;
    for number in 0..count {
        let delivery = stage.delivery("parked", number, Duration::from_secs(5000))?;
        stage.send(&stage.parked(delivery, far, "5000s").context("a parked record")?)?;
        if number > 0 && number % 200_000 == 0 {
            eprintln!("{number} of {count} parked");
        }
    }
    stage.flush()
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "a count of records")]
fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}
