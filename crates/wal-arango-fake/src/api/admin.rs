//! What a server says of itself.

use serde_json::{Map, Value, json};

use crate::Version;
use crate::error::{Error, Result};
use crate::http::{Reply, Request};

pub(super) fn answer(version: Version, method: &str, path: &[&str]) -> Result<Reply> {
    match (method, path) {
        ("GET", ["status"]) => Ok(Reply::json(200, &status(version))),
        ("GET", ["server", "role"]) => Ok(single("role", "SINGLE")),
        ("GET", ["server", "availability"]) => Ok(single("mode", "default")),
        ("GET", ["server", "mode"]) => Ok(single("mode", "default")),
        ("GET", ["aardvark", "index.html"]) => Ok(Reply::empty(200)),
        ("GET", ["license"]) => license(version),
        _ => Err(Error::not_faked(&format!("{method} /_admin/{}", path.join("/")))),
    }
}

/// The way to the web interface. Some clients follow it to see whether an ArangoDB is there.
pub(super) fn root(request: &Request) -> Reply {
    Reply::empty(301).with_header("location", format!("/_db/{}/_admin/aardvark/index.html", request.database))
}

fn single(name: &str, value: &str) -> Reply {
    Reply::object(200, Map::from_iter([(name.to_owned(), value.into())]))
}

/// A single server's; the recorded one is a coordinator's.
fn status(version: Version) -> Value {
    json!({
        "server": "arango",
        "version": version.number(),
        "pid": std::process::id(),
        "license": "community",
        "mode": "server",
        "operationMode": "server",
        "foxxApi": true,
        "host": "localhost",
        "hostname": "localhost",
        "serverInfo": {
            "progress": { "phase": "in wait", "feature": "", "recoveryTick": 0 },
            "maintenance": false,
            "role": "SINGLE",
            "writeOpsEnabled": true,
            "readOnly": false,
        },
    })
}

/// Only the newer line has a limit to tell of.
fn license(version: Version) -> Result<Reply> {
    match version {
        Version::V3_11 => Err(Error::new(404, 404, "unknown path '/_admin/license'")),
        Version::V3_12 => Ok(Reply::json(
            200,
            &json!({
                "upgrading": false,
                "diskUsage": {
                    "bytesUsed": 0,
                    "bytesLimit": 107_374_182_400_u64,
                    "limitReached": false,
                    "secondsUntilReadOnly": 0,
                    "secondsUntilShutDown": 0,
                    "status": "good",
                },
            }),
        )),
    }
}

pub(super) fn version(version: Version, request: &Request) -> Reply {
    let mut shown = json!({ "server": "arango", "license": "community", "version": version.number() });
    if request.flag("details", false) {
        let details = json!({
            "architecture": "64bit",
            "endianness": "little",
            "license": "community",
            "mode": "server",
            "platform": "linux",
            "role": "SINGLE",
            "server-version": version.number(),
        });
        shown["details"] = details;
    }
    Reply::json(200, &shown)
}

pub(super) fn engine(version: Version) -> Reply {
    let shared = ["primary", "edge", "hash", "skiplist", "ttl", "persistent", "geo", "fulltext"];
    let (own, zkd): (&[&str], _) = match version {
        Version::V3_11 => (&["zkd", "inverted"], None),
        Version::V3_12 => (&["mdi", "mdi-prefixed", "inverted"], Some("mdi")),
    };
    let indexes: Vec<&str> = shared.iter().chain(own).copied().collect();
    let mut shown = json!({
        "name": "rocksdb",
        "supports": {
            "indexes": indexes,
            "aliases": { "indexes": { "hash": "persistent", "skiplist": "persistent" } },
        },
    });
    match zkd {
        None => shown["supports"]["dfdb"] = false.into(),
        Some(alias) => {
            shown["supports"]["aliases"]["indexes"]["zkd"] = alias.into();
            shown["endianness"] = "big".into();
        }
    }
    Reply::json(200, &shown)
}

pub(super) fn key_generators() -> Reply {
    Reply::json(200, &json!({ "keyGenerators": ["traditional", "autoincrement"] }))
}
