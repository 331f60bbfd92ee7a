//! Consumer groups, the classic protocol: who is in a group, which generation it is in, who was assigned what.
//!
//! ```text
//!   empty --join--> joining --everyone joined, or time is up--> syncing --leader's assignment--> stable
//!     ^                ^                                          |                                |
//!     |                +---- a member joins, leaves or is silent --+--------------------------------+
//!     +---- the last member is gone
//! ```
//!
//! Members live in memory only: after a restart everybody joins anew, which takes milliseconds, and nobody waits for
//! members of a former life. Tansu's own coordinator is not used: a follower sleeps three seconds before it joins, and
//! a group whose leader was killed can stay without any assignment for ever.

mod group;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tansu_sans_io::ErrorCode;
use tokio::sync::oneshot;

use self::group::{Group, Phase};

/// The answer to a join: the new generation, and for the leader everybody's wishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Joined {
    pub(super) generation: i32,
    pub(super) protocol_type: String,
    pub(super) protocol: String,
    pub(super) leader: String,
    pub(super) member: String,
    pub(super) members: Vec<Wish>,
}

/// What one member subscribed to, in the assignor's own format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) member: String,
    pub(super) instance: Option<String>,
    pub(super) metadata: Bytes,
}

/// What a member was assigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Synced {
    pub(super) protocol_type: String,
    pub(super) protocol: String,
    pub(super) assignment: Bytes,
}

/// Why a join is refused. A first join is: the member gets an id and comes again with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) error: ErrorCode,
    pub(super) member: String,
}

/// A member asking to join.
#[derive(Clone, Debug)]
pub(super) struct Applicant {
    pub(super) member: String,
    pub(super) instance: Option<String>,
    pub(super) client: String,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    pub(super) protocol_type: String,
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(super) first: First,
}

/// What happens to an applicant without a member id: old clients are let in, newer ones are given an id first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    LetIn,
    GiveId,
}

/// What an offset is committed by; a transaction may still commit while its group waits for the new assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Commit {
    Plain,
    Transaction,
}

/// A group as an operator sees it.
#[derive(Clone, Debug)]
pub(super) struct Description {
    pub(super) state: &'static str,
    pub(super) protocol_type: String,
    pub(super) protocol: String,
    pub(super) members: Vec<(Wish, String, Bytes)>,
}

type JoinAnswer = oneshot::Sender<Result<Joined, Refused>>;
type SyncAnswer = oneshot::Sender<Result<Synced, ErrorCode>>;

/// All groups. Shared by the connections; the lock is held for the decision only, never while somebody waits.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    groups: Arc<Mutex<HashMap<String, Group>>>,
}

impl Groups {
    /// The answer comes when everybody has joined; at the latest when the rebalance times out.
    pub(super) fn join(
        &self,
        group: &str,
        applicant: Applicant,
        now: Instant,
    ) -> oneshot::Receiver<Result<Joined, Refused>> {
        let (answer, answered) = oneshot::channel();
        let mut groups = self.lock();
        let group = groups.entry(group.to_owned()).or_default();
        group.join(applicant, answer, now);
        answered
    }

    /// The answer comes with the leader's assignment.
    pub(super) fn sync(
        &self,
        group: &str,
        generation: i32,
        member: &str,
        assignments: Vec<(String, Bytes)>,
        now: Instant,
    ) -> oneshot::Receiver<Result<Synced, ErrorCode>> {
        let (answer, answered) = oneshot::channel();
        let mut groups = self.lock();
        match groups.get_mut(group) {
            Some(group) => group.sync(generation, member, assignments, answer, now),
            None => drop(answer.send(Err(ErrorCode::UnknownMemberId))),
        }
        answered
    }

    pub(super) fn heartbeat(&self, group: &str, generation: i32, member: &str, now: Instant) -> Result<(), ErrorCode> {
        let mut groups = self.lock();
        let group = groups.get_mut(group).ok_or(ErrorCode::UnknownMemberId)?;
        group.check(generation, member, now)?;
        match group.phase {
            Phase::Joining { .. } => Err(ErrorCode::RebalanceInProgress),
            Phase::Empty | Phase::Syncing { .. } | Phase::Stable => Ok(()),
        }
    }

    /// Leaves by member id, or by instance if the member does not know its id.
    pub(super) fn leave(
        &self,
        group: &str,
        member: &str,
        instance: Option<&str>,
        now: Instant,
    ) -> Result<(), ErrorCode> {
        let mut groups = self.lock();
        let group = groups.get_mut(group).ok_or(ErrorCode::UnknownMemberId)?;
        group.leave(member, instance, now)
    }

    /// Whether these offsets may be committed. Who names no generation is no member: an operator setting offsets, who
    /// must not do so while members are at work.
    pub(super) fn may_commit(
        &self,
        group: &str,
        generation: i32,
        member: &str,
        commit: Commit,
        now: Instant,
    ) -> Result<(), ErrorCode> {
        let mut groups = self.lock();
        let Some(group) = groups.get_mut(group) else {
            let is_member = generation >= 0;
            return if is_member { Err(ErrorCode::IllegalGeneration) } else { Ok(()) };
        };
        if generation < 0 && member.is_empty() {
            return match commit {
                Commit::Plain if !group.members.is_empty() => Err(ErrorCode::UnknownMemberId),
                Commit::Plain | Commit::Transaction => Ok(()),
            };
        }
        group.check(generation, member, now)?;
        match (group.phase, commit) {
            (Phase::Syncing { .. }, Commit::Plain) => Err(ErrorCode::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    pub(super) fn describe(&self, group: &str) -> Option<Description> {
        self.lock().get(group).map(Group::describe)
    }

    /// Forgets a group without members; answers whether it was known.
    pub(super) fn delete(&self, group: &str) -> Result<bool, ErrorCode> {
        let mut groups = self.lock();
        match groups.get(group) {
            None => Ok(false),
            Some(known) if known.members.is_empty() => {
                groups.remove(group);
                Ok(true)
            }
            Some(_) => Err(ErrorCode::NonEmptyGroup),
        }
    }

    /// Removes who was silent too long and ends what waited too long. Call it a few times a second.
    pub(super) fn tick(&self, now: Instant) {
        for group in self.lock().values_mut() {
            group.tick(now);
        }
    }

    /// Groups left behind by a panic are as good as any: their members time out.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Group>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
