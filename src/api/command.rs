//! What a mutating request becomes: a value in a bounded queue, with a deadline and a way back.

use crate::ha::model::{Ms, Name};
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
    },
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
}

impl Reply {
    /// An answer.
    pub fn new(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            body: body.into(),
        }
    }

    /// The member asked for leads, or the one that took its place does.
    pub fn done(ask: &Ask, new_leader: &str) -> Self {
        let (words, wanted) = match ask {
            Ask::Switchover { candidate, .. } => ("switched over", candidate.as_deref()),
            Ask::Failover { candidate } => ("failed over", Some(candidate.as_str())),
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
