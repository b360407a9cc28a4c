//! The twins of the effects: what the runner would do, done to the model.

use crate::act::Act;
use crate::node::Life;
use crate::server::{ARCHIVE, Disk, Server};
use crate::world::{Bug, FAULTS_BEGIN_MS, FAULTS_END_MS, World};
use pgwarden::ha::cloning::NOBODY;
use pgwarden::ha::effect::{Effect, Stop};
use pgwarden::ha::event::{Event, Op};
use pgwarden::ha::lock::{Place, Proof, ProofKind};
use pgwarden::ha::model::{Identity, Lsn, Name, fork_elsewhere};
use pgwarden::ha::quorum::SyncSetting;

impl World {
    pub(crate) fn run_effect(&mut self, node: usize, effect: Effect) {
        let life = self.nodes[node].life;
        match effect {
            Effect::Explain { .. } => {}
            Effect::SetSlots { changes } => self.set_slots(node, life, &changes),
            Effect::FetchSlots {
                from,
                slots,
                reached,
            } => self.fetch_slots(node, life, &from, &slots, reached),
            Effect::PutSlots { slots } => self.put_slots(node, &slots),
            Effect::ConfirmSlots { with, slots, .. } => {
                self.confirm_slots(node, life, &with, &slots);
            }
            Effect::Answer { id, done, text } => self.answer_question(node, id, done, text),
            // It lies beyond this world, and never answers.
            Effect::AskRemote => {}
            // One that goes on answers too late, which the core has to stand.
            Effect::Callback { .. } | Effect::EndHook { .. } => {}
            Effect::RunHook { guard, number } => self.run_hook(node, guard, number),
            Effect::PublishRoute { epoch } => self.send_route(node, epoch),
            Effect::Wake { at } => {
                let n = &mut self.nodes[node];
                n.tick_generation += 1;
                let (generation, delay) = (n.tick_generation, n.until(self.now, at));
                let tick = Act::Tick {
                    node,
                    life,
                    generation,
                };
                self.schedule(delay, tick);
            }
            Effect::ReadLock => self.send_read_lock(node),
            Effect::ReadShared => self.send_read_shared(node),
            Effect::WriteLock {
                nonce,
                expect,
                write,
            } => {
                self.send_lock(node, nonce, expect, Box::new(write));
            }
            Effect::WriteShared(what) => self.send_shared(node, what),
            Effect::MoveDeadline { to } => self.move_deadline(node, to),
            Effect::SuspendDeadline => self.suspend_deadline(node),
            Effect::SeekProof {
                fields,
                holder,
                place,
            } => self.seek_proof(node, fields, &holder, &place),
            Effect::AskPeers { round, peers } => {
                for (name, _) in peers {
                    self.ask_peer(node, round, name);
                }
            }
            Effect::AskPromises {
                round,
                epoch,
                ttl_ms,
                peers,
            } => self.ask_promises(node, (round, epoch, ttl_ms), peers),
            Effect::AskVotes {
                round,
                fields,
                peers,
            } => self.ask_votes(node, round, &fields, peers),
            Effect::Vote { id, timeline, lsn } => {
                self.answer_candidate(node, id, Ok((timeline, lsn)));
            }
            Effect::Bye => {
                self.kill_pod(node);
                let delay = self.rng.range(500, 3_000);
                let new_uid = true;
                self.schedule(delay, Act::StartPod { node, new_uid });
            }
            other => self.run_postgres_effect(node, life, other),
        }
    }

    fn seek_proof(&mut self, node: usize, fields: String, holder: &Identity, place: &Place) {
        let dead = self.nodes.iter().any(|other| {
            other.uid == holder.pod_uid && other.terminated.contains(&place.container_id)
        });
        if dead && !self.nodes[node].cut_api {
            let kind = ProofKind::Terminated;
            let event = Event::ProofFound(Proof { fields, kind });
            let (life, delay) = (self.nodes[node].life, self.rng.range(5, 40));
            self.tell(delay, node, life, event);
        }
    }

    fn ask_end(&mut self, node: usize, life: Life, with: Name, number: u64) {
        let from = self.source(node, &with);
        let cut = self.nodes[node].cut_peers || self.nodes[from].cut_peers;
        let theirs = self.nodes[from].server.as_ref();
        let answers = theirs.is_some_and(|s| s.started && !s.frozen) && !cut;
        if let Some(disk) = self.nodes[from].dir.whole().filter(|_| answers) {
            let lsn = Lsn(disk.log.len() as u64);
            let delay = self.rng.range(2, 300);
            self.tell(delay, node, life, Event::EndSaid { with, number, lsn });
        }
    }

    pub(crate) fn run_postgres_effect(&mut self, node: usize, life: Life, effect: Effect) {
        let generation = self.nodes[node]
            .server
            .as_ref()
            .map(|server| server.generation);
        match effect {
            Effect::Inspect => {
                let data = self.nodes[node].dir.inspect();
                let event = Event::DataSeen(data);
                self.tell(4, node, life, event);
            }
            Effect::StartPrimary { sync } => {
                let id = self.next_id();
                let mut server = Server::new(id, true, None);
                server.sync = sync;
                self.prepare_server(node, true, server);
            }
            Effect::StartReplica { upstream } => {
                let id = self.next_id();
                self.prepare_server(node, false, Server::new(id, false, upstream));
            }
            Effect::Stop { how } => self.stop_server(node, life, generation, how),
            Effect::Promote { sync } => {
                if let Some(generation) = generation {
                    let slow = self.rng.percent(10);
                    let delay = self.rng.range(20, if slow { 4_000 } else { 300 });
                    let promoted = Act::ServerPromoted {
                        node,
                        generation,
                        sync,
                    };
                    self.schedule(delay, promoted);
                }
            }
            Effect::StopReceiver => {
                if let Some(server) = &mut self.nodes[node].server {
                    server.upstream = None;
                    server.streaming = false;
                }
                self.finish(node, Op::StopReceiver, None, (5, 300));
            }
            Effect::Follow { upstream } => {
                if let Some(server) = &mut self.nodes[node].server {
                    server.upstream = Some(upstream);
                    server.streaming = false;
                }
                self.finish(node, Op::Follow, None, (5, 100));
            }
            Effect::Initdb => self.finish(node, Op::Initdb, None, (500, 2_000)),
            Effect::Clone { from } if from == NOBODY => {
                self.finish(node, Op::Clone, Some(ARCHIVE), (300, 3_000));
            }
            Effect::Look => {
                let delay = self.rng.range(1, 20);
                self.schedule(delay, Act::Look { node });
            }
            Effect::AskEnd { with, number } => self.ask_end(node, life, with, number),
            Effect::Clone { from } => {
                let source = self.source(node, &from);
                self.finish(node, Op::Clone, Some(source), (300, 3_000));
            }
            Effect::Rewind { from } => {
                let source = self.source(node, &from);
                self.nodes[node].rewinds = self.can_be_copied(source, node);
                self.finish(node, Op::Rewind, Some(source), (100, 1_500));
            }
            Effect::CompareWal { with } => {
                let from = self.source(node, &with);
                let mine = self.nodes[node].dir.whole();
                let theirs = self.nodes.get(from).and_then(|n| n.dir.whole());
                if let (Some(mine), Some(theirs)) = (mine, theirs) {
                    let differs = !mine.is_prefix_of(theirs);
                    self.tell(20, node, life, Event::WalCompared { with, differs });
                }
            }
            Effect::CompareHistory { with, mine } => {
                let from = self.source(node, &with);
                if let Some(theirs) = self.nodes.get(from).and_then(|n| n.dir.whole()) {
                    let differs = fork_elsewhere(&mine, &theirs.history);
                    self.tell(20, node, life, Event::HistoryCompared { with, differs });
                }
            }
            Effect::CrashRecover => self.finish(node, Op::CrashRecover, None, (50, 500)),
            Effect::Checkpoint => self.finish(node, Op::Checkpoint, None, (5, 400)),
            Effect::Configure => self.finish(node, Op::Configure, None, (1, 200)),
            Effect::SetSync { wanted } => {
                if let Some(generation) = generation {
                    self.order_sync(node, generation, wanted);
                }
            }
            other => panic!("no twin for {other}"),
        }
    }

    fn stop_server(&mut self, node: usize, life: Life, generation: Option<u64>, how: Stop) {
        let Some(generation) = generation else {
            // Nothing runs: the guardian verifies that, and takes the deadline back.
            self.nodes[node].deadline = None;
            let why = "nothing runs".into();
            return self.tell(5, node, life, Event::PostmasterGone { why });
        };
        let (low, high) = match how {
            Stop::Fast if self.rng.percent(5) => (2_000, 30_000),
            Stop::Fast => (10, 250),
            Stop::Immediate | Stop::Kill => (2, 60),
        };
        let delay = self.rng.range(low, high);
        if self.nodes[node].dead_disk {
            if let Some(server) = self.nodes[node].server.as_mut() {
                server.dying |= how == Stop::Kill;
            }
            return;
        }
        if self.options.bug == Bug::DisarmedEarly {
            self.nodes[node].deadline = None;
        }
        if how == Stop::Kill
            && let Some(server) = &mut self.nodes[node].server
        {
            server.frozen = false;
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

    /// One order after the other; a newer one replaces what has not begun.
    fn order_sync(&mut self, node: usize, generation: u64, wanted: SyncSetting) {
        let (now, life) = (self.now, self.nodes[node].life);
        let slow = self.rng.percent(10);
        let delay = self.rng.range(2, if slow { 1_500 } else { 60 });
        let Some(server) = self.server_of(node, generation) else {
            return;
        };
        server.sync_due = server.sync_due.max(now + delay) + 1;
        let due = server.sync_due;
        let act = Act::SyncSet {
            node,
            generation,
            life,
            wanted,
            due,
        };
        self.schedule(due - now, act);
    }

    /// What comes before the fork is written to disk, and takes its time.
    fn prepare_server(&mut self, node: usize, as_primary: bool, server: Server) {
        let (life, server) = (self.nodes[node].life, Box::new(server));
        let slow = self.rng.percent(10);
        let mut delay = self.rng.range(1, if slow { 1_500 } else { 40 });
        let faults = FAULTS_BEGIN_MS..FAULTS_END_MS;
        if as_primary && faults.contains(&self.now) && self.rng.percent(2) {
            // Its child hangs on a disk; nothing is told before that has come to an end.
            delay = self.rng.range(5_000, 90_000).min(FAULTS_END_MS - self.now);
        }
        let fork = Act::Fork {
            node,
            life,
            as_primary,
            server,
        };
        self.schedule(delay, fork);
    }

    /// The guardian forks, or refuses.
    pub(crate) fn begin_server(&mut self, node: usize, mut as_primary: bool, mut server: Server) {
        if self.options.bug == Bug::StartsUnlocked {
            let was_primary = |disk: &Disk| !disk.standby_signal;
            as_primary |= self.nodes[node].dir.whole().is_some_and(was_primary);
            server.as_primary = as_primary;
            server.in_recovery = !as_primary;
        }
        let generation = server.generation;
        let life = self.nodes[node].life;
        let runs = self.nodes[node].server.is_some();
        let fails = runs || (!self.healed && self.rng.percent(5));
        if fails || (as_primary && !self.armed(node)) {
            let result = Err("the guardian is not armed, or it does not start".to_owned());
            let op = if as_primary {
                Op::StartPrimary
            } else {
                Op::StartReplica
            };
            return self.tell(1, node, life, Event::OpDone { op, result });
        }
        if let Some(disk) = self.nodes[node].dir.disk() {
            disk.standby_signal = !as_primary;
        }
        self.nodes[node].server = Some(server);
        let event = Event::PostmasterRuns { as_primary };
        self.tell(1, node, life, event);
        let delay = self.rng.range(30, 600);
        self.schedule(delay, Act::ServerUp { node, generation });
    }

    pub(crate) fn source(&self, node: usize, name: &str) -> usize {
        self.nodes
            .iter()
            .position(|n| n.name == name && n.index != node)
            .unwrap_or(node)
    }

    pub(crate) fn finish(
        &mut self,
        node: usize,
        op: Op,
        source: Option<usize>,
        (low, high): (u64, u64),
    ) {
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
}
