//! `ctl dsn`: where a member's PostgreSQL is, as libpq reads it.

use super::Remote;
use super::choose::{choose, stranger};
use super::list::look;
use crate::cli::cluster::{Cluster, Row};
use crate::cli::verbs::{DsnArgs, Role};
use crate::cli::{Exit, Failure};
use std::io::Write;

/// Print it.
pub(super) async fn run(
    remote: &Remote,
    args: &DsnArgs,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let cluster = look(remote).await?;
    let role = if args.any { Some(Role::Any) } else { args.role };
    let member = find(&cluster, args.member.as_deref(), role)?;
    let port = member.port.unwrap_or(5432);
    writeln!(out, "host={} port={port}", member.host)?;
    Ok(Exit::Ok)
}

/// The member of that name, or the first of that role that has an address; the leader where
/// nothing is said.
pub(super) fn find<'a>(
    cluster: &'a Cluster,
    name: Option<&str>,
    role: Option<Role>,
) -> Result<&'a Row, Failure> {
    let chosen = match name {
        Some(name) => {
            let named = cluster.members.iter().find(|row| row.name == name);
            vec![named.ok_or_else(|| stranger(cluster, name))?]
        }
        None => choose(cluster, &[], role.unwrap_or(Role::Leader))?,
    };
    chosen
        .into_iter()
        .find(|row| !row.host.is_empty())
        .ok_or_else(|| {
            let what = "no such member has published an address";
            Failure::new(Exit::Refused, what)
        })
}
