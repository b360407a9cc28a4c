//! What the API knows: one plain value, replaced as a whole by the composition root.
//!
//! Nothing in it is looked up while a request waits. What may become untrue without anybody
//! publishing a new value (the lock, the loop's liveness) is kept as an instant of the boottime
//! clock and compared when the question comes.

use crate::ha::model::{HistoryEntry, Identity, Lsn, Member, Ms, Name, PendingRestart, Timeline};
use std::collections::BTreeMap;

/// The snapshot every answer is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The cluster's name.
    pub scope: String,
    /// This member: name, pod UID and incarnation; peers read it under the `pgwarden` key.
    pub identity: Identity,
    /// The program's version.
    pub version: String,
    /// Patroni's state word: `running`, `starting`, `stopped`, `creating replica`, …
    pub state: String,
    /// Patroni's role word: `primary`, `standby_leader`, `replica`, `demoted`, `uninitialized`.
    pub role: String,
    /// Until when this member may say that it holds the lock; `None`: it does not.
    pub lock_until_ms: Option<Ms>,
    /// The epoch of the lock record last seen, if any.
    pub epoch: Option<u64>,
    /// The server's version as a number (150018).
    pub server_version: Option<u32>,
    /// When the postmaster started: `YYYY-MM-DD HH:MM:SS.ffffff+00:00`.
    pub postmaster_start_time: Option<String>,
    /// WAL positions; `None` while PostgreSQL does not answer.
    pub xlog: Option<Xlog>,
    /// The timeline, when known.
    pub timeline: Option<Timeline>,
    /// `streaming` or `in archive recovery` (replicas).
    pub replication_state: Option<String>,
    /// `pg_stat_replication` (primaries).
    pub replication: Vec<ReplicationRow>,
    /// The member that holds a valid lock as this member sees it; `None`: the cluster is unlocked.
    pub leader: Option<Name>,
    /// All members, by name.
    pub members: BTreeMap<Name, Member>,
    /// The cluster follows a primary of another one.
    pub standby_cluster: bool,
    /// `synchronous_mode` is on.
    pub synchronous_mode: bool,
    /// It is `quorum`.
    pub quorum: bool,
    /// The standbys of the synchronous set, as the shared record lists them.
    pub sync_standbys: Vec<Name>,
    /// The position the leader published last.
    pub optime: Option<Lsn>,
    /// This member's tags, values as text.
    pub tags: BTreeMap<String, String>,
    /// A setting waits for a restart.
    pub pending_restart: bool,
    /// Which, with what is in use and what is wanted.
    pub pending_restart_reason: BTreeMap<String, PendingRestart>,
    /// A restart planned for this member, as Patroni's JSON object.
    pub scheduled_restart: Option<serde_json::Value>,
    /// A switchover planned for the cluster.
    pub scheduled_switchover: Option<crate::ha::shared::Scheduled>,
    /// What a copy of the leader has reached, while one is being made here: bytes of bytes.
    pub cloning: Option<(u64, u64)>,
    /// Automatic failover is suspended.
    pub pause: bool,
    /// The timelines' history.
    pub history: Vec<HistoryEntry>,
    /// When the Kubernetes API answered last, in seconds since 1970; for people only.
    pub dcs_last_seen: u64,
    /// The dynamic configuration as stored, JSON; `None`: none was seen yet.
    pub config: Option<std::sync::Arc<str>>,
    /// PostgreSQL's system identifier.
    pub system_id: Option<String>,
    /// The decision loop's last sign of life.
    pub beat_ms: Ms,
    /// D: a loop without a sign of life for this long (twice, unless a running primary) is dead.
    pub ttl_ms: u64,
    /// The lag `/readiness` allows unless the question names one.
    pub maximum_lag_on_failover_bytes: u64,
    /// `failsafe_mode` is on.
    pub failsafe_mode: bool,
    /// The REST addresses of the map in the lock record, where it carries one.
    pub failsafe: Option<BTreeMap<Name, String>>,
    /// The leader goes on without the Kubernetes API, by its peers' promises.
    pub failsafe_is_active: bool,
    /// What this member answers in a race for the lock; our own peers read it.
    pub race: Option<crate::ha::event::PeerStatus>,
}

/// WAL positions of a running server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Xlog {
    /// Out of recovery.
    Primary {
        /// The write position.
        location: Lsn,
    },
    /// In recovery.
    Replica {
        /// Written by the WAL receiver.
        received: Lsn,
        /// Replayed.
        replayed: Lsn,
        /// Commit time of the last transaction replayed, as text.
        replayed_timestamp: Option<String>,
        /// Replay is paused.
        paused: bool,
        /// The end of WAL the sender last told of (`latest_end_lsn`).
        latest_end: Option<Lsn>,
    },
}

/// A row of `pg_stat_replication`, as `/patroni` shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ReplicationRow {
    /// The role that connected.
    pub usename: String,
    /// The standby's name.
    pub application_name: String,
    /// Where it connected from; `None`: a Unix socket.
    pub client_addr: Option<String>,
    /// `streaming`, `catchup`, …
    pub state: String,
    /// `async`, `sync`, …
    pub sync_state: String,
    /// Its place in the synchronous list; 0: none.
    pub sync_priority: i32,
}

impl View {
    /// What is known before anything is known: a member of this name that starts.
    pub fn starting(scope: &str, identity: Identity, version: &str, now_ms: Ms) -> Self {
        Self {
            scope: scope.to_owned(),
            identity,
            version: version.to_owned(),
            state: "starting".to_owned(),
            role: "uninitialized".to_owned(),
            lock_until_ms: None,
            epoch: None,
            server_version: None,
            postmaster_start_time: None,
            xlog: None,
            timeline: None,
            replication_state: None,
            replication: Vec::new(),
            leader: None,
            members: BTreeMap::new(),
            standby_cluster: false,
            synchronous_mode: false,
            quorum: false,
            sync_standbys: Vec::new(),
            optime: None,
            tags: BTreeMap::new(),
            pending_restart: false,
            pending_restart_reason: BTreeMap::new(),
            scheduled_restart: None,
            scheduled_switchover: None,
            cloning: None,
            pause: false,
            history: Vec::new(),
            dcs_last_seen: 0,
            config: None,
            system_id: None,
            beat_ms: now_ms,
            ttl_ms: 30_000,
            maximum_lag_on_failover_bytes: 1_048_576,
            failsafe_mode: false,
            failsafe: None,
            failsafe_is_active: false,
            race: None,
        }
    }

    /// This member holds the lock now: an expired one is not held, whether or not anybody said so.
    pub fn holds_lock(&self, now_ms: Ms) -> bool {
        self.lock_until_ms.is_some_and(|until| now_ms < until)
    }

    /// This member holds the lock of a standby cluster.
    pub fn leads_standby(&self, now_ms: Ms) -> bool {
        self.holds_lock(now_ms) && self.role == "standby_leader"
    }

    /// PostgreSQL runs and answers.
    pub fn is_running(&self) -> bool {
        self.state == "running"
    }

    /// This member is a replica that has every acknowledged commit.
    pub fn is_sync_standby(&self) -> bool {
        self.is_listed() && !self.quorum
    }

    /// This member is a replica that confirms commits together with others.
    pub fn is_quorum_standby(&self) -> bool {
        self.is_listed() && self.quorum
    }

    fn is_listed(&self) -> bool {
        self.role == "replica" && self.sync_standbys.contains(&self.identity.name)
    }
}
