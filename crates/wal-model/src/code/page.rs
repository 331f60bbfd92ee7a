//! What to do about each code, for whoever looks it up: who must act, how, and where the code is seen.
//!
//! What a code means is the comment at its name; whether the same again helps stands beside it.

use super::Code;

/// What is known of a code beside its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Who must do something.
    pub who: Who,
    /// What they must do, or may.
    pub remedy: &'static str,
    /// Where the code is seen.
    pub places: &'static [Place],
}

/// Who must do something about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Whoever wrote the request.
    Caller,
    /// Whoever consumes the target and answers.
    Consumer,
    /// Whoever runs the log.
    Operator,
    /// Whoever asks the gateway.
    Asker,
    /// Whoever cares for what the entry was to do.
    Owner,
}

impl Who {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Who::Caller => "whoever wrote the request",
            Who::Consumer => "whoever consumes the target and answers",
            Who::Operator => "whoever runs the log",
            Who::Asker => "whoever asks the gateway",
            Who::Owner => "whoever cares for what the entry was to do",
        }
    }
}

/// Where a code is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the receipt of a request.
    Receipt,
    /// In the dead letter of a request, an answer or another record that was refused.
    Refused,
    /// In the dead letter of an entry, and in its status.
    Entry,
    /// In an answer of the gateway.
    Gateway,
}

impl Place {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Place::Receipt => "the receipt (wal.receipts, or the reply topic of the request)",
            Place::Refused => "the dead letter of the refused record (dlq.wal.ingress)",
            Place::Entry => "the entry's status (wal.status, wal entry show) and its dead letter (dlq.wal.<namespace>)",
            Place::Gateway => "an answer of the gateway",
        }
    }
}

/// A request is answered, and kept.
const REQUEST: &[Place] = &[Place::Receipt, Place::Refused];
/// The gateway checks in the same words what stands in a request to it.
const REQUEST_OR_GATEWAY: &[Place] = &[Place::Receipt, Place::Refused, Place::Gateway];
/// A record that nobody awaits an answer to is kept.
const RECORD: &[Place] = &[Place::Refused];
/// What is decided about an entry.
const ENTRY: &[Place] = &[Place::Entry];
/// What only somebody who asks is told.
const GATEWAY: &[Place] = &[Place::Gateway];

fn page(who: Who, places: &'static [Place], remedy: &'static str) -> Page {
    Page { who, remedy, places }
}

impl Code {
    /// What to do about it.
    pub fn page(self) -> Page {
        use Who::{Asker, Caller, Consumer, Operator, Owner};
        match self {
            Code::EmptyRequest => page(
                Caller,
                REQUEST,
                "Produce the request as the record's value; a record without one asks for nothing.",
            ),
            Code::InvalidJson => page(
                Caller,
                REQUEST_OR_GATEWAY,
                "Send one JSON object in UTF-8; the message says where reading it ended. Payloads that are no \
                 JSON travel as CloudEvents in binary mode.",
            ),
            Code::InvalidRequest => page(
                Caller,
                REQUEST_OR_GATEWAY,
                "Compare it with the request in README; the message names the field that is missing or of \
                 another kind.",
            ),
            Code::UnknownField => page(
                Caller,
                REQUEST,
                "Correct the spelling of the field the message names, or leave it out; what is meant for the \
                 consumer belongs in the payload.",
            ),
            Code::NamespaceInvalid => page(
                Caller,
                REQUEST,
                "Name a namespace of 1 to 100 letters, digits, dots, underscores and dashes that is not \
                 `ingress`.",
            ),
            Code::TargetInvalid => page(
                Caller,
                REQUEST,
                "Name a topic as Kafka allows it and that takes records of at least 256 KiB, or leave the target \
                 to the policy where policy.target is set.",
            ),
            Code::TargetReserved => page(
                Caller,
                REQUEST,
                "Choose a topic that does not begin with the log's prefix, `dlq.` and it, or `__`.",
            ),
            Code::TargetUnknown => page(
                Caller,
                REQUEST,
                "Correct the name, or have the topic made; then send the same request again. Whoever runs the \
                 log may allow writer.create_missing_targets.",
            ),
            Code::LifecycleInvalid => page(
                Caller,
                REQUEST,
                "Keep retry_count to 0-100, delay to 0-30 days, ttl to 1 s-365 days, all in seconds; backoff is \
                 exponential, linear or fixed, priority high, normal or low.",
            ),
            Code::IdInvalid => page(
                Caller,
                REQUEST_OR_GATEWAY,
                "Give ids and keys 1 to 256 bytes without control characters; a log id is copied whole.",
            ),
            Code::KeyTooLong => page(
                Caller,
                REQUEST,
                "Give the record a key of 256 bytes at most; it is the ordering key, not a place for data.",
            ),
            Code::TimeInvalid => page(Caller, REQUEST, "Write times as RFC 3339 does, such as 2026-11-23T10:00:00Z."),
            Code::PayloadTooLarge => page(
                Caller,
                REQUEST_OR_GATEWAY,
                "Send less, such as a reference to where the data lies; or have max.message.bytes of the target \
                 and topics.max_message_bytes raised: what travels to the target must also travel back as a \
                 failure.",
            ),
            Code::HeadersTooLarge => page(Caller, REQUEST, "Keep your own headers to 16 KiB together."),
            Code::HeaderInvalid => {
                page(Caller, REQUEST, "Correct the header the message names: UTF-8, once, with a value.")
            }
            Code::HeaderReserved => page(
                Caller,
                REQUEST,
                "Rename the header the message names; names that begin with ce_wal belong to the log, and a \
                 misspelled attribute lands here too.",
            ),
            Code::CloudEventInvalid => page(
                Caller,
                REQUEST,
                "Send version 1.0 with ce_id, ce_source and ce_type; the message names what is missing.",
            ),
            Code::CloudEventStructured => page(
                Caller,
                REQUEST,
                "Send the event in binary mode: attributes as ce_ headers, the data as the value.",
            ),
            Code::BatchInvalid => page(
                Caller,
                REQUEST,
                "Send 1 to 1,000 entries; the batch has one request id or idempotency key, its members none.",
            ),
            Code::ReplyNotAllowed => page(
                Operator,
                REQUEST,
                "Add the topic to writer.reply_topics if it may be used; else the request must name none and \
                 read wal.receipts.",
            ),
            Code::ReplyInvalid => page(
                Caller,
                REQUEST,
                "Name a reply topic that exists and a partition it has (4 bytes, big-endian), or leave both out.",
            ),
            Code::IdentityConflict => page(
                Caller,
                REQUEST,
                "Give each operation an id of its own. What is stored under this id is never overwritten; `wal \
                 entry show` shows it.",
            ),
            Code::NotSupported => {
                page(Operator, GATEWAY, "Ask a gateway that does it: one that has brokers and a seal also writes.")
            }
            Code::AccessDenied => page(
                Operator,
                REQUEST_OR_GATEWAY,
                "Grant the writer's user what the message names (Describe and Write on the topic), then send the \
                 same request again. From a gateway on loopback: ask it as 127.0.0.1 or localhost.",
            ),
            Code::WriteError => page(
                Caller,
                REQUEST,
                "Make the entry smaller or simpler as the message says; the store keeps everything else.",
            ),
            Code::Expired => page(
                Owner,
                &[Place::Entry, Place::Gateway],
                "Find out why nobody completed it in time: `wal entry show`. Write it again under a new id if it \
                 is still wanted; give a longer ttl if this happens often.",
            ),
            Code::Undeliverable => page(
                Owner,
                ENTRY,
                "Make the target again, then write the entry again under a new id; it is in the dead letter.",
            ),
            Code::Exhausted => page(
                Owner,
                ENTRY,
                "See what its consumer said at each attempt: `wal entry show`. Mend the cause, then write it \
                 again under a new id.",
            ),
            Code::Rejected => {
                page(Owner, ENTRY, "See what its consumer said: `wal entry show`. Write what it takes under a new id.")
            }
            Code::Cancelled => {
                page(Owner, ENTRY, "Nothing, if the cancel was meant; else write it again under a new id.")
            }
            Code::DeliveryTooLate => page(
                Caller,
                REQUEST,
                "Choose a deliver_at before the deadline, or a longer ttl; whoever runs the log may raise \
                 topics.delay_retention.",
            ),
            Code::AnswerInvalid => page(
                Consumer,
                RECORD,
                "Echo all headers of the delivery, byte for byte, under the log id as key; the SDK and \
                 deploy/examples show how.",
            ),
            Code::AnswerMisplaced => page(
                Consumer,
                &[Place::Refused, Place::Gateway],
                "Send completed to wal.acks and failed to wal.failures. An entry whose namespace has answers = \
                 none takes none.",
            ),
            Code::SealInvalid => page(
                Consumer,
                RECORD,
                "Echo ce_walseal and the headers and value it covers unchanged. If many come at once: a key was \
                 removed from seal.keys before all it sealed was answered; put it back.",
            ),
            Code::AttemptInvalid => page(
                Consumer,
                &[Place::Refused, Place::Gateway],
                "Answer the attempt that was delivered: echo ce_walattempt as it came. Through the gateway: \
                 leave the attempt out, or name the one under way.",
            ),
            Code::AckUnknownEntry => page(
                Operator,
                RECORD,
                "Compare the stores of writer and status: they must be the same. After a restore, let the \
                 writers read their topics to the end first; see README, backup and restore.",
            ),
            Code::ParkedInvalid => page(
                Operator,
                RECORD,
                "Find out who else writes to wal.delay topics and withdraw their right to: only schedulers and \
                 writers may.",
            ),
            Code::EntryFinished => page(Asker, GATEWAY, "Nothing: `wal entry show` tells how it ended."),
            Code::AttemptAnswered => {
                page(Asker, GATEWAY, "Wait for the next attempt, or have it made at once: `wal retry`.")
            }
            Code::AttemptNotDue => page(
                Asker,
                GATEWAY,
                "Ask again when it is due, which `wal entry show` tells, or have it made at once: `wal retry`.",
            ),
            Code::EntryNotFound => page(
                Asker,
                GATEWAY,
                "Check id, namespace and tenant. It may be on its way: ask again, or send the request again, \
                 which makes sure.",
            ),
            Code::QueryInvalid => page(Asker, GATEWAY, "Correct the parameter the message names."),
            Code::RouteUnknown => page(Asker, GATEWAY, "Entries are at /v1/entries; README has the rest."),
            Code::MethodNotAllowed => page(Asker, GATEWAY, "Use a method that the allow header names."),
            Code::StoreCorrupt => page(
                Operator,
                GATEWAY,
                "Stop what writes to the store, look at the log line that names the document, and restore it: \
                 README, backup and restore.",
            ),
            Code::StoreUnavailable => page(
                Operator,
                GATEWAY,
                "Bring the database back; what waits for it goes on by itself. Nothing is lost meanwhile.",
            ),
            Code::BrokerUnavailable => page(Operator, GATEWAY, "Bring the brokers back, then ask the same again."),
            Code::OutcomeUnknown => {
                page(Asker, GATEWAY, "Ask the same again: it is done once, however often it is asked.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_can_be_read_aloud() {
        for code in Code::ALL {
            let page = code.page();
            for text in [code.meaning(), page.remedy] {
                assert!(text.ends_with('.') && text.starts_with(char::is_uppercase), "{code}: {text}");
            }
            assert!(!page.places.is_empty(), "{code}");
        }
    }

    #[test]
    fn what_a_person_decided_or_a_deadline_did_is_seen_at_the_entry() {
        for code in [Code::Expired, Code::Exhausted, Code::Rejected, Code::Cancelled, Code::Undeliverable] {
            assert!(code.page().places.contains(&Place::Entry), "{code}");
        }
    }
}
