//! An observer of a batch loop that counts.

use std::sync::Arc;
use std::time::Duration;

use wal_model::OutRecord;

use super::{BatchEnd, BatchStage, Counter, Durations, Metrics, Service, ServiceBatch, ServiceStage};
use crate::batch_loop::{Observer, Standing};

/// Counts batches, rewinds and fences of one service, and passes everything on.
pub struct Counting {
    service: &'static str,
    committed: Counter,
    given_up: Counter,
    records: Counter,
    published: Counter,
    rewinds: Counter,
    fences: Counter,
    handle: Durations,
    publish: Durations,
    metrics: Metrics,
    next: Arc<dyn Observer>,
}

impl Counting {
    /// For the batch loop of `service`.
    pub fn new(metrics: &Metrics, service: &'static str, next: Arc<dyn Observer>) -> Counting {
        let batches = metrics.batches();
        let own = Service::new(service);
        Counting {
            service,
            committed: batches.batches.of(&ServiceBatch::new(service, BatchEnd::Committed)),
            given_up: batches.batches.of(&ServiceBatch::new(service, BatchEnd::GivenUp)),
            records: batches.records.of(&own),
            published: batches.published.of(&own),
            rewinds: batches.rewinds.of(&own),
            fences: batches.fences.of(&own),
            handle: batches.durations.of(&ServiceStage::new(service, BatchStage::Handle)),
            publish: batches.durations.of(&ServiceStage::new(service, BatchStage::Publish)),
            metrics: metrics.clone(),
            next,
        }
    }
}

impl Observer for Counting {
    fn polled(&self) {
        self.next.polled();
    }

    fn assigned(&self) {
        self.next.assigned();
    }

    fn committed(&self, records: usize, published: usize) {
        self.committed.inc();
        self.records.inc_by(records as u64);
        self.published.inc_by(published as u64);
        self.next.committed(records, published);
    }

    fn rewound(&self, why: &str) {
        self.given_up.inc();
        self.rewinds.inc();
        self.next.rewound(why);
    }

    fn fenced(&self) {
        self.fences.inc();
        self.next.fenced();
    }

    fn handled(&self, took: Duration) {
        self.handle.observe(took);
        self.next.handled(took);
    }

    fn published(&self, took: Duration) {
        self.publish.observe(took);
        self.next.published(took);
    }

    fn dead_letter(&self, letter: &OutRecord) {
        self.metrics.dead_letter(letter).inc();
        self.next.dead_letter(letter);
    }

    fn stands(&self, group: &str, standing: &[Standing]) {
        self.metrics.stands(self.service, group, standing);
        self.next.stands(group, standing);
    }
}
