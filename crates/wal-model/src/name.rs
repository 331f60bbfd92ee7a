//! Names that people choose: namespaces, topics, tenants, ids. Each is checked once, where it enters.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest namespace in bytes. Stored, keep stable: a log id must stay inside ArangoDB's 254-byte key.
pub const NAMESPACE_LEN: usize = 100;
/// The longest topic name Kafka takes, in bytes.
pub const TOPIC_LEN: usize = 249;
/// The longest id, key or tenant in bytes.
pub const ID_LEN: usize = 256;

/// Why a text is not the name it was meant to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The text has no characters.
    #[error("is empty")]
    Empty,
    /// The text is longer than allowed.
    #[error("is {length} bytes long, {limit} at most are allowed")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The longest allowed, in bytes.
        limit: usize,
    },
    /// The text holds a character outside the allowed alphabet.
    #[error("holds {0:?}, which is not allowed there")]
    Character(char),
    /// The text is a name that means something else.
    #[error("is a reserved name")]
    Reserved,
}

fn check(text: &str, limit: usize, is_allowed: impl Fn(char) -> bool) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::Empty);
    }
    if text.len() > limit {
        return Err(Invalid::TooLong { length: text.len(), limit });
    }
    match text.chars().find(|character| !is_allowed(*character)) {
        Some(character) => Err(Invalid::Character(character)),
        None => Ok(()),
    }
}

fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-')
}

fn check_namespace(text: &str) -> Result<(), Invalid> {
    check(text, NAMESPACE_LEN, is_name_character)?;
    // `dlq.wal.ingress` holds refused requests, so no namespace may own that name.
    if text == "ingress" { Err(Invalid::Reserved) } else { Ok(()) }
}

fn check_topic(text: &str) -> Result<(), Invalid> {
    check(text, TOPIC_LEN, is_name_character)?;
    if matches!(text, "." | "..") { Err(Invalid::Reserved) } else { Ok(()) }
}

/// CloudEvents attributes cannot carry control characters, and every id travels as one.
fn check_id(text: &str) -> Result<(), Invalid> {
    check(text, ID_LEN, |character| !character.is_control())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text`.
            pub fn parse(text: &str) -> Result<$name, Invalid> {
                $check(text)?;
                Ok($name(Arc::from(text)))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<$name, Invalid> {
                $name::parse(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                $name::parse(&text).map_err(|invalid| {
                    serde::de::Error::custom(format_args!("`{text}` {invalid}"))
                })
            }
        }
    };
}

name!(
    /// A named policy: `[A-Za-z0-9._-]{1,100}`, and not `ingress`.
    Namespace,
    check_namespace
);
name!(
    /// A Kafka topic name: `[A-Za-z0-9._-]{1,249}`.
    Topic,
    check_topic
);
name!(
    /// Who an entry belongs to: 1 to 256 bytes without control characters. No tenant is no `Tenant`, never an empty one.
    Tenant,
    check_id
);
name!(
    /// An id somebody else chose (request, user, correlation, idempotency key): 1 to 256 bytes without control characters.
    Id,
    check_id
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_keep_their_alphabet_and_length() {
        assert!(Namespace::parse("saga_execution").is_ok());
        assert!(Namespace::parse(&"n".repeat(NAMESPACE_LEN)).is_ok());
        assert_eq!(Namespace::parse(""), Err(Invalid::Empty));
        assert_eq!(Namespace::parse("a/b"), Err(Invalid::Character('/')));
        assert_eq!(Namespace::parse("größe"), Err(Invalid::Character('ö')));
        assert_eq!(Namespace::parse("ingress"), Err(Invalid::Reserved));
        let long = "n".repeat(NAMESPACE_LEN + 1);
        assert_eq!(Namespace::parse(&long), Err(Invalid::TooLong { length: 101, limit: 100 }));
    }

    #[test]
    fn topics_are_what_kafka_takes() {
        assert!(Topic::parse(&"t".repeat(TOPIC_LEN)).is_ok());
        for bad in ["", ".", "..", "a b", "a/b"] {
            assert!(Topic::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_are_any_text_without_control_characters() {
        assert!(Id::parse("order 7 / größe").is_ok());
        assert_eq!(Id::parse("a\0b"), Err(Invalid::Character('\0')));
        assert_eq!(Id::parse("a\u{85}b"), Err(Invalid::Character('\u{85}')));
        assert!(Id::parse(&"i".repeat(ID_LEN + 1)).is_err());
    }
}
