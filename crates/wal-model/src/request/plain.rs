//! Form 1 written: the value of a record that [`decode`](super::decode) reads.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::clock::Timestamp;
use crate::lifecycle::Requested;
use crate::name::{Id, Namespace, Tenant, Topic};
use crate::wire::{LifecycleJson, MemberJson, Members, Object, RequestJson, UserContextJson};

/// One entry that is asked for.
#[derive(Clone, Debug)]
pub struct PlainEntry<'a> {
    /// The namespace.
    pub namespace: &'a Namespace,
    /// The payload, a JSON object, passed on byte for byte.
    pub payload: &'a RawValue,
    /// The target; `None` leaves it to the policy.
    pub target: Option<&'a Topic>,
    /// The lifecycle, as far as it is given.
    pub lifecycle: Requested,
    /// Links related operations.
    pub correlation_id: Option<&'a Id>,
    /// When the first attempt is wanted.
    pub deliver_at: Option<Timestamp>,
}

/// What a request says as a whole.
#[derive(Clone, Debug, Default)]
pub struct PlainRequest<'a> {
    /// Who it belongs to.
    pub tenant: Option<&'a Tenant>,
    /// Who sends it.
    pub user: Option<&'a Id>,
    /// The caller's word for the operation.
    pub idempotency_key: Option<&'a Id>,
    /// The caller's word for the request.
    pub request_id: Option<&'a Id>,
}

impl PlainRequest<'_> {
    /// The value of a record that asks for one entry.
    pub fn of_one(&self, entry: &PlainEntry<'_>) -> Result<Vec<u8>, serde_json::Error> {
        let lifecycle = Spelled::of(&entry.lifecycle)?;
        let MemberJson { namespace, payload, target, lifecycle, correlation_id, deliver_at, .. } =
            entry.json(&lifecycle);
        let whole = self.json();
        serde_json::to_vec(&RequestJson { namespace, payload, target, lifecycle, correlation_id, deliver_at, ..whole })
    }

    /// The value of a record that asks for entries which are stored all or none.
    pub fn of_batch(&self, entries: &[PlainEntry<'_>]) -> Result<Vec<u8>, serde_json::Error> {
        let lifecycles: Vec<Spelled> =
            entries.iter().map(|entry| Spelled::of(&entry.lifecycle)).collect::<Result<_, _>>()?;
        let kept: Vec<_> = entries.iter().zip(&lifecycles).map(|(entry, lifecycle)| entry.json(lifecycle)).collect();
        let count = kept.len();
        serde_json::to_vec(&RequestJson { entries: Some(Members { kept, count }), ..self.json() })
    }

    fn json<'j>(&self) -> RequestJson<'j> {
        let has_context = self.tenant.is_some() || self.user.is_some();
        RequestJson {
            user_context: has_context.then(|| {
                let (user_id, tenant_id) = (self.user.map(Id::to_string), self.tenant.map(Tenant::to_string));
                Object(UserContextJson { user_id, tenant_id })
            }),
            idempotency_key: self.idempotency_key.map(Id::to_string),
            request_id: self.request_id.map(Id::to_string),
            ..RequestJson::default()
        }
    }
}

impl PlainEntry<'_> {
    fn json<'j>(&'j self, lifecycle: &'j Spelled) -> MemberJson<'j> {
        MemberJson {
            namespace: Some(self.namespace.to_string()),
            payload: Some(self.payload),
            target: self.target.map(Topic::to_string),
            lifecycle: lifecycle.json().map(Object),
            correlation_id: self.correlation_id.map(Id::to_string),
            deliver_at: self.deliver_at.map(|at| at.to_string()),
            idempotency_key: None,
            request_id: None,
        }
    }
}

/// The values of a lifecycle as JSON text, in the order of their fields.
struct Spelled([Option<Box<RawValue>>; 5]);

impl Spelled {
    fn of(requested: &Requested) -> Result<Spelled, serde_json::Error> {
        let Requested { retry_count, delay, backoff, ttl, priority } = requested;
        Ok(Spelled([raw(retry_count)?, raw(delay)?, raw(backoff)?, raw(ttl)?, raw(priority)?]))
    }

    fn json(&self) -> Option<LifecycleJson<'_>> {
        let [retry_count, delay, backoff, ttl, priority] = self.0.each_ref().map(Option::as_deref);
        let is_given = self.0.iter().any(Option::is_some);
        is_given.then_some(LifecycleJson { retry_count, delay, backoff, ttl, priority })
    }
}

fn raw(value: &Option<impl Serialize>) -> Result<Option<Box<RawValue>>, serde_json::Error> {
    value.as_ref().map(to_raw_value).transpose()
}
