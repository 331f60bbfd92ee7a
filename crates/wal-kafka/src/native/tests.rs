use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut};
use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::*;

/// A cluster of one node that answers one question, where its brokers are, and may tell of none.
struct Cluster {
    address: String,
    tells_of_itself: Arc<AtomicBool>,
}

const TOPIC: &str = "t";
/// Of an answer that is very short librdkafka says that it has no memory for it.
const PARTITIONS: i32 = 20;
const NODE: i32 = 1;
/// Whether librdkafka finds back by itself is a race.
const ROUNDS: usize = 100;
const ANSWER: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(60);
const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;
const UNSUPPORTED_VERSION: i16 = 35;

impl Cluster {
    /// Ends with the process.
    fn start() -> Cluster {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let tells_of_itself = Arc::new(AtomicBool::new(true));
        let cluster = Cluster { address: format!("127.0.0.1:{port}"), tells_of_itself: Arc::clone(&tells_of_itself) };
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (connection, tells) = (connection.expect("it can be accepted"), Arc::clone(&tells_of_itself));
                // It ends with an error when the client goes.
                thread::spawn(move || answer(connection, port, &tells));
            }
        });
        cluster
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address).set("group.id", "g");
        config
    }
}

/// Answers what is asked on a connection, until that ends.
fn answer(mut connection: TcpStream, port: u16, tells_of_itself: &AtomicBool) -> io::Result<()> {
    loop {
        let mut length = [0; 4];
        connection.read_exact(&mut length)?;
        let mut request = vec![0; u32::from_be_bytes(length) as usize];
        connection.read_exact(&mut request)?;
        let mut asked = &request[..];
        let mut answer = vec![];
        match (asked.get_i16(), asked.get_i16()) {
            (METADATA, 1) => put_metadata(&mut answer, port, tells_of_itself.load(Ordering::SeqCst)),
            (API_VERSIONS, 0) => put_versions(&mut answer, 0, &[(API_VERSIONS, 0), (METADATA, 1)]),
            (API_VERSIONS, _) => put_versions(&mut answer, UNSUPPORTED_VERSION, &[]),
            // Nobody needs it here.
            _ => continue,
        }
        let mut told = vec![];
        told.put_u32(4 + answer.len() as u32);
        told.put_i32(asked.get_i32());
        told.extend(answer);
        connection.write_all(&told)?;
    }
}

fn put_versions(answer: &mut Vec<u8>, error: i16, versions: &[(i16, i16)]) {
    answer.put_i16(error);
    answer.put_i32(versions.len() as i32);
    for (api, version) in versions {
        answer.put_i16(*api);
        answer.put_i16(*version);
        answer.put_i16(*version);
    }
}

/// Version 1: the brokers, one of them as the controller, and the topic.
fn put_metadata(answer: &mut Vec<u8>, port: u16, tells_of_itself: bool) {
    let put_text = |answer: &mut Vec<u8>, text: &str| {
        answer.put_i16(text.len() as i16);
        answer.put_slice(text.as_bytes());
    };
    answer.put_i32(i32::from(tells_of_itself));
    if tells_of_itself {
        answer.put_i32(NODE);
        put_text(answer, "127.0.0.1");
        answer.put_i32(port.into());
        // It is in no rack.
        answer.put_i16(-1);
    }
    answer.put_i32(if tells_of_itself { NODE } else { -1 });
    answer.put_i32(1);
    answer.put_i16(0);
    put_text(answer, TOPIC);
    answer.put_u8(0);
    answer.put_i32(PARTITIONS);
    for partition in 0..PARTITIONS {
        answer.put_i16(0);
        answer.put_i32(partition);
        answer.put_i32(NODE);
        // No copies are named.
        answer.put_i64(0);
    }
}

/// It knows the cluster, hears of no broker, and asks again when there is one; before each question it does what the product does.
fn expect_found_again<C: ClientContext>(cluster: &Cluster, client: &Client<C>) {
    let way_back = WayBack::looked_at(Duration::from_millis(10));
    let wait_for = |what: &str, count: usize| {
        let begun = Instant::now();
        loop {
            way_back.look(client);
            if client.fetch_metadata(Some(TOPIC), ANSWER).is_ok_and(|told| told.brokers().len() == count) {
                return;
            }
            assert!(begun.elapsed() < LATER, "{what}: not met");
        }
    };
    for _ in 0..ROUNDS {
        wait_for("it knows the cluster", 1);
        cluster.tells_of_itself.store(false, Ordering::SeqCst);
        wait_for("it was told of no broker", 0);
        cluster.tells_of_itself.store(true, Ordering::SeqCst);
    }
    wait_for("it knows the cluster again", 1);
}

#[test]
fn a_client_that_is_polled_finds_its_cluster_again_after_it_was_told_of_no_broker() {
    let cluster = Cluster::start();
    let consumer: BaseConsumer = cluster.config().create().expect("the settings are valid");
    expect_found_again(&cluster, consumer.client());
}

#[test]
fn a_client_of_questions_alone_finds_its_cluster_again_after_it_was_told_of_no_broker() {
    let cluster = Cluster::start();
    let admin: AdminClient<DefaultClientContext> = cluster.config().create().expect("the settings are valid");
    expect_found_again(&cluster, admin.inner());
}
