//! The steps of the demo, each played and checked while it is told.

use std::time::{Duration, Instant};

use wal_model::receipt::Receipt;
use wal_model::{Code, LogId};
use wal_sdk::{Done, Pending};

use super::scene::{Next, PATIENCE, Scene};
use super::script::{Action, Life, Request, Step};
use super::teller::Teller;
use crate::gateway::Gateway;
use crate::paint::Tone;
use crate::problem::Problem;

/// What came of a step.
pub struct Played {
    /// The request that was sent.
    pub request: Request,
    /// The entry it made or met.
    pub log_id: Option<LogId>,
    /// How the entry must stand in the end, if it made one.
    pub life: Option<Life>,
    /// What the answer was, where it was no new entry.
    pub answer: Option<(Tone, String)>,
    /// When the receipt said that it is durable.
    pub durable_after: Option<Duration>,
    /// When the first attempt came; or why none did.
    pub delivered: Result<Duration, &'static str>,
    /// How long after it was due each retry came, in milliseconds.
    pub late: Vec<i64>,
    /// What was expected and did not happen.
    pub missing: Vec<String>,
}

impl Played {
    /// Nothing yet.
    pub fn of(request: Request) -> Played {
        let (log_id, life, answer, durable_after) = (None, None, None, None);
        let (late, missing) = (Vec::new(), Vec::new());
        Played { request, log_id, life, answer, durable_after, delivered: Err("-"), late, missing }
    }
}

/// The story so far.
pub struct Story<'a, 'b> {
    pub(super) teller: &'a mut Teller<'b>,
    pub(super) scene: &'a mut Scene,
    pub(super) gateway: &'a Gateway,
    told: Vec<Played>,
}

impl<'a, 'b> Story<'a, 'b> {
    /// A story that has not begun.
    pub fn new(teller: &'a mut Teller<'b>, scene: &'a mut Scene, gateway: &'a Gateway) -> Story<'a, 'b> {
        Story { teller, scene, gateway, told: Vec::new() }
    }

    /// Plays the steps in order, up to the first of which something is missing.
    pub async fn tell(mut self, steps: &[Step]) -> Result<Vec<Played>, Problem> {
        for (at, step) in steps.iter().enumerate() {
            self.teller.begin(at, step)?;
            let played = match &step.action {
                Action::Write(request, life) => self.live(*request, *life).await?,
                Action::Repeat { of } => {
                    let (request, log_id) = (self.told[*of].request, self.told[*of].log_id.clone());
                    self.repeat(request, log_id, *of + 1).await?
                }
                Action::Refuse(request, code) => self.refuse(*request, *code).await?,
            };
            let has_failed = !played.missing.is_empty();
            self.told.push(played);
            if has_failed {
                break;
            }
        }
        Ok(self.told)
    }

    pub(super) async fn send(&self, request: Request) -> Result<(Pending, Instant), Problem> {
        let detail = format!("sent to {} with key {}", self.scene.ingress(), request.key);
        self.teller.happened(Tone::Plain, "request", Duration::ZERO, &detail)?;
        let pending = self.scene.send(request.key, request.json).await?;
        let sent = pending.acked().queued_at;
        Ok((pending, sent))
    }

    /// The same request again, and behind it one with the same key: the target keeps their order, so a second copy would come first.
    async fn repeat(&mut self, request: Request, first: Option<LogId>, step: usize) -> Result<Played, Problem> {
        let mut played = Played::of(request);
        let (mut pending, sent) = self.send(request).await?;
        let Some(after) = self.receipt_of_repeat(&mut pending, sent, first.as_ref(), step, &mut played).await? else {
            return Ok(played);
        };
        played.durable_after = Some(after);
        let probe = format!(r#"{{"namespace": "warm_up", "target": "{}", "payload": {{}}}}"#, request.target);
        self.scene.send(request.key, &probe).await?;
        loop {
            match self.scene.next(None, PATIENCE).await? {
                Next::Attempt { attempt, .. } => {
                    let (is_copy, at) = (Some(&attempt.delivery().log_id) == first.as_ref(), attempt.arrival().read_at);
                    attempt.complete(Done::silent());
                    if is_copy {
                        continue;
                    }
                    let copies = first.as_ref().map_or(0, |log_id| self.scene.attempts(log_id).len());
                    if copies != 1 {
                        played.missing.push(format!("one copy on {}; there are {copies}", request.target));
                        return Ok(played);
                    }
                    let detail = "delivered: the next one with this key came, no copy before it";
                    self.teller.happened(Tone::Good, "not again", at.duration_since(sent), detail)?;
                    played.delivered = Err("not again");
                    return Ok(played);
                }
                Next::Receipt { .. } | Next::DeadLetter { .. } | Next::Status { .. } => {}
                Next::Nothing => {
                    played.missing.push(format!("a delivery behind the repeat within {} s", PATIENCE.as_secs()));
                    return Ok(played);
                }
            }
        }
    }

    async fn receipt_of_repeat(
        &mut self,
        pending: &mut Pending,
        sent: Instant,
        first: Option<&LogId>,
        step: usize,
        played: &mut Played,
    ) -> Result<Option<Duration>, Problem> {
        loop {
            match self.scene.next(Some(pending), PATIENCE).await? {
                Next::Receipt { receipt: Receipt::Stored { log_id, .. }, at } if Some(&log_id) == first => {
                    let after = at.duration_since(sent);
                    let detail = format!("the log id of step {step} again: it is stored once");
                    self.teller.happened(Tone::Good, "answered", after, &detail)?;
                    played.log_id = Some(log_id);
                    played.answer = Some((Tone::Good, "same again".into()));
                    return Ok(Some(after));
                }
                Next::Receipt { receipt, .. } => {
                    played.missing.push(format!("the log id of step {step} again; the receipt says {receipt:?}"));
                    return Ok(None);
                }
                // Counted in the scene.
                Next::Attempt { attempt, .. } => attempt.complete(Done::silent()),
                Next::DeadLetter { .. } | Next::Status { .. } => {}
                Next::Nothing => {
                    played.missing.push(format!("a receipt for the repeat within {} s", PATIENCE.as_secs()));
                    return Ok(None);
                }
            }
        }
    }

    async fn refuse(&mut self, request: Request, expected: Code) -> Result<Played, Problem> {
        let mut played = Played::of(request);
        let (mut pending, sent) = self.send(request).await?;
        let mut is_kept = false;
        while played.answer.is_none() || !is_kept {
            let waits = played.answer.is_none().then_some(&mut pending);
            match self.scene.next(waits, PATIENCE).await? {
                Next::Receipt { receipt: Receipt::Refused { error_code, error, .. }, at } => {
                    let after = at.duration_since(sent);
                    self.teller.happened(Tone::Bad, "refused", after, &format!("with {error_code}"))?;
                    self.teller.quote(&error)?;
                    if error_code != expected.as_str() {
                        played.missing.push(format!("the refusal is {expected}, not {error_code}"));
                    }
                    played.answer = Some((Tone::Bad, error_code));
                }
                Next::DeadLetter { code, at, .. } => {
                    let detail = format!("in {}, whole, with its reason", self.scene.dead_letters());
                    self.teller.happened(Tone::Good, "kept", at.duration_since(sent), &detail)?;
                    if code != expected.as_str() {
                        played.missing.push(format!("the dead letter says {expected}, not {code}"));
                    }
                    is_kept = true;
                }
                Next::Receipt { receipt, .. } => {
                    played.missing.push(format!("a refusal; the receipt says {receipt:?}"));
                    return Ok(played);
                }
                Next::Attempt { attempt, .. } => {
                    played.missing.push(format!("no delivery; {attempt:?} came"));
                    return Ok(played);
                }
                Next::Status { .. } => {}
                Next::Nothing => {
                    played.missing.push(format!("receipt and dead letter within {} s", PATIENCE.as_secs()));
                    return Ok(played);
                }
            }
        }
        played.delivered = Err("no");
        Ok(played)
    }
}
