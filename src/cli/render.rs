//! Tables as patronictl prints them, so that eyes and scripts find what they know.

use super::args::Format;
use crate::ha::model::PendingRestart;
use comfy_table::presets::ASCII_FULL_CONDENSED;
use comfy_table::{CellAlignment, LineStyle, Table};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::{self, Write};

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
    members: Vec<Row>,
    #[serde(default)]
    pgwarden: Extras,
}

/// What Patroni's answer does not have.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Extras {
    troubles: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Row {
    name: String,
    api_url: String,
    role: String,
    state: String,
    host: String,
    port: Option<u16>,
    timeline: Option<u32>,
    receive_lsn: Option<String>,
    receive_lag: Option<Value>,
    replay_lsn: Option<String>,
    replay_lag: Option<Value>,
    pending_restart: bool,
    pending_restart_reason: BTreeMap<String, PendingRestart>,
    tags: Map<String, Value>,
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

    /// Name and REST address of each member, and whether it leads.
    pub fn addresses(&self) -> Vec<(String, String, bool)> {
        let one = |row: &Row| (row.name.clone(), row.api_url.clone(), row.role == "leader");
        self.members.iter().map(one).collect()
    }

    /// The leader's name.
    pub fn leader(&self) -> Option<&str> {
        self.members
            .iter()
            .find(|row| row.role == "leader")
            .map(|row| row.name.as_str())
    }

    /// The leader's name, if its PostgreSQL runs.
    pub fn running_leader(&self) -> Option<&str> {
        let leader = self.members.iter().find(|row| row.role == "leader");
        leader
            .filter(|row| row.state == "running")
            .map(|row| row.name.as_str())
    }
}

/// A line of `ctl list` as programs read it: patronictl's keys.
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
    #[serde(skip_serializing_if = "Map::is_empty")]
    tags: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
}

/// The first column that is there only if somebody has something in it.
const OPTIONAL_FROM: usize = 9;

/// Print the members. What keeps somebody from running is too long for a column of a table, and
/// stands below.
pub fn members(cluster: &Cluster, format: Format, out: &mut dyn Write) -> io::Result<()> {
    let lines: Vec<Line> = cluster
        .members
        .iter()
        .map(|row| line(cluster, row))
        .collect();
    if format == Format::Json {
        return json_line(&lines, out);
    }
    let mut rows: Vec<Vec<String>> = lines.iter().map(cells).collect();
    // The two lags share a heading where the column beside them tells which is which.
    let lags = if format == Format::Tsv {
        ["Receive Lag", "Replay Lag"]
    } else {
        ["Lag", "Lag"]
    };
    let mut heads = vec![
        "Member",
        "Host",
        "Role",
        "State",
        "TL",
        "Receive LSN",
        lags[0],
        "Replay LSN",
        lags[1],
        "Pending restart",
        "Pending restart reason",
        "Tags",
    ];
    for at in (OPTIONAL_FROM..heads.len()).rev() {
        if rows.iter().all(|row| row[at].is_empty()) {
            heads.remove(at);
            for row in &mut rows {
                row.remove(at);
            }
        }
    }
    if format == Format::Tsv {
        let troubled = lines.iter().any(|line| line.trouble.is_some());
        heads.insert(0, "Cluster");
        heads.extend(troubled.then_some("Trouble"));
        for (row, line) in rows.iter_mut().zip(lines) {
            row.insert(0, cluster.scope.clone());
            if troubled {
                row.push(line.trouble.unwrap_or_default());
            }
        }
        return tsv(&heads, &rows, out);
    }
    let id = cluster.system_id.as_deref().unwrap_or("uninitialized");
    let title = format!("+ Cluster: {} ({id}) ", cluster.scope);
    pretty(Some(&title), &heads, rows, &[4, 5, 6, 7, 8], out)?;
    if cluster.pause {
        writeln!(out, " Maintenance mode: on")?;
    }
    for (name, trouble) in &cluster.pgwarden.troubles {
        writeln!(out, " {name}: {trouble}")?;
    }
    Ok(())
}

fn line(cluster: &Cluster, row: &Row) -> Line {
    let lag = |value: &Option<Value>| value.as_ref().and_then(Value::as_u64);
    let port = row.port.map_or_else(String::new, |port| format!(":{port}"));
    Line {
        cluster: cluster.scope.clone(),
        member: row.name.clone(),
        host: format!("{}{port}", row.host),
        role: title_case(&row.role),
        state: row.state.clone(),
        timeline: row.timeline,
        receive_lsn: row.receive_lsn.clone(),
        receive_lag: lag(&row.receive_lag),
        replay_lsn: row.replay_lsn.clone(),
        replay_lag: lag(&row.replay_lag),
        pending_restart: row.pending_restart.then_some("*"),
        pending_restart_reason: reasons(&row.pending_restart_reason),
        tags: row.tags.clone(),
        trouble: cluster.pgwarden.troubles.get(&row.name).cloned(),
    }
}

/// `max_connections: 100->120`, a line each.
fn reasons(settings: &BTreeMap<String, PendingRestart>) -> Option<String> {
    let lines = settings
        .iter()
        .map(|(name, change)| format!("{name}: {}->{}", change.old_value, change.new_value));
    (!settings.is_empty()).then(|| lines.collect::<Vec<_>>().join("\n"))
}

fn cells(line: &Line) -> Vec<String> {
    let number = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    let tags: Vec<String> = line
        .tags
        .iter()
        .map(|(name, value)| format!("{name}: {}", plain(value)))
        .collect();
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
        if tags.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", tags.join(", "))
        },
    ]
}

/// `sync_standby` → `Sync Standby`.
fn title_case(role: &str) -> String {
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
    if format == Format::Json {
        let keyed = lines.iter().map(|line| {
            let pairs = HEADS.iter().zip(line.iter());
            pairs
                .map(|(head, value)| ((*head).to_owned(), value.clone()))
                .collect()
        });
        return json_line(&keyed.collect::<Vec<Map<String, Value>>>(), out);
    }
    let row = |line: &&Vec<Value>| {
        (0..HEADS.len())
            .map(|at| line.get(at).map_or_else(String::new, plain))
            .collect()
    };
    let rows: Vec<Vec<String>> = lines.iter().map(row).collect();
    match format {
        Format::Tsv => tsv(&HEADS, &rows, out),
        _ => pretty(None, &HEADS, rows, &[0, 1], out),
    }
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn json_line(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)
}

fn tsv(heads: &[&str], rows: &[Vec<String>], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", heads.join("\t"))?;
    for row in rows {
        // A line stays a line.
        writeln!(out, "{}", row.join("\t").replace('\n', ", "))?;
    }
    Ok(())
}

/// A table with a title in its upper border.
fn pretty(
    title: Option<&str>,
    heads: &[&str],
    rows: Vec<Vec<String>>,
    right: &[usize],
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut table = Table::new();
    let rule = LineStyle::new('+', '-', '+', '+');
    table.load_style(ASCII_FULL_CONDENSED.header_separator(rule));
    table.set_header(heads).add_rows(rows);
    for at in right {
        if let Some(column) = table.column_mut(*at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let text = table.to_string();
    let (top, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let title = title.unwrap_or_default();
    let border: String = top.chars().skip(title.chars().count()).collect();
    writeln!(out, "{title}{border}")?;
    rest.lines().try_for_each(|line| writeln!(out, "{line}"))
}
