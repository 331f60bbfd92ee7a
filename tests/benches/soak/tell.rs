//! What is said at the end: each process in a line, and whether memory, file descriptors and latency stayed what they were.

use crate::histogram::Histogram;
use crate::plan::GIB;
use crate::receipts::Outcome;
use crate::run::{Begun, Phase, Sample, Story};
use crate::writer::Taken;

/// A change below this share of what it was is none.
const NOTHING: f64 = 0.1;

/// Prints all of it.
pub fn tell(story: &Story, rate: f64) {
    println!(
        "\n{:26} {:>8} {:>8} {:>10} {:>15} {:>11} {:>9} {:>8} {:>8} {:>10}",
        "process",
        "began",
        "nothing",
        "caught up",
        "memory, MiB",
        "files",
        "threads",
        "p50, ms",
        "p99, ms",
        "store, GiB"
    );
    for (number, phase) in story.phases.iter().enumerate() {
        line(number, phase, story);
    }
    let Outcome { sent, lost, twice, refused } = story.outcome;
    println!("\n{sent} requests: {lost} without a receipt, {twice} receipts too many, {refused} refused");
    let settled: Vec<&Sample> = story.samples.iter().filter(|sample| sample.is_settled).collect();
    let Some(last) = story.samples.last() else { return };
    println!("the store takes {:.0} bytes of an entry", last.store / (last.at * rate));
    println!(
        "flat is a change of {:.0} % or less from the first third to the last; unclear a larger one that is less than the middle half of either scatters",
        100.0 * NOTHING
    );
    println!(
        "{} seconds are looked at, from 20 s after a process has caught up; processors {:.0} % busy in the middle of them",
        settled.len(),
        100.0 * median(settled.iter().map(|sample| sample.busy))
    );
    verdict("memory, MiB", &settled, |sample| taken(sample, |taken| taken.memory));
    within("memory, MiB", story, |sample| taken(sample, |taken| taken.memory));
    verdict("file descriptors", &settled, |sample| taken(sample, |taken| taken.descriptors));
    verdict("threads", &settled, |sample| taken(sample, |taken| taken.threads));
    verdict("latency p50, ms", &settled, |sample| sample.latency.at(0.5));
    verdict("latency p99, ms", &settled, |sample| sample.latency.at(0.99));
}

fn line(number: usize, phase: &Phase, story: &Story) {
    let begun = match phase.begun {
        Begun::First => "the first",
        Begun::AfterTerm => "after a SIGTERM",
        Begun::AfterKill => "after a SIGKILL",
    };
    let all = || story.samples.iter().filter(move |sample| sample.phase == number);
    let settled: Vec<&Sample> = all().filter(|sample| sample.is_settled).collect();
    let mut latency = Histogram::default();
    settled.iter().for_each(|sample| latency.merge(&sample.latency));
    let ends = |pick: fn(Taken) -> f64| match (settled.first(), settled.last()) {
        (Some(first), Some(last)) => format!("{:.0} to {:.0}", taken(first, pick), taken(last, pick)),
        _ => "-".to_owned(),
    };
    println!(
        "{:26} {:>4.1} min {:>6.0} s {:>10} {:>15} {:>11} {:>9} {:>8.0} {:>8.0} {:>10.1}",
        format!("{}, {begun}", number + 1),
        phase.from / 60.0,
        phase.silent,
        phase.caught_up.map_or("never".to_owned(), |after| format!("{after:.0} s")),
        ends(|taken| taken.memory),
        ends(|taken| taken.descriptors),
        ends(|taken| taken.threads),
        latency.at(0.5),
        latency.at(0.99),
        all().next_back().map_or(0.0, |sample| sample.store / GIB)
    );
}

/// The first third of all settled seconds beside the last third, whichever process it was.
fn verdict(what: &str, settled: &[&Sample], pick: fn(&Sample) -> f64) {
    let all: Vec<(f64, f64)> = settled
        .iter()
        .map(|sample| (sample.at / 3600.0, pick(sample)))
        .filter(|(_, value)| value.is_finite())
        .collect();
    if all.len() < 6 {
        println!("  {what:18} too few settled seconds to say anything");
        return;
    }
    let values: Vec<f64> = all.iter().map(|(_, value)| *value).collect();
    let third = values.len() / 3;
    let (first, last) = (&values[..third], &values[values.len() - third..]);
    let (was, is) = (quartiles(first), quartiles(last));
    let (change, scatter) = (is[1] - was[1], (was[2] - was[0]).max(is[2] - is[0]));
    let word = word(change, NOTHING * was[1], scatter);
    println!(
        "  {what:18} {word:7}  first third {:.0} ({:.0} to {:.0}), last third {:.0} ({:.0} to {:.0}); slope {:+.1} an hour",
        was[1],
        was[0],
        was[2],
        is[1],
        is[0],
        is[2],
        slope(&all)
    );
}

/// What becomes of it within each process: a restart would hide what only grows while it runs.
fn within(what: &str, story: &Story, pick: fn(&Sample) -> f64) {
    let phases = (0..story.phases.len()).map(|phase| -> Vec<(f64, f64)> {
        let settled = story.samples.iter().filter(|sample| sample.phase == phase && sample.is_settled);
        settled.map(|sample| (sample.at / 60.0, pick(sample))).filter(|(_, value)| value.is_finite()).collect()
    });
    let phases: Vec<Vec<(f64, f64)>> = phases.filter(|points| points.len() >= 20).collect();
    if phases.is_empty() {
        return;
    }
    let third = |points: &Vec<(f64, f64)>, from: usize| {
        median(points[from * points.len() / 3..(from + 1) * points.len() / 3].iter().map(|point| point.1))
    };
    let changes: Vec<f64> = phases.iter().map(|points| third(points, 2) - third(points, 0)).collect();
    let slopes: Vec<f64> = phases.iter().map(|points| slope(points)).collect();
    let (change, slopes) = (quartiles(&changes), quartiles(&slopes));
    let was = median(phases.iter().map(|points| third(points, 0)));
    println!(
        "  {what:18} {:7}  from the first to the last third of each process {:+.0} ({:+.0} to {:+.0}), slope {:+.1} a minute ({:+.1} to {:+.1})",
        word(change[1], NOTHING * was, 0.0),
        change[1],
        change[0],
        change[2],
        slopes[1],
        slopes[0],
        slopes[2]
    );
}

/// What a change is called.
fn word(change: f64, nothing: f64, scatter: f64) -> &'static str {
    match change {
        change if change.abs() <= nothing => "flat",
        change if change.abs() <= scatter => "unclear",
        change if change > 0.0 => "RISES",
        _ => "falls",
    }
}

fn taken(sample: &Sample, pick: fn(Taken) -> f64) -> f64 {
    sample.taken.map_or(f64::NAN, pick)
}

/// The quarter, the middle and the three quarters.
fn quartiles(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| sorted[(sorted.len() - 1) * quarter / 4])
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    if values.is_empty() { f64::NAN } else { quartiles(&values)[1] }
}

/// By least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let over = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>();
    over / points.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>()
}
