//! Requests from a producer that knows nothing of our crates: plain JSON, batches, CloudEvents in binary mode, all mixed.

use fastrand::Rng;
use wal_tests::{Message, Producer};

use super::Log;

/// How many ordering keys a load has.
const KEYS: usize = 200;
const NAMESPACES: [&str; 3] = ["orders", "billing_v2", "a.b-c"];
const LANES: [&str; 3] = ["ingress.high", "ingress", "ingress.low"];

/// A request that was made, and what must come of it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The request id, as its receipt names it.
    pub id: String,
    /// The ingress topic.
    pub ingress: String,
    /// The ordering key.
    pub key: Option<String>,
    /// One, or those of a batch in order.
    pub entries: Vec<Wanted>,
    /// What is sent.
    pub message: Message,
}

/// An entry that a request asks for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The namespace.
    pub namespace: &'static str,
    /// The target.
    pub target: String,
    /// The payload as it must arrive.
    pub payload: Vec<u8>,
}

/// Makes requests.
pub struct Load {
    random: Rng,
    name: &'static str,
    lanes: Vec<String>,
    targets: Vec<String>,
    count: usize,
}

impl Load {
    /// A load on all lanes of a log, to some targets. `name` tells its requests from others'.
    pub fn new(log: &Log, name: &'static str, targets: &[String], random: &mut Rng) -> Load {
        let lanes = LANES.map(|lane| log.topic(lane)).to_vec();
        Load { random: random.fork(), name, lanes, targets: targets.to_vec(), count: 0 }
    }

    /// The next requests.
    pub fn make(&mut self, count: usize) -> Vec<Request> {
        (0..count).map(|_| self.next()).collect()
    }

    fn next(&mut self) -> Request {
        let id = format!("{}-{}", self.name, self.count);
        self.count += 1;
        let ingress = self.lanes[self.random.usize(..self.lanes.len())].clone();
        // One in ten goes without a key.
        let key = (self.random.u8(..10) > 0).then(|| format!("key-{}", self.random.usize(..KEYS)));
        let mut request = match self.random.u8(..10) {
            0 => self.batch(id, ingress),
            1..=4 => self.plain(id, ingress),
            _ => self.event(&id, ingress),
        };
        if let Some(key) = &key {
            request.message = request.message.key(key.as_bytes());
        }
        Request { key, ..request }
    }

    fn plain(&mut self, id: String, ingress: String) -> Request {
        let (wanted, entry) = self.entry(&id);
        let message = Message::to(&ingress).value(format!(r#"{{"request_id":"{id}", {entry}}}"#));
        Request { id, ingress, key: None, entries: vec![wanted], message }
    }

    fn batch(&mut self, id: String, ingress: String) -> Request {
        let members = (0..self.random.usize(2..=5)).map(|index| self.entry(&format!("{id}.{index}")));
        let (entries, spelled): (Vec<Wanted>, Vec<String>) = members.unzip();
        let value = format!(r#"{{"entries":[{{{}}}],"request_id":"{id}"}}"#, spelled.join("},\n{"));
        let message = Message::to(&ingress).value(value);
        Request { id, ingress, key: None, entries, message }
    }

    /// An entry of form 1. The payload is spelled oddly on purpose: it must arrive byte for byte.
    fn entry(&mut self, id: &str) -> (Wanted, String) {
        let filler = "ä ".repeat(self.random.usize(..100));
        let payload = format!("{{ \"id\":\"{id}\",\t\"n\" : 1.50e0, \"text\":\"{filler}\\u0000\" }}");
        let wanted = self.wanted(payload.into_bytes());
        let Wanted { namespace, target, payload } = &wanted;
        let payload = String::from_utf8_lossy(payload);
        let spelled = format!(r#""payload": {payload}, "namespace":"{namespace}","target":"{target}""#);
        (wanted, spelled)
    }

    /// Form 2, of any bytes.
    fn event(&mut self, id: &str, ingress: String) -> Request {
        let payload = (0..self.random.usize(..400)).map(|_| self.random.u8(..)).collect();
        let wanted = self.wanted(payload);
        let message = Message::to(&ingress)
            .value(wanted.payload.clone())
            .header("ce_specversion", "1.0")
            .header("ce_id", id)
            .header("ce_source", "/scenarios")
            .header("ce_type", "scenario.run")
            .header("ce_walnamespace", wanted.namespace)
            .header("ce_waltarget", &*wanted.target)
            .header("content-type", "application/octet-stream")
            .header("own", [0xff, 0x00]);
        Request { id: format!("/scenarios {id}"), ingress, key: None, entries: vec![wanted], message }
    }

    fn wanted(&mut self, payload: Vec<u8>) -> Wanted {
        let namespace = NAMESPACES[self.random.usize(..NAMESPACES.len())];
        let target = self.targets[self.random.usize(..self.targets.len())].clone();
        Wanted { namespace, target, payload }
    }
}

/// Sends requests in order and waits until the brokers have acknowledged them.
#[track_caller]
pub fn send(producer: &Producer, requests: &[Request]) -> Vec<(i32, i64)> {
    producer.send_all(requests.iter().map(|request| &request.message))
}
