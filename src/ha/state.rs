//! What a member remembers between two steps.

use super::budgets::{Budgets, Overrides};
use super::cascade::StreamTags;
use super::configure::Restart;
use super::event::{Op, PeerStatus};
use super::failsafe::Failsafe;
use super::hooks::Hooks;
use super::lock::{Held, LockBelief, Place};
use super::model::{DataDir, Identity, Lsn, Member, Ms, Name};
use super::rebuild::Rebuild;
use super::schedule::WallClock;
use super::shared::{Rules, Shared, SyncRecord};
use super::slots::SlotTask;
use super::vote::Votes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

pub use super::asks::PendingAsk;
pub use super::handover::{Handover, HandoverPhase, Succession};
pub use super::hold::{Attempt, HeldLease, Lease};
pub use super::pg::{InForce, Pg, Process, SyncTask};
pub use super::sabotage::Sabotage;

/// Everything `step` knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct State {
    /// Who I am (L1).
    pub me: Identity,
    /// Where I run (L5).
    pub place: Place,
    /// My own tags that matter here.
    pub nofailover: bool,
    /// And those about streaming.
    #[serde(default)]
    pub stream: StreamTags,
    /// The dynamic settings in force: the stored ones, else the local file's.
    pub rules: Rules,
    /// The instants that follow from D of the last acknowledged record, or of `rules`.
    pub budgets: Budgets,
    /// Instants set by hand on this member.
    pub overrides: Overrides,
    /// The lock as seen.
    pub lock: LockBelief,
    /// The lock as held by me.
    pub lease: Lease,
    /// The guardian's deadline as moved last; none after a verified stop.
    pub armed_until: Option<Ms>,
    /// The shared objects, once seen.
    pub shared: Option<Arc<Shared>>,
    /// When they were read by quorum last.
    pub shared_read_at: Option<Ms>,
    /// When a write of mine was acknowledged last.
    pub shared_written_at: Ms,
    /// PostgreSQL.
    pub pg: Pg,
    /// The race for a free lock.
    pub race: Option<Race>,
    /// Rounds of questions so far.
    pub rounds: u64,
    /// A handover that I, the leader, carry out.
    pub handover: Option<Handover>,
    /// Questions of people that wait for an answer.
    pub asks: Vec<PendingAsk>,
    /// The synchronous set as enforced.
    pub sync: SyncTask,
    /// A record of it has been seen, whatever became of the object since.
    #[serde(default)]
    pub sync_seen: bool,
    /// SIGTERM came.
    pub terminating: bool,
    /// I handed the lock over: what I know of my successor.
    pub succession: Option<Succession>,
    /// `Bye` was said.
    pub said_bye: bool,
    /// I gave the lock away on purpose: do not race before this instant.
    pub stand_aside_until: Ms,
    /// The best candidate seems to be another, and did not act: since when I have been waiting.
    pub deferring_since: Option<Ms>,
    /// When a repeated effect may leave next, by topic.
    pub not_before: BTreeMap<String, Ms>,
    /// A write of a shared object is in flight.
    pub writing_shared: bool,
    /// When the oldest quorum read of the lock left that has not ended.
    pub reading_lock: Option<Ms>,
    /// How many are in flight.
    pub lock_reads: u32,
    /// How long the request to hand over has been there, for the leader.
    pub asked_since: Option<Ms>,
    /// The version of the request that was refused: it is not begun again, however long it takes to
    /// clear it.
    #[serde(default)]
    pub refused: Option<String>,
    /// Why the last request was not carried out.
    #[serde(default)]
    pub refusal: Option<String>,
    /// Where my WAL ended then: whoever takes over shows that it still receives.
    #[serde(default)]
    pub asked_lsn: Option<Lsn>,
    /// Replication slots.
    #[serde(default)]
    pub slots: SlotTask,
    /// The epoch whose route was published last.
    pub routed_epoch: Option<u64>,
    /// A rule that must stay quiet until its words change: what was explained last, by topic.
    pub explained: BTreeMap<String, String>,
    /// A restart that a person asked for.
    #[serde(default)]
    pub restart: Option<Restart>,
    /// A new copy that a person asked for.
    #[serde(default)]
    pub rebuild: Option<Rebuild>,
    /// What the wall clock showed last.
    #[serde(default)]
    pub wall: Option<WallClock>,
    /// A holder in maintenance mode that a person has called dead, until that is written down.
    #[serde(default)]
    pub vouching: Option<String>,
    /// Failsafe mode.
    #[serde(default)]
    pub failsafe: Failsafe,
    /// Votes for me, and of mine.
    #[serde(default)]
    pub votes: Votes,
    /// Commands of the user's.
    #[serde(default)]
    pub hooks: Hooks,
    /// A bug switched on on purpose, to prove that the simulator sees it.
    pub sabotage: Sabotage,
}

/// A race: questions to the peers about one state of the lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Race {
    /// The round.
    pub round: u64,
    /// The lock fields it is about; any change voids it.
    pub fields: String,
    /// Questions end.
    pub until: Ms,
    /// Who was asked, and what came.
    pub answers: BTreeMap<Name, Answered>,
    /// The race is won: the quorum read is on its way.
    pub confirming: bool,
    /// The quorum read showed the same fields.
    pub confirmed: bool,
}

/// A peer's answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Answered {
    /// Not yet.
    Waiting,
    /// Not reachable.
    Unreachable,
    /// It said this.
    Said(PeerStatus),
}

impl State {
    /// A member that knows nothing yet but its settings.
    pub fn new(
        me: Identity,
        place: Place,
        nofailover: bool,
        rules: Rules,
        budgets: Budgets,
    ) -> Self {
        Self {
            me,
            place,
            nofailover,
            stream: StreamTags::default(),
            rules,
            budgets,
            overrides: Overrides::default(),
            lock: LockBelief::default(),
            lease: Lease::default(),
            armed_until: None,
            shared: None,
            shared_read_at: None,
            shared_written_at: 0,
            pg: Pg::default(),
            race: None,
            rounds: 0,
            handover: None,
            asks: Vec::new(),
            sync: SyncTask {
                inherited: true,
                ..SyncTask::default()
            },
            sync_seen: false,
            terminating: false,
            succession: None,
            said_bye: false,
            stand_aside_until: 0,
            deferring_since: None,
            not_before: BTreeMap::new(),
            writing_shared: false,
            reading_lock: None,
            lock_reads: 0,
            asked_since: None,
            refused: None,
            refusal: None,
            asked_lsn: None,
            slots: SlotTask::default(),
            routed_epoch: None,
            explained: BTreeMap::new(),
            restart: None,
            rebuild: None,
            wall: None,
            vouching: None,
            failsafe: Failsafe::default(),
            votes: Votes::default(),
            hooks: Hooks::default(),
            sabotage: Sabotage::None,
        }
    }

    /// The lock is mine by the last acknowledgement, and PostgreSQL may be writable until this
    /// instant.
    pub fn holds_until(&self) -> Option<Ms> {
        self.lease.held.as_ref().map(|held| held.until)
    }

    /// The lock is mine now.
    pub fn holds(&self, now: Ms) -> bool {
        self.holds_until().is_some_and(|until| now < until)
    }

    /// G5: the record is mine, and the guardian's deadline that it set still runs.
    pub fn may_adopt(&self, now: Ms) -> bool {
        let armed = self.armed_until.is_some_and(|until| now < until);
        self.lease.adoptable && (armed || self.is_unarmed_standby())
    }

    /// A name other than mine that the record shows as the holder, whatever its age.
    pub fn other_holder(&self) -> Option<&Held> {
        self.lock
            .snapshot
            .as_ref()?
            .held()
            .filter(|held| !self.is_me(held))
    }

    /// L1: the record is mine only by name, pod and incarnation together.
    pub fn is_me(&self, held: &Held) -> bool {
        if self.sabotaged(Sabotage::IdentityOff) {
            return held.holder.name == self.me.name;
        }
        held.holder == self.me
    }

    /// A bug is switched on.
    pub fn sabotaged(&self, bug: Sabotage) -> bool {
        cfg!(debug_assertions) && self.sabotage == bug
    }

    /// The server runs out of recovery, or may.
    pub fn may_be_writable(&self) -> bool {
        match self.pg.process {
            Process::Running { as_primary } => {
                as_primary
                    || self
                        .pg
                        .facts
                        .as_ref()
                        .is_some_and(|facts| !facts.in_recovery)
            }
            Process::Unknown | Process::Down => false,
        }
    }

    /// Maintenance mode, and it protects: a primary's only once its mark is acknowledged (G1).
    pub fn is_paused(&self) -> bool {
        let held = self.lease.held.as_ref();
        self.rules.pause && !(self.is_primary() && held.is_some_and(|held| !held.paused))
    }

    /// The server answers as a primary.
    pub fn is_primary(&self) -> bool {
        matches!(self.pg.process, Process::Running { .. })
            && self
                .pg
                .facts
                .as_ref()
                .is_some_and(|facts| !facts.in_recovery)
    }

    /// Its deadline has passed (G4): whatever a dead disk still holds of it has been killed, and
    /// acknowledges nothing any more. It stands in nobody's way.
    fn is_fenced(&self, now: Ms) -> bool {
        let passed = self.armed_until.is_some_and(|until| until <= now);
        (self.pg.latched || passed) && !self.sabotaged(Sabotage::FencedAnswers)
    }

    /// My position for an election: from SQL when up, from the control file when down.
    pub fn position(&self) -> Option<(u32, Lsn)> {
        match (&self.pg.process, &self.pg.facts, &self.pg.data) {
            (Process::Running { .. }, Some(facts), _) => Some((facts.timeline, facts.lsn)),
            (Process::Down, _, Some(DataDir::Present(data))) => Some((data.timeline, data.lsn)),
            _ => None,
        }
    }

    /// The synchronous set as published.
    pub fn sync_record(&self) -> SyncRecord {
        self.shared
            .as_ref()
            .map(|shared| shared.sync.clone())
            .unwrap_or_default()
    }

    /// What the shared state should show of me; addresses, tags and version come with `base`.
    pub fn public_member(&self, base: &Member) -> Member {
        let facts = self.pg.facts.as_ref();
        let data = match &self.pg.data {
            Some(DataDir::Present(data)) => Some(data),
            _ => None,
        };
        let running = matches!(self.pg.process, Process::Running { .. });
        let state = match (&self.pg.op, &self.pg.process, facts) {
            (Some(Op::Initdb), ..) => "initializing new cluster",
            (Some(Op::Clone), ..) => "creating replica",
            (_, Process::Down, _) if self.rebuild.is_some() => "creating replica",
            (_, Process::Running { .. }, _) if self.pg.stopping.is_some() => "stopping",
            (_, Process::Running { .. }, _) if self.is_on_trial() => "starting",
            (_, Process::Running { .. }, Some(_)) => "running",
            (_, Process::Running { .. }, None) => "starting",
            (_, Process::Down | Process::Unknown, _) => "stopped",
        };
        let role = match (self.is_primary(), running, data) {
            (true, ..) => "primary",
            _ if self.is_standby_leader() => "standby_leader",
            (false, true, _) => "replica",
            (false, false, Some(data)) if data.standby_signal => "replica",
            (false, false, Some(_)) => "demoted",
            (false, false, None) => "uninitialized",
        };
        let replica = facts.filter(|facts| facts.in_recovery);
        Member {
            pod_uid: self.me.pod_uid.clone(),
            state: state.into(),
            role: role.into(),
            timeline: self.position().map(|(timeline, _)| timeline),
            lsn: self.position().map(|(_, lsn)| lsn),
            // A receiver that was started again begins before what is replayed.
            receive_lsn: replica.and_then(|facts| facts.receive_lsn.max(facts.replay_lsn)),
            replay_lsn: replica.and_then(|facts| facts.replay_lsn),
            replication_state: replica.and_then(|facts| {
                let word = match (facts.streaming, facts.archived) {
                    (true, _) => Some("streaming"),
                    (false, true) => Some("in archive recovery"),
                    (false, false) => None,
                };
                word.map(str::to_owned)
            }),
            system_id: facts
                .map(|facts| facts.system_id.clone())
                .or_else(|| data.map(|data| data.system_id.clone())),
            checkpoint_after_promote: facts
                .filter(|facts| !facts.in_recovery && !facts.checkpointed)
                .map(|_| false),
            pause: self.is_paused(),
            full: self.pg.full,
            ..base.clone()
        }
    }

    /// What I answer to a peer's question in a race.
    pub fn peer_status(&self, now: Ms) -> Option<PeerStatus> {
        let (timeline, lsn) = self.position()?;
        // Who has just given the lock away must not hold up the one it was given to.
        let proven = !self.rules.synchronous_mode || !self.is_unproven_copy();
        let eligible = self.repaired() && proven && now >= self.stand_aside_until;
        Some(PeerStatus {
            primary: self.is_primary() && !self.is_fenced(now),
            timeline,
            lsn,
            eligible,
            patroni: false,
        })
    }

    /// What the published set says of me is not about the copy that I have.
    pub(super) fn is_unproven_copy(&self) -> bool {
        self.lock.made_anew.is_some() && !self.sabotaged(Sabotage::NameSuffices)
    }

    /// The data directory may lead: whole, not being rebuilt, not forbidden by a tag.
    pub fn repaired(&self) -> bool {
        let rebuilding = matches!(
            self.pg.op,
            Some(Op::Initdb | Op::Clone | Op::Rewind | Op::CrashRecover)
        );
        !self.nofailover && !rebuilding && !self.terminating
    }
}
