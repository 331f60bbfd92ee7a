//! The way to the collector: OTLP over HTTP, through the HTTP client that the rest of the product uses.

use std::time::Duration;

use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::runtime::Handle;
use tracing::warn;

use crate::metrics::{Export, Spans, SpansExported};

/// Where a collector takes traces.
const PATH: &str = "/v1/traces";
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why nothing can be told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no HTTP client.
    #[error("make a client for `traces.otlp_endpoint`")]
    Client(#[from] reqwest::Error),
    /// It cannot be used.
    #[error("use `traces.otlp_endpoint`")]
    Exporter(#[from] ExporterBuildError),
}

pub(super) fn exporter(endpoint: &str, counts: &Spans) -> Result<Counted, Error> {
    let client = Client { client: reqwest::Client::builder().timeout(TIMEOUT).build()?, runtime: Handle::current() };
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(format!("{}{PATH}", endpoint.trim_end_matches('/')))
        .with_timeout(TIMEOUT)
        .build()?;
    Ok(Counted { exporter, exported: counts.exported.clone() })
}

/// Runs each request on the product's own runtime: the queue's thread has none.
#[derive(Debug)]
struct Client {
    client: reqwest::Client,
    runtime: Handle,
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let answer = async move {
            let answer = client.execute(request.try_into()?).await?;
            let mut response = Response::builder().status(answer.status());
            if let Some(headers) = response.headers_mut() {
                headers.clone_from(answer.headers());
            }
            Ok::<_, HttpError>(response.body(answer.bytes().await?)?)
        };
        self.runtime.spawn(answer).await?
    }
}

/// Counts what was taken and what was not.
#[derive(Debug)]
pub(super) struct Counted {
    exporter: opentelemetry_otlp::SpanExporter,
    exported: crate::metrics::Counters<SpansExported>,
}

impl SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let result = self.exporter.export(batch).await;
        let end = match &result {
            Ok(()) => Export::Taken,
            Err(error) => {
                warn!(%error, spans, "the collector does not take traces; they are lost, entries are not");
                Export::Failed
            }
        };
        self.exported.of(&SpansExported::new(end)).inc_by(spans);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
