//! What services tell of themselves, looked at by the tool that Prometheus has for it.

use wal_arango_fake::{Action, Fault};
use wal_model::Topic;
use wal_model::answer::{Completed, Failed, Wish};
use wal_model::status::Failure;
use wal_tests::{Kafka, Message, Record, free_port, tools, wait_until};

use crate::support::database::Database;
use crate::support::http::{get, metrics, sum};
use crate::support::log::wait_for_partitions;
use crate::support::records::{as_read, message};
use crate::support::retrying::wait_until_at_work;
use crate::support::{LATER, Log, SOON};

/// How many requests each half of the scenario sends. Of the first half one in three is declined at first.
const REQUESTS: usize = 60;

#[test]
fn what_services_count_is_told_as_prometheus_wants_it() {
    let database = Database::new();
    let log = Log::on(&Kafka::shared().bootstrap(), &database.settings());
    let target = log.target("observed");
    let [of_writer, of_second, of_scheduler, of_status, of_gateway, gateway_address]: [String; 6] =
        std::array::from_fn(|_| format!("127.0.0.1:{}", free_port()));
    let writer = log.start_ready(&[("health.listen", &of_writer)]);
    let scheduler = log.start_scheduler(&[("health.listen", &of_scheduler)], &[]);
    let status = log.start_program("wal-status", &[("health.listen", &of_status)], &[]);
    let settings = [("health.listen", &*of_gateway), ("gateway.listen", &gateway_address)];
    let gateway = log.start_program("wal-gateway", &settings, &[]);
    wait_until_at_work(&scheduler);
    wait_for_partitions(&status);

    // Work: some of it declined, one request that makes no sense, one question about what is not there.
    log.send(&[Message::to(&log.topic("ingress")).key(b"bad").value("{")]);
    log.send(&requests(&log, &target, 0));
    let receipts = log.receipts(&writer, REQUESTS + 1, LATER);
    let declined = answer(&log, &log.wait_for(&target, REQUESTS, LATER), |number| number % 3 == 0);
    let all = log.wait_for(&target, REQUESTS + declined, LATER);
    let retries: Vec<Record> = all.into_iter().filter(|record| attempt(record) == "2").collect();
    answer(&log, &retries, |_| false);
    wait_until("every entry is completed", LATER, || database.count("completed") == REQUESTS);
    let log_id = receipts.iter().find_map(|receipt| receipt.json()["log_id"].as_str().map(str::to_owned));
    get(&gateway_address, &format!("/v1/entries/{}", log_id.expect("a receipt names its entry")));
    get(&gateway_address, "/v1/entries/none");
    get(&gateway_address, "/made/up");

    // A bad day: nothing can be stored, and the partitions of a batch that waits for it move to another writer.
    let inserts = Fault::on("POST", "/_api/document/wal_entries", Action::unavailable());
    database.server.fail(inserts.times(u32::MAX));
    log.send(&requests(&log, &target, REQUESTS));
    let behind = |address: &str| {
        let page = metrics(address);
        sum(&page, "wal_consumer_lag_records{") > 0.0 && sum(&page, "wal_consumer_lag_seconds{") > 0.0
    };
    wait_until("the lag is told, and grows old", LATER, || behind(&of_writer));
    let second = log.start_ready(&[("kafka.instance", "1"), ("health.listen", &of_second)]);
    wait_until("a rewind is counted", LATER, || sum(&metrics(&of_writer), "wal_rewinds_total{") > 0.0);
    database.server.heal();
    log.receipts(&writer, 2 * REQUESTS + 1, LATER);
    let writers = [&*of_writer, &of_second];
    let over_both = |series: &str| -> f64 { writers.iter().map(|address| sum(&metrics(address), series)).sum() };
    let stored = format!("wal_entries_total{{service=\"wal-writer\",namespace=\"{NAMESPACE}\",result=\"stored\"}}");
    let (requests, entries) = (2.0 * float(REQUESTS), float(REQUESTS));
    // The last receipt can be read a moment before its batch is counted, and the brokers are asked for ends every few seconds.
    wait_until("every entry is counted", SOON, || over_both(&stored) >= requests);
    wait_until("nothing is left", LATER, || over_both("wal_consumer_lag_records{") == 0.0);
    assert_eq!(over_both(&stored), requests, "and counted once");
    assert_eq!(over_both("wal_consumer_lag_seconds{"), 0.0);
    assert_eq!(over_both("wal_end_to_end_duration_seconds_count{"), requests);
    assert_eq!(over_both("wal_requests_refused_total{code=\"WAL_INVALID_JSON\"}"), 1.0);
    assert_eq!(over_both("wal_dlq_records_total{namespace=\"none\",error_code=\"WAL_INVALID_JSON\"}"), 1.0);
    assert_eq!(over_both("wal_fences_total{"), 0.0, "members came, none under another's name");
    assert!(over_both("wal_store_errors_total{store=\"arangodb\",op=\"insert\"}") > 0.0);

    let of_retries = metrics(&of_scheduler);
    assert_eq!(sum(&of_retries, "wal_retry_scheduled_total{what=\"retry\"}"), float(declined));
    let folded = metrics(&of_status);
    assert!(sum(&folded, "wal_status_folded_total ") >= entries, "{folded}");
    let asked = metrics(&of_gateway);
    for (route, status) in [("/v1/entries/{log_id}", 200), ("/v1/entries/{log_id}", 400), ("none", 404)] {
        let series = format!("wal_http_requests_total{{route=\"{route}\",status=\"{status}\"}}");
        assert_eq!(sum(&asked, &series), 1.0, "{series} in {asked}");
    }

    for (name, address) in [
        ("wal-writer", &of_writer),
        ("wal-writer, the second", &of_second),
        ("wal-retry-scheduler", &of_scheduler),
        ("wal-status", &of_status),
        ("wal-gateway", &of_gateway),
    ] {
        let page = metrics(address);
        assert!(sum(&page, "process_open_fds ") > 0.0, "{name}: {page}");
        tools::promtool_check(name, &page);
    }
    for process in [&writer, &second, &scheduler, &status, &gateway] {
        process.terminate();
        assert!(process.wait(SOON).success(), "{process:?}");
    }
}

#[test]
#[should_panic(expected = "promtool finds fault with nobody")]
fn a_page_that_breaks_the_rules_is_noticed() {
    tools::promtool_check("nobody", "# HELP wal_wait_ms How long.\n# TYPE wal_wait_ms gauge\nwal_wait_ms 1\n");
}

const NAMESPACE: &str = "orders";

fn requests(log: &Log, target: &str, first: usize) -> Vec<Message> {
    let lifecycle = r#"{"retry_count":3,"delay":0.2,"backoff":"fixed"}"#;
    let request = |number| {
        let value = format!(
            r#"{{"namespace":"{NAMESPACE}","target":"{target}","payload":{{"n":{number}}},"lifecycle":{lifecycle},"request_id":"r-{number}"}}"#
        );
        Message::to(&log.topic("ingress")).key(format!("key-{number}").as_bytes()).value(value)
    };
    (first..first + REQUESTS).map(request).collect()
}

/// Answers deliveries as their consumer would, and tells how many it declined.
fn answer(log: &Log, deliveries: &[Record], is_declined: impl Fn(u64) -> bool) -> usize {
    let [acks, failures] = ["acks", "failures"].map(|name| Topic::parse(&log.topic(name)).expect("a topic of the log"));
    let failure = Failure { code: "CARD_DECLINED".to_owned(), message: "no money".to_owned() };
    let declines = |record: &&Record| is_declined(record.json()["n"].as_u64().expect("it has a number"));
    let answers = deliveries.iter().map(|record| match declines(&record) {
        true => message(&Failed::encode(&as_read(record), &failure, &Wish::None, failures.clone())),
        false => message(&Completed::encode(&as_read(record), None, acks.clone())),
    });
    log.send(&answers.collect::<Vec<_>>());
    deliveries.iter().filter(declines).count()
}

fn attempt(delivery: &Record) -> String {
    delivery.header("ce_walattempt").expect("every delivery says which attempt it is")
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("few"))
}
