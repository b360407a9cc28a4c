//! Whether the disks still take a write (G9): a scratch file on each volume, overwritten and
//! synced.
//!
//! The file is allocated once, so that a full disk does not look like a dead one. A write that does
//! not come back cannot be cancelled: it keeps its thread, and until it returns no further write is
//! sent after it, so that a dead disk costs one thread per volume and not one per question.

use super::room;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::JoinHandle;

const FILE_NAME: &str = "pgwarden.scratch";
const BLOCK: usize = 4096;
const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;

/// How a volume answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// Overwritten and synced.
    Done,
    /// The disk or the quota is full: alive, and no reason to fail over.
    Full,
    /// The volume refused.
    Failed(String),
    /// No answer within the deadline; the write is still under way.
    Blocked,
}

/// The scratch file of one volume.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    round: u64,
    under_way: Option<JoinHandle<Written>>,
}

impl Scratch {
    /// One for each volume that the data directory, its WAL and its tablespaces are on.
    pub fn for_volumes(data_dir: &Path) -> Vec<Self> {
        let dirs = room::directories(data_dir);
        dirs.iter()
            .map(|dir| Self::at(dir.join(FILE_NAME)))
            .collect()
    }

    /// A scratch file at this path.
    pub fn at(path: PathBuf) -> Self {
        Self {
            path,
            round: 0,
            under_way: None,
        }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes and syncs, or goes on waiting for a write that has not come back.
    pub async fn check(&mut self, deadline: Duration) -> Written {
        self.round += 1;
        let (path, round) = (self.path.clone(), self.round);
        let handle = self
            .under_way
            .get_or_insert_with(|| tokio::task::spawn_blocking(move || overwrite(&path, round)));
        let Ok(joined) = tokio::time::timeout(deadline, handle).await else {
            return Written::Blocked;
        };
        self.under_way = None;
        joined.unwrap_or_else(|error| Written::Failed(error.to_string()))
    }
}

fn overwrite(path: &Path, round: u64) -> Written {
    match try_overwrite(path, round) {
        Ok(()) => Written::Done,
        Err(error) if matches!(error.raw_os_error(), Some(ENOSPC | EDQUOT)) => Written::Full,
        Err(error) => Written::Failed(format!("{}: {error}", path.display())),
    }
}

fn try_overwrite(path: &Path, round: u64) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    // Another content each time: an equal one might be written nowhere.
    let mut block = [0; BLOCK];
    block[..8].copy_from_slice(&round.to_le_bytes());
    file.write_all_at(&block, 0)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[tokio::test]
    async fn a_volume_that_takes_writes_is_done_and_a_full_one_is_full() {
        let path = std::env::temp_dir().join(format!("pgwarden-scratch-{}", std::process::id()));
        let mut scratch = Scratch::at(path.clone());
        for round in 1..=2_u64 {
            assert_eq!(scratch.check(Duration::from_mins(1)).await, Written::Done);
            assert_eq!(fs::read(&path).unwrap()[..8], round.to_le_bytes());
        }
        fs::remove_file(&path).unwrap();
        let mut full = Scratch::at("/dev/full".into());
        assert_eq!(full.check(Duration::from_mins(1)).await, Written::Full);
        let mut missing = Scratch::at("/nowhere/scratch".into());
        assert!(matches!(
            missing.check(Duration::from_mins(1)).await,
            Written::Failed(_)
        ));
    }
}
