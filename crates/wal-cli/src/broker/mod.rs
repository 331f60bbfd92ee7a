//! A Kafka broker inside this process, for `wal dev` and `wal demo`: one node, one folder, no other program to install.
//!
//! ```text
//!   connection --frame--> requests --records, offsets, transactions--> ledger (one thread) --> records.db
//!                             |--membership--------------------------> groups (memory)
//!                             +--topics and their settings-----------> Tansu --------------> cluster.db
//! ```
//!
//! Tansu 0.6 gives the protocol and the topics. The rest of it is replaced, because it loses or stalls: its
//! `read_committed` readers see open and aborted records, overlapping transactions hold back each other's offsets, the
//! text beside an offset is never given back, every fetch sleeps, a group can stay without assignment for ever, and
//! deleting one topic deletes all.
//!
//! Promise: what was acknowledged survives the death of the process (not of the machine: SQLite does not sync every
//! commit). A transaction is in the log whole or not at all. What it refuses: more than one node, authentication, TLS,
//! compaction (compacted topics keep everything) and the group protocol of KIP-848.

mod batch;
mod groups;
mod ledger;
mod log;
mod requests;
mod topics;
mod transactions;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use tansu_sans_io::{Frame, Header};
use tansu_storage::{BrokerRegistrationRequest, Storage as _, StorageContainer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use url::Url;
use uuid::Uuid;

use groups::Groups;
use ledger::Ledger;
use requests::Requests;
use topics::Topics;

/// There is one node; clients show the number in their messages.
const NODE_ID: i32 = 1;

/// Stored, keep stable: Tansu's tables, and ours.
const CLUSTER_FILE: &str = "cluster.db";
const RECORDS_FILE: &str = "records.db";

/// A request larger than this is not one of ours; Kafka's own limit (`socket.request.max.bytes`).
const MAX_FRAME_BYTES: usize = 100 * 1024 * 1024;

/// How long requests under way may take to end: those that wait end at once, the others take milliseconds.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// Retention is about days: looking every minute is often enough and costs next to nothing.
const MAINTENANCE: Duration = Duration::from_secs(60);

/// How soon a silent group member is noticed after its session timed out: those are seconds.
const TICK: Duration = Duration::from_millis(200);

/// Pause after a failed accept (out of file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the broker listens and keeps its files.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes any free port.
    pub listen: SocketAddr,
    /// Holds everything the broker keeps; made if missing. One broker at a time.
    pub folder: PathBuf,
    /// What clients see as the cluster's id. A folder keeps its topics only under the same id.
    pub cluster_id: String,
}

/// Why the broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something else listens there: choose another port, or stop it.
    #[error("listen on {address}, another program may be using it")]
    PortTaken {
        /// The address asked for.
        address: SocketAddr,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The folder cannot be made or its path resolved.
    #[error("use the folder {}", folder.display())]
    Folder {
        /// The folder asked for.
        folder: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The path has characters that Tansu's storage, which takes it as part of an address, would change.
    #[error("use the folder {}: its path may have only plain letters, digits and . _ - /", folder.display())]
    UnusableFolder {
        /// The folder asked for, resolved.
        folder: PathBuf,
    },
    /// The files in the folder cannot be opened or written.
    #[error("open the broker's files in {}", folder.display())]
    Storage {
        /// The folder asked for.
        folder: PathBuf,
        /// What the storage said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A running broker. Dropped without [`EmbeddedBroker::stop`] it stops too, but nobody waits for it.
#[derive(Debug)]
pub struct EmbeddedBroker {
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl EmbeddedBroker {
    /// Opens the folder and listens: clients may connect when this returns.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let listener = listen(options.listen).await?;
        let address = listener.local_addr().map_err(|source| port_taken(options.listen, source))?;
        let address = reachable(address);
        let folder = make_folder(&options.folder)?;
        let stop = CancellationToken::new();
        let opened = open(&folder, address, options.cluster_id, stop.clone()).await;
        let (requests, thread) = opened.map_err(|source| Error::Storage { folder: folder.clone(), source })?;
        let serving = tokio::spawn(serve(listener, requests, thread));
        Ok(Self { address, stop, serving })
    }

    /// What to put into `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        self.address.to_string()
    }

    /// Stops accepting, lets requests under way end for at most two seconds, closes the files.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Err(error) = (&mut self.serving).await {
            warn!(%error, "the embedded broker ended unexpectedly");
        }
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| port_taken(address, source))
}

fn port_taken(address: SocketAddr, source: io::Error) -> Error {
    Error::PortTaken { address, source }
}

/// "Everywhere" is a place to listen, not one to connect to.
fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        return SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port());
    }
    address
}

fn make_folder(folder: &Path) -> Result<PathBuf, Error> {
    let made = std::fs::create_dir_all(folder).and_then(|()| folder.canonicalize());
    made.map_err(|source| Error::Folder { folder: folder.to_owned(), source }).and_then(|folder| {
        match storage_url(&folder) {
            Some(_) => Ok(folder),
            None => Err(Error::UnusableFolder { folder }),
        }
    })
}

/// Tansu appends the URL's path, less one leading slash, to the current directory. With two slashes what it appends is
/// absolute and replaces the current directory. It does not undo percent-encoding, so a path that needs it is refused.
fn storage_url(folder: &Path) -> Option<Url> {
    let path = folder.join(CLUSTER_FILE);
    let path = path.to_str()?;
    let url = Url::parse(&format!("sqlite:///{path}")).ok()?;
    (url.path().strip_prefix('/') == Some(path)).then_some(url)
}

async fn open(
    folder: &Path,
    address: SocketAddr,
    cluster_id: String,
    stop: CancellationToken,
) -> Result<(Requests, ledger::Thread), BoxError> {
    let url = storage_url(folder).ok_or("the folder's path cannot be used")?;
    let storage = StorageContainer::builder()
        .cluster_id(cluster_id.clone())
        .node_id(NODE_ID)
        .advertised_listener(Url::parse(&format!("tcp://{address}"))?)
        .storage(url)
        .silent(true)
        .build()
        .await?;
    storage
        .register_broker(BrokerRegistrationRequest {
            broker_id: NODE_ID,
            cluster_id: cluster_id.clone(),
            incarnation_id: Uuid::new_v4(),
            rack: None,
        })
        .await?;
    let (ledger, thread) = Ledger::open(&folder.join(RECORDS_FILE)).await?;
    let requests = Requests {
        storage: storage.clone(),
        topics: Topics::new(storage, folder.join(CLUSTER_FILE)),
        groups: Groups::default(),
        ledger,
        stop,
    };
    Ok((requests, thread))
}

/// Owns every task of the broker; ends when told to stop.
async fn serve(listener: TcpListener, requests: Requests, thread: ledger::Thread) {
    let stop = requests.stop.clone();
    let mut connections = JoinSet::new();
    let mut maintenance = time::interval(MAINTENANCE);
    maintenance.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let mut heartbeat = time::interval(TICK);
    heartbeat.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        // accept, tick and join_next lose nothing when another arm is taken; maintenance runs to its end.
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, requests.clone()));
                }
                Err(error) => {
                    warn!(%error, "the embedded broker could not accept a connection");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            },
            _ = heartbeat.tick() => requests.groups.tick(time::Instant::now().into_std()),
            _ = maintenance.tick() => maintain(&requests).await,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    warn!(%error, "a connection to the embedded broker ended with a panic");
                }
            }
        }
    }
    drop(listener);
    let ended = time::timeout(STOP_PATIENCE, async { while connections.join_next().await.is_some() {} });
    if ended.await.is_err() {
        connections.shutdown().await;
    }
    drop(requests);
    if tokio::task::spawn_blocking(move || thread.join()).await.is_err() {
        warn!("the embedded broker's ledger was not waited for");
    }
}

/// Tansu's own maintenance is not run: its tables hold no records here.
async fn maintain(requests: &Requests) {
    let topics = match requests.topics.all().await {
        Ok(topics) => topics,
        Err(error) => {
            warn!(?error, "the embedded broker could not list its topics");
            return;
        }
    };
    let topics = topics.into_iter().map(|(_, topic)| (topic.id, topic.retention)).collect();
    if let Err(error) = requests.ledger.maintain(topics).await {
        warn!(?error, "the embedded broker could not delete old records");
    }
}

/// Requests of one client, one after the other as Kafka promises. Whatever is wrong with one ends only this connection.
async fn connection(mut stream: TcpStream, requests: Requests) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "small answers to this client will be late");
    }
    loop {
        // A request is never given up half way: Tansu's storage ends for good if its caller goes away.
        let request = tokio::select! {
            () = requests.stop.cancelled() => return,
            request = read_frame(&mut stream) => request,
        };
        let request = match request {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(error) => {
                debug!(%error, "a client went away");
                return;
            }
        };
        let answer = match answer(&requests, request).await {
            Ok(Some(answer)) => answer,
            Ok(None) => continue,
            Err(error) => {
                debug!(error = &error as &dyn std::error::Error, "a request cannot be answered");
                return;
            }
        };
        if let Err(error) = stream.write_all(&answer).await {
            debug!(%error, "a client went away");
            return;
        }
    }
}

/// The frame with its length, as the decoder wants it; `None`: the client has closed the connection.
async fn read_frame(stream: &mut TcpStream) -> io::Result<Option<Bytes>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let size = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if size > MAX_FRAME_BYTES {
        let reason = "the request is larger than any of Kafka's";
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    let mut frame = vec![0; length.len() + size];
    frame[..length.len()].copy_from_slice(&length);
    stream.read_exact(&mut frame[length.len()..]).await?;
    Ok(Some(Bytes::from(frame)))
}

async fn answer(requests: &Requests, request: Bytes) -> Result<Option<Bytes>, requests::Error> {
    let frame = Frame::request_from_bytes(request)?;
    let api_key = frame.api_key()?;
    let api_version = frame.api_version()?;
    let correlation_id = frame.correlation_id()?;
    let Some(body) = requests.answer(frame).await? else {
        return Ok(None);
    };
    let header = Header::Response { correlation_id };
    Ok(Some(Frame::response(header, body, api_key, api_version)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(folder: &Path, listen: SocketAddr) -> Options {
        Options { listen, folder: folder.to_owned(), cluster_id: "test".to_owned() }
    }

    fn any_port() -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
    }

    #[tokio::test]
    async fn keeps_its_files_in_the_folder_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("made/here");

        let broker = EmbeddedBroker::start(options(&inner, any_port())).await.unwrap();
        broker.stop().await;

        assert!(inner.join(CLUSTER_FILE).exists());
        assert!(inner.join(RECORDS_FILE).exists());
    }

    #[tokio::test]
    async fn says_that_the_port_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let broker = EmbeddedBroker::start(options(&folder.path().join("a"), any_port())).await.unwrap();
        let taken = broker.bootstrap().parse().unwrap();

        let second = EmbeddedBroker::start(options(&folder.path().join("b"), taken)).await;

        assert!(matches!(second, Err(Error::PortTaken { .. })));
        broker.stop().await;
    }

    #[tokio::test]
    async fn refuses_a_folder_the_storage_would_misspell() {
        let folder = tempfile::tempdir().unwrap();
        let spaced = folder.path().join("two words");

        let refused = EmbeddedBroker::start(options(&spaced, any_port())).await;

        assert!(matches!(refused, Err(Error::UnusableFolder { .. })));
    }

    #[tokio::test]
    async fn nonsense_ends_only_its_own_connection() {
        let folder = tempfile::tempdir().unwrap();
        let broker = EmbeddedBroker::start(options(folder.path(), any_port())).await.unwrap();
        for nonsense in [&[0xff; 64][..], &[0, 0, 0, 4, 0x7f, 0xff, 0, 0], &[0, 0, 0, 0]] {
            let mut stream = TcpStream::connect(broker.bootstrap()).await.unwrap();
            stream.write_all(nonsense).await.unwrap();
            let mut rest = Vec::new();
            // A reset is as good an end as any.
            let _ = stream.read_to_end(&mut rest).await;
            assert!(rest.is_empty());
        }

        let mut stream = TcpStream::connect(broker.bootstrap()).await.unwrap();
        // ApiVersions, version 0, correlation id 1, no client id.
        let request = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
        stream.write_all(&request).await.unwrap();
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).await.unwrap();

        assert_eq!(answer[4..], [0, 0, 0, 1]);
        broker.stop().await;
    }
}
