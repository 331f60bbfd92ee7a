//! A partition's own queue, split off so that it can be left alone while others are read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};

use crate::epochs::Partition;
use crate::native::{Polled, Queue};
use crate::wake::Wake;

/// The queue of a partition that is assigned.
pub struct SplitQueue<C: ConsumerContext + 'static> {
    queue: Queue,
    /// Keeps the queue split off and its callback alive. Records are taken from the other handle, which tells offsets of ends.
    _split: PartitionQueue<C>,
    /// Something may have come since the queue was last found empty.
    is_ready: Arc<AtomicBool>,
}

impl<C: ConsumerContext + 'static> SplitQueue<C> {
    /// Splits off the queue of a partition that was just assigned. From now on the thread is woken when something comes.
    pub fn of(
        consumer: &Arc<BaseConsumer<C>>,
        (topic, partition): &Partition,
        wake: &Arc<Wake>,
    ) -> Option<SplitQueue<C>> {
        let mut split = consumer.split_partition_queue(topic.as_str(), *partition)?;
        let queue = Queue::of(consumer.client(), topic.as_str(), *partition)?;
        let is_ready = Arc::new(AtomicBool::new(true));
        let (wake, ready) = (Arc::clone(wake), Arc::clone(&is_ready));
        split.set_nonempty_callback(move || {
            ready.store(true, Ordering::SeqCst);
            wake.wake();
        });
        Some(SplitQueue { queue, _split: split, is_ready })
    }

    /// What is there now. Does not wait, and costs nothing while nothing has come.
    pub fn poll(&self) -> Polled<'_> {
        // Taken back before the look: what comes during it raises the flag again.
        if !self.is_ready.swap(false, Ordering::SeqCst) {
            return Polled::Nothing;
        }
        let polled = self.queue.poll();
        if !matches!(polled, Polled::Nothing) {
            self.look_again();
        }
        polled
    }

    /// Whether a poll may find something.
    pub fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::SeqCst)
    }

    /// Something may have come without the queue saying so: its partition is read from elsewhere.
    pub fn look_again(&self) {
        self.is_ready.store(true, Ordering::SeqCst);
    }
}
