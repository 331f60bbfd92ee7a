//! A Kafka in memory: partitions, transactions and committed offsets, with the gaps between them in which things go wrong.
//!
//! ```text
//!   begin ─▶ produce .. ─▶ offsets ─▶ commit: decided      ─▶ mark, partition by partition: visible, offsets committed
//!     └──────── open ────────────────┘ └────── ending ──────┘
//!   while a transaction is open or ending, nothing behind its first record is read, and no offset under it is told
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use wal_model::{InRecord, OutRecord, Timestamp, Topic, partition};

/// How long a transaction may stay open, in milliseconds: the default of `kafka.transaction_timeout`.
const TRANSACTION_TIMEOUT: i64 = 10_000;

/// A partition of a topic.
pub type Partition = (Topic, i32);

/// Whose clock stamps the records of a topic.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stamps {
    /// The producer's.
    Producer,
    /// The broker's.
    Broker,
}

/// All brokers.
pub struct Kafka {
    cluster: Arc<str>,
    topics: BTreeMap<Topic, Log>,
    transactions: Vec<Transaction>,
    /// Those that are open or have marks to leave.
    unfinished: BTreeSet<usize>,
    producers: BTreeMap<String, Producer>,
    committed: BTreeMap<(String, Partition), i64>,
}

struct Log {
    stamps: Stamps,
    partitions: Vec<Vec<Slot>>,
    /// For each partition, the transactions that hold it and the first offset of each.
    held: Vec<BTreeMap<usize, usize>>,
}

enum Slot {
    Record(Box<InRecord>, Option<usize>),
    Mark,
}

/// Where a transaction leaves its mark.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Spot {
    Partition(Partition),
    Group(String),
}

struct Transaction {
    id: String,
    begun: i64,
    spots: BTreeSet<Spot>,
    offsets: BTreeMap<Partition, i64>,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    Committed,
    Aborted,
}

#[derive(Default)]
struct Producer {
    epoch: u32,
    last: Option<usize>,
}

/// Why a producer was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A newer one has its id, or its transaction took too long.
    Fenced,
    /// Its last transaction is still being ended.
    Busy,
}

/// What stands at a place of a partition.
pub enum Next {
    /// This record.
    Record(Box<InRecord>),
    /// Nothing yet; reading goes on here.
    End(i64),
}

/// What a group's place in a partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// This offset.
    At(i64),
    /// A transaction decides over it.
    Unstable,
}

impl Kafka {
    pub fn new() -> Kafka {
        Kafka {
            cluster: Arc::from("simulated"),
            topics: BTreeMap::new(),
            transactions: Vec::new(),
            unfinished: BTreeSet::new(),
            producers: BTreeMap::new(),
            committed: BTreeMap::new(),
        }
    }

    pub fn create(&mut self, topic: Topic, partitions: i32, stamps: Stamps) {
        let partitions = usize::try_from(partitions).expect("a number of partitions");
        let log = Log {
            stamps,
            partitions: std::iter::repeat_with(Vec::new).take(partitions).collect(),
            held: vec![BTreeMap::new(); partitions],
        };
        self.topics.insert(topic, log);
    }

    /// Every partition of the topics that are wanted.
    pub fn partitions(&self, is_wanted: impl Fn(&Topic) -> bool) -> Vec<Partition> {
        let wanted = self.topics.iter().filter(|(topic, _)| is_wanted(topic));
        wanted.flat_map(|(topic, log)| (0..log.count()).map(|number| (topic.clone(), number))).collect()
    }

    pub fn partition_count(&self, topic: &Topic) -> Option<i32> {
        self.topics.get(topic).map(Log::count)
    }

    /// Appends a record outside any transaction. `times` are the producer's and the broker's.
    pub fn append(&mut self, out: OutRecord, times: (Timestamp, Timestamp)) -> Partition {
        self.write(out, times, None)
    }

    fn write(
        &mut self,
        out: OutRecord,
        (own, broker): (Timestamp, Timestamp),
        transaction: Option<usize>,
    ) -> Partition {
        let log = self.topics.get_mut(&out.topic).expect("outputs are checked before they are sent");
        let of_key = |key: &[u8]| partition::of_key(key, log.count()).expect("a topic has partitions");
        // Without a key any will do; the same one keeps a run the same.
        let number = out.partition.unwrap_or_else(|| out.key.as_deref().map_or(0, of_key));
        let index = usize::try_from(number).expect("a partition");
        let slots = &mut log.partitions[index];
        if let Some(transaction) = transaction {
            log.held[index].entry(transaction).or_insert(slots.len());
        }
        let record = InRecord {
            cluster: Arc::clone(&self.cluster),
            topic: out.topic.clone(),
            partition: number,
            offset: offset(slots.len()),
            time: Some(if log.stamps == Stamps::Broker { broker } else { own }),
            key: out.key,
            value: out.value,
            headers: out.headers,
        };
        slots.push(Slot::Record(Box::new(record), transaction));
        (out.topic, number)
    }

    /// What a reader of committed records finds from `from` on.
    pub fn next(&self, (topic, number): &Partition, from: i64) -> Next {
        let (slots, stable) = self.readable(topic, *number);
        let from = usize::try_from(from).expect("an offset");
        let found = slots[..stable].iter().skip(from).find_map(|slot| self.seen(slot));
        match found {
            Some(record) => Next::Record(Box::new(record.clone())),
            None => Next::End(offset(stable.max(from))),
        }
    }

    /// Every committed record of a partition that can be read, in order.
    pub fn records(&self, (topic, number): &Partition) -> impl Iterator<Item = &InRecord> {
        let (slots, stable) = self.readable(topic, *number);
        slots[..stable].iter().filter_map(|slot| self.seen(slot))
    }

    /// Every committed record of a topic that can be read.
    pub fn records_of(&self, topic: &Topic) -> impl Iterator<Item = &InRecord> {
        let count = self.partition_count(topic).unwrap_or(0);
        let partitions: Vec<Partition> = (0..count).map(|number| (topic.clone(), number)).collect();
        partitions.into_iter().flat_map(|partition| self.records(&partition).collect::<Vec<_>>())
    }

    /// The slots of a partition and how many of them are stable.
    fn readable(&self, topic: &Topic, number: i32) -> (&[Slot], usize) {
        let log = &self.topics[topic];
        let index = usize::try_from(number).expect("a partition");
        let slots = &log.partitions[index];
        let stable = log.held[index].values().min().copied();
        (slots, stable.unwrap_or(slots.len()))
    }

    fn seen<'a>(&self, slot: &'a Slot) -> Option<&'a InRecord> {
        match slot {
            Slot::Mark => None,
            Slot::Record(record, None) => Some(record),
            Slot::Record(record, Some(transaction)) => {
                (self.transactions[*transaction].fate == Fate::Committed).then_some(record)
            }
        }
    }

    /// Where a partition ends, open transactions included.
    pub fn end(&self, (topic, number): &Partition) -> i64 {
        offset(self.topics[topic].partitions[usize::try_from(*number).expect("a partition")].len())
    }

    /// The offset after the last record that can be read; 0 if there is none.
    pub fn after_last(&self, partition: &Partition) -> i64 {
        self.records(partition).last().map_or(0, |record| record.offset + 1)
    }

    pub fn committed(&self, group: &str, partition: &Partition) -> Committed {
        let spot = Spot::Group(group.to_owned());
        let mut unfinished = self.unfinished.iter().map(|index| &self.transactions[*index]);
        if unfinished.any(|other| other.spots.contains(&spot) && other.offsets.contains_key(partition)) {
            return Committed::Unstable;
        }
        // Groups begin at 0: that is committed when topics are made.
        let committed = self.committed.get(&(group.to_owned(), partition.clone()));
        Committed::At(committed.copied().unwrap_or(0))
    }

    /// A producer takes its transactional id; what an older one left open is aborted first.
    pub fn init(&mut self, id: &str) -> Result<u32, Refused> {
        let last = self.producers.get(id).and_then(|producer| producer.last);
        if let Some(last) = last.filter(|last| self.transactions[*last].fate == Fate::Open) {
            self.decide(last, Fate::Aborted);
        }
        if last.is_some_and(|last| self.unfinished.contains(&last)) {
            return Err(Refused::Busy);
        }
        let producer = self.producers.entry(id.to_owned()).or_default();
        producer.epoch += 1;
        Ok(producer.epoch)
    }

    pub fn begin(&mut self, id: &str, epoch: u32, now: i64) -> Result<usize, Refused> {
        let index = self.transactions.len();
        let producer = self.producers.get_mut(id).expect("a producer begins with init");
        if producer.epoch != epoch {
            return Err(Refused::Fenced);
        }
        if producer.last.is_some_and(|last| self.unfinished.contains(&last)) {
            return Err(Refused::Busy);
        }
        producer.last = Some(index);
        let (spots, offsets) = (BTreeSet::new(), BTreeMap::new());
        self.transactions.push(Transaction { id: id.to_owned(), begun: now, spots, offsets, fate: Fate::Open });
        self.unfinished.insert(index);
        Ok(index)
    }

    /// Whether a producer may still add to its transaction.
    fn check(&self, transaction: usize, epoch: u32) -> Result<(), Refused> {
        let Transaction { id, fate, .. } = &self.transactions[transaction];
        let is_own = self.producers[id].epoch == epoch && *fate == Fate::Open;
        if is_own { Ok(()) } else { Err(Refused::Fenced) }
    }

    pub fn produce(
        &mut self,
        transaction: usize,
        epoch: u32,
        out: OutRecord,
        times: (Timestamp, Timestamp),
    ) -> Result<(), Refused> {
        self.check(transaction, epoch)?;
        let partition = self.write(out, times, Some(transaction));
        self.transactions[transaction].spots.insert(Spot::Partition(partition));
        Ok(())
    }

    /// Adds offsets to a transaction. Whether the group lets this member do so was asked before.
    pub fn offsets(
        &mut self,
        transaction: usize,
        epoch: u32,
        group: &str,
        next: &BTreeMap<Partition, i64>,
    ) -> Result<(), Refused> {
        self.check(transaction, epoch)?;
        let transaction = &mut self.transactions[transaction];
        transaction.spots.insert(Spot::Group(group.to_owned()));
        transaction.offsets.extend(next.clone());
        Ok(())
    }

    pub fn commit(&mut self, transaction: usize, epoch: u32) -> Result<(), Refused> {
        self.check(transaction, epoch)?;
        self.decide(transaction, Fate::Committed);
        Ok(())
    }

    pub fn abort(&mut self, transaction: usize, epoch: u32) -> Result<(), Refused> {
        self.check(transaction, epoch)?;
        self.decide(transaction, Fate::Aborted);
        Ok(())
    }

    fn decide(&mut self, index: usize, fate: Fate) {
        self.transactions[index].fate = fate;
        if self.transactions[index].spots.is_empty() {
            self.unfinished.remove(&index);
        }
    }

    /// Aborts what has been open for too long, and fences whoever opened it.
    pub fn time_out(&mut self, now: i64) {
        for index in self.unfinished.clone() {
            let Transaction { id, begun, fate, .. } = &self.transactions[index];
            if *fate == Fate::Open && now - begun >= TRANSACTION_TIMEOUT {
                self.producers.get_mut(id).expect("whoever began has a producer").epoch += 1;
                self.decide(index, Fate::Aborted);
            }
        }
    }

    /// Whether some transaction was begun and has not left all its marks.
    pub fn is_unfinished(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// Whose transactions those are.
    pub fn unfinished(&self) -> Vec<(String, i64)> {
        let whose = |index: &usize| (self.transactions[*index].id.clone(), self.transactions[*index].begun);
        self.unfinished.iter().map(whose).collect()
    }

    /// The transactions that are decided and have marks to leave.
    pub fn ending(&self) -> Vec<usize> {
        let is_decided = |index: &usize| self.transactions[*index].fate != Fate::Open;
        self.unfinished.iter().copied().filter(is_decided).collect()
    }

    /// Leaves one of the marks of an ending transaction; tells the partition that can be read further now, if it is one.
    pub fn mark(&mut self, index: usize, choose: impl FnOnce(usize) -> usize) -> Option<Partition> {
        let Transaction { spots, offsets, fate, .. } = &mut self.transactions[index];
        let chosen = choose(spots.len());
        let spot = spots.iter().nth(chosen).cloned().expect("chosen among them");
        spots.remove(&spot);
        if spots.is_empty() {
            self.unfinished.remove(&index);
        }
        match spot {
            Spot::Partition((topic, number)) => {
                let log = self.topics.get_mut(&topic).expect("it was written to");
                let at = usize::try_from(number).expect("a partition");
                log.partitions[at].push(Slot::Mark);
                log.held[at].remove(&index);
                Some((topic, number))
            }
            Spot::Group(group) => {
                let offsets = std::mem::take(offsets);
                if *fate == Fate::Committed {
                    let own = offsets.into_iter().map(|(partition, next)| ((group.clone(), partition), next));
                    self.committed.extend(own);
                }
                None
            }
        }
    }
}

impl Log {
    fn count(&self) -> i32 {
        i32::try_from(self.partitions.len()).expect("few partitions")
    }
}

fn offset(length: usize) -> i64 {
    i64::try_from(length).expect("a short log")
}
