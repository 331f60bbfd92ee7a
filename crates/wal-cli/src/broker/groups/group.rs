//! One group: what joins, silence and assignments make of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tansu_sans_io::ErrorCode;
use uuid::Uuid;

use super::{Applicant, Description, First, JoinAnswer, Joined, Refused, SyncAnswer, Synced, Wish};

#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) phase: Phase,
    pub(super) generation: i32,
    protocol_type: String,
    protocol: String,
    leader: String,
    pub(super) members: BTreeMap<String, Member>,
    /// Ids given out and until when they are good for a join.
    promised: HashMap<String, Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
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
pub(super) struct Member {
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

impl Group {
    pub(super) fn join(&mut self, applicant: Applicant, answer: JoinAnswer, now: Instant) {
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

    pub(super) fn sync(
        &mut self,
        generation: i32,
        id: &str,
        assignments: Vec<(String, Bytes)>,
        answer: SyncAnswer,
        now: Instant,
    ) {
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
    pub(super) fn check(&mut self, generation: i32, id: &str, now: Instant) -> Result<(), ErrorCode> {
        let member = self.members.get_mut(id).ok_or(ErrorCode::UnknownMemberId)?;
        if generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        member.last_seen = now;
        Ok(())
    }

    pub(super) fn leave(&mut self, id: &str, instance: Option<&str>, now: Instant) -> Result<(), ErrorCode> {
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

    pub(super) fn tick(&mut self, now: Instant) {
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

    pub(super) fn describe(&self) -> Description {
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
