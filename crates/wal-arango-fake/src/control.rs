//! The switches over HTTP, below `/fake`, where no path of ArangoDB lies. Neither logged nor hit by faults nor asked for a password.
//!
//! | request | what it does |
//! | --- | --- |
//! | `POST /fake/faults` | adds a [`Fault`]: `{"method": "POST", "path": "/_api/document", "skip": 1, "times": 2, "action": "drop_after"}` |
//! | `GET`, `DELETE /fake/faults` | what has not gone wrong yet; forgets it |
//! | `GET`, `DELETE /fake/requests` | how often which method and path came; starts anew |
//! | `POST /fake/power-loss` | takes back what was not synced: `{"lost": 3}` |
//! | `POST /fake/restart` | with `{"millis": 500}`: closes every connection for so long; cursors and tokens are gone, the data is not |
//! | `POST /fake/sync` | syncs everything |
//! | `POST /fake/ttl` | with `{"now": "2026-01-01T00:00:00Z"}` or seconds: removes what is expired by then |
//! | `POST /fake/expire-tokens`, `POST /fake/expire-cursors` | what was given out is good no more |
//!
//! An action with values is an object: `{"delay": {"millis": 50}}`, `{"refuse": {"status": 503, "error_num": 1465}}`,
//! `{"elements": {"error_num": 1200, "positions": [0]}}`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::faults::Fault;
use crate::front::State;
use crate::http::{Reply, Request};
use crate::store::expiry;

pub(crate) fn answer(state: &mut State, request: &Request) -> Reply {
    route(state, request).unwrap_or_else(|error| Reply::error(&error))
}

fn route(state: &mut State, request: &Request) -> Result<Reply> {
    let (method, path) = request.route();
    let done = |value: Value| Ok(Reply::json(200, &value));
    match (method, &path[1..]) {
        ("GET", ["faults"]) => done(json!(state.faults.pending())),
        ("POST", ["faults"]) => {
            let fault: Fault =
                serde_json::from_slice(&request.body).map_err(|error| Error::corrupted_json(&error.to_string()))?;
            state.faults.add(fault);
            done(json!(state.faults.pending()))
        }
        ("DELETE", ["faults"]) => {
            state.faults.clear();
            done(json!([]))
        }
        ("GET", ["requests"]) => done(json!(state.requests())),
        ("DELETE", ["requests"]) => {
            state.log.clear();
            done(json!([]))
        }
        ("POST", ["restart"]) => {
            let millis = request.json()?["millis"].as_u64().ok_or_else(|| Error::bad("expecting 'millis'"))?;
            state.go_down(Duration::from_millis(millis));
            done(json!({}))
        }
        ("POST", ["sync"]) => {
            state.store.sync();
            done(json!({}))
        }
        ("POST", ["power-loss"]) => done(json!({ "lost": state.store.power_loss() })),
        ("POST", ["ttl"]) => done(json!({ "removed": state.store.remove_expired(now(request)?) })),
        ("POST", ["expire-tokens"]) => {
            state.auth.forget_tokens();
            done(json!({}))
        }
        ("POST", ["expire-cursors"]) => {
            state.store.forget_sessions();
            done(json!({}))
        }
        _ => Err(Error::not_faked(&format!("{method} /{}", path.join("/")))),
    }
}

/// `{ "now": ... }`: seconds or a date, as in a document.
fn now(request: &Request) -> Result<SystemTime> {
    let body = request.json()?;
    let seconds = expiry::seconds(&body["now"]).filter(|seconds| *seconds >= 0.0);
    let seconds = seconds.ok_or_else(|| Error::bad("expecting 'now': seconds or a date"))?;
    Ok(UNIX_EPOCH + Duration::from_secs_f64(seconds))
}
