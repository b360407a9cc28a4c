//! What a mutating request becomes: a value in a bounded queue, with a deadline and a way back.

use super::config::ConfigChange;
use super::restart::RestartPlan;
use super::when::When;
use crate::ha::model::{Identity, Ms, Name};
use std::fmt;
use tokio::sync::oneshot;

/// What is asked. It has passed every check that the view allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Replace this leader, by this candidate or the best one.
    Switchover {
        /// The leader to be replaced: the one the view shows.
        leader: Name,
        /// Who shall lead.
        candidate: Option<Name>,
    },
    /// Make this member the leader, whatever became of the last one.
    Failover {
        /// Who shall lead.
        candidate: Name,
        /// Though acknowledged commits may be lost with it.
        accept_data_loss: bool,
    },
    /// Believe that this holder of the lock in maintenance mode is dead.
    Vouch {
        /// Its name.
        holder: Name,
    },
    /// Promise a leader that cannot renew its lock not to take it by its age.
    Promise {
        /// The leader; a Patroni says its name alone.
        holder: Identity,
        /// The epoch it leads.
        epoch: u64,
        /// D of its record.
        ttl_ms: Ms,
    },
    /// Vote for a candidate of a quorum (G10).
    Vote {
        /// Who asks.
        candidate: Name,
        /// The lock fields as it sees them.
        fields: String,
    },
    /// Restart this member's PostgreSQL.
    Restart {
        /// How long it may take.
        timeout_ms: Ms,
    },
    /// Restart it later.
    PlanRestart(RestartPlan),
    /// Drop the planned restart.
    DropRestart,
    /// Replace this leader later.
    PlanSwitchover {
        /// The leader to be replaced then.
        leader: Name,
        /// Who shall lead.
        candidate: Option<Name>,
        /// When.
        at: When,
    },
    /// Drop the planned switchover.
    DropSwitchover,
    /// Copy the leader over this member's data.
    Reinitialize {
        /// Whatever else is in progress.
        force: bool,
    },
    /// Read the local file again.
    Reload,
    /// Change the dynamic configuration.
    Config(ConfigChange),
}

impl fmt::Display for Ask {
    /// For the log: a configuration by its keys alone, since its values may hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switchover { leader, candidate } => {
                let to = candidate.as_deref().unwrap_or("the best");
                write!(f, "a switchover from {leader} to {to}")
            }
            Self::Failover {
                candidate,
                accept_data_loss,
            } => {
                let word = if *accept_data_loss {
                    ", though commits may be lost"
                } else {
                    ""
                };
                write!(f, "a failover to {candidate}{word}")
            }
            Self::Vouch { holder } => write!(f, "to take {holder} for dead"),
            Self::Promise { holder, epoch, .. } => {
                write!(
                    f,
                    "to promise {holder} not to take its lock of epoch {epoch}"
                )
            }
            Self::Vote { candidate, .. } => write!(f, "to vote for {candidate}"),
            Self::Restart { timeout_ms } => write!(f, "a restart within {timeout_ms} ms"),
            Self::PlanRestart(plan) => write!(f, "a restart at {}", plan.at.text),
            Self::DropRestart => write!(f, "no planned restart"),
            Self::PlanSwitchover {
                leader,
                candidate,
                at,
            } => {
                let to = candidate.as_deref().unwrap_or("the best");
                write!(f, "a switchover from {leader} to {to} at {}", at.text)
            }
            Self::DropSwitchover => write!(f, "no planned switchover"),
            Self::Reinitialize { force } => write!(f, "a new copy of the leader (force: {force})"),
            Self::Reload => write!(f, "a reload of the local file"),
            Self::Config(change) => write!(f, "a change of {}", change.keys()),
        }
    }
}

impl Ask {
    /// How long who asks should wait, where that is not the same for all.
    pub(super) fn patience_ms(&self) -> Option<Ms> {
        match self {
            Self::Restart { timeout_ms } => Some(*timeout_ms),
            _ => None,
        }
    }
}

/// One request on its way to the decision loop.
#[derive(Debug)]
pub struct Command {
    /// What is asked.
    pub ask: Ask,
    /// When the one who asks stops waiting; an answer after it reaches nobody.
    pub deadline_ms: Ms,
    /// The way back.
    pub reply: oneshot::Sender<Reply>,
}

/// The answer, in Patroni's codes and words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status: 200, 412, 503, …
    pub status: u16,
    /// The text.
    pub body: String,
    /// The text is JSON.
    pub json: bool,
}

impl Reply {
    /// An answer.
    pub fn new(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            body: body.into(),
            json: false,
        }
    }

    /// An answer that programs read.
    pub fn json(status: u16, body: impl Into<String>) -> Self {
        Self {
            json: true,
            ..Self::new(status, body)
        }
    }

    /// The member asked for leads, or the one that took its place does.
    pub fn done(ask: &Ask, new_leader: &str) -> Self {
        let (words, wanted) = match ask {
            Ask::Switchover { candidate, .. } => ("switched over", candidate.as_deref()),
            Ask::Failover { candidate, .. } => ("failed over", Some(candidate.as_str())),
            _ => return Self::new(200, "done"),
        };
        match wanted {
            Some(name) if name != new_leader => Self::new(
                200,
                format!("Switched over to \"{new_leader}\" instead of \"{name}\""),
            ),
            _ => Self::new(200, format!("Successfully {words} to \"{new_leader}\"")),
        }
    }
}
