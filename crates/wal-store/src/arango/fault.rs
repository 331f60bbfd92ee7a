//! What an answer that is no success means, by what the caller can do.
//!
//! The status counts first: a server that starts, or a proxy before it, answers with an empty body or with HTML. Within a status the
//! database's own number counts: some of its 500s pass, and some of its 403s do.

use http::StatusCode;
use serde::Deserialize;

use crate::Error;

/// The longest text of a server that is handed on.
const TEXT_MAX: usize = 300;

/// What a caller can do about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A document with this key is there: read it.
    Duplicate,
    /// Somebody else is writing the same document: try again soon.
    Conflict,
    /// There is no such document.
    Missing,
    /// The database will never take this document.
    Refused,
    /// The request or its answer is too large: ask for less at a time.
    TooLarge,
    /// The token has ended, or never was good: renew it once.
    Unauthorised,
    /// The database has more to do than it can: ask less often.
    Busy,
    /// Not now.
    Unavailable,
    /// It reads and does not write, until a person has acted: a licence limit, too few copies in sync, a full disk.
    ReadOnly,
    /// The cursor is gone: ask the question again.
    CursorGone,
    /// A person must change something: a collection, a right, a setting.
    Misconfigured,
    /// What is stored cannot be read.
    Damaged,
}

/// An answer that is no success, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) class: Class,
    /// What was said, without anything secret.
    pub(super) said: String,
    /// The database's own number, where it said one.
    number: Option<u32>,
}

impl Fault {
    pub(super) fn new(class: Class, said: impl Into<String>) -> Fault {
        Fault { class, said: said.into(), number: None }
    }

    /// An answer of a status, with a number if there was one.
    pub(super) fn numbered(status: u16, number: Option<u32>, said: String) -> Fault {
        Fault { class: classify(status, number), said, number }
    }

    /// Whether a document, an index, a collection or a database is not there.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self.number, Some(1202 | 1203 | 1212 | 1228))
    }

    /// The answer is a success by its status and not what ArangoDB answers: a proxy's, or cut off.
    pub(super) fn strange(said: impl std::fmt::Display) -> Fault {
        Fault::new(Class::Unavailable, format!("an answer that makes no sense: {}", brief(&said.to_string())))
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        match fault.class {
            Class::Damaged => Error::Corrupt(fault.said),
            // Asking again is as useless as with damage, and a person must look as well.
            Class::Misconfigured | Class::Unauthorised => {
                Error::Corrupt(format!("the database does not let us: {}", fault.said))
            }
            Class::ReadOnly => Error::ReadOnly(fault.said),
            Class::Duplicate
            | Class::Conflict
            | Class::Missing
            | Class::Refused
            | Class::TooLarge
            | Class::Busy
            | Class::Unavailable
            | Class::CursorGone => Error::Unavailable(fault.said),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        match error {
            Error::Unavailable(said) => Fault::new(Class::Unavailable, said),
            Error::ReadOnly(said) => Fault::new(Class::ReadOnly, said),
            Error::Corrupt(said) => Fault::new(Class::Damaged, said),
        }
    }
}

/// How the database describes a failure.
#[derive(Deserialize)]
pub(super) struct Described {
    #[serde(rename = "errorNum", default)]
    pub(super) number: u32,
    #[serde(rename = "errorMessage", default)]
    pub(super) message: String,
}

impl Described {
    /// What a body says, if it says anything.
    pub(super) fn read(body: &[u8]) -> Option<Described> {
        serde_json::from_slice(body).ok().filter(|described: &Described| described.number != 0)
    }
}

/// Reads an answer that is no success.
pub(super) fn of_answer(status: StatusCode, body: &[u8]) -> Fault {
    let described = Described::read(body);
    let number = described.as_ref().map(|described| described.number);
    let said = match described {
        Some(Described { number, message }) => format!("{} (error {number}, status {status})", brief(&message)),
        None => format!("status {status}, and nothing that ArangoDB says"),
    };
    Fault::numbered(status.as_u16(), number, said)
}

/// The one table. Reference: <https://docs.arangodb.com/3.12/develop/error-codes/>.
pub(super) fn classify(status: u16, number: Option<u32>) -> Class {
    match (status, number) {
        (401, _) => Class::Unauthorised,
        (413, _) => Class::TooLarge,
        (503, Some(21003)) | (429, _) => Class::Busy,
        // By configuration with 403 or 503.
        (_, Some(1004)) => Class::ReadOnly,
        (503 | 408 | 502 | 504, _) => Class::Unavailable,
        (_, Some(number)) => of_number(number).unwrap_or_else(|| of_status(status)),
        (_, None) => of_status(status),
    }
}

/// What a number means wherever it stands; `None` if only the status tells.
pub(super) fn of_number(number: u32) -> Option<Class> {
    Some(match number {
        1210 => Class::Duplicate,
        1200 => Class::Conflict,
        1202 => Class::Missing,
        // Keys, shapes and sizes of documents, schemas, JSON; 4001.. are those of SmartGraphs.
        600 | 1216 | 1221 | 1222 | 1226 | 1227 | 1233 | 1620 | 4001 | 4003 | 4010 => Class::Refused,
        32 => Class::TooLarge,
        21003 | 21004 => Class::Busy,
        1600 => Class::CursorGone,
        // Unknown collection, unknown database, keys or shard keys that may not be chosen, no right.
        11 | 1203 | 1228 | 1466 | 1469 => Class::Misconfigured,
        // The system's own, read-only or too few copies, disk full, write concern.
        3 | 1004 | 1104 | 1429 => Class::ReadOnly,
        // Locks, timeouts, memory, shutdown, start, cluster, leadership, killed, cursor busy.
        18 | 21 | 28 | 29 | 30 | 38 | 503 | 1457 | 1464 | 1465 | 1478 | 1490 | 1491 | 1495 | 1496 | 1500 | 1601
        | 1654 => Class::Unavailable,
        // Statements of ours that this database does not take.
        1501..=1599 => Class::Misconfigured,
        _ => return None,
    })
}

fn of_status(status: u16) -> Class {
    match status {
        404 | 403 => Class::Misconfigured,
        410 => Class::Unavailable,
        400..=499 => Class::Misconfigured,
        _ => Class::Unavailable,
    }
}

/// Whether an answer says that nothing was done, so that even what may not be done twice can be asked of another server.
pub(super) fn is_undone(status: StatusCode, body: &[u8]) -> bool {
    let number = Described::read(body).map(|described| described.number);
    matches!((status.as_u16(), number), (401, _) | (_, Some(30 | 38 | 503 | 1490 | 1491 | 1495 | 1496 | 21003 | 21004)))
}

/// A text of a stranger, cut and on one line.
pub(super) fn brief(text: &str) -> String {
    let plain = text.chars().map(|character| if character.is_control() { ' ' } else { character });
    let mut brief: String = plain.take(TEXT_MAX).collect();
    if text.chars().nth(TEXT_MAX).is_some() {
        brief.push('…');
    }
    brief
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_class() {
        let table = [
            (409, Some(1210), Class::Duplicate),
            (409, Some(1200), Class::Conflict),
            (412, Some(1200), Class::Conflict),
            (404, Some(1202), Class::Missing),
            (404, Some(1203), Class::Misconfigured),
            (404, Some(1228), Class::Misconfigured),
            (400, Some(1221), Class::Refused),
            (400, Some(1222), Class::Refused),
            (400, Some(1226), Class::Refused),
            (400, Some(1227), Class::Refused),
            (400, Some(1216), Class::Refused),
            (400, Some(1620), Class::Refused),
            (400, Some(600), Class::Refused),
            (400, Some(1466), Class::Misconfigured),
            (400, Some(1469), Class::Misconfigured),
            (403, Some(1004), Class::ReadOnly),
            (503, Some(1004), Class::ReadOnly),
            (403, Some(11), Class::Misconfigured),
            (403, None, Class::Misconfigured),
            (401, None, Class::Unauthorised),
            (401, Some(11), Class::Unauthorised),
            (500, Some(28), Class::Unavailable),
            (500, Some(18), Class::Unavailable),
            (500, Some(29), Class::Unavailable),
            (500, Some(1457), Class::Unavailable),
            (500, Some(1464), Class::Unavailable),
            (503, Some(1465), Class::Unavailable),
            (503, Some(1478), Class::Unavailable),
            (503, Some(1495), Class::Unavailable),
            (503, Some(1496), Class::Unavailable),
            (503, Some(30), Class::Unavailable),
            (503, Some(38), Class::Unavailable),
            (503, Some(503), Class::Unavailable),
            (503, None, Class::Unavailable),
            (406, Some(1490), Class::Unavailable),
            (421, Some(1491), Class::Unavailable),
            (500, Some(1429), Class::ReadOnly),
            (503, Some(21003), Class::Busy),
            (412, Some(21004), Class::Busy),
            (429, None, Class::Busy),
            (500, Some(32), Class::TooLarge),
            (413, None, Class::TooLarge),
            (410, Some(1500), Class::Unavailable),
            (410, Some(21), Class::Unavailable),
            (410, Some(1654), Class::Unavailable),
            (404, Some(1600), Class::CursorGone),
            (409, Some(1601), Class::Unavailable),
            (500, Some(1104), Class::ReadOnly),
            (500, Some(3), Class::ReadOnly),
            (400, Some(1501), Class::Misconfigured),
            (400, Some(1579), Class::Misconfigured),
            (404, None, Class::Misconfigured),
            (418, Some(999_999), Class::Misconfigured),
            (500, None, Class::Unavailable),
            (502, None, Class::Unavailable),
            (504, Some(999_999), Class::Unavailable),
            (302, None, Class::Unavailable),
        ];
        for (status, number, class) in table {
            assert_eq!(classify(status, number), class, "{status} {number:?}");
        }
    }

    #[test]
    fn a_body_that_is_no_json_leaves_the_status() {
        let deep = "[".repeat(100_000);
        for body in ["", "<html>502</html>", "{", "null", "[]", "{\"errorNum\": \"x\"}", "{\"errorNum\": -1}", &deep] {
            let fault = of_answer(StatusCode::SERVICE_UNAVAILABLE, body.as_bytes());
            assert_eq!(fault.class, Class::Unavailable, "{body:.20}");
            assert!(fault.said.contains("503"), "{}", fault.said);
        }
    }

    #[test]
    fn what_a_server_says_is_cut_and_on_one_line() {
        let body = format!("{{\"errorNum\": 1221, \"errorMessage\": \"a\\nb{}\"}}", "x".repeat(10_000));
        let said = of_answer(StatusCode::BAD_REQUEST, body.as_bytes()).said;
        assert!(said.starts_with("a bxxx") && said.len() < 400, "{said}");
    }

    #[test]
    fn only_what_was_never_begun_is_undone() {
        let undone = |status: u16, body: &str| is_undone(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        assert!(undone(503, "{\"errorNum\": 1496}") && undone(503, "{\"errorNum\": 38}") && undone(401, ""));
        assert!(undone(412, "{\"errorNum\": 21004}"));
        // A proxy may have handed it on; a coordinator may have reached the server that does the work.
        assert!(!undone(503, "") && !undone(503, "{\"errorNum\": 1465}") && !undone(500, "{\"errorNum\": 1457}"));
    }
}
