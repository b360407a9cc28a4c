//! What a person is asked before something changes.

use super::Remote;
use crate::cli::cluster::Cluster;
use crate::cli::render::{Manner, members};
use crate::cli::{Exit, Failure};
use std::io::{BufRead, IsTerminal, Write};

/// Show whom it is about, and ask, unless nobody wants to be asked.
pub(super) fn agree(
    remote: &Remote,
    force: bool,
    cluster: &Cluster,
    question: &str,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if force {
        return Ok(());
    }
    members(cluster, Manner::TABLE, out)?;
    confirm(remote, question, out)
}

/// Ask; anything but yes is a failure. `pgwarden ctl` asks only a person at a terminal;
/// `patronictl` takes an answer that is piped in, as scripts do it.
pub(super) fn confirm(remote: &Remote, question: &str, out: &mut dyn Write) -> Result<(), Failure> {
    if !remote.manner().is_patronictl() && !std::io::stdin().is_terminal() {
        let what = "nobody is at the terminal to confirm; use --force";
        return Err(Failure::new(Exit::Usage, what));
    }
    write!(out, "{question} [y/N]: ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        Ok(())
    } else {
        Err(Failure::new(
            Exit::Failure,
            "not confirmed: nothing was changed",
        ))
    }
}
