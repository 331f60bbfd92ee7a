//! What a service does with an attempt.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use wal_model::InRecord;
use wal_model::answer::{UNNAMED, Wish};
use wal_model::delivery::NotADelivery;
use wal_model::status::Failure;

use crate::consumer::{Arrival, Done};

/// What a service does with an attempt. A function `Fn(Arc<Arrival>) -> impl Future` is one.
pub trait Handler: Send + Sync + 'static {
    /// Does what the attempt asks for.
    ///
    /// May be called again with the same attempt, here or in another process: after a crash, and when its partition moved away before
    /// the answer was published. Attempts of one key are handled one after the other, in order. Dropped at an await when it takes
    /// longer than its limit or the stop does not wait.
    fn handle(&self, attempt: Arc<Arrival>) -> impl Future<Output = Result<Done, HandlerError>> + Send;

    /// Sees to a record of a target that is no delivery of the log, before the offset moves past it. Says so in the log unless it is
    /// given something better to do.
    fn foreign(&self, record: InRecord, why: NotADelivery) -> impl Future<Output = ()> + Send {
        async move {
            let InRecord { topic, partition, offset, .. } = &record;
            tracing::warn!(%topic, partition, offset, %why, "passed over: no delivery of the log");
        }
    }
}

impl<F, Handling> Handler for F
where
    F: Fn(Arc<Arrival>) -> Handling + Send + Sync + 'static,
    Handling: Future<Output = Result<Done, HandlerError>> + Send,
{
    fn handle(&self, attempt: Arc<Arrival>) -> impl Future<Output = Result<Done, HandlerError>> + Send {
        self(attempt)
    }
}

/// What a handler has to say of an attempt that it could not do. Made from any error, with the code `failed`; or with a code of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerError {
    pub(super) failure: Failure,
    pub(super) wish: Wish,
}

impl HandlerError {
    /// The log tries again as the entry's lifecycle says.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> HandlerError {
        HandlerError { failure: Failure::new(code, message), wish: Wish::None }
    }

    /// Trying again cannot help.
    #[must_use]
    pub fn permanently(self) -> HandlerError {
        HandlerError { wish: Wish::Never, ..self }
    }

    /// The next attempt, if there is one, is wanted this much later.
    #[must_use]
    pub fn retry_after(self, after: Duration) -> HandlerError {
        HandlerError { wish: Wish::After(after), ..self }
    }
}

/// The error's words, and those of its causes.
impl<E: Error> From<E> for HandlerError {
    fn from(error: E) -> HandlerError {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        HandlerError::new(UNNAMED, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("charge the card")]
    struct Outer(#[source] std::num::ParseIntError);

    #[test]
    fn any_error_is_told_with_its_causes() {
        let handle = || -> Result<(), HandlerError> { Err("x".parse::<u8>().map_err(Outer).unwrap_err())? };
        let error = handle().unwrap_err();
        assert_eq!(error, HandlerError::new("failed", "charge the card: invalid digit found in string"));
        assert_eq!(error.permanently().wish, Wish::Never);
    }
}
