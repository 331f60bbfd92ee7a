//! Bytes in JSON: text where they are UTF-8, base64 where they are not, in two fields of which one is present.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wal_model::Header;

/// The two fields. Both absent is no bytes at all, which is not the same as no bytes in them.
#[derive(Default)]
pub(super) struct Binary<'a> {
    pub(super) text: Option<Cow<'a, str>>,
    pub(super) base64: Option<Cow<'a, str>>,
}

impl<'a> Binary<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Binary<'a> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Binary { text: Some(Cow::Borrowed(text)), base64: None },
            Err(_) => Binary { text: None, base64: Some(Cow::Owned(STANDARD.encode(bytes))) },
        }
    }

    pub(super) fn into_bytes(self) -> Result<Option<Bytes>, &'static str> {
        match (self.text, self.base64) {
            (None, None) => Ok(None),
            (Some(text), None) => Ok(Some(Bytes::from(text.into_owned()))),
            (None, Some(base64)) => {
                let bytes = STANDARD.decode(base64.as_bytes()).map_err(|_| "a base64 field is not base64")?;
                Ok(Some(Bytes::from(bytes)))
            }
            (Some(_), Some(_)) => Err("a field is there as text and as base64"),
        }
    }
}

/// A header. A null value is `"value": null`, so that no reader takes it for a field that was forgotten.
#[derive(Serialize, Deserialize)]
pub(super) struct HeaderField<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name_base64: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Value::is_absent")]
    value: Value<'a>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_base64: Option<Cow<'a, str>>,
}

/// `value` as it stands in the document: absent beside a `value_base64`.
#[derive(Default)]
enum Value<'a> {
    #[default]
    Absent,
    Present(Option<Cow<'a, str>>),
}

impl Value<'_> {
    fn is_absent(&self) -> bool {
        matches!(self, Value::Absent)
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Absent => serializer.serialize_none(),
            Value::Present(value) => value.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Value<'_> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<String>::deserialize(deserializer).map(|value| Value::Present(value.map(Cow::Owned)))
    }
}

impl<'a> HeaderField<'a> {
    pub(super) fn of(header: &'a Header) -> HeaderField<'a> {
        let name = Binary::of(&header.name);
        let value = header.value.as_deref().map(Binary::of).unwrap_or_default();
        HeaderField {
            name: name.text,
            name_base64: name.base64,
            value: if value.base64.is_some() { Value::Absent } else { Value::Present(value.text) },
            value_base64: value.base64,
        }
    }

    pub(super) fn into_header(self) -> Result<Header, &'static str> {
        let name = Binary { text: self.name, base64: self.name_base64 }.into_bytes()?.ok_or("a header has no name")?;
        let text = match self.value {
            Value::Absent if self.value_base64.is_none() => return Err("a header has no value, not even null"),
            Value::Absent => None,
            Value::Present(text) => text,
        };
        Ok(Header { name, value: Binary { text, base64: self.value_base64 }.into_bytes()? })
    }
}
