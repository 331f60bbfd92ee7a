//! A store that is asked until it answers: for services that have nothing better to do than wait for it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, warn};
use wal_model::ack::Ack;
use wal_model::{Entry, EntryKey, Timestamp};

use crate::{Applied, EntryStore, Error, Finished, Inserted, StoreId};

/// Waits between tries of a store that does not answer, the last one repeated for as long as it takes.
const RETRIES: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// A store that does not write is asked less often from the start: no haste brings the person who must act.
const RETRIES_READ_ONLY: &[Duration] = RETRIES.split_at(3).1;

/// Of how many answers in a row that nothing is written one is an alarm: about one a minute.
const ALARM_EVERY: usize = 30;

/// What is stored cannot be read. Asking again is useless; a person must look.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {why}")]
pub struct Damaged {
    /// What was asked for.
    pub call: &'static str,
    /// What the store said.
    pub why: String,
}

/// A store whose calls return when it has answered, however long that takes. Nobody who waits has consumed anything meanwhile, so
/// waiting is all that a slow store costs. Every call may be dropped at any await.
#[derive(Clone)]
pub struct Patient {
    store: Arc<dyn EntryStore>,
    watch: Arc<dyn Fn(bool) + Send + Sync>,
}

impl Patient {
    /// A patient hand on a store.
    pub fn new(store: Arc<dyn EntryStore>) -> Patient {
        Patient { store, watch: Arc::new(|_| {}) }
    }

    /// Calls `watch` whenever the store answers (true) or does not (false).
    #[must_use]
    pub fn watched_by(self, watch: impl Fn(bool) + Send + Sync + 'static) -> Patient {
        Patient { watch: Arc::new(watch), ..self }
    }

    /// See [`EntryStore::id`].
    pub fn id(&self) -> StoreId {
        self.store.id()
    }

    /// See [`EntryStore::insert`].
    pub async fn insert(&self, entries: &[Entry]) -> Result<Vec<Inserted>, Damaged> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        self.until_answered("insert", || self.store.insert(entries)).await
    }

    /// See [`EntryStore::get`].
    pub async fn get(&self, keys: &[EntryKey]) -> Result<Vec<Option<Entry>>, Damaged> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.until_answered("get", || self.store.get(keys)).await
    }

    /// See [`EntryStore::apply`].
    pub async fn apply(&self, events: &[Ack]) -> Result<Vec<Applied>, Damaged> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        self.until_answered("apply", || self.store.apply(events)).await
    }

    /// See [`EntryStore::expired`].
    pub async fn expired(
        &self,
        at: Timestamp,
        after: Option<(Timestamp, EntryKey)>,
        limit: usize,
    ) -> Result<Vec<Entry>, Damaged> {
        self.until_answered("expired", || self.store.expired(at, after, limit)).await
    }

    /// See [`EntryStore::finished`].
    pub async fn finished(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, EntryKey)>,
        limit: usize,
    ) -> Result<Vec<Finished>, Damaged> {
        self.until_answered("finished", || self.store.finished(before, after, limit)).await
    }

    /// See [`EntryStore::remove`].
    pub async fn remove(&self, keys: &[EntryKey], finished_before: Timestamp) -> Result<usize, Damaged> {
        if keys.is_empty() {
            return Ok(0);
        }
        self.until_answered("remove", || self.store.remove(keys, finished_before)).await
    }

    async fn until_answered<T, F>(&self, call: &'static str, mut ask: impl FnMut() -> F) -> Result<T, Damaged>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (mut failures, mut alarms) = (0, 0_usize);
        loop {
            match ask().await {
                Ok(answer) => {
                    (self.watch)(true);
                    return Ok(answer);
                }
                Err(Error::Unavailable(why)) => {
                    (self.watch)(false);
                    let wait = wait_after(failures, &RETRIES);
                    warn!(call, why, ?wait, "the store does not answer");
                    tokio::time::sleep(wait).await;
                    failures += 1;
                }
                Err(Error::ReadOnly(why)) => {
                    (self.watch)(false);
                    if alarms.is_multiple_of(ALARM_EVERY) {
                        error!(call, why, "the store does not write until somebody acts; nothing is lost meanwhile");
                    }
                    alarms += 1;
                    tokio::time::sleep(wait_after(failures, RETRIES_READ_ONLY)).await;
                    failures += 1;
                }
                Err(corrupt @ Error::Corrupt(_)) => return Err(Damaged { call, why: corrupt.to_string() }),
            }
        }
    }
}

fn wait_after(failures: usize, waits: &[Duration]) -> Duration {
    waits[failures.min(waits.len() - 1)]
}

impl fmt::Debug for Patient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patient").field("id", &self.id()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tracing::instrument::WithSubscriber as _;
    use tracing::span::{self, Attributes, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    use super::*;
    use crate::embedded::Embedded;
    use crate::faults::{Faulty, Method};
    use crate::samples::{ack, completed, entry};

    struct Bench {
        store: Faulty,
        patient: Patient,
        said: Arc<Mutex<Vec<bool>>>,
        _folder: tempfile::TempDir,
    }

    fn bench() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let store = Faulty::new(Arc::new(Embedded::open(folder.path()).unwrap()));
        let said: Arc<Mutex<Vec<bool>>> = Arc::default();
        let patient = Patient::new(Arc::new(store.clone())).watched_by({
            let said = Arc::clone(&said);
            move |is_answering| said.lock().unwrap().push(is_answering)
        });
        Bench { store, patient, said, _folder: folder }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_answer_is_asked_until_it_does() {
        let bench = bench();
        for _ in 0..8 {
            bench.store.fail_before(Method::Insert);
        }
        bench.store.fail_after(Method::Apply);
        let one = entry("one");
        bench.patient.insert(std::slice::from_ref(&one)).await.unwrap();
        let answers = bench.patient.apply(&[ack(&one, completed(&one, 1))]).await.unwrap();
        assert!(matches!(answers[..], [Applied::State(_)]));
        assert_eq!((bench.store.calls(Method::Insert), bench.store.calls(Method::Apply)), (9, 2));
        let expected: Vec<bool> = [[false; 8].as_slice(), &[true, false, true]].concat();
        assert_eq!(*bench.said.lock().unwrap(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_write_is_asked_slowly_and_somebody_is_called_about_once_a_minute() {
        let bench = bench();
        for _ in 0..61 {
            bench.store.fail_before_with(Method::Insert, Error::ReadOnly("error 1004".to_owned()));
        }
        let alarms = Alarms::default();
        let before = tokio::time::Instant::now();
        let answers = bench.patient.insert(&[entry("one")]).with_subscriber(alarms.clone()).await.unwrap();
        assert_eq!(answers, [Inserted::Stored]);
        assert_eq!((alarms.count(), before.elapsed()), (3, Duration::from_secs(1 + 60 * 2)));
        assert_eq!(bench.store.calls(Method::Insert), 62);
    }

    /// Counts the lines for which a person is wanted.
    #[derive(Clone, Default)]
    struct Alarms(Arc<AtomicUsize>);

    impl Alarms {
        fn count(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl Subscriber for Alarms {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() == Level::ERROR
        }

        fn new_span(&self, _: &Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}

        fn event(&self, _: &Event<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn damage_is_told_at_once() {
        let bench = bench();
        bench.store.fail_before_with(Method::Get, Error::Corrupt("rotten".to_owned()));
        let damaged = bench.patient.get(&[entry("one").key()]).await.unwrap_err();
        assert_eq!(damaged.to_string(), "get: the store is damaged: rotten");
    }

    #[tokio::test]
    async fn nothing_is_not_asked_for() {
        let bench = bench();
        assert_eq!(bench.patient.insert(&[]).await.unwrap(), []);
        assert_eq!(bench.patient.apply(&[]).await.unwrap(), []);
        assert_eq!(bench.patient.remove(&[], Timestamp::MAX).await.unwrap(), 0);
        assert_eq!(*bench.said.lock().unwrap(), [false; 0]);
    }
}
