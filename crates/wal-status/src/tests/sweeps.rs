//! What becomes of a tick.

use wal_model::delivery::NotADelivery;
use wal_model::status::{Outcome, Reason, Status};
use wal_store::samples::{ack, after, entry, entry_in, redriven, retrying};

use super::*;

const MOMENT: Duration = Duration::from_millis(1);

impl Bench {
    /// A partition ends here.
    fn end(&self, partition: i32, offset: i64) {
        self.brokers.ends.lock().unwrap().insert(partition, offset);
    }

    /// A partition has been folded up to here.
    fn folded(&mut self, partition: i32, offset: i64) {
        self.places.get_mut(&(acks(), partition)).unwrap().next = offset;
    }

    /// Reads back what was published on `wal.acks`.
    async fn fold_own(&self, outputs: &[OutRecord]) -> Vec<OutRecord> {
        let own = to(outputs, "wal.acks").into_iter().cloned();
        self.handle(own.zip(100..).map(|(out, offset)| read(out, offset)).collect()).await
    }
}

#[tokio::test]
async fn an_entry_expires_after_its_partition_was_folded_past_its_deadline() {
    let (mut bench, one) = (bench(), entry("one"));
    bench.insert(std::slice::from_ref(&one)).await;
    bench.pass(&one, Duration::ZERO);
    assert_eq!(bench.tick().await, []);
    bench.clock.advance(MOMENT);
    bench.end(home(&one), 8);
    bench.folded(home(&one), 7);
    for _ in 0..3 {
        assert_eq!(bench.tick().await, [], "the record at offset 7 may complete it");
    }
    bench.folded(home(&one), 8);
    let outputs = bench.tick().await;
    let [event] = to(&outputs, "wal.acks")[..] else { panic!("{outputs:?}") };
    let said = Ack::decode(&read(event.clone(), 8), &keyring()).unwrap();
    assert_eq!((&said.log_id, said.event.outcome), (&one.log_id, Outcome::Failed { reason: Reason::Expired }));
    assert_eq!((said.event.attempt, event.partition), (1, Some(home(&one))));
    assert_eq!(codes(&outputs), ["WAL_EXPIRED"]);
    let [letter] = to(&outputs, "dlq.wal.ingress")[..] else { panic!("{outputs:?}") };
    assert_eq!(letter.value, Some(one.payload.clone()));
    let as_read = read(letter.clone(), 0);
    assert_eq!(Delivery::decode(&as_read).unwrap_err(), NotADelivery::Missing(wire::CE_WALSENT));
    assert_eq!(bench.stored(&one).await, Some(one.clone()), "it is folded like any other event");
    let folded = bench.fold_own(&outputs).await;
    assert_eq!(statuses(&folded), BTreeMap::from([(one.log_id.to_string(), "failed".to_owned())]));
    assert_eq!(bench.stored(&one).await.unwrap().state.reason(), Some(Reason::Expired));
    assert_eq!(bench.fold.counts.now().expired, 1);
}

#[tokio::test]
async fn a_completion_that_was_written_in_time_and_folded_late_wins_without_a_dead_letter() {
    let (mut bench, one) = (bench(), entry("one"));
    bench.insert(std::slice::from_ref(&one)).await;
    bench.pass(&one, MOMENT);
    bench.end(home(&one), 8);
    bench.folded(home(&one), 7);
    assert_eq!(bench.tick().await, []);
    bench.handle(vec![done(&one, 7)]).await;
    bench.folded(home(&one), 8);
    assert_eq!(bench.tick().await, []);
    assert_eq!(bench.stored(&one).await.unwrap().state.status(), Status::Completed);
}

/// The end that was asked for before lies before what was published since: nothing is certain until that is folded.
#[tokio::test]
async fn an_entry_that_expired_does_not_expire_again_while_its_event_is_not_folded() {
    let (mut bench, one) = (bench(), entry("one"));
    bench.insert(std::slice::from_ref(&one)).await;
    bench.pass(&one, MOMENT);
    bench.tick().await;
    let outputs = bench.tick().await;
    assert_eq!(to(&outputs, "wal.acks").len(), 1);
    bench.end(home(&one), 2);
    for next in [0, 0, 1, 1] {
        bench.folded(home(&one), next);
        assert_eq!(bench.tick().await, []);
    }
    bench.fold_own(&outputs).await;
    bench.folded(home(&one), 2);
    for _ in 0..3 {
        assert_eq!(bench.tick().await, []);
    }
}

#[tokio::test]
async fn a_sweep_that_was_given_up_says_the_same_again() {
    let (bench, one) = (bench(), entry("one"));
    bench.insert(std::slice::from_ref(&one)).await;
    bench.pass(&one, MOMENT);
    bench.tick().await;
    let first = bench.tick_only().await;
    bench.fold.given_up();
    assert_eq!(bench.tick().await, []);
    let second = bench.tick().await;
    assert_eq!((first.len(), bench.fold.counts.now().expired), (2, 1));
    assert_eq!(first, second);
}

/// The brokers may be too slow for so many at a time.
#[tokio::test]
async fn a_sweep_that_was_given_up_says_less_at_a_time_until_it_is_committed() {
    let (bench, entries) = (bench(), (0..4_100).map(|number| entry(&number.to_string())).collect::<Vec<_>>());
    bench.insert(&entries).await;
    bench.pass(&entries[0], MOMENT);
    bench.tick().await;
    let said = |outputs: &[OutRecord]| to(outputs, "wal.acks").len();
    for expected in [2_000, 1_000, 500, 200, 100, 100] {
        assert_eq!(said(&bench.tick_only().await), expected);
        bench.fold.given_up();
        bench.tick().await;
    }
    let outputs = bench.tick().await;
    assert_eq!(said(&outputs), 100);
    bench.fold_own(&outputs).await;
}

#[tokio::test]
async fn what_may_be_parked_is_left_alone_until_the_scheduler_had_its_time() {
    let (bench, one, delayed) = (bench(), entry("retried"), entry("delayed"));
    let failed_once = after(one.clone(), &[retrying(&one, 1)]);
    let delayed = Entry { deliver_at: Some(time(WRITTEN_AT + 3_600_000)), ..delayed };
    bench.insert(&[failed_once.clone(), delayed.clone()]).await;
    bench.pass(&one, Duration::from_secs(300));
    for _ in 0..3 {
        assert_eq!(bench.tick().await, []);
    }
    bench.clock.advance(MOMENT);
    bench.tick().await;
    let outputs = bench.tick().await;
    let attempts: BTreeMap<String, u32> = to(&outputs, "wal.acks")
        .into_iter()
        .map(|out| Ack::decode(&read(out.clone(), 0), &keyring()).unwrap())
        .map(|ack| (ack.log_id.to_string(), ack.event.attempt))
        .collect();
    let expected = [(failed_once.log_id.to_string(), 2), (delayed.log_id.to_string(), 1)];
    assert_eq!(attempts, BTreeMap::from(expected), "what expires is the attempt that is owed");
}

#[tokio::test]
async fn each_entry_expires_where_its_partition_is_held() {
    let first = bench();
    let entries: Vec<Entry> = (0..40).map(|at| entry(&format!("e {at}"))).collect();
    first.insert(&entries).await;
    let (left, right) = (first.sibling(0..2), first.sibling(2..PARTITIONS));
    first.pass(&entries[0], MOMENT);
    let mut expired = Vec::new();
    for bench in [&left, &right] {
        bench.tick().await;
        let outputs = bench.tick().await;
        let events = to(&outputs, "wal.acks").into_iter().map(|out| out.key.clone().unwrap());
        expired.push(events.collect::<Vec<_>>());
    }
    let held_by_left = entries.iter().filter(|entry| home(entry) < 2).count();
    assert_eq!((expired[0].len(), expired[1].len()), (held_by_left, 40 - held_by_left));
    let mut all = expired.concat();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 40);
}

#[tokio::test]
async fn a_dead_letter_goes_to_its_namespace_and_waits_while_nobody_says_where() {
    let (bench, one) = (bench(), entry_in("orders", WRITTEN_AT, "one"));
    bench.insert(std::slice::from_ref(&one)).await;
    bench.brokers.own.lock().unwrap().push("orders".to_owned());
    bench.pass(&one, MOMENT);
    bench.tick().await;
    *bench.brokers.is_silent.lock().unwrap() = true;
    assert_eq!(bench.tick().await, []);
    *bench.brokers.is_silent.lock().unwrap() = false;
    let outputs = bench.tick().await;
    assert_eq!(to(&outputs, "dlq.wal.orders").len(), 1);
    assert_eq!(outputs.len(), 2);
}

#[tokio::test]
async fn a_sweep_is_bounded_and_the_next_goes_on() {
    let mut bench = bench();
    bench.fold.config.batch_bytes = 150 * 10;
    let entries: Vec<Entry> =
        (0..450).map(|at| Entry { payload: Bytes::from_static(b"ten bytes!"), ..entry(&format!("e {at}")) }).collect();
    bench.insert(&entries).await;
    bench.pass(&entries[0], MOMENT);
    let mut sizes = Vec::new();
    for _ in 0..20 {
        let outputs = bench.tick().await;
        let expired = to(&outputs, "wal.acks").len();
        assert!(expired <= 200, "{expired}");
        bench.fold_own(&outputs).await;
        sizes.push(expired);
    }
    assert_eq!(sizes.iter().sum::<usize>(), 450, "{sizes:?}");
    assert!(sizes.iter().filter(|size| **size > 0).count() >= 3, "{sizes:?}");
}

/// The retention after the entry finished, and a moment.
async fn finished(bench: &Bench, entry: &Entry) {
    bench.insert(std::slice::from_ref(entry)).await;
    bench.handle(vec![done(entry, 0)]).await;
    let finished_at = bench.stored(entry).await.unwrap().state.standing.at;
    let until = finished_at.saturating_add(bench.fold.config.retention).saturating_since(bench.now());
    bench.clock.advance(until);
}

#[tokio::test]
async fn a_finished_entry_is_told_gone_and_then_removed() {
    let (bench, one, open) = (bench(), entry("one"), entry("open"));
    bench.insert(&[after(open.clone(), &[retrying(&open, 1)])]).await;
    finished(&bench, &one).await;
    let tombstones = |outputs: &[OutRecord]| to(outputs, "wal.status").len();
    assert_eq!(tombstones(&bench.tick().await), 0);
    bench.clock.advance(MOMENT);
    let outputs = bench.tick().await;
    assert_eq!(statuses(&outputs), BTreeMap::from([(one.log_id.to_string(), "gone".to_owned())]));
    assert!(bench.stored(&one).await.is_some(), "first the tombstone is committed");
    assert_eq!(tombstones(&bench.tick().await), 0);
    assert_eq!(bench.stored(&one).await, None);
    assert!(bench.stored(&open).await.is_some());
    assert_eq!(bench.fold.counts.now().purged, 1);
}

#[tokio::test]
async fn nothing_is_removed_without_its_tombstone() {
    let (bench, one) = (bench(), entry("one"));
    finished(&bench, &one).await;
    bench.clock.advance(MOMENT);
    let first = bench.tick_only().await;
    bench.fold.given_up();
    let second = bench.tick_only().await;
    assert_eq!((statuses(&first).len(), first), (1, second));
    assert!(bench.stored(&one).await.is_some());
    bench.fold.committed(&Batch::default());
    bench.tick().await;
    assert_eq!(bench.stored(&one).await, None);
}

#[tokio::test]
async fn an_entry_that_was_spoken_of_after_its_tombstone_gets_another_one_first() {
    let (bench, one) = (bench(), entry("one"));
    finished(&bench, &one).await;
    bench.clock.advance(MOMENT);
    assert_eq!(statuses(&bench.tick().await).len(), 1);
    let repeat = bench.handle(vec![done(&one, 0)]).await;
    assert_eq!(statuses(&repeat)[&one.log_id.to_string()], "completed");
    let outputs = bench.tick().await;
    assert_eq!(statuses(&outputs)[&one.log_id.to_string()], "gone");
    assert!(bench.stored(&one).await.is_some());
    bench.tick().await;
    assert_eq!(bench.stored(&one).await, None);
}

#[tokio::test]
async fn a_partition_that_moved_since_is_left_to_whoever_has_it_now() {
    let (mut bench, one) = (bench(), entry("one"));
    finished(&bench, &one).await;
    bench.clock.advance(MOMENT);
    bench.tick().await;
    bench.places.insert((acks(), home(&one)), Place { assignment: 8, next: 0, committed: 0 });
    let outputs = bench.tick().await;
    assert!(bench.stored(&one).await.is_some());
    assert_eq!(statuses(&outputs)[&one.log_id.to_string()], "gone", "it is told, and then removed, anew");
    bench.places.remove(&(acks(), home(&one)));
    assert_eq!(bench.tick().await, []);
    assert!(bench.stored(&one).await.is_some());
}

#[tokio::test]
async fn a_redrive_between_tombstone_and_removal_keeps_the_entry() {
    let (bench, one) = (bench(), entry("one"));
    let dead = wal_store::samples::failed(&one, 1, Reason::Exhausted);
    bench.insert(std::slice::from_ref(&one)).await;
    bench.store.apply(&[ack(&one, dead)]).await.unwrap();
    bench.clock.advance(Duration::from_secs(31 * 86_400));
    assert_eq!(statuses(&bench.tick().await).len(), 1);
    // By another road than this instance's own batches.
    bench.store.apply(&[ack(&one, redriven(&one, 2, 2))]).await.unwrap();
    bench.tick().await;
    assert_eq!(bench.stored(&one).await.unwrap().state.standing.round, 2);
    assert_eq!(bench.fold.counts.now().purged, 0);
}
