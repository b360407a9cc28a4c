//! The processes of a member: found by where they work and who started them, never by name.

use crate::guardian::link::LINK_ENV;
use crate::sys::process::{Pid, Signal, own_pid, signal};
use crate::sys::proctable::{ProcTable, Process};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long processes that were killed may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);

/// Every living process that works in `dir` or below it, and all their descendants.
pub(super) fn in_dir(dir: &Path) -> Vec<Pid> {
    let table = table();
    let works_here =
        |pid: Pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(dir));
    let mut found: BTreeSet<Pid> = table
        .iter()
        .map(|process| process.pid)
        .filter(|pid| works_here(*pid))
        .collect();
    loop {
        let more: Vec<Pid> = table
            .iter()
            .filter(|process| found.contains(&process.parent) && !found.contains(&process.pid))
            .map(|process| process.pid)
            .collect();
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    found.remove(&own_pid());
    found.into_iter().collect()
}

/// The children of a process.
fn children(parent: Pid) -> Vec<Pid> {
    let table = table();
    let of_parent = table.iter().filter(|process| process.parent == parent);
    of_parent.map(|process| process.pid).collect()
}

fn table() -> Vec<Process> {
    let Ok(mut table) = ProcTable::open() else {
        return Vec::new();
    };
    let Ok(processes) = table.scan() else {
        return Vec::new();
    };
    processes
        .iter()
        .filter(|process| !process.zombie)
        .copied()
        .collect()
}

/// The agent of a guardian: the child that was given the link.
pub(super) fn agent_of(guardian: Pid) -> Option<Pid> {
    let mark = format!("{LINK_ENV}=");
    let linked = |pid: &Pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|one| one.starts_with(mark.as_bytes()))
    };
    // The postmaster may have inherited the variable; it works in the data directory.
    let is_postgres = |pid: &Pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.starts_with("postgres")
    };
    children(guardian)
        .into_iter()
        .find(|pid| !is_postgres(pid) && linked(pid))
}

/// The postmaster of a data directory, by its own file.
pub(super) fn postmaster_of(data_dir: &Path) -> Option<Pid> {
    let text = fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
    let pid: Pid = text.lines().next()?.trim().parse().ok()?;
    let works_there = fs::read_link(format!("/proc/{pid}/cwd")).ok()? == data_dir;
    works_there.then_some(pid)
}

/// Whether the process of this number is the one it was: its start, in clock ticks.
pub(super) fn started_at(pid: Pid) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19).map(str::to_owned)
}

/// Whether the process is a playground.
pub(super) fn runs_playground(pid: Pid) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0)
        .any(|word| word == b"playground")
}

/// SIGKILL to the given first, then to everything that works in `dir`, until nothing does.
/// Says how many were hit; gives up on what does not go.
pub(super) fn kill_at_once(first: &[Pid], dir: &Path) -> usize {
    for pid in first {
        signal(*pid, Signal::SIGKILL);
    }
    end_all(dir)
}

/// SIGKILL to everything that works in `dir` until nothing does; says how many were hit.
pub(super) fn end_all(dir: &Path) -> usize {
    let begun = Instant::now();
    let mut hit = BTreeSet::new();
    loop {
        let found = in_dir(dir);
        if found.is_empty() || begun.elapsed() > GONE_WITHIN {
            return hit.len();
        }
        for pid in found {
            signal(pid, Signal::SIGKILL);
            hit.insert(pid);
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn processes_are_found_where_they_work_with_their_children_and_ended() {
        let dir = std::env::temp_dir().join(format!("pgw-proc-{}", own_pid()));
        fs::create_dir(&dir).unwrap();
        // The shell works there; its child has gone elsewhere and is found by its parent.
        let script = "cd /; sleep 600 & cd - >/dev/null; touch ready; wait";
        let mut shell = Command::new("bash")
            .args(["-c", script])
            .current_dir(&dir)
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while !dir.join("ready").exists() || in_dir(&dir).len() < 2 {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "the shell did not start"
            );
            std::thread::sleep(PAUSE);
        }
        let found = in_dir(&dir);
        assert!(found.contains(&(shell.id() as Pid)), "{found:?}");
        assert!(started_at(shell.id() as Pid).is_some());
        let hit = end_all(&dir);
        assert!(hit >= 1, "{hit}");
        shell.wait().unwrap();
        assert!(in_dir(&dir).is_empty());
        // What lost its parent before it was seen again works in / and is not ours to find.
        for pid in found {
            signal(pid, Signal::SIGKILL);
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
