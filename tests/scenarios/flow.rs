//! From ingress to store to target, when nothing goes wrong but the wish to stop.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use wal_tests::{Kafka, Message, Producer, free_port, seed, wait_until};

use crate::support::log::lines_with;
use crate::support::{LATER, Load, Log, Outcome, SOON, load};

/// What a stop may take: `writer.stop_timeout` for the batch in hand, and as long to leave the group.
const STOP: Duration = Duration::from_secs(20);

#[test]
fn every_request_is_stored_delivered_and_answered_once_and_in_order() {
    let mut random = seed::random("flow");
    let log = Log::on(&Kafka::shared().bootstrap(), &[]);
    let targets = ["a", "b", "c", "d"].map(|name| log.target(name));
    let requests = Load::new(&log, "flow", &targets, &mut random).make(20_000);

    let writer = log.start(&[]);
    load::send(&Producer::new(&log.bootstrap), &requests);
    log.receipts(&writer, requests.len(), LATER);

    Outcome::after(writer, &log, &targets).expect_exactly_once(&requests);
}

#[test]
fn a_stop_under_load_finishes_what_is_in_hand_and_leaves_the_group() {
    let mut random = seed::random("stop");
    let log = Log::on(&Kafka::shared().bootstrap(), &[("writer.batch_records", "20")]);
    let targets = [log.target("stop")];
    let requests = Load::new(&log, "stop", &targets, &mut random).make(3000);
    load::send(&Producer::new(&log.bootstrap), &requests);

    let writer = log.start(&[]);
    let before = log.receipts(&writer, 1, SOON).len();
    writer.terminate();
    let status = writer.wait(STOP);

    assert_eq!(status.code(), Some(0), "{writer:?}");
    assert_eq!(lines_with(&writer, "left the consumer group").len(), 1, "{writer:?}");
    assert_eq!(log.members(), 0);
    let answered = log.read(&log.topic("receipts")).len();
    println!("{before} receipts before the stop, {answered} after it, of {}", requests.len());
    assert!(answered < requests.len(), "it was stopped in the middle of its work");

    let writer = log.start(&[]);
    log.receipts(&writer, requests.len(), LATER);
    Outcome::after(writer, &log, &targets).expect_exactly_once(&requests);
}

#[test]
fn high_requests_go_first_and_low_ones_still_move() {
    const EACH: usize = 3000;
    let settings = [("topics.partitions", "1"), ("writer.batch_records", "100")];
    let log = Log::on(&Kafka::shared().bootstrap(), &settings);
    let target = log.target("priorities");
    let request = |lane: &str, number| {
        let value = format!(r#"{{"namespace":"n","target":"{target}","payload":{{}},"request_id":"{lane}-{number}"}}"#);
        Message::to(&log.topic(lane)).value(value)
    };
    let requests = |lane| (0..EACH).map(move |number| (lane, number));
    let both: Vec<Message> =
        requests("ingress.low").chain(requests("ingress.high")).map(|(lane, number)| request(lane, number)).collect();
    log.send(&both);

    let writer = log.start(&[]);
    let receipts = log.receipts(&writer, 2 * EACH, LATER);

    let is_high = |at: &usize| receipts[*at].text().contains("ingress.high");
    let last_high = (0..receipts.len()).rfind(is_high).expect("there are high requests");
    let low_before = (0..last_high).filter(|at| !is_high(at)).count();
    // Their share is 5 %; what was read before the first high one came over the wire goes on top.
    assert!((1..EACH / 2).contains(&low_before), "{low_before} of {EACH} low requests went before the last high one");
}

#[test]
fn a_writer_that_stands_by_takes_over() {
    let mut random = seed::random("standby");
    let log = Log::on(&Kafka::shared().bootstrap(), &[]);
    let targets = [log.target("standby")];
    let mut load = Load::new(&log, "standby", &targets, &mut random);
    let producer = Producer::new(&log.bootstrap);
    let first = log.start_ready(&[]);
    let mut requests = load.make(200);
    load::send(&producer, &requests);
    log.receipts(&first, requests.len(), SOON);

    // The embedded store belongs to one process, so the one that stands by is started when the other is gone.
    first.terminate();
    assert!(first.wait(STOP).success());
    let second = log.start_ready(&[("kafka.instance", "1")]);
    requests.extend(load.make(200));
    load::send(&producer, &requests[200..]);
    log.receipts(&second, requests.len(), SOON);

    Outcome::after(second, &log, &targets).expect_exactly_once(&requests);
}

#[test]
fn what_is_done_is_counted_and_told() {
    let mut random = seed::random("counted");
    let log = Log::on(&Kafka::shared().bootstrap(), &[]);
    let targets = [log.target("counted")];
    let requests = Load::new(&log, "counted", &targets, &mut random).make(200);
    let address = format!("127.0.0.1:{}", free_port());

    let writer = log.start(&[("health.listen", &address)]);
    load::send(&Producer::new(&log.bootstrap), &requests);
    log.receipts(&writer, requests.len(), LATER);

    let records = format!("wal_batch_records_total{{service=\"wal-writer\"}} {}\n", requests.len());
    // The last receipt can be read a moment before its batch is counted.
    wait_until("every record is counted", SOON, || scrape(&address).contains(&records));
    let told = scrape(&address);
    assert!(told.contains("wal_rewinds_total{service=\"wal-writer\"} 0\n"), "{told}");
    assert!(told.ends_with("# EOF\n"), "{told}");
}

fn scrape(address: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the writer listens for scrapes");
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("it takes a request");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("it answers with text");
    response
}
