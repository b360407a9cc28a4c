//! What a peer says of itself on `/patroni`, ours or a Patroni's.

use crate::ha::model::{Lsn, Timeline};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// A peer's answer, decoded. Unknown keys are ignored: the next version may have more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerStatus {
    /// Patroni's state word.
    pub state: String,
    /// Patroni's role word; the old `master` is read as `primary`.
    pub role: String,
    /// WAL positions; `None`: its PostgreSQL does not answer, in a race it counts as unreachable.
    pub xlog: Option<PeerXlog>,
    /// Its timeline.
    pub timeline: Option<Timeline>,
    /// Its tags, values as text.
    pub tags: BTreeMap<String, String>,
    /// `streaming` or `in archive recovery`.
    pub replication_state: Option<String>,
    /// Its system identifier.
    pub system_id: Option<String>,
    /// Its cluster.
    pub scope: String,
    /// Its name.
    pub name: String,
    /// Its agent's version.
    pub version: String,
    /// Its watchdog is required and does not work (Patroni).
    pub watchdog_failed: bool,
    /// Who exactly it is; `None`: a Patroni.
    pub pgwarden: Option<PeerExtras>,
}

/// A peer's WAL positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PeerXlog {
    /// The write position of a primary.
    pub location: Option<Lsn>,
    /// Received by a replica.
    #[serde(rename = "received_location")]
    pub received: Option<Lsn>,
    /// Replayed by a replica.
    #[serde(rename = "replayed_location")]
    pub replayed: Option<Lsn>,
}

/// The keys under `pgwarden`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PeerExtras {
    /// The UID of its Pod.
    pub pod_uid: String,
    /// The incarnation of its guardian.
    pub incarnation: String,
    /// The epoch of the lock record it saw last.
    pub epoch: Option<u64>,
    /// What it says in a race; `None`: it has no position to offer.
    pub race: Option<crate::ha::event::PeerStatus>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Wire {
    state: String,
    role: String,
    xlog: Option<PeerXlog>,
    wal: Option<PeerXlog>,
    timeline: Option<Timeline>,
    tags: BTreeMap<String, Value>,
    replication_state: Option<String>,
    database_system_identifier: Option<String>,
    watchdog_failed: bool,
    patroni: Program,
    pgwarden: Option<PeerExtras>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Program {
    version: String,
    scope: String,
    name: String,
}

impl PeerStatus {
    /// Decode the body of `/patroni`.
    pub fn decode(body: &[u8]) -> Result<Self, serde_json::Error> {
        let wire: Wire = serde_json::from_slice(body)?;
        let as_text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let role = if wire.role == "master" {
            "primary".to_owned()
        } else {
            wire.role
        };
        Ok(Self {
            state: wire.state,
            role,
            xlog: wire.xlog.or(wire.wal),
            timeline: wire.timeline,
            tags: wire
                .tags
                .into_iter()
                .map(|(key, value)| (key, as_text(value)))
                .collect(),
            replication_state: wire.replication_state,
            system_id: wire.database_system_identifier,
            scope: wire.patroni.scope,
            name: wire.patroni.name,
            version: wire.patroni.version,
            watchdog_failed: wire.watchdog_failed,
            pgwarden: wire.pgwarden,
        })
    }

    /// Its PostgreSQL is a replica: no write position, and no primary's role.
    pub fn in_recovery(&self) -> bool {
        let writes = self.xlog.is_some_and(|xlog| xlog.location.is_some());
        !writes && self.role != "primary"
    }

    /// The position it races with: written, or the greater of received and replayed.
    pub fn lsn(&self) -> Option<Lsn> {
        let xlog = self.xlog?;
        xlog.location.or(xlog.received.max(xlog.replayed))
    }

    /// The tag forbids it to lead.
    pub fn nofailover(&self) -> bool {
        self.tags
            .get("nofailover")
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}
