//! Indexes: ensured, listed, looked at, dropped.

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::http::{Reply, Request};
use crate::store::Store;
use crate::store::collection::Collection;
use crate::store::index::{Definition, show_primary};

pub(super) fn answer(store: &mut Store, request: &Request, method: &str, path: &[&str]) -> Result<Reply> {
    match (method, path) {
        ("GET", []) => list(store, request),
        ("POST", []) => ensure(store, request),
        ("GET", [collection, index]) => show(store, request, collection, index),
        ("DELETE", [collection, index]) => drop_index(store, request, collection, index),
        _ => Err(super::unknown(request)),
    }
}

fn name_of_collection(request: &Request) -> Result<&str> {
    request.text("collection").ok_or_else(|| Error::bad("expecting query parameter 'collection'"))
}

fn list(store: &Store, request: &Request) -> Result<Reply> {
    let collection = store.collection(&request.database, name_of_collection(request)?)?;
    let primary = show_primary(&collection.name);
    let others = collection.indexes.iter().map(|index| index.show(&collection.name));
    let indexes: Vec<Map<String, Value>> = std::iter::once(primary).chain(others).collect();
    let id = |index: &Map<String, Value>| index["id"].as_str().unwrap_or_default().to_owned();
    let by_id: Map<String, Value> = indexes.iter().map(|index| (id(index), json!(index))).collect();
    let shown = Map::from_iter([("indexes".to_owned(), json!(indexes)), ("identifiers".to_owned(), json!(by_id))]);
    Ok(Reply::object(200, shown))
}

fn ensure(store: &mut Store, request: &Request) -> Result<Reply> {
    let body = request.json()?;
    if body["type"] == "primary" || body["type"] == "edge" {
        return Err(Error::new(400, 10, "cannot create an index of this type"));
    }
    let definition = Definition::parse(&body)?;
    let id = store.next_tick();
    let collection = store.collection_mut(&request.database, name_of_collection(request)?)?;
    let name = body["name"].as_str().filter(|name| !name.is_empty());
    let (index, is_new) = collection.ensure_index(id, name, definition)?;
    let mut shown = index.show(name_of_collection(request)?);
    shown.insert("isNewlyCreated".into(), is_new.into());
    Ok(Reply::object(if is_new { 201 } else { 200 }, shown))
}

/// By number or by name.
fn position(collection: &Collection, index: &str) -> Result<usize> {
    let mut indexes = collection.indexes.iter();
    let found = indexes.position(|held| held.name == index || held.id.to_string() == index);
    found.ok_or_else(Error::index_not_found)
}

fn show(store: &Store, request: &Request, collection: &str, index: &str) -> Result<Reply> {
    let collection = store.collection(&request.database, collection)?;
    if index == "0" || index == "primary" {
        return Ok(Reply::object(200, show_primary(&collection.name)));
    }
    let at = position(collection, index)?;
    Ok(Reply::object(200, collection.indexes[at].show(&collection.name)))
}

fn drop_index(store: &mut Store, request: &Request, collection: &str, index: &str) -> Result<Reply> {
    let collection = store.collection_mut(&request.database, collection)?;
    if index == "0" || index == "primary" {
        return Err(Error::new(403, 11, "forbidden"));
    }
    let at = position(collection, index)?;
    let dropped = collection.indexes.remove(at);
    let id = format!("{}/{}", collection.name, dropped.id);
    Ok(Reply::object(200, Map::from_iter([("id".to_owned(), id.into())])))
}
