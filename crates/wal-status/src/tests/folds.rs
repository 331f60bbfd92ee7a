//! What becomes of a batch.

use wal_model::entry::Answers;
use wal_model::record::Header;
use wal_model::status::{Failure, Outcome, Reason, Status};
use wal_model::{Code, LogId, Tenant};
use wal_store::Error;
use wal_store::faults::Method;
use wal_store::samples::{entry, entry_in, full_entry, tenant};

use super::*;

#[tokio::test]
async fn an_answer_completes_its_entry_and_the_state_is_told() {
    let (bench, one) = (bench(), entry("one"));
    bench.insert(std::slice::from_ref(&one)).await;
    let outputs = bench.handle(vec![done(&one, 5)]).await;
    assert_eq!(statuses(&outputs), BTreeMap::from([(one.log_id.to_string(), "completed".to_owned())]));
    assert_eq!(outputs.len(), 1);
    let stored = bench.stored(&one).await.unwrap().state;
    assert_eq!(stored.status(), Status::Completed);
    assert_eq!((stored.standing.at, stored.standing.delivered_at), (time(WRITTEN_AT + 60_005), Some(time(WRITTEN_AT))));
    assert_eq!(bench.fold.counts.now().folded, 1);
}

#[tokio::test]
async fn events_late_twice_and_in_any_order_leave_the_same_state() {
    let events = |one: &Entry| {
        let attempt = |attempt| Delivery { attempt, ..Delivery::of(one) };
        let retry = |number| {
            let next_attempt_at = time(WRITTEN_AT + 100_000);
            let failure = Some(Failure { code: "DOWN".to_owned(), message: "down".to_owned() });
            Ack::of(&attempt(number), Outcome::Retrying { next_attempt_at }, failure, time(WRITTEN_AT + 50_000))
        };
        [event(&retry(1), 1), event(&retry(2), 2), completed(&attempt(3), 3), completed(&attempt(1), 4)]
    };
    let one = entry("one");
    let mut states = Vec::new();
    for order in [vec![0, 1, 2, 3], vec![3, 2, 1, 0], vec![2, 0, 0, 3, 1, 2, 2], vec![1, 3, 0, 2]] {
        for size in [1, 2, 10] {
            let bench = bench();
            bench.insert(std::slice::from_ref(&one)).await;
            for batch in order.chunks(size) {
                bench.handle(batch.iter().map(|at| events(&one)[*at].clone()).collect()).await;
            }
            states.push(bench.stored(&one).await.unwrap().state);
        }
    }
    assert!(states.iter().all(|state| *state == states[0]), "{states:#?}");
    assert_eq!((states[0].status(), states[0].standing.attempt, states[0].history.len()), (Status::Completed, 3, 3));
}

#[tokio::test]
async fn an_entry_is_told_once_a_batch_and_repeats_are_counted() {
    let (bench, one, two) = (bench(), entry("one"), entry("two"));
    bench.insert(&[one.clone(), two.clone()]).await;
    let outputs = bench.handle(vec![done(&one, 1), done(&two, 2), done(&one, 3), done(&one, 4)]).await;
    assert_eq!(to(&outputs, "wal.status").len(), 2);
    let outputs = bench.handle(vec![done(&one, 1)]).await;
    assert_eq!(statuses(&outputs).len(), 1, "what is stored is told again, changed or not");
    let tally = bench.fold.counts.now();
    assert_eq!(tally.folded + tally.repeated, 5);
    assert!(tally.repeated >= 2);
}

fn set(record: &mut InRecord, name: &'static str, value: &str) {
    record.headers.retain(|header| !header.is(name));
    record.headers.push(Header::new(name, value.to_owned()));
}

fn with(mut record: InRecord, spoil: impl Fn(&mut InRecord)) -> InRecord {
    spoil(&mut record);
    record
}

fn value(record: InRecord, text: &'static str) -> InRecord {
    InRecord { value: Some(Bytes::from_static(text.as_bytes())), ..record }
}

#[tokio::test]
async fn what_cannot_be_believed_is_a_dead_letter_with_its_code_and_harms_no_neighbour() {
    let (bench, one) = (bench(), entry("one"));
    let neighbours: Vec<Entry> = (0..20).map(|at| entry(&format!("neighbour {at}"))).collect();
    bench.insert(&neighbours).await;
    bench.insert(std::slice::from_ref(&one)).await;
    let answer = || done(&one, 5);
    let beyond = Delivery { attempt: 5, ..Delivery::of(&one) };
    let before = Delivery { attempt: 1, round_first: 2, ..Delivery::of(&one) };
    let ack = |attempt, round_first| {
        let delivery = Delivery { attempt, round_first, ..Delivery::of(&one) };
        Ack::of(&delivery, Outcome::Failed { reason: Reason::Cancelled }, None, time(WRITTEN_AT))
    };
    let retired = Keyring::new("old", &BTreeMap::from([("old".to_owned(), vec![9; 32])])).unwrap();
    let under_retired = read(Delivery::of(&one).encode(time(WRITTEN_AT), &retired), 0);
    let cases = [
        (with(answer(), |r| set(r, wire::CE_WALATTEMPT, "2")), Code::SealInvalid),
        (with(answer(), |r| set(r, wire::CE_WALTENANT, "other")), Code::SealInvalid),
        (with(answer(), |r| set(r, wire::CE_WALSEAL, "v1.k1.AAAA")), Code::SealInvalid),
        (with(answer(), |r| r.headers.retain(|header| !header.is(wire::CE_WALSEAL))), Code::SealInvalid),
        (read(Completed::encode(&under_retired, None, acks()), 5), Code::SealInvalid),
        (read(ack(1, 1).encode(acks(), &retired), 5), Code::SealInvalid),
        (value(event(&ack(1, 1), 5), r#"{"status":"completed"}"#), Code::SealInvalid),
        (value(answer(), r#"{"status":"failed"}"#), Code::AnswerMisplaced),
        (with(answer(), |r| set(r, wire::CE_WALERRORCODE, "DOWN")), Code::AnswerMisplaced),
        (completed(&beyond, 5), Code::AttemptInvalid),
        (completed(&before, 5), Code::AttemptInvalid),
        (event(&ack(1, 2), 5), Code::AttemptInvalid),
        (value(answer(), ""), Code::AnswerInvalid),
        (with(answer(), |r| r.value = None), Code::AnswerInvalid),
        (value(answer(), "completed"), Code::AnswerInvalid),
        (value(answer(), r#"{"status":"completed","version":2}"#), Code::AnswerInvalid),
        (with(answer(), |r| r.headers.clear()), Code::AnswerInvalid),
        (with(answer(), |r| (r.headers, r.key, r.value) = (Vec::new(), None, None)), Code::AnswerInvalid),
    ];
    let expected: Vec<&str> = cases.iter().map(|(_, code)| code.as_str()).collect();
    let originals: Vec<Bytes> = cases.iter().map(|(record, _)| record.value.clone().unwrap_or_default()).collect();
    let mut records = Vec::new();
    for ((record, _), neighbour) in cases.into_iter().zip(&neighbours) {
        records.extend([record, done(neighbour, 6)]);
    }
    let outputs = bench.handle(records).await;
    assert_eq!(codes(&outputs), expected);
    let letters = to(&outputs, "dlq.wal.ingress");
    assert!(letters.iter().zip(originals).all(|(letter, value)| letter.value.as_ref() == Some(&value)));
    assert!(letters.iter().all(|letter| last_str(&letter.headers, wire::DLQ_TOPIC) == Some("wal.acks")));
    assert_eq!(statuses(&outputs).len(), expected.len());
    assert_eq!(bench.stored(&one).await, Some(one));
    let refused = bench.fold.counts.now().refused;
    assert_eq!((refused[&Code::SealInvalid], refused[&Code::AnswerMisplaced]), (7, 2));
}

#[tokio::test]
async fn a_good_seal_over_another_log_id_or_tenant_changes_nothing() {
    let (bench, one) = (bench(), Entry { tenant: Some(tenant("a")), ..entry("one") });
    bench.insert(std::slice::from_ref(&one)).await;
    let of = |log_id: &LogId, tenant: Option<Tenant>| {
        completed(&Delivery { log_id: log_id.clone(), tenant, ..Delivery::of(&one) }, 5)
    };
    let elsewhere = entry_in("other", WRITTEN_AT, "one").log_id;
    let later = entry_in("orders", WRITTEN_AT + 1, "one").log_id;
    let records = vec![
        of(&one.log_id, Some(tenant("b"))),
        of(&one.log_id, None),
        of(&elsewhere, Some(tenant("a"))),
        of(&later, Some(tenant("a"))),
    ];
    let outputs = bench.handle(records).await;
    assert_eq!(codes(&outputs), ["WAL_ACK_UNKNOWN_ENTRY"; 4]);
    assert_eq!((outputs.len(), bench.stored(&one).await), (4, Some(one)));
}

#[tokio::test]
async fn answers_that_nobody_asked_for_are_counted_and_change_nothing() {
    let (bench, one) = (bench(), Entry { answers: Answers::None, ..entry("one") });
    let copied = entry("copied");
    bench.insert(&[one.clone(), copied.clone()]).await;
    let topic = Topic::parse("replays").unwrap();
    let replayed = read(Delivery::of(&copied).encode_replay(time(WRITTEN_AT), &keyring(), topic), 0);
    let outputs = bench.handle(vec![done(&one, 1), read(Completed::encode(&replayed, None, acks()), 2)]).await;
    assert_eq!((outputs, bench.fold.counts.now().ignored), (Vec::new(), 2));
    assert_eq!((bench.stored(&one).await, bench.stored(&copied).await), (Some(one), Some(copied)));
}

#[tokio::test]
async fn an_entry_without_answers_is_completed_by_whoever_delivered_it() {
    let (bench, one) = (bench(), Entry { answers: Answers::None, ..entry("one") });
    bench.insert(std::slice::from_ref(&one)).await;
    let delivered = Ack::of(&Delivery::of(&one), Outcome::Completed { result: None }, None, time(WRITTEN_AT));
    bench.handle(vec![event(&delivered, 1)]).await;
    assert_eq!(bench.stored(&one).await.unwrap().state.status(), Status::Completed);
}

#[tokio::test(start_paused = true)]
async fn an_event_of_an_unknown_entry_is_asked_again_and_then_a_dead_letter_while_neighbours_are_folded_at_once() {
    let (bench, nobody) = (bench(), entry("nobody"));
    let neighbours: Vec<Entry> = (0..4).map(|at| entry(&format!("neighbour {at}"))).collect();
    bench.insert(&neighbours).await;
    let first = done(&nobody, 5);
    let original = first.clone();
    let mut outputs = bench.handle(vec![first, done(&neighbours[0], 1), done(&neighbours[1], 2)]).await;
    assert_eq!(statuses(&outputs).len(), 2);
    let since = bench.now().to_string();
    for seconds in [0, 10, 19] {
        bench.clock.advance(Duration::from_secs(seconds));
        let again = to(&outputs, "wal.acks");
        let [again] = again[..] else { panic!("{outputs:?}") };
        assert_eq!(last_str(&again.headers, wire::CE_WALUNKNOWNSINCE), Some(&*since));
        assert_eq!((again.partition, &again.key, &again.value), (Some(home(&nobody)), &original.key, &original.value));
        outputs = bench.handle(vec![read(again.clone(), 9)]).await;
    }
    bench.clock.advance(Duration::from_secs(1));
    let again = to(&outputs, "wal.acks")[0].clone();
    outputs = bench.handle(vec![read(again, 10), done(&neighbours[2], 11), done(&neighbours[3], 12)]).await;
    assert_eq!(codes(&outputs), ["WAL_ACK_UNKNOWN_ENTRY"]);
    assert_eq!((statuses(&outputs).len(), to(&outputs, "wal.acks").len()), (2, 0));
    let tally = bench.fold.counts.now();
    assert_eq!((tally.unknown, tally.refused[&Code::AckUnknownEntry]), (4, 1));
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_comes_late_is_found() {
    let (bench, one) = (bench(), entry("one"));
    let outputs = bench.handle(vec![done(&one, 5)]).await;
    bench.insert(std::slice::from_ref(&one)).await;
    let outputs = bench.handle(vec![read(to(&outputs, "wal.acks")[0].clone(), 6)]).await;
    assert_eq!(statuses(&outputs), BTreeMap::from([(one.log_id.to_string(), "completed".to_owned())]));
    assert_eq!(outputs.len(), 1);
}

/// Nobody sealed the note, so it may shorten the search and never prolong it, and nothing is lost by it.
#[tokio::test(start_paused = true)]
async fn a_forged_note_of_how_long_an_entry_is_looked_for_cannot_prolong_it() {
    let (bench, nobody) = (bench(), entry("nobody"));
    let noted = |text: &'static str| with(done(&nobody, 5), |record| set(record, wire::CE_WALUNKNOWNSINCE, text));
    let outputs = bench.handle(vec![noted("2000-01-01T00:00:00Z")]).await;
    assert_eq!(codes(&outputs), ["WAL_ACK_UNKNOWN_ENTRY"]);
    for text in ["2999-01-01T00:00:00Z", "soon"] {
        let outputs = bench.handle(vec![noted(text)]).await;
        let again = to(&outputs, "wal.acks")[0];
        assert_eq!(last_str(&again.headers, wire::CE_WALUNKNOWNSINCE), Some(&*bench.now().to_string()), "{text}");
        let notes = again.headers.iter().filter(|header| header.is(wire::CE_WALUNKNOWNSINCE)).count();
        assert_eq!(notes, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_batch_that_mostly_asks_again_waits() {
    let (bench, one) = (bench(), entry("one"));
    bench.insert(std::slice::from_ref(&one)).await;
    let again = |name: &str| {
        let since = bench.now().to_string();
        with(done(&entry(name), 5), |record| set(record, wire::CE_WALUNKNOWNSINCE, &since))
    };
    let started = tokio::time::Instant::now();
    bench.handle(vec![again("a"), done(&one, 1), done(&one, 2)]).await;
    assert_eq!(started.elapsed(), Duration::ZERO);
    bench.handle(vec![again("a"), done(&one, 1)]).await;
    assert_eq!(started.elapsed(), Duration::from_millis(250));
}

#[tokio::test]
async fn a_record_in_another_partition_than_its_log_id_names_is_moved_once() {
    let (bench, one) = (bench(), entry("one"));
    bench.insert(std::slice::from_ref(&one)).await;
    let elsewhere = InRecord { partition: (home(&one) + 1) % PARTITIONS, key: None, ..done(&one, 5) };
    let outputs = bench.handle(vec![elsewhere.clone()]).await;
    let [moved] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!((moved.topic.as_str(), moved.partition), ("wal.acks", Some(home(&one))));
    assert_eq!((&moved.key, &moved.value), (&Some(Bytes::from(one.log_id.to_string())), &elsewhere.value));
    assert_eq!(bench.stored(&one).await, Some(one.clone()));
    // Read by an instance that believes in another number of partitions, it is folded all the same, not sent on.
    let astray = InRecord { partition: (home(&one) + 2) % PARTITIONS, ..read(moved.clone(), 6) };
    let outputs = bench.handle(vec![astray]).await;
    assert_eq!(statuses(&outputs), BTreeMap::from([(one.log_id.to_string(), "completed".to_owned())]));
    assert_eq!(bench.fold.counts.now().moved, 1);
}

#[tokio::test]
async fn what_is_refused_is_not_moved_first() {
    let (bench, one) = (bench(), entry("one"));
    let forged = with(done(&one, 5), |record| set(record, wire::CE_WALATTEMPT, "2"));
    let outputs = bench.handle(vec![InRecord { partition: (home(&one) + 1) % PARTITIONS, ..forged }]).await;
    assert_eq!((codes(&outputs), outputs.len()), (vec!["WAL_SEAL_INVALID"], 1));
}

/// A record that fills its topic to the brim cannot be given another header.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_published_again_is_folded_or_dead_where_it_stands() {
    let (bench, one, nobody) = (bench(), entry("one"), entry("nobody"));
    bench.insert(std::slice::from_ref(&one)).await;
    let huge = |entry: &Entry, partition| {
        let done = done(entry, 5);
        let result = |length| format!(r#"{{"status":"completed","result":"{}"}}"#, "x".repeat(length));
        let InRecord { topic, key, headers, .. } = done.clone();
        let small = OutRecord { topic, partition: None, key, value: Some(Bytes::from(result(0))), headers };
        InRecord { partition, value: Some(Bytes::from(result(LIMIT - small.size_as_batch()))), ..done }
    };
    let records = vec![huge(&one, (home(&one) + 1) % PARTITIONS), huge(&nobody, home(&nobody))];
    let outputs = bench.handle(records).await;
    assert_eq!(to(&outputs, "wal.acks").len(), 0);
    assert_eq!((statuses(&outputs).len(), codes(&outputs)), (1, vec!["WAL_ACK_UNKNOWN_ENTRY"]));
}

#[tokio::test]
async fn a_partition_nobody_knew_of_has_the_brokers_asked_again() {
    let (bench, one) = (bench(), entry("one"));
    *bench.brokers.partitions.lock().unwrap() = Some((PARTITIONS, 64));
    bench.insert(std::slice::from_ref(&one)).await;
    let own = partition::of_key(one.log_id.to_string().as_bytes(), 64).unwrap();
    assert!(own >= PARTITIONS, "the sample lies beyond what is remembered");
    let outputs = bench.handle(vec![InRecord { partition: own, ..done(&one, 5) }]).await;
    assert_eq!((statuses(&outputs).len(), outputs.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_waited_for_and_one_that_is_damaged_is_not() {
    let (bench, one) = (bench(), full_entry("one"));
    let one = Entry { answers: Answers::Expected, ..one };
    bench.insert(std::slice::from_ref(&one)).await;
    for _ in 0..10 {
        bench.store.fail_before(Method::Apply);
    }
    bench.store.fail_after(Method::Apply);
    let outputs = bench.handle(vec![done(&one, 1)]).await;
    assert_eq!((statuses(&outputs).len(), bench.store.calls(Method::Apply)), (1, 12));
    bench.store.fail_before_with(Method::Apply, Error::Corrupt("rotten".to_owned()));
    let batch = Batch { records: vec![done(&one, 2)], ..Batch::default() };
    assert!(bench.fold.handle(&batch).await.unwrap_err().to_string().contains("rotten"));
}

#[tokio::test]
async fn what_is_given_up_and_done_again_counts_once_and_says_the_same() {
    let (bench, one) = (bench(), entry("one"));
    bench.insert(std::slice::from_ref(&one)).await;
    let batch = Batch { records: vec![done(&one, 1)], ..Batch::default() };
    let first = bench.fold.handle(&batch).await.unwrap();
    bench.fold.given_up();
    let second = bench.fold.handle(&batch).await.unwrap();
    bench.fold.committed(&Batch::default());
    assert_eq!((first, bench.fold.counts.now().folded), (second, 1));
}
