//! `ctl restart`: one member after the other, replicas first, so that one of them is back before
//! the leader goes; or at a time that is set.

use super::Remote;
use super::ask::agree;
use super::choose::{choose, names};
use super::list::fetch;
use super::remote::Tally;
use super::when;
use crate::api::client::Answer;
use crate::cli::verbs::RestartArgs;
use crate::cli::{Exit, Failure};
use serde_json::json;
use std::io::Write;
use std::time::Duration;

/// A restart on a condition that does not hold, in Patroni's words.
const NOT_MET: &str = "restart conditions are not satisfied";

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
    let as_good = |answer: &Answer| conditional && answer.text() == NOT_MET;
    let mut tally = Tally::new("restart", "restarted");
    let mut left = chosen.into_iter();
    for row in left.by_ref() {
        let one = remote.at(row);
        let answer = one.send_within("POST", "/restart", &body, patience).await;
        match tally.judge(row, answer, as_good, out)? {
            Some(answer) if answer.status == 202 => {
                writeln!(out, "Success: restart scheduled on member {}", row.name)?;
            }
            Some(answer) if answer.status == 200 => {
                writeln!(out, "Success: restart on member {}", row.name)?;
            }
            Some(_) => {}
            // What keeps one server from starting would keep the next one too, the leader's last.
            None if tally.was_told_of_failure() => break,
            None => {}
        }
        out.flush()?;
    }
    for row in left {
        writeln!(
            out,
            "Not restarted: {}, since another one did not come back",
            row.name
        )?;
    }
    tally.end()
}
