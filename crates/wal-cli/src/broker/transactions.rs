//! Open transactions, held in memory until they end.
//!
//! ```text
//!   init -> idle --add partition or group--> open --commit--> idle   (the ledger writes what was held, at once)
//!            ^                                |
//!            +---------- abort, init ---------+                      (what was held is dropped)
//! ```
//!
//! Nothing of an open transaction is in the log, so readers never see an aborted record, never wait for somebody
//! else's transaction, and a killed broker has aborted whatever was open. The price: a producer must ask for its id
//! anew after the broker restarted, which is what `ProducerFenced` tells it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    time::{Duration, Instant},
};

use tansu_sans_io::{ErrorCode, record::deflated::Batch};

use super::batch::{Place, Stamp, Write, sequence_after, size};

/// A transaction larger than this is refused record by record, so that it aborts instead of filling the memory.
/// Well above what one of our batches holds (a few thousand entries), well below a laptop's memory.
const MAX_HELD_BYTES: usize = 256 * 1024 * 1024;

/// Who a producer is: its id, and how many times that id was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Producer {
    pub(super) id: i64,
    pub(super) epoch: i16,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Commit,
    Abort,
}

/// An offset to be committed, with what the client wants to remember beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) offset: i64,
    pub(super) leader_epoch: i32,
    pub(super) metadata: Option<String>,
}

/// What a transaction has gathered so far.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) writes: Vec<Write>,
    pub(super) positions: BTreeMap<(String, Place), Position>,
    places: BTreeSet<Place>,
    groups: BTreeSet<String>,
    bytes: usize,
}

#[derive(Debug)]
enum State {
    Idle { ended: Option<Outcome> },
    Open { since: Instant, held: Held },
}

#[derive(Debug)]
struct Session {
    producer: Producer,
    timeout: Duration,
    next_sequences: HashMap<Place, i32>,
    state: State,
}

/// Every transactional producer that asked for its id since the broker started.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    sessions: HashMap<String, Session>,
}

impl Transactions {
    /// Begins a new life of this transactional id; whatever its former life held is dropped.
    pub(super) fn start(&mut self, name: &str, producer: Producer, timeout: Duration) {
        let session = Session { producer, timeout, next_sequences: HashMap::new(), state: State::Idle { ended: None } };
        self.sessions.insert(name.to_owned(), session);
    }

    /// Whether `producer` is the present life of this transactional id.
    pub(super) fn is_current(&self, name: &str, producer: Producer) -> bool {
        self.sessions.get(name).is_some_and(|session| session.producer == producer)
    }

    pub(super) fn add_partitions(
        &mut self,
        name: &str,
        producer: Producer,
        now: Instant,
        places: impl IntoIterator<Item = Place>,
    ) -> Result<(), ErrorCode> {
        self.open(name, producer, now)?.places.extend(places);
        Ok(())
    }

    pub(super) fn add_group(
        &mut self,
        name: &str,
        producer: Producer,
        now: Instant,
        group: String,
    ) -> Result<(), ErrorCode> {
        self.open(name, producer, now)?.groups.insert(group);
        Ok(())
    }

    /// Keeps a batch until the transaction ends. Sent twice (an answer was lost), it is kept once.
    pub(super) fn hold_batch(
        &mut self,
        name: &str,
        now: Instant,
        place: Place,
        stamp: Stamp,
        batch: Batch,
    ) -> Result<(), ErrorCode> {
        let producer = Producer { id: batch.producer_id, epoch: batch.producer_epoch };
        let session = self.session(name, producer, now)?;
        let State::Open { held, .. } = &mut session.state else {
            return Err(ErrorCode::InvalidTxnState);
        };
        if !held.places.contains(&place) {
            return Err(ErrorCode::InvalidTxnState);
        }
        if held.bytes + size(&batch) > MAX_HELD_BYTES {
            return Err(ErrorCode::MessageTooLarge);
        }
        if let Some(&expected) = session.next_sequences.get(&place) {
            // Half of the sequence space behind us counts as past, as in TCP: the numbers wrap.
            let ahead = batch.base_sequence.wrapping_sub(expected) & i32::MAX;
            if ahead > i32::MAX / 2 {
                return Ok(());
            }
            if ahead > 0 {
                return Err(ErrorCode::OutOfOrderSequenceNumber);
            }
        }
        let next = sequence_after(batch.base_sequence, batch.record_count);
        session.next_sequences.insert(place, next);
        held.bytes += size(&batch);
        held.writes.push(Write { place, stamp, batch });
        Ok(())
    }

    /// Keeps offsets until the transaction ends; the last one given for a partition counts.
    pub(super) fn hold_positions(
        &mut self,
        name: &str,
        producer: Producer,
        now: Instant,
        group: &str,
        positions: Vec<(Place, Position)>,
    ) -> Result<(), ErrorCode> {
        let session = self.session(name, producer, now)?;
        let State::Open { held, .. } = &mut session.state else {
            return Err(ErrorCode::InvalidTxnState);
        };
        if !held.groups.contains(group) {
            return Err(ErrorCode::InvalidTxnState);
        }
        let named = positions.into_iter().map(|(place, position)| ((group.to_owned(), place), position));
        held.positions.extend(named);
        Ok(())
    }

    /// Ends the transaction and gives back what a commit has to write; `None`: there is nothing to write.
    /// Asked twice for the same outcome (the first answer was lost), the second time is harmless.
    pub(super) fn end(
        &mut self,
        name: &str,
        producer: Producer,
        now: Instant,
        outcome: Outcome,
    ) -> Result<Option<Held>, ErrorCode> {
        let session = self.session(name, producer, now)?;
        let ended = State::Idle { ended: Some(outcome) };
        match mem::replace(&mut session.state, ended) {
            State::Open { held, .. } => Ok((outcome == Outcome::Commit).then_some(held)),
            State::Idle { ended: Some(before) } if before == outcome => Ok(None),
            before @ State::Idle { .. } => {
                session.state = before;
                Err(ErrorCode::InvalidTxnState)
            }
        }
    }

    /// Fences this transactional id until it asks for an id anew.
    pub(super) fn forget(&mut self, name: &str) {
        self.sessions.remove(name);
    }

    /// Drops what timed-out transactions hold; their producers find themselves fenced.
    pub(super) fn expire(&mut self, now: Instant) {
        self.sessions.retain(|_, session| !session.is_expired(now));
    }

    fn open(&mut self, name: &str, producer: Producer, now: Instant) -> Result<&mut Held, ErrorCode> {
        let session = self.session(name, producer, now)?;
        if let State::Idle { .. } = session.state {
            session.state = State::Open { since: now, held: Held::default() };
        }
        match &mut session.state {
            State::Open { held, .. } => Ok(held),
            State::Idle { .. } => Err(ErrorCode::InvalidTxnState),
        }
    }

    fn session(&mut self, name: &str, producer: Producer, now: Instant) -> Result<&mut Session, ErrorCode> {
        if self.sessions.get(name).is_some_and(|session| session.is_expired(now)) {
            self.sessions.remove(name);
        }
        self.sessions.get_mut(name).filter(|session| session.producer == producer).ok_or(ErrorCode::ProducerFenced)
    }
}

impl Session {
    fn is_expired(&self, now: Instant) -> bool {
        match self.state {
            State::Open { since, .. } => now.duration_since(since) > self.timeout,
            State::Idle { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const PRODUCER: Producer = Producer { id: 4, epoch: 2 };
    const PLACE: Place = Place { topic: Uuid::nil(), partition: 0 };

    fn batch(base_sequence: i32) -> Batch {
        Batch {
            producer_id: PRODUCER.id,
            producer_epoch: PRODUCER.epoch,
            base_sequence,
            record_count: 2,
            last_offset_delta: 1,
            ..Batch::default()
        }
    }

    fn opened(now: Instant) -> Transactions {
        let mut transactions = Transactions::default();
        transactions.start("t", PRODUCER, Duration::from_secs(10));
        transactions.add_partitions("t", PRODUCER, now, [PLACE]).unwrap();
        transactions
    }

    #[test]
    fn commit_gives_back_what_was_held_and_abort_does_not() {
        let now = Instant::now();
        for (outcome, writes) in [(Outcome::Commit, Some(1)), (Outcome::Abort, None)] {
            let mut transactions = opened(now);
            transactions.hold_batch("t", now, PLACE, Stamp::Producer, batch(0)).unwrap();

            let held = transactions.end("t", PRODUCER, now, outcome).unwrap();

            assert_eq!(held.map(|held| held.writes.len()), writes);
        }
    }

    #[test]
    fn a_batch_sent_twice_is_held_once_and_a_gap_is_refused() {
        let now = Instant::now();
        let mut transactions = opened(now);
        let mut hold = |sequence| transactions.hold_batch("t", now, PLACE, Stamp::Producer, batch(sequence));

        assert_eq!(hold(0), Ok(()));
        assert_eq!(hold(0), Ok(()));
        assert_eq!(hold(4), Err(ErrorCode::OutOfOrderSequenceNumber));
        assert_eq!(hold(2), Ok(()));

        let held = transactions.end("t", PRODUCER, now, Outcome::Commit).unwrap().unwrap();
        assert_eq!(held.writes.len(), 2);
    }

    #[test]
    fn sequences_go_on_after_an_abort() {
        let now = Instant::now();
        let mut transactions = opened(now);
        transactions.hold_batch("t", now, PLACE, Stamp::Producer, batch(0)).unwrap();
        transactions.end("t", PRODUCER, now, Outcome::Abort).unwrap();
        transactions.add_partitions("t", PRODUCER, now, [PLACE]).unwrap();

        let next = transactions.hold_batch("t", now, PLACE, Stamp::Producer, batch(2));

        assert_eq!(next, Ok(()));
    }

    #[test]
    fn an_older_life_is_fenced() {
        let now = Instant::now();
        let mut transactions = opened(now);
        let newer = Producer { epoch: 3, ..PRODUCER };

        transactions.start("t", newer, Duration::from_secs(10));

        let late = transactions.end("t", PRODUCER, now, Outcome::Commit);
        assert!(matches!(late, Err(ErrorCode::ProducerFenced)));
    }

    #[test]
    fn an_expired_transaction_cannot_commit() {
        let now = Instant::now();
        let mut transactions = opened(now);

        let late = transactions.end("t", PRODUCER, now + Duration::from_secs(11), Outcome::Commit);

        assert!(matches!(late, Err(ErrorCode::ProducerFenced)));
    }

    #[test]
    fn ending_twice_the_same_way_is_harmless() {
        let now = Instant::now();
        let mut transactions = opened(now);

        let first = transactions.end("t", PRODUCER, now, Outcome::Commit);
        let second = transactions.end("t", PRODUCER, now, Outcome::Commit);
        let contrary = transactions.end("t", PRODUCER, now, Outcome::Abort);

        assert!(first.unwrap().is_some());
        assert!(second.unwrap().is_none());
        assert!(matches!(contrary, Err(ErrorCode::InvalidTxnState)));
    }
}
