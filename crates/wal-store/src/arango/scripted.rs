//! A server that does what a test tells it, and keeps what it was sent.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// What a server does with a request.
#[derive(Clone)]
pub(super) enum Does {
    Answers(u16, String),
    /// Reads the request and closes the connection.
    HangsUp,
    /// Reads the request and says nothing.
    IsSilent,
}

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    /// Method and path.
    pub(super) line: String,
    /// The rest of the head.
    pub(super) head: String,
    pub(super) body: String,
}

type Script = dyn Fn(&Heard) -> Does + Send + Sync;

pub(super) struct Scripted {
    pub(super) url: String,
    heard: Arc<Mutex<Vec<Heard>>>,
}

pub(super) fn answers(status: u16, body: impl Into<String>) -> Does {
    Does::Answers(status, body.into())
}

impl Scripted {
    /// A server that asks `script` what to do with each request.
    pub(super) async fn start(script: impl Fn(&Heard) -> Does + Send + Sync + 'static) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (heard, script): (Arc<Mutex<Vec<Heard>>>, Arc<Script>) = (Arc::default(), Arc::new(script));
        tokio::spawn({
            let heard = Arc::clone(&heard);
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(serve(stream, Arc::clone(&script), Arc::clone(&heard)));
                }
            }
        });
        Scripted { url, heard }
    }

    /// A server that proves to be `localhost` by a certificate of its own authority, and that authority's certificate in PEM.
    pub(super) async fn with_tls(does: Does) -> (Scripted, String) {
        let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let trusted = authority.self_signed(&key).unwrap().pem();
        let issuer = rcgen::Issuer::new(authority, key);
        let key = rcgen::KeyPair::generate().unwrap();
        let own =
            rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let (heard, script): (Arc<Mutex<Vec<Heard>>>, Arc<Script>) = (Arc::default(), Arc::new(move |_| does.clone()));
        tokio::spawn({
            let heard = Arc::clone(&heard);
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let Ok(stream) = acceptor.accept(stream).await else { continue };
                    tokio::spawn(serve(stream, Arc::clone(&script), Arc::clone(&heard)));
                }
            }
        });
        (Scripted { url, heard }, trusted)
    }

    /// A server that does one thing after the other, the last for ever.
    pub(super) async fn in_turn(turns: Vec<Does>) -> Scripted {
        let turn = std::sync::atomic::AtomicUsize::new(0);
        Scripted::start(move |_| {
            let turn = turn.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            turns[turn.min(turns.len() - 1)].clone()
        })
        .await
    }

    pub(super) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// The requests whose method and path begin so.
    pub(super) fn heard_of(&self, line: &str) -> Vec<Heard> {
        self.heard().into_iter().filter(|heard| heard.line.starts_with(line)).collect()
    }
}

/// One request to a connection is all that tests need.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, script: Arc<Script>, log: Arc<Mutex<Vec<Heard>>>) {
    let Some(heard) = hear(&mut stream).await else { return };
    log.lock().unwrap().push(heard.clone());
    match script(&heard) {
        Does::Answers(status, body) => {
            let answer = format!(
                "HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\nx-arango-queue-time-seconds: 0.0\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Does::HangsUp => {}
        Does::IsSilent => tokio::time::sleep(Duration::from_secs(60)).await,
    }
}

async fn hear(stream: &mut (impl AsyncRead + Unpin)) -> Option<Heard> {
    let mut request = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = stream.read(&mut buffer).await.ok().filter(|length| *length > 0)?;
        request.extend_from_slice(&buffer[..length]);
        let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&request[..end]).into_owned();
        let announced = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if request.len() < end + 4 + announced.unwrap_or(0) {
            continue;
        }
        let body = String::from_utf8_lossy(&request[end + 4..]).into_owned();
        let (line, head) = head.split_once("\r\n").unwrap_or((&head, ""));
        let line = line.trim_end_matches(" HTTP/1.1").to_owned();
        return Some(Heard { line, head: head.to_lowercase(), body });
    }
}
