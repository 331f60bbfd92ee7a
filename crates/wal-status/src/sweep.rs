//! The hand of a tick: looks for what has expired and what is to be purged, a bounded part at a time.

use std::collections::{BTreeSet, HashMap};

use tracing::{debug, warn};
use wal_model::ack::Ack;
use wal_model::delivery::Delivery;
use wal_model::record::OutRecord;
use wal_model::status::{Failure, Outcome, Reason};
use wal_model::{Code, Entry, EntryKey, LogId, Namespace, Refusal, Timestamp, dead_letter, partition, state_record};
use wal_runtime::batch_loop::{Batch, CannotGoOn, Place};
use wal_runtime::failpoint;

use crate::brokers::{Brokers, DeadLetters, Freshness, Shape};
use crate::counts::Tally;
use crate::expire::{self, Frontiers, Verdict};
use crate::fold::{Fold, cannot_go_on};
use crate::purge::{self, Tombstoned};

/// Entries past their deadline that are read at a time: with payloads of a megabyte that is a hundred megabytes.
const OVERDUE_PAGE: usize = 100;
/// The most such pages in one sweep.
const OVERDUE_PAGES: usize = 20;
/// Entries that one sweep purges. They are read without payload.
const FINISHED_PAGE: usize = 2000;

/// A place in the order of what is looked through.
type Cursor = Option<(Timestamp, EntryKey)>;

/// What one sweep leaves to the next. Nothing of it is needed to be right: all can be found out again.
pub(crate) struct Memory {
    frontiers: Frontiers,
    overdue_after: Cursor,
    /// How many pages of entries past their deadline a sweep may hold: fewer after each that could not be published in time.
    overdue_pages: usize,
    finished_after: Cursor,
    /// What becomes true when what was said last is committed.
    pub staged: Staged,
    tombstoned: Option<Tombstoned>,
}

/// What becomes true when a batch or a sweep is committed.
#[derive(Default)]
pub(crate) struct Staged {
    pub tally: Tally,
    pub tombstoned: Option<Tombstoned>,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory {
            frontiers: Frontiers::default(),
            overdue_after: None,
            overdue_pages: OVERDUE_PAGES,
            finished_after: None,
            staged: Staged::default(),
            tombstoned: None,
        }
    }
}

impl Memory {
    /// What was said last is committed; what is to be counted for it.
    pub(crate) fn committed(&mut self) -> Tally {
        let Staged { tally, tombstoned } = std::mem::take(&mut self.staged);
        if tally.expired > 0 {
            self.overdue_pages = (self.overdue_pages + 1).min(OVERDUE_PAGES);
        }
        if tombstoned.is_some() {
            self.tombstoned = tombstoned;
        }
        tally
    }

    /// What was said last will be said again, by whoever holds the partitions then.
    pub(crate) fn given_up(&mut self) {
        self.staged = Staged::default();
        self.overdue_pages = (self.overdue_pages / 2).max(1);
        (self.overdue_after, self.finished_after) = (None, None);
    }

    /// States of these entries are published anew.
    pub(crate) fn spoken_of<'a>(&mut self, keys: impl Iterator<Item = &'a EntryKey>) {
        if let Some(tombstoned) = &mut self.tombstoned {
            keys.for_each(|key| tombstoned.keep(*key));
        }
    }
}

/// The partitions of `wal.acks` that are held.
struct Held<'a> {
    places: HashMap<i32, &'a Place>,
    partitions: i32,
}

impl Held<'_> {
    /// The partition that an entry's events go to, if it is held.
    fn partition_of(&self, log_id: &LogId) -> Option<i32> {
        let partition = partition::of_key(log_id.to_string().as_bytes(), self.partitions)?;
        self.places.contains_key(&partition).then_some(partition)
    }
}

/// What a look at entries past their deadline found.
#[derive(Default)]
struct Overdue {
    expired: Vec<(Entry, i32)>,
    bytes: usize,
    to_ask: BTreeSet<i32>,
}

impl<B: Brokers> Fold<B> {
    /// What is to be published without a record having come. Where the brokers do not answer it is left to the next sweep.
    pub(crate) async fn sweep(&self, batch: &Batch) -> Result<Vec<OutRecord>, CannotGoOn> {
        let acks = self.topics.acks();
        let ours = batch.places.iter().filter(|((topic, _), _)| *topic == acks);
        let places: HashMap<i32, &Place> = ours.map(|((_, partition), place)| (*partition, place)).collect();
        self.remove_tombstoned(&places).await?;
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let Shape { partitions, .. } = match self.present_shape(places.keys().max()).await {
            Ok(shape) => shape,
            Err(why) => {
                debug!(why, "no sweep: the brokers do not answer");
                return Ok(Vec::new());
            }
        };
        let held = Held { places, partitions };
        let now = self.clock.now();
        let mut staged = Staged::default();
        let mut outputs = self.expire(&held, now, &mut staged.tally).await?;
        outputs.extend(self.purge(&held, now, &mut staged).await?);
        self.memory().staged = staged;
        Ok(outputs)
    }

    async fn present_shape(&self, highest: Option<&i32>) -> Result<Shape, String> {
        let shape = self.brokers.shape(Freshness::Remembered).await?;
        match highest {
            Some(highest) if *highest >= shape.partitions => self.brokers.shape(Freshness::Now).await,
            Some(_) | None => Ok(shape),
        }
    }

    async fn expire(&self, held: &Held<'_>, now: Timestamp, tally: &mut Tally) -> Result<Vec<OutRecord>, CannotGoOn> {
        let next = held.places.iter().map(|(partition, place)| (*partition, place.next)).collect();
        self.memory().frontiers.advance(&next);
        let Overdue { expired, to_ask, .. } = self.look_for_overdue(held, now).await?;
        self.ask_ends(to_ask).await;
        if expired.is_empty() {
            return Ok(Vec::new());
        }
        let namespaces: BTreeSet<Namespace> = expired.iter().map(|(entry, _)| entry.namespace().clone()).collect();
        let dead_letters = match self.brokers.dead_letters_of(namespaces.into_iter().collect()).await {
            Ok(dead_letters) => dead_letters,
            Err(why) => {
                warn!(why, "expired entries wait: the brokers do not say where their dead letters go");
                return Ok(Vec::new());
            }
        };
        let mut outputs = Vec::with_capacity(2 * expired.len());
        for (entry, partition) in &expired {
            self.memory().frontiers.reopen(*partition);
            outputs.extend(self.expired(entry, *partition, &dead_letters[entry.namespace()], now));
            tally.expired += 1;
        }
        Ok(outputs)
    }

    async fn look_for_overdue(&self, held: &Held<'_>, now: Timestamp) -> Result<Overdue, CannotGoOn> {
        let mut found = Overdue::default();
        let pages = self.memory().overdue_pages;
        for _ in 0..pages {
            let after = self.memory().overdue_after;
            let page = self.store.expired(now, after, OVERDUE_PAGE).await.map_err(cannot_go_on)?;
            let last = page.last().filter(|_| page.len() == OVERDUE_PAGE);
            let next = last.map(|entry| (entry.state.deadline(), entry.key()));
            self.memory().overdue_after = next;
            self.sort_out(page, held, now, &mut found);
            if next.is_none() || found.bytes >= self.config.batch_bytes {
                break;
            }
        }
        Ok(found)
    }

    fn sort_out(&self, page: Vec<Entry>, held: &Held<'_>, now: Timestamp, found: &mut Overdue) {
        let memory = self.memory();
        for entry in page {
            let Some(partition) = held.partition_of(&entry.log_id) else { continue };
            match expire::verdict(&entry, partition, &memory.frontiers, self.config.parked_wait, now) {
                Verdict::Wait => {}
                Verdict::Fold => drop(found.to_ask.insert(partition)),
                Verdict::Expired => {
                    found.bytes += entry.payload.len();
                    found.expired.push((entry, partition));
                }
            }
        }
    }

    async fn ask_ends(&self, mut partitions: BTreeSet<i32>) {
        partitions.retain(|partition| self.memory().frontiers.is_to_ask(*partition));
        if partitions.is_empty() {
            return;
        }
        let at = self.clock.now();
        let ends = self.brokers.ends(partitions.into_iter().collect()).await;
        self.memory().frontiers.asked(at, ends);
    }

    /// The event that says so, in the very partition whose folding it rests on, and the dead letter of the attempt that is owed.
    fn expired(&self, entry: &Entry, partition: i32, to: &DeadLetters, now: Timestamp) -> [OutRecord; 2] {
        let delivery = Delivery::owed(entry).expect("an entry that is not finished owes an attempt");
        let deadline = entry.state.deadline();
        let why = format_args!("attempt {} was not answered before the deadline {deadline}", delivery.attempt);
        let refusal = Refusal::new(Code::Expired, why);
        let DeadLetters { topic, limit } = to.clone();
        let letter = dead_letter::of_delivery(&delivery, &entry.origin, &refusal, &self.group, topic, limit);
        let failure = Failure { code: refusal.code.as_str().to_owned(), message: refusal.message };
        let ack = Ack::of(&delivery, Outcome::Failed { reason: Reason::Expired }, Some(failure), now);
        let event = OutRecord { partition: Some(partition), ..ack.encode(self.topics.acks(), &self.keyring) };
        [event, letter]
    }

    async fn purge(&self, held: &Held<'_>, now: Timestamp, staged: &mut Staged) -> Result<Vec<OutRecord>, CannotGoOn> {
        let limit = purge::limit(now, self.config.retention);
        let after = self.memory().finished_after;
        let page = self.store.finished(limit, after, FINISHED_PAGE).await.map_err(cannot_go_on)?;
        let last = page.last().filter(|_| page.len() == FINISHED_PAGE);
        self.memory().finished_after = last.map(|finished| (finished.at, finished.log_id.key()));
        let mut outputs = Vec::new();
        let mut entries = HashMap::new();
        for finished in page.iter().filter(|finished| purge::is_due(finished, limit)) {
            let Some(partition) = held.partition_of(&finished.log_id) else { continue };
            outputs.push(state_record::tombstone(&finished.log_id, self.topics.status()));
            entries.insert(finished.log_id.key(), (partition, held.places[&partition].assignment));
        }
        if !entries.is_empty() {
            staged.tombstoned = Some(Tombstoned { entries, limit });
        }
        Ok(outputs)
    }

    /// Removes what has its tombstone. What of it is left by a crash is found, and told, again.
    async fn remove_tombstoned(&self, places: &HashMap<i32, &Place>) -> Result<(), CannotGoOn> {
        let Some(tombstoned) = self.memory().tombstoned.take() else { return Ok(()) };
        let assignments = places.iter().map(|(partition, place)| (*partition, place.assignment)).collect();
        failpoint::hit("before-remove");
        let keys = tombstoned.removable(&assignments);
        let removed = self.store.remove(&keys, tombstoned.limit).await.map_err(cannot_go_on)?;
        debug!(removed, "purged");
        self.counts.add(&Tally { purged: removed as u64, ..Tally::default() });
        Ok(())
    }
}
