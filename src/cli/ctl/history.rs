//! `ctl history`.

use super::Remote;
use crate::cli::verbs::Format;
use crate::cli::{Exit, Failure, render};
use std::io::Write;

/// Print the history.
pub(super) async fn run(
    remote: &Remote,
    format: Format,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let lines = remote.get("/history").await?;
    render::history(&lines, format, out)?;
    Ok(Exit::Ok)
}
