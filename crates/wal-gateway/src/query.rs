//! What is asked: the parameters of `GET /v1/entries`, read into a question that makes sense or refused with its reason.
//!
//! Every parameter that is not known, comes twice, or does not go with the others is refused by name: a filter that is
//! silently dropped would show more than was asked for.

use std::fmt;
use std::str::FromStr;

use wal_model::id::Identity;
use wal_model::request::BATCH_LEN;
use wal_model::{Code, EntryKey, Id, Namespace, Tenant, Timestamp};
use wal_store::{After, Query, Range};

use crate::problem::Problem;
use crate::token::{self, Fingerprint};

/// The most entries of a page.
pub(crate) const LIMIT_MAX: usize = 1000;
/// The entries of a page if nothing is said.
pub(crate) const LIMIT_DEFAULT: usize = 100;

pub(crate) const NAMESPACE: &str = "namespace";
pub(crate) const TENANT: &str = "tenant";
const FROM: &str = "from";
const TO: &str = "to";
const REQUEST_ID: &str = "request_id";
const IDEMPOTENCY_KEY: &str = "idempotency_key";
pub(crate) const LIMIT: &str = "limit";
const PAGE_TOKEN: &str = "page_token";
const ALL: [&str; 8] = [NAMESPACE, TENANT, FROM, TO, REQUEST_ID, IDEMPOTENCY_KEY, LIMIT, PAGE_TOKEN];

/// A question that the store can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// Some pages of a scan.
    Scan(Scan),
    /// The entries with these keys, as far as they are there.
    Keys(Vec<EntryKey>),
}

/// One page of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// What the store looks for.
    pub query: Query,
    /// What it cannot look for: only entries of this namespace count.
    pub namespace: Namespace,
    /// The most entries of the page.
    pub limit: usize,
    /// Where the page begins.
    pub after: Option<After>,
    /// What the token of the next page belongs to.
    pub fingerprint: Fingerprint,
}

/// Reads the parameters of `GET /v1/entries`.
pub(crate) fn parse(given: Vec<(String, String)>) -> Result<Question, Problem> {
    let parameters = Parameters::new(given, &ALL)?;
    let namespace: Namespace = parameters.required(NAMESPACE)?;
    let tenant = parameters.tenant()?;
    let request_id: Option<Id> = parameters.optional(REQUEST_ID)?;
    let idempotency_key: Option<Id> = parameters.optional(IDEMPOTENCY_KEY)?;
    match (request_id, idempotency_key) {
        (Some(request_id), None) => {
            parameters.refuse_beside(REQUEST_ID, &[FROM, TO])?;
            let query = Query::Request { tenant, request_id };
            parameters.scan(query, namespace).map(Question::Scan)
        }
        (None, Some(key)) => {
            parameters.refuse_beside(IDEMPOTENCY_KEY, &[FROM, TO, LIMIT, PAGE_TOKEN])?;
            Ok(Question::Keys(batch_keys(tenant.as_ref(), &namespace, key)))
        }
        (Some(_), Some(_)) => Err(invalid("request_id and idempotency_key are two ways to ask; give one of them")),
        (None, None) => {
            let query = in_range(&parameters, tenant, namespace.clone())?;
            parameters.scan(query, namespace).map(Question::Scan)
        }
    }
}

/// Reads the parameters of `/v1/entries/{log_id}`.
pub(crate) fn parse_one(given: Vec<(String, String)>) -> Result<Option<Tenant>, Problem> {
    Parameters::new(given, &[TENANT])?.tenant()
}

fn in_range(parameters: &Parameters, tenant: Option<Tenant>, namespace: Namespace) -> Result<Query, Problem> {
    let (from, to): (Option<Timestamp>, Option<Timestamp>) = (parameters.optional(FROM)?, parameters.optional(TO)?);
    let (Some(from), Some(to)) = (from, to) else {
        return Err(invalid("beside namespace, from and to are needed, or request_id, or idempotency_key"));
    };
    if from > to {
        return Err(invalid(format!("from ({from}) is later than to ({to})")));
    }
    let range = Range { from, to };
    Ok(match tenant {
        Some(tenant) => Query::Tenant { tenant, namespace, range },
        None => Query::Namespace { namespace, range },
    })
}

/// The keys that a request with this idempotency key may have made: its own, which is also that of a batch's first member, and
/// those of all the members a batch can have. All of them are asked for, since the first may be of another namespace.
fn batch_keys(tenant: Option<&Tenant>, namespace: &Namespace, key: Id) -> Vec<EntryKey> {
    let identity = Identity::IdempotencyKey(key);
    let last = u32::try_from(BATCH_LEN).unwrap_or(u32::MAX);
    (0..last).map(|index| EntryKey::of(tenant, namespace, &identity, index)).collect()
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::QueryInvalid, detail)
}

/// Known parameters, each given at most once.
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(crate) fn new(given: Vec<(String, String)>, known: &[&str]) -> Result<Parameters, Problem> {
        for (at, (name, _)) in given.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                return Err(invalid(format!("parameter {name:?} is unknown; known are: {}", known.join(", "))));
            }
            if given[..at].iter().any(|(before, _)| before == name) {
                return Err(invalid(format!("parameter {name} is given twice")));
            }
        }
        Ok(Parameters(given))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn optional<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Result<Option<T>, Problem> {
        self.get(name).map(|text| text.parse().map_err(|error| invalid(format!("{name} {error}")))).transpose()
    }

    fn required<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Result<T, Problem> {
        self.optional(name)?.ok_or_else(|| invalid(format!("parameter {name} is missing")))
    }

    /// An empty tenant is none, as it is in requests.
    pub(crate) fn tenant(&self) -> Result<Option<Tenant>, Problem> {
        match self.get(TENANT) {
            None | Some("") => Ok(None),
            Some(_) => self.optional(TENANT),
        }
    }

    fn refuse_beside(&self, asked: &str, others: &[&str]) -> Result<(), Problem> {
        match others.iter().find(|other| self.get(other).is_some()) {
            Some(other) => Err(invalid(format!("{other} does not go with {asked}"))),
            None => Ok(()),
        }
    }

    pub(crate) fn limit(&self) -> Result<usize, Problem> {
        let limit = self.optional(LIMIT)?.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(invalid(format!("limit is {limit}; 1 to {LIMIT_MAX} are allowed")));
        }
        Ok(limit)
    }

    fn scan(&self, query: Query, namespace: Namespace) -> Result<Scan, Problem> {
        let limit = self.limit()?;
        let fingerprint = self.fingerprint();
        let after = match self.get(PAGE_TOKEN) {
            Some(token) => Some(token::decode(token, fingerprint).map_err(|error| invalid(error.to_string()))?),
            None => None,
        };
        Ok(Scan { query, namespace, limit, after, fingerprint })
    }

    /// Over the texts as they were given: the same question in another spelling is another question.
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&[NAMESPACE, TENANT, FROM, TO, REQUEST_ID].map(|name| self.get(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(parameters: &[(&str, &str)]) -> Result<Question, Problem> {
        parse(parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn scan(parameters: &[(&str, &str)]) -> Scan {
        match ask(parameters) {
            Ok(Question::Scan(scan)) => scan,
            other => panic!("no scan: {other:?}"),
        }
    }

    const RANGE: [(&str, &str); 3] =
        [("namespace", "orders"), ("from", "2024-12-01T10:00:00Z"), ("to", "2024-12-01T11:00:00+00:00")];

    fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        [&RANGE[..], more].concat()
    }

    #[test]
    fn a_tenant_chooses_the_index() {
        assert!(matches!(scan(&RANGE).query, Query::Namespace { .. }));
        assert!(matches!(scan(&with(&[("tenant", "")])).query, Query::Namespace { .. }));
        assert!(matches!(scan(&with(&[("tenant", "acme")])).query, Query::Tenant { .. }));
    }

    #[test]
    fn limits_are_one_to_a_thousand() {
        assert_eq!(scan(&RANGE).limit, 100);
        assert_eq!(scan(&with(&[("limit", "1000")])).limit, 1000);
        for wrong in ["0", "1001", "-1", "ten", ""] {
            assert!(ask(&with(&[("limit", wrong)])).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let long = "k".repeat(300);
        let wrong: [&[(&str, &str)]; 11] = [
            &[],
            &[("namespace", "orders")],
            &[("namespace", "a b"), ("request_id", "r")],
            &[("namespace", "orders"), ("from", "2024-12-01T10:00:00Z")],
            &[("namespace", "orders"), ("from", "yesterday"), ("to", "2024-12-01T11:00:00Z")],
            &[("namespace", "orders"), ("from", "2024-12-02T10:00:00Z"), ("to", "2024-12-01T11:00:00Z")],
            &[("namespace", "orders"), ("request_id", "r"), ("idempotency_key", "k")],
            &[("namespace", "orders"), ("request_id", "r"), ("from", "2024-12-01T10:00:00Z")],
            &[("namespace", "orders"), ("idempotency_key", "k"), ("limit", "1")],
            &[("namespace", "orders"), ("namespace", "orders"), ("request_id", "r")],
            &[("namespace", "orders"), ("request_id", &long)],
        ];
        for parameters in wrong {
            assert!(ask(parameters).is_err(), "{parameters:?}");
        }
    }

    #[test]
    fn tokens_belong_to_their_question_but_not_to_its_limit() {
        let question = scan(&RANGE);
        let place = After { timestamp: Timestamp::EPOCH, key: uuid::Uuid::nil().into() };
        let token = token::encode(question.fingerprint, place);

        assert_eq!(scan(&with(&[("page_token", &token), ("limit", "7")])).after, Some(place));
        assert!(ask(&with(&[("page_token", &token), ("tenant", "acme")])).is_err());
        assert!(ask(&[("namespace", "orders"), ("request_id", "r"), ("page_token", &token)]).is_err());
    }
}
