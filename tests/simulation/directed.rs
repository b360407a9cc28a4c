//! Faults of one kind alone: what only a certain order of things brings about.

use crate::act::Act;
use crate::faults::Fault;
use crate::maintenance;
use crate::node::Node;
use crate::server::Server;
use crate::world::{Faults, TTL_MS, World};
use pgwarden::ha::event::Event;

/// Beyond every run.
const NEVER_MS: u64 = 1_000_000_000;

/// The kind that this run is about; false: any.
pub(crate) fn strike(world: &mut World, target: usize) -> bool {
    match world.options.faults {
        Faults::Mixed => return false,
        Faults::Frozen if world.rng.percent(40) => world.freeze_container(),
        Faults::Frozen => return false,
        Faults::BriefPause => maintenance::brief(world),
        Faults::HastyResume => maintenance::hasty(world),
        Faults::Hung => hang(world),
        Faults::LockLost => lose_the_lock(world, target),
        Faults::LateAnswer => answer_late(world, target),
        Faults::DiesStopping => die_stopping(world, target),
        Faults::WipedStandby => wipe_a_standby(world),
        Faults::DeadDisk => kill_the_disk(world),
        Faults::HookHangs => hang_the_hook(world, target),
        Faults::CreatorDies => {}
    }
    true
}

/// The volume of one has no room, and every other time those of all.
pub(crate) fn fill(world: &mut World, node: usize, ms: u64) {
    let all = world.rng.percent(50);
    world.note(|| format!("FAULT the volume of {node} is full, of all: {all}"));
    for index in (0..world.nodes.len()).filter(|index| all || *index == node) {
        world.nodes[index].full = true;
        let life = world.nodes[index].life;
        world.tell(1, index, life, Event::Volume { full: true });
        world.schedule(ms, Act::MakeRoom { node: index });
    }
}

fn lose_the_lock(world: &mut World, holder: usize) {
    Fault::cut(world, holder, TTL_MS, true);
    world.note(|| "FAULT the lock object is deleted".into());
    world.store.delete_lock();
    world.lock_changed();
}

/// To a claim above all: the leader dies, and who takes its place may hear of it late.
fn answer_late(world: &mut World, node: usize) {
    if let Some(leader) = world.leader().filter(|leader| *leader != node) {
        Fault::kill_pod(world, leader);
    }
    world.note(|| "FAULT the API is slow".into());
    world.slow_until = world.now + TTL_MS / 2;
    let (api, ms) = (true, 2 * TTL_MS);
    let delay = world.rng.range(500, TTL_MS / 2);
    world.schedule(delay, Act::Cut { node, api, ms });
    world.schedule(delay, Act::Freeze { node, ms });
}

fn die_stopping(world: &mut World, node: usize) {
    Fault::cut(world, node, 2 * TTL_MS, true);
    let delay = world.rng.range(TTL_MS * 2 / 3, TTL_MS);
    world.schedule(delay, Act::KillAgent { node });
}

/// What the hook holds up is the whole agent.
fn hang_the_hook(world: &mut World, node: usize) {
    Fault::cut(world, node, 3 * TTL_MS, true);
    world.note(|| format!("FAULT {node} is asked to stop, and its hook hangs"));
    let (life, ms) = (world.nodes[node].life, 3 * TTL_MS);
    world.tell(1, node, life, Event::Terminate);
    world.schedule(TTL_MS / 6, Act::Freeze { node, ms });
}

/// Every other time a base backup is taken; else the leader's node dies, and a standby that it had
/// listed comes back with an empty volume before the leader does: a backup is all that it finds.
fn wipe_a_standby(world: &mut World) {
    let Some(leader) = world.leader() else { return };
    if world.archive.is_none() {
        world.archive = world.nodes[leader].dir.whole().cloned();
        return;
    }
    let sync = world.store.shared_view().sync.clone();
    let runs = |n: &Node| n.dir.whole().is_some() && n.guardian != 0;
    let mut listed = world
        .nodes
        .iter()
        .filter(|n| sync.standbys.contains(&n.name));
    let standby = listed.next().map(|n| n.index);
    let Some(standby) = standby.filter(|_| world.nodes.iter().all(runs)) else {
        return;
    };
    world.note(|| format!("FAULT the node of the leader {leader} is lost"));
    for (node, delay) in [(leader, 6 * TTL_MS), (standby, 200)] {
        world.kill_pod(node);
        let new_uid = true;
        world.schedule(delay, Act::StartPod { node, new_uid });
    }
    Fault::lose_volume(world, standby);
}

/// Nothing wakes it up again.
fn hang(world: &mut World) {
    let frozen = |server: &Server| server.frozen;
    let mut servers = world.nodes.iter().filter_map(|n| n.server.as_ref());
    if let Some(leader) = world.leader().filter(|_| !servers.any(frozen)) {
        world.note(|| format!("FAULT postmaster of {leader} stands still for good"));
        world.freeze_server(leader, NEVER_MS);
    }
}

/// No write of the leader's comes back, and what is killed there does not end.
fn kill_the_disk(world: &mut World) {
    let dead = world.nodes.iter().any(|n| n.dead_disk);
    if let Some(leader) = world.leader().filter(|_| !dead) {
        world.note(|| format!("FAULT the disk of the leader {leader} is dead"));
        world.nodes[leader].dead_disk = true;
        world.freeze_server(leader, NEVER_MS);
    }
}

impl World {
    /// It is killed before, while or after it says that it leads.
    pub(crate) fn has_initialised(&mut self, node: usize) {
        if self.options.faults == Faults::CreatorDies {
            let delay = self.rng.range(0, 400);
            self.schedule(delay, Act::KillCreator { node });
        }
    }

    pub(crate) fn kill_creator(&mut self, node: usize) {
        self.note(|| format!("FAULT {node}, which creates the cluster, is killed"));
        let serves = |n: &Node| n.server.as_ref().is_some_and(|server| server.started);
        let served = serves(&self.nodes[node]);
        self.kill_pod(node);
        let (mut delay, new_uid) = (self.rng.range(100, 3_000), self.rng.percent(50));
        // Nobody was promised anything yet; the others may be asked first.
        if !served && self.rng.percent(50) {
            Fault::lose_volume(self, node);
            delay += self.rng.range(0, 3 * TTL_MS);
        }
        self.schedule(delay, Act::StartPod { node, new_uid });
    }
}

/// What a backup may be restored over. Who has never heard of the present holder, and finds what it
/// saw last in its place, cannot tell that there was one: a promise that is not made.
pub(crate) fn all_know_the_holder(world: &World) -> bool {
    let lock = world.store.lock_snapshot();
    let Some(held) = lock.held() else {
        return true;
    };
    let ageless = held.paused || held.failsafe.is_some();
    let knows = |node: &Node| {
        if let Some(state) = &node.state {
            return state.lock.greatest_epoch >= held.epoch;
        }
        // It begins with a wait, which is enough for a record that ages.
        let mut remembered = node.memory.marked.iter().chain(&node.memory.mapped);
        !ageless || remembered.any(|known| known.epoch >= held.epoch)
    };
    world.nodes.iter().all(knows)
}
