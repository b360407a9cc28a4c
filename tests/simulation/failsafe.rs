//! Failsafe mode: questions between members, and what befalls a cluster that lives by promises.

use crate::act::Act;
use crate::faults::Fault;
use crate::node::Life;
use crate::world::World;
use pgwarden::ha::event::{Ask, Event};
use pgwarden::ha::lock::FailsafeMap;
use pgwarden::ha::model::Ms;

/// Where the answer to a question goes.
pub(crate) struct Asker {
    node: usize,
    life: Life,
    round: u64,
}

impl World {
    pub(crate) fn ask_promises(
        &mut self,
        node: usize,
        (round, epoch, ttl_ms): (u64, u64, Ms),
        peers: FailsafeMap,
    ) {
        let life = self.nodes[node].life;
        for (name, mapped) in peers {
            let peer = self.nodes.iter().position(|n| n.name == name);
            let delay = self.rng.range(1, 15);
            if let Some(peer) = peer {
                let ask = Act::AskPromise {
                    node,
                    life,
                    round,
                    peer,
                    uid: mapped.pod_uid,
                    epoch,
                    ttl_ms,
                };
                self.schedule(delay, ask);
            }
        }
    }

    /// The question reaches the Pod at that address; a stranger's answer is none.
    pub(crate) fn put_question(&mut self, act: Act) {
        let Act::AskPromise {
            node,
            life,
            round,
            peer,
            uid,
            epoch,
            ttl_ms,
        } = act
        else {
            return;
        };
        let (me, other) = (&self.nodes[node], &self.nodes[peer]);
        let Some(holder) = me.state.as_ref().map(|state| state.me.clone()) else {
            return;
        };
        let reached = !me.cut_peers && !other.cut_peers && other.state.is_some();
        if !reached || other.uid != uid {
            return;
        }
        let (id, name, peer_life) = (
            self.next_id(),
            other_name(self, peer),
            self.nodes[peer].life,
        );
        self.questions
            .insert(id, (Asker { node, life, round }, name));
        let ask = Ask::Promise {
            holder,
            epoch,
            ttl_ms,
        };
        self.tell(1, peer, peer_life, Event::Asked { id, ask });
    }

    pub(crate) fn answer_question(&mut self, peer: usize, id: u64, done: bool, text: String) {
        if self.answer_candidate(peer, id, Err(text.clone())) {
            return;
        }
        let Some((asker, name)) = self.questions.remove(&id) else {
            return;
        };
        let Asker { node, life, round } = asker;
        if self.nodes[node].cut_peers || self.nodes[peer].cut_peers {
            return;
        }
        let refused = (!done).then_some(text);
        let promised = Event::Promised {
            round,
            name,
            refused,
        };
        let delay = self.rng.range(1, 30);
        self.tell(delay, node, life, promised);
    }
}

fn other_name(world: &World, node: usize) -> String {
    world.nodes[node].name.clone()
}

/// The mode is switched on or off.
pub(crate) fn switch(world: &mut World) {
    world.note(|| "FAULT failsafe mode is switched".into());
    world
        .store
        .edit_rules(|rules| rules.failsafe = !rules.failsafe);
    world.shared_changed();
}

/// The API is gone for long, for the leader or for all; now and then somebody loses its agent
/// meanwhile.
pub(crate) fn outage(world: &mut World, target: usize) {
    let ms = world.rng.range(10_000, 30_000);
    if world.rng.percent(50) {
        for node in 0..world.nodes.len() {
            Fault::cut(world, node, ms, true);
        }
    } else if let Some(leader) = world.leader() {
        Fault::cut(world, leader, ms, true);
    }
    if world.rng.percent(40) {
        let delay = world.rng.range(1, ms);
        world.schedule(delay, Act::KillAgent { node: target });
    }
}

/// A replica's Pod is deleted and comes back as another one that the leader, cut off in between,
/// has never seen; the others have promised.
pub(crate) fn late_joiner(world: &mut World, node: usize) {
    let Some(leader) = world.leader().filter(|leader| *leader != node) else {
        return;
    };
    world.note(|| format!("FAULT the pod of {node} is replaced while the leader is cut off"));
    world.kill_pod(node);
    let name = other_name(world, node);
    world.store.members_mut().remove(&name);
    world.shared_changed();
    let (delay, ms) = (world.rng.range(1_200, 1_600), 30_000);
    world.schedule(
        delay,
        Act::Cut {
            node: leader,
            api: true,
            ms,
        },
    );
    let delay = delay + world.rng.range(5, 500);
    world.schedule(
        delay,
        Act::StartPod {
            node,
            new_uid: true,
        },
    );
}
