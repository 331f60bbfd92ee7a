//! Who may ask: nobody is asked, or a password, or a token that expires.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::error::{Error, Result};
use crate::http::{Reply, Request};

#[derive(Debug)]
pub(crate) struct Auth {
    pub(crate) is_required: bool,
    pub(crate) users: BTreeMap<String, String>,
    pub(crate) token_lifetime: Duration,
    secret: [u8; 16],
}

impl Auth {
    pub(crate) fn new(is_required: bool, users: BTreeMap<String, String>, token_lifetime: Duration) -> Self {
        Self { is_required, users, token_lifetime, secret: random() }
    }

    /// Every token given out so far is worthless, as after a restart.
    pub(crate) fn forget_tokens(&mut self) {
        self.secret = random();
    }

    pub(crate) fn check(&self, request: &Request) -> Result<()> {
        let is_open = matches!(
            request.route().1.as_slice(),
            [] | ["_open", ..] | ["_admin", "server", "availability"] | ["_admin", "aardvark", ..]
        );
        if !self.is_required || is_open {
            return Ok(());
        }
        let header = request.header("authorization").unwrap_or_default();
        let (scheme, credentials) = header.split_once(' ').unwrap_or_default();
        let is_known = match scheme.to_ascii_lowercase().as_str() {
            "basic" => self.knows_basic(credentials.trim()),
            "bearer" => self.knows_token(credentials.trim(), now()),
            _ => false,
        };
        if is_known { Ok(()) } else { Err(Error::unauthorized()) }
    }

    /// Some clients leave the padding out, and the server does not mind.
    fn knows_basic(&self, credentials: &str) -> bool {
        let decoded = STANDARD.decode(credentials).or_else(|_| STANDARD_NO_PAD.decode(credentials));
        let decoded = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        decoded.split_once(':').is_some_and(|(user, password)| self.knows(user, password))
    }

    fn knows(&self, user: &str, password: &str) -> bool {
        self.users.get(user).is_some_and(|known| known == password)
    }

    /// `POST /_open/auth`.
    pub(crate) fn open(&self, request: &Request) -> Result<Reply> {
        let body = request.object()?;
        let text = |name: &str| body.get(name).and_then(Value::as_str).ok_or_else(|| Error::bad("Missing arguments"));
        let (user, password) = (text("username")?, text("password")?);
        if !self.knows(user, password) {
            return Err(Error::new(401, 401, "Wrong credentials"));
        }
        Ok(Reply::json(200, &json!({ "jwt": self.token(user, now()) })))
    }

    fn token(&self, user: &str, now: Duration) -> String {
        let header = json!({ "alg": "HS256", "typ": "JWT" });
        let claims = json!({
            "preferred_username": user,
            "iss": "arangodb",
            "iat": now.as_secs(),
            "exp": (now + self.token_lifetime).as_secs(),
        });
        let part = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.signer(&signed).finalize().into_bytes());
        format!("{signed}.{signature}")
    }

    fn knows_token(&self, token: &str, now: Duration) -> bool {
        let Some((signed, signature)) = token.rsplit_once('.') else {
            return false;
        };
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
        let is_ours = self.signer(signed).verify_slice(&signature).is_ok();
        let claims = signed.split_once('.').and_then(|(_, claims)| URL_SAFE_NO_PAD.decode(claims).ok());
        let claims: Value = serde_json::from_slice(&claims.unwrap_or_default()).unwrap_or_default();
        is_ours && claims["exp"].as_u64().is_some_and(|expiry| expiry > now.as_secs())
    }

    fn signer(&self, signed: &str) -> Hmac<Sha256> {
        let mut signer = Hmac::<Sha256>::new_from_slice(&self.secret).expect("keys of every length are allowed");
        signer.update(signed.as_bytes());
        signer
    }
}

/// Enough for a secret that guards nothing.
fn random() -> [u8; 16] {
    let mut secret = [0; 16];
    for half in secret.chunks_mut(8) {
        half.copy_from_slice(&RandomState::new().hash_one(0).to_ne_bytes());
    }
    secret
}

#[expect(
    clippy::disallowed_methods,
    reason = "a foreign server has its own clock, and drivers compare the token's expiry with theirs"
)]
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_until_it_expires_or_the_secret_changes() {
        let lifetime = Duration::from_secs(60);
        let mut auth = Auth::new(true, BTreeMap::new(), lifetime);
        let now = Duration::from_secs(1_000);
        let token = auth.token("root", now);
        assert!(auth.knows_token(&token, now));
        assert!(!auth.knows_token(&token, now + lifetime));
        assert!(!auth.knows_token(&format!("{token}A"), now));
        auth.forget_tokens();
        assert!(!auth.knows_token(&token, now));
    }
}
