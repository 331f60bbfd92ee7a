//! A gate for handlers: the scenario decides when each may go on.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

use wal_tests::wait_until;

use super::{LATER, SOON};

/// Where handlers say that they hold something, and wait for the word to go on.
pub struct Gate {
    listener: TcpListener,
    /// Where they say it.
    pub address: String,
}

/// A handler that waits.
pub struct Held {
    /// What it said.
    pub number: String,
    stream: TcpStream,
}

impl Gate {
    /// On a port of its own.
    pub fn new() -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it was just bound").to_string();
        Gate { listener, address }
    }

    /// What tells the consumer of the sdk where it is.
    pub fn env(&self) -> [(&str, &str); 1] {
        [("CONSUMER_GATE", &self.address)]
    }

    /// The next handler that waits.
    #[track_caller]
    pub fn next(&self) -> Held {
        self.listener.set_nonblocking(true).expect("a listener can be asked");
        let mut stream = None;
        wait_until("a handler holds something", LATER, || {
            stream = self.listener.accept().ok().map(|(stream, _)| stream);
            stream.is_some()
        });
        let stream = stream.expect("it was waited for");
        stream.set_nonblocking(false).expect("a stream can be asked");
        stream.set_read_timeout(Some(SOON)).expect("a stream can be asked");
        let mut number = String::new();
        BufReader::new(&stream).read_line(&mut number).expect("the handler says its number");
        Held { number: number.trim().to_owned(), stream }
    }
}

impl Held {
    /// It may go on. One whose process is gone does not hear it.
    pub fn release(mut self) {
        let _ = self.stream.write_all(b"!");
    }
}
