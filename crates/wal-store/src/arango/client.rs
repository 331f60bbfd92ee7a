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
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arangors::ClientError;
use arangors::client::ClientExt;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
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

tokio::task_local! {
    /// What `ClientExt::new` makes a client of: it takes no settings, and is called by `arangors` itself.
    static MADE_WITH: Arc<Inner>;
}

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

/// A client for one deployment. Clones share everything.
#[derive(Clone)]
pub(super) struct Client {
    inner: Arc<Inner>,
    /// What `arangors` wants to add to each request; it adds nothing, since credentials are ours.
    headers: HeaderMap,
}

struct Inner {
    http: reqwest::Client,
    endpoints: Vec<Url>,
    /// The endpoint that answered last.
    current: AtomicUsize,
    credentials: Credentials,
    limit: Limit,
    request_timeout: Duration,
    answer_max: usize,
    /// Where a server is asked for its version: not everybody may ask in `_system`.
    database: String,
}

impl Client {
    pub(super) fn new(options: &Options) -> Result<Client, Unusable> {
        let endpoints = options.check()?;
        let mut http = reqwest::Client::builder()
            // Other crates of a program may switch on another TLS for all of it.
            .use_rustls_tls()
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
            request_timeout: options.request_timeout,
            answer_max: ANSWER_MAX,
            database: options.database.clone(),
        };
        Ok(Client { inner: Arc::new(inner), headers: HeaderMap::new() })
    }

    /// Runs what makes a client by `ClientExt::new`, so that it makes one like this.
    pub(super) async fn lend<T>(&self, making: impl Future<Output = T>) -> T {
        MADE_WITH.scope(Arc::clone(&self.inner), making).await
    }

    /// Makes a request; an answer that is no success is a fault.
    pub(super) async fn call(&self, call: &Call) -> Result<Answer, Fault> {
        let answer = self.answer(call).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(fault::of_answer(answer.status, &answer.body)) }
    }

    /// Makes a request when it is its turn; any answer is one.
    async fn answer(&self, call: &Call) -> Result<Answer, Fault> {
        let inner = &self.inner;
        let permit = inner.limit.enter(inner.request_timeout).await?;
        let answer = inner.over_endpoints(call).await;
        inner.limit.leave(permit, answer.as_ref().map_or(Load::Unknown, |answer| answer.load));
        answer
    }

    /// Answers `arangors`, which asks the root who it is and believes a header that proxies change and servers can hide.
    async fn identify(&self) -> Result<Response<String>, ClientError> {
        let path = format!("/_db/{}/_api/version", self.inner.database);
        let call = Call { method: Method::GET, path, body: Bytes::new(), repeat: Repeat::Harmless, endpoint: None };
        let mut response = into_response(self.answer(&call).await)?;
        let is_arango = response.status().is_success() && response.body().contains("\"arango\"");
        // An unknown database is for whoever wants that database to tell.
        if is_arango || fault::Described::read(response.body().as_bytes()).is_some_and(|told| told.number == 1228) {
            response.headers_mut().insert(header::SERVER, HeaderValue::from_static("ArangoDB"));
            return Ok(response);
        }
        if response.status().is_success() {
            return Err(ClientError::InvalidServer(response.body().clone()));
        }
        Err(described(fault::of_answer(response.status(), response.body().as_bytes())))
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
            let may_go_on;
            (last, may_go_on) = match self.proven(at, call).await {
                Ok(answer) => {
                    let is_for_others = is_for_others(&answer, call.repeat);
                    (Ok(answer), is_for_others)
                }
                Err(Silence::Unsent(why)) => {
                    (Err(Fault::new(Class::Unavailable, format!("{}: {why}", self.endpoints[at]))), true)
                }
                Err(Silence::Refused(fault)) => (Err(fault), false),
                Err(Silence::Unclear(fault)) => (Err(fault), call.repeat == Repeat::Harmless),
            };
            if !may_go_on {
                break;
            }
            if count > 1 {
                warn!(endpoint = %self.endpoints[at], "another endpoint is asked: this one does not answer");
            }
            // Only the first to notice moves on; the others would skip endpoints.
            let next = (at + 1) % count;
            let _ = self.current.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
        }
        last
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

#[async_trait::async_trait]
impl ClientExt for Client {
    fn new<U: Into<Option<HeaderMap>>>(_: U) -> Result<Client, ClientError> {
        MADE_WITH
            .try_with(|inner| Client { inner: Arc::clone(inner), headers: HeaderMap::new() })
            .map_err(|_| ClientError::HttpClient("a client was made without settings".to_owned()))
    }

    fn headers(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    async fn request(&self, request: Request<String>) -> Result<Response<String>, ClientError> {
        if request.method() == Method::GET && request.uri().path() == "/" {
            return self.identify().await;
        }
        let (parts, body) = request.into_parts();
        let repeat = if parts.method == Method::GET { Repeat::Harmless } else { Repeat::Telling };
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let call = Call { method: parts.method, path, body: Bytes::from(body), repeat, endpoint: None };
        into_response(self.answer(&call).await)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints: Vec<&str> = self.inner.endpoints.iter().map(Url::as_str).collect();
        f.debug_struct("Client").field("endpoints", &endpoints).finish_non_exhaustive()
    }
}

/// An answer as `arangors` takes it: a failure that ArangoDB did not describe is described in its manner, or it would be taken for
/// JSON that is cut off.
fn into_response(answer: Result<Answer, Fault>) -> Result<Response<String>, ClientError> {
    let answer = answer.map_err(described)?;
    let (status, is_described) = (answer.status, fault::Described::read(&answer.body).is_some());
    let body = if status.is_success() || is_described {
        String::from_utf8_lossy(&answer.body).into_owned()
    } else {
        let said = fault::of_answer(status, &answer.body).said;
        let described = serde_json::json!({
            "error": true, "code": status.as_u16(), "errorNum": 0, "errorMessage": said,
        });
        described.to_string()
    };
    Response::builder().status(status).body(body).map_err(|error| ClientError::HttpClient(error.to_string()))
}

/// A fault as `arangors` hands it on, such that its class can be told again: its other errors are mere text.
fn described(fault: Fault) -> ClientError {
    let code: u16 = match fault.class {
        Class::Unauthorised => 401,
        Class::Misconfigured => 403,
        Class::TooLarge => 413,
        Class::Busy => 429,
        Class::Duplicate
        | Class::Conflict
        | Class::Missing
        | Class::Refused
        | Class::Unavailable
        | Class::CursorGone
        | Class::Damaged => 503,
    };
    let described = serde_json::json!({ "code": code, "errorNum": 0, "errorMessage": fault.said });
    match serde_json::from_value(described) {
        Ok(error) => ClientError::Arango(error),
        Err(error) => ClientError::Serde(error),
    }
}

/// Whether another endpoint may do what this one did not.
fn is_for_others(answer: &Answer, repeat: Repeat) -> bool {
    if answer.status.is_success() || answer.status == StatusCode::UNAUTHORIZED {
        return false;
    }
    let is_down = answer.status == StatusCode::SERVICE_UNAVAILABLE;
    fault::is_undone(answer.status, &answer.body) || (is_down && repeat == Repeat::Harmless)
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
