//! Cancels: a round that is not to be delivered any more, on a compacted topic that every scheduler reads in full.

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::hash::{ContentHash, Fields};
use crate::id::LogId;
use crate::name::Topic;
use crate::record::{self, Header, InRecord, OutRecord};
use crate::seal::{Broken, Keyring};
use crate::wire::{self, CancelJson};

/// A cancelled round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancel {
    /// The entry.
    pub log_id: LogId,
    /// The round, and with it every earlier one.
    pub round: u32,
    /// The round's deadline: after it nothing would be delivered anyway, and the record may go.
    pub deadline: Timestamp,
}

/// Why a record is no cancel.
#[derive(Debug, thiserror::Error)]
pub enum NotACancel {
    /// Its seal is not one of ours, or does not fit.
    #[error("the seal is not accepted")]
    Seal(#[from] Broken),
    /// It cannot be read.
    #[error("the cancel cannot be read: {0}")]
    Unreadable(String),
}

impl Cancel {
    /// The record that carries it to `topic`.
    pub fn encode(&self, topic: Topic, keyring: &Keyring) -> OutRecord {
        let Cancel { log_id, round, deadline } = self;
        let json = CancelJson { log_id: log_id.to_string(), round: *round, deadline: deadline.to_string() };
        let value = serde_json::to_vec(&json).expect("a cancel holds only text and numbers");
        let headers = vec![
            Header::new(wire::CONTENT_TYPE, wire::JSON),
            Header::new(wire::CE_WALSEAL, keyring.sign(sealed(&value))),
        ];
        OutRecord { topic, partition: None, key: Some(Bytes::from(json.log_id)), value: Some(value.into()), headers }
    }

    /// The tombstone that removes the cancel of an entry from `topic`.
    pub fn tombstone(log_id: &LogId, topic: Topic) -> OutRecord {
        OutRecord {
            topic,
            partition: None,
            key: Some(Bytes::from(log_id.to_string())),
            value: None,
            headers: Vec::new(),
        }
    }

    /// Reads a record that is no tombstone.
    pub fn decode(record: &InRecord, keyring: &Keyring) -> Result<Cancel, NotACancel> {
        let value = record.value.as_deref().unwrap_or_default();
        keyring.verify(record::last_str(&record.headers, wire::CE_WALSEAL), sealed(value))?;
        let unreadable = |why: String| NotACancel::Unreadable(why);
        let json: CancelJson = serde_json::from_slice(value).map_err(|error| unreadable(error.to_string()))?;
        Ok(Cancel {
            log_id: json.log_id.parse().map_err(|_| unreadable("log_id is no log id".to_owned()))?,
            round: json.round,
            deadline: json.deadline.parse().map_err(|_| unreadable("deadline is no time".to_owned()))?,
        })
    }
}

/// What the seal covers. Sent, keep stable.
fn sealed(value: &[u8]) -> Fields {
    Fields::new("cancel-1").bytes(ContentHash::of(value).as_bytes())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::seal::tests::keyring;

    #[test]
    fn cancels_round_trip_and_cannot_be_forged() {
        let cancel = Cancel {
            log_id: "wal_orders_20241201T100000000Z_4c6e2eca-8810-581c-8592-1b908a4e49b9".parse().unwrap(),
            round: 2,
            deadline: Timestamp::from_millis(7000).unwrap(),
        };
        let out = cancel.encode(Topic::parse("wal.cancels").unwrap(), &keyring());
        let mut record = InRecord {
            cluster: Arc::from("c"),
            topic: out.topic,
            partition: 0,
            offset: 0,
            time: None,
            key: out.key,
            value: out.value,
            headers: out.headers,
        };
        assert_eq!(Cancel::decode(&record, &keyring()).unwrap(), cancel);
        record.value = record.value.map(|value| {
            let text = String::from_utf8(value.to_vec()).unwrap();
            text.replace("\"round\":2", "\"round\":3").into()
        });
        assert!(matches!(Cancel::decode(&record, &keyring()), Err(NotACancel::Seal(Broken::Forged))));
    }
}
