//! What is published for a settled record: deliveries, receipt, audit, status events, dead letters. Pure, built from what is stored.

use std::time::Duration;

use bytes::Bytes;
use wal_model::ack::Ack;
use wal_model::audit::{self, Operation};
use wal_model::delay::{self, Hop, Waits};
use wal_model::delivery::Delivery;
use wal_model::entry::Answers;
use wal_model::id::derive_from_record;
use wal_model::parked::Parked;
use wal_model::receipt::Receipt;
use wal_model::record::{InRecord, OutRecord};
use wal_model::request::HEADERS_LEN;
use wal_model::seal::Keyring;
use wal_model::status::{Failure, Outcome, Reason};
use wal_model::topics::Topics;
use wal_model::{Code, Entry, Id, Refusal, Timestamp, Topic, dead_letter};
use wal_runtime::brokers::{self, Shapes};

use crate::admit::Case;
use crate::object;
use crate::settle::{self, Owed, Verdict};

/// What became of a record.
#[derive(Debug)]
pub(crate) enum Settled {
    /// Nothing of it is kept.
    Refused(Refusal),
    /// All of it is in the store, synced: these entries.
    Stored(Vec<Entry>),
}

/// What does not change from record to record.
pub(crate) struct Press<'a> {
    pub topics: &'a Topics,
    pub reply_topics: &'a [Topic],
    pub keyring: &'a Keyring,
    pub group: &'a str,
    pub unknown_target_wait: Duration,
    pub waits: &'a Waits,
    pub shapes: &'a Shapes,
    pub now: Timestamp,
}

/// Something that must be waited for before anything of the batch can be published.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// The topic it is about.
    pub topic: Topic,
    /// What is missing.
    pub why: &'static str,
}

impl Press<'_> {
    /// The records to be published for one record of ingress.
    pub(crate) fn outputs(&self, record: &InRecord, case: &Case, settled: &Settled) -> Result<Vec<OutRecord>, Wait> {
        match settled {
            Settled::Refused(refusal) => Ok(self.refused(record, case, refusal)),
            Settled::Stored(entries) => self.stored(case, entries),
        }
    }

    fn refused(&self, record: &InRecord, case: &Case, refusal: &Refusal) -> Vec<OutRecord> {
        let topic = self.topics.dead_requests();
        let limit = self.limit(&topic);
        let key = case.request_id.as_ref().map(|id| Bytes::from(id.to_string()));
        let letter = dead_letter::encode(record, refusal, self.group, key, Vec::new(), topic, limit);
        vec![self.receipt(case, &Receipt::refused(refusal, case.request_id.clone())), letter]
    }

    fn stored(&self, case: &Case, entries: &[Entry]) -> Result<Vec<OutRecord>, Wait> {
        let mut outputs = Vec::with_capacity(entries.len() * 2 + 1);
        for entry in entries {
            let owed = settle::owed(entry, &case.coordinates);
            if owed == Owed::Delivery {
                self.delivery(entry, &mut outputs)?;
            }
            outputs.push(self.audit(entry, owed, case));
        }
        outputs.push(self.receipt(case, &stored_receipt(entries, case.request_id.clone())));
        Ok(outputs)
    }

    fn delivery(&self, entry: &Entry, outputs: &mut Vec<OutRecord>) -> Result<(), Wait> {
        if let Some(parked) = self.parked(entry) {
            outputs.push(parked.encode(self.topics, self.keyring));
            return Ok(());
        }
        let delivery = Delivery::of(entry);
        let record = delivery.encode(self.now, self.keyring);
        let target = brokers::target(self.shapes, &entry.target);
        match settle::verdict(entry, record.size_as_batch(), target, self.unknown_target_wait, self.now) {
            Verdict::Wait(why) => Err(Wait { topic: entry.target.clone(), why }),
            Verdict::Publish => {
                outputs.push(record);
                if entry.answers == Answers::None {
                    outputs.push(self.ack(&delivery, Outcome::Completed { result: None }, None));
                }
                Ok(())
            }
            Verdict::Fail(reason) => {
                let refusal = failure(entry, reason);
                outputs.push(self.dead_entry(entry, &delivery, &refusal));
                let failure = Failure { code: refusal.code.as_str().to_owned(), message: refusal.message };
                outputs.push(self.ack(&delivery, Outcome::Failed { reason }, Some(failure)));
                Ok(())
            }
        }
    }

    /// The first delivery of an entry that waits for its time, on the delay topic that begins the wait.
    fn parked(&self, entry: &Entry) -> Option<Parked> {
        let wanted = entry.deliver_at.filter(|_| self.now <= entry.state.deadline())?;
        let due = delay::due_after(self.now, wanted.saturating_since(self.now));
        match self.waits.hop(self.now, due) {
            Hop::Park(wait) => Some(Parked { delivery: Delivery::of(entry), due, parked_at: self.now, wait }),
            // Rounded up, a wait is none or longer than what could be held.
            Hop::Publish | Hop::Hold => None,
        }
    }

    /// The delivery that will never be made, with where its request came from.
    fn dead_entry(&self, entry: &Entry, delivery: &Delivery, refusal: &Refusal) -> OutRecord {
        let own = self.topics.dead_entries(entry.namespace());
        let has_own = brokers::is_known(self.shapes, &own);
        let topic = if has_own { own } else { self.topics.dead_requests() };
        let limit = self.limit(&topic);
        dead_letter::of_delivery(delivery, &entry.origin, refusal, self.group, topic, limit)
    }

    fn ack(&self, delivery: &Delivery, outcome: Outcome, failure: Option<Failure>) -> OutRecord {
        Ack::of(delivery, outcome, failure, self.now).encode(self.topics.acks(), self.keyring)
    }

    fn audit(&self, entry: &Entry, owed: Owed, case: &Case) -> OutRecord {
        match owed {
            Owed::Delivery | Owed::Nothing => audit::encode(Operation::Write, entry, "", self.topics.audit()),
            Owed::Repeat => audit::encode(Operation::Repeat, entry, &case.coordinates.to_string(), self.topics.audit()),
        }
    }

    fn receipt(&self, case: &Case, receipt: &Receipt) -> OutRecord {
        let (topic, mut reply) = object::usable_reply(&case.reply, self.shapes, self.reply_topics, self.topics);
        // Beyond what headers may hold it is no correlation id but a way to make receipts too large to send.
        reply.correlation = reply.correlation.filter(|correlation| correlation.len() <= HEADERS_LEN);
        let id = derive_from_record(&case.coordinates, "receipt");
        receipt.encode(id, case.coordinates.time, topic, &reply)
    }

    fn limit(&self, topic: &Topic) -> usize {
        brokers::limit(self.shapes, topic)
    }
}

fn stored_receipt(entries: &[Entry], request_id: Option<Id>) -> Receipt {
    match entries {
        [entry] if entry.batch.is_none() => {
            Receipt::Stored { log_id: entry.log_id.clone(), target: entry.target.clone(), request_id }
        }
        entries => {
            Receipt::BatchStored { log_ids: entries.iter().map(|entry| entry.log_id.clone()).collect(), request_id }
        }
    }
}

fn failure(entry: &Entry, reason: Reason) -> Refusal {
    match reason {
        Reason::Expired => Refusal::new(
            Code::Expired,
            format_args!("the deadline {} passed before the first delivery", entry.state.deadline()),
        ),
        Reason::Undeliverable | Reason::Exhausted | Reason::Rejected | Reason::Cancelled => {
            Refusal::new(Code::Undeliverable, format_args!("the target {} does not exist", entry.target))
        }
    }
}
