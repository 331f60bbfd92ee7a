//! What services answer over HTTP, as anybody may ask.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

/// The answer, head and body.
#[track_caller]
pub fn get(address: &str, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: text/plain\r\n\r\n"))
}

/// The answer to something that is to be done, head and body.
#[track_caller]
pub fn post(address: &str, path: &str, told: &Value) -> String {
    let (body, json) = (told.to_string(), "Content-Type: application/json");
    let length = body.len();
    ask(
        address,
        &format!("POST {path} HTTP/1.0\r\nHost: {address}\r\n{json}\r\nContent-Length: {length}\r\n\r\n{body}"),
    )
}

#[track_caller]
fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the service listens");
    stream.write_all(request.as_bytes()).expect("it takes a request");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("it answers with text");
    response
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
