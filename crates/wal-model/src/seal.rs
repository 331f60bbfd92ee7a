//! The seal: proof that an answer answers what was delivered, and that an event was decided by one of us.
//!
//! `v1.<key id>.<base64url>`, an HMAC-SHA-256 over length-prefixed fields. Sent, keep stable.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::hash::Fields;

const VERSION: &str = "v1";
/// The shortest secret in bytes: as long as the hash it keys.
pub const SECRET_LEN: usize = 32;

/// The keys of a service: one signs, all verify.
#[derive(Clone)]
pub struct Keyring {
    signing: String,
    keys: BTreeMap<String, Hmac<Sha256>>,
}

/// Why keys make no keyring.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The signing key is not among the keys.
    #[error("the signing key `{0}` is not among the keys")]
    NoSigningKey(String),
    /// A key id is empty or holds something else than letters, digits, `-` and `_`.
    #[error("the key id `{0}` must be letters, digits, - and _")]
    KeyId(String),
    /// A secret is too short.
    #[error("the secret of key `{0}` is shorter than {SECRET_LEN} bytes")]
    ShortSecret(String),
}

/// Why a seal is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// There is none, or it is not spelled like one.
    #[error("there is no seal of a known version")]
    Missing,
    /// It was made with a key that is not known, or not any more.
    #[error("the seal's key `{0}` is not known")]
    UnknownKey(String),
    /// It does not fit what it stands on.
    #[error("the seal does not fit")]
    Forged,
}

impl Keyring {
    /// A keyring of secrets by key id, one of which signs.
    pub fn new(signing: &str, secrets: &BTreeMap<String, Vec<u8>>) -> Result<Keyring, Unusable> {
        let mut keys = BTreeMap::new();
        for (id, secret) in secrets {
            let is_legal = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            if !is_legal {
                return Err(Unusable::KeyId(id.clone()));
            }
            if secret.len() < SECRET_LEN {
                return Err(Unusable::ShortSecret(id.clone()));
            }
            let mac = Hmac::new_from_slice(secret).expect("HMAC takes keys of any length");
            keys.insert(id.clone(), mac);
        }
        if !keys.contains_key(signing) {
            return Err(Unusable::NoSigningKey(signing.to_owned()));
        }
        Ok(Keyring { signing: signing.to_owned(), keys })
    }

    pub(crate) fn sign(&self, fields: Fields) -> String {
        let mut mac = self.keys[&self.signing].clone();
        mac.update(&fields.into_bytes());
        let tag = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        format!("{VERSION}.{}.{tag}", self.signing)
    }

    pub(crate) fn verify(&self, seal: Option<&str>, fields: Fields) -> Result<(), Broken> {
        let mut parts = seal.ok_or(Broken::Missing)?.split('.');
        let (Some(VERSION), Some(id), Some(tag), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Broken::Missing);
        };
        let mut mac = self.keys.get(id).ok_or_else(|| Broken::UnknownKey(id.chars().take(64).collect()))?.clone();
        let tag = URL_SAFE_NO_PAD.decode(tag).map_err(|_| Broken::Forged)?;
        mac.update(&fields.into_bytes());
        mac.verify_slice(&tag).map_err(|_| Broken::Forged)
    }
}

/// Names the keys, never the secrets.
impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.keys.keys().collect();
        f.debug_struct("Keyring").field("signing", &self.signing).field("keys", &ids).finish()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn keyring() -> Keyring {
        let secrets = BTreeMap::from([("k1".to_owned(), vec![7; 32]), ("k2".to_owned(), vec![8; 32])]);
        Keyring::new("k1", &secrets).unwrap()
    }

    #[test]
    fn what_was_sealed_is_accepted_and_nothing_else() {
        let seal = keyring().sign(Fields::new("t").text("a"));
        assert_eq!(keyring().verify(Some(&seal), Fields::new("t").text("a")), Ok(()));
        assert_eq!(keyring().verify(Some(&seal), Fields::new("t").text("b")), Err(Broken::Forged));
        assert_eq!(keyring().verify(Some(&seal.replace("k1", "k2")), Fields::new("t").text("a")), Err(Broken::Forged));
        assert_eq!(keyring().verify(Some("v1.k9.AA"), Fields::new("t")), Err(Broken::UnknownKey("k9".into())));
        for not_a_seal in ["", "v2.k1.AA", "v1.k1", "v1.k1.AA.AA"] {
            assert_eq!(keyring().verify(Some(not_a_seal), Fields::new("t")), Err(Broken::Missing), "{not_a_seal}");
        }
    }

    #[test]
    fn keyrings_need_real_keys_and_hide_them() {
        let of = |id: &str, length| Keyring::new("k1", &BTreeMap::from([(id.to_owned(), vec![b'x'; length])]));
        assert_eq!(of("k1", 31).unwrap_err(), Unusable::ShortSecret("k1".into()));
        assert_eq!(of("k2", 32).unwrap_err(), Unusable::NoSigningKey("k1".into()));
        assert_eq!(of("a.b", 32).unwrap_err(), Unusable::KeyId("a.b".into()));
        assert!(!format!("{:?}", of("k1", 32).unwrap()).contains("xx"));
    }
}
