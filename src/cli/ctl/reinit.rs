//! `ctl reinit`: a replica's data is thrown away and copied anew, and how far that is.

use super::Remote;
use super::ask::agree;
use super::choose::{choose, names};
use super::list::fetch;
use super::remote::Tally;
use crate::cli::cluster::Row;
use crate::cli::verbs::{ReinitArgs, Role};
use crate::cli::{Exit, Failure};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often members are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A copy that goes on is told of this often.
const AGAIN: Duration = Duration::from_secs(10);

/// A member that is being copied.
struct Copying<'a> {
    row: &'a Row,
    /// When its PostgreSQL was started before; `None`: it was not running.
    before: Option<String>,
    /// What was told of it last.
    told: String,
    /// When that was, counted from the order.
    told_at: Duration,
}

/// Order the copies, and wait for them if that is wanted.
pub(super) async fn run(
    remote: &Remote,
    args: &ReinitArgs,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let cluster = fetch(remote).await?;
    if args.members.is_empty() {
        let what = format!(
            "which member's data shall be thrown away? expected names; the members are {}",
            cluster.names()
        );
        return Err(Failure::new(Exit::Usage, what));
    }
    let chosen = choose(&cluster, &args.members, Role::Any)?;
    let question = format!(
        "Throw away the data of {} and copy it anew?",
        names(&chosen)
    );
    agree(remote, args.force, &cluster, &question, out)?;
    let body = json!({ "force": args.force, "from_leader": args.from_leader });
    let mut tally = Tally::new("reinitialize", "reinitialized");
    let mut copying = Vec::new();
    for row in chosen {
        let one = remote.at(row);
        let before = match one.get("/patroni").await {
            Ok(status) => started(&status),
            Err(_) => None,
        };
        let answer = one.post("/reinitialize", &body).await;
        if tally.judge(row, answer, |_| false, out)?.is_some() {
            writeln!(out, "Success: reinitialize for member {}", row.name)?;
            copying.push(Copying {
                row,
                before,
                told: String::new(),
                told_at: Duration::ZERO,
            });
        }
    }
    if args.wait && !copying.is_empty() {
        wait(remote, copying, Duration::from_secs(args.timeout), out).await?;
    }
    tally.end()
}

/// How much has been copied, where the member tells.
fn progress(status: &Value) -> String {
    let bytes = |at: usize| status["pgwarden"]["cloning"][at].as_u64();
    match (bytes(0), bytes(1)) {
        (Some(done), Some(all)) if all > 0 => {
            format!(", {}% of {} MiB", done.min(all) * 100 / all, all >> 20)
        }
        _ => String::new(),
    }
}

/// When the server was started, if it runs.
fn started(status: &Value) -> Option<String> {
    let runs = status["state"] == "running";
    status["postmaster_start_time"]
        .as_str()
        .filter(|_| runs)
        .map(str::to_owned)
}

async fn wait(
    remote: &Remote,
    mut copying: Vec<Copying<'_>>,
    patience: Duration,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let begun = Instant::now();
    while !copying.is_empty() {
        if begun.elapsed() >= patience {
            let left: Vec<_> = copying.iter().map(|copy| copy.row.name.as_str()).collect();
            let what = format!(
                "not complete after {} s: {}; the copies go on",
                patience.as_secs(),
                left.join(", ")
            );
            return Err(Failure::new(Exit::Temporary, what));
        }
        let mut left = Vec::new();
        for mut copy in copying {
            let status = remote.at(copy.row).get("/patroni").await;
            if tell(&mut copy, status.ok().as_ref(), begun.elapsed(), out)? {
                left.push(copy);
            }
        }
        copying = left;
        if !copying.is_empty() {
            sleep(LOOK).await;
        }
    }
    Ok(())
}

/// Tell what is new; whether the copy is still to be waited for. A server that was started after
/// the order is the copy's.
fn tell(
    copy: &mut Copying<'_>,
    status: Option<&Value>,
    since: Duration,
    out: &mut dyn Write,
) -> io::Result<bool> {
    let name = &copy.row.name;
    let now = status.and_then(started);
    if now.is_some() && now != copy.before {
        writeln!(
            out,
            "Reinitialize is completed on: {name} ({} s)",
            since.as_secs()
        )?;
        return Ok(false);
    }
    let state = match status {
        None => "does not answer",
        // Its old server, until the agent gets to it.
        Some(_) if now.is_some() => "waiting for it to begin",
        Some(status) => status["state"].as_str().unwrap_or("unknown"),
    };
    let state = format!("{state}{}", status.map(progress).unwrap_or_default());
    if copy.told != state || since >= copy.told_at + AGAIN {
        copy.told.clone_from(&state);
        copy.told_at = since;
        writeln!(out, "{name}: {state} ({} s)", since.as_secs())?;
        out.flush()?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_is_told_once_and_the_new_server_ends_it() {
        let row = Row {
            name: "pg-1".to_owned(),
            ..Row::default()
        };
        let mut copy = Copying {
            row: &row,
            before: Some("10:00".to_owned()),
            told: String::new(),
            told_at: Duration::ZERO,
        };
        let status = |state: &str, at: &str| json!({ "state": state, "postmaster_start_time": at });
        let steps = [
            Some(status("running", "10:00")),
            Some(json!({ "state": "creating replica" })),
            Some(json!({ "state": "creating replica" })),
            Some(
                json!({ "state": "creating replica", "pgwarden": { "cloning": [1 << 20, 4 << 20] } }),
            ),
            None,
            Some(status("starting", "10:05")),
            Some(status("running", "10:05")),
        ];
        let mut out = Vec::new();
        let ends: Vec<bool> = [0, 1, 2, 11, 12, 13, 14]
            .into_iter()
            .zip(&steps)
            .map(|(at, step)| {
                tell(&mut copy, step.as_ref(), Duration::from_secs(at), &mut out).expect("told")
            })
            .collect();
        assert_eq!(ends, [true, true, true, true, true, true, false]);
        let told = "pg-1: waiting for it to begin (0 s)\npg-1: creating replica (1 s)\n\
                    pg-1: creating replica, 25% of 4 MiB (11 s)\npg-1: does not answer (12 s)\n\
                    pg-1: starting (13 s)\nReinitialize is completed on: pg-1 (14 s)\n";
        assert_eq!(String::from_utf8(out).expect("text"), told);
    }
}
