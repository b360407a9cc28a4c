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
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The agent's exit code when its guardian has died.
pub const EXIT_ORPHANED: i32 = 70;

/// How often the lock is tried. A child of the dead guardian between fork and exec may hold a copy
/// for a moment; only a lock held longer is a successor's.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(25);

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
        match take_from_the_dead(&data_dir) {
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

fn take_from_the_dead(data_dir: &Path) -> Result<DataLock, DataLockError> {
    for _ in 1..LOCK_TRIES {
        match DataLock::try_take(data_dir) {
            Err(DataLockError::Held { .. }) => std::thread::sleep(LOCK_PAUSE),
            taken => return taken,
        }
    }
    DataLock::try_take(data_dir)
}
