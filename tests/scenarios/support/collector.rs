//! A collector of traces as services see one: OTLP over HTTP, in protobuf.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use prost::Message as _;
use tokio::runtime::Runtime;

/// A step that was told.
#[derive(Clone, Debug)]
pub struct Span {
    /// The service that tells.
    pub service: String,
    pub name: String,
    pub trace: String,
    pub id: String,
    /// Empty without one.
    pub parent: String,
    /// As in `span.kind` of the protocol.
    pub kind: i32,
    /// Traces and spans.
    pub links: Vec<(String, String)>,
    attributes: Vec<KeyValue>,
    pub has_length: bool,
}

/// It listens until it is dropped.
pub struct Collector {
    /// Where.
    pub url: String,
    spans: Arc<Mutex<Vec<Span>>>,
    runtime: Option<Runtime>,
}

impl Collector {
    pub fn start() -> Collector {
        let runtime = Runtime::new().expect("threads");
        let spans = Arc::<Mutex<Vec<Span>>>::default();
        let app = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&spans));
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = runtime.block_on(tokio::net::TcpListener::bind(any)).expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        runtime.spawn(async move { axum::serve(listener, app).await });
        Collector { url, spans, runtime: Some(runtime) }
    }

    /// All it was told until now.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().expect("nobody panics with it").clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Span {
    /// An attribute as text.
    pub fn attribute(&self, key: &str) -> Option<String> {
        let found = self.attributes.iter().find(|attribute| attribute.key == key)?;
        text(found.value.as_ref()?)
    }
}

async fn take(State(spans): State<Arc<Mutex<Vec<Span>>>>, body: Bytes) -> StatusCode {
    let Ok(request) = ExportTraceServiceRequest::decode(body) else { return StatusCode::BAD_REQUEST };
    for resource in request.resource_spans {
        let of_resource = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
        let name = of_resource.iter().find(|attribute| attribute.key == "service.name");
        let service = name.and_then(|name| text(name.value.as_ref()?)).unwrap_or_default();
        let told = resource.scope_spans.into_iter().flat_map(|scope| scope.spans).map(|span| Span {
            service: service.clone(),
            name: span.name,
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            kind: span.kind,
            links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
            attributes: span.attributes,
            has_length: span.start_time_unix_nano > 0 && span.end_time_unix_nano >= span.start_time_unix_nano,
        });
        spans.lock().expect("nobody panics with it").extend(told);
    }
    StatusCode::OK
}

fn text(value: &AnyValue) -> Option<String> {
    match value.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text.clone()),
        any_value::Value::IntValue(number) => Some(number.to_string()),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
