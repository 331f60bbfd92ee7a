//! The consuming side: one consumer, one queue per partition, and a place in each that only commits move.
//!
//! Partition queues are split so that one lane can be read while another is left alone, and so that a head can wait: a pause would
//! throw away what was read ahead, and rebalances forget it.

mod held;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tracing::{debug, error, info, warn};
use wal_kafka::epochs::{Epochs, Partition, Snapshot};
use wal_kafka::native::{GroupMetadata, WayBack};
use wal_kafka::publisher::NextOffsets;
use wal_kafka::wake::Wake;
use wal_model::Topic;

use super::batch::{Builder, Place};
use super::gate::{Ceiling, Gate, Order};
use super::{Limits, Reads, Standing, lanes};
use crate::kafka;
use crate::offsets;

use held::Held;

/// Longer than a transaction may stay open: offsets under an open transaction are only told once it ends.
const COMMITTED_TIMEOUT: Duration = Duration::from_secs(30);
/// One answer of a broker that is there.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a place may stand before marks of transactions: far below any retention, and no work to speak of.
const KEEP_PLACE: Duration = Duration::from_secs(5);
/// How many records of one partition go into a batch before the next partition has its turn.
const TURN: usize = 64;

/// What rebalances leave for the poll thread; they run inside its own calls.
#[derive(Default)]
struct Inbox {
    assigned: Vec<(Partition, Held)>,
    revoked: Vec<Partition>,
    has_assignment: bool,
    lost: Option<String>,
}

pub(crate) struct Context {
    epochs: Arc<Epochs>,
    wake: Arc<Wake>,
    group: String,
    subscription: Subscription,
    consumer: OnceLock<Weak<BaseConsumer<Context>>>,
    inbox: Mutex<Inbox>,
}

/// What a consumer subscribes to.
enum Subscription {
    Topics(Vec<Topic>),
    /// Every topic whose name begins so.
    Prefix(String),
}

impl Subscription {
    fn names(&self) -> Vec<String> {
        match self {
            Subscription::Topics(topics) => topics.iter().map(Topic::to_string).collect(),
            // Of the characters that topic names may hold, only the dot means something in an expression.
            Subscription::Prefix(prefix) => vec![format!("^{}.*", prefix.replace('.', "\\."))],
        }
    }

    fn topics(&self, consumer: &BaseConsumer<Context>) -> Result<Vec<Topic>, KafkaError> {
        match self {
            Subscription::Topics(topics) => Ok(topics.clone()),
            Subscription::Prefix(prefix) => offsets::topics_under(consumer, prefix),
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        kafka::Context::tell(level, facility, message);
    }

    /// In librdkafka's words, which name the topic or the broker; who polls gets the code alone.
    fn error(&self, error: KafkaError, reason: &str) {
        warn!(target: "librdkafka", %error, "{reason}");
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
        let mut places = HashMap::new();
        match positions(consumer, &self.group, &self.subscription, &partitions) {
            Ok(positions) => {
                set_offsets(&mut starts, &positions)?;
                places.extend(positions);
            }
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
            let place = places.get(&partition).copied();
            let Some(held) = Held::split(&consumer, &partition, place, &self.wake) else { continue };
            self.epochs.assign([partition.clone()]);
            inbox.assigned.push((partition, held));
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
    subscription: &Subscription,
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
    checked_positions(consumer, group, subscription, wanted)
}

/// The same by the rule of [`offsets`] for every partition, those with a committed offset included.
fn checked_positions(
    consumer: &BaseConsumer<Context>,
    group: &str,
    subscription: &Subscription,
    wanted: &[Partition],
) -> Result<Vec<(Partition, i64)>, Unplaced> {
    let unanswered = |error: KafkaError| Unplaced::Unanswered(error.to_string());
    let topics = subscription.topics(consumer).map_err(unanswered)?;
    let facts = offsets::facts(consumer, &topics).map_err(unanswered)?;
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

/// What is held while no batch is in hand.
pub(crate) struct Stood {
    pub(crate) metadata: GroupMetadata,
    pub(crate) snapshot: Snapshot,
    pub(crate) places: HashMap<Partition, Place>,
}

/// Records taken for a batch, and what must still be true when they are committed.
pub(crate) struct Taken {
    pub(crate) builder: Builder,
    pub(crate) metadata: GroupMetadata,
    pub(crate) snapshot: Snapshot,
}

/// The consuming side. Lives on one thread.
pub(crate) struct Source {
    way_back: WayBack,
    consumer: Arc<BaseConsumer<Context>>,
    held: HashMap<Partition, Held>,
    /// The partitions of each lane, in the order of their next turns.
    turns: Vec<Vec<Partition>>,
    order: Taking,
    cluster: Arc<str>,
    last_bytes: usize,
    last_kept: Instant,
    /// Whether something is read elsewhere than it should be, nobody knows which partition.
    is_astray: bool,
}

/// In which order records are taken.
enum Taking {
    /// From lanes, each with its share.
    Lanes { topics: Vec<Topic>, shares: Vec<u8> },
    /// From one lane, heads as the gate lets them pass.
    Gated { gate: Arc<dyn Gate>, ceiling: Ceiling },
}

impl Source {
    pub(crate) fn new(
        config: &ClientConfig,
        group: &str,
        reads: Reads,
        epochs: Arc<Epochs>,
        wake: Arc<Wake>,
    ) -> Result<Source, KafkaError> {
        let now = Instant::now();
        let (subscription, order) = match reads {
            Reads::Lanes(lanes) => {
                let (topics, shares): (Vec<Topic>, Vec<u8>) = lanes.into_iter().unzip();
                (Subscription::Topics(topics.clone()), Taking::Lanes { topics, shares })
            }
            Reads::Gated { prefix, gate, rate } => {
                (Subscription::Prefix(prefix), Taking::Gated { gate, ceiling: Ceiling::new(rate, now) })
            }
        };
        let context = Context {
            epochs,
            wake: Arc::clone(&wake),
            group: group.to_owned(),
            subscription,
            consumer: OnceLock::new(),
            inbox: Mutex::default(),
        };
        // The end of a partition is told with the offset of the end, past the marks of transactions.
        let mut config = config.clone();
        config.set("enable.partition.eof", "true");
        let mut consumer: BaseConsumer<Context> = config.create_with_context(context)?;
        consumer.set_nonempty_callback(move || wake.wake());
        let consumer = Arc::new(consumer);
        let is_first = consumer.context().consumer.set(Arc::downgrade(&consumer)).is_ok();
        assert!(is_first, "a new context has no consumer yet");
        Ok(Source {
            held: HashMap::new(),
            turns: Vec::new(),
            order,
            cluster: Arc::from(""),
            last_bytes: 0,
            last_kept: now,
            is_astray: false,
            way_back: WayBack::default(),
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
        let names = self.consumer.context().subscription.names();
        self.consumer.subscribe(&names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Whether an assignment, even an empty one, has come.
    pub(crate) fn has_assignment(&self) -> bool {
        self.consumer.context().inbox().has_assignment
    }

    /// Serves rebalances and errors. Must be called often: it is what keeps the member in its group.
    pub(crate) fn serve(&mut self) -> Result<(), Unreadable> {
        self.way_back.look(self.consumer.client());
        loop {
            match self.consumer.poll(Duration::ZERO) {
                None => break,
                // A record that came between the assignment and the split of its queue; its partition is read again from its place.
                Some(Ok(message)) => {
                    let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
                    debug!(topic, partition, offset, "a record came before its queue was split");
                    let sought = self.consumer.seek(topic, partition, Offset::Offset(offset), ANSWER_TIMEOUT);
                    if let Err(error) = sought {
                        warn!(topic, partition, offset, %error, "could not go back to a record");
                        self.is_astray = true;
                    }
                }
                // Told in words already, see `Context::error`.
                Some(Err(error)) => match check(&error)? {
                    Meant::Astray => self.is_astray = true,
                    Meant::Nothing => {}
                },
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
                self.held.remove(partition);
            }
        }
        let (came, went) = (assigned.len(), revoked.len());
        self.held.extend(assigned);
        let mut all: Vec<Partition> = self.held.keys().cloned().collect();
        all.sort_unstable();
        self.turns = match &self.order {
            Taking::Lanes { topics, .. } => {
                let of = |topic| all.iter().filter(|(other, _)| other == topic).cloned().collect();
                topics.iter().map(of).collect()
            }
            Taking::Gated { .. } => vec![all],
        };
        info!(assigned = came, revoked = went, now = self.held.len(), "partitions moved");
        Ok(())
    }

    /// Takes what is waiting, up to the limits; `None` if nothing is, or if this member is not in a generation just now.
    pub(crate) fn take(&mut self, limits: &Limits, epochs: &Epochs) -> Result<Option<Taken>, Unreadable> {
        // First of all: what is fetched below was fetched as this member of this generation, or the broker refuses the commit.
        let Some(metadata) = GroupMetadata::take(self.consumer.client()) else { return Ok(None) };
        let Some(snapshot) = epochs.snapshot(self.held.keys()) else { return Ok(None) };
        let mut builder = Builder::new(Arc::clone(&self.cluster), self.last_bytes);
        self.fill(&mut builder, limits)?;
        Ok((builder.len() > 0).then_some(Taken { builder, metadata, snapshot }))
    }

    /// Adds what came since to a batch that is not full.
    pub(crate) fn fill(&mut self, builder: &mut Builder, limits: &Limits) -> Result<(), Unreadable> {
        let room = limits.records.saturating_sub(builder.len());
        let filled = match &mut self.order {
            _ if self.held.is_empty() => Ok(()),
            Taking::Gated { gate, ceiling } => {
                let room = room.min(ceiling.room(Instant::now()));
                let taken = take_gated(&self.turns[0], &mut self.held, builder, &**gate, (room, limits), &self.cluster);
                taken.map(|taken| ceiling.spend(taken))
            }
            Taking::Lanes { shares, .. } => {
                let mut failed = Ok(());
                lanes::fill(shares, room, |lane, wanted| {
                    let turns = &mut self.turns[lane];
                    let taken = take_lane(turns, &mut self.held, builder, wanted, limits.bytes);
                    taken.unwrap_or_else(|error| {
                        failed = Err(error);
                        0
                    })
                });
                failed
            }
        };
        self.last_bytes = builder.bytes();
        filled
    }

    /// How long until a head may have to be looked at again, if any rests.
    pub(crate) fn rest(&self) -> Option<Duration> {
        let Taking::Gated { ceiling, .. } = &self.order else { return None };
        let next = self.held.values().filter_map(Held::rests_until).min()?;
        Some(next.saturating_duration_since(Instant::now()).max(ceiling.wait()))
    }

    /// What is held and where it stands, for work without records; `None` if this member is not in a generation just now, or does not
    /// know yet where some partition stands.
    pub(crate) fn stand(&self, epochs: &Epochs) -> Option<Stood> {
        let metadata = GroupMetadata::take(self.consumer.client())?;
        let snapshot = epochs.snapshot(self.held.keys())?;
        let places: Option<HashMap<Partition, Place>> = self
            .held
            .iter()
            .map(|(partition, held)| {
                let (next, committed) = (held.next()?, held.kept()?);
                let place = Place { assignment: snapshot.epoch(partition)?, next, committed };
                Some((partition.clone(), place))
            })
            .collect();
        let places = places.filter(|places| !places.is_empty())?;
        Some(Stood { metadata, snapshot, places })
    }

    /// What is committed of each partition that is held, as far as it is known.
    pub(crate) fn standing(&self) -> Vec<Standing> {
        let standing = self.held.iter().filter_map(|((topic, partition), held)| {
            Some(Standing { topic: topic.clone(), partition: *partition, committed: held.kept()? })
        });
        standing.collect()
    }

    /// Whether it is time to move places past marks of transactions, so that retention cannot take what a place stands before.
    pub(crate) fn is_to_be_kept(&self) -> bool {
        self.last_kept.elapsed() >= KEEP_PLACE && self.held.values().any(Held::is_ahead)
    }

    /// These offsets are committed.
    pub(crate) fn committed(&mut self, next: &NextOffsets) {
        for (partition, offset) in next {
            if let Some(held) = self.held.get_mut(partition) {
                held.committed(*offset);
            }
        }
        if !self.held.values().any(Held::is_ahead) {
            self.last_kept = Instant::now();
        }
    }

    /// Whether some partition is not read where it should be, and has to be put back to what is committed; the others go on meanwhile.
    /// What a member that stood still had still to read may be done by others by now, and deleted behind them.
    pub(crate) fn is_astray(&self) -> bool {
        self.is_astray || self.held.values().any(Held::is_astray)
    }

    /// Puts every assigned partition back to its committed offset.
    pub(crate) fn rewind(&mut self) -> Result<Result<(), String>, Unreadable> {
        let context = self.consumer.context();
        let held: Vec<Partition> = self.held.keys().cloned().collect();
        if held.is_empty() {
            self.is_astray = false;
            return Ok(Ok(()));
        }
        let (group, subscription) = (&context.group, &context.subscription);
        let positions = if self.is_astray() {
            checked_positions(&self.consumer, group, subscription, &held)
        } else {
            positions(&self.consumer, group, subscription, &held)
        };
        let positions = match positions {
            Ok(positions) => positions,
            Err(Unplaced::Unanswered(why)) => return Ok(Err(why)),
            Err(Unplaced::Lost(why)) => return Err(Unreadable::Fatal(why)),
        };
        let mut list = TopicPartitionList::new();
        if let Err(error) = set_offsets(&mut list, &positions) {
            return Ok(Err(error.to_string()));
        }
        let sought = self.consumer.seek_partitions(list, ANSWER_TIMEOUT).map_err(|error| error.to_string());
        let sought = sought.and_then(|list| {
            let failed = list.elements().iter().find_map(|element| element.error().err());
            failed.map_or(Ok(()), |error| Err(format!("seek: {error}")))
        });
        if sought.is_ok() {
            // Where a partition is still not read, it is told again.
            self.is_astray = false;
            self.held.values_mut().for_each(Held::put_back);
            for (partition, offset) in positions {
                self.held.get_mut(&partition).expect("only what is held was asked about").rewind(offset);
            }
        }
        Ok(sought)
    }

    /// Leaves the group. Blocks until the client is closed, so it belongs on a thread nobody waits for without limit.
    pub(crate) fn close(self) {
        self.consumer.unsubscribe();
        drop(self.held);
        let mut inbox = self.consumer.context().inbox();
        // Queues hold the consumer, which holds the inbox: left there, nothing would ever be dropped.
        inbox.assigned.clear();
        drop(inbox);
        drop(self.consumer);
    }
}

fn take_lane(
    turns: &mut [Partition],
    held: &mut HashMap<Partition, Held>,
    builder: &mut Builder,
    wanted: usize,
    bytes: usize,
) -> Result<usize, Unreadable> {
    let mut taken = 0;
    let mut empty_in_a_row = 0;
    while taken < wanted && empty_in_a_row < turns.len() && builder.bytes() < bytes {
        let held = held.get_mut(&turns[0]).expect("turns are of what is held");
        let got = held.take_turn(builder, TURN.min(wanted - taken), bytes)?;
        taken += got;
        empty_in_a_row = if got == 0 { empty_in_a_row + 1 } else { 0 };
        turns.rotate_left(1);
    }
    Ok(taken)
}

fn take_gated(
    partitions: &[Partition],
    held: &mut HashMap<Partition, Held>,
    builder: &mut Builder,
    gate: &dyn Gate,
    (room, limits): (usize, &Limits),
    cluster: &Arc<str>,
) -> Result<usize, Unreadable> {
    let now = Instant::now();
    let mut order = Order::default();
    let consider = |index: usize, held: &mut Held, order: &mut Order| -> Result<(), Unreadable> {
        if let Some((priority, due)) = held.look(gate, now, cluster)? {
            order.add(priority, due, index);
        }
        Ok(())
    };
    for (index, partition) in partitions.iter().enumerate() {
        consider(index, held.get_mut(partition).expect("turns are of what is held"), &mut order)?;
    }
    let mut taken = 0;
    while taken < room
        && builder.bytes() < limits.bytes
        && let Some(index) = order.next()
    {
        let held = held.get_mut(&partitions[index]).expect("turns are of what is held");
        held.take_head(builder);
        taken += 1;
        consider(index, held, &mut order)?;
    }
    Ok(taken)
}

/// What a consumer's error means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meant {
    /// It is told for information and mends itself.
    Nothing,
    /// Reading has come to where there is no log, and stays there until it is put elsewhere.
    Astray,
}

fn check(error: &KafkaError) -> Result<Meant, Unreadable> {
    match error {
        KafkaError::MessageConsumptionFatal(code) => {
            Err(Unreadable::Fatal(format!("the Kafka consumer failed: {code}")))
        }
        KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset) => Ok(Meant::Astray),
        KafkaError::MessageConsumption(code) => {
            debug!(%code, "consumer error");
            Ok(Meant::Nothing)
        }
        other => {
            debug!(error = %other, "consumer event");
            Ok(Meant::Nothing)
        }
    }
}
