//! The JSON of `/patroni`, which is also the body of every health check.
//!
//! Keys and their order are Patroni's; peers of a mixed cluster read `xlog`, `timeline`, `tags`,
//! `role`. Under `pgwarden` stands what only our own peers ask: who exactly this is.

use super::view::{ReplicationRow, View, Xlog};
use crate::ha::model::PendingRestart;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

#[derive(Serialize)]
struct Status<'a> {
    state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    postmaster_start_time: Option<&'a str>,
    role: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    xlog: Option<Positions<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeline: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replication_state: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    replication: &'a [ReplicationRow],
    #[serde(skip_serializing_if = "is_false")]
    sync_standby: bool,
    #[serde(skip_serializing_if = "is_false")]
    quorum_standby: bool,
    #[serde(skip_serializing_if = "is_false")]
    pause: bool,
    #[serde(skip_serializing_if = "is_false")]
    cluster_unlocked: bool,
    #[serde(skip_serializing_if = "is_false")]
    failsafe_mode_is_active: bool,
    #[serde(skip_serializing_if = "Map::is_empty")]
    tags: Map<String, Value>,
    #[serde(skip_serializing_if = "is_false")]
    pending_restart: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pending_restart_reason: &'a BTreeMap<String, PendingRestart>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduled_restart: Option<&'a Value>,
    dcs_last_seen: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    database_system_identifier: Option<&'a str>,
    patroni: Program<'a>,
    pgwarden: Extras<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Positions<'a> {
    Primary {
        location: u64,
    },
    Replica {
        received_location: u64,
        replayed_location: u64,
        replayed_timestamp: Option<&'a str>,
        paused: bool,
    },
}

#[derive(Serialize)]
struct Program<'a> {
    version: &'a str,
    scope: &'a str,
    name: &'a str,
}

#[derive(Serialize)]
struct Extras<'a> {
    pod_uid: &'a str,
    incarnation: &'a str,
    epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    race: Option<&'a crate::ha::event::PeerStatus>,
    /// Bytes copied, and bytes in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    cloning: Option<(u64, u64)>,
}

// serde asks for a function of a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !value
}

/// The body as text.
pub fn body(view: &View) -> String {
    let status = Status {
        state: &view.state,
        postmaster_start_time: view.postmaster_start_time.as_deref(),
        role: &view.role,
        server_version: view.server_version,
        xlog: view.xlog.as_ref().map(positions),
        timeline: view.timeline,
        replication_state: view.replication_state.as_deref(),
        replication: &view.replication,
        sync_standby: view.is_sync_standby(),
        quorum_standby: view.is_quorum_standby(),
        pause: view.pause,
        cluster_unlocked: view.leader.is_none(),
        failsafe_mode_is_active: view.failsafe_is_active,
        tags: tag_values(&view.tags),
        pending_restart: view.pending_restart,
        pending_restart_reason: &view.pending_restart_reason,
        scheduled_restart: view.scheduled_restart.as_ref(),
        dcs_last_seen: view.dcs_last_seen,
        database_system_identifier: view.system_id.as_deref(),
        patroni: Program {
            version: &view.version,
            scope: &view.scope,
            name: &view.identity.name,
        },
        pgwarden: Extras {
            pod_uid: &view.identity.pod_uid,
            incarnation: &view.identity.incarnation,
            epoch: view.epoch,
            race: view.race.as_ref(),
            cloning: view.cloning,
        },
    };
    serde_json::to_string(&status).expect("plain data with text keys is always JSON")
}

fn positions(xlog: &Xlog) -> Positions<'_> {
    match xlog {
        Xlog::Primary { location } => Positions::Primary {
            location: location.0,
        },
        Xlog::Replica {
            received,
            replayed,
            replayed_timestamp,
            paused,
            ..
        } => Positions::Replica {
            received_location: received.0,
            replayed_location: replayed.0,
            replayed_timestamp: replayed_timestamp.as_deref(),
            paused: *paused,
        },
    }
}

/// Tags with the types their texts have in YAML: readers expect `true`, not `"true"`.
pub(super) fn tag_values(tags: &BTreeMap<String, String>) -> Map<String, Value> {
    let typed = |text: &String| match text.as_str() {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => text
            .parse::<i64>()
            .map_or_else(|_| Value::String(text.clone()), Value::from),
    };
    tags.iter()
        .map(|(name, value)| (name.clone(), typed(value)))
        .collect()
}
