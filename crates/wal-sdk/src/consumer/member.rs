//! The reading side of a consumer: its membership, and a queue for each partition that is ours.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use wal_kafka::epochs::Epochs;
use wal_kafka::native::{GroupMetadata, Polled, WayBack};
use wal_kafka::queue::SplitQueue;
use wal_kafka::records;
use wal_kafka::wake::Wake;
use wal_model::{InRecord, Topic};

use super::Partition;
use super::places::{self, Place};
use crate::connection::{self, ConnectError};
use crate::opening::{self, Opening, Verdict};

/// One answer of a broker that is there.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What changed in what is ours.
#[derive(Debug)]
pub(super) enum Change {
    /// A partition came. Where it is read from is not known yet if the brokers did not say.
    Came { partition: Partition, assignment: u64, place: Option<Place> },
    /// A partition went.
    Went(Partition),
}

/// What a partition's queue gave.
#[derive(Debug)]
pub(super) enum Took {
    /// Nothing at the moment.
    Nothing,
    /// A record.
    Record(InRecord),
    /// Everything before this offset has been given.
    End(i64),
    /// It is to be read from where there is nothing to read.
    OutOfRange,
    /// Reading fails until somebody does something.
    Refused(KafkaError),
}

/// Why nothing more can be read.
#[derive(Debug)]
pub(super) struct Over(pub(super) String);

/// What rebalances leave for the thread; they run inside its own calls.
#[derive(Default)]
struct Inbox {
    changes: Vec<(Change, Option<SplitQueue<Context>>)>,
    over: Option<String>,
}

pub(super) struct Context {
    epochs: Arc<Epochs>,
    wake: Arc<Wake>,
    consumer: OnceLock<Weak<BaseConsumer<Context>>>,
    inbox: Mutex<Inbox>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        connection::Context.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        connection::Context.error(error, reason);
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Context>, event: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let result = match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(consumer, partitions),
            _ => self.revoke(consumer, partitions),
        };
        if let Err(error) = result {
            self.inbox().over = Some(format!("a rebalance failed: {error}"));
        }
        self.wake.wake();
    }
}

impl Context {
    /// A panic elsewhere leaves the inbox as it was: every change is one call.
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn assign(&self, consumer: &BaseConsumer<Context>, list: &TopicPartitionList) -> Result<(), KafkaError> {
        let partitions = partitions(list);
        let found = places::find(consumer, &partitions).unwrap_or_else(|error| {
            tracing::warn!(%error, "where to read new partitions from is asked for again");
            HashMap::new()
        });
        let mut starts = TopicPartitionList::new();
        for (topic, partition) in &partitions {
            // Without a place it begins anywhere: nothing is taken from it before it is put to its place.
            let place = found.get(&(topic.clone(), *partition)).map_or(0, |place| place.from);
            starts.add_partition_offset(topic.as_str(), *partition, Offset::Offset(place))?;
        }
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(&starts)?,
            _ => consumer.assign(&starts)?,
        }
        let consumer = self.consumer.get().and_then(Weak::upgrade);
        let consumer = consumer.expect("set before the first poll, and polled through this very Arc");
        for partition in partitions {
            let Some(queue) = SplitQueue::of(&consumer, &partition, &self.wake) else {
                self.inbox().over = Some(format!("no queue for {}[{}]", partition.0, partition.1));
                continue;
            };
            self.epochs.assign([partition.clone()]);
            let assignment = self.epochs.of(&partition).expect("assigned on the line before, by this thread");
            let place = found.get(&partition).copied();
            self.inbox().changes.push((Change::Came { partition, assignment, place }, Some(queue)));
        }
        Ok(())
    }

    fn revoke(&self, consumer: &BaseConsumer<Context>, list: &TopicPartitionList) -> Result<(), KafkaError> {
        let partitions = partitions(list);
        // Before the unassign: from then on another member may have them.
        self.epochs.revoke(&partitions);
        let went = partitions.into_iter().map(|partition| (Change::Went(partition), None));
        self.inbox().changes.extend(went);
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
            _ => consumer.unassign(),
        }
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<Partition> {
    let elements = list.elements();
    elements.iter().filter_map(|one| Some((Topic::parse(one.topic()).ok()?, one.partition()))).collect()
}

/// A member of a group. Lives on one thread.
pub(super) struct Member {
    queues: BTreeMap<Partition, SplitQueue<Context>>,
    epochs: Arc<Epochs>,
    cluster: Arc<str>,
    way_back: WayBack,
    consumer: Arc<BaseConsumer<Context>>,
}

impl Member {
    /// A client that has joined nothing yet. The topics of `needed` must exist.
    pub(super) fn open(
        config: &ClientConfig,
        limit: Duration,
        needed: &[Topic],
        epochs: Arc<Epochs>,
        wake: Arc<Wake>,
    ) -> Result<Member, ConnectError> {
        let context = Context {
            epochs: Arc::clone(&epochs),
            wake: Arc::clone(&wake),
            consumer: OnceLock::new(),
            inbox: Mutex::default(),
        };
        let mut opening = Opening::with(config, context, limit)?;
        for topic in needed {
            opening.partitions(topic)?;
        }
        let cluster = opening.cluster();
        opening.consumer.set_nonempty_callback(move || wake.wake());
        let consumer = Arc::new(opening.consumer);
        let is_first = consumer.context().consumer.set(Arc::downgrade(&consumer)).is_ok();
        assert!(is_first, "a new context has no consumer yet");
        Ok(Member { queues: BTreeMap::new(), epochs, cluster, way_back: WayBack::default(), consumer })
    }

    pub(super) fn subscribe(&self, topics: &[Topic]) -> Result<(), ConnectError> {
        let names: Vec<&str> = topics.iter().map(Topic::as_str).collect();
        self.consumer.subscribe(&names).map_err(ConnectError::Options)
    }

    /// Serves rebalances and errors, and tells what changed. Must be called often: it is what keeps the member in its group.
    pub(super) fn serve(&mut self) -> Result<(Vec<Change>, Option<KafkaError>), Over> {
        self.way_back.look(self.consumer.client());
        let mut refused = None;
        loop {
            match self.consumer.poll(Duration::ZERO) {
                None => break,
                // A record that came between the assignment and the split of its queue: its partition is read again from there.
                Some(Ok(message)) => {
                    let partition = (message.topic().to_owned(), message.partition());
                    let sought = self.seek(&partition.0, partition.1, message.offset());
                    sought.map_err(|error| Over(format!("go back to a record that came too early: {error}")))?;
                }
                Some(Err(error)) => match opening::verdict(&error) {
                    Verdict::Wait => tracing::debug!(%error, "deliveries wait for Kafka"),
                    Verdict::Tell => refused = Some(error),
                    Verdict::End => return Err(Over(format!("the Kafka client failed: {error}"))),
                },
            }
        }
        Ok((self.take_changes()?, refused))
    }

    fn take_changes(&mut self) -> Result<Vec<Change>, Over> {
        let mut inbox = self.consumer.context().inbox();
        if let Some(why) = inbox.over.take() {
            return Err(Over(why));
        }
        let changes = std::mem::take(&mut inbox.changes);
        drop(inbox);
        let mut told = Vec::with_capacity(changes.len());
        for (change, queue) in changes {
            match (&change, queue) {
                (Change::Came { partition, .. }, Some(queue)) => drop(self.queues.insert(partition.clone(), queue)),
                (Change::Went(partition) | Change::Came { partition, .. }, _) => drop(self.queues.remove(partition)),
            }
            told.push(change);
        }
        if !told.is_empty() {
            tracing::info!(changes = told.len(), now = self.queues.len(), "partitions moved");
        }
        Ok(told)
    }

    /// Who this member is at this moment; `None` while it is in no generation of the group.
    pub(super) fn metadata(&self) -> Option<GroupMetadata> {
        GroupMetadata::take(self.consumer.client())
    }

    /// The partitions that may have something to take.
    pub(super) fn ready(&self) -> Vec<Partition> {
        self.queues.iter().filter(|(_, queue)| queue.is_ready()).map(|(partition, _)| partition.clone()).collect()
    }

    /// Takes what is next in a partition, if it is there.
    pub(super) fn take(&self, partition: &Partition) -> Result<Took, Over> {
        let Some(queue) = self.queues.get(partition) else { return Ok(Took::Nothing) };
        loop {
            return Ok(match queue.poll() {
                Polled::Nothing => Took::Nothing,
                Polled::End(offset) => Took::End(offset),
                Polled::Record(record) => Took::Record(records::copied(&partition.0, record.view(), &self.cluster)),
                Polled::Error(RDKafkaErrorCode::AutoOffsetReset) => Took::OutOfRange,
                Polled::Error(code) => {
                    let error = match code {
                        RDKafkaErrorCode::Fatal => KafkaError::MessageConsumptionFatal(code),
                        code => KafkaError::MessageConsumption(code),
                    };
                    match opening::verdict(&error) {
                        Verdict::Wait => {
                            tracing::debug!(%error, "deliveries wait for Kafka");
                            continue;
                        }
                        Verdict::Tell => Took::Refused(error),
                        Verdict::End => return Err(Over(format!("the Kafka client failed: {error}"))),
                    }
                }
            });
        }
    }

    /// Where partitions are to be read from.
    pub(super) fn places(&self, partitions: &[Partition]) -> Result<HashMap<Partition, Place>, KafkaError> {
        places::find(&self.consumer, partitions)
    }

    /// What is committed for the group. Final for partitions whose last transaction was begun by a producer that was made anew since.
    pub(super) fn committed(&self, partitions: &[Partition]) -> Result<HashMap<Partition, i64>, KafkaError> {
        places::committed(&self.consumer, partitions)
    }

    /// The first offset of a partition that is still there, and the one after its last.
    pub(super) fn extent(&self, (topic, partition): &Partition) -> Result<(i64, i64), KafkaError> {
        self.consumer.fetch_watermarks(topic.as_str(), *partition, ANSWER_TIMEOUT)
    }

    /// Reads a partition from here on.
    pub(super) fn read_from(&mut self, partition: &Partition, offset: i64) -> Result<(), Over> {
        match self.seek(partition.0.as_str(), partition.1, offset) {
            Ok(()) => {
                if let Some(queue) = self.queues.get(partition) {
                    queue.look_again();
                }
                Ok(())
            }
            // librdkafka has stopped reading it, since there was nothing where it was to read, and takes no seek.
            Err(_) => self.begin_again(partition, offset),
        }
    }

    /// Takes a partition out of what is assigned and puts it back at an offset.
    fn begin_again(&mut self, partition: &Partition, offset: i64) -> Result<(), Over> {
        let over = |error: KafkaError| Over(format!("read {}[{}] from {offset}: {error}", partition.0, partition.1));
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(partition.0.as_str(), partition.1, Offset::Offset(offset)).map_err(over)?;
        self.queues.remove(partition);
        self.consumer.incremental_unassign(&list).map_err(over)?;
        self.consumer.incremental_assign(&list).map_err(over)?;
        let wake = &self.consumer.context().wake;
        let queue = SplitQueue::of(&self.consumer, partition, wake);
        let queue = queue.ok_or_else(|| Over(format!("no queue for {}[{}]", partition.0, partition.1)))?;
        self.queues.insert(partition.clone(), queue);
        Ok(())
    }

    /// Gives a partition that stays ours another number: what was handed out under the one before is of no use any more.
    pub(super) fn renumber(&self, partition: &Partition) -> u64 {
        self.epochs.revoke([partition]);
        self.epochs.assign([partition.clone()]);
        self.epochs.of(partition).expect("assigned on the line before, by the only thread that does")
    }

    fn seek(&self, topic: &str, partition: i32, offset: i64) -> Result<(), KafkaError> {
        self.consumer.seek(topic, partition, Offset::Offset(offset), ANSWER_TIMEOUT)
    }

    /// Leaves the group. Blocks until the client is closed.
    pub(super) fn close(self) {
        self.consumer.unsubscribe();
        drop(self.queues);
        // Queues hold the consumer, which holds the inbox: left there, nothing would ever be dropped.
        self.consumer.context().inbox().changes.clear();
        drop(self.consumer);
    }
}
