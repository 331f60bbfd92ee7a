//! For benchmarks: admission without brokers.

use std::time::Duration;

use wal_model::entry::{Answers, Entry};
use wal_model::lifecycle::Seconds;
use wal_model::record::InRecord;
use wal_model::request;
use wal_model::topics::Topics;
use wal_model::{Code, Lifecycle, Refusal};
use wal_runtime::config::Policy;

use crate::admit::{self, Wish};

/// The entry that a record asks for under the specification's defaults.
pub fn entry(record: &InRecord) -> Result<Entry, Refusal> {
    let policy = Policy {
        target: None,
        lifecycle: Lifecycle::default(),
        first_delay: Seconds::new(Duration::ZERO),
        answers: Answers::Expected,
        correlation_fields: vec!["correlation_id".to_owned(), "saga_id".to_owned()],
    };
    let topics = Topics::new("wal.").expect("a legal prefix");
    match admit::case(record, request::decode(record, &policy.correlation_fields), &policy, &topics).wish {
        Wish::Refused(refusal) => Err(refusal),
        Wish::Write(wanted) => match wanted.objection {
            Some(objection) => Err(objection),
            None => wanted.entries.into_iter().next().ok_or_else(|| Refusal::new(Code::InvalidRequest, "no entry")),
        },
    }
}
