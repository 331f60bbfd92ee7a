//! The gateway as the commands see it: questions over HTTP, answers as they were sent, errors with their code.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use url::Url;
use wal_model::{Code, LogId, Tenant};

use crate::problem::{Exit, Problem};

/// Longer than the gateway itself lets an answer take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The same where something is to be done: the gateway waits for the brokers.
const POST_TIMEOUT: Duration = Duration::from_secs(60);
/// Far more than a page of the gateway; what is larger comes from something else.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;

const HARMLESS: &str = "the same again: doing it twice does no harm";

/// A gateway to ask. (Not `reqwest`: the embedded broker's libraries switch on its TLS without giving it a provider, and it panics.)
#[derive(Clone, Debug)]
pub struct Gateway {
    base: Url,
    http: Client<HttpConnector, Full<Bytes>>,
}

/// Some entries, each as it was sent, and where the next ones begin.
#[derive(Debug, Deserialize)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Box<RawValue>>,
    /// What to ask for the next page with.
    pub next_page_token: Option<String>,
}

/// What the gateway says of an error, RFC 9457.
#[derive(Deserialize)]
struct ProblemDetails {
    detail: String,
    code: String,
}

impl Gateway {
    /// The gateway at `http://host:port`; a bare `host:port` will do.
    pub fn at(address: &str) -> Result<Gateway, Problem> {
        let full = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        match Url::parse(&full) {
            Ok(base) if base.scheme() == "http" && base.has_host() => {
                Ok(Gateway { base, http: Client::builder(TokioExecutor::new()).build_http() })
            }
            Ok(_) | Err(_) => Err(Problem::usage(format!("read the gateway's address `{address}`"))
                .hint("such as http://127.0.0.1:8080; there is no https until the gateway has it")),
        }
    }

    /// One entry; `None` if it is not there (yet).
    pub async fn entry(&self, log_id: &LogId, tenant: Option<&Tenant>) -> Result<Option<Box<RawValue>>, Problem> {
        let query: Vec<_> = tenant.map(|tenant| ("tenant", tenant.as_str())).into_iter().collect();
        self.get(&format!("/v1/entries/{log_id}"), &query).await
    }

    /// A page of entries.
    pub async fn entries(&self, query: &[(&str, &str)]) -> Result<Page, Problem> {
        let page = self.get("/v1/entries", query).await?;
        Ok(page.unwrap_or(Page { entries: Vec::new(), next_page_token: None }))
    }

    /// Asks for something to be done.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, told: &impl Serialize) -> Result<T, Problem> {
        let body = serde_json::to_vec(told).map_err(|error| Problem::of(Exit::Failed, "WAL_FAILED", &error))?;
        let request = Request::post(self.uri(path, &[])).header(CONTENT_TYPE, "application/json");
        let (status, body) = self.answer(request, Full::from(body), POST_TIMEOUT).await?;
        if status.is_success() { self.read(&body) } else { Err(self.problem(status, &body)) }
    }

    /// Asks; `None` where there is no such entry.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<Option<T>, Problem> {
        let (status, body) = self.answer(Request::get(self.uri(path, query)), Full::default(), TIMEOUT).await?;
        if status.is_success() {
            return self.read(&body).map(Some);
        }
        match self.problem(status, &body) {
            problem if problem.exit() == Exit::NotFound => Ok(None),
            problem => Err(problem),
        }
    }

    /// Asks a probe: whether the answer is yes, and its words.
    pub async fn probe(&self, path: &str) -> Result<(bool, Bytes), Problem> {
        let (status, body) = self.answer(Request::get(self.uri(path, &[])), Full::default(), TIMEOUT).await?;
        match status {
            StatusCode::OK => Ok((true, body)),
            StatusCode::SERVICE_UNAVAILABLE => Ok((false, body)),
            other => Err(self.not_a_gateway(&format!("it answered {other}"))),
        }
    }

    fn uri(&self, path: &str, query: &[(&str, &str)]) -> String {
        let mut url = self.base.clone();
        url.set_path(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url.into()
    }

    async fn answer(
        &self,
        request: http::request::Builder,
        body: Full<Bytes>,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), Problem> {
        let request = request.body(body).map_err(|error| Problem::of(Exit::Failed, "WAL_FAILED", &error))?;
        let is_question = request.method() == Method::GET;
        let cut_off = |error: &(dyn std::error::Error + 'static)| match is_question {
            true => self.unreachable(error),
            false => self.unknown(error),
        };
        let answer = async {
            let response = self.http.request(request).await.map_err(|error| match error.is_connect() {
                true => self.unreachable(&error),
                false => cut_off(&error),
            })?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
            Ok((status, body.map_err(|error| cut_off(&*error))?.to_bytes()))
        };
        tokio::time::timeout(limit, answer).await.unwrap_or_else(|elapsed| Err(cut_off(&elapsed)))
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Problem> {
        serde_json::from_slice(body).map_err(|error| self.not_a_gateway(&error.to_string()))
    }

    fn problem(&self, status: StatusCode, body: &[u8]) -> Problem {
        match serde_json::from_slice::<ProblemDetails>(body) {
            Ok(details) => refused(details),
            Err(_) => self.not_a_gateway(&format!("it answered {status}")),
        }
    }

    fn place(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    fn unreachable(&self, error: &(dyn std::error::Error + 'static)) -> Problem {
        let what = format!("ask the gateway at {}", self.place());
        let hint = "start `wal dev`, or say where the gateway is: --gateway http://host:port";
        // The outermost words only say that sending failed; what they rest on says why.
        Problem::new(Exit::Failed, "WAL_GATEWAY_UNREACHABLE", what).because(error.source().unwrap_or(error)).hint(hint)
    }

    /// It was asked to do something and was not heard of again.
    fn unknown(&self, error: &(dyn std::error::Error + 'static)) -> Problem {
        let what = format!("hear from the gateway at {} whether it is done", self.place());
        let problem = Problem::new(Exit::Unknown, Code::OutcomeUnknown.as_str(), what);
        problem.because(error.source().unwrap_or(error)).hint(HARMLESS)
    }

    fn not_a_gateway(&self, why: &str) -> Problem {
        let what = format!("understand what answers at {}: {why}", self.place());
        Problem::new(Exit::Failed, "WAL_GATEWAY_UNREACHABLE", what).hint("is that the gateway? See --gateway")
    }
}

fn refused(details: ProblemDetails) -> Problem {
    let code = Code::parse(&details.code);
    let exit = match code {
        Some(Code::QueryInvalid | Code::IdInvalid | Code::InvalidRequest | Code::InvalidJson) => Exit::Usage,
        Some(Code::EntryNotFound) => Exit::NotFound,
        Some(Code::EntryFinished | Code::AttemptAnswered) => Exit::TooLate,
        Some(Code::OutcomeUnknown) => Exit::Unknown,
        _ => Exit::Failed,
    };
    let problem = Problem::new(exit, details.code, format!("get it done by the gateway: {}", details.detail));
    match code {
        Some(Code::EntryNotFound) => problem.hint("not found means not yet: ask again, if it was written just now"),
        Some(Code::EntryFinished | Code::AttemptAnswered | Code::AttemptNotDue | Code::AttemptInvalid) => {
            problem.hint("`wal entry show LOG_ID` draws what happened to it and what comes next")
        }
        Some(Code::OutcomeUnknown) => problem.hint(HARMLESS),
        Some(code) if code.is_retryable() => problem.hint("the same again, a little later"),
        Some(_) | None => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_people_write_them() {
        let of = |address: &str| Gateway::at(address).map(|gateway| gateway.base.to_string());
        assert_eq!(of("127.0.0.1:8080").unwrap(), "http://127.0.0.1:8080/");
        assert_eq!(of("http://gateway:1/").unwrap(), "http://gateway:1/");
        for wrong in ["http://", "https://gateway", "ftp://x", ""] {
            assert_eq!(of(wrong).unwrap_err().exit(), Exit::Usage, "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_gateway_that_is_not_there_is_named() {
        // A port that was free a moment ago and that nobody is told of.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let problem = Gateway::at(&free.to_string()).unwrap().entries(&[]).await.unwrap_err();
        assert!(problem.json().contains("WAL_GATEWAY_UNREACHABLE"), "{}", problem.json());
        assert!(problem.json().contains(&free.to_string()));
    }
}
