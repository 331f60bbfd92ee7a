//! The transport as `arangors` wants it.
//!
//! Its trait has a constructor without settings, its connection believes a header, and its errors are texts. Each of these is met here, so that
//! the transport itself knows nothing of it.

use arangors::ClientError;
use arangors::client::ClientExt;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};

use super::client::{Answer, Call, Client, Repeat};
use super::fault::{self, Class, Fault};

tokio::task_local! {
    /// What `ClientExt::new` makes a client of: it takes no settings, and is called by `arangors` itself.
    static LENT: Client;
}

/// A client in the hands of `arangors`.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    /// To be added to each request. Nothing is: credentials are the client's.
    headers: HeaderMap,
}

/// Runs what makes a session by `ClientExt::new`, so that it makes one of this client.
pub(super) async fn lend<T>(client: &Client, making: impl Future<Output = T>) -> T {
    LENT.scope(client.clone(), making).await
}

#[async_trait::async_trait]
impl ClientExt for Session {
    fn new<U: Into<Option<HeaderMap>>>(_: U) -> Result<Session, ClientError> {
        LENT.try_with(|client| Session { client: client.clone(), headers: HeaderMap::new() })
            .map_err(|_| ClientError::HttpClient("a client was made without settings".to_owned()))
    }

    fn headers(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    async fn request(&self, request: Request<String>) -> Result<Response<String>, ClientError> {
        if request.method() == Method::GET && request.uri().path() == "/" {
            return identify(&self.client).await;
        }
        let (parts, body) = request.into_parts();
        let repeat = if parts.method == Method::GET { Repeat::Harmless } else { Repeat::Telling };
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let call = Call { method: parts.method, path, body: Bytes::from(body), repeat, endpoint: None };
        into_response(self.client.answer(&call).await)
    }
}

/// Answers `arangors`, which asks the root who it is and believes a header that proxies change and servers can hide.
async fn identify(client: &Client) -> Result<Response<String>, ClientError> {
    let path = format!("/_db/{}/_api/version", client.database());
    let call = Call { method: Method::GET, path, body: Bytes::new(), repeat: Repeat::Harmless, endpoint: None };
    let mut response = into_response(client.answer(&call).await)?;
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
        | Class::ReadOnly
        | Class::CursorGone
        | Class::Damaged => 503,
    };
    let described = serde_json::json!({ "code": code, "errorNum": 0, "errorMessage": fault.said });
    match serde_json::from_value(described) {
        Ok(error) => ClientError::Arango(error),
        Err(error) => ClientError::Serde(error),
    }
}

#[cfg(test)]
mod tests;
