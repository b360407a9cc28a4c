//! Births, deaths and freezes of pods, agents and servers.

use crate::act::Act;
use crate::server::{Dir, Server};
use crate::votes;
use crate::world::{Bug, TTL_MS, World};
use pgwarden::ha::budgets::Budgets;
use pgwarden::ha::event::{Event, Op};
use pgwarden::ha::lock::Place;
use pgwarden::ha::model::{Identity, Member};
use pgwarden::ha::state::State;

impl World {
    pub(crate) fn kill_agent(&mut self, node: usize) {
        let now = self.now;
        let n = &mut self.nodes[node];
        if n.guardian == 0 {
            return;
        }
        let dying = n.state.take();
        n.life += 1;
        n.frozen = false;
        n.backlog.clear();
        // A rewind that dies midway leaves a directory that must not start; one that found nobody
        // who leads has touched nothing.
        if n.rewinds && dying.is_some_and(|state| state.pg.op == Some(Op::Rewind)) {
            n.dir = Dir::Unfinished;
        }
        let (guardian, delay) = (n.guardian, self.rng.range(40, 200));
        debug_assert!(now > 0);
        self.schedule(delay, Act::StartAgent { node, guardian });
    }

    /// Guardian, agent and server at once.
    pub(crate) fn kill_pod(&mut self, node: usize) {
        self.note(|| format!("node {node}: pod killed"));
        self.kill_agent(node);
        if let Some(generation) = self.nodes[node].server.as_ref().map(|s| s.generation) {
            self.server_gone(node, generation, false, "pod killed");
        }
        let n = &mut self.nodes[node];
        n.terminated.push(format!("container-{}", n.incarnation));
        n.guardian = 0;
        n.deadline = None;
    }

    pub(crate) fn start_pod(&mut self, node: usize, new_uid: bool) {
        if self.nodes[node].guardian != 0 {
            return;
        }
        let id = self.next_id();
        let n = &mut self.nodes[node];
        n.guardian = id;
        n.incarnation = id;
        if new_uid {
            n.uid = format!("uid-{id}");
            n.pod = Member {
                created: format!("{:012}", self.now),
                revision: self.revision.to_string(),
                ..Member::default()
            };
        }
        self.note(|| format!("node {node}: pod starts, incarnation {id}"));
        self.start_agent(node, id);
    }

    pub(crate) fn start_agent(&mut self, node: usize, guardian: u64) {
        if self.nodes[node].guardian != guardian
            || guardian == 0
            || self.nodes[node].state.is_some()
        {
            return;
        }
        // The guardian first ends what it kills.
        if self.nodes[node].server.as_ref().is_some_and(|s| s.dying) {
            return self.schedule(500, Act::StartAgent { node, guardian });
        }
        let rules = self.store.local_rules.clone();
        let budgets = Budgets::for_ttl(rules.ttl_ms).expect("the simulated ttl is valid");
        let n = &mut self.nodes[node];
        let me = Identity {
            name: n.name.clone(),
            pod_uid: n.uid.clone(),
            incarnation: n.incarnation.to_string(),
        };
        let place = Place {
            node: format!("node-{node}"),
            container_id: format!("container-{}", n.incarnation),
            ..Place::default()
        };
        let mut state = State::new(me, place, false, rules, budgets);
        if let Bug::Core(sabotage) = self.options.bug {
            state.sabotage = sabotage;
        }
        state.stream = votes::stream_tags(self.options.seed, node);
        state.lock.recall(n.memory.clone());
        state.slots.owned.clone_from(&n.owned_slots);
        n.fetched.clear();
        state.lease.next_nonce = n.clock(self.now) * 1_000;
        n.life += 1;
        n.published = Member::default();
        let life = n.life;
        n.state = Some(Box::new(state));
        let event = match &n.server {
            Some(server) => Event::PostmasterRuns {
                as_primary: server.as_primary,
            },
            None => Event::PostmasterGone {
                why: "nothing runs".into(),
            },
        };
        self.note(|| format!("node {node}: agent starts"));
        if let Some(wanted) = self.hooks_wanted() {
            self.deliver(node, wanted);
        }
        let wall_ms = self.wall_of(node);
        self.deliver(node, Event::WallClock { wall_ms });
        self.deliver(node, event);
        if self.nodes[node].full {
            self.deliver(node, Event::Volume { full: true });
        }
        if let Some(to) = self.nodes[node].deadline {
            self.deliver(node, Event::DeadlineMoved { to });
        }
        let delay = self.rng.range(5, 60);
        if !self.nodes[node].cut_api {
            let shared = self.store.shared_view();
            let event = Event::SharedSeen {
                shared,
                quorum: false,
            };
            self.tell(delay, node, life, event);
        }
    }

    pub(crate) fn make_room(&mut self, node: usize) {
        self.nodes[node].full = false;
        let life = self.nodes[node].life;
        self.tell(1, node, life, Event::Volume { full: false });
    }

    pub(crate) fn thaw(&mut self, node: usize, agent: bool) {
        if agent {
            self.nodes[node].frozen = false;
            for event in std::mem::take(&mut self.nodes[node].backlog) {
                self.deliver(node, event);
            }
            self.deliver(node, Event::Tick);
        } else if let Some(server) = &mut self.nodes[node].server {
            server.frozen = false;
            self.nodes[node].server_frozen_since = None;
            self.deliver_if_alive(
                node,
                Event::Serving {
                    ok: true,
                    why: String::new(),
                },
            );
        }
    }

    pub(crate) fn heal(&mut self, node: usize, api: bool) {
        if api {
            self.nodes[node].cut_api = false;
            self.lock_changed();
            self.shared_changed();
        } else {
            self.nodes[node].cut_peers = false;
        }
    }

    pub(crate) fn freeze_agent(&mut self, node: usize, ms: u64) {
        let n = &mut self.nodes[node];
        if n.state.is_none() {
            return;
        }
        n.frozen = true;
        let (guardian, life) = (n.guardian, n.life);
        let primary = n.server.as_ref().is_some_and(Server::is_writable);
        let hung = if primary { TTL_MS / 4 } else { 30_000 };
        self.schedule(ms, Act::Thaw { node, agent: true });
        self.schedule(
            hung,
            Act::HungCheck {
                node,
                guardian,
                life,
            },
        );
    }

    pub(crate) fn freeze_server(&mut self, node: usize, ms: u64) {
        let now = self.now;
        let n = &mut self.nodes[node];
        if let Some(server) = &mut n.server {
            server.frozen = true;
            n.server_frozen_since = Some(now);
            self.schedule(ms, Act::Thaw { node, agent: false });
        }
    }
}
