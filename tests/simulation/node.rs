//! A node: clock, guardian, agent, data directory and server; and the twins of the effects.

use crate::rng::Rng;
use crate::server::{Dir, Disk, Record, Server};
use crate::world::{Act, Bug, TTL_MS, World};
use pgwarden::ha::budgets::Budgets;
use pgwarden::ha::effect::{Effect, Stop};
use pgwarden::ha::event::{Event, Op};
use pgwarden::ha::lock::{LockWrite, Outcome, Place, Proof, ProofKind};
use pgwarden::ha::model::{ControlState, Identity, Lsn, Member, Name};
use pgwarden::ha::shared::SharedWrite;
use pgwarden::ha::state::{Process, Sabotage, State};
use pgwarden::ha::step::step;

/// The number of an agent's life; events of an earlier life are lost.
pub(crate) type Life = u64;

pub(crate) struct Node {
    pub(crate) index: usize,
    pub(crate) name: Name,
    /// Boottime: `offset + t·(1 + ppm/10⁶)`.
    offset: u64,
    ppm: i64,
    /// The wall clock's error; nobody may depend on it.
    wall_offset: i64,
    pub(crate) uid: String,
    pub(crate) incarnation: u64,
    /// The guardian's life; 0: the pod is down.
    pub(crate) guardian: u64,
    pub(crate) deadline: Option<u64>,
    pub(crate) is_pid1: bool,
    pub(crate) life: Life,
    pub(crate) state: Option<Box<State>>,
    pub(crate) frozen: bool,
    backlog: Vec<Event>,
    tick_generation: u64,
    pub(crate) dir: Dir,
    pub(crate) server: Option<Server>,
    pub(crate) server_frozen_since: Option<u64>,
    pub(crate) cut_api: bool,
    pub(crate) cut_peers: bool,
    pub(crate) published: Member,
    published_at: u64,
    watch_lock_due: bool,
    watch_shared_due: bool,
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
            incarnation: 0,
            guardian: 0,
            deadline: None,
            is_pid1: rng.percent(50),
            life: 0,
            state: None,
            frozen: false,
            backlog: Vec::new(),
            tick_generation: 0,
            dir: Dir::Empty,
            server: None,
            server_frozen_since: None,
            cut_api: false,
            cut_peers: false,
            published: Member::default(),
            published_at: 0,
            watch_lock_due: false,
            watch_shared_due: false,
            terminated: Vec::new(),
        }
    }

    /// The local boottime clock at the world's time.
    pub(crate) fn clock(&self, now: u64) -> u64 {
        (self.offset + now).strict_add_signed(now as i64 * self.ppm / 1_000_000)
    }

    /// How long until the local clock shows `at`.
    fn until(&self, now: u64, at: u64) -> u64 {
        let local = at.saturating_sub(self.clock(now));
        local + local / 1_000 + 1
    }

    fn wall(&self, now: u64) -> i64 {
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
                let outcome = self.store.write_shared(&what);
                self.note(|| format!("store: {what:?} of node {node}: {outcome:?}"));
                if matches!(outcome, Outcome::Done(_)) {
                    self.shared_changed();
                }
                self.answer(
                    node,
                    life,
                    answer_at,
                    Event::SharedWritten {
                        what: *what,
                        outcome,
                    },
                );
            }
            Act::ReadLock {
                node,
                life,
                answer_at,
            } => {
                let lock = self.store.lock_snapshot();
                self.answer(
                    node,
                    life,
                    answer_at,
                    Event::LockSeen { lock, quorum: true },
                );
            }
            Act::ReadShared {
                node,
                life,
                answer_at,
            } => {
                let shared = self.store.shared_view();
                self.answer(
                    node,
                    life,
                    answer_at,
                    Event::SharedSeen {
                        shared,
                        quorum: true,
                    },
                );
            }
            Act::WatchLock { node } => {
                self.nodes[node].watch_lock_due = false;
                if !self.nodes[node].cut_api {
                    let lock = self.store.lock_snapshot();
                    self.deliver_if_alive(
                        node,
                        Event::LockSeen {
                            lock,
                            quorum: false,
                        },
                    );
                }
            }
            Act::WatchShared { node } => {
                self.nodes[node].watch_shared_due = false;
                if !self.nodes[node].cut_api {
                    let shared = self.store.shared_view();
                    self.deliver_if_alive(
                        node,
                        Event::SharedSeen {
                            shared,
                            quorum: false,
                        },
                    );
                }
            }
            Act::PublishMember { node, life } => self.publish_member(node, life),
            Act::PeerReply {
                node,
                life,
                round,
                peer,
            } => self.peer_reply(node, life, round, peer),
            Act::Deadline { node, guardian } => self.guardian_looks(node, guardian),
            Act::GuardianKill { node, guardian } => self.guardian_kills(node, guardian),
            Act::ServerUp { node, generation } => self.server_up(node, generation),
            Act::ServerPromoted { node, generation } => self.server_promoted(node, generation),
            Act::ServerCheckpointed { node, generation } => {
                if let Some(server) = self.server_of(node, generation) {
                    server.checkpointed = true;
                }
            }
            Act::ServerStopped {
                node,
                generation,
                clean,
            } => {
                if self
                    .server_of(node, generation)
                    .is_some_and(|server| clean && server.frozen)
                {
                    return; // A frozen postmaster hears no polite signal.
                }
                self.server_gone(node, generation, clean, "stopped");
            }
            Act::OpDone {
                node,
                life,
                op,
                source,
            } => self.op_done(node, life, op, source),
            Act::SyncNamesSet {
                node,
                generation,
                life,
                names,
            } => {
                let Some(server) = self.server_of(node, generation) else {
                    return;
                };
                server.sync_names.clone_from(&names);
                if names.is_empty() {
                    self.release_pending(node);
                }
                let lsn = Lsn(self.nodes[node].dir.whole().map_or(0, |d| d.log.len()) as u64);
                let event = Box::new(Event::SyncNamesSet { names, lsn });
                self.schedule(2, Act::Deliver { node, life, event });
            }
            Act::Probe { node } => {
                self.probe(node);
                self.schedule(200, Act::Probe { node });
            }
            Act::StartAgent { node, guardian } => self.start_agent(node, guardian),
            Act::StartPod { node, new_uid } => self.start_pod(node, new_uid),
            Act::HungCheck {
                node,
                guardian,
                life,
            } => {
                let n = &self.nodes[node];
                if n.guardian == guardian && n.life == life && n.frozen {
                    self.note(|| format!("node {node}: the guardian kills the hung agent"));
                    self.kill_agent(node);
                }
            }
            Act::Thaw { node, agent } => self.thaw(node, agent),
            Act::Heal { node, api } => self.heal(node, api),
            Act::Client { .. } | Act::Stream { .. } | Act::NextFault | Act::HealAll => {}
        }
    }

    fn server_of(&mut self, node: usize, generation: u64) -> Option<&mut Server> {
        self.nodes[node]
            .server
            .as_mut()
            .filter(|server| server.generation == generation)
    }

    fn deliver_if_alive(&mut self, node: usize, event: Event) {
        if self.nodes[node].state.is_some() {
            self.deliver(node, event);
        }
    }

    /// The answer of a request, or its deadline.
    fn answer(&mut self, node: usize, life: Life, at: Option<u64>, event: Event) {
        let lost = self.nodes[node].cut_api;
        if let Some(at) = at
            && !lost
        {
            let delay = at.saturating_sub(self.now);
            self.schedule(
                delay,
                Act::Deliver {
                    node,
                    life,
                    event: Box::new(event),
                },
            );
        } else {
            let event = timed_out(event);
            self.schedule(
                750,
                Act::Deliver {
                    node,
                    life,
                    event: Box::new(event),
                },
            );
        }
    }

    /// When a request arrives, and when its answer does; `None`: lost.
    fn request(&mut self, node: usize) -> (Option<u64>, Option<u64>) {
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

    /// An event reaches an agent: the real step, then its effects.
    fn deliver(&mut self, node: usize, event: Event) {
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
        let words = if quiet || !self.options.trace {
            String::new()
        } else {
            format!("{event:?}").chars().take(140).collect()
        };
        let Some(state) = &mut self.nodes[node].state else {
            return;
        };
        let effects = step(state, event, local);
        if self.options.trace && (!quiet || effects.len() > 1) {
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
    fn believe_the_wall_clock(&mut self, node: usize, local: u64) {
        let wall = self.nodes[node].wall(self.now);
        let Some(written) = self.store.lock.as_ref().map(|lock| lock.wall_ms) else {
            return;
        };
        if let Some(state) = &mut self.nodes[node].state {
            let age = (wall - written).max(0) as u64;
            state.lock.changed_at = local.saturating_sub(age);
        }
    }

    fn consider_publishing(&mut self, node: usize) {
        let n = &self.nodes[node];
        let Some(state) = &n.state else { return };
        let base = Member {
            host: format!("10.0.0.{node}"),
            port: 5432,
            api_url: format!("http://10.0.0.{node}:8008/patroni"),
            ..Member::default()
        };
        let member = state.public_member(&base);
        let positions = |m: &Member| Member {
            lsn: None,
            receive_lsn: None,
            replay_lsn: None,
            ..m.clone()
        };
        let news = positions(&member) != positions(&n.published);
        if news || (member != n.published && self.now >= n.published_at + 1_000) {
            let life = n.life;
            self.nodes[node].published = member;
            self.nodes[node].published_at = self.now;
            let delay = self.rng.range(2, 30);
            self.schedule(delay, Act::PublishMember { node, life });
        }
    }

    fn publish_member(&mut self, node: usize, life: Life) {
        let n = &self.nodes[node];
        if n.life != life {
            return;
        }
        if n.cut_api {
            return self.schedule(500, Act::PublishMember { node, life });
        }
        let (name, member) = (n.name.clone(), n.published.clone());
        self.store.put_member(&name, member);
        self.shared_changed();
    }

    fn peer_reply(&mut self, node: usize, life: Life, round: u64, peer: usize) {
        let (me, other) = (&self.nodes[node], &self.nodes[peer]);
        let reachable = !me.cut_peers && !other.cut_peers && !other.frozen;
        let status = other
            .state
            .as_ref()
            .filter(|_| reachable)
            .and_then(|s| s.peer_status());
        let name = other.name.clone();
        let delay = if reachable { 2 } else { 700 };
        let event = Box::new(Event::PeerAnswered {
            round,
            name,
            status,
        });
        self.schedule(delay, Act::Deliver { node, life, event });
    }

    fn probe(&mut self, node: usize) {
        let now = self.now;
        let n = &self.nodes[node];
        let Some(server) = &n.server else { return };
        if server.frozen {
            // G9's own measure: max(D, 10 s) without an answer.
            if n.server_frozen_since
                .is_some_and(|since| now >= since + TTL_MS.max(10_000))
            {
                let event = Event::Serving {
                    ok: false,
                    why: "no answer".into(),
                };
                self.deliver_if_alive(node, event);
            }
            return;
        }
        if let Some(disk) = n.dir.whole().filter(|_| server.started) {
            let facts = server.facts(disk, now);
            self.deliver_if_alive(node, Event::PgSeen(facts));
        }
    }

    fn guardian_looks(&mut self, node: usize, guardian: u64) {
        let n = &self.nodes[node];
        if n.guardian != guardian || n.guardian == 0 {
            return;
        }
        if let Some(deadline) = n.deadline
            && n.clock(self.now) >= deadline
        {
            // K: the worst time until the last SIGKILL is delivered.
            let delay = self.rng.range(1, 550);
            self.note(|| format!("node {node}: the deadline has passed"));
            self.schedule(delay, Act::GuardianKill { node, guardian });
        }
    }

    fn guardian_kills(&mut self, node: usize, guardian: u64) {
        let n = &self.nodes[node];
        let passed = n
            .deadline
            .is_some_and(|deadline| n.clock(self.now) >= deadline);
        if n.guardian != guardian || !passed {
            return;
        }
        if self.nodes[node].is_pid1 {
            self.kill_agent(node);
        }
        match self.nodes[node]
            .server
            .as_ref()
            .map(|server| server.generation)
        {
            Some(generation) => self.server_gone(node, generation, false, "killed at the deadline"),
            None => self.nodes[node].deadline = None,
        }
    }

    /// All processes of the server are gone, and the guardian has seen it.
    pub(crate) fn server_gone(&mut self, node: usize, generation: u64, clean: bool, why: &str) {
        let id = self.next_id();
        let Some(server) = self.server_of(node, generation).cloned() else {
            return;
        };
        self.note(|| format!("node {node}: server gone ({why}, clean {clean})"));
        if let Some(disk) = self.nodes[node].dir.disk() {
            disk.state = match (server.started, server.in_recovery, clean) {
                (false, _, _) => disk.state,
                (true, true, true) => ControlState::ShutDownInRecovery,
                (true, true, false) => ControlState::InArchiveRecovery,
                (true, false, true) => ControlState::ShutDown,
                (true, false, false) => ControlState::InProduction,
            };
            if server.is_writable() && clean {
                disk.log.push(Record {
                    timeline: disk.timeline,
                    id,
                });
            }
        }
        if server.is_writable() && clean {
            // A fast stop ends only after its replicas received the shutdown checkpoint.
            for other in 0..self.nodes.len() {
                let from = self.nodes[node].name.clone();
                let follows = self.nodes[other].server.as_ref();
                if other != node && follows.is_some_and(|s| s.upstream.as_ref() == Some(&from)) {
                    self.stream(other);
                }
            }
        }
        let n = &mut self.nodes[node];
        n.server = None;
        n.deadline = None;
        n.server_frozen_since = None;
        let life = n.life;
        let event = Box::new(Event::PostmasterGone { why: why.into() });
        self.schedule(3, Act::Deliver { node, life, event });
    }

    fn release_pending(&mut self, node: usize) {
        let Some(server) = &mut self.nodes[node].server else {
            return;
        };
        let pending = std::mem::take(&mut server.pending);
        if !server.is_writable() {
            return;
        }
        for pending in pending {
            let record = self.nodes[node]
                .dir
                .whole()
                .map(|d| d.log[pending.position - 1]);
            if let Some(record) = record {
                self.acknowledge(node, record);
            }
        }
    }

    fn server_up(&mut self, node: usize, generation: u64) {
        let id = self.next_id();
        let armed = self.armed(node);
        let life = self.nodes[node].life;
        let Some(server) = self.server_of(node, generation) else {
            return;
        };
        server.started = true;
        let primary = !server.in_recovery;
        if primary && !armed {
            return self.server_gone(node, generation, false, "writable while unarmed");
        }
        if let Some(disk) = self.nodes[node].dir.disk() {
            if primary {
                // Crash recovery ends with a checkpoint.
                disk.log.push(Record {
                    timeline: disk.timeline,
                    id,
                });
                disk.state = ControlState::InProduction;
            } else {
                disk.state = ControlState::InArchiveRecovery;
            }
        }
        let op = if primary {
            Op::StartPrimary
        } else {
            Op::StartReplica
        };
        let event = Box::new(Event::OpDone { op, result: Ok(()) });
        self.schedule(1, Act::Deliver { node, life, event });
        self.probe(node);
    }

    fn armed(&self, node: usize) -> bool {
        let n = &self.nodes[node];
        n.deadline
            .is_some_and(|deadline| n.clock(self.now) < deadline)
    }

    fn server_promoted(&mut self, node: usize, generation: u64) {
        let id = self.next_id();
        let armed = self.armed(node);
        let life = self.nodes[node].life;
        let Some(server) = self.server_of(node, generation) else {
            return;
        };
        if server.frozen {
            // The signal waits until it is scheduled again.
            return self.schedule(300, Act::ServerPromoted { node, generation });
        }
        if !server.in_recovery {
            return;
        }
        server.in_recovery = false;
        server.streaming = false;
        server.upstream = None;
        server.checkpointed = false;
        server.sync_names.clear();
        server.standbys.clear();
        if let Some(disk) = self.nodes[node].dir.disk() {
            disk.promote(id);
        }
        if !armed {
            return self.server_gone(node, generation, false, "out of recovery while unarmed");
        }
        let delay = self.rng.range(50, 3_000);
        self.schedule(delay, Act::ServerCheckpointed { node, generation });
        let event = Box::new(Event::OpDone {
            op: Op::Promote,
            result: Ok(()),
        });
        self.schedule(1, Act::Deliver { node, life, event });
        self.probe(node);
    }

    /// An operation of the agent's own children ended, if the agent still lives.
    fn op_done(&mut self, node: usize, life: Life, op: Op, source: Option<usize>) {
        if self.nodes[node].life != life {
            return;
        }
        let id = self.next_id();
        let mut result = Ok(());
        let copy: Option<Disk> = source.and_then(|from| {
            let good = self.nodes[from]
                .server
                .as_ref()
                .is_some_and(|s| s.is_writable() && !s.frozen);
            let linked = !self.nodes[from].cut_peers && !self.nodes[node].cut_peers;
            self.nodes[from]
                .dir
                .whole()
                .filter(|_| good && linked)
                .cloned()
        });
        match &op {
            Op::Initdb => {
                let first = Record { timeline: 1, id };
                self.nodes[node].dir = Dir::Whole(Disk::new(id * 1_000 + node as u64, first));
            }
            Op::Clone | Op::Rewind => match (copy, source) {
                (Some(copy), Some(from)) => {
                    self.check_last_copy(node, from);
                    let mut disk = copy.clone();
                    disk.copy_from(&copy);
                    self.nodes[node].dir = Dir::Whole(disk);
                }
                _ => result = Err("the source is not reachable".to_owned()),
            },
            Op::CrashRecover => {
                if let Some(disk) = self.nodes[node].dir.disk() {
                    disk.log.push(Record {
                        timeline: disk.timeline,
                        id,
                    });
                    disk.state = ControlState::ShutDown;
                }
            }
            _ => {}
        }
        self.deliver(node, Event::OpDone { op, result });
    }

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
        // A rewind that dies midway leaves a directory that must not start.
        if dying.is_some_and(|state| state.pg.op == Some(Op::Rewind)) {
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
        }
        self.note(|| format!("node {node}: pod starts, incarnation {id}"));
        self.start_agent(node, id);
    }

    fn start_agent(&mut self, node: usize, guardian: u64) {
        if self.nodes[node].guardian != guardian
            || guardian == 0
            || self.nodes[node].state.is_some()
        {
            return;
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
        self.deliver(node, event);
        let delay = self.rng.range(5, 60);
        if !self.nodes[node].cut_api {
            let shared = self.store.shared_view();
            let event = Box::new(Event::SharedSeen {
                shared,
                quorum: false,
            });
            self.schedule(delay, Act::Deliver { node, life, event });
        }
    }

    fn thaw(&mut self, node: usize, agent: bool) {
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

    fn begin_server(&mut self, node: usize, as_primary: bool, server: Server) {
        let generation = server.generation;
        let life = self.nodes[node].life;
        if as_primary && !self.armed(node) {
            let result = Err("the guardian is not armed".to_owned());
            let event = Box::new(Event::OpDone {
                op: Op::StartPrimary,
                result,
            });
            return self.schedule(1, Act::Deliver { node, life, event });
        }
        self.nodes[node].server = Some(server);
        let event = Box::new(Event::PostmasterRuns { as_primary });
        self.schedule(1, Act::Deliver { node, life, event });
        let delay = self.rng.range(30, 600);
        self.schedule(delay, Act::ServerUp { node, generation });
    }

    fn run_effect(&mut self, node: usize, effect: Effect) {
        let life = self.nodes[node].life;
        match effect {
            Effect::Explain { .. }
            | Effect::SetSlots { .. }
            | Effect::PublishRoute { .. }
            | Effect::Answer { .. } => {}
            Effect::Wake { at } => {
                let n = &mut self.nodes[node];
                n.tick_generation += 1;
                let (generation, delay) = (n.tick_generation, n.until(self.now, at));
                self.schedule(
                    delay,
                    Act::Tick {
                        node,
                        life,
                        generation,
                    },
                );
            }
            Effect::ReadLock => {
                let (there, answer_at) = self.request(node);
                match there {
                    Some(delay) => self.schedule(
                        delay,
                        Act::ReadLock {
                            node,
                            life,
                            answer_at,
                        },
                    ),
                    None => {
                        let event = Event::LockReadFailed {
                            why: "timeout".into(),
                        };
                        self.schedule(
                            750,
                            Act::Deliver {
                                node,
                                life,
                                event: Box::new(event),
                            },
                        );
                    }
                }
            }
            Effect::ReadShared => {
                let (there, answer_at) = self.request(node);
                match there {
                    Some(delay) => self.schedule(
                        delay,
                        Act::ReadShared {
                            node,
                            life,
                            answer_at,
                        },
                    ),
                    None => self.schedule(
                        750,
                        Act::Tick {
                            node,
                            life,
                            generation: 0,
                        },
                    ),
                }
            }
            Effect::WriteLock {
                nonce,
                expect,
                write,
            } => {
                self.send_lock(node, nonce, expect, Box::new(write));
            }
            Effect::WriteShared(what) => self.send_shared(node, what),
            Effect::MoveDeadline { to } => {
                let n = &mut self.nodes[node];
                let local = n.clock(self.now);
                let event = if n.deadline.is_some_and(|deadline| deadline <= local) {
                    Event::DeadlineLatched
                } else {
                    n.deadline = Some(to);
                    let (delay, guardian) = (n.until(self.now, to), n.guardian);
                    self.schedule(delay, Act::Deadline { node, guardian });
                    Event::DeadlineMoved { to }
                };
                self.schedule(
                    0,
                    Act::Deliver {
                        node,
                        life,
                        event: Box::new(event),
                    },
                );
            }
            Effect::SeekProof {
                fields,
                holder,
                place,
            } => {
                let dead = self.nodes.iter().any(|other| {
                    other.uid == holder.pod_uid && other.terminated.contains(&place.container_id)
                });
                if dead && !self.nodes[node].cut_api {
                    let proof = Proof {
                        fields,
                        kind: ProofKind::Terminated,
                    };
                    let event = Box::new(Event::ProofFound(proof));
                    let delay = self.rng.range(5, 40);
                    self.schedule(delay, Act::Deliver { node, life, event });
                }
            }
            Effect::AskPeers { round, peers } => {
                for (name, _) in peers {
                    let peer = self
                        .nodes
                        .iter()
                        .position(|n| n.name == name && n.index != node);
                    let delay = self.rng.range(1, 15);
                    if let Some(peer) = peer {
                        self.schedule(
                            delay,
                            Act::PeerReply {
                                node,
                                life,
                                round,
                                peer,
                            },
                        );
                    } else {
                        let event = Event::PeerAnswered {
                            round,
                            name,
                            status: None,
                        };
                        self.schedule(
                            700,
                            Act::Deliver {
                                node,
                                life,
                                event: Box::new(event),
                            },
                        );
                    }
                }
            }
            Effect::Bye => {
                self.kill_pod(node);
                let delay = self.rng.range(500, 3_000);
                self.schedule(
                    delay,
                    Act::StartPod {
                        node,
                        new_uid: true,
                    },
                );
            }
            other => self.run_postgres_effect(node, life, other),
        }
    }

    fn send_lock(
        &mut self,
        node: usize,
        nonce: u64,
        expect: Option<String>,
        write: Box<LockWrite>,
    ) {
        let life = self.nodes[node].life;
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
        let event = Box::new(Event::LockWritten { nonce, outcome });
        self.schedule(750, Act::Deliver { node, life, event });
    }

    fn send_shared(&mut self, node: usize, what: SharedWrite) {
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
        let event = Box::new(Event::SharedWritten { what, outcome });
        self.schedule(750, Act::Deliver { node, life, event });
    }

    fn run_postgres_effect(&mut self, node: usize, life: Life, effect: Effect) {
        let generation = self.nodes[node]
            .server
            .as_ref()
            .map(|server| server.generation);
        match effect {
            Effect::Inspect => {
                let data = self.nodes[node].dir.inspect();
                let event = Box::new(Event::DataSeen(data));
                self.schedule(4, Act::Deliver { node, life, event });
            }
            Effect::StartPrimary { sync_names } => {
                let id = self.next_id();
                let mut server = Server::new(id, true, None);
                server.sync_names = sync_names;
                self.begin_server(node, true, server);
            }
            Effect::StartReplica { upstream } => {
                let id = self.next_id();
                if let Some(disk) = self.nodes[node].dir.disk() {
                    disk.standby_signal = true;
                }
                self.begin_server(node, false, Server::new(id, false, upstream));
            }
            Effect::Stop { how } => {
                let Some(generation) = generation else { return };
                let (low, high) = match how {
                    Stop::Fast if self.rng.percent(5) => (2_000, 30_000),
                    Stop::Fast => (10, 250),
                    Stop::Immediate | Stop::Kill => (2, 60),
                };
                let delay = self.rng.range(low, high);
                if how == Stop::Kill {
                    if let Some(server) = &mut self.nodes[node].server {
                        server.frozen = false;
                    }
                }
                let clean = how == Stop::Fast;
                self.schedule(
                    delay,
                    Act::ServerStopped {
                        node,
                        generation,
                        clean,
                    },
                );
            }
            Effect::Promote => {
                if let Some(generation) = generation {
                    let delay = self.rng.range(20, 300);
                    self.schedule(delay, Act::ServerPromoted { node, generation });
                }
            }
            Effect::Follow { upstream } => {
                if let Some(server) = &mut self.nodes[node].server {
                    server.upstream = Some(upstream);
                    server.streaming = false;
                }
                self.finish(node, Op::Follow, None, (5, 100));
            }
            Effect::Initdb => self.finish(node, Op::Initdb, None, (500, 2_000)),
            Effect::Clone { from } => {
                let source = self.source(node, &from);
                self.finish(node, Op::Clone, Some(source), (300, 3_000));
            }
            Effect::Rewind { from } => {
                let source = self.source(node, &from);
                self.finish(node, Op::Rewind, Some(source), (100, 1_500));
            }
            Effect::CrashRecover => self.finish(node, Op::CrashRecover, None, (50, 500)),
            Effect::Checkpoint => self.finish(node, Op::Checkpoint, None, (5, 400)),
            Effect::SetSyncNames { names } => {
                if let Some(generation) = generation {
                    let delay = self.rng.range(2, 60);
                    self.schedule(
                        delay,
                        Act::SyncNamesSet {
                            node,
                            generation,
                            life,
                            names,
                        },
                    );
                }
            }
            other => panic!("no twin for {other}"),
        }
    }

    fn source(&self, node: usize, name: &str) -> usize {
        self.nodes
            .iter()
            .position(|n| n.name == name && n.index != node)
            .unwrap_or(node)
    }

    fn finish(&mut self, node: usize, op: Op, source: Option<usize>, (low, high): (u64, u64)) {
        let (life, delay) = (self.nodes[node].life, self.rng.range(low, high));
        self.schedule(
            delay,
            Act::OpDone {
                node,
                life,
                op,
                source,
            },
        );
    }

    /// The pod's process table for the fault injector.
    pub(crate) fn leader(&self) -> Option<usize> {
        self.nodes
            .iter()
            .position(|n| n.server.as_ref().is_some_and(|s| s.is_writable()))
    }

    pub(crate) fn freeze_agent(&mut self, node: usize, ms: u64) {
        let n = &mut self.nodes[node];
        if n.state.is_none() {
            return;
        }
        n.frozen = true;
        let (guardian, life) = (n.guardian, n.life);
        let primary = n.server.as_ref().is_some_and(|s| s.is_writable());
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

    pub(crate) fn is_idle(&self, node: usize) -> bool {
        self.nodes[node]
            .state
            .as_ref()
            .is_some_and(|s| s.pg.process != Process::Unknown)
    }

    pub(crate) fn bug(&self) -> Option<Sabotage> {
        match self.options.bug {
            Bug::Core(sabotage) => Some(sabotage),
            _ => None,
        }
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
