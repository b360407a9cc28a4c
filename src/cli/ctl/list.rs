//! `ctl list`.

use super::Remote;
use crate::cli::args::Format;
use crate::cli::render::{Cluster, members};
use crate::cli::{Exit, Failure};
use std::io::Write;

/// Print the members.
pub(super) async fn run(
    remote: &Remote,
    format: Format,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let cluster = fetch(remote).await?;
    members(&cluster, format, out)?;
    Ok(Exit::Ok)
}

/// The members and, for the title, the system identifier of the cluster.
pub(super) async fn fetch(remote: &Remote) -> Result<Cluster, Failure> {
    let body = remote.get("/cluster").await?;
    let system_id = remote.status().await.and_then(|status| status.system_id);
    Cluster::decode(&body, system_id).map_err(|error| {
        Failure::new(
            Exit::BadData,
            format!("/cluster is not what it should be: {error}"),
        )
    })
}
