//! The harness itself: what every other scenario takes for granted.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::path::Path;
use std::thread;
use std::time::Duration;

use wal_tests::clients::{add_partitions, commit, committed, create_topic, delete_group_offsets, delete_topic};
use wal_tests::clients::{read_all, read_until};
use wal_tests::process::Stream;
use wal_tests::{Cluster, Isolation, Kafka, Message, Process, Producer, Proxy, unique, wait_until};

const SOON: Duration = Duration::from_secs(20);
/// Milliseconds until a send fails: short, but enough for a new producer's first one (which waits 500 ms for its id).
const IMPATIENT: &str = "3000";

#[test]
fn a_record_comes_back_as_it_was_sent() {
    let bootstrap = Kafka::shared().bootstrap();
    let topic = unique("round-trip");
    create_topic(&bootstrap, &topic, 3, &[("retention.ms", "-1")]);

    let full = Message::to(&topic).partition(2).key("k").value(r#"{"n":1}"#).header("a", "1").null_header("b");
    let bare = Message::to(&topic).partition(0);
    let positions = Producer::new(&bootstrap).send_all([&full.clone().header("a", "2"), &bare]);

    assert_eq!(positions, [(2, 0), (0, 0)]);
    let records = read_all(&bootstrap, &topic, Isolation::ReadUncommitted);
    let [bare, full] = &records[..] else { panic!("not two records: {records:?}") };
    assert_eq!((&bare.key, &bare.value, bare.headers.len()), (&None, &None, 0));
    assert_eq!((full.partition, full.key.as_deref(), full.json()["n"].as_i64()), (2, Some(&b"k"[..]), Some(1)));
    let names: Vec<&str> = full.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "b", "a"]);
    assert_eq!((full.header("a"), full.header("b")), (Some("1".into()), None));
    assert!(full.timestamp > 0);
}

#[test]
fn keys_go_where_java_clients_send_them() {
    let bootstrap = Kafka::shared().bootstrap();
    let topic = unique("keys");
    create_topic(&bootstrap, &topic, 10, &[]);

    // The hashes are those that Kafka's own UtilsTest.testMurmur2 expects.
    let keys = ["21", "foobar", "a-little-bit-long-string"];
    let messages = keys.map(|key| Message::to(&topic).key(key).value("v"));
    let positions = Producer::new(&bootstrap).send_all(&messages);

    let partitions: Vec<i32> = positions.iter().map(|(partition, _)| *partition).collect();
    assert_eq!(partitions, [-973932308_i32, -790332482, -985981536].map(|hash| (hash & i32::MAX) % 10));
}

#[test]
fn topics_grow_and_go() {
    let bootstrap = Kafka::shared().bootstrap();
    let topic = unique("growing");
    create_topic(&bootstrap, &topic, 1, &[]);

    add_partitions(&bootstrap, &topic, 3);
    Producer::new(&bootstrap).send_all([&Message::to(&topic).partition(2).value("v")]);
    assert_eq!(read_all(&bootstrap, &topic, Isolation::ReadCommitted).len(), 1);

    delete_topic(&bootstrap, &topic);
    create_topic(&bootstrap, &topic, 1, &[]);
    assert_eq!(read_all(&bootstrap, &topic, Isolation::ReadCommitted), []);
}

#[test]
fn read_committed_shows_committed_transactions_only() {
    let bootstrap = Kafka::shared().bootstrap();
    let topic = unique("transactions");
    create_topic(&bootstrap, &topic, 1, &[]);
    let visible = |isolation| {
        let records = read_all(&bootstrap, &topic, isolation);
        records.iter().map(|record| record.text()).collect::<Vec<String>>()
    };
    let producer = Producer::transactional(&bootstrap, &topic);
    let send = |text: &str| producer.send_all([&Message::to(&topic).value(text)]);

    producer.begin();
    send("committed");
    producer.commit();
    producer.begin();
    send("aborted");
    producer.abort();
    assert_eq!(visible(Isolation::ReadCommitted), ["committed"]);
    assert_eq!(visible(Isolation::ReadUncommitted), ["committed", "aborted"]);

    producer.begin();
    send("open");
    assert_eq!(visible(Isolation::ReadCommitted), ["committed"]);
    producer.commit();
    assert_eq!(visible(Isolation::ReadCommitted), ["committed", "open"]);
}

#[test]
fn reading_waits_for_records_that_are_still_to_come() {
    let bootstrap = Kafka::shared().bootstrap();
    let topic = unique("to-come");
    create_topic(&bootstrap, &topic, 2, &[]);

    let records = thread::scope(|scope| {
        let read =
            scope.spawn(|| read_until(&bootstrap, &topic, Isolation::ReadCommitted, SOON, |seen| seen.len() == 10));
        let producer = Producer::new(&bootstrap);
        for number in 0..10 {
            let _ = producer.send(&Message::to(&topic).value(number.to_string()));
        }
        producer.flush();
        read.join().expect("the reader sees all records")
    });

    let mut numbers: Vec<i32> = records.iter().map(|record| record.text().parse().expect("a number")).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, Vec::from_iter(0..10));
}

#[test]
fn committed_offsets_can_be_seen_and_deleted() {
    let bootstrap = Kafka::shared().bootstrap();
    let (topic, group) = (unique("committed"), unique("group"));
    create_topic(&bootstrap, &topic, 2, &[]);
    let offsets = || {
        let all = committed(&bootstrap, &group, &topic);
        all.into_iter().map(|one| (one.partition, one.offset, one.metadata)).collect::<Vec<_>>()
    };

    commit(&bootstrap, &group, &topic, &[(1, 42)], "where we were");
    assert_eq!(offsets(), [(0, None, String::new()), (1, Some(42), "where we were".into())]);

    delete_group_offsets(&bootstrap, &group);
    assert_eq!(offsets(), [(0, None, String::new()), (1, None, String::new())]);
}

#[test]
fn acknowledged_records_survive_a_kill() {
    let mut kafka = Kafka::start();
    let bootstrap = kafka.bootstrap();
    create_topic(&bootstrap, "survivors", 2, &[]);
    let messages: Vec<Message> = (0..1000).map(|n| Message::to("survivors").value(n.to_string())).collect();
    let producer = Producer::new(&bootstrap);
    producer.send_all(&messages[..500]);

    kafka.kill();
    let while_down = producer.send(&messages[500]);
    kafka.restart();

    while_down.acknowledged();
    producer.send_all(&messages[501..]);
    assert_eq!(read_all(&bootstrap, "survivors", Isolation::ReadCommitted).len(), 1000);

    kafka.stop();
    kafka.restart();
    assert_eq!(read_all(&bootstrap, "survivors", Isolation::ReadCommitted).len(), 1000);
}

#[test]
fn a_paused_node_answers_after_it_resumes() {
    let kafka = Kafka::start_with(&[("num.partitions", "1")]);
    let bootstrap = kafka.bootstrap();
    create_topic(&bootstrap, "paused", 1, &[]);
    let message = Message::to("paused").value("v");
    let impatient = Producer::with(&bootstrap, &[("message.timeout.ms", IMPATIENT)]);
    let patient = Producer::new(&bootstrap);
    impatient.send_all([&message]);
    patient.send_all([&message]);

    kafka.pause();
    let sent = patient.send(&message);
    impatient.send(&message).outcome().expect_err("nobody answers");
    kafka.resume();

    sent.acknowledged();
}

#[test]
fn a_cluster_serves_with_any_node_gone() {
    let mut cluster = Cluster::start();
    let bootstrap = cluster.bootstrap();
    create_topic(&bootstrap, "replicated", 1, &[]);
    let producer = Producer::new(&bootstrap);
    producer.send_all([&Message::to("replicated").value("before")]);

    let first = cluster.leader("replicated", 0);
    cluster.node(first).kill();
    producer.send_all([&Message::to("replicated").value("during")]);
    assert_ne!(cluster.leader("replicated", 0), first);
    cluster.node(first).restart();
    producer.send_all([&Message::to("replicated").value("after")]);

    let records = read_all(&bootstrap, "replicated", Isolation::ReadCommitted);
    assert_eq!(records.iter().map(|record| record.text()).collect::<Vec<_>>(), ["before", "during", "after"]);
}

#[test]
fn clients_behind_the_proxy_lose_the_node_and_others_do_not() {
    let kafka = Kafka::start();
    create_topic(&kafka.bootstrap(), "wire", 1, &[]);
    let message = Message::to("wire").value("v");
    let proxy = kafka.proxy();
    let behind = Producer::with(&proxy.address().to_string(), &[("message.timeout.ms", IMPATIENT)]);
    behind.send_all([&message]);

    proxy.cut();
    behind.send(&message).outcome().expect_err("the wire is cut");
    Producer::new(&kafka.bootstrap()).send_all([&message]);

    proxy.restore();
    behind.send_all([&message]);
}

#[test]
fn a_black_hole_holds_bytes_back_and_a_cut_ends_connections() {
    let (proxy, mut client) = proxied_echo();
    let mut answer = [0; 2];
    client.write_all(b"ab").unwrap();
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"ab");

    proxy.black_hole();
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    client.write_all(b"cd").unwrap();
    let nothing = client.read_exact(&mut answer).unwrap_err();
    assert!(matches!(nothing.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{nothing}");

    proxy.restore();
    client.set_read_timeout(Some(SOON)).unwrap();
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"cd");

    proxy.cut();
    assert!(client.read_exact(&mut answer).is_err());
    let mut late = TcpStream::connect(proxy.address()).unwrap();
    assert!(late.read_exact(&mut answer).is_err());
}

#[test]
fn a_process_shows_its_lines_and_its_exit() {
    let script = "trap 'echo bye; exit 3' TERM; echo ready; echo \"got $NAME\" >&2; while :; do sleep 0.01; done";
    let shell = sh(script, &[("NAME", "it")]);

    assert_eq!(shell.wait_for_line("ready", SOON), "ready");
    assert_eq!(shell.wait_for_line_where("what it got", SOON, |line| line.starts_with("got")), "got it");
    assert!(shell.is_running());
    shell.terminate();

    assert_eq!(shell.wait(SOON).code(), Some(3));
    assert_eq!(shell.stdout(), "ready\nbye\n");
    let errors = shell.lines().into_iter().filter(|line| line.stream == Stream::Err);
    assert_eq!(errors.map(|line| line.text).collect::<Vec<_>>(), ["got it"]);
}

#[test]
fn a_paused_process_writes_nothing_until_it_resumes() {
    let mut shell = sh("while :; do echo tick; sleep 0.001; done", &[]);
    shell.wait_for_line("tick", SOON);
    shell.pause();
    // What it wrote before may still be on its way through the pipe. Running, it would tick dozens of times meanwhile.
    wait_until("it is silent", SOON, || {
        let before = shell.lines().len();
        thread::sleep(Duration::from_millis(50));
        shell.lines().len() == before
    });
    assert!(shell.is_running());

    let before = shell.lines().len();
    shell.resume();
    wait_until("it ticks again", SOON, || shell.lines().len() > before);
    shell.kill();
    assert!(!shell.is_running());
}

#[test]
#[should_panic(expected = "sh ended without a line with \"never\"")]
fn a_line_that_cannot_come_any_more_is_not_waited_for() {
    sh("echo done", &[]).wait_for_line("never", SOON);
}

#[test]
#[should_panic(expected = "run `cargo test --workspace`, which builds it")]
fn a_binary_that_was_not_built_is_named() {
    Process::start("no-such-binary", &[], &[]);
}

fn sh(script: &str, env: &[(&str, &str)]) -> Process {
    Process::run("sh", Path::new("/bin/sh"), &["-c", script], env)
}

#[test]
fn a_slow_wire_carries_everything_and_is_quick_again_after_it() {
    const AGES: NonZeroU32 = NonZeroU32::new(1).expect("not zero");
    let (proxy, mut client) = proxied_echo();
    // At one byte a second it would take minutes.
    let sent = [7; 500];
    for pace in [NonZeroU32::MAX, AGES] {
        let mut answer = [0; 500];
        proxy.slow(pace);
        client.write_all(&sent).unwrap();
        if pace == AGES {
            client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            assert!(client.read(&mut answer).is_err(), "nothing can have come yet");
            client.set_read_timeout(None).unwrap();
            proxy.restore();
        }
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer, sent);
    }
}

/// A server that sends back what it gets, a proxy in front of it, and a client of the proxy.
fn proxied_echo() -> (Proxy, TcpStream) {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = TcpListener::bind(any).unwrap();
    let proxy = Proxy::start(any, server.local_addr().unwrap());
    let client = TcpStream::connect(proxy.address()).unwrap();
    let (mut connection, _) = server.accept().unwrap();
    thread::spawn(move || {
        let mut source = connection.try_clone().unwrap();
        std::io::copy(&mut source, &mut connection)
    });
    (proxy, client)
}
