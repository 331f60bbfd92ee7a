//! What a consumer's caller sees, without Kafka.

use std::time::Duration;

use wal_model::answer::{Completed, Failed, Wish};
use wal_model::delivery::Delivery;
use wal_model::entry::Answers;
use wal_model::status::Failure;
use wal_model::{OutRecord, Topic};

use super::testing::{Said, consumer, delivery, in_record, keyring};
use super::*;

const SOON: Duration = Duration::from_secs(10);

async fn attempt(consumer: &mut Consumer) -> Attempt {
    match consumer.next().await {
        Some(Ok(Handed::Attempt(attempt))) => attempt,
        other => panic!("no attempt: {other:?}"),
    }
}

fn answer(said: Vec<Said>) -> OutRecord {
    let [Said::Finished(0, Some(answer))] = <[Said; 1]>::try_from(said).unwrap() else { panic!("no answer") };
    answer
}

#[tokio::test]
async fn an_answer_goes_to_its_topic_and_proves_what_it_answers() {
    let failure = Failure::new("CARD_DECLINED", "no");
    type Fail = fn(Attempt, Failure);
    let fails: [(Fail, Wish); 3] = [
        (Attempt::fail, Wish::None),
        (Attempt::fail_permanently, Wish::Never),
        (|attempt, failure| attempt.retry_after(failure, Duration::from_secs(5)), Wish::After(Duration::from_secs(5))),
    ];
    for (fail, wish) in fails {
        let (mut consumer, mut bench) = consumer().await;
        bench.send(&delivery(Some("k"), "{}"));
        fail(attempt(&mut consumer).await, failure.clone());
        let answer = answer(bench.said());
        assert_eq!(answer.topic.as_str(), "wal.failures");
        let failed = Failed::decode(&in_record(answer, 0), &keyring()).unwrap();
        assert_eq!((failed.failure, failed.wish), (failure.clone(), wish));
    }

    let (mut consumer, mut bench) = consumer().await;
    bench.send(&delivery(None, "{}"));
    attempt(&mut consumer).await.complete(Done::with(&[1, 2]).unwrap());
    let answer = answer(bench.said());
    assert_eq!(answer.topic.as_str(), "wal.acks");
    let completed = Completed::decode(&in_record(answer, 0), &keyring()).unwrap();
    assert_eq!(completed.result.as_deref(), Some("[1,2]"));
}

#[tokio::test]
async fn where_no_answer_is_expected_only_a_failure_is_told() {
    let (mut consumer, mut bench) = consumer().await;
    let unanswered = Delivery { answers: Answers::None, ..delivery(None, "{}") };
    bench.send(&unanswered);
    bench.send(&unanswered);
    attempt(&mut consumer).await.complete(Done::silent());
    attempt(&mut consumer).await.fail(Failure::new("X", ""));
    let said = bench.said();
    assert_eq!(said[0], Said::Finished(0, None));
    assert!(matches!(said[1], Said::Finished(1, Some(_))));
}

#[tokio::test]
async fn what_is_no_delivery_comes_with_its_reason() {
    let (mut consumer, mut bench) = consumer().await;
    let topic = Topic::parse("orders").unwrap();
    bench.send_record(OutRecord { topic, partition: None, key: None, value: None, headers: Vec::new() });
    let Some(Ok(Handed::Foreign(foreign))) = consumer.next().await else { panic!("nothing foreign") };
    assert!(foreign.why.to_string().contains("ce_id"));
    foreign.pass_over();
    assert_eq!(bench.said(), [Said::Finished(0, None)]);
}

#[tokio::test]
async fn what_is_dropped_without_an_answer_says_so() {
    let (mut consumer, mut bench) = consumer().await;
    bench.send(&delivery(None, "{}"));
    drop(attempt(&mut consumer).await);
    assert_eq!(bench.said(), [Said::Dropped(0)]);
}

#[tokio::test]
async fn what_moved_away_before_it_was_taken_is_not_given_out() {
    let (mut consumer, mut bench) = consumer().await;
    bench.send(&delivery(None, "{}"));
    let held = attempt(&mut consumer).await;
    bench.send(&delivery(None, "{}"));
    bench.revoke();
    assert!(!held.is_held());
    let third = bench.send(&delivery(None, "{}"));
    assert_eq!(attempt(&mut consumer).await.arrival().record.offset, third);
    // Nobody waits for a word on the second one.
    held.complete(Done::silent());
    assert!(matches!(bench.said()[..], [Said::Dropped(2), Said::Finished(0, _)]));
}

#[tokio::test]
async fn the_end_is_told_once_and_nothing_comes_after_it() {
    let (mut consumer, mut bench) = consumer().await;
    bench.send(&delivery(None, "{}"));
    bench.trouble(ConsumeError::NotPublished("the brokers are away".into()));
    assert!(consumer.next().await.unwrap().unwrap_err().is_retryable());
    bench.end("fenced");
    let end = consumer.next().await.unwrap().unwrap_err();
    assert!(!end.is_retryable() && end.to_string().contains("fenced"));
    assert!(consumer.next().await.is_none());
    assert_eq!(consumer.close(SOON).await, Stopped::InTime);
    assert_eq!(bench.said(), [], "what was not taken is given back without a word");
}

#[tokio::test]
async fn a_cluster_that_is_not_there_is_told_in_time() {
    let mut connection = Connection::to("127.0.0.1:1");
    connection.timeout = Duration::from_millis(300);
    let targets = vec![Topic::parse("orders").unwrap()];
    let options = ConsumerOptions::new(connection, Topics::new("wal.").unwrap(), "shop", targets);
    assert!(matches!(Consumer::join(options).await.err(), Some(ConnectError::Unreachable { .. })));
}

/// Compiles, and that is the test.
#[test]
fn attempts_can_be_answered_from_anywhere() {
    fn is_sent<T: Send + 'static>() {}
    is_sent::<Attempt>();
    is_sent::<Consumer>();
}
