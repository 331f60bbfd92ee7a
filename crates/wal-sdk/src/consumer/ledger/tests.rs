//! The ledger against a Kafka in miniature: whatever the order of answers, outcomes, moves and crashes, nothing unfinished is passed,
//! and what is passed is answered once.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use wal_model::Topic;

use super::*;

const DEPTH: usize = 5;
const RECORDS: i64 = 12;
const PARTITIONS: i32 = 2;
/// Between any two records lie two marks of transactions.
const STEP: i64 = 3;

fn partition(number: i32) -> Partition {
    (Topic::parse("t").unwrap(), number)
}

fn record(number: i32, offset: i64) -> InRecord {
    let (topic, partition) = partition(number);
    let (key, value, headers) = (None, None, Vec::new());
    InRecord { cluster: Arc::from("c"), topic, partition, offset, time: None, key, value, headers }
}

/// An answer that tells what it answers.
fn answer(place: &Place) -> OutRecord {
    let key = Some(format!("{}/{}", place.partition.1, place.offset).into());
    OutRecord { topic: Topic::parse("acks").unwrap(), partition: None, key, value: None, headers: Vec::new() }
}

#[derive(Clone, Debug)]
enum Step {
    HandOut(i32),
    /// The one of those in hand that stands there, counted around.
    Finish(usize),
    /// The partition is read to its end, which lies behind two marks.
    End(i32),
    Commit(Outcome),
    /// The partition goes and comes back.
    Move(i32),
    Crash,
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Committed,
    Aborted,
    /// The call failed, but the brokers had done it.
    CommittedUnheard,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        3 => Just(Outcome::Committed),
        1 => Just(Outcome::Aborted),
        1 => Just(Outcome::CommittedUnheard)
    ];
    let step = prop_oneof![
        8 => (0..PARTITIONS).prop_map(Step::HandOut),
        8 => any::<usize>().prop_map(Step::Finish),
        2 => (0..PARTITIONS).prop_map(Step::End),
        4 => outcome.prop_map(Step::Commit),
        1 => (0..PARTITIONS).prop_map(Step::Move),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 0..200)
}

/// Kafka, and a consumer that reads it.
struct World {
    ledger: Ledger<()>,
    last_assignment: u64,
    in_hand: Vec<Place>,
    read_up_to: HashMap<Partition, i64>,
    committed: HashMap<Partition, i64>,
    published: Vec<String>,
}

impl World {
    fn new() -> World {
        let mut world = World {
            ledger: Ledger::new(DEPTH),
            last_assignment: 0,
            in_hand: Vec::new(),
            read_up_to: HashMap::new(),
            committed: HashMap::new(),
            published: Vec::new(),
        };
        (0..PARTITIONS).for_each(|number| world.assign(number));
        world
    }

    fn assign(&mut self, number: i32) {
        self.last_assignment += 1;
        let partition = partition(number);
        let committed = self.committed.get(&partition).copied();
        self.read_up_to.insert(partition.clone(), committed.unwrap_or(0));
        self.ledger.assign(partition, self.last_assignment, committed);
    }

    fn act(&mut self, step: &Step) {
        match step {
            Step::HandOut(number) => self.hand_out(*number),
            Step::Finish(_) if self.in_hand.is_empty() => {}
            Step::Finish(at) => {
                let place = self.in_hand.swap_remove(at % self.in_hand.len());
                self.finish(&place);
            }
            Step::End(number) => {
                let read = self.read_up_to[&partition(*number)];
                self.ledger.end(&partition(*number), (read + STEP - 1) / STEP * STEP);
            }
            Step::Commit(outcome) => self.transact(*outcome),
            Step::Move(number) => {
                self.ledger.revoke(&partition(*number));
                self.assign(*number);
            }
            Step::Crash => {
                self.ledger = Ledger::new(DEPTH);
                (0..PARTITIONS).for_each(|number| self.assign(number));
            }
        }
    }

    fn hand_out(&mut self, number: i32) {
        let from = self.read_up_to[&partition(number)];
        let offset = (from + STEP - 1) / STEP * STEP;
        if self.ledger.room(&partition(number)) == 0 || offset >= RECORDS * STEP {
            return;
        }
        let place = self.ledger.hand_out(&record(number, offset)).expect("it was not held yet");
        assert_eq!(self.ledger.hand_out(&record(number, offset)), None, "it is held now");
        self.read_up_to.insert(partition(number), offset + 1);
        self.in_hand.push(place);
    }

    fn finish(&mut self, place: &Place) {
        let said = self.ledger.finish(place, Some(answer(place)), ());
        let current = self.ledger.tracks[&place.partition].assignment;
        assert_eq!(said == Heard::InTime, place.assignment == current);
    }

    fn transact(&mut self, outcome: Outcome) {
        let (has_prefix, is_ahead) = (self.ledger.has_prefix(), self.ledger.is_ahead());
        let prefix = self.ledger.prefix();
        assert_eq!(prefix.is_some(), is_ahead);
        assert!(is_ahead || !has_prefix);
        if let Some(prefix) = prefix {
            self.settle(prefix, outcome);
        }
        assert!(self.ledger.in_doubt().is_empty());
    }

    fn settle(&mut self, prefix: Prefix, outcome: Outcome) {
        if !matches!(outcome, Outcome::Aborted) {
            self.committed.extend(prefix.next);
            let keys = prefix.answers.into_iter().map(|answer| answer.key.unwrap());
            self.published.extend(keys.map(|key| String::from_utf8(key.to_vec()).unwrap()));
        }
        match outcome {
            Outcome::Committed => self.ledger.committed(),
            Outcome::Aborted | Outcome::CommittedUnheard => {
                let elsewhere = self.ledger.reconcile(&self.committed);
                assert!(elsewhere.is_empty(), "{elsewhere:?}");
            }
        }
    }

    /// What is passed is answered once, and nothing else is answered.
    fn check(&self) {
        let passed = (0..PARTITIONS).flat_map(|number| {
            let next = self.committed.get(&partition(number)).copied().unwrap_or(0);
            (0..RECORDS).map(|index| index * STEP).filter(move |offset| *offset < next).map(move |o| (number, o))
        });
        let passed: BTreeSet<String> = passed.map(|(number, offset)| format!("{number}/{offset}")).collect();
        let answered: BTreeSet<String> = self.published.iter().cloned().collect();
        assert_eq!(answered.len(), self.published.len(), "an answer is doubled");
        assert_eq!(answered, passed);
        for track in self.ledger.tracks.values() {
            assert!(track.records.len() <= DEPTH);
        }
    }
}

proptest! {
    #[test]
    fn nothing_unfinished_is_passed_and_nothing_passed_is_answered_twice(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.act(step);
            world.check();
        }
        // And it comes to an end.
        for _ in 0..RECORDS {
            (0..PARTITIONS).for_each(|number| (0..DEPTH).for_each(|_| world.hand_out(number)));
            std::mem::take(&mut world.in_hand).iter().for_each(|place| world.finish(place));
            world.transact(Outcome::Committed);
        }
        // What a stale hand was holding was handed out again.
        world.act(&Step::Crash);
        for _ in 0..RECORDS {
            (0..PARTITIONS).for_each(|number| (0..DEPTH).for_each(|_| world.hand_out(number)));
            std::mem::take(&mut world.in_hand).iter().for_each(|place| world.finish(place));
            world.transact(Outcome::Committed);
        }
        world.check();
        prop_assert_eq!(world.published.len(), usize::try_from(RECORDS).unwrap() * usize::try_from(PARTITIONS).unwrap());
    }
}

fn ledger_with(count: i64) -> (Ledger<Arc<()>>, Vec<Place>) {
    let mut ledger = Ledger::new(DEPTH);
    ledger.assign(partition(0), 1, Some(0));
    let places = (0..count).map(|offset| ledger.hand_out(&record(0, offset)).unwrap()).collect();
    (ledger, places)
}

#[test]
fn answers_beyond_an_unfinished_record_wait_for_it() {
    let (mut ledger, places) = ledger_with(3);
    ledger.finish(&places[1], Some(answer(&places[1])), Arc::default());
    ledger.finish(&places[2], Some(answer(&places[2])), Arc::default());
    assert!(!ledger.has_prefix() && ledger.prefix().is_none());

    ledger.finish(&places[0], None, Arc::default());
    let prefix = ledger.prefix().unwrap();
    assert_eq!(prefix.next, HashMap::from([(partition(0), 3)]));
    assert_eq!(prefix.answers, [answer(&places[1]), answer(&places[2])]);
}

#[test]
fn the_offset_moves_past_the_marks_behind_the_last_record_once_all_before_is_finished() {
    let (mut ledger, places) = ledger_with(2);
    ledger.end(&partition(0), 9);
    ledger.finish(&places[0], None, Arc::default());
    assert_eq!(ledger.prefix().unwrap().next[&partition(0)], 1);
    ledger.committed();
    assert!(!ledger.is_ahead());
    ledger.finish(&places[1], None, Arc::default());
    assert_eq!(ledger.prefix().unwrap().next[&partition(0)], 9);
    ledger.committed();
    // More marks, and no record.
    ledger.end(&partition(0), 12);
    assert!(ledger.is_ahead() && !ledger.has_prefix());
    assert_eq!(ledger.prefix().unwrap().next[&partition(0)], 12);
    ledger.reconcile(&HashMap::from([(partition(0), 12)]));
    assert!(!ledger.is_ahead());
    assert_eq!(ledger.expected(&partition(0)), Some(12));
}

#[test]
fn a_partition_that_another_moved_meanwhile_is_read_again() {
    for (committed, is_elsewhere) in [(0, false), (2, false), (1, true), (3, true), (-1, true)] {
        let (mut ledger, places) = ledger_with(3);
        ledger.finish(&places[0], None, Arc::default());
        ledger.finish(&places[1], None, Arc::default());
        ledger.prefix().unwrap();
        assert_eq!(ledger.in_doubt(), [partition(0)]);
        let elsewhere = ledger.reconcile(&HashMap::from([(partition(0), committed)]));
        assert_eq!(!elsewhere.is_empty(), is_elsewhere, "{committed}");
    }
}

#[test]
fn what_goes_with_a_record_is_kept_until_its_offset_is_committed() {
    let (mut ledger, places) = ledger_with(1);
    let kept = Arc::new(());
    ledger.finish(&places[0], None, Arc::clone(&kept));
    ledger.prefix().unwrap();
    assert_eq!(Arc::strong_count(&kept), 2);
    ledger.committed();
    assert_eq!(Arc::strong_count(&kept), 1);
    assert_eq!(ledger.finish(&places[0], None, Arc::clone(&kept)), Heard::TooLate);
    assert_eq!(Arc::strong_count(&kept), 1);
}

#[test]
fn what_was_dropped_is_never_passed() {
    let (mut ledger, places) = ledger_with(2);
    let kept = Arc::new(());
    assert_eq!(ledger.drop_unfinished(&places[0], Arc::clone(&kept)), Heard::InTime);
    ledger.finish(&places[1], None, Arc::default());
    assert!(!ledger.has_prefix() && Arc::strong_count(&kept) == 2);
    ledger.assign(partition(0), 2, Some(0));
    assert_eq!(Arc::strong_count(&kept), 1);
    assert_eq!(ledger.drop_unfinished(&places[1], kept), Heard::TooLate);
}

#[test]
fn a_partition_without_room_waits_and_the_others_do_not() {
    let (mut ledger, places) = ledger_with(i64::try_from(DEPTH).unwrap());
    ledger.assign(partition(1), 2, None);
    assert_eq!((ledger.room(&partition(0)), ledger.room(&partition(1))), (0, DEPTH));
    ledger.finish(&places[DEPTH - 1], None, Arc::default());
    assert_eq!(ledger.room(&partition(0)), 0, "it waits behind the others");
    ledger.finish(&places[0], None, Arc::default());
    ledger.prefix().unwrap();
    ledger.committed();
    assert_eq!(ledger.room(&partition(0)), 1);
    assert_eq!(ledger.room(&partition(7)), 0, "it is not ours");
}
