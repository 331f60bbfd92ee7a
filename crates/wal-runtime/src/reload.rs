//! A configuration that is read again while its process runs: what changed and can be taken over is, what cannot is told by name.
//!
//! ```text
//!   SIGHUP ─▶ read the same file and variables ─▶ every part reads what it needs ─▶ all of them exchange it
//!                        │ cannot be used                      │ cannot be used
//!                        └──────────────────────▶ nothing changes, one ERROR line ◀┘
//! ```

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use crate::config::{Error, Key, Settings};

/// Where a configuration is read, the first time and again.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    file: Option<PathBuf>,
    given: Vec<(&'static str, String)>,
}

impl Sources {
    /// A file, if there is one, the environment, and what code gives above them.
    pub fn new(file: Option<&Path>, given: Vec<(&'static str, String)>) -> Sources {
        Sources { file: file.map(Path::to_owned), given }
    }

    /// Reads them.
    pub fn load(&self) -> Result<Settings, Error> {
        Settings::load_with(self.file.as_deref(), &self.given)
    }
}

/// Takes over what was read. Cannot fail: what could was done before.
pub type Exchange = Box<dyn FnOnce() + Send>;

/// A part of the process that takes changes over: reads what it needs of new settings, and objects to what it cannot use.
pub type Part = Box<dyn Fn(&Settings) -> Result<Exchange, Error> + Send>;

/// What reads the configuration of a process again.
pub struct Reload {
    sources: Sources,
    state: Mutex<State>,
}

struct State {
    /// What the process was started with: what cannot be taken over goes on holding as it stands here.
    started: Settings,
    /// What was read last: what can be taken over holds as it stands here.
    last: Settings,
    parts: Vec<Part>,
}

impl Reload {
    /// Of a process that was started with these settings, read from these sources.
    pub fn new(sources: Sources, started: Settings) -> Arc<Reload> {
        let state = State { last: started.clone(), started, parts: Vec::new() };
        Arc::new(Reload { sources, state: Mutex::new(state) })
    }

    /// Adds a part, and has it take over what was read since the start, when it was not there yet.
    pub fn add(&self, part: Part) {
        let mut state = self.state();
        match part(&state.last) {
            Ok(exchange) => exchange(),
            Err(error) => error!(%error, "a part that came later cannot use the configuration that was read again"),
        }
        state.parts.push(part);
    }

    /// Reads again whenever the process gets a SIGHUP, which without this would end it. Call it within the runtime.
    pub fn on_hangup(self: &Arc<Reload>) -> std::io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let reload = Arc::clone(self);
        // Nobody joins this task: it must listen for as long as the process lives.
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                let reload = Arc::clone(&reload);
                // Files are read, of a disk that may be slow.
                if let Err(error) = tokio::task::spawn_blocking(move || reload.now()).await {
                    error!(%error, "reading the configuration again failed; what held before goes on");
                }
            }
        });
        Ok(())
    }

    /// Reads again, and tells in the log what came of it.
    pub fn now(&self) {
        match self.sources.load().and_then(|settings| self.take(settings)) {
            Ok(changed) => changed.tell(),
            Err(error) => {
                let why: Vec<String> = error.problems().iter().map(ToString::to_string).collect();
                // In the message: lines of one message are told once a second, and the next attempt may have another reason.
                error!("the configuration cannot be used, nothing was changed: {}", why.join("; "));
            }
        }
    }

    /// Takes over what can be; if a part objects, nothing of it.
    fn take(&self, settings: Settings) -> Result<Changed, Error> {
        let mut state = self.state();
        let exchanges = state.parts.iter().map(|part| part(&settings)).collect::<Result<Vec<Exchange>, Error>>()?;
        let changed = Changed::between(&state.started, &state.last, &settings);
        exchanges.into_iter().for_each(|exchange| exchange());
        state.last = settings;
        Ok(changed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A part that panicked has left the parts and the settings as they were.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which keys differ.
#[derive(Debug, PartialEq, Eq)]
struct Changed {
    /// Those that were taken over.
    now: Vec<String>,
    /// Those that were not.
    later: Vec<String>,
}

impl Changed {
    fn between(started: &Settings, last: &Settings, new: &Settings) -> Changed {
        let is_live = |key: &String| Key::is_live_named(key);
        let now = new.changed_from(last).into_iter().filter(is_live).collect();
        let later = new.changed_from(started).into_iter().filter(|key| !is_live(key)).collect();
        Changed { now, later }
    }

    fn tell(&self) {
        if !self.later.is_empty() {
            warn!("takes effect at the next start: {}", self.later.join(", "));
        }
        match self.now.as_slice() {
            [] => info!("the configuration was read again, nothing to take over"),
            keys => info!("the configuration was read again, taken over: {}", keys.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::config::{Log, Policy};

    fn settings(given: &[(&str, &str)]) -> Settings {
        let given: Vec<(&str, String)> = given.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        Settings::load_from(None, std::iter::empty(), &given).unwrap()
    }

    /// A reload with a part that notes the retries of the policy.
    fn noting() -> (Arc<Reload>, Arc<AtomicU32>) {
        let reload = Reload::new(Sources::default(), settings(&[]));
        let noted = note(&reload);
        (reload, noted)
    }

    /// Adds such a part.
    fn note(reload: &Reload) -> Arc<AtomicU32> {
        let noted = Arc::new(AtomicU32::new(0));
        let note = Arc::clone(&noted);
        reload.add(Box::new(move |settings| {
            let (note, policy) = (Arc::clone(&note), Policy::read(settings)?);
            Ok(Box::new(move || note.store(policy.lifecycle.retry_count, Ordering::SeqCst)))
        }));
        noted
    }

    fn keys(keys: &[&str]) -> Vec<String> {
        keys.iter().map(|key| (*key).to_owned()).collect()
    }

    #[test]
    fn what_can_be_taken_over_is_and_what_cannot_is_named_every_time() {
        let (reload, noted) = noting();
        let new = || settings(&[("policy.retry_count", "5"), ("kafka.session_timeout", "20s")]);
        let changed = reload.take(new()).unwrap();
        assert_eq!(changed, Changed { now: keys(&["policy.retry_count"]), later: keys(&["kafka.session_timeout"]) });
        assert_eq!(noted.load(Ordering::SeqCst), 5);
        // It still does not hold.
        let again = reload.take(new()).unwrap();
        assert_eq!(again, Changed { now: Vec::new(), later: keys(&["kafka.session_timeout"]) });
        let back = reload.take(settings(&[])).unwrap();
        assert_eq!(back, Changed { now: keys(&["policy.retry_count"]), later: Vec::new() });
        assert_eq!(noted.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn a_part_that_comes_later_takes_over_what_was_read_before() {
        let reload = Reload::new(Sources::default(), settings(&[]));
        reload.take(settings(&[("policy.retry_count", "5")])).unwrap();
        let noted = note(&reload);
        assert_eq!(noted.load(Ordering::SeqCst), 5);
    }

    #[test]
    fn what_one_part_objects_to_no_part_takes_over() {
        let (reload, noted) = noting();
        reload.add(Box::new(|settings| Log::read(settings).map(|_| Box::new(|| {}) as Exchange)));
        let error = reload.take(settings(&[("policy.retry_count", "5"), ("log.level", "inof")])).unwrap_err();
        assert!(error.to_string().contains("log.level"), "{error}");
        assert_eq!(noted.load(Ordering::SeqCst), 3);
    }
}
