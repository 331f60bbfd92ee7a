//! The transport below `arangors`: TLS, time limits, several endpoints, credentials, a bound on requests, and faults with a class.
//!
//! ```text
//!   arangors ── ClientExt::request ──┐
//!                                    ▼
//!   ours ────── Client::call ──▶ a turn (limit) ──▶ endpoint ──▶ answer
//!                                                     │ unsent, undone, or harmless to repeat
//!                                                     └──▶ next endpoint
//! ```
//!
//! Every endpoint is tried once. Waiting and trying again is the caller's: [`crate::Patient`] does it for services.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use tokio::time::Instant;
use tracing::warn;
use url::Url;

use super::credentials::{self, Credentials, Proof};
use super::fault::{self, Class, Fault};
use super::limit::{Limit, Load};
use super::options::{Options, Unusable};

/// How long a request waited in the database's queue; in a request, how long it may. Seconds.
const QUEUE_TIME: &str = "x-arango-queue-time-seconds";

/// Kept idle this long at most: the database closes what was idle for 300 s, and a request on a connection that is being closed is lost.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// The longest answer that is taken. Pages are asked for in batches that stay far below.
const ANSWER_MAX: usize = 512 * 1024 * 1024;

/// Whether a request may be made again when it is not known what became of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Twice is as good as once.
    Harmless,
    /// The caller must learn that it may have happened.
    Telling,
}

/// One request.
pub(super) struct Call {
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: String,
    pub(super) body: Bytes,
    pub(super) repeat: Repeat,
    /// The only endpoint that can answer, where it is not any.
    pub(super) endpoint: Option<usize>,
}

/// An answer, whatever its status.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    /// Which endpoint gave it.
    pub(super) endpoint: usize,
    load: Load,
}

/// Why there is no answer.
enum Silence {
    /// Nothing of the request has left.
    Unsent(String),
    /// Nothing of it has left, since we are not let in: nor would we be elsewhere.
    Refused(Fault),
    /// It may have been done.
    Unclear(Fault),
}

/// Where to ask next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Here: it answers.
    Stay,
    /// Elsewhere, but not this: it may have been done.
    Leave,
    /// Elsewhere, this too.
    GoOn,
}

/// A client for one deployment. Clones share everything.
#[derive(Clone)]
pub(super) struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    http: reqwest::Client,
    endpoints: Vec<Url>,
    /// The endpoint that answered last.
    current: AtomicUsize,
    credentials: Credentials,
    limit: Limit,
    /// How often a server was asked anything.
    requests: AtomicU64,
    request_timeout: Duration,
    answer_max: usize,
    /// Where a server is asked for its version: not everybody may ask in `_system`.
    database: String,
}

impl Client {
    pub(super) fn new(options: &Options) -> Result<Client, Unusable> {
        let endpoints = options.check()?;
        let mut http = reqwest::Client::builder()
            // Other crates of a program may switch on another TLS, and HTTP/2, for all of it.
            .use_rustls_tls()
            .http1_only()
            .connect_timeout(options.connect_timeout)
            .timeout(options.request_timeout)
            .pool_idle_timeout(IDLE_MAX)
            .redirect(reqwest::redirect::Policy::none())
            // Settings are handed in; a proxy for the web is none for the database.
            .no_proxy();
        for certificate in certificates(options.trusted.as_deref())? {
            http = http.add_root_certificate(certificate);
        }
        let http = http.build().map_err(|error| Unusable(format!("no HTTP client: {}", chain(&error))))?;
        let inner = Inner {
            http,
            endpoints,
            current: AtomicUsize::new(0),
            credentials: Credentials::new(options.login.clone()),
            limit: Limit::new(options.concurrency),
            requests: AtomicU64::new(0),
            request_timeout: options.request_timeout,
            answer_max: ANSWER_MAX,
            database: options.database.clone(),
        };
        Ok(Client { inner: Arc::new(inner) })
    }

    /// The database.
    pub(super) fn database(&self) -> &str {
        &self.inner.database
    }

    /// How often a server was asked anything.
    pub(super) fn requests(&self) -> u64 {
        self.inner.requests.load(Ordering::Relaxed)
    }

    /// Makes a request; an answer that is no success is a fault.
    pub(super) async fn call(&self, call: &Call) -> Result<Answer, Fault> {
        let answer = self.answer(call).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(fault::of_answer(answer.status, &answer.body)) }
    }

    /// Makes a request when it is its turn; any answer is one.
    pub(super) async fn answer(&self, call: &Call) -> Result<Answer, Fault> {
        let inner = &self.inner;
        let permit = inner.limit.enter(inner.request_timeout).await?;
        let answer = inner.over_endpoints(call).await;
        inner.limit.leave(permit, answer.as_ref().map_or(Load::Unknown, |answer| answer.load));
        answer
    }
}

impl Inner {
    async fn over_endpoints(&self, call: &Call) -> Result<Answer, Fault> {
        let count = self.endpoints.len();
        let first = call.endpoint.unwrap_or_else(|| self.current.load(Ordering::Relaxed)) % count;
        let tries = if call.endpoint.is_some() { 1 } else { count };
        let mut last = Err(Fault::new(Class::Unavailable, "no endpoint was asked"));
        for turn in 0..tries {
            let at = (first + turn) % count;
            let next;
            (last, next) = self.turn(at, call).await;
            match next {
                Next::Stay => break,
                Next::Leave | Next::GoOn if count > 1 => {
                    warn!(endpoint = %self.endpoints[at], "this endpoint does not answer, others are asked from now on");
                    // Only the first to notice moves on; the others would skip endpoints.
                    let other = (at + 1) % count;
                    let _ = self.current.compare_exchange(at, other, Ordering::Relaxed, Ordering::Relaxed);
                }
                Next::Leave | Next::GoOn => {}
            }
            if next == Next::Leave {
                break;
            }
        }
        last
    }

    /// Asks one endpoint, and tells where to ask next.
    async fn turn(&self, at: usize, call: &Call) -> (Result<Answer, Fault>, Next) {
        let unless_it_may_be_done = match call.repeat {
            Repeat::Harmless => Next::GoOn,
            Repeat::Telling => Next::Leave,
        };
        match self.proven(at, call).await {
            Ok(answer) => {
                let next = match answer.status {
                    status if status.is_success() || status == StatusCode::UNAUTHORIZED => Next::Stay,
                    status if fault::is_undone(status, &answer.body) => Next::GoOn,
                    StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
                        unless_it_may_be_done
                    }
                    _ => Next::Stay,
                };
                (Ok(answer), next)
            }
            Err(Silence::Unsent(why)) => {
                (Err(Fault::new(Class::Unavailable, format!("{}: {why}", self.endpoints[at]))), Next::GoOn)
            }
            Err(Silence::Refused(fault)) => (Err(fault), Next::Stay),
            // An answer that is too long is so everywhere.
            Err(Silence::Unclear(fault)) if fault.class == Class::TooLarge => (Err(fault), Next::Stay),
            Err(Silence::Unclear(fault)) => (Err(fault), unless_it_may_be_done),
        }
    }

    /// Asks with credentials; once more with a new token where the token was refused.
    async fn proven(&self, at: usize, call: &Call) -> Result<Answer, Silence> {
        let proof = match self.credentials.proof(Instant::now()) {
            Proof::Wanting => self.log_in(at).await?,
            proof => proof,
        };
        let answer = self.ask(at, call, &proof).await?;
        match proof {
            Proof::Token(token) if answer.status == StatusCode::UNAUTHORIZED => {
                self.credentials.refuse(&token);
                let proof = self.log_in(at).await?;
                self.ask(at, call, &proof).await
            }
            Proof::None | Proof::Fixed(_) | Proof::Token(_) | Proof::Wanting => Ok(answer),
        }
    }

    /// Whatever goes wrong here, the request itself has not left.
    async fn log_in(&self, at: usize) -> Result<Proof, Silence> {
        let call = Call {
            method: Method::POST,
            path: credentials::PATH.to_owned(),
            body: self.credentials.request(),
            repeat: Repeat::Harmless,
            endpoint: None,
        };
        let answer = match self.ask(at, &call, &Proof::None).await {
            Ok(answer) => answer,
            Err(Silence::Unclear(fault)) => return Err(Silence::Unsent(format!("log in: {}", fault.said))),
            Err(silence @ (Silence::Unsent(_) | Silence::Refused(_))) => return Err(silence),
        };
        if !answer.status.is_success() {
            let fault = fault::of_answer(answer.status, &answer.body);
            let said = format!("log in: {}", fault.said);
            let is_final = matches!(fault.class, Class::Unauthorised | Class::Misconfigured);
            return Err(if is_final { Silence::Refused(Fault::new(fault.class, said)) } else { Silence::Unsent(said) });
        }
        self.credentials.keep(&answer.body, Instant::now()).map_err(Silence::Refused)
    }

    async fn ask(&self, at: usize, call: &Call, proof: &Proof) -> Result<Answer, Silence> {
        let url = self.endpoints[at].join(&call.path).map_err(|error| Silence::Unsent(error.to_string()))?;
        let mut request = self.http.request(call.method.clone(), url);
        if call.method != Method::GET {
            // In one piece, so that it has a Content-Length: the database refuses chunks.
            request = request.header(header::CONTENT_TYPE, "application/json").body(call.body.clone());
        }
        if let Some(header) = proof.header() {
            request = request.header(header::AUTHORIZATION, header);
        }
        // Who has given up should not be served: it would only lengthen the queue.
        request = request.header(QUEUE_TIME, self.request_timeout.as_secs().max(1));
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut response = request.send().await.map_err(|error| self.silence(at, error))?;
        let (status, load) = (response.status(), load(response.headers()));
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.silence(at, error))? {
            if body.len() + chunk.len() > self.answer_max {
                let said = format!("an answer of more than {} bytes", self.answer_max);
                return Err(Silence::Unclear(Fault::new(Class::TooLarge, said)));
            }
            body.extend_from_slice(&chunk);
        }
        let is_refused = !status.is_success() && fault::of_answer(status, &body).class == Class::Busy;
        let load = if is_refused { Load::Refused } else { load };
        Ok(Answer { status, body: Bytes::from(body), endpoint: at, load })
    }

    fn silence(&self, at: usize, error: reqwest::Error) -> Silence {
        let (is_unsent, said) = (error.is_connect() || error.is_builder(), chain(&error.without_url()));
        if is_unsent {
            return Silence::Unsent(said);
        }
        Silence::Unclear(Fault::new(Class::Unavailable, format!("{}: {said}", self.endpoints[at])))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints: Vec<&str> = self.inner.endpoints.iter().map(Url::as_str).collect();
        f.debug_struct("Client").field("endpoints", &endpoints).finish_non_exhaustive()
    }
}

fn certificates(pem: Option<&[u8]>) -> Result<Vec<reqwest::Certificate>, Unusable> {
    let Some(pem) = pem else { return Ok(Vec::new()) };
    match reqwest::Certificate::from_pem_bundle(pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(Unusable("what should be trusted holds no certificate in PEM".to_owned())),
        Err(error) => Err(Unusable(format!("what should be trusted is no PEM: {}", chain(&error)))),
    }
}

fn load(headers: &HeaderMap) -> Load {
    let seconds = headers.get(QUEUE_TIME).and_then(|value| value.to_str().ok()?.parse::<f64>().ok());
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).map_or(Load::Unknown, Load::Queued)
}

/// An error with its causes: reqwest's own text says only that a request failed.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    fault::brief(&text)
}

#[cfg(test)]
mod tests;
