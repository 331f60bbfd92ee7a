//! `wal topics acls`: what each service must be allowed, as commands that an administrator can read and run.

use serde::Serialize;
use wal_runtime::acls::{self, Names, Operation, Resource, Rule, Service};
use wal_runtime::config::Kafka;

use crate::args::Acls;
use crate::problem::{Exit, Problem};
use crate::screen::{Format, Screen};

/// A rule as `-o json` shows it. Printed, keep stable.
#[derive(Serialize)]
struct Shown<'a> {
    service: &'static str,
    user: &'a str,
    resource: &'static str,
    pattern: &'static str,
    name: &'a str,
    operations: Vec<&'static str>,
}

/// Shows the rules of every service.
pub fn show(screen: &Screen, kafka: &Kafka, wish: &Acls) -> Result<Exit, Problem> {
    let targets: Vec<Names> = wish.targets.iter().map(|target| Names::parse(target)).collect();
    for service in Service::ALL {
        let user = format!("{}{}", wish.user_prefix, service.program());
        let rules = acls::of(service, kafka, &targets);
        match screen.format {
            Format::Json => rules.iter().try_for_each(|rule| screen.json(&shown(service, &user, rule)))?,
            Format::Table => {
                screen.line(&format!("# {}", service.program()))?;
                rules.iter().try_for_each(|rule| screen.line(&command(&kafka.bootstrap_servers, &user, rule)))?;
            }
        }
    }
    Ok(Exit::Done)
}

fn shown<'a>(service: Service, user: &'a str, rule: &'a Rule) -> Shown<'a> {
    let (pattern, name) = pattern(&rule.names);
    let operations = rule.operations.iter().map(|operation| operation.as_str()).collect();
    let resource = match rule.resource {
        Resource::Topic => "topic",
        Resource::Group => "group",
        Resource::TransactionalId => "transactional-id",
    };
    Shown { service: service.program(), user, resource, pattern, name, operations }
}

fn pattern(names: &Names) -> (&'static str, &str) {
    match names {
        Names::Literal(name) => ("literal", name),
        Names::Prefixed(prefix) => ("prefixed", prefix),
    }
}

fn command(bootstrap: &str, user: &str, rule: &Rule) -> String {
    let shown = shown(Service::Writer, user, rule);
    let operations = rule.operations.iter().copied().map(Operation::as_str);
    let operations: String = operations.map(|operation| format!(" --operation {operation}")).collect();
    format!(
        "kafka-acls.sh --bootstrap-server {bootstrap} --add --allow-principal 'User:{user}' --{} '{}' \
         --resource-pattern-type {}{operations}",
        shown.resource, shown.name, shown.pattern
    )
}
