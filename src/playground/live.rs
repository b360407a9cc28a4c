//! For people: how to reach the cluster, and a table of it that is refreshed in place.

use super::cluster::Cluster;
use super::member::Member;
use super::{journal, report};
use crate::api::client;
use crate::cli::exit::Exit;
use crate::dcs::codec::lease;
use crate::sys::clock::boottime_ms;
use comfy_table::presets::ASCII_FULL_CONDENSED;
use comfy_table::{LineStyle, Table};
use serde_json::Value;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

const REFRESH: Duration = Duration::from_secs(1);
const ASK: Duration = Duration::from_millis(800);
/// Steps read of each journal, and decisions shown of all.
const STEPS: usize = 200;
const DECISIONS: usize = 8;
const LINE_CHARS: usize = 150;
/// To the top left, and everything below is erased: the picture stays in its place.
const HOME: &str = "\x1b[H\x1b[J";

/// Shows the cluster until somebody ends the playground.
pub(super) async fn run(cluster: &Cluster) -> anyhow::Result<Exit> {
    let mut lock = Lock::default();
    loop {
        let picture = picture(cluster, &mut lock).await;
        let mut out = std::io::stdout().lock();
        write!(out, "{HOME}{picture}")?;
        out.flush()?;
        drop(out);
        sleep(REFRESH).await;
    }
}

async fn picture(cluster: &Cluster, lock: &mut Lock) -> String {
    let sync = cluster.sync.word();
    let (version, ttl_s) = (&cluster.installation.text, cluster.ttl_s);
    let psql =
        |member: &Arc<Member>| format!("  {}:  psql {}", member.name, member.connection_string());
    let urls: Vec<String> = cluster.members().map(|member| member.api_url()).collect();
    let api = urls.first().map_or("", String::as_str);
    let mut lines = vec![
        format!(
            "pgwarden playground: PostgreSQL {version}, lease TTL {ttl_s} s, \
             synchronous replication {sync}"
        ),
        String::new(),
    ];
    lines.extend(cluster.members().map(psql));
    lines.extend([
        String::new(),
        members(cluster).await.to_string(),
        lock.look(cluster).await,
    ]);
    lines.push("last decisions:".to_owned());
    let indented = |line: String| line.chars().take(LINE_CHARS).collect::<String>();
    lines.extend(
        last_decisions(cluster)
            .await
            .into_iter()
            .map(|line| indented(format!("  {line}"))),
    );
    lines.extend([
        String::new(),
        format!("try:  pgwarden ctl list --api {api}"),
        format!("      pgwarden ctl switchover --force --api {api}"),
        format!("      pgwarden explain --api {}", urls.join(",")),
        "Ctrl-C ends everything and leaves nothing behind".to_owned(),
    ]);
    lines.join("\n") + "\n"
}

async fn members(cluster: &Cluster) -> Table {
    let mut table = Table::new();
    let rule = LineStyle::new('+', '-', '+', '+');
    table.load_style(ASCII_FULL_CONDENSED.header_separator(rule));
    table.set_header([
        "member", "role", "state", "timeline", "LSN", "lag", "starts",
    ]);
    let known = leader_view(cluster).await;
    for keeper in &cluster.keepers {
        let (member, seen) = (&keeper.member, keeper.seen());
        let row = known.iter().find(|row| row["name"] == member.name.as_str());
        let text = |key: &str| row.map_or(String::new(), |row| plain(&row[key]));
        let state = if seen.guardian.is_none() {
            "down".to_owned()
        } else {
            text("state")
        };
        let mut lsn = text("lsn");
        if lsn.is_empty() {
            lsn = own_lsn(member).await;
        }
        table.add_row([
            member.name.clone(),
            text("role"),
            state,
            text("timeline"),
            lsn,
            text("lag"),
            seen.starts.to_string(),
        ]);
    }
    table
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The rows of `/cluster`, from the first member that answers.
async fn leader_view(cluster: &Cluster) -> Vec<Value> {
    for member in cluster.members() {
        let url = format!("{}/cluster", member.api_url());
        if let Ok((_, body)) = client::get_json(&url, ASK).await
            && let Some(rows) = body["members"].as_array()
        {
            return rows.clone();
        }
    }
    Vec::new()
}

/// A leader's position, which `/cluster` does not tell.
async fn own_lsn(member: &Member) -> String {
    let url = format!("{}/patroni", member.api_url());
    let Ok((_, body)) = client::get_json(&url, ASK).await else {
        return String::new();
    };
    let location = body["xlog"]["location"].as_u64();
    location.map_or_else(String::new, |lsn| {
        format!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF)
    })
}

async fn last_decisions(cluster: &Cluster) -> Vec<String> {
    let mut all = Vec::new();
    for member in cluster.members() {
        all.extend(journal::read(member, STEPS).await);
    }
    all.sort_by_key(|entry| entry.at);
    report::decisions(&all, DECISIONS)
}

/// The lock as it was last seen to change.
#[derive(Default)]
struct Lock {
    version: String,
    changed_ms: u64,
}

impl Lock {
    async fn look(&mut self, cluster: &Cluster) -> String {
        let Ok(lock) = cluster.kubelet.lock().await else {
            return "lock: there is none".to_owned();
        };
        let now_ms = boottime_ms();
        let version = plain(&lock["metadata"]["resourceVersion"]);
        if version != self.version {
            self.version = version;
            self.changed_ms = now_ms;
        }
        let fields = lease::spec(cluster.kubelet.dialect(), &lock);
        let holder = plain(&fields["holderIdentity"]);
        format!(
            "lock: {}, epoch {}, unchanged for {:.1} s",
            if holder.is_empty() {
                "released"
            } else {
                &holder
            },
            plain(&fields["leaseTransitions"]),
            (now_ms - self.changed_ms) as f64 / 1000.0,
        )
    }
}
