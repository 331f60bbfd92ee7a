//! Reading without a group: a stretch of a topic again, and a compacted topic in full, on real brokers.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Runtime;
use wal_model::{InRecord, Timestamp, Topic};
use wal_runtime::config::{self, Settings};
use wal_runtime::reading::{Follower, Span, read_back};
use wal_tests::clients::{add_partitions, create_topic, read_all};
use wal_tests::{Isolation, Kafka, Message, Producer, Record, unique, wait_until};

use crate::support::SOON;

fn kafka(bootstrap: &str) -> config::Kafka {
    let given = [
        ("kafka.bootstrap_servers", bootstrap.to_owned()),
        ("kafka.options.topic.metadata.refresh.interval.ms", "300".to_owned()),
    ];
    config::Kafka::read(&Settings::load_from(None, std::iter::empty(), &given).unwrap()).unwrap()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Numbers from one transactional producer, each in a transaction of its own: so every one is followed by a mark.
fn send(producer: &Producer, topic: &str, partition: i32, numbers: std::ops::Range<usize>) {
    for number in numbers {
        producer.begin();
        producer.send_all(&[Message::to(topic).partition(partition).key("k").value(number.to_string())]);
        producer.commit();
    }
}

fn text(record: &InRecord) -> String {
    String::from_utf8(record.value.clone().unwrap_or_default().to_vec()).unwrap()
}

struct Stretch {
    bootstrap: String,
    topic: String,
}

impl Stretch {
    fn read(&self, spans: &[Span]) -> Vec<InRecord> {
        let mut read = Vec::new();
        let topic = Topic::parse(&self.topic).unwrap();
        let kafka = kafka(&self.bootstrap);
        let reading = async {
            let reading = read_back(&kafka, &topic, spans, |record| read.push(record));
            tokio::time::timeout(SOON, reading).await.expect("it ends").unwrap();
        };
        runtime().block_on(reading);
        read
    }

    fn all(&self) -> Vec<Record> {
        read_all(&self.bootstrap, &self.topic, Isolation::ReadCommitted)
    }
}

#[test]
fn a_stretch_is_read_from_its_time_to_its_offset_though_marks_are_all_that_is_left() {
    let stretch = Stretch { bootstrap: Kafka::shared().bootstrap(), topic: unique("back") };
    create_topic(&stretch.bootstrap, &stretch.topic, 3, &[("message.timestamp.type", "LogAppendTime")]);
    let producer = Producer::transactional(&stretch.bootstrap, &unique("back"));
    send(&producer, &stretch.topic, 0, 0..20);
    producer.begin();
    producer.send_all(&[Message::to(&stretch.topic).partition(0).value("aborted")]);
    producer.abort();
    send(&producer, &stretch.topic, 1, 20..23);

    let all = stretch.all();
    let of = |partition| all.iter().filter(move |record| record.partition == partition);
    // From the seventh on, to before the eighteenth.
    let (from, to) = (of(0).nth(7).unwrap(), of(0).nth(17).unwrap());
    let since = Timestamp::from_millis(from.timestamp).unwrap();
    let read = stretch.read(&[Span { partition: 0, since, until: to.offset }]);
    let wanted: Vec<&Record> =
        of(0).filter(|record| record.timestamp >= from.timestamp && record.offset < to.offset).collect();
    assert_eq!(
        read.iter().map(text).collect::<Vec<_>>(),
        wanted.iter().map(|record| record.text()).collect::<Vec<_>>()
    );
    assert!(read.iter().zip(&wanted).all(|(read, wanted)| {
        let time = read.time.map(Timestamp::as_millis);
        (read.offset, time, read.key.as_deref()) == (wanted.offset, Some(wanted.timestamp), wanted.key.as_deref())
    }));

    // To the very end: behind the last record there are the aborted one and marks only. And two at once, one of them empty.
    let spans = [(0, 20 * 2 + 2), (1, 3 * 2), (2, 0)].map(|(partition, until)| Span {
        partition,
        since: Timestamp::EPOCH,
        until,
    });
    let mut read: Vec<usize> = stretch.read(&spans).iter().map(|record| text(record).parse().unwrap()).collect();
    read.sort_unstable();
    assert_eq!(read, (0..23).collect::<Vec<_>>());

    let tomorrow = Timestamp::from_millis(of(0).next_back().unwrap().timestamp + 86_400_000).unwrap();
    assert_eq!(stretch.read(&[Span { partition: 0, since: tomorrow, until: 42 }]).len(), 0);
}

#[test]
fn a_long_stretch_is_read_whole_and_in_order() {
    let stretch = Stretch { bootstrap: Kafka::shared().bootstrap(), topic: unique("long") };
    create_topic(&stretch.bootstrap, &stretch.topic, 1, &[]);
    let message = |number: usize| {
        Message::to(&stretch.topic).value(number.to_string()).header("filler", vec![b'x'; 2000]).null_header("none")
    };
    let messages: Vec<Message> = (0..20_000).map(message).collect();
    Producer::new(&stretch.bootstrap).send_all(&messages);

    let read = stretch.read(&[Span { partition: 0, since: Timestamp::EPOCH, until: 15_000 }]);
    let numbers: Vec<usize> = read.iter().map(|record| text(record).parse().unwrap()).collect();
    assert_eq!(numbers, (0..15_000).collect::<Vec<_>>());
    let headers = &read[77].headers;
    assert_eq!((headers[0].size(), headers[1].value.is_none()), (2006, true));
}

/// What a follower has told so far.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn follow(&self, bootstrap: &str, topic: &str) -> Follower {
        let told = Arc::clone(&self.0);
        let each = move |record: InRecord| told.lock().unwrap().push(text(&record));
        Follower::start(&kafka(bootstrap), Topic::parse(topic).unwrap(), each).unwrap()
    }

    fn distinct(&self) -> BTreeSet<usize> {
        self.0.lock().unwrap().iter().map(|text| text.parse().unwrap()).collect()
    }

    #[track_caller]
    fn wait_for(&self, numbers: std::ops::Range<usize>) {
        let wanted: BTreeSet<usize> = numbers.collect();
        wait_until("the follower has told it all", SOON, || self.distinct() == wanted);
    }
}

fn caught_up(follower: &Follower) {
    runtime().block_on(async {
        tokio::time::timeout(SOON, follower.caught_up()).await.expect("it catches up");
    });
}

#[test]
fn a_follower_reads_all_that_was_there_then_all_that_comes_and_partitions_that_are_added() {
    let (bootstrap, topic) = (Kafka::shared().bootstrap(), unique("followed"));
    create_topic(&bootstrap, &topic, 3, &[("cleanup.policy", "compact")]);
    let producer = Producer::transactional(&bootstrap, &unique("followed"));
    send(&producer, &topic, 0, 0..10);
    send(&producer, &topic, 2, 10..15);

    let told = Told::default();
    let follower = told.follow(&bootstrap, &topic);
    caught_up(&follower);
    assert_eq!(told.distinct(), (0..15).collect(), "caught up means that it was told");
    assert!(follower.has_caught_up());

    send(&producer, &topic, 1, 15..20);
    told.wait_for(0..20);
    add_partitions(&bootstrap, &topic, 5);
    // Another producer: this one does not know yet.
    send(&Producer::transactional(&bootstrap, &unique("followed")), &topic, 4, 20..25);
    told.wait_for(0..25);
    assert_eq!(told.0.lock().unwrap().len(), 25, "each once");

    runtime().block_on(follower.stop());
    send(&producer, &topic, 0, 25..26);
    assert_eq!(told.distinct().len(), 25);
}

#[test]
fn a_follower_of_nothing_has_caught_up_at_once() {
    let (bootstrap, topic) = (Kafka::shared().bootstrap(), unique("empty"));
    create_topic(&bootstrap, &topic, 2, &[]);
    let told = Told::default();
    caught_up(&told.follow(&bootstrap, &topic));
    assert!(told.distinct().is_empty());
}

#[test]
fn a_follower_outlives_its_broker_and_waits_for_a_topic_to_come() {
    let mut node = Kafka::start();
    let (bootstrap, topic) = (node.bootstrap(), unique("outage"));
    let told = Told::default();
    let follower = told.follow(&bootstrap, &topic);
    create_topic(&bootstrap, &topic, 2, &[]);
    caught_up(&follower);
    let producer = Producer::new(&bootstrap);
    let message = |number: usize| Message::to(&topic).value(number.to_string());
    producer.send_all(&(0..50).map(message).collect::<Vec<_>>());
    told.wait_for(0..50);

    node.kill();
    node.restart();
    producer.send_all(&(50..100).map(message).collect::<Vec<_>>());
    told.wait_for(0..100);
}

#[test]
fn a_stretch_of_a_topic_that_is_not_there_is_an_error_and_does_not_hang() {
    let topic = Topic::parse(&unique("nowhere")).unwrap();
    let kafka = kafka(&Kafka::shared().bootstrap());
    let spans = [Span { partition: 0, since: Timestamp::EPOCH, until: 5 }];
    let reading = async {
        let reading = read_back(&kafka, &topic, &spans, |_| {});
        tokio::time::timeout(Duration::from_secs(60), reading).await.expect("it ends")
    };
    assert!(runtime().block_on(reading).is_err());
}
