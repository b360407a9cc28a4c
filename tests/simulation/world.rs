//! The world: nodes, the store, the network, time; and the loop that moves it.

use crate::act::{Act, Scheduled};
use crate::api::Store;
use crate::failsafe::Asker;
use crate::faults::Fault;
use crate::maintenance;
use crate::node::Node;
use crate::oracle::Oracle;
use crate::rng::Rng;
use crate::server::Disk;
use crate::slots;
use crate::votes::{self, Candidate};
use pgwarden::ha::shared::{Repair, Rules, SyncRules};
use pgwarden::ha::state::Sabotage;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::fmt::Write as _;

/// D of the simulated cluster: the shortest that is offered.
pub(crate) const TTL_MS: u64 = 6_000;
/// Faults happen from here on: a cluster has begun.
pub(crate) const FAULTS_BEGIN_MS: u64 = 14_000;
/// Faults happen until here.
pub(crate) const FAULTS_END_MS: u64 = 75_000;
/// *Writable again within a bound once faults stop*: two waits of D, a restart and a promotion.
const HEAL_MS: u64 = 40_000;
/// Where a larger D is stored, so many times what it is larger: who has given the lock up stands
/// aside for two, one that is ahead gets one to act, and a map that nobody knows to be void three.
const HEAL_TTLS: u64 = 5;
/// And everybody streams.
const STREAM_MS: u64 = 25_000;
/// Who is being restarted for a copy of a slot just then gets that long.
const RESTART_MS: u64 = 5_000;
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
    /// L2 off: a write expects the version of now, not that of the record that was judged.
    VersionOfNow,
    /// G1 off: the guardian never kills.
    GuardianIdle,
    /// G1 off: an order to stop takes the deadline back before anything has stopped.
    DisarmedEarly,
    /// G4 off: what was a primary starts as one, without the lock.
    StartsUnlocked,
    /// G9 off: that PostgreSQL does not answer is told nobody.
    SilenceIgnored,
    /// G1 off: the guardian waits for a hook that runs.
    HookHoldsFence,
    /// A set that lets nobody lead is taken for stored before it is.
    SetStoredLate,
}

/// What befalls the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Faults {
    /// Everything, as the seed says.
    Mixed,
    /// Containers are frozen whole as well (G10): two may be writable for a moment, and nothing
    /// that was acknowledged may be lost.
    Frozen,
    /// Maintenance mode is over before the leader could write that it has heard of it.
    BriefPause,
    /// It ends while that word is on its way.
    HastyResume,
    /// The postmaster of the leader stands still, for good.
    Hung,
    /// The leader is cut off from the API and its lock is deleted.
    LockLost,
    /// The API answers late, then the leader is cut off and its agent stands still.
    LateAnswer,
    /// The leader is cut off, and its agent dies while PostgreSQL stops.
    DiesStopping,
    /// The disk under the leader is dead: its server cannot even be killed.
    DeadDisk,
    /// The leader's node dies, and with it the volume of a standby that it had listed.
    WipedStandby,
    /// The leader is asked to stop, its hook hangs, and it is cut off meanwhile.
    HookHangs,
    /// Who creates the cluster is killed in the middle of it; nothing else.
    CreatorDies,
}

impl Bug {
    pub(crate) fn parse(name: &str) -> Self {
        match name {
            "identity" => Self::Core(Sabotage::IdentityOff),
            "absence" => Self::Core(Sabotage::AbsenceIsRelease),
            "set" => Self::Core(Sabotage::AbsentSetAdmits),
            "release" => Self::Core(Sabotage::ReleaseAdmits),
            "timeline" => Self::Core(Sabotage::TimelineCheckOff),
            "mark" => Self::Core(Sabotage::MarkIgnored),
            "suspend" => Self::Core(Sabotage::SuspendedEarly),
            "unmark" => Self::Core(Sabotage::MarkRemovedFirst),
            "promise" => Self::Core(Sabotage::PromiseForgotten),
            "map" => Self::Core(Sabotage::MapIgnored),
            "votes" => Self::Core(Sabotage::VotesIgnored),
            "fenced" => Self::Core(Sabotage::FencedAnswers),
            "creator" => Self::Core(Sabotage::CreatorForgotten),
            "name" => Self::Core(Sabotage::NameSuffices),
            "voter" => Self::Core(Sabotage::VoterGoesOn),
            "credit" => Self::Core(Sabotage::CreditFromAnswer),
            "publish" => Self::Core(Sabotage::PublishedFirst),
            "version" => Self::VersionOfNow,
            "guardian" => Self::GuardianIdle,
            "disarm" => Self::DisarmedEarly,
            "unlocked" => Self::StartsUnlocked,
            "silence" => Self::SilenceIgnored,
            "hook" => Self::HookHoldsFence,
            "late" => Self::SetStoredLate,
            "cas" => Self::CompareAndSwapOff,
            "wallclock" => Self::WallClockAge,
            other => {
                panic!(
                    "PGWARDEN_BUG={other}: one of identity, absence, set, release, timeline, mark, suspend, unmark, promise, map, votes, voter, credit, publish, fenced, name, version, guardian, disarm, unlocked, silence, hook, late, cas, wallclock"
                )
            }
        }
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Options {
    pub(crate) seed: u64,
    pub(crate) synchronous: bool,
    /// The Endpoints dialect: writing the route changes the version of the lock.
    pub(crate) route_in_lock: bool,
    /// Failsafe mode is on from the beginning.
    pub(crate) failsafe: bool,
    pub(crate) faults: Faults,
    pub(crate) bug: Bug,
    pub(crate) story: Story,
}

/// What becomes of the words about a run, which cost more than what they tell of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Story {
    Untold,
    /// The last lines, for the report.
    Kept,
    /// And every line as it happens.
    Printed,
}

/// A broken invariant.
pub(crate) struct Failure {
    pub(crate) invariant: &'static str,
    pub(crate) at: u64,
    pub(crate) words: String,
    pub(crate) trace: String,
}

/// The wall clock when a run begins.
pub(crate) const WALL_MS: u64 = 1_800_000_000_000;

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) options: Options,
    pub(crate) rng: Rng,
    pub(crate) store: Store,
    pub(crate) backup: Option<Store>,
    /// A base backup, for members that are filled while nobody leads.
    pub(crate) archive: Option<Disk>,
    pub(crate) nodes: Vec<Node>,
    /// Of the pods, as their controller counts.
    pub(crate) revision: u64,
    pub(crate) oracle: Oracle,
    pub(crate) healed: bool,
    pub(crate) slow_until: u64,
    pub(crate) lossy_until: u64,
    /// Questions for promises that have not been answered.
    pub(crate) questions: BTreeMap<u64, (Asker, String)>,
    /// And for votes.
    pub(crate) candidates: BTreeMap<u64, Candidate>,
    queue: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
    next_id: u64,
    failure: Option<Failure>,
    trace: VecDeque<String>,
    pub(crate) writable_since_heal: Option<u64>,
}

impl World {
    pub(crate) fn new(options: Options) -> Self {
        let mut rules = Rules {
            ttl_ms: TTL_MS,
            maximum_lag_on_failover_bytes: 1_000,
            synchronous_mode: options.synchronous,
            sync: SyncRules::default(),
            check_timeline: true,
            primary_start_timeout_ms: 300_000,
            primary_stop_timeout_ms: None,
            member_slots_ttl_ms: 1_800_000,
            slots: pgwarden::ha::slots::SlotRules::default(),
            repair: Repair::default(),
            pause: false,
            standby: None,
            failsafe: options.failsafe,
        };
        votes::sync_rules(options.seed, &mut rules);
        slots::rules(options.seed, &mut rules);
        let mut rng = Rng::new(options.seed);
        let members = votes::members(options.seed);
        let nodes = (0..members)
            .map(|index| Node::new(index, &mut rng))
            .collect();
        Self {
            now: 0,
            options,
            rng,
            store: Store::new(rules, options.bug == Bug::CompareAndSwapOff),
            backup: None,
            archive: None,
            nodes,
            revision: 0,
            oracle: Oracle::default(),
            healed: false,
            slow_until: 0,
            lossy_until: 0,
            questions: BTreeMap::new(),
            candidates: BTreeMap::new(),
            queue: BinaryHeap::new(),
            order: 0,
            next_id: 0,
            failure: None,
            trace: VecDeque::new(),
            writable_since_heal: None,
        }
    }

    pub(crate) fn schedule(&mut self, delay: u64, act: Act) {
        self.order += 1;
        self.queue.push(Reverse(Scheduled {
            at: self.now + delay,
            order: self.order,
            act: Box::new(act),
        }));
    }

    /// What a member's wall clock shows.
    pub(crate) fn wall_of(&self, node: usize) -> u64 {
        WALL_MS.strict_add_signed(self.nodes[node].wall(self.now))
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(crate) fn note(&mut self, words: impl FnOnce() -> String) {
        if self.options.story == Story::Untold {
            return;
        }
        let line = format!("{:>7} {}", self.now, words());
        if self.options.story == Story::Printed {
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
        self.schedule(FAULTS_BEGIN_MS, Act::NextFault);
        self.schedule(FAULTS_END_MS, Act::HealAll);
        while self.failure.is_none() && !self.is_over() {
            let Some(Reverse(next)) = self.queue.pop() else {
                break;
            };
            self.now = next.at;
            self.act(*next.act);
            self.check();
        }
        if self.failure.is_none() {
            self.check_end();
        }
        self.failure.take().map_or(Ok(()), Err)
    }

    fn is_over(&self) -> bool {
        let writable_at = self.writable_since_heal.unwrap_or(self.now);
        let end = writable_at.max(FAULTS_END_MS + HEAL_MS) + STREAM_MS;
        self.now >= end + RESTART_MS || (self.now >= end && self.idle_node().is_none())
    }

    /// When somebody has to be writable.
    pub(crate) fn heals_until(&self) -> u64 {
        let states = self.nodes.iter().filter_map(|node| node.state.as_ref());
        let ttl_ms = states.map(|state| state.rules.ttl_ms).max();
        let more_ms = ttl_ms.unwrap_or(TTL_MS).saturating_sub(TTL_MS);
        FAULTS_END_MS + HEAL_MS + HEAL_TTLS * more_ms
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
                    // Who is cut off in the middle of the first bootstrap keeps data that only a
                    // person may throw away.
                    if self.store.is_bootstrapped() {
                        Fault::strike(self);
                    }
                    let delay = self.rng.range(500, 9_000);
                    self.schedule(delay, Act::NextFault);
                }
            }
            Act::HealAll => Fault::heal_all(self),
            Act::Cut { node, api, ms } => Fault::cut(self, node, ms, api),
            Act::PromoteCluster => maintenance::promote(self),
            Act::KillAgent { node } => {
                if !self.healed {
                    self.note(|| format!("FAULT agent of {node} killed"));
                    self.kill_agent(node);
                }
            }
            Act::KillCreator { node } => self.kill_creator(node),
            Act::MakeRoom { node } => self.make_room(node),
            Act::Freeze { node, ms } => {
                if !self.healed {
                    self.note(|| format!("FAULT agent of {node} frozen for {ms} ms"));
                    self.freeze_agent(node, ms);
                }
            }
            Act::Resume { cut_for } => maintenance::resume(self, cut_for),
            Act::Vouch => maintenance::vouch(self),
            other => self.act_on_node(other),
        }
    }
}
