//! `ctl flush`: what is scheduled is dropped.

use super::Remote;
use super::ask::agree;
use super::choose::{choose, names};
use super::list::fetch;
use super::remote::Tally;
use crate::cli::verbs::FlushArgs;
use crate::cli::{Exit, Failure};
use serde_json::json;
use std::io::Write;

/// Drop it.
pub(super) async fn run(
    remote: &Remote,
    args: &FlushArgs,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    // patronictl has it at the end, behind the members.
    let mut names = args.members.clone();
    let last = names.len().saturating_sub(1);
    let is_event = |word: &String| matches!(word.as_str(), "restart" | "switchover");
    let at = [0, last]
        .into_iter()
        .find(|at| names.get(*at).is_some_and(is_event));
    let Some(at) = at else {
        let what = "what shall be dropped? expected restart and members, or switchover";
        return Err(Failure::new(Exit::Usage, what));
    };
    match names.remove(at).as_str() {
        "restart" => restarts(remote, args, &names, out).await,
        _ if names.is_empty() => switchover(remote, args, out).await,
        _ => {
            let what = "a switchover is the cluster's: expected no members beside it";
            Err(Failure::new(Exit::Usage, what))
        }
    }
}

async fn restarts(
    remote: &Remote,
    args: &FlushArgs,
    named: &[String],
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let cluster = fetch(remote).await?;
    let chosen = choose(&cluster, named, args.role)?;
    let question = format!("Drop scheduled restarts of members {}?", names(&chosen));
    agree(remote, args.force, &cluster, &question, out)?;
    let mut tally = Tally::new("flush scheduled restart", "flushed");
    for row in chosen {
        let name = &row.name;
        if row.scheduled_restart.is_none() {
            writeln!(out, "No scheduled restart for member {name}")?;
            continue;
        }
        let answer = remote.at(row).send("DELETE", "/restart", &json!({})).await;
        // Gone in the meantime is as good as dropped.
        if let Some(answer) = tally.judge(row, answer, |answer| answer.status == 404, out)?
            && answer.status == 200
        {
            writeln!(out, "Success: flush scheduled restart for member {name}")?;
        }
    }
    tally.end()
}

async fn switchover(
    remote: &Remote,
    args: &FlushArgs,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let cluster = fetch(remote).await?;
    if cluster.scheduled_switchover.is_none() {
        writeln!(out, "No pending scheduled switchover")?;
        return Ok(Exit::Ok);
    }
    let question = "Drop the scheduled switchover?";
    agree(remote, args.force, &cluster, question, out)?;
    let answer = remote.send("DELETE", "/switchover", &json!({})).await?;
    match answer {
        Some(answer) if answer.status == 200 => {
            writeln!(out, "Success: scheduled switchover deleted")?;
            Ok(Exit::Ok)
        }
        Some(answer) if answer.status == 404 => {
            writeln!(out, "No pending scheduled switchover")?;
            Ok(Exit::Ok)
        }
        Some(answer) => Err(super::remote::refused(&answer)),
        None => {
            let what = "nobody answered: the switchover may be dropped; look at the list";
            Err(Failure::new(Exit::Temporary, what))
        }
    }
}
