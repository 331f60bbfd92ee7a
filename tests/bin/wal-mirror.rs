//! A batch loop without a store: every record of one topic is published to another, once. The floor that the benchmark compares
//! with, and what the scenarios use to show that the loop itself neither loses nor doubles.
//!
//! `wal-mirror BOOTSTRAP GROUP INSTANCE FROM TO`

#[path = "../mirror/mod.rs"]
mod mirror;

use std::sync::Arc;
use std::time::Duration;

use mirror::Mirror;
use wal_model::Topic;
use wal_runtime::batch_loop::{self, Limits, Observer, Options};
use wal_runtime::config::{Kafka, Settings};
use wal_runtime::shutdown::Shutdown;

struct Told;

impl Observer for Told {
    fn assigned(&self) {
        println!("assigned");
    }

    fn committed(&self, records: usize, _published: usize) {
        println!("committed {records}");
    }

    fn rewound(&self, why: &str) {
        println!("rewound: {why}");
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [bootstrap, group, instance, from, to] = &args[..] else {
        anyhow::bail!("usage: wal-mirror BOOTSTRAP GROUP INSTANCE FROM TO");
    };
    let overrides = [("kafka.bootstrap_servers", bootstrap.clone()), ("kafka.instance", instance.clone())];
    let settings = Settings::load_with(None, &overrides)?;
    wal_runtime::logs::start(&wal_runtime::config::Log::read(&settings)?)?;
    let kafka = Kafka::read(&settings)?;
    let options = Options {
        consumer: wal_runtime::kafka::consumer(&kafka, group),
        producer: wal_runtime::kafka::transactional(&kafka, &format!("{group}-{instance}")),
        group: group.clone(),
        lanes: vec![(Topic::parse(from)?, 100)],
        limits: Limits { records: 2000, bytes: 8 << 20, wait: Duration::from_millis(5) },
        offset_metadata: String::new(),
        start_timeout: kafka.start_timeout,
        stop_timeout: Duration::from_secs(10),
    };
    let shutdown = Shutdown::on_signals()?;
    batch_loop::run(options, Mirror { to: Topic::parse(to)? }, Arc::new(Told), shutdown.triggered()).await?;
    Ok(())
}
