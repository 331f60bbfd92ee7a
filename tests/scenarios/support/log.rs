//! A log of a scenario's own on some broker: its topics, its settings, its store, and writers for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use wal_model::answer::{Completed, Failed, Wish};
use wal_model::status::{Failure, Status};
use wal_model::{Entry, Timestamp, Topic, partition};
use wal_runtime::config::{self, Settings, TopicSettings};
use wal_runtime::topics;
use wal_store::{EntryStore, Query, Range};
use wal_tests::clients::{self, create_topic};
use wal_tests::process::Stream;
use wal_tests::{Isolation, Message, Process, Producer, Record, prefix, unique, wait_until};

use super::SOON;
use super::database::Database;
use super::records::{as_read, message};
use super::turns::{self, Turn};

/// Partitions of every topic of the log, as long as a scenario does not say otherwise.
pub const PARTITIONS: usize = 4;
/// The secret of the log's only key, with which scenarios check seals ...
pub const SECRET: &[u8; 32] = b"scenario-scenario-scenario-12345";
/// ... and as the configuration takes it, in base64.
const SECRET_BASE64: &str = "c2NlbmFyaW8tc2NlbmFyaW8tc2NlbmFyaW8tMTIzNDU=";
/// Which store logs have whose scenario does not say: `arangodb` is the fake, and much goes wrong with it; otherwise a folder.
const STORE: &str = "WAL_TEST_STORE";
/// A page of the store.
const PAGE: usize = 1000;

/// A log. Its topics exist when it is made; its writers are the scenario's to start.
pub struct Log {
    /// Where clients of the scenario connect.
    pub bootstrap: String,
    /// What the names of its topics begin with.
    pub prefix: String,
    settings: Vec<(String, String)>,
    store: TempDir,
    /// What stands in for the folder.
    database: Option<Database>,
    _turn: Turn,
}

impl Log {
    /// A log whose writers connect where the scenario does.
    #[track_caller]
    pub fn on(bootstrap: &str, settings: &[(&str, &str)]) -> Log {
        Log::behind(bootstrap, bootstrap, settings)
    }

    /// A log whose writers connect elsewhere, such as behind a proxy.
    #[track_caller]
    pub fn behind(bootstrap: &str, for_writers: &str, settings: &[(&str, &str)]) -> Log {
        let turn = turns::take();
        let prefix = prefix();
        let store = tempfile::tempdir().expect("a folder can be made");
        let mut all: Vec<(String, String)> = [
            ("kafka.bootstrap_servers", for_writers),
            ("kafka.topic_prefix", &prefix),
            ("kafka.instance", "0"),
            // A killed member's partitions are given away after this.
            ("kafka.session_timeout", "2s"),
            ("kafka.transaction_timeout", "4s"),
            ("store.folder", &store.path().to_string_lossy()),
            ("seal.signing_key", "k1"),
            ("seal.keys.k1", SECRET_BASE64),
            ("health.listen", ""),
            ("topics.replication", "1"),
            ("topics.min_insync_replicas", "1"),
            ("topics.partitions", &PARTITIONS.to_string()),
            // There are two dozen of them, and a log for every scenario.
            ("topics.delay_partitions", "1"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        let database = is_database_wanted(settings).then(|| Database::under(settings));
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        all.extend(database.iter().flat_map(Database::settings).map(owned));
        all.extend(settings.iter().copied().map(owned));
        let log = Log { bootstrap: bootstrap.to_owned(), prefix, settings: all, store, database, _turn: turn };
        log.make_topics();
        log
    }

    /// The name of one of the log's own topics.
    pub fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Where requests go that are refused.
    pub fn dead_requests(&self) -> String {
        format!("dlq.{}ingress", self.prefix)
    }

    /// The writers' group.
    pub fn group(&self) -> String {
        self.topic("writer")
    }

    /// Makes a topic for deliveries.
    pub fn target(&self, name: &str) -> String {
        let topic = unique(name);
        create_topic(&self.bootstrap, &topic, PARTITIONS, &[]);
        topic
    }

    /// A consumer's word that the attempt of a delivery is done.
    pub fn completed(&self, delivery: &Record) -> Message {
        message(&Completed::encode(&as_read(delivery), None, self.own_topic("acks")))
    }

    /// A consumer's word that the attempt of a delivery has failed, and what it wishes.
    pub fn failed(&self, delivery: &Record, wish: &Wish) -> Message {
        let failure = Failure { code: "BUSY".to_owned(), message: "later".to_owned() };
        message(&Failed::encode(&as_read(delivery), &failure, wish, self.own_topic("failures")))
    }

    fn own_topic(&self, name: &str) -> Topic {
        Topic::parse(&self.topic(name)).expect("a topic of the log")
    }

    /// Starts a writer, with settings (dotted keys) that go before the log's own; does not wait for it.
    #[track_caller]
    pub fn start(&self, settings: &[(&str, &str)]) -> Process {
        self.start_in(self.store.path(), settings, &[])
    }

    /// As [`Log::start`], and waits until the group has given it partitions.
    #[track_caller]
    pub fn start_ready(&self, settings: &[(&str, &str)]) -> Process {
        let writer = self.start(settings);
        wait_for_partitions(&writer);
        writer
    }

    /// Starts a writer that dies at a point: `after-persist`, or `after-persist:3` for the third time.
    #[track_caller]
    pub fn start_to_die(&self, point: &str) -> Process {
        self.start_in(self.store.path(), &[], &[("WAL_FAILPOINT", point)])
    }

    /// Starts a writer on another store.
    #[track_caller]
    pub fn start_in(&self, store: &Path, settings: &[(&str, &str)], env: &[(&str, &str)]) -> Process {
        let folder = store.to_string_lossy();
        let settings: Vec<(&str, &str)> = settings.iter().copied().chain([("store.folder", &*folder)]).collect();
        self.start_program("wal-writer", &settings, env)
    }

    /// Starts any of the log's services.
    #[track_caller]
    pub fn start_program(&self, name: &str, settings: &[(&str, &str)], env: &[(&str, &str)]) -> Process {
        self.database.iter().for_each(Database::stumble);
        let mut all = self.env(settings.iter().copied());
        all.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let all: Vec<(&str, &str)> = all.iter().map(|(name, value)| (&**name, &**value)).collect();
        Process::start(name, &[], &all)
    }

    /// Starts any of the log's services that also reads a file, whose settings the log's own go before.
    #[track_caller]
    pub fn start_program_with_file(&self, name: &str, file: &Path) -> Process {
        let all = self.env(std::iter::empty());
        let all: Vec<(&str, &str)> = all.iter().map(|(name, value)| (&**name, &**value)).collect();
        Process::start(name, &["--config", &file.to_string_lossy()], &all)
    }

    /// Starts a program that starts one of the log's services, in a place of its own; the service's path comes last among the arguments.
    #[track_caller]
    pub fn start_within(&self, program: &str, args: &[&str], name: &str, settings: &[(&str, &str)]) -> Process {
        let all = self.env(settings.iter().copied());
        let all: Vec<(&str, &str)> = all.iter().map(|(name, value)| (&**name, &**value)).collect();
        let binary = wal_tests::workspace::binary(name);
        let binary = binary.to_string_lossy();
        let args: Vec<&str> = args.iter().copied().chain([&*binary]).collect();
        Process::run(name, Path::new(program), &args, &all)
    }

    /// Starts a writer that also reads a file, whose settings the log's own go before.
    #[track_caller]
    pub fn start_with_file(&self, file: &Path) -> Process {
        self.database.iter().for_each(Database::stumble);
        let folder = self.store.path().to_string_lossy();
        let env = self.env([("store.folder", &*folder)].into_iter());
        let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (&**name, &**value)).collect();
        Process::start("wal-writer", &["--config", &file.to_string_lossy()], &env)
    }

    /// Starts a retry scheduler, with settings that go before the log's own; does not wait for it.
    #[track_caller]
    pub fn start_scheduler(&self, settings: &[(&str, &str)], env: &[(&str, &str)]) -> Process {
        self.start_program("wal-retry-scheduler", settings, env)
    }

    /// Settings as a writer within this process takes them, with others that go before the log's own.
    #[track_caller]
    pub fn settings(&self, given: &[(&str, &str)]) -> Settings {
        let env = self.env(given.iter().copied());
        Settings::load_from(None, env.into_iter(), &[]).expect("the scenario's settings are valid")
    }

    /// How many members the writers' group has.
    #[track_caller]
    pub fn members(&self) -> usize {
        clients::members(&self.bootstrap, &self.group())
    }

    /// The folder of the store.
    pub fn folder(&self) -> &Path {
        self.store.path()
    }

    /// The store that the log's settings name, for the runtime that it is opened in. A folder belongs to one process, so then no service
    /// may be running.
    pub async fn store(&self) -> Arc<dyn EntryStore> {
        self.database.iter().for_each(|database| database.server.heal());
        let opened = wal_open::open(&self.settings(&[]), SOON, |_| {}).await;
        opened.unwrap_or_else(|error| panic!("the store cannot be opened: {error}"))
    }

    /// Everything that is stored. In a folder, as with [`Log::store`], no service may be running.
    #[track_caller]
    pub fn documents(&self) -> Vec<Entry> {
        let statuses = [Status::Pending, Status::Retrying, Status::Failed, Status::Completed];
        let range = Range { from: Timestamp::EPOCH, to: Timestamp::MAX };
        block_on(async {
            let store = self.store().await;
            let mut documents = Vec::new();
            for status in statuses {
                let mut after = None;
                loop {
                    let page = store.scan(&Query::Status { status, range }, after, PAGE).await;
                    let page = page.expect("the store answers");
                    documents.extend(page.entries);
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
            }
            documents
        })
    }

    /// What is visible on a topic to those who read committed records.
    #[track_caller]
    pub fn read(&self, topic: &str) -> Vec<Record> {
        self.read_as(topic, Isolation::ReadCommitted)
    }

    /// What is on a topic.
    #[track_caller]
    pub fn read_as(&self, topic: &str, isolation: Isolation) -> Vec<Record> {
        clients::read_all(&self.bootstrap, topic, isolation)
    }

    /// Waits until there are that many receipts, and gives them in the order they came. The writer must not end meanwhile.
    #[track_caller]
    pub fn receipts(&self, writer: &Process, count: usize, timeout: Duration) -> Vec<Record> {
        clients::read_until(&self.bootstrap, &self.topic("receipts"), Isolation::ReadCommitted, timeout, |seen| {
            let is_enough = seen.len() >= count;
            assert!(
                is_enough || writer.is_running(),
                "{} of {count} receipts, and it has ended: {writer:?}",
                seen.len()
            );
            is_enough
        })
    }

    /// Waits until a topic shows that many records.
    #[track_caller]
    pub fn wait_for(&self, topic: &str, count: usize, timeout: Duration) -> Vec<Record> {
        clients::read_until(&self.bootstrap, topic, Isolation::ReadCommitted, timeout, |seen| seen.len() >= count)
    }

    /// Waits until the writers' group has committed the end of every ingress topic.
    #[track_caller]
    pub fn wait_until_done(&self, timeout: Duration) {
        let group = self.group();
        for lane in ["ingress.high", "ingress", "ingress.low"] {
            wait_until_read(&self.bootstrap, &group, &self.topic(lane), timeout);
        }
    }

    /// Sends and waits for acknowledgements.
    #[track_caller]
    pub fn send<'a>(&self, messages: impl IntoIterator<Item = &'a Message>) -> Vec<(i32, i64)> {
        Producer::new(&self.bootstrap).send_all(messages)
    }

    /// Makes what is missing of the log's topics.
    #[track_caller]
    pub fn make_topics(&self) {
        let (kafka, wanted) = self.wanted();
        let applied = block_on(topics::apply(&kafka, &wanted));
        applied.unwrap_or_else(|error| panic!("the topics of {} could not be made: {error}", self.prefix));
    }

    /// As `wal topics apply --adopt`: groups that have lost their place begin at the start of what is there.
    #[track_caller]
    pub fn adopt(&self) {
        let (kafka, wanted) = self.wanted();
        block_on(topics::adopt(&kafka, &wanted)).expect("the groups can be given their place");
    }

    /// What the log's topics must be. By the scenario's own way to the brokers: the writers' may be hurt.
    fn wanted(&self) -> (config::Kafka, TopicSettings) {
        let settings = self.settings(&[("kafka.bootstrap_servers", &self.bootstrap)]);
        let kafka = config::Kafka::read(&settings).expect("the scenario's settings are valid");
        (kafka, TopicSettings::read(&settings).expect("the scenario's settings are valid"))
    }

    /// The settings as environment variables; a later one replaces an earlier one of its name.
    fn env<'a>(&'a self, given: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
        let own = self.settings.iter().map(|(key, value)| (&**key, &**value));
        own.chain(given).map(|(key, value)| (variable(key), value.to_owned())).collect()
    }
}

fn is_database_wanted(settings: &[(&str, &str)]) -> bool {
    match std::env::var(STORE).ok().as_deref() {
        None | Some("folder") => false,
        Some("arangodb") => settings.iter().all(|(key, _)| *key != "store.backend"),
        Some(other) => panic!("{STORE} is {other:?}, which is neither folder nor arangodb"),
    }
}

/// `writer.batch_wait` as an environment variable.
pub fn variable(key: &str) -> String {
    format!("WAL__{}", key.to_uppercase().replace('.', "__"))
}

/// Waits until a batch loop's group has given it partitions.
#[track_caller]
pub fn wait_for_partitions(process: &Process) {
    process.wait_for_line_where("that it has partitions", SOON, |line| {
        line.contains("partitions moved") && !line.contains("now=0")
    });
}

/// Ends a service in order, or this panics.
#[track_caller]
pub fn stop(process: &Process) {
    process.terminate();
    assert!(process.wait(SOON).success(), "{process:?}");
}

/// The partition of the log's topics that what is said of an entry goes to.
pub fn home(log_id: &str) -> i32 {
    let partitions = i32::try_from(PARTITIONS).expect("a small number");
    partition::of_key(log_id.as_bytes(), partitions).expect("there are partitions")
}

/// Waits until a group has committed the end of a topic that takes no transactions.
#[track_caller]
pub fn wait_until_read(bootstrap: &str, group: &str, topic: &str, timeout: Duration) {
    wait_until(&format!("group {group} has read {topic}"), timeout, || {
        let is_read = clients::lag(bootstrap, group, topic) == 0;
        if !is_read {
            // Asking costs two clients each time; what is waited for takes seconds.
            std::thread::sleep(Duration::from_millis(100));
        }
        is_read
    });
}

/// The lines on standard error that contain a text.
pub fn lines_with(process: &Process, text: &str) -> Vec<String> {
    let lines = process.lines().into_iter().filter(|line| line.stream == Stream::Err && line.text.contains(text));
    lines.map(|line| line.text).collect()
}

/// Runs a future in this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(future)
}
