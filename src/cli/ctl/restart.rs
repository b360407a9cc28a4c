//! `ctl restart`: one member after the other, replicas first, so that one of them is back before
//! the leader goes; or at a time that is set.

use super::Remote;
use super::ask::agree;
use super::choose::{choose, names};
use super::list::fetch;
use super::remote::Tally;
use super::when;
use crate::cli::verbs::RestartArgs;
use crate::cli::{Exit, Failure};
use serde_json::json;
use std::io::Write;
use std::time::Duration;

/// Restart them.
pub(super) async fn run(
    remote: &Remote,
    args: &RestartArgs,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let text = args.scheduled.as_deref().unwrap_or_default();
    let at = when::parse(text, jiff::Timestamp::now())?;
    let cluster = fetch(remote).await?;
    let mut chosen = choose(&cluster, &args.choice.members, args.choice.role)?;
    if args.any {
        // The leader comes last: one of the others where there is one.
        chosen.truncate(1);
    }
    let time = at.map_or_else(String::new, |at| format!(" at {}", when::wire(at)));
    let question = format!("Restart members {}{time}?", names(&chosen));
    agree(remote, args.force, &cluster, &question, out)?;
    let patience = Duration::from_secs(args.timeout + 5);
    let mut body = json!({ "restart_pending": args.pending, "timeout": args.timeout });
    if let Some(at) = at {
        body["schedule"] = json!(when::wire(at));
    }
    if let Some(version) = &args.pg_version {
        body["postgres_version"] = json!(version);
    }
    // Nothing to restart is no failure where it was asked for on a condition.
    let conditional = args.pending || args.pg_version.is_some();
    let as_good: &[u16] = if conditional { &[503] } else { &[] };
    let mut tally = Tally::new("restart", "restarted");
    for row in chosen {
        let one = remote.at(row);
        let answer = one.send_within("POST", "/restart", &body, patience).await;
        match tally.judge(row, answer, as_good, out)? {
            Some(answer) if answer.status == 202 => {
                writeln!(out, "Success: restart scheduled on member {}", row.name)?;
            }
            Some(answer) if answer.status == 200 => {
                writeln!(out, "Success: restart on member {}", row.name)?;
            }
            _ => {}
        }
        out.flush()?;
    }
    tally.end()
}
