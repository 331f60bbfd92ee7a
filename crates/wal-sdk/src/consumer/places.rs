//! Where a partition is to be read from.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use wal_model::Topic;

use super::Partition;

/// Longer than a transaction may stay open: offsets under an open transaction are only told once it ends.
const COMMITTED_TIMEOUT: Duration = Duration::from_secs(30);
/// One answer of a broker that is there.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a partition is to be read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// What is committed for the group, if anything is.
    pub(super) committed: Option<i64>,
    /// Where reading begins.
    pub(super) from: i64,
}

impl Place {
    /// At what is committed; at the oldest record where nothing is, or where what is committed is not there any more.
    fn of(committed: Option<i64>, oldest: i64) -> Place {
        Place { committed, from: committed.map_or(oldest, |committed| committed.max(oldest)) }
    }

    /// From where to where there is nothing to read any more that the group has not read.
    pub(super) fn missed(&self) -> Option<(i64, i64)> {
        self.committed.filter(|committed| *committed < self.from).map(|committed| (committed, self.from))
    }
}

/// Asks where partitions are to be read from.
pub(super) fn find<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &[Partition],
) -> Result<HashMap<Partition, Place>, KafkaError> {
    if partitions.is_empty() {
        return Ok(HashMap::new());
    }
    let committed = committed(consumer, partitions)?;
    let oldest = oldest(consumer, partitions)?;
    let place = |(partition, oldest): (Partition, i64)| {
        let place = Place::of(committed.get(&partition).copied(), oldest);
        (partition, place)
    };
    Ok(oldest.into_iter().map(place).collect())
}

/// What is committed for the group, for those of the partitions that have something.
pub(super) fn committed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &[Partition],
) -> Result<HashMap<Partition, i64>, KafkaError> {
    offsets(&consumer.committed_offsets(list(partitions), COMMITTED_TIMEOUT)?)
}

fn oldest<C: ConsumerContext + ClientContext>(
    consumer: &BaseConsumer<C>,
    partitions: &[Partition],
) -> Result<HashMap<Partition, i64>, KafkaError> {
    let mut wanted = list(partitions);
    // In Kafka's ListOffsets the time -2 means the beginning, and `Offset::Beginning` is -2.
    wanted.set_all_offsets(Offset::Beginning)?;
    offsets(&consumer.offsets_for_times(wanted, ANSWER_TIMEOUT)?)
}

fn list(partitions: &[Partition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        list.add_partition(topic.as_str(), *partition);
    }
    list
}

fn offsets(list: &TopicPartitionList) -> Result<HashMap<Partition, i64>, KafkaError> {
    let mut offsets = HashMap::new();
    for element in list.elements() {
        element.error()?;
        if let (Offset::Offset(offset), Ok(topic)) = (element.offset(), Topic::parse(element.topic())) {
            offsets.insert((topic, element.partition()), offset);
        }
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_goes_on_where_the_group_got_to_or_at_the_oldest_there_is() {
        for (committed, oldest, from, missed) in [
            (None, 0, 0, None),
            (None, 7, 7, None),
            (Some(9), 7, 9, None),
            (Some(7), 7, 7, None),
            (Some(3), 7, 7, Some((3, 7))),
        ] {
            let place = Place::of(committed, oldest);
            assert_eq!((place.from, place.missed()), (from, missed), "{committed:?}");
        }
    }
}
