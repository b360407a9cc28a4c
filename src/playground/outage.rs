//! The API is gone for everybody, for long: without failsafe mode a primary stops in time, with it
//! nobody notices; and one member that does not promise is enough to stop it.

use super::cluster::Cluster;
use super::processes;
use crate::api::client;
use crate::sys::process::{Signal, signal};
use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::time::sleep;

const WITHIN: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);

/// Nobody reaches the API.
pub(super) async fn for_all(cluster: &Cluster) {
    set_cuts(cluster, true);
    sleep(length(cluster)).await;
    set_cuts(cluster, false);
}

/// The same in failsafe mode: the primary that was there serves on.
pub(super) async fn in_failsafe(cluster: &Cluster, primary: usize) -> anyhow::Result<()> {
    switch_on(cluster, primary).await?;
    let data_dir = cluster.keepers[primary].member.data_dir();
    let before = processes::postmaster_of(&data_dir).context("find the postmaster")?;
    for_all(cluster).await;
    let after = processes::postmaster_of(&data_dir);
    switch_off(cluster, primary).await?;
    if after != Some(before) {
        bail!("the primary was stopped although everybody could promise");
    }
    Ok(())
}

/// The same, and a replica's agent hangs: the primary stops in time, and another leads where the
/// API is reached.
pub(super) async fn with_a_hung_member(
    cluster: &Cluster,
    primary: usize,
    replica: usize,
) -> anyhow::Result<()> {
    switch_on(cluster, primary).await?;
    let guardian = cluster.keepers[replica].seen().guardian;
    let hung = guardian.and_then(processes::agent_of);
    let hung = hung.context("find the replica's agent")?;
    let known = processes::started_at(hung);
    cluster.set_cut(primary, true);
    sleep(length(cluster) / 2).await;
    signal(hung, Signal::SIGSTOP);
    sleep(length(cluster)).await;
    if processes::started_at(hung) == known {
        signal(hung, Signal::SIGCONT);
    }
    cluster.set_cut(primary, false);
    switch_off(cluster, primary).await
}

fn length(cluster: &Cluster) -> Duration {
    cluster.outage
}

fn set_cuts(cluster: &Cluster, cut: bool) {
    for number in 0..cluster.keepers.len() {
        cluster.set_cut(number, cut);
    }
}

/// Until the map in the record names everybody.
async fn switch_on(cluster: &Cluster, primary: usize) -> anyhow::Result<()> {
    set(cluster, primary, json!(true)).await?;
    let url = format!("{}/failsafe", cluster.keepers[primary].member.api_url());
    let begun = Instant::now();
    loop {
        let map = client::get_json(&url, WITHIN).await;
        let listed = map.as_ref().ok().and_then(|(_, map)| map.as_object());
        if listed.is_some_and(|map| map.len() == cluster.keepers.len()) {
            return Ok(());
        }
        if begun.elapsed() > WITHIN {
            bail!("the failsafe map does not name everybody: {map:?}");
        }
        sleep(PAUSE).await;
    }
}

/// Whoever leads by now stores it; a leader that has just heard of the API again may not yet.
async fn switch_off(cluster: &Cluster, asked: usize) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        match set(cluster, asked, Value::Null).await {
            Err(error) if begun.elapsed() > WITHIN => return Err(error),
            Err(_) => sleep(PAUSE).await,
            Ok(()) => return Ok(()),
        }
    }
}

async fn set(cluster: &Cluster, asked: usize, mode: Value) -> anyhow::Result<()> {
    change(cluster, asked, json!({ "failsafe_mode": mode })).await
}

/// Maintenance mode ends while its primary is cut off. It goes on, since its record says that no
/// deadline runs; the others, who know of the end, leave it alone; and it hears of it at last.
pub(super) async fn resume_while_cut(cluster: &Cluster, primary: usize) -> anyhow::Result<()> {
    let data_dir = cluster.keepers[primary].member.data_dir();
    let before = processes::postmaster_of(&data_dir).context("find the postmaster")?;
    change(cluster, primary, json!({ "pause": true })).await?;
    until_marked(cluster, true).await?;
    cluster.set_cut(primary, true);
    let other = (primary + 1) % cluster.keepers.len();
    let resumed = change(cluster, other, json!({ "pause": null })).await;
    sleep(length(cluster)).await;
    let after = processes::postmaster_of(&data_dir);
    cluster.set_cut(primary, false);
    resumed?;
    if after != Some(before) {
        bail!("the primary was stopped although its record has the mark");
    }
    until_marked(cluster, false).await
}

/// Until the lock's record says so.
async fn until_marked(cluster: &Cluster, marked: bool) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let lock = cluster.kubelet.lock().await.unwrap_or_default();
        let note = lock["metadata"]["annotations"]
            .to_string()
            .replace('\\', "");
        if !note.is_empty() && note.contains("\"paused\":true") == marked {
            return Ok(());
        }
        if begun.elapsed() > WITHIN {
            bail!("the mark of maintenance mode should be {marked} in {note}");
        }
        sleep(PAUSE).await;
    }
}

async fn change(cluster: &Cluster, asked: usize, change: Value) -> anyhow::Result<()> {
    let url = format!("{}/config", cluster.keepers[asked].member.api_url());
    let answer = client::send_json("PATCH", &url, &change, None, WITHIN).await?;
    if answer.status != 200 {
        bail!("PATCH /config: {}: {}", answer.status, answer.text());
    }
    Ok(())
}
