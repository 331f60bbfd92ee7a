//! A client for the tests, over plain HTTP.
//!
//! Not `reqwest`: the embedded broker's libraries switch on its TLS without giving it a provider, and it panics.

use std::future::Future;

use axum::http::{HeaderMap, Method, Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client as Hyper, Error};
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;

/// Asks.
#[derive(Clone)]
pub struct Client(Hyper<HttpConnector, Full<Bytes>>);

/// What came back.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Client {
    pub fn new() -> Client {
        Client(Hyper::builder(TokioExecutor::new()).build_http())
    }

    pub fn ask(&self, method: Method, url: String) -> impl Future<Output = Result<Answer, Error>> + Send + use<> {
        self.send(Request::builder().method(method).uri(url).body(Full::default()).unwrap())
    }

    /// Sends any request.
    pub fn send(&self, request: Request<Full<Bytes>>) -> impl Future<Output = Result<Answer, Error>> + Send + use<> {
        let http = self.0.clone();
        async move {
            let (head, body) = http.request(request).await?.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body })
        }
    }
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap()
    }
}
