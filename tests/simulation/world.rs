//! The world: nodes, the store, the network, time; and the loop that moves it.

use crate::api::Store;
use crate::faults::Fault;
use crate::node::{Life, Node};
use crate::oracle::{Acked, Oracle, writable_conflict};
use crate::rng::Rng;
use crate::server::Record;
use pgwarden::ha::event::{Event, Op};
use pgwarden::ha::lock::LockWrite;
use pgwarden::ha::shared::{Rules, SharedWrite};
use pgwarden::ha::state::Sabotage;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write as _;

/// D of the simulated cluster: the shortest that is offered.
pub(crate) const TTL_MS: u64 = 6_000;
/// Faults happen until here.
const FAULTS_END_MS: u64 = 75_000;
/// *Writable again within a bound once faults stop*: two waits of D, a restart and a promotion.
const HEAL_MS: u64 = 40_000;
/// And everybody streams.
const END_MS: u64 = FAULTS_END_MS + HEAL_MS + 25_000;
const TRACE_LINES_MAX: usize = 400;

/// A bug put in on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    Core(Sabotage),
    /// The store ignores resourceVersions.
    CompareAndSwapOff,
    /// L3 off: the age of a lock is the local wall clock minus the writer's.
    WallClockAge,
}

impl Bug {
    pub(crate) fn parse(name: &str) -> Self {
        match name {
            "identity" => Self::Core(Sabotage::IdentityOff),
            "absence" => Self::Core(Sabotage::AbsenceIsRelease),
            "timeline" => Self::Core(Sabotage::TimelineCheckOff),
            "cas" => Self::CompareAndSwapOff,
            "wallclock" => Self::WallClockAge,
            other => {
                panic!("PGWARDEN_BUG={other}: one of identity, absence, timeline, cas, wallclock")
            }
        }
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Options {
    pub(crate) seed: u64,
    pub(crate) synchronous: bool,
    pub(crate) bug: Bug,
    pub(crate) trace: bool,
}

/// A broken invariant.
pub(crate) struct Failure {
    pub(crate) invariant: &'static str,
    pub(crate) at: u64,
    pub(crate) words: String,
    pub(crate) trace: String,
}

/// Things that happen at an instant.
pub(crate) enum Act {
    /// An event reaches the agent of this life.
    Deliver {
        node: usize,
        life: Life,
        event: Box<Event>,
    },
    /// A timer of the core.
    Tick {
        node: usize,
        life: Life,
        generation: u64,
    },
    /// A lock write reaches the store; its answer leaves.
    ApplyLock {
        node: usize,
        life: Life,
        nonce: u64,
        expect: Option<String>,
        write: Box<LockWrite>,
        answer_at: Option<u64>,
    },
    ApplyShared {
        node: usize,
        life: Life,
        what: Box<SharedWrite>,
        answer_at: Option<u64>,
    },
    ReadLock {
        node: usize,
        life: Life,
        answer_at: Option<u64>,
    },
    ReadShared {
        node: usize,
        life: Life,
        answer_at: Option<u64>,
    },
    /// A watch delivers what the store holds now.
    WatchLock {
        node: usize,
    },
    WatchShared {
        node: usize,
    },
    PublishMember {
        node: usize,
        life: Life,
    },
    PeerReply {
        node: usize,
        life: Life,
        round: u64,
        peer: usize,
    },
    /// The guardian looks at its deadline.
    Deadline {
        node: usize,
        guardian: u64,
    },
    GuardianKill {
        node: usize,
        guardian: u64,
    },
    ServerUp {
        node: usize,
        generation: u64,
    },
    ServerPromoted {
        node: usize,
        generation: u64,
    },
    ServerCheckpointed {
        node: usize,
        generation: u64,
    },
    ServerStopped {
        node: usize,
        generation: u64,
        clean: bool,
    },
    OpDone {
        node: usize,
        life: Life,
        op: Op,
        source: Option<usize>,
    },
    SyncNamesSet {
        node: usize,
        generation: u64,
        life: Life,
        names: Vec<String>,
    },
    Probe {
        node: usize,
    },
    Stream {
        node: usize,
    },
    Client {
        node: usize,
    },
    StartAgent {
        node: usize,
        guardian: u64,
    },
    StartPod {
        node: usize,
        new_uid: bool,
    },
    HungCheck {
        node: usize,
        guardian: u64,
        life: Life,
    },
    Thaw {
        node: usize,
        agent: bool,
    },
    Heal {
        node: usize,
        api: bool,
    },
    NextFault,
    HealAll,
}

pub(crate) struct Scheduled {
    at: u64,
    order: u64,
    act: Act,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) options: Options,
    pub(crate) rng: Rng,
    pub(crate) store: Store,
    pub(crate) backup: Option<Store>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) oracle: Oracle,
    pub(crate) healed: bool,
    pub(crate) slow_until: u64,
    pub(crate) lossy_until: u64,
    /// A person's failover or a wiped disk allows losses in this run.
    pub(crate) loss_allowed: bool,
    queue: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
    next_id: u64,
    failure: Option<Failure>,
    trace: std::collections::VecDeque<String>,
    writable_since_heal: Option<u64>,
}

impl World {
    pub(crate) fn new(options: Options) -> Self {
        let rules = Rules {
            ttl_ms: TTL_MS,
            maximum_lag_on_failover_bytes: 1_000,
            synchronous_mode: options.synchronous,
            check_timeline: true,
            primary_start_timeout_ms: 300_000,
        };
        let mut rng = Rng::new(options.seed);
        let nodes = (0..3).map(|index| Node::new(index, &mut rng)).collect();
        Self {
            now: 0,
            options,
            rng,
            store: Store::new(rules, options.bug == Bug::CompareAndSwapOff),
            backup: None,
            nodes,
            oracle: Oracle::default(),
            healed: false,
            slow_until: 0,
            lossy_until: 0,
            loss_allowed: false,
            queue: BinaryHeap::new(),
            order: 0,
            next_id: 0,
            failure: None,
            trace: std::collections::VecDeque::new(),
            writable_since_heal: None,
        }
    }

    pub(crate) fn schedule(&mut self, delay: u64, act: Act) {
        self.order += 1;
        self.queue.push(Reverse(Scheduled {
            at: self.now + delay,
            order: self.order,
            act,
        }));
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(crate) fn note(&mut self, words: impl FnOnce() -> String) {
        let line = format!("{:>7} {}", self.now, words());
        if self.options.trace {
            println!("{line}");
        }
        if self.trace.len() == TRACE_LINES_MAX {
            self.trace.pop_front();
        }
        self.trace.push_back(line);
    }

    pub(crate) fn fail(&mut self, invariant: &'static str, words: String) {
        if self.failure.is_some() {
            return;
        }
        self.note(|| format!("BROKEN {invariant}: {words}"));
        let mut trace = String::new();
        for line in &self.trace {
            let _ = writeln!(trace, "{line}");
        }
        self.failure = Some(Failure {
            invariant,
            at: self.now,
            words,
            trace,
        });
    }

    pub(crate) fn run(&mut self) -> Result<(), Failure> {
        for node in 0..self.nodes.len() {
            let delay = self.rng.range(0, 500);
            self.schedule(
                delay,
                Act::StartPod {
                    node,
                    new_uid: true,
                },
            );
            self.schedule(delay + 10, Act::Probe { node });
            self.schedule(delay + 13, Act::Stream { node });
            self.schedule(delay + 17, Act::Client { node });
        }
        self.schedule(14_000, Act::NextFault);
        self.schedule(FAULTS_END_MS, Act::HealAll);
        while self.failure.is_none() && self.now < END_MS {
            let Some(Reverse(next)) = self.queue.pop() else {
                break;
            };
            self.now = next.at;
            self.act(next.act);
            self.check();
        }
        if self.failure.is_none() {
            self.check_end();
        }
        self.failure.take().map_or(Ok(()), Err)
    }

    fn writable(&self) -> Vec<(usize, String)> {
        self.nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| {
                node.server
                    .as_ref()
                    .is_some_and(|server| server.is_writable())
            })
            .map(|(index, node)| (index, node.name.clone()))
            .collect()
    }

    fn check(&mut self) {
        let writable = self.writable();
        if let Some(words) = writable_conflict(&writable) {
            self.fail("at most one writable", words);
        }
        if self.healed && self.writable_since_heal.is_none() && !writable.is_empty() {
            self.writable_since_heal = Some(self.now);
        }
        if self.healed && self.writable_since_heal.is_none() && self.now > FAULTS_END_MS + HEAL_MS {
            self.fail("writable again within a bound", "nobody is writable".into());
        }
    }

    fn check_end(&mut self) {
        let writable = self.writable();
        let [(leader, _)] = writable.as_slice() else {
            return self.fail(
                "writable again within a bound",
                format!("at the end: {writable:?}"),
            );
        };
        let leader = *leader;
        let Some(log) = self.nodes[leader].dir.whole().map(|disk| disk.log.clone()) else {
            return self.fail("no last copy destroyed", "the leader has no data".into());
        };
        for (index, node) in self.nodes.iter().enumerate() {
            let streams = node.server.as_ref().is_some_and(|server| server.streaming);
            if index != leader && !streams {
                let words = format!(
                    "node {index} does not stream at the end: {}",
                    node.summary()
                );
                return self.fail("writable again within a bound", words);
            }
        }
        if self.options.synchronous && !self.loss_allowed {
            let missing = self.oracle.missing_from(&log);
            if let Some(first) = missing.first() {
                let words = format!(
                    "{} acknowledged records are gone, first {first:?}",
                    missing.len()
                );
                self.fail("no acknowledged synchronous commit lost", words);
            }
        }
    }

    /// A clone or a rewind is about to discard what this node has.
    pub(crate) fn check_last_copy(&mut self, node: usize, source: usize) {
        let good = self.nodes[source]
            .server
            .as_ref()
            .is_some_and(|server| server.is_writable());
        if !good {
            let words = format!("node {node} is rebuilt from node {source}, which is no primary");
            return self.fail("no last copy destroyed", words);
        }
        if !self.options.synchronous || self.loss_allowed {
            return;
        }
        let (Some(mine), Some(theirs)) =
            (self.nodes[node].dir.whole(), self.nodes[source].dir.whole())
        else {
            return;
        };
        let kept: std::collections::HashSet<u64> = theirs.log.iter().map(|r| r.id).collect();
        let lost = mine.log.iter().find(|record| {
            !kept.contains(&record.id) && self.oracle.acked.iter().any(|a| a.record.id == record.id)
        });
        if let Some(record) = lost.copied() {
            let words =
                format!("node {node} holds the acknowledged {record:?}, its source does not");
            self.fail("no last copy destroyed", words);
        }
    }

    /// A client's statement on this node, directly, whatever the route says.
    pub(crate) fn client(&mut self, node: usize) {
        let id = self.next_id();
        let now = self.now;
        let target = &mut self.nodes[node];
        let (Some(server), Some(disk)) = (target.server.as_mut(), target.dir.disk()) else {
            return;
        };
        if !server.is_writable() || server.frozen {
            return;
        }
        let record = Record {
            timeline: disk.timeline,
            id,
        };
        disk.log.push(record);
        let position = disk.log.len();
        if server.sync_names.is_empty() {
            self.acknowledge(node, record);
        } else {
            server.pending.push(crate::server::Pending {
                position,
                id,
                sent_at: now,
            });
        }
    }

    pub(crate) fn acknowledge(&mut self, node: usize, record: Record) {
        let at = self.now;
        self.oracle.acked.push(Acked { record, node, at });
    }

    /// Replicas pull what their upstream has; what they flushed releases synchronous commits.
    pub(crate) fn stream(&mut self, node: usize) {
        let Some(upstream) = self.nodes[node]
            .server
            .as_ref()
            .and_then(|s| s.upstream.clone())
        else {
            return;
        };
        let from = self
            .nodes
            .iter()
            .enumerate()
            .position(|(index, n)| index != node && n.name == upstream && n.server.is_some());
        let Some(from) = from else {
            if let Some(server) = &mut self.nodes[node].server {
                server.streaming = false;
            }
            return;
        };
        let (mine, theirs) = (
            self.nodes[node].server.as_ref(),
            self.nodes[from].server.as_ref(),
        );
        let connected = mine.is_some_and(|s| s.started && s.in_recovery && !s.frozen)
            && theirs.is_some_and(|s| s.started && !s.frozen)
            && !self.nodes[node].cut_peers
            && !self.nodes[from].cut_peers;
        let prefix = connected
            && match (self.nodes[from].dir.whole(), self.nodes[node].dir.whole()) {
                (Some(source), Some(mine)) => {
                    mine.system_id == source.system_id && mine.is_prefix_of(source)
                }
                _ => false,
            };
        if let Some(server) = &mut self.nodes[node].server {
            server.streaming = prefix;
        }
        if !prefix {
            return;
        }
        let have = self.nodes[node]
            .dir
            .whole()
            .map_or(0, |disk| disk.log.len());
        let Some(source) = self.nodes[from].dir.whole() else {
            return;
        };
        let (tail, timeline) = (source.log[have..].to_vec(), source.timeline);
        let (flushed, history) = (source.log.len(), source.history.clone());
        if let Some(disk) = self.nodes[node].dir.disk() {
            disk.log.extend(tail);
            disk.timeline = timeline;
            disk.history = history;
        }
        let (name, now) = (self.nodes[node].name.clone(), self.now);
        let released = self.flushed(from, &name, flushed, now);
        for record in released {
            self.acknowledge(from, record);
        }
    }

    /// The walsender hears from a standby; synchronous commits it has are released.
    fn flushed(&mut self, from: usize, name: &str, flushed: usize, now: u64) -> Vec<Record> {
        let name = name.to_owned();
        let Some(server) = &mut self.nodes[from].server else {
            return Vec::new();
        };
        server.standbys.insert(name.clone(), (flushed, now));
        if server.sync_names.first() != Some(&name) || !server.is_writable() {
            return Vec::new();
        }
        let done: Vec<_> = server
            .pending
            .extract_if(.., |p| p.position <= flushed)
            .collect();
        let disk = self.nodes[from].dir.whole();
        done.iter()
            .filter_map(|p| disk.map(|disk| disk.log[p.position - 1]))
            .collect()
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Client { node } => {
                self.client(node);
                let delay = self.rng.range(40, 160);
                self.schedule(delay, Act::Client { node });
            }
            Act::Stream { node } => {
                self.stream(node);
                let delay = self.rng.range(5, 40);
                self.schedule(delay, Act::Stream { node });
            }
            Act::NextFault => {
                if !self.healed {
                    Fault::strike(self);
                    let delay = self.rng.range(500, 9_000);
                    self.schedule(delay, Act::NextFault);
                }
            }
            Act::HealAll => Fault::heal_all(self),
            other => self.act_on_node(other),
        }
    }
}
