//! A `postmaster.pid` left by a killed predecessor must not keep PostgreSQL from starting.
//!
//! PostgreSQL believes the file while any process of that number exists: a zombie that init has not
//! reaped yet, or, in a restarted container where numbers are small and come again, a helper of the
//! agent. With the lock of G8 held and the sweep of G6 done we know better: no process of our user
//! works in the data directory. A process of another user is left to PostgreSQL's own judgement.

use crate::sys::durable;
use crate::sys::process::{Pid, exists, own_uid};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// How long a dead predecessor may stay a zombie before its file is removed all the same.
const LOOKS_MAX: u32 = 1000;
const PAUSE: Duration = Duration::from_millis(2);

/// Waits for the process of the file to be gone, or removes the file if its number names another.
///
/// To be called after the sweep, with the lock held.
pub(super) fn settle(data_dir: &Path) {
    let file = data_dir.join("postmaster.pid");
    let Some(pid) = fs::read_to_string(&file).ok().and_then(|text| parse(&text)) else {
        return;
    };
    for _ in 0..LOOKS_MAX {
        if !exists(pid) {
            return;
        }
        if !is_zombie(pid) {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    let ours = fs::metadata(format!("/proc/{pid}")).is_ok_and(|m| m.uid() == own_uid());
    if ours {
        match durable::remove(&file) {
            Ok(()) => tracing::warn!(pid, "removed a postmaster.pid that names another process"),
            Err(error) => tracing::error!(%error, "remove a stale postmaster.pid"),
        }
    }
}

fn parse(text: &str) -> Option<Pid> {
    text.lines()
        .next()?
        .trim()
        .parse()
        .ok()
        .filter(|pid| *pid > 0)
}

fn is_zombie(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_number_that_came_again_is_no_postmaster_and_a_dead_one_is_left_to_postgresql() {
        let dir = std::env::temp_dir().join(format!("pgwarden-pidfile-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join("postmaster.pid");
        let mut helper = Command::new("sleep").arg("60").spawn().unwrap();
        fs::write(&file, format!("{}\n/data\n", helper.id())).unwrap();
        settle(&dir);
        assert!(
            !file.exists(),
            "a living process of ours that is no PostgreSQL"
        );
        helper.kill().unwrap();
        helper.wait().unwrap();
        fs::write(&file, format!("{}\n/data\n", helper.id())).unwrap();
        settle(&dir);
        assert!(
            file.exists(),
            "nobody has that number: PostgreSQL removes it itself"
        );
        fs::write(&file, "garbage").unwrap();
        settle(&dir);
        assert!(file.exists());
        fs::remove_dir_all(&dir).unwrap();
    }
}
