//! What must hold, whatever happens: judged from outside, with the knowledge of the whole world.

use crate::node::Node;
use crate::server::{Record, Server};
use crate::world::{Faults, World};
use std::collections::HashSet;

/// An acknowledged commit.
#[derive(Clone, Debug)]
pub(crate) struct Acked {
    pub(crate) record: Record,
    pub(crate) node: usize,
    pub(crate) at: u64,
}

/// The clients' memory.
#[derive(Default)]
pub(crate) struct Oracle {
    pub(crate) acked: Vec<Acked>,
}

impl Oracle {
    /// *No acknowledged synchronous commit lost*: every acknowledged record is in this log.
    pub(crate) fn missing_from<'a>(&'a self, log: &[Record]) -> Vec<&'a Acked> {
        let present: HashSet<u64> = log.iter().map(|record| record.id).collect();
        self.acked
            .iter()
            .filter(|acked| !present.contains(&acked.record.id))
            .collect()
    }
}

/// *At most one writable*: the nodes that could acknowledge a commit at this instant.
pub(crate) fn writable_conflict(writable: &[(usize, String)]) -> Option<String> {
    (writable.len() > 1).then(|| {
        let names: Vec<String> = writable
            .iter()
            .map(|(node, name)| format!("node {node} as {name}"))
            .collect();
        format!("writable at once: {}", names.join(", "))
    })
}

impl World {
    pub(crate) fn check(&mut self) {
        let writable = self.servers().filter(|server| server.is_writable());
        let (count, serving) = writable.fold((0, false), |(count, serving), server| {
            (count + 1, serving || !server.frozen)
        });
        if count > 1
            && self.options.faults != Faults::Frozen
            && let Some(words) = writable_conflict(&self.writable())
        {
            self.fail("at most one writable", words);
        }
        if self.healed && self.writable_since_heal.is_none() && serving {
            self.writable_since_heal = Some(self.now);
        }
        if self.healed && self.writable_since_heal.is_none() && self.now > self.heals_until() {
            self.fail("writable again within a bound", "nobody is writable".into());
        }
    }

    pub(crate) fn check_end(&mut self) {
        let writable = self.writable();
        let [(leader, _)] = writable.as_slice() else {
            return self.fail(
                "writable again within a bound",
                format!("at the end: {writable:?}"),
            );
        };
        let leader = *leader;
        let Some(log) = self.nodes[leader].dir.whole().map(|disk| disk.log.clone()) else {
            return self.fail("no last copy destroyed", "the leader has no data".into());
        };
        if let Some(node) = self.idle_node() {
            let words = format!(
                "node {} does not stream at the end: {}",
                node.index,
                node.summary()
            );
            return self.fail("writable again within a bound", words);
        }
        self.check_slots(leader);
        if self.options.synchronous {
            let missing = self.oracle.missing_from(&log);
            if let Some(first) = missing.first() {
                let words = format!(
                    "{} acknowledged records are gone, first {:?}, by node {} at {} ms",
                    missing.len(),
                    first.record,
                    first.node,
                    first.at
                );
                self.fail("no acknowledged synchronous commit lost", words);
            }
        }
    }

    /// A promotion goes on from the newest timeline that a leader has noted, unless a person has
    /// ordered this very one.
    pub(crate) fn check_timeline(&mut self, node: usize) {
        let shared = self.store.shared_view();
        let ordered = &shared.failover;
        if ordered.from.is_none() && ordered.to.as_ref() == Some(&self.nodes[node].name) {
            return;
        }
        let newest = shared.config.newest_timeline();
        let mine = self.nodes[node].dir.whole().map_or(0, |disk| disk.timeline);
        if mine < newest {
            let words = format!("node {node} is promoted on timeline {mine}, {newest} is noted");
            self.fail("the newest timeline goes on", words);
        }
    }

    /// A clone or a rewind is about to discard what this node has.
    pub(crate) fn check_last_copy(&mut self, node: usize, source: usize) {
        let good = self.nodes[source]
            .server
            .as_ref()
            .is_some_and(Server::is_writable);
        if !good {
            let words = format!("node {node} is rebuilt from node {source}, which is no primary");
            return self.fail("no last copy destroyed", words);
        }
        if !self.options.synchronous {
            return;
        }
        let (Some(mine), Some(theirs)) =
            (self.nodes[node].dir.whole(), self.nodes[source].dir.whole())
        else {
            return;
        };
        let kept: HashSet<u64> = theirs.log.iter().map(|r| r.id).collect();
        let lost = mine.log.iter().find(|record| {
            !kept.contains(&record.id) && self.oracle.acked.iter().any(|a| a.record.id == record.id)
        });
        if let Some(record) = lost.copied() {
            let words =
                format!("node {node} holds the acknowledged {record:?}, its source does not");
            self.fail("no last copy destroyed", words);
        }
    }

    /// Neither leads nor streams.
    pub(crate) fn idle_node(&self) -> Option<&Node> {
        let works = |server: &Server| server.streaming || server.is_writable();
        let mut nodes = self.nodes.iter().filter(|node| !node.dead_disk);
        nodes.find(|node| !node.server.as_ref().is_some_and(works))
    }

    fn servers(&self) -> impl Iterator<Item = &Server> {
        self.nodes.iter().filter_map(|node| node.server.as_ref())
    }

    pub(crate) fn writable(&self) -> Vec<(usize, String)> {
        self.nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.server.as_ref().is_some_and(Server::is_writable))
            .map(|(index, node)| (index, node.name.clone()))
            .collect()
    }
}
