//! The demo's clients: an ordinary producer and an ordinary consumer, as a service of the user's would have them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use wal_model::receipt::Receipt;
use wal_model::{LogId, Topic, record, wire};
use wal_runtime::config::Kafka;
use wal_sdk::{Answer, Deliveries, DeliveriesOptions, Item, Pending, Producer, ProducerOptions, RawRequest, Start};

use crate::problem::{Exit, Problem};
use crate::settings;
use crate::stack::Stack;

/// How long anything that must happen may take: far more than it does, and a bound for what does not happen.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long closing a client may take.
const CLOSE: Duration = Duration::from_secs(2);

/// The clients.
pub struct Scene {
    ingress: Topic,
    dead_requests: Topic,
    producer: Producer,
    consumer: Option<Deliveries>,
    /// How many copies of each entry came to its target.
    copies: HashMap<LogId, u32>,
}

/// What came next.
pub enum Next {
    /// The receipt.
    Receipt {
        /// What it says.
        receipt: Receipt,
        /// When it came.
        at: Instant,
    },
    /// A delivery on a target.
    Delivery {
        /// Whose.
        log_id: LogId,
        /// Which attempt.
        attempt: u32,
        /// Of how many.
        allowed: u32,
        /// When it came.
        at: Instant,
    },
    /// A dead letter.
    DeadLetter {
        /// Its code.
        code: String,
        /// When it came.
        at: Instant,
    },
    /// Nothing, within the limit.
    Nothing,
}

impl Scene {
    /// Connects the producer. The consumer comes when its topics exist.
    pub async fn open(stack: &Stack) -> Result<Scene, Problem> {
        let kafka = Kafka::read(stack.settings()).map_err(|error| settings::invalid(&error))?;
        let options = ProducerOptions::new(settings::connection(&kafka), kafka.topics.clone());
        let producer = Producer::connect(options).await.map_err(|error| settings::no_connection(&error))?;
        Ok(Scene {
            ingress: kafka.topics.ingress(wal_model::Priority::Normal),
            dead_requests: kafka.topics.dead_requests(),
            producer,
            consumer: None,
            copies: HashMap::new(),
        })
    }

    /// Opens the consumer on targets that exist, and reads all that is there.
    pub async fn follow(&mut self, stack: &Stack, targets: &[&str]) -> Result<(), Problem> {
        let kafka = Kafka::read(stack.settings()).map_err(|error| settings::invalid(&error))?;
        let targets: Result<Vec<Topic>, _> = targets.iter().map(|target| Topic::parse(target)).collect();
        let mut topics = targets.map_err(|error| Problem::of(Exit::Failed, "WAL_FAILED", &error))?;
        topics.push(self.dead_requests.clone());
        let options = DeliveriesOptions { connection: settings::connection(&kafka), topics, start: Start::Beginning };
        let consumer = Deliveries::open(options).await.map_err(|error| settings::no_connection(&error))?;
        self.consumer = Some(consumer);
        Ok(())
    }

    /// The topic that requests go to.
    pub fn ingress(&self) -> &Topic {
        &self.ingress
    }

    /// The topic of refused requests.
    pub fn dead_requests(&self) -> &Topic {
        &self.dead_requests
    }

    /// Sends a record and returns when the broker has it.
    pub async fn send(&self, key: &str, json: &str) -> Result<Pending, Problem> {
        let request = RawRequest {
            topic: self.ingress.clone(),
            key: Some(Bytes::copy_from_slice(key.as_bytes())),
            value: Some(Bytes::copy_from_slice(json.as_bytes())),
            headers: Vec::new(),
        };
        self.producer.send_raw(request).await.map_err(|error| Problem::of(Exit::Failed, "WAL_DEMO_FAILED", &error))
    }

    /// Waits for what comes next: the receipt, if `pending` still waits for it, or anything on the consumer's topics.
    pub async fn next(&mut self, pending: Option<&mut Pending>, limit: Duration) -> Result<Next, Problem> {
        let receipt = async {
            match pending {
                Some(pending) => pending.await_receipt(limit).await,
                None => std::future::pending().await,
            }
        };
        let consumer = &mut self.consumer;
        let item = async {
            match consumer {
                Some(consumer) => consumer.next().await,
                None => std::future::pending().await,
            }
        };
        // Neither arm loses anything when the other is taken: an answer stays, an item waits.
        tokio::select! {
            answer = receipt => match answer {
                Answer::Receipt { receipt, arrived } => Ok(Next::Receipt { receipt, at: arrived }),
                Answer::Unknown(_) => Ok(Next::Nothing),
            },
            item = item => match item {
                Some(Ok(item)) => Ok(self.came(&item)),
                Some(Err(error)) => Err(Problem::of(Exit::Failed, "WAL_DEMO_FAILED", &error)),
                None => Err(Problem::new(Exit::Failed, "WAL_DEMO_FAILED", "go on reading the targets")),
            },
            () = tokio::time::sleep(limit) => Ok(Next::Nothing),
        }
    }

    fn came(&mut self, item: &Item) -> Next {
        match &item.delivery {
            Ok(received) => {
                let delivery = &received.delivery;
                *self.copies.entry(delivery.log_id.clone()).or_default() += 1;
                Next::Delivery {
                    log_id: delivery.log_id.clone(),
                    attempt: delivery.attempt,
                    allowed: delivery.retry_count.saturating_add(1),
                    at: item.read_at,
                }
            }
            Err(_) => {
                let code = record::last_str(&item.record.headers, wire::CE_WALERRORCODE).unwrap_or("none");
                Next::DeadLetter { code: code.to_owned(), at: item.read_at }
            }
        }
    }

    /// How many copies of an entry came to its target so far.
    pub fn copies(&self, log_id: &LogId) -> u32 {
        self.copies.get(log_id).copied().unwrap_or_default()
    }

    /// Closes both clients.
    pub async fn close(self) {
        let consumer = async {
            if let Some(consumer) = self.consumer {
                consumer.close(CLOSE).await;
            }
        };
        tokio::join!(consumer, self.producer.close(CLOSE));
    }
}
