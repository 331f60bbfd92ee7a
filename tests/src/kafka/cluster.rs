//! Three nodes that replicate to each other.

use super::settings::{self, Ports};
use super::{Jvm, Kafka, START_LIMIT};
use crate::{clients, wait_until};

/// Three Kafka nodes, each broker and controller. Topics have three copies unless asked otherwise, and a record is
/// acknowledged when two of them have it: the cluster serves with any one node gone.
pub struct Cluster {
    nodes: [Kafka; 3],
}

impl Cluster {
    /// A fresh cluster in which every node sees all three (about 7 s on two cores).
    #[track_caller]
    pub fn start() -> Cluster {
        Cluster::start_with(&[])
    }

    /// As [`Cluster::start`], with broker settings that go before the harness's own.
    #[track_caller]
    pub fn start_with(settings: &[(&str, &str)]) -> Cluster {
        let ports = [1, 2, 3].map(|id| (id, Ports::free()));
        let voters = settings::voters(&ports.each_ref().map(|(id, ports)| (*id, ports)));
        let nodes = ports.map(|(id, ports)| Kafka::launch(id, ports, &voters, Jvm::StartsFast, settings));
        for node in &nodes {
            node.wait_until_serving(3);
        }
        Cluster { nodes }
    }

    /// Where clients connect: all three nodes.
    pub fn bootstrap(&self) -> String {
        self.nodes.each_ref().map(Kafka::bootstrap).join(",")
    }

    /// A node, counted from 0.
    pub fn node(&mut self, index: usize) -> &mut Kafka {
        &mut self.nodes[index]
    }

    /// The index of the node that leads `partition` of `topic`, once there is one that the metadata calls alive.
    #[track_caller]
    pub fn leader(&self, topic: &str, partition: i32) -> usize {
        let mut leader = None;
        wait_until(&format!("partition {partition} of {topic} has a leader"), START_LIMIT, || {
            leader = clients::leader(&self.bootstrap(), topic, partition);
            leader.is_some()
        });
        let id = leader.expect("waited for above");
        self.nodes.iter().position(|node| i32::try_from(node.id) == Ok(id)).expect("a leader is one of the nodes")
    }
}
