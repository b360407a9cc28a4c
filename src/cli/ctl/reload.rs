//! `ctl reload`: members read their files again.

use super::Remote;
use super::ask::agree;
use super::choose::{choose, names};
use super::list::fetch;
use super::remote::Tally;
use crate::cli::verbs::MembersArgs;
use crate::cli::{Exit, Failure};
use serde_json::json;
use std::io::Write;

/// Tell them.
pub(super) async fn run(
    remote: &Remote,
    args: &MembersArgs,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let cluster = fetch(remote).await?;
    let chosen = choose(&cluster, &args.choice.members, args.choice.role)?;
    let question = format!("Reload members {}?", names(&chosen));
    agree(remote, args.force, &cluster, &question, out)?;
    let mut tally = Tally::new("reload", "reloaded");
    for row in chosen {
        let answer = remote.at(row).post("/reload", &json!({})).await;
        if tally.judge(row, answer, |_| false, out)?.is_some() {
            let name = &row.name;
            writeln!(out, "Reload request received for member {name}")?;
        }
    }
    tally.end()
}
