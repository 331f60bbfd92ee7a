//! The switches over HTTP, below `/fake`, where no path of ArangoDB lies. Neither logged nor hit by faults nor asked for a password.

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
