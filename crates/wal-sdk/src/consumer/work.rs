//! The consumer's thread: it hands out, hears what became of it, and publishes.
//!
//! ```text
//!   serve rebalances ─▶ hear answers ─▶ settle what is in doubt ─▶ publish the finished prefix ─▶ hand out ─▶ rest
//!        ▲                                                                                               │
//!        └───────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! **Who may publish.** The group's metadata is taken before the prefix is, on the thread that serves rebalances. A client that lost
//! its membership has none until a revoke was served here, and that takes the partition out of the ledger; so with metadata of some
//! generation in hand, whatever is in the ledger was held without a break up to that generation, and if a later one begins before the
//! commit the broker refuses it.
//!
//! **What is in doubt.** After a failure nothing is guessed: what is committed for the group is asked for once nothing of the
//! transaction can be open any more. It says whether the transaction happened; if it did not, what was in it is published again. What
//! is in hand stays in hand, so a broker that restarts costs nobody a second handling.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use wal_kafka::publisher::{Publisher, Unpublished};
use wal_kafka::watchdog::Watchdog;

use super::attempt::{Desk, Handed, Hold, Word};
use super::configs::Configs;
use super::ledger::{Heard, Ledger};
use super::member::{Change, Member, Over, Took};
use super::places::Place;
use super::room::{Room, Share};
use super::{ConsumeError, ConsumerOptions, Partition};
use crate::connection::ConnectError;
use crate::worker::Stop;

/// How long the thread rests when nothing wakes it. Records, rebalances and answers do; a stop may not.
const REST: Duration = Duration::from_millis(100);
/// How many records of one partition are handed out before the next partition has its turn.
const TURN: usize = 64;
/// Waits between tries of what the brokers did not let happen, the last one repeated.
const RETRIES: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
/// How long a place may stand before marks of transactions: far below any retention.
const KEEP_PLACE: Duration = Duration::from_secs(60);
/// How often a stop tries to publish what is finished.
const LAST_TRIES: usize = 3;

/// What the thread is made of.
pub(super) struct Work {
    member: Member,
    publisher: Publisher,
    watchdog: Watchdog,
    is_hung: Arc<AtomicBool>,
    ledger: Ledger<Share>,
    room: Room,
    desk: Desk,
    words: Receiver<Word>,
    outlet: Outlet,
    linger: Duration,
    /// Since when something finished waits to be published.
    ripe_since: Option<Instant>,
    kept_at: Instant,
    /// Partitions of which it is not known where to read them from.
    unplaced: BTreeSet<Partition>,
    /// Partitions that are to be read from where there is nothing.
    out_of_range: BTreeSet<Partition>,
    failures: usize,
    not_before: Instant,
}

/// Where the caller listens.
pub(super) struct Outlet {
    pub(super) items: mpsc::Sender<Handed>,
    pub(super) troubles: mpsc::Sender<ConsumeError>,
    pub(super) end: watch::Sender<Option<String>>,
}

impl Outlet {
    /// Tells what stands in the way; tells the log, if the caller has not heard the one before yet.
    fn tell(&self, trouble: ConsumeError) {
        if let Err(unheard) = self.troubles.try_send(trouble) {
            let (mpsc::error::TrySendError::Full(trouble) | mpsc::error::TrySendError::Closed(trouble)) = unheard;
            tracing::warn!(%trouble, "a consumer is hindered");
        }
    }

    /// Tells why this is the end, unless it is the end already: what came first is the reason.
    fn end(&self, why: String) {
        end(&self.end, why);
    }
}

impl Work {
    /// Connects, and joins the group.
    pub(super) fn open(
        options: &ConsumerOptions,
        configs: Configs,
        desk: Desk,
        words: Receiver<Word>,
        outlet: Outlet,
    ) -> Result<Work, ConnectError> {
        let mut needed = vec![desk.topics.acks.clone(), desk.topics.failures.clone()];
        needed.extend(options.targets.iter().cloned());
        let limit = options.connection.timeout;
        let (epochs, wake) = (Arc::clone(&desk.epochs), Arc::clone(&desk.wake));
        let member = Member::open(&configs.reading, limit, &needed, epochs, wake)?;
        let is_hung = Arc::new(AtomicBool::new(false));
        let watchdog = watchdog(Arc::clone(&is_hung), outlet.end.clone())?;
        let publisher = Publisher::new(configs.answering, String::new(), watchdog.clone());
        let mut publisher = publisher.instances_by("`instance`");
        if let Err(error) = publisher.ready() {
            publisher.close();
            watchdog.stop();
            return Err(ConnectError::NoTransactions(error.to_string()));
        }
        member.subscribe(&options.targets)?;
        let now = Instant::now();
        Ok(Work {
            member,
            publisher,
            watchdog,
            is_hung,
            ledger: Ledger::new(options.bounds.per_partition.max(1)),
            room: Room::new(options.bounds.in_total.max(1), options.bounds.bytes.max(1)),
            desk,
            words,
            outlet,
            linger: options.linger,
            ripe_since: None,
            kept_at: now,
            unplaced: BTreeSet::new(),
            out_of_range: BTreeSet::new(),
            failures: 0,
            not_before: now,
        })
    }

    /// Works until it is told to stop or cannot go on; then leaves the group.
    pub(super) fn run(mut self, stop: &Stop) {
        if let Err(Over(why)) = self.work(stop) {
            self.outlet.end(why);
        }
        self.close();
    }

    /// Ends what was begun for a caller that is gone.
    pub(super) fn close(self) {
        self.publisher.close();
        self.watchdog.stop();
        self.member.close();
    }

    fn work(&mut self, stop: &Stop) -> Result<(), Over> {
        while !stop.is_asked() {
            self.serve()?;
            self.hear();
            self.settle()?;
            self.place()?;
            if self.is_due() {
                self.publish()?;
            }
            if !self.hand_out()? {
                self.desk.wake.wait(self.rest());
            }
        }
        self.finish()
    }

    fn serve(&mut self) -> Result<(), Over> {
        let (changes, refused) = self.member.serve()?;
        if let Some(error) = refused {
            self.outlet.tell(ConsumeError::Refused(error));
        }
        for change in changes {
            match change {
                Change::Came { partition, assignment, place: Some(place) } => self.begin(partition, assignment, place),
                Change::Came { partition, .. } => drop(self.unplaced.insert(partition)),
                Change::Went(partition) => {
                    self.unplaced.remove(&partition);
                    self.out_of_range.remove(&partition);
                    self.ledger.revoke(&partition);
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, partition: Partition, assignment: u64, place: Place) {
        self.unplaced.remove(&partition);
        self.out_of_range.remove(&partition);
        if let Some((from, to)) = place.missed() {
            let (topic, partition) = partition.clone();
            self.outlet.tell(ConsumeError::Missed { topic, partition, from, to });
        }
        self.ledger.assign(partition, assignment, place.committed);
    }

    fn hear(&mut self) {
        while let Ok(word) = self.words.try_recv() {
            match word {
                Word::Finished { place, answer, share } => {
                    if self.ledger.finish(&place, answer, share) == Heard::TooLate {
                        tracing::debug!(?place, "finished after its partition moved away; it comes again elsewhere");
                    }
                }
                Word::Dropped { place, share } => {
                    if self.ledger.drop_unfinished(&place, share) == Heard::InTime {
                        tracing::warn!(
                            ?place,
                            "dropped without an answer: it holds back its partition, and comes again after a restart"
                        );
                    }
                }
            }
        }
    }

    /// Learns whether a transaction happened whose outcome is in doubt.
    fn settle(&mut self) -> Result<(), Over> {
        let in_doubt = self.ledger.in_doubt();
        if in_doubt.is_empty() || Instant::now() < self.not_before {
            return Ok(());
        }
        let ready = self.publisher.ready().map_err(|error| error.to_string());
        let committed = ready.and_then(|()| self.member.committed(&in_doubt).map_err(|error| error.to_string()));
        self.check_hung()?;
        match committed {
            Ok(committed) => {
                for partition in self.ledger.reconcile(&committed) {
                    tracing::warn!(?partition, "its offset was moved from outside; it is read again from there");
                    self.ledger.revoke(&partition);
                    self.member.renumber(&partition);
                    self.unplaced.insert(partition);
                }
            }
            Err(why) => self.failed(ConsumeError::NotPublished(why)),
        }
        Ok(())
    }

    /// Puts partitions to their places that have none yet, or none any more.
    fn place(&mut self) -> Result<(), Over> {
        if self.is_placed() || Instant::now() < self.not_before {
            return Ok(());
        }
        let unplaced: Vec<Partition> = self.unplaced.iter().cloned().collect();
        let places = match self.member.places(&unplaced) {
            Ok(places) => places,
            Err(error) => {
                self.failed(ConsumeError::Refused(error));
                return Ok(());
            }
        };
        for (partition, place) in places {
            self.member.read_from(&partition, place.from)?;
            let assignment = self.member.renumber(&partition);
            self.begin(partition, assignment, place);
        }
        for partition in std::mem::take(&mut self.out_of_range) {
            self.find_again(partition)?;
        }
        Ok(())
    }

    fn is_placed(&self) -> bool {
        self.unplaced.is_empty() && self.out_of_range.is_empty()
    }

    /// Something the brokers did not let happen is tried again a little later.
    fn failed(&mut self, trouble: ConsumeError) {
        self.not_before = Instant::now() + RETRIES[self.failures.min(RETRIES.len() - 1)];
        self.failures += 1;
        self.outlet.tell(trouble);
    }

    fn is_due(&mut self) -> bool {
        let now = Instant::now();
        if !self.ledger.has_prefix() {
            self.ripe_since = None;
            return now.duration_since(self.kept_at) >= KEEP_PLACE && self.ledger.is_ahead();
        }
        now.duration_since(*self.ripe_since.get_or_insert(now)) >= self.linger
    }

    /// Publishes the finished prefix of every partition, with its offsets, in one transaction.
    fn publish(&mut self) -> Result<(), Over> {
        if !self.ledger.in_doubt().is_empty() || Instant::now() < self.not_before {
            return Ok(());
        }
        // First of all: what is in the ledger is held by this member of this generation, or the broker refuses the commit.
        let Some(metadata) = self.member.metadata() else {
            self.not_before = Instant::now() + RETRIES[0];
            return Ok(());
        };
        let Some(prefix) = self.ledger.prefix() else { return Ok(()) };
        let is_hung = Arc::clone(&self.is_hung);
        let published =
            self.publisher.publish(&prefix.answers, &prefix.next, &metadata, || !is_hung.load(Ordering::Acquire));
        self.check_hung()?;
        match published {
            Ok(()) => {
                self.ledger.committed();
                self.ripe_since = None;
                self.kept_at = Instant::now();
                self.failures = 0;
                Ok(())
            }
            Err(Unpublished::Again(why) | Unpublished::Unclear(why)) => {
                self.failed(ConsumeError::NotPublished(why));
                Ok(())
            }
            Err(Unpublished::Fatal(why)) => Err(Over(why)),
        }
    }

    /// A call that came back after all came too late: the caller was told that this is the end.
    fn check_hung(&self) -> Result<(), Over> {
        if self.is_hung.load(Ordering::Acquire) {
            Err(Over("a call to the Kafka client hung".to_owned()))
        } else {
            Ok(())
        }
    }

    /// Hands out what is there and has room, a turn of each partition. Whether more may be there.
    fn hand_out(&mut self) -> Result<bool, Over> {
        let ready = self.member.ready();
        if !ready.iter().any(|partition| self.has_room(partition)) || self.member.metadata().is_none() {
            return Ok(false);
        }
        let mut is_more = false;
        for partition in ready {
            let mut turn = TURN;
            while turn > 0 && self.has_room(&partition) {
                match self.member.take(&partition)? {
                    Took::Nothing => break,
                    Took::Record(record) => self.give(record),
                    Took::End(offset) => self.ledger.end(&partition, offset),
                    Took::OutOfRange => drop(self.out_of_range.insert(partition.clone())),
                    Took::Refused(error) => self.outlet.tell(ConsumeError::Refused(error)),
                }
                turn -= 1;
            }
            is_more |= turn == 0;
        }
        Ok(is_more)
    }

    fn has_room(&self, partition: &Partition) -> bool {
        self.room.is_left() && self.ledger.room(partition) > 0 && !self.out_of_range.contains(partition)
    }

    fn give(&mut self, record: wal_model::InRecord) {
        let Some(place) = self.ledger.hand_out(&record) else {
            let wal_model::InRecord { topic, partition, offset, .. } = &record;
            tracing::debug!(%topic, partition, offset, "read again while it is in hand");
            return;
        };
        let hold = Hold::new(place, self.room.take(record.size()), self.desk.clone());
        // Full it cannot be: everything in it has a share of the room. Without a caller it comes again, to whoever is next.
        if let Err(error) = self.outlet.items.try_send(Handed::read(record, Instant::now(), hold)) {
            match error {
                mpsc::error::TrySendError::Full(item) | mpsc::error::TrySendError::Closed(item) => item.give_back(),
            }
        }
    }

    /// There is nothing to read where a partition is to be read from: retention went past it, or its log is another one. What is in
    /// hand of it stays in hand: it cannot be read again.
    fn find_again(&mut self, partition: Partition) -> Result<(), Over> {
        let (oldest, end) = match self.member.extent(&partition) {
            Ok(extent) => extent,
            Err(error) => {
                self.out_of_range.insert(partition);
                self.failed(ConsumeError::Refused(error));
                return Ok(());
            }
        };
        let expected = self.ledger.expected(&partition).unwrap_or(oldest);
        let (topic, number) = &partition;
        if expected > end {
            return Err(Over(format!(
                "the group stands at {expected} of {topic}[{number}], whose log ends at {end}: it was made anew or cut off. Set \
                 the group's offsets to where it is to go on"
            )));
        }
        if expected < oldest {
            let trouble = ConsumeError::Missed { topic: topic.clone(), partition: *number, from: expected, to: oldest };
            self.outlet.tell(trouble);
        }
        self.member.read_from(&partition, expected.max(oldest))
    }

    fn rest(&self) -> Duration {
        let now = Instant::now();
        let in_doubt = !self.is_placed() || !self.ledger.in_doubt().is_empty();
        let retry = in_doubt.then(|| self.not_before.saturating_duration_since(now));
        let ripe = self.ripe_since.map(|since| (since + self.linger).saturating_duration_since(now));
        let ripe = ripe.map(|ripe| ripe.max(self.not_before.saturating_duration_since(now)));
        [retry, ripe].into_iter().flatten().fold(REST, Duration::min)
    }

    /// Publishes what is finished, as far as the brokers let it.
    fn finish(&mut self) -> Result<(), Over> {
        for _ in 0..LAST_TRIES {
            self.serve()?;
            self.hear();
            self.not_before = Instant::now();
            self.settle()?;
            self.publish()?;
            if self.ledger.in_doubt().is_empty() && !self.ledger.has_prefix() {
                return Ok(());
            }
        }
        tracing::warn!("not everything that is finished could be published before the stop; it comes again");
        Ok(())
    }
}

/// Ends the consumer, not the process, when a call does not come back: the thread is given up, and after its poll interval so is the
/// membership.
fn watchdog(is_hung: Arc<AtomicBool>, ended: watch::Sender<Option<String>>) -> Result<Watchdog, ConnectError> {
    Watchdog::start(move |call| {
        is_hung.store(true, Ordering::Release);
        end(
            &ended,
            format!("the call {call} to the Kafka client does not come back; join again, or start the process anew"),
        );
    })
    .map_err(ConnectError::Thread)
}

fn end(ended: &watch::Sender<Option<String>>, why: String) {
    ended.send_if_modified(|end| end.is_none() && end.replace(why).is_none());
}
