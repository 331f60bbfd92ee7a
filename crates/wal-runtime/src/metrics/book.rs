//! The kinds of families, and the book in which each is written down when it is declared.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};

/// A number that only grows.
pub type Counter = prometheus_client::metrics::counter::Counter;
/// A number that goes up and down.
pub type Gauge = prometheus_client::metrics::gauge::Gauge;
/// A length of time, in seconds, that goes up and down.
pub type Seconds = prometheus_client::metrics::gauge::Gauge<f64, AtomicU64>;

/// What every name begins with.
pub(super) const PREFIX: &str = "wal";

/// A set of labels whose values come from a bounded stock.
pub trait Labels: EncodeLabelSet + Clone + Debug + Eq + Hash + Send + Sync + 'static {
    /// The labels' names, in the order in which they are written.
    const NAMES: &'static [&'static str];
}

/// Counters that differ in their labels.
#[derive(Clone, Debug)]
pub struct Counters<L: Labels> {
    family: Family<L, Counter>,
}

impl<L: Labels> Counters<L> {
    /// The one with these labels; it is told of from now on, be it zero. Take it once and keep it where counting is frequent.
    pub fn of(&self, labels: &L) -> Counter {
        self.family.get_or_create_owned(labels)
    }
}

impl<L: Labels> EncodeMetric for Counters<L> {
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.family.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }

    fn is_empty(&self) -> bool {
        self.family.is_empty()
    }
}

/// How long something took or was late, over and over, as a histogram.
#[derive(Clone, Debug)]
pub struct Durations {
    histogram: Histogram,
}

impl Durations {
    /// One of them.
    pub fn observe(&self, duration: Duration) {
        self.histogram.observe(duration.as_secs_f64());
    }
}

impl EncodeMetric for Durations {
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.histogram.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        self.histogram.metric_type()
    }
}

/// What a family is, as a reference tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its name as it is queried; of a histogram, without `_bucket`, `_sum` and `_count`.
    pub name: String,
    /// What its numbers do.
    pub kind: Kind,
    /// What they are measured in, if they have a unit.
    pub unit: Option<&'static str>,
    /// What each is told apart by.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

/// What the numbers of a family do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grow.
    Counter,
    /// Go up and down.
    Gauge,
    /// Count what fell within bounds.
    Histogram,
    /// Stay 1, for the sake of their labels.
    Info,
}

/// Families are registered through it, so that what is registered is also described.
pub(super) struct Book<'a> {
    registry: &'a mut Registry,
    descriptions: Vec<Description>,
}

impl<'a> Book<'a> {
    pub(super) fn new(registry: &'a mut Registry) -> Book<'a> {
        Book { registry, descriptions: Vec::new() }
    }

    pub(super) fn into_descriptions(self) -> Vec<Description> {
        self.descriptions
    }

    pub(super) fn counter(&mut self, name: &str, help: &'static str) -> Counter {
        let description =
            Description { name: full(name, "_total"), kind: Kind::Counter, unit: None, labels: &[], help };
        self.enter(name, description, Counter::default())
    }

    pub(super) fn counters<L: Labels>(&mut self, name: &str, help: &'static str) -> Counters<L> {
        let labels = L::NAMES;
        let description = Description { name: full(name, "_total"), kind: Kind::Counter, unit: None, labels, help };
        self.enter(name, description, Counters { family: Family::default() })
    }

    pub(super) fn gauge(&mut self, name: &str, help: &'static str) -> Gauge {
        let description = Description { name: full(name, ""), kind: Kind::Gauge, unit: None, labels: &[], help };
        self.enter(name, description, Gauge::default())
    }

    pub(super) fn seconds(&mut self, name: &str, help: &'static str) -> Seconds {
        self.enter(name, in_seconds(name, Kind::Gauge, help), Seconds::default())
    }

    /// `bounds` in seconds, ascending.
    pub(super) fn durations(&mut self, name: &str, help: &'static str, bounds: &[f64]) -> Durations {
        let histogram = Histogram::new(bounds.iter().copied());
        self.enter(name, in_seconds(name, Kind::Histogram, help), Durations { histogram })
    }

    pub(super) fn info<L: Labels>(&mut self, name: &str, help: &'static str, labels: L) {
        let described = Description { name: full(name, "_info"), kind: Kind::Info, unit: None, labels: L::NAMES, help };
        self.descriptions.push(described);
        self.registry.register(name, help, Info::new(labels));
    }

    fn enter<M: Metric + Clone>(&mut self, name: &str, description: Description, metric: M) -> M {
        match description.unit {
            Some(_) => self.registry.register_with_unit(name, description.help, Unit::Seconds, metric.clone()),
            None => self.registry.register(name, description.help, metric.clone()),
        }
        self.descriptions.push(description);
        metric
    }
}

fn in_seconds(name: &str, kind: Kind, help: &'static str) -> Description {
    Description { name: full(name, "_seconds"), kind, unit: Some("seconds"), labels: &[], help }
}

fn full(name: &str, suffix: &str) -> String {
    format!("{PREFIX}_{name}{suffix}")
}
