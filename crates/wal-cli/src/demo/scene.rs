//! The demo's clients, as a service of the user's would have them: a producer, a consumer that answers, and a reader of what is told.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Deserialize;
use wal_model::receipt::Receipt;
use wal_model::{Clock as _, InRecord, LogId, SystemClock, Timestamp, Topic, record, wire};
use wal_runtime::config::Kafka;
use wal_sdk::{
    Answer, Attempt, Consumer, ConsumerOptions, Deliveries, DeliveriesOptions, Handed, Item, Pending, Producer,
    ProducerOptions, RawRequest, Start,
};

use crate::problem::{Exit, Problem};
use crate::settings;
use crate::stack::Stack;

/// How long anything that must happen may take: far more than it does, and a bound for what does not happen.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long closing a client may take.
const CLOSE: Duration = Duration::from_secs(2);
/// The consumer group of the demo's service.
const GROUP: &str = "demo";

/// The clients.
pub struct Scene {
    ingress: Topic,
    dead_letters: Topic,
    status: Topic,
    producer: Producer,
    audience: Option<Audience>,
    /// The attempts of each entry that came to its target.
    attempts: HashMap<LogId, Vec<u32>>,
}

/// Who listens.
struct Audience {
    /// To the targets, and answers.
    consumer: Consumer,
    /// To what the log tells: statuses and dead letters.
    reader: Deliveries,
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
    /// An attempt on a target.
    Attempt {
        /// The attempt, to be answered.
        attempt: Attempt,
        /// When it came, by the clock on the wall.
        now: Timestamp,
    },
    /// An entry stands so.
    Status {
        /// How it stands.
        stands: Stands,
        /// When that was read.
        at: Instant,
    },
    /// A dead letter.
    DeadLetter {
        /// Its code.
        code: String,
        /// The entry, if it is one.
        log_id: Option<LogId>,
        /// When it came.
        at: Instant,
    },
    /// Nothing, within the limit.
    Nothing,
}

/// Where an entry stands, as `wal.status` tells it.
#[derive(Debug, Deserialize)]
pub struct Stands {
    /// Which entry.
    pub log_id: LogId,
    /// retrying, failed or completed.
    pub status: String,
    /// Why it failed.
    pub reason: Option<String>,
    /// The attempt that was answered, or ended.
    pub attempt: u32,
    /// When the next one is due.
    pub next_attempt_at: Option<Timestamp>,
}

impl Scene {
    /// Connects the producer. Who listens comes when the targets exist.
    pub async fn open(stack: &Stack) -> Result<Scene, Problem> {
        let kafka = Kafka::read(stack.settings()).map_err(|error| settings::invalid(&error))?;
        let options = ProducerOptions::new(settings::connection(&kafka), kafka.topics.clone());
        let producer = Producer::connect(options).await.map_err(|error| settings::no_connection(&error))?;
        Ok(Scene {
            ingress: kafka.topics.ingress(wal_model::Priority::Normal),
            dead_letters: kafka.topics.dead_requests(),
            status: kafka.topics.status(),
            producer,
            audience: None,
            attempts: HashMap::new(),
        })
    }

    /// Joins the consumer's group on targets that exist, and reads all that is there and all that is told.
    pub async fn follow(&mut self, stack: &Stack, targets: &[&str]) -> Result<(), Problem> {
        let kafka = Kafka::read(stack.settings()).map_err(|error| settings::invalid(&error))?;
        let targets: Result<Vec<Topic>, _> = targets.iter().map(|target| Topic::parse(target)).collect();
        let targets = targets.map_err(|error| Problem::of(Exit::Failed, "WAL_FAILED", &error))?;
        let connection = settings::connection(&kafka);
        let consumer = ConsumerOptions::new(connection.clone(), kafka.topics.clone(), GROUP, targets);
        let topics = vec![self.dead_letters.clone(), self.status.clone()];
        let reader = DeliveriesOptions { connection, topics, start: Start::Beginning };
        let (consumer, reader) = tokio::join!(Consumer::join(consumer), Deliveries::open(reader));
        let consumer = consumer.map_err(|error| settings::no_connection(&error))?;
        let reader = reader.map_err(|error| settings::no_connection(&error))?;
        self.audience = Some(Audience { consumer, reader });
        Ok(())
    }

    /// The topic that requests go to.
    pub fn ingress(&self) -> &Topic {
        &self.ingress
    }

    /// The topic of dead letters.
    pub fn dead_letters(&self) -> &Topic {
        &self.dead_letters
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

    /// Waits for what comes next: the receipt, if `pending` still waits for it, or anything that somebody listens to.
    pub async fn next(&mut self, pending: Option<&mut Pending>, limit: Duration) -> Result<Next, Problem> {
        let deadline = Instant::now() + limit;
        let mut pending = pending;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let heard = self.hear(pending.as_deref_mut(), left).await?;
            match heard {
                Heard::Next(next) => return Ok(next),
                Heard::Item(item) => {
                    if let Some(next) = self.told(&item) {
                        return Ok(next);
                    }
                }
                Heard::Handed(Handed::Attempt(attempt)) => {
                    let (delivery, now) = (attempt.delivery(), SystemClock.now());
                    self.attempts.entry(delivery.log_id.clone()).or_default().push(delivery.attempt);
                    return Ok(Next::Attempt { attempt, now });
                }
                Heard::Handed(Handed::Foreign(foreign)) => foreign.pass_over(),
            }
        }
    }

    /// Hears one thing. None of the arms loses anything when another is taken: an answer stays, items wait.
    async fn hear(&mut self, pending: Option<&mut Pending>, limit: Duration) -> Result<Heard, Problem> {
        let receipt = async {
            match pending {
                Some(pending) => pending.await_receipt(limit).await,
                None => std::future::pending().await,
            }
        };
        let heard = async {
            let Some(Audience { consumer, reader }) = &mut self.audience else { return std::future::pending().await };
            tokio::select! {
                handed = consumer.next() => match handed {
                    Some(Ok(handed)) => Ok(Heard::Handed(handed)),
                    Some(Err(error)) => Err(Problem::of(Exit::Failed, "WAL_DEMO_FAILED", &error)),
                    None => Err(ended()),
                },
                item = reader.next() => match item {
                    Some(Ok(item)) => Ok(Heard::Item(Box::new(item))),
                    Some(Err(error)) => Err(Problem::of(Exit::Failed, "WAL_DEMO_FAILED", &error)),
                    None => Err(ended()),
                },
            }
        };
        tokio::select! {
            answer = receipt => match answer {
                Answer::Receipt { receipt, arrived } => Ok(Heard::Next(Next::Receipt { receipt, at: arrived })),
                Answer::Unknown(_) => Ok(Heard::Next(Next::Nothing)),
            },
            heard = heard => heard,
            () = tokio::time::sleep(limit) => Ok(Heard::Next(Next::Nothing)),
        }
    }

    fn told(&self, item: &Item) -> Option<Next> {
        let InRecord { topic, value, headers, .. } = &item.record;
        if *topic == self.status {
            let stands = serde_json::from_slice(value.as_deref()?).ok()?;
            return Some(Next::Status { stands, at: item.read_at });
        }
        let code = record::last_str(headers, wire::CE_WALERRORCODE).unwrap_or("none").to_owned();
        let log_id = record::last_str(headers, wire::CE_ID).and_then(|id| id.parse().ok());
        Some(Next::DeadLetter { code, log_id, at: item.read_at })
    }

    /// The attempts of an entry that came to its target so far.
    pub fn attempts(&self, log_id: &LogId) -> &[u32] {
        self.attempts.get(log_id).map_or(&[], Vec::as_slice)
    }

    /// Closes all clients.
    pub async fn close(self) {
        let audience = async {
            if let Some(Audience { consumer, reader }) = self.audience {
                tokio::join!(consumer.close(CLOSE), reader.close(CLOSE));
            }
        };
        tokio::join!(audience, self.producer.close(CLOSE));
    }
}

enum Heard {
    Next(Next),
    Handed(Handed),
    Item(Box<Item>),
}

fn ended() -> Problem {
    Problem::new(Exit::Failed, "WAL_DEMO_FAILED", "go on reading")
}
