//! PostgreSQL as one member remembers it: the process, its directory, its last answers.

use super::effect::Stop;
use super::event::{Op, PgFacts};
use super::model::{DataDir, Lsn, Ms, Name};
use super::quorum::{SyncSetting, Voters};
use super::remote::RemoteFacts;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// PostgreSQL as this member knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pg {
    /// The postmaster.
    pub process: Process,
    /// The data directory, when read since the last change.
    pub data: Option<DataDir>,
    /// The last answer of the probe; cleared when the process changes.
    pub facts: Option<Arc<PgFacts>>,
    /// When it came.
    pub facts_at: Ms,
    /// The operation in progress.
    pub op: Option<Op>,
    /// When the last one began.
    #[serde(default)]
    pub op_since: Ms,
    /// The strongest stop asked for since the last start.
    pub stopping: Option<Stop>,
    /// When that was asked.
    pub stopping_since: Ms,
    /// Whom it streams from, as configured.
    pub upstream: Option<Name>,
    /// Where that one listened then: a new pod of the name has another address.
    #[serde(default)]
    pub upstream_at: Option<(String, u16)>,
    /// The server went down at.
    pub down_since: Ms,
    /// The history of the leader of this epoch left mine before my position: rewind first. The data
    /// itself is whole, and may lead again if that leader is gone.
    pub diverged_from: Option<u64>,
    /// What is wrong with the data, and left to a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_to_people: Option<String>,
    /// The server went down otherwise than by my order, or was found down: in maintenance mode it
    /// stays down until a person asks for it.
    #[serde(default)]
    pub stopped_by_others: bool,
    /// The leader of this epoch has other WAL on my timeline.
    pub twin_of: Option<u64>,
    /// What the remote primary of a standby cluster said of itself, and when.
    #[serde(default)]
    pub remote: Option<(RemoteFacts, Ms)>,
    /// A running primary was told to follow this one, since.
    #[serde(default)]
    pub told_to_follow: Option<(super::remote::Standby, Ms)>,
    /// What the leader of an epoch itself said of my history.
    #[serde(default)]
    pub line: Option<Line>,
    /// The newest epoch whose leader it was seen to stream from.
    #[serde(default)]
    pub streamed_in: Option<u64>,
    /// The newest epoch in which it was admitted to lead, under my own lock.
    #[serde(default)]
    pub led_in: Option<u64>,
    /// It has been running without a stream since.
    pub unstreamed_since: Option<Ms>,
    /// Its deadline has passed, and it is not known to be gone (G4).
    #[serde(default)]
    pub latched: bool,
    /// It was told to leave recovery, by me or perhaps by an agent before me.
    #[serde(default)]
    pub may_be_promoting: bool,
    /// In recovery with nobody to receive WAL from, or nobody who sends any: since when.
    #[serde(default)]
    pub mute_since: Option<Ms>,
    /// Rewinds that failed in a row. One that was cut short leaves a directory that shows it.
    pub failed_rewinds: u32,
    /// Clones that failed in a row, and the epoch of the leader they were made from.
    #[serde(default)]
    pub failed_clones: (u32, Option<u64>),
    /// How far a copy that was made anew has to come.
    #[serde(default)]
    pub fresh_copy: super::fresh_copy::FreshCopy,
    /// Starts as the primary that failed in a row.
    pub failed_starts: u32,
    /// The settings changed since its files were written.
    #[serde(default)]
    pub settings_stale: bool,
    /// G9's verdict.
    pub not_serving: Option<String>,
    /// Its volume has no room for another WAL segment.
    #[serde(default)]
    pub full: bool,
}

/// A leader's own history, compared with mine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Line {
    /// The epoch of the leader that was asked.
    pub epoch: u64,
    /// Both left the same timeline at different positions.
    pub differs: bool,
}

/// The postmaster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Process {
    /// The guardian has not said yet.
    #[default]
    Unknown,
    /// Verified stopped.
    Down,
    /// Running or being started.
    Running {
        /// Started without `standby.signal`.
        as_primary: bool,
    },
}

/// The synchronous set as enforced by PostgreSQL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SyncTask {
    /// What `synchronous_standby_names` was last told to be.
    pub asked: SyncSetting,
    /// What is in force.
    pub in_force: Option<InForce>,
    /// Somebody changed the setting: what is published is not enforced, and has to be unpublished.
    pub drifted: bool,
    /// The published standby has not been streaming since.
    pub missing_since: Option<Ms>,
    /// What each standby had flushed last, and when it had last moved or owed nothing.
    #[serde(default)]
    pub heard: BTreeMap<Name, (Lsn, Ms)>,
    /// The publication in flight.
    pub leaving: Option<Voters>,
    /// Published by writes that may still land, or have landed unseen: nothing that they promise is
    /// relaxed before a later write of the record is acknowledged.
    pub unsure: Vec<Voters>,
    /// No write of mine was acknowledged yet, and what an agent before me wrote may still land.
    #[serde(default)]
    pub inherited: bool,
}

/// A synchronous set that PostgreSQL enforces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InForce {
    /// What.
    pub wanted: SyncSetting,
    /// The flush position after the reload.
    pub lsn: Lsn,
    /// The setting as the server showed it then.
    pub setting: String,
    /// The probe has shown it too: one that shows another setting from now on is no older answer.
    pub seen: bool,
    /// Enough standbys have been seen to have all that was acknowledged before it.
    pub settled: bool,
}
