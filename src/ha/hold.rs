//! The lock as this member remembers to have written and held it.

use super::lock::FailsafeMap;
use super::model::{Ms, Name};
use serde::{Deserialize, Serialize};

/// The lock as held by this member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    /// Attempts whose success may still be learnt by reading, the newest last; bounded.
    pub attempts: Vec<Attempt>,
    /// The attempt in flight.
    pub in_flight: Option<u64>,
    /// The last acknowledged claim.
    pub held: Option<HeldLease>,
    /// A record in my name and incarnation found by a new agent: to be adopted by a renewal (G5).
    pub adoptable: bool,
    /// The next attempt's number.
    pub next_nonce: u64,
    /// The earliest instant of the next try after a failed one.
    pub retry_at: Ms,
}

/// One write of the lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Attempt {
    /// Its number.
    pub nonce: u64,
    /// The clock before it left.
    pub sent_at: Ms,
    /// D in it.
    pub ttl_ms: Ms,
    /// It was a release.
    pub release: bool,
    /// The map of failsafe mode in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failsafe: Option<FailsafeMap>,
}

/// An acknowledged claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HeldLease {
    /// The epoch.
    pub epoch: u64,
    /// As written at acquisition.
    pub acquire_time: String,
    /// `sent_at` of the last acknowledged write.
    pub acked_sent_at: Ms,
    /// The instant by which PostgreSQL must be dead: what the guardian was told.
    pub until: Ms,
    /// The resourceVersion it produced.
    pub version: String,
    /// When this epoch was acquired, by `sent_at`.
    pub since: Ms,
    /// Who led last, as the record says.
    #[serde(default)]
    pub led_last: Option<Name>,
    /// The record bears the mark of maintenance mode, and no deadline runs.
    #[serde(default)]
    pub paused: bool,
    /// The guardian was told of it: not so for a standby leader.
    #[serde(default)]
    pub armed: bool,
    /// Everybody who may find itself in the map of failsafe mode, by any record of mine that may be
    /// stored; none once one without a map may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapped: Option<FailsafeMap>,
}
