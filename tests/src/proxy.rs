//! A TCP proxy that can cut a connection, swallow what flows over it or slow it down.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Forwards between whoever connects to [`Proxy::address`] and one server.
///
/// ```text
///              cut()                black_hole()
///   Severed ◄──────── Forwarding ────────────────► Swallowing
///      └────────────►     ▲ │  ◄───────────────────────┘
///          restore()      │ └── slow() ──► Slow ──┐
///                         └──────────────────────┘   each mode can follow each
/// ```
pub struct Proxy {
    address: SocketAddr,
    wire: Arc<Wire>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Forwarding,
    /// Of each connection so many bytes pass to the server in a second; what comes back is not slowed.
    Slow(NonZeroU32),
    /// Connections stay open, new ones too, and nothing passes: a partition that sends no answer.
    Swallowing,
    /// Connections are closed, new ones at once.
    Severed,
    /// The proxy is being dropped.
    Ended,
}

struct Wire {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    mode: Mode,
    // Both ends of every open connection, to close them with; ended ones go when the next comes.
    open: Vec<TcpStream>,
}

impl Proxy {
    /// Listens on `address` (port 0 for any) and forwards to `server`, which need not be up yet.
    #[track_caller]
    pub fn start(address: SocketAddr, server: SocketAddr) -> Proxy {
        let listener =
            TcpListener::bind(address).unwrap_or_else(|error| panic!("failed to listen on {address}: {error}"));
        let address = listener.local_addr().expect("a bound listener has an address");
        let state = Mutex::new(State { mode: Mode::Forwarding, open: Vec::new() });
        let wire = Arc::new(Wire { state, changed: Condvar::new() });
        let acceptor = {
            let wire = wire.clone();
            spawn(move || accept(&listener, server, &wire))
        };
        Proxy { address, wire, acceptor: Some(acceptor) }
    }

    /// Where to connect instead of to the server.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes all connections, and new ones as soon as they come.
    pub fn cut(&self) {
        self.wire.switch(Mode::Severed);
    }

    /// Lets nothing pass, in neither direction, and closes nothing. What is sent meanwhile passes after
    /// [`Proxy::restore`], late, as after a network partition.
    pub fn black_hole(&self) {
        self.wire.switch(Mode::Swallowing);
    }

    /// Lets so many bytes of each connection pass to the server in a second.
    pub fn slow(&self, bytes_per_second: NonZeroU32) {
        self.wire.switch(Mode::Slow(bytes_per_second));
    }

    /// Forwards again.
    pub fn restore(&self) {
        self.wire.switch(Mode::Forwarding);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.wire.switch(Mode::Ended);
        // The acceptor waits for a connection: this one lets it see that it is over.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Wire {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while holding this lock")
    }

    fn switch(&self, mode: Mode) {
        let mut state = self.lock();
        state.mode = mode;
        if mode == Mode::Severed || mode == Mode::Ended {
            for connection in state.open.drain(..) {
                // Already closed by its other end: that is what is wanted.
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
        self.changed.notify_all();
    }

    /// Waits while nothing may pass; afterwards writing either works or meets a closed connection.
    fn wait_for_passage(&self) {
        let waited = self.changed.wait_while(self.lock(), |state| state.mode == Mode::Swallowing);
        drop(waited.expect("nothing panics while holding this lock"));
    }

    /// Waits as long as so many bytes take to the server on a slow wire, or until it is not slow any more.
    fn wait_for_pace(&self, count: usize) {
        let state = self.lock();
        let Mode::Slow(pace) = state.mode else { return };
        let takes = Duration::from_secs_f64(count as f64 / f64::from(pace.get()));
        let waited = self.changed.wait_timeout_while(state, takes, |state| state.mode == Mode::Slow(pace));
        drop(waited.expect("nothing panics while holding this lock"));
    }
}

fn accept(listener: &TcpListener, server: SocketAddr, wire: &Arc<Wire>) {
    for client in listener.incoming() {
        if wire.lock().mode == Mode::Ended {
            return;
        }
        // A connection that fails here is dropped, which closes it: the client sees that the server is not there.
        let _ = client.and_then(|client| connect(client, server, wire));
    }
}

fn connect(client: TcpStream, server: SocketAddr, wire: &Arc<Wire>) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    for end in [&client, &server] {
        end.set_nodelay(true)?;
    }
    let ends = [client.try_clone()?, server.try_clone()?];
    let (client_reader, server_reader) = (client.try_clone()?, server.try_clone()?);

    // Under one lock with the check, so that a cut either closes this connection or is seen here.
    let mut state = wire.lock();
    if matches!(state.mode, Mode::Severed | Mode::Ended) {
        return Ok(());
    }
    state.open.retain(|end| end.peer_addr().is_ok());
    state.open.extend(ends);
    drop(state);

    // Both threads end with their connection, which a cut or the drop of the proxy closes.
    let paced = wire.clone();
    spawn(move || forward(client_reader, server, &paced, Wire::wait_for_pace));
    let wire = wire.clone();
    spawn(move || forward(server_reader, client, &wire, |_, _| {}));
    Ok(())
}

/// Copies one direction until either end closes, and then closes both.
fn forward(mut source: TcpStream, mut target: TcpStream, wire: &Wire, wait: fn(&Wire, usize)) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = source.read(&mut buffer) {
        wire.wait_for_passage();
        wait(wire, count);
        if target.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    wire.wait_for_passage();
    let _ = source.shutdown(Shutdown::Both);
    let _ = target.shutdown(Shutdown::Both);
}

fn spawn(work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    thread::Builder::new().name("proxy".into()).spawn(work).expect("the system can start a thread")
}
