//! Runs PostgreSQL's programs: each with a deadline, and with what it complained about.
//!
//! A program dropped or past its deadline is killed: none outlives the call that wanted it.
//! What it prints is kept only at its end, so that a talkative program costs no memory.

use super::account;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// How much of a program's output is kept: its last bytes.
const OUTPUT_BYTES_MAX: usize = 16 * 1024;

/// Why a program did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It could not be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// It was still running at its deadline and has been killed.
    #[error("{program} was still running after {deadline_ms} ms and was killed; it said: {output}")]
    Deadline {
        /// The program.
        program: String,
        /// The deadline it had.
        deadline_ms: u128,
        /// The end of what it printed.
        output: String,
    },
    /// It ended with an error.
    #[error("{program} failed ({status}): {output}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of what it printed.
        output: String,
    },
}

/// Prepares a program of PostgreSQL's: no stdin, and no variable that could change its meaning.
///
/// `works_in` is the directory it writes to, or that directory's stage: should guardian and agent
/// die under it, their successor finds it by its working directory and kills it (G6) before
/// another program writes to the same files.
pub fn program(program: &Path, works_in: &Path) -> Command {
    // A relative path must not be looked for in the new working directory.
    let mut command =
        Command::new(std::path::absolute(program).unwrap_or_else(|_| program.to_owned()));
    command
        .env_clear()
        .envs(clean_env())
        .stdin(Stdio::null())
        .current_dir(works_in);
    command
}

/// This process's environment without libpq's variables and the pod's own: neither the server nor
/// its programs have any business with them. A user without a name gets an account.
pub fn clean_env() -> Vec<(String, String)> {
    let foreign = |name: &str| {
        name.starts_with("PG")
            || name.starts_with("PATRONI_")
            || name.starts_with("KUBERNETES_")
            || name == "NOTIFY_SOCKET"
    };
    // vars_os: a value that is not UTF-8 must not end the program.
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| !foreign(name))
        .chain(account::variables())
        .collect()
}

/// Runs it to its end; returns the end of what it printed to stdout.
pub async fn run(command: Command, deadline: Duration) -> Result<String, ChildError> {
    run_watched(command, deadline, |_| {}).await
}

/// Runs it to its end, showing `on_line` each line of its stderr as it comes.
pub async fn run_watched(
    mut command: Command,
    deadline: Duration,
    mut on_line: impl FnMut(&str),
) -> Result<String, ChildError> {
    let program = command
        .as_std()
        .get_program()
        .to_string_lossy()
        .into_owned();
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|source| ChildError::Start {
        program: program.clone(),
        source,
    })?;
    let (mut stdout, mut stderr) = (Tail::default(), Tail::default());
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let talk = async {
        tokio::join!(
            drain(out, &mut stdout, |_| {}),
            drain(err, &mut stderr, &mut on_line)
        );
        child.wait().await
    };
    let ended = tokio::time::timeout(deadline, talk).await;
    let output = if stderr.text().trim().is_empty() {
        stdout.text()
    } else {
        stderr.text()
    };
    match ended {
        Ok(Ok(status)) if status.success() => Ok(stdout.text()),
        Ok(Ok(status)) => Err(ChildError::Failed {
            program,
            status,
            output,
        }),
        Ok(Err(source)) => Err(ChildError::Start { program, source }),
        Err(_) => {
            // Killed and reaped here, so that nothing of it still writes when we return.
            drop(child.kill().await);
            Err(ChildError::Deadline {
                program,
                deadline_ms: deadline.as_millis(),
                output,
            })
        }
    }
}

/// The last bytes of a stream.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
}

impl Tail {
    fn push(&mut self, chunk: &[u8]) {
        self.bytes.extend_from_slice(chunk);
        if self.bytes.len() > OUTPUT_BYTES_MAX {
            self.bytes.drain(..self.bytes.len() - OUTPUT_BYTES_MAX);
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).trim().to_owned()
    }
}

async fn drain(
    stream: Option<impl AsyncRead + Unpin>,
    tail: &mut Tail,
    mut on_line: impl FnMut(&str),
) {
    let Some(mut stream) = stream else { return };
    let mut chunk = [0; 4096];
    let mut line = Vec::new();
    // A read error is the stream's end: how the program ended is told by its status.
    while let Ok(length @ 1..) = stream.read(&mut chunk).await {
        tail.push(&chunk[..length]);
        for &byte in &chunk[..length] {
            // Progress to a terminal ends its lines with a carriage return.
            if byte == b'\n' || byte == b'\r' {
                on_line(&String::from_utf8_lossy(&line));
                line.clear();
            } else if line.len() < OUTPUT_BYTES_MAX {
                line.push(byte);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = program(Path::new("/bin/sh"), Path::new("/"));
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn a_failure_carries_the_end_of_stderr() {
        let script = "i=0; while [ $i -lt 9000 ]; do echo line $i >&2; i=$((i+1)); done; exit 3";
        let error = run(shell(script), Duration::from_mins(1))
            .await
            .unwrap_err();
        let ChildError::Failed { status, output, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(status.code(), Some(3));
        assert!(output.ends_with("line 8999") && output.len() <= OUTPUT_BYTES_MAX);
    }

    #[tokio::test]
    async fn a_program_past_its_deadline_is_gone() {
        let command = shell("echo $$ >&2; exec sleep 600");
        let mut pid = String::new();
        let watched = run_watched(command, Duration::from_secs(2), |line| {
            pid = line.to_owned();
        })
        .await;
        assert!(matches!(watched, Err(ChildError::Deadline { .. })));
        assert!(!pid.is_empty() && !Path::new("/proc").join(pid).exists());
    }

    #[tokio::test]
    async fn lines_come_by_either_ending() {
        let mut lines = Vec::new();
        let command = shell("printf 'a\\rb\\nc\\n' >&2");
        run_watched(command, Duration::from_mins(1), |line| {
            lines.push(line.to_owned());
        })
        .await
        .unwrap();
        assert_eq!(lines, ["a", "b", "c"]);
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let error = run(
            program(Path::new("/nowhere/initdb"), Path::new("/")),
            Duration::from_secs(1),
        )
        .await;
        assert!(error.unwrap_err().to_string().contains("/nowhere/initdb"));
    }
}
