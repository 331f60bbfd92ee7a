//! What topics there are and what they take, as the brokers last said.
//!
//! ```text
//!   look_up ──▶ memory: fresh? ──▶ the answer
//!                  │ no, and nobody asks yet
//!                  ▼
//!               one task: metadata, then settings ──▶ memory ──▶ everybody who waits
//! ```
//!
//! Silence is not an answer: it neither makes a topic unknown nor lengthens the time for which it has been.

mod memory;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rdkafka::admin::{ConfigEntry, NewTopic, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::watch;
use tracing::warn;
use wal_model::Topic;

use crate::config::Kafka;
use crate::kafka::{Admin, Seen, options};

use memory::{Memory, Next, Outcome};

/// How long the brokers may take to create a topic.
const CREATE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a look-up goes back to the memory: once to ask, once for the answer, and once more if whoever asked is gone.
const ROUNDS: usize = 3;
/// What a topic takes where the brokers do not say: Kafka's default for `max.message.bytes`.
const DEFAULT_MAX_MESSAGE_BYTES: usize = 1_048_588;

/// What a topic looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicShape {
    /// How many partitions it has.
    pub partitions: i32,
    /// Copies of the partition that has the fewest.
    pub replication: i32,
    /// The largest record batch it takes, in bytes.
    pub max_message_bytes: usize,
    /// Its settings by Kafka's names; empty where the brokers do not tell them.
    pub configs: Arc<HashMap<String, String>>,
}

/// What is known of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It exists.
    Known(TopicShape),
    /// The brokers have answered "unknown topic" every time for at least this long.
    Unknown {
        /// Zero at the first answer.
        for_at_least: Duration,
    },
    /// This client may not see it.
    Denied(String),
    /// Nobody answered.
    Unanswered(String),
}

/// Asks the brokers about topics and remembers the answers. Cloning gives another handle on the same.
#[derive(Clone)]
pub struct Directory {
    shared: Arc<Shared>,
}

struct Shared {
    admin: Admin,
    memory: Mutex<Memory>,
    has_warned: AtomicBool,
}

impl Directory {
    /// A directory of the cluster that the settings name. Does not wait for it.
    pub fn new(kafka: &Kafka) -> Result<Directory, KafkaError> {
        let shared = Shared { admin: Admin::new(kafka)?, memory: Mutex::default(), has_warned: AtomicBool::new(false) };
        Ok(Directory { shared: Arc::new(shared) })
    }

    /// One answer for each topic: what is remembered, or what the brokers say now.
    ///
    /// Takes a few seconds at most. Topics are never created by it. It may be dropped at any await: whoever asks the brokers goes on,
    /// and the answer is remembered.
    pub async fn look_up(&self, topics: &[Topic]) -> HashMap<Topic, Presence> {
        let since = Instant::now();
        let mut answers = HashMap::with_capacity(topics.len());
        let mut open = topics.to_vec();
        open.sort_unstable();
        open.dedup();
        for _ in 0..ROUNDS {
            let waits = self.settle(&mut open, &mut answers, since);
            if open.is_empty() {
                return answers;
            }
            for mut wait in waits {
                // It ends with an error when whoever asks has finished.
                let _ = wait.changed().await;
            }
        }
        let unanswered = || Presence::Unanswered("whoever asked the brokers is gone".to_owned());
        answers.extend(open.into_iter().map(|topic| (topic, unanswered())));
        answers
    }

    /// Begins to ask about topics that are not remembered, or not for much longer, and waits for nothing. Called within a runtime.
    pub fn foresee(&self, topics: &[Topic]) {
        self.settle(&mut topics.to_vec(), &mut HashMap::new(), Instant::now());
    }

    /// Asks the brokers about a topic now, whatever is remembered.
    pub async fn refresh(&self, topic: &Topic) -> Presence {
        // A question that began before this call may bring an answer from before whatever made the caller ask.
        let under_way = self.shared.memory().under_way(topic);
        if let Some(mut wait) = under_way {
            let _ = wait.changed().await;
        }
        let mut wait = self.ask(&mut self.shared.memory(), vec![topic.clone()]);
        let _ = wait.changed().await;
        let mut answers = self.look_up(std::slice::from_ref(topic)).await;
        answers.remove(topic).unwrap_or_else(|| Presence::Unanswered("no answer".to_owned()))
    }

    /// Forgets what topics look like; for how long topics have been unknown is kept.
    pub fn forget(&self) {
        self.shared.memory().forget_shapes();
    }

    /// Creates a topic with the cluster's settings and waits until it is seen; one that is already there is fine.
    pub async fn create(&self, topic: &Topic, partitions: i32, replication: i32) -> Result<(), String> {
        let new = NewTopic::new(topic.as_str(), partitions, TopicReplication::Fixed(replication));
        let created = self.shared.admin.client().create_topics([&new], &options(CREATE_TIMEOUT)).await;
        match created.map_err(|error| error.to_string())?.into_iter().next() {
            Some(Err((_, code))) if code != RDKafkaErrorCode::TopicAlreadyExists => return Err(code.to_string()),
            _ => {}
        }
        let seen_by = Instant::now() + CREATE_TIMEOUT;
        while !matches!(self.refresh(topic).await, Presence::Known(_)) {
            if Instant::now() >= seen_by {
                return Err(format!("created, but not seen within {CREATE_TIMEOUT:?}"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Deletes the records before these offsets.
    pub async fn delete_before(&self, places: &[((Topic, i32), i64)]) -> Result<(), String> {
        self.shared.admin.delete_before(places).await
    }

    /// The cluster's own id, waiting for the brokers up to `limit`.
    pub async fn cluster_id(&self, limit: Duration) -> Result<Arc<str>, String> {
        let id = self.shared.admin.cluster_id(limit).await;
        id.map(Arc::from).ok_or_else(|| format!("the brokers did not tell the cluster's id within {limit:?}"))
    }

    /// Moves what can be answered from `open` to `answers`, begins to ask about the rest, and returns what to wait for.
    fn settle(
        &self,
        open: &mut Vec<Topic>,
        answers: &mut HashMap<Topic, Presence>,
        since: Instant,
    ) -> Vec<watch::Receiver<()>> {
        let now = Instant::now();
        let (mut waits, mut to_ask, mut still_open) = (Vec::new(), Vec::new(), Vec::new());
        let mut memory = self.shared.memory();
        for topic in open.drain(..) {
            match memory.next(&topic, since, now) {
                Next::Answer(presence) => drop(answers.insert(topic, presence)),
                Next::AnswerAndAsk(presence) => {
                    to_ask.push(topic.clone());
                    answers.insert(topic, presence);
                }
                Next::Await(wait) => {
                    waits.push(wait);
                    still_open.push(topic);
                }
                Next::Ask => {
                    to_ask.push(topic.clone());
                    still_open.push(topic);
                }
            }
        }
        if !to_ask.is_empty() {
            let wait = self.ask(&mut memory, to_ask);
            if !still_open.is_empty() {
                waits.push(wait);
            }
        }
        *open = still_open;
        waits
    }

    /// Asks about topics in a task of its own, which ends by itself within seconds and drops the other end of what is returned.
    fn ask(&self, memory: &mut Memory, topics: Vec<Topic>) -> watch::Receiver<()> {
        let (asker, asking) = watch::channel(());
        let now = Instant::now();
        for topic in &topics {
            memory.begin(topic, asking.clone(), now);
        }
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            shared.ask(topics).await;
            drop(asker);
        });
        asking
    }
}

impl Shared {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().expect("nothing panics while it is held")
    }

    /// Asks the brokers and remembers what they say.
    async fn ask(&self, topics: Vec<Topic>) {
        let seen = self.admin.see(topics).await;
        let there: Vec<Topic> = seen
            .iter()
            .filter(|(_, seen)| matches!(seen, Seen::There { .. }))
            .map(|(topic, _)| topic.clone())
            .collect();
        let settings = self.settings(&there).await;
        let now = Instant::now();
        let mut memory = self.memory();
        for (topic, seen) in seen {
            let outcome = match (seen, &settings) {
                (Seen::There { partitions, replication, .. }, Ok(settings)) => {
                    Outcome::Known(shape(partitions, replication, settings.get(&topic)))
                }
                (Seen::There { .. }, Err(why)) => Outcome::Trouble(Presence::Unanswered(why.clone())),
                (Seen::Unknown, _) => Outcome::Unknown,
                (Seen::Denied(why), _) => {
                    Outcome::Trouble(Presence::Denied(format!("the brokers do not show {topic}: {why}")))
                }
                (Seen::Unanswered(why), _) => Outcome::Trouble(Presence::Unanswered(why)),
            };
            memory.end(&topic, outcome, now);
        }
    }

    /// The settings of topics, as far as they are told; an error only where asking again can help.
    async fn settings(&self, topics: &[Topic]) -> Result<HashMap<Topic, Vec<ConfigEntry>>, String> {
        if topics.is_empty() {
            return Ok(HashMap::new());
        }
        let settings = match self.admin.settings(topics).await {
            Ok(settings) => settings,
            Err(error) if is_refusal(&error) => HashMap::new(),
            Err(error) => return Err(error.to_string()),
        };
        let untold = topics.iter().find(|topic| !settings.contains_key(*topic));
        if let Some(topic) = untold
            && !self.has_warned.swap(true, Ordering::Relaxed)
        {
            warn!(
                %topic,
                "the brokers do not tell the settings of this topic; taking {DEFAULT_MAX_MESSAGE_BYTES} bytes as the limit of \
                 its records, and of others like it"
            );
        }
        Ok(settings)
    }
}

/// Whether the brokers will never tell settings, to this client at least.
fn is_refusal(error: &KafkaError) -> bool {
    matches!(
        error,
        KafkaError::AdminOp(
            RDKafkaErrorCode::UnsupportedFeature
                | RDKafkaErrorCode::UnsupportedVersion
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::TopicAuthorizationFailed
        )
    )
}

fn shape(partitions: i32, replication: i32, settings: Option<&Vec<ConfigEntry>>) -> TopicShape {
    let told = settings.into_iter().flatten();
    let configs: HashMap<String, String> =
        told.filter_map(|entry| Some((entry.name.clone(), entry.value.clone()?))).collect();
    let max_message_bytes = configs.get("max.message.bytes").and_then(|text| text.parse().ok());
    TopicShape {
        partitions,
        replication,
        max_message_bytes: max_message_bytes.unwrap_or(DEFAULT_MAX_MESSAGE_BYTES),
        configs: Arc::new(configs),
    }
}
