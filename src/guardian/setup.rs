//! How a guardian begins: lock, subreaper, sweep, shared memory, and only then an agent.

use super::agent_process::{AgentCommand, AgentProcess};
use super::datalock::{DataLock, DataLockError, canonical_data_dir};
use super::fence::Kill;
use super::kill::Killer;
use super::protocol::Hello;
use super::supervise::{Facts, Guardian};
use super::sweep;
use crate::sys::clock::boottime_ms;
use crate::sys::events::{BoottimeTimer, Signals};
use crate::sys::fault::{NO_HUNG_KILL, NO_KILL_ALL, fault};
use crate::sys::process::{Signal, become_subreaper, keep_ended_children, own_pid};
use crate::sys::shm::SharedWords;
use crate::sys::stderr::NonBlockingStderr;
use crate::sys::{heap, host, image, memlock};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The exit code when another guardian holds the data directory's lock.
pub const EXIT_LOCKED: i32 = 75;
/// The exit code when the guardian could not be set up.
pub const EXIT_SETUP: i32 = 71;

/// K with the kill path locked in memory, and without (G7).
const KILL_BUDGET_LOCKED_MS: u64 = 600;
const KILL_BUDGET_UNLOCKED_MS: u64 = 1200;
/// How often, and with which pause, a held lock is tried: the orphaned agent of a guardian that has
/// just died holds it for the moment of its own sweep.
const LOCK_TRIES: u32 = 30;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// What a guardian is told.
#[derive(Clone, Debug)]
pub struct GuardianSettings {
    /// PostgreSQL's data directory. It may not exist yet; its parent must.
    pub data_dir: PathBuf,
    /// More directories whose processes the sweep kills: where clones are made.
    pub sweep_dirs: Vec<PathBuf>,
    /// The agent's program; usually `/proc/self/exe`.
    pub agent_program: String,
    /// Its arguments, its own name first.
    pub agent_argv: Vec<String>,
    /// Its whole environment.
    pub agent_env: Vec<(String, String)>,
    /// Exit codes of the agent that no restart would mend: the guardian ends with the same.
    pub fatal_exit_codes: Vec<i32>,
    /// D until the agent sets it.
    pub ttl_ms: u64,
    /// The least silence for which a replica's agent is hung.
    pub heartbeat_replica_ms: u64,
    /// Log lines as JSON.
    pub json_logs: bool,
}

/// Why a guardian could not begin.
#[derive(Debug, thiserror::Error)]
enum SetupError {
    #[error("data_dir {}: {source}; its parent directory must exist (is the volume mounted?)", path.display())]
    DataDir { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Lock(#[from] DataLockError),
    #[error("{what}: {source}")]
    System {
        what: &'static str,
        source: io::Error,
    },
}

/// Runs the guardian until its agent ends in order; returns the process's exit code.
///
/// To be called by a process that has one thread: a death signal is tied to the thread that forked,
/// and a fork copies only one.
pub fn run(settings: GuardianSettings) -> i32 {
    let stderr = NonBlockingStderr::open();
    let lines = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || stderr.clone());
    let body = || match set_up(settings.clone()) {
        Ok(guardian) => guardian.run(),
        Err(error) => {
            tracing::error!("cannot guard: {error}");
            match error {
                SetupError::Lock(DataLockError::Held { .. }) => EXIT_LOCKED,
                _ => EXIT_SETUP,
            }
        }
    };
    if settings.json_logs {
        tracing::subscriber::with_default(lines.json().finish(), body)
    } else {
        tracing::subscriber::with_default(lines.finish(), body)
    }
}

fn set_up(settings: GuardianSettings) -> Result<Guardian, SetupError> {
    let is_pid1 = own_pid() == 1;
    // First of all: from here on a signal is data, never an end in the middle of something.
    let signals = block_signals().map_err(system("receive signals"))?;
    let data_dir =
        canonical_data_dir(&settings.data_dir).map_err(|source| SetupError::DataDir {
            path: settings.data_dir.clone(),
            source,
        })?;
    let lock = take_lock(&data_dir)?;
    if !is_pid1 {
        become_subreaper().map_err(system("become the reaper of orphans"))?;
    }
    let mut killer = Killer::new().map_err(system("read the table of processes"))?;
    let mut dirs = vec![data_dir.clone()];
    dirs.extend(settings.sweep_dirs);
    let swept = sweep::until_none_left(&dirs);
    if swept > 0 {
        tracing::warn!(
            swept,
            "killed processes of a predecessor in the data directory"
        );
    }
    let words = SharedWords::create().map_err(system("create shared memory"))?;
    // Command line and configuration are read. Before anything is locked: what is locked stays.
    heap::trim();
    image::release();
    let locked_memory = lock_memory(&mut killer, &words);
    let hello = hello(&lock, is_pid1, locked_memory, &data_dir)
        .map_err(system("read the identity of this host"))?;
    tracing::info!(
        incarnation = hello.incarnation,
        data_dir = %data_dir.display(),
        lock = %hello.lock_path.display(),
        is_pid1,
        "guarding"
    );
    let now = boottime_ms();
    Ok(Guardian {
        facts: Facts {
            is_pid1,
            data_dir,
            fatal_exit_codes: settings.fatal_exit_codes,
            replica_ms: settings.heartbeat_replica_ms,
            default_ttl_ms: settings.ttl_ms,
            never_fence: fault(NO_KILL_ALL),
            never_hung: fault(NO_HUNG_KILL),
            hello,
        },
        words,
        signals,
        timer: BoottimeTimer::new().map_err(system("create a timer"))?,
        timer_set: None,
        killer,
        kill: Kill::default(),
        command: AgentCommand {
            program: settings.agent_program,
            argv: settings.agent_argv,
            env: settings.agent_env,
            dirs,
        },
        agent: AgentProcess::new(),
        postmaster: None,
        watch: None,
        last_exit: None,
        terminating: false,
        starts_at_termination: 0,
        bye: false,
        exit: None,
        turn_ms: now,
        thawed_ms: now,
        _lock: lock,
    })
}

fn system(what: &'static str) -> impl Fn(io::Error) -> SetupError {
    move |source| SetupError::System { what, source }
}

fn block_signals() -> io::Result<Signals> {
    keep_ended_children();
    Signals::block(&[
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        // A guardian stopped from a terminal would guard nothing.
        Signal::SIGTSTP,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
    ])
}

fn take_lock(data_dir: &Path) -> Result<DataLock, DataLockError> {
    let mut tries = LOCK_TRIES;
    loop {
        tries -= 1;
        match DataLock::try_take(data_dir) {
            Err(DataLockError::Held { .. }) if tries > 0 => std::thread::sleep(LOCK_PAUSE),
            taken => return taken,
        }
    }
}

fn lock_memory(killer: &mut Killer, words: &SharedWords) -> bool {
    let locked = killer
        .lock_in_memory()
        .and_then(|()| memlock::lock_extent(words.extent()));
    if let Err(error) = &locked {
        tracing::warn!(
            %error,
            kill_budget_ms = KILL_BUDGET_UNLOCKED_MS,
            "the kill path is not locked in memory: a kill may take longer; raise RLIMIT_MEMLOCK"
        );
    }
    locked.is_ok()
}

fn hello(lock: &DataLock, is_pid1: bool, locked: bool, data_dir: &Path) -> io::Result<Hello> {
    Ok(Hello {
        incarnation: host::random_incarnation()?,
        is_pid1,
        guardian_pid: own_pid(),
        boot_id: host::boot_id()?,
        machine_id: host::machine_id(),
        pid_namespace: host::pid_namespace()?,
        data_dir: data_dir.to_owned(),
        lock_path: lock.path().to_owned(),
        // The sweep has ended, or we would not be here.
        swept: true,
        postmaster: None,
        deadline_ms: None,
        kill_budget_ms: if locked {
            KILL_BUDGET_LOCKED_MS
        } else {
            KILL_BUDGET_UNLOCKED_MS
        },
        locked_memory: locked,
        agent_restarts: 0,
        last_agent_end: None,
        last_exit: None,
        terminating: false,
    })
}
