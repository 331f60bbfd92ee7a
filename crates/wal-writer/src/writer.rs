//! The writer's hand: asks the brokers, stores, and says what is to be published. The decisions are made elsewhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};
use wal_model::delay::Waits;
use wal_model::record::{InRecord, OutRecord};
use wal_model::request;
use wal_model::seal::Keyring;
use wal_model::topics::Topics;
use wal_model::{Clock, Entry, EntryKey, Topic};
use wal_runtime::batch_loop::{Batch, CannotGoOn, Handler};
use wal_runtime::brokers::{self, Brokers, Found, Shapes};
use wal_runtime::config::Policy;
use wal_runtime::failpoint;
use wal_runtime::live::Live;
use wal_runtime::metrics::WaitedFor;
use wal_store::patience::Damaged;
use wal_store::{Inserted, Patient};

use crate::admit::{self, Case, Wanted, Wish};
use crate::config::Config;
use crate::object;
use crate::outputs::{Press, Settled, Wait};
use crate::settle;
use crate::tally::{Meter, Tally};

/// How long brokers that do not answer, or a target that may come back, are left alone.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// Everything a batch needs on its way through.
pub(crate) struct Writer<B> {
    pub store: Patient,
    pub brokers: B,
    pub clock: Arc<dyn Clock>,
    pub keyring: Keyring,
    /// What holds for a batch is taken once, at its start.
    pub policy: Live<Policy>,
    pub topics: Topics,
    pub waits: Waits,
    pub group: String,
    /// As the policy.
    pub config: Live<Config>,
    pub meter: Meter,
}

/// A batch that is stored.
pub(crate) struct Handled {
    cases: Vec<Case>,
    settled: Vec<Settled>,
    shapes: Shapes,
    config: Arc<Config>,
}

impl<B: Brokers> Handler for Writer<B> {
    /// All that one batch leaves for the next is in the store.
    const OVERLAPS: bool = true;

    type Handled = Handled;

    async fn handle(&self, batch: &Batch) -> Result<Handled, CannotGoOn> {
        let begun = Instant::now();
        let (policy, config) = (self.policy.get(), self.config.get());
        let mut cases: Vec<Case> = batch.records.iter().map(|record| self.case(record, &policy)).collect();
        let shapes = self.shapes(&cases, &config).await;
        for case in &mut cases {
            object::object(case, &shapes, &config.reply_topics, &self.topics);
        }
        self.meter.validated(begun);
        failpoint::hit("before-persist");
        let begun = Instant::now();
        let settled = self.settle(&batch.records, &mut cases, &policy).await?;
        self.meter.stored(begun);
        failpoint::hit("after-persist");
        Ok(Handled { cases, settled, shapes, config })
    }

    async fn outputs(&self, batch: &Batch, handled: Handled) -> Result<Vec<OutRecord>, CannotGoOn> {
        let Handled { cases, settled, mut shapes, config } = handled;
        loop {
            self.look_up_stored(&settled, &mut shapes).await;
            match self.made(batch, &cases, &settled, &shapes, &config) {
                Ok(outputs) => {
                    self.meter.keep(Tally::of(&cases, &settled, &shapes, self.clock.now()));
                    return Ok(outputs);
                }
                Err(Wait { topic, why }) => {
                    warn!(%topic, why, "a stored entry waits for its target");
                    self.meter.waits(WaitedFor::Target);
                    tokio::time::sleep(ASK_AGAIN).await;
                }
            }
        }
    }

    fn committed(&self, _: &Batch) {
        self.meter.committed(self.clock.now());
    }

    fn given_up(&self) {
        self.meter.given_up();
        self.brokers.forget();
    }
}

impl<B: Brokers> Writer<B> {
    /// The shape of every topic that the cases name and of our own; asks until all of them are answered, since neither taking nor
    /// refusing a request may rest on silence.
    async fn shapes(&self, cases: &[Case], config: &Config) -> Shapes {
        let own = [self.topics.dead_requests(), self.topics.receipts()];
        let ingress = cases.iter().map(|case| &case.coordinates.topic);
        let topics = distinct(cases.iter().flat_map(object::topics_of).chain(ingress).chain(&own));
        loop {
            let mut shapes = self.brokers.shapes(topics.clone()).await;
            if config.create_missing_targets {
                self.create_missing(cases, &mut shapes).await;
            }
            let unanswered = shapes.iter().find_map(|(topic, found)| match found {
                Found::Unanswered(why) => Some((topic, why)),
                Found::Known { .. } | Found::Missing(_) | Found::Denied(_) => None,
            });
            let Some((topic, why)) = unanswered else { return shapes };
            warn!(%topic, why, "the brokers do not answer");
            self.meter.waits(WaitedFor::Brokers);
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    async fn create_missing(&self, cases: &[Case], shapes: &mut Shapes) {
        let is_missing = |topic: &&Topic| matches!(shapes.get(*topic), Some(Found::Missing(_)));
        let missing = distinct(cases.iter().flat_map(targets_of).filter(is_missing));
        for topic in &missing {
            match self.brokers.create(topic).await {
                Ok(()) => info!(%topic, "created a missing target"),
                Err(why) => warn!(%topic, why, "could not create a missing target"),
            }
        }
        if !missing.is_empty() {
            shapes.extend(self.brokers.shapes(missing).await);
        }
    }

    fn case(&self, record: &InRecord, policy: &Policy) -> Case {
        admit::case(record, request::decode(record, &policy.correlation_fields), policy, &self.topics)
    }

    /// Stores what is new, and tells for each case what the store holds of it.
    async fn settle(
        &self,
        records: &[InRecord],
        cases: &mut [Case],
        policy: &Policy,
    ) -> Result<Vec<Settled>, CannotGoOn> {
        let mut heads = self.settle_heads(cases).await?;
        failpoint::hit("mid-batch");
        for ((record, case), head) in records.iter().zip(&mut *cases).zip(&heads) {
            self.keep_default_target(record, case, head, policy);
        }
        self.settle_members(cases, &mut heads).await?;
        Ok(heads)
    }

    /// The members of a batch whose first is stored already go where the policy of that time sent those without a target.
    fn keep_default_target(&self, record: &InRecord, case: &mut Case, head: &Settled, policy: &Policy) {
        let (Wish::Write(wanted), Settled::Stored(stored)) = (&mut case.wish, head) else { return };
        let default = stored[0].batch.as_ref().and_then(|place| place.default_target.as_ref());
        if default.is_none() || default == policy.target.as_ref() {
            return;
        }
        let then = Policy { target: default.cloned(), ..policy.clone() };
        if let Wish::Write(remade) = self.case(record, &then).wish {
            wanted.entries = remade.entries;
        }
    }

    /// Singles and first members. Of a batch the first member decides whose the identity is, so it is on disk before the others.
    async fn settle_heads(&self, cases: &[Case]) -> Result<Vec<Settled>, CannotGoOn> {
        let objected: Vec<EntryKey> =
            wanted(cases).filter(|wanted| wanted.objection.is_some()).map(|wanted| wanted.keys[0]).collect();
        let mut found = self.get(&objected).await?.into_iter();
        let new: Vec<Entry> =
            wanted(cases).filter(|wanted| wanted.objection.is_none()).map(|wanted| wanted.entries[0].clone()).collect();
        let mut inserted = self.insert(&new).await?.into_iter();
        let mut new = new.into_iter();
        let settle = |case: &Case| match &case.wish {
            Wish::Refused(refusal) => Settled::Refused(refusal.clone()),
            Wish::Write(wanted) => match &wanted.objection {
                Some(objection) => match found.next().flatten() {
                    Some(stored) => same(stored, wanted),
                    None => Settled::Refused(objection.clone()),
                },
                None => {
                    let entry = new.next().expect("one for each case without objection");
                    match inserted.next().expect("the store answers for each entry") {
                        Inserted::Stored => Settled::Stored(vec![entry]),
                        Inserted::Present(stored) => same(*stored, wanted),
                        Inserted::Refused(refusal) => Settled::Refused(refusal),
                    }
                }
            },
        };
        Ok(cases.iter().map(settle).collect())
    }

    /// The other members of batches whose first member is stored as theirs.
    async fn settle_members(&self, cases: &[Case], settled: &mut [Settled]) -> Result<(), CannotGoOn> {
        let mut members = Vec::new();
        let mut keys = Vec::new();
        for (case, settled) in cases.iter().zip(&*settled) {
            let (Wish::Write(wanted), Settled::Stored(_)) = (&case.wish, settled) else { continue };
            match wanted.has_entries() {
                true => members.extend(wanted.entries.iter().skip(1).cloned()),
                false => keys.extend(wanted.keys.iter().skip(1).copied()),
            }
        }
        let inserted = self.insert(&members).await?;
        let mut found = self.get(&keys).await?.into_iter();
        let mut inserted = members.into_iter().zip(inserted).map(|(entry, inserted)| match inserted {
            Inserted::Stored => Ok(entry),
            Inserted::Present(stored) => Ok(*stored),
            Inserted::Refused(refusal) => Err(refusal),
        });
        for (case, settled) in cases.iter().zip(settled) {
            let (Wish::Write(wanted), Settled::Stored(entries)) = (&case.wish, &mut *settled) else { continue };
            let mut refused = None;
            for key in wanted.keys.iter().skip(1) {
                let member = match wanted.has_entries() {
                    true => inserted.next().expect("the store answers for each entry"),
                    false => found.next().expect("the store answers for each key").ok_or_else(|| {
                        // A target became one of the log's own, by another prefix: nothing may ever be sent there.
                        error!(%key, "a half-stored batch cannot be completed under the present policy");
                        wanted.objection.clone().expect("entries are left out only with an objection")
                    }),
                };
                match member.and_then(|stored| settle::check_same(&stored, wanted.hash).map(|()| stored)) {
                    Ok(stored) => entries.push(stored),
                    Err(refusal) => refused = Some(refusal),
                }
            }
            if let Some(refusal) = refused {
                *settled = Settled::Refused(refusal);
            }
        }
        Ok(())
    }

    /// What is stored may name other targets than the request would now; what fails may have a dead-letter topic of its own.
    async fn look_up_stored(&self, settled: &[Settled], shapes: &mut Shapes) {
        let unknown =
            distinct(entries(settled).map(|entry| &entry.target).filter(|target| !brokers::is_known(shapes, target)));
        if !unknown.is_empty() {
            shapes.extend(self.brokers.shapes(unknown).await);
        }
        let now = self.clock.now();
        let may_fail = |entry: &&Entry| now > entry.state.deadline() || !brokers::is_known(shapes, &entry.target);
        let dead_letters: Vec<Topic> =
            entries(settled).filter(may_fail).map(|entry| self.topics.dead_entries(entry.namespace())).collect();
        let unknown = distinct(dead_letters.iter().filter(|topic| !brokers::is_known(shapes, topic)));
        if !unknown.is_empty() {
            shapes.extend(self.brokers.shapes(unknown).await);
        }
    }

    fn made(
        &self,
        batch: &Batch,
        cases: &[Case],
        settled: &[Settled],
        shapes: &Shapes,
        config: &Config,
    ) -> Result<Vec<OutRecord>, Wait> {
        let press = Press {
            topics: &self.topics,
            reply_topics: &config.reply_topics,
            keyring: &self.keyring,
            group: &self.group,
            unknown_target_wait: config.unknown_target_wait,
            waits: &self.waits,
            shapes,
            now: self.clock.now(),
        };
        let mut outputs = Vec::with_capacity(3 * batch.records.len());
        for ((record, case), settled) in batch.records.iter().zip(cases).zip(settled) {
            if let Settled::Refused(refusal) = settled {
                debug!(record = %case.coordinates, code = %refusal.code, message = refusal.message, "request refused");
            }
            outputs.extend(press.outputs(record, case, settled)?);
        }
        Ok(outputs)
    }

    async fn insert(&self, entries: &[Entry]) -> Result<Vec<Inserted>, CannotGoOn> {
        self.store.insert(entries).await.map_err(cannot_go_on)
    }

    async fn get(&self, keys: &[EntryKey]) -> Result<Vec<Option<Entry>>, CannotGoOn> {
        self.store.get(keys).await.map_err(cannot_go_on)
    }
}

fn cannot_go_on(damaged: Damaged) -> CannotGoOn {
    CannotGoOn(damaged.to_string())
}

fn wanted(cases: &[Case]) -> impl Iterator<Item = &Wanted> {
    cases.iter().filter_map(|case| match &case.wish {
        Wish::Write(wanted) => Some(&**wanted),
        Wish::Refused(_) => None,
    })
}

fn targets_of(case: &Case) -> impl Iterator<Item = &Topic> {
    let entries = match &case.wish {
        Wish::Refused(_) => &[][..],
        Wish::Write(wanted) => &wanted.entries,
    };
    entries.iter().map(|entry| &entry.target)
}

fn entries(settled: &[Settled]) -> impl Iterator<Item = &Entry> {
    settled.iter().flat_map(|settled| match settled {
        Settled::Stored(entries) => &entries[..],
        Settled::Refused(_) => &[],
    })
}

fn distinct<'a>(topics: impl Iterator<Item = &'a Topic>) -> Vec<Topic> {
    let mut topics: Vec<Topic> = topics.cloned().collect();
    topics.sort();
    topics.dedup();
    topics
}

fn same(stored: Entry, wanted: &Wanted) -> Settled {
    match settle::check_same(&stored, wanted.hash) {
        Ok(()) => Settled::Stored(vec![stored]),
        Err(refusal) => Settled::Refused(refusal),
    }
}
