//! A real Apache Kafka node: one java process in KRaft combined mode, on loopback ports, in a folder of its own.

mod cluster;
mod distribution;
mod rights;
mod settings;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;
use std::{fs, thread};

pub use cluster::Cluster;

use crate::{Process, Proxy, clients, unique, wait_until, workspace};
use distribution::Distribution;
use settings::Ports;

/// A node takes 2 s to start and 4 s after a SIGKILL; the rest is for a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// A node stops in a quarter of a second.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How much of a node's log a panic shows.
const LOG_TAIL: usize = 30;

/// Runs a node whose data lie on a file system of its own, of so much; when the node has ended, they are put where the next start finds
/// them, in place of what the first start left: by its mark of a clean end Kafka would not look at what was open, and show what it aborts.
/// A mount of one's own needs no rights where user namespaces are allowed.
const ON_SMALL_DISK: &str = r#"
data=$1 size=$2; shift 2
mkdir "$data.small" && mount -t tmpfs -o "size=$size" none "$data.small" && cp -a "$data/." "$data.small/" || exit 99
mount --bind "$data.small" "$data" || exit 99
setpriv --pdeathsig KILL -- "$@"; code=$?
umount "$data" && find "$data" -mindepth 1 -delete && cp -a "$data.small/." "$data/" || exit 99
exit $code
"#;

/// One Kafka node with its data. Dropping it kills the node and removes the data, except in a failing scenario.
pub struct Kafka {
    id: u32,
    folder: PathBuf,
    ports: Ports,
    jvm: Jvm,
    process: Process,
}

/// What the java that runs a node is good at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jvm {
    /// A small heap, and a compiler that makes a node start fast rather than run fast.
    StartsFast,
    /// What a node does for long becomes fast, in little memory.
    RunsLong,
    /// As Kafka's own scripts start it.
    RunsFast,
}

impl Kafka {
    /// A fresh node that serves when this returns (about 3 s). Panics if it does not, with the end of its log.
    #[track_caller]
    pub fn start() -> Kafka {
        Kafka::start_with(&[])
    }

    /// As [`Kafka::start`], with broker settings that go before the harness's own.
    #[track_caller]
    pub fn start_with(settings: &[(&str, &str)]) -> Kafka {
        Kafka::start_on(Jvm::StartsFast, settings)
    }

    /// For measurements: what a scenario's node does with its garbage would be measured too.
    #[track_caller]
    pub fn start_to_be_measured() -> Kafka {
        Kafka::start_to_be_measured_with(&[])
    }

    /// As [`Kafka::start_to_be_measured`], with broker settings that go before the harness's own.
    #[track_caller]
    pub fn start_to_be_measured_with(settings: &[(&str, &str)]) -> Kafka {
        Kafka::start_on(Jvm::RunsFast, settings)
    }

    /// As [`Kafka::start`], on a disk of so many bytes, until the node ends; [`Kafka::restart`] finds room.
    #[track_caller]
    pub fn start_on_small_disk(bytes: u64) -> Kafka {
        let mut node = Kafka::start();
        node.stop();
        let mut args: Vec<String> =
            ["--user", "--map-root-user", "--mount", "sh", "-c", ON_SMALL_DISK, "sh"].map(str::to_owned).into();
        args.push(settings::data(&node.folder).display().to_string());
        args.push(bytes.to_string());
        args.push("java".to_owned());
        args.extend(node_args(&node.folder, node.jvm));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        node.process = Process::run("kafka-on-small-disk", Path::new("unshare"), &args, &[]);
        node.wait_until_serving(1);
        node
    }

    #[track_caller]
    fn start_on(jvm: Jvm, settings: &[(&str, &str)]) -> Kafka {
        let ports = Ports::free();
        let voters = settings::voters(&[(1, &ports)]);
        let node = Kafka::launch(1, ports, &voters, jvm, settings);
        node.wait_until_serving(1);
        node
    }

    /// The node that scenarios of one test process share, started on first use. Use names of your own on it
    /// ([`crate::unique()`], [`crate::prefix()`]), and a node of your own to hurt.
    #[track_caller]
    pub fn shared() -> &'static Kafka {
        // In the end it has thousands of partitions: counted out for a moment on a crowded machine, it would be away for half a minute.
        static SHARED: LazyLock<Kafka> =
            LazyLock::new(|| Kafka::start_on(Jvm::RunsLong, &[("broker.session.timeout.ms", "60000")]));
        &SHARED
    }

    /// What java and javac take as a class path: Kafka's jars, its clients among them.
    pub fn class_path() -> String {
        Distribution::fetched().class_path()
    }

    /// Where clients connect.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.ports.clients)
    }

    /// A proxy in front of this node, once per node. Clients that bootstrap through [`Proxy::address`] stay behind it,
    /// since the node advertises the proxy to them; clients of [`Kafka::bootstrap`] do not notice it.
    pub fn proxy(&self) -> Proxy {
        let node = (Ipv4Addr::LOCALHOST, self.ports.behind_proxy).into();
        Proxy::start((Ipv4Addr::LOCALHOST, self.ports.proxy).into(), node)
    }

    /// Sets users and what they may do; see `kafka/Rights.java` for the words.
    #[track_caller]
    pub fn set_rights(&self, words: &[String]) {
        rights::set(&self.bootstrap(), words);
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM, and waits until the node has stopped in order.
    #[track_caller]
    pub fn stop(&mut self) {
        self.process.terminate();
        self.process.wait(STOP_LIMIT);
    }

    /// Starts the node again with its data, on its ports, and waits until it serves. Kills it first if it runs.
    #[track_caller]
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = spawn(self.id, &self.folder, self.jvm);
        self.wait_until_serving(1);
    }

    /// Whether it has not ended by itself or been killed.
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// SIGSTOP: connections stay open and nothing answers.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// SIGCONT: goes on after [`Kafka::pause`].
    pub fn resume(&self) {
        self.process.resume();
    }

    /// What the records of a topic take on this node's disk.
    pub fn bytes_of(&self, topic: &str) -> u64 {
        let partitions = fs::read_dir(self.folder.join("data")).into_iter().flatten().flatten();
        let is_of_topic = |name: &str| name.rsplit_once('-').is_some_and(|(of, _)| of == topic);
        let partitions = partitions.filter(|folder| is_of_topic(&folder.file_name().to_string_lossy()));
        let files = partitions.flat_map(|folder| fs::read_dir(folder.path())).flatten().flatten();
        let logs = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "log"));
        logs.filter_map(|log| log.metadata().ok()).map(|log| log.len()).sum()
    }

    /// What the node has taken of the machine's processors since it began.
    pub fn processor_time(&self) -> Duration {
        self.process.processor_time()
    }

    /// Formats a folder and starts java on it; does not wait until it serves.
    #[track_caller]
    fn launch(id: u32, ports: Ports, voters: &str, jvm: Jvm, settings: &[(&str, &str)]) -> Kafka {
        let folder = workspace::run_dir().join(unique(&format!("kafka-{id}")));
        fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("failed to create {}: {error}", folder.display()));
        settings::write(&folder, id, &ports, voters, settings);
        format(id, &folder);
        let process = spawn(id, &folder, jvm);
        Kafka { id, folder, ports, jvm, process }
    }

    /// Serving means: it answers a metadata request and counts itself and at least `nodes` in all as alive.
    #[track_caller]
    fn wait_until_serving(&self, nodes: usize) {
        let own_id = i32::try_from(self.id).expect("node ids are 1, 2 and 3");
        wait_until(&format!("kafka node {} serves", self.id), START_LIMIT, || {
            assert!(self.process.is_running(), "kafka node {} ended:\n{}", self.id, self.log_tail());
            // Without this, librdkafka would first meet a refused connection and then wait out its backoff.
            let is_listening = TcpStream::connect((Ipv4Addr::LOCALHOST, self.ports.clients)).is_ok();
            let alive = if is_listening { clients::brokers(&self.bootstrap()) } else { BTreeSet::new() };
            alive.contains(&own_id) && alive.len() >= nodes
        });
    }

    /// What the node has logged, with what it allowed to whom if it has an authorizer.
    pub fn log(&self) -> String {
        fs::read_to_string(log_path(&self.folder)).unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n");
        format!("{:?}\n{}:\n{last}", self.process, log_path(&self.folder).display())
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.process.kill();
        if !thread::panicking() {
            // What cannot be removed now goes with the sweep of the next run.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

#[track_caller]
fn format(id: u32, folder: &Path) {
    let settings = settings::path(folder);
    let args = ["format", "--config", &settings.to_string_lossy(), "--cluster-id", settings::CLUSTER_ID];
    let tool = java(&format!("kafka-{id}-format"), folder, Jvm::StartsFast, "kafka.tools.StorageTool", &args);
    let status = tool.wait(START_LIMIT);
    assert!(status.success(), "failed to format a kafka folder, {status}: {tool:?}");
}

#[track_caller]
fn spawn(id: u32, folder: &Path, jvm: Jvm) -> Process {
    let args = node_args(folder, jvm);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Process::run(&format!("kafka-{id}"), Path::new("java"), &args, &[])
}

/// What java is told to be a node.
fn node_args(folder: &Path, jvm: Jvm) -> Vec<String> {
    java_args(folder, jvm, "kafka.Kafka", &[&settings::path(folder).to_string_lossy()])
}

#[track_caller]
fn java(name: &str, folder: &Path, jvm: Jvm, main_class: &str, args: &[&str]) -> Process {
    let args = java_args(folder, jvm, main_class, args);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Process::run(name, Path::new("java"), &args, &[])
}

fn java_args(folder: &Path, jvm: Jvm, main_class: &str, args: &[&str]) -> Vec<String> {
    let mut all = Distribution::fetched().java_args(jvm, &log_path(folder));
    all.push(main_class.into());
    all.extend(args.iter().map(|&arg| arg.into()));
    all
}

fn log_path(folder: &Path) -> PathBuf {
    folder.join("kafka.log")
}
