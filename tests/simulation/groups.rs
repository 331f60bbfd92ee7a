//! Consumer groups as their coordinator sees them: cooperative, so that a partition is given to another only after it was let go.
//!
//! ```text
//!   join, leave, session over ─▶ preparing ── every member has come again ─▶ generation + 1 ─▶ each is told its partitions
//!                                    ▲                                                              │
//!                                    └───────────── who had to let one go comes again ◀─────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::kafka::Partition;

/// One consumer, known to its group under this number.
pub type MemberId = u64;

/// A group and its members.
pub struct Group {
    partitions: Vec<Partition>,
    generation: u64,
    members: BTreeMap<MemberId, Member>,
    /// Who is to have what, as far as it is free.
    wanted: BTreeMap<Partition, MemberId>,
    is_preparing: bool,
    /// Partitions are to be dealt anew.
    is_shuffling: bool,
    last_id: MemberId,
}

#[derive(Default)]
struct Member {
    /// What it held when it came again.
    claims: BTreeSet<Partition>,
    has_come: bool,
    told: Option<Told>,
}

/// What a member is told once a generation is complete.
#[derive(Clone, Debug)]
pub struct Told {
    pub generation: u64,
    pub partitions: BTreeSet<Partition>,
}

/// What a heartbeat is answered with.
pub enum Heard {
    /// All is as it was.
    Well,
    /// A new generation.
    Told(Told),
    /// There is no such member any more.
    Gone,
}

impl Group {
    pub fn new(partitions: Vec<Partition>) -> Group {
        Group {
            partitions,
            generation: 0,
            members: BTreeMap::new(),
            wanted: BTreeMap::new(),
            is_preparing: false,
            is_shuffling: false,
            last_id: 0,
        }
    }

    pub fn join(&mut self) -> MemberId {
        self.last_id += 1;
        self.members.insert(self.last_id, Member::default());
        self.prepare();
        self.is_shuffling = true;
        self.last_id
    }

    /// A member leaves, or was silent for so long that it is taken for dead.
    pub fn remove(&mut self, id: MemberId) {
        if self.members.remove(&id).is_some() {
            self.prepare();
        }
    }

    /// Whether a member has something to hear or to say.
    pub fn is_awaited(&self, id: MemberId) -> bool {
        let is_behind = |member: &Member| member.told.is_some() || (self.is_preparing && !member.has_come);
        self.members.get(&id).is_none_or(is_behind)
    }

    /// Deals the partitions anew, for no reason.
    pub fn shuffle(&mut self) {
        self.is_shuffling = true;
        self.prepare();
    }

    fn prepare(&mut self) {
        self.is_preparing = true;
        self.members.values_mut().for_each(|member| member.has_come = false);
    }

    /// A member says what it holds.
    pub fn heartbeat(&mut self, id: MemberId, holds: &BTreeSet<Partition>, random: &mut fastrand::Rng) -> Heard {
        let Some(member) = self.members.get_mut(&id) else { return Heard::Gone };
        if let Some(told) = member.told.take() {
            if !holds.is_subset(&told.partitions) {
                // It will have let go of something by its next heartbeat, and that is free then.
                self.prepare();
            }
            return Heard::Told(told);
        }
        if self.is_preparing && !member.has_come {
            (member.has_come, member.claims) = (true, holds.clone());
            if self.members.values().all(|member| member.has_come) {
                self.complete(random);
            }
        }
        Heard::Well
    }

    fn complete(&mut self, random: &mut fastrand::Rng) {
        self.is_preparing = false;
        self.generation += 1;
        let ids: Vec<MemberId> = self.members.keys().copied().collect();
        let claims: BTreeMap<Partition, MemberId> = self
            .members
            .iter()
            .flat_map(|(id, member)| member.claims.iter().map(|claim| (claim.clone(), *id)))
            .collect();
        let is_shuffling = std::mem::take(&mut self.is_shuffling);
        for partition in &self.partitions {
            let is_alive = self.wanted.get(partition).is_some_and(|id| self.members.contains_key(id));
            if !is_alive || (is_shuffling && random.u8(..100) < 40) {
                self.wanted.insert(partition.clone(), ids[random.usize(..ids.len())]);
            }
        }
        for (id, member) in &mut self.members {
            let is_due = |partition: &&Partition| {
                self.wanted[*partition] == *id && claims.get(*partition).is_none_or(|claimer| claimer == id)
            };
            let partitions = self.partitions.iter().filter(is_due).cloned().collect();
            member.told = Some(Told { generation: self.generation, partitions });
        }
    }

    /// Whether offsets may be committed by this member of this generation.
    pub fn admits(&self, id: MemberId, generation: u64) -> bool {
        self.members.contains_key(&id) && self.generation == generation
    }
}
