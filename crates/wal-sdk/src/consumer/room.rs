//! How much may be in hand: a gauge of what was handed out and is neither finished nor forgotten.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much may be in hand at a time, all partitions together.
#[derive(Debug)]
pub(super) struct Room {
    records: usize,
    bytes: usize,
    taken: Arc<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    records: AtomicUsize,
    bytes: AtomicUsize,
}

/// A record's share of the room, given back when it is dropped. It goes with the record: to the caller, back with the answer, and
/// stays beside that until the offset is committed.
#[derive(Debug)]
pub(super) struct Share {
    bytes: usize,
    taken: Arc<Taken>,
}

impl Room {
    pub(super) fn new(records: usize, bytes: usize) -> Room {
        Room { records, bytes, taken: Arc::default() }
    }

    /// Whether one more may be handed out. The record that reaches the limit of bytes is the last, however large.
    pub(super) fn is_left(&self) -> bool {
        self.taken.records.load(Ordering::Acquire) < self.records
            && self.taken.bytes.load(Ordering::Acquire) < self.bytes
    }

    pub(super) fn take(&self, bytes: usize) -> Share {
        self.taken.records.fetch_add(1, Ordering::AcqRel);
        self.taken.bytes.fetch_add(bytes, Ordering::AcqRel);
        Share { bytes, taken: Arc::clone(&self.taken) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.taken.records.fetch_sub(1, Ordering::AcqRel);
        self.taken.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_limited_in_records_and_in_bytes() {
        let room = Room::new(2, 100);
        let (first, second) = (room.take(1), room.take(1));
        assert!(!room.is_left());
        drop(first);
        assert!(room.is_left());
        drop(second);
        let large = room.take(1000);
        assert!(!room.is_left());
        drop(large);
        assert!(room.is_left());
    }
}
