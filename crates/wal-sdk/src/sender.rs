//! The native producer: a queue with room for so much, an outcome for every record, and an end on a thread of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::statistics::Statistics;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use wal_kafka::native::{self, WayBack};
use wal_model::Header;

use crate::connection::{self, ConnectError, Connection};
use crate::producer::{RawRequest, SendError};
use crate::worker;

/// What may be queued at a time, in KiB, counting at least one for each record: [`Sender::send`] waits beyond it. Half of
/// librdkafka's own limit below, which also counts its overhead.
const QUEUE_KIB: u32 = 64 * 1024;

const DEFAULTS: [(&str, &str); 5] = [
    ("linger.ms", "1"),
    ("queue.buffering.max.kbytes", "131072"),
    // The broker's limit decides, not a copy of it. Batches stay at `batch.size`, 1 MB.
    ("message.max.bytes", "16777216"),
    ("topic.metadata.propagation.max.ms", "5000"),
    ("enable.metrics.push", "false"),
];
const FIXED: [(&str, &str); 3] = [("enable.idempotence", "true"), ("acks", "all"), ("partitioner", "murmur2_random")];

/// The native producer.
pub(crate) struct Sender {
    room: Arc<Semaphore>,
    /// Gone only once it is closed.
    client: Option<ThreadedProducer<Context>>,
    way_back: WayBack,
}

impl Sender {
    pub(crate) fn new(connection: &Connection, timeout: Duration) -> Result<Sender, ConnectError> {
        let timeout = timeout.as_millis().max(1).to_string();
        let config = connection.config(&[&DEFAULTS[..], &[("message.timeout.ms", &timeout)]].concat(), &FIXED)?;
        let client = config.create_with_context(Context).map_err(ConnectError::Options)?;
        Ok(Sender {
            room: Arc::new(Semaphore::new(QUEUE_KIB as usize)),
            client: Some(client),
            way_back: WayBack::default(),
        })
    }

    /// Queues a record, in the order of calls; waits only while the queue is full. The outcome comes within the timeout.
    pub(crate) async fn send(
        &self,
        request: &RawRequest,
    ) -> Result<(Instant, oneshot::Receiver<Result<Position, Failed>>), SendError> {
        let headers = native_headers(&request.headers)?;
        let not_written = |source| SendError::NotWritten { topic: request.topic.clone(), source };
        let room = Arc::clone(&self.room).acquire_many_owned(room_of(request)).await;
        let (Ok(room), Some(client)) = (room, &self.client) else {
            return Err(not_written(KafkaError::Canceled));
        };
        let (acknowledge, acknowledged) = oneshot::channel();
        let in_flight = Box::new(InFlight { acknowledge, _room: room });
        let mut record: BaseRecord<'_, [u8], [u8], _> = BaseRecord::with_opaque_to(request.topic.as_str(), in_flight);
        record = record.headers(headers);
        record.key = request.key.as_deref();
        record.payload = request.value.as_deref();
        self.way_back.look(client.client());
        let queued_at = Instant::now();
        client.send(record).map_err(|(error, _)| not_written(error))?;
        Ok((queued_at, acknowledged))
    }

    /// Waits until what is queued is acknowledged, at most `limit`, gives up the rest, and ends. Resolves when it has ended.
    pub(crate) fn close(&mut self, limit: Duration) -> oneshot::Receiver<()> {
        let client = self.client.take();
        worker::aside("wal-close-producer", move || {
            if let Some(client) = &client
                && let Err(error) = client.flush(limit)
            {
                tracing::warn!(%error, "requests were still queued when the producer was closed");
            }
            drop(client);
        })
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if self.client.is_some() {
            // Nobody waits: what is not acknowledged yet is given up.
            drop(self.close(Duration::ZERO));
        }
    }
}

/// How much of the queue a record takes, in KiB: at most all of it, so that the largest waits for an empty one instead of for ever.
fn room_of(request: &RawRequest) -> u32 {
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers: usize = request.headers.iter().map(Header::size).sum();
    let kib = (length(&request.key) + length(&request.value) + headers) / 1024 + 1;
    u32::try_from(kib).unwrap_or(u32::MAX).min(QUEUE_KIB)
}

/// librdkafka's interface in Rust takes names that are text.
fn native_headers(headers: &[Header]) -> Result<OwnedHeaders, SendError> {
    let mut all = OwnedHeaders::new_with_capacity(headers.len());
    for header in headers {
        let Some(key) = header.name_str() else {
            let name = String::from_utf8_lossy(&header.name);
            return Err(SendError::Invalid(format!("the header name {name:?} is not UTF-8")));
        };
        all = all.insert(rdkafka::message::Header { key, value: header.value.as_deref() });
    }
    Ok(all)
}

/// Where a record came to be.
#[derive(Debug)]
pub(crate) struct Position {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) at: Instant,
}

/// How a record did not.
#[derive(Debug)]
pub(crate) enum Failed {
    NotWritten(KafkaError),
    Unknown(KafkaError),
}

/// What librdkafka keeps beside a record until it is acknowledged.
struct InFlight {
    acknowledge: oneshot::Sender<Result<Position, Failed>>,
    /// The record's share of the queue, given back with it.
    _room: OwnedSemaphorePermit,
}

struct Context;

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        connection::Context.log(level, facility, message);
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        connection::Context.error(error, reason);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<InFlight>;

    fn delivery(&self, result: &DeliveryResult<'_>, in_flight: Box<InFlight>) {
        let outcome = match result {
            Ok(message) => {
                Ok(Position { partition: message.partition(), offset: message.offset(), at: Instant::now() })
            }
            Err((error, message)) if native::is_certainly_unwritten(message) => Err(Failed::NotWritten(error.clone())),
            Err((error, _)) => Err(Failed::Unknown(error.clone())),
        };
        // Who dropped the Queued does not want to know.
        let _ = in_flight.acknowledge.send(outcome);
    }
}

#[cfg(test)]
mod tests {
    use wal_model::Topic;

    use super::*;

    fn raw(length: usize) -> RawRequest {
        let value = Some(Bytes::from(vec![0; length]));
        RawRequest { topic: Topic::parse("wal.ingress").unwrap(), key: None, value, headers: Vec::new() }
    }

    #[test]
    fn every_record_takes_room_and_none_more_than_there_is() {
        assert_eq!(room_of(&raw(0)), 1);
        assert_eq!(room_of(&raw(10 * 1024)), 11);
        assert_eq!(room_of(&raw(QUEUE_KIB as usize * 1024)), QUEUE_KIB);
    }

    #[test]
    fn header_names_that_librdkafka_cannot_take_are_refused() {
        let name = Bytes::from_static(b"\xff");
        assert!(matches!(native_headers(&[Header { name, value: None }]), Err(SendError::Invalid(_))));
        assert!(
            native_headers(&[Header::new("a", ""), Header { name: Bytes::from_static(b"b"), value: None }]).is_ok()
        );
    }
}
