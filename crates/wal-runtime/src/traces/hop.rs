//! What becomes of a trace where a record goes on. Pure.

use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use uuid::Uuid;
use wal_model::ContentHash;
use wal_model::record::{Header, OutRecord, last_str};
use wal_model::wire;

/// The header of the present step: <https://www.w3.org/TR/trace-context/>.
pub const TRACEPARENT: &str = "traceparent";
/// What vendors add to it.
const TRACESTATE: &str = "tracestate";
/// The header of the step that began it all: the CloudEvents extension for distributed tracing.
pub const CE_TRACEPARENT: &str = "ce_traceparent";
/// The length of a `traceparent` of version 00, the shortest there is.
const LEN: usize = 55;

/// How the deliveries of a service stand to the trace that their record came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Road {
    /// They are its next step.
    Onward,
    /// They begin a trace of their own, which links to it: it may have ended days ago, and nobody waits for more of it.
    Anew,
}

/// A record that is sent within a trace that is sampled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// Its place among the records that are published.
    pub at: usize,
    /// The step of sending it.
    pub context: SpanContext,
    /// The step before, in the same trace.
    pub parent: Option<SpanContext>,
    /// What came before in another trace.
    pub link: Option<SpanContext>,
}

/// The step that headers speak of; `None` where they speak of none that is valid.
pub(super) fn context(headers: &[Header]) -> Option<SpanContext> {
    if last_str(headers, TRACEPARENT)?.trim().len() < LEN {
        return None;
    }
    let found = TraceContextPropagator::new().extract_with_context(&opentelemetry::Context::new(), &Carrier(headers));
    let context = found.span().span_context().clone();
    context.is_valid().then_some(context)
}

/// Lets records go on: a delivery carries the step of sending it from now on, in place of the one before. Tells of all that are sampled.
pub(super) fn hop(outputs: &mut [OutRecord], road: Road, sample_ratio: f64) -> Vec<Sent> {
    let sent = |(at, output): (usize, &mut OutRecord)| {
        let before = context(&output.headers);
        match delivered(output) {
            Some((log_id, attempt)) => {
                let step = step(&log_id, &attempt, before, road, sample_ratio);
                carry(output, &step);
                Some(Sent { at, ..step })
            }
            None => {
                let parent = before?;
                let context = next_step(&parent, random_span());
                Some(Sent { at, context, parent: Some(parent), link: None })
            }
        }
    };
    outputs.iter_mut().enumerate().filter_map(sent).filter(|sent| sent.context.is_sampled()).collect()
}

/// The entry and the attempt that are delivered, if the record is an attempt on its target.
fn delivered(output: &OutRecord) -> Option<(String, String)> {
    let header = |name| last_str(&output.headers, name);
    let is_delivery = header(wire::CE_WALSENT).is_some() && header(wire::CE_WALTARGET) == Some(output.topic.as_str());
    is_delivery.then(|| Some((header(wire::CE_ID)?.to_owned(), header(wire::CE_WALATTEMPT)?.to_owned())))?
}

/// The step of a delivery. It depends on what is delivered only: publishing it again writes the same.
fn step(log_id: &str, attempt: &str, before: Option<SpanContext>, road: Road, sample_ratio: f64) -> Sent {
    let hash = *ContentHash::of(format!("trace {log_id} {attempt}").as_bytes()).as_bytes();
    let part = |range: std::ops::Range<usize>| &hash[range];
    let own_trace = TraceId::from_bytes(part(0..16).try_into().expect("sixteen bytes"));
    let span = SpanId::from_bytes(part(16..24).try_into().expect("eight bytes"));
    let flags = match &before {
        Some(before) => before.trace_flags(),
        None if is_sampled(own_trace, sample_ratio) => TraceFlags::SAMPLED,
        None => TraceFlags::default(),
    };
    let begun = SpanContext::new(own_trace, span, flags, false, TraceState::default());
    match (before, road) {
        (Some(before), Road::Onward) => {
            Sent { at: 0, context: next_step(&before, span), parent: Some(before), link: None }
        }
        (link, _) => Sent { at: 0, context: begun, parent: None, link },
    }
}

/// The next step of the same trace.
pub(super) fn next_step(before: &SpanContext, span: SpanId) -> SpanContext {
    SpanContext::new(before.trace_id(), span, before.trace_flags(), false, before.trace_state().clone())
}

/// As OpenTelemetry's samplers by ratio decide, so that all who see the trace decide alike.
fn is_sampled(trace: TraceId, ratio: f64) -> bool {
    let low = u64::from_be_bytes(trace.to_bytes()[8..].try_into().expect("eight bytes")) >> 1;
    // Saturates: a ratio of one or more takes all.
    low < (ratio * (1_u64 << 63) as f64) as u64
}

/// Puts the step into the headers, once; the first of an entry is kept beside it.
fn carry(output: &mut OutRecord, step: &Sent) {
    let own = Header::new(TRACEPARENT, text(&step.context));
    let origin = step.parent.as_ref().or(step.link.as_ref()).map_or_else(|| text(&step.context), text);
    let has_origin = output.headers.iter().any(|header| header.is(CE_TRACEPARENT));
    // What vendors keep belongs to the trace that it came with.
    let is_stale = |header: &Header| header.is(TRACEPARENT) || step.parent.is_none() && header.is(TRACESTATE);
    output.headers.retain(|header| !is_stale(header));
    output.headers.push(own);
    if !has_origin {
        output.headers.push(Header::new(CE_TRACEPARENT, origin));
    }
}

fn text(context: &SpanContext) -> String {
    let sampled = u8::from(context.is_sampled());
    format!("00-{}-{}-{sampled:02x}", context.trace_id(), context.span_id())
}

/// A step that nobody carries on from.
pub(super) fn random_span() -> SpanId {
    // Of a random UUID the first six bytes and the last seven hold nothing else.
    let bytes = Uuid::new_v4().into_bytes();
    SpanId::from_bytes(
        bytes[..4].iter().chain(&bytes[12..]).copied().collect::<Vec<u8>>().try_into().expect("eight bytes"),
    )
}

/// A trace of its own, sampled.
pub(super) fn random_trace() -> SpanContext {
    let trace = TraceId::from_bytes(Uuid::new_v4().into_bytes());
    SpanContext::new(trace, random_span(), TraceFlags::SAMPLED, false, TraceState::default())
}

struct Carrier<'a>(&'a [Header]);

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        last_str(self.0, key)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().filter_map(Header::name_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use wal_model::Topic;

    use super::*;

    const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const LOG_ID: &str = "wal_orders_20241201T100000000Z_6f7a8598-26c4-5310-a0c0-25bce4910e9f";

    fn delivery(attempt: &'static str, more: &[(&'static str, &'static str)]) -> OutRecord {
        let own = [
            (wire::CE_ID, LOG_ID),
            (wire::CE_WALTARGET, "orders"),
            (wire::CE_WALATTEMPT, attempt),
            (wire::CE_WALSENT, "2024-12-01T10:00:00.000Z"),
        ];
        let headers = own.iter().chain(more).map(|(name, value)| Header::new(name, *value)).collect();
        OutRecord { topic: Topic::parse("orders").unwrap(), partition: None, key: None, value: None, headers }
    }

    fn after_hop(record: OutRecord, road: Road, ratio: f64) -> (OutRecord, Vec<Sent>) {
        let mut records = [record];
        let sent = hop(&mut records, road, ratio);
        let [record] = records;
        (record, sent)
    }

    fn header<'a>(record: &'a OutRecord, name: &str) -> Vec<&'a str> {
        let named = record.headers.iter().filter(|header| header.is(name));
        named.map(|header| std::str::from_utf8(header.value.as_ref().unwrap()).unwrap()).collect()
    }

    #[test]
    fn a_first_delivery_is_the_next_step_of_the_callers_trace() {
        let given = [(TRACEPARENT, "00-1-2-01"), (TRACEPARENT, CALLER), (TRACESTATE, "a=1")];
        let (record, sent) = after_hop(delivery("1", &given), Road::Onward, 0.0);
        let [sent] = &sent[..] else { panic!("one is sampled: {sent:?}") };
        assert_eq!(sent.parent.as_ref().map(text).as_deref(), Some(CALLER));
        assert_eq!(sent.context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(header(&record, TRACEPARENT), [text(&sent.context)]);
        assert_ne!(header(&record, TRACEPARENT), [CALLER]);
        assert_eq!(header(&record, CE_TRACEPARENT), [CALLER]);
        assert_eq!(header(&record, TRACESTATE), ["a=1"]);
        // Published again it is the same record.
        assert_eq!(after_hop(delivery("1", &given), Road::Onward, 0.0).0, record);
    }

    #[test]
    fn a_retry_begins_a_trace_that_links_to_the_one_before() {
        let origin = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
        let given = [(TRACEPARENT, CALLER), (CE_TRACEPARENT, origin), (TRACESTATE, "a=1")];
        let (record, sent) = after_hop(delivery("2", &given), Road::Anew, 0.0);
        assert_eq!(sent[0].parent, None);
        assert_eq!(sent[0].link.as_ref().map(text).as_deref(), Some(CALLER));
        assert_ne!(sent[0].context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(header(&record, CE_TRACEPARENT), [origin]);
        assert_eq!(header(&record, TRACESTATE), [""; 0]);
        let (_, third) = after_hop(delivery("3", &given), Road::Anew, 0.0);
        assert_ne!(third[0].context.trace_id(), sent[0].context.trace_id());
    }

    #[test]
    fn whether_it_is_sampled_the_caller_decides_and_else_the_ratio() {
        let unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        let (record, sent) = after_hop(delivery("1", &[(TRACEPARENT, unsampled)]), Road::Onward, 1.0);
        assert_eq!(sent, []);
        assert!(header(&record, TRACEPARENT)[0].ends_with("-00"));
        let (record, sent) = after_hop(delivery("1", &[]), Road::Onward, 1.0);
        assert_eq!((sent.len(), sent[0].parent.is_some(), sent[0].link.is_some()), (1, false, false));
        assert_eq!(header(&record, CE_TRACEPARENT), header(&record, TRACEPARENT));
        assert_eq!(after_hop(delivery("1", &[]), Road::Onward, 0.0).1, []);
        let sampled = (0..10_000_u32).filter(|number| {
            let hash = ContentHash::of(&number.to_be_bytes());
            is_sampled(TraceId::from_bytes(hash.as_bytes()[..16].try_into().unwrap()), 0.1)
        });
        let sampled = sampled.count();
        assert!((900..1100).contains(&sampled), "{sampled} of 10,000");
    }

    #[test]
    fn what_is_no_context_is_none() {
        let table = [
            "",
            "00-1-2-01",
            "00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ];
        for value in table {
            assert_eq!(context(&[Header::new(TRACEPARENT, value)]), None, "{value}");
        }
        let bytes = Header::new(TRACEPARENT, &b"\xff\xfe"[..]);
        assert_eq!(context(&[bytes]), None);
        let (record, _) = after_hop(delivery("1", &[(TRACEPARENT, "00-1-2-01")]), Road::Onward, 0.0);
        assert_eq!(header(&record, TRACEPARENT).len(), 1);
    }

    #[test]
    fn others_go_on_as_they_are() {
        let mut letter = delivery("1", &[(TRACEPARENT, CALLER)]);
        letter.topic = Topic::parse("dlq.orders").unwrap();
        let (record, sent) = after_hop(letter.clone(), Road::Onward, 0.0);
        assert_eq!(record, letter);
        assert_eq!(sent[0].parent.as_ref().map(text).as_deref(), Some(CALLER));
        letter.headers.retain(|header| !header.is(TRACEPARENT));
        assert_eq!(after_hop(letter, Road::Onward, 1.0).1, []);
    }
}
