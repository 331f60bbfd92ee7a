//! Errors as RFC 9457 tells them: `application/problem+json` with a stable code and whether asking again can help.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use wal_model::{Code, Refusal};

/// When to ask again, in seconds: a restart of the store takes about that long, and asking costs little.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// An answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    code: Code,
    detail: String,
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Problem {
        Problem { code, detail: detail.into() }
    }

    pub(crate) fn code(&self) -> Code {
        self.code
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    pub(crate) fn no_route(path: &str) -> Problem {
        Problem::new(Code::RouteUnknown, format!("nothing is at {path}; entries are at /v1/entries"))
    }

    pub(crate) fn wrong_method(method: &str, path: &str) -> Problem {
        Problem::new(Code::MethodNotAllowed, format!("{method} is not for {path}; the allow header says what is"))
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        Problem::new(refusal.code, refusal.message)
    }
}

impl From<wal_store::Error> for Problem {
    fn from(error: wal_store::Error) -> Problem {
        match error {
            wal_store::Error::Unavailable(_) | wal_store::Error::ReadOnly(_) => {
                tracing::warn!(%error, "an entry could not be read");
                Problem::new(Code::StoreUnavailable, error.to_string())
            }
            wal_store::Error::Corrupt(_) => {
                tracing::error!(%error, "an entry could not be read");
                Problem::new(Code::StoreCorrupt, error.to_string())
            }
        }
    }
}

/// The members of RFC 9457, and ours. Sent, keep stable.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: String,
    status: u16,
    detail: &'a str,
    code: &'a str,
    retryable: bool,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let code = self.code.as_str();
        let status = StatusCode::from_u16(self.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = Body {
            kind: format!("urn:wal:error:{code}"),
            title: title(code),
            status: status.as_u16(),
            detail: &self.detail,
            code,
            retryable: self.code.is_retryable(),
        };
        let body = serde_json::to_vec(&body).expect("a problem holds only text, a number and a yes or no");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}

/// The code in words: the same for every problem with that code, as RFC 9457 asks.
fn title(code: &str) -> String {
    let words = code.strip_prefix("WAL_").unwrap_or(code).replace('_', " ");
    let (first, rest) = words.split_at(words.len().min(1));
    first.to_owned() + &rest.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_an_http_status_and_a_title() {
        for code in Code::ALL {
            assert_eq!(Problem::new(*code, "").into_response().status().as_u16(), code.http_status());
            assert!(!title(code.as_str()).contains('_'));
        }
        assert_eq!(title("WAL_ENTRY_NOT_FOUND"), "Entry not found");
    }
}
