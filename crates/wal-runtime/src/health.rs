//! Whether a service lives, is ready and has started: what its components know of themselves, and the probes that ask.
//!
//! ```text
//!   heartbeats, a fatal error ─▶ /livez      failing: restart me. Never because a broker or a database is down.
//!   conditions, no stop asked ─▶ /readyz     failing: I have not joined yet, or am leaving.
//!   conditions, each once true ▶ /startupz   failing: give me time before you ask whether I live.
//! ```

mod server;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

pub use server::{Error, STATUS, Server, serve};

/// What the components of a process know of themselves. Cloning gives another handle on the same.
#[derive(Clone, Debug, Default)]
pub struct Health {
    facts: Arc<Mutex<Facts>>,
}

#[derive(Debug, Default)]
struct Facts {
    heartbeats: Vec<Pulse>,
    conditions: Vec<Standing>,
    fatal: Option<String>,
    is_stopping: bool,
}

#[derive(Debug)]
struct Pulse {
    name: &'static str,
    max_age: Duration,
    /// `None` after it has finished.
    last: Option<Instant>,
}

#[derive(Debug)]
struct Standing {
    name: &'static str,
    /// Why it is not met; `None` if it is.
    lacking: Option<String>,
    was_met: bool,
}

/// One loop's proof that it still turns.
#[derive(Debug)]
pub struct Heartbeat {
    health: Health,
    at: usize,
}

/// One thing that must be true for the service to be ready.
#[derive(Debug)]
pub struct Condition {
    health: Health,
    at: usize,
}

/// A question that is asked from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Is it worth keeping?
    Live,
    /// May it count as one of those at work?
    Ready,
    /// Has it ever been ready?
    Startup,
}

/// The answer to a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The sum of the checks.
    pub status: Status,
    /// What was looked at.
    pub checks: Vec<Check>,
}

/// Whether all checks are well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// They are.
    Ok,
    /// At least one is not.
    Failing,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// Whether it is well.
    #[serde(rename = "ok")]
    pub is_ok: bool,
    /// What was seen.
    pub detail: String,
}

impl Health {
    /// Health of a process without components yet: alive, but neither started nor ready.
    pub fn new() -> Health {
        Health::default()
    }

    /// Watches a loop: from now on it must beat at least every `max_age`, or the process counts as dead.
    pub fn heartbeat(&self, name: &'static str, max_age: Duration) -> Heartbeat {
        let mut facts = self.facts();
        facts.heartbeats.push(Pulse { name, max_age, last: Some(Instant::now()) });
        Heartbeat { health: self.clone(), at: facts.heartbeats.len() - 1 }
    }

    /// Adds a condition, not met at first. Add all of them before the service starts to work: startup looks at those there are.
    pub fn condition(&self, name: &'static str) -> Condition {
        let mut facts = self.facts();
        facts.conditions.push(Standing { name, lacking: Some("not yet".to_owned()), was_met: false });
        Condition { health: self.clone(), at: facts.conditions.len() - 1 }
    }

    /// Reports an error that only a restart can cure, such as a fatal one of the Kafka client. The first reason is kept.
    pub fn fail(&self, reason: impl Into<String>) {
        self.facts().fatal.get_or_insert_with(|| reason.into());
    }

    /// From now on the service is not ready, whatever its conditions say.
    pub fn stopping(&self) {
        self.facts().is_stopping = true;
    }

    /// Answers a probe.
    pub fn report(&self, probe: Probe) -> Report {
        self.facts().report(probe, Instant::now())
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        // Every change is a single assignment, so a panic elsewhere leaves nothing half done.
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heartbeat {
    /// The loop turns.
    pub fn beat(&self) {
        self.health.facts().heartbeats[self.at].last = Some(Instant::now());
    }

    /// The loop has ended as it should. A handle that is only dropped goes on being watched: a loop that died must be noticed.
    pub fn finish(self) {
        self.health.facts().heartbeats[self.at].last = None;
    }
}

impl Condition {
    /// It is true now.
    pub fn met(&self) {
        let standing = &mut self.health.facts().conditions[self.at];
        (standing.lacking, standing.was_met) = (None, true);
    }

    /// It is not true now, and why.
    pub fn unmet(&self, reason: impl Into<String>) {
        self.health.facts().conditions[self.at].lacking = Some(reason.into());
    }
}

impl Probe {
    const ALL: [Probe; 3] = [Probe::Live, Probe::Ready, Probe::Startup];

    /// Where it is asked.
    pub fn path(self) -> &'static str {
        match self {
            Probe::Live => "/livez",
            Probe::Ready => "/readyz",
            Probe::Startup => "/startupz",
        }
    }
}

impl Facts {
    fn report(&self, probe: Probe, now: Instant) -> Report {
        let checks: Vec<Check> = match probe {
            Probe::Live => self.fatal().into_iter().chain(self.heartbeats(now)).collect(),
            Probe::Ready => self.fatal().into_iter().chain(self.stopping()).chain(self.conditions()).collect(),
            Probe::Startup => self.started(),
        };
        let status = if checks.iter().all(|check| check.is_ok) { Status::Ok } else { Status::Failing };
        Report { status, checks }
    }

    fn fatal(&self) -> Option<Check> {
        self.fatal.as_ref().map(|reason| Check { name: "fatal", is_ok: false, detail: reason.clone() })
    }

    fn stopping(&self) -> Option<Check> {
        self.is_stopping.then(|| Check { name: "stop", is_ok: false, detail: "stopping".to_owned() })
    }

    fn heartbeats(&self, now: Instant) -> impl Iterator<Item = Check> {
        self.heartbeats.iter().filter_map(move |pulse| {
            let age = now.saturating_duration_since(pulse.last?);
            let detail = format!("last beat {age:.1?} ago, {:?} allowed", pulse.max_age);
            Some(Check { name: pulse.name, is_ok: age <= pulse.max_age, detail })
        })
    }

    fn conditions(&self) -> Vec<Check> {
        let check = |standing: &Standing| {
            let detail = standing.lacking.clone().unwrap_or_else(|| "met".to_owned());
            Check { name: standing.name, is_ok: standing.lacking.is_none(), detail }
        };
        self.or_nothing_yet(self.conditions.iter().map(check).collect())
    }

    fn started(&self) -> Vec<Check> {
        let check = |standing: &Standing| {
            let detail = if standing.was_met { "has been met" } else { "not yet" };
            Check { name: standing.name, is_ok: standing.was_met, detail: detail.to_owned() }
        };
        self.or_nothing_yet(self.conditions.iter().map(check).collect())
    }

    /// A probe may come before the first condition is added; no conditions must not look like all of them.
    fn or_nothing_yet(&self, checks: Vec<Check>) -> Vec<Check> {
        if checks.is_empty() {
            return vec![Check { name: "startup", is_ok: false, detail: "nothing is known yet".to_owned() }];
        }
        checks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses(health: &Health) -> [bool; 3] {
        Probe::ALL.map(|probe| health.report(probe).status == Status::Ok)
    }

    fn live_after(health: &Health, wait: Duration) -> Status {
        health.facts().report(Probe::Live, Instant::now() + wait).status
    }

    #[test]
    fn lives_as_long_as_every_loop_beats() {
        let health = Health::new();
        let quick = health.heartbeat("poll", Duration::from_secs(10));
        let _slow = health.heartbeat("sweep", Duration::from_secs(60));
        let table = [(0, Status::Ok), (9, Status::Ok), (11, Status::Failing), (61, Status::Failing)];
        for (seconds, status) in table {
            assert_eq!(live_after(&health, Duration::from_secs(seconds)), status, "after {seconds} s");
        }
        // The quick loop has ended as it should, so only the slow one counts.
        quick.finish();
        assert_eq!(live_after(&health, Duration::from_secs(11)), Status::Ok);
        assert_eq!(live_after(&health, Duration::from_secs(61)), Status::Failing);
    }

    #[test]
    fn a_beat_counts_from_when_it_comes() {
        let health = Health::new();
        let heartbeat = health.heartbeat("poll", Duration::from_secs(10));
        let long_ago = Instant::now().checked_sub(Duration::from_secs(11));
        health.facts().heartbeats[0].last = long_ago;
        assert_eq!(health.report(Probe::Live).status, Status::Failing);
        heartbeat.beat();
        assert_eq!(health.report(Probe::Live).status, Status::Ok);
    }

    #[test]
    fn a_loop_that_died_is_noticed() {
        let health = Health::new();
        drop(health.heartbeat("poll", Duration::from_secs(10)));
        assert_eq!(live_after(&health, Duration::from_secs(11)), Status::Failing);
    }

    #[test]
    fn conditions_decide_readiness_and_start_but_never_life() {
        let health = Health::new();
        assert_eq!(statuses(&health), [true, false, false], "before any is known");
        let (assigned, store) = (health.condition("assigned"), health.condition("store"));
        assert_eq!(statuses(&health), [true, false, false], "none met");
        assigned.met();
        assert_eq!(statuses(&health), [true, false, false], "one met");
        store.met();
        assert_eq!(statuses(&health), [true, true, true], "all met");
        store.unmet("the database does not answer");
        assert_eq!(statuses(&health), [true, false, true], "one lost again");
        let lost = &health.report(Probe::Ready).checks[1];
        assert_eq!((lost.name, lost.is_ok, lost.detail.as_str()), ("store", false, "the database does not answer"));
    }

    #[test]
    fn who_is_stopping_is_not_ready_but_lives() {
        let health = Health::new();
        health.condition("assigned").met();
        health.stopping();
        assert_eq!(statuses(&health), [true, false, true]);
    }

    #[test]
    fn a_fatal_error_ends_life_and_keeps_its_first_reason() {
        let health = Health::new();
        health.condition("assigned").met();
        health.fail("fenced");
        health.fail("a consequence of that");
        assert_eq!(statuses(&health), [false, false, true]);
        assert_eq!(health.report(Probe::Live).checks[0].detail, "fenced");
    }

    #[test]
    fn reports_are_small_json() {
        let health = Health::new();
        health.condition("assigned").met();
        let json = serde_json::to_string(&health.report(Probe::Ready)).unwrap();
        assert_eq!(json, r#"{"status":"ok","checks":[{"name":"assigned","ok":true,"detail":"met"}]}"#);
    }
}
