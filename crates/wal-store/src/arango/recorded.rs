//! Exchanges that were recorded of real servers of both lines: everything they say is understood.

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::fault::{self, Class};
use super::{cursor, explain, indexes, insert, schema};

const LINES: [&str; 2] = [
    include_str!("../../../wal-arango-fake/recorded/3.11.jsonl"),
    include_str!("../../../wal-arango-fake/recorded/3.12.jsonl"),
];

#[derive(Deserialize)]
struct Exchange {
    name: String,
    method: String,
    path: String,
    #[serde(default)]
    body: Value,
    status: u16,
    #[serde(default)]
    reply: Value,
}

fn exchanges() -> Vec<Exchange> {
    let lines = LINES.iter().flat_map(|lines| lines.lines());
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The successes of one kind of request, as they came.
fn successes(method: &str, is_path: impl Fn(&str) -> bool) -> Vec<(Exchange, String)> {
    let is_one = |exchange: &Exchange| exchange.method == method && exchange.status < 300 && is_path(&exchange.path);
    let found: Vec<_> = exchanges()
        .into_iter()
        .filter(is_one)
        .map(|one| {
            let reply = one.reply.to_string();
            (one, reply)
        })
        .collect();
    assert!(found.len() >= 2, "{method} of neither line");
    found
}

#[test]
fn batches_of_cursors_are_read() {
    for (exchange, reply) in successes("POST", |path| path.starts_with("/_api/cursor")) {
        let (rows, has_more) = cursor::shape(&reply).unwrap_or_else(|error| panic!("{}: {error}", exchange.name));
        assert_eq!(rows, exchange.reply["result"].as_array().unwrap().len(), "{}", exchange.name);
        assert_eq!(has_more, exchange.reply["hasMore"], "{}", exchange.name);
    }
}

#[test]
fn answers_to_arrays_are_read() {
    let arrays = successes("POST", |path| path.starts_with("/_api/document"));
    for (exchange, reply) in arrays.into_iter().filter(|(exchange, _)| exchange.body.is_array()) {
        let elements: Vec<insert::Element> = serde_json::from_str(&reply).unwrap();
        assert_eq!(elements.len(), exchange.body.as_array().unwrap().len(), "{}", exchange.name);
        for (element, said) in elements.iter().zip(exchange.reply.as_array().unwrap()) {
            assert_eq!(element.error, said.get("error").is_some(), "{}", exchange.name);
            let is_known = !element.error || fault::of_number(element.number).is_some();
            assert!(is_known, "{}: {said}", exchange.name);
        }
    }
}

#[test]
fn indexes_are_read() {
    for (_, reply) in successes("GET", |path| path.starts_with("/_api/index?")) {
        let listed: schema::Listed = serde_json::from_str(&reply).unwrap();
        assert!(listed.indexes.iter().any(|index| index.name == "primary"));
    }
    for (_, reply) in successes("POST", |path| path.starts_with("/_api/index?")) {
        serde_json::from_str::<indexes::Found>(&reply).unwrap();
    }
}

#[test]
fn collections_and_plans_are_read() {
    for (_, reply) in successes("POST", |path| path == "/_api/collection") {
        serde_json::from_str::<schema::Properties>(&reply).unwrap();
    }
    for (exchange, reply) in successes("POST", |path| path == "/_api/explain") {
        // We ask for one plan.
        if exchange.reply.get("plan").is_some() {
            serde_json::from_str::<explain::Explained>(&reply).unwrap();
        }
    }
}

/// Nothing that was recorded passes by itself: they are questions that were asked wrongly, and documents that are not there.
#[test]
fn failures_have_a_class() {
    let failures: Vec<Exchange> = exchanges().into_iter().filter(|exchange| exchange.status >= 400).collect();
    assert!(failures.len() > 20);
    for exchange in failures {
        let status = StatusCode::from_u16(exchange.status).unwrap();
        let class = fault::of_answer(status, exchange.reply.to_string().as_bytes()).class;
        let expected: &[Class] = match exchange.status {
            404 => &[Class::Missing, Class::Misconfigured, Class::CursorGone],
            409 => &[Class::Duplicate],
            412 => &[Class::Conflict],
            500 => &[Class::TooLarge, Class::Unavailable, Class::ReadOnly],
            _ => &[Class::Misconfigured, Class::Refused],
        };
        assert!(expected.contains(&class), "{} ({}): {class:?}", exchange.name, exchange.status);
    }
}
