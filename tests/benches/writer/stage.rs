//! A log of a workload's own: its topics, its folder, and the requests that are put in.

use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use wal_model::Priority;
use wal_runtime::config::{Kafka as KafkaSettings, Settings, TopicSettings};
use wal_runtime::topics;
use wal_tests::{Kafka, Message, Producer, clients, prefix, unique};

use crate::lateness::{Due, now};

/// Bytes of an operation, where nothing else is said.
pub const PAYLOAD: usize = 1024;
/// Of each topic, where nothing else is said.
pub const PARTITIONS: usize = 4;
/// What a payload holds beside its filler.
const FRAME: usize = 60;

/// A log of a workload's own.
pub struct Stage {
    pub bootstrap: String,
    pub target: String,
    pub kafka: KafkaSettings,
    given: Vec<(&'static str, String)>,
    /// Bytes of an operation.
    pub payload: usize,
    folder: TempDir,
}

impl Stage {
    /// Makes the topics.
    pub fn set(broker: &Kafka, partitions: usize) -> Result<Stage> {
        let bootstrap = broker.bootstrap();
        let folder = tempfile::tempdir()?;
        let given = vec![
            ("kafka.bootstrap_servers", bootstrap.clone()),
            ("kafka.topic_prefix", prefix()),
            ("kafka.instance", "0".to_owned()),
            ("topics.partitions", partitions.to_string()),
            ("topics.delay_partitions", "1".to_owned()),
            ("topics.replication", "1".to_owned()),
            ("topics.min_insync_replicas", "1".to_owned()),
            ("store.folder", folder.path().display().to_string()),
            ("seal.signing_key", "k1".to_owned()),
            ("seal.keys.k1", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=".to_owned()),
        ];
        let settings = Settings::load_from(None, std::iter::empty(), &given)?;
        let kafka = KafkaSettings::read(&settings)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(topics::apply(&kafka, &TopicSettings::read(&settings)?))?;
        let target = unique("target");
        clients::create_topic(&bootstrap, &target, partitions, &[]);
        Ok(Stage { bootstrap, target, kafka, given, payload: PAYLOAD, folder })
    }

    /// Where the store is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The settings as variables, for a process of its own; `more` goes before the stage's own.
    pub fn variables(&self, more: &[(&str, String)]) -> Vec<(String, String)> {
        let name = |key: &str| format!("WAL__{}", key.to_uppercase().replace('.', "__"));
        let own = self.given.iter().map(|(key, value)| (*key, value.clone()));
        own.chain(more.iter().cloned()).map(|(key, value)| (name(key), value)).collect()
    }

    /// A backlog of requests.
    pub fn load(&self, entries: usize) {
        Producer::new(&self.bootstrap).send_all(&self.messages(entries).collect::<Vec<_>>());
    }

    /// Requests at an even pace; tells by request id when each was to be sent, whether or not that was possible.
    pub fn load_evenly(&self, entries: usize, rate: f64) -> Due {
        // As clients do that nobody has set up otherwise.
        let producer = Producer::with(&self.bootstrap, &[("linger.ms", "5")]);
        let messages: Vec<Message> = self.messages(entries).collect();
        let pace = Pace::begin(rate);
        let mut sent = Vec::with_capacity(entries);
        for (number, message) in messages.iter().enumerate() {
            pace.wait_for(number);
            sent.push(producer.send(message));
        }
        for sent in sent {
            sent.acknowledged();
        }
        pace.due(0..entries)
    }

    /// Requests for the normal lane, keys and all.
    pub fn messages(&self, entries: usize) -> impl Iterator<Item = Message> + use<> {
        let topic = self.kafka.topics.ingress(Priority::Normal);
        let numbered = requests(&self.target, self.payload, entries).enumerate();
        numbered.map(move |(number, value)| Message::to(topic.as_str()).key(format!("k{}", number % 100)).value(value))
    }
}

/// Requests, numbered: `{"request_id":"r-0", ..`. What they hold is the same in every run, and compresses badly: so nothing comes out
/// better than it is for others.
pub fn requests(target: &str, payload: usize, entries: usize) -> impl Iterator<Item = Vec<u8>> + use<> {
    let target = target.to_owned();
    let mut random = fastrand::Rng::with_seed(1);
    (0..entries).map(move |number| {
        let filler: String =
            std::iter::repeat_with(|| random.alphanumeric()).take(payload.saturating_sub(FRAME)).collect();
        let payload = format!(r#"{{"operation":"bench","number":"{number:08}","filler":"{filler}"}}"#);
        format!(r#"{{"request_id":"r-{number}","namespace":"bench","target":"{target}","payload":{payload}}}"#)
            .into_bytes()
    })
}

/// Requests that come evenly, each in its time whatever becomes of those before it.
pub struct Pace {
    rate: f64,
    begun: Instant,
    epoch: f64,
}

impl Pace {
    /// The first is due now.
    pub fn begin(rate: f64) -> Pace {
        Pace { rate, begun: Instant::now(), epoch: now() }
    }

    fn after(&self, number: usize) -> Duration {
        Duration::from_secs_f64(number as f64 / self.rate)
    }

    /// Sleeps until a request is due.
    pub fn wait_for(&self, number: usize) {
        std::thread::sleep((self.begun + self.after(number)).saturating_duration_since(Instant::now()));
    }

    /// How many are due by now.
    pub fn due_by_now(&self) -> usize {
        (self.begun.elapsed().as_secs_f64() * self.rate) as usize + 1
    }

    /// When each of these was due, by request id.
    pub fn due(&self, numbers: Range<usize>) -> Due {
        numbers.map(|number| (request_id(number), self.epoch + self.after(number).as_secs_f64() * 1000.0)).collect()
    }
}

/// The id of a request, as it stands in records.
pub fn request_id(number: usize) -> Vec<u8> {
    format!("r-{number}").into_bytes()
}

/// The middle one, and the least and the most.
pub fn spread(mut all: Vec<f64>) -> (f64, f64, f64) {
    all.sort_by(f64::total_cmp);
    (all[all.len() / 2], all[0], all[all.len() - 1])
}

/// How long all processors of the machine have been busy and idle.
pub struct Busy {
    busy: f64,
    all: f64,
    at: Instant,
}

impl Busy {
    /// Until now.
    pub fn now() -> Result<Busy> {
        let stat = std::fs::read_to_string("/proc/stat")?;
        let line =
            stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("the kernel does not tell")?;
        let ticks: Vec<f64> = line.split_whitespace().filter_map(|ticks| ticks.parse().ok()).collect();
        let (all, idle) = (ticks.iter().take(8).sum::<f64>(), ticks[3] + ticks[4]);
        Ok(Busy { busy: all - idle, all, at: Instant::now() })
    }

    /// The share that was busy since.
    pub fn since(&self) -> Result<f64> {
        let now = Busy::now()?;
        anyhow::ensure!(now.at > self.at, "no time has passed");
        Ok((now.busy - self.busy) / (now.all - self.all))
    }
}
