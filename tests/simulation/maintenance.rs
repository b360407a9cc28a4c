//! Maintenance mode: begun and ended by people, at the worst of moments.

use crate::act::Act;
use crate::node::Life;
use crate::world::World;
use pgwarden::ha::event::{Ask, Event};
use pgwarden::ha::remote::Standby;
use pgwarden::ha::state::State;

/// How often a person looks after a cluster that does not come back.
const LOOK_MS: u64 = 3_000;

fn begin(world: &mut World) {
    world.note(|| "FAULT maintenance mode begins".into());
    world.store.edit_rules(|rules| rules.pause = true);
    world.shared_changed();
}

pub(crate) fn brief(world: &mut World) {
    begin(world);
    briefly(world);
}

pub(crate) fn hasty(world: &mut World) {
    begin(world);
    hastily(world);
}

/// Maintenance mode begins, and ends after a while.
pub(crate) fn pause(world: &mut World, long: u64) {
    begin(world);
    match world.rng.range(0, 9) {
        0..=2 => return briefly(world),
        3..=5 => return hastily(world),
        _ => {}
    }
    if world.rng.percent(30) {
        let target = world.leader().unwrap_or_default();
        let api = world.rng.percent(70);
        let delay = world.rng.range(1, 4_000);
        world.schedule(
            delay,
            Act::Cut {
                node: target,
                api,
                ms: long,
            },
        );
    }
    let cut_for = world
        .rng
        .percent(60)
        .then(|| world.rng.range(5_000, 15_000));
    let lasts_ms = long + world.rng.range(0, 6_000);
    world.schedule(lasts_ms, Act::Resume { cut_for });
}

/// Who leads has heard of it and is cut off before its mark arrives, or just after; meanwhile it
/// ends.
fn briefly(world: &mut World) {
    let target = world.leader().unwrap_or_default();
    let delay = world.rng.range(5, 60);
    let ms = world.rng.range(8_000, 15_000);
    let cut = Act::Cut {
        node: target,
        api: true,
        ms,
    };
    world.schedule(delay, cut);
    let lasts_ms = world.rng.range(500, 3_000);
    world.schedule(lasts_ms, Act::Resume { cut_for: None });
}

/// It ends while the mark is on its way; then who leads is cut off and loses its agent.
fn hastily(world: &mut World) {
    let node = world.leader().unwrap_or_default();
    let lasts_ms = world.rng.range(1, 40);
    world.schedule(lasts_ms, Act::Resume { cut_for: None });
    let (delay, ms) = (lasts_ms + world.rng.range(10, 150), 15_000);
    let api = true;
    world.schedule(delay, Act::Cut { node, api, ms });
    let delay = delay + world.rng.range(0, 3_000);
    world.schedule(delay, Act::KillAgent { node });
}

/// It ends; who leads may be cut off a moment after it was told, or before.
pub(crate) fn resume(world: &mut World, cut_for: Option<u64>) {
    world.note(|| "FAULT maintenance mode ends".into());
    world.store.resume();
    world.shared_changed();
    if let (Some(ms), Some(node), false) = (cut_for, world.leader(), world.healed) {
        let delay = world.rng.range(5, 60);
        world.schedule(
            delay,
            Act::Cut {
                node,
                api: true,
                ms,
            },
        );
    }
}

/// The cluster becomes a standby cluster, of a primary that is not to be reached, and stops being
/// one after a while.
pub(crate) fn demote(world: &mut World, long: u64) {
    if !world.store.is_bootstrapped() {
        return;
    }
    world.note(|| "FAULT the cluster becomes a standby cluster".into());
    world.store.follow(Some(Standby {
        host: Some("elsewhere".into()),
        port: 5432,
    }));
    world.shared_changed();
    let lasts_ms = long + world.rng.range(0, 6_000);
    world.schedule(lasts_ms, Act::PromoteCluster);
}

pub(crate) fn promote(world: &mut World) {
    world.note(|| "FAULT the cluster follows nobody else any more".into());
    world.store.follow(None);
    world.shared_changed();
}

/// All faults are over: people end maintenance mode, and vouch for what nothing can prove.
pub(crate) fn look_after(world: &mut World) {
    world.store.resume();
    world.store.follow(None);
    world.schedule(LOOK_MS, Act::Vouch);
}

/// A holder whose guardian is gone is dead, and a person can know.
pub(crate) fn vouch(world: &mut World) {
    if !world.writable().is_empty() {
        return;
    }
    for node in 0..world.nodes.len() {
        let state = world.nodes[node].state.as_ref();
        let held = |state: &State| state.lock.ageless().next().cloned();
        let Some(marked) = state.and_then(|state| held(state)) else {
            continue;
        };
        let alive = world.nodes.iter().any(|n| {
            n.guardian != 0
                && n.uid == marked.holder.pod_uid
                && n.incarnation.to_string() == marked.holder.incarnation
        });
        if !alive {
            world.note(|| format!("a person vouches at {node} that {} is dead", marked.holder));
            let ask = Ask::Vouch {
                holder: marked.holder.name,
            };
            let (id, life): (u64, Life) = (world.next_id(), world.nodes[node].life);
            world.tell(1, node, life, Event::Asked { id, ask });
        }
    }
    world.schedule(LOOK_MS, Act::Vouch);
}
