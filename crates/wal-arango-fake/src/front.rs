//! What every request passes before the API sees it, and every answer after: the log, the faults, the password, the queue.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::auth::Auth;
use crate::error::Error;
use crate::faults::{Action, Faults, Refusal};
use crate::http::{Reply, Request};
use crate::server::Logged;
use crate::store::{Store, Syncs};
use crate::{api, control};

pub(crate) struct Shared {
    state: Mutex<State>,
    work: Work,
}

pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) faults: Faults,
    pub(crate) auth: Auth,
    /// Until then every connection is closed.
    pub(crate) down_until: Option<Instant>,
    /// How often which method and target came.
    pub(crate) log: BTreeMap<(String, String), u64>,
}

/// How long an answer takes, and how many are worked on at once: for benchmarks.
pub(crate) struct Work {
    pub(crate) time: Duration,
    pub(crate) places: Option<Semaphore>,
}

/// How an answer leaves.
pub(crate) enum Departure {
    Whole(Reply),
    Half(Reply),
    /// The connection is closed instead.
    Dropped,
}

impl State {
    /// Restarts: unreachable for a while, then without cursors and tokens.
    pub(crate) fn go_down(&mut self, outage: Duration) {
        self.down_until = Some(Instant::now() + outage);
        self.store.forget_sessions();
        self.auth.forget_tokens();
    }

    pub(crate) fn requests(&self) -> Vec<Logged> {
        let entries = self.log.iter();
        entries
            .map(|((method, path), count)| Logged { method: method.clone(), path: path.clone(), count: *count })
            .collect()
    }
}

impl Shared {
    pub(crate) fn new(store: Store, auth: Auth, work: Work) -> Self {
        let state = State { store, faults: Faults::default(), auth, down_until: None, log: BTreeMap::new() };
        Self { state: Mutex::new(state), work }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A request that panicked has failed its test already; the others may go on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn handle(&self, mut request: Request) -> Departure {
        if request.segments.first().is_some_and(|first| first == "fake") {
            return Departure::Whole(control::answer(&mut self.state(), &request));
        }
        let fault = {
            let mut state = self.state();
            if state.down_until.is_some_and(|until| Instant::now() < until) {
                return Departure::Dropped;
            }
            *state.log.entry((request.method.to_string(), request.target.clone())).or_default() += 1;
            state.faults.hit(&request)
        };
        match &fault {
            Some(Action::DropBefore) => return Departure::Dropped,
            Some(Action::Refuse(refusal)) => return Departure::Whole(refused(refusal)),
            Some(Action::Elements(elements)) => request.elements = Some(elements.clone()),
            _ => {}
        }
        if let Some(delay) = fault.as_ref().and_then(Action::delay) {
            tokio::time::sleep(delay).await;
        }
        let started = Instant::now();
        let Some(place) = self.place(&request).await else {
            let error = Error::new(412, 21004, "queue time violated");
            return Departure::Whole(finished(Reply::error(&error), started.elapsed()));
        };
        let queued = started.elapsed();
        if !self.work.time.is_zero() {
            tokio::time::sleep(self.work.time).await;
        }
        let syncs = if fault == Some(Action::DropUnsynced) { Syncs::Suppressed } else { Syncs::AsAsked };
        let reply = finished(self.answer(&request, syncs), queued);
        drop(place);
        match fault {
            Some(Action::DropAfter | Action::DropUnsynced) => Departure::Dropped,
            Some(Action::HalfAnswer) => Departure::Half(reply),
            Some(Action::RefuseAfter(refusal)) => Departure::Whole(refused(&refusal)),
            _ => Departure::Whole(reply),
        }
    }

    /// A place to work at; none if the caller would rather not wait so long.
    async fn place(&self, request: &Request) -> Option<Option<SemaphorePermit<'_>>> {
        let Some(places) = &self.work.places else {
            return Some(None);
        };
        let patience = request.header("x-arango-queue-time-seconds").and_then(|seconds| seconds.parse().ok());
        let patience = patience.filter(|seconds: &f64| *seconds > 0.0).map(Duration::from_secs_f64);
        let place = async { places.acquire().await.expect("the places are never closed") };
        match patience {
            None => Some(Some(place.await)),
            Some(patience) => tokio::time::timeout(patience, place).await.ok().map(Some),
        }
    }

    fn answer(&self, request: &Request, syncs: Syncs) -> Reply {
        let mut state = self.state();
        if let Err(error) = state.auth.check(request) {
            return Reply::error(&error)
                .with_header("www-authenticate", "Bearer token_type=\"JWT\", realm=\"ArangoDB\"");
        }
        if request.route() == ("POST", vec!["_open", "auth"]) {
            return state.auth.open(request).unwrap_or_else(|error| Reply::error(&error));
        }
        state.store.syncs = syncs;
        let reply = api::answer(&mut state.store, request);
        state.store.syncs = Syncs::AsAsked;
        reply
    }
}

/// What every answer of the server carries.
fn finished(mut reply: Reply, queued: Duration) -> Reply {
    let queued = format!("{:.6}", queued.as_secs_f64());
    let usual =
        [("x-arango-queue-time-seconds", &*queued), ("server", "ArangoDB"), ("x-content-type-options", "nosniff")];
    for (name, value) in usual {
        if !reply.headers.iter().any(|(known, _)| known == name) {
            reply = reply.with_header(name, value);
        }
    }
    reply
}

/// An answer with a number is the server's own; one without may come from anywhere in between.
fn refused(refusal: &Refusal) -> Reply {
    let mut reply = refusal.reply();
    for (name, value) in &refusal.headers {
        reply.headers.push((name.to_ascii_lowercase().into(), value.clone()));
    }
    if refusal.error_num.is_some() { finished(reply, Duration::ZERO) } else { reply }
}
