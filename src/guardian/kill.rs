//! The kill path (G4): freeze the postmaster, kill its descendants, then itself, and look again.
//!
//! Killing the postmaster alone is no fence: a busy backend goes on committing. Killing a list of
//! backends races with forks, so the postmaster is stopped first. Every backend is a process group
//! and a session of its own, so the tree of parents is walked; orphans are the guardian's children,
//! because it is PID 1 or a subreaper, so nothing leaves the tree. One pass allocates nothing.

use crate::sys::process::{Pid, Signal, own_pid, signal};
use crate::sys::proctable::{ProcTable, child_above};
use crate::sys::{image, memlock, process, proctable};
use std::io;

/// How many processes may be spared: the agent, the postmaster, the recovery watch.
pub(super) const SPARED_MAX: usize = 3;

/// Finds and kills descendants of this process.
#[derive(Debug)]
pub(super) struct Killer {
    table: ProcTable,
    own: Pid,
}

impl Killer {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            table: ProcTable::open()?,
            own: own_pid(),
        })
    }

    /// One pass: every living descendant goes, except the spared children and what descends from
    /// them. `postmaster` is frozen before the look and killed last. Returns how many were found
    /// alive; two passes in a row that find none are a verified stop.
    pub(super) fn pass(
        &mut self,
        postmaster: Option<Pid>,
        spared: [Option<Pid>; SPARED_MAX],
    ) -> usize {
        if let Some(pid) = postmaster {
            signal(pid, Signal::SIGSTOP);
        }
        // Whoever a table with gaps shows still dies, and the postmaster in any case; but only a
        // whole one proves that nobody is left.
        let mut found = usize::from(self.table.scan().is_err());
        let all = self.table.processes();
        for process in all.iter().filter(|p| !p.zombie && p.pid != self.own) {
            let doomed = child_above(all, process, self.own)
                .is_some_and(|child| !spared.contains(&Some(child)));
            if doomed {
                found += 1;
                if Some(process.pid) != postmaster {
                    signal(process.pid, Signal::SIGKILL);
                }
            }
        }
        if let Some(pid) = postmaster {
            signal(pid, Signal::SIGKILL);
        }
        found
    }

    /// Locks what a pass touches in memory: its buffers, the stack and the code (G7).
    ///
    /// Of the code, what a rehearsal runs through, because what is called and not inlined lies
    /// anywhere in the program; and what a rehearsal cannot run, which is named. To be called when
    /// little else of the program is mapped.
    pub(super) fn lock_in_memory(&mut self) -> io::Result<()> {
        for extent in self.table.extents() {
            memlock::lock_extent(extent)?;
        }
        memlock::lock_stack()?;
        // A table with gaps has been walked as well.
        let _ = self.table.scan();
        let all = self.table.processes();
        for process in all {
            std::hint::black_box(child_above(all, process, self.own));
        }
        memlock::lock_mapped(image::extent())?;
        let code = [
            Self::pass as *const (),
            child_above as *const (),
            ProcTable::scan as *const (),
            proctable::parse_stat as *const (),
            process::signal as *const (),
            process::kill_namespace as *const (),
            process::reap as *const (),
            super::deadline::latch_if_passed as *const (),
        ];
        code.into_iter().try_for_each(memlock::lock_code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::proctable::Process;

    fn table(rows: &[(Pid, Pid)]) -> Vec<Process> {
        rows.iter()
            .map(|&(pid, parent)| Process {
                pid,
                parent,
                zombie: false,
            })
            .collect()
    }

    #[test]
    fn a_process_belongs_to_the_child_it_descends_from() {
        // 10 is the guardian; 20 the agent with a helper 21; 30 the postmaster with 31, 32 below
        // it.
        let all = table(&[
            (1, 0),
            (10, 1),
            (20, 10),
            (21, 20),
            (30, 10),
            (31, 30),
            (32, 31),
            (40, 1),
        ]);
        let above = |pid: Pid| {
            let process = all.iter().find(|p| p.pid == pid).unwrap();
            child_above(&all, process, 10)
        };
        assert_eq!(above(20), Some(20));
        assert_eq!(above(21), Some(20));
        assert_eq!(above(32), Some(30));
        assert_eq!(above(40), None, "a stranger");
        assert_eq!(above(1), None, "an ancestor");
    }

    #[test]
    fn a_broken_chain_and_a_circle_end() {
        let all = table(&[(10, 1), (31, 30), (50, 51), (51, 50)]);
        assert_eq!(child_above(&all, &all[1], 10), None);
        assert_eq!(child_above(&all, &all[2], 10), None);
    }
}
