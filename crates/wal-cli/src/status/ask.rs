//! One service, asked how it is doing.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use url::Url;
use wal_runtime::health::STATUS;
use wal_runtime::overview::Overview;

use crate::problem::Problem;

/// A little longer than a service itself waits for its store.
const LIMIT: Duration = Duration::from_secs(4);
/// Far more than any service says; what is larger comes from something else.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// Where a service answers probes.
#[derive(Debug)]
pub struct Endpoint {
    place: String,
    url: String,
    http: Client<HttpConnector, Full<Bytes>>,
}

impl Endpoint {
    /// The one at `host:port`, or at `http://host:port`.
    pub fn parse(text: &str) -> Result<Endpoint, Problem> {
        let place = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        match Url::parse(&format!("http://{place}")) {
            Ok(mut url) if url.port().is_some() && url.path() == "/" => {
                url.set_path(STATUS);
                let http = Client::builder(TokioExecutor::new()).build_http();
                Ok(Endpoint { place: place.to_owned(), url: url.into(), http })
            }
            Ok(_) | Err(_) => Err(Problem::usage(format!("read the place of a service's probes, `{text}`"))
                .hint("host:port, such as 127.0.0.1:9464")),
        }
    }

    /// Where it is, as it was named.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// How it is doing; or why nobody can tell.
    pub async fn ask(&self) -> Result<Overview, String> {
        let answer = tokio::time::timeout(LIMIT, self.answer()).await;
        let (status, body) = answer.unwrap_or_else(|_| Err(format!("no answer within {LIMIT:?}")))?;
        match status {
            StatusCode::OK => {
                serde_json::from_slice(&body).map_err(|error| format!("its answer makes no sense: {error}"))
            }
            other => Err(format!("it answers {other}: no service of this version")),
        }
    }

    async fn answer(&self) -> Result<(StatusCode, Bytes), String> {
        let request = http::Request::get(&self.url).body(Full::default()).map_err(|error| error.to_string())?;
        let response = self.http.request(request).await.map_err(|error| innermost(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
        Ok((status, body.map_err(|error| innermost(&*error))?.to_bytes()))
    }
}

/// The outer words only say that asking failed.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::problem::Exit;

    #[test]
    fn places_are_taken_as_people_write_them() {
        let of = |text: &str| Endpoint::parse(text).map(|endpoint| (endpoint.place, endpoint.url));
        let local = || ("127.0.0.1:9464".to_owned(), "http://127.0.0.1:9464/status".to_owned());
        assert_eq!(of("127.0.0.1:9464").unwrap(), local());
        assert_eq!(of("http://127.0.0.1:9464/").unwrap(), local());
        assert_eq!(of("[::1]:9464").unwrap().1, "http://[::1]:9464/status");
        assert_eq!(of("writer-0.wal:9464").unwrap().0, "writer-0.wal:9464");
        for wrong in ["", "localhost", "https://writer:9464", "writer:9464/metrics", "writer:port"] {
            assert_eq!(of(wrong).unwrap_err().exit(), Exit::Usage, "{wrong}");
        }
    }

    /// What is made of an answer with this head and body.
    async fn made_of(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint::parse(&listener.local_addr().unwrap().to_string()).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET /status HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let (asked, ()) = tokio::join!(endpoint.ask(), serve);
        asked.unwrap_err()
    }

    #[tokio::test]
    async fn what_is_no_answer_says_why() {
        let missing = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        assert_eq!(made_of(missing).await, "it answers 404 Not Found: no service of this version");
        let other = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
        assert!(made_of(other).await.starts_with("its answer makes no sense: missing field `service`"));
        // A port that was free a moment ago and that nobody is told of.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let gone = Endpoint::parse(&free.to_string()).unwrap().ask().await.unwrap_err();
        assert!(gone.contains("refused"), "{gone}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_the_question_and_says_nothing_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint::parse(&listener.local_addr().unwrap().to_string()).unwrap();
        assert_eq!(endpoint.ask().await.unwrap_err(), "no answer within 4s");
    }
}
