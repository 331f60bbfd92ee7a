//! Where partitions end: past everything that was ever written to them, in open transactions too.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use tokio::task::JoinSet;
use tracing::debug;
use wal_kafka::native::WayBack;
use wal_model::Topic;

use crate::config::Kafka;
use crate::kafka::{self, Context};

/// One answer of a broker that is there.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks the brokers where partitions end. Cloning gives another handle on the same.
#[derive(Clone)]
pub struct Ends {
    client: Arc<BaseConsumer<Context>>,
    way_back: Arc<WayBack>,
}

impl Ends {
    /// Asks the cluster that the settings name. Does not wait for it.
    pub fn new(kafka: &Kafka) -> Result<Ends, KafkaError> {
        let mut config = kafka::common(kafka);
        // By default the end would be where the first open transaction begins.
        config.set("isolation.level", "read_uncommitted");
        Ok(Ends { client: Arc::new(config.create_with_context(Context)?), way_back: Arc::default() })
    }

    /// The offset after the last record of each partition, at some time after the call. A partition whose broker does not answer
    /// within a few seconds is left out.
    pub async fn of(&self, topic: &Topic, partitions: Vec<i32>) -> HashMap<i32, i64> {
        self.way_back.look(self.client.client());
        let mut questions = JoinSet::new();
        for partition in partitions {
            let (client, topic) = (Arc::clone(&self.client), topic.clone());
            questions.spawn_blocking(move || {
                match client.fetch_watermarks(topic.as_str(), partition, ANSWER_TIMEOUT) {
                    Ok((_, end)) => Some((partition, end)),
                    Err(error) => {
                        debug!(%topic, partition, %error, "nobody says where a partition ends");
                        None
                    }
                }
            });
        }
        questions.join_all().await.into_iter().flatten().collect()
    }
}
