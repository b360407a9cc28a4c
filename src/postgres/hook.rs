//! Runs a command of the user's: a callback, a method of cloning, a custom bootstrap.
//!
//! Nothing is known of it but its words, so it runs on a leash ([`crate::sys::leash`]), has a
//! deadline, and ends with everything it started when that has come, or when whoever wanted it
//! lets go. What it prints is logged line by line, so many and no more: a script that floods
//! costs a little time of its own and neither memory nor the log.

use super::account;
use crate::sys::leash::{EXIT_MISSING, EXIT_NOT_EXECUTABLE, GRACE_MS, KILL_MS, Leash, OWN_WORDS};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// Bytes of a line that are logged.
const LINE_BYTES_MAX: usize = 1_000;
/// Lines that are logged at once, and how many more in each second.
const LINES_BURST: u32 = 200;
const LINES_PER_SECOND: u32 = 20;
/// Bytes read at once. Who fills them is made to wait: a megabyte a second is enough.
const CHUNK_BYTES: usize = 32 * 1024;
const CHUNK_PAUSE: Duration = Duration::from_millis(32);
/// From letting go of the leash to giving it up.
const ENDING: Duration = Duration::from_millis(GRACE_MS + KILL_MS + 1_000);

/// A command and its surroundings.
#[derive(Clone, Debug)]
pub struct Hook {
    /// The key it is configured under, for the log.
    pub name: String,
    /// Its words.
    pub argv: Vec<String>,
    /// Variables beside those that every hook gets.
    pub env: Vec<(String, String)>,
    /// The directory it works in: a sweep (G6) finds who works in the data directory or its stage.
    /// `None`: as the agent's.
    pub works_in: Option<PathBuf>,
    /// What it leaves running goes on until the deadline; else it is ended with it.
    pub lingers: bool,
    /// How long it may take.
    pub deadline: Duration,
}

/// Why a hook did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// It could not be started.
    #[error("it cannot be run: {0}")]
    CannotRun(String),
    /// It was still running at its deadline and has been ended, with all that it started.
    #[error("it was still running after {} s and was ended{}", .deadline.as_secs(), said(.output))]
    Deadline {
        /// The deadline it had.
        deadline: Duration,
        /// The last line it printed.
        output: String,
    },
    /// It ended with an error.
    #[error("it failed ({status}){}", said(.output))]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// The last line it printed.
        output: String,
    },
    /// It was ended because it was not wanted any more.
    #[error("it was ended before it was through")]
    Ended,
}

fn said(output: &str) -> String {
    if output.is_empty() {
        return String::new();
    }
    format!("; it said: {output}")
}

/// The environment of a hook: the agent's own, without what is meant for the agent alone. The
/// settings of Patroni and of this program may hold passwords, and so may libpq's.
pub fn environment() -> Vec<(String, String)> {
    let private = |name: &str| {
        name.starts_with("PATRONI_")
            || name.starts_with("PATRONICTL_")
            || name.starts_with("PGWARDEN_")
            || matches!(name, "PGPASSWORD" | "NOTIFY_SOCKET")
    };
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| !private(name))
        .chain(account::variables())
        .collect()
}

/// Runs it to its end. `leash` is this program's own file. Dropped, it ends the hook.
pub async fn run(leash: &Path, hook: &Hook) -> Result<(), HookError> {
    run_until(leash, hook, std::future::pending()).await
}

/// Runs it to its end, or until `enough`: then it and all that it started are ended before this
/// returns.
pub async fn run_until(
    leash: &Path,
    hook: &Hook,
    enough: impl Future<Output = ()>,
) -> Result<(), HookError> {
    let mut env = environment();
    env.retain(|(name, _)| !hook.env.iter().any(|(ours, _)| ours == name));
    env.extend(hook.env.iter().cloned());
    let told = Leash {
        argv: hook.argv.clone(),
        lingers: hook.lingers,
    };
    let mut command = told.command(leash, &env);
    if let Some(dir) = &hook.works_in {
        command.current_dir(dir);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = Command::from(command)
        .spawn()
        .map_err(|error| HookError::CannotRun(error.to_string()))?;
    let log = Mutex::new(Log::of(&hook.name));
    // The leash holds on as long as this is open.
    let held = child.stdin.take();
    let ended = tokio::select! {
        ended = tokio::time::timeout(hook.deadline, follow(&mut child, &log)) => Some(ended),
        () = enough => None,
    };
    drop(held);
    let output = log
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .close();
    let status = match ended {
        Some(Ok(Ok(status))) => status,
        Some(Ok(Err(error))) => return Err(HookError::CannotRun(error.to_string())),
        Some(Err(_)) => {
            see_off(&mut child).await;
            let deadline = hook.deadline;
            return Err(HookError::Deadline { deadline, output });
        }
        None => {
            see_off(&mut child).await;
            return Err(HookError::Ended);
        }
    };
    match status.code() {
        Some(0) => Ok(()),
        Some(EXIT_MISSING | EXIT_NOT_EXECUTABLE) if !output.is_empty() => {
            Err(HookError::CannotRun(output))
        }
        _ => Err(HookError::Failed { status, output }),
    }
}

/// The leash ends it, and all that it started, once nobody holds its other end.
async fn see_off(child: &mut Child) {
    if tokio::time::timeout(ENDING, child.wait()).await.is_err() {
        tracing::error!("a hook does not end (a dead disk?): leaving it to its leash");
    }
}

async fn follow(child: &mut Child, log: &Mutex<Log>) -> std::io::Result<ExitStatus> {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let reading = async { tokio::join!(drain(out, log), drain(err, log)) };
    let ended = async {
        let status = child.wait().await;
        // What is in the pipes is read; what a stranger may still write is not waited for.
        tokio::time::sleep(2 * CHUNK_PAUSE).await;
        status
    };
    tokio::pin!(reading, ended);
    tokio::select! {
        status = &mut ended => status,
        _ = &mut reading => ended.await,
    }
}

async fn drain(stream: Option<impl AsyncRead + Unpin>, log: &Mutex<Log>) {
    let Some(mut stream) = stream else { return };
    let note = |line: &[u8]| {
        log.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .line(line);
    };
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut line = Vec::new();
    // A read error is the stream's end: how the hook ended is told by its status.
    while let Ok(length @ 1..) = stream.read(&mut chunk).await {
        for &byte in &chunk[..length] {
            if byte == b'\n' || byte == b'\r' {
                note(&line);
                line.clear();
            } else if line.len() < LINE_BYTES_MAX {
                line.push(byte);
            }
        }
        if length == chunk.len() {
            tokio::time::sleep(CHUNK_PAUSE).await;
        }
    }
    note(&line);
}

/// The lines of one hook on their way to the log.
struct Log {
    name: String,
    last: String,
    allowed: u32,
    counted_at: Instant,
    left_out: u64,
}

impl Log {
    fn of(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            last: String::new(),
            allowed: LINES_BURST,
            counted_at: Instant::now(),
            left_out: 0,
        }
    }

    fn line(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_end();
        if text.is_empty() {
            return;
        }
        if let Some(words) = text.strip_prefix(OWN_WORDS) {
            return words.clone_into(&mut self.last);
        }
        text.clone_into(&mut self.last);
        let seconds = self.counted_at.elapsed().as_secs();
        if seconds > 0 {
            self.counted_at = Instant::now();
            let more = u32::try_from(seconds)
                .unwrap_or(u32::MAX)
                .saturating_mul(LINES_PER_SECOND);
            self.allowed = self.allowed.saturating_add(more).min(LINES_BURST);
        }
        if self.allowed == 0 {
            self.left_out += 1;
            return;
        }
        self.tell_left_out();
        self.allowed -= 1;
        tracing::info!(hook = self.name, "{text}");
    }

    fn tell_left_out(&mut self) {
        if self.left_out > 0 {
            let (hook, lines) = (&self.name, self.left_out);
            tracing::info!(hook, "{lines} lines are left out here: it prints too many");
            self.left_out = 0;
        }
    }

    /// The last line that came.
    fn close(mut self) -> String {
        self.tell_left_out();
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let mut log = Log::of("on_start");
        for number in 0..10_000 {
            log.line(format!("line {number}").as_bytes());
        }
        // A slow machine may have let a second or two pass.
        assert!(log.left_out > 9_000, "{}", log.left_out);
        assert_eq!(log.last, "line 9999");
    }
}
