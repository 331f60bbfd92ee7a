//! How far the loops of a process are behind: in records, and for how long.
//!
//! ```text
//!   batch loops ─▶ what is committed ─┐
//!                                     ├─▶ Trail of each partition ─▶ lag in records, lag in seconds
//!   brokers ─────▶ where it ends ─────┘
//! ```
//!
//! Nothing is read for it: for how long a record has waited is told by when the end was first seen beyond it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tokio::task::JoinHandle;
use tracing::debug;
use wal_kafka::native::WayBack;

use crate::batch_loop::Standing;
use crate::config::Kafka;
use crate::kafka::{self, Context};
use crate::metrics::{Metrics, Partition};

/// How often the brokers are asked: one small request to each.
const EVERY: Duration = Duration::from_secs(5);
/// One answer of a broker that is there.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How many ends of a partition are kept. When there are more every second one is forgotten, so a long lag is known less finely.
const KEPT: usize = 64;

/// A task that looks every few seconds. Ends when it is dropped.
#[derive(Debug)]
pub struct Follower {
    task: JoinHandle<()>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Follows the loops that report to these metrics. Does not wait for the brokers.
pub fn follow(kafka: &Kafka, metrics: &Metrics) -> Result<Follower, KafkaError> {
    let client: Arc<BaseConsumer<Context>> = Arc::new(kafka::common(kafka).create_with_context(Context)?);
    let (metrics, way_back) = (metrics.clone(), WayBack::default());
    let task = tokio::spawn(async move {
        let mut trails = HashMap::new();
        loop {
            way_back.look(client.client());
            let loops = metrics.loops().into_iter();
            let standing: HashMap<String, Vec<Standing>> = loops.map(|(group, own)| (group, own.standing)).collect();
            let (client, asked) = (Arc::clone(&client), standing.clone());
            // A panic in there would be one in here.
            let ends = tokio::task::spawn_blocking(move || ends(&client, asked.values().flatten())).await;
            tell(&metrics, &mut trails, standing, &ends.unwrap_or_default(), Instant::now());
            tokio::time::sleep(EVERY).await;
        }
    });
    Ok(Follower { task })
}

type Ends = HashMap<(String, i32), i64>;

/// Where partitions end for whoever reads what is committed; those that nobody tells of are left out.
fn ends<'a>(client: &BaseConsumer<Context>, standing: impl Iterator<Item = &'a Standing>) -> Ends {
    let mut list = TopicPartitionList::new();
    for Standing { topic, partition, .. } in standing {
        // In a question for times, the end stands where the time would.
        if let Err(error) = list.add_partition_offset(topic.as_str(), *partition, Offset::End) {
            debug!(%topic, partition, %error, "a partition's end cannot be asked for");
        }
    }
    if list.count() == 0 {
        return Ends::new();
    }
    match client.offsets_for_times(list, ANSWER_TIMEOUT) {
        Ok(list) => list
            .elements()
            .iter()
            .filter(|element| element.error().is_ok())
            .filter_map(|element| match element.offset() {
                Offset::Offset(end) => Some(((element.topic().to_owned(), element.partition()), end)),
                _ => None,
            })
            .collect(),
        Err(error) => {
            debug!(%error, "nobody says where partitions end");
            Ends::new()
        }
    }
}

/// Sets the gauges of what is held, and forgets what is not held any more.
fn tell(
    metrics: &Metrics,
    trails: &mut HashMap<Partition, Trail>,
    standing: HashMap<String, Vec<Standing>>,
    ends: &Ends,
    now: Instant,
) {
    let lags = metrics.lags();
    let mut held: HashMap<Partition, Trail> = HashMap::with_capacity(trails.len());
    for (group, standing) in standing {
        let group: Arc<str> = group.into();
        for Standing { topic, partition, committed } in standing {
            let labels = Partition { group: Arc::clone(&group), topic: topic.as_str().into(), partition };
            let mut trail = trails.remove(&labels).unwrap_or_default();
            if let Some(end) = ends.get(&(topic.to_string(), partition)) {
                trail.saw(*end, now);
            }
            if let Some((records, age)) = trail.lag(committed, now) {
                lags.records.of(&labels).set(records);
                lags.seconds.of(&labels).set(age.as_secs_f64());
            }
            held.insert(labels, trail);
        }
    }
    for gone in trails.keys() {
        lags.records.forget(gone);
        lags.seconds.forget(gone);
    }
    *trails = held;
}

/// When the end of a partition was first seen where: ascending in both.
#[derive(Debug, Default)]
struct Trail {
    ends: VecDeque<(Instant, i64)>,
}

impl Trail {
    fn saw(&mut self, end: i64, now: Instant) {
        if self.ends.back().is_some_and(|(_, last)| *last >= end) {
            return;
        }
        if self.ends.len() >= KEPT {
            let mut number = 0;
            self.ends.retain(|_| {
                number += 1;
                number % 2 == 1
            });
        }
        self.ends.push_back((now, end));
    }

    /// How many records lie between what is committed and the end, and for how long the first of them has been known; `None` before the
    /// end was seen.
    fn lag(&mut self, committed: i64, now: Instant) -> Option<(i64, Duration)> {
        let (_, end) = *self.ends.back()?;
        // The last one stays: it is where the partition ends.
        while self.ends.len() > 1 && self.ends[0].1 <= committed {
            self.ends.pop_front();
        }
        let (since, first) = self.ends[0];
        let age = if first > committed { now.saturating_duration_since(since) } else { Duration::ZERO };
        Some(((end - committed).max(0), age))
    }
}

#[cfg(test)]
mod tests {
    use wal_model::Topic;

    use super::*;
    use crate::metrics::Format;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_lag_is_as_old_as_the_first_record_that_is_not_committed() {
        let (mut trail, start) = (Trail::default(), Instant::now());
        assert_eq!(trail.lag(5, start), None, "nobody has said where it ends");
        trail.saw(10, start);
        assert_eq!(trail.lag(10, start + SECOND), Some((0, Duration::ZERO)));
        trail.saw(12, start + 2 * SECOND);
        trail.saw(20, start + 4 * SECOND);
        assert_eq!(trail.lag(10, start + 5 * SECOND), Some((10, 3 * SECOND)));
        assert_eq!(trail.lag(12, start + 5 * SECOND), Some((8, SECOND)));
        // The brokers are silent, and it grows older all the same.
        assert_eq!(trail.lag(12, start + 9 * SECOND), Some((8, 5 * SECOND)));
        assert_eq!(trail.lag(20, start + 9 * SECOND), Some((0, Duration::ZERO)));
        assert_eq!(
            trail.lag(21, start + 9 * SECOND),
            Some((0, Duration::ZERO)),
            "committed since the end was asked for"
        );
    }

    #[test]
    fn a_long_lag_keeps_its_age_and_takes_no_more_room() {
        let (mut trail, start) = (Trail::default(), Instant::now());
        for number in 1..=1000 {
            trail.saw(i64::from(number), start + number * SECOND);
        }
        assert!(trail.ends.len() <= KEPT, "{}", trail.ends.len());
        assert_eq!(trail.lag(0, start + 1001 * SECOND), Some((1000, 1000 * SECOND)));
    }

    #[test]
    fn only_what_is_held_is_told() {
        let (metrics, mut trails, now) = (Metrics::new(), HashMap::new(), Instant::now());
        let topic = Topic::parse("wal.ingress").unwrap();
        let standing = |partition| Standing { topic: topic.clone(), partition, committed: 7 };
        let at = |partition| (("wal.ingress".to_owned(), partition), 9);
        let ends = Ends::from([at(0), at(1)]);
        let of = |partitions: &[i32]| {
            HashMap::from([(
                "wal.writer".to_owned(),
                partitions.iter().map(|partition| standing(*partition)).collect(),
            )])
        };
        tell(&metrics, &mut trails, of(&[0, 1, 2]), &ends, now);
        let told = metrics.encode(Format::Prometheus);
        for partition in [0, 1] {
            let line = format!(
                "wal_consumer_lag_records{{group=\"wal.writer\",topic=\"wal.ingress\",partition=\"{partition}\"}} 2\n"
            );
            assert!(told.contains(&line), "{told}");
        }
        assert!(!told.contains("partition=\"2\""), "nobody says where it ends: {told}");

        tell(&metrics, &mut trails, of(&[1]), &ends, now);
        let told = metrics.encode(Format::Prometheus);
        assert!(!told.contains("partition=\"0\"") && told.contains("partition=\"1\""), "{told}");
    }
}
