//! Which records are finished, and how far offsets may move: only over a finished prefix. Pure.
//!
//! ```text
//!   the records of a partition, in order:    ■ ■ ■ ■ □ ■ ■ □ ■        ■ finished, with an answer or without    □ unfinished
//!                                  committed ┘     │ └─ wait ─┘
//!                                                  └ how far the next transaction moves it, with the answers of these four
//! ```
//!
//! An answer is published in the very transaction that moves the offset past its record. A crash before it leaves neither, so the
//! record comes again and is answered once; a crash after it leaves both. An answer that went ahead of its offset would be there
//! when its record comes again and is answered again: a retry doubled. That is why answers beyond an unfinished record wait.

use std::collections::{BTreeMap, HashMap, VecDeque};

use wal_model::OutRecord;
use wal_model::record::InRecord;

use super::Partition;

/// A record that was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) partition: Partition,
    /// The partition's assignment under which it was read.
    pub(super) assignment: u64,
    pub(super) offset: i64,
}

impl Place {
    pub(super) fn of(record: &InRecord, assignment: u64) -> Place {
        Place { partition: (record.topic.clone(), record.partition), assignment, offset: record.offset }
    }
}

/// What is to be done in one transaction.
#[derive(Debug, Default)]
pub(super) struct Prefix {
    /// The answers, each partition's in order.
    pub(super) answers: Vec<OutRecord>,
    /// The next record of each partition.
    pub(super) next: HashMap<Partition, i64>,
}

/// Whether what is said of a record still counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It counts.
    InTime,
    /// The partition moved away meanwhile: the record comes again, here or elsewhere.
    TooLate,
}

/// The partitions that are ours. `T` is what goes with a finished record until its offset is committed.
pub(super) struct Ledger<T> {
    tracks: BTreeMap<Partition, Track<T>>,
    /// Unfinished and waiting records of one partition, at most.
    depth: usize,
}

struct Track<T> {
    assignment: u64,
    /// Where the group stands in Kafka; `None` if that is not known, or if it stands nowhere yet.
    committed: Option<i64>,
    /// From the first record that is not committed on, in the order of their offsets.
    records: VecDeque<Record<T>>,
    /// Every record before it was handed out: the end of the partition, past the marks that transactions leave behind the last record.
    /// A place before such marks would be lost as soon as retention takes them.
    end: Option<i64>,
    /// Set while the outcome of a transaction is not known.
    tried: Option<Tried>,
}

/// What a transaction is to do in one partition.
#[derive(Clone, Copy)]
struct Tried {
    records: usize,
    next: i64,
}

struct Record<T> {
    offset: i64,
    fate: Fate<T>,
}

enum Fate<T> {
    Unfinished,
    /// Nobody will ever finish it under this assignment.
    Dropped {
        _kept: T,
    },
    Finished {
        answer: Option<OutRecord>,
        _kept: T,
    },
}

impl<T> Record<T> {
    fn is_finished(&self) -> bool {
        matches!(self.fate, Fate::Finished { .. })
    }
}

impl<T> Track<T> {
    /// The first offset that was not handed out, as far as is known.
    fn expected(&self) -> Option<i64> {
        let last = self.records.back().map(|record| record.offset + 1);
        last.max(self.end).max(self.committed)
    }

    /// How far the offset may move.
    fn finished(&self) -> Option<Tried> {
        let records = self.records.iter().take_while(|record| record.is_finished()).count();
        let last = records.checked_sub(1).map(|last| self.records[last].offset + 1);
        let next = if records == self.records.len() { last.max(self.end) } else { last };
        let next = next.filter(|next| self.committed.is_none_or(|committed| *next > committed))?;
        Some(Tried { records, next })
    }

    fn commit(&mut self, Tried { records, next }: Tried) {
        self.committed = Some(next);
        self.records.drain(..records);
        self.tried = None;
    }

    /// Whether a place in Kafka is the one before the transaction: between it and the first record lie at most marks of transactions.
    fn is_before(&self, place: i64, tried: Tried) -> bool {
        let first = self.records.front().map_or(tried.next, |record| record.offset);
        self.committed.is_none_or(|committed| place >= committed) && place <= first
    }
}

impl<T> Ledger<T> {
    pub(super) fn new(depth: usize) -> Ledger<T> {
        Ledger { tracks: BTreeMap::new(), depth }
    }

    /// A partition is ours, under a number that no other assignment of it has; what was known of it is forgotten.
    pub(super) fn assign(&mut self, partition: Partition, assignment: u64, committed: Option<i64>) {
        let (records, end, tried) = (VecDeque::new(), None, None);
        self.tracks.insert(partition, Track { assignment, committed, records, end, tried });
    }

    /// A partition is not ours any more.
    pub(super) fn revoke(&mut self, partition: &Partition) {
        self.tracks.remove(partition);
    }

    /// How many more records of a partition may be handed out.
    pub(super) fn room(&self, partition: &Partition) -> usize {
        self.tracks.get(partition).map_or(0, |track| self.depth.saturating_sub(track.records.len()))
    }

    /// A record is handed out: its place, or `None` if it is held already or its partition is not ours.
    pub(super) fn hand_out(&mut self, record: &InRecord) -> Option<Place> {
        let track = self.tracks.get_mut(&(record.topic.clone(), record.partition))?;
        if track.expected().is_some_and(|expected| record.offset < expected) {
            return None;
        }
        track.records.push_back(Record { offset: record.offset, fate: Fate::Unfinished });
        Some(Place::of(record, track.assignment))
    }

    /// Everything before this offset was handed out.
    pub(super) fn end(&mut self, partition: &Partition, end: i64) {
        if let Some(track) = self.tracks.get_mut(partition) {
            track.end = track.end.max(Some(end));
        }
    }

    /// The first offset of a partition that was not handed out, as far as is known.
    pub(super) fn expected(&self, partition: &Partition) -> Option<i64> {
        self.tracks.get(partition)?.expected()
    }

    /// A record is finished. `kept` is dropped when its offset is committed, or at once if it is too late.
    pub(super) fn finish(&mut self, place: &Place, answer: Option<OutRecord>, kept: T) -> Heard {
        self.decide(place, Fate::Finished { answer, _kept: kept })
    }

    /// A record will never be finished: it holds back its partition, and its share of the room, until the partition is read anew.
    pub(super) fn drop_unfinished(&mut self, place: &Place, kept: T) -> Heard {
        self.decide(place, Fate::Dropped { _kept: kept })
    }

    fn decide(&mut self, place: &Place, fate: Fate<T>) -> Heard {
        let track = self.tracks.get_mut(&place.partition).filter(|track| track.assignment == place.assignment);
        let Some(track) = track else { return Heard::TooLate };
        let at = track.records.partition_point(|record| record.offset < place.offset);
        match track.records.get_mut(at) {
            Some(record) if record.offset == place.offset => {
                record.fate = fate;
                Heard::InTime
            }
            _ => Heard::TooLate,
        }
    }

    /// What is finished and not committed, for one transaction; `None` if nothing is. The outcome must be told before the next.
    pub(super) fn prefix(&mut self) -> Option<Prefix> {
        assert!(self.in_doubt().is_empty(), "one transaction at a time");
        let mut prefix = Prefix::default();
        for (partition, track) in &mut self.tracks {
            let Some(finished) = track.finished() else { continue };
            prefix.next.insert(partition.clone(), finished.next);
            let answers = track.records.iter().take(finished.records).filter_map(|record| match &record.fate {
                Fate::Finished { answer, .. } => answer.clone(),
                Fate::Unfinished | Fate::Dropped { .. } => None,
            });
            prefix.answers.extend(answers);
            track.tried = Some(finished);
        }
        (!prefix.next.is_empty()).then_some(prefix)
    }

    /// Whether a record is finished that stands first in its partition.
    pub(super) fn has_prefix(&self) -> bool {
        self.tracks.values().any(|track| track.records.front().is_some_and(Record::is_finished))
    }

    /// Whether some offset may move, be it only past marks of transactions.
    pub(super) fn is_ahead(&self) -> bool {
        self.tracks.values().any(|track| track.finished().is_some())
    }

    /// The transaction is committed.
    pub(super) fn committed(&mut self) {
        for track in self.tracks.values_mut() {
            if let Some(tried) = track.tried {
                track.commit(tried);
            }
        }
    }

    /// The partitions of a transaction whose outcome is not known.
    pub(super) fn in_doubt(&self) -> Vec<Partition> {
        let tried = self.tracks.iter().filter(|(_, track)| track.tried.is_some());
        tried.map(|(partition, _)| partition.clone()).collect()
    }

    /// The transaction's outcome is read from what is committed for the group, now that nothing of it is open any more. Tells which
    /// partitions stand neither where they stood before it nor where it moved them: they must be read anew.
    pub(super) fn reconcile(&mut self, committed: &HashMap<Partition, i64>) -> Vec<Partition> {
        let mut elsewhere = Vec::new();
        for (partition, track) in &mut self.tracks {
            let Some(tried) = track.tried.take() else { continue };
            match committed.get(partition) {
                Some(place) if *place == tried.next => track.commit(tried),
                Some(place) if !track.is_before(*place, tried) => elsewhere.push(partition.clone()),
                // No offset at all: this would have been the group's first.
                Some(_) | None => {}
            }
        }
        elsewhere
    }
}

#[cfg(test)]
mod tests;
