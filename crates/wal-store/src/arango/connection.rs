//! A database as `arangors` holds it, and the raw calls that `arangors` does not have.

use std::sync::Arc;

use arangors::{ClientError, Database, GenericConnection};
use bytes::Bytes;
use http::Method;
use serde::de::DeserializeOwned;

use super::adapter::{self, Session};
use super::client::{Answer, Call, Client, Repeat};
use super::fault::{self, Class, Fault};
use super::options::{Options, Unusable};

/// The oldest release whose answers we know.
const OLDEST: (u32, u32) = (3, 11);

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum NotConnected {
    Unusable(Unusable),
    Fault(Fault),
}

impl From<Unusable> for NotConnected {
    fn from(unusable: Unusable) -> NotConnected {
        NotConnected::Unusable(unusable)
    }
}

impl From<Fault> for NotConnected {
    fn from(fault: Fault) -> NotConnected {
        NotConnected::Fault(fault)
    }
}

/// One deployment, whether or not it has our database.
pub(super) struct Server {
    arangors: GenericConnection<Session>,
}

impl Server {
    pub(super) async fn connect(options: &Options) -> Result<Server, NotConnected> {
        let client = Client::new(options)?;
        // Any endpoint's: the client puts the one in its place that answers.
        let url = options.endpoints[0].clone();
        let arangors =
            adapter::lend(&client, GenericConnection::establish_without_auth(url)).await.map_err(fault_of)?;
        Ok(Server { arangors })
    }

    pub(super) async fn create_database(&self, name: &str) -> Result<(), Fault> {
        self.arangors.create_database(name).await.map(|_| ()).map_err(fault_of)
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) async fn drop_database(&self, name: &str) -> Result<(), Fault> {
        self.arangors.drop_database(name).await.map_err(fault_of)
    }

    /// The database, if it is there.
    pub(super) async fn database(&self, name: &str) -> Result<Connection, Fault> {
        let database = self.arangors.db(name).await.map_err(fault_of)?;
        let connection = Connection { session: database.session(), database };
        connection.check_version().await?;
        Ok(connection)
    }
}

/// A database.
#[derive(Clone)]
pub(super) struct Connection {
    session: Arc<Session>,
    database: Database<Session>,
}

impl Connection {
    pub(super) async fn get(&self, path: &str) -> Result<Answer, Fault> {
        self.call(Method::GET, path, Bytes::new(), Repeat::Harmless).await
    }

    pub(super) async fn post(&self, path: &str, body: impl Into<Bytes>, repeat: Repeat) -> Result<Answer, Fault> {
        self.call(Method::POST, path, body.into(), repeat).await
    }

    /// Asks the one endpoint that holds a cursor for more of it. What was lost of its answer cannot be asked for again.
    pub(super) async fn post_again(&self, path: &str, endpoint: usize) -> Result<Answer, Fault> {
        let call = Call {
            method: Method::POST,
            path: self.path(path),
            body: Bytes::new(),
            repeat: Repeat::Telling,
            endpoint: Some(endpoint),
        };
        self.session.client.call(&call).await
    }

    /// How often a server was asked anything.
    pub(super) fn requests(&self) -> u64 {
        self.session.client.requests()
    }

    pub(super) async fn call(&self, method: Method, path: &str, body: Bytes, repeat: Repeat) -> Result<Answer, Fault> {
        self.session.client.call(&Call { method, path: self.path(path), body, repeat, endpoint: None }).await
    }

    fn path(&self, path: &str) -> String {
        format!("{}{path}", self.database.url().path())
    }

    async fn check_version(&self) -> Result<(), Fault> {
        #[derive(serde::Deserialize)]
        struct Version {
            version: String,
        }
        let Version { version } = read(&self.get("_api/version").await?)?;
        let mut parts = version.split(['.', '-']).map(|part| part.parse::<u32>().ok());
        match (parts.next().flatten(), parts.next().flatten()) {
            (Some(major), Some(minor)) if (major, minor) >= OLDEST => Ok(()),
            _ => {
                let (major, minor) = OLDEST;
                let said =
                    format!("the server is ArangoDB {}, {major}.{minor} at least is needed", fault::brief(&version));
                Err(Fault::new(Class::Misconfigured, said))
            }
        }
    }
}

/// Reads an answer as the JSON it should be.
pub(super) fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, Fault> {
    serde_json::from_slice(&answer.body).map_err(Fault::strange)
}

fn fault_of(error: ClientError) -> Fault {
    match error {
        ClientError::Arango(error) => {
            let number = Some(u32::from(error.error_num())).filter(|number| *number != 0);
            let said = match number {
                Some(number) => format!("{} (error {number})", fault::brief(error.message())),
                None => fault::brief(error.message()),
            };
            Fault::numbered(error.code(), number, said)
        }
        ClientError::HttpClient(said) => Fault::new(Class::Unavailable, said),
        ClientError::InvalidServer(said) => {
            Fault::new(Class::Misconfigured, format!("no ArangoDB answers: {}", fault::brief(&said)))
        }
        error @ (ClientError::InsufficientPermission { .. } | ClientError::Serde(_)) => Fault::strange(error),
    }
}
