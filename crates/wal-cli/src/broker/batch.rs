//! Record batches as bytes: checking one that came in, stamping it, and naming where it goes.

use bytes::{BufMut as _, Bytes, BytesMut};
use tansu_sans_io::{ErrorCode, record::deflated::Batch};
use uuid::Uuid;

/// The only record format there is since Kafka 0.11.
const MAGIC: i8 = 2;

/// Attribute bit 3: the timestamps of this batch are the broker's, not the producer's.
const LOG_APPEND_TIME: i16 = 0b1000;

/// Bytes of a batch before its records, without base offset and length.
const FIXED_LENGTH: usize = 49;

/// One partition, by the topic's id: a topic deleted and made again is another topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) topic: Uuid,
    pub(super) partition: i32,
}

/// Who says when a record was written (`message.timestamp.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamp {
    Producer,
    Broker,
}

/// A batch on its way into a partition.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) place: Place,
    pub(super) stamp: Stamp,
    pub(super) batch: Batch,
}

/// Refuses a batch whose own numbers contradict each other, before any of it is kept.
pub(super) fn check(batch: &Batch, max_message_bytes: usize) -> Result<(), ErrorCode> {
    if batch.magic != MAGIC {
        return Err(ErrorCode::UnsupportedForMessageFormat);
    }
    if size(batch) > max_message_bytes {
        return Err(ErrorCode::MessageTooLarge);
    }
    let counted = i64::from(batch.last_offset_delta) + 1;
    if batch.record_count == 0 || counted != i64::from(batch.record_count) || batch.is_control() {
        return Err(ErrorCode::InvalidRecord);
    }
    if checksum(batch) != batch.crc {
        return Err(ErrorCode::CorruptMessage);
    }
    Ok(())
}

/// What the batch weighs in the log and on the wire.
pub(super) fn size(batch: &Batch) -> usize {
    12 + FIXED_LENGTH + batch.record_data.len()
}

/// The bytes to keep: offset given by the broker and, where the topic asks for it, the broker's time.
pub(super) fn seal(mut batch: Batch, stamp: Stamp, base_offset: i64, now: i64) -> Bytes {
    batch.base_offset = base_offset;
    batch.partition_leader_epoch = 0;
    if stamp == Stamp::Broker {
        batch.attributes |= LOG_APPEND_TIME;
        batch.max_timestamp = now;
        batch.crc = checksum(&batch);
    }
    batch.into()
}

/// The sequence that follows `count` records starting at `first`; Kafka wraps to 0 after `i32::MAX`.
pub(super) fn sequence_after(first: i32, count: u32) -> i32 {
    let next = (i64::from(first) + i64::from(count)) % (i64::from(i32::MAX) + 1);
    i32::try_from(next).expect("a remainder of 2^31 fits an i32")
}

/// CRC-32C over everything from the attributes on, as the format defines it.
fn checksum(batch: &Batch) -> u32 {
    let mut head = BytesMut::with_capacity(FIXED_LENGTH);
    head.put_i16(batch.attributes);
    head.put_i32(batch.last_offset_delta);
    head.put_i64(batch.base_timestamp);
    head.put_i64(batch.max_timestamp);
    head.put_i64(batch.producer_id);
    head.put_i16(batch.producer_epoch);
    head.put_i32(batch.base_sequence);
    head.put_u32(batch.record_count);
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&head);
    digest.update(&batch.record_data);
    u32::try_from(digest.finalize()).expect("a 32 bit checksum fits a u32")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch {
        let mut batch = Batch {
            magic: MAGIC,
            batch_length: 53,
            record_count: 1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_data: Bytes::from_static(b"data"),
            ..Batch::default()
        };
        batch.crc = checksum(&batch);
        batch
    }

    #[test]
    fn accepts_a_sound_batch_and_refuses_a_changed_one() {
        let sound = batch();
        let changed = Batch { record_data: Bytes::from_static(b"dada"), ..batch() };

        assert_eq!(check(&sound, 1_000), Ok(()));
        assert_eq!(check(&changed, 1_000), Err(ErrorCode::CorruptMessage));
        assert_eq!(check(&sound, 10), Err(ErrorCode::MessageTooLarge));
    }

    #[test]
    fn a_stamped_batch_is_still_sound() {
        let bytes = seal(batch(), Stamp::Broker, 7, 1_234);

        let stamped = Batch::try_from(bytes).unwrap();

        assert_eq!(stamped.base_offset, 7);
        assert_eq!(stamped.max_timestamp, 1_234);
        assert_eq!(checksum(&stamped), stamped.crc);
    }

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(sequence_after(5, 3), 8);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 4), 2);
    }
}
