//! What may stand in OPTIONS. What is not known there is a warning (1539), so that a typo does not silently drop a protection.

use serde_json::Value;

use super::ast::Verb;
use super::refuse;
use crate::Version;
use crate::error::{Error, Result};
use crate::store::write::{Options, Overwrite};
use crate::value::{Patch, is_true};

const MODIFY: [&str; 9] = [
    "waitForSync",
    "keepNull",
    "mergeObjects",
    "overwrite",
    "overwriteMode",
    "ignoreRevs",
    "ignoreErrors",
    "exclusive",
    "refillIndexCaches",
];

/// What a loop over a collection may be told that changes no result.
const FOR: [&str; 5] = ["indexHint", "forceIndexHint", "maxProjections", "useCache", "lookahead"];

#[derive(Clone, Debug)]
pub(super) struct ModifyOptions {
    pub(super) write: Options,
    pub(super) ignores_errors: bool,
    pub(super) unknown: Vec<String>,
}

pub(super) fn modify(options: &Value, verb: Verb, version: Version) -> Result<ModifyOptions> {
    let flag = |name: &str, otherwise: bool| options.get(name).map_or(otherwise, is_true);
    let version_attribute = match version {
        Version::V3_11 => None,
        Version::V3_12 => options.get("versionAttribute").and_then(Value::as_str).map(str::to_owned),
    };
    let is_known = |name: &str| {
        MODIFY.contains(&name)
            || name == "skipDocumentValidation"
            || (name == "versionAttribute" && version == Version::V3_12)
    };
    let names = options.as_object().into_iter().flat_map(serde_json::Map::keys);
    let overwrite = match options.get("overwriteMode").map(Value::as_str) {
        None if verb == Verb::Insert && flag("overwrite", false) => Overwrite::Replace,
        None | Some(Some("conflict")) => Overwrite::Conflict,
        Some(Some("ignore")) => Overwrite::Ignore,
        Some(Some("replace")) => Overwrite::Replace,
        Some(Some("update")) => Overwrite::Update,
        Some(_) => return Err(refuse(1539, "invalid value for 'overwriteMode'")),
    };
    Ok(ModifyOptions {
        unknown: names.filter(|name| !is_known(name)).cloned().collect(),
        ignores_errors: flag("ignoreErrors", false),
        write: Options {
            waits_for_sync: flag("waitForSync", false),
            patch: Patch { keep_null: flag("keepNull", true), merge_objects: flag("mergeObjects", true) },
            ignores_revisions: flag("ignoreRevs", true),
            overwrite,
            version_attribute,
        },
    })
}

/// The name of the index that a loop asks for.
pub(super) fn index_hint(options: &Value) -> Result<Option<String>> {
    let unknown = options.as_object().into_iter().flat_map(serde_json::Map::keys).find(|name| !FOR.contains(&&***name));
    if let Some(name) = unknown {
        return Err(Error::not_faked(&format!("the option '{name}' of FOR")));
    }
    match &options["indexHint"] {
        Value::Null => Ok(None),
        Value::String(name) => Ok(Some(name.clone())),
        _ => Err(Error::not_faked("an indexHint that is no name")),
    }
}
