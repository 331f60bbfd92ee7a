//! For benchmarks and simulations: admission without brokers, and the writer's hand without Kafka around it.

use std::sync::Arc;
use std::time::Duration;

use wal_model::delay::Waits;
use wal_model::entry::{Answers, Entry};
use wal_model::lifecycle::Seconds;
use wal_model::record::InRecord;
use wal_model::request;
use wal_model::seal::Keyring;
use wal_model::topics::Topics;
use wal_model::{Clock, Code, Lifecycle, Refusal};
use wal_runtime::batch_loop::Handler;
use wal_runtime::brokers::Brokers;
use wal_runtime::config::Policy;
use wal_runtime::live::Live;
use wal_runtime::metrics::Metrics;
use wal_store::Patient;

use crate::admit::{self, Wish};
use crate::config::Config;
use crate::tally::Meter;
use crate::writer::Writer;

/// What the writer's hand is made of.
pub struct Hand<B> {
    /// Where entries are kept.
    pub store: Patient,
    /// Who answers about topics.
    pub brokers: B,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// The keys.
    pub keyring: Keyring,
    /// What holds where requests say nothing.
    pub policy: Policy,
    /// The log's topics.
    pub topics: Topics,
    /// The waits that there are topics for.
    pub waits: Waits,
    /// Its settings.
    pub config: Config,
}

impl<B: Brokers> Hand<B> {
    /// The hand on the ingress topics.
    pub fn writer(self, group: &str) -> impl Handler + use<B> {
        let Hand { store, brokers, clock, keyring, policy, topics, waits, config } = self;
        let (policy, config, group) = (Live::new(policy), Live::new(config), group.to_owned());
        let meter = Meter::new(Metrics::new());
        Writer { store, brokers, clock, keyring, policy, topics, waits, group, config, meter }
    }
}

/// The entry that a record asks for under the specification's defaults.
pub fn entry(record: &InRecord) -> Result<Entry, Refusal> {
    let policy = Policy {
        target: None,
        lifecycle: Lifecycle::default(),
        first_delay: Seconds::new(Duration::ZERO),
        answers: Answers::Expected,
        correlation_fields: vec!["correlation_id".to_owned(), "saga_id".to_owned()],
    };
    let topics = Topics::new("wal.").expect("a legal prefix");
    match admit::case(record, request::decode(record, &policy.correlation_fields), &policy, &topics).wish {
        Wish::Refused(refusal) => Err(refusal),
        Wish::Write(wanted) => match wanted.objection {
            Some(objection) => Err(objection),
            None => wanted.entries.into_iter().next().ok_or_else(|| Refusal::new(Code::InvalidRequest, "no entry")),
        },
    }
}
