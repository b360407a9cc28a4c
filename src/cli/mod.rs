//! What a person types: verbs, their arguments, rendering and exit codes.
//!
//! The verbs that run a member or a whole cluster belong to other parts of the program; they are
//! handed in as a [`Dispatch`], and one that is not handed in does not exist, not even in the help.

pub mod args;
mod called;
pub mod check;
mod choices;
pub mod cluster;
pub mod ctl;
pub mod exit;
pub mod explain;
mod failure;
mod generate;
mod live;
mod patroni;
mod patronictl;
pub mod render;
pub mod rest;
mod sql;
mod story;
mod table;
pub mod verbs;

pub use args::{AgentArgs, CheckArgs, PlaygroundArgs, ReplayArgs};
pub use exit::Exit;
pub use failure::Failure;

use crate::api::client::{self, Client};
use crate::api::{Credentials, tls};
use crate::settings;
use args::{CompletionsArgs, ExplainArgs, Shell, Target};
use called::Called;
use clap::{Args, Command, FromArgMatches};
use ctl::Remote;
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use verbs::CtlArgs;

/// Where members are asked, as a configuration tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `http://host:port` or https, each; the first one that answers is believed.
    pub urls: Vec<String>,
    /// The user, if the API asks for one.
    pub credentials: Option<Credentials>,
    /// How it is asked over https.
    pub tls: tls::client::Wanted,
}

/// A verb's part of the program, which runs until it is done and tells how it ended.
pub type Part<A> = fn(&A) -> anyhow::Result<Exit>;

/// A part that prints.
pub type PrintingPart<A> = fn(&A, &mut dyn Write) -> anyhow::Result<Exit>;

/// The parts of the program behind the verbs. `None`: the verb is not there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dispatch {
    /// Run a member.
    pub agent: Option<Part<AgentArgs>>,
    /// Check a configuration.
    pub check: Option<PrintingPart<CheckArgs>>,
    /// Run a journal again through the decision function.
    pub replay: Option<PrintingPart<ReplayArgs>>,
    /// Run a cluster on this machine.
    pub playground: Option<Part<PlaygroundArgs>>,
    /// Find members and the credentials for them by a configuration: a file, or without one the
    /// environment; of the cluster that is named, or of the configuration's own.
    pub endpoint: Option<Find>,
}

/// See [`Dispatch::endpoint`].
pub type Find = fn(Option<&Path>, Option<&str>) -> anyhow::Result<Endpoint>;

/// The whole command line: what `main` calls.
pub fn main(dispatch: &Dispatch) -> ExitCode {
    // Not locked for good: verbs with threads of their own print too.
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    ExitCode::from(run(dispatch, std::env::args_os(), &mut out, &mut err).code())
}

/// Parse, do, report: one `error:` line at most. The first word says as which program.
pub fn run(
    dispatch: &Dispatch,
    args: impl IntoIterator<Item = OsString>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Exit {
    let args: Vec<OsString> = args.into_iter().collect();
    let called = Called::by(args.first());
    let command = match called {
        Called::Pgwarden => command(dispatch),
        Called::Patroni => patroni::command(),
        Called::Patronictl => patronictl::command(),
    };
    // Scripts made for Patroni's programs look for its word.
    let word = match called {
        Called::Pgwarden => "error: ",
        Called::Patroni | Called::Patronictl => "Error: ",
    };
    let matches = match command.try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            let text = error.render().to_string().replacen("error: ", word, 1);
            // Nobody is left to tell if even this cannot be written.
            let _ = if error.use_stderr() {
                write!(err, "{text}")
            } else {
                write!(out, "{text}")
            };
            return if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Ok
            };
        }
    };
    let done = match called {
        Called::Pgwarden => perform(dispatch, &matches, out),
        Called::Patroni => patroni::perform(dispatch, &matches, out),
        Called::Patronictl => patronictl::perform(dispatch, &matches, out, err),
    };
    let done = done.and_then(|exit| {
        out.flush()?;
        Ok(exit)
    });
    let exit = done.unwrap_or_else(|failure| {
        let exit = failure.exit();
        if exit != Exit::Ok {
            let _ = writeln!(err, "{word}{failure}");
        }
        exit
    });
    match (called, exit) {
        (Called::Pgwarden, exit) => exit,
        (_, Exit::Ok) => Exit::Ok,
        // Patroni's programs have one code for whatever goes wrong.
        _ => Exit::Failure,
    }
}

fn perform(
    dispatch: &Dispatch,
    matches: &clap::ArgMatches,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let linked = "only linked verbs can be parsed";
    match matches.subcommand() {
        Some(("agent", given)) => {
            let args: AgentArgs = parsed(given);
            if args.config.is_none() && !settings::is_in_environment(&settings::process_env) {
                let what = "no configuration: give its path, or set PATRONI_CONFIGURATION";
                return Err(Failure::new(Exit::Usage, what));
            }
            Ok(dispatch.agent.expect(linked)(&args)?)
        }
        Some(("check", given)) => Ok(dispatch.check.expect(linked)(&parsed(given), out)?),
        Some(("replay", given)) => Ok(dispatch.replay.expect(linked)(&parsed(given), out)?),
        Some(("playground", given)) => Ok(dispatch.playground.expect(linked)(&parsed(given))?),
        Some(("ctl", given)) => ctl::run(dispatch, &parsed::<CtlArgs>(given), out),
        Some(("completions", given)) => completions(dispatch, &parsed(given), out),
        Some(("explain", given)) => explain::run(dispatch, &parsed::<ExplainArgs>(given), out),
        _ => Err(Failure::new(
            Exit::Usage,
            "no verb given; see pgwarden --help",
        )),
    }
}

/// The arguments of a verb, which clap has already accepted.
fn parsed<A: FromArgMatches>(matches: &clap::ArgMatches) -> A {
    A::from_arg_matches(matches).expect("the command was built from this very type")
}

/// The command with the verbs that are there.
pub fn command(dispatch: &Dispatch) -> Command {
    let mut root = Command::new("pgwarden")
        .version(env!("CARGO_PKG_VERSION"))
        .about("High availability for PostgreSQL on Kubernetes")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(Exit::table());
    let mut add = |linked: bool, verb: Command| {
        if linked {
            root = root.clone().subcommand(verb);
        }
    };
    add(
        dispatch.agent.is_some(),
        verb::<AgentArgs>(
            "agent",
            "Run a member: elect, guard PostgreSQL, answer probes",
            "Example:\n  pgwarden agent /etc/patroni.yml\n\n\
             A data directory of another cluster or PostgreSQL version, or with wrong permissions, is\n\
             not touched: the agent stays up without PostgreSQL, is not ready, and logs an ERROR.",
        ),
    );
    add(
        dispatch.check.is_some(),
        verb::<CheckArgs>(
            "check",
            "Check a configuration and show what it means",
            "Example:\n  pgwarden check /etc/patroni.yml",
        ),
    );
    let mut ctl = verb::<CtlArgs>(
        "ctl",
        "Ask and steer a running cluster",
        "Examples:\n  pgwarden ctl --api http://pg-0:8008 list\n  \
         PGWARDEN_API=http://pg-0:8008,http://pg-1:8008 pgwarden ctl switchover",
    );
    let mut explain = verb::<ExplainArgs>(
        "explain",
        "Tell why each election happened, from the members' journals",
        "Examples:\n  pgwarden explain --api http://pg-0:8008 --api http://pg-1:8008 --since 10m\n  \
         pgwarden explain pg-0.journal pg-1.journal\n\n\
         Journals are merged by each member's wall clock: their order is as good as the clocks.",
    );
    if dispatch.endpoint.is_none() {
        ctl = ctl.mut_arg("config", |arg| arg.hide(true));
        explain = explain.mut_arg("config", |arg| arg.hide(true));
    }
    add(true, ctl);
    add(true, explain);
    add(
        dispatch.replay.is_some(),
        verb::<ReplayArgs>(
            "replay",
            "Run a journal again through the function that decides, and compare",
            "Example:\n  pgwarden replay pg-0.journal",
        ),
    );
    add(
        dispatch.playground.is_some(),
        verb::<PlaygroundArgs>(
            "playground",
            "Run a cluster on this machine, with an embedded Kubernetes API",
            "Examples:\n  pgwarden playground\n  \
             pgwarden playground --exercise --rounds 3 --sync off",
        ),
    );
    add(
        true,
        verb::<CompletionsArgs>(
            "completions",
            "Print what makes a shell complete this program's words",
            "Examples:\n  source <(pgwarden completions bash)\n  \
             pgwarden completions fish > ~/.config/fish/completions/pgwarden.fish",
        ),
    );
    root
}

fn completions(
    dispatch: &Dispatch,
    args: &CompletionsArgs,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    // It would panic at a reader that goes away.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command(dispatch), "pgwarden", &mut text);
    out.write_all(&text)?;
    Ok(Exit::Ok)
}

fn verb<A: Args>(name: &'static str, about: &'static str, examples: &str) -> Command {
    // The arguments' own documentation must not replace the verb's.
    A::augment_args(Command::new(name))
        .about(about)
        .long_about(None)
        .after_help(format!("{examples}\n\n{}", Exit::table()))
}

/// Whom to ask, as whom, and whom to believe. `cluster`: the one that is meant, where a
/// configuration can find any.
fn remote(dispatch: &Dispatch, target: &Target, cluster: Option<&str>) -> Result<Remote, Failure> {
    // A variable that is set to nothing names nobody.
    let named = target.api.iter().filter(|url| !url.trim().is_empty());
    let mut urls: Vec<String> = named.map(|url| base_of(url)).collect();
    for url in &urls {
        client::check_url(url).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    }
    let (mut credentials, mut wanted) = (None, tls::client::Wanted::default());
    let config = target.config.as_deref();
    // Patroni's variables are a configuration too.
    let by_variables = urls.is_empty() && std::env::var_os("PATRONI_SCOPE").is_some();
    if let Some(find) = dispatch.endpoint
        && (config.is_some() || by_variables)
    {
        let place = config.map_or_else(
            || "environment".to_owned(),
            |path| path.display().to_string(),
        );
        let found = find(config, cluster)
            .map_err(|error| Failure::new(Exit::Config, format!("{place}: {error:#}")))?;
        urls.extend(found.urls.iter().map(|url| base_of(url)));
        (credentials, wanted) = (found.credentials, found.tls);
    }
    if let Some(username) = &target.username {
        let password = target.password.clone().unwrap_or_default();
        credentials = Some(Credentials {
            username: username.clone(),
            password,
        });
    }
    if urls.is_empty() {
        let how = "no member to ask: give --api http://host:8008 or set PGWARDEN_API";
        return Err(Failure::new(Exit::Usage, how));
    }
    Ok(Remote::new(urls, credentials, asking(wanted, target)?))
}

/// The command line's own words about TLS win over the configuration's.
fn asking(mut wanted: tls::client::Wanted, target: &Target) -> Result<Client, Failure> {
    if let Some(path) = target.cacert.clone() {
        let key = "--cacert";
        wanted.trust = tls::client::Trust::File { key, path };
    }
    if target.insecure {
        wanted.trust = tls::client::Trust::Anybody;
    }
    let now_s = crate::sys::clock::wall_s();
    let material = wanted
        .load(now_s)
        .map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
    Ok(Client::with_tls(&material.config))
}

/// An address as people write it, made whole: the scheme, and nothing after the port.
fn base_of(url: &str) -> String {
    let url = client::base_of(url.trim());
    if url.contains("://") {
        url.to_owned()
    } else {
        format!("http://{url}")
    }
}

/// A runtime for a few questions.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| {
        Failure::new(Exit::Failure, format!("the runtime cannot start: {error}"))
    })?;
    Ok(runtime.block_on(future))
}
