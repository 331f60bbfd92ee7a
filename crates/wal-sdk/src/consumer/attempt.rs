//! An attempt in the caller's hands: what it is, and the one answer that may be given.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use wal_kafka::epochs::Epochs;
use wal_kafka::wake::Wake;
use wal_model::answer::{Completed, Failed, Wish};
use wal_model::delivery::{Delivery, NotADelivery, Received};
use wal_model::entry::Answers;
use wal_model::status::Failure;
use wal_model::topics::Topics;
use wal_model::{InRecord, OutRecord, Timestamp, Topic, record, wire};

use super::ledger::Place;
use super::room::Share;

/// An attempt as it arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The record as it stands in Kafka.
    pub record: InRecord,
    /// The delivery that it is.
    pub delivery: Delivery,
    /// When it was published, by the publisher's clock.
    pub sent: Timestamp,
    /// Whether it is a replayed copy: the log counts the answer, and it changes nothing.
    pub is_replay: bool,
    /// When it was read.
    pub read_at: Instant,
}

/// What the handler of a completed attempt has to say: JSON, or nothing. Of a long result the log keeps the beginning.
#[derive(Clone, Debug, Default)]
pub struct Done(Option<Box<RawValue>>);

impl Done {
    /// Nothing but that it is done.
    pub fn silent() -> Done {
        Done(None)
    }

    /// With a result.
    pub fn with(result: &impl Serialize) -> Result<Done, serde_json::Error> {
        to_raw_value(result).map(|result| Done(Some(result)))
    }
}

impl From<()> for Done {
    fn from((): ()) -> Done {
        Done::silent()
    }
}

impl From<Box<RawValue>> for Done {
    fn from(result: Box<RawValue>) -> Done {
        Done(Some(result))
    }
}

/// One attempt of an entry, and the right to answer it once.
///
/// An answer and the consumer's offset become visible together, in one transaction, in the order of the partition: an answer waits
/// for everything that was handed out before it in its partition. If the partition has moved to another member by then, the answer is
/// discarded, and the attempt is handed out there again.
///
/// Dropped without an answer, an attempt stays unfinished: nothing behind it in its partition is committed, and it is handed out again
/// when the partition is read anew, after a restart or a rebalance.
#[must_use = "an attempt that is dropped unanswered holds back its partition"]
pub struct Attempt {
    arrival: Arc<Arrival>,
    hold: Hold,
}

impl Attempt {
    /// What arrived. Cheap to clone, and free to outlive the attempt.
    pub fn arrival(&self) -> &Arc<Arrival> {
        &self.arrival
    }

    /// What is to be done.
    pub fn delivery(&self) -> &Delivery {
        &self.arrival.delivery
    }

    /// Whether an answer would still count. `false` means that the partition has moved away: somebody else has the attempt, or will.
    pub fn is_held(&self) -> bool {
        self.hold.is_held()
    }

    /// It is done. Where the log expects no answer none is sent.
    pub fn complete(self, done: Done) {
        let Attempt { arrival, hold } = self;
        let answer = match arrival.delivery.answers {
            Answers::Expected => {
                Some(Completed::encode(&arrival.record, done.0.as_deref(), hold.desk.topics.acks.clone()))
            }
            Answers::None => None,
        };
        hold.finish(answer);
    }

    /// It failed. The log tries again as the entry's lifecycle says.
    pub fn fail(self, failure: Failure) {
        self.fail_with(&failure, &Wish::None);
    }

    /// It failed, and trying again cannot help.
    pub fn fail_permanently(self, failure: Failure) {
        self.fail_with(&failure, &Wish::Never);
    }

    /// It failed, and the next attempt, if there is one, is wanted this much later.
    pub fn retry_after(self, failure: Failure, after: Duration) {
        self.fail_with(&failure, &Wish::After(after));
    }

    /// Lets go of it without an answer: for an attempt whose deadline has passed, since the log then ends the entry by itself. Before
    /// its deadline the entry would be left without an answer until then.
    pub fn let_expire(self) {
        self.hold.finish(None);
    }

    pub(crate) fn fail_with(self, failure: &Failure, wish: &Wish) {
        let Attempt { arrival, hold } = self;
        let topic = hold.desk.topics.failures.clone();
        hold.finish(Some(Failed::encode(&arrival.record, failure, wish, topic)));
    }

    /// Lets go of it at the end of everything: it comes again, and that is meant.
    pub(crate) fn give_back(self) {
        self.hold.give_back();
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Delivery { log_id, attempt, .. } = &self.arrival.delivery;
        f.debug_struct("Attempt").field("log_id", log_id).field("attempt", attempt).field("hold", &self.hold).finish()
    }
}

/// A record of a target that is no delivery of the log, and the right to say that it has been seen to.
///
/// Dropped without that, it holds back its partition like an unanswered attempt.
#[must_use = "a record that is dropped without a word holds back its partition"]
pub struct Foreign {
    /// The record.
    pub record: InRecord,
    /// Why it is no delivery.
    pub why: NotADelivery,
    hold: Hold,
}

impl Foreign {
    /// The consumer's offset may move past it.
    pub fn pass_over(self) {
        self.hold.finish(None);
    }

    pub(crate) fn give_back(self) {
        self.hold.give_back();
    }
}

impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Foreign").field("why", &self.why).field("hold", &self.hold).finish()
    }
}

/// What a consumer hands out.
#[derive(Debug)]
pub enum Handed {
    /// An attempt.
    Attempt(Attempt),
    /// Something else that stands on the target.
    Foreign(Foreign),
}

impl Handed {
    /// Reads a record that was handed out.
    pub(super) fn read(record: InRecord, read_at: Instant, hold: Hold) -> Handed {
        match Delivery::decode(&record) {
            Ok(Received { delivery, sent }) => {
                let is_replay = record::last(&record.headers, wire::CE_WALREPLAY).is_some();
                let arrival = Arc::new(Arrival { record, delivery, sent, is_replay, read_at });
                Handed::Attempt(Attempt { arrival, hold })
            }
            Err(why) => Handed::Foreign(Foreign { record, why, hold }),
        }
    }

    /// Whether a word on it would still count: see [`Attempt::is_held`].
    pub fn is_held(&self) -> bool {
        match self {
            Handed::Attempt(attempt) => attempt.is_held(),
            Handed::Foreign(foreign) => foreign.hold.is_held(),
        }
    }

    pub(crate) fn give_back(self) {
        match self {
            Handed::Attempt(attempt) => attempt.give_back(),
            Handed::Foreign(foreign) => foreign.give_back(),
        }
    }
}

/// What comes back from the caller.
#[derive(Debug)]
pub(super) enum Word {
    /// The record is finished.
    Finished { place: Place, answer: Option<OutRecord>, share: Share },
    /// It was dropped without a word.
    Dropped { place: Place, share: Share },
}

/// Where answers go: the log's topics for them.
#[derive(Debug)]
pub(super) struct AnswerTopics {
    pub(super) acks: Topic,
    pub(super) failures: Topic,
}

impl AnswerTopics {
    pub(super) fn of(topics: &Topics) -> AnswerTopics {
        AnswerTopics { acks: topics.acks(), failures: topics.failures() }
    }
}

/// The way back to the consumer's thread. The channel is as bounded as what is handed out.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) words: Sender<Word>,
    pub(super) wake: Arc<Wake>,
    pub(super) epochs: Arc<Epochs>,
    pub(super) topics: Arc<AnswerTopics>,
}

impl Desk {
    fn say(&self, word: Word) {
        // A consumer that is gone does not listen: what it had handed out comes again.
        let _ = self.words.send(word);
        self.wake.wake();
    }
}

/// The right to say what became of a record, once.
pub(super) struct Hold {
    place: Place,
    /// Gone once something was said.
    share: Option<Share>,
    desk: Desk,
}

impl Hold {
    pub(super) fn new(place: Place, share: Share, desk: Desk) -> Hold {
        Hold { place, share: Some(share), desk }
    }

    fn is_held(&self) -> bool {
        self.desk.epochs.of(&self.place.partition) == Some(self.place.assignment)
    }

    fn finish(mut self, answer: Option<OutRecord>) {
        if let Some(share) = self.share.take() {
            self.desk.say(Word::Finished { place: self.place.clone(), answer, share });
        }
    }

    fn give_back(mut self) {
        self.share = None;
        // There is room again.
        self.desk.wake.wake();
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (topic, partition) = &self.place.partition;
        write!(f, "{topic}[{partition}]@{}", self.place.offset)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(share) = self.share.take() {
            self.desk.say(Word::Dropped { place: self.place.clone(), share });
        }
    }
}
