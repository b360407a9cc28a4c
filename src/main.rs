//! The program: everything is in the library; here the verbs are connected to their parts.

use pgwarden::cli::{self, Dispatch};
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(&Dispatch::default())
}
