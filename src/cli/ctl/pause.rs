//! `ctl pause` and `ctl resume`: maintenance mode is a key of the dynamic configuration.

use super::Remote;
use super::list::look;
use crate::cli::{Exit, Failure};
use serde_json::{Value, json};
use std::io::Write;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often members are asked whether they know it.
const LOOK: Duration = Duration::from_millis(500);
/// How long they may take to know it.
const PATIENCE: Duration = Duration::from_mins(1);

/// Suspend automatic failover, or take it up again.
pub(super) async fn run(
    remote: &Remote,
    pause: bool,
    wait: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let cluster = look(remote).await?;
    if cluster.pause == pause {
        let what = if pause {
            "Cluster is already paused"
        } else {
            "Cluster is not paused"
        };
        return Err(Failure::new(Exit::Refused, what));
    }
    let (verb, done) = if pause {
        ("pause", "paused")
    } else {
        ("resume", "resumed")
    };
    let value = if pause { json!(true) } else { Value::Null };
    remote.patch_config(&json!({ "pause": value })).await?;
    if wait {
        writeln!(
            out,
            "'{verb}' request sent, waiting until it is recognized by all nodes"
        )?;
        out.flush()?;
        recognized(remote, pause).await?;
    }
    writeln!(out, "Success: cluster management is {done}")?;
    Ok(Exit::Ok)
}

/// Until every member that has an address says so.
async fn recognized(remote: &Remote, pause: bool) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut late = Vec::new();
        if let Ok(cluster) = look(remote).await {
            for row in cluster.members.iter().filter(|row| !row.api_url.is_empty()) {
                let status = remote.at(row).get("/patroni").await;
                let knows = status.is_ok_and(|status| (status["pause"] == true) == pause);
                late.extend((!knows).then(|| row.name.clone()));
            }
            if late.is_empty() {
                return Ok(());
            }
        }
        if Instant::now() >= deadline {
            let what = format!(
                "it is stored, and after {} s not known by {}",
                PATIENCE.as_secs(),
                late.join(", ")
            );
            return Err(Failure::new(Exit::Temporary, what));
        }
        sleep(LOOK).await;
    }
}
