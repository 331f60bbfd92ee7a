//! Where log lines go: to stderr, for people or for machines.

mod recent;
mod repeats;

use std::io::IsTerminal;
use std::sync::{Arc, LazyLock};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::{Format, Log};
use crate::reload::Part;
use recent::Recent;
pub use recent::{Level as Severity, Noted};
use repeats::Repeats;

/// What this process wrote last. As there is one log for all of a process, so there is one of these.
static RECENT: LazyLock<Recent> = LazyLock::new(Recent::default);

/// librdkafka and what stands around it tell much at `info` that matters to nobody but their makers. A level that names them overrules this.
const QUIET: &str = "librdkafka=warn,rdkafka=warn,hyper=warn,h2=warn";

/// Why logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter cannot be read.
    #[error("read the log filter `{filter}`")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// What counts repeated lines could not be started.
    #[error("start the thread that counts repeated lines")]
    Thread(#[source] std::io::Error),
    /// Something in this process logs already.
    #[error("start logging a second time")]
    AlreadyStarted(#[from] TryInitError),
}

/// What is logged, to be changed while the process runs.
pub struct Level(Box<dyn Fn(EnvFilter) + Send + Sync>);

impl Level {
    /// The part of a reload that takes over `log.level`.
    pub fn part(self) -> Part {
        let level = Arc::new(self);
        Box::new(move |settings| {
            let read = Log::read(settings)?;
            let filter = filter(&read.level).map_err(|error| settings.invalid("log.level", error))?;
            let level = Arc::clone(&level);
            Ok(Box::new(move || (level.0)(filter)))
        })
    }
}

/// Starts logging for the whole process, what comes from `log` users such as librdkafka included.
pub fn start(log: &Log) -> Result<Level, Error> {
    let filter = filter(&log.level)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let repeats = Repeats::start(RECENT.clone()).map_err(Error::Thread)?;
    // Fails only when the logs are gone, and then nobody would read of it.
    let level = match log.format {
        Format::Human => {
            let lines = lines.with_ansi(is_colourful()).with_filter_reloading();
            let handle = lines.reload_handle();
            lines.finish().with(repeats).try_init()?;
            Level(Box::new(move |filter| drop(handle.reload(filter))))
        }
        Format::Json => {
            let lines = lines.json().flatten_event(true).with_filter_reloading();
            let handle = lines.reload_handle();
            lines.finish().with(repeats).try_init()?;
            Level(Box::new(move |filter| drop(handle.reload(filter))))
        }
    };
    Ok(level)
}

/// The last warnings and errors that this process wrote, the newest first.
pub fn recent() -> Vec<Noted> {
    RECENT.all()
}

fn filter(level: &str) -> Result<EnvFilter, Error> {
    // At `error` and `off` nothing may be made louder.
    let is_silent = level.split(',').any(|part| ["error", "off"].contains(&part.trim().to_ascii_lowercase().as_str()));
    let filter = if is_silent { level.to_owned() } else { format!("{QUIET},{level}") };
    EnvFilter::builder().parse(&filter).map_err(|source| Error::Filter { filter: level.to_owned(), source })
}

/// Colours only where a person looks, and never against their wish: <https://no-color.org>.
fn is_colourful() -> bool {
    let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !is_unwanted
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is logged at `level` of an info and a warning of librdkafka and an info of ours.
    fn logged(level: &str) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter(level).unwrap())
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "librdkafka", "chatter");
            tracing::warn!(target: "librdkafka", "trouble");
            tracing::info!(target: "wal_writer", "ours");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn librdkafka_is_quiet_unless_asked() {
        let table = [
            ("info", [false, true, true]),
            ("debug", [false, true, true]),
            ("error", [false, false, false]),
            ("off", [false, false, false]),
            ("error,wal_writer=info", [false, false, true]),
            ("info,librdkafka=info", [true, true, true]),
            ("warn,wal_writer=info", [false, true, true]),
            ("librdkafka=error,wal_writer=debug", [false, false, true]),
        ];
        for (level, expected) in table {
            let text = logged(level);
            let found = ["chatter", "trouble", "ours"].map(|word| text.contains(word));
            assert_eq!(found, expected, "at {level}: {text}");
        }
    }
}
