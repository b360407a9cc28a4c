//! The sweep (G6): before anything else, kill every process of this user that works in the data
//! directory, until none is left. With the lock of G8 held that is a verified stop of every
//! predecessor on this node.
//!
//! Every process of PostgreSQL works there: the postmaster changes into the data directory, what it
//! forks stays there, and the guardian starts it there. Ancestors of the sweeping process are
//! spared: a shell that stands in the data directory and types the command is no PostgreSQL.

use crate::sys::host::file_id;
use crate::sys::process::{Pid, Signal, own_pid, own_uid, signal};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between two looks. Killed processes need a moment to go.
const PAUSE: Duration = Duration::from_millis(5);
/// A process that survives this many looks is stuck in the kernel.
const LOOKS_BEFORE_WARNING: u32 = 400;

/// Kills until two looks in a row find nobody; the number of processes killed.
pub(super) fn until_none_left(dirs: &[PathBuf]) -> usize {
    let mut killed = BTreeSet::new();
    while !rounds(dirs, LOOKS_BEFORE_WARNING, &mut killed) {
        tracing::warn!(
            ?killed,
            "killed processes do not end (a dead disk?): waiting for them"
        );
    }
    killed.len()
}

/// The same by a process that is about to end and must not stay for one stuck in the kernel.
pub(super) fn briefly(dirs: &[PathBuf]) -> usize {
    let mut killed = BTreeSet::new();
    if !rounds(dirs, LOOKS_BEFORE_WARNING, &mut killed) {
        tracing::warn!(
            ?killed,
            "killed processes do not end (a dead disk?): leaving them"
        );
    }
    killed.len()
}

fn rounds(dirs: &[PathBuf], looks_max: u32, killed: &mut BTreeSet<Pid>) -> bool {
    let mut empty = 0;
    for _ in 0..looks_max {
        let found = working_in(dirs);
        empty = if found.is_empty() { empty + 1 } else { 0 };
        if empty == 2 {
            return true;
        }
        for pid in &found {
            signal(*pid, Signal::SIGKILL);
        }
        killed.extend(found.iter().copied());
        if !found.is_empty() {
            std::thread::sleep(PAUSE);
        }
    }
    false
}

/// The processes of this user whose working directory is one of `dirs`, or below it.
fn working_in(dirs: &[PathBuf]) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let spared = own_line();
    let identities: Vec<_> = dirs.iter().filter_map(|dir| file_id(dir).ok()).collect();
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.metadata().is_ok_and(|m| m.uid() == own_uid()))
        .filter_map(|entry| entry.file_name().to_str()?.parse::<Pid>().ok())
        .filter(|pid| !spared.contains(pid))
        .filter(|pid| works_in(*pid, dirs, &identities))
        .collect()
}

fn works_in(pid: Pid, dirs: &[PathBuf], identities: &[(u64, u64)]) -> bool {
    let link = PathBuf::from(format!("/proc/{pid}/cwd"));
    // A zombie has none; a process that has just ended is not there.
    let Ok(cwd) = fs::read_link(&link) else {
        return false;
    };
    if dirs.iter().any(|dir| is_within(&cwd, dir)) {
        return true;
    }
    // The same directory under another name: a bind mount, or renamed since.
    file_id(&link).is_ok_and(|id| identities.contains(&id))
}

/// Whether a working directory, as procfs prints it, is `dir` or below it.
fn is_within(cwd: &Path, dir: &Path) -> bool {
    let text = cwd.to_string_lossy();
    let cwd = text.strip_suffix(" (deleted)").map_or(cwd, Path::new);
    cwd.starts_with(dir)
}

/// This process and its ancestors.
fn own_line() -> Vec<Pid> {
    let mut line = vec![own_pid()];
    let mut next = parent_of(own_pid());
    while let Ok(pid) = next {
        if pid <= 0 || line.contains(&pid) {
            break;
        }
        line.push(pid);
        next = parent_of(pid);
    }
    line
}

fn parent_of(pid: Pid) -> io::Result<Pid> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    parent
        .and_then(|text| text.trim().parse().ok())
        .ok_or_else(|| io::Error::other("no parent in /proc"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn what_works_in_the_directory_or_below_goes_and_its_neighbours_stay() {
        let root = std::env::temp_dir().join(format!("pgwarden-sweep-{}", std::process::id()));
        fs::create_dir_all(root.join("data/base")).unwrap();
        fs::create_dir_all(root.join("data2")).unwrap();
        let root = root.canonicalize().unwrap();
        let sleeper = |dir: &str| {
            Command::new("sleep")
                .arg("60")
                .current_dir(root.join(dir))
                .spawn()
                .unwrap()
        };
        let (mut inside, mut below) = (sleeper("data"), sleeper("data/base"));
        let mut beside = sleeper("data2");
        assert_eq!(until_none_left(&[root.join("data")]), 2);
        assert!(!inside.wait().unwrap().success());
        assert!(!below.wait().unwrap().success());
        assert!(
            beside.try_wait().unwrap().is_none(),
            "a neighbour was killed"
        );
        beside.kill().unwrap();
        beside.wait().unwrap();
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_removed_directory_is_still_recognised_and_a_longer_name_is_not() {
        assert!(is_within(
            Path::new("/v/data (deleted)"),
            Path::new("/v/data")
        ));
        assert!(is_within(Path::new("/v/data/pg_wal"), Path::new("/v/data")));
        assert!(!is_within(Path::new("/v/data2"), Path::new("/v/data")));
    }

    #[test]
    fn the_line_of_ancestors_begins_here_and_holds_the_parent() {
        let line = own_line();
        assert_eq!(line[0], own_pid());
        assert_eq!(line[1], crate::sys::process::parent_pid());
    }
}
