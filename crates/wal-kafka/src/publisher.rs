//! The publishing side: outputs, and input offsets where there are some, in one transaction, and no second guess about an unclear
//! answer.

use std::collections::HashMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header as KafkaHeader, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, NoCustomPartitioner, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tracing::{info, warn};
use wal_model::OutRecord;

use crate::epochs::Partition;
use crate::failpoint;
use crate::native::{self, GroupMetadata, TransactionError, WayBack};
use crate::watchdog::Watchdog;

/// How long one call of a transaction may take before its answer counts as unclear.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the first call of a producer may take: it may have to wait for an older transaction to be aborted.
const INIT_TIMEOUT: Duration = Duration::from_secs(30);
/// After this a call that ignores its timeout is held to hang, and the process ends to be started again.
const HANG: Duration = Duration::from_secs(60);
/// How much longer than its timeout the call that is known to ignore it is waited for.
const GRACE: Duration = Duration::from_secs(2);
/// How many producers may hang at a time. Each keeps its threads and connections until its call returns.
const HANGING_AT_MOST: usize = 4;
/// How long the local queue may stay full before the broker counts as gone.
const QUEUE_FULL: Duration = Duration::from_secs(20);
/// A sibling is fenced back and fences again within this time; anything rarer is an accident.
const FENCED_AGAIN: Duration = Duration::from_secs(60);
/// What a transaction may last where the configuration does not say: librdkafka's default.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

/// Where each partition's next record stands.
pub type NextOffsets = HashMap<Partition, i64>;

/// Why a transaction was not committed, as far as is known.
#[derive(Debug, thiserror::Error)]
pub enum Unpublished {
    /// Nothing of it will be seen; it may be done again.
    #[error("{0}")]
    Again(String),
    /// The broker was asked to commit and gave no clear answer: all of it will be seen, or nothing.
    #[error("{0}")]
    Unclear(String),
    /// This process must not go on.
    #[error("{0}")]
    Fatal(String),
}

#[derive(Default)]
struct Context {
    /// The first record of the transaction that was not delivered, and why.
    undelivered: Mutex<Option<String>>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        crate::Context::tell(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason, "client error");
    }
}

impl ProducerContext<NoCustomPartitioner> for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let mut undelivered = self.undelivered.lock().expect("nothing panics while it is held");
            undelivered.get_or_insert_with(|| format!("a record for {} was not delivered: {error}", message.topic()));
        }
    }
}

/// Publishes transactions under one transactional id.
pub struct Publisher {
    config: ClientConfig,
    transactional_id: String,
    offset_metadata: String,
    producer: Option<Arc<ThreadedProducer<Context>>>,
    way_back: WayBack,
    watchdog: Watchdog,
    transaction_timeout: Duration,
    fenced_at: Option<Instant>,
    fences: u64,
    /// Producers that were given up while a call of theirs did not return, as far as it still has not.
    hanging: Vec<Weak<ThreadedProducer<Context>>>,
    call_timeout: Duration,
    /// What tells instances apart, in the words of whoever sets them up.
    instance: &'static str,
}

impl Publisher {
    /// A publisher under a producer configuration with a transactional id. `offset_metadata` is written beside every offset. Makes no
    /// client yet.
    pub fn new(mut config: ClientConfig, offset_metadata: String, watchdog: Watchdog) -> Publisher {
        // Only what fails is looked at: a report of each record would cost a thread's work, and the commit would wait for it.
        config.set("delivery.report.only.error", "true");
        let transactional_id = config.get("transactional.id").unwrap_or_default().to_owned();
        let timeout = config.get("transaction.timeout.ms").and_then(|millis| millis.parse().ok());
        let transaction_timeout = timeout.map_or(TRANSACTION_TIMEOUT, Duration::from_millis);
        Publisher {
            config,
            transactional_id,
            offset_metadata,
            producer: None,
            way_back: WayBack::default(),
            watchdog,
            transaction_timeout,
            fenced_at: None,
            fences: 0,
            hanging: Vec::new(),
            call_timeout: CALL_TIMEOUT,
            instance: "kafka.instance",
        }
    }

    /// How often the broker has refused it because it knew a newer producer under the same id.
    pub fn fences(&self) -> u64 {
        self.fences
    }

    /// What tells instances apart is called so; `kafka.instance` otherwise.
    #[must_use]
    pub fn instances_by(self, instance: &'static str) -> Publisher {
        Publisher { instance, ..self }
    }

    /// Makes sure there is a producer whose older transactions are over. Committed offsets read after this are final.
    pub fn ready(&mut self) -> Result<(), Unpublished> {
        if self.producer.is_some() {
            return Ok(());
        }
        let again =
            |error: KafkaError| Unpublished::Again(format!("could not start a transactional producer: {error}"));
        let producer: ThreadedProducer<Context> = self.config.create_with_context(Context::default()).map_err(again)?;
        let guard = self.watchdog.arm("init_transactions", HANG);
        let started = producer.init_transactions(INIT_TIMEOUT);
        drop(guard);
        let producer = Arc::new(producer);
        match started {
            Ok(()) => {
                info!(transactional_id = self.transactional_id, "transactional producer ready");
                self.producer = Some(producer);
                Ok(())
            }
            Err(error) => {
                discard(producer);
                Err(again(error))
            }
        }
    }

    /// Publishes `records` and commits `next` in one transaction. `is_held` is asked last, right before the commit.
    pub fn publish(
        &mut self,
        records: &[OutRecord],
        next: &NextOffsets,
        metadata: &GroupMetadata,
        is_held: impl Fn() -> bool,
    ) -> Result<(), Unpublished> {
        self.publish_with(records, Some((next, metadata)), is_held)
    }

    /// Publishes `records` in one transaction that commits no offsets.
    pub fn publish_alone(&mut self, records: &[OutRecord]) -> Result<(), Unpublished> {
        self.publish_with(records, None, || true)
    }

    fn publish_with(
        &mut self,
        records: &[OutRecord],
        offsets: Option<(&NextOffsets, &GroupMetadata)>,
        is_held: impl Fn() -> bool,
    ) -> Result<(), Unpublished> {
        self.ready()?;
        let producer = Arc::clone(self.producer.as_ref().expect("ready() just made sure"));
        producer.context().undelivered.lock().expect("nothing panics while it is held").take();
        self.way_back.look(producer.client());
        let begun = Instant::now();
        let result = self.transact(&producer, records, offsets, is_held);
        let result = result.map_err(|failed| {
            let undelivered = producer.context().undelivered.lock().expect("nothing panics while it is held").take();
            (failed, undelivered.map_or(String::new(), |why| format!(" ({why})")))
        });
        match result {
            Ok(()) => Ok(()),
            Err((Failed::Abort(why), undelivered)) => {
                self.abort(&producer, &why);
                Err(Unpublished::Again(why + &undelivered))
            }
            Err((Failed::Lost(why, Asked::No), undelivered)) => {
                self.forget();
                Err(Unpublished::Again(why + &undelivered))
            }
            Err((Failed::Lost(why, Asked::ToCommit), undelivered)) => {
                self.forget();
                Err(Unpublished::Unclear(why + &undelivered))
            }
            Err((Failed::Hangs(why), _)) => Err(self.give_up(&producer, why)),
            Err((Failed::Fenced(why, asked), _)) => match (self.fenced(why, begun.elapsed()), asked) {
                // Whoever fences this producer completes the commit that the broker had begun.
                (Unpublished::Again(why), Asked::ToCommit) => Err(Unpublished::Unclear(why)),
                (unpublished, Asked::No | Asked::ToCommit) => Err(unpublished),
            },
        }
    }

    fn transact(
        &self,
        producer: &Arc<ThreadedProducer<Context>>,
        records: &[OutRecord],
        offsets: Option<(&NextOffsets, &GroupMetadata)>,
        is_held: impl Fn() -> bool,
    ) -> Result<(), Failed> {
        producer.begin_transaction().map_err(|error| Failed::Lost(format!("begin: {error}"), Asked::No))?;
        // First, because the coordinator answers "not yet" for some milliseconds after a commit: here librdkafka asks again within a
        // millisecond, but in 20 ms where it announces the partitions of records.
        if let Some((next, metadata)) = offsets {
            self.send_offsets(producer, next, metadata)?;
        }
        for (sent, record) in records.iter().enumerate() {
            send(producer, record)?;
            if sent == records.len() / 2 {
                failpoint::hit("mid-publish");
            }
        }
        // A scenario that wants to interrupt work does not mean a transaction that only moves a place.
        let hit = |point| {
            if !records.is_empty() {
                failpoint::hit(point);
            }
        };
        hit("after-publish");
        if !is_held() {
            return Err(Failed::Abort("a partition of the batch moved away".to_owned()));
        }
        let guard = self.watchdog.arm("commit_transaction", HANG);
        native::commit(producer.client(), self.call_timeout)
            .map_err(|error| failed("commit", error, Asked::ToCommit))?;
        drop(guard);
        hit("after-commit");
        Ok(())
    }

    /// On a thread of its own, because the call may not return for a very long time (librdkafka issues 5456 and 5511): it waits for
    /// a broker that it once knew as the group's coordinator and that has been counted out since. Another producer does not know it.
    fn send_offsets(
        &self,
        producer: &Arc<ThreadedProducer<Context>>,
        next: &NextOffsets,
        metadata: &GroupMetadata,
    ) -> Result<(), Failed> {
        let offsets = self.offsets(next).map_err(|error| Failed::Abort(format!("offsets: {error}")))?;
        let (answered, answer) = mpsc::channel();
        let (producer, metadata, timeout) = (Arc::clone(producer), metadata.clone(), self.call_timeout);
        let call = move || {
            // Nobody waits for the answer of a producer that was given up.
            let _ = answered.send(native::send_offsets(producer.client(), &offsets, &metadata, timeout));
        };
        let spawned = thread::Builder::new().name("send-offsets".into()).spawn(call);
        spawned.map_err(|error| Failed::Abort(format!("offsets: no thread: {error}")))?;
        match answer.recv_timeout(timeout + GRACE) {
            Ok(sent) => sent.map_err(|error| failed("offsets", error, Asked::No)),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                Err(Failed::Hangs("offsets: the call to the Kafka client does not return".to_owned()))
            }
        }
    }

    fn offsets(&self, next: &NextOffsets) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(next.len());
        for ((topic, partition), offset) in next {
            let mut element = list.add_partition(topic.as_str(), *partition);
            element.set_offset(Offset::Offset(*offset))?;
            element.set_metadata(&self.offset_metadata);
        }
        Ok(list)
    }

    fn abort(&mut self, producer: &ThreadedProducer<Context>, why: &str) {
        let guard = self.watchdog.arm("abort_transaction", HANG);
        let aborted = native::abort(producer.client(), self.call_timeout);
        drop(guard);
        if let Err(error) = aborted {
            warn!(%error, why, "abort failed, the producer is made anew");
            self.forget();
        }
    }

    /// The broker fences a producer whose transaction was open for too long, and one whose transactional id another has taken.
    fn fenced(&mut self, why: String, open_for: Duration) -> Unpublished {
        self.forget();
        self.fences += 1;
        if open_for >= self.transaction_timeout {
            return Unpublished::Again(why);
        }
        let now = Instant::now();
        let is_sibling = self.fenced_at.is_some_and(|before| now.duration_since(before) < FENCED_AGAIN);
        self.fenced_at = Some(now);
        if is_sibling {
            let (id, instance) = (&self.transactional_id, self.instance);
            return Unpublished::Fatal(format!(
                "another process uses the transactional id `{id}`; give each instance its own {instance} ({why})"
            ));
        }
        Unpublished::Again(why)
    }

    /// Goes on without a producer whose call does not return; the thread of that call closes it when it does.
    fn give_up(&mut self, producer: &Arc<ThreadedProducer<Context>>, why: String) -> Unpublished {
        self.forget();
        self.hanging.retain(|producer| producer.strong_count() > 0);
        self.hanging.push(Arc::downgrade(producer));
        if self.hanging.len() > HANGING_AT_MOST {
            return Unpublished::Fatal(format!("{why}, and neither do {HANGING_AT_MOST} before it"));
        }
        Unpublished::Again(why)
    }

    /// Throws the producer away. The next one has the same id, so the broker ends whatever this one left open.
    fn forget(&mut self) {
        if let Some(producer) = self.producer.take() {
            discard(producer);
        }
    }

    /// Ends the producer; whatever it has open is aborted by the broker.
    pub fn close(mut self) {
        self.forget();
    }
}

/// Closing a producer can block; nothing waits for it.
fn discard(producer: Arc<ThreadedProducer<Context>>) {
    let spawned = thread::Builder::new().name("producer-close".into()).spawn(move || drop(producer));
    if let Err(error) = spawned {
        warn!(%error, "could not close a producer on a thread of its own");
    }
}

enum Failed {
    /// The transaction must be aborted, the producer can go on.
    Abort(String),
    /// The producer is of no more use.
    Lost(String, Asked),
    /// A call does not return, so that nothing more can be asked of the producer.
    Hangs(String),
    /// The broker knows a newer producer under this id.
    Fenced(String, Asked),
}

/// Whether the broker had been asked to commit when something failed: only then can it have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    No,
    ToCommit,
}

fn failed(call: &str, error: TransactionError, asked: Asked) -> Failed {
    let why = format!("{call}: {error}");
    let is_fenced = matches!(
        error.code,
        RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::InvalidProducerEpoch
    );
    match error {
        _ if is_fenced => Failed::Fenced(why, asked),
        error if error.requires_abort && !error.is_fatal => Failed::Abort(why),
        // A timeout says "call again", but by then the answer may be to another question (no KIP-890 in librdkafka).
        _ => Failed::Lost(why, asked),
    }
}

fn send(producer: &ThreadedProducer<Context>, record: &OutRecord) -> Result<(), Failed> {
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
    for header in &record.headers {
        let name = String::from_utf8_lossy(&header.name);
        headers = headers.insert(KafkaHeader { key: &name, value: header.value.as_deref() });
    }
    let mut message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(record.topic.as_str()).headers(headers);
    message.key = record.key.as_deref();
    message.payload = record.value.as_deref();
    message.partition = record.partition;
    let started = Instant::now();
    loop {
        match producer.send(message) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                if started.elapsed() < QUEUE_FULL =>
            {
                message = back;
                // The producer's own thread empties the queue as the broker acknowledges; 1 ms is far below a round trip.
                thread::sleep(Duration::from_millis(1));
            }
            Err((error, _)) => return Err(Failed::Abort(format!("a record for {}: {error}", record.topic))),
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::mocking::{MockCluster, MockCoordinator};
    use wal_model::Topic;

    use super::*;

    fn publisher() -> Publisher {
        let mut config = ClientConfig::new();
        config.set("transactional.id", "wal.writer-0").set("transaction.timeout.ms", "10000");
        Publisher::new(config, String::new(), Watchdog::start(|_| {}).unwrap())
    }

    /// librdkafka's own stand-in for a cluster: what is tested is a call of librdkafka's that waits for a broker.
    #[test]
    fn a_call_that_does_not_return_costs_a_producer_and_not_the_process() {
        let cluster = MockCluster::new(2).unwrap();
        cluster.coordinator(MockCoordinator::Transaction("wal.writer-0".to_owned()), 1).unwrap();
        cluster.coordinator(MockCoordinator::Group("group".to_owned()), 2).unwrap();
        cluster.create_topic("in", 1, 1).unwrap();
        cluster.partition_leader("in", 0, Some(1)).unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers());
        let consumer: BaseConsumer = config.clone().set("group.id", "group").create().unwrap();
        consumer.subscribe(&["in"]).unwrap();
        let metadata = until(|| {
            consumer.poll(Duration::from_millis(10));
            GroupMetadata::take(consumer.client())
        });
        config.set("transactional.id", "wal.writer-0");
        let watchdog = Watchdog::start(|_| {}).unwrap();
        let mut publisher =
            Publisher { call_timeout: Duration::from_secs(1), ..Publisher::new(config, String::new(), watchdog) };
        publisher.ready().unwrap();
        let next = NextOffsets::from([((Topic::parse("in").unwrap(), 0), 7)]);

        cluster.broker_down(2).unwrap();
        let hangs = publisher.publish(&[], &next, &metadata, || true);
        assert!(matches!(&hangs, Err(Unpublished::Again(why)) if why.contains("does not return")), "{hangs:?}");
        assert_eq!(publisher.hanging.len(), 1);

        cluster.broker_up(2).unwrap();
        until(|| publisher.publish(&[], &next, &metadata, || true).ok());
        until(|| publisher.hanging.iter().all(|producer| producer.strong_count() == 0).then_some(()));
    }

    /// What `look` finds, in the end.
    fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "it did not come");
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn who_stands_still_for_too_long_again_and_again_is_no_twin() {
        let mut publisher = publisher();
        for _ in 0..3 {
            let fenced = publisher.fenced("fenced".to_owned(), Duration::from_secs(10));
            assert!(matches!(fenced, Unpublished::Again(_)));
        }
    }

    #[test]
    fn fenced_twice_in_the_middle_of_a_transaction_is_a_twin() {
        let mut publisher = publisher();
        let open_for = Duration::from_millis(20);
        assert!(matches!(publisher.fenced("fenced".to_owned(), open_for), Unpublished::Again(_)));
        assert!(matches!(publisher.fenced("fenced".to_owned(), open_for), Unpublished::Fatal(_)));
        assert_eq!(publisher.fences(), 2);
    }
}
