//! The consuming side: one consumer, one queue per partition, and a place in each that only commits move.
//!
//! Partition queues are split so that one lane can be read while another is left alone: a pause would throw away what was read
//! ahead, and rebalances forget it.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tracing::{debug, error, info, warn};
use wal_model::Topic;

use super::batch::Builder;
use super::epochs::{Epochs, Partition, Snapshot};
use super::{Limits, lanes};
use crate::kafka;
use crate::native::GroupMetadata;
use crate::offsets;

/// Longer than a transaction may stay open: offsets under an open transaction are only told once it ends.
const COMMITTED_TIMEOUT: Duration = Duration::from_secs(30);
/// One answer of a broker that is there.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How many records of one partition go into a batch before the next partition has its turn.
const TURN: usize = 64;

/// Wakes the poll thread: a queue is not empty any more, a batch is done, a stop is wanted.
#[derive(Default)]
pub(crate) struct Wake {
    is_due: Mutex<bool>,
    changed: Condvar,
}

impl Wake {
    pub(crate) fn wake(&self) {
        *self.is_due.lock().expect("nothing panics while it is held") = true;
        self.changed.notify_one();
    }

    /// Returns when woken, or after `limit`.
    pub(crate) fn wait(&self, limit: Duration) {
        let is_due = self.is_due.lock().expect("nothing panics while it is held");
        let (mut is_due, _) =
            self.changed.wait_timeout_while(is_due, limit, |is_due| !*is_due).expect("nothing panics while it is held");
        *is_due = false;
    }
}

/// What rebalances leave for the poll thread; they run inside its own calls.
#[derive(Default)]
struct Inbox {
    assigned: Vec<(Partition, PartitionQueue<Context>)>,
    revoked: Vec<Partition>,
    has_assignment: bool,
    lost: Option<String>,
}

pub(crate) struct Context {
    epochs: Arc<Epochs>,
    wake: Arc<Wake>,
    group: String,
    topics: Vec<Topic>,
    consumer: OnceLock<Weak<BaseConsumer<Context>>>,
    inbox: Mutex<Inbox>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        kafka::Context::tell(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(target: "librdkafka", %error, reason, "client error");
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Context>, event: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let result = match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(consumer, partitions),
            _ => self.revoke(consumer, partitions),
        };
        if let Err(error) = result {
            error!(%error, "rebalance failed");
            self.inbox().lost = Some(format!("rebalance failed: {error}"));
        }
        self.wake.wake();
    }
}

impl Context {
    fn inbox(&self) -> std::sync::MutexGuard<'_, Inbox> {
        self.inbox.lock().expect("nothing panics while it is held")
    }

    fn assign(&self, consumer: &BaseConsumer<Context>, list: &TopicPartitionList) -> Result<(), KafkaError> {
        let partitions = partitions(list);
        let mut starts = TopicPartitionList::new();
        match positions(consumer, &self.group, &self.topics, &partitions) {
            Ok(positions) => set_offsets(&mut starts, &positions)?,
            Err(Unplaced::Lost(why)) => self.inbox().lost = Some(why),
            // The committed offsets could not be had: librdkafka looks for itself, and stops the partition if there is none.
            Err(Unplaced::Unanswered(why)) => {
                warn!(why, "could not read committed offsets before assignment");
                starts = list.clone();
            }
        }
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(&starts)?,
            _ => consumer.assign(&starts)?,
        }
        let consumer = self.consumer.get().and_then(Weak::upgrade);
        let consumer = consumer.expect("set before the first poll, and polled through this very Arc");
        let mut inbox = self.inbox();
        inbox.has_assignment = true;
        for partition in partitions {
            let Some(mut queue) = consumer.split_partition_queue(partition.0.as_str(), partition.1) else { continue };
            let wake = Arc::clone(&self.wake);
            queue.set_nonempty_callback(move || wake.wake());
            self.epochs.assign([partition.clone()]);
            inbox.assigned.push((partition, queue));
        }
        Ok(())
    }

    fn revoke(&self, consumer: &BaseConsumer<Context>, list: &TopicPartitionList) -> Result<(), KafkaError> {
        let partitions = partitions(list);
        // Before the unassign, so that nothing held can be published once another member may have the partition.
        self.epochs.revoke(&partitions);
        self.inbox().revoked.extend(partitions);
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
            _ => consumer.unassign(),
        }
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<Partition> {
    list.elements()
        .iter()
        .filter_map(|element| Some((Topic::parse(element.topic()).ok()?, element.partition())))
        .collect()
}

fn set_offsets(list: &mut TopicPartitionList, positions: &[(Partition, i64)]) -> Result<(), KafkaError> {
    positions.iter().try_for_each(|((topic, partition), offset)| {
        list.add_partition_offset(topic.as_str(), *partition, Offset::Offset(*offset))
    })
}

/// Why it is not known where reading begins.
enum Unplaced {
    /// Nobody answered; ask again.
    Unanswered(String),
    /// The group's place is gone; a person must say where to go on.
    Lost(String),
}

/// Where each partition is to be read from: the committed offset, or 0 where the rule of [`offsets`] allows it.
fn positions(
    consumer: &BaseConsumer<Context>,
    group: &str,
    topics: &[Topic],
    wanted: &[Partition],
) -> Result<Vec<(Partition, i64)>, Unplaced> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let unanswered = |error: KafkaError| Unplaced::Unanswered(error.to_string());
    let committed = committed(consumer, wanted).map_err(unanswered)?;
    let is_complete = wanted.iter().all(|partition| committed.contains_key(partition));
    if is_complete {
        return Ok(wanted.iter().map(|partition| (partition.clone(), committed[partition])).collect());
    }
    let facts = offsets::facts(consumer, topics).map_err(unanswered)?;
    let starts = offsets::decide(group, &facts).map_err(|lost| Unplaced::Lost(lost.to_string()))?;
    let start = |start: offsets::Start| ((start.topic, start.partition), start.offset);
    Ok(starts.into_iter().map(start).filter(|(partition, _)| wanted.contains(partition)).collect())
}

fn committed(
    consumer: &BaseConsumer<Context>,
    partitions: &[Partition],
) -> Result<HashMap<Partition, i64>, KafkaError> {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in partitions {
        list.add_partition(topic.as_str(), *partition);
    }
    let committed = consumer.committed_offsets(list, COMMITTED_TIMEOUT)?;
    let mut offsets = HashMap::new();
    for element in committed.elements() {
        element.error()?;
        if let (Offset::Offset(offset), Ok(topic)) = (element.offset(), Topic::parse(element.topic())) {
            offsets.insert((topic, element.partition()), offset);
        }
    }
    Ok(offsets)
}

/// Why consuming cannot go on in this process.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// The group's place is gone, or the client is of no more use.
    #[error("{0}")]
    Fatal(String),
}

/// Records taken for a batch, and what must still be true when they are committed.
pub(crate) struct Taken {
    pub(crate) builder: Builder,
    pub(crate) metadata: GroupMetadata,
    pub(crate) snapshot: Snapshot,
}

/// The consuming side. Lives on one thread.
pub(crate) struct Source {
    consumer: Arc<BaseConsumer<Context>>,
    queues: HashMap<Partition, PartitionQueue<Context>>,
    /// The partitions of each lane, in the order of their next turns.
    turns: Vec<Vec<Partition>>,
    lanes: Vec<Topic>,
    shares: Vec<u8>,
    cluster: Arc<str>,
    last_bytes: usize,
}

impl Source {
    pub(crate) fn new(
        config: &ClientConfig,
        group: &str,
        lanes: &[(Topic, u8)],
        epochs: Arc<Epochs>,
        wake: Arc<Wake>,
    ) -> Result<Source, KafkaError> {
        let topics: Vec<Topic> = lanes.iter().map(|(topic, _)| topic.clone()).collect();
        let context = Context {
            epochs,
            wake: Arc::clone(&wake),
            group: group.to_owned(),
            topics: topics.clone(),
            consumer: OnceLock::new(),
            inbox: Mutex::default(),
        };
        let mut consumer: BaseConsumer<Context> = config.create_with_context(context)?;
        consumer.set_nonempty_callback(move || wake.wake());
        let consumer = Arc::new(consumer);
        let is_first = consumer.context().consumer.set(Arc::downgrade(&consumer)).is_ok();
        assert!(is_first, "a new context has no consumer yet");
        Ok(Source {
            queues: HashMap::new(),
            turns: vec![Vec::new(); topics.len()],
            shares: lanes.iter().map(|(_, share)| *share).collect(),
            lanes: topics,
            cluster: Arc::from(""),
            last_bytes: 0,
            consumer,
        })
    }

    /// Learns the cluster's own id, without which a record has no identity.
    pub(crate) fn identify(&mut self, limit: Duration) -> Result<(), Unreadable> {
        let id = self.consumer.client().fetch_cluster_id(limit).filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| Unreadable::Fatal("the brokers do not tell their cluster's id".to_owned()))?;
        self.cluster = Arc::from(id);
        Ok(())
    }

    pub(crate) fn subscribe(&self) -> Result<(), KafkaError> {
        let topics: Vec<&str> = self.lanes.iter().map(Topic::as_str).collect();
        self.consumer.subscribe(&topics)
    }

    /// Whether an assignment, even an empty one, has come.
    pub(crate) fn has_assignment(&self) -> bool {
        self.consumer.context().inbox().has_assignment
    }

    /// Serves rebalances and errors. Must be called often: it is what keeps the member in its group.
    pub(crate) fn serve(&mut self) -> Result<(), Unreadable> {
        loop {
            match self.consumer.poll(Duration::ZERO) {
                None => break,
                // A record that came between the assignment and the split of its queue; its partition is read again from its place.
                Some(Ok(message)) => {
                    let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
                    debug!(topic, partition, offset, "a record came before its queue was split");
                    self.consumer.seek(topic, partition, Offset::Offset(offset), ANSWER_TIMEOUT).map_err(|error| {
                        Unreadable::Fatal(format!("seek back to {topic}[{partition}]@{offset}: {error}"))
                    })?;
                }
                Some(Err(error)) => check(&error)?,
            }
        }
        self.take_rebalances()
    }

    fn take_rebalances(&mut self) -> Result<(), Unreadable> {
        let mut inbox = self.consumer.context().inbox();
        if let Some(why) = inbox.lost.take() {
            return Err(Unreadable::Fatal(why));
        }
        let (assigned, revoked) = (std::mem::take(&mut inbox.assigned), std::mem::take(&mut inbox.revoked));
        drop(inbox);
        if assigned.is_empty() && revoked.is_empty() {
            return Ok(());
        }
        // Revokes come before assigns within one rebalance; a partition in both stays.
        for partition in &revoked {
            if !assigned.iter().any(|(other, _)| other == partition) {
                self.queues.remove(partition);
            }
        }
        let (came, went) = (assigned.len(), revoked.len());
        self.queues.extend(assigned);
        for (lane, topic) in self.lanes.iter().enumerate() {
            self.turns[lane] = self.queues.keys().filter(|(other, _)| other == topic).cloned().collect();
            self.turns[lane].sort_by_key(|(_, partition)| *partition);
        }
        info!(assigned = came, revoked = went, now = self.queues.len(), "partitions moved");
        Ok(())
    }

    /// Takes what is waiting, up to the limits; `None` if nothing is, or if this member is not in a generation just now.
    pub(crate) fn take(&mut self, limits: &Limits, epochs: &Epochs) -> Result<Option<Taken>, Unreadable> {
        // First of all: what is fetched below was fetched as this member of this generation, or the broker refuses the commit.
        let Some(metadata) = GroupMetadata::take(self.consumer.client()) else { return Ok(None) };
        let Some(snapshot) = epochs.snapshot(self.queues.keys()) else { return Ok(None) };
        let mut builder = Builder::new(Arc::clone(&self.cluster), self.last_bytes);
        self.fill(&mut builder, limits)?;
        Ok((builder.len() > 0).then_some(Taken { builder, metadata, snapshot }))
    }

    /// Adds what came since to a batch that is not full.
    pub(crate) fn fill(&mut self, builder: &mut Builder, limits: &Limits) -> Result<(), Unreadable> {
        let mut failed = Ok(());
        let room = limits.records.saturating_sub(builder.len());
        lanes::fill(&self.shares, room, |lane, wanted| {
            let turns = &mut self.turns[lane];
            let taken = take_lane(turns, &self.queues, builder, wanted, limits.bytes);
            taken.unwrap_or_else(|error| {
                failed = Err(error);
                0
            })
        });
        self.last_bytes = builder.bytes();
        failed
    }

    /// Puts every assigned partition back to its committed offset.
    pub(crate) fn rewind(&mut self) -> Result<Result<(), String>, Unreadable> {
        let context = self.consumer.context();
        let held: Vec<Partition> = self.queues.keys().cloned().collect();
        if held.is_empty() {
            return Ok(Ok(()));
        }
        let positions = match positions(&self.consumer, &context.group, &context.topics, &held) {
            Ok(positions) => positions,
            Err(Unplaced::Unanswered(why)) => return Ok(Err(why)),
            Err(Unplaced::Lost(why)) => return Err(Unreadable::Fatal(why)),
        };
        let mut list = TopicPartitionList::new();
        if let Err(error) = set_offsets(&mut list, &positions) {
            return Ok(Err(error.to_string()));
        }
        let sought = self.consumer.seek_partitions(list, ANSWER_TIMEOUT).map_err(|error| error.to_string());
        Ok(sought.and_then(|list| {
            let failed = list.elements().iter().find_map(|element| element.error().err());
            failed.map_or(Ok(()), |error| Err(format!("seek: {error}")))
        }))
    }

    /// Leaves the group. Blocks until the client is closed, so it belongs on a thread nobody waits for without limit.
    pub(crate) fn close(self) {
        self.consumer.unsubscribe();
        drop(self.queues);
        let mut inbox = self.consumer.context().inbox();
        // Queues hold the consumer, which holds the inbox: left there, nothing would ever be dropped.
        inbox.assigned.clear();
        drop(inbox);
        drop(self.consumer);
    }
}

fn take_lane(
    turns: &mut [Partition],
    queues: &HashMap<Partition, PartitionQueue<Context>>,
    builder: &mut Builder,
    wanted: usize,
    bytes: usize,
) -> Result<usize, Unreadable> {
    let mut taken = 0;
    let mut empty_in_a_row = 0;
    while taken < wanted && empty_in_a_row < turns.len() && builder.bytes() < bytes {
        let partition = &turns[0];
        let got = take_turn(&partition.0, &queues[partition], builder, TURN.min(wanted - taken), bytes)?;
        taken += got;
        empty_in_a_row = if got == 0 { empty_in_a_row + 1 } else { 0 };
        turns.rotate_left(1);
    }
    Ok(taken)
}

fn take_turn(
    topic: &Topic,
    queue: &PartitionQueue<Context>,
    builder: &mut Builder,
    wanted: usize,
    bytes: usize,
) -> Result<usize, Unreadable> {
    let mut taken = 0;
    while taken < wanted && builder.bytes() < bytes {
        match queue.poll(Duration::ZERO) {
            None => break,
            Some(Ok(message)) => {
                builder.add(topic, &message);
                taken += 1;
            }
            Some(Err(error)) => check(&error)?,
        }
    }
    Ok(taken)
}

/// What a consumer's error means: most are told for information and mend themselves.
fn check(error: &KafkaError) -> Result<(), Unreadable> {
    match error {
        KafkaError::MessageConsumptionFatal(code) => {
            Err(Unreadable::Fatal(format!("the Kafka consumer failed: {code}")))
        }
        KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset) => Err(Unreadable::Fatal(
            "a committed offset lies outside its partition's log; see `wal topics check`".to_owned(),
        )),
        KafkaError::MessageConsumption(code) => {
            warn!(%code, "consumer error");
            Ok(())
        }
        other => {
            debug!(error = %other, "consumer event");
            Ok(())
        }
    }
}
