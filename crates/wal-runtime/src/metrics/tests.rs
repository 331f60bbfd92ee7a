use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use wal_model::record::Header;
use wal_model::status::Reason;
use wal_model::{Code, Namespace, OutRecord, Topic, wire};

use super::*;
use crate::batch_loop::Observer;

fn namespace(name: &str) -> Namespace {
    Namespace::parse(name).unwrap()
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

/// Something of every group.
fn counted() -> Metrics {
    let metrics = Metrics::new();
    let loops = Counting::new(&metrics, "wal-writer", Arc::new(()));
    loops.committed(10, 30);
    loops.committed(0, 1);
    loops.rewound("a partition of the batch moved away");
    let retries = metrics.retries();
    retries.scheduled.of(&Scheduled::Retry.into()).inc_by(2);
    retries.due.set(3);
    retries.oldest_due.set(0.25);
    retries.lateness.observe(Duration::from_micros(1500));
    retries.lateness.observe(Duration::from_secs(3600));
    metrics.attempts(&namespace("orders"), &topic("orders.created"), Ended::Failed(Reason::Exhausted)).inc();
    metrics.answers().refused.of(&Code::SealInvalid.into()).inc();
    metrics.statuses().folded.inc_by(7);
    metrics
}

/// Something of the groups that [`counted`] leaves out.
fn all_others(metrics: &Metrics) {
    let partition = Partition { group: "wal.writer".into(), topic: "wal.ingress".into(), partition: 3 };
    metrics.lags().records.of(&partition).set(7);
    metrics.lags().seconds.of(&partition).set(1.5);
    metrics.written(&namespace("orders"), Write::Stored).inc();
    metrics.bytes(&namespace("orders")).inc_by(100);
    metrics.end_to_end(&namespace("orders"), &topic("orders.created")).observe(Duration::from_millis(20));
    let requests = metrics.requests();
    requests.refused.of(&Code::InvalidRequest.into()).inc();
    requests.durations.of(&Append::Store.into()).observe(Duration::from_millis(3));
    requests.waits.of(&WaitedFor::Target.into()).inc();
    let call = Call { store: "embedded", op: "insert" };
    metrics.stores().durations.of(&call).observe(Duration::from_millis(3));
    metrics.stores().errors.of(&call).inc();
    metrics.spans().made.inc();
    metrics.spans().exported.of(&SpansExported::new(Export::Taken)).inc();
    metrics.https().durations.of(&Route { route: "/v1/entries".into() }).observe(Duration::from_millis(3));
    metrics.https().requests.of(&Asked { route: "/v1/entries".into(), status: 404 }).inc();
    let loops = Counting::new(metrics, "wal-writer", Arc::new(()));
    loops.dead_letter(&letter(
        Some("wal_orders_20241201T100000000Z_a18bf489-b783-5dd9-937d-bb0d7869d81b"),
        "WAL_EXPIRED",
    ));
}

/// A dead letter of an entry, or of a request that was refused, which says that it is of a namespace.
fn letter(log_id: Option<&str>, code: &str) -> OutRecord {
    let mut headers = vec![Header::new(wire::CE_WALERRORCODE, code.to_owned())];
    headers.push(Header::new(wire::CE_WALNAMESPACE, "claimed"));
    headers.extend(log_id.map(|log_id| Header::new(wire::CE_ID, log_id.to_owned())));
    OutRecord { topic: topic("dlq.wal.ingress"), partition: None, key: None, value: None, headers }
}

#[test]
fn dead_letters_are_told_apart_only_by_what_is_true_and_known() {
    let metrics = Metrics::new();
    let loops = Counting::new(&metrics, "wal-writer", Arc::new(()));
    let log_id = "wal_orders_20241201T100000000Z_a18bf489-b783-5dd9-937d-bb0d7869d81b";
    loops.dead_letter(&letter(Some(log_id), "WAL_EXPIRED"));
    loops.dead_letter(&letter(Some(log_id), "CARD_DECLINED"));
    loops.dead_letter(&letter(None, "WAL_INVALID_JSON"));
    loops.dead_letter(&letter(Some("my own id"), "WAL_INVALID_JSON"));
    let told = metrics.encode(Format::OpenMetrics);
    for line in [
        r#"wal_dlq_records_total{namespace="orders",error_code="WAL_EXPIRED"} 1"#,
        r#"wal_dlq_records_total{namespace="orders",error_code="other"} 1"#,
        r#"wal_dlq_records_total{namespace="none",error_code="WAL_INVALID_JSON"} 2"#,
    ] {
        assert!(told.contains(line), "{line} is not in {told}");
    }
}

#[test]
fn only_so_many_namespaces_are_told_apart() {
    let metrics = Metrics::new();
    for number in 0..Places::LIMIT + 50 {
        metrics.written(&namespace(&format!("n{number}")), Write::Stored).inc();
    }
    metrics.written(&namespace("n0"), Write::Repeated).inc();
    let told = metrics.encode(Format::OpenMetrics);
    let series = told.lines().filter(|line| line.starts_with("wal_entries_total{"));
    assert_eq!(series.count(), Places::LIMIT + 2);
    assert!(told.contains(r#"namespace="other",result="stored"} 50"#), "{told}");
    assert!(told.contains(r#"namespace="n0",result="repeated"} 1"#), "{told}");
}

#[test]
fn a_process_tells_of_itself() {
    let told = Metrics::new().encode(Format::OpenMetrics);
    for name in ["cpu_seconds_total", "resident_memory_bytes", "open_fds", "threads", "start_time_seconds"] {
        let line = told.lines().find(|line| line.starts_with(&format!("process_{name} ")));
        let value: f64 =
            line.unwrap_or_else(|| panic!("{name} is not in {told}")).rsplit(' ').next().unwrap().parse().unwrap();
        assert!(value > 0.0 || name.starts_with("cpu"), "{name} {value}");
    }
}

/// What is written, without the build and the process, which differ each time.
fn written(metrics: &Metrics, format: Format) -> String {
    let text = metrics.encode(format);
    text.split_inclusive('\n').filter(|line| !line.contains("wal_build") && !line.contains("process_")).collect()
}

#[test]
fn everything_counted_is_told_as_open_metrics() {
    let expected = r#"# HELP wal_batches Batches, by whether they were committed or given up and read again.
# TYPE wal_batches counter
wal_batches_total{service="wal-writer",result="committed"} 2
wal_batches_total{service="wal-writer",result="given_up"} 1
# HELP wal_batch_records Records taken in by batches that were committed.
# TYPE wal_batch_records counter
wal_batch_records_total{service="wal-writer"} 10
# HELP wal_batch_published_records Records published by batches that were committed.
# TYPE wal_batch_published_records counter
wal_batch_published_records_total{service="wal-writer"} 31
# HELP wal_rewinds Goings back to the committed offsets after something was given up.
# TYPE wal_rewinds counter
wal_rewinds_total{service="wal-writer"} 1
# HELP wal_fences Transactions refused because the broker knows a newer producer under the same transactional id.
# TYPE wal_fences counter
wal_fences_total{service="wal-writer"} 0
# HELP wal_batch_duration_seconds How long a batch took: handled (decided and stored), and published and committed.
# TYPE wal_batch_duration_seconds histogram
# UNIT wal_batch_duration_seconds seconds
# HELP wal_retry_scheduled Attempts that were given a due time, by what they are.
# TYPE wal_retry_scheduled counter
wal_retry_scheduled_total{what="retry"} 2
# HELP wal_retry_hops Records parked on a delay topic, once for every wait they pay.
# TYPE wal_retry_hops counter
wal_retry_hops_total 0
# HELP wal_retry_due_entries Parked attempts known to be due and not published yet.
# TYPE wal_retry_due_entries gauge
wal_retry_due_entries 3
# HELP wal_retry_oldest_due_seconds How long the most overdue of them has been due.
# TYPE wal_retry_oldest_due_seconds gauge
# UNIT wal_retry_oldest_due_seconds seconds
wal_retry_oldest_due_seconds 0.25
# HELP wal_retry_lateness_seconds How long after its due time an attempt was published.
# TYPE wal_retry_lateness_seconds histogram
# UNIT wal_retry_lateness_seconds seconds
wal_retry_lateness_seconds_sum 3600.0015
wal_retry_lateness_seconds_count 2
wal_retry_lateness_seconds_bucket{le="0.001"} 0
wal_retry_lateness_seconds_bucket{le="0.002"} 1
wal_retry_lateness_seconds_bucket{le="0.005"} 1
wal_retry_lateness_seconds_bucket{le="0.01"} 1
wal_retry_lateness_seconds_bucket{le="0.015"} 1
wal_retry_lateness_seconds_bucket{le="0.02"} 1
wal_retry_lateness_seconds_bucket{le="0.03"} 1
wal_retry_lateness_seconds_bucket{le="0.05"} 1
wal_retry_lateness_seconds_bucket{le="0.1"} 1
wal_retry_lateness_seconds_bucket{le="0.2"} 1
wal_retry_lateness_seconds_bucket{le="0.5"} 1
wal_retry_lateness_seconds_bucket{le="1.0"} 1
wal_retry_lateness_seconds_bucket{le="2.0"} 1
wal_retry_lateness_seconds_bucket{le="5.0"} 1
wal_retry_lateness_seconds_bucket{le="10.0"} 1
wal_retry_lateness_seconds_bucket{le="20.0"} 1
wal_retry_lateness_seconds_bucket{le="60.0"} 1
wal_retry_lateness_seconds_bucket{le="600.0"} 1
wal_retry_lateness_seconds_bucket{le="+Inf"} 2
# HELP wal_retry_cancelled Attempts dropped when due because their round was cancelled.
# TYPE wal_retry_cancelled counter
wal_retry_cancelled_total 0
# HELP wal_retry_postponed Attempts that were due and not published because of their target.
# TYPE wal_retry_postponed counter
wal_retry_postponed_total 0
# HELP wal_delivery_attempts Attempts, by how they ended.
# TYPE wal_delivery_attempts counter
wal_delivery_attempts_total{namespace="orders",target="orders.created",outcome="exhausted"} 1
# HELP wal_answers_repeated Answers to an attempt that had been decided already.
# TYPE wal_answers_repeated counter
wal_answers_repeated_total 0
# HELP wal_answers_refused Answers that were refused and dead-lettered, by error code.
# TYPE wal_answers_refused counter
wal_answers_refused_total{code="WAL_SEAL_INVALID"} 1
# HELP wal_answers_moved Answers found in another partition than their log id names, and moved.
# TYPE wal_answers_moved counter
wal_answers_moved_total 0
# HELP wal_answers_ignored Answers that change nothing: to replayed copies, or not asked for.
# TYPE wal_answers_ignored counter
wal_answers_ignored_total 0
# HELP wal_answers_wishes_unreadable Wishes for a retry that made no sense, so that the lifecycle decided.
# TYPE wal_answers_wishes_unreadable counter
wal_answers_wishes_unreadable_total 0
# HELP wal_status_folded Events folded into the status of an entry.
# TYPE wal_status_folded counter
wal_status_folded_total 7
# HELP wal_status_expired Entries that were declared expired.
# TYPE wal_status_expired counter
wal_status_expired_total 0
# HELP wal_status_purged Finished entries that were removed after their retention.
# TYPE wal_status_purged counter
wal_status_purged_total 0
# EOF
"#;
    // A family keeps its members in no order; which of the two batches' results comes first does not matter.
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let told = written(&counted(), Format::OpenMetrics);
    // Nothing was observed, and there are many bounds.
    let told: String =
        told.split_inclusive('\n').filter(|line| !line.starts_with("wal_batch_duration_seconds")).collect();
    assert_eq!(lines(&told), lines(expected));
    assert_eq!(told.len(), expected.len(), "{told}");
}

#[test]
fn tools_that_know_only_the_old_format_get_it() {
    let told = written(&counted(), Format::Prometheus);
    assert!(told.contains("# TYPE wal_batches_total counter\n"), "{told}");
    assert!(told.contains("wal_batches_total{service=\"wal-writer\",result=\"given_up\"} 1\n"), "{told}");
    for (accept, format) in [
        (None, Format::OpenMetrics),
        (Some("*/*"), Format::OpenMetrics),
        (
            Some("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"),
            Format::OpenMetrics,
        ),
        (Some("text/plain;version=0.0.4"), Format::Prometheus),
        (Some("application/json, text/*"), Format::Prometheus),
    ] {
        assert_eq!(Format::accepted(accept), format, "{accept:?}");
    }
}

#[test]
fn a_process_tells_only_of_what_it_does() {
    let told = Metrics::new().encode(Format::OpenMetrics);
    let build = told.lines().find(|line| line.starts_with("wal_build_info{")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(build.starts_with(&format!("wal_build_info{{version=\"{version}\",revision=\"")), "{build}");
    assert!(build.ends_with("\"} 1"), "{build}");
    let others = told.lines().filter(|line| !line.contains("wal_build") && !line.contains("process_"));
    assert_eq!(others.collect::<Vec<_>>(), ["# EOF"]);
}

#[test]
fn one_process_counts_for_all_its_services() {
    let metrics = Metrics::new();
    Counting::new(&metrics, "wal-writer", Arc::new(())).committed(1, 1);
    Counting::new(&metrics.clone(), "wal-status", Arc::new(())).committed(2, 2);
    let told = metrics.encode(Format::OpenMetrics);
    assert!(told.contains("wal_batch_records_total{service=\"wal-writer\"} 1\n"), "{told}");
    assert!(told.contains("wal_batch_records_total{service=\"wal-status\"} 2\n"), "{told}");
    assert_eq!(told.matches("# TYPE wal_batch_records counter").count(), 1, "{told}");
}

#[test]
fn counting_passes_everything_on() {
    #[derive(Default)]
    struct Heard(AtomicUsize);
    impl Observer for Heard {
        fn polled(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        fn assigned(&self) {
            self.0.fetch_add(10, Ordering::Relaxed);
        }
        fn committed(&self, records: usize, published: usize) {
            self.0.fetch_add(100 * records * published, Ordering::Relaxed);
        }
        fn rewound(&self, _why: &str) {
            self.0.fetch_add(1000, Ordering::Relaxed);
        }
        fn fenced(&self) {
            self.0.fetch_add(10_000, Ordering::Relaxed);
        }
        fn handled(&self, _took: Duration) {
            self.0.fetch_add(100_000, Ordering::Relaxed);
        }
        fn published(&self, _took: Duration) {
            self.0.fetch_add(1_000_000, Ordering::Relaxed);
        }
        fn dead_letter(&self, _letter: &OutRecord) {
            self.0.fetch_add(10_000_000, Ordering::Relaxed);
        }
        fn stands(&self, _group: &str, _standing: &[Standing]) {
            self.0.fetch_add(100_000_000, Ordering::Relaxed);
        }
    }
    let heard = Arc::new(Heard::default());
    let counting = Counting::new(&Metrics::new(), "wal-writer", heard.clone());
    counting.polled();
    counting.assigned();
    counting.committed(1, 2);
    counting.rewound("why");
    counting.fenced();
    counting.handled(Duration::ZERO);
    counting.published(Duration::ZERO);
    counting.dead_letter(&letter(None, "WAL_EXPIRED"));
    counting.stands("wal.writer", &[]);
    assert_eq!(heard.0.load(Ordering::Relaxed), 111_111_211);
}

#[test]
fn ages_are_as_old_as_the_scrape() {
    let metrics = Metrics::new();
    let age = Arc::new(AtomicUsize::new(0));
    let (gauges, ages) = (metrics.clone(), age.clone());
    metrics.before_each_scrape(move || {
        gauges.retries().due.set(i64::try_from(ages.fetch_add(1, Ordering::Relaxed)).unwrap());
    });
    assert!(metrics.encode(Format::OpenMetrics).contains("wal_retry_due_entries 0\n"));
    assert!(metrics.encode(Format::OpenMetrics).contains("wal_retry_due_entries 1\n"));
}

#[test]
fn only_so_many_places_are_told_apart() {
    let metrics = Metrics::new();
    let target = topic("target");
    for number in 0..Places::LIMIT + 50 {
        metrics.attempts(&namespace(&format!("n{number}")), &target, Ended::Completed).inc();
    }
    // Those known stay known.
    metrics.attempts(&namespace("n0"), &target, Ended::Completed).inc();
    let told = metrics.encode(Format::OpenMetrics);
    let series = told.lines().filter(|line| line.starts_with("wal_delivery_attempts_total{"));
    assert_eq!(series.count(), Places::LIMIT + 1);
    assert!(told.contains("{namespace=\"other\",target=\"other\",outcome=\"completed\"} 50\n"), "{told}");
    assert!(told.contains("{namespace=\"n0\",target=\"target\",outcome=\"completed\"} 2\n"), "{told}");
}

#[test]
fn every_family_is_described_as_it_is_told() {
    let metrics = counted();
    all_others(&metrics);
    let told = metrics.encode(Format::Prometheus);
    let types = told.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let told_names: BTreeSet<&str> = types.map(|line| line.split(' ').next().unwrap()).collect();
    let descriptions = descriptions();
    let described: BTreeSet<&str> = descriptions.iter().map(|family| family.name.as_str()).collect();
    assert_eq!(described, told_names);
    assert_eq!(described.len(), descriptions.len(), "one name, one family");
    for Description { name, kind, unit, labels, help } in &descriptions {
        assert!(!help.is_empty() && !help.ends_with('.'), "{name}: a full stop is added");
        let named = ["_seconds", "_bytes"].iter().find(|unit| name.trim_end_matches("_total").ends_with(**unit));
        assert_eq!(unit.map(|unit| format!("_{unit}")).as_deref(), named.copied(), "{name}");
        assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
        let first = told.lines().find(|line| line.starts_with(name) && line.contains('{'));
        for label in *labels {
            assert!(first.is_some_and(|line| line.contains(&format!("{label}=\""))), "{name} has no label {label}");
        }
    }
}
