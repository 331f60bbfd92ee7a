//! `wal bench store`: what the store that the settings name can do, seen from here.
//!
//! ```text
//!   place (wal_bench_ collections, or a folder) ─▶ load: round trip, insert, fold, each at several levels ─▶ rows ─▶ place is removed
//! ```

mod load;
mod place;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use wal_runtime::config::Settings;
use wal_runtime::shutdown::Shutdown;

use crate::args;
use crate::paint::Tone;
use crate::problem::{Exit, Problem};
use crate::screen::{Format, Screen, Table};
use load::{Load, Measured, What};
use place::{Opened, Place};

/// Runs `wal bench store`.
pub async fn run(screen: &Screen, settings: &Settings, bench: &args::BenchStore) -> Result<Exit, Problem> {
    let shutdown = Shutdown::on_signals()?;
    let most = bench.concurrency.iter().copied().max().unwrap_or(1);
    let place = Place::find(settings, most as usize).await?;
    screen.note(&screen.err.tone(Tone::Faint, &place.told()));
    let measuring = async { measure(screen, place.open(settings).await?, bench).await };
    let outcome = tokio::select! {
        outcome = measuring => outcome,
        () = shutdown.triggered() => Ok(Exit::Interrupted),
    };
    let removed = place.remove(settings).await;
    // Why it could not be measured says more than what that left behind.
    let exit = outcome?;
    removed.map(|()| exit)
}

async fn measure(screen: &Screen, opened: Opened, bench: &args::BenchStore) -> Result<Exit, Problem> {
    let load = Load::new(Arc::clone(&opened.store), bench.batch, bench.time);
    let columns = ["what", "at once", "per batch", "batches", "requests/batch", "documents/s", "p50", "p99"];
    let mut table = Table::new(&columns).numbers(&[1, 2, 3, 4, 5, 6, 7]);
    for what in [What::RoundTrip, What::Insert, What::Fold] {
        for at_once in &bench.concurrency {
            let before = opened.requests();
            let measured = load.measure(what, *at_once).await?;
            let requests = opened.requests().zip(before).map(|(after, before)| after - before);
            let per_batch = requests.map(|requests| requests as f64 / measured.batches as f64);
            match screen.format {
                Format::Json => screen.json(&MeasuredJson::of(&measured, per_batch))?,
                Format::Table => table.row(row(&measured, per_batch)),
            }
        }
    }
    if screen.format == Format::Table {
        screen.line(&screen.table(&table))?;
        screen.note(
            &screen
                .err
                .tone(Tone::Faint, "round trip: one read of a key that is not there, the least that any batch takes"),
        );
    }
    Ok(Exit::Done)
}

fn row(measured: &Measured, requests_per_batch: Option<f64>) -> Vec<(Tone, String)> {
    vec![
        (Tone::Name, measured.what.as_str().to_owned()),
        (Tone::Plain, measured.at_once.to_string()),
        (Tone::Plain, measured.per_batch.to_string()),
        (Tone::Plain, measured.batches.to_string()),
        (Tone::Plain, requests_per_batch.map_or_else(|| "-".to_owned(), |requests| format!("{requests:.2}"))),
        (Tone::Strong, format!("{:.0}", measured.documents_per_second())),
        (Tone::Plain, millis(measured.p50)),
        (Tone::Plain, millis(measured.p99)),
    ]
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// A measurement as `-o json` shows it. Printed, keep stable.
#[derive(Serialize)]
struct MeasuredJson {
    what: &'static str,
    concurrency: u32,
    documents_per_batch: u32,
    batches: usize,
    /// Of a database only.
    requests_per_batch: Option<f64>,
    documents: u64,
    seconds: f64,
    documents_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

impl MeasuredJson {
    fn of(measured: &Measured, requests_per_batch: Option<f64>) -> MeasuredJson {
        MeasuredJson {
            what: measured.what.as_str(),
            concurrency: measured.at_once,
            documents_per_batch: measured.per_batch,
            batches: measured.batches,
            requests_per_batch,
            documents: measured.documents(),
            seconds: measured.took.as_secs_f64(),
            documents_per_second: measured.documents_per_second(),
            p50_ms: measured.p50.as_secs_f64() * 1000.0,
            p99_ms: measured.p99.as_secs_f64() * 1000.0,
        }
    }
}
