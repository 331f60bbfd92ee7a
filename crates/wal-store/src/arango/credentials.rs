//! What goes into the `Authorization` header, and when a token is due for renewal.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::HeaderValue;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::fault::Fault;
use super::options::Login;

/// Where a token is fetched. No token is needed for it.
pub(super) const PATH: &str = "/_open/auth";

/// Taken for the life of a token that does not say it: an hour is the database's default (`--server.session-timeout`).
const USUAL_LIFE: Duration = Duration::from_secs(3600);

/// The credentials of a client. Nothing here is held across an await: two renewals at once do no harm, the later token is kept.
pub(super) struct Credentials {
    login: Login,
    token: Mutex<Option<Arc<Token>>>,
}

/// A header that says who we are.
#[derive(Clone)]
pub(super) enum Proof {
    /// None is needed.
    None,
    /// It never changes, so where it is refused, it will be.
    Fixed(HeaderValue),
    /// Where it is refused, a new one may not be.
    Token(Arc<Token>),
    /// There is no token, or it ends soon: fetch one.
    Wanting,
}

/// A token and when it should be replaced.
pub(super) struct Token {
    header: HeaderValue,
    renew_at: Instant,
}

impl Proof {
    pub(super) fn header(&self) -> Option<HeaderValue> {
        match self {
            Proof::None | Proof::Wanting => None,
            Proof::Fixed(header) => Some(header.clone()),
            Proof::Token(token) => Some(token.header.clone()),
        }
    }
}

impl Credentials {
    pub(super) fn new(login: Login) -> Credentials {
        Credentials { login, token: Mutex::new(None) }
    }

    /// What to show now.
    pub(super) fn proof(&self, now: Instant) -> Proof {
        match &self.login {
            Login::Nobody => Proof::None,
            Login::Basic { user, password } => {
                Proof::Fixed(secret(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))))
            }
            Login::Token { .. } => {
                let token = self.token().clone();
                token.filter(|token| now < token.renew_at).map_or(Proof::Wanting, Proof::Token)
            }
        }
    }

    /// Forgets a token that was refused, unless another call has replaced it already.
    pub(super) fn refuse(&self, refused: &Arc<Token>) {
        let mut token = self.token();
        if token.as_ref().is_some_and(|token| Arc::ptr_eq(token, refused)) {
            *token = None;
        }
    }

    /// The body that asks for a token.
    pub(super) fn request(&self) -> Bytes {
        #[derive(Serialize)]
        struct Request<'a> {
            username: &'a str,
            password: &'a str,
        }
        let (username, password) = match &self.login {
            Login::Nobody => ("", ""),
            Login::Basic { user, password } | Login::Token { user, password } => (user.as_str(), password.as_str()),
        };
        Bytes::from(serde_json::to_vec(&Request { username, password }).expect("two texts are JSON"))
    }

    /// Keeps the token of an answer to [`request`](Self::request).
    pub(super) fn keep(&self, answer: &[u8], now: Instant) -> Result<Proof, Fault> {
        #[derive(Deserialize)]
        struct Answer {
            jwt: String,
        }
        // Neither the answer nor the parser's words are repeated: both may hold the token.
        let Ok(Answer { jwt }) = serde_json::from_slice(answer) else {
            return Err(Fault::strange("no token where one was asked for"));
        };
        if jwt.is_empty() || !jwt.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Fault::strange("a token that fits in no header"));
        }
        let life = life(&jwt).unwrap_or(USUAL_LIFE);
        let token = Arc::new(Token { header: secret(&format!("Bearer {jwt}")), renew_at: now + life.mul_f64(0.8) });
        *self.token() = Some(Arc::clone(&token));
        Ok(Proof::Token(token))
    }

    fn token(&self) -> MutexGuard<'_, Option<Arc<Token>>> {
        // Replaced as a whole, so it is right even after a panic elsewhere.
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.login.fmt(f)
    }
}

/// A header that no log prints. The text is base64 or was checked.
fn secret(text: &str) -> HeaderValue {
    let mut header = HeaderValue::from_str(text).expect("base64 and graphic letters fit in a header");
    header.set_sensitive(true);
    header
}

/// How long a token lives by its own words. Its issuer's clock need not be ours, so only the difference counts.
fn life(jwt: &str) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Claims {
        iat: f64,
        exp: f64,
    }
    let claims = URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1)?).ok()?;
    let Claims { iat, exp } = serde_json::from_slice(&claims).ok()?;
    // A life of nothing would have us renew before every request; one of ages, never.
    Duration::try_from_secs_f64(exp - iat).ok().map(|life| life.clamp(Duration::from_secs(10), 24 * USUAL_LIFE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(claims: &str) -> String {
        format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims))
    }

    fn with_token() -> Credentials {
        Credentials::new(Login::Token { user: "root".to_owned(), password: "secret".to_owned() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_renewed_before_it_ends() {
        let credentials = with_token();
        let now = Instant::now();
        assert!(matches!(credentials.proof(now), Proof::Wanting));
        let answer = format!("{{\"jwt\": \"{}\"}}", jwt("{\"iat\": 1000, \"exp\": 1100.0}"));
        credentials.keep(answer.as_bytes(), now).unwrap();
        assert!(matches!(credentials.proof(now + Duration::from_secs(79)), Proof::Token(_)));
        assert!(matches!(credentials.proof(now + Duration::from_secs(80)), Proof::Wanting));
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_token_that_was_refused_is_forgotten() {
        let credentials = with_token();
        let now = Instant::now();
        let keep = |text: &str| match credentials.keep(format!("{{\"jwt\": \"{text}\"}}").as_bytes(), now) {
            Ok(Proof::Token(token)) => token,
            Ok(_) | Err(_) => panic!("no token"),
        };
        let (first, second) = (keep("first"), keep("second"));
        credentials.refuse(&first);
        assert!(matches!(credentials.proof(now), Proof::Token(_)));
        credentials.refuse(&second);
        assert!(matches!(credentials.proof(now), Proof::Wanting));
    }

    #[test]
    fn a_token_that_says_nothing_of_its_life_has_the_usual_one() {
        for odd in ["x", "a.b.c", &jwt("{}"), &jwt("{\"iat\": 5, \"exp\": 1}"), &jwt("[]")] {
            assert_eq!(life(odd), None, "{odd}");
        }
        assert_eq!(life(&jwt("{\"iat\": 1, \"exp\": 1}")), Some(Duration::from_secs(10)));
        assert_eq!(life(&jwt("{\"iat\": 0, \"exp\": 1e300}")), None);
        assert_eq!(life(&jwt("{\"iat\": 0, \"exp\": 1e15}")), Some(24 * USUAL_LIFE));
    }

    #[test]
    fn a_strange_answer_is_a_fault_that_does_not_repeat_it() {
        for answer in ["", "{}", "{\"jwt\": 7}", "{\"jwt\": \"\"}", "{\"jwt\": \"se\\ncret\"}"] {
            let Err(fault) = with_token().keep(answer.as_bytes(), Instant::now()) else { panic!("{answer}") };
            assert!(!fault.said.contains("cret"), "{}", fault.said);
        }
    }

    #[test]
    fn basic_is_padded_and_hidden() {
        let credentials = Credentials::new(Login::Basic { user: "root".to_owned(), password: "pw1".to_owned() });
        let header = credentials.proof(Instant::now()).header().unwrap();
        assert_eq!(header.to_str().unwrap(), "Basic cm9vdDpwdzE=");
        assert!(header.is_sensitive() && !format!("{header:?} {credentials:?}").contains("pw1"));
    }
}
