//! Between agents and the store, and between agents: requests, answers, watches, questions.

use crate::act::Act;
use crate::node::Life;
use crate::votes;
use crate::world::{Bug, TTL_MS, World};
use pgwarden::ha::event::Event;
use pgwarden::ha::lock::{LockWrite, Outcome};
use pgwarden::ha::model::{Member, Name};
use pgwarden::ha::shared::{Shared, SharedWrite};
use std::sync::Arc;

/// Whose answers reach no agent.
const NOBODY: Life = Life::MAX;

impl World {
    /// With Endpoints the route is a part of the lock object; elsewhere it is an object of its own.
    pub(crate) fn send_route(&mut self, node: usize, epoch: u64) {
        if self.options.route_in_lock && !self.nodes[node].cut_api {
            let delay = self.rng.range(
                2,
                if self.now < self.slow_until {
                    3_000
                } else {
                    80
                },
            );
            self.schedule(delay, Act::ApplyRoute { node, epoch });
        }
    }

    /// Another version of the lock object with the same lock fields, if it is still this holder's.
    fn apply_route(&mut self, node: usize, epoch: u64) {
        let lock = self.store.lock_snapshot();
        let name = &self.nodes[node].name;
        if lock
            .held()
            .is_some_and(|held| held.epoch == epoch && held.holder.name == *name)
        {
            self.note(|| format!("store: the route of node {node}, epoch {epoch}"));
            self.store.touch_lock();
            self.lock_changed();
        }
    }

    pub(crate) fn act_on_network(&mut self, act: Act) {
        match act {
            Act::ApplyLock {
                node,
                life,
                nonce,
                expect,
                write,
                answer_at,
            } => {
                let wall = self.nodes[node].wall(self.now);
                let outcome = self.store.write_lock(expect.as_deref(), &write, wall);
                let done = matches!(outcome, Outcome::Done(_));
                self.note(|| format!("store: lock write {nonce} of node {node}: done {done}"));
                if done {
                    self.lock_changed();
                }
                self.answer(node, life, answer_at, Event::LockWritten { nonce, outcome });
            }
            Act::ApplyShared {
                node,
                life,
                what,
                answer_at,
            } => {
                let outcome = self.write_shared(node, life, &what);
                self.note(|| format!("store: {what:?} of node {node}: {outcome:?}"));
                if matches!(outcome, Outcome::Done(_)) {
                    self.shared_changed();
                }
                let what = *what;
                self.answer(
                    node,
                    life,
                    answer_at,
                    Event::SharedWritten { what, outcome },
                );
            }
            Act::ReadLock {
                node,
                life,
                answer_at,
            } => {
                let event = self.lock_seen(true);
                self.answer(node, life, answer_at, event);
            }
            Act::ReadShared {
                node,
                life,
                answer_at,
            } => {
                let event = self.shared_seen(true);
                self.answer(node, life, answer_at, event);
            }
            Act::WatchLock { node } => {
                self.nodes[node].watch_lock_due = false;
                if !self.nodes[node].cut_api {
                    let event = self.lock_seen(false);
                    self.deliver_if_alive(node, event);
                }
            }
            Act::WatchShared { node } => {
                self.nodes[node].watch_shared_due = false;
                if !self.nodes[node].cut_api {
                    let event = self.shared_watched(node);
                    self.deliver_if_alive(node, event);
                }
            }
            Act::ApplyRoute { node, epoch } => self.apply_route(node, epoch),
            Act::PublishMember { node, life } => self.publish_member(node, life),
            Act::PeerReply {
                node,
                life,
                round,
                peer,
            } => self.peer_reply(node, life, round, peer),
            ask @ Act::AskVote { .. } => self.put_vote_question(ask),
            ask @ Act::AskPromise { .. } => self.put_question(ask),
            other => self.act_on_server(other),
        }
    }

    fn lock_seen(&self, quorum: bool) -> Event {
        let lock = self.store.lock_snapshot();
        Event::LockSeen { lock, quorum }
    }

    pub(crate) fn shared_seen(&mut self, quorum: bool) -> Event {
        let shared = self.store.shared_view();
        Event::SharedSeen { shared, quorum }
    }

    fn shared_watched(&mut self, node: usize) -> Event {
        let mut shared = self.store.shared_view();
        if let Some((until, before)) = &self.nodes[node].stalled
            && self.now < *until
        {
            shared = Arc::new(Shared {
                members: shared.members.clone(),
                ..Shared::clone(before)
            });
        }
        let quorum = false;
        Event::SharedSeen { shared, quorum }
    }

    /// The answer of a request, or its deadline.
    pub(crate) fn answer(&mut self, node: usize, life: Life, at: Option<u64>, event: Event) {
        let lost = self.nodes[node].cut_api;
        if let Some(at) = at
            && !lost
        {
            let delay = at.saturating_sub(self.now);
            self.tell(delay, node, life, event);
        } else {
            let event = timed_out(event);
            self.tell(750, node, life, event);
        }
    }

    /// When a request arrives, and when its answer does; `None`: lost.
    pub(crate) fn request(&mut self, node: usize) -> (Option<u64>, Option<u64>) {
        if self.nodes[node].cut_api {
            return (None, None);
        }
        let slow = self.now < self.slow_until;
        let lossy = self.now < self.lossy_until;
        if lossy && self.rng.percent(30) {
            return (None, None);
        }
        let there = if slow && self.rng.percent(50) {
            self.rng.range(100, 2_500)
        } else {
            self.rng.range(1, 12)
        };
        let back = self.rng.range(1, 12);
        // Applied late or answered late: the client has given up, the store has not.
        let heard = there + back < 740 && !(lossy && self.rng.percent(30));
        (Some(there), heard.then_some(self.now + there + back))
    }

    pub(crate) fn send_read_lock(&mut self, node: usize) {
        let life = self.nodes[node].life;
        let (there, answer_at) = self.request(node);
        if let Some(delay) = there {
            let read = Act::ReadLock {
                node,
                life,
                answer_at,
            };
            self.schedule(delay, read);
        } else {
            let why = "timeout".into();
            self.tell(750, node, life, Event::LockReadFailed { why });
        }
    }

    pub(crate) fn send_read_shared(&mut self, node: usize) {
        let life = self.nodes[node].life;
        let (there, answer_at) = self.request(node);
        if let Some(delay) = there {
            let read = Act::ReadShared {
                node,
                life,
                answer_at,
            };
            self.schedule(delay, read);
        } else {
            let generation = 0;
            let tick = Act::Tick {
                node,
                life,
                generation,
            };
            self.schedule(750, tick);
        }
    }

    pub(crate) fn send_lock(
        &mut self,
        node: usize,
        nonce: u64,
        expect: Option<String>,
        write: Box<LockWrite>,
    ) {
        let life = self.nodes[node].life;
        let expect = match self.options.bug {
            Bug::VersionOfNow => self.store.lock_snapshot().resource_version,
            _ => expect,
        };
        let (there, answer_at) = self.request(node);
        if let Some(delay) = there {
            let act = Act::ApplyLock {
                node,
                life,
                nonce,
                expect,
                write,
                answer_at,
            };
            self.schedule(delay, act);
            if answer_at.is_some() {
                return;
            }
        }
        let outcome = Outcome::Unknown {
            why: "timeout".into(),
        };
        let event = Event::LockWritten { nonce, outcome };
        self.tell(750, node, life, event);
    }

    pub(crate) fn send_shared(&mut self, node: usize, what: SharedWrite) {
        let life = self.nodes[node].life;
        let (there, answer_at) = self.request(node);
        if let Some(delay) = there {
            let act = Act::ApplyShared {
                node,
                life,
                what: Box::new(what.clone()),
                answer_at,
            };
            self.schedule(delay, act);
            if answer_at.is_some() {
                return;
            }
        }
        let outcome = Outcome::Unknown {
            why: "timeout".into(),
        };
        let event = Event::SharedWritten { what, outcome };
        self.tell(750, node, life, event);
    }

    fn write_shared(&mut self, node: usize, life: Life, what: &SharedWrite) -> Outcome<String> {
        let bug = self.options.bug == Bug::SetStoredLate && life != NOBODY;
        match what {
            SharedWrite::Sync {
                standbys, expect, ..
            } if bug && standbys.is_empty() => {
                let later = Act::ApplyShared {
                    node,
                    life: NOBODY,
                    what: Box::new(what.clone()),
                    answer_at: None,
                };
                self.schedule(TTL_MS / 2, later);
                Outcome::Done(expect.clone().unwrap_or_default())
            }
            _ => self.store.write_shared(what),
        }
    }

    pub(crate) fn lock_changed(&mut self) {
        for node in 0..self.nodes.len() {
            if !self.nodes[node].watch_lock_due {
                self.nodes[node].watch_lock_due = true;
                let delay = self.rng.range(1, 40);
                self.schedule(delay, Act::WatchLock { node });
            }
        }
    }

    pub(crate) fn shared_changed(&mut self) {
        for node in 0..self.nodes.len() {
            if !self.nodes[node].watch_shared_due {
                self.nodes[node].watch_shared_due = true;
                let delay = self.rng.range(1, 60);
                self.schedule(delay, Act::WatchShared { node });
            }
        }
    }

    pub(crate) fn consider_publishing(&mut self, node: usize) {
        let n = &self.nodes[node];
        let Some(state) = &n.state else { return };
        let base = Member {
            host: format!("10.0.0.{node}"),
            port: 5432,
            api_url: format!("http://10.0.0.{node}:8008/patroni"),
            tags: votes::tags(self.options.seed, node),
            ..Member::default()
        };
        let member = state.public_member(&base);
        if member == n.published {
            return;
        }
        let moved = Member {
            lsn: member.lsn,
            receive_lsn: member.receive_lsn,
            replay_lsn: member.replay_lsn,
            ..n.published.clone()
        };
        // Its position alone is published once a second.
        if member != moved || self.now >= n.published_at + 1_000 {
            let life = n.life;
            self.nodes[node].published = member;
            self.nodes[node].published_at = self.now;
            let delay = self.rng.range(2, 30);
            self.schedule(delay, Act::PublishMember { node, life });
        }
    }

    pub(crate) fn publish_member(&mut self, node: usize, life: Life) {
        let n = &self.nodes[node];
        if n.life != life {
            return;
        }
        if n.cut_api {
            return self.schedule(500, Act::PublishMember { node, life });
        }
        let (name, pod) = (n.name.clone(), n.pod.clone());
        let member = Member {
            leaving: pod.leaving,
            revision: pod.revision,
            created: pod.created,
            ..n.published.clone()
        };
        self.store.put_member(&name, member);
        self.shared_changed();
    }

    pub(crate) fn ask_peer(&mut self, node: usize, round: u64, name: Name) {
        let life = self.nodes[node].life;
        let mut peers = self.nodes.iter();
        let peer = peers.position(|n| n.name == name && n.index != node);
        let delay = self.rng.range(1, 15);
        if let Some(peer) = peer {
            let reply = Act::PeerReply {
                node,
                life,
                round,
                peer,
            };
            self.schedule(delay, reply);
        } else {
            let status = None;
            let event = Event::PeerAnswered {
                round,
                name,
                status,
            };
            self.tell(700, node, life, event);
        }
    }

    pub(crate) fn peer_reply(&mut self, node: usize, life: Life, round: u64, peer: usize) {
        let (me, other) = (&self.nodes[node], &self.nodes[peer]);
        let reachable = !me.cut_peers && !other.cut_peers && !other.frozen;
        let status = other
            .state
            .as_ref()
            .filter(|_| reachable)
            .and_then(|s| s.peer_status(other.clock(self.now)));
        let name = other.name.clone();
        let delay = if reachable { 2 } else { 700 };
        let event = Event::PeerAnswered {
            round,
            name,
            status,
        };
        self.tell(delay, node, life, event);
    }
}

/// What a request's own deadline says in place of the answer.
fn timed_out(event: Event) -> Event {
    let why = "timeout".to_owned();
    match event {
        Event::LockWritten { nonce, .. } => Event::LockWritten {
            nonce,
            outcome: Outcome::Unknown { why },
        },
        Event::SharedWritten { what, .. } => Event::SharedWritten {
            what,
            outcome: Outcome::Unknown { why },
        },
        Event::LockSeen { .. } => Event::LockReadFailed { why },
        _ => Event::Tick,
    }
}
