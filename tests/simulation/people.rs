//! Those outside: clients that write and write again, consumers that answer in every way there is, operators that cancel, forgers.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use wal_model::answer::{Completed, Failed, Wish};
use wal_model::delivery::Delivery;
use wal_model::status::Failure;
use wal_model::topics::Topics;
use wal_model::{Backoff, Header, InRecord, LogId, OutRecord, Priority, Topic, wire};

use super::clock::at;

/// How long after the first an answer may be repeated: well within the scheduler's memory of 15 minutes.
const REPEATS_WITHIN: i64 = 300_000;

/// A request, and when it is sent: more than once by a client that did not hear back.
pub struct Request {
    pub out: OutRecord,
    pub id: String,
    pub times: Vec<i64>,
}

/// What a consumer does with the attempts of one entry.
#[derive(Clone, Copy, Debug)]
pub enum Plan {
    /// Fails until this attempt, which it completes.
    CompletesAt(u32),
    /// Fails them all.
    Fails,
    /// Says of this attempt that retrying cannot help.
    RejectsAt(u32),
    /// Wishes for the next attempt at a time of its own, and fails them all.
    Wishes,
    /// Does not answer at all.
    IsSilent,
    /// Whatever comes to its mind.
    Anything,
}

/// What is true of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Truth {
    Completed,
    Failed(Wish),
    /// It answers nothing that was delivered so.
    Forged,
}

/// An answer on its way.
pub struct Answer {
    pub out: OutRecord,
    pub truth: Truth,
    pub log_id: LogId,
    pub round: u32,
    pub attempt: u32,
    /// How long it takes to be sent.
    pub after: i64,
}

/// Makes up the requests of a run that begins at `start`.
pub fn requests(topics: &Topics, targets: &[Topic], start: i64, random: &mut fastrand::Rng) -> Vec<Request> {
    let count = random.usize(4..14);
    let span = *pick(&[2_000, 60_000, 1_200_000], random);
    (0..count).map(|number| request(number, topics, targets, (start, span), random)).collect()
}

fn request(
    number: usize,
    topics: &Topics,
    targets: &[Topic],
    (start, span): (i64, i64),
    random: &mut fastrand::Rng,
) -> Request {
    let ttl = *pick(&[5.0, 60.0, 600.0, 3_600.0, 7_200.0], random);
    let id = format!("r{number}");
    let first = start + random.i64(0..span);
    let backoff = *pick(&[Backoff::Exponential, Backoff::Linear, Backoff::Fixed], random);
    let priority = *pick(&[Priority::High, Priority::Normal, Priority::Low], random);
    let mut request = json!({
        "namespace": pick(&["orders", "misc"], random),
        "target": pick(targets, random).as_str(),
        "payload": { "n": number },
        "request_id": id,
        "user_context": { "tenant_id": pick(&["acme", "umbrella"], random) },
        "lifecycle": {
            "retry_count": random.u32(0..=4),
            "delay": pick(&[0.0, 0.1, 0.25, 1.0, 5.0, 60.0, 300.0, 777.7], random),
            "backoff": backoff.as_str(),
            "ttl": ttl,
            "priority": priority.as_str(),
        },
    });
    if random.u8(..100) < 20 {
        let millis = Duration::from_secs_f64(ttl).as_millis();
        let within = i64::try_from(millis).expect("hours") * 8 / 10;
        request["deliver_at"] = at(first + random.i64(0..within)).to_string().into();
    }
    // Now and again a client does not hear back and sends the same again, much later at times.
    let repeats = (0..random.usize(0..3)).map(|_| first + *pick(&[50, 3_000, 700_000], random)).collect::<Vec<_>>();
    let lane = *pick(&[Priority::High, Priority::Normal, Priority::Normal, Priority::Low], random);
    let out = OutRecord {
        topic: topics.ingress(lane),
        partition: None,
        key: Some(Bytes::from(format!("key-{}", number % 3))),
        value: Some(Bytes::from(request.to_string())),
        headers: Vec::new(),
    };
    Request { out, id, times: std::iter::once(first).chain(repeats).collect() }
}

/// Makes up what a consumer will do with each of `count` entries.
pub fn plans(count: usize, random: &mut fastrand::Rng) -> Vec<Plan> {
    let plan = |random: &mut fastrand::Rng| match random.u8(..8) {
        0 | 1 => Plan::CompletesAt(random.u32(1..=4)),
        2 => Plan::Fails,
        3 => Plan::RejectsAt(random.u32(1..=2)),
        4 => Plan::Wishes,
        5 => Plan::IsSilent,
        _ => Plan::Anything,
    };
    (0..count).map(|_| plan(random)).collect()
}

/// Who answers what is delivered.
pub struct Consumer {
    pub plans: Vec<Plan>,
    pub topics: Topics,
    /// Partitions of the topics that answers go to.
    pub partitions: i32,
    /// How much it misbehaves, of a hundred times.
    pub mischief: u8,
}

impl Consumer {
    /// The answers to one delivery.
    pub fn answers(&self, record: &InRecord, random: &mut fastrand::Rng) -> Vec<Answer> {
        let delivery = Delivery::decode(record).expect("only deliveries come to a target").delivery;
        let number: usize = serde_json::from_slice::<serde_json::Value>(&delivery.payload)
            .ok()
            .and_then(|payload| payload["n"].as_u64())
            .and_then(|number| usize::try_from(number).ok())
            .expect("payloads are as they were sent");
        let mut answers = Vec::new();
        if let Some(truth) = self.truth(self.plans[number], &delivery, random) {
            let after = self.pause(random);
            // It says the same again, or, having lost its memory, something else.
            let says_again = self.is_up_to_mischief(random).then(|| match random.bool() {
                true => truth.clone(),
                false => self.truth(Plan::Anything, &delivery, random).unwrap_or_else(|| truth.clone()),
            });
            answers.push(self.answer(record, &delivery, truth, after, random));
            if let Some(truth) = says_again {
                let later = after + random.i64(0..REPEATS_WITHIN);
                answers.push(self.answer(record, &delivery, truth, later, random));
            }
        }
        if self.is_up_to_mischief(random) {
            let after = self.pause(random);
            answers.push(self.forged(record, &delivery, after, random));
        }
        answers
    }

    fn is_up_to_mischief(&self, random: &mut fastrand::Rng) -> bool {
        random.u8(..100) < self.mischief
    }

    fn pause(&self, random: &mut fastrand::Rng) -> i64 {
        let longest = match self.is_up_to_mischief(random) {
            false => 200,
            true => *pick(&[5_000, 120_000, 4_000_000], random),
        };
        random.i64(0..longest)
    }

    fn truth(&self, plan: Plan, delivery: &Delivery, random: &mut fastrand::Rng) -> Option<Truth> {
        let attempt = delivery.attempt_of_round();
        match plan {
            Plan::CompletesAt(last) if attempt >= last => Some(Truth::Completed),
            Plan::RejectsAt(last) if attempt >= last => Some(Truth::Failed(Wish::Never)),
            Plan::CompletesAt(_) | Plan::RejectsAt(_) | Plan::Fails => Some(Truth::Failed(Wish::None)),
            Plan::Wishes => {
                let wish = *pick(&[0, 30, 100, 2_500, 47_000, 600_000], random);
                Some(Truth::Failed(Wish::After(Duration::from_millis(wish))))
            }
            Plan::IsSilent => None,
            Plan::Anything => match random.u8(..10) {
                0 => None,
                1 | 2 => Some(Truth::Completed),
                3 => Some(Truth::Failed(Wish::Never)),
                4 | 5 => self.truth(Plan::Wishes, delivery, random),
                _ => Some(Truth::Failed(Wish::None)),
            },
        }
    }

    fn answer(
        &self,
        record: &InRecord,
        delivery: &Delivery,
        truth: Truth,
        after: i64,
        random: &mut fastrand::Rng,
    ) -> Answer {
        let mut out = match &truth {
            Truth::Completed => Completed::encode(record, None, self.topics.acks()),
            Truth::Failed(wish) => failed(record, wish, self.topics.failures()),
            Truth::Forged => unreachable!("made elsewhere"),
        };
        if self.is_up_to_mischief(random) {
            out.partition = Some(random.i32(0..self.partitions));
        }
        let Delivery { log_id, round, attempt, .. } = delivery.clone();
        Answer { out, truth, log_id, round, attempt, after }
    }

    /// An answer to what was never delivered so.
    fn forged(&self, record: &InRecord, delivery: &Delivery, after: i64, random: &mut fastrand::Rng) -> Answer {
        let Delivery { log_id, round, attempt, .. } = delivery.clone();
        if random.u8(..5) == 0 {
            let out = self.injected(record, delivery);
            return Answer { out, truth: Truth::Forged, log_id, round, attempt, after };
        }
        let is_failure = random.bool();
        let mut out = match is_failure {
            true => failed(record, &Wish::None, self.topics.failures()),
            false => Completed::encode(record, None, self.topics.acks()),
        };
        let changed = |name: &'static str, value: String| {
            move |headers: &mut Vec<Header>| {
                headers.retain(|header| !header.is(name));
                headers.push(Header::new(name, value));
            }
        };
        match random.u8(..7) {
            0 => changed(wire::CE_WALATTEMPT, (delivery.attempt + 1).to_string())(&mut out.headers),
            1 => changed(wire::CE_WALRETRIES, "99".to_owned())(&mut out.headers),
            2 => changed(wire::CE_WALROUND, "2".to_owned())(&mut out.headers),
            3 => changed(wire::CE_WALTARGET, "elsewhere".to_owned())(&mut out.headers),
            4 => out.headers.retain(|header| !header.is(wire::CE_WALSEAL)),
            5 => out.headers.clear(),
            _ if is_failure => out.value = Some(Bytes::from_static(b"{\"n\":0,\"amount\":1000000}")),
            _ => out.value = Some(Bytes::from_static(b"{\"status\":\"failed\"}")),
        }
        Answer { out, truth: Truth::Forged, log_id, round, attempt, after }
    }

    /// A record on a delay topic that says it is due.
    fn injected(&self, record: &InRecord, delivery: &Delivery) -> OutRecord {
        let mut headers = record.headers.clone();
        headers.push(Header::new(wire::CE_WALDUE, at(0).to_string()));
        headers.push(Header::new(wire::CE_WALPARKEDAT, at(0).to_string()));
        headers.push(Header::new(wire::CE_WALWAIT, "1s"));
        let topic = self.topics.delay("1s".parse().expect("a coin"));
        let key = Some(Bytes::from(delivery.log_id.to_string()));
        OutRecord { topic, partition: None, key, value: record.value.clone(), headers }
    }
}

fn failed(record: &InRecord, wish: &Wish, topic: Topic) -> OutRecord {
    let failure = Failure { code: "CARD_DECLINED".to_owned(), message: "no units".to_owned() };
    Failed::encode(record, &failure, wish, topic)
}

pub fn pick<'a, T>(from: &'a [T], random: &mut fastrand::Rng) -> &'a T {
    &from[random.usize(..from.len())]
}
