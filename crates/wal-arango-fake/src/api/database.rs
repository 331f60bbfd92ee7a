//! Databases: made and dropped from `_system` only.

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::http::{Reply, Request};
use crate::store::Store;

pub(super) fn answer(store: &mut Store, request: &Request, method: &str, path: &[&str]) -> Result<Reply> {
    match (method, path) {
        ("GET", ["current"]) => current(store, request),
        ("GET", ["user"]) => Ok(list(store)),
        ("GET", []) => in_system(request).map(|()| list(store)),
        ("POST", []) => in_system(request).and_then(|()| create(store, request)),
        ("DELETE", [name]) => in_system(request).and_then(|()| drop_database(store, name)),
        _ => Err(super::unknown(request)),
    }
}

fn in_system(request: &Request) -> Result<()> {
    if request.database == "_system" {
        return Ok(());
    }
    Err(Error::new(403, 1230, "operation only allowed in system database"))
}

fn current(store: &Store, request: &Request) -> Result<Reply> {
    let id = store.database(&request.database)?.id.to_string();
    let is_system = request.database == "_system";
    let shown = json!({ "name": request.database, "id": id, "path": "none", "isSystem": is_system });
    Ok(Reply::result(200, shown))
}

fn list(store: &Store) -> Reply {
    Reply::result(200, store.databases.keys().cloned().collect::<Vec<_>>().into())
}

/// What a user may do where: everyone may do everything.
pub(super) fn accessible(store: &Store) -> Reply {
    let rights: Map<String, Value> = store.databases.keys().map(|name| (name.clone(), "rw".into())).collect();
    Reply::result(200, rights.into())
}

/// The traditional names: a letter, then letters, digits, `_` and `-`, 64 bytes at most.
fn is_legal(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    name.starts_with(|first: char| first.is_ascii_alphabetic()) && name.len() <= 64 && name.bytes().all(is_inner)
}

fn create(store: &mut Store, request: &Request) -> Result<Reply> {
    let body: Map<String, Value> = request.object()?;
    let name = body.get("name").and_then(Value::as_str).unwrap_or_default();
    if !is_legal(name) {
        return Err(Error::new(400, 1229, "database name invalid"));
    }
    if store.databases.contains_key(name) {
        return Err(Error::new(409, 1207, "duplicate database name"));
    }
    store.create_database(name);
    Ok(Reply::result(201, true.into()))
}

fn drop_database(store: &mut Store, name: &str) -> Result<Reply> {
    store.database(name)?;
    if name == "_system" {
        return Err(Error::new(403, 11, "forbidden"));
    }
    store.databases.remove(name);
    Ok(Reply::result(200, true.into()))
}
