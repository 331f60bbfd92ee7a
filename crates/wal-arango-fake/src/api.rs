//! Which path is answered by whom. What ArangoDB has and this has not is refused loudly (501), never answered emptily.

mod admin;
mod collection;
pub(crate) mod cursor;
mod database;
mod document;
mod explain;
mod import;
mod index;

use crate::error::{Error, Result};
use crate::http::{Reply, Request};
use crate::store::Store;

pub(crate) fn answer(store: &mut Store, request: &Request) -> Reply {
    route(store, request).unwrap_or_else(|error| Reply::error(&error))
}

fn route(store: &mut Store, request: &Request) -> Result<Reply> {
    let (method, path) = request.route();
    match path.as_slice() {
        [] => return Ok(admin::root(request)),
        ["_admin", rest @ ..] => return admin::answer(store.version, method, rest),
        _ => {}
    }
    store.database(&request.database)?;
    match path.as_slice() {
        ["_api", "version"] => Ok(admin::version(store.version, request)),
        ["_api", "engine"] => Ok(admin::engine(store.version)),
        ["_api", "key-generators"] => Ok(admin::key_generators()),
        ["_api", "database", rest @ ..] => database::answer(store, request, method, rest),
        ["_api", "user", _, "database"] if method == "GET" => Ok(database::accessible(store)),
        ["_api", "collection", rest @ ..] => collection::answer(store, request, method, rest),
        ["_api", "index", rest @ ..] => index::answer(store, request, method, rest),
        ["_api", "document", rest @ ..] => document::answer(store, request, method, rest),
        ["_api", "simple", "lookup-by-keys"] if method == "PUT" => document::lookup_by_keys(store, request),
        ["_api", "cursor", rest @ ..] => cursor::answer(store, request, method, rest),
        ["_api", "explain"] if method == "POST" => explain::explain(store, request),
        ["_api", "query"] if method == "POST" => explain::parse(store, request),
        ["_api", "import"] if method == "POST" => import::answer(store, request),
        _ => Err(unknown(request)),
    }
}

pub(crate) fn unknown(request: &Request) -> Error {
    Error::not_faked(&format!("{} /{}", request.method, request.segments.join("/")))
}
