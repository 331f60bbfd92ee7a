//! What each service may do at brokers that ask: the smallest set of rules with which it works. Held to that by a scenario.

use std::fmt;

use wal_model::topics::Topics;
use wal_model::{Priority, Topic};

use crate::config::Kafka;
use crate::kafka;

/// A service, as far as brokers tell one from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// `wal-writer`
    Writer,
    /// `wal-retry-scheduler`
    RetryScheduler,
    /// `wal-status`
    Status,
    /// `wal-gateway`
    Gateway,
}

impl Service {
    /// All of them.
    pub const ALL: [Service; 4] = [Service::Writer, Service::RetryScheduler, Service::Status, Service::Gateway];

    /// The program.
    pub fn program(self) -> &'static str {
        match self {
            Service::Writer => "wal-writer",
            Service::RetryScheduler => "wal-retry-scheduler",
            Service::Status => "wal-status",
            Service::Gateway => "wal-gateway",
        }
    }
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A topic.
    Topic,
    /// A consumer group.
    Group,
    /// A transactional id.
    TransactionalId,
}

/// Which names a rule means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// This one.
    Literal(String),
    /// All that begin so.
    Prefixed(String),
}

/// An operation, by Kafka's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Read records, or be a member and commit.
    Read,
    /// Write records.
    Write,
    /// Delete records.
    Delete,
    /// See that it is there; implied by the three above.
    Describe,
    /// See its settings.
    DescribeConfigs,
}

/// Something a service must be allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it is about.
    pub resource: Resource,
    /// Which names.
    pub names: Names,
    /// What is allowed there.
    pub operations: Vec<Operation>,
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Names::Literal(name) => f.write_str(name),
            Names::Prefixed(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl Names {
    /// `orders.*` means all that begin with `orders.`, `*` alone means all, anything else itself.
    pub fn parse(text: &str) -> Names {
        match text.strip_suffix('*') {
            // Kafka's own word for all.
            Some("") => Names::Literal("*".to_owned()),
            Some(prefix) => Names::Prefixed(prefix.to_owned()),
            None => Names::Literal(text.to_owned()),
        }
    }
}

impl Operation {
    /// As Kafka's own tools spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Read => "Read",
            Operation::Write => "Write",
            Operation::Delete => "Delete",
            Operation::Describe => "Describe",
            Operation::DescribeConfigs => "DescribeConfigs",
        }
    }
}

/// What a service must be allowed. `targets` are the topics that requests may name, and those that receipts may be wanted on.
pub fn of(service: Service, settings: &Kafka, targets: &[Names]) -> Vec<Rule> {
    let topics = &settings.topics;
    let mut rules = Vec::new();
    // Starts look whether all topics of the log are there and fit; dead letters are none of the gateway's.
    let mut looked_at = vec![topics.prefix().to_owned()];
    if service != Service::Gateway {
        looked_at.push(format!("dlq.{}", topics.prefix()));
    }
    for prefix in looked_at {
        rules.push(topic(Names::Prefixed(prefix), &[Operation::Describe, Operation::DescribeConfigs]));
    }
    let (reads, writes) = (reads(service, topics), writes(service, topics));
    rules.extend(reads.into_iter().map(|names| topic(names, &[Operation::Read])));
    rules.extend(writes.into_iter().map(|names| topic(names, &[Operation::Write])));
    match service {
        Service::Writer | Service::Gateway => {}
        // What was released is deleted.
        Service::RetryScheduler => {
            rules.push(topic(Names::Prefixed(topics.delay_prefix()), &[Operation::Read, Operation::Delete]));
        }
        Service::Status => return with_names(service, settings, rules),
    }
    let to_targets = [Operation::Write, Operation::DescribeConfigs];
    rules.extend(targets.iter().map(|names| topic(names.clone(), &to_targets)));
    with_names(service, settings, rules)
}

fn with_names(service: Service, settings: &Kafka, mut rules: Vec<Rule>) -> Vec<Rule> {
    let (groups, producers): (&[&str], &[&str]) = match service {
        Service::Writer => (&["writer"], &["writer"]),
        Service::RetryScheduler => (&["retry-scheduler", "delays"], &["retry-scheduler", "delays"]),
        Service::Status => (&["status"], &["status"]),
        Service::Gateway => (&[], &["gateway"]),
    };
    rules.extend(groups.iter().map(|name| Rule {
        resource: Resource::Group,
        names: Names::Literal(kafka::group(settings, name)),
        operations: vec![Operation::Read],
    }));
    rules.extend(producers.iter().map(|name| Rule {
        resource: Resource::TransactionalId,
        names: Names::Prefixed(format!("{}{name}-", settings.topics.prefix())),
        operations: vec![Operation::Write],
    }));
    rules
}

fn reads(service: Service, topics: &Topics) -> Vec<Names> {
    let read = match service {
        Service::Writer => {
            [Priority::High, Priority::Normal, Priority::Low].map(|priority| topics.ingress(priority)).to_vec()
        }
        Service::RetryScheduler => vec![topics.failures(), topics.cancels()],
        Service::Status => vec![topics.acks()],
        Service::Gateway => Vec::new(),
    };
    read.into_iter().map(literal).collect()
}

fn writes(service: Service, topics: &Topics) -> Vec<Names> {
    let dead_letters = Names::Prefixed(format!("dlq.{}", topics.prefix()));
    let delays = Names::Prefixed(topics.delay_prefix());
    match service {
        Service::Writer => {
            vec![literal(topics.receipts()), literal(topics.audit()), literal(topics.acks()), delays, dead_letters]
        }
        // Failures that another client's partitioner spread are moved, and cancels end.
        Service::RetryScheduler => {
            let (moved, ended) = (literal(topics.failures()), literal(topics.cancels()));
            vec![literal(topics.acks()), moved, ended, delays, dead_letters]
        }
        Service::Status => vec![literal(topics.status()), literal(topics.acks()), dead_letters],
        Service::Gateway => vec![literal(topics.acks()), literal(topics.failures()), literal(topics.cancels())],
    }
}

fn literal(topic: Topic) -> Names {
    Names::Literal(topic.to_string())
}

fn topic(names: Names, operations: &[Operation]) -> Rule {
    Rule { resource: Resource::Topic, names, operations: operations.to_vec() }
}
