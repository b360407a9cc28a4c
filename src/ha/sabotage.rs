//! Bugs that can be switched on, to prove that the simulator sees them.

use serde::{Deserialize, Serialize};

/// Bugs put in on purpose; without effect in release builds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Sabotage {
    /// None.
    #[default]
    None,
    /// L1 off: a lock in my name is mine, whoever wrote it.
    IdentityOff,
    /// L4 off: a missing object is a free lock.
    AbsenceIsRelease,
    /// A record of the synchronous set that is gone admits everybody.
    AbsentSetAdmits,
    /// A release that says where its WAL ends admits everybody, however far they came.
    ReleaseAdmits,
    /// The timeline and position checks of the election are off.
    TimelineCheckOff,
    /// G1 off: a record with the mark of maintenance mode grows old like any other.
    MarkIgnored,
    /// G1 off: the deadline is suspended before the mark is acknowledged.
    SuspendedEarly,
    /// G1 off: the mark leaves the record before the deadline runs again.
    MarkRemovedFirst,
    /// G1 off: who promised not to race in failsafe mode does.
    PromiseForgotten,
    /// G1 off: a member outside the failsafe map takes the lock by its age.
    MapIgnored,
    /// A candidate of a quorum leads without the votes of the others.
    VotesIgnored,
    /// G1 off: the deadline counts from the answer, not from before the request left.
    CreditFromAnswer,
    /// A set is published before PostgreSQL enforces it.
    PublishedFirst,
    /// G10 off: who voted goes on receiving WAL from the leader of before.
    VoterGoesOn,
    /// G4 off: a leader that has been fenced still answers as a running primary.
    FencedAnswers,
    /// Who creates the cluster is not known again after a restart.
    CreatorForgotten,
    /// A member that is listed may lead with whatever copy it has.
    NameSuffices,
}
