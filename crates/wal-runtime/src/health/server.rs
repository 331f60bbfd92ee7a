//! The small server that answers probes, and tells what is counted and how the process is doing.

use std::net::SocketAddr;

use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{Health, Probe, Status};
use crate::metrics::{Format, Metrics};
use crate::overview::Teller;
use crate::shutdown::Shutdown;

/// Where metrics are scraped.
const METRICS: &str = "/metrics";
/// Where the whole picture is asked for.
pub const STATUS: &str = "/status";

/// Answers probes and scrapes until it is dropped: during a stop too, so that nobody takes a service that finishes its work for a dead one.
#[derive(Debug)]
pub struct Server {
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// Why probes cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on: most often another process does so already.
    #[error("listen on {address} for probes (`health.listen`)")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: std::io::Error,
    },
}

/// Answers probes, scrapes and whoever asks for the status on `listen`, or not at all. When it returns the port is open. Once
/// `shutdown` is triggered the answer to readiness is no.
pub async fn serve(listen: Option<SocketAddr>, teller: Teller, shutdown: Shutdown) -> Result<Server, Error> {
    let Some(address) = listen else {
        return Ok(Server { running: None });
    };
    let refused = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let router = probes(teller.health().clone(), shutdown.clone())
        .merge(scrapes(teller.metrics().clone()))
        .merge(status(teller, shutdown));
    // Ends with its `Server`.
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "probes are no longer answered");
        }
    });
    Ok(Server { running: Some(Running { address, task }) })
}

impl Server {
    /// Where it listens; `None` if it is turned off.
    pub fn address(&self) -> Option<SocketAddr> {
        self.running.as_ref().map(|running| running.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.task.abort();
        }
    }
}

fn probes(health: Health, shutdown: Shutdown) -> Router {
    Probe::ALL.into_iter().fold(Router::new(), |router, probe| {
        let (health, shutdown) = (health.clone(), shutdown.clone());
        router.route(
            probe.path(),
            get(async move || {
                if shutdown.is_triggered() {
                    health.stopping();
                }
                answer(&health, probe)
            }),
        )
    })
}

fn scrapes(metrics: Metrics) -> Router {
    let scrape = async move |headers: HeaderMap| tell(&metrics, &headers);
    Router::new().route(METRICS, get(scrape))
}

fn status(teller: Teller, shutdown: Shutdown) -> Router {
    let overview = async move || {
        if shutdown.is_triggered() {
            teller.health().stopping();
        }
        Json(teller.overview().await)
    };
    Router::new().route(STATUS, get(overview))
}

fn tell(metrics: &Metrics, headers: &HeaderMap) -> Response {
    let format = Format::accepted(headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()));
    ([(CONTENT_TYPE, format.content_type())], metrics.encode(format)).into_response()
}

fn answer(health: &Health, probe: Probe) -> (StatusCode, Json<super::Report>) {
    let report = health.report(probe);
    let status = match report.status {
        Status::Ok => StatusCode::OK,
        Status::Failing => {
            // Whoever restarts us for this throws the body away, so it is in the log too.
            for check in report.checks.iter().filter(|check| !check.is_ok) {
                log_failing(probe, check);
            }
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    (status, Json(report))
}

fn log_failing(probe: Probe, check: &super::Check) {
    let (path, check, detail) = (probe.path(), check.name, check.detail.as_str());
    match probe {
        Probe::Live => tracing::error!(path, check, detail, "not alive"),
        Probe::Ready | Probe::Startup => tracing::debug!(path, check, detail, "not ready"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::overview::Overview;

    const ANY_PORT: &str = "127.0.0.1:0";

    async fn started(health: &Health, shutdown: &Shutdown) -> Server {
        serving(health, &Metrics::new(), shutdown).await
    }

    async fn serving(health: &Health, metrics: &Metrics, shutdown: &Shutdown) -> Server {
        let address = Some(ANY_PORT.parse().unwrap());
        serve(address, teller(health, metrics), shutdown.clone()).await.unwrap()
    }

    fn teller(health: &Health, metrics: &Metrics) -> Teller {
        Teller::new("wal-writer", "0", health.clone(), metrics.clone())
    }

    /// Head and body of the response.
    async fn ask(server: &Server, path: &str, header: &str) -> (String, String) {
        let mut stream = TcpStream::connect(server.address().unwrap()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    /// Status code and body.
    async fn get(server: &Server, path: &str) -> (u16, String) {
        let (head, body) = ask(server, path, "").await;
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
    }

    #[tokio::test]
    async fn probes_are_answered_with_a_code_and_a_reason() {
        let (health, shutdown) = (Health::new(), Shutdown::new());
        let condition = health.condition("assigned");
        let server = started(&health, &shutdown).await;

        assert_eq!(get(&server, "/livez").await, (200, r#"{"status":"ok","checks":[]}"#.to_owned()));
        let waiting = r#"{"status":"failing","checks":[{"name":"assigned","ok":false,"detail":"not yet"}]}"#;
        assert_eq!(get(&server, "/readyz").await, (503, waiting.to_owned()));
        assert_eq!(get(&server, "/startupz").await.0, 503);
        assert_eq!(get(&server, "/").await.0, 404);

        condition.met();
        assert_eq!(get(&server, "/readyz").await.0, 200);
        assert_eq!(get(&server, "/startupz").await.0, 200);
    }

    #[tokio::test]
    async fn a_stop_ends_readiness_and_nothing_else() {
        let (health, shutdown) = (Health::new(), Shutdown::new());
        health.condition("assigned").met();
        let server = started(&health, &shutdown).await;

        shutdown.trigger();

        assert_eq!(get(&server, "/readyz").await.0, 503);
        assert_eq!(get(&server, "/livez").await.0, 200);
        assert_eq!(get(&server, "/startupz").await.0, 200);
    }

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let server = started(&Health::new(), &Shutdown::new()).await;
        let address = server.address();

        let error = serve(address, teller(&Health::new(), &Metrics::new()), Shutdown::new()).await.unwrap_err();

        let expected = format!("listen on {} for probes (`health.listen`)", address.unwrap());
        assert_eq!(error.to_string(), expected);
    }

    #[tokio::test]
    async fn no_address_turns_probes_off() {
        let server = serve(None, teller(&Health::new(), &Metrics::new()), Shutdown::new()).await.unwrap();
        assert_eq!(server.address(), None);
    }

    #[tokio::test]
    async fn metrics_are_told_in_the_format_that_is_wanted_even_during_a_stop() {
        let (metrics, shutdown) = (Metrics::new(), Shutdown::new());
        let server = serving(&Health::new(), &metrics, &shutdown).await;
        metrics.answers().repeated.inc();
        shutdown.trigger();

        let (head, body) = ask(&server, "/metrics", "").await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(
            head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"),
            "{head}"
        );
        assert!(body.contains("\nwal_answers_repeated_total 1\n") && body.ends_with("# EOF\n"), "{body}");

        let (head, body) = ask(&server, "/metrics", "Accept: text/plain\r\n").await;
        assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
        assert!(body.contains("# TYPE wal_answers_repeated_total counter\n") && !body.contains("EOF"), "{body}");
    }

    #[tokio::test]
    async fn the_status_is_told_to_whoever_asks_ready_or_not() {
        let (health, shutdown) = (Health::new(), Shutdown::new());
        health.condition("assigned").met();
        let server = started(&health, &shutdown).await;

        let (head, body) = ask(&server, STATUS, "").await;
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-type: application/json"), "{head}");
        let overview: Overview = serde_json::from_str(&body).unwrap();
        assert!(overview.is_ready && overview.service == "wal-writer", "{body}");

        shutdown.trigger();
        let (code, body) = get(&server, STATUS).await;
        let overview: Overview = serde_json::from_str(&body).unwrap();
        assert!(code == 200 && !overview.is_ready && overview.is_live, "{code} {body}");
    }
}
