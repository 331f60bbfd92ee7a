//! Traces: which steps an entry took, told to a collector over OTLP. Off unless configured, and then nothing is looked at.
//!
//! ```text
//!   record's traceparent ─▶ handle ─▶ hop: deliveries carry the step of sending them ─▶ publish, commit
//!                                                                                            │ committed
//!                                  collector ◀─ OTLP ◀─ queue (bounded, drops) ◀─ spans ◀────┘
//! ```
//!
//! A span tells what was committed; what was given up is not told, and told once it is committed. Nothing waits for the collector.

mod export;
mod hop;
mod spans;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SpanProcessor as _};
use wal_model::OutRecord;

use crate::batch_loop::Batch;
use crate::config;
use crate::metrics::{Counter, Metrics};

pub use export::Error;
pub use hop::{CE_TRACEPARENT, Road, TRACEPARENT};

use hop::Sent;
use spans::{Times, Told};

/// How many spans wait for the collector; more are dropped.
const QUEUE: usize = 16_384;

/// Where the steps of one service are told. Cloning gives another handle on the same.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Inner>>);

struct Inner {
    sample_ratio: f64,
    road: Road,
    made: Counter,
    processor: BatchSpanProcessor,
}

/// What is known of a batch until it is committed.
#[derive(Debug)]
pub(crate) struct Hops {
    sent: Vec<Sent>,
    taken: SystemTime,
    handled: SystemTime,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Traces(on)" } else { "Traces(off)" })
    }
}

impl Traces {
    /// Tells nobody.
    pub fn off() -> Traces {
        Traces::default()
    }

    /// Tells the collector that the configuration names, if it names one. Call it within tokio.
    pub fn start(
        settings: &config::Traces,
        service: &'static str,
        instance: &str,
        road: Road,
        metrics: &Metrics,
    ) -> Result<Traces, Error> {
        let Some(endpoint) = &settings.otlp_endpoint else { return Ok(Traces::off()) };
        let counts = metrics.spans();
        let exporter = export::exporter(endpoint, counts)?;
        // In the way of the Collector: what an environment says in OTEL_RESOURCE_ATTRIBUTES is added.
        let resource = Resource::builder()
            .with_service_name(service)
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", instance.to_owned()),
            ])
            .build();
        let config = BatchConfigBuilder::default().with_max_queue_size(QUEUE).build();
        let mut processor = BatchSpanProcessor::new(exporter, config);
        processor.set_resource(&resource);
        let made = counts.made.clone();
        Ok(Traces(Some(Arc::new(Inner { sample_ratio: settings.sample_ratio, road, made, processor }))))
    }

    /// The deliveries among what a handled batch publishes carry the step of sending them from now on.
    pub(crate) fn hop(&self, taken: SystemTime, outputs: &mut [OutRecord]) -> Option<Hops> {
        let inner = self.0.as_ref()?;
        let sent = hop::hop(outputs, inner.road, inner.sample_ratio);
        Some(Hops { sent, taken, handled: SystemTime::now() })
    }

    /// Tells of a batch that is committed.
    pub(crate) fn committed(&self, group: &str, batch: &Batch, outputs: &[OutRecord], hops: Option<&Hops>) {
        let (Some(inner), Some(hops)) = (&self.0, hops) else { return };
        let times = Times { taken: hops.taken, handled: hops.handled, committed: SystemTime::now() };
        let told = Told { group, records: &batch.records, outputs, sent: &hops.sent, times };
        for span in spans::of_batch(&told) {
            inner.made.inc();
            inner.processor.on_end(span);
        }
    }

    /// Tells what is left to tell, as long as a collector may take for it.
    pub async fn close(self) {
        let Some(inner) = self.0 else { return };
        // It blocks until the last request is answered or five seconds are over. A collector that is away is counted already.
        let _ = tokio::task::spawn_blocking(move || inner.processor.shutdown()).await;
    }
}
