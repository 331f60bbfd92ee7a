//! Paths, and what holds for every request: a limit to how many there are, and to how long one takes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, MatchedPath, Path, Query, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use tokio::sync::Semaphore;
use wal_model::{Clock as _, Code, Entry, LogId, SystemClock};
use wal_runtime::metrics::{self, Asked, Metrics};
use wal_runtime::transactions::PUBLISH_LIMIT;
use wal_store::EntryStore;

use crate::act::{self, CancelRound, Complete, Fail, Means, Retry};
use crate::config::Reach;
use crate::order::{Order, Told};
use crate::problem::Problem;
use crate::view::{EntryView, PageView};
use crate::{answer, query, rescue, stuck};

/// How long an answer may take, waiting for a place included. A store that needs longer is as good as unavailable, and the
/// client should know.
pub(crate) const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// How long writing may take: the store, what a rescue does before its last transaction, and that transaction.
pub(crate) const WRITE_LIMIT: Duration = PUBLISH_LIMIT.saturating_add(REQUEST_LIMIT).saturating_add(REQUEST_LIMIT);
/// Requests that are answered at the same time; more wait. It bounds memory, see [`crate::answer`].
pub(crate) const CONCURRENCY: usize = 32;
/// The longest request that is read, in bytes: far more than is kept of a result or an error.
const BODY_LIMIT: usize = 256 * 1024;

/// What stands for every path that there is not.
const NO_ROUTE: &str = "none";

/// What holds for every request.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) read: Duration,
    pub(crate) write: Duration,
    pub(crate) concurrency: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { read: REQUEST_LIMIT, write: WRITE_LIMIT, concurrency: CONCURRENCY }
    }
}

/// What every handler has.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn EntryStore>,
    /// `None` where there is only reading.
    pub(crate) means: Option<Means>,
    pub(crate) reach: Reach,
    pub(crate) metrics: Metrics,
}

pub(crate) type LogIdPath = Result<Path<String>, PathRejection>;
pub(crate) type Parameters = Result<Query<Vec<(String, String)>>, QueryRejection>;

pub(crate) fn router(shared: Shared, limits: Limits) -> Router {
    let places = Arc::new(Semaphore::new(limits.concurrency));
    let reading = Gate { places: Arc::clone(&places), limit: limits.read, side: Side::Reading };
    let writing = Gate { places, limit: limits.write, side: Side::Writing };
    let reads = Router::new()
        .route("/v1/entries", get(many))
        .route("/v1/entries/{log_id}", get(one))
        .route("/v1/stuck", get(stuck))
        .layer(middleware::from_fn_with_state(reading, through_the_gate));
    let writes = Router::new()
        .route("/v1/entries/{log_id}/complete", post(complete))
        .route("/v1/entries/{log_id}/fail", post(fail))
        .route("/v1/entries/{log_id}/retry", post(retry))
        .route("/v1/entries/{log_id}/cancel", post(cancel))
        .route("/v1/rescue", post(rescue))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn_with_state(writing, through_the_gate));
    reads
        .merge(writes)
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(shared.reach, for_us))
        .layer(middleware::from_fn_with_state(shared.metrics.clone(), counted))
        .with_state(shared)
}

async fn one(State(shared): State<Shared>, log_id: LogIdPath, parameters: Parameters) -> Result<Response, Problem> {
    json(StatusCode::OK, &EntryView::of(&shared.entry(log_id, parameters).await?))
}

async fn many(State(shared): State<Shared>, parameters: Parameters) -> Result<Response, Problem> {
    let question = query::parse(pairs(parameters)?)?;
    let answer = answer::many(&*shared.store, &question).await?;
    json(StatusCode::OK, &PageView::of(&answer))
}

async fn stuck(State(shared): State<Shared>, parameters: Parameters) -> Result<Response, Problem> {
    let question = stuck::parse(pairs(parameters)?)?;
    let now = shared.means.as_ref().map_or_else(|| SystemClock.now(), |means| means.clock.now());
    json(StatusCode::OK, &stuck::run(&*shared.store, &question, now).await?)
}

async fn complete(order: Order<Complete>) -> Result<Response, Problem> {
    json(StatusCode::ACCEPTED, &act::complete(&order.means, &order.entry, order.told).await?)
}

async fn fail(order: Order<Fail>) -> Result<Response, Problem> {
    json(StatusCode::ACCEPTED, &act::fail(&order.means, &order.entry, order.told).await?)
}

async fn retry(order: Order<Retry>) -> Result<Response, Problem> {
    json(StatusCode::ACCEPTED, &act::retry(&order.means, &order.entry, &order.told).await?)
}

async fn cancel(order: Order<CancelRound>) -> Result<Response, Problem> {
    json(StatusCode::ACCEPTED, &act::cancel(&order.means, &order.entry, &order.told).await?)
}

async fn rescue(State(shared): State<Shared>, uri: Uri, Told(told): Told<rescue::Wish>) -> Result<Response, Problem> {
    if uri.query().is_some() {
        return Err(Problem::new(
            Code::QueryInvalid,
            "there are no parameters; what a rescue is told stands in its body",
        ));
    }
    json(StatusCode::OK, &rescue::run(&*shared.store, shared.means()?, told).await?)
}

async fn no_route(uri: Uri) -> Problem {
    Problem::no_route(uri.path())
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::wrong_method(method.as_str(), uri.path())
}

impl Shared {
    pub(crate) fn means(&self) -> Result<&Means, Problem> {
        let only_reads = || Problem::new(Code::MethodNotAllowed, "this gateway only reads");
        self.means.as_ref().ok_or_else(only_reads)
    }

    /// The entry that a path names.
    pub(crate) async fn entry(&self, log_id: LogIdPath, parameters: Parameters) -> Result<Entry, Problem> {
        let Path(log_id) = log_id.map_err(|rejection| Problem::new(Code::IdInvalid, rejection.body_text()))?;
        let log_id: LogId =
            log_id.parse().map_err(|error| Problem::new(Code::IdInvalid, format!("`{log_id}` is {error}")))?;
        let tenant = query::parse_one(pairs(parameters)?)?;
        let missing = || Problem::new(Code::EntryNotFound, format!("{log_id} is not in the log, or not yet"));
        answer::one(&*self.store, &log_id, tenant.as_ref()).await?.ok_or_else(missing)
    }
}

fn pairs(parameters: Parameters) -> Result<Vec<(String, String)>, Problem> {
    let Query(pairs) = parameters.map_err(|rejection| Problem::new(Code::QueryInvalid, rejection.body_text()))?;
    Ok(pairs)
}

fn json(status: StatusCode, body: &impl Serialize) -> Result<Response, Problem> {
    let body = serde_json::to_vec(body).expect("every field is text, a number, or JSON that was read before");
    Ok((status, [(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// What cut-off requests were about.
#[derive(Clone, Copy)]
enum Side {
    Reading,
    Writing,
}

/// Lets so many requests in at a time, each for so long.
#[derive(Clone)]
struct Gate {
    places: Arc<Semaphore>,
    limit: Duration,
    side: Side,
}

async fn through_the_gate(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let answered = async {
        let _place = gate.places.acquire().await;
        next.run(request).await
    };
    tokio::time::timeout(gate.limit, answered).await.unwrap_or_else(|_| {
        let limit = gate.limit.as_secs_f64();
        let problem = match gate.side {
            Side::Reading => Problem::new(Code::StoreUnavailable, format!("the store gave no answer within {limit} s")),
            Side::Writing => Problem::new(Code::OutcomeUnknown, format!("there was no answer within {limit} s")),
        };
        problem.into_response()
    })
}

/// Counts what is asked, by the routes as they are declared: a path of somebody's making would be a series of its own.
async fn counted(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let route: Arc<str> = request.extensions().get::<MatchedPath>().map_or(NO_ROUTE, MatchedPath::as_str).into();
    let response = next.run(request).await;
    let https = metrics.https();
    https.durations.of(&metrics::Route { route: Arc::clone(&route) }).observe(begun.elapsed());
    https.requests.of(&Asked { route, status: response.status().as_u16() }).inc();
    response
}

/// Turns away what a page in a browser on this machine asks under a name of its own that leads here.
async fn for_us(State(reach): State<Reach>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut response = match reach {
        Reach::Loopback if !is_loopback(host) => {
            let detail = format!("`{host}` is not this machine; use 127.0.0.1 or localhost");
            Problem::new(Code::AccessDenied, detail).into_response()
        }
        Reach::Loopback | Reach::Anywhere => next.run(request).await,
    };
    // An entry's status changes; an answer from a cache would be an old one.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether a host, with a port or without, is this machine by number or by the name that cannot be given away.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let number = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || number.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use wal_model::ack::Ack;
    use wal_model::{Entry, EntryKey, Timestamp};
    use wal_store::{After, Applied, Error, Finished, Inserted, Page, StoreId};

    use axum::http::Method;

    use super::*;
    use crate::test_client::Client;

    /// A store that never answers.
    struct Silent;

    #[async_trait]
    impl EntryStore for Silent {
        fn id(&self) -> StoreId {
            StoreId(uuid::Uuid::nil())
        }

        async fn insert(&self, _: &[Entry]) -> Result<Vec<Inserted>, Error> {
            std::future::pending().await
        }

        async fn get(&self, _: &[EntryKey]) -> Result<Vec<Option<Entry>>, Error> {
            std::future::pending().await
        }

        async fn scan(&self, _: &wal_store::Query, _: Option<After>, _: usize) -> Result<Page, Error> {
            std::future::pending().await
        }

        async fn apply(&self, _: &[Ack]) -> Result<Vec<Applied>, Error> {
            std::future::pending().await
        }

        async fn expired(&self, _: Timestamp, _: Option<(Timestamp, EntryKey)>, _: usize) -> Result<Vec<Entry>, Error> {
            std::future::pending().await
        }

        async fn finished(
            &self,
            _: Timestamp,
            _: Option<(Timestamp, EntryKey)>,
            _: usize,
        ) -> Result<Vec<Finished>, Error> {
            std::future::pending().await
        }

        async fn remove(&self, _: &[EntryKey], _: Timestamp) -> Result<usize, Error> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn a_silent_store_holds_up_neither_a_request_nor_those_behind_it() {
        let limits = Limits { read: Duration::from_millis(50), write: Duration::from_millis(50), concurrency: 1 };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Shared { store: Arc::new(Silent), means: None, reach: Reach::Loopback, metrics: Metrics::new() };
        let url = format!("http://{}/v1/entries?namespace=orders&request_id=r", listener.local_addr().unwrap());
        let server = tokio::spawn(axum::serve(listener, router(shared, limits)).into_future());
        let client = Client::new();

        let (first, second) = tokio::join!(client.ask(Method::GET, url.clone()), client.ask(Method::GET, url));

        for answer in [first.unwrap(), second.unwrap()] {
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
            assert!(answer.headers.contains_key(header::RETRY_AFTER));
            let problem: serde_json::Value = answer.json();
            assert!(answer.text().contains("no answer within 0.05 s"), "{problem}");
        }
        server.abort();
    }

    #[test]
    fn only_this_machine_is_this_machine() {
        for host in ["127.0.0.1:8080", "127.8.0.1", "localhost", "LocalHost:1", "[::1]:8080", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["", "wal.example:8080", "127.0.0.1.example", "localhost.example", "10.0.0.1:8080", ":8080"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
