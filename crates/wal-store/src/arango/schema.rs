//! What the database must have for us: a database, two collections, their indexes. Whoever deploys makes it; services only look.
//!
//! ```text
//!   look ─▶ what is there ─┬─▶ differences ─▶ plan     says what is to be done
//!                wanted ───┘                 ─▶ apply    does it, and looks again
//!                                            ─▶ check    fails unless there are none, and every statement is served by its index
//! ```
//!
//! Every step of an apply may be done twice, and by two at once.

mod difference;

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::info;

pub use self::difference::Difference;
use super::client::Repeat;
use super::connection::{Connection, Server, read};
use super::explain;
use super::fault::Fault;
use super::indexes::{self, Found as FoundIndex, Wanted};
pub use super::open::OpenError;
use super::options::Options;

/// How much longer than wanted the database keeps finished entries: long enough to see that our own purge has stopped.
const SAFETY_MARGIN: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long making an index over everything may take.
const MAKING: Duration = Duration::from_secs(30 * 60);

/// The kind of collection that holds documents, not edges.
const DOCUMENTS: u32 = 2;

/// What is there.
pub(super) struct Found {
    pub(super) connection: Option<Connection>,
    entries: Option<Properties>,
    store: Option<Properties>,
    indexes: Vec<FoundIndex>,
}

/// A collection as the database has it. Only clusters say how it is spread.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Properties {
    #[serde(rename = "type")]
    kind: u32,
    #[serde(default)]
    key_options: Value,
    #[serde(default)]
    shard_keys: Option<Value>,
    #[serde(default)]
    replication_factor: Value,
    #[serde(default)]
    write_concern: Value,
}

/// The indexes of a collection.
#[derive(Deserialize)]
pub(super) struct Listed {
    pub(super) indexes: Vec<FoundIndex>,
}

impl Found {
    pub(super) fn is_cluster(&self) -> bool {
        self.entries.as_ref().is_some_and(|entries| entries.shard_keys.is_some())
    }
}

/// Tells what [`apply`] would do. Changes nothing.
pub async fn plan(options: &Options) -> Result<Vec<Difference>, OpenError> {
    let server = Server::connect(options).await?;
    Ok(differences(options, &look(&server, options).await?))
}

/// Makes everything as it should be, and tells what was done.
pub async fn apply(options: &Options) -> Result<Vec<Difference>, OpenError> {
    let options = &Options { request_timeout: options.request_timeout.max(MAKING), ..options.clone() };
    let server = Server::connect(options).await?;
    let mut done = Vec::new();
    // What is wrong within a thing shows when the thing is there: first the database, then collections, then indexes.
    for _ in 0..4 {
        let found = look(&server, options).await?;
        let differences = differences(options, &found);
        let curable = differences.iter().filter(|difference| !matches!(difference, Difference::Fixed { .. })).count();
        if curable == 0 {
            break;
        }
        for difference in differences {
            cure(&server, found.connection.as_ref(), options, &difference).await?;
            done.push(difference);
        }
    }
    check_with(&server, options).await?;
    Ok(done)
}

/// Fails unless everything is as it should be and every statement is served by its index. Changes nothing.
pub async fn check(options: &Options) -> Result<(), OpenError> {
    let server = Server::connect(options).await?;
    check_with(&server, options).await
}

/// Drops the database with everything in it.
#[cfg(any(test, feature = "testing"))]
pub async fn drop_database(options: &Options) -> Result<(), OpenError> {
    Ok(Server::connect(options).await?.drop_database(&options.database).await?)
}

async fn check_with(server: &Server, options: &Options) -> Result<(), OpenError> {
    let found = look(server, options).await?;
    let mut differences = differences(options, &found);
    if let (Some(connection), true) = (&found.connection, differences.is_empty()) {
        differences = unserved(connection, options).await?;
    }
    if differences.is_empty() { Ok(()) } else { Err(OpenError::Schema(differences)) }
}

pub(super) async fn look(server: &Server, options: &Options) -> Result<Found, Fault> {
    let connection = match server.database(&options.database).await {
        Ok(connection) => connection,
        Err(fault) if fault.is_absence() => {
            return Ok(Found { connection: None, entries: None, store: None, indexes: Vec::new() });
        }
        Err(fault) => return Err(fault),
    };
    let entries = properties(&connection, &options.entries()).await?;
    let store = properties(&connection, &options.store()).await?;
    let indexes = match &entries {
        Some(_) => found_indexes(&connection, &options.entries()).await?,
        None => Vec::new(),
    };
    Ok(Found { connection: Some(connection), entries, store, indexes })
}

async fn properties(connection: &Connection, collection: &str) -> Result<Option<Properties>, Fault> {
    match connection.get(&format!("_api/collection/{collection}/properties")).await {
        Ok(answer) => read(&answer).map(Some),
        Err(fault) if fault.is_absence() => Ok(None),
        Err(fault) => Err(fault),
    }
}

async fn found_indexes(connection: &Connection, collection: &str) -> Result<Vec<FoundIndex>, Fault> {
    let answer = connection.get(&format!("_api/index?collection={collection}")).await?;
    Ok(read::<Listed>(&answer)?.indexes)
}

/// What is to be done. Pure.
pub(super) fn differences(options: &Options, found: &Found) -> Vec<Difference> {
    if found.connection.is_none() {
        return vec![Difference::NoDatabase { name: options.database.clone() }];
    }
    let mut differences = Vec::new();
    for (name, properties) in [(options.entries(), &found.entries), (options.store(), &found.store)] {
        match properties {
            None => differences.push(Difference::NoCollection { name }),
            Some(properties) => differences.extend(of_properties(options, &name, properties)),
        }
    }
    if found.entries.is_some() {
        differences.extend(wanted_indexes(options).filter_map(|wanted| of_index(&wanted, &found.indexes)));
    }
    differences
}

fn of_properties(options: &Options, collection: &str, found: &Properties) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut fixed = |is_right: bool, name: &'static str, found: &Value| {
        if !is_right {
            differences.push(Difference::Fixed { collection: collection.to_owned(), name, found: found.clone() });
        }
    };
    fixed(found.kind == DOCUMENTS, "type", &json!(found.kind));
    // What chooses keys of its own refuses ours. A database that does not say lets us.
    fixed(found.key_options.get("allowUserKeys") != Some(&json!(false)), "keyOptions", &found.key_options);
    let Some(shard_keys) = &found.shard_keys else { return differences };
    fixed(*shard_keys == json!(["_key"]), "shardKeys", shard_keys);
    let (copies, written) = (json!(options.replication_factor), json!(options.write_concern));
    let changeable =
        [("replicationFactor", &found.replication_factor, copies), ("writeConcern", &found.write_concern, written)];
    for (name, found, wanted) in changeable {
        if *found != wanted {
            let (collection, found) = (collection.to_owned(), found.clone());
            differences.push(Difference::Property { collection, name, found, wanted });
        }
    }
    differences
}

fn of_index(wanted: &Wanted, found: &[FoundIndex]) -> Option<Difference> {
    let name = wanted.index.name;
    // Its own name counts more than its fields: another of the same fields may be somebody else's.
    let named = found.iter().find(|found| found.name == name);
    let Some(found) = named.or_else(|| found.iter().find(|found| wanted.is_place_of(found))) else {
        return Some(Difference::NoIndex { name });
    };
    let differences = wanted.differences(found);
    (!differences.is_empty()).then(|| Difference::Index { name, id: found.id.clone(), found: differences })
}

fn wanted_indexes(options: &Options) -> impl Iterator<Item = Wanted> {
    indexes::wanted((options.retention + SAFETY_MARGIN).as_secs())
}

/// Does away with one difference.
async fn cure(
    server: &Server,
    connection: Option<&Connection>,
    options: &Options,
    difference: &Difference,
) -> Result<(), Fault> {
    info!(%difference, "changing the database");
    let Some(connection) = connection else {
        let made = server.create_database(&options.database).await;
        // Somebody else may have been faster; then it is there.
        return if server.database(&options.database).await.is_ok() { Ok(()) } else { made };
    };
    match difference {
        Difference::NoDatabase { .. } | Difference::Fixed { .. } | Difference::Unserved { .. } => Ok(()),
        Difference::NoCollection { name } => create_collection(connection, options, name).await,
        Difference::Property { collection, name, wanted, .. } => {
            let (path, body) = (format!("_api/collection/{collection}/properties"), json!({ *name: wanted }));
            connection.call(Method::PUT, &path, Bytes::from(body.to_string()), Repeat::Harmless).await.map(|_| ())
        }
        Difference::NoIndex { name } => create_index(connection, options, name).await,
        Difference::Index { name, id, .. } => {
            if !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-/".contains(&byte)) {
                return Err(Fault::strange(format_args!("an index with the id `{id}`")));
            }
            // Until the new one is made, what the old one served is slow; two of one name cannot be.
            match connection.call(Method::DELETE, &format!("_api/index/{id}"), Bytes::new(), Repeat::Harmless).await {
                Ok(_) => {}
                Err(fault) if fault.is_absence() => {}
                Err(fault) => return Err(fault),
            }
            create_index(connection, options, name).await
        }
    }
}

async fn create_collection(connection: &Connection, options: &Options, name: &str) -> Result<(), Fault> {
    let shards = if name == options.entries() { options.shards } else { 1 };
    let body = json!({
        "name": name,
        "type": DOCUMENTS,
        "keyOptions": { "type": "traditional", "allowUserKeys": true },
        // With any other key the database does not let us choose `_key`, and a repeat would be stored again.
        "shardKeys": ["_key"],
        "numberOfShards": shards,
        "replicationFactor": options.replication_factor,
        "writeConcern": options.write_concern,
    });
    match connection.post("_api/collection", body.to_string(), Repeat::Telling).await {
        Ok(_) => Ok(()),
        Err(fault) => match properties(connection, name).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) | Err(_) => Err(fault),
        },
    }
}

async fn create_index(connection: &Connection, options: &Options, name: &str) -> Result<(), Fault> {
    let Some(wanted) = wanted_indexes(options).find(|wanted| wanted.index.name == name) else { return Ok(()) };
    let path = format!("_api/index?collection={}", options.entries());
    connection.post(&path, wanted.definition().to_string(), Repeat::Harmless).await.map(|_| ())
}

/// The statements that are not served by their index.
pub(super) async fn unserved(connection: &Connection, options: &Options) -> Result<Vec<Difference>, Fault> {
    explain::unserved(connection, &options.entries()).await
}

#[cfg(test)]
mod tests;
