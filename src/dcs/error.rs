//! What can go wrong when asking the API, sorted by what the caller may do about it.

use std::time::Duration;

/// Why a question to the API got no usable answer, or a check of the cluster failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DcsError {
    /// No answer in time, or a server error: ask again later.
    #[error("{what}: the Kubernetes API did not answer: {why}")]
    Unavailable {
        /// The request, in words.
        what: String,
        /// What happened.
        why: String,
    },
    /// The server understood and refused: 403, 429, 422. Nothing changes by asking the same at
    /// once.
    #[error("{what}: the Kubernetes API refused with status {status}: {why}")]
    Refused {
        /// The request, in words.
        what: String,
        /// The HTTP status.
        status: u16,
        /// What it said.
        why: String,
        /// From `Retry-After`.
        retry_after_ms: Option<u64>,
    },
    /// The object asked for does not exist.
    #[error("{what}: there is no such object")]
    Missing {
        /// The request, in words.
        what: String,
    },
    /// The settings of the connection or the names cannot work.
    #[error("{field}: {why}; right would be {right}")]
    BadSettings {
        /// The setting.
        field: String,
        /// What is wrong.
        why: String,
        /// What would be right.
        right: String,
    },
    /// The leader Service selects pods by itself and would override the published route (L7).
    #[error(
        "Service {service} has the selector {selector}; in this dialect the route is published by \
         the leader and the Service must have none: remove spec.selector"
    )]
    ServiceSelector {
        /// The Service's name.
        service: String,
        /// Its selector.
        selector: String,
    },
    /// Another dialect's lock is held in this scope (L8).
    #[error(
        "{object} shows \"{leader}\" as the leader of this scope in another dialect ({setting}); one \
         cluster has one dialect: stop those agents, or use their `kubernetes:` settings, or delete the \
         object"
    )]
    OtherDialect {
        /// The object.
        object: String,
        /// The holder it names.
        leader: String,
        /// The settings of that dialect.
        setting: &'static str,
    },
}

impl DcsError {
    /// How long the server asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after_ms, .. } => retry_after_ms.map(Duration::from_millis),
            _ => None,
        }
    }
}
