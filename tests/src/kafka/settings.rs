//! The settings of a node: small, quick to start, and short where Kafka's defaults would make a scenario wait.

use std::fs;
use std::path::{Path, PathBuf};

use crate::free_port;

/// Any id will do, as long as all nodes of a cluster have the same.
pub(super) const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qg";

/// The settings that hold for every node; a scenario's own go before them.
const SETTINGS: &[(&str, &str)] = &[
    ("process.roles", "broker,controller"),
    ("controller.listener.names", "CONTROLLER"),
    ("inter.broker.listener.name", "CLIENTS"),
    ("listener.security.protocol.map", "CLIENTS:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT"),
    // As in production: a topic exists because someone created it.
    ("auto.create.topics.enable", "false"),
    // The first member of a group need not wait for others.
    ("group.initial.rebalance.delay.ms", "0"),
    // Scenarios that stall a consumer need not stall it for the default of 6 s.
    ("group.min.session.timeout.ms", "1000"),
    ("transaction.max.timeout.ms", "60000"),
    // A transaction left open by a killed process is aborted when its timeout is over, not up to 10 s later.
    ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "500"),
    // A killed node may come back only after its old session is over: by default 9 s.
    ("broker.session.timeout.ms", "2000"),
    ("broker.heartbeat.interval.ms", "500"),
    ("offsets.topic.num.partitions", "4"),
    ("offsets.topic.segment.bytes", "1048576"),
    ("transaction.state.log.num.partitions", "4"),
    ("transaction.state.log.segment.bytes", "1048576"),
    ("log.index.size.max.bytes", "1048576"),
];

/// One copy of everything.
const ALONE: &[(&str, &str)] = &[
    ("default.replication.factor", "1"),
    ("offsets.topic.replication.factor", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
];

/// Three copies, of which two must have a record before it is acknowledged.
const REPLICATED: &[(&str, &str)] = &[
    ("default.replication.factor", "3"),
    ("min.insync.replicas", "2"),
    ("offsets.topic.replication.factor", "3"),
    ("transaction.state.log.replication.factor", "3"),
    ("transaction.state.log.min.isr", "2"),
];

/// The ports of a node, kept over its restarts.
pub(super) struct Ports {
    /// Clients connect here, and other nodes.
    pub(super) clients: u16,
    /// Clients behind the proxy are told to connect here ...
    pub(super) proxy: u16,
    /// ... and the proxy connects here.
    pub(super) behind_proxy: u16,
    controller: u16,
}

impl Ports {
    pub(super) fn free() -> Ports {
        Ports { clients: free_port(), proxy: free_port(), behind_proxy: free_port(), controller: free_port() }
    }
}

/// The controllers of a cluster as each of its nodes must know them.
pub(super) fn voters(nodes: &[(u32, &Ports)]) -> String {
    let voters: Vec<String> = nodes.iter().map(|(id, ports)| format!("{id}@127.0.0.1:{}", ports.controller)).collect();
    voters.join(",")
}

/// Where a node keeps its records.
pub fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

/// The settings file of a node's folder.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join("server.properties")
}

/// Writes a node's settings file. Of two lines with the same key the later one holds: `own` ones come last.
pub(super) fn write(folder: &Path, id: u32, ports: &Ports, voters: &str, own: &[(&str, &str)]) {
    let Ports { clients, proxy, behind_proxy, controller } = ports;
    let mut lines = vec![
        format!("node.id={id}"),
        format!("controller.quorum.voters={voters}"),
        format!(
            "listeners=CLIENTS://127.0.0.1:{clients},PROXIED://127.0.0.1:{behind_proxy},\
             CONTROLLER://127.0.0.1:{controller}"
        ),
        format!("advertised.listeners=CLIENTS://127.0.0.1:{clients},PROXIED://127.0.0.1:{proxy}"),
        format!("log.dirs={}", data(folder).display()),
    ];
    let replication = if voters.contains(',') { REPLICATED } else { ALONE };
    let rest = SETTINGS.iter().chain(replication).chain(own);
    lines.extend(rest.map(|(key, value)| format!("{key}={value}")));
    let path = path(folder);
    fs::write(&path, lines.join("\n")).unwrap_or_else(|error| panic!("failed to write {}: {error}", path.display()));
}
