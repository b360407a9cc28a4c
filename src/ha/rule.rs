//! The names of the rules, as the journal and the log cite them.

use serde::{Deserialize, Serialize};

/// The rules a decision cites.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Rule {
    /// The deadline moves only after an acknowledged write.
    G1,
    /// The budgets.
    G2,
    /// Stop before the deadline.
    G3,
    /// Adoption after an agent's restart.
    G5,
    /// Renew only while serving.
    G9,
    /// A leader that is frozen finds nobody to confirm its commits.
    G10,
    /// Identity.
    L1,
    /// Compare-and-swap on a quorum read.
    L2,
    /// The lock's age.
    L3,
    /// Absence is not release.
    L4,
    /// Proof.
    L5,
    /// The outcome of a request.
    L6,
    /// The route.
    L7,
    /// Bootstrap.
    L9,
    /// Mixed with Patroni.
    L10,
    /// The race for a free lock.
    Election,
    /// Promotion and the primary's duties.
    Primary,
    /// Following, rewinding, cloning.
    Replica,
    /// The synchronous set.
    Sync,
    /// Switchover, failover by hand, orderly stop.
    Handover,
    /// Maintenance mode.
    Pause,
    /// Following a primary of another cluster.
    StandbyCluster,
    /// Replication slots.
    Slots,
    /// Data that is not touched until a person has looked.
    Untouched,
}
