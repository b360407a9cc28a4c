//! When is the cluster whole: one primary that takes writes, and all others stream from it on its
//! timeline; with synchronous replication, one of them is its standby and published as such.

use super::cluster::Cluster;
use super::ledger::{Ledger, Us};
use super::member::Member;
use super::sql::Connection;
use crate::api::client;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep;

const PAUSE: Duration = Duration::from_millis(100);
const ASK: Duration = Duration::from_secs(2);
/// How long a recorded container id is waited for: the agent may read it 2 s after the start.
const RECORDED_WITHIN: Duration = Duration::from_secs(8);

/// A cluster that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    /// Who leads.
    pub(super) primary: usize,
    /// On which timeline.
    pub(super) timeline: u32,
}

/// Waits until the cluster is whole; the reason why it is not, if the deadline passes.
pub(super) async fn until_whole(cluster: &Cluster, within: Duration) -> Result<Whole, String> {
    let begun = Instant::now();
    loop {
        let why = match look(cluster).await {
            Ok(whole) => return Ok(whole),
            Err(why) => why,
        };
        if begun.elapsed() > within {
            return Err(format!("not whole within {} s: {why}", within.as_secs()));
        }
        sleep(PAUSE).await;
    }
}

/// Waits for an acknowledgement by the member after the given instant.
pub(super) async fn until_written(
    ledger: &Ledger,
    member: usize,
    after_us: Us,
    within: Duration,
) -> Result<(), String> {
    let begun = Instant::now();
    while ledger
        .last_ack_us(member)
        .is_none_or(|at_us| at_us <= after_us)
    {
        if begun.elapsed() > within {
            return Err(format!(
                "pg-{member} acknowledged nothing within {} s",
                within.as_secs()
            ));
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Waits until the lock names the leader's present container, as far as that is to be expected:
/// an accident sooner than that would only show the wait of a whole TTL.
pub(super) async fn until_recorded(cluster: &Cluster, primary: usize) {
    let begun = Instant::now();
    while cluster.terminated && begun.elapsed() < RECORDED_WITHIN {
        let id = cluster.keepers[primary].seen().container_id;
        let lock = cluster.kubelet.lock().await.unwrap_or_default();
        if lock["metadata"]["annotations"].to_string().contains(&id) {
            return;
        }
        sleep(PAUSE).await;
    }
}

async fn look(cluster: &Cluster) -> Result<Whole, String> {
    let members: Vec<Arc<Member>> = cluster.members().cloned().collect();
    let mut roles = Vec::new();
    for member in &members {
        roles.push(
            role(member)
                .await
                .ok_or(format!("{} does not answer", member.name))?,
        );
    }
    let primaries: Vec<usize> = (0..roles.len())
        .filter(|number| roles[*number].is_primary)
        .collect();
    let [primary] = primaries[..] else {
        return Err(format!("{} members are out of recovery", primaries.len()));
    };
    let timeline = roles[primary].timeline;
    for (number, role) in roles.iter().enumerate() {
        if number != primary && role.timeline != timeline {
            let found = role.timeline;
            return Err(format!(
                "pg-{number} streams on timeline {found}, not on {timeline}"
            ));
        }
    }
    streaming(&members, primary, cluster.sync.waits()).await?;
    if cluster.sync.waits() && members.len() > 1 {
        published(&members[primary]).await?;
    }
    Ok(Whole { primary, timeline })
}

struct Role {
    is_primary: bool,
    /// Of the WAL it writes, or of the stream it receives; 0: no stream.
    timeline: u32,
}

async fn role(member: &Member) -> Option<Role> {
    let connection = Connection::open(member, "exercise check").await?;
    let row = connection.row("SELECT pg_is_in_recovery()").await?;
    let is_primary = !row.get::<_, bool>(0);
    let query = if is_primary {
        "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int"
    } else {
        "SELECT coalesce((SELECT received_tli FROM pg_stat_wal_receiver \
         WHERE status = 'streaming'), 0)"
    };
    let timeline = connection
        .row(query)
        .await?
        .get::<_, i32>(0)
        .cast_unsigned();
    Some(Role {
        is_primary,
        timeline,
    })
}

/// The primary sees all others stream, one of them synchronously if that is asked for.
async fn streaming(members: &[Arc<Member>], primary: usize, sync: bool) -> Result<(), String> {
    let leader = &members[primary];
    let gone = || format!("{} does not answer", leader.name);
    let connection = Connection::open(leader, "exercise check")
        .await
        .ok_or_else(gone)?;
    let query = "SELECT application_name, sync_state FROM pg_stat_replication \
                 WHERE state = 'streaming'";
    let rows = connection.rows(query).await.ok_or_else(gone)?;
    let streams: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let missing = members
        .iter()
        .find(|member| member.number != primary && !streams.contains(&member.name));
    if let Some(member) = missing {
        return Err(format!(
            "{} does not stream from {}",
            member.name, leader.name
        ));
    }
    let is_sync = rows.iter().any(|row| row.get::<_, String>(1) != "async");
    if sync && members.len() > 1 && !is_sync {
        return Err("no standby is synchronous".to_owned());
    }
    Ok(())
}

/// The leader names a synchronous standby: before that, nobody may take over.
async fn published(leader: &Member) -> Result<(), String> {
    let url = format!("{}/cluster", leader.api_url());
    let (_, body) = client::get_json(&url, ASK)
        .await
        .map_err(|error| error.to_string())?;
    let members = body["members"].as_array().cloned().unwrap_or_default();
    if members
        .iter()
        .any(|member| member["role"] == "sync_standby" || member["role"] == "quorum_standby")
    {
        return Ok(());
    }
    Err("no synchronous standby is published".to_owned())
}
