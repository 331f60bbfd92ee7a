//! Collections: made, looked at, emptied, renamed, dropped.

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::http::{Reply, Request};
use crate::store::Store;
use crate::store::collection::{Collection, KeyGenerator, Kind};
use crate::store::encode_revision;

pub(super) fn answer(store: &mut Store, request: &Request, method: &str, path: &[&str]) -> Result<Reply> {
    match (method, path) {
        ("GET", []) => list(store, request),
        ("POST", []) => create(store, request),
        ("DELETE", [name]) => drop_collection(store, request, name),
        ("GET", [name]) => brief(store, request, name),
        ("GET", [name, "properties"]) => properties(store, request, name),
        ("PUT", [name, "properties"]) => change(store, request, name),
        ("GET", [name, "count"]) => count(store, request, name),
        ("GET", [name, "revision"]) => revision(store, request, name),
        ("PUT", [name, "truncate"]) => truncate(store, request, name),
        ("PUT", [name, "rename"]) => rename(store, request, name),
        ("PUT", [name, "load"]) => load(store, request, name),
        ("PUT", [name, "unload" | "loadIndexesIntoMemory"]) => {
            store.collection(&request.database, name)?;
            Ok(located(request, Reply::result(200, true.into())))
        }
        _ => Err(super::unknown(request)),
    }
}

/// Whatever lies below a collection says where it lies.
fn located(request: &Request, reply: Reply) -> Reply {
    reply.with_header("location", request.path())
}

fn list(store: &Store, request: &Request) -> Result<Reply> {
    let with_system = !request.flag("excludeSystem", false);
    let collections = store.database(&request.database)?.collections.values();
    let shown = collections.filter(|collection| with_system || !collection.is_system());
    let shown: Vec<Value> = shown.map(|collection| Value::Object(collection.brief())).collect();
    Ok(Reply::result(200, shown.into()))
}

fn is_legal(name: &str, is_system: bool) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let is_first = |first: char| first.is_ascii_alphabetic() || (is_system && first == '_');
    name.starts_with(is_first) && name.len() <= 256 && name.bytes().all(is_inner)
}

fn create(store: &mut Store, request: &Request) -> Result<Reply> {
    let body = request.object()?;
    let name = body.get("name").and_then(Value::as_str).unwrap_or_default();
    let flag = |name: &str| body.get(name).and_then(Value::as_bool).unwrap_or(false);
    if !is_legal(name, flag("isSystem")) {
        return Err(Error::illegal_name("collection"));
    }
    if store.collection(&request.database, name).is_ok() {
        return Err(Error::new(409, 1207, "duplicate name"));
    }
    let kind = match body.get("type").map(Value::as_u64) {
        None | Some(Some(2)) => Kind::Document,
        Some(Some(3)) => Kind::Edge,
        Some(_) => return Err(Error::new(400, 1218, "invalid collection type")),
    };
    check_shard_keys(body.get("shardKeys"))?;
    // The number after its own is its object's.
    let (id, _) = (store.next_tick(), store.next_tick());
    let mut collection = Collection::new(id, name, kind);
    collection.waits_for_sync = flag("waitForSync");
    collection.cache_enabled = flag("cacheEnabled");
    set_key_options(&mut collection, body.get("keyOptions").unwrap_or(&Value::Null))?;
    if body.get("schema").is_some_and(|schema| !schema.is_null()) {
        return Err(Error::not_faked("schemas of collections"));
    }
    let shown = collection.properties(store.version);
    store.database_mut(&request.database)?.collections.insert(name.to_owned(), collection);
    Ok(Reply::object(200, shown))
}

/// A single server takes and ignores them; a list that is none it refuses.
fn check_shard_keys(keys: Option<&Value>) -> Result<()> {
    let is_list = |keys: &Value| keys.as_array().is_some_and(|keys| keys.iter().all(Value::is_string));
    if keys.is_some_and(|keys| !keys.is_null() && !is_list(keys)) {
        return Err(Error::new(400, 10, "invalid shard keys"));
    }
    Ok(())
}

fn set_key_options(collection: &mut Collection, options: &Value) -> Result<()> {
    let number = |name: &str, otherwise: u64| options[name].as_u64().unwrap_or(otherwise);
    collection.allows_user_keys = options["allowUserKeys"].as_bool().unwrap_or(true);
    collection.generator = match options["type"].as_str() {
        None | Some("traditional") => KeyGenerator::Traditional,
        Some("autoincrement") => {
            KeyGenerator::Autoincrement { offset: number("offset", 0), increment: number("increment", 1).max(1) }
        }
        Some(other) => return Err(Error::not_faked(&format!("the key generator '{other}'"))),
    };
    Ok(())
}

fn drop_collection(store: &mut Store, request: &Request, name: &str) -> Result<Reply> {
    let collection = store.collection(&request.database, name)?;
    if collection.is_system() && !request.flag("isSystem", false) {
        return Err(Error::new(403, 11, "forbidden"));
    }
    let (id, name) = (collection.id, collection.name.clone());
    store.database_mut(&request.database)?.collections.remove(&name);
    Ok(Reply::object(200, Map::from_iter([("id".to_owned(), id.to_string().into())])))
}

fn brief(store: &Store, request: &Request, name: &str) -> Result<Reply> {
    let collection = store.collection(&request.database, name)?;
    Ok(located(request, Reply::object(200, collection.brief())))
}

fn properties(store: &Store, request: &Request, name: &str) -> Result<Reply> {
    let collection = store.collection(&request.database, name)?;
    Ok(located(request, Reply::object(200, collection.properties(store.version))))
}

fn change(store: &mut Store, request: &Request, name: &str) -> Result<Reply> {
    let body = request.object()?;
    let collection = store.collection_mut(&request.database, name)?;
    let flag = |name: &str| body.get(name).and_then(Value::as_bool);
    collection.waits_for_sync = flag("waitForSync").unwrap_or(collection.waits_for_sync);
    collection.cache_enabled = flag("cacheEnabled").unwrap_or(collection.cache_enabled);
    properties(store, request, name)
}

fn count(store: &Store, request: &Request, name: &str) -> Result<Reply> {
    let collection = store.collection(&request.database, name)?;
    let mut shown = collection.properties(store.version);
    shown.insert("count".into(), collection.len().into());
    Ok(located(request, Reply::object(200, shown)))
}

fn revision(store: &Store, request: &Request, name: &str) -> Result<Reply> {
    let collection = store.collection(&request.database, name)?;
    let mut shown = collection.properties(store.version);
    shown.insert("revision".into(), encode_revision(collection.revision()).into());
    Ok(located(request, Reply::object(200, shown)))
}

fn truncate(store: &mut Store, request: &Request, name: &str) -> Result<Reply> {
    let collection = store.collection_mut(&request.database, name)?;
    // Like dropping and making it anew: no loss of power brings the documents back.
    collection.truncate();
    let shown = collection.brief();
    Ok(located(request, Reply::object(200, shown)))
}

fn rename(store: &mut Store, request: &Request, name: &str) -> Result<Reply> {
    let body = request.object()?;
    let new = body.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !is_legal(&new, false) {
        return Err(Error::illegal_name("collection"));
    }
    if store.collection(&request.database, &new).is_ok() {
        return Err(Error::new(409, 1207, "duplicate name"));
    }
    let collection = store.collection(&request.database, name)?;
    if collection.len() > 0 {
        return Err(Error::not_faked("renaming a collection that has documents"));
    }
    let old = collection.name.clone();
    let collections = &mut store.database_mut(&request.database)?.collections;
    let mut collection = collections.remove(&old).expect("just found");
    collection.name.clone_from(&new);
    let shown = collection.brief();
    collections.insert(new, collection);
    Ok(located(request, Reply::object(200, shown)))
}

fn load(store: &Store, request: &Request, name: &str) -> Result<Reply> {
    let collection = store.collection(&request.database, name)?;
    let mut shown = collection.brief();
    shown.insert("count".into(), json!(collection.len()));
    Ok(located(request, Reply::object(200, shown)))
}
