//! What a request that changes something is made of: the entry it is about, and what it is told, as JSON.

use axum::RequestExt as _;
use axum::extract::{FromRequest, FromRequestParts as _, Path, Query, Request};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use serde::de::{DeserializeOwned, IgnoredAny};
use wal_model::{Code, Entry};

use crate::act::Means;
use crate::problem::Problem;
use crate::routes::Shared;

/// Something to be done about an entry.
pub(crate) struct Order<T> {
    pub(crate) means: Means,
    pub(crate) entry: Entry,
    pub(crate) told: T,
}

/// What a request is told in its body.
pub(crate) struct Told<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequest<Shared> for Order<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, shared: &Shared) -> Result<Order<T>, Problem> {
        let means = shared.means()?.clone();
        let (mut parts, body) = request.into_parts();
        let log_id = Path::from_request_parts(&mut parts, shared).await;
        let parameters = Query::from_request_parts(&mut parts, shared).await;
        let Told(told) = Told::from_request(Request::from_parts(parts, body), shared).await?;
        Ok(Order { means, entry: shared.entry(log_id, parameters).await?, told })
    }
}

impl<T: DeserializeOwned> FromRequest<Shared> for Told<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Shared) -> Result<Told<T>, Problem> {
        check_media_type(request.headers())?;
        let body: Bytes = request.extract().await.map_err(|rejection: axum::extract::rejection::BytesRejection| {
            let is_too_large = rejection.status() == StatusCode::PAYLOAD_TOO_LARGE;
            let code = if is_too_large { Code::PayloadTooLarge } else { Code::InvalidRequest };
            Problem::new(code, rejection.body_text())
        })?;
        read(&body).map(Told)
    }
}

/// A page in somebody's browser can send anything but JSON here without asking first.
fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem::new(Code::InvalidRequest, "the header `content-type: application/json` is missing"))
}

/// An empty body is an empty object.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let text = if body.is_empty() { b"{}" } else { body };
    // serde reads an array as a struct by position, too; a request is never meant so.
    if text.trim_ascii_start().first() != Some(&b'{') && serde_json::from_slice::<IgnoredAny>(text).is_ok() {
        return Err(Problem::new(Code::InvalidRequest, "the request is JSON, but no object"));
    }
    serde_json::from_slice(text).map_err(|error| {
        let code = if error.is_data() { Code::InvalidRequest } else { Code::InvalidJson };
        Problem::new(code, error.to_string())
    })
}
