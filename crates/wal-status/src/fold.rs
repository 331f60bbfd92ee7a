//! The hand that folds: reads what was said, has the store fold it, and says what is to be published.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{debug, warn};
use wal_model::ack::Ack;
use wal_model::record::{Header, InRecord, OutRecord};
use wal_model::seal::Keyring;
use wal_model::status::State;
use wal_model::topics::Topics;
use wal_model::{Clock, Code, EntryKey, Refusal, Timestamp, dead_letter, state_record, wire};
use wal_runtime::batch_loop::{Batch, CannotGoOn, Handler};
use wal_runtime::failpoint;
use wal_store::patience::Damaged;
use wal_store::{Applied, Patient};

use crate::brokers::{Brokers, DeadLetters, Freshness, Shape};
use crate::config::Config;
use crate::counts::{Counts, Tally};
use crate::read::{self, Said, Told};
use crate::sweep::{Memory, Staged};

/// How long the store is left alone where a batch mostly asks it again, and brokers that do not answer.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// Everything a batch needs on its way through.
pub(crate) struct Fold<B> {
    pub store: Patient,
    pub brokers: B,
    pub clock: Arc<dyn Clock>,
    pub keyring: Keyring,
    pub topics: Topics,
    pub group: String,
    pub config: Config,
    pub counts: Arc<Counts>,
    pub memory: Mutex<Memory>,
}

impl<B: Brokers> Handler for Fold<B> {
    type Handled = Vec<OutRecord>;

    async fn handle(&self, batch: &Batch) -> Result<Vec<OutRecord>, CannotGoOn> {
        self.fold(&batch.records).await
    }

    async fn outputs(&self, _: &Batch, outputs: Vec<OutRecord>) -> Result<Vec<OutRecord>, CannotGoOn> {
        Ok(outputs)
    }

    async fn tick(&self, batch: &Batch) -> Result<Vec<OutRecord>, CannotGoOn> {
        self.sweep(batch).await
    }

    fn committed(&self, _: &Batch) {
        let mut memory = self.memory();
        let tally = memory.committed();
        self.counts.add(&tally);
    }

    fn given_up(&self) {
        self.memory().given_up();
        self.brokers.forget();
    }
}

/// What is to be published for a batch, and what is to be counted when it is.
#[derive(Default)]
struct Outcome<'a> {
    outputs: Vec<OutRecord>,
    refused: Vec<(&'a InRecord, Refusal)>,
    tally: Tally,
}

impl<B: Brokers> Fold<B> {
    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        // What it holds is whole between any two statements that change it.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fold(&self, records: &[InRecord]) -> Result<Vec<OutRecord>, CannotGoOn> {
        let shape = self.shape(records.iter().map(|record| record.partition).max()).await;
        let said = records.iter().map(|record| read::read(record, &self.keyring, shape.partitions));
        let mut outcome = Outcome::default();
        let events = sort(records.iter().zip(said), shape, &mut outcome);
        if is_mostly_asked_again(&events, records.len()) {
            tokio::time::sleep(ASK_AGAIN).await;
        }
        let acks: Vec<Ack> = events.iter().map(|(_, told)| told.ack.clone()).collect();
        let applied = self.store.apply(&acks).await.map_err(cannot_go_on)?;
        failpoint::hit("after-apply");
        let now = self.clock.now();
        let states = take_in(events, applied, shape, self.config.unknown_wait, now, &mut outcome);
        self.memory().spoken_of(states.keys());
        let Outcome { mut outputs, refused, tally } = outcome;
        let status = |(ack, state): &(Ack, Box<State>)| {
            state_record::encode(&ack.log_id, ack.tenant.as_ref(), state, self.topics.status())
        };
        outputs.extend(states.values().map(status));
        if !refused.is_empty() {
            let to = self.dead_letters().await;
            outputs.extend(refused.into_iter().map(|(record, refusal)| self.dead_letter(record, &refusal, &to)));
        }
        self.memory().staged = Staged { tally, tombstoned: None };
        Ok(outputs)
    }

    /// What refused answers become is no dead entry, so it does not go where those of its namespace go.
    fn dead_letter(&self, record: &InRecord, refusal: &Refusal, to: &DeadLetters) -> OutRecord {
        debug!(record = %record.coordinates(), code = %refusal.code, message = refusal.message, "record refused");
        dead_letter::encode(record, refusal, &self.group, None, Vec::new(), to.topic.clone(), to.limit)
    }

    /// The shape of `wal.acks`; asks until it is answered. A partition that should not be there tells that it has grown.
    async fn shape(&self, highest: Option<i32>) -> Shape {
        let mut freshness = Freshness::Remembered;
        loop {
            match self.brokers.shape(freshness).await {
                Ok(shape) if highest.is_none_or(|highest| highest < shape.partitions) => return shape,
                Ok(shape) if freshness == Freshness::Remembered => {
                    debug!(partitions = shape.partitions, highest, "there are more partitions than was known");
                    freshness = Freshness::Now;
                }
                Ok(shape) => {
                    warn!(partitions = shape.partitions, highest, "the brokers do not know a partition that was read");
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                Err(why) => {
                    warn!(why, "the brokers do not answer");
                    tokio::time::sleep(ASK_AGAIN).await;
                }
            }
        }
    }

    async fn dead_letters(&self) -> DeadLetters {
        loop {
            match self.brokers.dead_letters().await {
                Ok(dead_letters) => return dead_letters,
                Err(why) => {
                    warn!(why, "the brokers do not answer");
                    tokio::time::sleep(ASK_AGAIN).await;
                }
            }
        }
    }
}

pub(crate) fn cannot_go_on(damaged: Damaged) -> CannotGoOn {
    CannotGoOn(damaged.to_string())
}

/// An event and the record that told it.
type Event<'a> = (&'a InRecord, Box<Told>);

/// Sorts out what is to be folded.
fn sort<'a>(
    records: impl Iterator<Item = (&'a InRecord, Said)>,
    shape: Shape,
    outcome: &mut Outcome<'a>,
) -> Vec<Event<'a>> {
    let mut events = Vec::new();
    for (record, said) in records {
        match said {
            Said::Event(told) => match moved(record, &told, shape) {
                Some(moved) => {
                    outcome.tally.moved += 1;
                    outcome.outputs.push(moved);
                }
                None => events.push((record, told)),
            },
            Said::Ignored => outcome.tally.ignored += 1,
            Said::Refused(refusal) => refuse(record, refusal, outcome),
        }
    }
    events
}

fn refuse<'a>(record: &'a InRecord, refusal: Refusal, outcome: &mut Outcome<'a>) {
    outcome.tally.refuse(refusal.code);
    outcome.refused.push((record, refusal));
}

/// Whether at least half of a batch was asked for before. Then it can wait, and whatever came with it does so for a moment; else what
/// is asked again costs no more than what is new.
fn is_mostly_asked_again(events: &[Event<'_>], records: usize) -> bool {
    let again = events.iter().filter(|(_, told)| told.unknown_since.is_some()).count();
    again > 0 && 2 * again >= records
}

/// The record for the partition it belongs in. None where it stands right, or would not fit as it must be: to fold it here is as good
/// for its entry, only its place on `wal.status` beside later ones is then not certain.
fn moved(record: &InRecord, told: &Told, shape: Shape) -> Option<OutRecord> {
    let partition = told.belongs_in?;
    let mut headers = record.headers.clone();
    headers.push(Header::new(wire::CE_WALMOVED, "true"));
    let key = Some(read::key(&told.ack));
    fitting(OutRecord { partition: Some(partition), headers, key, ..again(record) }, shape)
}

/// The record for the end of its own partition, with the time since when its entry is looked for.
fn asked_again(record: &InRecord, since: Timestamp, shape: Shape) -> Option<OutRecord> {
    let mut out = again(record);
    out.headers.retain(|header| !header.is(wire::CE_WALUNKNOWNSINCE));
    out.headers.push(Header::new(wire::CE_WALUNKNOWNSINCE, since.to_string()));
    fitting(out, shape)
}

fn again(record: &InRecord) -> OutRecord {
    OutRecord {
        topic: record.topic.clone(),
        partition: Some(record.partition),
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.clone(),
    }
}

fn fitting(out: OutRecord, shape: Shape) -> Option<OutRecord> {
    (out.size_as_batch() <= shape.max_message_bytes).then_some(out)
}

/// Since when an entry that was not found is looked for; `None` when that is long enough.
fn looked_for_since(noted: Option<Timestamp>, wait: Duration, now: Timestamp) -> Option<Timestamp> {
    let since = noted.map_or(now, |noted| noted.min(now));
    (now.saturating_since(since) < wait).then_some(since)
}

/// Takes in what the store answered; gives the states that are stored now, one for each entry.
fn take_in<'a>(
    events: Vec<Event<'a>>,
    applied: Vec<Applied>,
    shape: Shape,
    unknown_wait: Duration,
    now: Timestamp,
    outcome: &mut Outcome<'a>,
) -> BTreeMap<EntryKey, (Ack, Box<State>)> {
    let mut states = BTreeMap::new();
    for ((record, told), applied) in events.into_iter().zip(applied) {
        let Told { ack, unknown_since, .. } = *told;
        match applied {
            Applied::State(state) => {
                match is_part_of(&ack, &state) {
                    true => outcome.tally.folded += 1,
                    false => outcome.tally.repeated += 1,
                }
                // The store folds all events of an entry before it answers, so every answer is the same.
                states.insert(ack.log_id.key(), (ack, state));
            }
            Applied::Unknown => {
                let since = looked_for_since(unknown_since, unknown_wait, now);
                match since.and_then(|since| asked_again(record, since, shape)) {
                    Some(again) => {
                        outcome.tally.unknown += 1;
                        outcome.outputs.push(again);
                    }
                    None => refuse(record, unknown_entry(&ack, "is not in the store"), outcome),
                }
            }
            Applied::Other => {
                let what = "is not in the store; what is there under its key has another log id or tenant";
                refuse(record, unknown_entry(&ack, what), outcome);
            }
        }
    }
    states
}

fn unknown_entry(ack: &Ack, what: &str) -> Refusal {
    Refusal::new(Code::AckUnknownEntry, format_args!("{} {what}", ack.log_id))
}

/// Whether a state rests on an event: it stands, or it is what is kept of its attempt.
fn is_part_of(ack: &Ack, state: &State) -> bool {
    let id = ack.event.id;
    state.standing.id == id || state.history.get(&ack.event.attempt).is_some_and(|kept| kept.id == id)
}

#[cfg(test)]
mod tests {
    use wal_store::samples::{WRITTEN_AT, time};

    use super::*;

    #[test]
    fn an_entry_is_looked_for_as_long_as_it_was_told_and_no_note_prolongs_that() {
        let (wait, now) = (Duration::from_secs(30), time(WRITTEN_AT));
        let since = |millis| looked_for_since(Some(time(WRITTEN_AT + millis)), wait, now);
        assert_eq!(looked_for_since(None, wait, now), Some(now));
        assert_eq!(since(-29_999), Some(time(WRITTEN_AT - 29_999)));
        assert_eq!(since(-30_000), None);
        assert_eq!(since(-1_000_000_000), None);
        assert_eq!(since(1_000_000_000), Some(now));
        assert_eq!(looked_for_since(None, Duration::ZERO, now), None);
    }
}
