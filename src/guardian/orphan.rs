//! The agent's half of G6: when its guardian dies, the agent fences in its stead, then ends.
//!
//! PDEATHSIG already asks the postmaster for an immediate stop, but a frozen postmaster does not
//! hear it and its backends would go on committing with no deadline over them. So a thread of its
//! own, outside the async runtime, waits for the guardian's end and runs the same sweep a starting
//! guardian runs. It first takes the data directory's lock: if a successor holds it already, that
//! one has swept or is sweeping, and a second sweep would hit the successor's PostgreSQL.

use super::datalock::{DataLock, DataLockError};
use super::sweep;
use crate::sys::events::wait_readable;
use crate::sys::process::exit_now;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// The agent's exit code when its guardian has died.
pub const EXIT_ORPHANED: i32 = 70;

/// What the thread watches and would sweep.
#[derive(Debug)]
pub(super) struct OrphanWatch {
    /// Readable once the guardian has ended.
    pub(super) guardian: OwnedFd,
    /// The directories a process of PostgreSQL works in.
    pub(super) dirs: Vec<PathBuf>,
}

impl OrphanWatch {
    /// Starts the thread; it lives as long as the process.
    pub(super) fn start(self) -> io::Result<()> {
        let thread = std::thread::Builder::new().name("orphan-watch".into());
        thread.spawn(move || self.run()).map(drop)
    }

    fn run(self) {
        while !wait_readable(&[&self.guardian], 60_000)[0] {}
        let data_dir = self.dirs.first().cloned().unwrap_or_default();
        match DataLock::try_take(&data_dir) {
            Ok(lock) => {
                tracing::error!("the guardian has died: killing what it left, then ending");
                sweep::briefly(&self.dirs);
                drop(lock);
            }
            Err(DataLockError::Held { .. }) => {
                tracing::error!("the guardian has died and has a successor: ending");
            }
            Err(error) => tracing::error!(%error, "the guardian has died: ending"),
        }
        exit_now(EXIT_ORPHANED);
    }
}
