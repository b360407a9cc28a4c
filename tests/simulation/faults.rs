//! What befalls the cluster, chosen by the seed.

use crate::act::Act;
use crate::directed;
use crate::failsafe;
use crate::maintenance;
use crate::node::Life;
use crate::server::{Dir, Server};
use crate::world::{Faults, TTL_MS, WALL_MS, World};
use pgwarden::ha::event::{Ask, Event};
use pgwarden::ha::lock::LockState;
use pgwarden::ha::memory::Memory;
use pgwarden::ha::shared::Scheduled;

pub(crate) struct Fault;

impl Fault {
    /// One fault, on a random member or on the leader.
    pub(crate) fn strike(world: &mut World) {
        let any = world.rng.range(0, world.nodes.len() as u64 - 1) as usize;
        let target = match world.leader() {
            Some(leader) if world.rng.percent(60) => leader,
            _ => any,
        };
        let long = world.rng.range(200, 2 * TTL_MS + 1_000);
        if directed::strike(world, target) {
            return;
        }
        match world.rng.range(0, 59) {
            0 | 1 => Self::kill_pod(world, target),
            2 => {
                world.note(|| format!("FAULT agent of {target} killed"));
                world.kill_agent(target);
            }
            3 | 4 => {
                world.note(|| format!("FAULT agent of {target} frozen for {long} ms"));
                world.freeze_agent(target, long);
            }
            5 => {
                world.note(|| format!("FAULT postgres of {target} killed"));
                if let Some(generation) = world.nodes[target].server.as_ref().map(|s| s.generation)
                {
                    world.server_gone(target, generation, false, "killed");
                }
            }
            6 => {
                world.note(|| format!("FAULT postmaster of {target} frozen for {long} ms"));
                world.freeze_server(target, long);
            }
            7..=9 => Self::cut(world, target, long, true),
            10 => Self::cut(world, target, long, false),
            11 => {
                world.note(|| format!("FAULT the API is cut from everybody for {long} ms"));
                for node in 0..world.nodes.len() {
                    Self::cut(world, node, long, true);
                }
            }
            12 => {
                world.note(|| "FAULT the API is slow".into());
                world.slow_until = world.now + long;
            }
            13 => {
                world.note(|| "FAULT the API loses requests and answers".into());
                world.lossy_until = world.now + long;
            }
            14 => {
                world.note(|| "FAULT all pods killed".into());
                for node in 0..world.nodes.len() {
                    Self::kill_pod(world, node);
                }
            }
            15 => Self::wipe_replica(world, any),
            16 => {
                world.note(|| "FAULT the lock object is deleted".into());
                world.store.delete_lock();
                world.lock_changed();
            }
            17 => Self::garble(world),
            18 => Self::ask(world, any, target),
            19 => {
                let ttl_ms = if world.rng.percent(50) {
                    TTL_MS
                } else {
                    15_000
                };
                world.note(|| format!("FAULT the stored ttl is set to {ttl_ms}"));
                world.store.edit_rules(|rules| rules.ttl_ms = ttl_ms);
                world.shared_changed();
            }
            20 => {
                Self::delete_pod(world, target);
            }
            21 => Self::delete_config(world),
            22 | 26 => {
                if let Some(leader) = world.leader() {
                    Self::twin(world, any, leader);
                }
            }
            27 => Self::twins_race(world, any),
            28 | 29 => Self::stall(world, target, long),
            58 | 59 => directed::fill(world, target, long),
            by_hand @ 30..=57 => Self::by_hand(world, by_hand, (any, target), long),
            25 => {
                if let Some(leader) = world.leader() {
                    Self::cut(world, leader, long, true);
                }
                Self::lower_the_ttl(world);
            }
            _ => Self::restore(world),
        }
    }

    /// What people do to a cluster.
    fn by_hand(world: &mut World, what: u64, (any, target): (usize, usize), long: u64) {
        match what {
            30 | 31 => Self::lose_the_set(world, any),
            32 => Self::falsify_history(world),
            34 | 35 => Self::scale_down(world, any, long),
            33 => Self::falsify_identifier(world),
            36 | 37 => Self::reconfigure(world),
            38 => {
                world.note(|| "FAULT a stranger labels the lock object".into());
                world.store.touch_lock();
                world.lock_changed();
            }
            39 => Self::restart(world, target),
            40 => Self::reinitialize(world, any),
            41 | 42 => Self::plan(world, target),
            44..=46 => maintenance::pause(world, long),
            47 | 48 => maintenance::demote(world, long),
            49 => failsafe::switch(world),
            54..=57 => world.change_sync(),
            50 | 51 => failsafe::outage(world, target),
            52 | 53 => failsafe::late_joiner(world, any),
            _ => Self::jump(world, any),
        }
    }

    fn delete_config(world: &mut World) {
        if world.store.is_bootstrapped() {
            world.note(|| "FAULT the config object is deleted".into());
            world.store.delete_config();
            // An election without the history may give up a timeline; a backup that knows of it
            // would then wait for a member that no one but a person can name.
            world.backup = None;
            world.shared_changed();
        }
    }

    pub(crate) fn kill_pod(world: &mut World, node: usize) {
        if world.nodes[node].guardian == 0 {
            return;
        }
        world.kill_pod(node);
        let (delay, new_uid) = (world.rng.range(100, 9_000), world.rng.percent(40));
        world.schedule(delay, Act::StartPod { node, new_uid });
    }

    /// By plan: everybody sees it before the member itself is told. Every other time because a new
    /// revision of the pods is rolled out.
    fn delete_pod(world: &mut World, node: usize) {
        world.revision += world.rng.range(0, 1);
        world.note(|| format!("FAULT pod of {node} is deleted, SIGTERM"));
        world.nodes[node].pod.leaving = true;
        let (life, name) = (world.nodes[node].life, world.nodes[node].name.clone());
        if let Some(member) = world.store.members_mut().get_mut(&name) {
            member.leaving = true;
            world.shared_changed();
        }
        let delay = world.rng.range(1, 800);
        world.tell(delay, node, life, Event::Terminate);
    }

    /// The leader and another are told to go in one moment; every other time the one that is left
    /// does not have everything.
    fn scale_down(world: &mut World, left: usize, long: u64) {
        let Some(leader) = world.leader().filter(|leader| *leader != left) else {
            return;
        };
        if world.rng.percent(50) {
            Self::cut(world, left, long, false);
        }
        for node in 0..world.nodes.len() {
            if node != left && (node == leader || world.nodes[node].guardian != 0) {
                Self::delete_pod(world, node);
            }
        }
    }

    pub(crate) fn cut(world: &mut World, node: usize, ms: u64, api: bool) {
        if world.healed {
            return;
        }
        let what = if api { "the API" } else { "its peers" };
        world.note(|| format!("FAULT {node} cut from {what} for {ms} ms"));
        if api {
            world.nodes[node].cut_api = true;
        } else {
            world.nodes[node].cut_peers = true;
        }
        world.schedule(ms, Act::Heal { node, api });
    }

    /// The watch of the shared objects is silent, that of the pods is not.
    fn stall(world: &mut World, node: usize, ms: u64) {
        world.note(|| format!("FAULT {node} sees the shared objects late, for {ms} ms"));
        let before = world.store.shared_view();
        world.nodes[node].stalled = Some((world.now + ms, before));
        world.schedule(ms, Act::WatchShared { node });
    }

    /// A replica's pod dies and its volume is lost; never the only up-to-date copy.
    fn wipe_replica(world: &mut World, node: usize) {
        let healthy = world
            .nodes
            .iter()
            .all(|n| n.dir.whole().is_some() && n.guardian != 0);
        // Beside a container that stood still there may be two.
        let server = world.nodes[node].server.as_ref();
        let leads = server.is_some_and(Server::is_writable);
        if !healthy || world.leader().is_none() || leads {
            return;
        }
        Self::kill_pod(world, node);
        Self::lose_volume(world, node);
    }

    /// Of a pod that is gone.
    pub(crate) fn lose_volume(world: &mut World, node: usize) {
        world.note(|| format!("FAULT the volume of replica {node} is lost"));
        world.nodes[node].dir = Dir::Empty;
        world.nodes[node].memory = Memory::default();
        world.nodes[node].owned_slots.clear();
    }

    fn garble(world: &mut World) {
        let Some(epoch) = world.store.lock_snapshot().epoch() else {
            return;
        };
        world.note(|| "FAULT the lock record is damaged by hand".into());
        world.store.lock_lost = true;
        let state = LockState::Garbled {
            why: "edited by hand".into(),
            epoch: Some(epoch),
        };
        world.store.put_lock(state, None, world.now as i64);
        world.lock_changed();
    }

    /// A hand writes another TTL into the record, so that it looks as if the holder had.
    fn lower_the_ttl(world: &mut World) {
        let LockState::Held(mut held) = world.store.lock_snapshot().state else {
            return;
        };
        held.ttl_ms = world.rng.range(1, TTL_MS / 1_000) * 1_000;
        world.note(|| format!("FAULT the lock's ttl is edited to {}", held.ttl_ms));
        world
            .store
            .put_lock(LockState::Held(held), None, world.now as i64);
        world.lock_changed();
    }

    /// The record of the synchronous set is deleted; every other time together with all who hold
    /// every commit, and one who may not is left.
    fn lose_the_set(world: &mut World, left: usize) {
        if !world.store.is_bootstrapped() {
            return;
        }
        if world.rng.percent(50) {
            for node in 0..world.nodes.len() {
                if node != left {
                    Self::kill_pod(world, node);
                }
            }
        }
        world.note(|| "FAULT the record of the synchronous set is deleted".into());
        world.store.delete_sync();
        world.shared_changed();
    }

    /// A hand writes another position into the published history.
    fn falsify_history(world: &mut World) {
        let by = world.rng.range(1, 3);
        if let Some(entry) = world.store.shared_mut().config.history.last_mut() {
            entry.switch_lsn.0 = entry.switch_lsn.0.saturating_sub(by);
            world.note(|| "FAULT a position in the history is edited".into());
            world.store.touch_config();
            world.shared_changed();
        }
    }

    /// A hand writes another system identifier.
    fn falsify_identifier(world: &mut World) {
        if world.store.is_bootstrapped() {
            world.note(|| "FAULT the system identifier is edited".into());
            world.store.falsify_id();
            world.shared_changed();
        }
    }

    fn ask(world: &mut World, asked: usize, target: usize) {
        let Some(leader) = world.leader() else { return };
        let from = world.nodes[leader].name.clone();
        let to = world.nodes[target].name.clone();
        let ask = if world.rng.percent(20) {
            // A word that commits may be lost is none that the model could hold anybody to.
            let accepts_loss = !world.options.synchronous;
            Ask::Failover { to, accepts_loss }
        } else {
            Ask::Switchover {
                from,
                to: world.rng.percent(50).then_some(to),
            }
        };
        world.note(|| format!("FAULT {asked} is asked for {ask:?}"));
        let (id, life): (u64, Life) = (world.next_id(), world.nodes[asked].life);
        world.tell(1, asked, life, Event::Asked { id, ask });
    }

    /// Other parameters are stored: everybody hears of it, in no order.
    fn reconfigure(world: &mut World) {
        world.note(|| "FAULT the parameters are changed".into());
        for node in 0..world.nodes.len() {
            let (delay, life) = (world.rng.range(1, 3_000), world.nodes[node].life);
            world.tell(delay, node, life, Event::SettingsChanged);
        }
    }

    fn restart(world: &mut World, node: usize) {
        world.note(|| format!("FAULT a restart of {node} is asked for"));
        let ask = Ask::Restart { timeout_ms: 20_000 };
        let (id, life): (u64, Life) = (world.next_id(), world.nodes[node].life);
        world.tell(1, node, life, Event::Asked { id, ask });
    }

    fn reinitialize(world: &mut World, node: usize) {
        let force = world.rng.percent(50);
        world.note(|| format!("FAULT a new copy for {node} is asked for (force: {force})"));
        let ask = Ask::Reinitialize { force };
        let (id, life): (u64, Life) = (world.next_id(), world.nodes[node].life);
        world.tell(1, node, life, Event::Asked { id, ask });
    }

    /// Somebody plans a switchover for soon, or for a moment that has passed, from who leads or
    /// from somebody else.
    fn plan(world: &mut World, from: usize) {
        let leader = world.leader().filter(|_| world.rng.percent(80));
        let from = world.nodes[leader.unwrap_or(from)].name.clone();
        let to = world.rng.range(0, world.nodes.len() as u64 - 1) as usize;
        let to = world
            .rng
            .percent(50)
            .then(|| world.nodes[to].name.clone())
            .filter(|to| *to != from);
        let at_wall_ms = WALL_MS + world.now + world.rng.range(0, 60_000) - 20_000;
        world.note(|| format!("FAULT a switchover from {from} to {to:?} is planned"));
        world.store.plan(Scheduled {
            from: Some(from),
            to,
            at: at_wall_ms.to_string(),
            at_wall_ms,
        });
        world.shared_changed();
    }

    /// The clock on the wall is set.
    fn jump(world: &mut World, node: usize) {
        let offset_ms = world.rng.range(0, 20_000) as i64 - 10_000;
        world.note(|| format!("FAULT the clock of {node} is set: {offset_ms} ms ahead of true"));
        world.nodes[node].wall_offset = offset_ms;
        let (wall_ms, life) = (world.wall_of(node), world.nodes[node].life);
        world.tell(1, node, life, Event::WallClock { wall_ms });
    }

    /// A second pod under the name of another: two UIDs, one name.
    fn twin(world: &mut World, node: usize, of: usize) {
        if node == of {
            return;
        }
        // The synchronous set is kept by name: another volume under a listed name is outside of its
        // promise.
        if world.nodes[node].guardian == 0 || world.options.synchronous {
            return;
        }
        let name = world.nodes[of].name.clone();
        world.note(|| format!("FAULT {node} comes back under the name {name}"));
        world.kill_pod(node);
        world.nodes[node].name = name;
        let delay = world.rng.range(50, 2_000);
        world.schedule(
            delay,
            Act::StartPod {
                node,
                new_uid: true,
            },
        );
    }

    /// The leader dies, and two that may follow it have one name; answers get lost.
    fn twins_race(world: &mut World, node: usize) {
        let Some(leader) = world.leader().filter(|leader| *leader != node) else {
            return;
        };
        let of = (0..world.nodes.len()).find(|one| ![node, leader].contains(one));
        if let Some(of) = of {
            world.note(|| "FAULT the API loses requests and answers".into());
            world.lossy_until = world.now + 3 * TTL_MS;
            Self::twin(world, node, of);
            Self::kill_pod(world, leader);
        }
    }

    /// etcd comes back from a backup.
    fn restore(world: &mut World) {
        if !directed::all_know_the_holder(world) {
            return;
        }
        if let Some(backup) = world.backup.take() {
            world.note(|| "FAULT the store is restored from a backup".into());
            world.store = backup;
            world.lock_changed();
            world.shared_changed();
        } else if world.store.is_bootstrapped() && !world.options.synchronous {
            world.backup = Some(world.store.clone());
        }
    }

    pub(crate) fn heal_all(world: &mut World) {
        world.note(|| "HEAL all faults end".into());
        world.healed = true;
        world.slow_until = 0;
        world.lossy_until = 0;
        world.store.mend_by_hand();
        maintenance::look_after(world);
        world.shared_changed();
        for node in 0..world.nodes.len() {
            world.nodes[node].stalled = None;
            world.make_room(node);
            world.heal(node, true);
            world.heal(node, false);
            world.schedule(0, Act::Thaw { node, agent: true });
            if world.options.faults != Faults::Hung {
                world.schedule(0, Act::Thaw { node, agent: false });
            }
            let own = format!("pg-{node}");
            if world.nodes[node].name != own {
                world.kill_pod(node);
                world.nodes[node].name = own;
            }
            let delay = world.rng.range(10, 4_000);
            world.schedule(
                delay,
                Act::StartPod {
                    node,
                    new_uid: false,
                },
            );
        }
    }
}
