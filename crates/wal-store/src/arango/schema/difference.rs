//! In what a database is not as it should be.

use std::fmt;

use serde_json::Value;

/// Something that is not there, or not as it should be.
#[derive(Clone, Debug, PartialEq)]
pub enum Difference {
    /// There is no such database.
    NoDatabase {
        /// Its name.
        name: String,
    },
    /// There is no such collection.
    NoCollection {
        /// Its name.
        name: String,
    },
    /// A collection has another value for what can be changed.
    Property {
        /// The collection.
        collection: String,
        /// Which property.
        name: &'static str,
        /// What it is.
        found: Value,
        /// What it should be.
        wanted: Value,
    },
    /// A collection has another value for what was fixed when it was made. A person must move its documents elsewhere.
    Fixed {
        /// The collection.
        collection: String,
        /// Which property.
        name: &'static str,
        /// What it is.
        found: Value,
    },
    /// There is no such index.
    NoIndex {
        /// Its name.
        name: &'static str,
    },
    /// An index is made otherwise.
    Index {
        /// Its name.
        name: &'static str,
        /// The database's id for what is there.
        id: String,
        /// In what it differs.
        found: Vec<String>,
    },
    /// A statement is not served by its index.
    Unserved {
        /// The statement.
        statement: &'static str,
        /// What the database does instead.
        why: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::NoDatabase { name } => write!(f, "there is no database `{name}`"),
            Difference::NoCollection { name } => write!(f, "there is no collection `{name}`"),
            Difference::Property { collection, name, found, wanted } => {
                write!(f, "collection `{collection}` has {name} {found}, not {wanted}")
            }
            Difference::Fixed { collection, name, found } => {
                write!(f, "collection `{collection}` was made with {name} {found}, which cannot be changed")
            }
            Difference::NoIndex { name } => write!(f, "there is no index `{name}`"),
            Difference::Index { name, found, .. } => write!(f, "index `{name}` has {}", found.join(" and ")),
            Difference::Unserved { statement, why } => write!(f, "statement `{statement}` {why}"),
        }
    }
}
