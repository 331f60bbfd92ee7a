//! Paths, and what holds for every request: a limit to how many there are, and to how long one takes.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::sync::Semaphore;
use wal_model::{Code, LogId};
use wal_store::EntryStore;

use crate::answer;
use crate::problem::Problem;
use crate::query;
use crate::view::{EntryView, PageView};

/// How long an answer may take, waiting for a place included. A store that needs longer is as good as unavailable, and the
/// client should know.
pub(crate) const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// Requests that are answered at the same time; more wait. It bounds memory, see [`crate::answer`].
pub(crate) const CONCURRENCY: usize = 32;

/// What holds for every request.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) request: Duration,
    pub(crate) concurrency: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { request: REQUEST_LIMIT, concurrency: CONCURRENCY }
    }
}

type Store = Arc<dyn EntryStore>;
type Parameters = Result<Query<Vec<(String, String)>>, QueryRejection>;

pub(crate) fn router(store: Store, limits: Limits) -> Router {
    let gate = Gate { places: Arc::new(Semaphore::new(limits.concurrency)), limit: limits.request };
    Router::new()
        .route("/v1/entries", get(many))
        .route("/v1/entries/{log_id}", get(one))
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(gate, through_the_gate))
        .with_state(store)
}

async fn one(
    State(store): State<Store>,
    log_id: Result<Path<String>, PathRejection>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let Path(log_id) = log_id.map_err(|rejection| Problem::new(Code::IdInvalid, rejection.body_text()))?;
    let log_id: LogId =
        log_id.parse().map_err(|error| Problem::new(Code::IdInvalid, format!("`{log_id}` is {error}")))?;
    let tenant = query::parse_one(pairs(parameters)?)?;
    match answer::one(&*store, &log_id, tenant.as_ref()).await? {
        Some(entry) => json(&EntryView::of(&entry)),
        None => Err(Problem::new(Code::EntryNotFound, format!("{log_id} is not in the log, or not yet"))),
    }
}

async fn many(State(store): State<Store>, parameters: Parameters) -> Result<Response, Problem> {
    let question = query::parse(pairs(parameters)?)?;
    let answer = answer::many(&*store, &question).await?;
    json(&PageView::of(&answer))
}

async fn no_route(uri: Uri) -> Problem {
    Problem::no_route(uri.path())
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::wrong_method(method.as_str(), uri.path())
}

fn pairs(parameters: Parameters) -> Result<Vec<(String, String)>, Problem> {
    let Query(pairs) = parameters.map_err(|rejection| Problem::new(Code::QueryInvalid, rejection.body_text()))?;
    Ok(pairs)
}

fn json(body: &impl Serialize) -> Result<Response, Problem> {
    let body = serde_json::to_vec(body).expect("every field is text, a number, or JSON that was read before");
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// Lets so many requests in at a time, each for so long.
#[derive(Clone)]
struct Gate {
    places: Arc<Semaphore>,
    limit: Duration,
}

async fn through_the_gate(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let answered = async {
        let _place = gate.places.acquire().await;
        next.run(request).await
    };
    let mut response = tokio::time::timeout(gate.limit, answered).await.unwrap_or_else(|_| {
        let detail = format!("the store gave no answer within {} s", gate.limit.as_secs_f64());
        Problem::new(Code::StoreUnavailable, detail).into_response()
    });
    // An entry's status changes; an answer from a cache would be an old one.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use wal_model::status::Event;
    use wal_model::{Entry, EntryKey, Timestamp};
    use wal_store::{After, Applied, Error, Inserted, Page, StoreId};

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

        async fn apply(&self, _: &[(EntryKey, Event)]) -> Result<Vec<Applied>, Error> {
            std::future::pending().await
        }

        async fn expired(&self, _: Timestamp, _: Option<(Timestamp, EntryKey)>, _: usize) -> Result<Vec<Entry>, Error> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn a_silent_store_holds_up_neither_a_request_nor_those_behind_it() {
        let limits = Limits { request: Duration::from_millis(50), concurrency: 1 };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/entries?namespace=orders&request_id=r", listener.local_addr().unwrap());
        let server = tokio::spawn(axum::serve(listener, router(Arc::new(Silent), limits)).into_future());
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
}
