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

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tansu_sans_io::ErrorCode;
use tokio::sync::oneshot;
use uuid::Uuid;

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

#[derive(Debug, Default)]
struct Group {
    phase: Phase,
    generation: i32,
    protocol_type: String,
    protocol: String,
    leader: String,
    members: BTreeMap<String, Member>,
    /// Ids given out and until when they are good for a join.
    promised: HashMap<String, Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Empty,
    Joining {
        until: Instant,
    },
    Syncing {
        until: Instant,
    },
    Stable,
}

#[derive(Debug)]
struct Member {
    instance: Option<String>,
    client: String,
    session_timeout: Duration,
    rebalance_timeout: Duration,
    protocols: Vec<(String, Bytes)>,
    last_seen: Instant,
    assignment: Bytes,
    joining: Option<JoinAnswer>,
    syncing: Option<SyncAnswer>,
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

impl Group {
    fn join(&mut self, applicant: Applicant, answer: JoinAnswer, now: Instant) {
        if let Err(error) = self.admit(&applicant) {
            let member = applicant.member;
            return drop(answer.send(Err(Refused { error, member })));
        }
        if applicant.member.is_empty() {
            let member = format!("{}-{}", applicant.client, Uuid::new_v4());
            if applicant.first == First::GiveId && applicant.instance.is_none() {
                let good_until = now + applicant.session_timeout;
                self.promised.insert(member.clone(), good_until);
                let error = ErrorCode::MemberIdRequired;
                return drop(answer.send(Err(Refused { error, member })));
            }
            self.replace_instance(applicant.instance.as_deref());
            return self.add(Applicant { member, ..applicant }, answer, now);
        }
        let is_promised = self.promised.remove(&applicant.member).is_some();
        if is_promised {
            return self.add(applicant, answer, now);
        }
        self.rejoin(applicant, answer, now);
    }

    /// Everybody in a group must understand at least one protocol in common.
    fn admit(&self, applicant: &Applicant) -> Result<(), ErrorCode> {
        let others = || {
            let members = self.members.iter();
            members.filter(|(id, _)| **id != applicant.member)
        };
        let is_alone = others().next().is_none();
        let is_same_type = is_alone || self.protocol_type == applicant.protocol_type;
        let is_understood = applicant
            .protocols
            .iter()
            .any(|(name, _)| others().all(|(_, other)| other.protocols.iter().any(|(known, _)| known == name)));
        if is_same_type && is_understood { Ok(()) } else { Err(ErrorCode::InconsistentGroupProtocol) }
    }

    /// A static member that comes back without its id takes the place of its former life.
    fn replace_instance(&mut self, instance: Option<&str>) {
        let former = self
            .members
            .iter()
            .find(|(_, member)| instance.is_some() && member.instance.as_deref() == instance)
            .map(|(id, _)| id.clone());
        if let Some(former) = former
            && let Some(member) = self.members.remove(&former)
        {
            member.dismiss(&former, ErrorCode::FencedInstanceId);
        }
    }

    fn add(&mut self, applicant: Applicant, answer: JoinAnswer, now: Instant) {
        self.protocol_type = applicant.protocol_type;
        let member = Member {
            instance: applicant.instance,
            client: applicant.client,
            session_timeout: applicant.session_timeout,
            rebalance_timeout: applicant.rebalance_timeout,
            protocols: applicant.protocols,
            last_seen: now,
            assignment: Bytes::new(),
            joining: Some(answer),
            syncing: None,
        };
        self.members.insert(applicant.member, member);
        self.rebalance(now);
    }

    fn rejoin(&mut self, applicant: Applicant, answer: JoinAnswer, now: Instant) {
        let is_leader = self.leader == applicant.member;
        let Some(member) = self.members.get_mut(&applicant.member) else {
            let error = ErrorCode::UnknownMemberId;
            let member = applicant.member;
            return drop(answer.send(Err(Refused { error, member })));
        };
        let is_changed = member.protocols != applicant.protocols;
        member.protocols = applicant.protocols;
        member.session_timeout = applicant.session_timeout;
        member.rebalance_timeout = applicant.rebalance_timeout;
        member.last_seen = now;
        let is_repeated = match self.phase {
            // A follower that asks again has missed the answer; a leader that asks again wants a new assignment.
            Phase::Stable => !is_changed && !is_leader,
            Phase::Syncing { .. } => !is_changed,
            Phase::Empty | Phase::Joining { .. } => false,
        };
        member.joining = Some(answer);
        if is_repeated {
            self.answer_join(&applicant.member);
        } else {
            self.rebalance(now);
        }
    }

    /// Begins a round of joining, or goes on with the one under way.
    fn rebalance(&mut self, now: Instant) {
        match self.phase {
            Phase::Joining { .. } => {}
            Phase::Empty | Phase::Syncing { .. } | Phase::Stable => {
                let waits = self.members.values().map(|member| member.rebalance_timeout);
                let until = now + waits.max().unwrap_or_default();
                self.phase = Phase::Joining { until };
                for member in self.members.values_mut() {
                    if let Some(answer) = member.syncing.take() {
                        drop(answer.send(Err(ErrorCode::RebalanceInProgress)));
                    }
                }
            }
        }
        let has_everybody_joined =
            self.promised.is_empty() && self.members.values().all(|member| member.joining.is_some());
        if has_everybody_joined {
            self.finish_joining(now);
        }
    }

    fn finish_joining(&mut self, now: Instant) {
        self.members.retain(|_, member| member.joining.is_some());
        self.generation += 1;
        let Some(first) = self.members.keys().next() else {
            self.phase = Phase::Empty;
            self.leader.clear();
            return;
        };
        if !self.members.contains_key(&self.leader) {
            self.leader = first.clone();
        }
        self.protocol = self.choose_protocol();
        let waits = self.members.values().map(|member| member.rebalance_timeout);
        let until = now + waits.max().unwrap_or_default();
        self.phase = Phase::Syncing { until };
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            if let Some(member) = self.members.get_mut(&id) {
                member.last_seen = now;
                member.assignment = Bytes::new();
            }
            self.answer_join(&id);
        }
    }

    /// Of the protocols everybody understands, the one most members put first.
    fn choose_protocol(&self) -> String {
        let understood: HashSet<&str> = self
            .members
            .values()
            .map(|member| member.protocols.iter().map(|(name, _)| name.as_str()))
            .map(HashSet::from_iter)
            .reduce(|common, names: HashSet<&str>| &common & &names)
            .unwrap_or_default();
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let names = member.protocols.iter().map(|(name, _)| name.as_str());
            if let Some(vote) = names.into_iter().find(|name| understood.contains(name)) {
                *votes.entry(vote).or_default() += 1;
            }
        }
        let winner = votes.into_iter().max_by_key(|(_, count)| *count);
        winner.map_or_else(String::new, |(name, _)| name.to_owned())
    }

    fn answer_join(&mut self, id: &str) {
        let members = if id == self.leader { self.wishes() } else { Vec::new() };
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        let Some(answer) = member.joining.take() else {
            return;
        };
        // Nobody listening: the client is gone and times out.
        drop(answer.send(Ok(Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            member: id.to_owned(),
            members,
        })));
    }

    fn wishes(&self) -> Vec<Wish> {
        let members = self.members.iter();
        members
            .map(|(id, member)| Wish {
                member: id.clone(),
                instance: member.instance.clone(),
                metadata: member.metadata(&self.protocol),
            })
            .collect()
    }

    fn sync(&mut self, generation: i32, id: &str, assignments: Vec<(String, Bytes)>, answer: SyncAnswer, now: Instant) {
        if let Err(error) = self.check(generation, id, now) {
            return drop(answer.send(Err(error)));
        }
        let Some(member) = self.members.get_mut(id) else {
            return drop(answer.send(Err(ErrorCode::UnknownMemberId)));
        };
        match self.phase {
            Phase::Empty => drop(answer.send(Err(ErrorCode::UnknownMemberId))),
            Phase::Joining { .. } => drop(answer.send(Err(ErrorCode::RebalanceInProgress))),
            Phase::Stable => {
                member.syncing = Some(answer);
                self.answer_syncs();
            }
            Phase::Syncing { .. } => {
                member.syncing = Some(answer);
                if id == self.leader {
                    for (assigned, assignment) in assignments {
                        if let Some(member) = self.members.get_mut(&assigned) {
                            member.assignment = assignment;
                        }
                    }
                    self.phase = Phase::Stable;
                    self.answer_syncs();
                }
            }
        }
    }

    fn answer_syncs(&mut self) {
        for member in self.members.values_mut() {
            if let Some(answer) = member.syncing.take() {
                drop(answer.send(Ok(Synced {
                    protocol_type: self.protocol_type.clone(),
                    protocol: self.protocol.clone(),
                    assignment: member.assignment.clone(),
                })));
            }
        }
    }

    /// A sign of life from a member that knows where its group is.
    fn check(&mut self, generation: i32, id: &str, now: Instant) -> Result<(), ErrorCode> {
        let member = self.members.get_mut(id).ok_or(ErrorCode::UnknownMemberId)?;
        if generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        member.last_seen = now;
        Ok(())
    }

    fn leave(&mut self, id: &str, instance: Option<&str>, now: Instant) -> Result<(), ErrorCode> {
        if self.promised.remove(id).is_some() {
            self.go_on(now);
            return Ok(());
        }
        let found = self
            .members
            .iter()
            .find(|(known, member)| {
                *known == id || (id.is_empty() && instance.is_some() && member.instance.as_deref() == instance)
            })
            .map(|(known, _)| known.clone());
        let Some(id) = found else {
            return Err(ErrorCode::UnknownMemberId);
        };
        self.remove(&id, now);
        Ok(())
    }

    fn remove(&mut self, id: &str, now: Instant) {
        if let Some(member) = self.members.remove(id) {
            member.dismiss(id, ErrorCode::UnknownMemberId);
        }
        self.rebalance(now);
    }

    /// After an id was given up: those who wait for its member need not any longer.
    fn go_on(&mut self, now: Instant) {
        if let Phase::Joining { .. } = self.phase {
            self.rebalance(now);
        }
    }

    fn tick(&mut self, now: Instant) {
        let promised = self.promised.len();
        self.promised.retain(|_, until| *until > now);
        if self.promised.len() < promised {
            self.go_on(now);
        }
        let silent: Vec<String> =
            self.members.iter().filter(|(_, member)| member.is_silent(now)).map(|(id, _)| id.clone()).collect();
        for id in silent {
            self.remove(&id, now);
        }
        match self.phase {
            Phase::Joining { until } if until <= now => {
                self.promised.clear();
                self.finish_joining(now);
            }
            // The leader does not answer: who waits for it joins again, without it.
            Phase::Syncing { until } if until <= now => {
                let leader = self.leader.clone();
                self.remove(&leader, now);
            }
            Phase::Empty | Phase::Joining { .. } | Phase::Syncing { .. } | Phase::Stable => {}
        }
    }

    fn describe(&self) -> Description {
        let state = match self.phase {
            Phase::Empty => "Empty",
            Phase::Joining { .. } => "PreparingRebalance",
            Phase::Syncing { .. } => "CompletingRebalance",
            Phase::Stable => "Stable",
        };
        let members = self.wishes().into_iter().zip(self.members.values());
        Description {
            state,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            members: members.map(|(wish, member)| (wish, member.client.clone(), member.assignment.clone())).collect(),
        }
    }
}

impl Member {
    /// Who waits for an answer of ours is not silent.
    fn is_silent(&self, now: Instant) -> bool {
        let is_waiting = self.joining.is_some() || self.syncing.is_some();
        !is_waiting && now.duration_since(self.last_seen) > self.session_timeout
    }

    fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found.map_or_else(Bytes::new, |(_, metadata)| metadata.clone())
    }

    fn dismiss(self, id: &str, error: ErrorCode) {
        if let Some(answer) = self.joining {
            let member = id.to_owned();
            drop(answer.send(Err(Refused { error, member })));
        }
        if let Some(answer) = self.syncing {
            drop(answer.send(Err(error)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Duration = Duration::from_secs(10);
    const REBALANCE: Duration = Duration::from_secs(60);

    fn applicant(member: &str) -> Applicant {
        Applicant {
            member: member.to_owned(),
            instance: None,
            client: "c".to_owned(),
            session_timeout: SESSION,
            rebalance_timeout: REBALANCE,
            protocol_type: "consumer".to_owned(),
            protocols: vec![("range".to_owned(), Bytes::from_static(b"wish"))],
            first: First::GiveId,
        }
    }

    /// The id a newcomer is given.
    fn id(groups: &Groups, now: Instant) -> String {
        let refused = groups.join("g", applicant(""), now).try_recv().unwrap();
        let refused = refused.unwrap_err();
        assert_eq!(refused.error, ErrorCode::MemberIdRequired);
        refused.member
    }

    /// A group of one that has its assignment.
    fn stable(groups: &Groups, now: Instant) -> (String, i32) {
        let id = id(groups, now);
        let mut join = groups.join("g", applicant(&id), now);
        let joined = join.try_recv().unwrap().unwrap();
        assert_eq!(joined.leader, id);
        let assigned = vec![(id.clone(), Bytes::from_static(b"all"))];
        let mut sync = groups.sync("g", joined.generation, &id, assigned, now);
        assert_eq!(sync.try_recv().unwrap().unwrap().assignment, &b"all"[..]);
        (id, joined.generation)
    }

    #[test]
    fn one_member_has_everything_at_once() {
        let now = Instant::now();
        let groups = Groups::default();

        let (id, generation) = stable(&groups, now);

        assert_eq!(groups.heartbeat("g", generation, &id, now), Ok(()));
    }

    #[test]
    fn a_second_member_waits_until_the_first_has_joined_again() {
        let now = Instant::now();
        let groups = Groups::default();
        let (first, generation) = stable(&groups, now);

        let second = id(&groups, now);
        let mut second_join = groups.join("g", applicant(&second), now);
        assert!(second_join.try_recv().is_err());
        let beat = groups.heartbeat("g", generation, &first, now);
        assert_eq!(beat, Err(ErrorCode::RebalanceInProgress));
        let mut first_join = groups.join("g", applicant(&first), now);

        let leader = first_join.try_recv().unwrap().unwrap();
        let follower = second_join.try_recv().unwrap().unwrap();
        assert_eq!(leader.members.len(), 2);
        assert_eq!(follower.generation, generation + 1);
        let mut waiting = groups.sync("g", follower.generation, &second, Vec::new(), now);
        assert!(waiting.try_recv().is_err());
        let assigned = vec![(second.clone(), Bytes::from_static(b"half"))];
        drop(groups.sync("g", leader.generation, &first, assigned, now));
        let half = waiting.try_recv().unwrap().unwrap();
        assert_eq!(half.assignment, &b"half"[..]);
    }

    #[test]
    fn a_killed_leader_is_replaced_after_its_session() {
        let start = Instant::now();
        let groups = Groups::default();
        let (_, generation) = stable(&groups, start);
        let later = start + SESSION - Duration::from_secs(1);
        let second = id(&groups, later);
        let mut join = groups.join("g", applicant(&second), later);

        groups.tick(later);
        assert!(join.try_recv().is_err());
        groups.tick(start + SESSION + Duration::from_secs(1));

        let joined = join.try_recv().unwrap().unwrap();
        assert_eq!(joined.leader, second);
        assert_eq!(joined.generation, generation + 1);
        assert_eq!(joined.members.len(), 1);
    }

    #[test]
    fn a_leader_that_dies_before_it_assigns_does_not_hold_up_the_others() {
        let start = Instant::now();
        let groups = Groups::default();
        let (first, _) = stable(&groups, start);
        let second = id(&groups, start);
        let mut second_join = groups.join("g", applicant(&second), start);
        drop(groups.join("g", applicant(&first), start));
        let joined = second_join.try_recv().unwrap().unwrap();
        let mut waiting = groups.sync("g", joined.generation, &second, Vec::new(), start);

        groups.tick(start + SESSION + Duration::from_secs(1));

        let told = waiting.try_recv().unwrap();
        assert_eq!(told, Err(ErrorCode::RebalanceInProgress));
        let mut again = groups.join("g", applicant(&second), start + SESSION);
        assert_eq!(again.try_recv().unwrap().unwrap().leader, second);
    }

    #[test]
    fn a_zombie_cannot_commit() {
        let now = Instant::now();
        let groups = Groups::default();
        let (first, generation) = stable(&groups, now);
        let may = |generation, member: &str, commit| groups.may_commit("g", generation, member, commit, now);

        for commit in [Commit::Plain, Commit::Transaction] {
            assert_eq!(may(generation, &first, commit), Ok(()));
            let old = may(generation - 1, &first, commit);
            assert_eq!(old, Err(ErrorCode::IllegalGeneration));
            let stranger = may(generation, "stranger", commit);
            assert_eq!(stranger, Err(ErrorCode::UnknownMemberId));
        }
    }

    #[test]
    fn an_operator_sets_offsets_only_of_a_group_without_members() {
        let now = Instant::now();
        let groups = Groups::default();
        let set = || groups.may_commit("g", -1, "", Commit::Plain, now);

        assert_eq!(set(), Ok(()));
        let (member, _) = stable(&groups, now);
        assert_eq!(set(), Err(ErrorCode::UnknownMemberId));
        groups.leave("g", &member, None, now).unwrap();
        assert_eq!(set(), Ok(()));
    }

    #[test]
    fn strangers_with_another_protocol_are_refused() {
        let now = Instant::now();
        let groups = Groups::default();
        stable(&groups, now);
        let other = Applicant { protocols: vec![("cooperative-sticky".to_owned(), Bytes::new())], ..applicant("") };

        let refused = groups.join("g", other, now).try_recv().unwrap();

        let refused = refused.unwrap_err();
        assert_eq!(refused.error, ErrorCode::InconsistentGroupProtocol);
    }

    #[test]
    fn a_static_member_that_comes_back_takes_its_own_place() {
        let now = Instant::now();
        let groups = Groups::default();
        let fixed = Applicant { instance: Some("pod-0".to_owned()), ..applicant("") };
        let mut first = groups.join("g", fixed.clone(), now);
        let first = first.try_recv().unwrap().unwrap();

        let mut second = groups.join("g", fixed, now);

        let second = second.try_recv().unwrap().unwrap();
        assert_eq!(second.members.len(), 1);
        let old = groups.heartbeat("g", second.generation, &first.member, now);
        assert_eq!(old, Err(ErrorCode::UnknownMemberId));
    }
}
