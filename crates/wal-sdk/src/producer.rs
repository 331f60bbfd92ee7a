//! Writing: an idempotent producer, and the receipts of what it wrote.
//!
//! ```text
//!   write ──▶ enqueue ──▶ Queued ── the broker has it ──▶ Pending ── await_receipt ──▶ Answer
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::oneshot;
use uuid::Uuid;
use wal_model::topics::Topics;
use wal_model::{Header, Id, Priority, Topic, record, wire};

use crate::connection::{ConnectError, Connection};
use crate::opening;
use crate::receipts::{self, Answer, Waiter, Waiting, Wanted};
use crate::request::{self, BatchRequest, WriteRequest};
use crate::sender::{Failed, Position, Sender};
use crate::worker::{Stopped, Worker};

/// Where receipts are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replies {
    /// On the log's own receipts topic.
    Log,
    /// On a topic of the caller's, which the log must allow.
    Topic(Topic),
    /// On one partition of such a topic: of many producers, each then reads its own receipts only.
    Partition(Topic, i32),
    /// Nobody reads them: requests are fired and forgotten, and every answer is unknown.
    Unread,
}

/// How a producer is set up.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// How to reach the cluster.
    pub connection: Connection,
    /// What the log's topics are called.
    pub topics: Topics,
    /// Where receipts are wanted.
    pub replies: Replies,
    /// How long a request may take to be acknowledged by the broker before its fate counts as unknown.
    pub send_timeout: Duration,
}

impl ProducerOptions {
    /// Receipts on the log's own topic, 30 s for the broker.
    pub fn new(connection: Connection, topics: Topics) -> ProducerOptions {
        ProducerOptions { connection, topics, replies: Replies::Log, send_timeout: Duration::from_secs(30) }
    }
}

/// A record as the caller made it, right or wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawRequest {
    /// Where it goes.
    pub topic: Topic,
    /// Key.
    pub key: Option<Bytes>,
    /// Value; `None` is Kafka's null.
    pub value: Option<Bytes>,
    /// Headers. Without a `kafka_correlationId` of its own the request gets one, and without a `kafka_replyTopic` that of the options.
    pub headers: Vec<Header>,
}

/// Why a request was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No Kafka record can carry it. Nothing was written.
    #[error("make a record of the request: {0}")]
    Invalid(String),
    /// Another request waits for its receipt under the same `kafka_correlationId`. Nothing was written.
    #[error("wait for a receipt: another request waits under the same {}", wire::REPLY_CORRELATION)]
    CorrelationInUse,
    /// The request is not on its topic, and will not be.
    #[error("write to {topic}")]
    NotWritten {
        /// The topic.
        topic: Topic,
        /// What Kafka said.
        #[source]
        source: KafkaError,
    },
    /// The request may be on its topic, or not. Send the same request again, with the same request id: it is stored once.
    #[error("learn whether {topic} took the request")]
    Unknown {
        /// The topic.
        topic: Topic,
        /// What Kafka said.
        #[source]
        source: KafkaError,
    },
}

impl SendError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            SendError::Invalid(_) => false,
            SendError::CorrelationInUse | SendError::Unknown { .. } => true,
            SendError::NotWritten { source, .. } => {
                source.rdkafka_error_code() != Some(RDKafkaErrorCode::MessageSizeTooLarge)
            }
        }
    }
}

/// Why it was not asked what became of a request.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// It has neither a request id nor an idempotency key: sent again, it would be another request.
    #[error("look up a request without a request id or an idempotency key")]
    Unidentified,
    /// The question did not reach the broker.
    #[error(transparent)]
    Send(#[from] SendError),
}

/// Writes requests. Cheap to share by reference; one serves a whole program.
///
/// Requests enter their topic in the order in which they are enqueued, per ordering key and priority.
pub struct Producer {
    topics: Topics,
    replies: Replies,
    waiting: Arc<Waiting>,
    reader: Worker,
    sender: Sender,
}

impl Producer {
    /// Connects. When this returns, the log's topics are there and every receipt from now on will be seen.
    ///
    /// Receipts are read from all partitions that their topic has now; those of partitions that are added later are not seen, and
    /// their requests answered with "unknown".
    pub async fn connect(options: ProducerOptions) -> Result<Producer, ConnectError> {
        let ProducerOptions { connection, topics, replies, send_timeout } = options;
        let sender = Sender::new(&connection, send_timeout)?;
        let waiting = Arc::new(Waiting::default());
        let wanted = match &replies {
            Replies::Log => Wanted::Topic(topics.receipts()),
            Replies::Topic(topic) => Wanted::Topic(topic.clone()),
            Replies::Partition(topic, partition) => Wanted::Partition(topic.clone(), *partition),
            Replies::Unread => Wanted::Nothing,
        };
        let ingress =
            [Priority::High, Priority::Normal, Priority::Low].map(|priority| topics.ingress(priority)).to_vec();
        let reading = opening::config(&connection)?;
        let reader = receipts::start(reading, connection.timeout, wanted, ingress, Arc::clone(&waiting)).await?;
        Ok(Producer { topics, replies, waiting, reader, sender })
    }

    /// Writes a request and returns when the broker has it. To have many under way, use [`Producer::enqueue`].
    pub async fn write(&self, request: &WriteRequest) -> Result<Pending, SendError> {
        self.enqueue(request).await?.acknowledged().await
    }

    /// Writes a batch and returns when the broker has it.
    pub async fn write_batch(&self, batch: &BatchRequest) -> Result<Pending, SendError> {
        self.enqueue_batch(batch).await?.acknowledged().await
    }

    /// Writes a record as it is and returns when the broker has it.
    pub async fn send_raw(&self, request: RawRequest) -> Result<Pending, SendError> {
        self.enqueue_raw(request).await?.acknowledged().await
    }

    /// Asks what became of a request, by sending the same request again: the log stores it once, and answers both times alike. If it
    /// never came to the log, it does now.
    ///
    /// It must be the same in everything, identity included: one without is refused here. See [`WriteRequest::identified`].
    pub async fn lookup(&self, request: &WriteRequest, limit: Duration) -> Result<Answer, LookupError> {
        if !request.is_identified() {
            return Err(LookupError::Unidentified);
        }
        Ok(self.write(request).await?.await_receipt(limit).await)
    }

    /// As [`Producer::lookup`], for a batch.
    pub async fn lookup_batch(&self, batch: &BatchRequest, limit: Duration) -> Result<Answer, LookupError> {
        if !batch.is_identified() {
            return Err(LookupError::Unidentified);
        }
        Ok(self.write_batch(batch).await?.await_receipt(limit).await)
    }

    /// Queues a request; waits only while the queue is full.
    pub async fn enqueue(&self, request: &WriteRequest) -> Result<Queued, SendError> {
        let request_id = request.request_id.clone().unwrap_or_else(request::new_request_id);
        let raw = RawRequest {
            topic: self.topics.ingress(request.priority()),
            key: request.ordering_key.clone(),
            value: Some(request.to_json(&request_id).map_err(invalid)?.into()),
            headers: request.headers.clone(),
        };
        self.queue(raw, Some(request_id)).await
    }

    /// Queues a batch; waits only while the queue is full.
    pub async fn enqueue_batch(&self, batch: &BatchRequest) -> Result<Queued, SendError> {
        let request_id = batch.request_id.clone().unwrap_or_else(request::new_request_id);
        let raw = RawRequest {
            topic: self.topics.ingress(batch.priority),
            key: batch.ordering_key.clone(),
            value: Some(batch.to_json(&request_id).map_err(invalid)?.into()),
            headers: batch.headers.clone(),
        };
        self.queue(raw, Some(request_id)).await
    }

    /// Queues a record as it is; waits only while the queue is full.
    pub async fn enqueue_raw(&self, request: RawRequest) -> Result<Queued, SendError> {
        self.queue(request, None).await
    }

    /// Waits until what is queued is acknowledged, at most `limit`, and closes the clients. Receipts still awaited stay unknown.
    pub async fn close(mut self, limit: Duration) -> Stopped {
        let reader = self.reader.stop(limit);
        let closed = self.sender.close(limit);
        let (reader, closed) = tokio::join!(reader, tokio::time::timeout(limit, closed));
        match (reader, closed) {
            (Stopped::InTime, Ok(_)) => Stopped::InTime,
            (Stopped::LeftBehind, _) | (_, Err(_)) => Stopped::LeftBehind,
        }
    }

    async fn queue(&self, mut request: RawRequest, request_id: Option<Id>) -> Result<Queued, SendError> {
        let correlation = address_reply(&self.replies, &mut request.headers);
        let waiter = self.waiting.register(correlation).map_err(|_| SendError::CorrelationInUse)?;
        let (queued_at, acknowledged) = self.sender.send(&request).await?;
        Ok(Queued { topic: request.topic, request_id, queued_at, acknowledged, waiter })
    }
}

/// Adds where the receipt goes, unless the headers say so themselves; returns what it will carry.
fn address_reply(replies: &Replies, headers: &mut Vec<Header>) -> Bytes {
    // An address of the request's own stands as it is; a partition of ours would not belong to its topic.
    let is_addressed = headers.iter().any(|header| header.is(wire::REPLY_TOPIC));
    match replies {
        Replies::Topic(topic) if !is_addressed => headers.push(Header::new(wire::REPLY_TOPIC, topic.to_string())),
        Replies::Partition(topic, partition) if !is_addressed => {
            headers.push(Header::new(wire::REPLY_TOPIC, topic.to_string()));
            headers.push(Header::new(wire::REPLY_PARTITION, partition.to_be_bytes().to_vec()));
        }
        Replies::Log | Replies::Topic(_) | Replies::Partition(..) | Replies::Unread => {}
    }
    let own = Bytes::copy_from_slice(Uuid::new_v4().as_bytes());
    let is_given = headers.iter().any(|header| header.is(wire::REPLY_CORRELATION));
    if !is_given {
        headers.push(Header::new(wire::REPLY_CORRELATION, own.clone()));
    }
    // A given one without a value will be on no receipt; waiting under our own then ends with "unknown".
    record::last(headers, wire::REPLY_CORRELATION).cloned().unwrap_or(own)
}

fn invalid(error: serde_json::Error) -> SendError {
    SendError::Invalid(error.to_string())
}

/// A request on its way to the broker.
#[derive(Debug)]
#[must_use = "without `acknowledged` nobody learns whether the broker took the request"]
pub struct Queued {
    topic: Topic,
    request_id: Option<Id>,
    queued_at: Instant,
    acknowledged: oneshot::Receiver<Result<Position, Failed>>,
    waiter: Waiter,
}

impl Queued {
    /// The request id, given or made up; `None` for a raw record.
    pub fn request_id(&self) -> Option<&Id> {
        self.request_id.as_ref()
    }

    /// Waits until the broker has the request on as many replicas as it must. Ends within the producer's send timeout.
    pub async fn acknowledged(self) -> Result<Pending, SendError> {
        let Queued { topic, request_id, queued_at, acknowledged, waiter } = self;
        match acknowledged.await {
            Ok(Ok(Position { partition, offset, at })) => {
                let acked = Acked { topic, partition, offset, queued_at, acked_at: at };
                Ok(Pending { acked, request_id, waiter })
            }
            Ok(Err(Failed::NotWritten(source))) => Err(SendError::NotWritten { topic, source }),
            Ok(Err(Failed::Unknown(source))) => Err(SendError::Unknown { topic, source }),
            // The producer went away without a word on this request.
            Err(_) => Err(SendError::Unknown { topic, source: KafkaError::Canceled }),
        }
    }
}

/// A request that the broker has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acked {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// When the request was queued.
    pub queued_at: Instant,
    /// When the broker's acknowledgement came.
    pub acked_at: Instant,
}

/// A request that the broker has and the log has not answered yet.
#[derive(Debug)]
pub struct Pending {
    acked: Acked,
    request_id: Option<Id>,
    waiter: Waiter,
}

impl Pending {
    /// Where and when the broker took it.
    pub fn acked(&self) -> &Acked {
        &self.acked
    }

    /// The request id, given or made up; `None` for a raw record.
    pub fn request_id(&self) -> Option<&Id> {
        self.request_id.as_ref()
    }

    /// The log's answer, or that it is unknown after `limit`. Asking again goes on waiting; an answer stays.
    pub async fn await_receipt(&mut self, limit: Duration) -> Answer {
        self.waiter.answer(limit).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compiles, and that is the test.
    #[test]
    fn a_producer_is_shared_between_tasks() {
        fn is_shared<T: Send + Sync>() {}
        fn is_sent<T: Send>(_: impl FnOnce(&'static Producer, &'static WriteRequest) -> T) {}
        is_shared::<Producer>();
        is_sent(|producer, request| producer.write(request));
    }

    #[test]
    fn an_address_of_the_requests_own_stands_as_it_is() {
        let reply = |headers: &[Header], name| record::last(headers, name).cloned();
        let ours = Topic::parse("ours").unwrap();
        let address = |replies: &Replies, mut headers: Vec<Header>| {
            address_reply(replies, &mut headers);
            (reply(&headers, wire::REPLY_TOPIC), reply(&headers, wire::REPLY_PARTITION))
        };
        let partition = Replies::Partition(ours.clone(), 258);
        let own = vec![Header::new(wire::REPLY_TOPIC, "own")];
        assert_eq!(address(&partition, Vec::new()), (Some("ours".into()), Some(vec![0, 0, 1, 2].into())));
        assert_eq!(address(&Replies::Topic(ours), Vec::new()), (Some("ours".into()), None));
        assert_eq!(address(&partition, own), (Some("own".into()), None));
        assert_eq!(address(&Replies::Log, Vec::new()), (None, None));
    }

    #[tokio::test]
    async fn a_cluster_that_is_not_there_is_told_in_time() {
        let mut connection = Connection::to("127.0.0.1:1");
        connection.timeout = Duration::from_millis(300);
        let options = ProducerOptions::new(connection, Topics::new("wal.").unwrap());
        let error = Producer::connect(options).await.err().unwrap();
        assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
        assert!(error.is_retryable());
    }
}
