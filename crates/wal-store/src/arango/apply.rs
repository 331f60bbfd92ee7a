//! Applying: states are read, joined here, and written over the revisions they were read from.
//!
//! ```text
//!   events ─▶ keys ─▶ read states ─▶ join ─▶ nothing new ─────────▶ fence ─▶ answer
//!               ▲                      │
//!               │                      └─▶ write, guarded ─▶ written ──────▶ answer
//!               └── somebody was faster ◀──────┘
//! ```
//!
//! A join that is repeated changes nothing, so every step may happen twice, also unseen.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use wal_model::ack::Ack;
use wal_model::status::State;
use wal_model::{EntryKey, LogId, Tenant};

use super::backend::Inner;
use super::client::Repeat;
use super::cursor::Manner;
use super::fault::{Class, Fault};
use super::fence::Sync;
use super::statements;
use super::wait;
use crate::{Applied, document};

/// The most keys that are read and written together.
const KEYS: usize = 500;

/// How often some keys are tried while others write them; halved each third time, so that one key does not hold up all. With eight
/// writers of one key, each round lets one of them through.
const TRIES: u32 = 24;

/// How an entry stands, and whose it is.
struct Row {
    revision: String,
    log_id: LogId,
    tenant: Option<Tenant>,
    state: State,
}

#[derive(Deserialize)]
struct RowRead<'a> {
    key: EntryKey,
    rev: String,
    log_id: LogId,
    tenant: Option<Tenant>,
    #[serde(borrow)]
    state: &'a RawValue,
}

/// Some keys that are read and written together.
struct Group {
    keys: Vec<EntryKey>,
    tries: u32,
}

/// What a key's events make of its state.
struct Change {
    key: EntryKey,
    revision: String,
    after: State,
    meant: Vec<usize>,
}

/// An apply under way.
struct Apply<'a> {
    inner: &'a Inner,
    events: &'a [Ack],
    /// The places of the events that speak of a key.
    places: BTreeMap<EntryKey, Vec<usize>>,
    answers: Vec<Applied>,
    groups: VecDeque<Group>,
    /// Whether an answer stands on a state that was only read, and if so, whether a write was synced since.
    read_only: Option<Sync>,
}

pub(super) async fn apply(inner: &Inner, events: &[Ack]) -> Result<Vec<Applied>, Fault> {
    let mut places: BTreeMap<EntryKey, Vec<usize>> = BTreeMap::new();
    for (at, ack) in events.iter().enumerate() {
        places.entry(ack.log_id.key()).or_default().push(at);
    }
    let keys: Vec<EntryKey> = places.keys().copied().collect();
    let groups = keys.chunks(KEYS).map(|keys| Group { keys: keys.to_vec(), tries: 0 }).collect();
    let answers = vec![Applied::Unknown; events.len()];
    let mut apply = Apply { inner, events, places, answers, groups, read_only: None };
    while let Some(group) = apply.groups.pop_front() {
        match apply.round(&group.keys).await {
            Ok(missed) if missed.is_empty() => {}
            Ok(missed) => apply.again(Group { keys: missed, ..group }).await?,
            Err(fault) if fault.class == Class::Conflict => apply.again(group).await?,
            Err(fault) if fault.class == Class::TooLarge && group.keys.len() > 1 => apply.halve(group),
            Err(fault) => return Err(fault),
        }
    }
    if let Some(sync) = apply.read_only {
        // What was read may still be on its way to the disk: somebody else's write, or an earlier try of this very apply.
        inner.fence(sync).await?;
    }
    Ok(apply.answers)
}

impl Apply<'_> {
    /// Folds the events of some keys; gives back the keys that somebody else has changed meanwhile.
    async fn round(&mut self, keys: &[EntryKey]) -> Result<Vec<EntryKey>, Fault> {
        let rows = self.read(keys).await?;
        let changes: Vec<Change> = rows.into_iter().filter_map(|(key, row)| self.join(key, row)).collect();
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let written = self.write(&changes).await?;
        if !written.is_empty() {
            self.read_only = self.read_only.map(|_| Sync::Done);
        }
        let mut missed = Vec::new();
        for Change { key, after, meant, .. } in changes {
            if written.contains(&key) {
                self.answer(&meant, &after);
            } else {
                missed.push(key);
            }
        }
        Ok(missed)
    }

    /// Joins a key's events into its state, and answers those that change nothing or speak of another entry.
    fn join(&mut self, key: EntryKey, row: Row) -> Option<Change> {
        let events = self.events;
        let is_meant = |at: &usize| (&events[*at].log_id, &events[*at].tenant) == (&row.log_id, &row.tenant);
        let (meant, others): (Vec<usize>, Vec<usize>) = self.places[&key].iter().partition(|at| is_meant(at));
        others.into_iter().for_each(|at| self.answers[at] = Applied::Other);
        if meant.is_empty() {
            return None;
        }
        let mut after = row.state.clone();
        meant.iter().for_each(|at| after.join(&events[*at].event));
        if after != row.state {
            return Some(Change { key, revision: row.revision, after, meant });
        }
        self.answer(&meant, &after);
        self.read_only = Some(Sync::Wanting);
        None
    }

    fn answer(&mut self, places: &[usize], state: &State) {
        places.iter().for_each(|at| self.answers[*at] = Applied::State(Box::new(state.clone())));
    }

    async fn read(&self, keys: &[EntryKey]) -> Result<HashMap<EntryKey, Row>, Fault> {
        let how = (Manner::Whole, Repeat::Harmless);
        let rows = self.inner.ask(statements::states(keys), how, keys.len(), read_row).await?;
        let rows: HashMap<EntryKey, Row> = rows.into_iter().collect();
        if rows.keys().any(|key| !self.places.contains_key(key)) {
            return Err(Fault::strange("a state that was not asked for"));
        }
        Ok(rows)
    }

    /// Writes what the states have become; gives back whose was written.
    async fn write(&self, changes: &[Change]) -> Result<HashSet<EntryKey>, Fault> {
        let row = |change: &Change| {
            let standing = document::standing_update(&change.after);
            json!({ "key": change.key, "rev": change.revision, "standing": standing })
        };
        let rows: Vec<Value> = changes.iter().map(row).collect();
        let how = (Manner::Whole, Repeat::Harmless);
        let written = self.inner.ask(statements::apply(rows), how, changes.len(), read_key).await?;
        Ok(written.into_iter().collect())
    }

    /// Puts keys back that others were in the way of.
    async fn again(&mut self, group: Group) -> Result<(), Fault> {
        let group = Group { tries: group.tries + 1, ..group };
        if group.tries >= TRIES {
            return Err(Fault::new(Class::Conflict, format!("others write the same entries, {TRIES} times in a row")));
        }
        wait::after(group.tries).await;
        if group.tries.is_multiple_of(3) && group.keys.len() > 1 {
            self.halve(group);
        } else {
            self.groups.push_back(group);
        }
        Ok(())
    }

    fn halve(&mut self, group: Group) {
        let Group { mut keys, tries } = group;
        let second = keys.split_off(keys.len() / 2);
        self.groups.push_back(Group { keys, tries });
        self.groups.push_back(Group { keys: second, tries });
    }
}

fn read_row(row: &str) -> Result<(EntryKey, Row), Fault> {
    let damaged = |error: serde_json::Error| Fault::new(Class::Damaged, format!("an entry's state: {error}"));
    let RowRead { key, rev, log_id, tenant, state } = serde_json::from_str(row).map_err(damaged)?;
    if log_id.key() != key {
        return Err(Fault::new(Class::Damaged, format!("entry {key}: its log_id names another key")));
    }
    let state = serde_json::from_str(state.get()).map_err(damaged)?;
    Ok((key, Row { revision: rev, log_id, tenant, state }))
}

pub(super) fn read_key(row: &str) -> Result<EntryKey, Fault> {
    serde_json::from_str(row).map_err(Fault::strange)
}
