//! The runner against a consumer without Kafka.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, Semaphore, oneshot};
use wal_model::answer::{Completed, Failed, Wish};
use wal_model::clock::ManualClock;
use wal_model::delivery::{Delivery, NotADelivery};
use wal_model::{OutRecord, Timestamp, Topic};

use super::*;
use crate::consumer::testing::{Bench, Said, consumer, delivery, in_record, keyring};

const OPTIONS: RunOptions = RunOptions { concurrency: 4, time_limit: None, stop_timeout: Duration::from_secs(10) };

fn clock() -> ManualClock {
    ManualClock::at(Timestamp::EPOCH)
}

/// Runs until everything that was sent is said something of.
async fn run_all<H: Handler>(
    handler: H,
    options: RunOptions,
    send: impl FnOnce(&mut Bench) -> usize,
) -> (Report, Vec<Said>) {
    let (consumer, mut bench) = consumer().await;
    let count = send(&mut bench);
    let (stop, stopped) = oneshot::channel::<()>();
    let clock = clock();
    let run = consumer.run_by(&clock, handler, options, async { drop(stopped.await) });
    let heard = async {
        let said = bench.hear(count).await;
        stop.send(()).unwrap();
        said
    };
    let (report, said) = tokio::join!(run, heard);
    (report.unwrap(), said)
}

fn failed(said: &Said) -> (String, String, Wish) {
    let Said::Finished(_, Some(answer)) = said else { panic!("no answer: {said:?}") };
    let failed = Failed::decode(&in_record(answer.clone(), 0), &keyring()).unwrap();
    (failed.failure.code, failed.failure.message, failed.wish)
}

fn payload(arrival: &Arrival) -> &str {
    std::str::from_utf8(&arrival.delivery.payload).unwrap()
}

#[tokio::test]
async fn what_a_handler_says_becomes_the_answer() {
    let handler = |arrival: Arc<Arrival>| async move {
        match payload(&arrival) {
            "done" => Ok(Done::with(&"result")?),
            "failed" => Err(HandlerError::new("NO", "not today")),
            "never" => Err(HandlerError::new("NO", "not ever").permanently()),
            _ => Err(HandlerError::new("NO", "later").retry_after(Duration::from_secs(5))),
        }
    };
    let (report, said) = run_all(handler, RunOptions { concurrency: 1, ..OPTIONS }, |bench| {
        ["done", "failed", "never", "later"].map(|payload| bench.send(&delivery(None, payload))).len()
    })
    .await;
    assert_eq!(report, Report { completed: 1, failed: 3, ..Report::default() });
    let Said::Finished(0, Some(answer)) = &said[0] else { panic!("{said:?}") };
    let completed = Completed::decode(&in_record(answer.clone(), 0), &keyring()).unwrap();
    assert_eq!(completed.result.as_deref(), Some("\"result\""));
    assert_eq!(failed(&said[1]).2, Wish::None);
    assert_eq!(failed(&said[2]).2, Wish::Never);
    assert_eq!(failed(&said[3]).2, Wish::After(Duration::from_secs(5)));
}

#[tokio::test]
async fn a_panic_fails_its_attempt_and_harms_no_neighbour() {
    let handler = |arrival: Arc<Arrival>| async move {
        assert!(payload(&arrival) != "bad", "bad payload");
        Ok(Done::silent())
    };
    let (report, said) = run_all(handler, RunOptions { concurrency: 1, ..OPTIONS }, |bench| {
        ["good", "bad", "good"].map(|payload| bench.send(&delivery(Some("k"), payload))).len()
    })
    .await;
    assert_eq!(report, Report { completed: 2, panicked: 1, ..Report::default() });
    assert_eq!(failed(&said[1]), (HANDLER_PANICKED.to_owned(), "bad payload".to_owned(), Wish::None));
}

#[tokio::test]
async fn a_handler_that_takes_too_long_fails_its_attempt() {
    let handler = |_| async { std::future::pending::<Result<Done, HandlerError>>().await };
    let options = RunOptions { time_limit: Some(Duration::from_secs(60)), ..OPTIONS };
    let (consumer, mut bench) = consumer().await;
    tokio::time::pause();
    bench.send(&delivery(None, "{}"));
    let clock = clock();
    let run = consumer.run_by(&clock, handler, options, tokio::time::sleep(Duration::from_secs(61)));
    assert_eq!(run.await.unwrap(), Report { timed_out: 1, ..Report::default() });
    assert_eq!(failed(&bench.said()[0]).0, HANDLER_TIMED_OUT);
}

#[tokio::test]
async fn what_is_past_its_deadline_is_not_handled_but_for_replays() {
    let handled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&handled);
    let handler = move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        async { Ok(Done::silent()) }
    };
    let late = Delivery { deadline: Timestamp::from_millis(999).unwrap(), ..delivery(None, "{}") };
    let just = Delivery { deadline: Timestamp::from_millis(1000).unwrap(), ..delivery(None, "{}") };
    let (consumer, mut bench) = consumer().await;
    bench.send(&late);
    bench.send(&just);
    bench.send_record(late.encode_replay(Timestamp::EPOCH, &keyring(), late.target.clone()));
    let clock = ManualClock::at(Timestamp::from_millis(1000).unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let run = consumer.run_by(&clock, handler, OPTIONS, async { drop(stopped.await) });
    let heard = async {
        let said = bench.hear(3).await;
        stop.send(()).unwrap();
        said
    };
    let (report, said) = tokio::join!(run, heard);
    assert_eq!(report.unwrap(), Report { completed: 2, expired: 1, ..Report::default() });
    assert_eq!(handled.load(Ordering::SeqCst), 2);
    assert!(said.contains(&Said::Finished(0, None)), "it is passed, and nothing is said of it");
}

#[derive(Default)]
struct Hooked {
    seen: Arc<Mutex<Vec<i64>>>,
}

impl Handler for Hooked {
    async fn handle(&self, _: Arc<Arrival>) -> Result<Done, HandlerError> {
        Ok(Done::silent())
    }

    fn foreign(&self, record: InRecord, _: NotADelivery) -> impl Future<Output = ()> + Send {
        self.seen.lock().unwrap().push(record.offset);
        async move { assert!(record.offset > 0, "the hook panics") }
    }
}

#[tokio::test]
async fn foreign_records_go_to_the_hook_and_never_stop_the_rest() {
    let topic = Topic::parse("orders").unwrap();
    let foreign = OutRecord { topic, partition: None, key: None, value: None, headers: Vec::new() };
    let handler = Hooked::default();
    let seen = Arc::clone(&handler.seen);
    let (report, _) = run_all(handler, OPTIONS, |bench| {
        bench.send_record(foreign.clone());
        bench.send(&delivery(None, "{}"));
        bench.send_record(foreign);
        3
    })
    .await;
    assert_eq!(report, Report { completed: 1, foreign: 2, ..Report::default() });
    seen.lock().unwrap().sort_unstable();
    assert_eq!(*seen.lock().unwrap(), [0, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys_keep_their_order_and_the_bound_is_kept() {
    #[derive(Default)]
    struct Seen {
        last: HashMap<String, usize>,
        running: usize,
        most: usize,
    }
    let seen = Arc::new(Mutex::new(Seen::default()));
    let of_handler = Arc::clone(&seen);
    let handler = move |arrival: Arc<Arrival>| {
        let seen = Arc::clone(&of_handler);
        async move {
            let (key, number) = payload(&arrival).split_once('/').unwrap();
            let number: usize = number.parse().unwrap();
            {
                let mut seen = seen.lock().unwrap();
                seen.running += 1;
                seen.most = seen.most.max(seen.running);
                let before = seen.last.insert(key.to_owned(), number);
                assert_eq!(before.map_or(0, |before| before + 1), number, "key {key}");
            }
            for _ in 0..number % 7 {
                tokio::task::yield_now().await;
            }
            let mut seen = seen.lock().unwrap();
            seen.running -= 1;
            // Nothing of the key may have begun meanwhile.
            assert_eq!(seen.last[key], number);
            Ok(Done::silent())
        }
    };
    let (report, _) = run_all(handler, OPTIONS, |bench| {
        for number in 0..80 {
            for key in ["a", "b", "c", "d", "e", "f", "g"] {
                bench.send(&delivery(Some(key), &format!("{key}/{number}")));
            }
        }
        560
    })
    .await;
    assert_eq!(report, Report { completed: 560, ..Report::default() });
    assert_eq!(seen.lock().unwrap().most, 4);
}

#[tokio::test]
async fn a_stop_finishes_what_runs_and_gives_back_the_rest() {
    let (began, release) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let (of_handler, gate) = (Arc::clone(&began), Arc::clone(&release));
    let handler = move |_| {
        let (began, gate) = (Arc::clone(&of_handler), Arc::clone(&gate));
        async move {
            began.notify_one();
            gate.acquire().await.unwrap().forget();
            Ok(Done::silent())
        }
    };
    let (consumer, mut bench) = consumer().await;
    for _ in 0..3 {
        bench.send(&delivery(Some("k"), "{}"));
    }
    let clock = clock();
    let stop = async {
        began.notified().await;
        release.add_permits(1);
    };
    let run = consumer.run_by(&clock, handler, OPTIONS, stop);
    let report = run.await.unwrap();
    assert_eq!((report.completed, report.failed), (1, 0));
    assert!(matches!(bench.said()[..], [Said::Finished(0, Some(_))]), "the rest comes again");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let handler = |_| async { std::future::pending::<Result<Done, HandlerError>>().await };
    let (consumer, mut bench) = consumer().await;
    tokio::time::pause();
    bench.send(&delivery(None, "{}"));
    let clock = clock();
    let run = consumer.run_by(&clock, handler, OPTIONS, tokio::time::sleep(Duration::from_secs(1)));
    assert_eq!(run.await.unwrap(), Report { given_back: 1, ..Report::default() });
    assert_eq!(bench.said(), []);
}

#[tokio::test]
async fn the_end_of_the_consumer_is_the_end_of_the_run() {
    let handler = |_| async { Ok(Done::silent()) };
    let (consumer, mut bench) = consumer().await;
    bench.send(&delivery(None, "{}"));
    bench.end("fenced");
    let clock = clock();
    let run = consumer.run_by(&clock, handler, OPTIONS, std::future::pending());
    assert!(matches!(run.await, Err(ConsumeError::Ended(why)) if why == "fenced"));
}
