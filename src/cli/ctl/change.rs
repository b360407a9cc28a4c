//! `ctl switchover` and `ctl failover`: show, ask, send, and wait until the cluster shows it.

use super::Remote;
use super::list::fetch;
use crate::api::client::Answer;
use crate::cli::args::{Act, Format};
use crate::cli::render::{Cluster, members};
use crate::cli::{Exit, Failure};
use serde_json::json;
use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often the cluster is looked at while waiting.
const LOOK: Duration = Duration::from_millis(250);

/// What is wanted.
pub(super) enum Plan<'a> {
    /// Replace the leader.
    Switchover {
        /// Which; `None`: the present one.
        leader: Option<&'a str>,
        /// By whom; `None`: the cluster chooses.
        candidate: Option<&'a str>,
    },
    /// Make this one the leader.
    Failover {
        /// Who.
        candidate: &'a str,
    },
}

/// Carry it out.
pub(super) async fn run(
    remote: &Remote,
    plan: &Plan<'_>,
    act: &Act,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let before = fetch(remote).await?;
    let old = before.leader().map(str::to_owned);
    let (path, body, question) = match plan {
        Plan::Switchover { leader, candidate } => {
            let leader = leader.or(old.as_deref()).ok_or_else(|| {
                let what = "the cluster has no leader to switch over from; \
                            use `pgwarden ctl failover --candidate MEMBER`";
                Failure::new(Exit::Refused, what)
            })?;
            let to = candidate.unwrap_or("the best candidate");
            let mut body = json!({"leader": leader});
            if let Some(candidate) = candidate {
                body["candidate"] = json!(candidate);
            }
            (
                "/switchover",
                body,
                format!("Switch over from {leader} to {to}?"),
            )
        }
        Plan::Failover { candidate } => {
            let question = format!("Fail over to {candidate}? Transactions may be lost.");
            ("/failover", json!({"candidate": candidate}), question)
        }
    };
    if !act.force {
        members(&before, Format::Pretty, out)?;
        confirm(&question, out)?;
    }
    let known = match remote.post(path, &body).await? {
        Some(answer) => judge(&answer, out)?,
        None => false,
    };
    if act.wait == 0 {
        return if known { Ok(Exit::Ok) } else { Err(unknown()) };
    }
    let shown = wait_for_leader(remote, old.as_deref(), Duration::from_secs(act.wait)).await;
    match shown {
        Some(cluster) => {
            members(&cluster, Format::Pretty, out)?;
            Ok(Exit::Ok)
        }
        None => Err(unknown()),
    }
}

pub(super) fn confirm(question: &str, out: &mut dyn Write) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        let what = "nobody is at the terminal to confirm; use --force";
        return Err(Failure::new(Exit::Usage, what));
    }
    write!(out, "{question} [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        Ok(())
    } else {
        Err(Failure::new(
            Exit::Failure,
            "not confirmed: nothing was changed",
        ))
    }
}

/// Whether it is done; false: nobody knows yet.
fn judge(answer: &Answer, out: &mut dyn Write) -> Result<bool, Failure> {
    let text = answer.text();
    match answer.status {
        200..300 => {
            writeln!(out, "{text}")?;
            Ok(true)
        }
        503 if text.contains("status unknown") => {
            writeln!(out, "{text}")?;
            Ok(false)
        }
        401 => {
            let how = "set PGWARDEN_API_USERNAME and PGWARDEN_API_PASSWORD";
            Err(Failure::new(Exit::Refused, format!("{text}: {how}")))
        }
        status => Err(Failure::new(
            Exit::Refused,
            format!("{text} (status {status})"),
        )),
    }
}

fn unknown() -> Failure {
    let what = "the cluster does not show a new leader yet; look at `pgwarden ctl list`";
    Failure::new(Exit::Temporary, what)
}

/// The cluster once another leader runs, or nothing by the deadline.
async fn wait_for_leader(remote: &Remote, old: Option<&str>, wait: Duration) -> Option<Cluster> {
    let deadline = Instant::now() + wait;
    while Instant::now() < deadline {
        if let Ok(cluster) = fetch(remote).await
            && cluster
                .running_leader()
                .is_some_and(|leader| Some(leader) != old)
        {
            return Some(cluster);
        }
        sleep(LOOK).await;
    }
    None
}
