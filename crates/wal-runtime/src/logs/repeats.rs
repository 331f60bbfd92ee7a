//! The same warning or error again and again is one line a second, which says how often: a broker that is away must not fill the disk.
//!
//! ```text
//!   0.0 s  WARN the brokers do not answer topic=a        told at once, whole
//!   0.1 s  WARN the brokers do not answer topic=a ...    kept back
//!   1.0 s  WARN repeated 9 times: the brokers do not answer last="topic=b"
//! ```

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, error, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use wal_model::{Clock as _, SystemClock};

use super::recent::Recent;

/// How long the same is kept back once it was told. Short enough to watch, long enough to read.
const WINDOW: Duration = Duration::from_secs(1);
/// The most different lines that are remembered: messages are fixed texts, and there are far fewer. What is beyond is told.
const REMEMBERED: usize = 1000;
/// Where the lines that tell of repeats say that they come from; they are never kept back.
const OWN: &str = "wal_runtime::repeats";

/// A layer that keeps back what was told a moment ago, and notes all of it.
pub(super) struct Repeats {
    seen: Arc<Mutex<Seen>>,
    recent: Recent,
}

impl Repeats {
    /// The layer, with a thread beside it that tells what was kept back. It has no end: it must tell for as long as the process lives.
    pub(super) fn start(recent: Recent) -> std::io::Result<Repeats> {
        let seen = Arc::<Mutex<Seen>>::default();
        let of_thread = Arc::clone(&seen);
        thread::Builder::new().name("repeats".into()).spawn(move || {
            loop {
                thread::sleep(WINDOW);
                let due = lock(&of_thread).due(Instant::now());
                due.iter().for_each(tell);
            }
        })?;
        Ok(Repeats { seen, recent })
    }
}

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN || metadata.target() == OWN {
            return true;
        }
        let mut words = Words::default();
        event.record(&mut words);
        let line = Line { level: *metadata.level(), target: metadata.target().to_owned(), message: words.message };
        self.recent.saw(&line, &words.fields, SystemClock.now());
        lock(&self.seen).admits(line, words.fields, Instant::now())
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    // Counts are right or one short, whoever panicked while they held it.
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tell(repeated: &Repeated) {
    let Repeated { line: Line { level, target, message }, times, last } = repeated;
    let times = if *times == 1 { "once more".to_owned() } else { format!("{times} times") };
    match *level {
        Level::ERROR => error!(target: OWN, from = target, last, "repeated {times}: {message}"),
        _ => warn!(target: OWN, from = target, last, "repeated {times}: {message}"),
    }
}

/// The words of an event. Its fields may differ each time, such as the offset of a record, so they do not make it another line.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
            return;
        }
        let gap = if self.fields.is_empty() { "" } else { " " };
        let _ = write!(self.fields, "{gap}{}={value:?}", field.name());
    }
}

/// What makes two lines the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Line {
    pub(super) level: Level,
    pub(super) target: String,
    pub(super) message: String,
}

/// A line that was kept back, how often, and with which fields the last time.
#[derive(Debug, PartialEq, Eq)]
struct Repeated {
    line: Line,
    times: u64,
    last: String,
}

/// The lines of the last moment.
#[derive(Default)]
struct Seen(HashMap<Line, Window>);

struct Window {
    since: Instant,
    kept_back: u64,
    last: String,
}

impl Seen {
    /// Whether a line is told now; else it is counted.
    fn admits(&mut self, line: Line, fields: String, now: Instant) -> bool {
        if let Some(window) = self.0.get_mut(&line) {
            window.kept_back += 1;
            window.last = fields;
            return false;
        }
        if self.0.len() < REMEMBERED {
            self.0.insert(line, Window { since: now, kept_back: 0, last: String::new() });
        }
        true
    }

    /// What was kept back in windows that are over. Where something was, it goes on being kept back and told once a window; where nothing
    /// was, the next one is told at once.
    fn due(&mut self, now: Instant) -> Vec<Repeated> {
        let mut due = Vec::new();
        self.0.retain(|line, window| {
            if now.saturating_duration_since(window.since) < WINDOW {
                return true;
            }
            let times = std::mem::take(&mut window.kept_back);
            window.since = now;
            if times > 0 {
                due.push(Repeated { line: line.clone(), times, last: std::mem::take(&mut window.last) });
            }
            times > 0
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as IoWrite;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn line(message: &str) -> Line {
        Line { level: Level::WARN, target: "t".into(), message: message.into() }
    }

    impl Seen {
        fn takes(&mut self, line: Line, now: Instant) -> bool {
            self.admits(line, String::new(), now)
        }
    }

    fn repeated(message: &str, times: u64) -> Repeated {
        Repeated { line: line(message), times, last: String::new() }
    }

    #[test]
    fn a_burst_is_one_line_and_its_count_a_second() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        let at = |millis: u64| start + Duration::from_millis(millis);
        assert!(seen.takes(line("a"), at(0)), "the first is told");
        assert!((1..10).all(|tenth| !seen.takes(line("a"), at(tenth * 100))));
        assert!(seen.takes(line("b"), at(500)), "another message is another line");
        assert_eq!(seen.due(at(999)), []);
        assert_eq!(seen.due(at(1000)), [repeated("a", 9)]);

        assert!(!seen.takes(line("a"), at(1001)), "the burst goes on");
        assert_eq!(seen.due(at(2000)), [repeated("a", 1)]);
        assert_eq!(seen.due(at(3000)), [], "nothing was kept back");
        assert!(seen.takes(line("a"), at(3001)), "after a quiet while it is news again");
    }

    #[test]
    fn what_differs_in_level_or_target_is_not_the_same() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        assert!(seen.takes(line("a"), now));
        assert!(seen.takes(Line { level: Level::ERROR, ..line("a") }, now));
        assert!(seen.takes(Line { target: "u".into(), ..line("a") }, now));
    }

    #[test]
    fn more_lines_than_are_remembered_are_told() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        assert!((0..2 * REMEMBERED).all(|nth| seen.takes(line(&nth.to_string()), now)));
        assert_eq!(seen.0.len(), REMEMBERED);
        assert!(seen.takes(line(&(2 * REMEMBERED - 1).to_string()), now), "what is not remembered is told again");
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl IoWrite for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn warnings_and_errors_are_kept_back_and_nothing_else_and_the_count_is_told() {
        let (lines, seen, recent) = (Lines::default(), Arc::<Mutex<Seen>>::default(), Recent::default());
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let layer = Repeats { seen: Arc::clone(&seen), recent: recent.clone() };
        tracing::subscriber::with_default(subscriber.with(layer), || {
            for offset in 0..3 {
                tracing::error!(offset, "trouble");
                tracing::info!(offset, "work");
            }
            lock(&seen).due(Instant::now() + WINDOW).iter().for_each(tell);
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches("work").count(), 3, "{text}");
        assert_eq!(text.matches("trouble").count(), 2, "{text}");
        assert!(
            text.contains("trouble offset=0")
                && text
                    .contains(r#"repeated 2 times: trouble from="wal_runtime::logs::repeats::tests" last="offset=2""#),
            "{text}"
        );
        assert!(text.lines().last().is_some_and(|line| line.contains("ERROR")), "{text}");
        let noted = recent.all();
        assert_eq!(noted.len(), 1, "one line, told or kept back, and no other: {noted:?}");
        assert_eq!((noted[0].message.as_str(), noted[0].fields.as_str(), noted[0].times), ("trouble", "offset=2", 3));
    }
}
