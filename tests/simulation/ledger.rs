//! What must be true of every transaction when it is decided for: the invariants that no order of events may break.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use wal_model::ack::Ack;
use wal_model::answer::Wish;
use wal_model::delivery::Delivery;
use wal_model::entry::Answers;
use wal_model::seal::Keyring;
use wal_model::status::{Event, Outcome, Reason};
use wal_model::topics::Topics;
use wal_model::{Code, Entry, InRecord, LogId, OutRecord, Timestamp, Topic, delay, record, wire};

use super::batch_loop::{Published, Reached};
use super::people::Truth;
use super::process::{DELAYS, SCHEDULER, STATUS, WRITER};

/// How long a target must be missing: the default of `unknown_target_wait`.
const UNKNOWN_TARGET: i64 = 30_000;

/// What a delay is rounded up to.
const FIRST_DELIVERY: i64 = 100;

/// What an attempt of an entry is known by.
type Attempt = (u32, u32);

/// Everything that was seen of entries.
pub struct Ledger {
    pub keyring: Keyring,
    pub topics: Topics,
    pub targets: BTreeSet<Topic>,
    pub tracks: BTreeMap<LogId, Track>,
    /// Records of forgers, by where they stand.
    pub forged: BTreeSet<(String, i32, i64)>,
    /// How late attempts were published, in milliseconds of virtual time.
    pub lateness: Vec<i64>,
    /// How far two clocks are apart at most, in milliseconds.
    pub skew: i64,
    /// Since when targets have been missing, or were last.
    pub missing: BTreeMap<Topic, i64>,
    /// What has come about.
    pub reached: Reached,
}

/// What was seen of one entry.
#[derive(Default)]
pub struct Track {
    /// What consumers truly said, when, and whether it stood in the right partition at once.
    pub answers: Vec<(Attempt, Truth, i64, bool)>,
    pub deliveries: BTreeMap<Attempt, Timestamp>,
    /// What was decided about failed attempts.
    pub decisions: BTreeMap<Attempt, Event>,
    /// Rounds that were ended otherwise: by whom, at which attempt, why.
    pub endings: Vec<(&'static str, Attempt, Reason)>,
    pub letters: usize,
    pub is_cancelled: bool,
}

impl Track {
    /// Whether a consumer truly completed it.
    pub fn is_completed(&self) -> bool {
        self.answers.iter().any(|(_, truth, ..)| *truth == Truth::Completed)
    }
}

/// What else the ledger must know of a transaction.
pub struct Circumstances<'a> {
    pub group: &'static str,
    /// The cancels that the process knew when it began.
    pub known: &'a BTreeMap<LogId, u32>,
    pub entry: &'a dyn Fn(&LogId) -> Option<Entry>,
    pub now: i64,
}

impl Ledger {
    pub fn new(keyring: Keyring, topics: Topics, targets: BTreeSet<Topic>, skew: i64) -> Ledger {
        Ledger {
            keyring,
            topics,
            targets,
            tracks: BTreeMap::new(),
            forged: BTreeSet::new(),
            lateness: Vec::new(),
            skew,
            missing: BTreeMap::new(),
            reached: Reached::new(),
        }
    }

    pub fn reach(&mut self, situation: &'static str) {
        *self.reached.entry(situation).or_default() += 1;
    }

    /// A consumer says something that is true: what, when, and whether in the right partition.
    pub fn said(&mut self, log_id: &LogId, attempt: Attempt, (truth, when, is_home): (Truth, i64, bool)) {
        self.tracks.entry(log_id.clone()).or_default().answers.push((attempt, truth, when, is_home));
    }

    /// Looks at a transaction.
    pub fn published(&mut self, published: &Published, around: &Circumstances<'_>) -> Result<(), String> {
        let records: Vec<InRecord> = published.outputs.iter().cloned().map(as_read).collect();
        let mut ended: BTreeMap<LogId, i32> = BTreeMap::new();
        let acks = self.topics.acks();
        for record in records.iter().filter(|record| record.topic == acks) {
            if let Ok(Ack { log_id, event, .. }) = Ack::decode(record, &self.keyring) {
                if matches!(event.outcome, Outcome::Failed { reason } if reason != Reason::Cancelled) {
                    *ended.entry(log_id.clone()).or_default() += 1;
                }
                self.event(&log_id, &event, published, around).map_err(|why| format!("{log_id}: {why}"))?;
            }
        }
        for record in &records {
            if self.targets.contains(&record.topic) {
                self.delivery(record, published, around)?;
            } else if let Some(log_id) = entry_letter(record, &self.topics) {
                *ended.entry(log_id.clone()).or_default() -= 1;
                self.tracks.entry(log_id).or_default().letters += 1;
            }
        }
        match ended.into_iter().find(|(_, balance)| *balance != 0) {
            Some((log_id, balance)) => Err(format!("{log_id}: {balance} more endings than dead letters at once")),
            None => Ok(()),
        }
    }

    fn delivery(&mut self, record: &InRecord, published: &Published, around: &Circumstances<'_>) -> Result<(), String> {
        let received = Delivery::decode(record).map_err(|why| format!("no delivery on a target: {why}"))?;
        let (delivery, sent) = (received.delivery, received.sent);
        let seal = record::last_str(&record.headers, wire::CE_WALSEAL);
        let Delivery { log_id, round, attempt, deadline, .. } = &delivery;
        let fail = |why: String| Err(format!("{log_id} round {round} attempt {attempt}: {why}"));
        if let Err(why) = delivery.verify(seal, &self.keyring) {
            return fail(format!("delivered under a bad seal: {why}"));
        }
        let Some(entry) = (around.entry)(log_id) else { return fail("delivered, but not stored".to_owned()) };
        if delivery.attempt_of_round() > entry.lifecycle.retry_count + 1 {
            return fail("delivered beyond the limit of the round".to_owned());
        }
        if sent > *deadline {
            return fail(format!("published at {sent}, after the deadline {deadline}"));
        }
        let (first, last) = published.clock;
        if sent < first || sent > last {
            return fail(format!("says it was sent at {sent}, but the clock stood between {first} and {last}"));
        }
        if around.known.get(log_id).is_some_and(|cancelled| round <= cancelled) {
            return fail("delivered though its publisher knew that the round is cancelled".to_owned());
        }
        match (around.group, attempt) {
            (WRITER, _) => self.reach("a first attempt was delivered"),
            (DELAYS, 1) => self.reach("a first attempt was delivered later"),
            (DELAYS, _) => self.reach("a retry was delivered when due"),
            _ => self.reach("a retry was delivered at once"),
        }
        let track = self.tracks.entry(log_id.clone()).or_default();
        let due = match *attempt {
            1 => entry.deliver_at,
            _ => match track.decisions.get(&(*round, attempt - 1)).map(|event| &event.outcome) {
                Some(Outcome::Retrying { next_attempt_at }) => Some(*next_attempt_at),
                other => return fail(format!("delivered though the attempt before was decided so: {other:?}")),
            },
        };
        if let Some(due) = due {
            if sent < due {
                return fail(format!("early: published at {sent}, due at {due}"));
            }
            // A first delivery is scheduled once its request is stored, and a delay is rounded up: only that may it be later.
            let allowed = if *attempt == 1 { FIRST_DELIVERY } else { 0 };
            self.lateness.push(around.now - due.as_millis() - allowed);
        }
        match track.deliveries.insert((*round, *attempt), sent) {
            None => Ok(()),
            Some(before) => fail(format!("delivered again; it was at {before} already")),
        }
    }

    fn event(
        &mut self,
        log_id: &LogId,
        event: &Event,
        published: &Published,
        around: &Circumstances<'_>,
    ) -> Result<(), String> {
        let Some(entry) = (around.entry)(log_id) else { return Err("spoken of, but not stored".to_owned()) };
        let attempt = (event.round, event.attempt);
        self.reach(situation(around.group, &event.outcome));
        let track = self.tracks.entry(log_id.clone()).or_default();
        if around.group == SCHEDULER {
            if let Some(before) = track.decisions.insert(attempt, event.clone()) {
                return Err(format!(
                    "attempt {attempt:?} was decided twice: {:?}, {:?}",
                    before.outcome, event.outcome
                ));
            }
            return decision(track, &entry, event, published);
        }
        match event.outcome {
            Outcome::Completed { .. } if entry.answers == Answers::None => Ok(()),
            Outcome::Failed { reason } => {
                track.endings.push((around.group, attempt, reason));
                let is_past = published.clock.1 > event.deadline;
                match (around.group, reason) {
                    (WRITER | DELAYS, Reason::Expired) if is_past => Ok(()),
                    (WRITER | DELAYS, Reason::Undeliverable) => match self.missing.get(&entry.target) {
                        Some(since) if around.now - since >= UNKNOWN_TARGET => Ok(()),
                        _ => Err(format!("undeliverable, but {} was never missing for long", entry.target)),
                    },
                    (STATUS, Reason::Expired) if is_past => unanswered(track, event, self.skew),
                    _ => Err(format!("{} says {reason} without reason", around.group)),
                }
            }
            _ => Err(format!("{} has no business to say {:?}", around.group, event.outcome)),
        }
    }

    /// An operator cancels.
    pub fn cancelled(&mut self, log_id: &LogId) {
        self.tracks.entry(log_id.clone()).or_default().is_cancelled = true;
    }
}

fn situation(group: &str, outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Completed { .. } => "an entry was completed by its delivery",
        Outcome::Pending => "an entry is pending",
        Outcome::Retrying { .. } => "a retry was scheduled",
        Outcome::Failed { reason } => match (reason, group) {
            (Reason::Exhausted, _) => "retries were exhausted",
            (Reason::Rejected, _) => "an attempt was rejected",
            (Reason::Cancelled, _) => "a round was cancelled",
            (Reason::Undeliverable, _) => "an entry was undeliverable",
            (Reason::Expired, WRITER) => "an entry expired before its first delivery",
            (Reason::Expired, SCHEDULER) => "an entry expired with its failure",
            (Reason::Expired, DELAYS) => "an entry expired while it was parked",
            (Reason::Expired, _) => "an entry expired unanswered",
        },
    }
}

/// Nothing had said before the deadline that the entry is completed.
fn unanswered(track: &Track, event: &Event, skew: i64) -> Result<(), String> {
    let before = event.deadline.as_millis() - 2 * skew;
    let is_completion = |(_, truth, when, is_home): &&(Attempt, Truth, i64, bool)| {
        *truth == Truth::Completed && *is_home && *when < before
    };
    match track.answers.iter().find(is_completion) {
        None => Ok(()),
        Some((attempt, _, when, _)) => {
            Err(format!("expired at {}, though attempt {attempt:?} was completed at {when}", event.deadline))
        }
    }
}

/// Whether what was decided follows from something that a consumer truly said.
fn decision(track: &Track, entry: &Entry, event: &Event, published: &Published) -> Result<(), String> {
    let attempt = (event.round, event.attempt);
    let said = track.answers.iter().filter(|(of, ..)| *of == attempt);
    let wishes: Vec<&Wish> = said
        .filter_map(|(_, truth, ..)| match truth {
            Truth::Failed(wish) => Some(wish),
            Truth::Completed | Truth::Forged => None,
        })
        .collect();
    let number = event.attempt - event.round_first + 1;
    let waits = || {
        wishes.iter().filter(|wish| ***wish != Wish::Never).map(|wish| match wish {
            Wish::After(wished) => delay::round_up(*wished),
            Wish::None | Wish::Never | Wish::Unreadable(_) => delay::round_up(before_retry(entry, number)),
        })
    };
    let (first, last) = published.clock;
    let is_founded = match event.outcome {
        Outcome::Retrying { next_attempt_at: due } => {
            // A delay counts from when the broker wrote the failure down, but from no earlier than this.
            let earliest = Timestamp::from_millis(first.as_millis() - 50).unwrap_or(first);
            let fits = |wait: Duration| (earliest.saturating_add(wait)..=last.saturating_add(wait)).contains(&due);
            number <= entry.lifecycle.retry_count && due < event.deadline && waits().any(fits)
        }
        Outcome::Failed { reason: Reason::Exhausted } => {
            number == entry.lifecycle.retry_count + 1 && waits().count() > 0
        }
        Outcome::Failed { reason: Reason::Rejected } => wishes.contains(&&Wish::Never),
        Outcome::Failed { reason: Reason::Expired } => {
            last > event.deadline || waits().any(|wait| last.saturating_add(wait) >= event.deadline)
        }
        Outcome::Failed { reason: Reason::Undeliverable | Reason::Cancelled }
        | Outcome::Pending
        | Outcome::Completed { .. } => false,
    };
    match is_founded && !wishes.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "attempt {attempt:?} was decided without ground: {event:?} between {first} and {last}, of {wishes:?}"
        )),
    }
}

/// The specification's delays, told once more.
fn before_retry(entry: &Entry, retry: u32) -> Duration {
    use wal_model::Backoff;
    let delay = entry.lifecycle.delay.duration();
    match entry.lifecycle.backoff {
        Backoff::Exponential => delay * 2u32.pow(retry - 1),
        Backoff::Linear => delay * retry,
        Backoff::Fixed => delay,
    }
}

/// The entry that a dead letter ends; `None` if it is of a record that was refused.
fn entry_letter(record: &InRecord, topics: &Topics) -> Option<LogId> {
    if !record.topic.as_str().starts_with(&format!("dlq.{}", topics.prefix())) {
        return None;
    }
    let message = record::last_str(&record.headers, wire::DLQ_MESSAGE).expect("every dead letter says why");
    let ends = [Code::Exhausted, Code::Rejected, Code::Expired, Code::Undeliverable];
    let is_ending = ends.iter().any(|code| message.starts_with(code.as_str()));
    let key = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
    is_ending.then(|| key.and_then(|key| key.parse().ok()).expect("an entry's dead letter has its log id as key"))
}

/// Where the record stood that a dead letter refuses; `None` if it ends an entry.
pub fn refused_record(letter: &InRecord, topics: &Topics) -> Option<(String, i32, i64)> {
    if entry_letter(letter, topics).is_some() {
        return None;
    }
    let text = |name| record::last_str(&letter.headers, name).expect("a dead letter says where it comes from");
    let number = |name| text(name).parse().expect("a number");
    let partition = text(wire::DLQ_PARTITION).parse().expect("a number");
    Some((text(wire::DLQ_TOPIC).to_owned(), partition, number(wire::DLQ_OFFSET)))
}

fn as_read(out: OutRecord) -> InRecord {
    InRecord {
        cluster: Arc::from(""),
        topic: out.topic,
        partition: 0,
        offset: 0,
        time: None,
        key: out.key,
        value: out.value,
        headers: out.headers,
    }
}
