//! For simulations: both hands and the gate, without Kafka around them.

use std::sync::{Arc, Mutex};

use wal_model::delay::Waits;
use wal_model::seal::Keyring;
use wal_model::topics::Topics;
use wal_model::{Clock, InRecord};
use wal_runtime::batch_loop::{Gate, Handler};
use wal_runtime::brokers::Brokers;
use wal_runtime::live::Live;
use wal_runtime::metrics::Metrics;

use crate::cancels;
use crate::config::Config;
use crate::failures::{Failures, State};
use crate::release::{DelayGate, Releases};
use crate::tally::Meter;
use crate::tools::Tools;

pub use crate::failures::Past;

/// The cancels that one process knows.
#[derive(Clone)]
pub struct Cancels(Arc<cancels::Cancels>);

impl Cancels {
    /// None yet, and nobody who follows their topic.
    pub fn by_hand() -> Cancels {
        Cancels(Arc::new(cancels::Cancels::by_hand()))
    }

    /// Takes in a record of their topic.
    pub fn take(&self, record: &InRecord, keyring: &Keyring) {
        self.0.take_with(record, keyring);
    }
}

/// What the hands of one process are made of.
#[derive(Clone)]
pub struct Hands<B, P> {
    /// Who answers about topics.
    pub brokers: B,
    /// Who reads back what was decided.
    pub past: P,
    /// The cancels it knows.
    pub cancels: Cancels,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// The keys.
    pub keyring: Keyring,
    /// The log's topics.
    pub topics: Topics,
    /// The waits that there are topics for.
    pub waits: Waits,
    /// Its settings.
    pub config: Config,
}

impl<B: Brokers + Clone, P: Past + Clone> Hands<B, P> {
    fn tools(&self) -> Arc<Tools<B>> {
        Arc::new(Tools {
            brokers: self.brokers.clone(),
            cancels: Arc::clone(&self.cancels.0),
            clock: Arc::clone(&self.clock),
            keyring: self.keyring.clone(),
            topics: self.topics.clone(),
            waits: self.waits.clone(),
            config: Live::new(self.config.clone()),
            meter: Meter::new(Metrics::new()),
        })
    }

    /// The hand on the failures topic.
    pub fn failures(&self, group: &str) -> impl Handler + use<B, P> {
        Failures {
            tools: self.tools(),
            past: self.past.clone(),
            group: group.to_owned(),
            state: Mutex::new(State::new(&self.config)),
        }
    }

    /// The hand on the delay topics.
    pub fn releases(&self, group: &str) -> impl Handler + use<B, P> {
        Releases {
            tools: self.tools(),
            group: group.to_owned(),
            overdue: Arc::default(),
            clearing: None,
            pending: Mutex::default(),
        }
    }

    /// What lets heads of delay topics pass.
    pub fn gate(&self) -> Arc<dyn Gate> {
        let (clock, topics) = (Arc::clone(&self.clock), self.topics.clone());
        Arc::new(DelayGate { clock, topics, overdue: Arc::default(), foresee: Box::new(|_| ()) })
    }
}
