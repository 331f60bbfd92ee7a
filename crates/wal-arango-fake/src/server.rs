//! The handle: starts, stops, and holds the switches that a test turns.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::Version;
use crate::auth::Auth;
use crate::faults::Fault;
use crate::front::{Shared, Work};
use crate::listener::Listening;
use crate::store::Store;

/// What a real server gives a token by default.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

/// A fake ArangoDB. It serves until it is dropped.
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    listening: Mutex<Option<Listening>>,
}

/// How a server is to be.
#[derive(Clone, Debug)]
pub struct Builder {
    version: Version,
    users: BTreeMap<String, String>,
    is_auth_required: bool,
    token_lifetime: Duration,
    service_time: Duration,
    parallel: Option<usize>,
    port: u16,
}

/// A kind of request, and how often it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Logged {
    /// `POST`, `GET`, ...
    pub method: String,
    /// Path and query.
    pub path: String,
    /// How often.
    pub count: u64,
}

impl Builder {
    /// Which line it belongs to.
    pub fn version(self, version: Version) -> Self {
        Self { version, ..self }
    }

    /// Another user, beside `root` without a password. Whoever is named here must be asked: see [`Builder::require_auth`].
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users.insert(name.to_owned(), password.to_owned());
        self
    }

    /// Answers 401 to everyone without a password or a token.
    pub fn require_auth(self) -> Self {
        Self { is_auth_required: true, ..self }
    }

    /// How long a token of `/_open/auth` is good for.
    pub fn token_lifetime(self, token_lifetime: Duration) -> Self {
        Self { token_lifetime, ..self }
    }

    /// For benchmarks: every request takes so long, and only so many are worked on at once; the others queue.
    pub fn service_time(self, service_time: Duration, parallel: usize) -> Self {
        Self { service_time, parallel: Some(parallel), ..self }
    }

    /// A port instead of any that is free.
    pub fn port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// Returns when it can be asked. Fails if the port is taken.
    pub async fn start(self) -> io::Result<Server> {
        let auth = Auth::new(self.is_auth_required, self.users, self.token_lifetime);
        let work = Work { time: self.service_time, places: self.parallel.map(Semaphore::new) };
        let shared = Arc::new(Shared::new(Store::new(self.version), auth, work));
        let listening = Listening::start(shared.clone(), SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)))?;
        Ok(Server { shared, address: listening.address, listening: Mutex::new(Some(listening)) })
    }
}

impl Server {
    /// A 3.12 that asks nobody for a password.
    pub async fn start() -> Self {
        Self::builder().start().await.expect("the loopback has a free port")
    }

    /// One to be described first.
    pub fn builder() -> Builder {
        Builder {
            version: Version::default(),
            users: BTreeMap::from([("root".to_owned(), String::new())]),
            is_auth_required: false,
            token_lifetime: TOKEN_LIFETIME,
            service_time: Duration::ZERO,
            parallel: None,
            port: 0,
        }
    }

    /// `http://127.0.0.1:{port}`; the same after a restart.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the socket and every connection. What was committed stays, as after a process that was killed: only a loss of power takes
    /// what was not synced.
    pub fn stop(&self) {
        drop(self.listening.lock().unwrap_or_else(PoisonError::into_inner).take());
        let mut state = self.shared.state();
        state.store.forget_sessions();
        state.auth.forget_tokens();
    }

    /// Listens again at the same address, with the same data. Cursors and tokens are gone. Fails if the port was taken meanwhile.
    pub fn restart(&self) -> io::Result<()> {
        self.stop();
        let listening = Listening::start(self.shared.clone(), self.address)?;
        *self.listening.lock().unwrap_or_else(PoisonError::into_inner) = Some(listening);
        Ok(())
    }

    /// Unreachable for so long: connections are taken and closed. Then as after a restart.
    pub fn outage(&self, outage: Duration) {
        self.shared.state().go_down(outage);
    }

    /// Something that is to go wrong.
    pub fn fail(&self, fault: Fault) {
        self.shared.state().faults.add(fault);
    }

    /// From now on nothing more goes wrong.
    pub fn heal(&self) {
        self.shared.state().faults.clear();
    }

    /// What has not gone wrong yet.
    pub fn pending_faults(&self) -> Vec<Fault> {
        self.shared.state().faults.pending().to_vec()
    }

    /// All requests so far, but for those to `/fake`.
    pub fn requests(&self) -> Vec<Logged> {
        self.shared.state().requests()
    }

    /// How many requests of this method had this in their path or query.
    pub fn count(&self, method: &str, path: &str) -> u64 {
        let is_meant = |request: &&Logged| request.method == method && request.path.contains(path);
        self.requests().iter().filter(is_meant).map(|request| request.count).sum()
    }

    /// Starts the log anew.
    pub fn forget_requests(&self) {
        self.shared.state().log.clear();
    }

    /// Forgets every commit that was not synced, and every cursor. Returns how many writes were lost.
    pub fn power_loss(&self) -> usize {
        self.shared.state().store.power_loss()
    }

    /// What a real server does every 100 ms by itself. Here only synced writes and this do it.
    pub fn sync(&self) {
        self.shared.state().store.sync();
    }

    /// How many writes a loss of power would take.
    pub fn unsynced(&self) -> usize {
        self.shared.state().store.unsynced()
    }

    /// Removes what its TTL index says is expired by then. Returns how many documents went.
    pub fn run_ttl(&self, now: SystemTime) -> usize {
        self.shared.state().store.remove_expired(now)
    }

    /// Every token so far is answered with 401.
    pub fn expire_tokens(&self) {
        self.shared.state().auth.forget_tokens();
    }

    /// Every cursor so far is answered with 1600.
    pub fn expire_cursors(&self) {
        self.shared.state().store.forget_sessions();
    }

    /// The documents of a collection by their keys; none if there is no such collection.
    pub fn documents(&self, database: &str, collection: &str) -> BTreeMap<String, Value> {
        let state = self.shared.state();
        let documents = state.store.collection(database, collection).into_iter().flat_map(|held| held.scan());
        documents.map(|document| (document.key().to_owned(), document.value.clone())).collect()
    }
}
