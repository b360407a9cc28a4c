//! The cluster's shared state beside the lock: Patroni's objects, decoded.

use super::model::{HistoryEntry, Member, Name, Timeline};
use super::quorum::Voters;
use super::remote::Standby;
use super::slots::SlotRules;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The dynamic settings that decisions depend on, resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rules {
    /// D for the next record.
    pub ttl_ms: u64,
    /// A replica further behind the last known position of the leader is no candidate.
    pub maximum_lag_on_failover_bytes: u64,
    /// `synchronous_mode`: commits wait for standbys.
    pub synchronous_mode: bool,
    /// For how many of whom.
    #[serde(default)]
    pub sync: SyncRules,
    /// Refuse a candidate whose timeline is behind the cluster's.
    pub check_timeline: bool,
    /// How long a crashed primary may take to start again before a candidate is preferred.
    pub primary_start_timeout_ms: u64,
    /// In synchronous mode: how long a stop of the primary may take before it is killed.
    #[serde(default)]
    pub primary_stop_timeout_ms: Option<u64>,
    /// How long the slot of a member without a Pod is kept.
    #[serde(default = "half_an_hour_ms")]
    pub member_slots_ttl_ms: u64,
    /// Which other slots there are, and which are left alone.
    #[serde(default)]
    pub slots: SlotRules,
    /// What becomes of data that are not the leader's.
    #[serde(default)]
    pub repair: Repair,
    /// `pause`: maintenance mode.
    #[serde(default)]
    pub pause: bool,
    /// `failsafe_mode`: a leader that cannot renew goes on while all others promise not to lead.
    #[serde(default)]
    pub failsafe: bool,
    /// `standby_cluster`: the leader follows a primary of another cluster.
    #[serde(default)]
    pub standby: Option<Standby>,
}

/// What synchronous mode asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SyncRules {
    /// `synchronous_mode: quorum`: any of the standbys may confirm a commit.
    pub quorum: bool,
    /// `synchronous_mode_strict`: without a standby commits wait.
    pub strict: bool,
    /// `synchronous_node_count`: how many standbys confirm a commit, where there are as many.
    pub count: usize,
    /// `maximum_lag_on_syncnode`: one further behind is replaced, where there is another.
    pub lag_max_bytes: Option<u64>,
}

impl Default for SyncRules {
    fn default() -> Self {
        Self {
            quorum: false,
            strict: false,
            count: 1,
            lag_max_bytes: None,
        }
    }
}

impl Rules {
    /// Synchronous commits are enforced: a standby cluster commits nothing.
    pub fn syncs(&self) -> bool {
        self.synchronous_mode && self.standby.is_none()
    }
}

/// What a member may do by itself about data that are not the leader's. A copy is made beside them,
/// and they go once it is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Repair {
    /// `use_pg_rewind`: rewind where that can be done.
    pub rewind: bool,
    /// `remove_data_directory_on_rewind_failure`: copy the leader where rewinding failed.
    pub copy_after_failed_rewinds: bool,
    /// `remove_data_directory_on_diverged_timelines`: copy the leader where there is no rewinding.
    pub copy_when_diverged: bool,
}

impl Default for Repair {
    fn default() -> Self {
        Self {
            rewind: true,
            copy_after_failed_rewinds: true,
            copy_when_diverged: true,
        }
    }
}

/// What a journal of before means.
fn half_an_hour_ms() -> u64 {
    1_800_000
}

/// `<scope>-sync`: who holds every acknowledged commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SyncRecord {
    /// The leader that wrote it.
    pub leader: Option<Name>,
    /// The standbys in the set.
    pub standbys: Vec<Name>,
    /// How many others of them have to vote for one before it may lead; 0: each has every commit.
    #[serde(default)]
    pub quorum: usize,
    /// The object's resourceVersion; `None`: no object.
    pub resource_version: Option<String>,
}

impl SyncRecord {
    /// Who may lead, and with how many votes.
    pub fn voters(&self) -> Voters {
        Voters::of(&self.standbys, self.quorum)
    }
}

/// `<scope>-failover`: a switchover (with `from`) or a manual failover (without).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FailoverRecord {
    /// The leader to be replaced; empty: a manual failover.
    pub from: Option<Name>,
    /// The candidate.
    pub to: Option<Name>,
    /// A person has said that acknowledged commits may be lost with it.
    #[serde(default)]
    pub accepts_loss: bool,
    /// The holder in maintenance mode, as its record names it, of whom a person knows that it is
    /// dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead: Option<String>,
    /// A switchover for later; nothing is asked before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled: Option<Scheduled>,
    /// The object's resourceVersion; `None`: no object.
    pub resource_version: Option<String>,
}

/// A switchover for later.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scheduled {
    /// The leader to be replaced.
    pub from: Option<Name>,
    /// The candidate; `None`: the best.
    pub to: Option<Name>,
    /// When, as whoever planned it wrote it.
    pub at: String,
    /// The same, in milliseconds since 1970.
    pub at_wall_ms: u64,
}

impl FailoverRecord {
    /// Nothing is asked for now.
    pub fn is_empty(&self) -> bool {
        self.from.is_none() && self.to.is_none()
    }
}

/// Who bootstraps, or did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Initialize {
    /// No trace of it.
    #[default]
    Never,
    /// A bootstrap runs, or died: the bootstrapper's identity as it wrote it.
    Running(String),
    /// Done: the system identifier.
    Done(String),
}

/// `<scope>-config`, beside the dynamic configuration itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConfigRecord {
    /// The dynamic configuration, resolved; `None`: missing or unreadable.
    pub rules: Option<Rules>,
    /// The initialisation state.
    pub initialize: Initialize,
    /// The timelines' history.
    pub history: Vec<HistoryEntry>,
    /// The timeline that it is the history of; `None`: whoever wrote it did not say, as Patroni.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Timeline>,
    /// The greatest epoch noted by a leader.
    pub epoch: u64,
    /// The D noted with it.
    pub ttl_ms: u64,
    /// The object's resourceVersion; `None`: no object.
    pub resource_version: Option<String>,
}

impl ConfigRecord {
    /// The newest timeline that a leader has noted. It need not be the one after the last fork: a
    /// promotion takes the number after the newest that any archive knows.
    pub fn newest_timeline(&self) -> Timeline {
        let after = self.history.last().map_or(1, |last| last.timeline + 1);
        self.timeline.unwrap_or(1).max(after)
    }

    /// Whether the history is known to be that of `timeline`.
    pub fn tells_of(&self, timeline: Timeline) -> bool {
        self.timeline == Some(timeline)
            || self
                .history
                .last()
                .is_some_and(|last| last.timeline + 1 == timeline)
    }
}

/// Everything read from the objects and pods of the scope, replaced as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shared {
    /// The members: all pods of the scope, by name.
    pub members: BTreeMap<Name, Member>,
    /// The `-config` object.
    pub config: ConfigRecord,
    /// The `-sync` object.
    pub sync: SyncRecord,
    /// The `-failover` object.
    pub failover: FailoverRecord,
}

/// A compare-and-swap of one of those objects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SharedWrite {
    /// Name the bootstrapper, or the system identifier once bootstrapped.
    Initialize {
        /// The new value.
        value: Initialize,
        /// The version it was decided on; `None`: create.
        expect: Option<String>,
    },
    /// Append to the history and note epoch and D.
    History {
        /// The whole new history.
        history: Vec<HistoryEntry>,
        /// The timeline that it leads to.
        #[serde(default)]
        timeline: Timeline,
        /// The epoch to note.
        epoch: u64,
        /// The D to note.
        ttl_ms: u64,
        /// The version it was decided on.
        expect: Option<String>,
    },
    /// Store the dynamic configuration that the local file brings (first bootstrap, or it was
    /// deleted).
    Config {
        /// The version it was decided on.
        expect: Option<String>,
    },
    /// Replace the synchronous set.
    Sync {
        /// The leader.
        leader: Name,
        /// The standbys.
        standbys: Vec<Name>,
        /// The votes that one of them needs.
        #[serde(default)]
        quorum: usize,
        /// The version it was decided on.
        expect: Option<String>,
    },
    /// Write down that a person vouches for the death of this holder.
    Dead {
        /// The holder, as its record names it.
        holder: String,
        /// The version it was decided on.
        expect: Option<String>,
    },
    /// Write or (both empty) clear the failover request.
    Failover {
        /// From.
        from: Option<Name>,
        /// To.
        to: Option<Name>,
        /// Though acknowledged commits may be lost with it.
        #[serde(default)]
        accepts_loss: bool,
        /// The version it was decided on.
        expect: Option<String>,
    },
}

impl fmt::Display for SharedWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Initialize { value, .. } => match value {
                Initialize::Done(id) => write!(f, "the cluster's identifier {id}"),
                Initialize::Running(who) => write!(f, "that {who} creates the cluster"),
                Initialize::Never => write!(f, "that no cluster is there"),
            },
            Self::History { history, epoch, .. } => {
                let forks = history.len();
                write!(f, "the history ({forks} promotions) as of epoch {epoch}")
            }
            Self::Config { .. } => write!(f, "the dynamic configuration of the local file"),
            Self::Sync {
                leader,
                standbys,
                quorum,
                ..
            } => {
                let voters = Voters::of(standbys, *quorum);
                write!(f, "the synchronous set of {leader}: {voters}")
            }
            Self::Dead { holder, .. } => write!(f, "that {holder} is dead, by a person's word"),
            Self::Failover { from, to, .. } => match (from, to) {
                (None, None) => write!(f, "that no failover is asked for any more"),
                (None, Some(to)) => write!(f, "that a failover to {to} is asked for"),
                (Some(from), to) => {
                    let to = to.as_deref().unwrap_or("the best");
                    write!(f, "that a switchover from {from} to {to} is asked for")
                }
            },
        }
    }
}

impl Shared {
    /// What an acknowledged write made of the record.
    pub(super) fn apply(&mut self, what: SharedWrite, version: String) {
        let version = Some(version);
        match what {
            SharedWrite::Initialize { value, .. } => {
                self.config.initialize = value;
                self.config.resource_version = version;
            }
            SharedWrite::History {
                history,
                timeline,
                epoch,
                ttl_ms,
                ..
            } => {
                self.config.history = history;
                self.config.timeline = Some(timeline);
                self.config.epoch = epoch;
                self.config.ttl_ms = ttl_ms;
                self.config.resource_version = version;
            }
            SharedWrite::Config { .. } => self.config.resource_version = version,
            SharedWrite::Sync {
                leader,
                standbys,
                quorum,
                ..
            } => {
                self.sync.leader = Some(leader);
                self.sync.standbys = standbys;
                self.sync.quorum = quorum;
                self.sync.resource_version = version;
            }
            SharedWrite::Failover {
                from,
                to,
                accepts_loss,
                ..
            } => {
                // A person's word stands until everything is cleared.
                let asked = from.is_some() || to.is_some();
                self.failover = FailoverRecord {
                    from,
                    to,
                    accepts_loss,
                    dead: self.failover.dead.take().filter(|_| asked),
                    resource_version: version,
                    ..FailoverRecord::default()
                };
            }
            SharedWrite::Dead { holder, .. } => {
                self.failover.dead = Some(holder);
                self.failover.resource_version = version;
            }
        }
    }
}
