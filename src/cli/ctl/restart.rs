//! `ctl restart`: one member after the other, replicas first, so that one of them is back before
//! the leader goes.

use super::Remote;
use super::change::confirm;
use super::list::fetch;
use crate::cli::args::{Format, RestartArgs, Role};
use crate::cli::render::{Cluster, members};
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
    let cluster = fetch(remote).await?;
    let chosen = choose(&cluster, args)?;
    if !args.force {
        members(&cluster, Format::Pretty, out)?;
        let names: Vec<_> = chosen.iter().map(|(name, _)| name.as_str()).collect();
        confirm(&format!("Restart members {}?", names.join(", ")), out)?;
    }
    let patience = Duration::from_secs(args.timeout + 5);
    let body = json!({ "restart_pending": args.pending, "timeout": args.timeout });
    let mut failed = 0;
    for (name, url) in &chosen {
        let one = remote.at(url);
        match one.send_within("POST", "/restart", &body, patience).await {
            Ok(Some(answer)) if answer.status == 200 => {
                writeln!(out, "Success: restart on member {name}")?;
            }
            Ok(Some(answer)) => {
                // Patroni's words, which scripts look for.
                let (status, text) = (answer.status, answer.text());
                writeln!(
                    out,
                    "Failed: restart for member {name}, status code={status}, ({text})"
                )?;
                failed += usize::from(!(args.pending && status == 503));
            }
            Ok(None) => {
                failed += 1;
                writeln!(
                    out,
                    "Failed: restart for member {name}, it did not answer in time"
                )?;
            }
            Err(failure) => {
                failed += 1;
                writeln!(out, "Failed: restart for member {name}, {failure}")?;
            }
        }
    }
    if failed > 0 {
        return Err(Failure::new(
            Exit::Refused,
            format!("{failed} of {} not restarted", chosen.len()),
        ));
    }
    Ok(Exit::Ok)
}

/// Names and addresses, the leader last.
fn choose(cluster: &Cluster, args: &RestartArgs) -> Result<Vec<(String, String)>, Failure> {
    let all = cluster.addresses();
    for name in &args.members {
        if !all.iter().any(|(known, _, _)| known == name) {
            let known: Vec<_> = all.iter().map(|(name, _, _)| name.as_str()).collect();
            let what = format!(
                "there is no member {name}; the members are {}",
                known.join(", ")
            );
            return Err(Failure::new(Exit::Usage, what));
        }
    }
    let mut chosen: Vec<_> = all
        .into_iter()
        .filter(|(name, _, _)| args.members.is_empty() || args.members.contains(name))
        .filter(|(_, _, leads)| match args.role {
            Role::Leader => *leads,
            Role::Replica => !leads,
            Role::Any => true,
        })
        .collect();
    chosen.sort_by_key(|(_, _, leads)| *leads);
    if chosen.is_empty() {
        return Err(Failure::new(Exit::Refused, "no member fits"));
    }
    Ok(chosen
        .into_iter()
        .map(|(name, url, _)| (name, url))
        .collect())
}
