//! An observer of a batch loop that counts.

use std::sync::Arc;

use super::{BatchEnd, Counter, Metrics, Service, ServiceBatch};
use crate::batch_loop::Observer;

/// Counts batches and rewinds of one service, and passes everything on.
pub struct Counting {
    committed: Counter,
    given_up: Counter,
    records: Counter,
    published: Counter,
    rewinds: Counter,
    next: Arc<dyn Observer>,
}

impl Counting {
    /// For the batch loop of `service`.
    pub fn new(metrics: &Metrics, service: &'static str, next: Arc<dyn Observer>) -> Counting {
        let batches = metrics.batches();
        let own = Service::new(service);
        Counting {
            committed: batches.batches.of(&ServiceBatch::new(service, BatchEnd::Committed)),
            given_up: batches.batches.of(&ServiceBatch::new(service, BatchEnd::GivenUp)),
            records: batches.records.of(&own),
            published: batches.published.of(&own),
            rewinds: batches.rewinds.of(&own),
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
}
