//! The table of processes, read without allocating: what the kill path walks.
//!
//! Only `/proc/<pid>/stat` is read: it needs no lock a stuck process could hold (`cmdline` does),
//! and no file system but procfs.
#![allow(unsafe_code)]

use super::process::Pid;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::{Whence, lseek, read};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// How many processes one scan holds.
pub const PROCESSES_MAX: usize = 8192;
const DIRENTS_BYTES: usize = 32 * 1024;
const STAT_BYTES: usize = 512;

/// One process, as its `stat` line shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: Pid,
    /// Its parent; 0 where the parent is outside of the namespace.
    pub parent: Pid,
    /// Dead and unreaped: it can do nothing any more.
    pub zombie: bool,
}

/// Buffers and an open `/proc`, made once.
#[derive(Debug)]
pub struct ProcTable {
    proc: OwnedFd,
    dirents: Vec<u8>,
    processes: Vec<Process>,
}

impl ProcTable {
    /// Opens `/proc`; refuses one that shows another PID namespace than this process's.
    pub fn open() -> io::Result<Self> {
        let own = std::fs::read_link("/proc/self")?;
        if own.to_str() != Some(&super::process::own_pid().to_string()) {
            return Err(io::Error::other(
                "/proc shows another PID namespace than this process's",
            ));
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self {
            proc: open("/proc", flags, Mode::empty())?,
            dirents: vec![0; DIRENTS_BYTES],
            processes: Vec::with_capacity(PROCESSES_MAX),
        })
    }

    /// Reads the table; sorted by process number. No allocation.
    ///
    /// An error means that processes are missing from it: one could not be read for another reason
    /// than its end (no descriptor or no memory was to be had), or there are more than it holds.
    pub fn scan(&mut self) -> io::Result<&[Process]> {
        self.processes.clear();
        let read = self.read_all();
        self.processes.sort_unstable_by_key(|p| p.pid);
        read.map(|()| self.processes.as_slice())
    }

    fn read_all(&mut self) -> io::Result<()> {
        lseek(&self.proc, 0, Whence::SeekSet)?;
        let mut whole = Ok(());
        loop {
            let length = self.read_dirents()?;
            if length == 0 {
                break;
            }
            let mut at = 0;
            while let Some((pid, next)) = dirent(&self.dirents[at..length]) {
                at += next;
                let Some(pid) = pid else { continue };
                match read_stat(&self.proc, pid) {
                    Ok(Some(process)) if self.processes.len() < self.processes.capacity() => {
                        self.processes.push(process);
                    }
                    Ok(Some(_)) => whole = Err(Errno::EOVERFLOW),
                    Ok(None) => {}
                    Err(error) => whole = Err(error),
                }
            }
        }
        Ok(whole?)
    }

    /// The table as last scanned.
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// The memory the scan works in, for locking it.
    pub fn extents(&self) -> [(usize, usize); 2] {
        let table_bytes = self.processes.capacity() * size_of::<Process>();
        [
            (self.dirents.as_ptr() as usize, DIRENTS_BYTES),
            (self.processes.as_ptr() as usize, table_bytes),
        ]
    }

    fn read_dirents(&mut self) -> io::Result<usize> {
        loop {
            // SAFETY: the buffer is ours, valid for writes of its whole length during the call.
            let length = unsafe {
                libc::syscall(
                    libc::SYS_getdents64,
                    self.proc.as_raw_fd(),
                    self.dirents.as_mut_ptr(),
                    self.dirents.len(),
                )
            };
            match Errno::result(length) {
                Ok(length) => return Ok(length as usize),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// One record of getdents64: the number its name is, if it is one, and the record's length.
fn dirent(bytes: &[u8]) -> Option<(Option<Pid>, usize)> {
    // struct linux_dirent64: u64 inode, i64 offset, u16 record length, u8 type, then the name.
    let length = usize::from(u16::from_ne_bytes([*bytes.get(16)?, *bytes.get(17)?]));
    let name = bytes.get(19..length)?;
    let digits = name.iter().take_while(|b| b.is_ascii_digit()).count();
    let is_number = digits > 0 && name.get(digits) == Some(&0);
    Some((is_number.then(|| number(&name[..digits]) as Pid), length))
}

fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |n, b| {
        n.wrapping_mul(10).wrapping_add(u64::from(b - b'0'))
    })
}

/// `None` for a process that has ended meanwhile.
fn read_stat(proc: &OwnedFd, pid: Pid) -> nix::Result<Option<Process>> {
    let mut path = [0_u8; 24];
    let path = stat_path(pid, &mut path).ok_or(Errno::ENAMETOOLONG)?;
    let mut line = [0_u8; STAT_BYTES];
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let length = openat(proc, path, flags, Mode::empty()).and_then(|stat| read(&stat, &mut line));
    match length {
        Ok(length) => parse_stat(pid, &line[..length])
            .map(Some)
            .ok_or(Errno::EBADMSG),
        Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// `<pid>/stat`, written into the caller's buffer.
fn stat_path(pid: Pid, buffer: &mut [u8; 24]) -> Option<&CStr> {
    use std::io::Write;
    let mut rest = &mut buffer[..];
    write!(rest, "{pid}/stat\0").ok()?;
    CStr::from_bytes_until_nul(buffer).ok()
}

/// Stopped by a signal: it does nothing until it is sent SIGCONT.
pub fn is_stopped(pid: Pid) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    state_and_parent(&line).is_some_and(|(state, _)| state == b'T')
}

/// The line is `pid (name) state ppid …`; the name may hold anything, parentheses too.
fn state_and_parent(line: &[u8]) -> Option<(u8, Pid)> {
    let after_name = line.iter().rposition(|b| *b == b')')? + 1;
    let mut fields = line[after_name..]
        .split(|b| *b == b' ')
        .filter(|f| !f.is_empty());
    let state = *fields.next()?.first()?;
    let parent = number(fields.next()?.split(|b| !b.is_ascii_digit()).next()?) as Pid;
    Some((state, parent))
}

pub(crate) fn parse_stat(pid: Pid, line: &[u8]) -> Option<Process> {
    let (state, parent) = state_and_parent(line)?;
    Some(Process {
        pid,
        parent,
        zombie: matches!(state, b'Z' | b'X' | b'x'),
    })
}

/// The child of `own` that the process is, or descends from; `None` if it is no descendant.
///
/// `all` is sorted by process number. A parent that ended between two reads breaks the chain; the
/// kernel has given the process a new parent by then, and the next look sees it.
pub fn child_above(all: &[Process], process: &Process, own: Pid) -> Option<Pid> {
    let mut current = process;
    // No chain is longer than the table: a bound, should numbers have been reused while reading.
    for _ in 0..all.len() {
        if current.parent == own {
            return Some(current.pid);
        }
        let at = all.binary_search_by_key(&current.parent, |p| p.pid).ok()?;
        current = &all[at];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_parentheses_and_spaces_does_not_confuse() {
        let line = b"42 (a) Z 1 (b) S 7 42 42 0 -1";
        let expected = Process {
            pid: 42,
            parent: 7,
            zombie: false,
        };
        assert_eq!(parse_stat(42, line), Some(expected));
        assert_eq!(
            parse_stat(42, b"42 (x) Z 9 9"),
            Some(Process {
                zombie: true,
                parent: 9,
                pid: 42
            })
        );
        assert_eq!(parse_stat(42, b""), None);
        assert_eq!(parse_stat(42, b"42 (cut"), None);
    }

    #[test]
    fn a_table_too_small_for_all_says_so() {
        let mut table = ProcTable::open().unwrap();
        table.processes = Vec::with_capacity(1);
        assert!(table.scan().is_err());
        assert_eq!(table.processes().len(), 1, "what there was room for");
    }

    #[test]
    fn a_scan_finds_this_process_its_child_and_the_childs_death() {
        let mut table = ProcTable::open().unwrap();
        let own = super::super::process::own_pid();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = child.id() as Pid;
        let seen = table.scan().unwrap();
        assert!(seen.iter().any(|p| p.pid == own && !p.zombie));
        assert!(seen.contains(&Process {
            pid,
            parent: own,
            zombie: false
        }));
        assert!(seen.is_sorted_by_key(|p| p.pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(table.scan().unwrap().iter().all(|p| p.pid != pid));
    }
}
