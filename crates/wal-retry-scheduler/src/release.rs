//! The hand on the delay topics: lets heads pass when their hop is over, and publishes what is due.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tracing::debug;
use wal_model::delay::Waits;
use wal_model::parked::{NotParked, Parked, Rest};
use wal_model::seal::Keyring;
use wal_model::topics::Topics;
use wal_model::{Clock, Code, InRecord, OutRecord, Priority, Refusal, Timestamp, Topic, record, wire};
use wal_runtime::batch_loop::{Batch, CannotGoOn, Gate, Handler, Look};
use wal_runtime::brokers::{self, Brokers, Shapes};

use crate::cancels::Cancels;
use crate::config::Config;
use crate::counts::{Counts, Tally, What};
use crate::due;
use crate::failures::dead_letter_shapes;
use crate::outputs::Press;

/// How far the clocks of two schedulers may be apart for a head to be believed. Nothing but the clock of its own parker says when a hop
/// began; whoever could write that it begins next year would hold up everything behind it.
const SKEW: Duration = Duration::from_secs(10);
/// Targets of what is due this soon are asked for too: it may be due by the time they have answered.
const SOON: Duration = Duration::from_secs(1);

/// Lets a head pass when its hop is over.
pub(crate) struct DelayGate {
    pub clock: Arc<dyn Clock>,
    pub topics: Topics,
}

impl Gate for DelayGate {
    fn look(&self, head: &InRecord) -> Look {
        look(head, &self.topics, self.clock.now())
    }
}

/// What is not ours, or not where we parked it, passes at once: the hand looks closer and holds up nobody.
fn look(head: &InRecord, topics: &Topics, now: Timestamp) -> Look {
    let at_once = Look::Pass { priority: Priority::High, due: Timestamp::EPOCH };
    let Ok(rest) = Rest::read(head) else { return at_once };
    let is_ours = topics.wait_of(&head.topic) == Some(rest.wait) && rest.parked_at <= now.saturating_add(SKEW);
    if !is_ours {
        return at_once;
    }
    match rest.until(now) {
        Some(until) => Look::Rest(until.saturating_since(now)),
        None => Look::Pass { priority: priority(head), due: rest.due },
    }
}

fn priority(head: &InRecord) -> Priority {
    let text = record::last_str(&head.headers, wire::CE_WALPRIORITY);
    text.and_then(|text| text.parse().ok()).unwrap_or(Priority::Normal)
}

/// Everything a batch of heads needs on its way through.
pub(crate) struct Releases<B> {
    pub brokers: B,
    pub cancels: Arc<Cancels>,
    pub clock: Arc<dyn Clock>,
    pub keyring: Keyring,
    pub topics: Topics,
    pub group: String,
    pub waits: Waits,
    pub config: Config,
    pub counts: Arc<Counts>,
    pub pending: Mutex<Pending>,
}

/// What the batch at hand will have done once it is committed.
#[derive(Default)]
pub(crate) struct Pending {
    tally: Tally,
    /// When what is published was due.
    due: Vec<Timestamp>,
}

impl<B: Brokers> Handler for Releases<B> {
    async fn handle(&self, batch: &Batch) -> Result<Vec<OutRecord>, CannotGoOn> {
        self.cancels.caught_up().await;
        let heads: Vec<Result<Parked, NotParked>> =
            batch.records.iter().map(|record| Parked::decode(record, &self.keyring)).collect();
        let mut shapes = self.targets(&heads).await;
        // Read once: an older time only makes less due.
        let now = self.clock.now();
        let dead_letters = self.dead_letters(&heads, &shapes, now);
        shapes.extend(dead_letter_shapes(&self.brokers, dead_letters).await);
        let mut pending = Pending::default();
        let outputs = self.outputs(batch, heads, &shapes, now, &mut pending);
        *self.pending() = pending;
        Ok(outputs)
    }

    fn committed(&self) {
        let Pending { tally, due } = std::mem::take(&mut *self.pending());
        self.counts.add(&tally);
        let now = self.clock.now();
        due.into_iter().for_each(|due| self.counts.late(now.saturating_since(due)));
    }

    fn given_up(&self) {
        *self.pending() = Pending::default();
        self.brokers.forget();
    }
}

impl<B: Brokers> Releases<B> {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().expect("nothing panics while it is held")
    }

    /// The shapes of the targets of what is due, or will be in a moment.
    async fn targets(&self, heads: &[Result<Parked, NotParked>]) -> Shapes {
        let soon = self.clock.now().saturating_add(SOON);
        let due = heads.iter().flatten().filter(|parked| parked.due <= soon);
        let targets: HashSet<&Topic> = due.map(|parked| &parked.delivery.target).collect();
        match targets.is_empty() {
            true => HashMap::new(),
            false => self.brokers.shapes(targets.into_iter().cloned().collect()).await,
        }
    }

    /// The dead-letter topics that may be needed.
    fn dead_letters(&self, heads: &[Result<Parked, NotParked>], shapes: &Shapes, now: Timestamp) -> HashSet<Topic> {
        let mut topics = HashSet::new();
        for head in heads {
            match head {
                Err(_) => drop(topics.insert(self.topics.dead_requests())),
                Ok(Parked { delivery, due, .. }) => {
                    let is_due = *due <= now && !brokers::is_known(shapes, &delivery.target);
                    if is_due || now > delivery.deadline {
                        topics.insert(self.topics.dead_entries(delivery.log_id.namespace()));
                        topics.insert(self.topics.dead_requests());
                    }
                }
            }
        }
        topics
    }

    fn outputs(
        &self,
        batch: &Batch,
        heads: Vec<Result<Parked, NotParked>>,
        shapes: &Shapes,
        now: Timestamp,
        pending: &mut Pending,
    ) -> Vec<OutRecord> {
        let press = Press {
            topics: &self.topics,
            keyring: &self.keyring,
            group: &self.group,
            waits: &self.waits,
            unknown_target_wait: self.config.unknown_target_wait,
            shapes,
            now,
        };
        let mut outputs = Vec::with_capacity(heads.len());
        for (record, head) in batch.records.iter().zip(heads) {
            match head {
                Ok(parked) => {
                    let delivery = &parked.delivery;
                    let is_cancelled = self.cancels.covers(&delivery.log_id, delivery.round);
                    let step = due::step(&parked, is_cancelled, &self.waits, now);
                    let (due, before) = (parked.due, pending.tally.get(What::Released));
                    outputs.extend(press.released(record, parked, step, &mut pending.tally));
                    if pending.tally.get(What::Released) > before {
                        pending.due.push(due);
                    }
                }
                Err(error) => {
                    debug!(record = %record.coordinates(), %error, "nothing that was parked here");
                    let refusal = Refusal::new(Code::ParkedInvalid, error);
                    outputs.push(press.forged(record, &refusal, &mut pending.tally));
                }
            }
        }
        outputs
    }
}
