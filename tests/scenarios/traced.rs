//! The steps of entries as a collector is told of them, from the caller's trace to the retry of a delivery.

use wal_model::answer::Wish;
use wal_tests::{Kafka, Message, Record, free_port, wait_until};

use crate::support::collector::{Collector, Span};
use crate::support::database::Database;
use crate::support::http;
use crate::support::log::wait_for_partitions;
use crate::support::retrying::wait_until_at_work;
use crate::support::{LATER, Log};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const STEP: &str = "b7ad6b7169203331";
const PRODUCER: i32 = 4;
const CONSUMER: i32 = 5;

#[test]
fn an_entry_is_followed_from_its_callers_trace_through_a_retry_to_its_answer() {
    let collector = Collector::start();
    let database = Database::new();
    let log = Log::on(&Kafka::shared().bootstrap(), &database.settings());
    let target = log.target("traced");
    let settings = [("traces.otlp_endpoint", &*collector.url), ("traces.sample_ratio", "0")];
    let writer = log.start_ready(&settings);
    let scheduler = log.start_scheduler(&settings, &[]);
    let status = log.start_program("wal-status", &settings, &[]);
    wait_until_at_work(&scheduler);
    wait_for_partitions(&status);

    let asked = format!("00-{TRACE}-{STEP}-01");
    let not_asked = format!("00-{TRACE}-{STEP}-00");
    log.send(&[
        request(&log, &target, "sampled").header("traceparent", asked.as_bytes()).header("tracestate", "vendor=1"),
        request(&log, &target, "not sampled").header("traceparent", not_asked.as_bytes()),
        request(&log, &target, "undecided"),
    ]);
    let deliveries = log.wait_for(&target, 3, LATER);
    let [sampled, unsampled, undecided] = ["sampled", "not sampled", "undecided"].map(|name| named(&deliveries, name));

    // The delivery is a step of its own in the caller's trace, and keeps where it began.
    let (trace, step, flags) = context(sampled);
    assert_eq!((&*trace, &*flags), (TRACE, "01"));
    assert_ne!(step, STEP);
    assert_eq!(sampled.header("ce_traceparent").as_deref(), Some(&*asked));
    assert_eq!(sampled.header("tracestate").as_deref(), Some("vendor=1"));
    assert_eq!(context(unsampled).2, "00", "who decided against it is obeyed");
    let (own, _, flags) = context(undecided);
    assert_eq!((own == TRACE, &*flags), (false, "00"), "at a ratio of nothing");

    // It fails once, and is completed then.
    log.send(&[log.failed(sampled, &Wish::None)]);
    let all = log.wait_for(&target, 4, LATER);
    let retry = all.iter().find(|record| record.header("ce_walattempt").as_deref() == Some("2")).expect("a retry");
    log.send(&[log.completed(retry)]);
    let (again, step_again, flags) = context(retry);
    assert_eq!((again == TRACE, &*flags), (false, "01"), "a trace of its own, sampled as the first was");
    assert_eq!(retry.header("ce_traceparent").as_deref(), Some(&*asked), "and it is known where it all began");

    // Each service tells when it is ready to.
    let told = |service: &str, name: &str, trace: &str| -> Span {
        let is_it = |span: &Span| span.service == service && span.name == name && span.trace == trace;
        let mut found = None;
        wait_until(&format!("{service} tells of: {name}"), LATER, || {
            found = collector.spans().into_iter().find(is_it);
            found.is_some()
        });
        found.expect("it was waited for")
    };
    told("wal-status", &format!("process {}", log.topic("acks")), &again);
    let log_id = sampled.header("ce_id").expect("a delivery names its entry");

    let sent = told("wal-writer", &format!("send {target}"), TRACE);
    assert_eq!((&*sent.parent, &*sent.id, sent.kind), (STEP, &*step, PRODUCER));
    assert!(sent.has_length);
    let expected = [
        ("messaging.system", "kafka"),
        ("messaging.operation.name", "send"),
        ("messaging.operation.type", "send"),
        ("messaging.destination.name", &target),
        ("messaging.message.id", &log_id),
        ("wal.attempt", "1"),
    ];
    for (key, value) in expected {
        assert_eq!(sent.attribute(key).as_deref(), Some(value), "{key} of {sent:?}");
    }
    let taken = told("wal-writer", &format!("process {}", log.topic("ingress")), TRACE);
    assert_eq!((&*taken.parent, taken.kind), (STEP, CONSUMER));
    let (batch, _) = taken.links.first().expect("it links to its batch");
    let spans_of_batch = || collector.spans().into_iter().filter(|span| span.trace == *batch).collect::<Vec<Span>>();
    wait_until("the batch is told of", LATER, || spans_of_batch().len() >= 3);
    let of_batch = spans_of_batch();
    let names: Vec<&str> = of_batch.iter().map(|span| &*span.name).collect();
    assert!(names.contains(&"handle") && names.contains(&"publish"), "{names:?}");
    let whole = of_batch.iter().find(|span| span.parent.is_empty()).expect("a batch is a trace of its own");
    assert!(whole.links.contains(&(TRACE.to_owned(), STEP.to_owned())), "{whole:?}");
    assert!(whole.attribute("messaging.batch.message_count").is_some());

    let resent = told("wal-retry-scheduler", &format!("send {target}"), &again);
    assert_eq!((&*resent.parent, &*resent.id), ("", &*step_again));
    assert!(resent.links.contains(&(TRACE.to_owned(), step.clone())), "it links to what failed: {resent:?}");
    let ids = |name: &str| named(&deliveries, name).header("ce_id");
    let entries: Vec<Option<String>> =
        collector.spans().iter().map(|span| span.attribute("messaging.message.id")).collect();
    assert!(!entries.contains(&ids("not sampled")) && !entries.contains(&ids("undecided")), "of nothing else");
    drop((writer, scheduler, status));
}

#[test]
fn a_collector_that_is_away_delays_nothing_and_is_counted() {
    let log = Log::on(&Kafka::shared().bootstrap(), &[]);
    let target = log.target("untraced");
    let [nobody, health] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
    let endpoint = format!("http://{nobody}");
    let settings = [("traces.otlp_endpoint", &*endpoint), ("traces.sample_ratio", "1"), ("health.listen", &*health)];
    let writer = log.start_ready(&settings);
    log.send(&[request(&log, &target, "one")]);
    log.wait_for(&target, 1, LATER);
    let failed = || http::sum(&http::metrics(&health), "wal_trace_spans_exported_total{result=\"failed\"}");
    wait_until("the failure is counted", LATER, || failed() > 0.0);
    log.send(&[request(&log, &target, "two")]);
    let deliveries = log.wait_for(&target, 2, LATER);
    assert_eq!(context(named(&deliveries, "two")).2, "01", "whoever reads it may tell better");
    writer.wait_for_line("the collector does not take traces", LATER);
    writer.terminate();
    assert!(writer.wait(LATER).success());
}

fn request(log: &Log, target: &str, name: &str) -> Message {
    let lifecycle = r#"{"retry_count":3,"delay":0.2,"backoff":"fixed"}"#;
    let value = format!(
        r#"{{"namespace":"orders","target":"{target}","payload":{{"name":"{name}"}},"lifecycle":{lifecycle}}}"#
    );
    Message::to(&log.topic("ingress")).key(name).value(value)
}

fn named<'a>(deliveries: &'a [Record], name: &str) -> &'a Record {
    deliveries.iter().find(|record| record.json()["name"] == name).expect("it was delivered")
}

/// The trace, the step and the flags that a record carries, once.
fn context(record: &Record) -> (String, String, String) {
    let carried: Vec<_> = record.headers.iter().filter(|(name, _)| name == "traceparent").collect();
    assert_eq!(carried.len(), 1, "{:?}", record.headers);
    let text = record.header("traceparent").expect("it is text");
    let parts: Vec<String> = text.split('-').map(str::to_owned).collect();
    let [version, trace, step, flags] = &parts[..] else { panic!("{text}") };
    assert_eq!(version, "00");
    (trace.clone(), step.clone(), flags.clone())
}
