//! The lock as a member sees it: L1 (identity), L3 (age), L4 (absence is not release).
//!
//! The codecs of `dcs` turn a Kubernetes object into a [`LockSnapshot`]; the core compares
//! snapshots and measures their age on its own clock. No timestamp written by a peer is ever
//! interpreted.

use super::model::{Identity, Lsn, Ms, Name, Timeline};
use super::slots::SlotRecord;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The greatest epoch that can be written: counters of a Lease are 32 bits wide.
pub const EPOCH_MAX: u64 = i32::MAX as u64;
/// The greatest one believed where nobody vouches for it: a damaged record, a note beside it.
/// Nobody elects that often, and a typing error must leave epochs to go on with.
pub const EPOCH_BELIEVED_MAX: u64 = 1 << 30;

/// Where a holder runs: what L5 needs to tell a dead predecessor from a stranger.
///
/// An empty text means "not known" and proves nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The node's name.
    pub node: String,
    /// `/etc/machine-id` of the node.
    pub machine_id: String,
    /// The kernel's boot id.
    pub boot_id: String,
    /// The PID namespace (its inode number).
    pub pid_ns: String,
    /// The volume that holds `data_dir`.
    pub volume: String,
    /// The data directory's path.
    pub data_dir: String,
    /// The container's id, entered only under the conditions of L5.
    pub container_id: String,
}

/// A record that somebody holds the lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Held {
    /// Who.
    pub holder: Identity,
    /// The transitions counter: a fencing token, one more with every acquisition.
    pub epoch: u64,
    /// D, the time to live written in the record.
    pub ttl_ms: u64,
    /// When it was acquired, as the holder wrote it: repeated by renewals, for people, never
    /// compared.
    pub acquire_time: String,
    /// The number of the attempt that wrote this state of the record.
    pub nonce: u64,
    /// Where the holder runs.
    pub place: Place,
    /// The mark of maintenance mode (G1): no deadline runs for this holder's server, so that its
    /// record never grows old.
    #[serde(default)]
    pub paused: bool,
    /// Failsafe mode (G1): who may take the lock by its age, and is asked not to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failsafe: Option<FailsafeMap>,
    /// Who led last, as far as its holder knows: whoever it took the lock after, and itself before
    /// anything that it acknowledges can be lost with it.
    #[serde(default)]
    pub led_last: Option<Name>,
}

/// A member in the map of failsafe mode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mapped {
    /// The UID of its Pod; empty where a Patroni wrote the map: a name is all it knows.
    pub pod_uid: String,
    /// Its REST address.
    pub api_url: String,
}

/// The members who may take the lock by its age.
pub type FailsafeMap = BTreeMap<Name, Mapped>;

/// Of two records, the first was written after the other, whatever a restored store or a hand at
/// the object shows.
pub(super) fn is_later(held: &Held, known: &Held) -> bool {
    let renewed = held.holder == known.holder && held.nonce > known.nonce;
    held.epoch > known.epoch || (held.epoch == known.epoch && renewed)
}

/// A well-formed release: an empty holder with our annotation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Released {
    /// Who gave it up.
    pub by: Identity,
    /// The epoch it held.
    pub epoch: u64,
    /// D of the released record.
    pub ttl_ms: u64,
    /// A verified stop came before it: no process that could acknowledge a commit is left.
    pub verified: bool,
    /// Who was the primary last, as far as the one who released knows: itself, or whoever led
    /// before it when it did not come so far. What that member has is everything that was
    /// acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub led_last: Option<Name>,
    /// Where the WAL of whoever led under it ends, when that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<WalEnd>,
}

/// The shutdown checkpoint of a primary: whoever has its timeline up to here holds every commit
/// that this primary or one before it acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WalEnd {
    /// The timeline.
    pub timeline: Timeline,
    /// Where the checkpoint's record starts.
    pub lsn: Lsn,
}

impl WalEnd {
    /// A member at this position has all of it.
    pub fn is_reached_by(self, timeline: Timeline, lsn: Lsn) -> bool {
        timeline == self.timeline && lsn >= self.lsn
    }
}

/// What the lock object says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "one is kept, behind an Arc, and it is held nearly always"
)]
pub enum LockState {
    /// There is no object.
    Absent,
    /// There is one that cannot be understood: treated as a change, never as a release.
    Garbled {
        /// What was wrong, in words.
        why: String,
        /// The transitions counter, when at least that could be read.
        epoch: Option<u64>,
    },
    /// Somebody holds it.
    Held(Held),
    /// Its last holder gave it up.
    Released(Released),
}

/// One sight of the lock object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LockSnapshot {
    /// The object's resourceVersion; `None` when there is no object.
    pub resource_version: Option<String>,
    /// Canonical text of all lock fields of L1, for equality only: object uid, holder, acquireTime,
    /// renewTime, D, transitions, identity annotation.
    pub fields: String,
    /// What they mean.
    pub state: LockState,
    /// The last position the leader published with its renewal (`optime`); no lock field.
    pub optime: Option<Lsn>,
    /// What it published of its slots; no lock field.
    #[serde(default, skip_serializing_if = "SlotRecord::is_empty")]
    pub slots: SlotRecord,
}

impl LockSnapshot {
    /// The epoch the record shows, in whatever state it is.
    pub fn epoch(&self) -> Option<u64> {
        match &self.state {
            LockState::Absent => None,
            LockState::Garbled { epoch, .. } => *epoch,
            LockState::Held(held) => Some(held.epoch),
            LockState::Released(released) => Some(released.epoch),
        }
    }

    /// The record of a holder, if it is held.
    pub fn held(&self) -> Option<&Held> {
        match &self.state {
            LockState::Held(held) => Some(held),
            _ => None,
        }
    }
}

/// A change of the lock record that a member asks for; always a compare-and-swap (L2).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LockWrite {
    /// Become the holder: a new acquireTime.
    Acquire(Claim),
    /// Stay the holder: acquireTime as given, a new renewTime.
    Renew {
        /// The claim, with the epoch it already has.
        claim: Claim,
        /// Repeated from the record.
        acquire_time: String,
    },
    /// Give it up.
    Release {
        /// What the annotation says.
        release: Released,
        /// The last position, with the release.
        optime: Option<Lsn>,
    },
}

/// What a holder writes about itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Claim {
    /// Who.
    pub holder: Identity,
    /// The epoch: `1 + max(everything ever seen)` when acquiring (L1).
    pub epoch: u64,
    /// D.
    pub ttl_ms: u64,
    /// Where.
    pub place: Place,
    /// The number of this attempt.
    pub nonce: u64,
    /// The leader's position, published with the renewal.
    pub optime: Option<Lsn>,
    /// Its slots, published with the renewal.
    #[serde(default, skip_serializing_if = "SlotRecord::is_empty")]
    pub slots: SlotRecord,
    /// With the mark of maintenance mode.
    #[serde(default)]
    pub paused: bool,
    /// With the map of failsafe mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failsafe: Option<FailsafeMap>,
    /// Who led last.
    #[serde(default)]
    pub led_last: Option<Name>,
}

/// How a write to the API ended: L6, one meaning for every outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome<T> {
    /// Acknowledged; what is stored now.
    Done(T),
    /// 409, or the object is gone or already there: somebody else wrote. Look.
    Conflict,
    /// The server refused and nothing was written: 403, 429, 422, …
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it said.
        why: String,
        /// From `Retry-After`.
        retry_after_ms: Option<u64>,
    },
    /// Timeout, reset or a 5xx: it may have been applied.
    Unknown {
        /// What happened.
        why: String,
    },
}

impl<T> Outcome<T> {
    /// The same outcome of a write whose answer is looked at further; only `Done` has one.
    pub fn and_then<U>(self, look: impl FnOnce(T) -> Outcome<U>) -> Outcome<U> {
        match self {
            Self::Done(answer) => look(answer),
            Self::Conflict => Outcome::Conflict,
            Self::Refused {
                status,
                why,
                retry_after_ms,
            } => Outcome::Refused {
                status,
                why,
                retry_after_ms,
            },
            Self::Unknown { why } => Outcome::Unknown { why },
        }
    }
}

/// What this member believes about the lock, and since when (L3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LockBelief {
    /// The newest sight.
    pub snapshot: Option<Arc<LockSnapshot>>,
    /// When this process saw the lock fields change last, on its own clock.
    pub changed_at: Ms,
    /// When it was last seen to have these fields, by quorum or as a change.
    #[serde(default)]
    pub looked_at: Ms,
    /// When a newer version than any before was learnt.
    pub version_at: Ms,
    /// The longest D that a holder may still count on: of the last record that could be understood,
    /// and of the one before it while the last is not confirmed.
    pub last_good_ttl_ms: u64,
    /// The holder has renewed under the D of its record, so that it knows it.
    pub ttl_confirmed: bool,
    /// The last position that a leader published, whatever became of the record since.
    pub optime: Option<Lsn>,
    /// What the last holder published of its slots.
    #[serde(default)]
    pub slots: SlotRecord,
    /// The greatest epoch ever seen, in the record or elsewhere.
    pub greatest_epoch: u64,
    /// The last quorum read's resourceVersion as a number, where it is one.
    pub last_quorum_version: Option<u64>,
    /// A proof of L5 for exactly these lock fields.
    pub proof: Option<Proof>,
    /// The newest release seen that says where its WAL ends.
    #[serde(default)]
    pub last_release: Option<Released>,
    /// The last record that could be understood, if it bore the mark of maintenance mode: whatever
    /// became of the object since, its holder may write for ever.
    #[serde(default)]
    pub marked: Option<Held>,
    /// The last record that carried the map of failsafe mode, until a later one does not.
    #[serde(default)]
    pub mapped: Option<Held>,
    /// The lock fields about which I voted: while they stand, no WAL is received (G10).
    #[serde(default)]
    pub voted: Option<String>,
    /// My data directory was made anew, and what the published set says of my name it says of the
    /// one before ([`super::fresh_copy`]).
    #[serde(default)]
    pub made_anew: Option<MadeAnew>,
}

/// A copy that is not known to hold what its member is listed for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MadeAnew {
    /// Where the directory stood that it is to replace, if that one was proven: it is left as it
    /// was where the copy fails, or its agent dies over it.
    pub before: Option<(Timeline, Lsn)>,
}

/// Why a candidate need not wait: L5.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Proof {
    /// The fields of the record it is about.
    pub fields: String,
    /// The kind, in the words of the journal.
    pub kind: ProofKind,
}

/// The kinds of L5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProofKind {
    /// A well-formed release after a verified stop.
    Release,
    /// The kubelet reports the recorded container of the recorded pod as terminated.
    Terminated,
    /// The recorded holder is my own predecessor: same boot, PID namespace, volume and directory,
    /// swept.
    Predecessor,
    /// The same node and volume after another boot.
    Rebooted,
}
