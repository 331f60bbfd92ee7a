//! Every family, declared once: name, help, labels, unit. `wal_` before the name, and the unit and `_total` after it, are added.
//!
//! Rules: one quantity per family, base units, and sums over all labels that mean something. Renaming one breaks somebody's alert.

use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::book::{Book, Counter, Counters, Description, Durations, DurationsOf, Gauge, Gauges, Measure, Seconds};
use super::labels::{
    Asked, Attempt, Build, Call, DeadLetter, Named, Partition, Place, Refused, Route, Scheduling, Service,
    ServiceBatch, ServiceStage, SpansExported, Stage, Waited, Written,
};
use super::process::Process;

/// Bounds for lateness, in seconds: fine where the promise is (milliseconds), coarse up to what a crash may cost (session and
/// transaction timeout) and a downtime.
const LATENESS: [f64; 18] =
    [0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 600.0];

/// Bounds for work, in seconds: from a batch in memory to what a person notices and an outage costs.
const WORK: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0];

fn work() -> Histogram {
    Histogram::new(WORK)
}

/// Families that appear together.
pub(super) trait Group {
    /// Declares them.
    fn declare(book: &mut Book<'_>) -> Self;
}

/// What every process tells.
pub(super) struct About;

impl Group for About {
    fn declare(book: &mut Book<'_>) -> About {
        book.info("build", "What runs", Build::OWN);
        About
    }
}

/// What every batch loop counts.
#[derive(Debug)]
pub struct Batches {
    /// Batches by how they ended.
    pub batches: Counters<ServiceBatch>,
    /// Records of batches that were committed.
    pub records: Counters<Service>,
    /// Records that such batches published.
    pub published: Counters<Service>,
    /// Goings back to the committed offsets.
    pub rewinds: Counters<Service>,
    /// Counted when the broker says so.
    pub fences: Counters<Service>,
    /// Observed whether or not the batch is committed.
    pub durations: DurationsOf<ServiceStage>,
    /// Counted when committed.
    pub dead_letters: Counters<DeadLetter>,
}

impl Group for Batches {
    fn declare(book: &mut Book<'_>) -> Batches {
        Batches {
            batches: book.counters("batches", "Batches, by whether they were committed or given up and read again"),
            records: book.counters("batch_records", "Records taken in by batches that were committed"),
            published: book.counters("batch_published_records", "Records published by batches that were committed"),
            rewinds: book.counters("rewinds", "Goings back to the committed offsets after something was given up"),
            fences: book.counters(
                "fences",
                "Transactions refused because the broker knows a newer producer under the same transactional id",
            ),
            durations: book.durations_of(
                "batch_duration",
                "How long a batch took: handled (decided and stored), and published and committed",
                work,
            ),
            dead_letters: book.counters(
                "dlq_records",
                "Dead letters, by namespace and error code; a code that is a consumer's own counts as other",
            ),
        }
    }
}

/// What of each partition is not committed yet.
#[derive(Debug)]
pub struct Lags {
    /// Set every few seconds, for what this process holds.
    pub records: Gauges<Partition>,
    /// Set with it.
    pub seconds: Gauges<Partition, Seconds>,
}

impl Group for Lags {
    fn declare(book: &mut Book<'_>) -> Lags {
        Lags {
            records: book.gauges(
                "consumer_lag_records",
                "Offsets between what the group has committed and the end of a partition that this process holds",
            ),
            seconds: book.seconds_of(
                "consumer_lag",
                "For how long at least the first of these has been there, as far as this process has seen",
            ),
        }
    }
}

/// What becomes of requests.
#[derive(Debug)]
pub struct Requests {
    /// Counted when committed.
    pub entries: Counters<Written>,
    /// Counted when committed.
    pub bytes: Counters<Named>,
    /// Counted when committed.
    pub refused: Counters<Refused>,
    /// Observed when done.
    pub durations: DurationsOf<Stage>,
    /// Observed when the delivery is committed; not of those that are wanted later.
    pub end_to_end: DurationsOf<Place>,
    /// Counted at each turn of the wait.
    pub waits: Counters<Waited>,
}

impl Group for Requests {
    fn declare(book: &mut Book<'_>) -> Requests {
        Requests {
            entries: book.counters(
                "entries",
                "Entries of accepted requests: stored and delivered, asked for again by a repeat, or told again",
            ),
            bytes: book.counters_in(Measure::Bytes, "entry", "Payloads of entries that were stored and delivered"),
            refused: book.counters("requests_refused", "Requests that were refused and dead-lettered, by error code"),
            durations: book.durations_of(
                "append_duration",
                "How long a batch of requests took: read and checked, stored, published and committed",
                work,
            ),
            end_to_end: book.durations_of(
                "end_to_end_duration",
                "From a request on the ingress topic, by the broker's clock, to its committed delivery",
                work,
            ),
            waits: book.counters(
                "append_waits",
                "Times that a batch of requests was held back and the brokers were asked again, by what was waited for",
            ),
        }
    }
}

/// What the store is asked.
#[derive(Debug)]
pub struct Stores {
    /// Observed at each answer, good or bad.
    pub durations: DurationsOf<Call>,
    /// Counted at each bad one.
    pub errors: Counters<Call>,
}

impl Group for Stores {
    fn declare(book: &mut Book<'_>) -> Stores {
        Stores {
            durations: book.durations_of("store_request_duration", "How long a call of the store took", work),
            errors: book.counters("store_errors", "Calls of the store that failed; most are made again"),
        }
    }
}

/// What is asked over HTTP.
#[derive(Debug)]
pub struct Https {
    /// Counted when answered.
    pub requests: Counters<Asked>,
    /// Observed when answered.
    pub durations: DurationsOf<Route>,
}

impl Group for Https {
    fn declare(book: &mut Book<'_>) -> Https {
        Https {
            requests: book.counters("http_requests", "Requests over HTTP, by route and status of the answer"),
            durations: book.durations_of("http_request_duration", "How long an answer over HTTP took", work),
        }
    }
}

/// What is told to a collector of traces.
#[derive(Debug)]
pub struct Spans {
    /// Counted when a batch is committed. What was made and neither taken nor failed was dropped, or still waits.
    pub made: Counter,
    /// Counted when the collector has answered, or has not.
    pub exported: Counters<SpansExported>,
}

impl Group for Spans {
    fn declare(book: &mut Book<'_>) -> Spans {
        Spans {
            made: book
                .counter("trace_spans_made", "Spans made; those that were never exported were dropped or still wait"),
            exported: book.counters("trace_spans_exported", "Spans sent to the collector, by whether it took them"),
        }
    }
}

/// What becomes of attempts that wait.
#[derive(Debug)]
pub struct Retries {
    /// Counted when the decision is committed; a delay of nothing counts too.
    pub scheduled: Counters<Scheduling>,
    /// Counted when the parked record is committed.
    pub hops: Counter,
    /// Set before each scrape.
    pub due: Gauge,
    /// Set before each scrape; zero if nothing is due.
    pub oldest_due: Seconds,
    /// Observed when the release is committed, of the publishing service's clock.
    pub lateness: Durations,
    /// Counted when the release is committed.
    pub cancelled: Counter,
    /// Counted when the parked record is committed.
    pub postponed: Counter,
}

impl Group for Retries {
    fn declare(book: &mut Book<'_>) -> Retries {
        Retries {
            scheduled: book.counters("retry_scheduled", "Attempts that were given a due time, by what they are"),
            hops: book.counter("retry_hops", "Records parked on a delay topic, once for every wait they pay"),
            due: book.gauge("retry_due_entries", "Parked attempts known to be due and not published yet"),
            oldest_due: book.seconds("retry_oldest_due", "How long the most overdue of them has been due"),
            lateness: book.durations(
                "retry_lateness",
                "How long after its due time an attempt was published",
                &LATENESS,
            ),
            cancelled: book.counter("retry_cancelled", "Attempts dropped when due because their round was cancelled"),
            postponed: book
                .counter("retry_postponed", "Attempts that were due and not published because of their target"),
        }
    }
}

/// Attempts by how they ended.
#[derive(Debug)]
pub struct Attempts {
    /// Counted by whoever decides it: the first time that it is decided, when that is committed.
    pub attempts: Counters<Attempt>,
}

impl Group for Attempts {
    fn declare(book: &mut Book<'_>) -> Attempts {
        Attempts { attempts: book.counters("delivery_attempts", "Attempts, by how they ended") }
    }
}

/// What comes in from consumers.
#[derive(Debug)]
pub struct Answers {
    /// Counted when the batch is committed.
    pub repeated: Counter,
    /// Counted when the dead letter is committed.
    pub refused: Counters<Refused>,
    /// Counted when the move is committed.
    pub moved: Counter,
    /// Counted when the batch is committed.
    pub ignored: Counter,
    /// Counted when the batch is committed.
    pub wishes_unreadable: Counter,
}

impl Group for Answers {
    fn declare(book: &mut Book<'_>) -> Answers {
        Answers {
            repeated: book.counter("answers_repeated", "Answers to an attempt that had been decided already"),
            refused: book.counters("answers_refused", "Answers that were refused and dead-lettered, by error code"),
            moved: book
                .counter("answers_moved", "Answers found in another partition than their log id names, and moved"),
            ignored: book
                .counter("answers_ignored", "Answers that change nothing: to replayed copies, or not asked for"),
            wishes_unreadable: book.counter(
                "answers_wishes_unreadable",
                "Wishes for a retry that made no sense, so that the lifecycle decided",
            ),
        }
    }
}

/// What happens to statuses, and to entries whose time is over.
#[derive(Debug)]
pub struct Statuses {
    /// Counted when stored.
    pub folded: Counter,
    /// Counted when the event is committed.
    pub expired: Counter,
    /// Counted when removed.
    pub purged: Counter,
}

impl Group for Statuses {
    fn declare(book: &mut Book<'_>) -> Statuses {
        Statuses {
            folded: book.counter("status_folded", "Events folded into the status of an entry"),
            expired: book.counter("status_expired", "Entries that were declared expired"),
            purged: book.counter("status_purged", "Finished entries that were removed after their retention"),
        }
    }
}

/// Every family there is, for a reference.
pub fn descriptions() -> Vec<Description> {
    let mut registry = Registry::default();
    let mut book = Book::new(&mut registry);
    About::declare(&mut book);
    Lags::declare(&mut book);
    Requests::declare(&mut book);
    Stores::declare(&mut book);
    Https::declare(&mut book);
    Batches::declare(&mut book);
    Spans::declare(&mut book);
    Retries::declare(&mut book);
    Attempts::declare(&mut book);
    Answers::declare(&mut book);
    Statuses::declare(&mut book);
    Process::declare(&mut book);
    book.into_descriptions()
}
