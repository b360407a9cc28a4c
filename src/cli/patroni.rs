//! Called as `patroni`: its options, which entrypoints and operators write.

use super::{AgentArgs, Dispatch, Exit, Failure, generate};
use crate::settings::{self, Loaded, embedded, show};
use clap::{Args, Command, FromArgMatches};
use std::io::Write;
use std::path::PathBuf;

/// What `patroni` takes.
#[derive(Args, Clone, Debug)]
struct Words {
    /// The configuration: a file, or a directory of files; without it PATRONI_CONFIGURATION.
    #[arg(value_name = "configfile")]
    config: Option<PathBuf>,
    /// Check the configuration and end: 0 if it can be used, else 1.
    #[arg(long, conflicts_with_all = ["generate_sample_config", "generate_config"])]
    validate_config: bool,
    /// Write a sample configuration and end.
    #[arg(long, conflicts_with = "generate_config")]
    generate_sample_config: bool,
    /// Make a configuration from a running server.
    #[arg(long)]
    generate_config: bool,
    /// That server, as a superuser; by default the one of PGHOST, PGPORT and PGUSER.
    #[arg(long, value_name = "DSN", requires = "generate_config")]
    dsn: Option<String>,
    /// Do not mind ports that are in use (they are not looked at).
    #[arg(short, long, requires = "validate_config")]
    ignore_listen_port: bool,
    /// Print what the configuration means, without passwords.
    #[arg(short, long, requires = "validate_config")]
    print: bool,
}

/// The command.
pub(super) fn command() -> Command {
    Words::augment_args(Command::new("patroni"))
        .version(env!("CARGO_PKG_VERSION"))
        .about("pgwarden in Patroni's place: runs a member of a highly available PostgreSQL")
        .long_about(None)
}

/// Do it.
pub(super) fn perform(
    dispatch: &Dispatch,
    matches: &clap::ArgMatches,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let words = Words::from_arg_matches(matches).map_err(|error| {
        let what = error.to_string();
        Failure::new(Exit::Usage, what)
    })?;
    if words.generate_config {
        let text = generate::run(words.dsn.as_deref())?;
        match &words.config {
            None => write!(out, "{text}")?,
            Some(path) => generate::write(path, &text)?,
        }
        return Ok(Exit::Ok);
    }
    if words.generate_sample_config {
        return sample(words.config, out);
    }
    if words.config.is_none() && !settings::is_in_environment(&settings::process_env) {
        let what = "Config is empty: give a file or a directory, or set PATRONI_CONFIGURATION";
        return Err(Failure::new(Exit::Failure, what));
    }
    if words.validate_config {
        return validate(&words, out);
    }
    let agent = dispatch
        .agent
        .ok_or_else(|| Failure::new(Exit::Failure, "this program runs no member"))?;
    let config = words.config;
    Ok(agent(&AgentArgs { config })?)
}

/// To the file that is named, else to standard output.
fn sample(path: Option<PathBuf>, out: &mut dyn Write) -> Result<Exit, Failure> {
    match path {
        None => write!(out, "{}", embedded::DEFAULT)?,
        Some(path) => std::fs::write(&path, embedded::DEFAULT).map_err(|error| {
            Failure::new(Exit::CannotCreate, format!("{}: {error}", path.display()))
        })?,
    }
    Ok(Exit::Ok)
}

fn validate(words: &Words, out: &mut dyn Write) -> Result<Exit, Failure> {
    let Loaded { settings, problems } =
        settings::load_given(words.config.as_deref(), &settings::process_env);
    for problem in &problems {
        writeln!(out, "{problem}")?;
    }
    let Some(settings) = settings else {
        let errors = problems.iter().filter(|problem| problem.is_error()).count();
        let what = format!("the configuration cannot be used: {errors} of these are errors");
        return Err(Failure::new(Exit::Failure, what));
    };
    if words.print {
        for line in show::lines(&settings) {
            writeln!(out, "{line}")?;
        }
    }
    Ok(Exit::Ok)
}
