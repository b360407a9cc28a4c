//! The guardian's deadline, and the server under it as the guardian and the probe see it.

use crate::act::Act;
use crate::node::Life;
use crate::server::{ARCHIVE, Dir, Disk, Record, Server};
use crate::world::{Bug, TTL_MS, World};
use pgwarden::ha::event::{Event, Op};
use pgwarden::ha::model::{ControlState, Lsn};
use pgwarden::ha::pause::FOREVER;
use pgwarden::ha::quorum::SyncSetting;

impl World {
    pub(crate) fn act_on_server(&mut self, act: Act) {
        match act {
            Act::Fork {
                node,
                life,
                as_primary,
                server,
            } if self.nodes[node].life == life => {
                self.begin_server(node, as_primary, *server);
            }
            Act::ServerUp { node, generation } => self.server_up(node, generation),
            Act::ServerPromoted {
                node,
                generation,
                sync,
            } => self.server_promoted(node, generation, sync),
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
                    // A frozen postmaster hears the signal later.
                    return self.schedule(
                        300,
                        Act::ServerStopped {
                            node,
                            generation,
                            clean,
                        },
                    );
                }
                self.server_gone(node, generation, clean, "stopped");
            }
            Act::SyncSet {
                node,
                generation,
                life,
                wanted,
                due,
            } => {
                let Some(server) = self.server_of(node, generation) else {
                    return;
                };
                if server.sync_due != due {
                    return;
                }
                server.sync.clone_from(&wanted);
                if wanted.need == 0 {
                    self.release_pending(node);
                }
                let lsn = Lsn(self.nodes[node].dir.whole().map_or(0, |d| d.log.len()) as u64);
                // The server knows at once; a checkpoint comes before the answer.
                let slow = self.rng.percent(10);
                let checkpoint = self.rng.range(2, if slow { 2_000 } else { 40 });
                self.tell(
                    checkpoint,
                    node,
                    life,
                    Event::SyncSet {
                        shown: wanted.to_string(),
                        wanted,
                        lsn,
                    },
                );
            }
            _ => {}
        }
    }

    /// G1: the agent's word to the guardian; a passed deadline latches.
    pub(crate) fn move_deadline(&mut self, node: usize, to: u64) {
        let n = &mut self.nodes[node];
        let (life, local) = (n.life, n.clock(self.now));
        assert!(to < FOREVER, "no rule yields such a deadline");
        let event = if n.deadline.is_some_and(|deadline| deadline <= local) {
            Event::DeadlineLatched
        } else if to <= local {
            // As the guardian's word: one that was suspended runs now.
            n.deadline = n.deadline.map(|known| known.min(to.max(known % FOREVER)));
            Event::DeadlineLatched
        } else {
            n.deadline = Some(to);
            let (delay, guardian) = (n.until(self.now, to), n.guardian);
            self.schedule(delay, Act::Deadline { node, guardian });
            Event::DeadlineMoved { to }
        };
        self.tell(0, node, life, event);
    }

    /// G1: never from none, and never once it has passed.
    pub(crate) fn suspend_deadline(&mut self, node: usize) {
        let n = &mut self.nodes[node];
        let (life, local) = (n.life, n.clock(self.now));
        let event = match n.deadline {
            None => return,
            Some(deadline) if deadline <= local => Event::DeadlineLatched,
            Some(_) => {
                n.deadline = Some(FOREVER);
                Event::DeadlineMoved { to: FOREVER }
            }
        };
        self.tell(0, node, life, event);
    }

    pub(crate) fn guardian_looks(&mut self, node: usize, guardian: u64) {
        let n = &self.nodes[node];
        let idle = self.options.bug == Bug::GuardianIdle;
        if n.guardian != guardian || n.guardian == 0 || idle {
            return;
        }
        if self.now < n.guardian_frozen_until {
            let delay = n.guardian_frozen_until - self.now;
            return self.schedule(delay, Act::Deadline { node, guardian });
        }
        if self.options.bug == Bug::HookHoldsFence && self.now < n.hook_until {
            let delay = n.hook_until - self.now;
            return self.schedule(delay, Act::Deadline { node, guardian });
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

    pub(crate) fn guardian_kills(&mut self, node: usize, guardian: u64) {
        let n = &self.nodes[node];
        let passed = n
            .deadline
            .is_some_and(|deadline| n.clock(self.now) >= deadline);
        if n.guardian != guardian || !passed {
            return;
        }
        let dead_disk = n.dead_disk;
        if self.nodes[node].is_pid1 {
            self.kill_agent(node);
        }
        let server = self.nodes[node].server.as_mut();
        if let Some(server) = server.filter(|_| dead_disk) {
            server.dying = true;
            return;
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

    pub(crate) fn armed(&self, node: usize) -> bool {
        let n = &self.nodes[node];
        let runs = |deadline| n.clock(self.now) < deadline;
        n.deadline.is_some_and(runs) || self.options.bug == Bug::StartsUnlocked
    }

    pub(crate) fn server_of(&mut self, node: usize, generation: u64) -> Option<&mut Server> {
        self.nodes[node]
            .server
            .as_mut()
            .filter(|server| server.generation == generation)
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
        let event = Event::PostmasterGone { why: why.into() };
        self.tell(3, node, life, event);
    }

    pub(crate) fn release_pending(&mut self, node: usize) {
        let Some(server) = &mut self.nodes[node].server else {
            return;
        };
        let pending = std::mem::take(&mut server.pending);
        if !server.is_writable() {
            return;
        }
        for position in pending {
            let record = self.nodes[node].dir.whole().map(|d| d.log[position - 1]);
            if let Some(record) = record {
                self.acknowledge(node, record);
            }
        }
    }

    pub(crate) fn server_up(&mut self, node: usize, generation: u64) {
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
        let event = Event::OpDone { op, result: Ok(()) };
        self.tell(1, node, life, event);
        // The prober may just have looked.
        if self.rng.percent(50) {
            self.probe(node);
        }
    }

    pub(crate) fn server_promoted(&mut self, node: usize, generation: u64, sync: SyncSetting) {
        let id = self.next_id();
        let armed = self.armed(node);
        let history_at = self.now + self.rng.range(0, 400);
        let life = self.nodes[node].life;
        let Some(server) = self.server_of(node, generation) else {
            return;
        };
        if server.frozen {
            // The signal waits until it is scheduled again.
            let again = Act::ServerPromoted {
                node,
                generation,
                sync,
            };
            return self.schedule(300, again);
        }
        if !server.in_recovery {
            return;
        }
        server.in_recovery = false;
        server.streaming = false;
        server.upstream = None;
        server.checkpointed = false;
        server.history_at = history_at;
        server.sync = sync;
        server.standbys.clear();
        self.check_timeline(node);
        if let Some(disk) = self.nodes[node].dir.disk() {
            disk.promote(id);
        }
        if !armed {
            return self.server_gone(node, generation, false, "out of recovery while unarmed");
        }
        let delay = self.rng.range(50, 3_000);
        self.schedule(delay, Act::ServerCheckpointed { node, generation });
        let event = Event::OpDone {
            op: Op::Promote,
            result: Ok(()),
        };
        self.tell(1, node, life, event);
        self.probe(node);
    }

    /// It leads, and can be reached.
    pub(crate) fn can_be_copied(&self, from: usize, by: usize) -> bool {
        let server = self.nodes[from].server.as_ref();
        // What is empty may copy a replica too, which streams then.
        let empty = self.nodes[by].dir.whole().is_none();
        let serves = |server: &Server| server.is_writable() || (empty && server.streaming);
        let good = server.is_some_and(|server| serves(server) && !server.frozen);
        good && !self.nodes[from].cut_peers && !self.nodes[by].cut_peers
    }

    /// An operation of the agent's own children ended, if the agent still lives.
    pub(crate) fn op_done(&mut self, node: usize, life: Life, op: Op, source: Option<usize>) {
        if self.nodes[node].life != life {
            return;
        }
        let id = self.next_id();
        let mut result = Ok(());
        let copy: Option<Disk> = source.and_then(|from| {
            if from == ARCHIVE {
                return self.archive.clone();
            }
            let good = self.can_be_copied(from, node);
            self.nodes[from].dir.whole().filter(|_| good).cloned()
        });
        match &op {
            Op::Initdb => {
                let first = Record { timeline: 1, id };
                self.nodes[node].dir = Dir::Whole(Disk::new(id * 1_000 + node as u64, first));
                self.has_initialised(node);
            }
            // pg_rewind finds nothing to do where the timelines have one number.
            Op::Rewind
                if copy.as_ref().map(|copy| copy.timeline)
                    == self.nodes[node].dir.whole().map(|disk| disk.timeline) => {}
            Op::Clone | Op::Rewind => match (copy, source) {
                (Some(copy), Some(from)) => {
                    if self.nodes[node].dir.whole().is_some() {
                        self.check_last_copy(node, from);
                    }
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

    pub(crate) fn probe(&mut self, node: usize) {
        let now = self.now;
        self.move_slots(node);
        let n = &self.nodes[node];
        let Some(server) = &n.server else { return };
        if server.frozen {
            // G9's own measure: max(D, 10 s) without an answer.
            let silent = |since| now >= since + TTL_MS.max(10_000);
            let noticed = self.options.bug != Bug::SilenceIgnored;
            if n.server_frozen_since.is_some_and(silent) && noticed {
                let event = Event::Serving {
                    ok: false,
                    why: "no answer".into(),
                };
                self.deliver_if_alive(node, event);
            }
            return;
        }
        if let Some(disk) = n.dir.whole().filter(|_| server.started) {
            let mut facts = server.facts(disk, now);
            facts.asked_at = n.clock(now);
            self.deliver_if_alive(node, Event::PgSeen(facts));
        }
    }

    /// Whom the fault injector takes for the leader.
    pub(crate) fn leader(&self) -> Option<usize> {
        self.nodes
            .iter()
            .position(|n| n.server.as_ref().is_some_and(Server::is_writable))
    }
}
