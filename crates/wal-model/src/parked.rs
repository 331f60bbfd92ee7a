//! Parked records: an attempt that waits on a delay topic. Sealed by themselves, so that nothing can be injected there and nothing
//! that waits there can be answered.

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::delay::{Wait, head_rests_until};
use crate::delivery::{Delivery, NotADelivery, Reader};
use crate::hash::ContentHash;
use crate::record::{self, InRecord, OutRecord};
use crate::seal::{Broken, Keyring};
use crate::topics::Topics;
use crate::wire;

/// An attempt that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// The attempt.
    pub delivery: Delivery,
    /// When it is due: no copy is published sooner.
    pub due: Timestamp,
    /// The clock of the service that parked it here.
    pub parked_at: Timestamp,
    /// The wait of the topic it is parked on.
    pub wait: Wait,
}

/// Why a record of a delay topic is none that we parked there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotParked {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] NotADelivery),
    /// Its seal is not one of ours, or does not fit.
    #[error("its seal is not accepted: {0}")]
    Seal(#[from] Broken),
}

impl Parked {
    /// The record that carries it to its delay topic.
    pub fn encode(&self, topics: &Topics, keyring: &Keyring) -> OutRecord {
        let hash = ContentHash::of(&self.delivery.payload);
        let mut headers = self.delivery.headers_of(hash, None);
        headers.add(wire::CE_WALDUE, self.due);
        headers.add(wire::CE_WALPARKEDAT, self.parked_at);
        headers.add(wire::CE_WALWAIT, self.wait);
        headers.add(wire::CE_WALPARKSEAL, keyring.sign(self.delivery.sealed_parked(hash, self.due)));
        OutRecord {
            topic: topics.delay(self.wait),
            partition: None,
            key: Some(Bytes::from(self.delivery.log_id.to_string())),
            value: Some(self.delivery.payload.clone()),
            headers: headers.and(&self.delivery.headers),
        }
    }

    /// Reads a record of a delay topic.
    pub fn decode(record: &InRecord, keyring: &Keyring) -> Result<Parked, NotParked> {
        let (delivery, hash, _) = Delivery::read(&record.headers, record.value.clone().unwrap_or_default())?;
        if hash != ContentHash::of(&delivery.payload) {
            return Err(NotADelivery::OtherPayload.into());
        }
        let Rest { due, parked_at, wait } = Rest::read(record)?;
        let seal = record::last_str(&record.headers, wire::CE_WALPARKSEAL);
        keyring.verify(seal, delivery.sealed_parked(hash, due))?;
        Ok(Parked { delivery, due, parked_at, wait })
    }
}

/// What the head of a delay topic says of its own wait. Looked at before anything else, so it is not proof of anything: the seal
/// is checked when the wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// When the attempt is due.
    pub due: Timestamp,
    /// The clock of the service that parked it here.
    pub parked_at: Timestamp,
    /// The wait of the topic it was parked on.
    pub wait: Wait,
}

impl Rest {
    /// Reads the headers that tell it.
    pub fn read(record: &InRecord) -> Result<Rest, NotADelivery> {
        let read = Reader(&record.headers);
        Ok(Rest {
            due: read.required(wire::CE_WALDUE)?,
            parked_at: read.required(wire::CE_WALPARKEDAT)?,
            wait: read.required(wire::CE_WALWAIT)?,
        })
    }

    /// How long the head must still be left alone at `now`; `None` if its hop is over.
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        head_rests_until(now, self.parked_at, self.wait, self.due)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::delivery::tests::delivery;
    use crate::record::Header;
    use crate::seal::tests::keyring;

    fn parked() -> Parked {
        Parked {
            delivery: delivery(),
            due: Timestamp::from_millis(90_000).unwrap(),
            parked_at: Timestamp::from_millis(30_000).unwrap(),
            wait: "60s".parse().unwrap(),
        }
    }

    fn record() -> InRecord {
        let topics = Topics::new("wal.").unwrap();
        let out = parked().encode(&topics, &keyring());
        assert_eq!(out.topic.as_str(), "wal.delay.60s");
        InRecord {
            cluster: Arc::from("c"),
            topic: out.topic,
            partition: 0,
            offset: 0,
            time: None,
            key: out.key,
            value: out.value,
            headers: out.headers,
        }
    }

    #[test]
    fn what_is_parked_comes_back_as_it_was() {
        assert_eq!(Parked::decode(&record(), &keyring()), Ok(parked()));
        assert_eq!(Rest::read(&record()).unwrap().until(Timestamp::from_millis(90_000).unwrap()), None);
    }

    #[test]
    fn nothing_can_be_injected_or_hastened() {
        for (name, value) in [(wire::CE_WALDUE, "1970-01-01T00:00:31.000Z"), (wire::CE_WALTARGET, "elsewhere")] {
            let mut record = record();
            record.headers.retain(|header| !header.is(name));
            record.headers.push(Header::new(name, value));
            assert_eq!(Parked::decode(&record, &keyring()), Err(NotParked::Seal(Broken::Forged)), "{name}");
        }
        let mut delivered = record();
        delivered.headers.retain(|header| !header.is(wire::CE_WALPARKSEAL));
        assert_eq!(Parked::decode(&delivered, &keyring()), Err(NotParked::Seal(Broken::Missing)));
    }

    #[test]
    fn what_waits_cannot_be_answered() {
        let mut record = record();
        record.headers.push(Header::new(wire::CE_WALSENT, "1970-01-01T00:00:31.000Z"));
        let seal = record::last(&record.headers, wire::CE_WALPARKSEAL).cloned().unwrap();
        record.headers.push(Header::new(wire::CE_WALSEAL, seal));
        assert!(crate::answer::Failed::decode(&record, &keyring()).is_err());
    }
}
