//! `ctl switchover` and `ctl failover`: show, ask, send, and wait until the cluster shows it.

use super::Remote;
use super::ask::agree;
use super::choose::stranger;
use super::list::fetch;
use super::loss::given_up;
use super::remote::refused;
use super::when;
use crate::api::client::Answer;
use crate::cli::cluster::Cluster;
use crate::cli::render::{Manner, members};
use crate::cli::verbs::{Act, FailoverArgs, SwitchoverArgs};
use crate::cli::{Exit, Failure};
use serde_json::{Value, json};
use std::io::Write;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often the cluster is looked at while waiting.
const LOOK: Duration = Duration::from_millis(250);

/// What is sent, and asked before.
struct Plan<'a> {
    path: &'static str,
    body: Value,
    question: String,
    act: &'a Act,
}

/// Replace the leader, now or at a time.
pub(super) async fn switchover(
    remote: &Remote,
    args: &SwitchoverArgs,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let text = args.scheduled.as_deref().unwrap_or_default();
    let at = when::parse(text, jiff::Timestamp::now())?;
    let before = fetch(remote).await?;
    let leader = given(args.leader.as_deref()).or(before.leader());
    let leader = leader.ok_or_else(|| {
        let what = "the cluster has no leader to switch over from; \
                    use `pgwarden ctl failover --candidate MEMBER`";
        Failure::new(Exit::Refused, what)
    })?;
    let candidate = given(args.candidate.as_deref());
    known(&before, candidate)?;
    let mut body = json!({ "leader": leader });
    if let Some(candidate) = candidate {
        body["candidate"] = json!(candidate);
    }
    let mut time = String::new();
    if let Some(at) = at {
        let at = when::wire(at);
        time = format!(" at {at}");
        body["scheduled_at"] = json!(at);
    }
    let to = candidate.unwrap_or("the best candidate");
    let plan = Plan {
        path: "/switchover",
        body,
        question: format!("Switch over from {leader} to {to}{time}?"),
        act: &args.act,
    };
    carry_out(remote, &before, &plan, out).await
}

/// Make this one the leader.
pub(super) async fn failover(
    remote: &Remote,
    args: &FailoverArgs,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    if let Some(holder) = &args.holder_is_dead {
        return vouch(remote, holder, &args.act, out).await;
    }
    let Some(candidate) = given(args.candidate.as_deref()) else {
        // Patroni's words.
        let what = "Failover could be performed only to a specific candidate";
        return Err(Failure::new(Exit::Usage, what));
    };
    let before = fetch(remote).await?;
    known(&before, Some(candidate))?;
    let lost = given_up(&before, candidate, is_synchronous(remote).await);
    let mut question = format!("Fail over to {candidate}? Transactions may be lost.");
    let mut body = json!({ "candidate": candidate });
    if args.accept_data_loss || lost.is_some() {
        body["accept_data_loss"] = json!(true);
    }
    if let Some(lost) = lost {
        // Scripts made for patronictl do not know the word; they are told all the same.
        if !args.accept_data_loss && !remote.manner().is_patronictl() {
            let what = format!("{lost}; if that is to be: --accept-data-loss");
            return Err(Failure::new(Exit::Refused, what));
        }
        writeln!(out, "{lost}")?;
        question = format!("Fail over to {candidate} all the same?");
    }
    let plan = Plan {
        path: "/failover",
        body,
        question,
        act: &args.act,
    };
    carry_out(remote, &before, &plan, out).await
}

/// Whether commits wait for standbys. What cannot be read is not known to be so.
async fn is_synchronous(remote: &Remote) -> bool {
    let config = remote.get("/config").await.unwrap_or_default();
    match &config["synchronous_mode"] {
        Value::Bool(on) => *on,
        Value::String(mode) => !matches!(mode.as_str(), "off" | "false"),
        _ => false,
    }
}

/// Say what only a person can know.
async fn vouch(
    remote: &Remote,
    holder: &str,
    act: &Act,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let before = fetch(remote).await?;
    let plan = Plan {
        path: "/failover",
        body: json!({ "holder_is_dead": holder }),
        question: format!(
            "Is the PostgreSQL of {holder} surely dead? If it still runs, two primaries write, and \
             what one of them commits is lost."
        ),
        act: &Act {
            // An election follows, or in maintenance mode none.
            wait: 0,
            ..act.clone()
        },
    };
    carry_out(remote, &before, &plan, out).await
}

/// Operators give an empty name for none.
fn given(name: Option<&str>) -> Option<&str> {
    name.filter(|name| !name.is_empty())
}

fn known(cluster: &Cluster, candidate: Option<&str>) -> Result<(), Failure> {
    match candidate {
        Some(name) if !cluster.members.iter().any(|row| row.name == name) => {
            Err(stranger(cluster, name))
        }
        _ => Ok(()),
    }
}

async fn carry_out(
    remote: &Remote,
    before: &Cluster,
    plan: &Plan<'_>,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let old = before.leader();
    agree(remote, plan.act.force, before, &plan.question, out)?;
    let known = match remote.post(plan.path, &plan.body).await? {
        Some(answer) => {
            let known = judge(&answer, out)?;
            if answer.status == 202 {
                return Ok(Exit::Ok);
            }
            known
        }
        None => false,
    };
    if plan.act.wait == 0 {
        return if known { Ok(Exit::Ok) } else { Err(unknown()) };
    }
    match wait_for_leader(remote, old, Duration::from_secs(plan.act.wait)).await {
        Some(cluster) => {
            members(&cluster, Manner::TABLE, out)?;
            Ok(Exit::Ok)
        }
        None => Err(unknown()),
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
        _ => Err(refused(answer)),
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
