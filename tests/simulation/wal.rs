//! The write-ahead log on its way: clients, streaming, synchronous commits.

use crate::oracle::Acked;
use crate::server::Record;
use crate::world::World;
use std::cmp::Reverse;

impl World {
    /// A client's statement on this node, directly, whatever the route says.
    pub(crate) fn client(&mut self, node: usize) {
        let id = self.next_id();
        let target = &mut self.nodes[node];
        let (Some(server), Some(disk)) = (target.server.as_mut(), target.dir.disk()) else {
            return;
        };
        if !server.is_writable() || server.frozen {
            return;
        }
        let record = Record {
            timeline: disk.timeline,
            id,
        };
        disk.log.push(record);
        let position = disk.log.len();
        if server.sync.need == 0 {
            self.acknowledge(node, record);
        } else {
            server.pending.push(position);
        }
    }

    pub(crate) fn acknowledge(&mut self, node: usize, record: Record) {
        let at = self.now;
        self.oracle.acked.push(Acked { record, node, at });
    }

    /// Replicas pull what their upstream has; what they flushed releases synchronous commits.
    pub(crate) fn stream(&mut self, node: usize) {
        let Some(upstream) = self.nodes[node]
            .server
            .as_ref()
            .and_then(|s| s.upstream.clone())
        else {
            return;
        };
        let from = self
            .nodes
            .iter()
            .enumerate()
            .position(|(index, n)| index != node && n.name == upstream && n.server.is_some());
        let Some(from) = from else {
            if let Some(server) = &mut self.nodes[node].server {
                server.streaming = false;
            }
            return;
        };
        let (mine, theirs) = (
            self.nodes[node].server.as_ref(),
            self.nodes[from].server.as_ref(),
        );
        let connected = mine.is_some_and(|s| s.started && s.in_recovery && !s.frozen)
            && theirs.is_some_and(|s| s.started && !s.frozen)
            && !self.nodes[node].cut_peers
            && !self.nodes[from].cut_peers;
        let prefix = connected
            && match (self.nodes[from].dir.whole(), self.nodes[node].dir.whole()) {
                (Some(source), Some(mine)) => {
                    mine.system_id == source.system_id && mine.is_prefix_of(source)
                }
                _ => false,
            };
        if let Some(server) = &mut self.nodes[node].server {
            server.streaming = prefix;
        }
        if !prefix {
            return;
        }
        let have = self.nodes[node]
            .dir
            .whole()
            .map_or(0, |disk| disk.log.len());
        let Some(source) = self.nodes[from].dir.whole() else {
            return;
        };
        let (tail, timeline) = (source.log[have..].to_vec(), source.timeline);
        let flushed = source.log.len();
        let same = self.nodes[node].dir.whole();
        let history = same.is_none_or(|mine| mine.history != source.history);
        let history = history.then(|| source.history.clone());
        if let Some(disk) = self.nodes[node].dir.disk() {
            disk.log.extend(tail);
            disk.timeline = timeline;
            if let Some(history) = history {
                disk.history = history;
            }
        }
        let (name, now) = (self.nodes[node].name.clone(), self.now);
        let released = self.flushed(from, &name, flushed, now);
        for record in released {
            self.acknowledge(from, record);
        }
    }

    /// The walsender hears from a standby; synchronous commits it has are released.
    pub(crate) fn flushed(
        &mut self,
        from: usize,
        name: &str,
        flushed: usize,
        now: u64,
    ) -> Vec<Record> {
        let Some(server) = &mut self.nodes[from].server else {
            return Vec::new();
        };
        match server.standbys.get_mut(name) {
            Some(known) => *known = (flushed, now),
            None => drop(server.standbys.insert(name.to_owned(), (flushed, now))),
        }
        if !server.sync.names.iter().any(|known| known == name)
            || !server.is_writable()
            || server.frozen
        {
            return Vec::new();
        }
        // As many as are needed must have it, and only one that is connected counts.
        let has = |name| server.standbys.get(name).filter(|(_, at)| now < at + 500);
        let names = server.sync.names.iter();
        let mut reached: Vec<usize> = names
            .map(|name| has(name).map_or(0, |(to, _)| *to))
            .collect();
        reached.sort_unstable_by_key(|to| Reverse(*to));
        let flushed = reached[server.sync.need - 1];
        let done: Vec<_> = server
            .pending
            .extract_if(.., |position| *position <= flushed)
            .collect();
        let disk = self.nodes[from].dir.whole();
        done.iter()
            .filter_map(|position| disk.map(|disk| disk.log[position - 1]))
            .collect()
    }
}
