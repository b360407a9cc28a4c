//! `ctl list` and `ctl topology`, once.

use super::Remote;
use crate::cli::cluster::Cluster;
use crate::cli::render::{self, members};
use crate::cli::verbs::{Format, ListArgs};
use crate::cli::{Exit, Failure};
use serde_json::Value;
use std::io::Write;

/// Print the members.
pub(super) async fn run(
    remote: &Remote,
    args: &ListArgs,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let cluster = fetch(remote).await?;
    if args.timestamp && matches!(args.format, Format::Pretty | Format::Tsv) {
        writeln!(out, "{}", clock())?;
    }
    let manner = render::Manner {
        format: args.format,
        extended: args.extended,
        tree: false,
    };
    members(&cluster, manner, out)?;
    Ok(Exit::Ok)
}

/// Print them as a tree.
pub(super) async fn topology(remote: &Remote, out: &mut dyn Write) -> Result<Exit, Failure> {
    let cluster = fetch(remote).await?;
    let tree = true;
    let manner = render::Manner {
        tree,
        ..render::Manner::TABLE
    };
    members(&cluster, manner, out)?;
    Ok(Exit::Ok)
}

/// The time here, as patronictl prints it.
pub(crate) fn clock() -> String {
    jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// The members and, for the title, the system identifier of the cluster.
pub(super) async fn fetch(remote: &Remote) -> Result<Cluster, Failure> {
    let mut cluster = look(remote).await?;
    cluster.system_id = remote.status().await.and_then(|status| status.system_id);
    Ok(cluster)
}

/// The members alone.
pub(super) async fn look(remote: &Remote) -> Result<Cluster, Failure> {
    decode(&remote.get("/cluster").await?, None)
}

/// Read the body of `/cluster`.
pub(crate) fn decode(body: &Value, system_id: Option<String>) -> Result<Cluster, Failure> {
    Cluster::decode(body, system_id).map_err(|error| {
        Failure::new(
            Exit::BadData,
            format!("/cluster is not what it should be: {error}"),
        )
    })
}

/// Whoever names a cluster means that one, and not whichever one answers.
pub(super) async fn expect_scope(remote: &Remote, name: &str) -> Result<(), Failure> {
    let cluster = look(remote).await?;
    if cluster.scope == name {
        return Ok(());
    }
    let what = format!(
        "the cluster here is {}, not {name}; name it first, then its members",
        cluster.scope
    );
    Err(Failure::new(Exit::Usage, what))
}
