//! The lock on the data directory (G8): two guardians of one node never run on one volume.
//!
//! PostgreSQL's own interlock looks for the process of `postmaster.pid` and for shared memory, and
//! sees neither through the walls of another container. An flock is seen by everyone who shares the
//! file system.
//!
//! Where the data directory is a mount point, the directory itself is locked: a file in it would be
//! removed by pg_rewind (it deletes what the source has not) and would keep initdb from starting. A
//! network file system that cannot lock directories gets a file in it after all.

use crate::sys::host::{file_id, is_mount_point};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Held until dropped, or until the process ends however it ends.
#[derive(Debug)]
pub(super) struct DataLock {
    file: File,
    path: PathBuf,
}

/// Why the data directory was not locked.
#[derive(Debug, thiserror::Error)]
pub enum DataLockError {
    /// Another guardian has it.
    #[error(
        "{}: locked by another guardian{by}; two cannot run on one data directory", path.display()
    )]
    Held {
        /// The lock.
        path: PathBuf,
        /// Who, if the file says so.
        by: String,
    },
    /// The lock could not be tried.
    #[error("lock {}: {source}", path.display())]
    Io {
        /// The lock.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// The data directory's path with every link resolved; it may not exist yet, its parent must.
pub(super) fn canonical_data_dir(data_dir: &Path) -> io::Result<PathBuf> {
    match data_dir.canonicalize() {
        Ok(path) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let name = data_dir.file_name().ok_or(error)?;
            let parent = match data_dir.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            Ok(parent.canonicalize()?.join(name))
        }
        Err(error) => Err(error),
    }
}

impl DataLock {
    /// Takes the lock of a canonical data directory, or fails at once.
    pub(super) fn try_take(data_dir: &Path) -> Result<Self, DataLockError> {
        if !own_volume(data_dir) {
            return take_file(&sibling(data_dir));
        }
        match take(File::open(data_dir), data_dir) {
            // EBADF, EINVAL, EOPNOTSUPP, ENOLCK: flock on a directory is not to be had here.
            Err(DataLockError::Io { source, .. })
                if matches!(source.raw_os_error(), Some(9 | 22 | 95 | 37)) =>
            {
                take_file(&data_dir.join(".pgwarden.lock"))
            }
            taken => taken,
        }
    }

    /// What is locked.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// The data directory is where a volume is mounted: its parent is not on the same one.
fn own_volume(data_dir: &Path) -> bool {
    let Ok((device, _)) = file_id(data_dir) else {
        return false;
    };
    let parent_device = data_dir
        .parent()
        .and_then(|parent| file_id(parent).ok())
        .map(|id| id.0);
    parent_device != Some(device) || is_mount_point(data_dir).unwrap_or(false)
}

fn sibling(data_dir: &Path) -> PathBuf {
    let name = data_dir.file_name().unwrap_or_default().to_string_lossy();
    data_dir.with_file_name(format!(".{name}.pgwarden.lock"))
}

fn take_file(path: &Path) -> Result<DataLock, DataLockError> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    let mut lock = take(opened, path)?;
    // For people only; the lock is the flock.
    let who = format!("process {}\n", crate::sys::process::own_pid());
    let _ = lock
        .file
        .set_len(0)
        .and_then(|()| lock.file.write_all(who.as_bytes()));
    Ok(lock)
}

fn take(opened: io::Result<File>, path: &Path) -> Result<DataLock, DataLockError> {
    let io_error = |source| DataLockError::Io {
        path: path.to_owned(),
        source,
    };
    let file = opened.map_err(io_error)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let by = std::fs::read_to_string(path).unwrap_or_default();
            let by = if by.trim().is_empty() {
                String::new()
            } else {
                format!(" ({})", by.trim())
            };
            return Err(DataLockError::Held {
                path: path.to_owned(),
                by,
            });
        }
        Err(TryLockError::Error(source)) => return Err(io_error(source)),
    }
    // A file removed between open and lock would lock nobody out.
    let metadata = file.metadata().map_err(io_error)?;
    let locked = {
        use std::os::unix::fs::MetadataExt;
        (metadata.dev(), metadata.ino())
    };
    if file_id(path).map_err(io_error)? != locked {
        return Err(io_error(io::Error::other(
            "replaced while it was being locked",
        )));
    }
    Ok(DataLock {
        file,
        path: path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_taker_is_refused_by_name_until_the_first_lets_go() {
        let parent = std::env::temp_dir().join(format!("pgwarden-lock-{}", std::process::id()));
        std::fs::create_dir_all(&parent).unwrap();
        let data_dir = canonical_data_dir(&parent.join("data")).unwrap();
        let first = DataLock::try_take(&data_dir).unwrap();
        assert_eq!(
            first.path(),
            parent.canonicalize().unwrap().join(".data.pgwarden.lock")
        );
        std::fs::create_dir(&data_dir).unwrap();
        let refused = DataLock::try_take(&data_dir).unwrap_err();
        let said = refused.to_string();
        assert!(said.contains(".data.pgwarden.lock"), "{said}");
        assert!(
            said.contains(&format!("process {}", std::process::id())),
            "{said}"
        );
        drop(first);
        DataLock::try_take(&data_dir).unwrap();
        std::fs::remove_dir_all(&parent).unwrap();
    }

    #[test]
    fn a_mount_point_is_locked_itself_and_nothing_is_written_into_it() {
        let shm = Path::new("/dev/shm");
        assert!(own_volume(shm), "/dev/shm is a file system of its own");
        let first = DataLock::try_take(shm).unwrap();
        assert_eq!(first.path(), shm);
        assert!(matches!(
            DataLock::try_take(shm),
            Err(DataLockError::Held { .. })
        ));
        assert!(!shm.join(".pgwarden.lock").exists());
    }

    #[test]
    fn a_missing_parent_is_a_missing_mount_not_an_empty_directory() {
        assert!(canonical_data_dir(Path::new("/nonexistent-pgwarden/data")).is_err());
    }
}
