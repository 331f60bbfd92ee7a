//! The log's topics on a real broker: planned, made, checked, and the place of our groups in them; and what the directory says.

use std::collections::HashSet;
use std::future::Future;
use std::time::{Duration, Instant};

use futures_executor::block_on;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use wal_model::Topic;
use wal_runtime::config::{self, Settings, TopicSettings};
use wal_runtime::directory::{Directory, Presence};
use wal_runtime::topics::{self, Deviation, Leniency, Step};
use wal_runtime::{kafka, offsets};
use wal_tests::clients::{
    commit, committed, create_topic, delete_group_offsets, delete_records, delete_topic, members,
};
use wal_tests::{Kafka, Message, Producer, prefix, unique, wait_until};

const SOON: Duration = Duration::from_secs(20);

/// A log of a scenario's own.
struct Log {
    bootstrap: String,
    kafka: config::Kafka,
    topics: TopicSettings,
}

impl Log {
    fn new(bootstrap: &str, prefix: &str, partitions: i32) -> Log {
        let given = [
            ("kafka.bootstrap_servers", bootstrap.to_owned()),
            ("kafka.topic_prefix", prefix.to_owned()),
            ("topics.partitions", partitions.to_string()),
            ("topics.replication", "1".to_owned()),
            ("topics.min_insync_replicas", "1".to_owned()),
        ];
        let settings = Settings::load_from(None, std::iter::empty(), &given).unwrap();
        Log {
            bootstrap: bootstrap.to_owned(),
            kafka: config::Kafka::read(&settings).unwrap(),
            topics: TopicSettings::read(&settings).unwrap(),
        }
    }

    /// As a new process would see it, the same log with other settings.
    fn with_partitions(&self, partitions: i32) -> Log {
        Log::new(&self.bootstrap, self.kafka.topics.prefix(), partitions)
    }

    fn group(&self) -> String {
        kafka::group(&self.kafka, "writer")
    }

    fn ingress(&self) -> Topic {
        self.kafka.topics.ingress(wal_model::Priority::Normal)
    }

    fn apply(&self) {
        run(topics::apply(&self.kafka, &self.topics)).unwrap();
    }

    fn steps(&self) -> Vec<Step> {
        let plan = run(topics::plan(&self.kafka, &self.topics)).unwrap();
        plan.into_iter().map(|planned| planned.step).collect()
    }

    fn deviations(&self) -> Vec<Deviation> {
        let plan = run(topics::plan(&self.kafka, &self.topics)).unwrap();
        topics::deviations(&plan, Leniency::None)
    }

    fn offsets(&self) -> Vec<Option<i64>> {
        let all = committed(&self.bootstrap, &self.group(), self.ingress().as_str());
        all.into_iter().map(|one| one.offset).collect()
    }

    /// What a service's start would say.
    fn starts(&self) -> Result<Vec<i64>, String> {
        let facts = run(offsets::gather(&self.kafka, &self.group(), vec![self.ingress()])).unwrap();
        let starts = offsets::decide(&self.group(), &facts).map_err(|lost| lost.to_string())?;
        Ok(starts.into_iter().map(|start| start.offset).collect())
    }

    /// A member of our group, for as long as it lives.
    fn member(&self) -> BaseConsumer {
        let member: BaseConsumer = kafka::consumer(&self.kafka, &self.group()).create().unwrap();
        member.subscribe(&[self.ingress().as_str()]).unwrap();
        wait_until("the member has its partitions", SOON, || {
            let _ = member.poll(Duration::from_millis(50));
            member.assignment().unwrap().count() > 0
        });
        member
    }
}

/// As a service runs it: the directory asks in tasks of their own.
fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

fn admin(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap()
}

/// Gives a topic these settings and no others.
fn set(bootstrap: &str, topic: &Topic, settings: &[(&str, &str)]) {
    let entries = settings.iter().copied().collect();
    let alter = AlterConfig { specifier: ResourceSpecifier::Topic(topic.as_str()), entries };
    let altered = block_on(admin(bootstrap).alter_configs([&alter], &AdminOptions::new())).unwrap();
    assert!(altered.iter().all(Result::is_ok), "{altered:?}");
}

fn setting(bootstrap: &str, topic: &Topic, name: &str) -> Option<String> {
    let resource = ResourceSpecifier::Topic(topic.as_str());
    let described = block_on(admin(bootstrap).describe_configs([&resource], &AdminOptions::new())).unwrap();
    described.into_iter().flatten().find_map(|resource| resource.get(name)?.value.clone())
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

#[test]
fn topics_are_planned_then_made_and_then_fit() {
    let log = Log::new(&Kafka::shared().bootstrap(), &prefix(), 3);

    assert!(log.steps().iter().all(|step| *step == Step::Create), "{:?}", log.steps());
    assert_eq!(log.deviations().len(), 34);
    log.apply();

    assert!(log.steps().iter().all(|step| *step == Step::Fits), "{:?}", log.steps());
    assert_eq!(log.deviations(), []);
    assert_eq!(log.offsets(), [Some(0), Some(0), Some(0)]);
    assert_eq!(log.starts(), Ok(vec![0, 0, 0]));
    let receipts = committed(&log.bootstrap, &log.group(), log.kafka.topics.receipts().as_str());
    assert!(receipts.iter().all(|one| one.offset.is_none()));
    log.apply();
}

#[test]
fn a_deviation_is_named_and_mended_without_touching_anything_else() {
    let log = Log::new(&Kafka::shared().bootstrap(), &prefix(), 2);
    log.apply();
    let ingress = log.ingress();
    let spoiled = [
        ("message.timestamp.type", "CreateTime"),
        ("max.message.bytes", "1048588"),
        ("retention.ms", "604800000"),
        ("segment.ms", "12345678"),
    ];
    set(&log.bootstrap, &ingress, &spoiled);

    let deviations = log.deviations();
    let [Deviation::Refuse(sentence)] = &deviations[..] else { panic!("{deviations:?}") };
    assert!(sentence.contains(ingress.as_str()), "{sentence}");
    assert!(sentence.contains("message.timestamp.type is CreateTime, wanted is LogAppendTime"), "{sentence}");
    log.apply();

    assert_eq!(log.deviations(), []);
    assert_eq!(setting(&log.bootstrap, &ingress, "message.timestamp.type").as_deref(), Some("LogAppendTime"));
    assert_eq!(setting(&log.bootstrap, &ingress, "segment.ms").as_deref(), Some("12345678"));
}

#[test]
fn added_partitions_are_read_from_their_start() {
    let log = Log::new(&Kafka::shared().bootstrap(), &prefix(), 2);
    log.apply();

    let grown = log.with_partitions(4);
    assert!(matches!(&grown.deviations()[..], [Deviation::Warn(_), ..]));
    grown.apply();
    assert_eq!(grown.deviations(), []);
    assert_eq!(grown.offsets(), [Some(0); 4]);

    // While the group is at work, its place is its own; what is new begins at 0 by the rule.
    let member = grown.member();
    let grown = grown.with_partitions(5);
    grown.apply();
    assert_eq!(grown.offsets(), [Some(0), Some(0), Some(0), Some(0), None]);
    assert_eq!(grown.starts(), Ok(vec![0; 5]));
    drop(member);

    let shrunk = grown.with_partitions(2);
    let deviations = shrunk.deviations();
    assert!(
        matches!(&deviations[0], Deviation::Warn(why) if why.contains("5 partitions instead of 2")),
        "{deviations:?}"
    );
}

#[test]
fn a_group_that_lost_its_place_is_refused_until_it_is_adopted() {
    let log = Log::new(&Kafka::shared().bootstrap(), &prefix(), 2);
    log.apply();
    Producer::new(&log.bootstrap).send_all([&Message::to(log.ingress().as_str()).partition(1).value("request")]);

    delete_group_offsets(&log.bootstrap, &log.group());
    let lost = log.starts().unwrap_err();
    assert!(lost.contains(&format!("{}[1]", log.ingress())) && lost.contains("--adopt"), "{lost}");
    // Making nothing gives no place either.
    log.apply();
    assert!(log.starts().is_err());

    let adopted = run(topics::adopt(&log.kafka, &log.topics)).unwrap();
    assert_eq!(adopted.len(), 6);
    assert_eq!(log.starts(), Ok(vec![0, 0]));
    assert_eq!(run(topics::adopt(&log.kafka, &log.topics)).unwrap(), []);
}

#[test]
fn records_deleted_unread_are_refused_until_that_is_adopted() {
    let log = Log::new(&Kafka::shared().bootstrap(), &prefix(), 1);
    log.apply();
    let message = Message::to(log.ingress().as_str()).value("request");
    Producer::new(&log.bootstrap).send_all([&message, &message, &message]);
    let mut upto = rdkafka::TopicPartitionList::new();
    upto.add_partition_offset(log.ingress().as_str(), 0, rdkafka::Offset::Offset(2)).unwrap();
    block_on(admin(&log.bootstrap).delete_records(&upto, &AdminOptions::new())).unwrap();

    let lost = log.starts().unwrap_err();
    assert!(lost.contains("the committed offset is 0, but the log starts at 2"), "{lost}");
    run(topics::adopt(&log.kafka, &log.topics)).unwrap();
    assert_eq!(log.starts(), Ok(vec![2]));
}

#[test]
fn a_group_at_work_is_not_adopted() {
    let log = Log::new(&Kafka::shared().bootstrap(), &prefix(), 1);
    log.apply();
    let member = log.member();
    let grown = log.with_partitions(2);
    grown.apply();

    let error = run(topics::adopt(&grown.kafka, &grown.topics)).unwrap_err().to_string();
    assert!(error.contains("stop the services first"), "{error}");
    drop(member);
    // A broker that is busy may hear of it late that the member is gone.
    wait_until("the group is empty", Duration::from_secs(60), || members(&log.bootstrap, &log.group()) == 0);
    assert_eq!(run(topics::adopt(&grown.kafka, &grown.topics)).unwrap().len(), 3);
}

/// What a group at work is done with may be deleted behind it, and it moves on, while a start asks where it stands.
#[test]
fn a_group_that_moves_on_while_it_is_asked_about_has_not_lost_its_place() {
    const ROUNDS: i64 = 40;
    /// The last is asked about last.
    const PARTITIONS: i32 = 24;
    let log = Log::new(&Kafka::shared().bootstrap(), &prefix(), PARTITIONS);
    log.apply();
    let (group, ingress, last) = (log.group(), log.ingress().to_string(), PARTITIONS - 1);
    let producer = Producer::new(&log.bootstrap);
    let move_on = |to: i64| {
        producer.send_all(&[Message::to(&ingress).partition(last).value("done")]);
        commit(&log.bootstrap, &group, &ingress, &[(last, to)], "");
        delete_records(&log.bootstrap, &ingress, last, to);
    };
    let asked = std::thread::scope(|scope| {
        let working = scope.spawn(|| (1..=ROUNDS).for_each(move_on));
        let mut asked = Vec::new();
        while !working.is_finished() {
            asked.push(log.starts().unwrap());
        }
        asked
    });
    let seen: HashSet<Option<&i64>> = asked.iter().map(|starts| starts.last()).collect();
    assert!(seen.len() > 5, "it was asked about while it moved on: {seen:?}");
    assert_eq!(log.starts().unwrap().last(), Some(&ROUNDS));
}

#[test]
fn a_topic_that_is_not_there_has_no_place_to_start_from() {
    let log = Log::new(&Kafka::shared().bootstrap(), &prefix(), 1);
    let error = run(offsets::gather(&log.kafka, &log.group(), vec![log.ingress()])).unwrap_err();
    assert!(error.contains("Unknown"), "{error}");
}

#[test]
fn absence_is_measured_by_answers_and_silence_is_none() {
    // Even where asking a broker creates topics, the directory's asking does not.
    // While it is paused below, a node's own controller must not count it out: it would tell of no brokers, and a client that hears that
    // has nobody left to ask.
    let broker = Kafka::start_with(&[("auto.create.topics.enable", "true"), ("broker.session.timeout.ms", "60000")]);
    let log = Log::new(&broker.bootstrap(), &prefix(), 1);
    let target = topic(&unique("target"));
    run(async {
        let directory = Directory::new(&log.kafka).unwrap();
        let look = async || directory.look_up(std::slice::from_ref(&target)).await.remove(&target).unwrap();
        let absent_for = async || match look().await {
            Presence::Unknown { for_at_least } => for_at_least,
            other => panic!("{other:?}"),
        };

        assert_eq!(absent_for().await, Duration::ZERO);
        tokio::time::sleep(Duration::from_millis(600)).await;
        let before = absent_for().await;
        assert!(before >= Duration::from_millis(600) && before < Duration::from_secs(5), "{before:?}");

        broker.pause();
        tokio::time::sleep(Duration::from_millis(600)).await;
        let asked = Instant::now();
        assert!(matches!(look().await, Presence::Unanswered(_)));
        assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
        broker.resume();
        let resumed = Instant::now();
        let after = loop {
            match look().await {
                Presence::Unknown { for_at_least } => break for_at_least,
                other => assert!(resumed.elapsed() < 3 * SOON, "{other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        assert_eq!(after, before);

        directory.create(&target, 2, 1).await.unwrap();
        directory.create(&target, 2, 1).await.unwrap();
        assert!(
            matches!(look().await, Presence::Known(shape) if shape.partitions == 2 && shape.max_message_bytes == 1_048_588)
        );
        set(&log.bootstrap, &target, &[("max.message.bytes", "300000")]);
        assert!(
            matches!(directory.refresh(&target).await, Presence::Known(shape) if shape.max_message_bytes == 300_000)
        );

        delete_topic(&log.bootstrap, target.as_str());
        assert!(matches!(look().await, Presence::Known(_)));
        directory.forget();
        assert_eq!(absent_for().await, Duration::ZERO);
        assert_eq!(&*directory.cluster_id(SOON).await.unwrap(), "MkU3OEVBNTcwNTJENDM2Qg");
    });
}

#[test]
fn many_topics_are_looked_up_at_once() {
    let bootstrap = Kafka::shared().bootstrap();
    let log = Log::new(&bootstrap, &prefix(), 1);
    let name = unique("many");
    let names: Vec<String> = (0..200).map(|number| format!("{name}-{number}")).collect();
    let new: Vec<NewTopic<'_>> = names
        .iter()
        .map(|name| NewTopic::new(name, 1, TopicReplication::Fixed(1)).set("max.message.bytes", "777777"))
        .collect();
    block_on(admin(&bootstrap).create_topics(&new, &AdminOptions::new().operation_timeout(Some(SOON)))).unwrap();
    create_topic(&bootstrap, &unique("last"), 1, &[]);
    let there: Vec<Topic> = names.iter().map(|name| topic(name)).collect();
    let absent: Vec<Topic> = (0..50).map(|number| topic(&format!("{name}-absent-{number}"))).collect();
    let all: Vec<Topic> = there.iter().chain(&absent).chain(&there).cloned().collect();

    run(async {
        let directory = Directory::new(&log.kafka).unwrap();
        directory.cluster_id(SOON).await.unwrap();
        let started = Instant::now();
        let (first, second) = tokio::join!(directory.look_up(&all), directory.look_up(&all));
        let took = started.elapsed();
        assert_eq!(first, second);
        assert_eq!(first.len(), 250);
        let is_told = |topic| matches!(&first[topic], Presence::Known(shape) if shape.max_message_bytes == 777_777);
        assert!(there.iter().all(is_told));
        assert!(absent.iter().all(|topic| matches!(first[topic], Presence::Unknown { .. })));
        assert!(took < Duration::from_secs(5), "{took:?}");

        let started = Instant::now();
        directory.look_up(&there).await;
        assert!(started.elapsed() < Duration::from_millis(100), "{:?}", started.elapsed());
    });
}

#[test]
fn a_broker_that_is_not_there_is_silence_soon() {
    let log = Log::new(&format!("127.0.0.1:{}", wal_tests::free_port()), &prefix(), 1);
    run(async {
        let directory = Directory::new(&log.kafka).unwrap();
        let topics: Vec<Topic> = (0..20).map(|number| topic(&format!("t{number}"))).collect();
        let started = Instant::now();
        let answers = directory.look_up(&topics).await;
        assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
        assert!(answers.values().all(|presence| matches!(presence, Presence::Unanswered(_))));
        directory.cluster_id(Duration::from_millis(200)).await.unwrap_err();
    });
    assert!(run(topics::plan(&log.kafka, &log.topics)).is_err());
}
