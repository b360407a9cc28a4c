//! Called as `patronictl`: the verbs of `ctl` with patronictl's global options, and with the
//! cluster's name before the members' names.

use super::args::Target;
use super::ctl::{self, Manner};
use super::verbs::{CtlArgs, CtlVerb};
use super::{Dispatch, Exit, Failure};
use clap::{Arg, ArgAction, Command, FromArgMatches, Subcommand, value_parser};
use std::io::Write;
use std::path::PathBuf;

/// Verbs without a cluster's name: they tell only why they are not there.
const ABSENT: [&str; 1] = ["remove"];
/// Verbs that take members after the cluster.
const OF_MEMBERS: [&str; 5] = ["restart", "reload", "reinit", "flush", "version"];
/// Verbs that take any number of clusters.
const OF_CLUSTERS: [&str; 2] = ["list", "topology"];

/// The command.
pub(super) fn command() -> Command {
    let root = Command::new("patronictl")
        .about("pgwarden in patronictl's place: asks and steers a running cluster")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(
            Arg::new("config_file")
                .short('c')
                .long("config-file")
                .env("PATRONICTL_CONFIG_FILE")
                .value_name("PATH")
                .value_parser(value_parser!(PathBuf))
                .help("The configuration: a file, or a directory of files"),
        )
        .arg(
            Arg::new("dcs_url")
                .short('d')
                .long("dcs-url")
                .visible_alias("dcs")
                .env("DCS_URL")
                .value_name("URL")
                .help("Without a meaning here: members are found through Kubernetes"),
        )
        .arg(
            Arg::new("insecure")
                .short('k')
                .long("insecure")
                .action(ArgAction::SetTrue)
                .help("Do not check certificates"),
        );
    let mut root = CtlVerb::augment_subcommands(root);
    let names: Vec<String> = root
        .get_subcommands()
        .map(|verb| verb.get_name().to_owned())
        .collect();
    for name in names {
        root = root.mut_subcommand(name, adapted);
    }
    root
}

/// A verb as patronictl has it.
fn adapted(verb: Command) -> Command {
    let name = verb.get_name().to_owned();
    // The examples are those of `pgwarden ctl`.
    let mut verb = verb.after_help(None::<&str>);
    if ABSENT.contains(&name.as_str()) {
        return verb;
    }
    let cluster = Arg::new("cluster")
        .index(1)
        .value_name("CLUSTER")
        .help("The cluster's name")
        // It cannot be left out where other words follow that must be there.
        .required(name == "flush");
    let cluster = if OF_CLUSTERS.contains(&name.as_str()) {
        cluster.num_args(0..)
    } else {
        cluster
    };
    if OF_MEMBERS.contains(&name.as_str()) {
        verb = verb.mut_arg("members", |members| members.index(2));
    }
    verb = match name.as_str() {
        "failover" => verb.mut_arg("candidate", |candidate| candidate.required(false)),
        "query" => verb
            .mut_arg("user", |user| user.long("username"))
            .mut_arg("ask_password", |ask| ask.long("password"))
            .mut_arg("config", |config| config.hide(true)),
        _ => verb,
    };
    let group = Arg::new("group").long("group").hide(true);
    verb.arg(cluster).arg(group)
}

/// Do it.
pub(super) fn perform(
    dispatch: &Dispatch,
    matches: &clap::ArgMatches,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Exit, Failure> {
    let verb = CtlVerb::from_arg_matches(matches)
        .map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    let (name, given) = matches.subcommand().unwrap_or(("", matches));
    let absent = ABSENT.contains(&name);
    if !absent && given.get_one::<String>("group").is_some() {
        let what = "--group: there are no groups of Citus here; a Citus cluster stays with Patroni";
        return Err(Failure::new(Exit::Usage, what));
    }
    let clusters: Vec<String> = match &verb {
        CtlVerb::Remove(absent) => {
            let named = absent.words.first().filter(|word| !word.starts_with('-'));
            named.cloned().into_iter().collect()
        }
        _ if absent => Vec::new(),
        _ => given
            .get_many::<String>("cluster")
            .map(|names| names.cloned().collect())
            .unwrap_or_default(),
    };
    if matches.get_one::<String>("dcs_url").is_some() {
        let note = "-d is ignored: members are found through Kubernetes, or at PGWARDEN_API";
        // It tells; the verb's own outcome does not hang on it.
        let _ = writeln!(err, "Warning: {note}");
    }
    let target = Target {
        config: config(matches.get_one::<PathBuf>("config_file"))?,
        insecure: matches.get_flag("insecure"),
        ..Target::of_environment()
    };
    let args = CtlArgs { target, verb };
    ctl::perform(dispatch, &args, Manner::Patronictl, &clusters, out)
}

/// The file that is named, which must be there; else the one at patronictl's usual place.
fn config(named: Option<&PathBuf>) -> Result<Option<PathBuf>, Failure> {
    if let Some(path) = named.filter(|path| !path.as_os_str().is_empty()) {
        if std::fs::metadata(path).is_ok() {
            return Ok(Some(path.clone()));
        }
        // Patroni's words.
        let what = format!(
            "Provided config file {} not existing or no read rights. Check the -c/--config-file \
             parameter",
            path.display()
        );
        return Err(Failure::new(Exit::Failure, what));
    }
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    };
    let home = || variable("HOME").map(|home| home.join(".config"));
    let usual = variable("XDG_CONFIG_HOME").or_else(home);
    let usual = usual.map(|dir| dir.join("patroni").join("patronictl.yaml"));
    Ok(usual.filter(|path| path.is_file()))
}
