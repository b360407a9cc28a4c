//! `ctl demote-cluster` and `ctl promote-cluster`: a cluster begins to follow a primary of another
//! one, or stops doing so. Both are a key of the dynamic configuration.

use super::Remote;
use super::ask::agree;
use super::list::look;
use crate::cli::verbs::{DemoteArgs, PromoteArgs};
use crate::cli::{Exit, Failure};
use serde_json::{Map, Value, json};
use std::io::Write;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often the cluster is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How long the leader may take to change its role.
const PATIENCE: Duration = Duration::from_mins(2);

/// Make it follow.
pub(super) async fn demote(
    remote: &Remote,
    args: &DemoteArgs,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let mut standby = Map::new();
    let texts = [
        ("host", &args.host),
        ("restore_command", &args.restore_command),
        ("primary_slot_name", &args.primary_slot_name),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            standby.insert(key.to_owned(), Value::from(text.as_str()));
        }
    }
    if let Some(port) = args.port {
        standby.insert("port".to_owned(), Value::from(port));
    }
    if args.host.is_none() && args.restore_command.is_none() {
        let what = "at least one of --host and --restore-command is needed: whom or what is to be \
                    followed?";
        return Err(Failure::new(Exit::Usage, what));
    }
    let before = look(remote).await?;
    if follows(remote).await? {
        return Err(Failure::new(Exit::Refused, "Cluster is already a standby"));
    }
    let question = "Make this cluster a standby of another one? Nobody can write here then.";
    agree(remote, args.force, &before, question, out)?;
    let change = json!({ "standby_cluster": standby });
    carry_out(remote, &change, true, out).await
}

/// Let it stand alone.
pub(super) async fn promote(
    remote: &Remote,
    args: &PromoteArgs,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let before = look(remote).await?;
    if !follows(remote).await? {
        let what = "Cluster is not in the required standby state: it has no standby_cluster";
        return Err(Failure::new(Exit::Refused, what));
    }
    let question = "Promote this standby cluster? Make sure that its source takes no more writes.";
    agree(remote, args.force, &before, question, out)?;
    let change = json!({ "standby_cluster": null });
    carry_out(remote, &change, false, out).await
}

/// By what is configured: its leader may be down.
async fn follows(remote: &Remote) -> Result<bool, Failure> {
    let config = remote.get("/config").await?;
    let standby = config["standby_cluster"].as_object();
    let keys = ["host", "port", "restore_command"];
    Ok(standby.is_some_and(|section| keys.iter().any(|key| section.contains_key(*key))))
}

async fn carry_out(
    remote: &Remote,
    change: &Value,
    standby: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    remote.patch_config(change).await?;
    let deadline = Instant::now() + PATIENCE;
    let (role, done) = if standby {
        ("standby_leader", "demoted")
    } else {
        ("primary", "promoted")
    };
    loop {
        if let Ok(cluster) = look(remote).await
            && let Some(row) = cluster.members.iter().find(|row| row.leads())
            // Its own word: the list goes by what is configured.
            && let Ok(status) = remote.at(row).get("/patroni").await
            && status["role"] == role
            && status["state"] == "running"
        {
            writeln!(out, "Success: cluster is successfully {done}")?;
            return Ok(Exit::Ok);
        }
        if Instant::now() >= deadline {
            let what =
                "it is stored, and the leader has not changed its role yet: look at the list";
            return Err(Failure::new(Exit::Temporary, what));
        }
        sleep(LOOK).await;
    }
}
