//! Replication slots of the modelled servers: what the effects do to them, and how their consumers
//! move them.

use crate::node::Life;
use crate::server::{Disk, Server};
use crate::world::World;
use pgwarden::ha::event::{Event, Op};
use pgwarden::ha::model::{Lsn, Name};
use pgwarden::ha::shared::Rules;
use pgwarden::ha::slots::{Permanent, SlotChange, SlotFacts, SlotKind, slot_name};
use std::collections::{BTreeMap, BTreeSet};

/// A slot on a disk.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    kind: SlotKind,
    /// A number of records.
    position: usize,
}

/// By name.
pub(crate) type Slots = BTreeMap<String, Slot>;

/// With every third seed: one of somebody's, and one whose consumer reads all there is.
pub(crate) fn rules(seed: u64, rules: &mut Rules) {
    if !seed.is_multiple_of(3) {
        return;
    }
    let feed = SlotKind::Logical {
        database: "app".into(),
        plugin: "pgoutput".into(),
    };
    for (name, kind) in [("site_b", SlotKind::Physical), ("feed", feed)] {
        let cluster_type = None;
        let slot = Permanent { kind, cluster_type };
        rules.slots.permanent.insert(name.into(), slot);
    }
}

impl Server {
    /// What the probe shows of them.
    pub(crate) fn slots(&self, disk: &Disk, now: u64) -> Vec<SlotFacts> {
        let flushed = |slot: &String| {
            let mut standbys = self.standbys.iter();
            let streams = |(name, (_, at)): &(&Name, &(usize, u64))| {
                slot_name(name) == *slot && now < at + 500
            };
            standbys.find(streams).map(|(_, (flushed, _))| *flushed)
        };
        let shown = disk.slots.iter().map(|(name, slot)| {
            let used = flushed(name).filter(|_| !slot.kind.is_logical());
            SlotFacts {
                name: name.clone(),
                kind: slot.kind.clone(),
                active: used.is_some(),
                position: Some(Lsn(used.unwrap_or(slot.position) as u64)),
                lost: false,
                holds_xmin: used.is_some() && now.is_multiple_of(2),
                by_server: false,
            }
        });
        shown.collect()
    }
}

impl World {
    pub(crate) fn set_slots(&mut self, node: usize, life: Life, changes: &[SlotChange]) {
        let server = self.nodes[node].server.as_ref();
        let answers = server.is_some_and(|server| server.started && !server.frozen);
        let mut failed = Some("no server answers".to_owned());
        if let Some(disk) = self.nodes[node].dir.disk().filter(|_| answers) {
            failed = None;
            for change in changes {
                change_slot(disk, change);
            }
        }
        let broken = BTreeSet::new();
        self.tell(20, node, life, Event::SlotsSet { broken, failed });
    }

    pub(crate) fn fetch_slots(
        &mut self,
        node: usize,
        life: Life,
        from: &str,
        wanted: &BTreeSet<String>,
        reached: Lsn,
    ) {
        let source = self.source(node, from);
        let good = self.can_be_copied(source, node);
        let theirs = self.nodes[source].dir.whole().filter(|_| good);
        let mine = self.nodes[node].dir.whole();
        let fetched: Slots = match (theirs, mine) {
            (Some(theirs), Some(mine)) => {
                let all = theirs.slots.iter().filter(|(name, slot)| {
                    wanted.contains(*name)
                        && !mine.slots.contains_key(*name)
                        && slot.position as u64 <= reached.0
                });
                all.map(|(name, slot)| (name.clone(), slot.clone()))
                    .collect()
            }
            _ => Slots::new(),
        };
        let failed = (!good).then(|| "the leader cannot be asked".to_owned());
        let slots = fetched.keys().cloned().collect();
        self.nodes[node].fetched = fetched;
        self.tell(30, node, life, Event::SlotsFetched { slots, failed });
    }

    pub(crate) fn put_slots(&mut self, node: usize, wanted: &BTreeSet<String>) {
        let running = self.nodes[node].server.is_some();
        let fetched = std::mem::take(&mut self.nodes[node].fetched);
        if running {
            self.fail(
                "no file of a running server is written",
                format!("node {node}"),
            );
        }
        if let Some(disk) = self.nodes[node].dir.disk() {
            let chosen = fetched
                .into_iter()
                .filter(|(name, _)| wanted.contains(name));
            for (name, slot) in chosen {
                disk.slots.entry(name).or_insert(slot);
            }
        }
        self.finish(node, Op::PutSlots, None, (2, 40));
    }

    pub(crate) fn confirm_slots(
        &mut self,
        node: usize,
        life: Life,
        with: &str,
        wanted: &BTreeSet<String>,
    ) {
        let source = self.source(node, with);
        if !self.can_be_copied(source, node) {
            return;
        }
        let theirs = self.nodes[source].dir.whole();
        let theirs = theirs.iter().flat_map(|disk| &disk.slots);
        let positions = theirs
            .filter(|(name, _)| wanted.contains(*name))
            .map(|(name, slot)| (name.clone(), Lsn(slot.position as u64)))
            .collect();
        self.tell(30, node, life, Event::SlotsConfirmed { positions });
    }

    /// The consumers have read what there is; and no slot may be ahead of its server: what is
    /// written there after a promotion would be passed over.
    pub(crate) fn move_slots(&mut self, node: usize) {
        let n = &mut self.nodes[node];
        let writable = n.server.as_ref().is_some_and(Server::is_writable);
        let Some(disk) = n.dir.disk() else { return };
        let end = disk.log.len();
        let ahead = disk.slots.iter().find(|(_, slot)| slot.position > end);
        let ahead = ahead.map(|(name, slot)| format!("node {node}: {name} at {slot:?} of {end}"));
        for slot in disk.slots.values_mut() {
            if writable && slot.kind.is_logical() {
                slot.position = end;
            }
        }
        if let Some(words) = ahead {
            self.fail("no slot ahead of its server", words);
        }
    }

    /// At the end everybody keeps WAL for everybody else, and the leader has what is permanent.
    pub(crate) fn check_slots(&mut self, leader: usize) {
        let names: Vec<Name> = self.nodes.iter().map(|n| n.name.clone()).collect();
        for index in 0..self.nodes.len() {
            let Some(disk) = self.nodes[index].dir.whole() else {
                continue;
            };
            let others = names.iter().filter(|name| **name != names[index]);
            let mut wanted: Vec<String> = others.map(|name| slot_name(name)).collect();
            if index == leader {
                wanted.extend(self.store.local_rules.slots.permanent.keys().cloned());
            }
            let missing = wanted
                .into_iter()
                .find(|name| !disk.slots.contains_key(name));
            if let Some(name) = missing {
                let words = format!("node {index} has no slot {name}: {:?}", disk.slots);
                return self.fail("every slot is there at the end", words);
            }
        }
    }
}

fn change_slot(disk: &mut Disk, change: &SlotChange) {
    let end = disk.log.len();
    match change {
        SlotChange::Create { name, kind } => {
            let (kind, position) = (kind.clone(), end);
            let slot = Slot { kind, position };
            disk.slots.entry(name.clone()).or_insert(slot);
        }
        SlotChange::Drop { name } => drop(disk.slots.remove(name)),
        SlotChange::Advance { name, to, .. } => {
            if let Some(slot) = disk.slots.get_mut(name) {
                let to = usize::try_from(to.0).unwrap_or(end).min(end);
                slot.position = slot.position.max(to);
            }
        }
    }
}
