//! The words of the domain: positions, identities, the lock, members, and what is known of them.
//!
//! Plain data with total order and equality, so that the core, the simulator and the codecs can
//! compare and replay them. Times are integer milliseconds of the observer's own boottime clock.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Milliseconds of the local boottime clock (it runs through suspend; no peer's clock is ever
/// read).
pub type Ms = u64;

/// A position in the write-ahead log, in bytes since the cluster's beginning.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// Why a text is not an LSN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLsn(pub String);

impl fmt::Display for BadLsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "\"{}\" is not an LSN; expected two hexadecimal numbers as in 0/3000148",
            self.0
        )
    }
}

impl std::error::Error for BadLsn {}

impl FromStr for Lsn {
    type Err = BadLsn;

    fn from_str(text: &str) -> Result<Self, BadLsn> {
        let bad = || BadLsn(text.to_owned());
        let (high, low) = text.split_once('/').ok_or_else(bad)?;
        let high = u32::from_str_radix(high, 16).map_err(|_| bad())?;
        let low = u32::from_str_radix(low, 16).map_err(|_| bad())?;
        Ok(Self(u64::from(high) << 32 | u64::from(low)))
    }
}

/// A timeline of PostgreSQL: one more at every promotion.
pub type Timeline = u32;

/// A member's name: the pod's name.
pub type Name = String;

/// Who holds a lock: L1. Two pods of one name, or two lives of one pod, are different holders.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The member's name.
    pub name: Name,
    /// The UID of its Pod object.
    pub pod_uid: String,
    /// The incarnation of its guardian: new with every guardian process.
    pub incarnation: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_patronis() {
            return write!(f, "{} (Patroni)", self.name);
        }
        write!(
            f,
            "{} (pod {}, incarnation {})",
            self.name, self.pod_uid, self.incarnation
        )
    }
}

/// One position on one timeline where a history forked: a line of a `.history` file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The timeline that ended.
    pub timeline: Timeline,
    /// Where the next one left it.
    pub switch_lsn: Lsn,
    /// Why, in the words of the history file or the agent.
    pub reason: String,
    /// When, as written by the promoted member; for people only.
    pub at: Option<String>,
    /// Who led the timeline after this one.
    pub new_leader: Option<Name>,
}

/// Whether two histories leave the same timeline at different positions. Whoever promotes chooses
/// the next number it knows of: two who do not know of each other choose the same.
pub fn fork_elsewhere(one: &[HistoryEntry], other: &[HistoryEntry]) -> bool {
    one.iter().any(|entry| {
        other
            .iter()
            .any(|line| line.timeline == entry.timeline && line.switch_lsn != entry.switch_lsn)
    })
}

/// What `pg_control` says about how the server last ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ControlState {
    /// Just started for the first time, nothing written yet.
    StartingUp,
    /// Stopped cleanly as a primary.
    ShutDown,
    /// Stopped cleanly as a replica.
    ShutDownInRecovery,
    /// Was stopping as a primary.
    ShuttingDown,
    /// Was in crash recovery.
    InCrashRecovery,
    /// Was a replica, or a restored backup, replaying.
    InArchiveRecovery,
    /// Was writable.
    InProduction,
}

/// What a data directory holds, read without a running server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DataDir {
    /// The directory is missing or empty, and its parent is there.
    Empty,
    /// Our own unfinished clone or initdb: it carries the marker of L9 and may be wiped.
    Unfinished,
    /// A data directory with a readable control file.
    Present(DataFacts),
    /// Something that must not be touched: why, in words (missing mount, foreign files, bad
    /// permissions, newer major).
    Unusable(String),
}

/// The facts of a present data directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DataFacts {
    /// PostgreSQL's system identifier.
    pub system_id: String,
    /// How it last ran.
    pub state: ControlState,
    /// The timeline a start would begin on: the greater of the checkpoint's and the minimum
    /// recovery point's.
    pub timeline: Timeline,
    /// The greatest position known to be on disk: the checkpoint or the minimum recovery point.
    pub lsn: Lsn,
    /// `standby.signal` is there: a start is a replica's.
    pub standby_signal: bool,
    /// The history file of that timeline; empty for the first one, and where it cannot be read.
    pub history: Vec<HistoryEntry>,
}

/// A setting that waits for a restart, as Patroni publishes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PendingRestart {
    /// In use.
    pub old_value: String,
    /// Wanted.
    pub new_value: String,
}

/// A member as the shared state shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
    /// The UID of its Pod.
    pub pod_uid: String,
    /// Where its PostgreSQL listens: host and port.
    pub host: String,
    /// The port of its PostgreSQL.
    pub port: u16,
    /// Its REST address, ending in `/patroni`.
    pub api_url: String,
    /// A proxy before its PostgreSQL: host and port, for clients only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<(String, u16)>,
    /// Patroni's state word: `running`, `starting`, `stopped`, …
    pub state: String,
    /// Patroni's role word: `primary`, `replica`, `demoted`, `uninitialized`.
    pub role: String,
    /// The timeline it is on, when known.
    pub timeline: Option<Timeline>,
    /// `xlog_location`: a primary's write position, a replica's greater of received and replayed.
    pub lsn: Option<Lsn>,
    /// Received and flushed by the WAL receiver (replicas).
    pub receive_lsn: Option<Lsn>,
    /// Replayed (replicas).
    pub replay_lsn: Option<Lsn>,
    /// `streaming` or `in archive recovery` (replicas).
    pub replication_state: Option<String>,
    /// PostgreSQL's system identifier, published once known.
    pub system_id: Option<String>,
    /// Its agent's version.
    pub version: String,
    /// Its tags, values as text (`true`, `100`, …).
    pub tags: BTreeMap<String, String>,
    /// False from a promotion until the checkpoint that completes it: no rewind against it before.
    pub checkpoint_after_promote: Option<bool>,
    /// Settings that wait for a restart, for people only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pending_restart: BTreeMap<String, PendingRestart>,
    /// A restart planned for it, as Patroni's JSON object, for people only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_restart: Option<serde_json::Value>,
    /// It knows of maintenance mode, for people only.
    #[serde(default)]
    pub pause: bool,
    /// Its Pod is being deleted: it will be gone soon, whatever it does.
    #[serde(default)]
    pub leaving: bool,
    /// The revision of the controller that made its Pod; empty: unknown.
    #[serde(default)]
    pub revision: String,
    /// When its Pod was made, on the API server's clock; sorts by time.
    #[serde(default)]
    pub created: String,
    /// It runs Patroni (L10): what it published last is none of ours.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub patroni: bool,
    /// Its volume has no room for another WAL segment.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub full: bool,
    /// What keeps it from running or serving and what to do, for people only; empty: nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trouble: String,
}

/// As Patroni reads a tag and the priority that goes with it: a switch that is set beats the
/// priority, and a priority of zero or less means never.
pub fn forbids(tags: &BTreeMap<String, String>, switch: &str, priority: &str) -> bool {
    match tags.get(switch) {
        Some(value) => value == "true",
        None => tags
            .get(priority)
            .and_then(|value| value.parse::<i64>().ok())
            .is_some_and(|value| value <= 0),
    }
}

/// The tag `nostream`: WAL comes from an archive alone.
pub fn streams_nothing(tags: &BTreeMap<String, String>) -> bool {
    tags.get("nostream").is_some_and(|tag| tag == "true")
}

/// A priority that is not there, or not a number, is 1.
fn priority(tags: &BTreeMap<String, String>, tag: &str) -> i64 {
    let value = tags.get(tag);
    value.and_then(|value| value.parse().ok()).unwrap_or(1)
}

impl Member {
    /// Its server runs as the primary, or as the leader of a standby cluster.
    pub fn serves_as_leader(&self) -> bool {
        let leads = self.role == "primary" || self.role == "standby_leader";
        leads && self.state == "running"
    }

    /// Its PostgreSQL is one of these, which libpq would try in turn; an address is written as the
    /// settings write it.
    pub fn listens_at(&self, hosts: &str, port: u16) -> bool {
        let mut hosts = hosts.split(',').map(str::trim);
        self.port == port && hosts.any(|host| host == self.host)
    }

    /// The tag forbids it to lead.
    pub fn nofailover(&self) -> bool {
        forbids(&self.tags, "nofailover", "failover_priority")
    }

    /// The tag makes it take its WAL from an archive: no slot waits for it.
    pub fn nostream(&self) -> bool {
        streams_nothing(&self.tags)
    }

    /// The greater, the sooner it becomes a synchronous standby.
    pub fn sync_priority(&self) -> i64 {
        priority(&self.tags, "sync_priority")
    }

    /// The greater, the sooner it leads, between members that are equally far.
    pub fn failover_priority(&self) -> i64 {
        priority(&self.tags, "failover_priority")
    }

    /// The tag forbids it to be a synchronous standby.
    pub fn nosync(&self) -> bool {
        forbids(&self.tags, "nosync", "sync_priority")
    }
}

/// A row of `pg_stat_replication`, as the leader sees its standbys.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Walsender {
    /// `application_name`: the member's name.
    pub name: Name,
    /// Where it connects from; nothing through a Unix socket. For people.
    #[serde(default)]
    pub client_addr: Option<String>,
    /// `streaming`, `catchup`, …
    pub state: String,
    /// `sync`, `quorum`, `potential` or `async`.
    pub sync_state: String,
    /// Sent to the standby, as far as the leader's kernel took it.
    #[serde(default)]
    pub sent_lsn: Lsn,
    /// Flushed by the standby.
    pub flush_lsn: Lsn,
    /// Replayed by the standby.
    pub replay_lsn: Lsn,
}
