//! The body of `/cluster`, read leniently: what a member of another version leaves out is missing
//! from a table, and no failure.

use crate::ha::model::PendingRestart;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// PostgreSQL's port, which is not shown where everybody has it.
const USUAL_PORT: u16 = 5432;

/// The body of `/cluster`, and the cluster's identifier.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Cluster {
    /// The cluster's name.
    #[serde(default)]
    pub scope: String,
    /// PostgreSQL's system identifier.
    #[serde(skip)]
    pub system_id: Option<String>,
    /// Automatic failover is suspended.
    #[serde(default)]
    pub pause: bool,
    /// A switchover that waits for its time.
    #[serde(default)]
    pub scheduled_switchover: Option<ScheduledSwitchover>,
    /// In the order of their names.
    #[serde(default)]
    pub members: Vec<Row>,
    #[serde(default)]
    pgwarden: Extras,
}

/// What Patroni's answer does not have.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Extras {
    troubles: BTreeMap<String, String>,
    patroni: Vec<String>,
}

/// A switchover that waits for its time.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ScheduledSwitchover {
    /// When, as it was stored.
    pub at: String,
    /// The leader to be replaced.
    pub from: Option<String>,
    /// Who shall lead.
    pub to: Option<String>,
}

/// A restart that waits for its time.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ScheduledRestart {
    /// When.
    pub schedule: String,
    /// Only if PostgreSQL is older than this.
    pub postgres_version: Option<Value>,
}

/// A member.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its REST address, ending in `/patroni`; empty: it has published none.
    pub api_url: String,
    /// `leader`, `standby_leader`, `sync_standby`, `quorum_standby` or `replica`.
    pub role: String,
    /// Patroni's state word, or how it replicates.
    pub state: String,
    /// Where its PostgreSQL is; empty: unknown.
    pub host: String,
    /// The port of it.
    pub port: Option<u16>,
    /// Its timeline.
    pub timeline: Option<u32>,
    /// What it has received: a position or `unknown`.
    pub receive_lsn: Option<String>,
    /// How far that is behind, in bytes.
    #[serde(deserialize_with = "number")]
    pub receive_lag: Option<u64>,
    /// What it has replayed: a position or `unknown`.
    pub replay_lsn: Option<String>,
    /// How far that is behind, in bytes.
    #[serde(deserialize_with = "number")]
    pub replay_lag: Option<u64>,
    /// A setting waits for a restart.
    pub pending_restart: bool,
    /// Which.
    pub pending_restart_reason: BTreeMap<String, PendingRestart>,
    /// A restart waits for its time.
    pub scheduled_restart: Option<ScheduledRestart>,
    /// Its tags.
    pub tags: Map<String, Value>,
}

/// `unknown` is no number.
fn number<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<u64>, D::Error> {
    Ok(Value::deserialize(input)?.as_u64())
}

impl Row {
    /// Whether it holds the lock.
    pub fn leads(&self) -> bool {
        matches!(self.role.as_str(), "leader" | "standby_leader")
    }

    /// The member it copies from, by its tag.
    fn source(&self) -> Option<&str> {
        self.tags.get("replicatefrom").and_then(Value::as_str)
    }
}

impl Cluster {
    /// Read `/cluster`.
    pub fn decode(body: &Value, system_id: Option<String>) -> Result<Self, serde_json::Error> {
        let cluster = Self::deserialize(body)?;
        Ok(Self {
            system_id,
            ..cluster
        })
    }

    /// The leader's name.
    pub fn leader(&self) -> Option<&str> {
        let leader = self.members.iter().find(|row| row.leads());
        leader.map(|row| row.name.as_str())
    }

    /// The leader's name, if its PostgreSQL runs.
    pub fn running_leader(&self) -> Option<&str> {
        let leader = self.members.iter().find(|row| row.leads());
        leader
            .filter(|row| row.state == "running")
            .map(|row| row.name.as_str())
    }

    /// What keeps members from running, by name.
    pub fn troubles(&self) -> &BTreeMap<String, String> {
        &self.pgwarden.troubles
    }

    /// Who runs Patroni in a cluster that is mixed (L10).
    pub fn patronis(&self) -> &[String] {
        &self.pgwarden.patroni
    }

    /// The names, for a message.
    pub fn names(&self) -> String {
        let names: Vec<_> = self.members.iter().map(|row| row.name.as_str()).collect();
        names.join(", ")
    }

    /// Whether ports tell something: another one than usual, or two servers on one host.
    pub fn shows_ports(&self) -> bool {
        let hosts: BTreeSet<_> = self.members.iter().map(|row| &row.host).collect();
        hosts.len() < self.members.len()
            || self.members.iter().any(|row| {
                let port = row.port.unwrap_or(USUAL_PORT);
                port != USUAL_PORT
            })
    }

    /// Each member with its depth in the tree of replication: first the leader, below it whoever
    /// copies from it. A tag that names nobody, or a circle of tags, hangs its members from the
    /// leader, as the agents do.
    pub fn tree(&self) -> Vec<(usize, &Row)> {
        let mut left: Vec<&Row> = self.members.iter().collect();
        let mut tree = Vec::new();
        let leader = left.iter().position(|row| row.leads());
        let root = leader.map(|at| left.remove(at));
        let known: BTreeSet<&str> = self.members.iter().map(|row| row.name.as_str()).collect();
        let leader = root.map(|row| row.name.as_str());
        let direct = |row: &Row| {
            row.source()
                .filter(|source| known.contains(source) && *source != row.name)
                .is_none_or(|source| Some(source) == leader)
        };
        let depth = usize::from(root.is_some());
        tree.extend(root.map(|row| (0, row)));
        while !left.is_empty() {
            // Whoever is left when nobody hangs from the leader is in a circle.
            let at = left.iter().position(|row| direct(row)).unwrap_or(0);
            let row = left.remove(at);
            tree.push((depth, row));
            below(row, depth + 1, &mut left, &mut tree);
        }
        tree
    }
}

fn below<'a>(
    source: &Row,
    depth: usize,
    left: &mut Vec<&'a Row>,
    tree: &mut Vec<(usize, &'a Row)>,
) {
    let copies = |row: &Row| row.source() == Some(&source.name);
    while let Some(at) = left.iter().position(|row| copies(row)) {
        let row = left.remove(at);
        tree.push((depth, row));
        below(row, depth + 1, left, tree);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cluster(members: &[(&str, &str, Option<&str>)]) -> Cluster {
        let rows: Vec<Value> = members
            .iter()
            .map(|(name, role, source)| {
                json!({ "name": name, "role": role, "tags": source.map_or_else(
                    || json!({}), |source| json!({ "replicatefrom": source })) })
            })
            .collect();
        Cluster::decode(&json!({ "scope": "bench", "members": rows }), None).expect("a cluster")
    }

    fn shape(cluster: &Cluster) -> String {
        let lines = cluster.tree().into_iter();
        let lines = lines.map(|(depth, row)| format!("{}{}", "-".repeat(depth), row.name));
        lines.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_tree_follows_tags_and_loses_nobody() {
        let r = "replica";
        let chain = [
            ("a", r, Some("b")),
            ("b", r, Some("d")),
            ("c", r, None),
            ("d", r, None),
            ("e", "leader", None),
        ];
        assert_eq!(shape(&cluster(&chain)), "e -c -d --b ---a");
        let circle = [
            ("a", r, Some("b")),
            ("b", r, Some("a")),
            ("c", r, Some("c")),
        ];
        assert_eq!(shape(&cluster(&circle)), "c a -b");
        let lost = [("a", r, Some("gone")), ("b", "leader", Some("a"))];
        assert_eq!(shape(&cluster(&lost)), "b -a");
    }

    #[test]
    fn ports_are_shown_where_they_tell_something() {
        let of = |rows: Value| Cluster::decode(&json!({ "members": rows }), None).expect("it");
        let a = json!({ "name": "a", "host": "h1", "port": 5432 });
        let b = json!({ "name": "b", "host": "h2", "port": 5432 });
        assert!(!of(json!([a, b])).shows_ports());
        let c = json!({ "name": "c", "host": "h1", "port": 5432 });
        assert!(of(json!([a, c])).shows_ports());
        let d = json!({ "name": "d", "host": "h3", "port": 5433 });
        assert!(of(json!([a, d])).shows_ports());
    }

    #[test]
    fn unknown_lags_are_none() {
        let row = json!({ "members": [{ "replay_lag": "unknown", "receive_lag": 7 }] });
        let cluster = Cluster::decode(&row, None).expect("it");
        let row = &cluster.members[0];
        assert_eq!((row.receive_lag, row.replay_lag), (Some(7), None));
    }
}
