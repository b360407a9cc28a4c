//! A node: its clock, its files, and the events that reach its agent.

use crate::act::Act;
use crate::rng::Rng;
use crate::server::{Dir, Server};
use crate::slots::Slots;
use crate::world::{Bug, Story, World};
use pgwarden::ha::effect::Effect;
use pgwarden::ha::event::Event;
use pgwarden::ha::memory::Memory;
use pgwarden::ha::model::{Member, Name};
use pgwarden::ha::shared::Shared;
use pgwarden::ha::state::State;
use pgwarden::ha::step::step;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The number of an agent's life; events of an earlier life are lost.
pub(crate) type Life = u64;

pub(crate) struct Node {
    pub(crate) index: usize,
    pub(crate) name: Name,
    /// Boottime: `offset + t·(1 + ppm/10⁶)`.
    offset: u64,
    ppm: i64,
    /// The wall clock's error; nobody may depend on it.
    pub(crate) wall_offset: i64,
    pub(crate) uid: String,
    /// What the platform says of the Pod object: never of the member's making.
    pub(crate) pod: Member,
    pub(crate) incarnation: u64,
    /// The guardian's life; 0: the pod is down.
    pub(crate) guardian: u64,
    pub(crate) deadline: Option<u64>,
    pub(crate) is_pid1: bool,
    pub(crate) life: Life,
    pub(crate) state: Option<Box<State>>,
    pub(crate) frozen: bool,
    /// The guardian stands still too.
    pub(crate) guardian_frozen_until: u64,
    pub(crate) backlog: Vec<Event>,
    pub(crate) tick_generation: u64,
    pub(crate) dir: Dir,
    /// Beside the data directory.
    pub(crate) memory: Memory,
    pub(crate) owned_slots: BTreeSet<String>,
    /// Fetched from the leader by the agent that lives.
    pub(crate) fetched: Slots,
    pub(crate) server: Option<Server>,
    pub(crate) server_frozen_since: Option<u64>,
    pub(crate) cut_api: bool,
    pub(crate) cut_peers: bool,
    pub(crate) published: Member,
    pub(crate) published_at: u64,
    pub(crate) watch_lock_due: bool,
    pub(crate) watch_shared_due: bool,
    /// Its watch of the shared objects, not of the pods, is stalled until then, at this.
    pub(crate) stalled: Option<(u64, Arc<Shared>)>,
    /// Its volume has no room.
    pub(crate) full: bool,
    /// Its disk answers no more, for good.
    pub(crate) dead_disk: bool,
    /// When the hook ends that was started last.
    pub(crate) hook_until: u64,
    /// Its rewind found a leader: from then on it works on the directory.
    pub(crate) rewinds: bool,
    /// Containers of mine that the kubelet has reported as terminated.
    pub(crate) terminated: Vec<String>,
}

impl Node {
    pub(crate) fn new(index: usize, rng: &mut Rng) -> Self {
        Self {
            index,
            name: format!("pg-{index}"),
            offset: rng.range(1_000, 50_000_000),
            ppm: rng.range(0, 1_000) as i64 - 500,
            wall_offset: rng.range(0, 40_000) as i64 - 20_000,
            uid: String::new(),
            pod: Member::default(),
            incarnation: 0,
            guardian: 0,
            deadline: None,
            is_pid1: rng.percent(50),
            life: 0,
            state: None,
            frozen: false,
            guardian_frozen_until: 0,
            backlog: Vec::new(),
            tick_generation: 0,
            dir: Dir::Empty,
            memory: Memory::default(),
            owned_slots: BTreeSet::new(),
            fetched: Slots::new(),
            server: None,
            server_frozen_since: None,
            cut_api: false,
            cut_peers: false,
            published: Member::default(),
            published_at: 0,
            watch_lock_due: false,
            watch_shared_due: false,
            stalled: None,
            full: false,
            dead_disk: false,
            hook_until: 0,
            rewinds: false,
            terminated: Vec::new(),
        }
    }

    /// The local boottime clock at the world's time.
    pub(crate) fn clock(&self, now: u64) -> u64 {
        (self.offset + now).strict_add_signed(now as i64 * self.ppm / 1_000_000)
    }

    /// How long until the local clock shows `at`.
    pub(crate) fn until(&self, now: u64, at: u64) -> u64 {
        let local = at.saturating_sub(self.clock(now));
        local + local / 1_000 + 1
    }

    pub(crate) fn wall(&self, now: u64) -> i64 {
        now as i64 + self.wall_offset
    }

    pub(crate) fn summary(&self) -> String {
        let state = self.state.as_ref().map(|state| {
            format!(
                "{:?} op {:?} explained {:?}",
                state.pg, state.pg.op, state.explained
            )
        });
        format!(
            "{} guardian {} {:?} dir {:?}",
            self.name,
            self.guardian,
            state,
            self.dir.inspect()
        )
    }
}

impl World {
    pub(crate) fn act_on_node(&mut self, act: Act) {
        match act {
            Act::Deliver { node, life, event } => {
                if self.nodes[node].life == life {
                    self.deliver(node, *event);
                }
            }
            Act::Tick {
                node,
                life,
                generation,
            } => {
                let n = &self.nodes[node];
                if n.life == life && n.tick_generation == generation {
                    self.deliver(node, Event::Tick);
                }
            }
            Act::Deadline { node, guardian } => self.guardian_looks(node, guardian),
            Act::GuardianKill { node, guardian } => self.guardian_kills(node, guardian),
            Act::OpDone {
                node,
                life,
                op,
                source,
            } => self.op_done(node, life, op, source),
            Act::Probe { node } => {
                self.probe(node);
                self.schedule(200, Act::Probe { node });
            }
            Act::Look { node } => self.probe(node),
            Act::StartAgent { node, guardian } => self.start_agent(node, guardian),
            Act::StartPod { node, new_uid } => self.start_pod(node, new_uid),
            Act::HungCheck {
                node,
                guardian,
                life,
            } => {
                let n = &self.nodes[node];
                if self.now < n.guardian_frozen_until {
                    let delay = n.guardian_frozen_until - self.now + 1;
                    let again = Act::HungCheck {
                        node,
                        guardian,
                        life,
                    };
                    self.schedule(delay, again);
                } else if n.guardian == guardian && n.life == life && n.frozen {
                    self.note(|| format!("node {node}: the guardian kills the hung agent"));
                    self.kill_agent(node);
                }
            }
            Act::Thaw { node, agent } => self.thaw(node, agent),
            Act::Heal { node, api } => self.heal(node, api),
            other => self.act_on_network(other),
        }
    }

    /// Hand an agent an event after a delay, unless its life is over by then.
    pub(crate) fn tell(&mut self, delay: u64, node: usize, life: Life, event: Event) {
        let event = Box::new(event);
        self.schedule(delay, Act::Deliver { node, life, event });
    }

    pub(crate) fn deliver_if_alive(&mut self, node: usize, event: Event) {
        if self.nodes[node].state.is_some() {
            self.deliver(node, event);
        }
    }

    /// An event reaches an agent: the real step, then its effects.
    pub(crate) fn deliver(&mut self, node: usize, event: Event) {
        if self.nodes[node].state.is_none() {
            return;
        }
        if self.nodes[node].frozen {
            self.nodes[node].backlog.push(event);
            return;
        }
        let (life, now) = (self.nodes[node].life, self.now);
        let local = self.nodes[node].clock(now);
        if self.options.bug == Bug::WallClockAge {
            self.believe_the_wall_clock(node, local);
        }
        let quiet = matches!(event, Event::Tick | Event::PgSeen(_));
        let printed = self.options.story == Story::Printed;
        let words = if quiet || !printed {
            String::new()
        } else {
            format!("{event:?}").chars().take(140).collect()
        };
        let Node {
            state,
            memory,
            owned_slots,
            ..
        } = &mut self.nodes[node];
        let Some(state) = state else {
            return;
        };
        let effects = step(state, event, local);
        owned_slots.clone_from(&state.slots.owned);
        if !memory.is_of(&state.lock) {
            *memory = state.lock.memory();
        }
        if printed && (!quiet || effects.len() > 1) {
            self.note(|| format!("node {node} <- {words}"));
        }
        for effect in effects {
            if self.nodes[node].life != life {
                return;
            }
            // A crash before and after every effect.
            if !self.healed && self.rng.basis_points(1) {
                self.note(|| format!("node {node}: agent crashes before: {effect}"));
                return self.kill_agent(node);
            }
            if !matches!(effect, Effect::Wake { .. }) {
                self.note(|| format!("node {node}: {effect}"));
            }
            self.run_effect(node, effect);
            if !self.healed && self.rng.basis_points(1) {
                self.note(|| format!("node {node}: agent crashes after that"));
                return self.kill_agent(node);
            }
        }
        self.consider_publishing(node);
    }

    /// L3 switched off: what a naive observer would compute from the record's own timestamp.
    pub(crate) fn believe_the_wall_clock(&mut self, node: usize, local: u64) {
        let wall = self.nodes[node].wall(self.now);
        let Some(written) = self.store.lock.as_ref().map(|lock| lock.wall_ms) else {
            return;
        };
        if let Some(state) = &mut self.nodes[node].state {
            let age = (wall - written).max(0) as u64;
            state.lock.changed_at = local.saturating_sub(age);
        }
    }
}
