//! The program: everything is in the library; here the verbs are connected to their parts.

use pgwarden::cli::{self, Dispatch};
use pgwarden::sys::leash;
use pgwarden::{agent, playground, runner};
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = leash::run_if_told() {
        return ExitCode::from(code);
    }
    cli::main(&Dispatch {
        agent: Some(agent::run),
        check: Some(cli::check::verb),
        replay: Some(runner::replay_verb),
        playground: Some(playground::run),
        endpoint: Some(agent::endpoint),
    })
}
