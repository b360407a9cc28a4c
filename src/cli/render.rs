//! The members and the history as patronictl prints them, in each of its formats.

use super::cluster::{Cluster, Row};
use super::table::{Table, separated};
use super::verbs::Format;
use crate::ha::model::PendingRestart;
use crate::settings;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::{self, Write};

const MIB: u64 = 1024 * 1024;

/// How the members are printed.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// In which format.
    pub format: Format,
    /// Also columns in which nobody has anything.
    pub extended: bool,
    /// As a tree, for people only.
    pub tree: bool,
}

impl Manner {
    /// A table for people.
    pub const TABLE: Self = Self {
        format: Format::Pretty,
        extended: false,
        tree: false,
    };
}

/// A line of `ctl list` as programs read it: patronictl's keys, lags in MiB.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    cluster: String,
    member: String,
    host: String,
    role: String,
    state: String,
    #[serde(rename = "TL", skip_serializing_if = "Option::is_none")]
    timeline: Option<u32>,
    #[serde(rename = "Receive LSN", skip_serializing_if = "Option::is_none")]
    receive_lsn: Option<String>,
    #[serde(rename = "Receive Lag", skip_serializing_if = "Option::is_none")]
    receive_lag: Option<u64>,
    #[serde(rename = "Replay LSN", skip_serializing_if = "Option::is_none")]
    replay_lsn: Option<String>,
    #[serde(rename = "Replay Lag", skip_serializing_if = "Option::is_none")]
    replay_lag: Option<u64>,
    #[serde(rename = "Pending restart", skip_serializing_if = "Option::is_none")]
    pending_restart: Option<&'static str>,
    #[serde(
        rename = "Pending restart reason",
        skip_serializing_if = "Option::is_none"
    )]
    pending_restart_reason: Option<String>,
    #[serde(rename = "Scheduled restart", skip_serializing_if = "Option::is_none")]
    scheduled_restart: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    tags: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
}

/// The columns; from the first optional one on they are there only if somebody has something.
const HEADS: [&str; 13] = [
    "Member",
    "Host",
    "Role",
    "State",
    "TL",
    "Receive LSN",
    "Receive Lag",
    "Replay LSN",
    "Replay Lag",
    "Pending restart",
    "Pending restart reason",
    "Scheduled restart",
    "Tags",
];
const OPTIONAL_FROM: usize = 9;
const RIGHT: [&str; 4] = ["TL", "Receive LSN", "Lag", "Replay LSN"];

/// Print the members. What keeps somebody from running is too long for a column of a table, and
/// stands below.
pub fn members(cluster: &Cluster, manner: Manner, out: &mut dyn Write) -> io::Result<()> {
    let ports = cluster.shows_ports();
    let tree = if manner.tree {
        cluster.tree()
    } else {
        cluster.members.iter().map(|row| (0, row)).collect()
    };
    let lines: Vec<Line> = tree
        .iter()
        .map(|(depth, row)| line(cluster, row, *depth, ports))
        .collect();
    match manner.format {
        Format::Json | Format::Yaml => return document(&lines, manner.format, out),
        Format::Pretty | Format::Tsv => {}
    }
    let pretty = manner.format == Format::Pretty;
    let braced = !pretty || manner.tree;
    let mut rows: Vec<Vec<String>> = lines.iter().map(|line| cells(line, braced)).collect();
    let mut heads = HEADS.to_vec();
    if pretty {
        // The two lags share a heading where the column beside them tells which is which.
        (heads[6], heads[8]) = ("Lag", "Lag");
    }
    for at in (OPTIONAL_FROM..heads.len()).rev() {
        if !manner.extended && rows.iter().all(|row| row[at].is_empty()) {
            heads.remove(at);
            for row in &mut rows {
                row.remove(at);
            }
        }
    }
    if !pretty {
        let troubled = lines.iter().any(|line| line.trouble.is_some());
        heads.insert(0, "Cluster");
        heads.extend(troubled.then_some("Trouble"));
        for (row, line) in rows.iter_mut().zip(lines) {
            row.insert(0, cluster.scope.clone());
            if troubled {
                row.push(line.trouble.unwrap_or_default());
            }
        }
        return separated("\t", &heads, &rows, out);
    }
    let table = Table {
        title: title(cluster),
        heads: &heads,
        rows: &rows,
        right: &RIGHT,
    };
    table.draw(out)?;
    footer(cluster)
        .into_iter()
        .try_for_each(|line| writeln!(out, "{line}"))
}

/// What stands in the upper border.
fn title(cluster: &Cluster) -> String {
    let id = cluster.system_id.as_deref().unwrap_or("uninitialized");
    format!("+ Cluster: {} ({id}) ", cluster.scope)
}

/// What stands below the table.
pub fn footer(cluster: &Cluster) -> Vec<String> {
    let mut lines = Vec::new();
    if cluster.pause {
        lines.push(" Maintenance mode: on".to_owned());
    }
    if let Some(planned) = &cluster.scheduled_switchover {
        lines.push(format!(" Switchover scheduled at: {}", planned.at));
        for (word, name) in [("from", &planned.from), ("to", &planned.to)] {
            lines.extend(name.iter().map(|name| format!("{word:>24}: {name}")));
        }
    }
    if !cluster.patronis().is_empty() {
        let names = cluster.patronis().join(", ");
        lines.push(format!(" mixed: Patroni runs on {names}"));
    }
    let troubles = cluster.troubles().iter();
    lines.extend(troubles.map(|(name, trouble)| format!(" {name}: {trouble}")));
    lines
}

fn line(cluster: &Cluster, row: &Row, depth: usize, ports: bool) -> Line {
    let mib = |bytes: Option<u64>| bytes.map(|bytes| bytes.saturating_add(MIB / 2) / MIB);
    Line {
        cluster: cluster.scope.clone(),
        member: indented(&row.name, depth),
        host: host(row, ports),
        role: title_case(&row.role),
        state: row.state.clone(),
        timeline: row.timeline,
        receive_lsn: row.receive_lsn.clone(),
        receive_lag: mib(row.receive_lag),
        replay_lsn: row.replay_lsn.clone(),
        replay_lag: mib(row.replay_lag),
        pending_restart: row.pending_restart.then_some("*"),
        pending_restart_reason: reasons(&row.pending_restart_reason),
        scheduled_restart: scheduled(row),
        tags: row.tags.clone(),
        trouble: cluster.troubles().get(&row.name).cloned(),
    }
}

/// `  + pg-2` for who is two steps away from the leader.
pub(crate) fn indented(name: &str, depth: usize) -> String {
    match depth.checked_sub(1) {
        None => name.to_owned(),
        Some(steps) => format!("{}+ {name}", "  ".repeat(steps)),
    }
}

/// The host, with its port where ports tell something.
pub(crate) fn host(row: &Row, ports: bool) -> String {
    match row.port {
        Some(port) if ports => format!("{}:{port}", row.host),
        _ => row.host.clone(),
    }
}

/// When it shall be restarted, and on what condition.
pub(crate) fn scheduled(row: &Row) -> Option<String> {
    let restart = row.scheduled_restart.as_ref()?;
    let version = restart.postgres_version.as_ref();
    let condition = version.map_or_else(String::new, |version| {
        format!(" if version < {}", plain(version))
    });
    Some(format!("{}{condition}", restart.schedule))
}

/// `max_connections: 100->120`, a line each.
fn reasons(settings: &BTreeMap<String, PendingRestart>) -> Option<String> {
    let lines = settings
        .iter()
        .map(|(name, change)| format!("{name}: {}->{}", change.old_value, change.new_value));
    (!settings.is_empty()).then(|| lines.collect::<Vec<_>>().join("\n"))
}

/// `zone: a`, each; in braces on one line, or a line each.
pub(crate) fn tags(tags: &Map<String, Value>, braced: bool) -> String {
    let pairs: Vec<String> = tags
        .iter()
        .map(|(name, value)| format!("{name}: {}", plain(value)))
        .collect();
    if braced && !pairs.is_empty() {
        format!("{{{}}}", pairs.join(", "))
    } else {
        pairs.join("\n")
    }
}

fn cells(line: &Line, braced: bool) -> Vec<String> {
    let number = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    vec![
        line.member.clone(),
        line.host.clone(),
        line.role.clone(),
        line.state.clone(),
        number(line.timeline.map(u64::from)),
        line.receive_lsn.clone().unwrap_or_default(),
        number(line.receive_lag),
        line.replay_lsn.clone().unwrap_or_default(),
        number(line.replay_lag),
        line.pending_restart.unwrap_or_default().to_owned(),
        line.pending_restart_reason.clone().unwrap_or_default(),
        line.scheduled_restart.clone().unwrap_or_default(),
        tags(&line.tags, braced),
    ]
}

/// `sync_standby` → `Sync Standby`.
pub(crate) fn title_case(role: &str) -> String {
    let word = |word: &str| {
        let mut chars = word.chars();
        let first = chars.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(chars).collect::<String>()
    };
    role.split('_').map(word).collect::<Vec<_>>().join(" ")
}

/// Print the history: the body of `/history`.
pub fn history(lines: &Value, format: Format, out: &mut dyn Write) -> io::Result<()> {
    const HEADS: [&str; 5] = ["TL", "LSN", "Reason", "Timestamp", "New Leader"];
    let lines: Vec<&Vec<Value>> = lines
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_array)
        .collect();
    if matches!(format, Format::Json | Format::Yaml) {
        let keyed = lines.iter().map(|line| {
            let pairs = HEADS.iter().zip(line.iter());
            pairs
                .map(|(head, value)| ((*head).to_owned(), value.clone()))
                .collect()
        });
        return document(&keyed.collect::<Vec<Map<String, Value>>>(), format, out);
    }
    let row = |line: &&Vec<Value>| {
        (0..HEADS.len())
            .map(|at| line.get(at).map_or_else(String::new, plain))
            .collect()
    };
    let rows: Vec<Vec<String>> = lines.iter().map(row).collect();
    if format == Format::Tsv {
        return separated("\t", &HEADS, &rows, out);
    }
    let table = Table {
        title: String::new(),
        heads: &HEADS,
        rows: &rows,
        right: &["TL", "LSN"],
    };
    table.draw(out)
}

/// A value as a person writes it.
pub(crate) fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// As JSON on one line, or as YAML.
pub(crate) fn document(
    value: &impl Serialize,
    format: Format,
    out: &mut dyn Write,
) -> io::Result<()> {
    if format != Format::Yaml {
        serde_json::to_writer(&mut *out, value)?;
        return writeln!(out);
    }
    let value = serde_json::to_value(value)?;
    let text = settings::json_to_yaml(&value).map_err(io::Error::other)?;
    writeln!(out, "{}", text.trim_end())
}
