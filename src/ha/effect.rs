//! Side effects as data: what the shell is to do, in order, and why.
//!
//! Every variant has one `run_…` twin in the runner and one in the simulator.

use super::hooks::{Action, Guard, Role};
use super::lock::{FailsafeMap, LockWrite, Place};
use super::model::{HistoryEntry, Identity, Lsn, Ms, Name, Timeline};
use super::quorum::SyncSetting;
pub use super::rule::Rule;
use super::shared::SharedWrite;
use super::slots::SlotChange;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Effect {
    /// For the journal: which rule fired, and why, in words.
    Explain {
        /// The rule.
        rule: Rule,
        /// The reason.
        words: String,
    },
    /// Come back with a tick at this instant at the latest; replaces any earlier wish.
    Wake {
        /// When.
        at: Ms,
    },
    /// Read the lock by quorum → `LockSeen` or `LockReadFailed`.
    ReadLock,
    /// Write the lock by compare-and-swap → `LockWritten`.
    WriteLock {
        /// The attempt's number.
        nonce: u64,
        /// The version the decision was made on; `None`: create.
        expect: Option<String>,
        /// What.
        write: LockWrite,
    },
    /// Read the shared objects by quorum → `SharedSeen`.
    ReadShared,
    /// Write a shared object → `SharedWritten`.
    WriteShared(SharedWrite),
    /// Move the guardian's deadline, now → `DeadlineMoved` or `DeadlineLatched` (G1).
    MoveDeadline {
        /// The instant by which PostgreSQL must be dead.
        to: Ms,
    },
    /// Suspend the guardian's deadline: the mark of maintenance mode is acknowledged →
    /// `DeadlineMoved` to [`super::pause::FOREVER`] (G1).
    SuspendDeadline,
    /// Look for a proof of L5 that this holder is dead → `ProofFound`, or silence.
    SeekProof {
        /// The lock fields it is about.
        fields: String,
        /// The recorded holder.
        holder: Identity,
        /// Where it was.
        place: Place,
    },
    /// Ask the peers for their positions → one `PeerAnswered` each.
    AskPeers {
        /// The round.
        round: u64,
        /// Whom, and at which REST address.
        peers: Vec<(Name, String)>,
    },
    /// Ask everybody in the failsafe map not to take my lock by its age → `Promised`.
    AskPromises {
        /// The round.
        round: u64,
        /// The epoch that I lead.
        epoch: u64,
        /// D of my record.
        ttl_ms: Ms,
        /// Whom.
        peers: FailsafeMap,
    },
    /// Ask these members of the synchronous set for their votes → one `Voted` each.
    AskVotes {
        /// The round.
        round: u64,
        /// The lock fields that it is about.
        fields: String,
        /// Whom, and at which REST address.
        peers: Vec<(Name, String)>,
    },
    /// Receive no more WAL from anybody → `OpDone`.
    StopReceiver,
    /// Answer a candidate: how far I came, now that nothing is received any more.
    Vote {
        /// The question.
        id: u64,
        /// My timeline.
        timeline: Timeline,
        /// The end of my WAL.
        lsn: Lsn,
    },
    /// Read the data directory → `DataSeen`.
    Inspect,
    /// Start PostgreSQL out of recovery, with these synchronous standbys enforced from the start.
    StartPrimary {
        /// `synchronous_standby_names`.
        sync: SyncSetting,
    },
    /// Start PostgreSQL as a replica of this leader.
    StartReplica {
        /// The leader; `None`: of nobody yet.
        upstream: Option<Name>,
    },
    /// Stop PostgreSQL → `PostmasterGone`.
    Stop {
        /// How.
        how: Stop,
    },
    /// Leave recovery; this is enforced from the first commit.
    Promote {
        /// `synchronous_standby_names`.
        sync: SyncSetting,
    },
    /// Stream from this leader.
    Follow {
        /// The leader.
        upstream: Name,
    },
    /// Create a new cluster in a directory that holds none.
    Initdb,
    /// Copy the leader; a present data directory is kept until the copy is complete.
    Clone {
        /// The leader.
        from: Name,
    },
    /// Rewind the data directory to the leader's history.
    Rewind {
        /// The leader.
        from: Name,
    },
    /// Compare the WAL before my position with the leader's → `WalCompared`.
    CompareWal {
        /// The leader.
        with: Name,
    },
    /// Compare my history with the leader's own → `HistoryCompared`.
    CompareHistory {
        /// The leader.
        with: Name,
        /// Mine.
        mine: Vec<HistoryEntry>,
    },
    /// Ask the leader's server where its WAL ends now → `EndSaid`, or silence.
    AskEnd {
        /// The leader.
        with: Name,
        /// Of the copy that the answer is about.
        number: u64,
    },
    /// Ask the remote primary of a standby cluster who it is → `RemoteSeen`, or silence.
    AskRemote,
    /// Look at the own server now, and not when its turn comes → `PgSeen`, or silence.
    Look,
    /// Single-user recovery.
    CrashRecover,
    /// Write a checkpoint so that the stop that follows is short.
    Checkpoint,
    /// Write the files of a running primary anew, and reload it → `OpDone`.
    Configure,
    /// Enforce this synchronous set → `SyncSet`.
    SetSync {
        /// `synchronous_standby_names`.
        wanted: SyncSetting,
    },
    /// Change the server's slots, in this order → `SlotsSet`.
    SetSlots {
        /// How.
        changes: Vec<SlotChange>,
    },
    /// Fetch the leader's logical slots that are not on this disk → `SlotsFetched`.
    FetchSlots {
        /// The leader.
        from: Name,
        /// Which.
        slots: BTreeSet<String>,
        /// How far my WAL goes: one whose consumer is further is of no use yet.
        reached: Lsn,
    },
    /// Put fetched slots in place, while no server runs → `OpDone`.
    PutSlots {
        /// Which.
        slots: BTreeSet<String>,
    },
    /// Ask the leader whether my feedback keeps what these slots need → `SlotsConfirmed`, or
    /// silence.
    ConfirmSlots {
        /// The leader.
        with: Name,
        /// The slot through which it hears of me.
        through: String,
        /// Which.
        slots: BTreeSet<String>,
    },
    /// Point the Service at me (L7), under this epoch.
    PublishRoute {
        /// The epoch.
        epoch: u64,
    },
    /// Answer a person.
    Answer {
        /// The question.
        id: u64,
        /// It went well.
        done: bool,
        /// The text of the answer.
        text: String,
    },
    /// Tell a callback; nothing comes back.
    Callback {
        /// What has happened.
        action: Action,
        /// In which role.
        role: Role,
    },
    /// Run a hook that is waited for → `HookDone`.
    RunHook {
        /// Which.
        guard: Guard,
        /// The run's number.
        number: u64,
    },
    /// End that run, if it goes on.
    EndHook {
        /// Which.
        guard: Guard,
        /// The run's number.
        number: u64,
    },
    /// Everything is stopped: end the agent.
    Bye,
}

/// How to stop PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stop {
    /// Sessions are ended, a checkpoint is written, replicas receive everything.
    Fast,
    /// At once, recovery follows.
    Immediate,
    /// The guardian's kill-all (G4).
    Kill,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Explain { rule, words } => write!(f, "[{rule:?}] {words}"),
            Self::Wake { at } => write!(f, "wake at {at} ms"),
            Self::ReadLock => write!(f, "read the lock by quorum"),
            Self::WriteLock { nonce, write, .. } => write_lock(f, *nonce, write),
            Self::ReadShared => write!(f, "read the shared objects by quorum"),
            Self::WriteShared(what) => write!(f, "write {what}"),
            Self::MoveDeadline { to } => write!(f, "move the guardian's deadline to {to} ms"),
            Self::SuspendDeadline => write!(f, "suspend the guardian's deadline"),
            Self::SeekProof { holder, .. } => write!(f, "look for proof that {holder} is dead"),
            Self::AskPeers { round, peers } => {
                write!(
                    f,
                    "ask {} peers for their positions (round {round})",
                    peers.len()
                )
            }
            Self::AskPromises { round, peers, .. } => {
                let names: Vec<&str> = peers.keys().map(String::as_str).collect();
                let names = names.join(", ");
                write!(f, "ask {names} not to take my lock (round {round})")
            }
            Self::AskVotes { round, peers, .. } => {
                let names: Vec<&str> = peers.iter().map(|(name, _)| name.as_str()).collect();
                let names = names.join(", ");
                write!(f, "ask {names} for their votes (round {round})")
            }
            Self::StopReceiver => write!(f, "receive no more WAL"),
            Self::Vote { id, timeline, lsn } => {
                write!(f, "vote (question {id}): timeline {timeline}, {lsn}")
            }
            Self::Inspect => write!(f, "read the data directory"),
            Self::StartPrimary { sync } => {
                write!(f, "start PostgreSQL as the primary, synchronous: {sync}")
            }
            Self::StartReplica { upstream } => {
                write!(
                    f,
                    "start PostgreSQL as a replica of {}",
                    upstream.as_deref().unwrap_or("nobody")
                )
            }
            Self::Stop { how } => write!(f, "stop PostgreSQL ({how:?})"),
            Self::Promote { sync } if sync.names.is_empty() => write!(f, "promote PostgreSQL"),
            Self::Promote { sync } => write!(f, "promote PostgreSQL, synchronous: {sync}"),
            Self::Follow { upstream } => write!(f, "stream from {upstream}"),
            Self::Initdb => write!(f, "create a new cluster"),
            Self::Clone { from } => write!(f, "clone {from}"),
            Self::Rewind { from } => write!(f, "rewind to the history of {from}"),
            Self::CompareHistory { with, .. } => {
                write!(f, "compare my history with that of {with}")
            }
            Self::CompareWal { with } => write!(f, "compare my last WAL with that of {with}"),
            Self::AskEnd { with, .. } => write!(f, "ask {with} where its WAL ends"),
            Self::AskRemote => write!(f, "ask the remote primary who it is"),
            Self::Look => write!(f, "look at my server"),
            Self::CrashRecover => write!(f, "recover from the crash in single-user mode"),
            Self::Checkpoint => write!(f, "write a checkpoint"),
            Self::Configure => write!(f, "write the settings and reload"),
            Self::SetSync { wanted } => write!(f, "enforce the synchronous set: {wanted}"),
            Self::SetSlots { changes } => {
                let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
                write!(f, "keep slots: {}", changes.join(", "))
            }
            Self::FetchSlots { from, slots, .. } => {
                write!(f, "fetch the logical slots of {from}: {slots:?}")
            }
            Self::PutSlots { slots } => {
                write!(f, "put copies of logical slots in place: {slots:?}")
            }
            Self::ConfirmSlots { with, slots, .. } => {
                write!(f, "ask {with} what it keeps for logical slots: {slots:?}")
            }
            Self::PublishRoute { epoch } => write!(f, "point the Service at me, epoch {epoch}"),
            Self::Answer { id, done, text } => write!(f, "answer question {id}: {done}, {text}"),
            Self::Callback { action, role } => {
                write!(f, "tell {} as {}", action.word(), role.word())
            }
            Self::RunHook { guard, number } => write!(f, "run {guard} (run {number})"),
            Self::EndHook { guard, number } => write!(f, "end {guard} (run {number})"),
            Self::Bye => write!(f, "end the agent"),
        }
    }
}

fn write_lock(f: &mut fmt::Formatter<'_>, nonce: u64, write: &LockWrite) -> fmt::Result {
    match write {
        LockWrite::Acquire(claim) => {
            write!(
                f,
                "acquire the lock as epoch {} (attempt {nonce})",
                claim.epoch
            )
        }
        LockWrite::Renew { claim, .. } => {
            write!(
                f,
                "renew the lock of epoch {} (attempt {nonce})",
                claim.epoch
            )
        }
        LockWrite::Release { release, .. } => {
            write!(
                f,
                "release the lock of epoch {} (attempt {nonce})",
                release.epoch
            )
        }
    }
}
