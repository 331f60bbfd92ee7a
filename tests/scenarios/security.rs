//! A broker that asks who comes: TLS with a CA of its own, passwords by SCRAM, and an authorizer. Each service is a user with the smallest
//! set of rules, which are the product's own (`wal topics acls`).
//!
//! ```text
//!   services ─▶ proxy ─▶ SASL_SSL, rules        the scenario ─▶ PLAINTEXT, may do everything
//! ```

mod certificates;
mod rules;

use std::fs;
use std::path::{Path, PathBuf};

use wal_runtime::acls::{self, Names, Resource, Rule, Service};
use wal_runtime::config;
use wal_tests::{Kafka, Process, Producer, Proxy, seed};

use crate::support::load::Request;
use crate::support::log::{lines_with, wait_for_partitions};
use crate::support::{LATER, Load, Log, Outcome, SOON, load};
use certificates::{Authority, Validity};

const PASSWORD: &str = "scenario-secret-7";

/// A node with such a listener, and a log whose services use it.
struct Secured {
    kafka: Kafka,
    proxy: Proxy,
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Secured {
    fn start(validity: Validity) -> Secured {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let authority = Authority::new("the scenario's own");
        authority.issue(validity, &folder.path().join("broker.pem"));
        fs::write(folder.path().join("ca.pem"), authority.pem()).expect("it can be written");
        fs::write(folder.path().join("other.pem"), Authority::new("another").pem()).expect("it can be written");
        let keystore = folder.path().join("broker.pem").display().to_string();
        let kafka = Kafka::start_with(&[
            ("listener.security.protocol.map", "CLIENTS:PLAINTEXT,PROXIED:SASL_SSL,CONTROLLER:PLAINTEXT"),
            ("listener.name.proxied.ssl.keystore.type", "PEM"),
            ("listener.name.proxied.ssl.keystore.location", &keystore),
            ("listener.name.proxied.sasl.enabled.mechanisms", "SCRAM-SHA-512"),
            (
                "listener.name.proxied.scram-sha-512.sasl.jaas.config",
                "org.apache.kafka.common.security.scram.ScramLoginModule required;",
            ),
            ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
            // Those who come unasked: the scenario, and the node itself.
            ("super.users", "User:ANONYMOUS"),
        ]);
        let proxy = kafka.proxy();
        Secured { kafka, proxy, folder, authority }
    }

    fn log(&self, settings: &[(&str, &str)]) -> Log {
        Log::behind(&self.kafka.bootstrap(), &self.proxy.address().to_string(), settings)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes users of all services, and lets each do what it must.
    fn allow(&self, log: &Log, targets: &[Names]) {
        let mut words: Vec<String> =
            Service::ALL.iter().map(|service| format!("user|{}|{PASSWORD}", service.program())).collect();
        for service in Service::ALL {
            words.extend(rules(log, service, targets).iter().flat_map(|rule| allowed("allow", service, rule)));
        }
        self.kafka.set_rights(&words);
    }
}

fn rules(log: &Log, service: Service, targets: &[Names]) -> Vec<Rule> {
    let kafka = config::Kafka::read(&log.settings(&[])).expect("the scenario's settings are valid");
    acls::of(service, &kafka, targets)
}

/// What is to be done about a rule, in the words of the harness.
fn allowed(verb: &str, service: Service, rule: &Rule) -> Vec<String> {
    in_words(service, rule).iter().map(|words| format!("{verb}|{words}")).collect()
}

/// A rule in the words of the harness, each operation by itself.
fn in_words(service: Service, rule: &Rule) -> Vec<String> {
    let resource = match rule.resource {
        Resource::Topic => "topic",
        Resource::Group => "group",
        Resource::TransactionalId => "transactional_id",
    };
    let (pattern, name) = match &rule.names {
        Names::Literal(name) => ("literal", name),
        Names::Prefixed(prefix) => ("prefixed", prefix),
    };
    let operation = |operation: &acls::Operation| match operation {
        acls::Operation::DescribeConfigs => "describe_configs".to_owned(),
        other => other.as_str().to_lowercase(),
    };
    let words = rule.operations.iter().map(operation);
    words.map(|operation| format!("{}|{resource}|{pattern}|{name}|{operation}", service.program())).collect()
}

/// The settings of a service that shows who it is.
fn as_user(service: Service, password: &str, ca: &Path) -> Vec<(&'static str, String)> {
    vec![
        ("kafka.options.security.protocol", "SASL_SSL".to_owned()),
        ("kafka.options.sasl.mechanism", "SCRAM-SHA-512".to_owned()),
        ("kafka.options.sasl.username", service.program().to_owned()),
        ("kafka.options.sasl.password", password.to_owned()),
        ("kafka.options.ssl.ca.location", ca.display().to_string()),
    ]
}

#[track_caller]
fn start(log: &Log, service: Service, settings: &[(&'static str, String)], more: &[(&str, &str)]) -> Process {
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    log.start_program(service.program(), &[&settings[..], more].concat(), &[])
}

#[test]
fn who_cannot_prove_the_broker_or_itself_ends_its_start_and_says_which_key_to_look_at() {
    let secured = Secured::start(Validity::Now);
    let log = secured.log(&[]);
    secured.allow(&log, &[]);
    let (own, other) = (secured.file("ca.pem"), secured.file("other.pem"));
    let wrong = [
        (as_user(Service::Writer, PASSWORD, &other), "certificate verify failed"),
        (as_user(Service::Writer, "not-the-secret-8", &own), "Authentication failed"),
    ];
    for (settings, said) in wrong {
        expect_refused(&log, &settings, said);
    }
}

#[test]
fn a_certificate_that_has_expired_is_not_trusted() {
    let secured = Secured::start(Validity::Past);
    let log = secured.log(&[]);
    secured.allow(&log, &[]);
    expect_refused(&log, &as_user(Service::Writer, PASSWORD, &secured.file("ca.pem")), "certificate verify failed");
}

/// It ends with an error that holds these words, and no password.
#[track_caller]
fn expect_refused(log: &Log, settings: &[(&'static str, String)], said: &str) {
    let writer = start(log, Service::Writer, settings, &[("kafka.start_timeout", "8s")]);
    assert!(!writer.wait(SOON).success(), "{writer:?}");
    let told = lines_with(&writer, "could not reach Kafka");
    assert!(told.iter().any(|line| line.contains(said)), "{said:?} is not said: {writer:?}");
    let secrets = [PASSWORD, "not-the-secret-8"];
    assert!(writer.lines().iter().all(|line| secrets.iter().all(|secret| !line.text.contains(secret))));
}

#[test]
fn rights_that_are_withdrawn_and_a_certificate_that_is_replaced_lose_nothing_and_double_nothing() {
    let mut random = seed::random("rights");
    let mut secured = Secured::start(Validity::Now);
    let log = secured.log(&[("writer.batch_records", "40")]);
    let targets = [log.target("x"), log.target("y")];
    let names: Vec<Names> = targets.iter().map(|target| Names::parse(target)).collect();
    secured.allow(&log, &names);
    let mut load = Load::new(&log, "rights", &targets, &mut random);
    let producer = Producer::with(&log.bootstrap, &[("message.timeout.ms", "120000")]);
    let writer = start(&log, Service::Writer, &as_user(Service::Writer, PASSWORD, &secured.file("ca.pem")), &[]);
    wait_for_partitions(&writer);
    let mut requests = load.make(200);
    load::send(&producer, &requests);
    log.receipts(&writer, requests.len(), LATER);

    // To write to one target, to read requests, to be a member: each withdrawn under load and given back.
    let all = rules(&log, Service::Writer, &names);
    let is_of = |rule: &&Rule, name: &str| rule.names == Names::Literal(name.to_owned());
    let ingress = log.topic("ingress");
    for name in [&targets[0], &ingress, &log.group()] {
        let rule = all.iter().find(|rule| is_of(rule, name)).expect("there is a rule");
        secured.kafka.set_rights(&allowed("withdraw", Service::Writer, rule));
        let more = load.make(200);
        load::send(&producer, &more);
        requests.extend(more);
        writer.wait_for_line_where(&format!("that {name} is denied"), LATER, |line| {
            line.contains("uthoriz") && (line.contains(name.as_str()) || line.contains("roup"))
        });
        secured.kafka.set_rights(&allowed("allow", Service::Writer, rule));
        log.receipts(&writer, requests.len(), LATER);
    }

    // A certificate that runs out is replaced, and the broker started again with the new one.
    secured.authority.issue(Validity::Now, &secured.folder.path().join("broker.pem"));
    secured.kafka.restart();
    let more = load.make(200);
    load::send(&producer, &more);
    requests.extend(more);
    log.receipts(&writer, requests.len(), LATER);
    assert!(writer.is_running(), "it mended itself, nobody started it again: {writer:?}");
    expect_stored_once_or_refused(&Outcome::after(writer, &log, &targets), &requests);
}

/// What came while the right to a target was known to be gone is refused in words; all else is there once. Nothing is in between.
#[track_caller]
fn expect_stored_once_or_refused(outcome: &Outcome, requests: &[Request]) {
    let mut stored = 0;
    for request in requests {
        let receipts = &outcome.receipts[&request.id];
        assert_eq!(receipts.len(), 1, "{receipts:?}");
        if receipts[0]["success"] == false {
            assert_eq!(receipts[0]["error_code"], "WAL_ACCESS_DENIED", "{receipts:?}");
            continue;
        }
        for log_id in outcome.log_ids(request) {
            assert!(outcome.documents.contains_key(&log_id), "{log_id}");
            assert_eq!(outcome.deliveries.get(&log_id).map_or(0, Vec::len), 1, "deliveries of {log_id}");
            stored += 1;
        }
    }
    assert_eq!((outcome.documents.len(), outcome.deliveries.len()), (stored, stored), "nothing else is there");
    assert_eq!(outcome.acks, []);
}
