//! Facts: everything that can happen to a member, as data.

use super::cascade::StreamTags;
use super::hooks::{Guard, Wanted};
use super::lock::{LockSnapshot, Outcome};
use super::model::{DataDir, HistoryEntry, Identity, Lsn, Ms, Name, Timeline, Walsender};
use super::quorum::SyncSetting;
use super::remote::RemoteFacts;
use super::shared::{Shared, SharedWrite};
use super::slots::SlotFacts;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Event {
    /// The time asked for by [`super::effect::Effect::Wake`] has come.
    Tick,
    /// The lock object was seen, by a watch or by a quorum read.
    LockSeen {
        /// What it says.
        lock: LockSnapshot,
        /// It was read by quorum, and the read left after the effect that asked for it.
        quorum: bool,
    },
    /// A quorum read failed.
    LockReadFailed {
        /// Why.
        why: String,
    },
    /// A write of the lock ended.
    LockWritten {
        /// The attempt.
        nonce: u64,
        /// How.
        outcome: Outcome<LockSnapshot>,
    },
    /// The shared objects and the members, as a whole.
    SharedSeen {
        /// The whole view.
        shared: Arc<Shared>,
        /// It was read by quorum, not taken from the watches' caches.
        quorum: bool,
    },
    /// A write of a shared object ended: its new resourceVersion.
    SharedWritten {
        /// What was asked.
        what: SharedWrite,
        /// How it ended.
        outcome: Outcome<String>,
    },
    /// The guardian's deadline now is `to`.
    DeadlineMoved {
        /// The instant.
        to: Ms,
    },
    /// The deadline had passed: it stays until a verified stop (G1).
    DeadlineLatched,
    /// The postmaster runs: started, or found running by a new agent.
    PostmasterRuns {
        /// It was started without `standby.signal`.
        as_primary: bool,
    },
    /// The postmaster and all its processes are gone: a verified stop.
    PostmasterGone {
        /// What ended it, in words.
        why: String,
    },
    /// The server answered the probe.
    PgSeen(PgFacts),
    /// The server does not answer the probe.
    PgSilent {
        /// Why.
        why: String,
    },
    /// The data directory was read.
    DataSeen(DataDir),
    /// An operation on PostgreSQL ended.
    OpDone {
        /// Which.
        op: Op,
        /// An error in words.
        result: Result<(), String>,
    },
    /// `synchronous_standby_names` took effect, and the WAL position read after that.
    SyncSet {
        /// What was asked for.
        wanted: SyncSetting,
        /// The flush position after the reload.
        lsn: Lsn,
        /// The setting as the server shows it from now on.
        shown: String,
    },
    /// Changes of slots ended.
    SlotsSet {
        /// Logical slots whose WAL turned out not to be here.
        broken: BTreeSet<String>,
        /// What went wrong, in words.
        failed: Option<String>,
    },
    /// The leader's logical slots were fetched, or were not.
    SlotsFetched {
        /// Those that can be put in place.
        slots: BTreeSet<String>,
        /// What went wrong, in words.
        failed: Option<String>,
    },
    /// The leader has my feedback about these logical slots, and where its own are.
    SlotsConfirmed {
        /// How far its own are.
        positions: BTreeMap<String, Lsn>,
    },
    /// The WAL before my position was compared with the leader's.
    WalCompared {
        /// Whose.
        with: Name,
        /// The bytes are others: two promotions under one timeline.
        differs: bool,
    },
    /// My history was compared with the leader's own.
    HistoryCompared {
        /// Whose.
        with: Name,
        /// Both left the same timeline at different positions.
        differs: bool,
    },
    /// The leader's server says where its WAL ended when it was asked.
    EndSaid {
        /// Whose.
        with: Name,
        /// Of the copy that it was asked for.
        number: u64,
        /// Flushed there.
        lsn: Lsn,
    },
    /// The remote primary of a standby cluster says who it is.
    RemoteSeen(RemoteFacts),
    /// A peer answered, or did not within its deadline.
    PeerAnswered {
        /// The round of questions.
        round: u64,
        /// Who.
        name: Name,
        /// What it said; `None`: unreachable.
        status: Option<PeerStatus>,
    },
    /// A member of the failsafe map answered, or did not within its deadline.
    Promised {
        /// The round of questions.
        round: u64,
        /// Who.
        name: Name,
        /// Why it does not promise; `None`: it does.
        refused: Option<String>,
    },
    /// A member of the synchronous set voted, or did not.
    Voted {
        /// The round of questions.
        round: u64,
        /// Who.
        name: Name,
        /// How far it came, or why it does not vote.
        vote: Result<(Timeline, Lsn), String>,
    },
    /// The kubelet's id of my own container may enter the record from now on (L5).
    ContainerKnown {
        /// The id.
        id: String,
    },
    /// A search for proof (L5) about the record with these fields ended well.
    ProofFound(super::lock::Proof),
    /// G9: whether PostgreSQL serves.
    Serving {
        /// It does.
        ok: bool,
        /// Why not.
        why: String,
    },
    /// The volume of my data has no room for another WAL segment, or has room again.
    Volume {
        /// It has none.
        full: bool,
    },
    /// A person or an operator asked through REST.
    Asked {
        /// To be repeated in the answer.
        id: u64,
        /// What.
        ask: Ask,
    },
    /// What PostgreSQL is configured with changed.
    SettingsChanged,
    /// The local file was read again.
    Reloaded {
        /// The tag `nofailover` in it.
        nofailover: bool,
        /// Those about streaming.
        #[serde(default)]
        stream: StreamTags,
    },
    /// What the wall clock shows now, which is not what it would by the last reading.
    WallClock {
        /// Milliseconds since 1970.
        wall_ms: u64,
    },
    /// Which hooks are configured.
    HooksWanted(Wanted),
    /// A hook that is waited for ended.
    HookDone {
        /// Which.
        guard: Guard,
        /// The run's number.
        number: u64,
        /// An error in words.
        result: Result<(), String>,
    },
    /// SIGTERM: hand over and stop.
    Terminate,
}

/// What a person may ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Ask {
    /// Move the leader's role.
    Switchover {
        /// From whom.
        from: Name,
        /// To whom; `None`: the best.
        to: Option<Name>,
    },
    /// Make this member the leader, healthy leader or not.
    Failover {
        /// To whom.
        to: Name,
        /// Though it may lack acknowledged commits.
        accepts_loss: bool,
    },
    /// Believe a person that the lock's holder in maintenance mode is dead.
    Vouch {
        /// The holder's name.
        holder: Name,
    },
    /// Promise a leader that cannot renew the lock not to take it by its age (G1).
    Promise {
        /// The leader.
        holder: Identity,
        /// The epoch it leads.
        epoch: u64,
        /// D of its record.
        ttl_ms: Ms,
    },
    /// Vote for a candidate: say how far this member came, for good (G10).
    Vote {
        /// The lock fields as the candidate sees them.
        fields: String,
    },
    /// Restart this member's PostgreSQL.
    Restart {
        /// How long it may take.
        timeout_ms: Ms,
    },
    /// Copy the leader over this member's data.
    Reinitialize {
        /// A server that does not stop politely is not waited for.
        force: bool,
    },
}

/// What the probe's session reads in one round trip.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PgFacts {
    /// `pg_is_in_recovery()`.
    pub in_recovery: bool,
    /// The current timeline.
    pub timeline: Timeline,
    /// A primary's flush position; a replica's greater of received and replayed.
    pub lsn: Lsn,
    /// Received (replicas).
    pub receive_lsn: Option<Lsn>,
    /// Replayed (replicas).
    pub replay_lsn: Option<Lsn>,
    /// The WAL receiver streams.
    pub streaming: bool,
    /// Whom the WAL receiver streams from: host and port as it was told them.
    #[serde(default)]
    pub sender: Option<(String, u16)>,
    /// Before the question left.
    #[serde(default)]
    pub asked_at: Ms,
    /// All WAL that is there has been replayed, or more is being received: `lsn` is the end of it.
    #[serde(default)]
    pub drained: bool,
    /// WAL can come from an archive too: there is a `restore_command`.
    #[serde(default)]
    pub archived: bool,
    /// PostgreSQL's system identifier.
    pub system_id: String,
    /// The standbys (primaries).
    pub walsenders: Vec<Walsender>,
    /// The history file of the current timeline; empty where it cannot be read (yet).
    pub history: Vec<HistoryEntry>,
    /// The checkpoint that completes a promotion is done.
    pub checkpointed: bool,
    /// `synchronous_standby_names` as the server has it now.
    pub sync_setting: String,
    /// Why replay stands still, and no promotion is possible, until a restart with more of
    /// something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starved: Option<String>,
    /// The replication slots; `None`: they were not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<Vec<SlotFacts>>,
}

impl PgFacts {
    /// The history is there: its file is in place whole, or not at all. It need not end one below
    /// the timeline: a promotion takes the number after the newest that any archive knows.
    pub fn history_is_whole(&self) -> bool {
        self.timeline <= 1 || !self.history.is_empty()
    }
}

/// An operation on PostgreSQL; one at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Op {
    /// Start as the primary.
    StartPrimary,
    /// Start as a replica.
    StartReplica,
    /// Stop.
    Stop,
    /// Leave recovery.
    Promote,
    /// Stream from another leader.
    Follow,
    /// Create a new cluster.
    Initdb,
    /// Copy the leader.
    Clone,
    /// `pg_rewind`.
    Rewind,
    /// Single-user recovery after a crash.
    CrashRecover,
    /// A checkpoint before a switchover.
    Checkpoint,
    /// Changed settings written and reloaded.
    Configure,
    /// Stop receiving WAL.
    StopReceiver,
    /// Copies of logical slots put in place.
    PutSlots,
}

/// What a peer says of itself: the race's question.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its server runs out of recovery.
    pub primary: bool,
    /// Its timeline.
    pub timeline: Timeline,
    /// Its position: received or replayed, or from the control file when down.
    pub lsn: Lsn,
    /// It may lead: data, tags, no repair in progress.
    pub eligible: bool,
    /// It is a Patroni: its position was read when it was asked.
    #[serde(default)]
    pub patroni: bool,
}
