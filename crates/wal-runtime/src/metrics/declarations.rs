//! Every family, declared once: name, help, labels, unit. `wal_` before the name, and the unit and `_total` after it, are added.
//!
//! Rules: one quantity per family, base units, and sums over all labels that mean something. Renaming one breaks somebody's alert.

use prometheus_client::registry::Registry;

use super::book::{Book, Counter, Counters, Description, Durations, Gauge, Seconds};
use super::labels::{Attempt, Build, Refused, Scheduling, Service, ServiceBatch};

/// Bounds for lateness, in seconds: fine where the promise is (milliseconds), coarse up to what a crash may cost (session and
/// transaction timeout) and a downtime.
const LATENESS: [f64; 18] =
    [0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 600.0];

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
}

impl Group for Batches {
    fn declare(book: &mut Book<'_>) -> Batches {
        Batches {
            batches: book.counters("batches", "Batches, by whether they were committed or given up and read again"),
            records: book.counters("batch_records", "Records taken in by batches that were committed"),
            published: book.counters("batch_published_records", "Records published by batches that were committed"),
            rewinds: book.counters("rewinds", "Goings back to the committed offsets after something was given up"),
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
    Batches::declare(&mut book);
    Retries::declare(&mut book);
    Attempts::declare(&mut book);
    Answers::declare(&mut book);
    Statuses::declare(&mut book);
    book.into_descriptions()
}
