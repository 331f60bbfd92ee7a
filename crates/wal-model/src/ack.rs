//! Status events of our own services on `wal.acks`: sealed over what was decided.

use bytes::Bytes;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::delivery::Delivery;
use crate::hash::{ContentHash, Fields};
use crate::id::LogId;
use crate::name::{Tenant, Topic};
use crate::record::{self, Header, InRecord, OutRecord};
use crate::seal::{Broken, Keyring};
use crate::status::{Event, Failure, Outcome, Reason, Status};
use crate::wire::{self, StatusJson};

/// A status event and the entry it speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The entry.
    pub log_id: LogId,
    /// Who the entry belongs to.
    pub tenant: Option<Tenant>,
    /// What happened.
    pub event: Event,
}

/// Why a record is no status event of one of our services.
#[derive(Debug, thiserror::Error)]
pub enum NotAnAck {
    /// Its seal is not one of ours, or does not fit.
    #[error("the seal is not accepted")]
    Seal(#[from] Broken),
    /// It cannot be read.
    #[error("the status event cannot be read: {0}")]
    Unreadable(String),
}

impl Ack {
    /// What one of our services decided about an attempt. Its id is the same whoever decides the same, and however often.
    pub fn of(delivery: &Delivery, outcome: Outcome, failure: Option<Failure>, at: Timestamp) -> Ack {
        let Delivery { round, round_first, deadline, attempt, .. } = *delivery;
        let what = match &outcome {
            Outcome::Failed { reason } => reason.as_str(),
            Outcome::Pending | Outcome::Retrying { .. } | Outcome::Completed { .. } => outcome.status().as_str(),
        };
        let id = delivery.log_id.key().derive(&format!("{what} {round} {attempt}"));
        let event = Event { id, round, round_first, deadline, attempt, at, delivered_at: None, outcome, failure };
        Ack { log_id: delivery.log_id.clone(), tenant: delivery.tenant.clone(), event }
    }

    /// The record that carries the event to `topic`.
    pub fn encode(&self, topic: Topic, keyring: &Keyring) -> OutRecord {
        let Event { id, round, round_first, deadline, attempt, at, delivered_at, outcome, failure } = &self.event;
        let (reason, next_attempt_at) = match outcome {
            Outcome::Failed { reason } => (Some(reason.as_str().into()), None),
            Outcome::Retrying { next_attempt_at } => (None, Some(next_attempt_at.to_string())),
            Outcome::Pending | Outcome::Completed { .. } => (None, None),
        };
        let status = outcome.status();
        let json = StatusJson {
            status: status.as_str().into(),
            reason,
            log_id: self.log_id.to_string(),
            round: *round,
            round_first: *round_first,
            attempt: *attempt,
            deadline: deadline.to_string(),
            at: at.to_string(),
            event_id: id.to_string(),
            delivered_at: delivered_at.map(|at| at.to_string()),
            next_attempt_at,
            error_code: failure.as_ref().map(|failure| failure.code.as_str().into()),
            error: failure.as_ref().map(|failure| failure.message.as_str().into()),
        };
        let value = serde_json::to_vec(&json).expect("a status event holds only text and numbers");
        let tenant = self.tenant.as_ref().map_or("", Tenant::as_str);
        let mut headers = vec![
            Header::new(wire::CE_SPECVERSION, wire::SPEC_VERSION),
            Header::new(wire::CE_ID, json.event_id),
            Header::new(wire::CE_SOURCE, crate::delivery::source(self.log_id.namespace())),
            Header::new(wire::CE_TYPE, format!("{}{status}", wire::TYPE_STATUS)),
            Header::new(wire::CE_TIME, json.at),
            Header::new(wire::CONTENT_TYPE, wire::JSON),
            Header::new(wire::CE_WALSEAL, keyring.sign(sealed(tenant, &value))),
        ];
        if let Some(tenant) = &self.tenant {
            headers.push(Header::new(wire::CE_WALTENANT, tenant.to_string()));
        }
        OutRecord {
            topic,
            partition: None,
            key: Some(Bytes::from(json.log_id)),
            value: Some(Bytes::from(value)),
            headers,
        }
    }

    /// Reads a record of `wal.acks` that one of our services wrote.
    pub fn decode(record: &InRecord, keyring: &Keyring) -> Result<Ack, NotAnAck> {
        let value = record.value.as_deref().unwrap_or_default();
        let tenant = record::last_str(&record.headers, wire::CE_WALTENANT);
        let seal = record::last_str(&record.headers, wire::CE_WALSEAL);
        keyring.verify(seal, sealed(tenant.unwrap_or_default(), value))?;
        let unreadable = |why: &str| NotAnAck::Unreadable(why.to_owned());
        let json: StatusJson<'_> = serde_json::from_slice(value).map_err(|error| unreadable(&error.to_string()))?;
        let time = |text: &str| text.parse::<Timestamp>().map_err(|error| unreadable(&error.to_string()));
        let event = Event {
            id: Uuid::try_parse(&json.event_id).map_err(|_| unreadable("event_id is no UUID"))?,
            round: json.round,
            round_first: json.round_first,
            deadline: time(&json.deadline)?,
            attempt: json.attempt,
            at: time(&json.at)?,
            delivered_at: json.delivered_at.as_deref().map(time).transpose()?,
            outcome: outcome(&json, time)?,
            failure: json.error_code.as_ref().map(|code| Failure {
                code: code.clone().into_owned(),
                message: json.error.as_deref().unwrap_or_default().to_owned(),
            }),
        };
        let tenant = tenant.map(Tenant::parse).transpose().map_err(|_| unreadable("the tenant is no tenant"))?;
        let log_id = json.log_id.parse().map_err(|_| unreadable("log_id is no log id"))?;
        Ok(Ack { log_id, tenant, event })
    }
}

fn outcome(json: &StatusJson<'_>, time: impl Fn(&str) -> Result<Timestamp, NotAnAck>) -> Result<Outcome, NotAnAck> {
    let unreadable = |what: &str| NotAnAck::Unreadable(format!("{what} is missing or unknown"));
    match Status::parse(&json.status).ok_or_else(|| unreadable("status"))? {
        Status::Pending => Ok(Outcome::Pending),
        Status::Completed => Ok(Outcome::Completed { result: None }),
        Status::Retrying => {
            let at = json.next_attempt_at.as_deref().ok_or_else(|| unreadable("next_attempt_at"))?;
            Ok(Outcome::Retrying { next_attempt_at: time(at)? })
        }
        Status::Failed => {
            let reason = json.reason.as_deref().and_then(Reason::parse).ok_or_else(|| unreadable("reason"))?;
            Ok(Outcome::Failed { reason })
        }
    }
}

/// What the seal covers. Sent, keep stable.
fn sealed(tenant: &str, value: &[u8]) -> Fields {
    Fields::new("status-1").text(tenant).bytes(ContentHash::of(value).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::tests::delivery;

    #[test]
    fn whoever_decides_the_same_says_the_same() {
        let expired = |delivery: &Delivery, at| {
            let at = Timestamp::from_millis(at).unwrap();
            Ack::of(delivery, Outcome::Failed { reason: Reason::Expired }, None, at).event.id
        };
        assert_eq!(expired(&delivery(), 1), expired(&delivery(), 2));
        assert_ne!(expired(&delivery(), 1), expired(&delivery().next_attempt(), 1));
        let completed = Ack::of(&delivery(), Outcome::Completed { result: None }, None, Timestamp::EPOCH);
        assert_ne!(completed.event.id, expired(&delivery(), 0));
    }
}
