//! `ctl version`: of this program, and of those that run.

use super::choose::choose;
use super::list::look;
use super::{Manner, Remote};
use crate::cli::verbs::{Role, VersionArgs};
use crate::cli::{Exit, Failure};
use serde_json::Value;
use std::io::{self, Write};

/// Print that of this program.
pub(super) fn client(manner: Manner, out: &mut dyn Write) -> io::Result<()> {
    let name = if manner.is_patronictl() {
        "patronictl"
    } else {
        "pgwarden"
    };
    writeln!(out, "{name} version {}", env!("CARGO_PKG_VERSION"))
}

/// Print those of the members.
pub(super) async fn members(
    remote: &Remote,
    args: &VersionArgs,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let cluster = look(remote).await?;
    let mut chosen = choose(&cluster, &args.members, Role::Any)?;
    chosen.sort_by(|one, other| one.name.cmp(&other.name));
    writeln!(out)?;
    for row in chosen {
        let name = &row.name;
        match remote.at(row).get("/patroni").await {
            Ok(status) => writeln!(out, "{name}: {}", versions(&status))?,
            Err(failure) => writeln!(out, "{name}: failed to get version: {failure}")?,
        }
    }
    Ok(Exit::Ok)
}

/// `pgwarden 0.1.0 PostgreSQL 15.4`: the agent's name tells which of the two it is.
fn versions(status: &Value) -> String {
    let agent = if status["pgwarden"].is_object() {
        "pgwarden"
    } else {
        "Patroni"
    };
    let version = status["patroni"]["version"].as_str().unwrap_or("unknown");
    let server = match status["server_version"].as_u64() {
        None => "not running".to_owned(),
        Some(number) if number >= 100_000 => format!("{}.{}", number / 10_000, number % 10_000),
        Some(number) => format!(
            "{}.{}.{}",
            number / 10_000,
            number / 100 % 100,
            number % 100
        ),
    };
    format!("{agent} {version} PostgreSQL {server}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn versions_are_those_people_know() {
        let patroni = json!({ "patroni": { "version": "4.1.5" }, "server_version": 150_018 });
        assert_eq!(versions(&patroni), "Patroni 4.1.5 PostgreSQL 15.18");
        let old = json!({ "patroni": { "version": "2.0" }, "server_version": 90_624 });
        assert_eq!(versions(&old), "Patroni 2.0 PostgreSQL 9.6.24");
        let ours = json!({ "patroni": { "version": "0.1.0" }, "pgwarden": {} });
        assert_eq!(versions(&ours), "pgwarden 0.1.0 PostgreSQL not running");
    }
}
