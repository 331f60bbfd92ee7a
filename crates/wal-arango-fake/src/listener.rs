//! The socket: a thread of its own, so that a test may block while its driver is answered. Stopping it closes every connection.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use crate::error::Error;
use crate::front::{Departure, Shared};
use crate::http::{Reply, Request};

pub(crate) struct Listening {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Listening {
    /// Returns when the socket listens.
    pub(crate) fn start(shared: Arc<Shared>, address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("it is a listening socket");
                tokio::select! {
                    () = accept(listener, shared) => {}
                    // Nothing is ever sent: the other end goes away.
                    _ = stopped => {}
                }
            });
            // With the runtime go the connections.
        };
        let thread = std::thread::Builder::new().name("wal-arango-fake".to_owned()).spawn(serve)?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // It has panicked in a request; whoever asked has noticed.
            drop(thread.join());
        }
    }
}

async fn accept(listener: tokio::net::TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        // Small answers are not to wait for more.
        drop(stream.set_nodelay(true));
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| respond(shared.clone(), request));
            // A connection that breaks is the client's business, or was asked for.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

/// Makes the server close the connection without an answer.
#[derive(Debug)]
struct Dropped;

impl std::fmt::Display for Dropped {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the connection is dropped on demand")
    }
}

impl std::error::Error for Dropped {}

type Outgoing = hyper::Response<ReplyBody>;

async fn respond(shared: Arc<Shared>, request: hyper::Request<Incoming>) -> Result<Outgoing, Dropped> {
    let (head, body) = request.into_parts();
    if head.headers.contains_key(http::header::TRANSFER_ENCODING) {
        return Ok(outgoing(
            Reply::error(&Error::new(411, 411, "length required: chunked bodies are refused")),
            Ending::Whole,
        ));
    }
    let body = body.collect().await.map_err(|_| Dropped)?.to_bytes();
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let request = Request::new(head.method, target, head.headers, body);
    match shared.handle(request).await {
        Departure::Whole(reply) => Ok(outgoing(reply, Ending::Whole)),
        Departure::Half(reply) => Ok(outgoing(reply, Ending::Cut)),
        Departure::Dropped => Err(Dropped),
    }
}

fn outgoing(reply: Reply, ending: Ending) -> Outgoing {
    let mut response = hyper::Response::builder().status(reply.status);
    // "Not modified" has a type and no body; an empty answer that was ordered has neither.
    let kind = if reply.status == 304 { Some("text/plain") } else { reply.body.as_ref().map(|_| "application/json") };
    if let Some(kind) = kind {
        response = response.header("content-type", kind);
    }
    for (name, value) in &reply.headers {
        response = response.header(&**name, value);
    }
    let body = ReplyBody::new(reply.body.unwrap_or_default(), ending);
    response.body(body).expect("the headers are well formed")
}

/// An answer's bytes. A cut one promises all of them, sends half and breaks.
struct ReplyBody {
    bytes: Option<Bytes>,
    promised: u64,
    breaks: Break,
}

enum Ending {
    Whole,
    Cut,
}

enum Break {
    Never,
    /// What was sent must have left first.
    AfterNextPoll,
    Now,
}

impl ReplyBody {
    fn new(mut bytes: Bytes, ending: Ending) -> Self {
        let promised = bytes.len() as u64;
        let breaks = match ending {
            Ending::Whole => Break::Never,
            Ending::Cut => {
                bytes.truncate(bytes.len() / 2);
                Break::AfterNextPoll
            }
        };
        Self { bytes: Some(bytes).filter(|bytes| !bytes.is_empty()), promised, breaks }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Dropped;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if let Some(bytes) = self.bytes.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match self.breaks {
            Break::Never => Poll::Ready(None),
            Break::AfterNextPoll => {
                self.breaks = Break::Now;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Break::Now => Poll::Ready(Some(Err(Dropped))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none() && matches!(self.breaks, Break::Never)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.promised)
    }
}
