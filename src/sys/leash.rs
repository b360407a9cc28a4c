//! A program that was not written for this house, and everything that it starts, on a leash: a
//! small process between the agent and a script of the user's.
//!
//! A script may start others, put them into sessions of their own and end before them. What has
//! lost its parent goes to the nearest *subreaper*: without a leash that is the guardian, to whom
//! it would look like a leftover of PostgreSQL's, and hold up a verified stop (G4). The leash is a
//! subreaper, so the whole tree stays below the agent, where the guardian's kills pass it by; and
//! it ends the tree, all of it, when the agent says so or is gone: its standard input is a pipe
//! whose other end the agent holds.
//!
//! It is this program run again, told by one variable of the environment. It has one thread.

use super::clock::boottime_ms;
use super::events::{Signals, wait_readable};
use super::process::{Pid, Signal, become_subreaper, is_executable, own_pid, reap, signal};
use super::proctable::{ProcTable, child_above};
use super::spawn::{SpawnOutcome, SpawnSpec, spawn, spawn_outcome};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Who finds this in its environment is a leash.
pub const LEASH_ENV: &str = "PGWARDEN_LEASH";
/// From asking a tree to end (SIGTERM) to making it (SIGKILL).
pub const GRACE_MS: u64 = 2_000;
/// How long killed processes are waited for. One stuck in the kernel stays behind.
pub const KILL_MS: u64 = 3_000;
/// Its exit code where the program is not there, as a shell's.
pub const EXIT_MISSING: i32 = 127;
/// Its exit code where the program cannot be executed, as a shell's.
pub const EXIT_NOT_EXECUTABLE: i32 = 126;
/// Begins a line of the leash's own about a command that could not be run; who reads it tells it in
/// its own way.
pub const OWN_WORDS: char = '\u{1f}';
/// Between two looks at a tree that is to end.
const LOOK_MS: u64 = 10;
/// Between two looks without a sign of anything.
const IDLE_MS: u64 = 1_000;

/// What a leash is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Leash {
    /// The command's words; the first one is looked for on `PATH` if it has no slash.
    pub argv: Vec<String>,
    /// What the command leaves running when it ends goes on; else it is ended with it.
    pub lingers: bool,
}

impl Leash {
    /// This program run as the leash, with exactly this environment. The caller adds the pipes.
    pub fn command(&self, program: &Path, env: &[(String, String)]) -> std::process::Command {
        use std::os::unix::process::CommandExt;
        let mut command = std::process::Command::new(program);
        // It cannot fail: texts and a flag.
        let told = serde_json::to_string(self).unwrap_or_default();
        command
            .arg0("pgwarden")
            .env_clear()
            .envs(env.iter().cloned())
            .env(LEASH_ENV, told)
            .process_group(0);
        command
    }
}

/// Runs as the leash if this process was started as one; its exit code.
pub fn run_if_told() -> Option<u8> {
    let told = std::env::var(LEASH_ENV).ok()?;
    let code = match serde_json::from_str::<Leash>(&told) {
        Ok(leash) => run(&leash),
        Err(error) => {
            say(&format!("{LEASH_ENV} cannot be read: {error}"));
            EXIT_NOT_EXECUTABLE
        }
    };
    Some(u8::try_from(code).unwrap_or(u8::MAX))
}

fn run(leash: &Leash) -> i32 {
    match Held::begin(leash) {
        Ok(held) => held.follow(leash.lingers),
        Err((code, words)) => {
            say(&format!("{OWN_WORDS}{words}"));
            code
        }
    }
}

/// To the standard error, which the agent reads.
fn say(words: &str) {
    // Nobody is left to tell if even this cannot be written.
    let _ = writeln!(io::stderr(), "{words}");
}

/// A running command.
struct Held {
    table: ProcTable,
    signals: Signals,
    command: Pid,
    code: Option<i32>,
}

impl Held {
    fn begin(leash: &Leash) -> Result<Self, (i32, String)> {
        let fault = |what: &str, error: &io::Error| {
            (EXIT_NOT_EXECUTABLE, format!("cannot {what}: {error}"))
        };
        let name = leash.argv.first().map_or("", String::as_str);
        let program = find(name)?;
        become_subreaper().map_err(|error| fault("become a subreaper", &error))?;
        let table = ProcTable::open().map_err(|error| fault("read /proc", &error))?;
        let signals = Signals::block(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
        let signals = signals.map_err(|error| fault("receive signals", &error))?;
        let env: Vec<_> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name != LEASH_ENV)
            .collect();
        let spawned = spawn(&SpawnSpec {
            program: &program.to_string_lossy(),
            argv: &leash.argv,
            env: &env,
            new_session: true,
            death_signal: Some(Signal::SIGKILL),
            ..SpawnSpec::default()
        });
        let spawned = spawned.map_err(|error| fault(&format!("run {name}"), &error))?;
        wait_readable(&[&spawned.outcome], IDLE_MS);
        if let SpawnOutcome::Failed(_, error) = spawn_outcome(&spawned.outcome) {
            let hint = if error.kind() == io::ErrorKind::NotFound {
                " (of the script itself, or of the interpreter that its first line names)"
            } else {
                ""
            };
            let words = format!("cannot run {}: {error}{hint}", program.display());
            return Err((EXIT_NOT_EXECUTABLE, words));
        }
        Ok(Self {
            table,
            signals,
            command: spawned.pid,
            code: None,
        })
    }

    /// Until the command ends, and what it left, or until the agent says so; the exit code.
    fn follow(mut self, lingers: bool) -> i32 {
        loop {
            // The agent writes nothing: readable is a pipe whose other end is closed.
            let ready = wait_readable(&[&self.signals, &io::stdin()], IDLE_MS);
            let mut told = ready[1];
            while let Some(signal) = self.signals.next() {
                told |= signal != Signal::SIGCHLD;
            }
            self.reap();
            let ended = self.code.is_some();
            if told || (ended && !lingers) {
                self.end();
            } else if !ended || self.living() > 0 {
                continue;
            }
            // Told to end before it ended by itself: as a shell says of a death by SIGTERM.
            return self.code.unwrap_or(128 + Signal::SIGTERM as i32);
        }
    }

    fn reap(&mut self) {
        while let Some(end) = reap() {
            if end.pid == self.command {
                self.code = end.code.or(end.signal.map(|signal| 128 + signal));
            }
        }
    }

    /// Ends the tree: asks, then kills, until nobody of it is found twice in a row.
    fn end(&mut self) {
        let begun = boottime_ms();
        self.send(Signal::SIGTERM);
        // Who is stopped hears it only now.
        self.send(Signal::SIGCONT);
        let mut empty = 0;
        while empty < 2 && boottime_ms() < begun + GRACE_MS + KILL_MS {
            let killing = boottime_ms() >= begun + GRACE_MS;
            let living = if killing {
                self.send(Signal::SIGKILL)
            } else {
                self.living()
            };
            empty = if living == 0 { empty + 1 } else { 0 };
            if living > 0 {
                wait_readable(&[&self.signals], LOOK_MS);
                while self.signals.next().is_some() {}
            }
            self.reap();
        }
        if empty < 2 {
            say("killed processes do not end (a dead disk?): leaving them");
        }
    }

    fn send(&mut self, what: Signal) -> usize {
        let own = own_pid();
        // Whoever a table with gaps shows is reached all the same.
        let gaps = usize::from(self.table.scan().is_err());
        let all = self.table.processes();
        let below = all
            .iter()
            .filter(|process| !process.zombie && child_above(all, process, own).is_some());
        let mut found = gaps;
        for process in below {
            found += 1;
            signal(process.pid, what);
        }
        found
    }

    fn living(&mut self) -> usize {
        let own = own_pid();
        let gaps = usize::from(self.table.scan().is_err());
        let all = self.table.processes();
        let below = all.iter().filter(|process| !process.zombie);
        gaps + below
            .filter(|process| child_above(all, process, own).is_some())
            .count()
    }
}

/// The program that a word names, by its path or on `PATH`.
fn find(name: &str) -> Result<PathBuf, (i32, String)> {
    let candidates: Vec<PathBuf> = if name.contains('/') {
        vec![PathBuf::from(name)]
    } else {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
        std::env::split_paths(&path)
            .map(|dir| dir.join(name))
            .collect()
    };
    if let Some(found) = candidates.iter().find(|path| is_executable(path)) {
        return Ok(found.clone());
    }
    let there = candidates.iter().find(|path| path.exists());
    Err(match there {
        Some(path) => (
            EXIT_NOT_EXECUTABLE,
            format!(
                "{} is not executable by this user; expected a program or a script with the mode 0755",
                path.display()
            ),
        ),
        None if name.contains('/') => (EXIT_MISSING, format!("{name} is not there")),
        None => (EXIT_MISSING, format!("{name} is not on PATH")),
    })
}
