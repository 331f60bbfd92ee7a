//! What services answer over HTTP, as anybody may ask.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

/// The answer, head and body.
#[track_caller]
pub fn get(address: &str, path: &str) -> String {
    answer(address, path).expect("the service listens")
}

/// The answer, head and body, if anybody listens.
#[track_caller]
pub fn answer(address: &str, path: &str) -> Option<String> {
    ask(address, &format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: text/plain\r\n\r\n"))
}

/// The answer to something that is to be done, head and body.
#[track_caller]
pub fn post(address: &str, path: &str, told: &Value) -> String {
    let body = told.to_string();
    let head = format!("Host: {address}\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
    ask(address, &format!("POST {path} HTTP/1.0\r\n{head}\r\n\r\n{body}")).expect("the service listens")
}

#[track_caller]
fn ask(address: &str, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(request.as_bytes()).expect("it takes a request");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("it answers with text");
    Some(response)
}

/// The metrics of a service in Prometheus' text format.
#[track_caller]
pub fn metrics(address: &str) -> String {
    let answer = get(address, "/metrics");
    let (head, page) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    page.to_owned()
}

/// The sum of the series that begin so.
pub fn sum(page: &str, series: &str) -> f64 {
    let values = page.lines().filter(|line| line.starts_with(series)).filter_map(|line| line.rsplit(' ').next());
    values.map(|value| value.parse::<f64>().expect("a number")).sum()
}
