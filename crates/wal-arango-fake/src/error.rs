//! What ArangoDB says when it refuses: an HTTP status, a number of its own, a sentence.

use std::borrow::Cow;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Error {
    pub(crate) status: u16,
    pub(crate) num: u32,
    pub(crate) message: Cow<'static, str>,
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(status: u16, num: u32, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, num, message: message.into() }
    }

    pub(crate) fn bad(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, 400, message)
    }

    pub(crate) fn corrupted_json(cause: &str) -> Self {
        Self::new(400, 600, format!("VPackError error: {cause}"))
    }

    /// The caller named a revision, and it is another one: 412 where the answer is about one document.
    pub(crate) fn other_revision() -> Self {
        Self::new(412, 1200, "conflict, _rev values do not match")
    }

    pub(crate) fn document_not_found() -> Self {
        Self::new(404, 1202, "document not found")
    }

    pub(crate) fn collection_not_found(name: &str) -> Self {
        Self::new(404, 1203, format!("collection or view not found: {name}"))
    }

    pub(crate) fn illegal_name(kind: &str) -> Self {
        Self::new(400, 1208, format!("illegal name: {kind} name invalid"))
    }

    pub(crate) fn not_unique(index: &str, kind: &str, fields: &str, key: &str) -> Self {
        let message = format!(
            "unique constraint violated - in index {index} of type {kind} over '{fields}'; conflicting key: {key}"
        );
        Self::new(409, 1210, message)
    }

    pub(crate) fn index_not_found() -> Self {
        Self::new(404, 1212, "index not found")
    }

    pub(crate) fn illegal_key() -> Self {
        Self::new(400, 1221, "illegal document key")
    }

    pub(crate) fn not_an_object() -> Self {
        Self::new(400, 1227, "invalid document type")
    }

    pub(crate) fn cursor_not_found() -> Self {
        Self::new(404, 1600, "cursor not found")
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(401, 11, "not authorized to execute this request")
    }

    pub(crate) fn resource_limit() -> Self {
        Self::new(500, 32, "query would use more memory than allowed")
    }

    /// What is asked for exists in the real server and not here. 501 and 9 ("not implemented"), so that nobody mistakes it for an answer.
    pub(crate) fn not_faked(what: &str) -> Self {
        Self::new(501, 9, format!("wal-arango-fake does not know {what}"))
    }
}
