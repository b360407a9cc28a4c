//! What can happen at an instant, and the order in which it does.

use crate::node::Life;
use crate::server::Server;
use pgwarden::ha::event::{Event, Op};
use pgwarden::ha::lock::LockWrite;
use pgwarden::ha::quorum::SyncSetting;
use pgwarden::ha::shared::SharedWrite;

/// Things that happen at an instant.
pub(crate) enum Act {
    /// An event reaches the agent of this life.
    Deliver {
        node: usize,
        life: Life,
        event: Box<Event>,
    },
    /// A timer of the core.
    Tick {
        node: usize,
        life: Life,
        generation: u64,
    },
    /// A lock write reaches the store; its answer leaves.
    ApplyLock {
        node: usize,
        life: Life,
        nonce: u64,
        expect: Option<String>,
        write: Box<LockWrite>,
        answer_at: Option<u64>,
    },
    ApplyShared {
        node: usize,
        life: Life,
        what: Box<SharedWrite>,
        answer_at: Option<u64>,
    },
    ReadLock {
        node: usize,
        life: Life,
        answer_at: Option<u64>,
    },
    ReadShared {
        node: usize,
        life: Life,
        answer_at: Option<u64>,
    },
    /// A watch delivers what the store holds now.
    WatchLock {
        node: usize,
    },
    WatchShared {
        node: usize,
    },
    /// The route is written into the lock object itself.
    ApplyRoute {
        node: usize,
        epoch: u64,
    },
    PublishMember {
        node: usize,
        life: Life,
    },
    PeerReply {
        node: usize,
        life: Life,
        round: u64,
        peer: usize,
    },
    /// In failsafe mode a leader asks the Pod with this UID.
    AskPromise {
        node: usize,
        life: Life,
        round: u64,
        peer: usize,
        uid: String,
        epoch: u64,
        ttl_ms: u64,
    },
    /// The guardian looks at its deadline.
    Deadline {
        node: usize,
        guardian: u64,
    },
    GuardianKill {
        node: usize,
        guardian: u64,
    },
    /// The files are written, and the guardian is asked to fork.
    Fork {
        node: usize,
        life: Life,
        as_primary: bool,
        server: Box<Server>,
    },
    ServerUp {
        node: usize,
        generation: u64,
    },
    ServerPromoted {
        node: usize,
        generation: u64,
        sync: SyncSetting,
    },
    ServerCheckpointed {
        node: usize,
        generation: u64,
    },
    ServerStopped {
        node: usize,
        generation: u64,
        clean: bool,
    },
    OpDone {
        node: usize,
        life: Life,
        op: Op,
        source: Option<usize>,
    },
    SyncSet {
        node: usize,
        generation: u64,
        life: Life,
        wanted: SyncSetting,
        /// When the server is told; a newer order replaces it.
        due: u64,
    },
    AskVote {
        node: usize,
        life: Life,
        round: u64,
        peer: usize,
        fields: String,
    },
    Probe {
        node: usize,
    },
    Look {
        node: usize,
    },
    Stream {
        node: usize,
    },
    Client {
        node: usize,
    },
    StartAgent {
        node: usize,
        guardian: u64,
    },
    KillCreator {
        node: usize,
    },
    StartPod {
        node: usize,
        new_uid: bool,
    },
    HungCheck {
        node: usize,
        guardian: u64,
        life: Life,
    },
    Thaw {
        node: usize,
        agent: bool,
    },
    Heal {
        node: usize,
        api: bool,
    },
    Cut {
        node: usize,
        api: bool,
        ms: u64,
    },
    KillAgent {
        node: usize,
    },
    /// Its volume has room again.
    MakeRoom {
        node: usize,
    },
    /// The agent stands still.
    Freeze {
        node: usize,
        ms: u64,
    },
    /// Maintenance mode ends; every other time the leader is cut off just then.
    Resume {
        cut_for: Option<u64>,
    },
    /// The cluster follows nobody else any more.
    PromoteCluster,
    /// A person looks after a holder in maintenance mode that does not answer.
    Vouch,
    NextFault,
    HealAll,
}

pub(crate) struct Scheduled {
    pub(crate) at: u64,
    pub(crate) order: u64,
    /// Apart, since the queue moves its entries often.
    pub(crate) act: Box<Act>,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}
