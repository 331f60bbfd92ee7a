//! What goes wrong on demand: which requests it hits, and how.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::http::{Reply, Request};

/// One thing that goes wrong, for the requests it matches. Empty texts match everything.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// `POST`, `GET`, ...
    #[serde(default)]
    pub method: String,
    /// A part of the path and query, `/_api/document/wal_entries`.
    #[serde(default)]
    pub path: String,
    /// A part of the body: the text of a query, a key.
    #[serde(default)]
    pub body: String,
    /// How many matching requests pass unharmed first.
    #[serde(default)]
    pub skip: u32,
    /// How many are hit after that.
    #[serde(default = "once")]
    pub times: u32,
    /// What happens to them.
    pub action: Action,
}

fn once() -> u32 {
    1
}

/// How a request goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// The connection is closed, and nothing was done.
    DropBefore,
    /// Everything was done and synced as asked; the connection is closed without an answer.
    DropAfter,
    /// Committed and visible, but the process "hangs" before the sync, and the connection is closed. What a loss of power then takes.
    DropUnsynced,
    /// Everything was done; the answer ends in the middle.
    HalfAnswer,
    /// As usual, so much later.
    Delay {
        /// How long nothing happens.
        millis: u64,
    },
    /// Nothing was done; this is the answer.
    Refuse(Refusal),
    /// Everything was done; this is the answer nevertheless.
    RefuseAfter(Refusal),
    /// Elements of an array fail with this error number, the others go through.
    Elements(Elements),
}

/// An answer that refuses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// ArangoDB's number. Without one the body is empty, as a proxy's or a starting server's may be.
    #[serde(default)]
    pub error_num: Option<u32>,
    /// The sentence; there is a default.
    #[serde(default)]
    pub message: Option<String>,
    /// Names and values.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
}

/// Which elements of an array fail, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Elements {
    /// ArangoDB's number. After a 32 every later element fails with it too.
    pub error_num: u32,
    /// Positions from 0; empty means all.
    #[serde(default)]
    pub positions: Vec<usize>,
}

impl Elements {
    pub(crate) fn hits(&self, position: usize) -> bool {
        const RESOURCE_LIMIT: u32 = 32;
        let is_after = self.error_num == RESOURCE_LIMIT && self.positions.iter().any(|first| position > *first);
        self.positions.is_empty() || is_after || self.positions.contains(&position)
    }
}

impl Refusal {
    /// A status and ArangoDB's number.
    pub fn error(status: u16, error_num: u32) -> Self {
        Self { status, error_num: Some(error_num), ..Self::default() }
    }

    /// A status with an empty body.
    pub fn empty(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// With one header more.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn reply(&self) -> Reply {
        let Some(num) = self.error_num else {
            return Reply::empty(self.status);
        };
        let message = self.message.clone().unwrap_or_else(|| message(num).to_owned());
        Reply::error(&crate::error::Error::new(self.status, num, message))
    }
}

/// The refusals that [`crate::Server`]'s users want by name.
impl Action {
    /// 503 and 1465: the connection within the cluster was lost. The write may have happened.
    pub fn connection_lost() -> Self {
        Self::Refuse(Refusal::error(503, 1465))
    }

    /// 500 and 28: locked.
    pub fn locked() -> Self {
        Self::Refuse(Refusal::error(500, 28))
    }

    /// 409 and 1200 for the whole request.
    pub fn conflict() -> Self {
        Self::Refuse(Refusal::error(409, 1200))
    }

    /// 403 and 1004: read-only, or too few copies.
    pub fn read_only() -> Self {
        Self::Refuse(Refusal::error(403, 1004))
    }

    /// 401 and 11: the token has expired.
    pub fn unauthorized() -> Self {
        Self::Refuse(
            Refusal::error(401, 11).with_header("www-authenticate", "Bearer token_type=\"JWT\", realm=\"ArangoDB\""),
        )
    }

    /// 503 and 1495: leadership is changing.
    pub fn leadership_changes() -> Self {
        Self::Refuse(Refusal::error(503, 1495))
    }

    /// 503 and 1496, with the endpoint of the one who leads.
    pub fn not_leader(endpoint: &str) -> Self {
        Self::Refuse(Refusal::error(503, 1496).with_header("x-arango-endpoint", endpoint))
    }

    /// 412 and 21004: would have to queue longer than asked for.
    pub fn queue_time(seconds: f64) -> Self {
        let header = format!("{seconds:.6}");
        Self::Refuse(Refusal::error(412, 21004).with_header("x-arango-queue-time-seconds", &header))
    }

    /// 503 and 21003: the queue is full.
    pub fn queue_full() -> Self {
        Self::Refuse(Refusal::error(503, 21003))
    }

    /// 503 without a body.
    pub fn unavailable() -> Self {
        Self::Refuse(Refusal::empty(503))
    }

    /// 500 and 32: too much for one request.
    pub fn resource_limit() -> Self {
        Self::Refuse(Refusal::error(500, 32))
    }

    /// Everything that passes: the same request may succeed the next time, whether or not it was done this time.
    pub fn transient() -> Vec<Self> {
        vec![
            Self::DropBefore,
            Self::DropAfter,
            Self::DropUnsynced,
            Self::HalfAnswer,
            Self::connection_lost(),
            Self::RefuseAfter(Refusal::error(503, 1465)),
            Self::RefuseAfter(Refusal::error(500, 1457)),
            Self::locked(),
            Self::conflict(),
            Self::read_only(),
            Self::leadership_changes(),
            Self::queue_time(3.0),
            Self::queue_full(),
            Self::unavailable(),
            Self::RefuseAfter(Refusal::empty(502)),
            Self::Refuse(Refusal::error(410, 1500)),
            Self::Refuse(Refusal::error(500, 1104)),
        ]
    }
}

impl Fault {
    /// Hits the next request, whichever it is.
    pub fn next(action: Action) -> Self {
        Self { method: String::new(), path: String::new(), body: String::new(), skip: 0, times: 1, action }
    }

    /// Hits the next request of this method whose path contains this.
    pub fn on(method: &str, path: &str, action: Action) -> Self {
        Self { method: method.to_owned(), path: path.to_owned(), ..Self::next(action) }
    }

    /// Only requests whose body contains this.
    pub fn with_body(self, part: &str) -> Self {
        Self { body: part.to_owned(), ..self }
    }

    /// After so many matching requests.
    pub fn after(self, skip: u32) -> Self {
        Self { skip, ..self }
    }

    /// So many requests in a row.
    pub fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }

    fn matches(&self, request: &Request) -> bool {
        let has_body = || self.body.is_empty() || String::from_utf8_lossy(&request.body).contains(&self.body);
        (self.method.is_empty() || self.method == request.method.as_str())
            && request.target.contains(&self.path)
            && has_body()
    }
}

/// What is still to go wrong, in the order in which it was asked for.
#[derive(Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn pending(&self) -> &[Fault] {
        &self.0
    }

    /// The first fault that hits this request. Every fault that matches and still waits counts it.
    pub(crate) fn hit(&mut self, request: &Request) -> Option<Action> {
        let mut hit = None;
        for fault in self.0.iter_mut().filter(|fault| fault.matches(request)) {
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if hit.is_none() {
                fault.times = fault.times.saturating_sub(1);
                hit = Some(fault.action.clone());
            }
        }
        self.0.retain(|fault| fault.times > 0);
        hit
    }
}

impl Action {
    pub(crate) fn delay(&self) -> Option<Duration> {
        match self {
            Self::Delay { millis } => Some(Duration::from_millis(*millis)),
            _ => None,
        }
    }
}

pub(crate) fn message(num: u32) -> &'static str {
    match num {
        11 => "not authorized to execute this request",
        18 => "lock timeout",
        28 => "locked",
        29 => "deadlock detected",
        30 => "shutdown in progress",
        32 => "resource limit exceeded",
        1004 => "read only",
        1104 => "disk full",
        1200 => "write-write conflict",
        1202 => "document not found",
        1203 => "collection or view not found",
        1210 => "unique constraint violated",
        1228 => "database not found",
        1429 => "write concern not fulfilled",
        1457 => "timeout in cluster operation",
        1465 => "lost connection to another server in the cluster",
        1495 => "leadership challenge is ongoing",
        1496 => "not a leader",
        1600 => "cursor not found",
        1601 => "cursor is busy",
        21003 => "queue is full",
        21004 => "queue time violated",
        _ => "error on demand",
    }
}
