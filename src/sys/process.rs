//! Processes: who am I, send a signal, reap a child, wait for one that is not a child.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::kill;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

pub use nix::sys::signal::Signal;

/// A process identifier as the kernel numbers it.
pub type Pid = i32;

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaped {
    /// The child.
    pub pid: Pid,
    /// Its exit code, when it exited by itself.
    pub code: Option<i32>,
    /// The signal that killed it, otherwise.
    pub signal: Option<i32>,
}

/// This process.
pub fn own_pid() -> Pid {
    nix::unistd::getpid().as_raw()
}

/// The process that started this one, or whoever inherited it.
pub fn parent_pid() -> Pid {
    nix::unistd::getppid().as_raw()
}

/// The effective user of this process.
pub fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Whether the system has a name for this user.
pub fn has_account(uid: u32) -> bool {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid));
    user.is_ok_and(|user| user.is_some())
}

/// Sends a signal; `true` if the process was there to receive it (a zombie counts).
pub fn signal(pid: Pid, signal: Signal) -> bool {
    // 0 and negative numbers address groups, never what a caller with a process in mind wants.
    pid > 0 && kill(nix::unistd::Pid::from_raw(pid), signal).is_ok()
}

/// Whether the process exists (a zombie does).
pub fn exists(pid: Pid) -> bool {
    pid > 0 && kill(nix::unistd::Pid::from_raw(pid), None) != Err(Errno::ESRCH)
}

/// SIGKILL to every process of this PID namespace but the caller. Only ever as PID 1: anywhere else
/// it would be every process of the user, so it refuses.
pub fn kill_namespace() -> bool {
    own_pid() == 1 && kill(nix::unistd::Pid::from_raw(-1), Signal::SIGKILL).is_ok()
}

/// Whether this user may execute the file; a directory is none.
pub fn is_executable(path: &std::path::Path) -> bool {
    let file = path.metadata().is_ok_and(|meta| meta.is_file());
    file && nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok()
}

/// Reaps one ended child, whichever; `None` when none has ended.
pub fn reap() -> Option<Reaped> {
    loop {
        let mut status = 0;
        // Not by `nix`: it fails on a death by a real-time signal after having reaped the child.
        // SAFETY: the status is ours to write, and the call keeps no pointer to it.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if pid > 0 {
            let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
            let signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
            return Some(Reaped { pid, code, signal });
        }
        if pid == 0 || Errno::last() != Errno::EINTR {
            return None;
        }
    }
}

/// Ended children wait to be reaped, whatever the process that started this one had ignored.
pub fn keep_ended_children() {
    // SAFETY: the default action is no function of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Orphans of this process's descendants become its children instead of PID 1's.
pub fn become_subreaper() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// A descriptor that polls readable once the process has ended, whoever its parent is.
pub fn pidfd(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor, open and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Ends this process at once: no destructors, no exit handlers, whatever other threads are doing.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` is always callable and does not return.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn only_a_single_living_process_can_be_signalled() {
        assert!(!signal(0, Signal::SIGCONT));
        assert!(!signal(-1, Signal::SIGCONT));
        assert!(exists(own_pid()));
        assert!(!kill_namespace(), "this test is not PID 1");
    }

    #[test]
    fn a_pidfd_is_readable_once_the_process_has_ended() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let fd = pidfd(child.id() as i32).unwrap();
        assert!(!crate::sys::events::wait_readable(&[&fd], 0)[0]);
        child.kill().unwrap();
        assert!(crate::sys::events::wait_readable(&[&fd], 10_000)[0]);
        child.wait().unwrap();
    }
}
