//! The hand on the delay topics: lets heads pass when their hop is over, and publishes what is due.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tracing::debug;
use wal_model::parked::{NotParked, Parked, Rest};
use wal_model::topics::Topics;
use wal_model::{Clock, Code, InRecord, OutRecord, Priority, Refusal, Timestamp, Topic, record, wire};
use wal_runtime::batch_loop::{Batch, CannotGoOn, Gate, Handler, Look};
use wal_runtime::brokers::{self, Brokers, Shapes};

use crate::clearing::Clearing;
use crate::due;
use crate::overdue::Overdue;
use crate::tally::Tally;
use crate::tools::Tools;

/// How far the clocks of two schedulers may be apart for a head to be believed. Nothing but the clock of its own parker says when a hop
/// began; whoever could write that it begins next year would hold up everything behind it.
const SKEW: Duration = Duration::from_secs(10);
/// Targets of what is due this soon are asked for: the brokers may take a while to answer, and what is due must not wait for them.
const SOON: Duration = Duration::from_secs(1);
/// How soon a head is looked at again, however long its hop is. Whoever rests does so by a clock that is never set and stands still while the
/// machine is suspended; the clock by which a hop ends may be set forward meanwhile.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// When what cannot be believed counts as due: before all that was ever due.
const STRANGE: Timestamp = Timestamp::EPOCH;

/// Lets a head pass when its hop is over.
pub(crate) struct DelayGate {
    pub clock: Arc<dyn Clock>,
    pub topics: Topics,
    pub overdue: Arc<Overdue>,
    /// Has somebody ask about a target that will be published to soon.
    pub foresee: Box<dyn Fn(&Topic) + Send + Sync>,
}

impl Gate for DelayGate {
    fn look(&self, head: &InRecord) -> Look {
        let look = look(head, &self.topics, self.clock.now());
        match look {
            Look::Pass { due, .. } if due != STRANGE => self.overdue.passed(head, due),
            // Looked at once more before it is over.
            Look::Rest(rest) if rest > SOON => return Look::Rest((rest - SOON).min(LOOK_AGAIN)),
            Look::Rest(_) => self.foresee(head),
            Look::Pass { .. } => {}
        }
        look
    }
}

impl DelayGate {
    /// Nothing comes of it but a question, so nothing is proven first.
    fn foresee(&self, head: &InRecord) {
        let target = record::last_str(&head.headers, wire::CE_WALTARGET);
        if let Some(target) = target.and_then(|target| Topic::parse(target).ok()) {
            (self.foresee)(&target);
        }
    }
}

/// What is not ours, or not where we parked it, passes at once: the hand looks closer and holds up nobody.
fn look(head: &InRecord, topics: &Topics, now: Timestamp) -> Look {
    let at_once = Look::Pass { priority: Priority::High, due: STRANGE };
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
    pub tools: Arc<Tools<B>>,
    pub group: String,
    pub overdue: Arc<Overdue>,
    /// What deletes behind the work; none where nothing is to be deleted.
    pub clearing: Option<Clearing>,
    pub pending: Mutex<Pending>,
}

/// The batch at hand, and what it will have done once it is committed.
#[derive(Default)]
pub(crate) struct Pending {
    tally: Tally,
    /// The last record of each partition.
    last: Vec<InRecord>,
}

impl<B: Brokers> Handler for Releases<B> {
    type Handled = Vec<OutRecord>;

    async fn handle(&self, batch: &Batch) -> Result<Vec<OutRecord>, CannotGoOn> {
        self.tools.cancels.caught_up().await;
        let heads: Vec<Result<Parked, NotParked>> =
            batch.records.iter().map(|record| Parked::decode(record, &self.tools.keyring)).collect();
        let mut shapes = self.targets(&heads).await;
        // Read once: an older time only makes less due.
        let now = self.tools.clock.now();
        let dead_letters = self.dead_letters(&heads, &shapes, now);
        shapes.extend(self.tools.dead_letters(dead_letters).await);
        let mut tally = Tally::default();
        let outputs = self.outputs(batch, heads, &shapes, now, &mut tally);
        *self.pending() = Pending { tally, last: last(&batch.records) };
        Ok(outputs)
    }

    async fn outputs(&self, _: &Batch, outputs: Vec<OutRecord>) -> Result<Vec<OutRecord>, CannotGoOn> {
        Ok(outputs)
    }

    /// Publishes nothing: it is the moment to forget what moved away and to delete what was released.
    async fn tick(&self, batch: &Batch) -> Result<Vec<OutRecord>, CannotGoOn> {
        self.overdue.keep(|partition| batch.places.contains_key(partition));
        if let Some(clearing) = &self.clearing {
            clearing.tick(&batch.places);
        }
        Ok(Vec::new())
    }

    fn committed(&self, _: &Batch) {
        let Pending { tally, last } = std::mem::take(&mut *self.pending());
        self.overdue.committed(&last);
        self.tools.meter.add(tally, self.tools.clock.now());
    }

    fn given_up(&self) {
        *self.pending() = Pending::default();
        self.tools.brokers.forget();
    }
}

impl<B: Brokers> Releases<B> {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().expect("nothing panics while it is held")
    }

    /// The shapes of the targets of what is due, or will be in a moment.
    async fn targets(&self, heads: &[Result<Parked, NotParked>]) -> Shapes {
        let soon = self.tools.clock.now().saturating_add(SOON);
        let due = heads.iter().flatten().filter(|parked| parked.due <= soon);
        let targets: HashSet<Topic> = due.map(|parked| parked.delivery.target.clone()).collect();
        self.tools.targets(targets).await
    }

    /// The dead-letter topics that may be needed.
    fn dead_letters(&self, heads: &[Result<Parked, NotParked>], shapes: &Shapes, now: Timestamp) -> HashSet<Topic> {
        let mut topics = HashSet::new();
        for head in heads {
            match head {
                Err(_) => drop(topics.insert(self.tools.topics.dead_requests())),
                Ok(Parked { delivery, due, .. }) => {
                    let is_due = *due <= now && !brokers::is_known(shapes, &delivery.target);
                    if is_due || now > delivery.deadline {
                        topics.insert(self.tools.topics.dead_entries(delivery.log_id.namespace()));
                        topics.insert(self.tools.topics.dead_requests());
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
        tally: &mut Tally,
    ) -> Vec<OutRecord> {
        let press = self.tools.press(&self.group, shapes, now);
        let mut outputs = Vec::with_capacity(heads.len());
        for (record, head) in batch.records.iter().zip(heads) {
            match head {
                Ok(parked) => {
                    let delivery = &parked.delivery;
                    let is_cancelled = self.tools.cancels.covers(&delivery.log_id, delivery.round);
                    let step = due::step(&parked, is_cancelled, &self.tools.waits, now);
                    outputs.extend(press.released(record, parked, step, tally));
                }
                Err(error) => {
                    debug!(record = %record.coordinates(), %error, "nothing that was parked here");
                    let refusal = Refusal::new(Code::ParkedInvalid, error);
                    outputs.push(press.refused(record, &refusal, tally));
                }
            }
        }
        outputs
    }
}

/// The last record of each partition, without what it carries.
fn last(records: &[InRecord]) -> Vec<InRecord> {
    let mut last: HashMap<(&Topic, i32), &InRecord> = HashMap::new();
    for record in records {
        last.insert((&record.topic, record.partition), record);
    }
    let bare = |record: &InRecord| InRecord { key: None, value: None, headers: Vec::new(), ..record.clone() };
    last.into_values().map(bare).collect()
}
