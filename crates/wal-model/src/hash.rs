//! Length-prefixed bytes: what identities and hashes are made over, so that no two meanings share a spelling.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// Collects fields, each under its length. Stored, keep stable: identities and hashes are made over these bytes.
#[derive(Default)]
pub(crate) struct Fields(Vec<u8>);

impl Fields {
    pub(crate) fn new(tag: &str) -> Fields {
        // What most seals and identities take.
        Fields(Vec::with_capacity(512)).text(tag)
    }

    /// A present field: 1, its length in 4 bytes big-endian, its bytes.
    pub(crate) fn bytes(mut self, field: &[u8]) -> Fields {
        let length = u32::try_from(field.len()).expect("no Kafka record holds 4 GiB");
        self.0.push(1);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(field);
        self
    }

    /// An absent field is a single 0, so it differs from an empty one.
    pub(crate) fn absent(mut self) -> Fields {
        self.0.push(0);
        self
    }

    pub(crate) fn text(self, field: &str) -> Fields {
        self.bytes(field.as_bytes())
    }

    pub(crate) fn maybe(self, field: Option<&[u8]>) -> Fields {
        match field {
            Some(field) => self.bytes(field),
            None => self.absent(),
        }
    }

    pub(crate) fn maybe_text(self, field: Option<&str>) -> Fields {
        self.maybe(field.map(str::as_bytes))
    }

    pub(crate) fn number(self, field: i64) -> Fields {
        self.bytes(&field.to_be_bytes())
    }

    pub(crate) fn maybe_number(self, field: Option<i64>) -> Fields {
        match field {
            Some(field) => self.number(field),
            None => self.absent(),
        }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn hash(self) -> ContentHash {
        ContentHash::of(&self.0)
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// A SHA-256 hash, spelled as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// The hash of some bytes.
    pub fn of(bytes: &[u8]) -> ContentHash {
        ContentHash(Sha256::digest(bytes).into())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<ContentHash> {
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        if text.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = digit(digits[0])? << 4 | digit(digits[1])?;
        }
        Some(ContentHash(bytes))
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In every record there is: formatting byte by byte took longer than the hash itself.
        let mut text = [0; 64];
        for (digits, byte) in text.chunks_exact_mut(2).zip(&self.0) {
            digits[0] = DIGITS[usize::from(byte >> 4)];
            digits[1] = DIGITS[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).expect("digits are text"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ContentHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ContentHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ContentHash, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        ContentHash::parse(&text).ok_or_else(|| serde::de::Error::custom("not 64 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_empty_and_shifted_fields_differ() {
        let spellings = [
            Fields::new("t").absent().text("ab").into_bytes(),
            Fields::new("t").text("").text("ab").into_bytes(),
            Fields::new("t").text("a").text("b").into_bytes(),
            Fields::new("t").text("ab").absent().into_bytes(),
        ];
        for (at, one) in spellings.iter().enumerate() {
            assert!(spellings[at + 1..].iter().all(|other| other != one));
        }
    }

    #[test]
    fn hashes_read_back_what_they_write() {
        let hash = ContentHash::of(b"payload");
        assert_eq!(ContentHash::parse(&hash.to_string()), Some(hash));
        assert_eq!(ContentHash::parse(&hash.to_string().to_uppercase()), None);
        assert_eq!(ContentHash::parse("+1"), None);
    }
}
