//! What a batch will have done once it is committed, and where it is counted then: what is given up is not counted.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use wal_model::{Code, Coordinates, Entry, Namespace, Timestamp, Topic};
use wal_runtime::brokers::{self, Shapes};
use wal_runtime::metrics::{Append, Counter, Durations, Metrics, WaitedFor, Write};

use crate::admit::Case;
use crate::outputs::Settled;
use crate::settle::{self, Owed};

/// What one batch does.
#[derive(Debug)]
pub(crate) struct Tally {
    places: Vec<Place>,
    refused: HashMap<Code, u64>,
    handled: Instant,
}

/// What it does for the entries of one namespace with one target.
#[derive(Debug, PartialEq)]
struct Place {
    namespace: Namespace,
    target: Topic,
    stored: u64,
    repeated: u64,
    again: u64,
    bytes: u64,
    /// When the requests came whose deliveries are made.
    delivered: Vec<Timestamp>,
}

impl Tally {
    /// What a batch does of which this was settled, at `now`.
    pub(crate) fn of(cases: &[Case], settled: &[Settled], shapes: &Shapes, now: Timestamp) -> Tally {
        let mut refused = HashMap::new();
        let mut places: HashMap<(&Namespace, &Topic), Place> = HashMap::new();
        for (case, settled) in cases.iter().zip(settled) {
            match settled {
                Settled::Refused(refusal) => *refused.entry(refusal.code).or_default() += 1,
                Settled::Stored(entries) => {
                    for entry in entries {
                        let place =
                            places.entry((entry.namespace(), &entry.target)).or_insert_with(|| Place::of(entry));
                        place.add(entry, &case.coordinates, shapes, now);
                    }
                }
            }
        }
        Tally { places: places.into_values().collect(), refused, handled: Instant::now() }
    }
}

impl Place {
    fn of(entry: &Entry) -> Place {
        let (namespace, target) = (entry.namespace().clone(), entry.target.clone());
        Place { namespace, target, stored: 0, repeated: 0, again: 0, bytes: 0, delivered: Vec::new() }
    }

    fn add(&mut self, entry: &Entry, coordinates: &Coordinates, shapes: &Shapes, now: Timestamp) {
        match settle::owed(entry, coordinates) {
            Owed::Nothing => self.again += 1,
            Owed::Repeat => self.repeated += 1,
            Owed::Delivery => {
                self.stored += 1;
                self.bytes += entry.payload.len() as u64;
                let is_delivered = entry.deliver_at.is_none()
                    && now <= entry.state.deadline()
                    && brokers::is_known(shapes, &entry.target);
                if is_delivered {
                    self.delivered.push(coordinates.time);
                }
            }
        }
    }
}

/// Counts what is committed.
pub(crate) struct Meter {
    metrics: Metrics,
    validate: Durations,
    store: Durations,
    produce: Durations,
    brokers: Counter,
    target: Counter,
    /// What is being published.
    pending: Mutex<Option<Tally>>,
}

impl Meter {
    pub(crate) fn new(metrics: Metrics) -> Meter {
        let requests = metrics.requests();
        let took = |append: Append| requests.durations.of(&append.into());
        let waits = |waited_for: WaitedFor| requests.waits.of(&waited_for.into());
        Meter {
            validate: took(Append::Validate),
            store: took(Append::Store),
            produce: took(Append::Produce),
            brokers: waits(WaitedFor::Brokers),
            target: waits(WaitedFor::Target),
            pending: Mutex::default(),
            metrics,
        }
    }

    pub(crate) fn validated(&self, begun: Instant) {
        self.validate.observe(begun.elapsed());
    }

    pub(crate) fn stored(&self, begun: Instant) {
        self.store.observe(begun.elapsed());
    }

    pub(crate) fn waits(&self, waited_for: WaitedFor) {
        match waited_for {
            WaitedFor::Brokers => self.brokers.inc(),
            WaitedFor::Target => self.target.inc(),
        };
    }

    /// Keeps what a batch does until it is known whether it is committed; the one before it is.
    pub(crate) fn keep(&self, tally: Tally) {
        *self.pending() = Some(tally);
    }

    /// Counts what the batch did that was kept, which is committed at `now`.
    pub(crate) fn committed(&self, now: Timestamp) {
        let kept = self.pending().take();
        if let Some(tally) = kept {
            self.count(tally, now);
        }
    }

    /// What is being published is not committed.
    pub(crate) fn given_up(&self) {
        *self.pending() = None;
    }

    fn count(&self, tally: Tally, now: Timestamp) {
        self.produce.observe(tally.handled.elapsed());
        for (code, count) in tally.refused {
            self.metrics.requests().refused.of(&code.into()).inc_by(count);
        }
        for place in tally.places {
            let writes =
                [(Write::Stored, place.stored), (Write::Repeated, place.repeated), (Write::Again, place.again)];
            for (write, count) in writes.into_iter().filter(|(_, count)| *count > 0) {
                self.metrics.written(&place.namespace, write).inc_by(count);
            }
            self.metrics.bytes(&place.namespace).inc_by(place.bytes);
            if !place.delivered.is_empty() {
                let end_to_end = self.metrics.end_to_end(&place.namespace, &place.target);
                place.delivered.iter().for_each(|time| end_to_end.observe(now.saturating_since(*time)));
            }
        }
    }

    fn pending(&self) -> MutexGuard<'_, Option<Tally>> {
        // A panic elsewhere leaves a whole tally, or none.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
