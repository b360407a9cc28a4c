//! Running the program.

use crate::harness::PATIENCE;
use std::process::Stdio;
use tokio::process::Command;

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The program with nothing of ours in its environment and nobody at the terminal.
pub(crate) fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgwarden"));
    for name in [
        "PGWARDEN_API",
        "PGWARDEN_API_USERNAME",
        "PGWARDEN_API_PASSWORD",
        "PGWARDEN_API_CACERT",
    ] {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Run it to its end.
pub(crate) async fn run(args: &[&str]) -> Ended {
    end(program(args)).await
}

/// Run a prepared one to its end.
pub(crate) async fn end(mut command: Command) -> Ended {
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .expect("it ends")
        .unwrap();
    let ended = Ended {
        code: output.status.code().expect("it was not killed"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    };
    let lines = ended.err.lines().count();
    assert!(
        ended.code == 2 || lines <= 1,
        "more than one line of error: {ended:?}"
    );
    ended
}
