//! Forking: a program with exactly the surroundings it is given, or a function as a child of its
//! own.
//!
//! `std::process` cannot set a parent-death signal without a race, reports a failed exec by
//! blocking on it, and must not be used here anyway: a child that hangs opening a file on a dead
//! disk must not hang the process that fences. Everything that touches a volume happens in the
//! child.
#![allow(unsafe_code)]

use super::process::{Pid, Signal, exit_now, own_pid};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::libc;
use nix::sys::signal::SigSet;
use nix::sys::stat::Mode;
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe2, setpgid, setsid};
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What to start, and in what surroundings.
#[derive(Debug, Default)]
pub struct SpawnSpec<'a> {
    /// The program's path.
    pub program: &'a str,
    /// Its arguments, its own name first.
    pub argv: &'a [String],
    /// Its whole environment.
    pub env: &'a [(String, String)],
    /// Its working directory; `None`: as the parent's.
    pub cwd: Option<&'a Path>,
    /// Standard output and error are appended here; `None`: as the parent's.
    pub log: Option<&'a Path>,
    /// A file that must be there, looked for just before the program replaces the child.
    pub required_file: Option<&'a Path>,
    /// Descriptors it inherits, under the same numbers.
    pub pass_fds: &'a [BorrowedFd<'a>],
    /// A session of its own; otherwise only a process group of its own.
    pub new_session: bool,
    /// What the kernel sends it when this process dies.
    pub death_signal: Option<Signal>,
}

/// A child that is on its way to becoming the program.
#[derive(Debug)]
pub struct Spawned {
    /// Its number.
    pub pid: Pid,
    /// Readable once the program runs (end of file) or has failed to (see [`spawn_outcome`]).
    pub outcome: OwnedFd,
}

/// At which step a child failed to become its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SpawnStep {
    /// The parent died meanwhile, or the session could not be made.
    Prepare = 1,
    /// The log file could not be opened.
    OpenLog = 2,
    /// The working directory could not be entered.
    ChangeDir = 3,
    /// The required file is not there.
    RequiredFile = 4,
    /// The program could not be executed.
    Execute = 5,
}

/// What became of a child.
#[derive(Debug)]
pub enum SpawnOutcome {
    /// It is still on its way.
    Pending,
    /// The program runs.
    Running,
    /// It failed at this step and is ending.
    Failed(SpawnStep, io::Error),
}

/// Forks and executes. Returns at once; what became of it is read from `outcome`.
///
/// To be called by a single-threaded process.
pub fn spawn(spec: &SpawnSpec) -> io::Result<Spawned> {
    let prepared = Prepared::new(spec)?;
    let (read_end, write_end) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let parent = own_pid();
    // SAFETY: the child only calls async-signal-safe functions on memory prepared before the fork,
    // then executes or exits.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(Spawned {
            pid: child.as_raw(),
            outcome: read_end,
        }),
        ForkResult::Child => {
            let (step, error) = prepared.become_program(spec, parent);
            let code = (error as i32).to_ne_bytes();
            let report = [step as u8, code[0], code[1], code[2], code[3]];
            let _ = nix::unistd::write(&write_end, &report);
            exit_now(127)
        }
    }
}

/// Reads what became of a spawned child; never blocks.
pub fn spawn_outcome(outcome: &OwnedFd) -> SpawnOutcome {
    let mut report = [0_u8; 5];
    match nix::unistd::read(outcome, &mut report) {
        Ok(0) => SpawnOutcome::Running,
        Ok(5) => {
            let step = match report[0] {
                1 => SpawnStep::Prepare,
                2 => SpawnStep::OpenLog,
                3 => SpawnStep::ChangeDir,
                4 => SpawnStep::RequiredFile,
                _ => SpawnStep::Execute,
            };
            let code = i32::from_ne_bytes([report[1], report[2], report[3], report[4]]);
            SpawnOutcome::Failed(step, io::Error::from_raw_os_error(code))
        }
        Err(Errno::EAGAIN | Errno::EINTR) => SpawnOutcome::Pending,
        Ok(_) | Err(_) => SpawnOutcome::Failed(
            SpawnStep::Prepare,
            io::Error::other("no report of the child"),
        ),
    }
}

/// Forks a child that runs `work` and exits with its value; it dies with this process.
///
/// To be called by a single-threaded process. The child keeps standard streams only: no lock, no
/// channel of the parent's is held open by it.
pub fn fork_worker(work: impl FnOnce() -> i32) -> io::Result<Pid> {
    let parent = own_pid();
    // SAFETY: the process is single-threaded (the caller's promise), so the child may do anything;
    // it ends by `_exit` and never returns into the parent's code.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child.as_raw()),
        ForkResult::Child => {
            let ready = die_with(parent, Signal::SIGKILL).and_then(|()| default_signals());
            // SAFETY: no owner of these descriptors is used again in this process.
            let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
            exit_now(if ready.is_ok() && closed == 0 {
                work()
            } else {
                127
            })
        }
    }
}

/// Takes over a descriptor that the parent passed by number; closed on exec from now on.
pub fn take_inherited_fd(fd: i32) -> io::Result<OwnedFd> {
    if fd < 3 {
        return Err(io::Error::other(
            "a standard stream cannot be passed as a descriptor",
        ));
    }
    // SAFETY: only checks and marks; an invalid number is answered by EBADF.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, and by the contract of the spawner nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Everything that needs memory, made before the fork.
struct Prepared {
    program: CString,
    argv: Vec<CString>,
    env: Vec<CString>,
    cwd: Option<CString>,
    log: Option<CString>,
    required_file: Option<CString>,
    null: OwnedFd,
    argv_pointers: Vec<*const libc::c_char>,
    env_pointers: Vec<*const libc::c_char>,
}

impl Prepared {
    fn new(spec: &SpawnSpec) -> io::Result<Self> {
        let path = |path: Option<&Path>| path.map(|p| text(p.as_os_str())).transpose();
        let env = spec
            .env
            .iter()
            .map(|(k, v)| text(OsStr::new(&format!("{k}={v}"))));
        let mut prepared = Self {
            program: text(OsStr::new(spec.program))?,
            argv: spec
                .argv
                .iter()
                .map(|a| text(OsStr::new(a)))
                .collect::<Result<_, _>>()?,
            env: env.collect::<Result<_, _>>()?,
            cwd: path(spec.cwd)?,
            log: path(spec.log)?,
            required_file: path(spec.required_file)?,
            null: open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?,
            argv_pointers: Vec::new(),
            env_pointers: Vec::new(),
        };
        let pointers = |texts: &[CString]| {
            texts
                .iter()
                .map(|t| t.as_ptr())
                .chain([std::ptr::null()])
                .collect::<Vec<_>>()
        };
        prepared.argv_pointers = pointers(&prepared.argv);
        prepared.env_pointers = pointers(&prepared.env);
        Ok(prepared)
    }

    /// In the child: returns only if it failed, with the step and the reason.
    fn become_program(&self, spec: &SpawnSpec, parent: Pid) -> (SpawnStep, Errno) {
        if let Err(error) = prepare(spec, parent) {
            return (SpawnStep::Prepare, error);
        }
        if let Err(error) = self.redirect() {
            return (SpawnStep::OpenLog, error);
        }
        if let Some(cwd) = &self.cwd
            && let Err(error) = nix::unistd::chdir(cwd.as_c_str())
        {
            return (SpawnStep::ChangeDir, error);
        }
        if let Some(file) = &self.required_file
            && let Err(error) = nix::unistd::access(file.as_c_str(), nix::unistd::AccessFlags::F_OK)
        {
            return (SpawnStep::RequiredFile, error);
        }
        // SAFETY: the program is a C string and both arrays are null-terminated arrays of pointers
        // to C strings owned by `self`, which outlives the call.
        unsafe {
            libc::execve(
                self.program.as_ptr(),
                self.argv_pointers.as_ptr(),
                self.env_pointers.as_ptr(),
            );
        }
        (SpawnStep::Execute, Errno::last())
    }

    fn redirect(&self) -> nix::Result<()> {
        dup2_stdin(&self.null)?;
        if let Some(log) = &self.log {
            let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT | OFlag::O_CLOEXEC;
            let file = open(log.as_c_str(), flags, Mode::from_bits_truncate(0o600))?;
            dup2_stdout(&file)?;
            dup2_stderr(&file)?;
        }
        Ok(())
    }
}

fn prepare(spec: &SpawnSpec, parent: Pid) -> nix::Result<()> {
    if let Some(signal) = spec.death_signal {
        die_with(parent, signal)?;
    }
    if spec.new_session {
        setsid()?;
    } else {
        setpgid(nix::unistd::Pid::from_raw(0), nix::unistd::Pid::from_raw(0))?;
    }
    for fd in spec.pass_fds {
        fcntl(fd.as_fd(), FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    default_signals()
}

/// Asks for `signal` at the parent's death, and notices a parent that died before the asking.
fn die_with(parent: Pid, signal: Signal) -> nix::Result<()> {
    nix::sys::prctl::set_pdeathsig(signal)?;
    if nix::unistd::getppid().as_raw() == parent {
        Ok(())
    } else {
        Err(Errno::ESRCH)
    }
}

/// Every signal unblocked and at its default: neither the runtime's ignored SIGPIPE nor the
/// guardian's blocked signals are passed on.
fn default_signals() -> nix::Result<()> {
    for number in 1..32 {
        if number != libc::SIGKILL && number != libc::SIGSTOP {
            // SAFETY: the default action is no function of ours.
            unsafe { libc::signal(number, libc::SIG_DFL) };
        }
    }
    SigSet::all().thread_unblock()
}

fn text(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| io::Error::other("a text with a NUL byte"))
}

/// The number under which a descriptor is passed on.
pub fn fd_number(fd: &impl AsFd) -> i32 {
    fd.as_fd().as_raw_fd()
}
