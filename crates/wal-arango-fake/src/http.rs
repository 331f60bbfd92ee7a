//! A request as the API sees it, and an answer before it goes out.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::faults::Elements;

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// As it came, with the query.
    pub(crate) target: String,
    pub(crate) database: String,
    /// Without `/_db/{database}`, each decoded.
    pub(crate) segments: Vec<String>,
    pub(crate) query: HashMap<String, String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Which elements of an array are to fail.
    pub(crate) elements: Option<Elements>,
}

impl Request {
    pub(crate) fn new(method: Method, target: &str, headers: HeaderMap, body: Bytes) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut segments: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(decode).collect();
        let names_database = segments.len() >= 2 && segments[0] == "_db";
        let database = if names_database { segments.drain(..2).nth(1) } else { None };
        Self {
            method,
            target: target.to_owned(),
            database: database.unwrap_or_else(|| "_system".to_owned()),
            segments,
            query: query.split('&').filter(|pair| !pair.is_empty()).map(parameter).collect(),
            headers,
            body,
            elements: None,
        }
    }

    /// What routes are told apart by.
    pub(crate) fn route(&self) -> (&str, Vec<&str>) {
        (self.method.as_str(), self.segments.iter().map(String::as_str).collect())
    }

    /// As it stands in a `location` header.
    pub(crate) fn path(&self) -> String {
        let segments: Vec<String> = self.segments.iter().map(|segment| encode(segment)).collect();
        format!("/_db/{}/{}", encode(&self.database), segments.join("/"))
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// A parameter that is there and is not a "no" is a "yes".
    pub(crate) fn flag(&self, name: &str, otherwise: bool) -> bool {
        match self.text(name) {
            None => otherwise,
            Some(text) => !matches!(text, "false" | "0" | "off" | "no"),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).map_err(|error| Error::corrupted_json(&json_cause(&error)))
    }

    /// No body counts as an empty object.
    pub(crate) fn object(&self) -> Result<Map<String, Value>> {
        if self.body.is_empty() {
            return Ok(Map::new());
        }
        match self.json()? {
            Value::Object(object) => Ok(object),
            _ => Err(Error::bad("expecting JSON object body")),
        }
    }
}

/// In the words of the server's own parser where it is sure to use them.
fn json_cause(error: &serde_json::Error) -> String {
    let cause = error.to_string();
    if cause.starts_with("key must be a string") { "Expecting '\"' or '}'".to_owned() } else { cause }
}

fn parameter(pair: &str) -> (String, String) {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    (decode(name), decode(&value.replace('+', " ")))
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// A part of a path.
pub(crate) fn encode(text: &str) -> String {
    let byte = |byte: u8| match byte {
        _ if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(Cow<'static, str>, String)>,
    pub(crate) body: Option<Bytes>,
}

impl Reply {
    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: None }
    }

    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self { status, headers: Vec::new(), body: Some(Bytes::from(body.to_string())) }
    }

    /// An object that carries `error` and `code`, as most do.
    pub(crate) fn object(status: u16, mut body: Map<String, Value>) -> Self {
        body.insert("error".into(), false.into());
        body.insert("code".into(), status.into());
        Self::json(status, &Value::Object(body))
    }

    pub(crate) fn result(status: u16, result: Value) -> Self {
        Self::object(status, Map::from_iter([("result".to_owned(), result)]))
    }

    pub(crate) fn error(error: &Error) -> Self {
        let body = serde_json::json!({
            "code": error.status,
            "error": true,
            "errorMessage": error.message,
            "errorNum": error.num,
        });
        Self::json(error.status, &body)
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_taken_apart() {
        let target = "/_db/my%20db/_api/document/c/a%2Fb%25?waitForSync=true&x=a+b";
        let request = Request::new(Method::GET, target, HeaderMap::new(), Bytes::new());
        assert_eq!(request.database, "my db");
        assert_eq!(request.segments, ["_api", "document", "c", "a/b%"]);
        assert!(request.flag("waitForSync", false));
        assert_eq!(request.text("x"), Some("a b"));
        assert_eq!(request.path(), "/_db/my%20db/_api/document/c/a%2Fb%25");
        assert_eq!(decode("100%"), "100%");
        assert_eq!(decode("%ä"), "%ä");
    }
}
