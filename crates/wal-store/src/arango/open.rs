//! Opening the store: it is ArangoDB, everything is there, and it is the store that it was.

use bytes::Bytes;
use http::Method;
use serde::{Deserialize, Serialize};
use tracing::warn;
use uuid::Uuid;

use super::backend::Inner;
use super::client::Repeat;
use super::connection::{Connection, NotConnected, Server, read};
use super::fault::{Class, Fault};
use super::fence::{FENCES, Sync};
use super::options::{Options, Unusable};
use super::schema::{self, Difference};
use crate::StoreId;

/// The format of the collections that this program reads and writes. Stored, keep stable.
const FORMAT: u32 = 1;

/// The key of the document that says which store this is. Stored, keep stable.
const KEY: &str = "store";

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The options cannot be used, whatever the database says.
    #[error("open the store in ArangoDB: {0}")]
    Unusable(#[from] Unusable),
    /// Not now; trying again may help.
    #[error("open the store in ArangoDB: it is not available: {0}")]
    Unavailable(String),
    /// The database does not let us, or is none we know. A person must change something.
    #[error("open the store in ArangoDB: {0}")]
    Refused(String),
    /// Something is missing there, or is not as it should be.
    #[error("open the store in ArangoDB: {}; `wal store apply` makes it so", list(.0))]
    Schema(Vec<Difference>),
    /// A newer program made it.
    #[error("open the store in ArangoDB: it has format {found}, this program knows {FORMAT}; use the newer program")]
    Newer {
        /// The format it has.
        found: u32,
    },
    /// What is there is not a store, or no longer one.
    #[error("open the store in ArangoDB: it is damaged: {0}")]
    Corrupt(String),
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> OpenError {
        match fault.class {
            Class::Damaged => OpenError::Corrupt(fault.said),
            Class::Misconfigured | Class::Unauthorised | Class::Refused => OpenError::Refused(fault.said),
            Class::Duplicate
            | Class::Conflict
            | Class::Missing
            | Class::TooLarge
            | Class::Busy
            | Class::Unavailable
            | Class::ReadOnly
            | Class::CursorGone => OpenError::Unavailable(fault.said),
        }
    }
}

impl From<NotConnected> for OpenError {
    fn from(error: NotConnected) -> OpenError {
        match error {
            NotConnected::Unusable(unusable) => unusable.into(),
            NotConnected::Fault(fault) => fault.into(),
        }
    }
}

/// Who a store is, as it stands in its collection. Stored, keep stable.
#[derive(Serialize, Deserialize)]
struct Identity {
    #[serde(rename = "_key")]
    key: String,
    format: u32,
    store_id: Uuid,
}

pub(super) async fn open(options: &Options) -> Result<Inner, OpenError> {
    let server = Server::connect(options).await?;
    let found = schema::look(&server, options).await?;
    let differences = schema::differences(options, &found);
    let (Some(connection), true) = (found.connection.clone(), differences.is_empty()) else {
        return Err(OpenError::Schema(differences));
    };
    for difference in schema::unserved(&connection, options).await? {
        // Slow is better than not at all; `schema::check` is stricter.
        warn!(%difference, "a statement is slower than it should be");
    }
    let mut inner = Inner {
        connection,
        id: StoreId(Uuid::nil()),
        entries: options.entries(),
        store: options.store(),
        readable_copy: options.readable_copy,
        is_cluster: found.is_cluster(),
        sync_wait: options.sync_wait,
        fence: fastrand::u32(..FENCES),
    };
    inner.id = identity(&inner).await?;
    Ok(inner)
}

/// The store's id, made by whoever opens it first. Of several at the same time, the database lets one be first.
async fn identity(inner: &Inner) -> Result<StoreId, OpenError> {
    if let Some(id) = read_identity(&inner.connection, &inner.store).await? {
        return Ok(id);
    }
    let made = Identity { key: KEY.to_owned(), format: FORMAT, store_id: Uuid::new_v4() };
    let body = serde_json::to_vec(&made).expect("texts and numbers are JSON");
    let path = format!("_api/document/{}?waitForSync=true", inner.store);
    match inner.connection.call(Method::POST, &path, Bytes::from(body), Repeat::Harmless).await {
        Ok(_) => return Ok(StoreId(made.store_id)),
        Err(Fault { class: Class::Duplicate | Class::Conflict, .. }) => {}
        Err(fault) => return Err(fault.into()),
    }
    let id = read_identity(&inner.connection, &inner.store).await?;
    // Somebody has just made it, and ids that others remember must not change.
    inner.fence(Sync::Wanting).await?;
    id.ok_or_else(|| OpenError::Unavailable("somebody else is making it at this moment".to_owned()))
}

async fn read_identity(connection: &Connection, collection: &str) -> Result<Option<StoreId>, OpenError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let answer = match connection.get(&format!("_api/document/{collection}/{KEY}")).await {
        Err(Fault { class: Class::Missing, .. }) => return Ok(None),
        answer => answer?,
    };
    let Format { format } = read(&answer).map_err(|fault| OpenError::Corrupt(fault.said))?;
    if format > FORMAT {
        return Err(OpenError::Newer { found: format });
    }
    let identity: Identity = read(&answer).map_err(|fault| OpenError::Corrupt(fault.said))?;
    Ok(Some(StoreId(identity.store_id)))
}

fn list(differences: &[Difference]) -> String {
    let texts: Vec<String> = differences.iter().map(ToString::to_string).collect();
    texts.join(", ")
}
