//! `/cluster` and `/history`: what operators choose candidates from.

use super::status::tag_values;
use super::view::{View, Xlog};
use crate::ha::model::{HistoryEntry, Lsn, Member};
use crate::ha::shared::Scheduled;
use serde_json::{Map, Value, json};

/// The body of `/cluster`.
pub fn cluster(view: &View) -> Value {
    let members: Vec<Value> = view
        .members
        .iter()
        .map(|(name, member)| row(view, name, member))
        .collect();
    let mut body = Map::new();
    body.insert("members".to_owned(), Value::Array(members));
    if view.pause {
        body.insert("pause".to_owned(), Value::Bool(true));
    }
    if let Some(plan) = &view.scheduled_switchover {
        body.insert("scheduled_switchover".to_owned(), planned(plan));
    }
    body.insert("scope".to_owned(), Value::from(view.scope.as_str()));
    let mut extras = Map::new();
    let troubles = troubles(view);
    if !troubles.is_empty() {
        extras.insert("troubles".to_owned(), Value::Object(troubles));
    }
    let mixed = patronis(view);
    if !mixed.is_empty() {
        extras.insert("patroni".to_owned(), json!(mixed));
    }
    if !extras.is_empty() {
        body.insert("pgwarden".to_owned(), Value::Object(extras));
    }
    Value::Object(body)
}

fn planned(plan: &Scheduled) -> Value {
    let mut shown = Map::new();
    shown.insert("at".to_owned(), Value::from(plan.at.as_str()));
    for (key, name) in [("from", &plan.from), ("to", &plan.to)] {
        if let Some(name) = name {
            shown.insert(key.to_owned(), Value::from(name.as_str()));
        }
    }
    Value::Object(shown)
}

/// Beside Patroni's keys, whose readers take the words of `state` for a choice of few.
fn troubles(view: &View) -> Map<String, Value> {
    let troubled = view.members.iter().filter(|(_, m)| !m.trouble.is_empty());
    troubled
        .map(|(name, member)| (name.clone(), Value::from(member.trouble.as_str())))
        .collect()
}

/// Who runs Patroni (L10): since this one does not, the cluster is mixed.
fn patronis(view: &View) -> Vec<&str> {
    // In the Pod of one that has just replaced a Patroni the old word stands for a moment.
    let me = &view.identity.name;
    let others = view.members.iter().filter(|(name, _)| *name != me);
    let theirs = others.filter(|(_, member)| member.patroni);
    theirs.map(|(name, _)| name.as_str()).collect()
}

fn row(view: &View, name: &str, member: &Member) -> Value {
    let leader = view.leader.as_deref() == Some(name);
    let mut row = Map::new();
    let mut put = |key: &str, value: Value| {
        row.insert(key.to_owned(), value);
    };
    put("name", Value::from(name));
    let gone = !leader && has_lost(view, name, member);
    let role = if gone {
        "replica"
    } else {
        role(view, name, member, leader)
    };
    put("role", Value::from(role));
    let state = match &member.replication_state {
        _ if gone => "unknown",
        // A standby leader streams too, if all is well.
        Some(word) if member.state == "running" && (!leader || view.standby_cluster) => word,
        _ => &member.state,
    };
    put("state", Value::from(state));
    put("api_url", Value::from(member.api_url.as_str()));
    if !member.host.is_empty() {
        put("host", Value::from(member.host.as_str()));
        put("port", Value::from(member.port));
    }
    if let Some(timeline) = member.timeline {
        put("timeline", Value::from(timeline));
    }
    if !member.pending_restart.is_empty() {
        put("pending_restart", Value::Bool(true));
        put("pending_restart_reason", json!(member.pending_restart));
    }
    if let Some(plan) = &member.scheduled_restart {
        put("scheduled_restart", plan.clone());
    }
    if !member.tags.is_empty() {
        put("tags", Value::Object(tag_values(&member.tags)));
    }
    if !leader {
        let end = end_of_wal(view).filter(|_| !gone);
        for (key, position) in [
            ("receive_", member.receive_lsn),
            ("replay_", member.replay_lsn),
            ("", member.lsn),
        ] {
            let (lag, lsn) = lag_and_lsn(end, position);
            put(&format!("{key}lag"), lag);
            put(&format!("{key}lsn"), lsn);
        }
    }
    Value::Object(row)
}

/// It says of itself that it streams, and I, the leader, have no such stream: what it published is
/// of before, and the one who would correct it may be dead.
fn has_lost(view: &View, name: &str, member: &Member) -> bool {
    let leads = view.leader.as_deref() == Some(&view.identity.name);
    let sees = leads && matches!(view.xlog, Some(Xlog::Primary { .. }));
    let says =
        member.state == "running" && member.replication_state.as_deref() == Some("streaming");
    sees && says
        && !view
            .replication
            .iter()
            .any(|row| row.application_name == name)
}

/// Operators take any `sync_standby` for a candidate without looking at its state, so only a live
/// one is called that.
fn role(view: &View, name: &str, member: &Member, leader: bool) -> &'static str {
    let listed = view.sync_standbys.iter().any(|standby| standby == name);
    if leader && view.standby_cluster {
        "standby_leader"
    } else if leader {
        "leader"
    } else if listed && member.state == "running" {
        if view.quorum {
            "quorum_standby"
        } else {
            "sync_standby"
        }
    } else {
        "replica"
    }
}

/// The furthest position the leader is known to have reached.
fn end_of_wal(view: &View) -> Option<Lsn> {
    let leader = view.leader.as_ref().and_then(|name| view.members.get(name));
    view.optime.max(leader.and_then(|member| member.lsn))
}

fn lag_and_lsn(end: Option<Lsn>, position: Option<Lsn>) -> (Value, Value) {
    let unknown = || Value::from("unknown");
    match (position, end) {
        (None, _) => (unknown(), unknown()),
        (Some(lsn), None) => (unknown(), Value::from(lsn.to_string())),
        (Some(lsn), Some(end)) => (
            Value::from(end.0.saturating_sub(lsn.0)),
            Value::from(lsn.to_string()),
        ),
    }
}

/// The body of `/history`: one list per timeline that ended.
pub fn history(view: &View) -> Value {
    view.history.iter().map(entry).collect()
}

fn entry(entry: &HistoryEntry) -> Value {
    let mut line = vec![
        json!(entry.timeline),
        json!(entry.switch_lsn.0),
        json!(entry.reason),
    ];
    // The leader's place is the fifth: without a time the fourth stays, empty.
    if entry.at.is_some() || entry.new_leader.is_some() {
        line.push(json!(entry.at.as_deref().unwrap_or_default()));
    }
    line.extend(entry.new_leader.iter().map(|name| json!(name)));
    Value::Array(line)
}
