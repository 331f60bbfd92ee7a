//! What it costs to tell a collector of traces, by the share of entries that are sampled.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use wal_tests::Kafka;

use crate::part::{Measured, Running};
use crate::rates;
use crate::stage::{PARTITIONS, Stage};

/// No collector, and one at these ratios. Each sampled entry is two spans: it was taken, it was sent.
const RATIOS: [Option<f64>; 4] = [None, Some(0.0), Some(0.01), Some(1.0)];

/// Runs the writer with each in turns and tells of each.
pub fn tell(broker: &Kafka, entries: usize, rounds: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let collector = Arc::new(AtomicUsize::new(0));
    let app = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&collector));
    let listener = runtime.block_on(tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))))?;
    let url = format!("http://{}", listener.local_addr()?);
    runtime.spawn(async move { axum::serve(listener, app).await });

    let mut all: [(Vec<Measured>, usize); RATIOS.len()] = Default::default();
    for round in 1..=rounds {
        eprintln!("traces: round {round} of {rounds}");
        for (ratio, (measured, bytes)) in RATIOS.iter().zip(&mut all) {
            let before = collector.load(Ordering::SeqCst);
            measured.push(once(broker, entries, ratio.map(|ratio| (url.as_str(), ratio)))?);
            *bytes += collector.load(Ordering::SeqCst) - before;
        }
    }
    println!("\ntraces: {entries} entries; median (least to most)");
    rates::head();
    let mut without = None;
    for (ratio, (measured, bytes)) in RATIOS.iter().zip(&all) {
        let name = match ratio {
            None => "no collector".to_owned(),
            Some(ratio) => format!("sampled {:.0} %", ratio * 100.0),
        };
        let rate = rates::report(&name, measured);
        let without = *without.get_or_insert(rate);
        println!("{:34} {:.2} times as many; {} bytes told per entry", "", rate / without, bytes / (rounds * entries));
    }
    Ok(())
}

fn once(broker: &Kafka, entries: usize, traces: Option<(&str, f64)>) -> Result<Measured> {
    let stage = Stage::set(broker, PARTITIONS)?;
    stage.load(entries);
    let settings: Vec<(&str, String)> = match traces {
        None => Vec::new(),
        Some((url, ratio)) => {
            vec![("traces.otlp_endpoint", url.to_owned()), ("traces.sample_ratio", ratio.to_string())]
        }
    };
    Running::start("writer", &stage, entries, &settings)?.finish(broker, entries)
}

async fn take(State(bytes): State<Arc<AtomicUsize>>, body: Bytes) {
    bytes.fetch_add(body.len(), Ordering::SeqCst);
}
