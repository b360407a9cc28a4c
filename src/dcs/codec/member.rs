//! Pod ↔ [`Member`]: Patroni's `status` annotation (contract §1.3) and ours beside it.
//!
//! Every pod of the scope is a member, also one that has published nothing. Not one whose
//! containers ended for good (evicted or completed): its name may still be listed, but nothing runs
//! there.

use super::SCHEMA;
use super::object::{Meta, Notes};
use super::trouble;
use crate::ha::model::{Lsn, Member, PendingRestart};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Patroni's annotation.
pub const STATUS: &str = "status";
/// What Patroni's lacks.
pub const OURS: &str = "pgwarden.io/status";
/// The labels by which the controllers of Kubernetes tell their Pods' revisions apart.
const REVISIONS: [&str; 2] = ["controller-revision-hash", "pod-template-hash"];
/// Tags that Patroni leaves out when false.
const DROPPED_WHEN_FALSE: [&str; 5] = [
    "clonefrom",
    "nofailover",
    "noloadbalance",
    "nosync",
    "nostream",
];

/// A pod, of which only this is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct SlimPod {
    /// The metadata.
    #[serde(default)]
    pub metadata: Meta,
    #[serde(default, deserialize_with = "standing")]
    status: Standing,
}

/// What is kept of a Pod's status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Standing {
    phase: String,
    trouble: Option<String>,
}

fn standing<'de, D: Deserializer<'de>>(input: D) -> Result<Standing, D::Error> {
    let status = Value::deserialize(input)?;
    Ok(Standing {
        phase: status["phase"].as_str().unwrap_or_default().to_owned(),
        trouble: trouble::of_status(&status),
    })
}

/// Our annotation.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OurNote {
    schema: u64,
    system_id: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    trouble: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    full: bool,
    /// Repeated from the status: a Patroni in the same Pod leaves this note in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
}

impl OurNote {
    /// The status beside it is its writer's.
    fn is_beside(&self, member: &Member) -> bool {
        let told = self.version.as_ref();
        told.is_none_or(|version| *version == member.version)
    }
}

/// The member that runs in a pod; `None`: nothing runs there any more.
pub fn decode(pod: &SlimPod) -> Option<Member> {
    if matches!(pod.status.phase.as_str(), "Failed" | "Succeeded") {
        return None;
    }
    let status = pod
        .metadata
        .note(STATUS)
        .and_then(|text| serde_json::from_str::<Value>(text).ok());
    let mut member = status
        .filter(Value::is_object)
        .map(|status| of_status(&status))
        .unwrap_or_default();
    member.pod_uid.clone_from(&pod.metadata.uid);
    member.leaving = !pod.metadata.deletion_timestamp.is_empty();
    member.created.clone_from(&pod.metadata.creation_timestamp);
    let revision = REVISIONS
        .iter()
        .find_map(|label| pod.metadata.labels.get(*label));
    member.revision = revision.cloned().unwrap_or_default();
    let ours = pod
        .metadata
        .note(OURS)
        .and_then(|text| serde_json::from_str::<OurNote>(text).ok())
        .filter(|note| note.schema == SCHEMA);
    let current = ours.as_ref().is_some_and(|note| note.is_beside(&member));
    member.patroni = !member.version.is_empty() && !current;
    // What the kubelet says of a container is newer than what that container said.
    let told = ours.as_ref().filter(|_| current);
    let told = told.map(|note| trouble::bounded(&note.trouble));
    let trouble = pod.status.trouble.clone().or(told).unwrap_or_default();
    member.trouble = if member.leaving {
        String::new()
    } else {
        trouble
    };
    member.full = ours.as_ref().is_some_and(|note| current && note.full);
    member.system_id = ours.and_then(|note| note.system_id);
    Some(member)
}

fn of_status(status: &Value) -> Member {
    let text = |key: &str| status[key].as_str().unwrap_or_default().to_owned();
    let lsn = |key: &str| status[key].as_u64().map(Lsn);
    let (host, port) = address(&text("conn_url")).unwrap_or_default();
    let role = match text("role") {
        // Until Patroni 4.0.
        role if role == "master" => "primary".to_owned(),
        role => role,
    };
    Member {
        host,
        port,
        proxy: address(&text("proxy_url")),
        api_url: text("api_url"),
        state: text("state"),
        role,
        timeline: status["timeline"]
            .as_u64()
            .and_then(|timeline| u32::try_from(timeline).ok()),
        lsn: lsn("xlog_location"),
        receive_lsn: lsn("receive_lsn"),
        replay_lsn: lsn("replay_lsn"),
        replication_state: status["replication_state"].as_str().map(str::to_owned),
        version: text("version"),
        tags: status["tags"].as_object().map(tags).unwrap_or_default(),
        checkpoint_after_promote: status["checkpoint_after_promote"].as_bool(),
        pending_restart: pending(status),
        scheduled_restart: Some(&status["scheduled_restart"])
            .filter(|plan| plan.is_object())
            .cloned(),
        pause: status["pause"] == true,
        ..Member::default()
    }
}

/// Host and port of `postgres://host:port/db`, also with brackets around an IPv6 address.
fn address(url: &str) -> Option<(String, u16)> {
    let rest = url
        .strip_prefix("postgres://")
        .or_else(|| url.strip_prefix("postgresql://"))?;
    let authority = rest.split(['/', '?']).next()?;
    let authority = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    if let Some(v6) = authority.strip_prefix('[') {
        let (host, port) = v6.split_once(']')?;
        return Some((host.to_owned(), port_of(port.strip_prefix(':'))?));
    }
    match authority.split_once(':') {
        Some((host, port)) if !host.is_empty() => Some((host.to_owned(), port_of(Some(port))?)),
        None if !authority.is_empty() => Some((authority.to_owned(), port_of(None)?)),
        _ => None,
    }
}

fn port_of(text: Option<&str>) -> Option<u16> {
    text.map_or(Some(5432), |text| {
        text.parse().ok().filter(|port| *port > 0)
    })
}

/// Reasons that are none of ours in form are left out: they are for people.
fn pending(status: &Value) -> BTreeMap<String, PendingRestart> {
    let reasons = status["pending_restart_reason"].as_object();
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let change = |change: &Value| PendingRestart {
        old_value: text(&change["old_value"]),
        new_value: text(&change["new_value"]),
    };
    let all = reasons.into_iter().flatten();
    all.map(|(name, reason)| (name.clone(), change(reason)))
        .collect()
}

fn tags(tags: &Map<String, Value>) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    tags.iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| (key.clone(), text(value)))
        .collect()
}

/// The annotations that publish a member.
pub fn notes(member: &Member) -> Notes {
    let ours = OurNote {
        schema: SCHEMA,
        system_id: member.system_id.clone(),
        trouble: member.trouble.clone(),
        full: member.full,
        version: Some(member.version.clone()).filter(|version| !version.is_empty()),
    };
    vec![
        (STATUS, Some(status_text(member))),
        (OURS, Some(json!(ours).to_string())),
    ]
}

fn url(host: &str, port: u16) -> String {
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    format!("postgres://{host}:{port}/postgres")
}

/// Patroni's annotation, compact; what is not known is left out.
fn status_text(member: &Member) -> String {
    let mut status = Map::new();
    let mut put = |key: &str, value: Value| {
        status.insert(key.to_owned(), value);
    };
    if !member.host.is_empty() {
        put("conn_url", json!(url(&member.host, member.port)));
    }
    if let Some((host, port)) = &member.proxy {
        put("proxy_url", json!(url(host, *port)));
    }
    for (key, text) in [
        ("api_url", &member.api_url),
        ("state", &member.state),
        ("role", &member.role),
        ("version", &member.version),
    ] {
        if !text.is_empty() {
            put(key, json!(text));
        }
    }
    for (key, lsn) in [
        ("xlog_location", member.lsn),
        ("receive_lsn", member.receive_lsn),
        ("replay_lsn", member.replay_lsn),
    ] {
        if let Some(lsn) = lsn {
            put(key, json!(lsn.0));
        }
    }
    if let Some(state) = &member.replication_state {
        put("replication_state", json!(state));
    }
    if let Some(timeline) = member.timeline {
        put("timeline", json!(timeline));
    }
    if member.checkpoint_after_promote == Some(false) {
        put("checkpoint_after_promote", json!(false));
    }
    if !member.pending_restart.is_empty() {
        put("pending_restart", json!(true));
        put("pending_restart_reason", json!(member.pending_restart));
    }
    if member.pause {
        put("pause", json!(true));
    }
    if let Some(plan) = &member.scheduled_restart {
        put("scheduled_restart", plan.clone());
    }
    let tags = tag_values(&member.tags);
    if !tags.is_empty() {
        put("tags", Value::Object(tags));
    }
    Value::Object(status).to_string()
}

fn tag_values(tags: &BTreeMap<String, String>) -> Map<String, Value> {
    let dropped = |key: &str, value: &str| {
        let kept_for = match key {
            "nofailover" => Some("failover_priority"),
            "nosync" => Some("sync_priority"),
            _ => None,
        };
        value == "false"
            && DROPPED_WHEN_FALSE.contains(&key)
            && !kept_for.is_some_and(|other| tags.contains_key(other))
    };
    tags.iter()
        .filter(|(key, value)| !dropped(key, value))
        .map(|(key, value)| (key.clone(), tag_value(value)))
        .collect()
}

/// `true` and whole numbers in their own types, as Patroni's readers expect them.
fn tag_value(text: &str) -> Value {
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => match text.parse::<i64>() {
            Ok(number) if number.to_string() == text => json!(number),
            _ => json!(text),
        },
    }
}

#[cfg(test)]
#[path = "member_tests.rs"]
mod tests;
