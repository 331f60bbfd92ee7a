//! Page tokens: where the next page begins, bound to the question it belongs to.
//!
//! ```text
//!   base64url, no padding, over
//!   version (1 byte: 1) | question (16 bytes of its SHA-256) | timestamp (8 bytes, big-endian, ms) | entry key (16 bytes)
//! ```
//!
//! A token is a place, not a right: it holds nothing secret, and whoever changes one only reads from elsewhere.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;
use wal_model::{ContentHash, EntryKey, Timestamp};
use wal_store::After;

/// Sent, keep stable: a token may be kept by a client over an update of the gateway.
const VERSION: u8 = 1;
const QUESTION_LEN: usize = 16;
const LEN: usize = 1 + QUESTION_LEN + 8 + 16;

/// What a token belongs to: a hash over everything in the question but the size of its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; QUESTION_LEN]);

impl Fingerprint {
    /// Over the parts of a question. JSON keeps them apart, whatever is in them.
    pub(crate) fn of(parts: &[Option<&str>]) -> Fingerprint {
        let text = serde_json::to_vec(parts).expect("a list of text is JSON");
        let hash = ContentHash::of(&text);
        let mut short = [0; QUESTION_LEN];
        short.copy_from_slice(&hash.as_bytes()[..QUESTION_LEN]);
        Fingerprint(short)
    }
}

/// Why a token is no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("page_token is not one that this gateway gave")]
    NotOurs,
    #[error("page_token belongs to another query; repeat the query that it came with")]
    OtherQuestion,
}

pub(crate) fn encode(question: Fingerprint, after: After) -> String {
    let mut bytes = Vec::with_capacity(LEN);
    bytes.push(VERSION);
    bytes.extend_from_slice(&question.0);
    bytes.extend_from_slice(&after.timestamp.as_millis().to_be_bytes());
    bytes.extend_from_slice(after.key.uuid().as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn decode(token: &str, question: Fingerprint) -> Result<After, Unusable> {
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| Unusable::NotOurs)?;
    let bytes: &[u8; LEN] = bytes.as_slice().try_into().map_err(|_| Unusable::NotOurs)?;
    let (version, rest) = (bytes[0], &bytes[1..]);
    let (its_question, rest) = rest.split_at(QUESTION_LEN);
    let (millis, key) = rest.split_at(8);
    if version != VERSION {
        return Err(Unusable::NotOurs);
    }
    if its_question != question.0 {
        return Err(Unusable::OtherQuestion);
    }
    let millis = millis.iter().fold(0, |sum, byte| sum << 8 | i64::from(*byte));
    let timestamp = Timestamp::from_millis(millis).ok_or(Unusable::NotOurs)?;
    let key = Uuid::from_slice(key).map_err(|_| Unusable::NotOurs)?;
    Ok(After { timestamp, key: EntryKey::from(key) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_token_leads_back_to_its_place(millis in 0..253_402_300_799_999i64, key: u128) {
            let question = Fingerprint::of(&[Some("namespace"), None]);
            let place = After { timestamp: Timestamp::from_millis(millis).unwrap(), key: Uuid::from_u128(key).into() };
            prop_assert_eq!(decode(&encode(question, place), question), Ok(place));
        }

        #[test]
        fn any_text_is_a_place_or_refused(token in "\\PC{0,80}") {
            let _ = decode(&token, Fingerprint::of(&[]));
        }
    }

    #[test]
    fn questions_are_told_apart_by_every_part() {
        let questions = [
            Fingerprint::of(&[Some("a"), Some("b")]),
            Fingerprint::of(&[Some("ab"), Some("")]),
            Fingerprint::of(&[Some("a"), None, Some("b")]),
            Fingerprint::of(&[Some("a"), Some("b"), None]),
        ];
        for (at, one) in questions.iter().enumerate() {
            assert!(questions[at + 1..].iter().all(|other| other != one));
        }
    }

    #[test]
    fn the_spelling_is_golden() {
        let place =
            After { timestamp: Timestamp::from_millis(1_733_047_200_000).unwrap(), key: Uuid::from_u128(7).into() };
        let token = encode(Fingerprint([9; QUESTION_LEN]), place);
        assert_eq!(token, "AQkJCQkJCQkJCQkJCQkJCQkAAAGTgampAAAAAAAAAAAAAAAAAAAAAAc");
    }
}
