//! What a record of `wal.acks` says. Pure.

use bytes::Bytes;
use wal_model::ack::{Ack, NotAnAck};
use wal_model::answer::{self, Completed};
use wal_model::delivery::Delivery;
use wal_model::entry::Answers;
use wal_model::record::{self, InRecord};
use wal_model::seal::Keyring;
use wal_model::{Code, Refusal, Timestamp, partition, wire};

/// What a record says.
#[derive(Debug, PartialEq)]
pub(crate) enum Said {
    /// That something happened to an entry.
    Event(Box<Told>),
    /// Nothing that changes a status: it is counted.
    Ignored,
    /// Nothing that can be believed.
    Refused(Refusal),
}

/// An event under a good seal.
#[derive(Debug, PartialEq)]
pub(crate) struct Told {
    /// The event, and whose it is.
    pub ack: Ack,
    /// The partition that its log id names, where the record stands in another and was not moved before.
    pub belongs_in: Option<i32>,
    /// Since when the entry is looked for, as an earlier look noted. Nobody sealed that: it may shorten the search, never prolong it.
    pub unknown_since: Option<Timestamp>,
}

/// Reads a record of a topic that has so many partitions.
pub(crate) fn read(record: &InRecord, keyring: &Keyring, partitions: i32) -> Said {
    let read = if answer::is_from_consumer(record) { answer(record, keyring) } else { event(record, keyring) };
    match read {
        Ok(Some(ack)) => Said::Event(Box::new(Told {
            belongs_in: belongs_in(&ack, record, partitions),
            unknown_since: record::last_str(&record.headers, wire::CE_WALUNKNOWNSINCE).and_then(|at| at.parse().ok()),
            ack,
        })),
        Ok(None) => Said::Ignored,
        Err(refusal) => Said::Refused(refusal),
    }
}

/// The key of everything that concerns an entry on the log's own topics.
pub(crate) fn key(ack: &Ack) -> Bytes {
    Bytes::from(ack.log_id.to_string())
}

fn answer(record: &InRecord, keyring: &Keyring) -> Result<Option<Ack>, Refusal> {
    let completed = Completed::decode(record, keyring).map_err(|why| why.refusal())?;
    let delivery = &completed.echo.delivery;
    let most = delivery.round_first.saturating_add(delivery.retry_count);
    check_attempt(delivery.attempt, delivery.round_first, most)?;
    if completed.echo.is_replay || delivery.answers == Answers::None {
        return Ok(None);
    }
    let Delivery { log_id, tenant, .. } = delivery;
    Ok(Some(Ack { log_id: log_id.clone(), tenant: tenant.clone(), event: completed.event(record) }))
}

fn event(record: &InRecord, keyring: &Keyring) -> Result<Option<Ack>, Refusal> {
    let ack = Ack::decode(record, keyring).map_err(|why| {
        let code = match &why {
            NotAnAck::Seal(_) => Code::SealInvalid,
            NotAnAck::Unreadable(_) => Code::AnswerInvalid,
        };
        Refusal::new(code, why)
    })?;
    // How many retries are allowed is known to whoever decided that there is one.
    check_attempt(ack.event.attempt, ack.event.round_first, u32::MAX)?;
    Ok(Some(ack))
}

/// Attempts of a round are its first and as many retries as it allows.
fn check_attempt(attempt: u32, first: u32, most: u32) -> Result<(), Refusal> {
    if (first..=most).contains(&attempt) {
        return Ok(());
    }
    let message = format!("attempt {attempt} lies outside its round, which has {first} to {most}");
    Err(Refusal::new(Code::AttemptInvalid, message))
}

/// What was moved once is folded where it stands: while two instances believe in different numbers of partitions, they would send
/// it to and fro.
fn belongs_in(ack: &Ack, record: &InRecord, partitions: i32) -> Option<i32> {
    let own = partition::of_key(&key(ack), partitions)?;
    let was_moved = record::last(&record.headers, wire::CE_WALMOVED).is_some();
    (own != record.partition && !was_moved).then_some(own)
}
