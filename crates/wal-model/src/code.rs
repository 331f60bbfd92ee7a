//! Error codes: stable words for what can go wrong, and whether asking again can help.

mod page;

use std::fmt;

pub use page::{Page, Place, Who};

/// Whether trying the same thing again can have another result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same request may succeed later.
    Helps,
    /// The same request will always be refused.
    Useless,
}

macro_rules! codes {
    ($(#[doc = $doc:literal] $name:ident = $text:literal, $retry:ident, $status:literal;)+) => {
        /// A stable error code. Sent and stored, keep stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $doc] $name,)+
        }

        impl Code {
            /// Every code.
            pub const ALL: &[Code] = &[$(Code::$name),+];

            /// The code as it is spelled everywhere.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text),+ }
            }

            /// What it means, in a sentence or two.
            pub fn meaning(self) -> &'static str {
                match self { $(Code::$name => $doc),+ }.trim_ascii()
            }

            /// Whether the same request may succeed later.
            pub fn retry(self) -> Retry {
                match self { $(Code::$name => Retry::$retry),+ }
            }

            /// The HTTP status that goes with it.
            pub fn http_status(self) -> u16 {
                match self { $(Code::$name => $status),+ }
            }
        }
    };
}

codes! {
    /// The request has no bytes at all.
    EmptyRequest = "WAL_EMPTY_REQUEST", Useless, 400;
    /// The request is not JSON.
    InvalidJson = "WAL_INVALID_JSON", Useless, 400;
    /// The request is JSON, but not of the shape of a request.
    InvalidRequest = "WAL_INVALID_REQUEST", Useless, 400;
    /// The request has a field nobody knows.
    UnknownField = "WAL_UNKNOWN_FIELD", Useless, 400;
    /// The namespace is missing, too long, or of characters that are not allowed.
    NamespaceInvalid = "WAL_NAMESPACE_INVALID", Useless, 400;
    /// The target is missing, too long, or of characters that are not allowed.
    TargetInvalid = "WAL_TARGET_INVALID", Useless, 400;
    /// The target is one of the log's or of Kafka's own topics.
    TargetReserved = "WAL_TARGET_RESERVED", Useless, 400;
    /// The target topic does not exist.
    TargetUnknown = "WAL_TARGET_UNKNOWN", Helps, 404;
    /// A value of the lifecycle is no number, no known word, or outside its limits.
    LifecycleInvalid = "WAL_LIFECYCLE_INVALID", Useless, 400;
    /// An id or key is empty, too long, or holds control characters.
    IdInvalid = "WAL_ID_INVALID", Useless, 400;
    /// The record's key is too long.
    KeyTooLong = "WAL_KEY_TOO_LONG", Useless, 400;
    /// A time is not an RFC 3339 time.
    TimeInvalid = "WAL_TIME_INVALID", Useless, 400;
    /// The payload could not travel all the way, to the target and back.
    PayloadTooLarge = "WAL_PAYLOAD_TOO_LARGE", Useless, 413;
    /// The caller's headers are too large.
    HeadersTooLarge = "WAL_HEADERS_TOO_LARGE", Useless, 413;
    /// A header is not UTF-8 where it must be, comes twice where it may come once, or has no value.
    HeaderInvalid = "WAL_HEADER_INVALID", Useless, 400;
    /// A header has a name that belongs to the log.
    HeaderReserved = "WAL_HEADER_RESERVED", Useless, 400;
    /// The CloudEvent lacks a required attribute or is of another version.
    CloudEventInvalid = "WAL_CLOUDEVENT_INVALID", Useless, 400;
    /// The request is a structured CloudEvent.
    CloudEventStructured = "WAL_CLOUDEVENT_STRUCTURED", Useless, 415;
    /// The batch is empty, too long, or has a member with an id of its own.
    BatchInvalid = "WAL_BATCH_INVALID", Useless, 400;
    /// The reply topic is not one of the allowed.
    ReplyNotAllowed = "WAL_REPLY_NOT_ALLOWED", Useless, 403;
    /// The reply address is malformed or does not exist.
    ReplyInvalid = "WAL_REPLY_INVALID", Useless, 400;
    /// Another request with the same identity and other content is already in the log.
    IdentityConflict = "WAL_IDENTITY_CONFLICT", Useless, 409;
    /// What is asked for is not done here, such as writing through a gateway that only reads.
    NotSupported = "WAL_NOT_SUPPORTED", Useless, 501;
    /// The caller may not do this.
    AccessDenied = "WAL_ACCESS_DENIED", Useless, 403;
    /// The store refuses to keep this entry, whatever else it does.
    WriteError = "WAL_WRITE_ERROR", Useless, 422;
    /// The deadline passed before the entry was done.
    Expired = "WAL_EXPIRED", Useless, 410;
    /// The entry is stored, but its target does not exist any more.
    Undeliverable = "WAL_UNDELIVERABLE", Useless, 410;
    /// Every allowed retry failed.
    Exhausted = "WAL_RETRIES_EXHAUSTED", Useless, 410;
    /// A consumer said that retrying cannot help.
    Rejected = "WAL_REJECTED", Useless, 410;
    /// Somebody cancelled the entry.
    Cancelled = "WAL_CANCELLED", Useless, 410;
    /// A first delivery is wanted at or after the entry's own deadline, or later than delay topics keep anything.
    DeliveryTooLate = "WAL_DELIVERY_TOO_LATE", Useless, 400;
    /// The record echoes no delivery of the log: a header that every delivery has is missing or cannot be read.
    AnswerInvalid = "WAL_ANSWER_INVALID", Useless, 400;
    /// The answer stands on a topic where answers of its kind are not taken.
    AnswerMisplaced = "WAL_ANSWER_MISPLACED", Useless, 400;
    /// The seal is missing, was made with a key that is not known (any more), or does not fit.
    SealInvalid = "WAL_SEAL_INVALID", Useless, 403;
    /// The attempt lies beyond what its round allows.
    AttemptInvalid = "WAL_ATTEMPT_INVALID", Useless, 409;
    /// A status event speaks of an entry that is not in the store.
    AckUnknownEntry = "WAL_ACK_UNKNOWN_ENTRY", Useless, 404;
    /// A record of a delay topic is none that the log parked there.
    ParkedInvalid = "WAL_PARKED_INVALID", Useless, 400;
    /// The entry is finished, so there is nothing left to cancel or to answer.
    EntryFinished = "WAL_ENTRY_FINISHED", Useless, 409;
    /// The attempt has been answered already; the next one is scheduled.
    AttemptAnswered = "WAL_ATTEMPT_ANSWERED", Useless, 409;
    /// The attempt is not delivered yet, so there is nothing to answer.
    AttemptNotDue = "WAL_ATTEMPT_NOT_DUE", Helps, 409;
    /// No entry has this id. It may come to be: ask again, or send the request again to be sure.
    EntryNotFound = "WAL_ENTRY_NOT_FOUND", Helps, 404;
    /// A query parameter is missing or makes no sense.
    QueryInvalid = "WAL_QUERY_INVALID", Useless, 400;
    /// Nothing is at this path.
    RouteUnknown = "WAL_ROUTE_UNKNOWN", Useless, 404;
    /// What is at this path is not for this method.
    MethodNotAllowed = "WAL_METHOD_NOT_ALLOWED", Useless, 405;
    /// What is stored cannot be read; an operator must look.
    StoreCorrupt = "WAL_STORE_CORRUPT", Useless, 500;
    /// The store cannot be reached at this moment.
    StoreUnavailable = "WAL_STORE_UNAVAILABLE", Helps, 503;
    /// The brokers do not take what is to be published at this moment; nothing of it was.
    BrokerUnavailable = "WAL_BROKER_UNAVAILABLE", Helps, 503;
    /// Nobody knows whether it happened. Doing it again does no harm.
    OutcomeUnknown = "WAL_OUTCOME_UNKNOWN", Helps, 504;
}

impl Code {
    /// Reads a code as it is spelled.
    pub fn parse(text: &str) -> Option<Code> {
        Code::ALL.iter().copied().find(|code| code.as_str() == text)
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(self) -> bool {
        self.retry() == Retry::Helps
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The longest message of a refusal in bytes: a request's own text may stand in it.
const MESSAGE_LEN: usize = 1024;

/// Why a request is refused: the code for machines, the message for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// The stable code.
    pub code: Code,
    /// What is wrong with this request.
    pub message: String,
}

impl Refusal {
    /// A refusal; a message beyond 1 KiB is cut, and control characters are escaped: it travels as a CloudEvents attribute and
    /// stands in logs, and may quote whatever a stranger sent.
    pub fn new(code: Code, message: impl fmt::Display) -> Refusal {
        let mut text = String::new();
        for character in message.to_string().chars() {
            let before = text.len();
            if character.is_control() {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
            if text.len() > MESSAGE_LEN {
                text.truncate(before);
                text.push('…');
                break;
            }
        }
        Refusal { code, message: text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_spelled_alike_and_read_back() {
        for (at, code) in Code::ALL.iter().enumerate() {
            let text = code.as_str();
            assert!(text.starts_with("WAL_") && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{text}");
            assert_eq!(Code::parse(text), Some(*code));
            assert!(Code::ALL[at + 1..].iter().all(|other| other.as_str() != text), "{text} twice");
        }
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let refusal = Refusal::new(Code::InvalidJson, "ö".repeat(2000));
        assert!(refusal.message.len() <= MESSAGE_LEN + '…'.len_utf8());
        let whole = "x".repeat(MESSAGE_LEN);
        assert_eq!(Refusal::new(Code::InvalidJson, &whole).message, whole);
    }

    #[test]
    fn control_characters_never_reach_a_header_or_a_log_line() {
        let refusal = Refusal::new(Code::UnknownField, "a\0b\nc\u{85}");
        assert_eq!(refusal.message, "a\\u{0}b\\nc\\u{85}");
        assert!(Refusal::new(Code::UnknownField, "\0".repeat(2000)).message.len() <= MESSAGE_LEN + '…'.len_utf8());
    }
}
