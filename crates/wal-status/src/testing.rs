//! For simulations: the hand without Kafka around it.

use std::sync::{Arc, Mutex};

use wal_model::Clock;
use wal_model::seal::Keyring;
use wal_model::topics::Topics;
use wal_runtime::batch_loop::Handler;
use wal_runtime::metrics::Metrics;
use wal_store::Patient;

use crate::config::Config;
use crate::counts::Counts;
use crate::fold::Fold;
use crate::sweep::Memory;

pub use crate::brokers::{Brokers, DeadLetters, Freshness, Shape, dead_letters};

/// What the hand is made of.
pub struct Hand<B> {
    /// Where entries are kept.
    pub store: Patient,
    /// Who answers about topics.
    pub brokers: B,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// The keys.
    pub keyring: Keyring,
    /// The log's topics.
    pub topics: Topics,
    /// Its settings.
    pub config: Config,
}

impl<B: Brokers> Hand<B> {
    /// The hand on `wal.acks`.
    pub fn folds(self, group: &str) -> impl Handler + use<B> {
        let Hand { store, brokers, clock, keyring, topics, config } = self;
        let (group, counts, memory) =
            (group.to_owned(), Arc::new(Counts::told_by(Metrics::new())), Mutex::new(Memory::default()));
        Fold { store, brokers, clock, keyring, topics, group, config, counts, memory }
    }
}
