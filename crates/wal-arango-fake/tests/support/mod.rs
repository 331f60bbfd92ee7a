//! A client that knows nothing of ArangoDB: one request a connection, and the bytes as they come.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// An answer, as far as it came.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Value,
    pub is_whole: bool,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// ArangoDB's number, 0 if there is none.
    pub fn num(&self) -> u64 {
        self.body["errorNum"].as_u64().unwrap_or_default()
    }
}

pub struct Client {
    pub address: SocketAddr,
    pub headers: Vec<(String, String)>,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, headers: Vec::new() }
    }

    pub fn with_header(address: SocketAddr, name: &str, value: &str) -> Self {
        Self { address, headers: vec![(name.to_owned(), value.to_owned())] }
    }

    /// An error is a connection that was closed without an answer, or refused.
    pub fn try_send(&self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
        )?;
        let mut bytes = Vec::new();
        // What broke in the middle is still an answer.
        let ended = stream.read_to_end(&mut bytes);
        if bytes.is_empty() {
            ended?;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(parse(&String::from_utf8_lossy(&bytes), method == "HEAD"))
    }

    pub fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        self.try_send(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "")
    }

    pub fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, &body.to_string())
    }

    /// A query that must succeed: its first batch.
    pub fn query(&self, query: &str, binds: Value) -> Vec<Value> {
        let answer = self.try_query(query, binds);
        assert_eq!(answer.status, 201, "{query}: {}", answer.body);
        answer.body["result"].as_array().expect("a result").clone()
    }

    pub fn try_query(&self, query: &str, binds: Value) -> Answer {
        self.post("/_api/cursor", serde_json::json!({ "query": query, "bindVars": binds }))
    }

    /// The nodes of a query's plan.
    pub fn plan(&self, query: &str, binds: Value) -> Vec<Value> {
        let answer = self.post("/_api/explain", serde_json::json!({ "query": query, "bindVars": binds }));
        assert_eq!(answer.status, 200, "{query}: {}", answer.body);
        answer.body["plan"]["nodes"].as_array().expect("nodes").clone()
    }
}

fn parse(text: &str, is_head: bool) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let header = |line: &str| {
        let (name, value) = line.split_once(':').expect("a header");
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    let headers: Vec<(String, String)> = lines.map(header).collect();
    let promised = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
    let is_whole = is_head || promised.is_none_or(|promised: usize| promised == body.len());
    let body = serde_json::from_str(body).unwrap_or_default();
    Answer { status: status.expect("a status"), headers, body, is_whole }
}
