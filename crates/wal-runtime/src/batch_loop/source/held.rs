//! One assigned partition: its queue, its head, and where it stands.

use std::sync::Arc;
use std::time::Instant;

use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tracing::warn;
use wal_kafka::epochs::Partition;
use wal_kafka::native::{Polled, Record};
use wal_kafka::queue::SplitQueue;
use wal_kafka::records::copied;
use wal_kafka::wake::Wake;
use wal_model::{InRecord, Priority, Timestamp, Topic};

use super::{Context, Meant, Unreadable, check};
use crate::batch_loop::batch::Builder;
use crate::batch_loop::gate::{Gate, Look};

/// A partition that is ours.
pub(super) struct Held {
    topic: Topic,
    queue: SplitQueue<Context>,
    /// The first offset that is not taken; `None` as long as nobody has said where reading begins.
    next: Option<i64>,
    /// The offset that is committed.
    kept: Option<i64>,
    head: Option<Head>,
    is_astray: bool,
}

/// The first record that is not taken, copied: a borrowed one pins the fetch it came in for as long as it waits.
struct Head {
    record: InRecord,
    rests_until: Option<Instant>,
}

impl Held {
    /// Splits off the queue of a partition that was just assigned.
    pub(super) fn split(
        consumer: &Arc<BaseConsumer<Context>>,
        partition: &Partition,
        place: Option<i64>,
        wake: &Arc<Wake>,
    ) -> Option<Held> {
        let queue = SplitQueue::of(consumer, partition, wake)?;
        Some(Held { topic: partition.0.clone(), queue, next: place, kept: place, head: None, is_astray: false })
    }

    /// The first offset that is neither taken nor past.
    pub(super) fn next(&self) -> Option<i64> {
        self.next
    }

    /// The offset that is committed.
    pub(super) fn kept(&self) -> Option<i64> {
        self.kept
    }

    /// Whether it stands further than what is committed.
    pub(super) fn is_ahead(&self) -> bool {
        self.next > self.kept
    }

    /// Whether it is read where there is no log.
    pub(super) fn is_astray(&self) -> bool {
        self.is_astray
    }

    /// Somebody has looked after it.
    pub(super) fn put_back(&mut self) {
        self.is_astray = false;
    }

    pub(super) fn committed(&mut self, offset: i64) {
        self.kept = Some(offset);
    }

    /// It stands where it was committed, and what was taken since will come again.
    pub(super) fn rewind(&mut self, offset: i64) {
        self.head = None;
        (self.next, self.kept) = (Some(offset), Some(offset));
        self.queue.look_again();
    }

    /// Takes up to `wanted` records.
    pub(super) fn take_turn(
        &mut self,
        builder: &mut Builder,
        wanted: usize,
        bytes: usize,
    ) -> Result<usize, Unreadable> {
        let mut taken = 0;
        while taken < wanted && builder.bytes() < bytes {
            let topic = &self.topic;
            let told = (&mut self.next, &mut self.is_astray);
            let Some(offset) = poll(topic, &self.queue, told, |record| {
                builder.add(topic, record);
                record.offset()
            })?
            else {
                break;
            };
            self.next = Some(offset + 1);
            taken += 1;
        }
        Ok(taken)
    }

    /// Lets the gate look at the head: its priority and due time if it may be taken now.
    pub(super) fn look(
        &mut self,
        gate: &dyn Gate,
        now: Instant,
        cluster: &Arc<str>,
    ) -> Result<Option<(Priority, Timestamp)>, Unreadable> {
        if self.head.is_none() {
            let topic = &self.topic;
            let told = (&mut self.next, &mut self.is_astray);
            let record = poll(topic, &self.queue, told, |record| copied(topic, record.view(), cluster))?;
            self.head = record.map(|record| Head { record, rests_until: None });
        }
        let Some(head) = &mut self.head else { return Ok(None) };
        if head.rests_until.is_some_and(|until| until > now) {
            return Ok(None);
        }
        match gate.look(&head.record) {
            Look::Pass { priority, due } => {
                head.rests_until = Some(now);
                Ok(Some((priority, due)))
            }
            Look::Rest(rest) => {
                head.rests_until = Some(now + rest);
                Ok(None)
            }
        }
    }

    /// Takes the head.
    pub(super) fn take_head(&mut self, builder: &mut Builder) {
        let head = self.head.take().expect("only a head that was looked at is taken");
        self.next = Some(head.record.offset + 1);
        builder.take(head.record);
    }

    /// When the head may be looked at again.
    pub(super) fn rests_until(&self) -> Option<Instant> {
        self.head.as_ref().and_then(|head| head.rests_until)
    }
}

/// The next record, if one is there, as `read` copies it. What is told besides is taken in.
fn poll<T>(
    topic: &Topic,
    queue: &SplitQueue<Context>,
    (next, is_astray): (&mut Option<i64>, &mut bool),
    read: impl FnOnce(&Record<'_>) -> T,
) -> Result<Option<T>, Unreadable> {
    loop {
        match queue.poll() {
            Polled::Nothing => return Ok(None),
            Polled::Record(record) => return Ok(Some(read(&record))),
            Polled::End(offset) => *next = (*next).max(Some(offset)),
            Polled::Error(code) => {
                warn!(%topic, %code, "a partition cannot be read");
                *is_astray |= check(&error(code))? == Meant::Astray;
            }
        }
    }
}

fn error(code: RDKafkaErrorCode) -> KafkaError {
    match code {
        RDKafkaErrorCode::Fatal => KafkaError::MessageConsumptionFatal(code),
        code => KafkaError::MessageConsumption(code),
    }
}
