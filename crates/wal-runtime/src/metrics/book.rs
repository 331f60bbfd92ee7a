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
/// A length of time, in seconds, that only grows.
pub(super) type SecondsSpent = prometheus_client::metrics::counter::Counter<f64, AtomicU64>;

/// What our own names begin with ...
pub(super) const OURS: &str = "wal";
/// ... and what those do that every Prometheus client has for a process.
pub(super) const PROCESS: &str = "process";

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

/// Gauges that differ in their labels.
#[derive(Clone, Debug)]
pub struct Gauges<L: Labels, G: Default = Gauge> {
    family: Family<L, G>,
}

impl<L: Labels, G: Clone + Default> Gauges<L, G> {
    /// The one with these labels; it is told of from now on, until it is forgotten.
    pub fn of(&self, labels: &L) -> G {
        self.family.get_or_create_owned(labels)
    }

    /// The one with these labels, if it is told of.
    pub(crate) fn known(&self, labels: &L) -> Option<G> {
        self.family.get(labels).map(|gauge| gauge.clone())
    }

    /// Tells no more of the one with these labels.
    pub fn forget(&self, labels: &L) {
        self.family.remove(labels);
    }
}

/// Histograms of lengths of time that differ in their labels.
#[derive(Clone, Debug)]
pub struct DurationsOf<L: Labels> {
    family: Family<L, Histogram, fn() -> Histogram>,
}

impl<L: Labels> DurationsOf<L> {
    /// The one with these labels. Take it once and keep it where observing is frequent.
    pub fn of(&self, labels: &L) -> Durations {
        Durations { histogram: self.family.get_or_create_owned(labels) }
    }
}

macro_rules! encoded_as_family {
    ($([$($generics:tt)*] $type:ty: $kind:expr;)+) => {
        $(impl<$($generics)*> EncodeMetric for $type {
            fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
                self.family.encode(encoder)
            }

            fn metric_type(&self) -> MetricType {
                $kind
            }

            fn is_empty(&self) -> bool {
                self.family.is_empty()
            }
        })+
    };
}

encoded_as_family! {
    [L: Labels] Counters<L>: MetricType::Counter;
    [L: Labels] Gauges<L, Gauge>: MetricType::Gauge;
    [L: Labels] Gauges<L, Seconds>: MetricType::Gauge;
    [L: Labels] DurationsOf<L>: MetricType::Histogram;
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

/// What the numbers of a family are measured in.
#[derive(Clone, Copy)]
pub(super) enum Measure {
    Count,
    Seconds,
    Bytes,
}

impl Measure {
    fn unit(self) -> Option<Unit> {
        match self {
            Measure::Count => None,
            Measure::Seconds => Some(Unit::Seconds),
            Measure::Bytes => Some(Unit::Bytes),
        }
    }

    fn as_str(self) -> Option<&'static str> {
        match self {
            Measure::Count => None,
            Measure::Seconds => Some("seconds"),
            Measure::Bytes => Some("bytes"),
        }
    }
}

/// Families are registered through it, so that what is registered is also described.
pub(super) struct Book<'a> {
    registry: &'a mut Registry,
    prefix: &'static str,
    descriptions: Vec<Description>,
}

impl<'a> Book<'a> {
    pub(super) fn new(registry: &'a mut Registry) -> Book<'a> {
        Book { registry, prefix: OURS, descriptions: Vec::new() }
    }

    /// From here on names begin so.
    pub(super) fn under(&mut self, prefix: &'static str) -> &mut Self {
        self.prefix = prefix;
        self
    }

    pub(super) fn into_descriptions(self) -> Vec<Description> {
        self.descriptions
    }

    pub(super) fn counter(&mut self, name: &str, help: &'static str) -> Counter {
        self.enter(name, help, (Kind::Counter, Measure::Count), &[], Counter::default())
    }

    pub(super) fn counters<L: Labels>(&mut self, name: &str, help: &'static str) -> Counters<L> {
        self.counters_in(Measure::Count, name, help)
    }

    pub(super) fn counters_in<L: Labels>(&mut self, unit: Measure, name: &str, help: &'static str) -> Counters<L> {
        self.enter(name, help, (Kind::Counter, unit), L::NAMES, Counters { family: Family::default() })
    }

    /// A number of seconds that only grows.
    pub(super) fn seconds_spent(&mut self, name: &str, help: &'static str) -> SecondsSpent {
        self.enter(name, help, (Kind::Counter, Measure::Seconds), &[], SecondsSpent::default())
    }

    pub(super) fn gauge(&mut self, name: &str, help: &'static str) -> Gauge {
        self.gauge_in(Measure::Count, name, help)
    }

    pub(super) fn gauge_in(&mut self, unit: Measure, name: &str, help: &'static str) -> Gauge {
        self.enter(name, help, (Kind::Gauge, unit), &[], Gauge::default())
    }

    pub(super) fn gauges<L: Labels>(&mut self, name: &str, help: &'static str) -> Gauges<L> {
        self.enter(name, help, (Kind::Gauge, Measure::Count), L::NAMES, Gauges { family: Family::default() })
    }

    pub(super) fn seconds(&mut self, name: &str, help: &'static str) -> Seconds {
        self.enter(name, help, (Kind::Gauge, Measure::Seconds), &[], Seconds::default())
    }

    pub(super) fn seconds_of<L: Labels>(&mut self, name: &str, help: &'static str) -> Gauges<L, Seconds> {
        self.enter(name, help, (Kind::Gauge, Measure::Seconds), L::NAMES, Gauges { family: Family::default() })
    }

    /// `bounds` in seconds, ascending.
    pub(super) fn durations(&mut self, name: &str, help: &'static str, bounds: &[f64]) -> Durations {
        let histogram = Histogram::new(bounds.iter().copied());
        self.enter(name, help, (Kind::Histogram, Measure::Seconds), &[], Durations { histogram })
    }

    pub(super) fn durations_of<L: Labels>(
        &mut self,
        name: &str,
        help: &'static str,
        make: fn() -> Histogram,
    ) -> DurationsOf<L> {
        let family = Family::new_with_constructor(make);
        self.enter(name, help, (Kind::Histogram, Measure::Seconds), L::NAMES, DurationsOf { family })
    }

    pub(super) fn info<L: Labels>(&mut self, name: &str, help: &'static str, labels: L) {
        self.describe(name, help, (Kind::Info, Measure::Count), L::NAMES);
        self.registry.register(format!("{}_{name}", self.prefix), help, Info::new(labels));
    }

    fn enter<M: Metric + Clone>(
        &mut self,
        name: &str,
        help: &'static str,
        (kind, unit): (Kind, Measure),
        labels: &'static [&'static str],
        metric: M,
    ) -> M {
        self.describe(name, help, (kind, unit), labels);
        let name = format!("{}_{name}", self.prefix);
        match unit.unit() {
            Some(unit) => self.registry.register_with_unit(name, help, unit, metric.clone()),
            None => self.registry.register(name, help, metric.clone()),
        }
        metric
    }

    /// The unit and what the kind asks for are added to the name, as the encoder does.
    fn describe(
        &mut self,
        name: &str,
        help: &'static str,
        (kind, unit): (Kind, Measure),
        labels: &'static [&'static str],
    ) {
        let unit = unit.as_str();
        let measured = unit.map_or(String::new(), |unit| format!("_{unit}"));
        let suffix = match kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        let name = format!("{}_{name}{measured}{suffix}", self.prefix);
        self.descriptions.push(Description { name, kind, unit, labels, help });
    }
}
