//! The steps of the demo, each played and checked while it is told.

use std::time::{Duration, Instant};

use wal_model::receipt::Receipt;
use wal_model::{Code, LogId};
use wal_sdk::Pending;

use super::scene::{Next, PATIENCE, Scene};
use super::script::{Action, Request, Step};
use super::teller::Teller;
use crate::paint::Tone;
use crate::problem::Problem;

/// What came of a step.
pub struct Played {
    /// The request that was sent.
    pub request: Request,
    /// The entry it made or met.
    pub log_id: Option<LogId>,
    /// What the answer was, where it was no new entry.
    pub answer: Option<(Tone, String)>,
    /// When the receipt said that it is durable.
    pub durable_after: Option<Duration>,
    /// When the delivery came; or why none did.
    pub delivered: Result<Duration, &'static str>,
    /// What was expected and did not happen.
    pub missing: Vec<String>,
}

impl Played {
    fn of(request: Request) -> Played {
        let (log_id, answer, durable_after, missing) = (None, None, None, Vec::new());
        Played { request, log_id, answer, durable_after, delivered: Err("-"), missing }
    }
}

/// The story so far.
pub struct Story<'a, 'b> {
    teller: &'a mut Teller<'b>,
    scene: &'a mut Scene,
    told: Vec<Played>,
}

impl<'a, 'b> Story<'a, 'b> {
    /// A story that has not begun.
    pub fn new(teller: &'a mut Teller<'b>, scene: &'a mut Scene) -> Story<'a, 'b> {
        Story { teller, scene, told: Vec::new() }
    }

    /// Plays the steps in order, up to the first of which something is missing.
    pub async fn tell(mut self, steps: &[Step]) -> Result<Vec<Played>, Problem> {
        for (at, step) in steps.iter().enumerate() {
            self.teller.begin(at, step)?;
            let played = match &step.action {
                Action::Write(request) => self.write(*request).await?,
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

    async fn send(&self, request: Request) -> Result<(Pending, Instant), Problem> {
        let detail = format!("sent to {} with key {}", self.scene.ingress(), request.key);
        self.teller.happened(Tone::Plain, "request", Duration::ZERO, &detail)?;
        let pending = self.scene.send(request.key, request.json).await?;
        let sent = pending.acked().queued_at;
        Ok((pending, sent))
    }

    async fn write(&mut self, request: Request) -> Result<Played, Problem> {
        let mut played = Played::of(request);
        let (mut pending, sent) = self.send(request).await?;
        let mut delivered_id = None;
        while played.log_id.is_none() || delivered_id.is_none() {
            let waits = played.log_id.is_none().then_some(&mut pending);
            match self.scene.next(waits, PATIENCE).await? {
                Next::Receipt { receipt: Receipt::Stored { log_id, .. }, at } => {
                    let after = at.duration_since(sent);
                    self.teller.happened(Tone::Good, "durable", after, "synced in the store, says the receipt, as")?;
                    self.teller.name(&log_id.to_string())?;
                    (played.log_id, played.durable_after) = (Some(log_id), Some(after));
                }
                Next::Receipt { receipt, .. } => {
                    played.missing.push(format!("{} is stored; the receipt says {receipt:?}", request.operation));
                    return Ok(played);
                }
                Next::Delivery { log_id, attempt, allowed, at } => {
                    let after = at.duration_since(sent);
                    let detail = format!("on {}, attempt {attempt} of {allowed}", request.target);
                    self.teller.happened(Tone::Good, "delivered", after, &detail)?;
                    played.delivered = Ok(after);
                    delivered_id = Some(log_id);
                }
                Next::DeadLetter { code, .. } => {
                    played.missing.push(format!("{} is delivered; it is a dead letter: {code}", request.operation));
                    return Ok(played);
                }
                Next::Nothing => {
                    let what = if played.log_id.is_none() { "a receipt for" } else { "the delivery of" };
                    played.missing.push(format!("{what} {} within {} s", request.operation, PATIENCE.as_secs()));
                    return Ok(played);
                }
            }
        }
        if played.log_id != delivered_id {
            played.missing.push(format!("the delivery of {} carries the log id of its receipt", request.operation));
        }
        Ok(played)
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
                Next::Delivery { log_id, .. } if Some(&log_id) == first.as_ref() => {}
                Next::Delivery { at, .. } => {
                    let copies = first.as_ref().map_or(0, |log_id| self.scene.copies(log_id));
                    if copies != 1 {
                        played.missing.push(format!("one copy on {}; there are {copies}", request.target));
                        return Ok(played);
                    }
                    let detail = "delivered: the next one with this key came, no copy before it";
                    self.teller.happened(Tone::Good, "not again", at.duration_since(sent), detail)?;
                    played.delivered = Err("not again");
                    return Ok(played);
                }
                Next::Receipt { .. } | Next::DeadLetter { .. } => {}
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
                Next::Delivery { .. } | Next::DeadLetter { .. } => {}
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
                Next::DeadLetter { code, at } => {
                    let detail = format!("in {}, whole, with its reason", self.scene.dead_requests());
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
                Next::Delivery { log_id, .. } => {
                    played.missing.push(format!("no delivery; {log_id} came"));
                    return Ok(played);
                }
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
